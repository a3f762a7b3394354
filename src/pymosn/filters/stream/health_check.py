"""`health_check`, pymosn's own: answers the health checks of load balancers itself."""

from __future__ import annotations

from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.filters.settings import AnyMap, StrictBlock, own
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.envoy_match import EVERY_READING, EnvoyObject, header_test
from pymosn.filters.stream.problems import Problems


class Settings(StrictBlock, kw_only=True):
    """`health_check`: requests that get 200."""

    headers: Annotated[list[AnyMap], own("conditions on headers, as HeaderMatchers of Envoy; all must hold")] = []


class HealthCheckFilter(StreamFilter):
    """Answers requests that meet all conditions with 200, before the route is selected.

    Cost per request: the conditions up to the first that does not hold.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        problems.require(settings.headers, ".headers", "must not be empty: every request would be a health check")
        self._tests = [
            header_test(EnvoyObject(value, f".headers[{i}]", problems)) for i, value in enumerate(settings.headers)
        ]
        problems.end()

    def on_request(self, exchange: Exchange) -> Reply | None:
        if not all(test(exchange, EVERY_READING) for test in self._tests):
            return None
        self.context.counter("answered").value += 1
        return Reply(200)


SPEC: Final = FilterSpec("health_check", Settings, HealthCheckFilter, "pymosn's own")
