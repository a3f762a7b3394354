"""A worker's reports of its metrics: only what has changed, gathered and sent in slices, so that requests go on."""

import asyncio
from typing import Final

from pymosn.core.counters import Metrics
from pymosn.server.channel import Channel
from pymosn.server.messages import Command, Stats

#: Seconds for which a report is gathered before the worker serves its connections again.
SLICE: Final = 0.002
#: Seconds between two attempts to send more to a supervisor that does not read.
FULL_PAUSE: Final = 0.005


class StatsReport:
    """Reports all metrics in its first report, and those that have changed since in each further one."""

    def __init__(self, metrics: Metrics, channel: Channel[Command], slice_seconds: float = SLICE) -> None:
        self._slice = slice_seconds
        self._metrics = metrics
        self._channel = channel
        self._lock = asyncio.Lock()
        # The last ticket that was asked for, and the last one that has been answered.
        self._wanted = 0
        self._answered = 0

    @property
    def is_busy(self) -> bool:
        """Whether a report is being sent."""
        return self._lock.locked()

    async def send(self, ticket: int) -> None:
        """Sends a report; `ticket`: that of the `GetStats` to answer, 0 for none."""
        self._wanted = max(self._wanted, ticket)
        async with self._lock:
            if 0 < ticket <= self._answered:
                return  # one report has answered several
            answered = self._wanted
            loop = asyncio.get_running_loop()
            until = loop.time() + self._slice
            for groups in self._metrics.changes():
                if groups:
                    self._channel.send(Stats(0, groups))
                if loop.time() > until:
                    await asyncio.sleep(0)
                    while not self._channel.is_flushed:
                        await asyncio.sleep(FULL_PAUSE)
                    until = loop.time() + self._slice
            self._channel.send(Stats(answered, [], self._metrics.take_removed()))
            self._answered = max(self._answered, answered)
