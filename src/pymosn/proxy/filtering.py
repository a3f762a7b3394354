"""Runs an exchange through its filters: plain methods at once, `async` ones in a task while the exchange waits.

The functions here decide nothing about the exchange. They return a `Verdict` when a phase ends before its last filter,
and the exchange acts on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import CoroutineType
from typing import Any, Final, cast

from mypy_extensions import i64

from pymosn.api.exchange import Exchange, Reply, is_valid_reply
from pymosn.api.network import Connection
from pymosn.api.stream import RequestReceiver
from pymosn.core.errors import reason, type_name
from pymosn.core.failure import FILTER_ERROR, FILTER_TIMEOUT, Failure, failure_of
from pymosn.core.plain import plain_bytes
from pymosn.proxy.accounting import log_prefix
from pymosn.proxy.contexts import ExchangeContext, WaitingFilter
from pymosn.proxy.filter_code import TIMED_ONE_IN, report_error
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import BodyHandler, FilterHandle, PhaseHandler


class Verdict:
    """Why a phase ended early: a filter replied, failed, or is waiting."""

    def __init__(self, handle: FilterHandle | None, reply: Reply | None, failure: Failure | None, detail: str) -> None:
        """One of `reply` and `failure` is set, or neither while a filter is waiting."""
        self.handle = handle
        self.reply = reply
        self.failure = failure
        self.detail = detail


#: An `async` filter is waiting; `FilterOwner.on_filter_done` is called when it returns.
WAITING: Final = Verdict(None, None, None, "")


class FilterOwner(RequestReceiver):
    """The part of an exchange that its filters need."""

    def __init__(self, runtime: Runtime, connection: Connection) -> None:
        super().__init__()
        self.exchange = Exchange(connection)
        self.exchange.stamps = runtime.stamps
        self.runtime = runtime
        #: The context of filter code; None until a filter has used it.
        self.context: ExchangeContext | None = None

    def is_over(self) -> bool:
        """Whether the exchange has ended."""
        raise NotImplementedError

    def on_passed(self, phase: i64) -> None:
        """All filters of a phase let the exchange pass, after one of them had waited."""
        raise NotImplementedError

    def apply(self, verdict: Verdict) -> None:
        """Acts on the verdict of a filter."""
        raise NotImplementedError

    def break_down(self, error: BaseException) -> None:
        """Ends the exchange because of an error that nothing else handles, such as one of an installed protocol."""
        raise NotImplementedError

    def passes(self, chain: list[PhaseHandler], phase: i64) -> bool:
        """Runs the filters of a phase. False if one of them waits, replied or failed, or the exchange is over."""
        verdict = run_phase(self, chain, phase, 0)
        if verdict is None:
            return not self.is_over()
        self.apply(verdict)
        return False

    def on_filter_done(self, task: FilterTask) -> None:
        """A waiting `async` filter returned or raised."""
        runtime = self.runtime
        runtime.wheel.clear(task)
        runtime.clock.tick()
        task.handle.time.record(runtime.clock.now - task.started)
        self._resume(task, verdict_of(self, task))

    def on_filter_timeout(self, task: FilterTask) -> None:
        """An `async` filter exceeded its timeout."""
        self.cancel_filter()
        self._resume(task, on_timeout(task))

    def _resume(self, task: FilterTask, verdict: Verdict | None) -> None:
        if verdict is None:
            verdict = run_phase(self, task.chain, task.phase, task.index)
        if verdict is not None:
            self.apply(verdict)
        elif not self.is_over():
            self.on_passed(task.phase)

    def cancel_filter(self) -> None:
        """Cancels the waiting filter, if any."""
        context = self.context
        waiting = None if context is None else context.waiting
        if context is not None and waiting is not None:
            context.waiting = None
            self.runtime.wheel.clear(waiting)
            waiting.cancel()

    # ---- contexts

    def enter(self) -> ExchangeContext:
        """What to `run` filter code with; `leave` follows."""
        if self.context is not None:
            return self.context.again()
        context = self.runtime.spare_context
        if not context.is_spare:
            context = ExchangeContext(Context())
        context.is_spare = False
        self.context = context
        return context

    def leave(self, context: ExchangeContext) -> None:
        """After calls of filter code: the exchange keeps the context if it was used."""
        if not context.is_kept and not context.context:
            self.context = None
            context.is_spare = True
            return
        context.is_kept = True
        if self.runtime.spare_context is context:
            self.runtime.spare_context = ExchangeContext(Context())

    def own_context(self) -> Context:
        """The context for a task of a filter."""
        context = self.context
        if context is None:
            context = ExchangeContext(Context())
            self.context = context
        context.is_kept = True
        return context.context


# ---- phases


def run_phase(owner: FilterOwner, chain: list[PhaseHandler], phase: i64, start: i64) -> Verdict | None:
    """Calls the filters of `chain` from index `start` on; None when all of them let the exchange pass."""
    context = owner.enter()
    verdict = _run_phase(owner, context.run, chain, phase, start)
    owner.leave(context)
    return verdict


def _run_phase(
    owner: FilterOwner, run: Callable[..., object], chain: list[PhaseHandler], phase: i64, start: i64
) -> Verdict | None:
    exchange = owner.exchange
    index: i64 = start
    count: i64 = len(chain)
    while index < count:
        step = chain[index]
        index += 1
        handle = step.handle
        if handle.switch and handle.is_off(exchange):
            continue
        handle.calls.value += 1
        started = time.perf_counter() if handle.calls.value % TIMED_ONE_IN == 0 else 0.0
        try:
            answer = run(step.call, exchange)
            # The test is part of it: an object may raise when it is asked for its class.
            is_async = answer is not None and not is_reply(answer) and is_coroutine(answer)
        except BaseException as error:  # `sys.exit` and panics of Rust extensions are not Exceptions
            verdict = on_error(owner, handle, error)
            if verdict is not None:
                return verdict
            continue
        task: FilterTask | None = None
        if is_async:
            task = FilterTask(owner, chain, index, phase)
            if not task.start(cast("Coroutine[Any, Any, object]", answer)):
                return WAITING
        if started > 0.0:
            handle.time.record(time.perf_counter() - started)
        if task is not None:
            verdict = verdict_of(owner, task)
        elif answer is not None:
            verdict = _on_answer(owner, step, answer)
        else:
            continue
        if verdict is not None:
            return verdict
    return None


def verdict_of(owner: FilterOwner, task: FilterTask) -> Verdict | None:
    """The outcome of an `async` filter that has returned or raised; None when it let the exchange pass."""
    if owner.context is not None:
        owner.context.waiting = None
    error = task.error()
    if error is not None:
        return on_error(owner, task.handle, error)
    answer = task.answer()
    return None if answer is None else _on_answer(owner, task.chain[task.index - 1], answer)


def _on_answer(owner: FilterOwner, step: PhaseHandler, answer: object) -> Verdict | None:
    if is_reply(answer):
        reply = cast("Reply", answer)
        try:
            if is_valid_reply(reply):
                return Verdict(step.handle, reply, None, "")
        except BaseException as error:  # of a property of its class
            return on_error(owner, step.handle, error, step.call)
        return on_error(owner, step.handle, "it returned a Reply with an invalid attribute", step.call)
    return on_error(owner, step.handle, f"it returned {type_name(answer)}, not a Reply or None", step.call)


def on_error(owner: FilterOwner, handle: FilterHandle, error: BaseException | str, method: object = None) -> Verdict | None:
    """Handles a filter error; None when the exchange continues without the filter.

    `method`: the filter's method, for errors without a traceback.
    """
    if issubclass(type(error), BaseException):  # by its type: its `__class__` may claim anything
        refused = cast("BaseException", error)
        failure = failure_of(refused)
        if failure is not None:
            return Verdict(handle, None, failure, f"filter {handle.name}: {reason(refused)}")
    report_error(owner.runtime.log, handle, log_prefix(owner.exchange), error, method)
    if handle.skips_errors:
        handle.skipped.value += 1
        return None
    return Verdict(handle, None, FILTER_ERROR, f"filter {handle.name}")


def on_timeout(task: FilterTask) -> Verdict | None:
    """Handles a filter's timeout; None when the exchange continues without the filter."""
    handle = task.handle
    handle.timeouts.value += 1
    if handle.skips_errors:
        handle.skipped.value += 1
        return None
    return Verdict(handle, None, FILTER_TIMEOUT, f"filter {handle.name}")


