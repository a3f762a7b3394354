"""One stream of the server half of an HTTP/2 connection: a request with its response or its tunnel."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.stream import ResponseSender
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import ResponseHead
from pymosn.protocol.http2.frames import INTERNAL_ERROR, PROTOCOL_ERROR
from pymosn.stream.http.websocket import remove_accept
from pymosn.stream.http2.codes import code_of
from pymosn.stream.http2.connection import Http2Connection
from pymosn.stream.http2.stream import Http2Stream

#: The status that replaces a 2xx which opens no tunnel, for a client that has asked for one (RFC 8441 section 5).
NOT_IMPLEMENTED: Final[i64] = 501


@mypyc_attr(free_list_len=1)
class Http2ServerStream(Http2Stream):
    """A stream that sends the response to its request."""

    def __init__(self, owner: Http2Connection, send_window: i64, receive_window: i64) -> None:
        super().__init__(send_window, receive_window)
        self._owner = owner
        #: When the client has opened it, by `Clock.now`.
        self.opened_at: float = 0.0

    def connection(self) -> Connection:
        return self._owner.connection

    def stream_number(self) -> i64:
        return i64(self.id)

    def send_informational(self, head: ResponseHead) -> None:
        if not self.is_answered and not self.local_ended and not self.is_malformed and head.status != 101:
            self._owner.send_head(self, self._owner.encoder.response(head), False)

    def takes_body(self, head: ResponseHead) -> bool:
        return not self.is_to_head and head.status != 204 and head.status != 304

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        owner = self._owner
        if self.is_answered or self.local_ended:
            return
        self.is_answered = True
        if self.is_malformed:
            owner.reset_stream(self, PROTOCOL_ERROR)
            return
        is_tunnel = len(head.raw_tunnel) > 0
        if is_tunnel:
            remove_accept(head)
        else:
            if self.is_tunnel and 200 <= head.status < 300:
                head.status = NOT_IMPLEMENTED  # the client would take the content for the bytes of its tunnel
            if not self.takes_body(head):
                # Even if a filter has changed the method or the status.
                data = b""
                end = True
            elif end and 0 <= head.content_length != len(data):
                head.set_length(len(data))  # a filter has changed the method of the request after the response
        ends = end and len(data) == 0
        owner.send_head(self, owner.encoder.response(head), ends)
        if not ends and (end or len(data) > 0):
            owner.send_data(self, data, end)
        if is_tunnel:
            self._begin_tunnel()

    def _begin_tunnel(self) -> None:
        """Passes on what the client has sent for its tunnel already."""
        early = self.early()
        if early is None:
            return
        self.rare().early = None
        receiver = self.receiver
        if early:
            receiver.on_data(b"".join(early), self.remote_ended)
        elif self.remote_ended:
            receiver.on_data(b"", True)
        self._owner.resume(self)

    def send_data(self, data: bytes, end: bool) -> None:
        self._owner.send_data(self, data, end)

    def send_trailers(self, trailers: Headers) -> None:
        self._owner.send_trailers(self, trailers)

    def end_connection(self) -> None:
        self._owner.shut_down()

    def reset(self, failure: Failure) -> None:
        if not self.local_ended:
            self._owner.reset_stream(self, PROTOCOL_ERROR if self.is_malformed else code_of(failure))

    def release(self) -> None:
        self._owner.release(self, INTERNAL_ERROR)

    def pause(self) -> None:
        self._owner.pause(self)

    def resume(self) -> None:
        self._owner.resume(self)


class NoStream(ResponseSender):
    """Where the response to something goes that is not a request: nowhere."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection(self) -> Connection:
        return self._connection

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        pass

    def send_data(self, data: bytes, end: bool) -> None:
        pass

    def reset(self, failure: Failure) -> None:
        pass

    def release(self) -> None:
        pass


class NoRequest(HttpRequest):
    """The request of an exchange that records an error of the connection."""

    def __init__(self, detail: str) -> None:
        super().__init__(headers_from(None))
        self._detail = detail

    def describe(self, protocol: str) -> str:
        return f"{protocol} {self._detail}"
