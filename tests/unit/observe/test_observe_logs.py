import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kit import FakeClock

from pymosn.core.log import DEBUG, ERROR, INFO, OFF, WARN
from pymosn.observe.destination import MAX_WAITING, WRITE_SIZE, Destination, LineFile, is_file
from pymosn.observe.logs import LogSet
from pymosn.observe.syslog import Syslog

NOON = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1)) + 0.125


class Turns:
    """An event loop's `call_soon`, one turn at a time."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()


def opened(logs: LogSet, path: str, turns: Turns | None = None) -> Destination:
    """The destination of an access log that a change has activated."""
    planned: dict[str, Destination] = {}
    found = logs.access_destination(path, turns or Turns(), planned)
    logs.activate(planned)
    return found


def test_a_planned_log_is_created_when_it_is_activated(tmp_path: Path) -> None:
    logs = open_set(tmp_path / "process.log")
    path = tmp_path / "new" / "access.log"
    planned: dict[str, Destination] = {}
    log = logs.access_destination(str(path), Turns(), planned)
    assert logs.access_destination(str(path), Turns(), planned) is log
    assert not path.parent.exists()
    logs.activate(planned)
    assert path.read_text() == ""
    assert logs.access_destination(str(path), Turns(), {}) is log
    logs.close()


def test_a_log_that_cannot_be_opened_is_not_planned(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    logs = open_set(tmp_path / "process.log")
    for path, error in ((tmp_path / "file" / "a.log", NotADirectoryError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error):
            logs.access_destination(str(path), Turns(), {})
    logs.close()


def open_set(path: Path, level: str = "INFO", ceiling: str | None = None) -> LogSet:
    return LogSet(str(path), level, ceiling, FakeClock(wall_time=NOON))


def test_lines_are_in_mosns_format_and_directories_are_made(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "deep" / "mosn.log"
    logs = open_set(path)
    logs.process_log.write(INFO, "starts")
    logs.process_log.write(ERROR, "[1,-,-] no route", "mosn.proxy.route_match_failed")
    logs.process_log.write(WARN, "two\nlines \x1b[31m")
    assert path.read_text() == (
        "2026-03-04 12:00:00,125 [INFO] starts\n"
        "2026-03-04 12:00:00,125 [ERROR] [mosn.proxy.route_match_failed] [1,-,-] no route\n"
        "2026-03-04 12:00:00,125 [WARN] two\\nlines \\x1b[31m\n"
    )


def test_levels_change_at_run_time(tmp_path: Path) -> None:
    path = tmp_path / "mosn.log"
    logs = open_set(path, "WARN")
    log = logs.process_log
    log.write(INFO, "unseen")
    assert logs.levels() == {str(path): "WARN"}
    logs.set_level(str(path), "DEBUG")
    assert log.level == DEBUG
    log.write(DEBUG, "seen")
    logs.switch(str(path), False)
    assert log.level == OFF
    log.write(ERROR, "off")
    logs.switch(str(path), True)
    assert (log.level, logs.levels()) == (DEBUG, {str(path): "DEBUG"})
    assert [line.split("] ")[1] for line in path.read_text().splitlines()] == ["seen"]


def test_the_ceiling_holds_for_later_changes_too(tmp_path: Path) -> None:
    logs = open_set(tmp_path / "mosn.log", "TRACE", "warning")
    assert logs.process_log.level == WARN
    logs.set_level(str(tmp_path / "mosn.log"), "DEBUG")
    assert logs.levels() == {str(tmp_path / "mosn.log"): "WARN"}
    assert open_set(tmp_path / "mosn.log", "INFO", "off").process_log.level == OFF


def test_unknown_paths_and_levels_are_named(tmp_path: Path) -> None:
    logs = open_set(tmp_path / "mosn.log")
    access = str(tmp_path / "access.log")
    opened(logs, access)
    with pytest.raises(KeyError, match=r"no log at '/nowhere'; logs: .*mosn\.log"):
        logs.switch("/nowhere", False)
    with pytest.raises(KeyError, match="no log at"):
        logs.set_level("/nowhere", "INFO")
    with pytest.raises(ValueError, match="unknown log level 'info'; expected one of TRACE DEBUG"):
        logs.set_level(str(tmp_path / "mosn.log"), "info")
    with pytest.raises(ValueError, match="is an access log"):
        logs.set_level(access, "INFO")
    with pytest.raises(ValueError, match="unknown log level 'loud'"):
        open_set(tmp_path / "mosn.log", "INFO", "loud")


def test_access_lines_of_a_turn_go_out_together(tmp_path: Path) -> None:
    logs = open_set(tmp_path / "mosn.log")
    turns = Turns()
    path = tmp_path / "access.log"
    first = opened(logs, str(path), turns)
    second = opened(logs, str(path), turns)
    assert first is second
    first.write("a")
    second.write("b")
    assert (path.read_text(), len(turns.waiting)) == ("", 1)
    turns.run()
    assert path.read_text() == "a\nb\n"
    first.write("c")
    logs.switch(str(path), False)
    first.write("unseen")
    turns.run()
    logs.switch(str(path), True)
    first.write("d")
    logs.close()
    assert path.read_text() == "a\nb\nc\nd\n"


def test_a_full_buffer_does_not_wait_for_the_turn(tmp_path: Path) -> None:
    file = LineFile(str(tmp_path / "access.log"))
    turns = Turns()
    file.gather(turns)
    line = "x" * 1023
    for _ in range(WRITE_SIZE // 1024 - 1):
        file.write(line)
    assert (tmp_path / "access.log").stat().st_size == 0
    file.write(line)
    assert (tmp_path / "access.log").stat().st_size == WRITE_SIZE


def test_an_error_is_written_at_once_even_where_access_lines_are_gathered(tmp_path: Path) -> None:
    path = tmp_path / "both.log"
    logs = open_set(path)
    opened(logs, str(path)).write("access")
    assert path.read_text() == ""
    logs.process_log.write(ERROR, "bad")
    assert path.read_text() == "access\n2026-03-04 12:00:00,125 [ERROR] bad\n"


def test_reopen_follows_a_rename(tmp_path: Path) -> None:
    path = tmp_path / "mosn.log"
    logs = open_set(path)
    logs.process_log.write(INFO, "old")
    path.rename(tmp_path / "mosn.log.1")
    logs.process_log.write(INFO, "still old")
    logs.reopen()
    logs.process_log.write(INFO, "new")
    assert (tmp_path / "mosn.log.1").read_text().count("\n") == 2
    assert path.read_text().endswith("[INFO] new\n")


def test_a_failed_reopen_keeps_the_old_file_and_is_reported(tmp_path: Path) -> None:
    logs = open_set(tmp_path / "mosn.log")
    access = tmp_path / "sub" / "access.log"
    file = opened(logs, str(access))
    access.rename(tmp_path / "moved")
    access.parent.rmdir()
    access.parent.write_text("a file in the way")
    logs.reopen()
    file.write("kept")
    logs.flush()
    assert (tmp_path / "moved").read_text() == "kept\n"
    assert "cannot be reopened" in (tmp_path / "mosn.log").read_text()


def test_a_full_pipe_never_blocks_and_lost_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    reports: list[str] = []
    file = LineFile(str(path), reports.append)
    line = "y" * 999
    for _ in range(3000):
        file.write(line)
    assert file.dropped > 0
    assert reports == [f"log {path}: blocked; keeping up to {MAX_WAITING} bytes of lines, dropping the rest"]
    received = bytearray()
    while len(received) < (3000 - file.dropped) * 1000:
        received += os.read(reader, 65536)
        file.flush()
    os.close(reader)
    assert bytes(received) == (line.encode() + b"\n") * (3000 - file.dropped)
    assert reports[1:] == [f"log {path}: recovered; {file.dropped} lines were dropped"]
    file.close()


def test_a_full_disk_is_reported_once_and_bounded() -> None:
    reports: list[str] = []
    file = LineFile("/dev/full", reports.append)
    for _ in range(MAX_WAITING // 10_000 + 10):
        file.write("z" * 9_999)
    assert len(reports) == 1
    assert "No space left" in reports[0]
    assert file.dropped > 0


@pytest.mark.parametrize("name", ["stdout", "/dev/stdout"])
def test_standard_output_stays_open(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    logs = LogSet(name, "INFO", None, FakeClock(wall_time=NOON))
    logs.process_log.write(INFO, "grüße \udcff")
    logs.reopen()
    logs.close()
    os.write(1, b"open\n")
    assert capfd.readouterr().out == "2026-03-04 12:00:00,125 [INFO] grüße \\udcff\nopen\n"


def test_lines_for_syslog_carry_the_priority() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        logs = LogSet(f"syslog+udp://127.0.0.1:{server.getsockname()[1]}", "INFO", None, FakeClock(wall_time=NOON))
        logs.process_log.write(WARN, "careful")
        text = server.recv(1000).decode()
        logs.close()
    # daemon is 3, warning is 4
    assert re.fullmatch(r"<28>pymosn\[\d+\]: 2026-03-04 12:00:00,125 \[WARN\] careful", text)


def test_a_syslog_server_may_have_an_address_of_ipv6_and_a_slash_at_its_end() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("::1", 0))
        server.settimeout(5)
        for end in ("", "/"):
            Syslog(f"SYSLOG://[::1]:{server.getsockname()[1]}{end}").write("hello")
            assert server.recv(1000).endswith(b"hello")


def test_a_syslog_server_that_goes_away_costs_lines_but_no_exception() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        syslog = Syslog(f"syslog+tcp://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        syslog.write("first")
        assert connection.recv(1000).endswith(b": first\n")
        connection.close()
    for _ in range(4):
        syslog.write("lost")
    assert syslog.dropped > 0
    syslog.close()


@pytest.mark.parametrize(
    "path",
    [
        *("syslog://", "syslog+tls://host:1", "syslog://host/path", "syslog://host?x", "syslog://host#x"),
        *("syslog://host:x", "syslog://host:65536", "syslog://a@host", "syslog://::1", "syslog://[::1"),
    ],
)
def test_a_bad_syslog_address_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a syslog address"):
        LogSet(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/var/log/a", True), ("syslog.log", True), ("", False), ("stdout", False), ("syslog", False), ("syslog://h:1", False)],
)
def test_which_paths_are_files(path: str, expected: bool) -> None:
    assert is_file(path) is expected
