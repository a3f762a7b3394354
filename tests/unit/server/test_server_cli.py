import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pymosn.cli import main
from pymosn.config.default import DEFAULT_CONFIG
from pymosn.version import VERSION, build


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A process that starts blocks some, which it and the processes that it starts must get later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.json"
    path.write_text(DEFAULT_CONFIG)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.json"
    path.write_text(
        DEFAULT_CONFIG.replace("127.0.0.1:2045", "nowhere").replace(
            '"mosn_server_name"', '"graceful_timeout": "5", "mosn_server_nam"'
        )
    )
    return path


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version_reports_the_build(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.output == f"pymosn {VERSION} ({build()})\n"
    assert result.exit_code == 0


def test_a_good_configuration(good: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(good)])
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{good}: no faults\n", "")


def test_every_fault_has_its_own_line_before_a_summary(bad: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(bad)])
    *faults, summary = result.stderr.splitlines()
    assert result.exit_code == 1
    assert summary == f"{bad}: 2 errors, 1 warning"
    assert len(faults) == 3
    assert all(line.startswith(f"{bad}:") for line in faults)
    assert sum(": error: " in line for line in faults) == 2


def test_strict_makes_a_misspelt_key_an_error(bad: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(bad), "--strict"])
    assert result.stderr.splitlines()[-1] == f"{bad}: 3 errors"


def test_json_has_the_same_faults(bad: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(bad), "--json"])
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["errors"], report["warnings"]) == (2, 1)
    assert {"severity", "file", "line", "column", "path", "message"} <= report["faults"][0].keys()
    assert "servers[0].listeners[0].address" in [fault["path"] for fault in report["faults"]]


def test_start_refuses_a_bad_configuration_with_all_its_faults(bad: Path) -> None:
    result = CliRunner().invoke(main, ["start", "-c", str(bad)])
    assert result.exit_code == 1
    assert result.stderr.count(": error: ") == 2
    assert result.stderr.splitlines()[-1] == f"pymosn: {bad}: 2 errors, 1 warning; not started"


def test_the_configuration_may_be_named_by_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "absent.json"
    result = CliRunner().invoke(main, ["start"], env={"MOSN_CONFIG": str(path)})
    assert result.exit_code == 1
    assert f"{path}: error: cannot be read" in result.stderr


def test_flags_of_mosn_that_do_nothing_here_are_taken_with_a_warning(tmp_path: Path) -> None:
    flags = ["--service-cluster", "c", "-sm", "a:b", "-sm", "c:d", "-f", "auto_config=true", "--disable-hot-restart"]
    result = CliRunner().invoke(main, ["start", "-c", str(tmp_path / "absent.json"), *flags])
    warned = [line for line in result.stderr.splitlines() if "has no effect in this version" in line]
    assert len(warned) == 1  # those about the node of control planes have an effect
    assert result.exit_code == 1


def test_worker_counts_below_one_are_refused(good: Path) -> None:
    result = CliRunner().invoke(main, ["start", "-c", str(good), "--workers", "0"])
    assert result.exit_code == 2
    assert "--workers" in result.stderr


@pytest.mark.parametrize("header", ["no colon", ": no name"])
def test_explain_rejects_an_invalid_header(good: Path, header: str) -> None:
    result = CliRunner().invoke(main, ["explain", "-c", str(good), "GET", "/", "-H", header])
    assert result.exit_code == 2
    assert f"{header!r} must have the form 'Name: value'" in result.stderr


def test_explain_names_the_listeners_when_the_one_asked_for_is_not_there(good: Path) -> None:
    result = CliRunner().invoke(main, ["explain", "-c", str(good), "GET", "/", "--listener", "nobody"])
    assert result.exit_code == 2
    assert (
        result.stderr
        == "pymosn: error: no listener 'nobody' accepts this request; there is clientListener, serverListener\n"
    )


def test_a_reload_waits_for_some_time(good: Path) -> None:
    result = CliRunner().invoke(main, ["reload", "-c", str(good), "--timeout", "0"])
    assert result.exit_code == 2
    assert "--timeout" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--timeout", "nan"], "'nan' is not a number"),
        (["--timeout", "inf"], "is not in the range 0<x<=3600.0"),
        (["--timeout", "1e300"], "is not in the range 0<x<=3600.0"),
        (["--command", '"/new/pymosn'], "No closing quotation"),
        (["--command", " "], "names no program"),
        (["--command", "''"], "names no program"),
    ],
)
def test_arguments_of_upgrade_that_make_no_sense(good: Path, arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["upgrade", "-c", str(good), *arguments])
    assert (result.exit_code, words in result.stderr) == (2, True)


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300"])
def test_a_timeout_that_is_no_time(good: Path, seconds: str) -> None:
    result = CliRunner().invoke(main, ["stop", "-c", str(good), "--timeout", seconds])
    assert (result.exit_code, "'--timeout'" in result.stderr) == (2, True)
