"""Running an exchange through its filters: plain methods at once, `async` ones in a task while the exchange waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from typing import cast

from mypy_extensions import i64

from pymosn.api.proxy import Exchange, Reply
from pymosn.api.stream import ResponseSender
from pymosn.core.failure import FILTER_ERROR, FILTER_TIMEOUT, Failure
from pymosn.core.message import Refused
from pymosn.core.timers import Alarm
from pymosn.proxy.filter_chain import TIMED_ONE_IN, BodyStep, FilterStep, NamedFilter, report_error
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime


class FilteredExchange(Exchange):
    """The part of an exchange that deals with stream filters."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(sender.connection())
        self._runtime = runtime
        self._options = options
        self._sender: ResponseSender = sender
        self._is_over = False
        self._task: FilterTask | None = None

    # ---- what the exchange does next

    def on_filtered(self, phase: i64) -> None:
        """Every filter of `phase` let the exchange pass."""
        raise NotImplementedError

    def reply_from_filter(self, reply: Reply, phase: i64) -> None:
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

    def on_stream_broken(self, error: Exception) -> None:
        """A reply that a filter streams ends in `error`."""
        raise NotImplementedError

    # ---- heads

    def run_filters(self, chain: list[FilterStep], phase: i64, start: i64) -> None:
        """Asks the filters of `chain` from `start` on."""
        place: i64 = start
        count: i64 = len(chain)
        while place < count:
            step = chain[place]
            place += 1
            named = step.named
            named.calls.value += 1
            try:
                if named.calls.value & (TIMED_ONE_IN - 1) == 0:
                    answer = self._ask_timed(step)
                else:
                    answer = step.ask(self)
            except (Exception, SystemExit) as error:
                if self._has_ended_in(named, error):
                    return
                continue
            if answer is None:
                continue
            if isinstance(answer, Reply):
                self.reply_from_filter(answer, phase)
                return
            if asyncio.iscoroutine(answer):
                coroutine = cast("Coroutine[object, object, object]", answer)
                self._task = FilterTask(coroutine, self, chain, place, phase)
                if named.timeout > 0.0:
                    self._runtime.wheel.set(self._task, named.timeout)
                return
            if self._has_ended_in(named, wrong_answer(answer)):
                return
        self.on_filtered(phase)

    def _ask_timed(self, step: FilterStep) -> Reply | Awaitable[Reply | None] | None:
        started = time.perf_counter()
        answer = step.ask(self)
        step.named.time.record(time.perf_counter() - started)
        return answer

    def is_filtering(self) -> bool:
        """Whether the exchange waits for an `async` filter."""
        return self._task is not None

    def cancel_filter(self) -> None:
        """The exchange is over: an `async` filter at work for it is cancelled."""
        task = self._task
        if task is not None:
            self._task = None
            self._runtime.wheel.clear(task)
            task.cancel()

    def on_filter_done(self, done: FilterTask, answer: object, error: BaseException | None) -> None:
        """An `async` filter returned `answer`, or raised `error`."""
        self._task = None
        self._runtime.wheel.clear(done)
        self._runtime.clock.tick()
        named = done.chain[done.place - 1].named
        named.time.record(self._runtime.clock.now - done.started)
        wrong: BaseException | str | None = error
        if error is None and answer is not None:
            if isinstance(answer, Reply):
                self.reply_from_filter(answer, done.phase)
                return
            wrong = wrong_answer(answer)
        if wrong is None or not self._has_ended_in(named, wrong):
            self.run_filters(done.chain, done.phase, done.place)

    def on_filter_late(self, late: FilterTask) -> None:
        """An `async` filter took too long."""
        self.cancel_filter()
        named = late.chain[late.place - 1].named
        named.timeouts.value += 1
        if named.skips_errors:
            named.skipped.value += 1
            self.run_filters(late.chain, late.phase, late.place)
        else:
            self.fail(FILTER_TIMEOUT, f"filter {named.name}")

    def _has_ended_in(self, named: NamedFilter, error: BaseException | str) -> bool:
        """A filter did something wrong: whether the exchange has failed for that, or goes on without the filter."""
        if isinstance(error, Refused):
            self.fail(error.failure, f"filter {named.name}: {error}")
            return True
        report_error(self._runtime.log, named, self, error)
        if named.skips_errors:
            named.skipped.value += 1
            return False
        self.fail(FILTER_ERROR, f"filter {named.name}")
        return True

    # ---- bodies

    def who_sees_body(self, chain: list[BodyStep]) -> list[BodyStep]:
        """Those of `chain` that look at the body."""
        left = self._without_body
        return chain if left is None else [step for step in chain if step.named.filter not in left]

    def filter_body(self, chain: list[BodyStep], data: bytes, last: bool) -> bytes | None:
        """What the filters of `chain` make of a piece of a body; None when the exchange has failed for it."""
        for step in chain:
            named = step.named
            if self._without_body is not None and named.filter in self._without_body:
                continue
            named.calls.value += 1
            try:
                answer = step.ask(self, data, last)
                if answer is None:
                    continue
                if not isinstance(answer, bytes):
                    raise TypeError(f"it returned {type(answer).__name__}, not bytes or None")
                if not named.changes_length and len(answer) != len(data):
                    raise ValueError(
                        f"it returned {len(answer)} bytes for {len(data)} and says it does not change the length"
                    )
                data = answer
            except (Exception, SystemExit) as error:
                self.leave_body(named.filter)
                if self._has_ended_in(named, error):
                    return None
        return data


def wrong_answer(answer: object) -> str:
    """What is wrong with something that is no answer of a filter."""
    return f"it returned {type(answer).__name__}, not a Reply or None"


class FilterTask(Alarm):
    """An `async` filter at work for one exchange: the only thing in an exchange that costs a task.

    The alarm is the filter's time.
    """

    def __init__(
        self,
        coroutine: Coroutine[object, object, object],
        exchange: FilteredExchange,
        chain: list[FilterStep],
        place: i64,
        phase: i64,
    ) -> None:
        """`place`: where in `chain` to go on afterwards."""
        super().__init__()
        self.chain = chain
        self.place: i64 = place
        self.phase: i64 = phase
        self.started: float = exchange._runtime.clock.now
        self._exchange: FilteredExchange | None = exchange
        # Of objects: what a filter really returns is looked at by the exchange, not by the compiler.
        self._task: asyncio.Task[object] = asyncio.get_running_loop().create_task(coroutine)
        self._task.add_done_callback(self._on_done)

    def cancel(self) -> None:
        """Cancels the filter; the exchange will not hear of it."""
        self._exchange = None
        self._task.cancel()

    def on_alarm(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.on_filter_late(self)

    def _on_done(self, task: asyncio.Task[object]) -> None:
        exchange = self._exchange
        self._exchange = None
        if task.cancelled():
            if exchange is not None:
                exchange.on_filter_done(self, None, asyncio.CancelledError("the filter cancelled itself"))
            return
        error = task.exception()  # asked for in any case: an exception that nobody looks at is logged by the loop
        if exchange is not None:
            exchange.on_filter_done(self, None if error is not None else task.result(), error)
