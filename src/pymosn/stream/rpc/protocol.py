"""Any multiplexed RPC protocol as an entry in the table of protocols."""

from __future__ import annotations

from collections.abc import Mapping

from pymosn.api.network import Dialer
from pymosn.api.rpc import MAX_FRAME, RpcSpec
from pymosn.api.stream import ConnectionPool, ListenerFacts, PoolTarget, ServerStreams, StreamHandler, StreamProtocol
from pymosn.core.timers import TimerWheel
from pymosn.stream.rpc.client import RpcPool
from pymosn.stream.rpc.options import RpcOptions, read_rpc_options
from pymosn.stream.rpc.server import RpcServer


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
        return RpcPool(self._rpc, target, dialer, wheel.clock, MAX_FRAME)
