"""The HTTP/2 connections of one worker to one host.

All requests share one connection until it has as many streams as the host allows; then another one is opened, up to the
cluster's `max_connections`, or MOST_CONNECTIONS if that is not set. A request gets the connection with the fewest streams.

A host that answers the first bytes in HTTP/1, or selects HTTP/1 by ALPN, is asked for nothing else from then on
(`PoolTarget.speak_instead`); its requests fail with HTTP1_HOST, and are sent again.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.alpn import plain_name
from pymosn.api.network import STOP, Connection, Dialer
from pymosn.api.stream import PoolTarget, RequestSender, ResponseReceiver
from pymosn.core.clock import Clock
from pymosn.core.failure import (
    CLOSED_BY_PEER,
    CLOSED_LOCALLY,
    HTTP1_HOST,
    IDLE_TIMEOUT,
    RESET_BEFORE_RESPONSE,
    Failure,
    is_remote_end,
)
from pymosn.protocol.http.limits import RESPONSE_LIMITS
from pymosn.stream.http2.client import FALL_BACK, INITIAL_STREAMS, PROTOCOL, ClientConnection
from pymosn.stream.http2.client_owner import ClientOwner
from pymosn.stream.http2.options import CONNECTION_WINDOW, ConnectionOptions
from pymosn.stream.shared import SharedConnection, SharedPool

ALPN: Final = "h2"
_HTTP1_ALPN: Final = "http/1."
#: Connections to one host, if the cluster sets no limit.
MOST_CONNECTIONS: Final[i64] = 128
#: Bytes of content that a host may send on one stream before the client has taken some, unless the cluster sets it.
STREAM_WINDOW: Final[i64] = 256 * 1024
#: The first bytes of a host that answers in HTTP/1; and of a page without a status line, as by Python's `http.server`, to
#: which the preface is a request of HTTP/0.9.
_HTTP1: Final = b"HTTP/1."
_PAGE: Final = b"<"


def client_options(target: PoolTarget) -> ConnectionOptions:
    """The options of a connection to `target`."""
    has_pings = target.ping_interval > 0.0 and target.heartbeat_failures > 0
    return ConnectionOptions(
        limits=RESPONSE_LIMITS,
        max_concurrent_streams=0,
        stream_window=target.stream_window or STREAM_WINDOW,
        connection_window=target.connection_window or CONNECTION_WINDOW,
        max_frame_size=16384,
        header_table_size=4096,
        keepalive_interval=target.ping_interval if has_pings else 0.0,
        keepalive_timeout=target.heartbeat_timeout,
        max_connection_age=0.0,  # the pool ends them
        max_connection_age_grace=0.0,
    )


class Http2Pool(SharedPool):
    """The connections to one host."""

    def __init__(self, target: PoolTarget, dialer: Dialer, clock: Clock) -> None:
        super().__init__(target, dialer, clock, False)
        self.alpn = ALPN
        self.unset_maximum = MOST_CONNECTIONS
        # How many streams a connection to this host has, as far as is known.
        self._streams: i64 = INITIAL_STREAMS

    def new_connection(self) -> SharedConnection:
        client = Http2Client(self, client_options(self._target), self._target.idle_timeout)
        if self._streams < INITIAL_STREAMS:
            client.http2.expected_streams = self._streams
        return client

    def needs_connection(self, chosen: SharedConnection | None) -> bool:
        if chosen is not None or not self._are_exhausted():
            return False
        return self._dials == 0 or len(self._waiting) >= self._dials * self._streams

    def on_waiting(self) -> None:
        if self._may_grow() and len(self._waiting) > self._dials * self._streams and self._are_exhausted():
            self._dial()

    def _are_exhausted(self) -> bool:
        """Whether no connection has a stream left; False if the host allows none at all, as no other would help."""
        for shared in self._open:
            if isinstance(shared, Http2Client) and (shared.http2.has_free_stream() or self._streams == 0):
                return False
        return True

    def watch(self, shared: SharedConnection) -> None:
        """The connection has alarms of its own."""

    def note_limit(self, streams: i64) -> None:
        """The host has announced how many streams a connection may have."""
        self._streams = streams

    def on_http1_host(self) -> None:
        """The host does not speak HTTP/2."""
        self._target.speak_instead(PROTOCOL, FALL_BACK)
        self._is_closed = True
        for shared in list(self._open):
            shared.retire()
        self.refuse_waiting(HTTP1_HOST)


class _Owner(ClientOwner):
    """Passes on to the filter what concerns the pool."""

    def __init__(self, client: Http2Client) -> None:
        self._client = client

    def on_free_stream(self) -> None:
        self._client.on_free_stream()

    def on_end(self) -> None:
        self._client.pool.note_farewell()
        self._client.retire()

    def on_worn(self) -> None:
        self._client.grow_old()

    def on_lost(self) -> None:
        self._client.forget(False, self._client.http2.active > 0)

    def on_idle_too_long(self) -> None:
        self._client.on_idle_too_long()

    def on_http1(self) -> None:
        self._client.pool.on_http1_host()


class Http2Client(SharedConnection):
    """One connection, as the pool and the socket see it."""

    def __init__(self, pool: Http2Pool, options: ConnectionOptions, idle_timeout: float) -> None:
        super().__init__(pool)
        self.pool = pool
        self.http2 = ClientConnection(_Owner(self), options, idle_timeout)
        # The first bytes, until it is known in which protocol the host answers.
        self._has_begun = False
        self._first = b""

    # ---- called by the pool

    def load(self) -> i64:
        return self.http2.active

    def room(self) -> bool:
        # Even if the socket is full: with one large upload, the heads of other requests are not what fills it.
        return self.http2.has_free_stream() and not self.connection.is_closed

    def open_stream(self, receiver: ResponseReceiver) -> RequestSender:
        self.served += 1
        return self.http2.open_stream(receiver, self.served > 1 and self.http2.active == 0)

    def on_never_open(self, failure: Failure) -> None:
        self.http2.on_lost(failure)

    def break_off(self, failure: Failure) -> None:
        self.forget(False, self.http2.active > 0)
        self.http2.on_lost(failure)
        self.connection.abort(failure)

    def forget(self, is_remote: bool = False, has_request: bool = False) -> None:
        """Leaves the pool. `is_remote`, `has_request`: see `PoolTarget.note_close`."""
        self._pool.forget(self, is_remote, has_request)

    def close_if_done(self) -> None:
        if self.is_retired and self.http2.active == 0 and not self.connection.is_closed:
            self.http2.send_goaway()
            if self.http2.has_tail:
                self.connection.close_lingering(CLOSED_LOCALLY)  # a reset of TCP would destroy it
            else:
                self.connection.close(CLOSED_LOCALLY)

    # ---- called by the connection's streams

    def on_free_stream(self) -> None:
        """The connection may take more streams than before."""
        if self.http2.has_settings:
            self.pool.note_limit(self.http2.limit())
        if self.is_retired:
            self.close_if_done()
        elif self.http2.is_used_up():
            self.retire()
        else:
            self._pool.on_room()

    def on_idle_too_long(self) -> None:
        """It has had no stream for its idle timeout."""
        self.forget()
        self.http2.send_goaway()
        self.connection.close(IDLE_TIMEOUT)

    # ---- called by the socket

    def on_connection(self, connection: Connection) -> None:
        super().on_connection(connection)
        # Other names than those of HTTP are agreements with the host, such as Istio's, which do not change the protocol.
        if plain_name(connection.alpn).startswith(_HTTP1_ALPN):
            self.pool.on_http1_host()
            connection.close(CLOSED_LOCALLY)
        else:
            self.http2.open(connection)

    def on_data(self, data: bytes) -> bool:
        if not self._has_begun:
            data = self._first + data
            if _HTTP1.startswith(data[: len(_HTTP1)]) and not data.startswith(_HTTP1):
                self._first = data
                return STOP
            self._has_begun = True
            self._first = b""
            if data.startswith((_HTTP1, _PAGE)):
                self._refuse()
                return STOP
        self.http2.receive(data)
        return STOP

    def _refuse(self) -> None:
        """The host answers in HTTP/1: it has processed nothing."""
        self.pool.on_http1_host()
        self.break_off(HTTP1_HOST)

    def on_idle(self) -> None:
        self.http2.on_alarm()

    def on_writable(self, writable: bool) -> None:
        self.http2.set_full(not writable)

    def on_eof(self) -> None:
        self.forget(True, self.http2.active > 0)
        self.http2.on_lost(CLOSED_BY_PEER)
        self.connection.close(CLOSED_LOCALLY)

    def on_close(self, failure: Failure) -> None:
        self.forget(is_remote_end(failure), self.http2.active > 0)
        self.http2.on_lost(failure if failure is not CLOSED_LOCALLY else RESET_BEFORE_RESPONSE)
