"""Running an exchange through its filters: plain methods at once, `async` ones in a task while the exchange waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from types import CoroutineType
from typing import Any, cast

from mypy_extensions import i64

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream import ResponseSender
from pymosn.core.failure import FILTER_ERROR, FILTER_TIMEOUT, Failure
from pymosn.core.message import Refused
from pymosn.core.timers import Alarm
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import TIMED_ONE_IN, BodyHandler, FilterHandle, PhaseHandler, report_error


class FilteredExchange(Exchange):
    """The part of an exchange that deals with stream filters."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(sender.connection())
        self._is_over = False
        self._runtime = runtime
        self._options = options
        self._sender: ResponseSender = sender
        self._task: FilterTask | None = None

    # ---- what the exchange does next

    def on_filtered(self, phase: i64) -> None:
        """Every filter of `phase` let the exchange pass."""
        raise NotImplementedError

    def reply_from_filter(self, reply: Reply, phase: i64, named: FilterHandle) -> None:
        """A filter answers in place of the upstream."""
        raise NotImplementedError

    def fail(self, failure: Failure, detail: str) -> None:
        """The exchange ends in a failure."""
        raise NotImplementedError

    async def read_request(self, limit: int) -> bytes:
        """The whole body of the request. Raises BodyTooLarge."""
        raise NotImplementedError

    async def read_response(self, limit: int) -> bytes:
        """The whole body of the reply. Raises BodyTooLarge."""
        raise NotImplementedError

    def on_piece(self, data: bytes, end: bool) -> None:
        """The next piece of a reply that a filter streams."""
        raise NotImplementedError

    def on_stream_broken(self, named: FilterHandle, error: BaseException | str) -> None:
        """A reply that a filter streams ends in `error`."""
        raise NotImplementedError

    # ---- heads

    def run_filters(self, chain: list[PhaseHandler], phase: i64, start: i64) -> None:
        """Asks the filters of `chain` from `start` on."""
        place: i64 = start
        count: i64 = len(chain)
        while place < count:
            step = chain[place]
            place += 1
            named = step.named
            named.calls.value += 1
            started = time.perf_counter() if named.calls.value & (TIMED_ONE_IN - 1) == 0 else 0.0
            try:
                answer = step.ask(self)
            except BaseException as error:  # `sys.exit`, and panics of extensions in Rust, are no Exception
                if self._has_ended_in(named, error):
                    return
                continue
            waiting: FilterTask | None = None
            if answer is not None and not isinstance(answer, Reply) and is_coroutine(answer):
                waiting = FilterTask(self, chain, place, phase)
                if not waiting.start(cast("Coroutine[Any, Any, object]", answer)):
                    return
            if started > 0.0:
                named.time.record(time.perf_counter() - started)
            if waiting is not None:
                if self._has_ended_after(waiting):
                    return
            elif answer is not None and self._is_answered(step, answer, phase):
                return
        self.on_filtered(phase)

    def cancel_filter(self) -> None:
        """The exchange is over: an `async` filter at work for it is cancelled."""
        task = self._task
        if task is not None:
            self._task = None
            self._runtime.wheel.clear(task)
            task.cancel()

    def on_filter_done(self, done: FilterTask) -> None:
        """An `async` filter that had waited returned, or raised."""
        self._runtime.wheel.clear(done)
        self._runtime.clock.tick()
        done.named.time.record(self._runtime.clock.now - done.started)
        if not self._has_ended_after(done):
            self.run_filters(done.chain, done.phase, done.place)

    def _has_ended_after(self, done: FilterTask) -> bool:
        """What comes of an `async` filter: whether the exchange has its answer or has failed, or goes on."""
        self._task = None
        error = done.error()
        if error is not None:
            return self._has_ended_in(done.named, error)
        answer = done.answer()
        return answer is not None and self._is_answered(done.chain[done.place - 1], answer, done.phase)

    def _is_answered(self, step: PhaseHandler, answer: object, phase: i64) -> bool:
        """Whether what a filter returned ends the exchange, or it goes on."""
        if isinstance(answer, Reply):
            self.reply_from_filter(answer, phase, step.named)
            return True
        return self._has_ended_in(step.named, f"it returned {type(answer).__name__}, not a Reply or None", step.ask)

    def on_filter_late(self, late: FilterTask) -> None:
        """An `async` filter took too long."""
        self.cancel_filter()
        named = late.named
        named.timeouts.value += 1
        if named.skips_errors:
            named.skipped.value += 1
            self.run_filters(late.chain, late.phase, late.place)
        else:
            self.fail(FILTER_TIMEOUT, f"filter {named.name}")

    def _has_ended_in(self, named: FilterHandle, error: BaseException | str, method: object = None) -> bool:
        """A filter did something wrong: whether the exchange has failed for that, or goes on without the filter.

        `method`: which of its own, where no exception tells.
        """
        if isinstance(error, Refused):
            self.fail(error.failure, f"filter {named.name}: {error}")
            return True
        report_error(self._runtime.log, named, self, error, method)
        if named.skips_errors:
            named.skipped.value += 1
            return False
        self.fail(FILTER_ERROR, f"filter {named.name}")
        return True

    def run_completion(self, chain: list[PhaseHandler]) -> None:
        """Tells the filters of `chain` that the exchange is over; nothing that they do changes that."""
        for step in chain:
            try:
                answer: object = step.ask(self)
            except BaseException as error:
                report_error(self._runtime.log, step.named, self, error)
                continue
            if answer is not None:
                wrong = f"it returned {type(answer).__name__}, not None"
                report_error(self._runtime.log, step.named, self, wrong, step.ask)

    # ---- bodies

    def body_filters(self, chain: list[BodyHandler]) -> list[BodyHandler]:
        """Those of `chain` that look at the body."""
        left = self._without_body
        return chain if left is None else [step for step in chain if step.named.filter not in left]

    def filter_beginning(self, chain: list[BodyHandler], data: bytes, ended: bool, has_trailers: bool) -> bytes | None:
        """What the filters of `chain` make of what is here of a body when its head goes on; otherwise like `filter_body`.

        `ended`: no more of it will come, so that the last piece, empty when trailers follow, is among it.
        """
        filtered = self.filter_body(chain, data, ended and not has_trailers)
        if filtered is not None and ended and has_trailers:
            rest = self.filter_body(chain, b"", True)
            filtered = None if rest is None else filtered + rest
        return filtered

    def filter_body(self, chain: list[BodyHandler], data: bytes, last: bool) -> bytes | None:
        """What the filters of `chain` make of a piece of a body; None when the exchange has failed for it."""
        for step in chain:
            named = step.named
            if self._without_body is not None and named.filter in self._without_body:
                continue
            named.calls.value += 1
            error: BaseException | str
            try:
                answer = step.ask(self, data, last)
            except BaseException as raised:
                error = raised
            else:
                if answer is None:
                    continue
                if isinstance(answer, bytes) and (named.changes_length or len(answer) == len(data)):
                    data = answer
                    continue
                error = _wrong_piece(answer, len(data))
            self.skip_body(named.filter)
            if self._has_ended_in(named, error, step.ask):
                return None
        return data


