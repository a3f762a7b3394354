"""One stream of the server half of an HTTP/2 connection: a request with its response or its tunnel."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import Connection
from pymosn.api.stream import ResponseSender
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.protocol.http2.frames import INTERNAL_ERROR, PROTOCOL_ERROR
from pymosn.stream.http.websocket import remove_accept
from pymosn.stream.http2.codes import code_of
from pymosn.stream.http2.connection import Http2Connection
from pymosn.stream.http2.stream import Http2Stream

#: The status that replaces a 2xx which opens no tunnel, for a client that has asked for one (RFC 8441 section 5).
NOT_IMPLEMENTED: Final[i64] = 501


@mypyc_attr(free_list_len=1)
class Http2ServerStream(ResponseSender):
    """Sends the response to one request."""

    def __init__(self, owner: Http2Connection, stream: Http2Stream, method: bytes) -> None:
        self.stream = stream
        #: The request is malformed: instead of a response it gets a reset (RFC 9113 section 8.1.1).
        self.is_malformed = False
        self._owner = owner
        self._method = method

    def connection(self) -> Connection:
        return self._owner.connection

    def send_informational(self, head: ResponseHead) -> None:
        stream = self.stream
        if not stream.is_answered and not stream.local_ended and not self.is_malformed and head.status != 101:
            self._owner.send_head(stream, self._owner.encoder.response(head), False)

    def takes_body(self, head: ResponseHead) -> bool:
        return self._method != b"HEAD" and head.status != 204 and head.status != 304

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        stream = self.stream
        owner = self._owner
        if stream.is_answered or stream.local_ended:
            return
        stream.is_answered = True
        if self.is_malformed:
            owner.reset_stream(stream, PROTOCOL_ERROR)
            return
        is_tunnel = len(head.raw_tunnel) > 0
        if is_tunnel:
            remove_accept(head)
        else:
            if stream.is_tunnel and 200 <= head.status < 300:
                head.status = NOT_IMPLEMENTED  # the client would take the content for the bytes of its tunnel
            if not self.takes_body(head):
                # Even if a filter has changed the method or the status.
                data = b""
                end = True
            elif end and 0 <= head.content_length != len(data):
                head.set_length(len(data))  # a filter has changed the method of the request after the response
        ends = end and len(data) == 0
        owner.send_head(stream, owner.encoder.response(head), ends)
        if not ends and (end or len(data) > 0):
            owner.send_data(stream, data, end)
        if is_tunnel:
            self._begin_tunnel()

    def _begin_tunnel(self) -> None:
        """Passes on what the client has sent for its tunnel already."""
        stream = self.stream
        early = stream.early
        if early is None:
            return
        stream.early = None
        receiver = stream.receiver
        if early:
            receiver.on_data(b"".join(early), stream.remote_ended)
        elif stream.remote_ended:
            receiver.on_data(b"", True)
        self._owner.resume(stream)

    def send_data(self, data: bytes, end: bool) -> None:
        self._owner.send_data(self.stream, data, end)

    def send_trailers(self, trailers: Headers) -> None:
        self._owner.send_trailers(self.stream, trailers)

    def end_connection(self) -> None:
        self._owner.shut_down()

    def reset(self, failure: Failure) -> None:
        if not self.stream.local_ended:
            self._owner.reset_stream(self.stream, PROTOCOL_ERROR if self.is_malformed else code_of(failure))

    def release(self) -> None:
        self._owner.release(self.stream, INTERNAL_ERROR)

    def pause(self) -> None:
        self._owner.pause(self.stream)

    def resume(self) -> None:
        self._owner.resume(self.stream)


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
