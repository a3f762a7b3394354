"""The connection filters of one connection, and the filters after them.

Theory of operation. A `FilterPipe` is the only filter of the real connection. It has one `Stage` for each connection filter,
and a last one for the other filters of the chain (`proxy`, `tcp_proxy`, or none). A stage is the connection that its filters
see: what they write passes the `on_write` of the stages before, what they pass on goes to the next one. So the other filters
need not know about any of this, and chains without connection filters have no pipe.

    client -> real connection -> pipe -> stage 0 -> stage 1 -> ... -> last stage
    client <- real connection <- ......  stage 0 <- stage 1 <- ...  <- last stage

Stages open one after the other, an `async` one when its `on_connection` is done. Until all are open, bytes are held before
the first one. A stage that has paused reading gets no bytes: they are held before it, and the real connection is paused.

Every call of a filter's code is made by `_call`. Whatever it raises ends the connection: these filters guard.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final, cast

from mypy_extensions import i64

from pymosn.api.connection_filter import ConnectionFilter
from pymosn.api.exchange import Exchange
from pymosn.api.network import CONTINUE, NO_CONNECTION, STOP, Connection
from pymosn.core.errors import type_name
from pymosn.core.failure import CLOSED_LOCALLY, FILTER_ERROR, FILTER_TIMEOUT, IDLE_TIMEOUT, Failure
from pymosn.core.plain import plain_bytes
from pymosn.proxy.connection_filters import ConnectionFilterHandle, FilteredChain
from pymosn.proxy.filter_code import TIMED_ONE_IN, report_error
from pymosn.proxy.filter_stage import OpeningTask, Stage, StageOwner
from pymosn.proxy.runtime import Runtime

#: The answer of a call that has failed, or whose connection has ended meanwhile.
_OVER: Final = object()
#: No argument.
_NONE: Final = object()


class FilterPipe(StageOwner):
    """The connection filters of one connection. The module's docstring describes it."""

    def __init__(self, runtime: Runtime, chain: FilteredChain) -> None:
        super().__init__(runtime)
        self.first_writer = chain.filters.first_writer
        self._chain = chain
        #: For the access log, if there are no other filters, which log themselves.
        self._session: Exchange | None = None
        self._stages: list[Stage] = []
        self._opened: i64 = 0
        #: Bytes before the first stage, while not all stages are open.
        self._waiting: list[bytes] = []
        self._has_eof = False
        self._is_open = False
        self._is_over = False
        self._is_draining = False
        self._opening: OpeningTask | None = None
        self._context = Context()
        self._is_inside = False

    # ---- opening

    def on_connection(self, connection: Connection) -> None:
        self.real = connection
        handles = self._chain.filters.all
        for i, handle in enumerate(handles):
            self._stages.append(self._stage(i, handle))
        self._stages.append(self._stage(len(handles), None))
        self._open_next()

    def _stage(self, index: i64, handle: ConnectionFilterHandle | None) -> Stage:
        stage = Stage(self, index, handle)
        stage.copy_facts(self.real)
        return stage

    def _open_next(self) -> None:
        """Opens the remaining stages, until one of them waits or ends the connection."""
        while not self._is_over:
            stage = self._stages[self._opened]
            handle = stage.handle
            if handle is None:
                self._open_last(stage)
                return
            handle.count_connection(1)
            self._opened += 1
            made = self._call(stage, cast("Callable[..., object]", handle.kind), handle.filter)
            if made is _OVER:
                return
            if not issubclass(type(made), ConnectionFilter):
                self._fail(stage, f"its class makes {type_name(made)}")
                return
            stage.filter = cast("ConnectionFilter", made)
            stage.filter.shared = handle.filter
            stage.filter.connection = stage
            if handle.sees_connection and not self._open(stage, handle):
                return

    def _open(self, stage: Stage, handle: ConnectionFilterHandle) -> bool:
        """Calls `on_connection` of a filter. False if it waits, or has ended the connection."""
        assert stage.filter is not None
        answer = self._call(stage, stage.filter.on_connection, stage)
        if answer is None or answer is _OVER:
            return answer is None
        work = _awaitable(answer)
        if work is None:
            self._fail(stage, f"on_connection returned {type_name(answer)}, not None")
            return False
        task = self._opening = OpeningTask(self, stage, self._context.copy())
        self.real.pause_reading()
        if task.start(work, self.runtime, handle.name, handle.timeout):
            return self._end_opening(task)
        return False

    def on_opened(self, task: OpeningTask) -> None:
        self.runtime.clock.tick()
        self.runtime.wheel.clear(task)
        if self._end_opening(task):
            self._open_next()

    def _end_opening(self, task: OpeningTask) -> bool:
        self._opening = None
        if self._is_over:
            return False
        if task.error is not None:
            self._fail(task.stage, task.error)
            return False
        if task.answer is not None:
            self._fail(task.stage, f"on_connection returned {type_name(task.answer)}, not None")
            return False
        self._context = task.context
        self.real.resume_reading()
        return True

    def on_late(self, task: OpeningTask) -> None:
        handle = task.stage.handle
        if handle is not None and not self._is_over:
            handle.timeouts.value += 1
            self._fail(task.stage, f"on_connection did not finish within {handle.timeout:g} s", FILTER_TIMEOUT)

    def _open_last(self, stage: Stage) -> None:
        factory = self._chain.inner
        self._opened += 1
        if factory is None:
            self._session = self._chain.begin(self.real)
        else:
            stage.inner = factory.create()
            for inner in stage.inner:
                inner.on_connection(stage)
        self._is_open = True
        self._restart_idle()
        if self._is_draining:
            self._drain()
        for held in reversed(self._stages):  # what filters have passed on before all were open
            self.release(held)
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.deliver(0, data)
        if self._has_eof:
            self.deliver_eof(0)

    # ---- events of the real connection

    def on_data(self, data: bytes) -> bool:
        if self._is_open:
            self._restart_idle()
            self.deliver(0, data)
        elif not self._is_over:
            self._waiting.append(data)
        return STOP

    def on_eof(self) -> None:
        if self._is_open:
            self.deliver_eof(0)
        else:
            self._has_eof = True

    def on_writable(self, writable: bool) -> None:
        for stage in self._stages:
            if stage.filter is not None:
                self._call_plain(stage, stage.filter.on_writable, writable)
            for inner in stage.inner:
                inner.on_writable(writable)

    def kind(self) -> str:
        return "filtered"

    def on_drain(self) -> None:
        self._is_draining = True
        if self._is_open:
            self._drain()

    def _drain(self) -> None:
        for stage in self._stages:
            if stage.filter is not None:
                self._call_plain(stage, stage.filter.on_drain)
            for inner in stage.inner:
                inner.on_drain()

    def on_close(self, failure: Failure) -> None:
        self._end(failure)
        stages, self._stages = self._stages, []
        try:
            for stage in stages[: self._opened]:
                handle, made = stage.handle, stage.filter
                if handle is not None and made is not None:
                    self._report_call(handle, made.on_close, failure)
                    stage.filter = None
                if handle is not None:
                    handle.count_connection(-1)
            for inner in stages[-1].inner if stages else []:
                inner.on_close(failure)
            if self._session is not None:
                self._chain.end(self._session, self.real, failure)
        finally:
            for stage in stages:
                stage.inner = []
            self.real = NO_CONNECTION

    def _report_call(self, handle: ConnectionFilterHandle, function: Callable[..., object], failure: Failure) -> None:
        """Calls `on_close` of a filter: an error is only reported."""
        try:
            answer = self._run(handle, function, failure)
            if answer is None:
                return
            error: BaseException | str = f"on_close returned {type_name(answer)}, not None"
        except BaseException as raised:
            error = raised
        report_error(self.runtime.log, handle, f"[{self.real.id},-,-]", error)

    def on_stage_idle(self, stage: Stage) -> None:
        if stage.filter is not None:
            self._call_plain(stage, stage.filter.on_idle)
        elif not stage.inner:
            self.close_all(len(self._stages) - 1, IDLE_TIMEOUT, lingering=False)
        else:
            for inner in list(stage.inner):
                inner.on_idle()

    def _restart_idle(self) -> None:
        """Without other filters the listener's idle timeout is the pipe's own."""
        if self._chain.inner is None and self._chain.idle_timeout > 0.0 and not self._is_over:
            self.runtime.wheel.set(self._stages[-1], self._chain.idle_timeout)

    # ---- from stage to stage

    def deliver(self, index: i64, data: bytes) -> None:
        if index >= len(self._stages) or not data:
            return
        stage = self._stages[index]
        if stage.pauses > 0 or stage.held or not self._is_open:
            stage.held.append(data)
        else:
            self._take(stage, index, data)

    def _take(self, stage: Stage, index: i64, data: bytes) -> None:
        stage.bytes_read += len(data)
        handle, made = stage.handle, stage.filter
        if handle is None:
            for inner in stage.inner:
                if not inner.on_data(data):
                    break
            return
        if handle.sees_data and made is not None:
            answer = self._call(stage, made.on_data, data)
            if answer is _OVER or answer is STOP:
                return
            if answer is not CONTINUE:
                changed = _as_bytes(answer)
                if changed is None:
                    self._fail(stage, f"on_data returned {type_name(answer)}, not CONTINUE, STOP or bytes")
                    return
                data = changed
        self.deliver(index + 1, data)

    def deliver_eof(self, index: i64) -> None:
        if self._is_over or index >= len(self._stages):
            return
        stage = self._stages[index]
        if stage.pauses > 0 or stage.held or not self._is_open:
            stage.holds_eof = True
            return
        if stage.filter is not None:
            answer = self._call(stage, stage.filter.on_eof)
            if answer is _OVER or answer is STOP:
                return
            if answer is not None and answer is not CONTINUE:
                self._fail(stage, f"on_eof returned {type_name(answer)}, not CONTINUE, STOP or None")
                return
            self.deliver_eof(index + 1)
        elif self._chain.inner is None:
            self.close_all(index, CLOSED_LOCALLY, lingering=False)
        else:
            for inner in list(stage.inner):
                inner.on_eof()

    def release(self, stage: Stage) -> None:
        self.runtime.clock.tick()
        while stage.held and stage.pauses == 0 and not self._is_over:
            self._take(stage, stage.index, stage.held.pop(0))
        if stage.holds_eof and stage.pauses == 0 and not stage.held and not self._is_over:
            stage.holds_eof = False
            self.deliver_eof(stage.index)

    def send(self, index: i64, data: bytes) -> None:
        while index > 0:
            index -= 1
            stage = self._stages[index]
            if stage.handle is None or stage.filter is None or not stage.handle.sees_writes or not data:
                continue
            answer = self._call(stage, stage.filter.on_write, data)
            if answer is _OVER:
                return
            changed = _as_bytes(answer)
            if changed is None:
                self._fail(stage, f"on_write returned {type_name(answer)}, not bytes")
                return
            data = changed
        if data:
            self._restart_idle()
            self.real.write(data)

    def end_writing(self, index: i64) -> bool:
        self._stages[index].flush()
        while index > 0 and not self._is_over:
            index -= 1
            stage = self._stages[index]
            if stage.has_ended_writing or stage.filter is None or stage.handle is None:
                continue
            stage.has_ended_writing = True
            if stage.handle.sees_write_eof:
                self._call_plain(stage, stage.filter.on_write_eof)
        return not self._is_over

    # ---- the end

    def close_all(self, index: i64, failure: Failure, lingering: bool) -> None:
        if self._is_over or not self.end_writing(index):
            return
        self._note_refusal(failure)
        self._end(failure)
        if lingering:
            self.real.close_lingering(failure)
        else:
            self.real.close(failure)

    def abort_all(self, failure: Failure) -> None:
        if self.real is NO_CONNECTION:
            return
        if not self._is_over:
            self._note_refusal(failure)
            self._end(failure)
        self.real.abort(failure)

    def _note_refusal(self, failure: Failure) -> None:
        """Counts and logs the end of a connection that its other filters do not know yet."""
        if not self._is_open and failure is not CLOSED_LOCALLY:
            self._chain.refuse(self.real, failure)

    def _fail(self, stage: Stage, error: BaseException | str, failure: Failure = FILTER_ERROR) -> None:
        """A filter has failed: resets the connection."""
        handle = stage.handle
        if handle is not None:
            report_error(self.runtime.log, handle, f"[{self.real.id},-,-]", error)
        self.abort_all(failure)

    def _end(self, failure: Failure) -> None:
        """No filter is called any more, except `on_close`."""
        self._is_over = True
        self._is_open = False
        self._waiting = []
        opening, self._opening = self._opening, None
        if opening is not None:
            self.runtime.wheel.clear(opening)
            opening.cancel()
        for stage in self._stages:
            stage.is_closed = True
            stage.held = []
            self.runtime.wheel.clear(stage)

    # ---- calls of filters

    def _call_plain(self, stage: Stage, function: Callable[..., object], argument: object = _NONE) -> None:
        """Calls a method that returns nothing."""
        answer = self._call(stage, function, argument)
        if answer is not None and answer is not _OVER:
            name = getattr(function, "__name__", "a method")
            self._fail(stage, f"{name} returned {type_name(answer)}, not None")

    def _call(self, stage: Stage, function: Callable[..., object], argument: object = _NONE) -> object:
        """The answer of filter code; _OVER if the connection has ended, for example because the call has failed."""
        handle = stage.handle
        if self._is_over or handle is None:
            return _OVER
        try:
            answer = self._run(handle, function, argument)
        except BaseException as error:
            self._fail(stage, error)
            return _OVER
        return _OVER if self._is_over else answer

    def _run(self, handle: ConnectionFilterHandle, function: Callable[..., object], argument: object) -> object:
        """Calls filter code in the connection's context, which can be entered only once at a time."""
        handle.calls.value += 1
        if self._is_inside:
            return function() if argument is _NONE else function(argument)
        self._is_inside = True
        is_timed = handle.calls.value % TIMED_ONE_IN == 0
        started = time.perf_counter() if is_timed else 0.0
        try:
            return self._context.run(function) if argument is _NONE else self._context.run(function, argument)
        finally:
            self._is_inside = False
            if is_timed:
                handle.time.record(time.perf_counter() - started)


def _awaitable(answer: object) -> Awaitable[object] | None:
    """What an `async` method returned, judged by its type: its `__class__` may claim anything, or raise."""
    return cast("Awaitable[object]", answer) if hasattr(type(answer), "__await__") else None


def _as_bytes(answer: object) -> bytes | None:
    """An answer as exact bytes; None if it is of another type."""
    if type(answer) is bytes:
        return answer
    return plain_bytes(cast("bytes", answer)) if issubclass(type(answer), bytes) else None
