"""Counting instructions: what is read of callgrind's dump, and how builds are compared. The count itself takes valgrind."""

import asyncio
import json
from pathlib import Path

import pytest
from bench.instructions import configuration, count, main, read_total, table
from bench.socketless.cases import CASES
from bench.socketless.loop import SocketlessLoop
from bench.void import Void


def test_the_total_of_a_dump() -> None:
    assert read_total("version: 1\nevents: Ir\n\nfn=(1)\n0 7\ntotals: 34887123\n") == 34887123
    with pytest.raises(Void):
        read_total("version: 1\n")


def test_a_second_build_is_compared_with_the_first() -> None:
    text = table(["a", "b"], [{"small GET": 1000.0}, {"small GET": 1030.0}])
    assert text.splitlines()[-1].split() == ["small", "GET", "1,000", "1,030", "+3.00", "%"]


def test_a_build_from_before_http2_is_compared_in_the_other_cases() -> None:
    text = table(["a", "b"], [{"h2 to h1": 9.0, "small GET": 1000.0}, {"small GET": 990.0}])
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["small"]


def test_a_folder_without_the_package_is_void(tmp_path: Path) -> None:
    with pytest.raises(Void, match="does not contain the package pymosn"):
        count(tmp_path)


def test_without_valgrind_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["build/compiled"]) == 1
    assert "valgrind is not installed" in capsys.readouterr().err


def test_each_case_has_a_listener_and_a_cluster() -> None:
    text = json.dumps(configuration(CASES, {case.name: 2000 + number for number, case in enumerate(CASES)}, 81))
    assert all(text.count(f'"name": "{case.name}"') == 3 for case in CASES)  # with its virtual host


def test_what_is_scheduled_runs_before_counting_begins() -> None:
    loop = SocketlessLoop()
    ran: list[int] = []

    async def scenario() -> None:
        loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(ran.append, 1)))
        await loop._become_idle()
        assert ran == [1]
        assert not loop._ready  # type: ignore[attr-defined]

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario())
