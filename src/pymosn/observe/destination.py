"""Where the lines of a log go: a file, stdout or stderr, or syslog.

Writing never blocks for long and never raises: what cannot be written waits in a bounded buffer, and beyond it lines are
dropped and counted.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from pymosn.core.log import ERROR, INFO

#: Characters that are gathered before they are written, even in the middle of an event-loop turn.
WRITE_SIZE: Final = 64 * 1024
#: Characters that wait at most for a destination that takes none; lines beyond it are dropped.
MAX_WAITING: Final = 1024 * 1024
#: What a pipe takes in one piece without blocking once it says that it is writable (POSIX's PIPE_BUF on Linux).
PIPE_SIZE: Final = 4096

STANDARD_STREAMS: Final = {"": 2, "stdout": 1, "/dev/stdout": 1, "stderr": 2, "/dev/stderr": 2}

Schedule = Callable[[Callable[[], None]], object]
Report = Callable[[str], None]


def is_file(path: str) -> bool:
    """Whether a log path of the configuration names a file, rather than a standard stream or syslog."""
    return path not in STANDARD_STREAMS and path != "syslog" and not path.startswith(("syslog://", "syslog+"))


def report_to_stderr(text: str) -> None:
    """Where troubles of a log are told when there is no other log for them."""
    print(text, file=sys.stderr, flush=True)


@mypyc_attr(allow_interpreted_subclasses=True)
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
