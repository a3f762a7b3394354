"""Names what stands in the way of a worker's loop.

A filter that computes, sleeps or waits in a plain method holds up every connection of its worker. A thread of
faulthandler's, which needs no interpreter lock, then writes down where the loop's thread is; the worker reads that when it
goes on, and the supervisor when it does not.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import re
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

#: Seconds for which a loop may stand still before its stack is written down.
LIMIT: Final = 1.0
#: Bytes of a stack that are read.
MAX_STACK: Final = 64 * 1024

_FRAME: Final = re.compile(r'  File "(.*)", line (\d+) in (.*)')


class Frame(NamedTuple):
    """One call of a stack."""

    file: str
    line: int
    function: str

    def text(self) -> str:
        """`file:line in function`."""
        return f"{self.file}:{self.line} in {self.function}"


class Watchdog:
    """Watches the loop of this thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        on_blocked: Callable[[float, list[Frame]], None],
        limit: float = LIMIT,
    ) -> None:
        """`descriptor`: a file of its own for stacks.

        `on_blocked` is called when the loop goes on after more than `limit` seconds, with these and where it stood, the
        innermost call first.
        """
        self._loop = loop
        self._descriptor = descriptor
        self._on_blocked = on_blocked
        self._limit = limit
        self._thread = threading.get_ident()
        self._last = loop.time()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watches from now on."""
        self._last = self._loop.time()
        self._beat()

    def stop(self) -> None:
        """Watches no more."""
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


def take_stack(descriptor: int) -> str:
    """What has been written down since the last time; empty when that is nothing."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return ""
    text = os.pread(descriptor, min(size, MAX_STACK), 0).decode("utf-8", "replace")
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return text


def frames(text: str, thread: int | None = None) -> list[Frame]:
    """The calls of `thread` in what faulthandler wrote, the innermost first; without one, those of the last thread."""
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
