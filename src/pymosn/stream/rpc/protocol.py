"""Any multiplexed RPC protocol's entry in the table of protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymosn.api.network import Dialer
from pymosn.api.rpc import MAX_FRAME, RpcSpec
from pymosn.api.stream import ConnectionPool, PoolTarget, ServerStreams, StreamHandler, StreamProtocol
from pymosn.core.timers import TimerWheel
from pymosn.stream.rpc.options import RpcOptions
from pymosn.stream.rpc.pool import RpcPool
from pymosn.stream.rpc.server import RpcServer

#: Bytes of the longest frame that may be allowed.
MOST_FRAME: Final = 0x7FFFFFFF


class RpcProtocol(StreamProtocol):
    """What an `RpcSpec` says, downstream and upstream."""

    def __init__(self, spec: RpcSpec) -> None:
        super().__init__(spec)
        self._rpc = spec

    def options(self, settings: Mapping[str, object], idle_timeout: float) -> object:
        """`max_frame_size` in bytes; `enable_goaway`: clients are asked to go when the worker drains."""
        size = settings.get("max_frame_size", int(MAX_FRAME))
        if not isinstance(size, int) or isinstance(size, bool) or not 64 <= size <= MOST_FRAME:
            raise ValueError(f"max_frame_size is a number of bytes from 64 to {MOST_FRAME}, not {size!r}")
        goaway = settings.get("enable_goaway", False)
        if not isinstance(goaway, bool):
            raise ValueError(f"enable_goaway is true or false, not {goaway!r}")
        return RpcOptions(size, idle_timeout, goaway=goaway)

    def server(self, listener: StreamHandler, options: object) -> ServerStreams:
        assert isinstance(options, RpcOptions)
        return RpcServer(self._rpc, listener, options)

    def pool(self, upstream: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return RpcPool(self._rpc, upstream, dialer, wheel.clock, MAX_FRAME)
