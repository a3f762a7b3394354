"""MOSN's `fault`: delays and errors for some of the requests, to see what a system makes of them (section 13)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.routing import RouteMatcher
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import FAULT_INJECTED
from pymosn.filters.stream.problems import Problems
from pymosn.routing.matchers import header_condition
from pymosn.routing.regex import PatternError

NAME = "fault"


class Faults:
    """What is done to whom; percentages in whole numbers, `delay` in seconds."""

    def __init__(self, config: Any) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        self._cluster: str = config.upstream_cluster
        self._conditions: list[RouteMatcher] = []
        for place, match in enumerate(config.headers):
            path = f".headers[{place}]"
            if not match.name:
                problems.add(f"{path}.name", "a header match needs a name")
            try:
                self._conditions.append(header_condition(match.name, match.value, match.regex))
            except PatternError as error:
                problems.add(f"{path}.value", f"not a regular expression (RE2): {error}")
        self.delay: float = 0.0 if config.delay is None else config.delay.fixed_delay
        self.delay_percentage: int = 0 if config.delay is None or not self.delay else config.delay.percentage
        self.status: int = 0 if config.abort is None else config.abort.status
        self.abort_percentage: int = 0 if config.abort is None else config.abort.percentage
        if self.abort_percentage:
            problems.status(".abort.status", self.status)
        problems.end()

    def concern(self, exchange: Exchange) -> bool:
        """Whether a request is one of those meant."""
        if self._cluster and self._cluster != cluster_of(exchange):
            return False
        return all(condition.matches(exchange) for condition in self._conditions)


def cluster_of(exchange: Exchange) -> str:
    """The cluster that a request is on its way to, as filters chose it and else as the route did."""
    choices = exchange.overrides
    return exchange.cluster_name if choices is None or choices.cluster is None else choices.cluster


def _drawn(percentage: int) -> bool:
    return percentage > 0 and random.randrange(100) < percentage


class FaultFilter(StreamFilter):
    """Delays first and then, drawn by itself, aborts. A route's own settings take the place of the listener's.

    Per request: two random numbers; headers are looked at only when they decide. A delay costs a task.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._faults = Faults(config)

    @staticmethod
    def for_route(config: Any) -> Faults:
        """`per_filter_config.fault` as the filter wants it. Raises FilterConfigError."""
        return Faults(config)

    def on_route(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        faults = exchange.route_config(NAME)
        if not isinstance(faults, Faults):
            faults = self._faults
        if not faults.concern(exchange):
            return None
        if _drawn(faults.delay_percentage):
            return self._delay(exchange, faults)
        return self._abort(exchange, faults)

    async def _delay(self, exchange: Exchange, faults: Faults) -> Reply | None:
        self.context.counter("delayed").value += 1
        await asyncio.sleep(faults.delay)
        return self._abort(exchange, faults)

    def _abort(self, exchange: Exchange, faults: Faults) -> Reply | None:
        if not _drawn(faults.abort_percentage):
            return None
        self.context.counter("aborted").value += 1
        exchange.failure = FAULT_INJECTED
        return Reply(faults.status)