def run_completion(owner: FilterOwner, chain: list[PhaseHandler]) -> None:
    """Calls `on_complete` of the filters; errors are only reported."""
    context = owner.enter()
    for step in chain:
        handle = step.handle
        if handle.switch and handle.is_off(owner.exchange):
            continue
        handle.calls.value += 1
        started = time.perf_counter() if handle.calls.value % TIMED_ONE_IN == 0 else 0.0
        try:
            answer = context.run(step.call, owner.exchange)
            if started > 0.0:
                handle.time.record(time.perf_counter() - started)
        except BaseException as error:
            report_error(owner.runtime.log, handle, log_prefix(owner.exchange), error)
            continue
        if answer is not None:
            wrong = f"it returned {type_name(answer)}, not None"
            report_error(owner.runtime.log, handle, log_prefix(owner.exchange), wrong, step.call)
    owner.leave(context)


# ---- bodies


def body_handlers(exchange: Exchange, chain: list[BodyHandler]) -> list[BodyHandler]:
    """The handlers of `chain` whose filters did not opt out of this exchange's bodies, and are not disabled by its route."""
    skipped = exchange.body_skipped_by
    if skipped is None and not any(step.handle.switch for step in chain):
        return chain
    return [step for step in chain if not _is_left_out(step, exchange, skipped)]


