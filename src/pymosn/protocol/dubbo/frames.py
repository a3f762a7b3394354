"""The frames of Dubbo: a header of 16 bytes, and a body in the serialization that the header specifies.

0xdabb | flags | status | id (8) | length of the body (4) | body
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field, RpcRequest, RpcResponse, fields_of, is_changed
from pymosn.core.failure import BAD_RESPONSE, FRAME_TOO_LARGE_502, Failure, is_lost
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import Headers, to_text
from pymosn.core.rpc_headers import first
from pymosn.protocol.dubbo.attachments import add_entry
from pymosn.protocol.dubbo.bodies import HESSIAN2
from pymosn.protocol.dubbo.headers import (
    DubboHeaders,
    DubboRequestHeaders,
    FrontHeaders,
    UnknownHeaders,
    write_request,
    write_response,
)
from pymosn.protocol.dubbo.java_text import write_text
from pymosn.protocol.failure_text import failure_text

HEADER_SIZE: Final[i64] = 16
#: Offset of the id.
ID_AT: Final[i64] = 4
MAGIC: Final = b"\xda\xbb"

# Flags; the lower five bits are the serialization.
REQUEST_FLAG: Final[i64] = 0x80
TWO_WAY_FLAG: Final[i64] = 0x40
EVENT_FLAG: Final[i64] = 0x20
SERIALIZATION: Final[i64] = 0x1F

OK: Final[i64] = 20
#: With this status Dubbo ends the calls on a connection that is lost.
CHANNEL_INACTIVE: Final[i64] = 35
BAD_REQUEST: Final[i64] = 40
INVALID_RESPONSE: Final[i64] = 50
SERVICE_NOT_FOUND: Final[i64] = 60
SERVICE_ERROR: Final[i64] = 70

#: Dubbo's statuses as HTTP statuses: timeouts, inactive channel, bad request, bad response, service not found, exhausted;
#: others are 500.
_TO_HTTP: Final[dict[int, int]] = {30: 504, 31: 504, 35: 502, 40: 400, 50: 502, 60: 404, 100: 503}
#: The reverse; 80 is a server error. Consumers treat 31 as a timeout and other failures as retryable errors.
_FROM_HTTP: Final[dict[int, int]] = {504: 31, 408: 31, 404: 60, 502: 60, 503: 100, 429: 100, 401: 80, 403: 80}

#: Consumers accept attachments in responses from this protocol version on.
_RESPONSE_ATTACHMENTS: Final = b"2.0.2"


def http_status(status: i64) -> i64:
    """The HTTP status for a Dubbo status."""
    return 200 if status == OK else _TO_HTTP.get(int(status), 500)


def dubbo_status(status: i64) -> i64:
    """The Dubbo status for an HTTP status."""
    if 200 <= status < 300:
        return OK
    known = _FROM_HTTP.get(int(status))
    if known is not None:
        return known
    return BAD_REQUEST if 400 <= status < 500 else SERVICE_ERROR


def write_frame(
    flags: i64, status: i64, request_id: i64, body: list[bytes], out: FrameWriter, front: bytes = b"", kept: i64 = 0
) -> None:
    """Writes a complete frame whose body is the first `kept` bytes of `front`, then the parts `body`."""
    size: i64 = kept
    for part in body:
        size += len(part)
    out.write(MAGIC)
    out.write_number(flags, 1)
    out.write_number(status, 1)
    out.write_number(request_id, 8)
    out.write_number(size, 4)
    if kept > 0:
        out.write_front(front, kept)
    for part in body:
        out.write(part)


def make_frame(flags: i64, status: i64, request_id: i64, body: bytes) -> bytes:
    """A complete frame."""
    out = FrameWriter()
    write_frame(flags, status, request_id, [body], out)
    return b"".join(out.take())


def write_changed(headers: DubboHeaders, flags: i64, status: i64, request_id: i64, payload: bytes, out: FrameWriter) -> None:
    """Writes a complete frame: `payload` with its attachments replaced by those of `headers`."""
    tail = headers.tail(payload)
    if tail is None:
        write_frame(flags, status, request_id, headers.rewritten(payload), out)
    else:
        write_frame(flags, status, request_id, tail, out, payload, len(payload) - 1)


class DubboRequest(RpcRequest):
    """A call. `frame` is its header; the payload is the body: the method's fields, the arguments and the attachments."""

    def __init__(self, headers: DubboHeaders, request_id: i64, header: bytes, payload: bytes, flags: i64) -> None:
        super().__init__(headers, request_id, header, payload, flags & TWO_WAY_FLAG == 0)
        self.flags: i64 = flags

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        out.write_numbered(self.frame, ID_AT, 8, request_id)
        out.write(self.payload)

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        headers = self.headers
        status: i64 = self.frame[3]
        if not is_changed(headers):
            write_frame(self.flags, status, request_id, [payload], out)
        elif isinstance(headers, DubboHeaders):
            write_changed(headers, self.flags, status, request_id, payload, out)
        else:
            fields = fields_of(headers)
            write_frame(self.flags, status, request_id, write_request(payload, fields, self.flags & SERIALIZATION), out)

    def route_value(self, name: str) -> str | None:
        value = self._at_front(name)
        return super().route_value(name) if value is None else to_text(value)

    def service(self) -> str:
        value = self._at_front("service")
        return super().service() if value is None else to_text(value)

    def method_name(self) -> str:
        value = self._at_front("method")
        return super().method_name() if value is None else to_text(value)

    def _at_front(self, name: str) -> bytes | None:
        headers = self.headers
        return headers.at_front(name) if isinstance(headers, FrontHeaders) else None

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> RpcResponse:
        """Always in hessian 2: each frame specifies its serialization, and all consumers read this one."""
        return LocalReply(headers, status, body, self._dubbo_version() == _RESPONSE_ATTACHMENTS)

    def failure_reply(self, failure: Failure, headers: Headers, body: bytes) -> RpcResponse:
        reply = LocalReply(headers, failure.status, body, self._dubbo_version() == _RESPONSE_ATTACHMENTS)
        if failure is FRAME_TOO_LARGE_502 or failure is BAD_RESPONSE:
            reply.own_status = INVALID_RESPONSE
        elif is_lost(failure):
            reply.own_status = CHANNEL_INACTIVE
        return reply

    def _dubbo_version(self) -> bytes | None:
        """The protocol version; None if it cannot be read."""
        headers = self.headers
        if isinstance(headers, DubboRequestHeaders):
            return headers.front.dubbo
        return None if isinstance(headers, UnknownHeaders) else first(fields_of(headers), b"dubbo")


