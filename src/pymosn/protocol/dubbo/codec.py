"""Dubbo as an `RpcSpec`, and decoding of its frames in both directions."""

from __future__ import annotations

from typing import Final

from librt.strings import read_i32_be, read_i64_be
from mypy_extensions import i64

from pymosn.api.protocol import (
    GOAWAY,
    HEARTBEAT,
    HEARTBEAT_ACK,
    IGNORE,
    MORE,
    NO,
    ONE_WAY,
    REQUEST,
    RESPONSE,
    YES,
    ProtocolError,
)
from pymosn.api.rpc import RpcDecoder, RpcSpec
from pymosn.core.chars import decimal
from pymosn.core.failure import BAD_FRAME
from pymosn.core.message import UnreadableHeaders
from pymosn.protocol.dubbo.attachments import RequestBody
from pymosn.protocol.dubbo.bodies import HESSIAN2, is_readable, request_front
from pymosn.protocol.dubbo.frames import (
    EVENT_FLAG,
    HEADER_SIZE,
    ID_AT,
    MAGIC,
    OK,
    REQUEST_FLAG,
    SERIALIZATION,
    TWO_WAY_FLAG,
    DubboRequest,
    DubboResponse,
    http_status,
    make_frame,
)
from pymosn.protocol.dubbo.fronts import read_front
from pymosn.protocol.dubbo.headers import (
    DubboHeaders,
    DubboRequestHeaders,
    DubboResponseHeaders,
    FrontHeaders,
    NoHeaders,
    UnknownHeaders,
)
from pymosn.protocol.dubbo.hessian2 import Hessian2Error

#: An attachment of Dubbo 3: the consumer's timeout in milliseconds.
_TIMEOUT: Final = b"timeout"
_MAX_NUMBER: Final[i64] = 0x7FFFFFFFFFFFFFFF


class DubboDecoder(RpcDecoder):
    """Decodes both directions. A hessian 2 request is read up to its method; the rest only on demand.

    Its attachments are searched if they seem to contain a timeout, which is ignored if they are unreadable.
    """

    def frame_size(self, data: bytes, start: i64, end: i64) -> i64:
        if data[start] != 0xDA or (start + 1 < end and data[start + 1] != 0xBB):
            raise ProtocolError(BAD_FRAME, "not a Dubbo frame (bad magic)")
        if end - start < HEADER_SIZE:
            return 0
        return HEADER_SIZE + (i64(read_i32_be(data, start + 12)) & 0xFFFFFFFF)

    def read(self, data: bytes, start: i64, end: i64) -> i64:
        header = data[start : start + HEADER_SIZE]
        payload = data[start + HEADER_SIZE : end]
        self.request_id = read_i64_be(data, start + ID_AT)
        flags: i64 = header[2]
        if flags & EVENT_FLAG != 0:
            return self._read_event(flags, payload)
        if flags & REQUEST_FLAG != 0:
            return self._read_request(header, payload, flags)
        status: i64 = header[3]
        headers: DubboHeaders
        headers = DubboResponseHeaders(payload, flags & SERIALIZATION) if status == OK else NoHeaders()
        self.response = DubboResponse(headers, http_status(status), header, payload, flags)
        return RESPONSE

    def _read_request(self, header: bytes, payload: bytes, flags: i64) -> i64:
        headers: DubboHeaders
        is_cheap = False
        if flags & SERIALIZATION == HESSIAN2:
            try:
                front = RequestBody(payload)
                is_cheap = front.is_ascii
                headers = DubboRequestHeaders(front, payload, HESSIAN2)
            except Hessian2Error as error:
                detail = f"request {self.request_id} has no readable service or method: {error}"
                raise ProtocolError(BAD_FRAME, detail) from None
        else:
            headers = _other(payload, flags & SERIALIZATION)
        request = DubboRequest(headers, self.request_id, header, payload, flags)
        if is_cheap or payload.rfind(_TIMEOUT) >= 0:  # it is usually near the end
            milliseconds: i64 = _timeout(headers)
            if milliseconds > 0:
                request.has_timeout = True
                request.timeout = float(milliseconds) / 1000.0
        self.request = request
        return ONE_WAY if request.is_one_way else REQUEST

    def read_head(self, data: bytes, start: i64, end: i64) -> i64:
        header = data[start : start + HEADER_SIZE]
        flags: i64 = header[2]
        self.request_id = read_i64_be(data, start + ID_AT)
        if flags & EVENT_FLAG != 0:
            return IGNORE
        if flags & REQUEST_FLAG == 0:
            return RESPONSE
        headers = UnknownHeaders(b"", "the frame is too large")
        self.request = DubboRequest(headers, self.request_id, header, b"", flags)
        return REQUEST

    def _read_event(self, flags: i64, body: bytes) -> i64:
        if flags & REQUEST_FLAG == 0:
            return HEARTBEAT_ACK
        if flags & TWO_WAY_FLAG != 0:
            # Its body is null, in any serialization, and so is that of the acknowledgement.
            self.answer = make_frame(flags - REQUEST_FLAG - TWO_WAY_FLAG, OK, self.request_id, body)
            return HEARTBEAT
        # "R": the provider accepts no more calls; "W": it does again. Short strings end like this in every serialization.
        return GOAWAY if body.endswith(b"R") else IGNORE


def _other(payload: bytes, serialization: i64) -> DubboHeaders:
    """The headers of a request that is not in hessian 2."""
    try:
        if is_readable(serialization):
            return DubboRequestHeaders(request_front(payload, serialization), payload, serialization)
        return FrontHeaders(payload, read_front(payload, serialization))
    except Hessian2Error as error:
        return UnknownHeaders(payload, str(error))


def _timeout(headers: DubboHeaders) -> i64:
    """The timeout of a request in milliseconds; -1 if there is none that can be read."""
    try:
        text = headers.scan(_TIMEOUT)
    except UnreadableHeaders:
        return -1
    return -1 if text is None else decimal(text)


class DubboSpec(RpcSpec):
    """Recognised by its two magic bytes."""

    def __init__(self) -> None:
        super().__init__("dubbo", _MAX_NUMBER)

    def match(self, data: bytes) -> i64:
        if data.startswith(MAGIC):
            return YES
        return MORE if MAGIC.startswith(data) else NO

    def decoder(self, max_frame: i64) -> RpcDecoder:
        return DubboDecoder(max_frame)

    def heartbeat(self, request_id: i64) -> bytes:
        """A null event that requests an acknowledgement."""
        return make_frame(REQUEST_FLAG + TWO_WAY_FLAG + EVENT_FLAG + HESSIAN2, 0, request_id, b"N")

    def goaway(self, request_id: i64) -> bytes:
        """The readonly event that Dubbo's providers send when they close."""
        return make_frame(REQUEST_FLAG + EVENT_FLAG + HESSIAN2, 0, request_id, b"\x01R")
