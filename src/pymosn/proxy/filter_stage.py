"""One connection filter's view of the client's connection, and what it needs of the pipe (`filter_pipe.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from contextvars import Context
from typing import Any

from mypy_extensions import i64

from pymosn.api.connection_filter import ConnectionFilter, FilteredConnection
from pymosn.api.network import NO_CONNECTION, Connection, NetworkFilter
from pymosn.core.counters import Counter
from pymosn.core.errors import type_name
from pymosn.core.failure import ACCESS_DENIED, CLOSED_LOCALLY, Failure
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.plain import plain_bytes
from pymosn.core.timers import Alarm
from pymosn.proxy.connection_filters import ConnectionFilterHandle
from pymosn.proxy.runtime import Runtime


class StageOwner(NetworkFilter):
    """What a stage needs of its pipe."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        #: The client's connection.
        self.real: Connection = NO_CONNECTION
        #: The index of the first filter that sees what is written.
        self.first_writer: i64 = 0

    def deliver(self, index: i64, data: bytes) -> None:
        """Bytes of the client for the stage at `index`."""
        raise NotImplementedError

    def deliver_eof(self, index: i64) -> None:
        """The end of the client's bytes, for the stage at `index`."""
        raise NotImplementedError

    def send(self, index: i64, data: bytes) -> None:
        """Bytes for the client, written by the stage at `index`."""
        raise NotImplementedError

    def end_writing(self, index: i64) -> bool:
        """The stage at `index` writes no more: those before it may write what they hold. False if the connection ends."""
        raise NotImplementedError

    def release(self, stage: Stage) -> None:
        """Passes on what a stage has held while it was paused."""
        raise NotImplementedError

    def close_all(self, index: i64, failure: Failure, lingering: bool) -> None:
        """The stage at `index` closes the connection, once everything written is sent."""
        raise NotImplementedError

    def abort_all(self, failure: Failure) -> None:
        """A stage resets the connection."""
        raise NotImplementedError

    def on_stage_idle(self, stage: Stage) -> None:
        """The idle timeout of a stage expired."""
        raise NotImplementedError

    def on_opened(self, task: OpeningTask) -> None:
        """An `async` `on_connection` is done."""
        raise NotImplementedError

    def on_late(self, task: OpeningTask) -> None:
        """An `async` `on_connection` has exceeded its timeout."""
        raise NotImplementedError


