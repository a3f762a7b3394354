"""Destinations of log lines: a file, stdout or stderr, or syslog.

Writing never blocks for long and never raises: unwritten lines wait in a bounded buffer; if it is full, lines are dropped
and counted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from pymosn.core.log import ERROR, INFO

#: Characters to collect before they are written even within an event-loop iteration.
WRITE_SIZE: Final = 64 * 1024
#: Maximum characters waiting for a blocked destination; further lines are dropped.
MAX_WAITING: Final = 1024 * 1024
#: Bytes that a writable pipe accepts without blocking (POSIX's PIPE_BUF on Linux).
PIPE_SIZE: Final = 4096
#: State of a destination that accepts no more bytes for now.
BLOCKED: Final = "blocked"

#: The descriptor of a file that is not open.
_CLOSED: Final = -1

#: Errors of a disk, or a quota, that is full.
DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

STANDARD_STREAMS: Final = {"": 2, "stdout": 1, "/dev/stdout": 1, "stderr": 2, "/dev/stderr": 2}

Schedule = Callable[[Callable[[], None]], object]
Report = Callable[[str], None]


def is_file(path: str) -> bool:
    """Whether a configured log path is a file, not a standard stream or syslog."""
    return path not in STANDARD_STREAMS and path != "syslog" and not path.startswith(("syslog://", "syslog+"))


def report_to_stderr(text: str) -> None:
    """Fallback for reporting log errors when no other log is available. Never raises: the stream may be full or closed."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


@mypyc_attr(allow_interpreted_subclasses=True)
class Destination:
    """Receives the lines of one or more logs. `dropped` counts lost lines."""

    def __init__(self) -> None:
        self.enabled = True
        self.dropped = 0

    def write(self, line: str, level: int = INFO) -> None:
        """Accepts a line without its end, or drops it if not `enabled`. Only syslog uses `level`."""
        raise NotImplementedError

    def open(self) -> None:
        """Opens a planned destination. Raises OSError."""

    def gather(self, schedule: Schedule) -> None:
        """Enables batching: one write per event-loop iteration. `schedule` calls back in the next one."""

    def flush(self) -> None:
        """Writes waiting lines as far as possible."""

    def reopen(self) -> None:
        """Reopens the file after it was renamed."""

    def close(self) -> None:
        """Writes waiting lines and closes."""


class LineFile(Destination):
    """A file or standard stream to which several processes may append; whole lines are written at once."""

    def __init__(self, path: str, report: Report = report_to_stderr, is_planned: bool = False) -> None:
        """Writes each line immediately until `gather` is called; afterwards only lines of level ERROR and above.

        `report` is called when errors begin and when they end. Creates missing directories; raises OSError if the file
        cannot be opened, except on a full disk: then it is opened later. With `is_planned` nothing is created before
        `open` is called.
        """
        super().__init__()
        self._path = path
        self._schedule: Schedule | None = None
        self._report = report
        self._descriptor = _CLOSED
        self._is_regular = False
        if is_planned:
            check_writable(path)
        else:
            self.open()
        self._lines: list[str] = []
        self._waiting = bytearray()
        self._size = 0
        self._scheduled = False
        self._error = ""
        self._dropped_before = 0

    def open(self) -> None:
        if self._descriptor == _CLOSED:
            try:
                self._open()
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise

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
            error_text = "" if self._send() else BLOCKED
        except OSError as error:
            error_text = error.strerror or str(error)
        self._size = len(self._waiting)
        self._note(error_text)

    def reopen(self) -> None:
        self.flush()
        if self._path in STANDARD_STREAMS:
            return
        try:
            descriptor = _open(self._path)
        except OSError as error:
            self._report(f"log {self._path} cannot be reopened: {error.strerror}; still writing to the old file")
            return
        self._close()
        self._descriptor = descriptor
        self._is_regular = _is_regular(descriptor)

    def close(self) -> None:
        self.flush()
        self.enabled = False
        self._close()

    def _open(self) -> None:
        self._descriptor = _open(self._path)
        self._is_regular = _is_regular(self._descriptor)

    def _close(self) -> None:
        if self._path not in STANDARD_STREAMS and self._descriptor != _CLOSED:
            os.close(self._descriptor)
            self._descriptor = _CLOSED

    def _on_turn(self) -> None:
        self._scheduled = False
        if self.enabled or self._size:
            self.flush()

    def _send(self) -> bool:
        """Writes waiting lines; returns False if the destination is blocked."""
        if self._waiting and self._descriptor == _CLOSED:
            self._open()
        while self._waiting:
            if self._is_regular:
                chunk = self._waiting
            else:
                if not _takes_more(self._descriptor):
                    return False
                # Chunks that end with a line keep the lines of several processes whole.
                end = self._waiting.rfind(b"\n", 0, PIPE_SIZE) + 1
                chunk = self._waiting[: end or PIPE_SIZE]
            try:
                del self._waiting[: os.write(self._descriptor, chunk)]
            except BlockingIOError:
                return False
        return True

    def _note(self, error_text: str) -> None:
        """Reports the first error, and the first successful write after it."""
        # A full pipe is normal; it is reported only if lines are lost.
        is_bad = error_text not in ("", BLOCKED) or self._size > MAX_WAITING
        if is_bad and not self._error:
            self._error = error_text
            self._report(f"log {self._path}: {error_text}; keeping up to {MAX_WAITING} bytes of lines, dropping the rest")
        elif not error_text and self._error:
            lost = self.dropped - self._dropped_before
            self._error = ""
            self._dropped_before = self.dropped
            self._report(f"log {self._path}: recovered; {lost} lines were dropped")


def check_writable(path: str) -> None:
    """Raises OSError if a log cannot be opened. Creates nothing, and opens nothing."""
    if path in STANDARD_STREAMS:
        return
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        folder = target
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from None
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not os.access(target, os.W_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _open(path: str) -> int:
    standard = STANDARD_STREAMS.get(path)
    if standard is not None:
        return standard
    directory = os.path.dirname(path)
    if directory:
        os.makedirs(directory, mode=0o755, exist_ok=True)
    # O_NONBLOCK: a named pipe without a reader must not block the process; no effect on files.
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
