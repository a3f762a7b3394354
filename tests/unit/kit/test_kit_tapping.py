"""`pymosn tap` and `pymosn record`: what they show and write, without secrets, and how they end."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pymosn.kit.tapping import record, tap
from pymosn.recording import read_recording
from pymosn.recording.files import RecordingWriter
from pymosn.server import admin_client

Lines = list[dict[str, Any] | Callable[[], object]]
TAP: dict[str, Any] = {"tap": {}}
DONE: dict[str, Any] = {"done": "time", "exchanges": 1}
JSON = [["content-type", "application/json"]]


def exchange(sent: bytes = b"", got: bytes = b"", **changes: Any) -> dict[str, Any]:
    story = {
        **dict.fromkeys(
            ("method", "host", "path", "client", "route", "cluster", "trace_id", "replied_by", "reason", "detail"), ""
        ),
        "time": 1.0,
        "protocol": "Http1",
        "status": 200,
        "duration": 0.1,
        "listener": "l",
        "filters": [],
        "attempts": [],
        "timings": {},
        "request_bytes": 0,
        "response_bytes": 0,
    }
    parts: list[dict[str, Any]] = []
    for data in (sent, got):
        body = {"size": len(data), "data": base64.b64encode(data).decode(), "complete": True}
        parts.append({"headers": JSON, "trailers": None, "bytes": len(data), "body": body})
    request = {"method": "POST", "target": "/login", "host": "a", "scheme": "http", **parts[0], **changes}
    return {
        "exchange": {"worker": 1, "number": 1, "story": story, "rpc": False, "request": request}
        | {"response": {"status": 200, "reset": "", **parts[1]}}
    }


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """Runs a command with these lines from the process; what can be called among them is called."""
    config = tmp_path / "mosn.json"
    config.write_text("{}")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def running(command: Any, lines: Lines, *words: str) -> Result:
        def tapped(path: str, asked: dict[str, Any], seconds: float) -> Iterator[bytes]:
            for line in lines:
                if callable(line):
                    line()
                else:
                    yield json.dumps(line).encode()

        monkeypatch.setattr(admin_client, "tap_running", tapped)
        return CliRunner().invoke(command, ["-c", str(config), *words])

    yield running
    for number, handler in handlers.items():
        signal.signal(number, handler)


LOGIN = b'{"user": "ann", "password": "hunter2"}'
FORM = b"user=ann&password=hunter2&x=1"


def test_bodies_are_shown_without_secrets(run: Callable[..., Result]) -> None:
    lines: Lines = [TAP, exchange(LOGIN, FORM), DONE]
    for words in ((), ("--json",)):
        result = run(tap, lines, "--bodies", "4KiB", *words)
        assert result.exit_code == 0, result.output
        found = result.output
        if words:
            [line] = [json.loads(line) for line in found.splitlines() if line.startswith("{")]
            found += base64.b64decode(line["request"]["body"]["data"] + line["response"]["body"]["data"]).decode()
        assert "ann" in found
        assert "hunter2" not in found
        assert "bodies may have secrets" in result.output
    result = run(tap, lines, "--bodies", "4KiB", "--raw-bodies")
    assert "hunter2" in result.output
    assert "bodies are not redacted" in result.output


def test_what_is_shown_does_not_control_the_terminal(run: Callable[..., Result]) -> None:
    one = exchange(b"\x1b[2Jbody\nline", headers=[["x-a", "\x1b[31m\nx-forged: 1"]])
    result = run(tap, [TAP, one, DONE], "--bodies", "1KiB")
    assert "\x1b" not in result.output
    assert r"x-a: \x1b[31m\nx-forged: 1" in result.output
    assert "\n    line\n" in result.output


def test_a_recording_without_secrets(run: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("day.tape", "day.har"):
        path = tmp_path / name
        result = run(record, [TAP, exchange(LOGIN, FORM), {"dropped": 2}, DONE], "--bodies", "4KiB", str(path))
        assert result.exit_code == 0, result.output
        assert "2 exchanges were dropped" in result.output
        [found] = read_recording(path)
        assert found.request.body is not None
        assert json.loads(found.request.body.data) == {"user": "ann", "password": "***REDACTED***"}
        assert (found.request.size, found.request.body.kept) == (len(LOGIN), len(LOGIN))
        assert found.response.body is not None
        assert found.response.body.data == b"user=ann&password=***REDACTED***&x=1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_completes_the_file(run: Callable[..., Result], tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "day.har"
    result = run(record, [TAP, exchange(), lambda: os.kill(os.getpid(), number), exchange()], str(path))
    assert result.exit_code == 0, result.output
    assert len(read_recording(path)) == 1


def test_signals_never_cut_an_exchange(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = RecordingWriter.add
    write = RecordingWriter._write

    def interrupted(writer: RecordingWriter, data: bytes) -> None:
        write(writer, data)
        os.kill(os.getpid(), signal.SIGINT)

    def adding(writer: RecordingWriter, line: bytes) -> bool:
        monkeypatch.setattr(RecordingWriter, "_write", interrupted)
        return add(writer, line)

    monkeypatch.setattr(RecordingWriter, "add", adding)
    path = tmp_path / "day.tape"
    result = run(record, [TAP, exchange(), exchange()], str(path))
    assert result.exit_code == 0, result.output
    assert len(read_recording(path)) == 1


def test_a_process_that_ends_the_tap(run: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "day.tape"
    result = run(record, [TAP, exchange()], str(path))
    assert "the process has ended the tap" in result.output
    assert len(read_recording(path)) == 1
    assert "the process has ended the tap" in run(tap, [TAP]).output


def test_a_tap_goes_on_after_an_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taps = iter([[TAP, exchange(), {"done": "upgrade", "exchanges": 1}], [TAP, exchange(), exchange(), DONE]])
    asked: list[dict[str, Any]] = []

    def tapped(path: str, options: dict[str, Any], seconds: float) -> Iterator[bytes]:
        asked.append(options)
        return iter([json.dumps(line).encode() for line in next(taps)])

    config = tmp_path / "mosn.json"
    config.write_text("{}")
    monkeypatch.setattr(admin_client, "tap_running", tapped)
    result = CliRunner().invoke(tap, ["-c", str(config), "--count", "3"])
    assert (result.exit_code, "pymosn: 3 exchanges" in result.output) == (0, True), result.output
    assert result.output.count("another process has taken over") == result.output.count("pymosn: tapping") == 1
    assert [options["count"] for options in asked] == [3, 2]
    assert asked[1]["seconds"] <= asked[0]["seconds"]


def test_a_process_that_refuses_or_fails(run: Callable[..., Result], tmp_path: Path) -> None:
    def fails() -> None:
        raise admin_client.CallError("the connection has ended")

    path = tmp_path / "day.tape"
    result = run(record, [{"done": "too many taps", "exchanges": 0}], str(path))
    assert (result.exit_code, "too many taps" in result.output) == (2, True)
    assert os.listdir(tmp_path) == ["mosn.json"]
    result = run(record, [TAP, exchange(), fails], str(path))
    assert (result.exit_code, "the connection has ended" in result.output) == (2, True)
    assert len(read_recording(path)) == 1


def test_a_client_that_is_no_address(run: Callable[..., Result]) -> None:
    result = run(tap, [TAP, DONE], "--client", "10.0.0.0/40")
    assert (result.exit_code, "10.0.0.0/40" in result.output) == (2, True)
