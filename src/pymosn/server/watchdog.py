"""Finds the code that blocks a worker's event loop.

A filter that computes, sleeps or waits in a plain method blocks every connection of its worker. A thread of faulthandler,
which does not need the interpreter lock, then writes the stack of the event loop's thread to a file. The worker reads it
when the loop continues, the supervisor if it does not.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import re
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

#: Seconds for which a loop may be blocked before its stack is recorded.
LIMIT: Final = 1.0

_FRAME: Final = re.compile(r'  File "(.*)", line (\d+) in (.*)')


class Frame(NamedTuple):
    """One call on a stack."""

    file: str
    line: int
    function: str

    def text(self) -> str:
        """`file:line in function`."""
        return f"{self.file}:{self.line} in {self.function}"


class Watchdog:
    """Watches the event loop of the current thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        on_blocked: Callable[[float, list[Frame]], None],
        limit: float = LIMIT,
    ) -> None:
        """`descriptor`: a file used only for stacks. `on_blocked` is called with the seconds and the stack, innermost call
        first, when the loop continues after it was blocked for more than `limit` seconds.
        """
        self._loop = loop
        self._descriptor = descriptor
        self._on_blocked = on_blocked
        self._limit = limit
        self._thread = threading.get_ident()
        self._last = loop.time()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts watching. What was recorded before is discarded."""
        take_stack(self._descriptor)
        self._beat()

    def stop(self) -> None:
        """Stops watching."""
        faulthandler.cancel_dump_traceback_later()
        if self._handle is not None:
            self._handle.cancel()

    def _beat(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        now = self._loop.time()
        stack = take_stack(self._descriptor)
        if stack:
            self._on_blocked(now - self._last, frames(stack, self._thread))
        self._last = self._loop.time()
        faulthandler.dump_traceback_later(self._limit, file=self._descriptor)
        self._handle = self._loop.call_later(self._limit / 2.0, self._beat)


def record_start(descriptor: int) -> None:
    """Records where this process is each LIMIT seconds, until a `Watchdog` is started, in case that it never is."""
    faulthandler.dump_traceback_later(LIMIT, repeat=True, file=descriptor)


def take_stack(descriptor: int) -> str:
    """The stacks recorded since the last call; empty if there are none."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return ""
    text = os.pread(descriptor, min(size, 64 * 1024), 0).decode("utf-8", "replace")
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return text


def frames(text: str, thread: int | None = None) -> list[Frame]:
    """The calls of `thread` in the output of faulthandler, innermost first; if it is None, those of the last thread."""
    found: list[Frame] = []
    is_wanted = False
    for line in text.splitlines():
        if line.startswith("Thread 0x"):
            is_wanted = thread is None or int(line.split()[1], 16) == thread
            if is_wanted:
                found = []
        elif is_wanted and (match := _FRAME.fullmatch(line)):
            found.append(Frame(match[1], int(match[2]), match[3]))
    return found