class Stage(FilteredConnection):
    """The connection as one connection filter sees it, or as the other filters of the chain do."""

    def __init__(self, pipe: StageOwner, index: i64, handle: ConnectionFilterHandle | None) -> None:
        """`handle`: None for the last stage."""
        super().__init__()
        self.handle = handle
        #: The object of the connection filter; None in the last stage, and after the connection's end.
        self.filter: ConnectionFilter | None = None
        #: The filters of the last stage.
        self.inner: list[NetworkFilter] = []
        #: Bytes that are held because it has paused, and whether the client's end follows them.
        self.held: list[bytes] = []
        self.holds_eof = False
        self.pauses: i64 = 0
        self.has_ended_writing = False
        self._pipe = pipe
        self.index = index
        self._batch: FrameWriter | None = None

    def count_into(self, read: Counter, written: Counter) -> None:
        self._pipe.real.count_into(read, written)  # the listener counts the bytes of the socket, once

    def replace_filters(self, filters: list[NetworkFilter]) -> None:
        self.inner = filters

    def write(self, data: bytes) -> None:
        if not self.is_closed:
            data = plain_bytes(data)
            self.bytes_written += len(data)
            self._pipe.send(self.index, data)

    def write_parts(self, parts: list[bytes]) -> None:
        if self.is_closed:
            return
        if self._pipe.first_writer < self.index:
            self.write(b"".join(parts))
            return
        for part in parts:
            self.bytes_written += len(part)
        self._pipe.real.write_parts(parts)

    def now(self) -> float:
        return self._pipe.runtime.clock.now

    def batch_writer(self) -> FrameWriter:
        if self.is_closed:
            return FrameWriter()  # what is written to it is dropped
        if self._pipe.first_writer >= self.index:
            return self._pipe.real.batch_writer()
        if self._batch is None:
            self._batch = FrameWriter()
            asyncio.get_running_loop().call_soon(self.flush)
        return self._batch

    def flush(self) -> None:
        """Sends the collected frames."""
        batch, self._batch = self._batch, None
        if batch is not None and batch.size() > 0:
            self.write(b"".join(batch.take()))

    def pause_reading(self) -> None:
        self.pauses += 1
        if self.pauses == 1 and not self.is_closed:
            self._pipe.real.pause_reading()

    def resume_reading(self) -> None:
        if self.pauses == 0:
            return
        self.pauses -= 1
        if self.pauses == 0 and not self.is_closed:
            self._pipe.real.resume_reading()
            if self.held or self.holds_eof:
                asyncio.get_running_loop().call_soon(self._pipe.release, self)

    def yield_reading(self) -> None:
        if not self.is_closed:
            self.pause_reading()
            asyncio.get_running_loop().call_soon(self.resume_reading)

    def set_buffer_limit(self, limit: i64) -> None:
        if not self.is_closed:
            self._pipe.real.set_buffer_limit(limit)

    def set_idle(self, seconds: float) -> None:
        wheel = self._pipe.runtime.wheel
        if seconds > 0.0 and not self.is_closed:
            wheel.set(self, seconds)
        else:
            wheel.clear(self)

    def on_alarm(self) -> None:
        if not self.is_closed:
            self._pipe.on_stage_idle(self)

    def write_eof(self) -> None:
        if not self.is_closed and self._pipe.end_writing(self.index):
            self._pipe.real.write_eof()

    def close(self, failure: Failure = CLOSED_LOCALLY) -> None:
        self._pipe.close_all(self.index, _checked(failure), lingering=False)

    def close_lingering(self, failure: Failure) -> None:
        self._pipe.close_all(self.index, _checked(failure), lingering=True)

    def abort(self, failure: Failure = ACCESS_DENIED) -> None:
        self._pipe.abort_all(_checked(failure))

    def pass_on(self, data: bytes) -> None:
        if not self.is_closed:
            self._pipe.deliver(self.index + 1, plain_bytes(data))

    def pass_on_eof(self) -> None:
        if not self.is_closed:
            self._pipe.deliver_eof(self.index + 1)


def _checked(failure: Failure) -> Failure:
    """What a filter passes as a failure is one. Raises TypeError."""
    if not issubclass(type(failure), Failure):
        raise TypeError(f"expected a Failure, not {type_name(failure)}")
    return failure


class OpeningTask(Alarm):
    """A filter's `async` `on_connection`. Its alarm is the filter's timeout."""

    def __init__(self, pipe: StageOwner, stage: Stage, context: Context) -> None:
        super().__init__()
        self.stage = stage
        self.context = context
        self.answer: object = None
        self.error: BaseException | None = None
        self._pipe: StageOwner | None = pipe
        self._task: asyncio.Task[object] | None = None

    async def run(self, work: Awaitable[object]) -> None:
        """Awaits `work`. Nothing that it raises reaches the event loop."""
        try:
            self.answer = await work
        except BaseException as error:
            self.error = error

    def start(self, work: Awaitable[object], runtime: Runtime, name: str, seconds: float) -> bool:
        """Runs it up to its first wait; True when it is done. Otherwise `on_opened` of the pipe is called later."""
        coroutine: Coroutine[Any, Any, object] = self.run(work)
        task = self._task = runtime.tasks.start(coroutine, name, self.context)
        if task.done():
            return True
        task.add_done_callback(self._on_done)
        if self._pipe is None:
            task.cancel()
        elif seconds > 0.0:
            runtime.wheel.set(self, seconds)
        return False

    def cancel(self) -> None:
        """Cancels it; the pipe is not notified."""
        self._pipe = None
        if self._task is not None:
            self._task.cancel()

    def on_alarm(self) -> None:
        if self._pipe is not None:
            self._pipe.on_late(self)

    def _on_done(self, task: asyncio.Task[object]) -> None:
        pipe, self._pipe = self._pipe, None
        if task.cancelled():  # before its first step
            self.error = asyncio.CancelledError()
        if pipe is not None:
            pipe.on_opened(self)
