"""Finds the code that blocks a worker's event loop.

A filter that computes, sleeps or waits in a plain method blocks every connection of its worker. The stack of the event
loop's thread is then recorded (`stacks.py`). The worker reads it when the loop continues, the supervisor if it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pymosn.server.stacks import Frame, StackRecorder, frames

#: Seconds for which a loop may be blocked before its stack is recorded.
LIMIT: Final = 1.0


class Watchdog:
    """Watches the event loop of the thread whose stacks are recorded."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        recorder: StackRecorder,
        on_blocked: Callable[[float, list[Frame]], None],
        limit: float = LIMIT,
    ) -> None:
        """`on_blocked` is called with the seconds and the stack, innermost call first, when the loop continues after it was
        blocked for more than `limit` seconds.
        """
        self._loop = loop
        self._recorder = recorder
        self._on_blocked = on_blocked
        self._limit = limit
        self._last = loop.time()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts watching. What was recorded before is discarded."""
        self._recorder.take()
        self._beat()

    def stop(self) -> None:
        """Stops watching."""
        self._recorder.close()
        if self._handle is not None:
            self._handle.cancel()

    def _beat(self) -> None:
        self._recorder.record_after(self._limit)
        now = self._loop.time()
        stack = self._recorder.take()
        if stack:
            self._on_blocked(now - self._last, frames(stack))
        self._last = now
        self._handle = self._loop.call_later(self._limit / 2.0, self._beat)


def record_start(descriptor: int) -> StackRecorder:
    """Records where this process is each LIMIT seconds, until a `Watchdog` is started, in case that it never is."""
    recorder = StackRecorder(descriptor)
    recorder.record_after(LIMIT, repeat=True)
    return recorder
