"""Sends waiting traces through one exporter: batches, retries, and counts of what became of the spans.

A batch is sent when it is large enough or old enough. If the collector does not accept it, it is tried again with growing
delays for RETRY_TIME seconds; meanwhile later traces wait, up to the limits of the queue, and further ones are dropped and
counted. So a dead, slow or hanging collector costs bounded memory, and nothing on the data path.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from pymosn.api.tracing import TraceRecord
from pymosn.control.threads import off_loop
from pymosn.control.tracing.exporter import (
    OFF,
    QUEUE_FULL,
    REFUSED,
    STOPPED,
    TOO_LARGE,
    UNAVAILABLE,
    Exporter,
    ExportError,
    number_of_spans,
)
from pymosn.control.tracing.queue import TraceQueue
from pymosn.core.clock import Clock
from pymosn.core.errors import describe, reason
from pymosn.core.log import ERROR, INFO, WARN, Log

#: Seconds to try a batch again, and the first and the longest delay between two attempts.
RETRY_TIME: Final = 60.0
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 15.0
#: Seconds between two lines about a collector that keeps failing.
LINE_PERIOD: Final = 60.0
#: Seconds to make an exporter: importing its libraries, and opening its files.
MAKE_TIME: Final = 30.0
#: Seconds to close an exporter, after the time to export what waits.
CLOSE_TIME: Final = 1.0
#: The most spans that wait while the exporter is made.
FIRST_SPANS: Final = 10_000

Pause = Callable[[float], Awaitable[object]]


class Counts:
    """What became of spans: `exported`, and `dropped` by reason (`exporter.REASONS`). Kept when the driver changes."""

    def __init__(self) -> None:
        self.exported = 0
        self.retries = 0
        self.dropped: Counter[str] = Counter()


class Pipeline:
    """One driver at work: `start`, `add` traces, `stop`."""

    def __init__(
        self,
        driver: str,
        make: Callable[[], Exporter],
        counts: Counts,
        clock: Clock,
        log: Log,
        pause: Pause = asyncio.sleep,
    ) -> None:
        """`make`: makes the exporter, in a thread; ExportError and OSError turn tracing off."""
        self.driver = driver
        self._make = make
        self._counts = counts
        self._clock = clock
        self._log = log
        self._pause = pause
        self._queue = TraceQueue(FIRST_SPANS)
        self._exporter: Exporter | None = None
        #: Whether the exporter could not be made.
        self.is_off = False
        self._next_line = 0.0
        # Whether the last attempt has failed, and what has been dropped since.
        self._failing = False
        self._dropped_since = 0
        self._batch: Sequence[TraceRecord] = ()
        self._added = asyncio.Event()
        self._large = asyncio.Event()
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Spans that have neither been exported nor dropped yet."""
        return self._queue.spans + number_of_spans(self._batch)

    def start(self) -> None:
        """Begins to work, in a task."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def add(self, trace: TraceRecord) -> None:
        """Adds a trace, or drops it if there is no room for it."""
        if self.is_off:
            self._drop(len(trace.spans), OFF)
        elif not self._queue.add(trace):
            self._drop(len(trace.spans), QUEUE_FULL)
            self._warn("the queue is full")
        else:
            self._added.set()
            if self._exporter is not None and self._queue.spans >= self._exporter.batch_spans:
                self._large.set()

    def reopen(self) -> None:
        """Reopens files after they were renamed."""
        if self._exporter is not None:
            self._exporter.reopen()

    async def stop(self, seconds: float) -> None:
        """Sends what waits, for at most `seconds`, drops the rest, and closes the exporter, for at most CLOSE_TIME."""
        self._ending.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            if not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task])
            error = None if self._task.cancelled() else self._task.exception()
            if error is not None:
                self._log.write(ERROR, f"tracing by {self.driver}: {describe(error)}")
        left = self.waiting
        if left:
            self._queue.take(left)
            self._batch = ()
            self._drop(left, STOPPED)
            self._log.write(WARN, f"tracing by {self.driver}: {left} spans were not exported before the end")
        if self._exporter is not None:
            with contextlib.suppress(TimeoutError, ExportError, OSError):
                async with asyncio.timeout(CLOSE_TIME):
                    await self._exporter.close()

    async def _run(self) -> None:
        exporter = await self._made()
        if exporter is None:
            return
        self._exporter = exporter
        self._queue.limit(exporter.queue_spans)
        while True:
            await self._either(self._added)
            if not self._queue.spans:
                if self._ending.is_set():
                    return
                self._added.clear()
                continue
            if self._queue.spans < exporter.batch_spans and exporter.interval > 0.0:
                self._large.clear()
                await self._either(self._large, exporter.interval)
            self._batch = self._queue.take(exporter.batch_spans)
            self._large.clear()
            await self._deliver(exporter)
            self._batch = ()

    async def _made(self) -> Exporter | None:
        try:
            return await off_loop(MAKE_TIME, self._make)
        except (ExportError, OSError, ImportError, ValueError) as error:
            self._log.write(ERROR, f"tracing by {self.driver} is off: {reason(error)}")
        self.is_off = True
        dropped = self._queue.spans
        self._queue.take(dropped)
        self._drop(dropped, OFF)
        return None

    async def _either(self, event: asyncio.Event, seconds: float = 0.0) -> None:
        """Waits for an event or the end, or for `seconds` if they are not 0."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(each.wait()) for each in (event, self._ending)]
        if seconds:
            waits.append(asyncio.ensure_future(self._pause(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _deliver(self, exporter: Exporter) -> None:
        """Sends a batch, again and again if necessary; counts what became of it."""
        spans = number_of_spans(self._batch)
        began, delay = self._clock.tick(), FIRST_DELAY
        while True:
            try:
                async with asyncio.timeout(exporter.timeout):
                    too_large = await exporter.send(self._batch)
            except (ExportError, OSError, TimeoutError) as error:
                why = reason(error) or f"no answer within {exporter.timeout:g} s"
                if isinstance(error, ExportError) and not error.may_retry:
                    self._drop(spans, REFUSED)
                    self._warn(why)
                    return
                if self._clock.tick() - began + delay > RETRY_TIME:
                    self._drop(spans, UNAVAILABLE)
                    self._warn(why)
                    return
                self._warn(why)
                self._counts.retries += 1
                await self._pause(delay)
                delay = min(delay * 2.0, LONGEST_DELAY)
            except Exception as error:  # a mistake of the exporter or of its library: later batches may do
                self._drop(spans, REFUSED)
                self._warn(f"a batch could not be written: {describe(error)}")
                return
            else:
                self._counts.exported += spans - too_large
                if too_large:
                    self._drop(too_large, TOO_LARGE)
                    self._warn("spans are too large")
                self._recover()
                return

    def _drop(self, spans: int, reason: str) -> None:
        if spans:
            self._counts.dropped[reason] += spans
            self._dropped_since += spans

    def _warn(self, why: str) -> None:
        now = self._clock.tick()
        if not self._failing or now >= self._next_line:
            dropped = f"; {self._dropped_since} spans dropped so far" if self._dropped_since else ""
            self._log.write(WARN, f"tracing by {self.driver}: {why}{dropped}")
            self._next_line = now + LINE_PERIOD
        self._failing = True

    def _recover(self) -> None:
        if self._failing and not self._queue.spans:
            self._failing = False
            self._log.write(INFO, f"tracing by {self.driver}: works again; {self._dropped_since} spans were dropped")
            self._dropped_since = 0
