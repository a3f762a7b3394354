"""One stream of the server half of an HTTP/1 connection: a request with its response or its tunnel."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import Connection
from pymosn.api.stream import RequestReceiver, ResponseSender, ServerStreams
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import UPGRADE_REQUIRED, ResponseHead
from pymosn.protocol.http1.encoder import LAST_CHUNK, encode_agreement, encode_chunk, encode_response, encode_trailers

#: The receiver before the exchange exists and after it has ended; it ignores all events.
NO_REQUEST_RECEIVER: Final = RequestReceiver()


class StreamOwner(ServerStreams):
    """The server half of the connection, as its stream sees it."""

    def __init__(self) -> None:
        #: No further request will be served. The last attribute, so that it shares a machine word with the subclass's flags.
        self.is_last = False

    def abort_response(self, failure: Failure) -> None:
        """Ends the connection in the middle of a response; the client detects the truncation by its framing."""

    def begin_tunnel(self, stream: Http1ServerStream) -> None:
        """Called once the 101/2xx has been sent: delivers the bytes buffered after the request, and all later ones."""

    def on_release(self, stream: Http1ServerStream) -> None:
        """The exchange of `stream` is over."""


@mypyc_attr(free_list_len=1)
class Http1ServerStream(ResponseSender):
    """One request and its response."""

    def __init__(self, server: StreamOwner, connection: Connection, minor_version: i64, method: bytes) -> None:
        self.receiver: RequestReceiver = NO_REQUEST_RECEIVER
        self.request_ended = False
        self.response_ended = False
        self.head_sent = False
        self.announced_close = False
        #: Whether the client accepts trailers (RFC 9110 section 6.5.1).
        self.passes_trailers = False
        self.pauses: i64 = 0
        #: By this time the connection must have read `slice_goal` bytes, or the body is too slow.
        self.slice_end = 0.0
        self.slice_goal: i64 = 0
        self._server = server
        self._connection = connection
        self._minor_version: i64 = minor_version
        self.method = method
        self._is_chunked = False
        self._is_bodyless = False
        #: Whether the framing (length or chunked) lets the client detect truncation.
        self._has_framing = False
        self._is_tunnel = False

    def deliver(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        """Passes on a chunk of the request body."""
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
        if self._minor_version == 1 and not self.head_sent and not self.response_ended:
            self._connection.write_parts(encode_response(head, b""))

    def takes_body(self, head: ResponseHead) -> bool:
        return self.method != b"HEAD" and head.status != 204 and head.status != 304

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        if self.head_sent or self.response_ended:
            return
        self.head_sent = True
        if len(head.raw_tunnel) > 0:
            self._open_tunnel(head, data)
            return
        options = b""
        is_sized = head.content_length >= 0
        if self.method == b"HEAD" or head.status == 304 or head.status == 204:
            # Even if a filter has changed the method or the status: the client would take a body for the next response.
            self._is_bodyless = True
            data = b""
        elif end and is_sized and head.content_length != len(data):
            head.set_length(len(data))  # a filter has changed the method of the request after the response
        if end and not is_sized:
            if data:
                options = b"content-length: %d\r\n" % len(data)
            elif not self._is_bodyless:
                options = b"content-length: 0\r\n"
        elif not is_sized and not self._is_bodyless:
            if self._minor_version == 1:
                self._is_chunked = True
                options = b"transfer-encoding: chunked\r\n"
            else:
                self._server.is_last = True
        self._has_framing = is_sized or self._is_chunked
        if head.status == UPGRADE_REQUIRED and head.headers.has_raw(b"upgrade"):
            options = options + b"connection: upgrade\r\n"
        if self._server.is_last or not self.request_ended:
            self._server.is_last = True
            self.announced_close = True
            options = options + b"connection: close\r\n"
        elif self._minor_version == 0:
            options = options + b"connection: keep-alive\r\n"
        parts = encode_response(head, options)
        if self._is_chunked:
            parts.extend(encode_chunk(data, end))
        elif len(data) > 0:
            parts.append(data)
        self.response_ended = end
        self._connection.write_parts(parts)

    def _open_tunnel(self, head: ResponseHead, data: bytes) -> None:
        """Sends the response that opens a tunnel, with the first bytes of the upstream."""
        self._is_tunnel = True
        parts = encode_agreement(head)
        if data:
            parts.append(data)
        self._connection.write_parts(parts)
        self._server.begin_tunnel(self)

    def send_data(self, data: bytes, end: bool) -> None:
        if self.response_ended:
            return
        self.response_ended = end
        if self._is_chunked:
            self._connection.write_parts(encode_chunk(data, end))
        elif data and not self._is_bodyless:
            self._connection.write(data)
        if end and self._is_tunnel:
            self._connection.write_eof()

    def send_trailers(self, trailers: Headers) -> None:
        if self.response_ended:
            return
        self.response_ended = True
        if self._is_chunked:
            self._connection.write(encode_trailers(trailers) if self.passes_trailers else LAST_CHUNK)

    def end_connection(self) -> None:
        self._server.is_last = True

    def reset(self, failure: Failure) -> None:
        if self.response_ended:
            return
        if self._has_framing:
            self._server.abort_response(failure)
        else:
            self._connection.abort(failure)

    def release(self) -> None:
        while self.pauses > 0:
            self.resume()
        self.receiver = NO_REQUEST_RECEIVER
        self._server.on_release(self)

    def pause(self) -> None:
        self.pauses += 1
        self.slice_end = 0.0  # while we do not read, the client cannot be too slow
        self._connection.pause_reading()

    def resume(self) -> None:
        if self.pauses > 0:
            self.pauses -= 1
            self._connection.resume_reading()