def _local_body(status: i64, fields: list[Field], text: bytes) -> bytes:
    if dubbo_status(status) != OK:
        return write_text(text or failure_text(status))
    kind: i64 = 1 if text else 2
    if fields:
        kind += 3
    parts = [bytes((0x90 + kind,))]
    if text:
        parts.append(write_text(text))
    if fields:
        parts.append(b"H")
        for field in fields:
            add_entry(parts, field)
        parts.append(b"Z")
    return b"".join(parts)


class DubboResponse(RpcResponse):
    """A response: a result, possibly an exception of the provider, or an error text if the status is not OK.

    `frame` is its header.
    """

    def __init__(self, headers: DubboHeaders, status: i64, header: bytes, payload: bytes, flags: i64) -> None:
        super().__init__(headers, status, header, payload)
        self.flags: i64 = flags

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        out.write_numbered(self.frame, ID_AT, 8, request_id)
        out.write(self.payload)

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        status: i64 = dubbo_status(self.status)
        flags: i64 = self.flags
        body = [payload]
        headers = self.headers
        if self.status == self.frame_status:
            status = self.frame[3]
            if is_changed(headers) and status == OK:
                if isinstance(headers, DubboHeaders):
                    write_changed(headers, flags, status, request_id, payload, out)
                    return
                body = write_response(payload, fields_of(headers), flags & SERIALIZATION)
        elif payload is self.payload and (status == OK) != (self.frame[3] == OK):
            # A result cannot serve as an error text, or the reverse.
            body = [_local_body(self.status, [], b"")]
            flags = flags - (flags & SERIALIZATION) + HESSIAN2
        write_frame(flags, status, request_id, body, out)


class LocalReply(RpcResponse):
    """A local reply: an error text, or a result that is a string (null if there is no text)."""

    def __init__(self, headers: Headers, status: i64, text: bytes, takes_attachments: bool) -> None:
        """`takes_attachments`: whether the consumer accepts attachments in responses; `headers` are sent only then."""
        fields = fields_of(headers) if takes_attachments else []
        super().__init__(headers, status, b"", _local_body(status, fields, text))
        #: Dubbo's status; 0 for that of the HTTP status. It goes with `frame_status`.
        self.own_status: i64 = 0
        self._text = text
        self._takes_attachments = takes_attachments

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        if payload is self.payload:  # a filter may have changed status and headers since
            payload = _local_body(self.status, fields_of(self.headers) if self._takes_attachments else [], self._text)
        has_own = self.own_status != 0 and self.status == self.frame_status
        write_frame(HESSIAN2, self.own_status if has_own else dubbo_status(self.status), request_id, [payload], out)
