"""MOSN's `grpc_metric`: counts gRPC calls by service, and on request by method and status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import OK, STATUS_NAMES, UNIMPLEMENTED
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.counters import MetricGroup
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.settings import Block, own
from pymosn.filters.spec import FilterSpec

#: The type of the metrics, and the name of whatever is not counted by its own name.
TYPE: Final = "grpc"
OTHER: Final = "other"


class Settings(Block, kw_only=True):
    """`grpc_metric`: metrics of gRPC calls."""

    methods: Annotated[bool, own("also a group for each method")] = False
    max_names: Annotated[
        int, own("services, and methods, that are counted by name; further ones are counted as `other`")
    ] = 1000


class _Names:
    """The metric groups of services, or of methods: a bounded number, and one for all others."""

    def __init__(self, make: Callable[[str], MetricGroup], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._groups: dict[str, MetricGroup] = {}

    def of(self, name: str, exists: bool) -> MetricGroup:
        """The group of `name`. Clients may invent names: it is only made if a host knows the name."""
        group = self._groups.get(name)
        if group is None:
            if not exists or len(self._groups) >= self._limit:
                name = OTHER
                group = self._groups.get(name)
            if group is None:
                group = self._groups[name] = self._make(name)
        return group


class GrpcMetricFilter(StreamFilter):
    """Counts calls when they end. Cost per call: two lookups and three additions; twice that with methods."""

    def __init__(self, settings: Settings) -> None:
        """Raises FilterConfigError."""
        super().__init__(settings)
        if settings.max_names < 1:
            raise FilterConfigError([(".max_names", "must be 1 or more")])
        self._services = _Names(self._service_group, settings.max_names)
        self._methods = _Names(self._method_group, settings.max_names) if settings.methods else None

    def _service_group(self, name: str) -> MetricGroup:
        return self.context.group(TYPE, ("service", name))

    def _method_group(self, name: str) -> MetricGroup:
        service, _, method = name.rpartition("/")
        return self.context.group(TYPE, ("service", service or OTHER), ("method", method))

    def on_complete(self, exchange: Exchange) -> None:
        status = exchange.call_status
        if status < 0:
            return
        path = exchange.original_path or exchange.request.raw_path
        name = path[1:].decode("latin-1")
        # A host has answered, and not that it has no such method. What happened later does not matter: some streams only end
        # because their clients leave.
        was_answered = exchange.failure is None or exchange.response_received > 0.0
        exists = was_answered and bool(exchange.upstream_address) and status != UNIMPLEMENTED
        self._count(self._services.of(name.rpartition("/")[0], exists), status, exchange)
        if self._methods is not None:
            self._count(self._methods.of(name, exists), status, exchange)

    def _count(self, group: MetricGroup, status: int, exchange: Exchange) -> None:
        group.counter("request_total").value += 1
        group.counter("response_succ_total" if status == OK else "response_fail_total").value += 1
        if status != OK:
            group.counter(f"response_{STATUS_NAMES[status].replace('-', '_')}_total").value += 1
        group.histogram("request_time").record(exchange.finished - exchange.started)


SPEC: Final = FilterSpec(
    "grpc_metric",
    Settings,
    GrpcMetricFilter,
    "for each service, and optionally each method; counts all kinds of calls by their status, and their duration",
)
