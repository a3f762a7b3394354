"""Running an exchange through its filters: plain methods at once, `async` ones in a task while the exchange waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import cast

from mypy_extensions import i64

from pymosn.api.proxy import Exchange, Reply
from pymosn.api.stream import ResponseSender
from pymosn.core.failure import FILTER_ERROR, Failure
from pymosn.proxy.filter_chain import NamedFilter, report_error
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

    def on_request_filtered(self) -> None:
        """Every filter let the request pass."""
        raise NotImplementedError

    def on_response_filtered(self) -> None:
        """Every filter let the reply pass."""
        raise NotImplementedError

    def reply_from_filter(self, reply: Reply, in_response: bool) -> None:
        """A filter answers in place of the upstream."""
        raise NotImplementedError

    def fail(self, failure: Failure, detail: str) -> None:
        """The exchange ends in a failure."""
        raise NotImplementedError

    # ---- running

    def run_filters(self, chain: list[NamedFilter], in_response: bool, start: i64) -> None:
        """Asks the filters of `chain` from `start` on."""
        place: i64 = start
        count: i64 = len(chain)
        while place < count:
            named = chain[place]
            place += 1
            try:
                answer = named.ask_response(self) if in_response else named.ask_request(self)
            except Exception as error:
                self._on_error(named, error)
                return
            if answer is None:
                continue
            if isinstance(answer, Reply):
                self.reply_from_filter(answer, in_response)
                return
            if asyncio.iscoroutine(answer):
                coroutine = cast("Coroutine[object, object, object]", answer)
                self._task = FilterTask(coroutine, self, chain, place, in_response)
                return
            self._on_error(named, f"it returned {type(answer).__name__}, not a Reply or None")
            return
        if in_response:
            self.on_response_filtered()
        else:
            self.on_request_filtered()

    def is_filtering(self) -> bool:
        """Whether the exchange waits for an `async` filter."""
        return self._task is not None

    def cancel_filter(self) -> None:
        """The exchange is over: an `async` filter at work for it is cancelled."""
        task = self._task
        if task is not None:
            self._task = None
            task.cancel()

    def on_filter_done(self, done: FilterTask, answer: object, error: BaseException | None) -> None:
        """An `async` filter returned `answer`, or raised `error`."""
        self._task = None
        self._runtime.clock.tick()
        named = done.chain[done.place - 1]
        if error is not None:
            self._on_error(named, error)
        elif answer is None:
            self.run_filters(done.chain, done.in_response, done.place)
        elif isinstance(answer, Reply):
            self.reply_from_filter(answer, done.in_response)
        else:
            self._on_error(named, f"it returned {type(answer).__name__}, not a Reply or None")

    def _on_error(self, named: NamedFilter, error: BaseException | str) -> None:
        report_error(self._runtime.log, named, self, error)
        self.fail(FILTER_ERROR, f"filter {named.name}")


class FilterTask:
    """An `async` filter at work for one exchange: the only thing in an exchange that costs a task."""

    def __init__(
        self,
        coroutine: Coroutine[object, object, object],
        exchange: FilteredExchange,
        chain: list[NamedFilter],
        place: i64,
        in_response: bool,
    ) -> None:
        """`place`: where in `chain` to go on afterwards."""
        self.chain = chain
        self.place: i64 = place
        self.in_response = in_response
        self._exchange: FilteredExchange | None = exchange
        # Of objects: what a filter really returns is looked at by the exchange, not by the compiler.
        self._task: asyncio.Task[object] = asyncio.get_running_loop().create_task(coroutine)
        self._task.add_done_callback(self._on_done)

    def cancel(self) -> None:
        """Cancels the filter; the exchange will not hear of it."""
        self._exchange = None
        self._task.cancel()

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
