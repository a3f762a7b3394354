"""HTTP/1 as an entry in the table of protocols."""

from __future__ import annotations

from collections.abc import Mapping

from pymosn.api.network import Dialer
from pymosn.api.stream import ConnectionPool, ListenerFacts, PoolTarget, ServerStreams, StreamHandler, StreamProtocol
from pymosn.core.timers import TimerWheel
from pymosn.protocol.http1.spec import Http1Spec
from pymosn.stream.http1.client import Http1Pool
from pymosn.stream.http1.options import Http1Options, read_http1_options
from pymosn.stream.http1.server import Http1Server


class Http1Protocol(StreamProtocol):
    """HTTP/1.0 and 1.1, downstream and upstream."""

    def __init__(self) -> None:
        super().__init__(Http1Spec())

    def options(self, settings: Mapping[str, object], facts: ListenerFacts) -> object:
        return read_http1_options(settings, facts)

    def server(self, handler: StreamHandler, options: object) -> ServerStreams:
        assert isinstance(options, Http1Options)
        return Http1Server(handler, options)

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return Http1Pool(target, dialer)