def _is_left_out(step: BodyHandler, exchange: Exchange, skipped: list[object] | None) -> bool:
    handle = step.handle
    return (len(handle.switch) > 0 and handle.is_off(exchange)) or (skipped is not None and _is_skipped(step, skipped))


def _is_skipped(step: BodyHandler, skipped: list[object]) -> bool:
    """By identity: filters may define `__eq__`."""
    stream_filter = step.handle.filter
    return any(entry is stream_filter for entry in skipped)


def filter_start(
    owner: FilterOwner, chain: list[BodyHandler], data: bytes, ended: bool, has_trailers: bool
) -> bytes | Verdict:
    """Like `filter_chunk`, for the part of a body that is sent along with its head.

    `ended`: no more of the body follows. With trailers the last chunk is a separate, empty one.
    """
    filtered = filter_chunk(owner, chain, data, ended and not has_trailers)
    if not (ended and has_trailers) or isinstance(filtered, Verdict):
        return filtered
    rest = filter_chunk(owner, chain, b"", True)
    return rest if isinstance(rest, Verdict) else filtered + rest


def filter_chunk(owner: FilterOwner, chain: list[BodyHandler], data: bytes, last: bool) -> bytes | Verdict:
    """The chunk as changed by the filters of `chain`, or the verdict of a filter error."""
    context = owner.enter()
    filtered = _filter_chunk(owner, context.run, chain, data, last)
    owner.leave(context)
    return filtered


def _filter_chunk(
    owner: FilterOwner, run: Callable[..., object], chain: list[BodyHandler], data: bytes, last: bool
) -> bytes | Verdict:
    exchange = owner.exchange
    for step in chain:
        handle = step.handle
        skipped = exchange.body_skipped_by
        if skipped is not None and _is_skipped(step, skipped):
            continue
        if handle.switch and handle.is_off(exchange):
            continue
        handle.calls.value += 1
        started = time.perf_counter() if handle.calls.value % TIMED_ONE_IN == 0 else 0.0
        try:
            answer = run(step.call, exchange, data, last)
            if started > 0.0:
                handle.time.record(time.perf_counter() - started)
            if answer is not None and type(answer) is not bytes and issubclass(type(answer), bytes):
                answer = plain_bytes(cast("bytes", answer))
        except BaseException as error:
            verdict = _on_chunk_error(owner, step, error)
        else:
            if answer is None:
                continue
            if type(answer) is bytes and (handle.changes_length or len(answer) == len(data)):
                data = answer
                continue
            verdict = _on_chunk_error(owner, step, _wrong_chunk(answer, len(data)))
        if verdict is not None:
            return verdict
    return data


