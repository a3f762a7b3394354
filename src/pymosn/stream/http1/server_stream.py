"""One stream of the server half of an HTTP/1 connection: a request's place for its reply, or for its tunnel."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.network import Connection
from pymosn.api.stream import RequestReceiver, ResponseSender, ServerStreams
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.protocol.http1.encoder import LAST_CHUNK, encode_agreement, encode_chunk, encode_response, encode_trailers

CLOSE_LINE: Final = b"connection: close\r\n"
KEEP_LINE: Final = b"connection: keep-alive\r\n"
CHUNKED_LINE: Final = b"transfer-encoding: chunked\r\n"
EMPTY_LINE: Final = b"content-length: 0\r\n"


class StreamOwner(ServerStreams):
    """What a stream asks and tells its connection's server half."""

    def keeps_alive(self, request_ended: bool) -> bool:
        """Whether another request may follow the current one."""
        raise NotImplementedError

    def end_keep_alive(self) -> None:
        """The current request is the last one."""
        raise NotImplementedError

    def cut_off(self, failure: Failure) -> None:
        """The current reply is broken off in a place where the client sees that it is."""
        raise NotImplementedError

    def begin_tunnel(self, stream: Http1ServerStream) -> None:
        """The reply that agrees has been sent: hands over what the client sent behind its request, and all that follows."""
        raise NotImplementedError

    def on_release(self, stream: Http1ServerStream) -> None:
        """The exchange of `stream` is over."""
        raise NotImplementedError


class Http1ServerStream(ResponseSender):
    """One request's place for its reply."""

    def __init__(self, server: StreamOwner, connection: Connection, minor_version: i64, method: bytes) -> None:
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
        #: Whether the client is told a length, or waits for a last chunk: it sees by itself that a reply was cut off.
        self._shows_cut = False
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
        self._shows_cut = is_sized or self._is_chunked
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
            self._connection.write_eof()

    def send_trailers(self, trailers: Headers) -> None:
        if self.reply_ended:
            return
        self.reply_ended = True
        if self._is_chunked:
            self._connection.write(encode_trailers(trailers) if self.passes_trailers else LAST_CHUNK)

    def end_connection(self) -> None:
        self._server.end_keep_alive()

    def reset(self, failure: Failure) -> None:
        if self.reply_ended:
            return
        if self._shows_cut:
            self._server.cut_off(failure)
        else:
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
