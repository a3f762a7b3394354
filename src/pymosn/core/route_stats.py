"""How often each route was used, and on request with which results: in groups of a bounded number, made at first use."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.clock import Clock
from pymosn.core.counters import Counter, MetricGroup, Metrics
from pymosn.core.histograms import Histogram

#: The type of the groups, and the label value of all routes above the limit.
TYPE: Final = "route"
OTHER: Final = "other"
#: The number of routes with a group of their own, unless `metrics.max_series` is given.
MAX_SERIES: Final = 1000


class RouteStats:
    """The counters of one route in one worker."""

    def __init__(self, group: MetricGroup) -> None:
        self._group = group
        self.hits: Counter = group.counter("hits")
        self._codes: dict[int, Counter] = {}
        self._time: Histogram | None = None

    def count(self, status: i64, seconds: float) -> None:
        """Counts one finished request by its status code and duration."""
        code = int(status)
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = self._group.counter(f"code_{code}")
        counter.value += 1
        time = self._time
        if time is None:
            time = self._time = self._group.histogram("request_time")
        time.record(seconds)


class RouteBook:
    """The counters of all routes of one worker, and what is counted of each request on request."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self.clock = clock
        #: Whether results and durations are counted for each route.
        self.is_detailed = False
        #: Whether durations have the ids of their traces.
        self.has_exemplars = False
        self.limit: i64 = MAX_SERIES
        self._metrics = metrics

    def stats_of(self, name: str, label: str) -> RouteStats:
        """The counters of a route. `name`: router, virtual host and index; `label`: its name in the configuration."""
        place, _, index = name.rpartition("/")
        router, _, virtual_host = place.partition("/")
        labels = (("route", label or index), ("router", router), ("virtual_host", virtual_host))
        group = self._metrics.bounded(self.limit, TYPE, *labels)
        if group is None:
            group = self._metrics.group(TYPE, ("route", OTHER), ("router", OTHER), ("virtual_host", OTHER))
        return RouteStats(group)
