"""MOSN's `dubbo_stream`: Dubbo calls go to virtual hosts by their service, and to subsets by an attachment."""

from __future__ import annotations

from typing import Any, ClassVar

from pymosn.api.exchange import Exchange
from pymosn.api.rpc import RpcRequest
from pymosn.api.stream_filter import StreamFilter


class DubboStreamFilter(StreamFilter):
    """Gives a call the service as its host and `/` as its path, and sets `Dubbo_service` and `Dubbo_method`."""

    protocols: ClassVar[tuple[str, ...]] = ("dubbo", "dubbo-thrift")

    def __init__(self, config: Any) -> None:
        """`config`: `subset`, the name of the header or attachment that subset balancing goes by; empty for none."""
        super().__init__(config)
        self._subset: str = config.subset

    def on_request(self, exchange: Exchange) -> None:
        request = exchange.request
        assert isinstance(request, RpcRequest)
        service = request.service()
        request.raw_host = service.lower().encode("utf-8", "surrogateescape")
        request.raw_path = b"/"
        exchange.set_variable("Dubbo_service", service)
        exchange.set_variable("Dubbo_method", request.method)
        if self._subset:
            value = request.headers.get(self._subset)
            if value is not None:
                exchange.choose(subset={self._subset: value})
