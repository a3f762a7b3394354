"""The server half of an HTTP/1 connection: one request at a time, replies in order, keep-alive, limits in time."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.network import DRAIN_GRACE, STOP, Connection
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
    TRUNCATED_BODY,
    TRUNCATED_HEAD,
    Failure,
)
from pymosn.core.message import RequestHead
from pymosn.protocol.http1.request import RequestDecoder
from pymosn.stream.http1.options import Http1Options
from pymosn.stream.http1.server_stream import Http1ServerStream, StreamOwner

#: Seconds that a client which closed its sending half has to get the head of its reply. It may only have closed that half,
#: or it may be gone; there is no way to tell, so short exchanges are finished and long ones are not worked on for nobody.
EOF_GRACE: Final = 1.0


class Http1Server(StreamOwner):
    """Makes one stream after the other of the bytes of a downstream connection."""

    def __init__(self, listener: StreamHandler, options: Http1Options) -> None:
        self._listener = listener
        self._options = options
        self._decoder = RequestDecoder(options.limits, options.policy, options.connect)
        self._connection: Connection = Connection()
        self._stream: Http1ServerStream | None = None
        self._pulling = False
        self._held = False
        self._in_head = False
        #: Bytes of a head in part that are counted in the worker's load.
        self._head_size: i64 = 0
        self._requests: i64 = 0
        #: The next reply announces the end: the client said close or EOF, broke the protocol, or the worker drains.
        self._is_last = False
        self._has_eof = False
        #: What is buffered cannot be read any more.
        self._is_broken = False
        #: The client does not take what it gets: it gets no further reply before it does.
        self._is_full = False
        #: The connection carries no HTTP any more: its last stream has all that comes.
        self._is_tunnel = False

    # ---- from the connection

    def on_connection(self, connection: Connection) -> None:
        self._connection = connection
        connection.set_idle(self._options.idle_timeout)

    def on_data(self, data: bytes) -> bool:
        if self._is_tunnel:
            self._on_tunnel_data(data, False)
            return STOP
        self._decoder.feed(data)
        self._pull()
        return STOP

    def on_eof(self) -> None:
        stream = self._stream
        self._is_last = True
        self._has_eof = True
        if stream is None:
            if self._decoder.has_begun() and not self._is_broken:
                self._refuse(TRUNCATED_HEAD)
            else:
                self._connection.close(CLOSED_LOCALLY)
        elif self._is_tunnel:
            self._on_tunnel_data(b"", True)
        elif not stream.request_ended:
            stream.request_ended = True
            stream.receiver.on_reset(TRUNCATED_BODY)
        elif not stream.head_sent:
            self._connection.set_idle(EOF_GRACE)

    def on_writable(self, writable: bool) -> None:
        self._is_full = not writable
        if self._stream is not None:
            self._stream.receiver.on_writable(writable)
        elif writable and self._held:
            self._go_on()

    def on_idle(self) -> None:
        stream = self._stream
        if stream is None:
            if self._in_head:
                self._refuse(REQUEST_TIMEOUT)
            else:
                self._connection.close(IDLE_TIMEOUT)
        elif not stream.request_ended:
            if stream.pauses > 0:
                self._connection.set_idle(self._options.body_timeout)  # the silence is our own doing
            else:
                self._break_off(stream, REQUEST_TIMEOUT)
        elif self._has_eof and not stream.head_sent:
            stream.receiver.on_reset(CLIENT_GONE)

    def on_drain(self) -> None:
        self._is_last = True
        if self._stream is None and not self._in_head:
            # Not at once: a request may be on its way, and it would be lost.
            self._connection.set_idle(DRAIN_GRACE)

    def on_close(self, failure: Failure) -> None:
        stream = self._stream
        if stream is not None:
            stream.request_ended = True
            stream.reply_ended = True
            is_told = failure is CLIENT_WRITE_TIMEOUT or (failure is DRAINING and stream.head_sent)
            stream.receiver.on_reset(failure if is_told else CLIENT_GONE)
        elif self._in_head and failure is CLOSED_BY_PEER:
            self._refuse(CLIENT_GONE)
        self._set_head_size(0)

    # ---- requests

    def _pull(self) -> None:
        """Takes frames from the decoder as far as the current request allows."""
        if self._pulling:
            return
        self._pulling = True
        decoder = self._decoder
        try:
            while not self._connection.is_closed and not self._is_broken:
                stream = self._stream
                if (stream is None and self._is_full) or (stream is not None and stream.request_ended):
                    self._hold()
                    break
                found: i64 = decoder.decode()
                if found == NEED_MORE:
                    self._wait(stream)
                    break
                if found == HEAD:
                    self._begin()
                elif stream is not None:
                    stream.deliver(decoder.data, decoder.end, decoder.trailers)
        except ProtocolError as error:
            self._refuse_bytes(error)
        finally:
            self._pulling = False

    def _begin(self) -> None:
        decoder = self._decoder
        head = decoder.head
        stream = Http1ServerStream(self, self._connection, decoder.minor_version, head.raw_method)
        stream.passes_trailers = head.accepts_trailers
        self._stream = stream
        self._in_head = False
        if self._head_size > 0:
            self._set_head_size(0)
        self._requests += 1
        if not decoder.keep_alive or self._requests == self._options.max_requests:
            self._is_last = True
        if head.raw_tunnel:
            self._consider(head)
        receiver = self._listener.new_stream(stream)
        stream.receiver = receiver
        stream.request_ended = decoder.end
        if not decoder.end:
            self._connection.set_idle(self._options.body_timeout)
        receiver.on_request(head, decoder.data, decoder.end and decoder.trailers is None)
        if decoder.end and decoder.trailers is not None and self._stream is stream:
            receiver.on_trailers(decoder.trailers)

    def _consider(self, head: RequestHead) -> None:
        """A request for a tunnel: only what is allowed is asked for upstream."""
        if head.raw_tunnel == self._options.connect:
            # If it is refused, what the client has sent for its tunnel must not be taken for a request.
            self._is_last = True
        elif head.raw_tunnel not in self._options.upgrades:
            head.raw_tunnel = b""

    def _wait(self, stream: Http1ServerStream | None) -> None:
        """Sets the time that the client has for what is missing."""
        if stream is not None:
            if self._is_too_slow(stream):
                self._break_off(stream, BODY_TOO_SLOW)
            else:
                self._connection.set_idle(self._options.body_timeout)
        elif not self._decoder.has_begun():
            if self._has_eof:
                self._connection.close(CLOSED_LOCALLY)
        elif self._has_eof:
            self._refuse(TRUNCATED_HEAD)
        else:
            self._set_head_size(self._decoder.buffered_size())
            if 0 < self._options.overload.max_head_bytes < self._options.overload.head_bytes:
                self._refuse(HEADS_FULL)
            elif not self._in_head:
                self._in_head = True
                self._connection.set_idle(self._options.header_timeout)

    def _set_head_size(self, size: i64) -> None:
        self._options.overload.head_bytes += size - self._head_size
        self._head_size = size

    def _is_too_slow(self, stream: Http1ServerStream) -> bool:
        """Whether less of the body came in the last `body_timeout` than must.

        Not while we do not read, and not once the reply has begun: in a talk the client may have nothing to say.
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

    def _hold(self) -> None:
        """Stops reading while pipelined bytes wait for their turn."""
        if not self._held and self._decoder.has_buffered():
            self._held = True
            self._connection.pause_reading()

    def _go_on(self) -> None:
        """Takes up what was held."""
        self._held = False
        self._connection.resume_reading()
        self._pull()

    def _refuse_bytes(self, error: ProtocolError) -> None:
        stream = self._stream
        if stream is None:
            self._refuse(error.failure)
        else:
            self._break_off(stream, error.failure)

    def _refuse(self, failure: Failure) -> None:
        """Answers something that is no acceptable request; it still becomes an exchange, which counts and logs it."""
        self._is_last = True
        self._is_broken = True
        self._in_head = False
        self._set_head_size(0)
        head = self._decoder.head
        stream = Http1ServerStream(self, self._connection, 1, head.raw_method)
        self._stream = stream
        stream.receiver = self._listener.new_stream(stream)
        stream.receiver.on_refused(head, failure)

    def _break_off(self, stream: Http1ServerStream, failure: Failure) -> None:
        """The body cannot be read to its end."""
        self._is_last = True
        self._is_broken = True
        stream.receiver.on_reset(failure)

    # ---- a tunnel

    def begin_tunnel(self, stream: Http1ServerStream) -> None:
        self._is_tunnel = True
        stream.request_ended = False
        self._connection.set_idle(0.0)
        rest = self._decoder.unread()
        if self._held:
            self._held = False
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

    # ---- from the stream

    def keeps_alive(self, request_ended: bool) -> bool:
        return request_ended and not self._is_last

    def end_keep_alive(self) -> None:
        self._is_last = True

    def cut_off(self, failure: Failure) -> None:
        # Not by a reset, which would take from the client what it has not read yet (hostile case E4).
        if self._is_full and failure is STREAM_IDLE:
            self._connection.abort(failure)  # it does not read
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
        if not stream.reply_ended:
            connection.abort(CLOSED_LOCALLY)
        elif self._is_tunnel:
            connection.close(CLOSED_LOCALLY)
        elif not self._has_eof and (not stream.request_ended or stream.announced_close):
            # Bytes may be on their way behind the request, even if the client itself said close: closed at once, they would
            # be answered by a reset, and that takes from the client what it has not read of its reply.
            connection.close_lingering(CLOSED_LOCALLY)
        elif stream.announced_close or (self._has_eof and not self._decoder.has_buffered()):
            connection.close(CLOSED_LOCALLY)
        else:
            # The last one without having said so: the worker began to drain after this reply's head was sent.
            connection.set_idle(DRAIN_GRACE if self._is_last else self._options.idle_timeout)
            if self._held and not self._is_full:
                self._go_on()
