"""The built-in protocols, in the order in which `Auto` tries them. A new RPC protocol is one entry below."""

from __future__ import annotations

from collections.abc import Mapping

from pymosn.api.network import Dialer
from pymosn.api.rpc import RpcSpec
from pymosn.api.stream import ConnectionPool, ListenerFacts, PoolTarget, ServerStreams, StreamHandler, StreamProtocol
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.protocol.bolt.codec import BoltSpec
from pymosn.protocol.bolt.frames import V1, V2
from pymosn.protocol.dubbo.codec import DubboSpec
from pymosn.protocol.dubbothrift.codec import ThriftSpec
from pymosn.protocol.http1.spec import Http1Spec
from pymosn.protocol.http2.spec import Http2Spec
from pymosn.protocol.tars.codec import TarsSpec
from pymosn.stream.http.options import HttpOptions, read_http_options
from pymosn.stream.http1.client import Http1Pool
from pymosn.stream.http1.server import Http1Server
from pymosn.stream.http2.options import Http2Options, read_http2_options
from pymosn.stream.http2.pool import Http2Pool
from pymosn.stream.http2.server_filter import Http2Server
from pymosn.stream.rpc.client import RpcPool
from pymosn.stream.rpc.options import RpcOptions, read_rpc_options
from pymosn.stream.rpc.server import RpcServer


class Http1Protocol(StreamProtocol):
    """HTTP/1.0 and 1.1, downstream and upstream."""

    def __init__(self) -> None:
        super().__init__(Http1Spec())

    def options(self, settings: Mapping[str, object], facts: ListenerFacts) -> object:
        return read_http_options(settings, facts)

    def server(self, handler: StreamHandler, options: object) -> ServerStreams:
        assert isinstance(options, HttpOptions)
        return Http1Server(handler, options)

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return Http1Pool(target, dialer)


class Http2Protocol(StreamProtocol):
    """HTTP/2, downstream and upstream."""

    def __init__(self) -> None:
        super().__init__(Http2Spec())

    def options(self, settings: Mapping[str, object], facts: ListenerFacts) -> object:
        return read_http2_options(settings, facts)

    def server(self, handler: StreamHandler, options: object) -> ServerStreams:
        assert isinstance(options, Http2Options)
        return Http2Server(handler, options)

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return Http2Pool(target, dialer, wheel.clock)


class RpcProtocol(StreamProtocol):
    """The protocol of an `RpcSpec`, downstream and upstream."""

    def __init__(self, spec: RpcSpec) -> None:
        super().__init__(spec)
        self._rpc = spec

    def options(self, settings: Mapping[str, object], facts: ListenerFacts) -> object:
        return read_rpc_options(settings, facts)

    def server(self, handler: StreamHandler, options: object) -> ServerStreams:
        assert isinstance(options, RpcOptions)
        return RpcServer(self._rpc, handler, options)

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return RpcPool(self._rpc, target, dialer, wheel.clock)


def built_protocols() -> list[StreamProtocol]:
    """All protocols that come with pymosn."""
    specs = [BoltSpec(V1), BoltSpec(V2), DubboSpec(), ThriftSpec(), TarsSpec()]
    return [Http1Protocol(), Http2Protocol(), *[RpcProtocol(spec) for spec in specs]]


def protocols() -> Registry[StreamProtocol]:
    """A new registry of the built-in protocols; the caller may add those of installed packages."""
    registry: Registry[StreamProtocol] = Registry("protocol")
    for protocol in built_protocols():
        registry.add(protocol.spec.name, protocol)
    return registry