def _on_chunk_error(owner: FilterOwner, step: BodyHandler, error: BaseException | str) -> Verdict | None:
    """Handles an error in a chunk; None when the exchange continues, without the filter for the rest of the body."""
    owner.exchange.skip_body(step.handle.filter)
    return on_error(owner, step.handle, error, step.call)


def _wrong_chunk(answer: object, size: i64) -> str:
    if type(answer) is bytes:
        return f"it returned {len(answer)} bytes for {size} although it declares changes_length = False"
    return f"it returned {type_name(answer)}, not bytes or None"


# ---- tasks


def is_reply(answer: object) -> bool:
    """Whether a filter's answer is a Reply, judged by its type: its `__class__` may claim anything, or raise."""
    return issubclass(type(answer), Reply)


def is_coroutine(answer: object) -> bool:
    """Whether a filter's method was `async`. Tests for Python's own coroutines first: the general test is slower."""
    return isinstance(answer, CoroutineType) or asyncio.iscoroutine(answer)


class FilterTask(WaitingFilter):
    """A running `async` filter and its task. Its alarm is the filter's timeout."""

    def __init__(self, owner: FilterOwner, chain: list[PhaseHandler], index: i64, phase: i64) -> None:
        """`index`: of the next filter in `chain`."""
        super().__init__()
        self.chain = chain
        self.handle: FilterHandle = chain[index - 1].handle
        self.index: i64 = index
        self.phase: i64 = phase
        self.started: float = owner.runtime.clock.now
        self._owner: FilterOwner | None = owner
        # Typed `object` because filter return values are validated at run time.
        self._task: asyncio.Task[object] | None = None

    def start(self, coroutine: Coroutine[Any, Any, object]) -> bool:
        """Runs the filter up to its first wait. True when it is done already and `answer` or `error` is available.

        Otherwise the owner's `on_filter_done` is called later, unless the exchange is over by then.
        """
        owner = self._owner
        assert owner is not None
        runtime = owner.runtime
        context = owner.own_context()
        assert owner.context is not None
        owner.context.waiting = self
        task = runtime.tasks.start(coroutine, self.handle.name, context)
        self._task = task
        if task.done():
            if self._owner is None:
                self.error()  # the loop logs exceptions that are never retrieved
                return False
            return True
        task.add_done_callback(self._on_done)
        if self._owner is None:  # the exchange ended during the first step
            task.cancel()
        elif self.handle.timeout > 0.0:
            runtime.wheel.set(self, self.handle.timeout)
        return False

    def answer(self) -> object:
        """The filter's return value."""
        assert self._task is not None
        return self._task.result()

    def error(self) -> BaseException | None:
        """The filter's exception, if any."""
        task = self._task
        assert task is not None
        return asyncio.CancelledError("the filter cancelled itself") if task.cancelled() else task.exception()

    def cancel(self) -> None:
        self._owner = None
        if self._task is not None:
            self._task.cancel()

    def on_alarm(self) -> None:
        owner = self._owner
        if owner is not None:
            try:
                owner.on_filter_timeout(self)
            except BaseException as error:
                owner.break_down(error)

    def _on_done(self, task: asyncio.Task[object]) -> None:
        owner = self._owner
        self._owner = None
        if owner is not None:
            try:
                owner.on_filter_done(self)
            except BaseException as error:
                owner.break_down(error)
        elif not task.cancelled():
            task.exception()  # the loop logs exceptions that are never retrieved
