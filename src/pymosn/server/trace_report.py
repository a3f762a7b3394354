"""Sends the finished traces of a worker to its supervisor: in batches, between which requests are served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pymosn.core.errors import describe
from pymosn.core.log import ERROR, Log
from pymosn.core.stamps import Stamps
from pymosn.observe.tracing.buffer import TraceBuffer
from pymosn.observe.tracing.ids import IdSource
from pymosn.observe.tracing.records import record_of
from pymosn.server.channel import Channel
from pymosn.server.messages import Command, Traces

#: Seconds from the first trace until it is sent, along with those that have come meanwhile.
PERIOD: Final = 0.2
#: Traces in one message, whose records are made before the worker serves its connections again: less than a millisecond.
BATCH: Final = 64
#: Seconds between two attempts to send more to a supervisor that does not read.
FULL_PAUSE: Final = 0.005
#: Seconds between two lines about traces that cannot be sent.
LINE_PERIOD: Final = 60.0


class TraceReport:
    """Sends what a buffer collects. While there is nothing, there is no timer either.

    A supervisor that does not read makes the buffer full, which drops and counts what follows.
    """

    def __init__(
        self,
        buffer: TraceBuffer,
        channel: Channel[Command],
        stamps: Stamps,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[Coroutine[Any, Any, None]], object],
        log: Log,
    ) -> None:
        """`begin`: starts a task in the background."""
        self._buffer = buffer
        self._channel = channel
        self._stamps = stamps
        self._loop = loop
        self._begin = begin
        self._log = log
        self._next_line = 0.0
        self._ids = IdSource()
        self._is_sending = False
        buffer.on_first = self._on_first
        buffer.on_full = self._start

    def _on_first(self) -> None:
        if not self._is_sending:
            self._loop.call_later(PERIOD, self._start)

    def _start(self) -> None:
        if not self._is_sending:
            self._is_sending = True
            self._begin(self._send())

    async def _send(self) -> None:
        try:
            await self.send_all()
        finally:
            self._is_sending = False
        if len(self._buffer):
            self._on_first()

    async def send_all(self) -> None:
        """Sends all traces that wait, as fast as the supervisor reads."""
        while len(self._buffer):
            traces = self._buffer.take(BATCH)
            try:
                offset = self._stamps.offset()
                self._channel.send(Traces([record_of(trace, offset, self._ids) for trace in traces]))
            except Exception as error:  # a mistake of ours, which must not end the worker: its exception would
                self._drop(len(traces), error)
            else:
                self._buffer.note_sent(len(traces))
            await asyncio.sleep(0)
            while not self._channel.is_flushed:
                await asyncio.sleep(FULL_PAUSE)

    def _drop(self, count: int, error: Exception) -> None:
        self._buffer.note_dropped(count)
        now = self._stamps.now()
        if now >= self._next_line:
            self._next_line = now + LINE_PERIOD
            self._log.write(ERROR, f"{count} traces could not be sent and were dropped: {describe(error)}")
