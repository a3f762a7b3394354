"""Kills the processes that a supervisor leaves behind when it is killed: its workers, and what their filters have started.

Run as a script with `NAME=FAMILY`, the beginning of the mark in the environment of all workers. Its standard input is a pipe
from the supervisor, with a line `+PID` or `-PID` for each worker that starts or has ended; the end of the pipe is the end of
the supervisor. It imports little, because it is resident.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

#: Rounds of killing, and seconds between two: a process may start another one while it is looked for.
ROUNDS: Final = 100
ROUND_TIME: Final = 0.02


class Process(NamedTuple):
    """One process of the system."""

    pid: int
    parent: int
    session: int
    state: str


def processes() -> Iterator[Process]:
    """All processes of the system, zombies too."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # has ended meanwhile
            yield Process(int(name), int(fields[1]), int(fields[3]), fields[0].decode())


def marked(pid: int, marks: Iterable[str]) -> bool:
    """Whether one of `marks` is a value in the environment that a process was started with."""
    wanted = [mark.encode() for mark in marks]
    return bool(wanted) and any(entry.endswith(b"=" + mark) for entry in _environment(pid) for mark in wanted)


def _environment(pid: int) -> list[bytes]:
    """The environment that a process was started with; empty if it is gone or of another user."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _belongs(process: Process, family: bytes, sessions: set[int]) -> bool:
    return process.session in sessions or any(entry.startswith(family + b".") for entry in _environment(process.pid))


def _end(family: bytes, sessions: set[int]) -> None:
    """Kills the family, until a round finds none of it."""
    for _ in range(ROUNDS):
        found = [process.pid for process in processes() if process.state != "Z" and _belongs(process, family, sessions)]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(OSError):  # has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        time.sleep(ROUND_TIME)


def main(family: bytes) -> None:
    """Follows the supervisor until its end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin.buffer:
        pid = int(line[1:])
        if line.startswith(b"+"):
            sessions.add(pid)
        else:
            sessions.discard(pid)
    _end(family, sessions)


if __name__ == "__main__":
    main(os.fsencode(sys.argv[1]))
