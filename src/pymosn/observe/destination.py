"""Where the lines of a log go: a file, stdout or stderr, or syslog.

Writing never blocks for long and never raises: what cannot be written waits in a bounded buffer, and beyond it lines are
dropped and counted.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from socket import SocketKind
from typing import Final
from urllib.parse import urlsplit

from pymosn.core.log import ERROR, FATAL, INFO, WARN

#: Characters that are gathered before they are written, even in the middle of an event-loop turn.
WRITE_SIZE: Final = 64 * 1024
#: Characters that wait at most for a destination that takes none; lines beyond it are dropped.
MAX_WAITING: Final = 1024 * 1024
#: What a pipe takes in one piece without blocking once it says that it is writable (POSIX's PIPE_BUF on Linux).
PIPE_SIZE: Final = 4096
#: Seconds that one line may wait for a syslog server over TCP.
SYSLOG_TIMEOUT: Final = 0.2
SYSLOG_PORT: Final = 514

STANDARD_STREAMS: Final = {"": 2, "stdout": 1, "/dev/stdout": 1, "stderr": 2, "/dev/stderr": 2}

Schedule = Callable[[Callable[[], None]], object]
Report = Callable[[str], None]


def is_file(path: str) -> bool:
    """Whether a log path of the configuration names a file, rather than a standard stream or syslog."""
    return path not in STANDARD_STREAMS and path != "syslog" and not path.startswith(("syslog://", "syslog+"))


def report_to_stderr(text: str) -> None:
    """Where troubles of a log are told when there is no other log for them."""
    print(text, file=sys.stderr, flush=True)


class Destination:
    """Takes the lines of one or more logs. `dropped` counts the lines that were lost."""

    def __init__(self) -> None:
        self.enabled = True
        self.dropped = 0

    def write(self, line: str, level: int = INFO) -> None:
        """Takes one line without its end; drops it while not `enabled`. `level` matters to syslog."""
        raise NotImplementedError

    def gather(self, schedule: Schedule) -> None:
        """From now on writes once per turn of the event loop; `schedule` calls back in the next one."""

    def flush(self) -> None:
        """Writes what waits, as far as it is taken."""

    def reopen(self) -> None:
        """Opens the file of that name anew, after somebody renamed it."""

    def close(self) -> None:
        """Writes what waits and closes."""


class LineFile(Destination):
    """A file or a standard stream to which several processes may append; whole lines go out in one write."""

    def __init__(self, path: str, report: Report = report_to_stderr) -> None:
        """Each line is written at once until `gather` is called, and from ERROR on also then.

        `report` hears of troubles once when they begin and once when they end. OSError when the file cannot be opened;
        missing directories are made.
        """
        super().__init__()
        self._path = path
        self._schedule: Schedule | None = None
        self._report = report
        self._descriptor = _open(path)
        self._is_regular = _is_regular(self._descriptor)
        self._lines: list[str] = []
        self._waiting = bytearray()
        self._size = 0
        self._scheduled = False
        self._trouble = ""
        self._dropped_before = 0

    def write(self, line: str, level: int = INFO) -> None:
        if not self.enabled:
            return
        if self._size > MAX_WAITING:
            self.flush()
            if self._size > MAX_WAITING:
                self.dropped += 1
                return
        self._lines.append(line)
        self._size += len(line) + 1
        if self._schedule is None or self._size >= WRITE_SIZE or level >= ERROR:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._schedule(self._on_turn)

    def gather(self, schedule: Schedule) -> None:
        if self._schedule is None:
            self._schedule = schedule

    def flush(self) -> None:
        if self._lines:
            self._lines.append("")
            self._waiting += "\n".join(self._lines).encode("utf-8", "backslashreplace")
            self._lines.clear()
        try:
            trouble = "" if self._send() else "takes no more"
        except OSError as error:
            trouble = error.strerror or str(error)
        self._size = len(self._waiting)
        self._note(trouble)

    def reopen(self) -> None:
        self.flush()
        if self._path in STANDARD_STREAMS:
            return
        try:
            descriptor = _open(self._path)
        except OSError as error:
            self._report(f"log {self._path} cannot be opened anew: {error.strerror}; going on with the old file")
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._is_regular = _is_regular(descriptor)

    def close(self) -> None:
        self.flush()
        self.enabled = False
        if self._path not in STANDARD_STREAMS:
            os.close(self._descriptor)

    def _on_turn(self) -> None:
        self._scheduled = False
        if self.enabled or self._size:
            self.flush()

    def _send(self) -> bool:
        """Writes what waits; False when the destination took only a part."""
        while self._waiting:
            if self._is_regular:
                piece = self._waiting
            else:
                if not _takes_more(self._descriptor):
                    return False
                # Ending at a line's end keeps the lines of several processes whole.
                end = self._waiting.rfind(b"\n", 0, PIPE_SIZE) + 1
                piece = self._waiting[: end or PIPE_SIZE]
            try:
                del self._waiting[: os.write(self._descriptor, piece)]
            except BlockingIOError:
                return False
        return True

    def _note(self, trouble: str) -> None:
        """Tells of the first line that could not be written, and of the first that could again after losses."""
        # A full pipe is nothing unusual; it is told only when it costs lines.
        is_bad = trouble not in ("", "takes no more") or self._size > MAX_WAITING
        if is_bad and not self._trouble:
            self._trouble = trouble
            self._report(f"log {self._path}: {trouble}; lines are kept up to {MAX_WAITING} bytes, then dropped")
        elif not trouble and self._trouble:
            lost = self.dropped - self._dropped_before
            self._trouble = ""
            self._dropped_before = self.dropped
            self._report(f"log {self._path}: is written again, {lost} lines were dropped")


class Syslog(Destination):
    """The local syslog daemon, or a server over UDP or TCP (facility `daemon`)."""

    def __init__(self, path: str) -> None:
        """`path`: `syslog`, `syslog://host:port`, `syslog+udp://host:port`, `syslog+tcp://host:port`.

        ValueError for another form, OSError when the server cannot be reached.
        """
        super().__init__()
        self._path = path
        self._handler = _syslog_handler(path)

    def write(self, line: str, level: int = INFO) -> None:
        if self.enabled:
            record = logging.LogRecord("pymosn", level, "", 0, line, None, None)
            record.levelname = _syslog_name(level)
            self._handler.handle(record)
            self.dropped = self._handler.failed

    def reopen(self) -> None:
        try:
            handler = _syslog_handler(self._path)
        except OSError as error:
            report_to_stderr(f"log {self._path} cannot be reached anew: {error}")
            return
        handler.failed = self._handler.failed
        self._handler.close()
        self._handler = handler

    def close(self) -> None:
        self.enabled = False
        self._handler.close()


class _SyslogHandler(logging.handlers.SysLogHandler):
    socket: socket.socket | None

    def __init__(self, address: str | tuple[str, int], kind: SocketKind | None, ending: str) -> None:
        self.failed = 0
        super().__init__(address, self.LOG_DAEMON, kind)
        self.append_nul = False
        self._ending = ending

    def createSocket(self) -> None:  # noqa: N802
        super().createSocket()
        if self.socket is not None:
            self.socket.settimeout(SYSLOG_TIMEOUT)

    def format(self, record: logging.LogRecord) -> str:
        return f"pymosn[{os.getpid()}]: {record.msg}{self._ending}"

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        self.failed += 1
        # A stream that broke in the middle of a line is of no more use; the next line connects anew.
        if self.socktype == socket.SOCK_STREAM and self.socket is not None:
            self.socket.close()
            self.socket = None


def open_destination(path: str, report: Report = report_to_stderr) -> Destination:
    """The destination that a log path of the configuration names. OSError, or ValueError for a bad syslog address."""
    return LineFile(path, report) if is_file(path) or path in STANDARD_STREAMS else Syslog(path)


def _open(path: str) -> int:
    standard = STANDARD_STREAMS.get(path)
    if standard is not None:
        return standard
    directory = os.path.dirname(path)
    if directory:
        os.makedirs(directory, mode=0o755, exist_ok=True)
    # O_NONBLOCK: a named pipe without a reader must not hold the process; it changes nothing for files.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)


def _is_regular(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _takes_more(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def _syslog_handler(path: str) -> _SyslogHandler:
    if path == "syslog":
        return _SyslogHandler("/dev/log", None, "")
    url = urlsplit(path)
    kind = {"syslog": socket.SOCK_DGRAM, "syslog+udp": socket.SOCK_DGRAM, "syslog+tcp": socket.SOCK_STREAM}.get(url.scheme)
    if kind is None or not url.hostname or url.path not in ("", "/"):
        raise ValueError(f"not a syslog address: {path!r}; write syslog, syslog://host:port or syslog+tcp://host:port")
    # Resolved once, not for each line.
    address = socket.getaddrinfo(url.hostname, url.port or SYSLOG_PORT, 0, kind)[0][4]
    ending = "\n" if kind == socket.SOCK_STREAM else ""
    return _SyslogHandler((str(address[0]), int(address[1])), kind, ending)


def _syslog_name(level: int) -> str:
    if level >= FATAL:
        return "CRITICAL"
    if level >= ERROR:
        return "ERROR"
    if level >= WARN:
        return "WARNING"
    return "INFO" if level >= INFO else "DEBUG"
