"""The network filter of downstream connections that speak HTTP/2."""

from __future__ import annotations

from pymosn.api.network import STOP, Connection
from pymosn.api.stream import ServerStreams, StreamHandler
from pymosn.core.failure import Failure
from pymosn.stream.http2.options import Http2Options
from pymosn.stream.http2.server import ServerConnection


class Http2Server(ServerStreams):
    """Passes the events of a downstream connection on to its server half."""

    def __init__(self, handler: StreamHandler, options: Http2Options) -> None:
        self._server = ServerConnection(handler, options)

    def on_connection(self, connection: Connection) -> None:
        self._server.open(connection)

    def on_data(self, data: bytes) -> bool:
        self._server.on_bytes(data)
        return STOP

    def on_eof(self) -> None:
        self._server.on_eof()

    def on_writable(self, writable: bool) -> None:
        self._server.set_full(not writable)

    def on_idle(self) -> None:
        self._server.on_alarm()

    def on_drain(self) -> None:
        self._server.drain()

    def on_close(self, failure: Failure) -> None:
        self._server.on_lost(failure)

    def kind(self) -> str:
        return "http2"

    def is_idle(self) -> bool:
        return not self._server.streams

    def ends_clearly(self) -> bool:
        return True  # frames mark the end of each message
