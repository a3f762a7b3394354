"""HTTP/1's entry in the table of protocols."""

from __future__ import annotations

from pymosn.api.network import Dialer
from pymosn.api.stream import ConnectionPool, PoolTarget, ServerStreams, StreamHandler, StreamProtocol
from pymosn.core.timers import TimerWheel
from pymosn.protocol.http1.spec import Http1Spec
from pymosn.stream.http1.client import Http1Pool
from pymosn.stream.http1.options import Http1Options
from pymosn.stream.http1.server import Http1Server


class Http1Protocol(StreamProtocol):
    """HTTP/1.0 and 1.1, downstream and upstream."""

    def __init__(self) -> None:
        super().__init__(Http1Spec())

    def server(self, listener: StreamHandler, options: object) -> ServerStreams:
        assert isinstance(options, Http1Options)
        return Http1Server(listener, options)

    def pool(self, upstream: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return Http1Pool(upstream, dialer)
