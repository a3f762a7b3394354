"""The server half of an HTTP/1 connection: one request at a time, responses in order, keep-alive, timeouts.

`Http1Server` feeds the decoder, pulls frames from it (`_pull`) and passes them to the receiver of the current stream. The
exchange responds through that stream, which calls its `StreamOwner` for what concerns the connection. Everything runs in
one call stack, so an exchange may answer and release its stream while `_pull` is still delivering the request; the guard
`_pulling` keeps that from decoding the next request inside the current one.

There is at most one stream. Pipelined bytes wait in the decoder until it is released, and reading is paused (`_is_paused`),
so that a client cannot make us buffer more than one read. `_reading` is the kind of the bytes that arrive:

    REQUESTS   heads and bodies; no part of a head is waiting
    HEAD_PART  part of a head has arrived, and `header_timeout` runs
    TUNNEL     not HTTP any more: they belong to the current stream until both directions have ended
    BROKEN     they cannot be parsed; the connection ends with the current response

    REQUESTS -> HEAD_PART -> REQUESTS    a head arrives in parts
    REQUESTS -> TUNNEL                   a 101 or the 2xx to a CONNECT was sent
    REQUESTS, HEAD_PART -> BROKEN        malformed, too large or too slow

Independent of that, `is_last` means that no further request will be served, even if one is buffered: the client sent
`connection: close` or half-closed (`_has_eof`), the bytes are broken, the connection has served its maximum, or the worker
drains. If it is known in time, the response carries `connection: close`. `_is_full` means that the client does not read its
responses: no further one is started before the send buffer has drained.

A connection that is to move to another process (`_is_departing`, docs/upgrade.md) is paused after its present response, and
offered for the move. The part of a head that has arrived goes along, and so do pipelined requests.

The connection's only timeout is, in turn: `idle_timeout` between requests, `header_timeout` in a head, `body_timeout`
while a body is awaited, `half_close_timeout` after a half-close, `DRAIN_GRACE` while draining. While a response is awaited
it has no effect; that time belongs to the exchange.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, u8

from pymosn.api.network import DRAIN_GRACE, NO_CONNECTION, STOP, Connection, Passage, elapsed
from pymosn.api.protocol import HEAD, NEED_MORE, ProtocolError
from pymosn.api.stream import StreamHandler
from pymosn.core.failure import (
    BODY_TOO_SLOW,
    CLIENT_GONE,
    CLIENT_WRITE_TIMEOUT,
    CLOSED_BY_PEER,
    CLOSED_LOCALLY,
    DRAINING,
    HEADS_FULL,
    IDLE_TIMEOUT,
    REQUEST_TIMEOUT,
    STREAM_IDLE,
    TLS_BROKEN,
    TLS_TRUNCATED,
    TRUNCATED_BODY,
    TRUNCATED_HEAD,
    Failure,
)
from pymosn.core.message import CONNECT, RequestHead
from pymosn.core.timers import NEVER
from pymosn.protocol.http1.request import RequestDecoder
from pymosn.stream.http.options import HttpOptions
from pymosn.stream.http1.server_stream import Http1ServerStream, StreamOwner

#: The kinds of bytes that arrive; see the module's docstring.
REQUESTS: Final[u8] = 0
HEAD_PART: Final[u8] = 1
TUNNEL: Final[u8] = 2
BROKEN: Final[u8] = 3


class Http1Server(StreamOwner):
    """One downstream connection. The module's docstring describes its states."""

    def __init__(self, handler: StreamHandler, options: HttpOptions) -> None:
        super().__init__()
        self._reading: u8 = REQUESTS
        self._pulling = False
        self._is_paused = False
        self._has_eof = False
        self._is_full = False
        self._is_departing = False
        self._handler = handler
        self._options = options
        self._decoder = RequestDecoder(options.limits, options.policy, options.connect)
        self._connection: Connection = NO_CONNECTION
        self._stream: Http1ServerStream | None = None
        #: Bytes of an incomplete head that are counted in the worker's overload state.
        self._head_size: i64 = 0
        self._requests: i64 = 0
        # After which no further request is accepted.
        self._age_end: float = NEVER

    # ---- called by the connection

    def on_connection(self, connection: Connection) -> None:
        self._connection = connection
        self._decoder.scheme = connection.scheme.encode()
        if self._options.max_age > 0.0:
            self._age_end = connection.now() + self._options.max_age
        connection.set_idle(self._idle_time())

    def _idle_time(self) -> float:
        """Seconds for which the connection may wait for a request; 0: no limit."""
        idle = self._options.idle_timeout
        if self._age_end == NEVER:
            return idle
        left = max(self._age_end - self._connection.now(), DRAIN_GRACE)
        return min(idle, left) if idle > 0.0 else left

    def on_data(self, data: bytes) -> bool:
        if self._reading == TUNNEL:
            self._on_tunnel_data(data, False)
            return STOP
        self._decoder.feed(data)
        self._pull()
        return STOP

    def on_eof(self) -> None:
        stream = self._stream
        self.is_last = True
        self._has_eof = True
        if stream is None:
            if self._decoder.has_begun() and self._reading != BROKEN:
                self._reject(TRUNCATED_HEAD)
            else:
                self._connection.close(CLOSED_LOCALLY)
        elif self._reading == TUNNEL:
            self._on_tunnel_data(b"", True)
        elif not stream.request_ended:
            stream.request_ended = True
            stream.receiver.on_reset(TRUNCATED_BODY)
        elif not stream.head_sent:
            self._connection.set_idle(self._options.half_close_timeout)

    def on_writable(self, writable: bool) -> None:
        self._is_full = not writable
        if self._stream is not None:
            self._stream.receiver.on_writable(writable)
        elif writable and self._is_departing:
            self._offer()
        elif writable and self._is_paused:
            self._resume()

    def on_idle(self) -> None:
        stream = self._stream
        if stream is None:
            if self._reading == HEAD_PART:
                self._reject(REQUEST_TIMEOUT)
            else:
                self._connection.close(IDLE_TIMEOUT)
        elif not stream.request_ended:
            if stream.pauses > 0:
                self._connection.set_idle(self._options.body_timeout)  # the silence is due to our own pause
            else:
                self._reset_request(REQUEST_TIMEOUT)
        elif self._has_eof and not stream.head_sent:
            stream.receiver.on_reset(CLIENT_GONE)

    def on_drain(self) -> None:
        self.is_last = True
        if self._stream is None and self._reading != HEAD_PART:
            # Not at once: a request that is already on its way would be lost.
            self._connection.set_idle(DRAIN_GRACE)

    def on_close(self, failure: Failure) -> None:
        stream = self._stream
        if stream is not None:
            stream.request_ended = True
            stream.response_ended = True
            is_told = failure is CLIENT_WRITE_TIMEOUT or failure is TLS_TRUNCATED or failure is TLS_BROKEN
            is_told = is_told or (failure is DRAINING and stream.head_sent)
            stream.receiver.on_reset(failure if is_told else CLIENT_GONE)
        elif self._reading == HEAD_PART and (failure is CLOSED_BY_PEER or failure is TLS_TRUNCATED):
            self._reject(CLIENT_GONE)
        self._set_head_size(0)

    # ---- requests

    def _pull(self) -> None:
        """Takes frames from the decoder, up to the end of the current request."""
        if self._pulling:
            return
        self._pulling = True
        decoder = self._decoder
        try:
            while not self._connection.is_closed and self._reading != BROKEN:
                stream = self._stream
                if (stream is None and self._is_full) or (stream is not None and stream.request_ended):
                    if not self._is_paused and decoder.has_buffered():
                        self._is_paused = True
                        self._connection.pause_reading()
                    break
                found: i64 = decoder.decode()
                if found == NEED_MORE:
                    self._await_more(stream)
                    break
                if found == HEAD:
                    self._start_request()
                elif stream is not None:
                    stream.deliver(decoder.data, decoder.end, decoder.trailers)
        except ProtocolError as error:
            self._reset_request(error.failure)
        finally:
            self._pulling = False

    def _start_request(self) -> None:
        decoder = self._decoder
        head = decoder.head
        stream = Http1ServerStream(self, self._connection, decoder.minor_version, head.raw_method)
        stream.passes_trailers = head.accepts_trailers
        self._stream = stream
        self._reading = REQUESTS
        if self._head_size > 0:
            self._set_head_size(0)
        head.scheme = self._connection.scheme
        self._requests += 1
        if not decoder.keep_alive or self._requests == self._options.max_requests:
            self.is_last = True
        if self._age_end < NEVER and self._age_end <= self._connection.now():
            self.is_last = True
        if len(head.raw_tunnel) > 0:
            self._check_tunnel(head)
        receiver = self._handler.new_stream(stream)
        stream.receiver = receiver
        stream.request_ended = decoder.end
        if not decoder.end:
            self._connection.set_idle(self._options.body_timeout)
        receiver.on_request(head, decoder.data, decoder.end and decoder.trailers is None)
        if decoder.end and decoder.trailers is not None:
            stream.receiver.on_trailers(decoder.trailers)  # ignored if the exchange is already over

    def _check_tunnel(self, head: RequestHead) -> None:
        """Ignores an upgrade that the listener does not allow; a CONNECT is the connection's last request."""
        if head.raw_tunnel == self._options.connect:
            # If it is rejected, the bytes that the client sent for its tunnel must not be taken for a request.
            self.is_last = True
        elif head.raw_tunnel not in self._options.upgrades:
            head.raw_tunnel = b""

    def _await_more(self, stream: Http1ServerStream | None) -> None:
        """Arms the timeout for the missing bytes of a head or body, or rejects the request."""
        if stream is not None:
            if self._is_too_slow(stream):
                self._reset_request(BODY_TOO_SLOW)
            else:
                self._connection.set_idle(self._options.body_timeout)
        elif not self._decoder.has_begun():
            if self._has_eof:
                self._connection.close(CLOSED_LOCALLY)
        elif self._has_eof:
            self._reject(TRUNCATED_HEAD)
        else:
            self._set_head_size(self._decoder.buffered_size())
            if 0 < self._options.overload.max_head_bytes < self._options.overload.head_bytes:
                self._reject(HEADS_FULL)
            elif self._reading != HEAD_PART:
                self._reading = HEAD_PART
                self._connection.set_idle(self._options.header_timeout)

    def _set_head_size(self, size: i64) -> None:
        self._options.overload.head_bytes += size - self._head_size
        self._head_size = size

    def _is_too_slow(self, stream: Http1ServerStream) -> bool:
        """Whether less of the body arrived in the last `body_timeout` than `body_min_rate` requires.

        Not while we do not read, nor once the response has begun: in bidirectional streaming the client may be silent.
        """
        options = self._options
        if options.body_min_rate == 0.0 or stream.pauses > 0 or stream.head_sent:
            stream.slice_end = 0.0
            return False
        now = self._connection.now()
        if now < stream.slice_end:
            return False
        is_slow = stream.slice_end > 0.0 and self._connection.bytes_read < stream.slice_goal
        stream.slice_end = now + options.body_timeout
        stream.slice_goal = self._connection.bytes_read + i64(options.body_min_rate * options.body_timeout)
        return is_slow

    def _resume(self) -> None:
        """Resumes reading after a pause."""
        self._is_paused = False
        self._connection.resume_reading()
        self._pull()

    def _reject(self, failure: Failure) -> None:
        """Rejects an unacceptable request. It still becomes an exchange, which answers, counts and logs it."""
        self.is_last = True
        self._reading = BROKEN
        self._set_head_size(0)
        head = self._decoder.refused_head()
        stream = Http1ServerStream(self, self._connection, 1, head.raw_method)
        self._stream = stream
        stream.receiver = self._handler.new_stream(stream)
        stream.receiver.on_refused(head, failure)

    def _reset_request(self, failure: Failure) -> None:
        """Rejects a request whose head cannot be read to its end, or resets one whose body cannot."""
        stream = self._stream
        if stream is None:
            self._reject(failure)
        else:
            self.is_last = True
            self._reading = BROKEN
            stream.receiver.on_reset(failure)

    # ---- a tunnel

    def begin_tunnel(self, stream: Http1ServerStream) -> None:
        self._reading = TUNNEL
        stream.request_ended = False
        self._connection.set_idle(0.0)
        rest = self._decoder.unread()
        if self._is_paused:
            self._is_paused = False
            self._connection.resume_reading()
        if rest:
            self._on_tunnel_data(rest, False)
        if self._has_eof:
            self._on_tunnel_data(b"", True)

    def _on_tunnel_data(self, data: bytes, end: bool) -> None:
        stream = self._stream
        if stream is not None and not stream.request_ended:
            stream.request_ended = end
            stream.receiver.on_data(data, end)

    # ---- called by the stream

    def abort_response(self, failure: Failure) -> None:
        # Not by a reset, which could destroy bytes that the client has not read yet (hostile case E4).
        if self._is_full and failure is STREAM_IDLE:
            self._connection.abort(failure)  # the client does not read
        elif self._has_eof:
            self._connection.close(failure)
        else:
            self._connection.close_lingering(failure)

    def on_release(self, stream: Http1ServerStream) -> None:
        if self._stream is not stream:
            return
        self._stream = None
        connection = self._connection
        if connection.is_closed:
            return
        if not stream.response_ended:
            connection.abort(CLOSED_LOCALLY)
        elif self._reading == TUNNEL:
            connection.close(CLOSED_LOCALLY)
        elif not self._has_eof and (not stream.request_ended or stream.announced_close):
            # More bytes may be on their way, even if the client itself asked to close. They would trigger a reset if the
            # connection were closed now, which could destroy the part of the response that the client has not read yet.
            connection.close_lingering(CLOSED_LOCALLY)
        elif stream.announced_close or (self._has_eof and not self._decoder.has_buffered()):
            connection.close(CLOSED_LOCALLY)
        else:
            # `is_last` without `connection: close`: the worker began to drain after the response's head was sent.
            connection.set_idle(DRAIN_GRACE if self.is_last else self._idle_time())
            if self._is_departing and not self.is_last:
                self._offer()
            elif self._is_paused and not self._is_full:
                self._resume()

    # ---- a move to another process

    def departs(self) -> bool:
        return self._reading < TUNNEL and not self.is_last

    def on_depart(self, moves: bool) -> None:
        self._is_departing = moves
        if not moves:
            self.is_last = True  # an idle client is notified by its next response, a silent one is closed at the end

    def departure(self) -> Passage | None:
        if self._stream is not None or self._is_full or self._pulling or not self.departs():
            return None
        passage = Passage("Http1", self._decoder.peek())
        passage.requests = self._requests
        connection, options = self._connection, self._options
        if self._age_end < NEVER:
            passage.age = options.max_age - (self._age_end - connection.now())
        if self._reading == HEAD_PART:
            passage.idle = elapsed(connection, options.header_timeout)
        elif not passage.data and self._age_end == NEVER:
            passage.idle = elapsed(connection, options.idle_timeout)
        return passage

    def _offer(self) -> None:
        """Pauses the connection before its next request, and offers it for the move."""
        if not self._is_paused:
            self._is_paused = True
            self._connection.pause_reading()
        self._connection.may_depart()

    def hold(self, is_held: bool) -> bool:
        # A busy one is not paused: it offers itself after its response, and until then its client may leave.
        if not is_held and self._is_paused and self._stream is None and not self._is_full:
            self._resume()
        return False

    def on_arrival(self, passage: Passage) -> None:
        most = self._options.max_requests
        self._requests = min(passage.requests, most - 1) if most > 0 else passage.requests
        if self._age_end < NEVER:
            self._age_end -= passage.age
            self._connection.set_idle(self._idle_time())

    def kind(self) -> str:
        stream = self._stream
        if self._reading != TUNNEL or stream is None:
            return "http1"
        return "connect" if stream.method == CONNECT else "websocket"

    def is_idle(self) -> bool:
        return self._stream is None

    def ends_clearly(self) -> bool:
        stream = self._stream
        return stream is None or not stream.head_sent  # else its body may last until the end
