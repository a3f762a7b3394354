"""The client half of an HTTP/1 connection, and the pool that keeps idle connections.

A connection serves one request at a time. To the pool it is

    dialing   counted by the cluster; belongs to the receiver that asked, or to the pool if that has withdrawn
    busy      `_stream` is set; not in the pool
    idle      in the pool, with the idle timeout running
    gone      `forget` was called: its permit is free, so that a new connection can replace it before its socket is closed

A busy connection becomes idle when both messages have ended, the host did not ask to close, nothing is unsent or unread, and
it has not served its maximum. Otherwise it is closed.

With the PROXY protocol a connection begins with the addresses of one client, and is for requests of that client alone.

A stream releases its connection (`detach`) before the receiver gets the last event, so that the receiver may already start
the next request on the same connection.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.http import HttpResponse
from pymosn.api.network import NO_CONNECTION, STOP, Connection, Dialer, DialReceiver, NetworkFilter
from pymosn.api.protocol import HEAD, NEED_MORE, ProtocolError
from pymosn.api.stream import ConnectionPool, PoolTarget, RequestSender, ResponseReceiver
from pymosn.core.failure import (
    BAD_RESPONSE,
    CLOSED_BY_PEER,
    CLOSED_LOCALLY,
    IDLE_TIMEOUT,
    OVERFLOW,
    RESET_BEFORE_RESPONSE,
    Failure,
    is_remote_end,
    reset_of,
)
from pymosn.core.headers import Headers
from pymosn.core.message import CONNECT_HERE, RequestHead
from pymosn.network.proxy_protocol import client_preface
from pymosn.protocol.http.limits import RESPONSE_LIMITS
from pymosn.protocol.http.policy import COMPATIBLE, STRICT
from pymosn.protocol.http1.encoder import LAST_CHUNK, encode_chunk, encode_request, encode_trailers
from pymosn.protocol.http1.response import ResponseDecoder
from pymosn.stream.ages import vary

PROTOCOL: Final = "Http1"
ALPN: Final = "http/1.1"
#: Maximum idle connections of one worker to one host.
MAX_IDLE: Final = 512
#: Seconds after which an idle connection that is for one client is closed at the latest: the client may be gone.
ONE_CLIENT_IDLE: Final = 15.0

#: The receiver of a stream that is over; it gets no more events.
NO_RESPONSE_RECEIVER: Final = ResponseReceiver()


class Http1Client(NetworkFilter):
    """One upstream connection."""

    def __init__(self, pool: Http1Pool, preface: bytes, is_strict: bool) -> None:
        """`preface`: what the connection begins with, the PROXY protocol header of its one client; or empty.

        `is_strict`: harmless faults of responses are not tolerated.
        """
        self._pool = pool
        self.preface = preface
        self.decoder = ResponseDecoder(RESPONSE_LIMITS, STRICT if is_strict else COMPATIBLE)
        self.connection: Connection = NO_CONNECTION
        self._stream: Http1ClientStream | None = None
        self._is_full = False
        self.served: i64 = 0
        #: Whether it is counted among the connections of its host.
        self.is_counted = False
        #: When it becomes too old for further requests, by `Clock.now`; 0.0 for never.
        self.old_at = 0.0

    def open_stream(self, receiver: ResponseReceiver) -> Http1ClientStream:
        """A stream for one request; the connection must be free."""
        stream = Http1ClientStream(self, receiver, self.served > 0)
        self._stream = stream
        self.served += 1
        return stream

    def begin_tunnel(self, stream: Http1ClientStream) -> None:
        """Makes the connection, which has carried nothing yet, the tunnel of a CONNECT that ends here."""
        head = HttpResponse(200, b"Connection established")
        head.raw_tunnel = CONNECT_HERE
        self.decoder.begin_tunnel()
        stream.begin_tunnel()
        stream.receiver.on_response(head, self.decoder.unread(), False)

    def on_connection(self, connection: Connection) -> None:
        self.connection = connection

    def on_data(self, data: bytes) -> bool:
        if self._stream is None and self.is_counted:
            self.abort("")  # unsolicited bytes would be mistaken for the response to the next request
            return STOP
        # `on_dialed` may still be pending: the first bytes of a server that speaks first, after a CONNECT, must not be lost.
        self.decoder.feed(data)
        try:
            self._pull()
        except ProtocolError as error:
            self.abort(error.detail)
        return STOP

    def _pull(self) -> None:
        decoder = self.decoder
        while True:
            stream = self._stream
            if stream is None:
                break
            found: i64 = decoder.decode()
            if found == NEED_MORE:
                break
            receiver = stream.receiver
            if found == HEAD:
                head = decoder.head
                if len(head.raw_tunnel) > 0:
                    stream.begin_tunnel()
                elif head.status < 200:
                    stream.has_bytes = True
                    receiver.on_informational(head)
                    continue
                stream.response_began = True
                stream.keeps_alive = decoder.keep_alive
                end = decoder.end
                trailers = decoder.trailers
                if end:
                    self._complete(stream)
                receiver.on_response(head, decoder.data, end and trailers is None)
            else:
                end = decoder.end
                trailers = decoder.trailers
                data = decoder.data
                if end:
                    self._complete(stream)
                if data or trailers is None:
                    receiver.on_data(data, end and trailers is None)
            if end and trailers is not None:
                receiver.on_trailers(trailers)

    def _complete(self, stream: Http1ClientStream) -> None:
        """The response is complete: returns the connection to the pool if it is reusable."""
        self._stream = None
        stream.detach()
        if not stream.keeps_alive:
            self._pool.note_farewell()
        is_usable = stream.keeps_alive and stream.request_ended and not self._is_full
        if is_usable and not self.decoder.has_buffered():
            self._pool.put_back(self)
        else:
            self._pool.drop(self)

    def abort(self, rule: str) -> None:
        """Aborts the connection, which has received something that is not a response. `rule`: which it breaks."""
        stream = self._stream
        if stream is not None:
            stream.broken_rule = rule
        self._stream = None
        self._pool.forget(self, False, stream is not None)
        self.connection.abort(BAD_RESPONSE)
        if stream is not None:
            stream.detach().on_reset(BAD_RESPONSE)

    def cancel(self, stream: Http1ClientStream) -> None:
        """The exchange of `stream` ended before the response was complete, or its tunnel has ended."""
        if self._stream is stream:
            self._stream = None
            is_done = stream.is_tunnel and stream.request_ended
            self._pool.forget(self, False, not is_done)
            if is_done:
                self.connection.close(CLOSED_LOCALLY)
            else:
                self.connection.abort(CLOSED_LOCALLY)

    def on_eof(self) -> None:
        stream = self._stream
        if stream is not None and stream.is_tunnel:
            stream.receiver.on_data(b"", True)
            return
        self._on_end(self.decoder.finish(), CLOSED_BY_PEER)
        self.connection.close(CLOSED_LOCALLY)

    def on_close(self, failure: Failure) -> None:
        self._on_end(False, failure)

    def _on_end(self, completes_response: bool, failure: Failure) -> None:
        stream = self._stream
        self._pool.forget(self, is_remote_end(failure), stream is not None and not completes_response)
        if stream is None:
            return
        self._stream = None
        if self.decoder.has_buffered():
            stream.has_bytes = True
        receiver = stream.detach()
        if completes_response:
            receiver.on_data(b"", True)
        else:
            receiver.on_reset(reset_of(failure, stream.response_began))

    def on_idle(self) -> None:
        if self._stream is None:
            self._pool.forget(self)
            self.connection.close(IDLE_TIMEOUT)

    def on_writable(self, writable: bool) -> None:
        self._is_full = not writable
        if self._stream is not None:
            self._stream.receiver.on_writable(writable)


@mypyc_attr(free_list_len=1)
class Http1ClientStream(RequestSender):
    """One request on an upstream connection."""

    def __init__(self, client: Http1Client, receiver: ResponseReceiver, is_reused: bool) -> None:
        self.receiver = receiver
        self.response_began = False
        self.keeps_alive = True
        self.request_ended = False
        self.is_tunnel = False
        #: Whether any byte of a response has arrived, even of a 1xx: the upstream has the request.
        self.has_bytes = False
        self.broken_rule = ""
        self._client: Http1Client = client
        self._connection: Connection = client.connection
        self._is_reused = is_reused
        self._is_chunked = False
        #: Whether trailers may be forwarded (the client sent `TE: trailers`).
        self._passes_trailers = False
        self._is_attached = True
        self._pauses: i64 = 0

    def begin_tunnel(self) -> None:
        """The connection carries no HTTP any more; everything sent from here on belongs to the tunnel."""
        self.is_tunnel = True
        self.response_began = True
        self.request_ended = False

    def detach(self) -> ResponseReceiver:
        """The response is complete or aborted: lets go of the connection. Returns the receiver of the last event."""
        receiver = self.receiver
        # The receiver refers to its stream: without this only the garbage collector would free the two.
        self.receiver = NO_RESPONSE_RECEIVER
        self._is_attached = False
        while self._pauses > 0:
            self.resume()
        return receiver

    def connection(self) -> Connection:
        return self._connection

    def protocol(self) -> str:
        return PROTOCOL

    def is_reused(self) -> bool:
        return self._is_reused and not self.has_bytes

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        if not self._is_attached:
            return
        if len(head.raw_tunnel) > 0:
            self._request_tunnel(head)
            return
        self._client.decoder.expect(head.raw_method)
        self._is_chunked = head.content_length < 0
        self._passes_trailers = head.accepts_trailers
        self.request_ended = end
        parts = encode_request(head)
        if self._is_chunked:
            parts.extend(encode_chunk(data, end))
        elif len(data) > 0:
            parts.append(data)
        self._connection.write_parts(parts)

    def _request_tunnel(self, head: RequestHead) -> None:
        """Sends a request for a tunnel, which has no content."""
        self.request_ended = True
        if head.raw_tunnel == CONNECT_HERE:
            self._client.begin_tunnel(self)
        else:
            self._client.decoder.expect(head.raw_method, head.raw_tunnel)
            self._connection.write_parts(encode_request(head))

    def send_data(self, data: bytes, end: bool) -> None:
        if not self._is_attached or self.request_ended:
            return
        self.request_ended = end
        if self._is_chunked:
            self._connection.write_parts(encode_chunk(data, end))
        elif data:
            self._connection.write(data)
        if end and self.is_tunnel:
            self._connection.write_eof()

    def send_trailers(self, trailers: Headers) -> None:
        if not self._is_attached or self.request_ended:
            return
        self.request_ended = True
        if self._is_chunked:
            self._connection.write(encode_trailers(trailers) if self._passes_trailers else LAST_CHUNK)

    def fault(self) -> str:
        return self.broken_rule

    def pause(self) -> None:
        if self._is_attached:
            self._pauses += 1
            self._connection.pause_reading()

    def resume(self) -> None:
        if self._pauses > 0:
            self._pauses -= 1
            self._connection.resume_reading()

    def cancel(self) -> None:
        if self._is_attached:
            self._is_attached = False
            self._client.cancel(self)


class _Dial(DialReceiver):
    """A dial in progress, for one receiver or, if that has withdrawn, for the pool."""

    def __init__(self, pool: Http1Pool, client: Http1Client, receiver: ResponseReceiver) -> None:
        self._pool = pool
        self._client = client
        self.receiver: ResponseReceiver | None = receiver

    def on_dialed(self, connection: Connection) -> None:
        self._pool.on_dialed(self, self._client)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self._pool.on_dial_failed(self, failure)


class Http1Pool(ConnectionPool):
    """Idle connections to one host, most recently used first. The module's docstring describes their states."""

    def __init__(self, target: PoolTarget, dialer: Dialer) -> None:
        self._target = target
        self._dialer = dialer
        self._idle: list[Http1Client] = []
        self._dials: list[_Dial] = []
        self._is_closed = False

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        idle = self._idle
        version = self._target.proxy_protocol
        preface = client_preface(version, receiver.client_connection()) if version else b""
        while idle and not fresh:
            client = idle.pop() if idle[-1].preface == preface else self._pop_idle(preface)
            if client is None:
                break
            if not client.connection.is_closed:
                client.connection.set_idle(0.0)
                receiver.on_sender(client.open_stream(receiver))
                return
        if fresh and idle:
            # Replaces an idle connection that is probably stale as well.
            self.drop(idle[0])
        if preface and idle and self._target.is_full():
            self.drop(idle[0])  # of another client: its permit is for this one
        if not self._target.try_connection():
            receiver.on_no_sender(OVERFLOW)
            return
        client = Http1Client(self, preface, self._target.is_strict)
        dial = _Dial(self, client, receiver)
        self._dials.append(dial)
        peer = self._target.peer_for(ALPN, False, self.offer)
        self._dialer.dial(peer, self._target.connect_timeout, client, dial, preface)

    def _pop_idle(self, preface: bytes) -> Http1Client | None:
        """Removes an idle connection that has begun with `preface` from the pool; None if there is none."""
        for client in reversed(self._idle):
            if client.preface == preface:
                self._idle.remove(client)
                return client
        return None

    def withdraw(self, receiver: ResponseReceiver) -> None:
        for dial in self._dials:
            if dial.receiver is receiver:
                dial.receiver = None

    def on_dialed(self, dial: _Dial, client: Http1Client) -> None:
        """A connection is open."""
        self._dials.remove(dial)
        self._count(client)
        receiver = dial.receiver
        if client.connection.is_closed:
            self.forget(client)
            if receiver is not None:
                receiver.on_no_sender(RESET_BEFORE_RESPONSE)
        elif receiver is None:
            self.put_back(client)
        else:
            receiver.on_sender(client.open_stream(receiver))
        if client.decoder.has_buffered():  # bytes before the first request that belong to no tunnel
            client.abort("")

    def _count(self, client: Http1Client) -> None:
        """A connection is open."""
        target = self._target
        target.on_connection()
        client.is_counted = True
        if target.buffer_limit > 0:
            client.connection.set_buffer_limit(target.buffer_limit)
        if target.max_connection_age > 0.0:
            client.old_at = client.connection.now() + vary(target.max_connection_age)

    def adopt(self, connection: Connection, data: bytes) -> None:
        client = Http1Client(self, b"", self._target.is_strict)
        connection.replace_filters([client])
        client.on_connection(connection)
        self._count(client)
        if data:
            client.abort("")  # nothing has been asked for
        else:
            self.put_back(client)

    def on_dial_failed(self, dial: _Dial, failure: Failure) -> None:
        """A connection could not be opened."""
        self._dials.remove(dial)
        self._target.on_connection_end(False)
        if dial.receiver is not None:
            dial.receiver.on_no_sender(failure)

    def put_back(self, client: Http1Client) -> None:
        """Returns a free connection to the pool; closes it if the pool is closed or full, or it is worn out."""
        limit = self._target.max_requests_per_connection
        is_old = client.old_at > 0.0 and client.connection.now() >= client.old_at
        if self._is_closed or is_old or len(self._idle) >= MAX_IDLE or 0 < limit <= client.served:
            self.drop(client)
        elif not client.connection.is_closed:
            self._idle.append(client)
            timeout = self._target.idle_timeout
            if client.preface and not 0.0 < timeout < ONE_CLIENT_IDLE:
                timeout = ONE_CLIENT_IDLE
            client.connection.set_idle(timeout)

    def note_farewell(self) -> None:
        """The host closes a connection after its response."""
        self._target.note_farewell()

    def forget(self, client: Http1Client, is_remote: bool = False, has_request: bool = False) -> None:
        """Removes the connection from the pool; its permit is free at once, before the socket closes.

        `is_remote`, `has_request`: see `PoolTarget.note_close`.
        """
        if client in self._idle:
            self._idle.remove(client)
        if client.is_counted:
            client.is_counted = False
            self._target.on_connection_end(True)
            self._target.note_close(is_remote, has_request)

    def drop(self, client: Http1Client) -> None:
        """Forgets a connection without a stream, and closes it."""
        self.forget(client)
        client.connection.close(CLOSED_LOCALLY)

    def close(self) -> None:
        self._is_closed = True
        while self._idle:
            self.drop(self._idle[-1])
