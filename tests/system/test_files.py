"""Files that are not files, or do not answer: a clear error, and a supervisor that still obeys signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start, build_shim
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, eventually

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once

FILTER = """
from pymosn.api import StreamFilter

class Empty(StreamFilter):
    pass
"""


def run(*arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command that must end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "pymosn", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**worker_environment(os.environ), **environment},
    )


@pytest.fixture
def filtered(two_hops: TwoHops, tmp_path: Path) -> TwoHops:
    """With a Python filter, its clusters in a folder, and one worker."""
    (tmp_path / "conf" / "clusters").mkdir(parents=True)
    (tmp_path / "conf" / "filter.py").write_text(FILTER)
    for cluster in two_hops.config["cluster_manager"].pop("clusters"):
        (tmp_path / "conf" / "clusters" / f"{cluster['name']}.json").write_text(json.dumps(cluster))
    two_hops.config["cluster_manager"]["clusters_configs"] = "clusters"
    two_hops.server["processor"] = 1
    two_hops.server["listeners"][0]["stream_filters"] = [
        {"type": "python", "config": {"path": "filter.py", "class": "Empty"}}
    ]
    return two_hops


def write(config: dict[str, Any], folder: Path) -> Path:
    path = folder / "conf" / "mosn.json"
    path.write_text(json.dumps(config))
    return path


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FILES = ["mosn.json", "clusters/server.json", "filter.py"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["check", "start"])
def test_a_fifo_is_an_error_that_names_it(filtered: TwoHops, tmp_path: Path, name: str, command: str) -> None:
    path = write(filtered.config, tmp_path)
    replace_by_fifo(tmp_path / "conf" / name)
    result = run(command, "-c", str(path))
    assert result.returncode == 1
    assert f"{name}" in result.stderr
    assert "not a regular file but a FIFO" in result.stderr


@pytest.mark.parametrize(("path", "kind"), [("/dev/zero", "a device"), ("/", "a folder"), ("/dev/tty", "")])
@pytest.mark.parametrize("command", [["check"], ["start"], ["reload"], ["filters"], ["explain", "GET", "http://a/"]])
def test_other_kinds_are_errors_of_every_command(path: str, kind: str, command: list[str]) -> None:
    result = run(*command, "-c", path)
    assert result.returncode == 1
    assert f"{path}: error: cannot be read: not a regular file but {kind}" in result.stderr


def test_a_file_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    result = run("check", "-c", str(path))
    assert result.returncode == 1
    assert "larger than" in result.stderr


def test_check_reads_a_pipe_and_start_refuses_it(two_hops: TwoHops) -> None:
    text = json.dumps(two_hops.config)
    assert run("check", "-c", "/dev/stdin", stdin=text).returncode == 0
    result = run("start", "-c", "/dev/stdin", stdin=text)
    assert result.returncode == 1
    assert "not a regular file but a pipe" in result.stderr


@pytest.mark.parametrize("name", FILES)
def test_a_reload_with_a_fifo_is_rejected_and_sigterm_obeyed(
    start: Start, filtered: TwoHops, tmp_path: Path, name: str
) -> None:
    filtered.server["watch_filters"] = False
    proxy = start(filtered.config)
    proxy.wait_for(READY)
    replace_by_fifo(tmp_path / "conf" / name)
    proxy.send(signal.SIGHUP)
    proxy.wait_for("change from SIGHUP: .*not a regular file but a FIFO")
    proxy.wait_for("change from SIGHUP: rejected")
    assert filtered.get()[0] == 200
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0


def test_a_pid_file_that_became_a_fifo_does_not_delay_the_end(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    two_hops.config["pid"] = str(tmp_path / "pid")
    proxy = start(two_hops.config, "--workers", "1")
    proxy.wait_for("admin API on")
    replace_by_fifo(tmp_path / "pid")
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library that makes files hang."""
    return build_shim(tmp_path_factory, "hanging_files")


def hanging(start: Start, config: dict[str, Any], shim: str, part: str, switch: Path) -> Pymosn:
    proxy = start(config, LD_PRELOAD=shim, HANG_IN=part, HANG_WHILE=str(switch))
    proxy.wait_for(READY)
    switch.touch()
    return proxy


@pytest.mark.parametrize("part", ["conf/mosn.json", "clusters/server", "filter.py"])
def test_a_mount_that_hangs_at_a_reload_leaves_the_supervisor_responsive(
    start: Start, filtered: TwoHops, shim: str, tmp_path: Path, part: str
) -> None:
    filtered.server["watch_filters"] = False
    proxy = hanging(start, filtered.config, shim, part, tmp_path / "switch")
    proxy.send(signal.SIGHUP)
    assert "pid=" in filtered.admin("/api/v1/states")
    assert filtered.get()[0] == 200
    proxy.wait_for("change from SIGHUP: .*cannot be read within 10 s")
    proxy.wait_for("change from SIGHUP: rejected")
    workers = proxy.worker_pids()
    proxy.send(signal.SIGHUP)  # it hangs again
    proxy.send(signal.SIGTERM)
    begun = time.monotonic()
    assert proxy.exit_code() == 0
    assert time.monotonic() - begun < 9.0  # less than the limit: nothing waited for the file
    assert workers


def test_a_mount_that_hangs_when_the_pid_file_is_removed(start: Start, two_hops: TwoHops, shim: str, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    two_hops.config["pid"] = str(tmp_path / "mount" / "pid")
    two_hops.server["processor"] = 1
    proxy = hanging(start, two_hops.config, shim, "mount/pid", tmp_path / "switch")
    assert eventually(lambda: "admin API on" in proxy.output)
    proxy.send(signal.SIGINT)
    assert proxy.exit_code(20.0) == 0


def test_ctrl_c_interrupts_a_check_of_a_file_that_hangs(two_hops: TwoHops, shim: str, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    path = write(two_hops.config, tmp_path)
    switch = tmp_path / "switch"
    switch.touch()
    environment = {"LD_PRELOAD": shim, "HANG_IN": "conf/mosn.json", "HANG_WHILE": str(switch)}
    begun = subprocess.Popen(
        [sys.executable, "-m", "pymosn", "check", "-c", str(path)],
        env={**worker_environment(os.environ), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        tasks = Path(f"/proc/{begun.pid}/task")
        assert eventually(lambda: len(list(tasks.iterdir())) > 1)  # the thread that reads the file
        begun.send_signal(signal.SIGINT)
        _, err = begun.communicate(timeout=10)
    finally:
        begun.kill()
    assert begun.returncode == 1
    assert "Traceback" not in err
