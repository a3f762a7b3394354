"""Records where the event loop of a worker is that does not begin or end its own recording, because it is blocked.

The supervisor sends the signal of the worker's watchdog (`stacks.py`), whose handler needs no event loop. Samples are by the
clock: the time in which the thread sleeps or waits is counted too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pymosn.server.profile_reader import StackCounts
from pymosn.server.worker_process import WorkerHandle

#: Seconds after which a worker that has not begun is taken for blocked.
BEGIN_TIME: Final = 1.0
#: The longest time in seconds for which one is recorded that has begun, and has not ended when it should have.
LATE_TIME: Final = 4.0


class BlockedRecorder:
    """The stacks of one worker, while its event loop is blocked."""

    def __init__(self, worker: WorkerHandle, own: StackCounts) -> None:
        """`own`: what the worker records by itself."""
        self._worker = worker
        self._own = own
        self.counts = StackCounts("[native code]")

    async def record(self, seconds: float, period: float) -> None:
        """Records for `seconds` what the worker does not record by itself, because it does not begin or does not end."""
        own = self._own
        await self._wait(lambda: own.has_begun, BEGIN_TIME)
        if own.has_begun:
            await self._wait(lambda: own.has_ended, seconds + BEGIN_TIME)
            await self._sample(lambda: own.has_ended, min(seconds, LATE_TIME), period)
        else:
            await self._sample(lambda: own.has_begun, seconds, period)
        self.counts.close()

    async def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        """Waits for a condition, the worker's end, or the time."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while not condition() and not self._worker.has_exited and loop.time() < ends:
            await asyncio.sleep(0.05)

    async def _sample(self, is_over: Callable[[], bool], seconds: float, period: float) -> None:
        loop = asyncio.get_running_loop()
        offset = self._worker.read_stacks(0)[1]
        ends = loop.time() + seconds
        while not is_over() and not self._worker.has_exited and loop.time() < ends and self._worker.request_stack():
            await asyncio.sleep(period)
            text, offset = self._worker.read_stacks(offset)
            self.counts.feed(text)
