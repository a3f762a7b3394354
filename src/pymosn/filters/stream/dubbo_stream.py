"""MOSN's `dubbo_stream`: routes Dubbo calls to virtual hosts by their service, and to subsets by an attachment."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec

from pymosn.api.exchange import Exchange
from pymosn.api.rpc import RpcRequest
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.counters import MetricGroup
from pymosn.filters.settings import Block, own, works
from pymosn.filters.spec import FilterSpec


class Settings(Block, kw_only=True):
    """`dubbo_stream`: virtual hosts by service, subsets by an attachment."""

    subset: Annotated[str, works("a header or attachment whose value the host's metadata must have")] = ""
    max_names: Annotated[
        int, msgspec.Meta(ge=1), own("methods of services that are counted by name; calls of further ones are `other`")
    ] = 1000


#: MOSN's type of these metrics, and the names of what exceeds the limit.
TYPE: Final = "mosn"
OTHER: Final = "other"


class _Counts:
    """The counters of one method of a service, with MOSN's keys."""

    def __init__(self, group: MetricGroup) -> None:
        self.requests = group.counter("request_total")
        self.succeeded = group.counter("response_succ_total")
        self.failed = group.counter("response_fail_total")


class DubboStreamFilter(StreamFilter):
    """Gives a call the service as its host and `/` as its path, and sets `Dubbo_service` and `Dubbo_method`.

    Counts calls when they end, by service and method. Clients may invent names: only those of calls that a host has answered
    get counters of their own.
    """

    protocols: ClassVar[tuple[str, ...]] = ("dubbo", "dubbo-thrift")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._subset = settings.subset
        self._limit = settings.max_names
        self._counts: dict[tuple[str, str], _Counts] = {}

    def on_request(self, exchange: Exchange) -> None:
        request = exchange.request
        assert isinstance(request, RpcRequest)
        service = request.service()
        request.raw_host = service.lower().encode("utf-8", "surrogateescape")
        request.raw_path = b"/"
        exchange.set_variable("Dubbo_service", service)
        exchange.set_variable("Dubbo_method", request.method)
        value = request.headers.single(self._subset) if self._subset else None
        if value is not None:
            exchange.choose(subset={self._subset: value})

    def on_complete(self, exchange: Exchange) -> None:
        request, response = exchange.request, exchange.response
        if not isinstance(request, RpcRequest):
            return
        name = (request.service(), request.method)
        counts = self._counts.get(name)
        if counts is None:
            counts = self._new_counts(name, exchange.response_received > 0.0)
        counts.requests.value += 1
        if response is not None and response.status == 200 and exchange.failure is None:
            counts.succeeded.value += 1
        elif response is not None or exchange.failure is not None:  # else nothing was to be answered
            counts.failed.value += 1

    def _new_counts(self, name: tuple[str, str], exists: bool) -> _Counts:
        group = None
        if exists:
            group = self.context.bounded_group(self._limit, TYPE, ("service", name[0]), ("method", name[1]))
        if group is None:
            return _Counts(self.context.group(TYPE, ("service", OTHER), ("method", OTHER)))
        found = self._counts[name] = _Counts(group)
        return found


SPEC: Final = FilterSpec(
    "dubbo_stream",
    Settings,
    DubboStreamFilter,
    "counts calls by service and method, as MOSN, but without a label for the listener",
)
