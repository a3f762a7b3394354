"""MOSN's `dubbo_stream`: routes Dubbo calls to virtual hosts by their service, and to subsets by an attachment."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pymosn.api.exchange import Exchange
from pymosn.api.rpc import RpcRequest
from pymosn.api.stream_filter import StreamFilter
from pymosn.filters.settings import Block, works
from pymosn.filters.spec import FilterSpec


class Settings(Block, kw_only=True):
    """`dubbo_stream`: virtual hosts by service, subsets by an attachment."""

    subset: Annotated[str, works("a header or attachment whose value the host's metadata must have")] = ""


class DubboStreamFilter(StreamFilter):
    """Gives a call the service as its host and `/` as its path, and sets `Dubbo_service` and `Dubbo_method`."""

    protocols: ClassVar[tuple[str, ...]] = ("dubbo", "dubbo-thrift")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._subset = settings.subset

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


SPEC: Final = FilterSpec("dubbo_stream", Settings, DubboStreamFilter, "without MOSN's metrics per service and method")
