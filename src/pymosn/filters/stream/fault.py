"""MOSN's `fault`: delays and errors for some of the requests, to test how a system copes with them (section 13)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.grpc import to_http_status
from pymosn.api.routing import RouteMatcher
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import FAULT_INJECTED
from pymosn.filters.header_matches import header_matcher
from pymosn.filters.settings import Block, Duration, HeaderMatch, Share, at_most, negative, own, works
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.problems import Problems
from pymosn.routing.regex import PatternError

NAME: Final = "fault"
_ALWAYS: Final = at_most("always, as in MOSN")


class Delay(Block, kw_only=True):
    """A delay for some of the requests."""

    percentage: Annotated[Share, works("with decimals; in MOSN only whole numbers"), _ALWAYS] = 0.0
    fixed_delay: Annotated[Duration, negative("no delay, as in MOSN")] = 0.0


class Abort(Block, kw_only=True):
    """An error for some of the requests."""

    percentage: Annotated[Share, works("with decimals; in MOSN only whole numbers"), _ALWAYS] = 0.0
    status: int = 0
    grpc_status: Annotated[
        int | None, own("instead of `status`: other requests get the HTTP status that corresponds to it")
    ] = None


class Settings(Block, kw_only=True):
    """`fault`."""

    delay: Annotated[Delay | None, works("applied before `abort`")] = None
    abort: Abort | None = None
    upstream_cluster: Annotated[str, works("only requests that go to this cluster")] = ""
    headers: Annotated[list[HeaderMatch], works("only requests that match all of them")] = []


class Faults:
    """Faults and the requests that get them; `delay` is in seconds."""

    def __init__(self, settings: Settings) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        self._cluster = settings.upstream_cluster
        self._conditions: list[RouteMatcher] = []
        for i, match in enumerate(settings.headers):
            path = f".headers[{i}]"
            problems.require(match.name, f"{path}.name", "a header match needs a name")
            try:
                self._conditions.append(header_matcher(match))
            except PatternError as error:
                problems.add(f"{path}.value", f"not a regular expression (RE2): {error}")
            except ValueError as error:
                problems.add(path, str(error))
        delay, abort = settings.delay or Delay(), settings.abort or Abort()
        self.delay = delay.fixed_delay
        self.delay_percentage = delay.percentage if delay.fixed_delay else 0.0
        self.status = abort.status
        self.headers: list[tuple[str, str]] = []
        self.abort_percentage = abort.percentage
        if abort.grpc_status is not None:
            problems.require(not abort.status, ".abort.status", "not valid together with grpc_status")
            problems.require(1 <= abort.grpc_status <= 16, ".abort.grpc_status", "must be a gRPC status from 1 to 16")
            self.status = to_http_status(abort.grpc_status)
            self.headers = [("grpc-status", str(abort.grpc_status))]
        elif self.abort_percentage:
            problems.status(".abort.status", self.status)
        problems.end()

    def apply_to(self, exchange: Exchange) -> bool:
        """Whether the request meets the conditions."""
        if self._cluster and self._cluster != cluster_of(exchange):
            return False
        return all(condition.matches(exchange) for condition in self._conditions)


def cluster_of(exchange: Exchange) -> str:
    """The cluster of a request: a filter's choice, or else the route's."""
    choices = exchange.overrides
    return exchange.cluster_name if choices is None or choices.cluster is None else choices.cluster


def _drawn(percentage: float) -> bool:
    return percentage > 0 and random.random() * 100 < percentage


class FaultFilter(StreamFilter):
    """Delays and then, drawn independently, aborts. The settings of a route replace those of the listener.

    Cost per request: two random numbers, and header lookups only where conditions exist. A delay costs a task.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._faults = Faults(settings)

    def on_route(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        faults = self.context.route_config(exchange, NAME)
        if not isinstance(faults, Faults):
            faults = self._faults
        if not faults.apply_to(exchange):
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
        return Reply(faults.status, b"", faults.headers if exchange.request.has_call_status else None)


DIFFERENCES: Final = (("DelayInjected", "a response flag", "the counter `delayed`; the exchange is not a failure"),)
SPEC: Final = FilterSpec(
    NAME, Settings, FaultFilter, "delays and errors; also of a route", DIFFERENCES, RouteSpec(Settings, Faults)
)
