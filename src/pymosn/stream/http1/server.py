"""The server half of an HTTP/1 connection: one request at a time, replies in order, keep-alive, limits in time."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.network import DRAIN_GRACE, STOP, Connection
from pymosn.api.protocol import HEAD, NEED_MORE, ProtocolError
from pymosn.api.stream import RequestReceiver, ResponseSender, ServerStreams, StreamListener
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
    TRUNCATED_BODY,
    TRUNCATED_HEAD,
    Failure,
)
from pymosn.core.headers import Headers
from pymosn.core.message import CONNECT, RequestHead, ResponseHead
from pymosn.protocol.http1.encoder import (
    LAST_CHUNK,
    encode_agreement,
    encode_chunk,
    encode_response,
    encode_trailers,
)
from pymosn.protocol.http1.request import RequestDecoder
from pymosn.stream.http1.options import Http1Options

#: Seconds that a client which closed its sending half has to get the head of its reply. It may only have closed that half,
#: or it may be gone; there is no way to tell, so short exchanges are finished and long ones are not worked on for nobody.
EOF_GRACE: Final = 1.0

CLOSE_LINE: Final = b"connection: close\r\n"
KEEP_LINE: Final = b"connection: keep-alive\r\n"
CHUNKED_LINE: Final = b"transfer-encoding: chunked\r\n"
EMPTY_LINE: Final = b"content-length: 0\r\n"


class Http1Server(ServerStreams):
    """Makes one stream after the other of the bytes of a downstream connection."""

    def __init__(self, listener: StreamListener, options: Http1Options) -> None:
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
        stream = Http1ServerStream(self, self._connection, head.minor_version, head.raw_method)
        stream.passes_trailers = head.accepts_trailers
        self._stream = stream
        self._in_head = False
        if self._head_size > 0:
            self._set_head_size(0)
        self._requests += 1
        if not head.keep_alive or self._requests == self._options.max_requests:
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
            if 0 < self._options.load.max_head_bytes < self._options.load.head_bytes:
                self._refuse(HEADS_FULL)
            elif not self._in_head:
                self._in_head = True
                self._connection.set_idle(self._options.header_timeout)

    def _set_head_size(self, size: i64) -> None:
        self._options.load.head_bytes += size - self._head_size
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
        """The reply that agrees has been sent: hands over what the client sent behind its request, and all that follows."""
        self._is_tunnel = True
        stream.request_ended = False
        self._connection.set_idle(0.0)
        rest = self._decoder.take_rest()
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

    def _may_send_on(self, stream: Http1ServerStream) -> bool:
        """Whether the client sends behind its request without waiting: requests, or what was meant for a tunnel."""
        return self._decoder.has_buffered() or stream.method == CONNECT

    def keeps_alive(self, request_ended: bool) -> bool:
        """Whether another request may follow the current one."""
        return request_ended and not self._is_last

    def end_keep_alive(self) -> None:
        """The current request is the last one."""
        self._is_last = True

    def on_release(self, stream: Http1ServerStream) -> None:
        """The exchange of `stream` is over."""
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
        elif not self._has_eof and (not stream.request_ended or (stream.announced_close and self._may_send_on(stream))):
            connection.close_lingering(CLOSED_LOCALLY)
        elif stream.announced_close or (self._has_eof and not self._decoder.has_buffered()):
            connection.close(CLOSED_LOCALLY)
        else:
            # The last one without having said so: the worker began to drain after this reply's head was sent.
            connection.set_idle(DRAIN_GRACE if self._is_last else self._options.idle_timeout)
            if self._held and not self._is_full:
                self._go_on()


class Http1ServerStream(ResponseSender):
    """One request's place for its reply."""

    def __init__(self, server: Http1Server, connection: Connection, minor_version: i64, method: bytes) -> None:
        self.receiver: RequestReceiver = NOBODY
        self.request_ended = False
        self.reply_ended = False
        self.head_sent = False
        self.announced_close = False
        #: Whether the client said that it wants them (RFC 9110 section 6.5.1).
        self.passes_trailers = False
        self.pauses: i64 = 0
        #: Until when the connection must have read up to `slice_goal` for the body not to be too slow.
        self.slice_end = 0.0
        self.slice_goal: i64 = 0
        self._server = server
        self._connection = connection
        self._minor_version: i64 = minor_version
        self.method = method
        self._is_chunked = False
        self._is_bodyless = False
        self._is_tunnel = False

    def deliver(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        """Hands on a piece of the request body."""
        self.request_ended = end
        if end and trailers is not None:
            if data:
                self.receiver.on_data(data, False)
            self.receiver.on_trailers(trailers)
        else:
            self.receiver.on_data(data, end)

    def connection(self) -> Connection:
        return self._connection

    def send_informational(self, head: ResponseHead) -> None:
        if self._minor_version == 1 and not self.head_sent and not self.reply_ended:
            self._connection.write_parts(encode_response(head, b""))

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        if self.head_sent or self.reply_ended:
            return
        self.head_sent = True
        if head.raw_tunnel:
            self._agree(head, data)
            return
        options = b""
        is_sized = head.content_length >= 0
        if self.method == b"HEAD" or head.status == 304 or head.status == 204:
            # Not even when a filter changed the method or the status: the client would take it for the next reply.
            self._is_bodyless = True
            data = b""
        elif end and is_sized and head.content_length != len(data):
            self._server.end_keep_alive()
        if end and not is_sized:
            if data:
                options = b"content-length: %d\r\n" % len(data)
            elif not self._is_bodyless:
                options = EMPTY_LINE
        elif not is_sized and not self._is_bodyless:
            if self._minor_version == 1:
                self._is_chunked = True
                options = CHUNKED_LINE
            else:
                self._server.end_keep_alive()
        if not self._server.keeps_alive(self.request_ended):
            self._server.end_keep_alive()
            self.announced_close = True
            options = options + CLOSE_LINE
        elif self._minor_version == 0:
            options = options + KEEP_LINE
        parts = encode_response(head, options)
        if self._is_chunked:
            parts.extend(encode_chunk(data, end))
        elif data:
            parts.append(data)
        self.reply_ended = end
        self._connection.write_parts(parts)

    def _agree(self, head: ResponseHead, data: bytes) -> None:
        """Sends the reply that opens a tunnel, with what has come through it already."""
        self._is_tunnel = True
        parts = encode_agreement(head)
        if data:
            parts.append(data)
        self._connection.write_parts(parts)
        self._server.begin_tunnel(self)

    def send_data(self, data: bytes, end: bool) -> None:
        if self.reply_ended:
            return
        self.reply_ended = end
        if self._is_chunked:
            self._connection.write_parts(encode_chunk(data, end))
        elif data and not self._is_bodyless:
            self._connection.write(data)
        if end and self._is_tunnel:
            self._connection.shut_writing()

    def send_trailers(self, trailers: Headers) -> None:
        if self.reply_ended:
            return
        self.reply_ended = True
        if self._is_chunked:
            self._connection.write(encode_trailers(trailers) if self.passes_trailers else LAST_CHUNK)

    def end_connection(self) -> None:
        self._server.end_keep_alive()

    def reset(self, failure: Failure) -> None:
        if not self.reply_ended:
            self._connection.abort(failure)

    def release(self) -> None:
        while self.pauses > 0:
            self.resume()
        self.receiver = NOBODY
        self._server.on_release(self)

    def pause(self) -> None:
        self.pauses += 1
        self.slice_end = 0.0  # the time in which we do not read is not the client's
        self._connection.pause_reading()

    def resume(self) -> None:
        if self.pauses > 0:
            self.pauses -= 1
            self._connection.resume_reading()


class _Nobody(RequestReceiver):
    """Hears what comes before an exchange is there or after it is over, and does nothing."""

    def on_data(self, data: bytes, end: bool) -> None:
        pass

    def on_trailers(self, trailers: Headers) -> None:
        pass

    def on_reset(self, failure: Failure) -> None:
        pass

    def on_writable(self, writable: bool) -> None:
        pass


NOBODY: Final[RequestReceiver] = _Nobody()
