"""Records where the event loop of a worker is that does not begin to record by itself, because it is blocked.

The supervisor sends the signal of the worker's watchdog (`stacks.py`), whose handler needs no event loop. Samples are by the
clock: the time in which the thread sleeps or waits is counted too.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pymosn.server.profile_reader import StackCounts
from pymosn.server.worker_process import WorkerHandle

#: Seconds after which a worker that has not begun is taken for blocked.
BEGIN_TIME: Final = 1.0


class BlockedRecorder:
    """The stacks of one worker, while its event loop is blocked."""

    def __init__(self, worker: WorkerHandle, own: StackCounts) -> None:
        """`own`: what the worker records by itself."""
        self._worker = worker
        self._own = own
        self.counts = StackCounts("[native code]")

    async def record(self, seconds: float, period: float) -> None:
        """Records for `seconds`, until the worker begins to record by itself, or ends."""
        loop = asyncio.get_running_loop()
        begins = loop.time() + BEGIN_TIME
        while self._is_silent() and loop.time() < begins:
            await asyncio.sleep(0.05)
        offset = self._worker.read_stacks(0)[1]
        ends = loop.time() + seconds
        while self._is_silent() and loop.time() < ends and self._worker.request_stack():
            await asyncio.sleep(period)
            text, offset = self._worker.read_stacks(offset)
            self.counts.feed(text)
        self.counts.close()

    def _is_silent(self) -> bool:
        return not self._own.has_begun and not self._worker.has_exited