def _wrong_piece(answer: object, size: i64) -> str:
    """What is wrong with what a filter returned for a piece of `size` bytes."""
    if isinstance(answer, bytes):
        return f"it returned {len(answer)} bytes for {size} and says it does not change the length"
    return f"it returned {type(answer).__name__}, not bytes or None"


def is_coroutine(answer: object) -> bool:
    """Whether a filter's method was `async`; looks for Python's own kind first, the others take longer."""
    return isinstance(answer, CoroutineType) or asyncio.iscoroutine(answer)


class FilterTask(Alarm):
    """An `async` filter at work for one exchange: the only thing in an exchange that costs a task.

    The alarm is the filter's time, once it waits.
    """

    def __init__(self, exchange: FilteredExchange, chain: list[PhaseHandler], place: i64, phase: i64) -> None:
        """`place`: where in `chain` to go on afterwards."""
        super().__init__()
        self.chain = chain
        self.named: FilterHandle = chain[place - 1].named
        self.place: i64 = place
        self.phase: i64 = phase
        self.started: float = exchange._runtime.clock.now
        self._exchange: FilteredExchange | None = exchange
        # Of objects: what a filter really returns is looked at by the exchange, not by the compiler.
        self._task: asyncio.Task[object] | None = None

    def start(self, coroutine: Coroutine[Any, Any, object]) -> bool:
        """Begins, up to where it waits for something. Whether it waits for nothing, and `answer` or `error` are there.

        Otherwise the exchange hears of its end by `on_filter_done`, unless it is over by then.
        """
        exchange = self._exchange
        assert exchange is not None
        exchange._task = self
        runtime = exchange._runtime
        task = runtime.tasks.start(coroutine, self.named.name)
        self._task = task
        if task.done():
            if self._exchange is None:
                self.error()  # an exception that nobody looks at is logged by the loop
                return False
            return True
        task.add_done_callback(self._on_done)
        if self._exchange is None:  # what it did before it waits ended the exchange
            task.cancel()
        elif self.named.timeout > 0.0:
            runtime.wheel.set(self, self.named.timeout)
        return False

    def answer(self) -> object:
        """What it returned."""
        assert self._task is not None
        return self._task.result()

    def error(self) -> BaseException | None:
        """What it raised."""
        task = self._task
        assert task is not None
        return asyncio.CancelledError("the filter cancelled itself") if task.cancelled() else task.exception()

    def cancel(self) -> None:
        """Cancels the filter; the exchange will not hear of it."""
        self._exchange = None
        if self._task is not None:
            self._task.cancel()

    def on_alarm(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.on_filter_late(self)

    def _on_done(self, task: asyncio.Task[object]) -> None:
        exchange = self._exchange
        self._exchange = None
        if exchange is not None:
            exchange.on_filter_done(self)
        elif not task.cancelled():
            task.exception()  # an exception that nobody looks at is logged by the loop
