"""Cutting and reading the frames of Dubbo, of either direction."""

from __future__ import annotations

import contextlib
from typing import Final

from librt.strings import read_i32_be, read_i64_be
from mypy_extensions import i64

from pymosn.api.protocol import GOAWAY, HEARTBEAT, HEARTBEAT_ACK, IGNORE, ONE_WAY, REQUEST, RESPONSE, ProtocolError
from pymosn.api.rpc import RpcDecoder
from pymosn.core.chars import decimal
from pymosn.core.failure import BAD_FRAME
from pymosn.protocol.dubbo.attachments import RequestBody
from pymosn.protocol.dubbo.fastjson2 import Fastjson2Body
from pymosn.protocol.dubbo.frames import (
    EVENT_FLAG,
    FASTJSON2,
    HEADER_SIZE,
    HESSIAN2,
    ID_AT,
    OK,
    REQUEST_FLAG,
    SERIALIZATION,
    TWO_WAY_FLAG,
    DubboRequest,
    DubboResponse,
    http_status,
    make_frame,
)
from pymosn.protocol.dubbo.headers import DubboHeaders, DubboRequestHeaders, DubboResponseHeaders, NoHeaders
from pymosn.protocol.dubbo.hessian2 import Hessian2Error

#: An attachment of Dubbo 3: the milliseconds that the consumer waits.
_TIMEOUT: Final = b"timeout"


class DubboDecoder(RpcDecoder):
    """Decodes either direction. A request in hessian 2 is read as far as its method; no more, until somebody asks.

    Its attachments are looked at when they seem to hold a time-out. What cannot be read there is forwarded unread.
    """

    def frame_size(self, data: bytes, start: i64, end: i64) -> i64:
        if data[start] != 0xDA or (start + 1 < end and data[start + 1] != 0xBB):
            raise ProtocolError(BAD_FRAME, "no frame of Dubbo begins so")
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
        if flags & SERIALIZATION == HESSIAN2 and status == OK:
            headers = DubboResponseHeaders(payload)
        else:
            headers = NoHeaders(False, "it is an error, or not in hessian 2")
        self.response = DubboResponse(headers, http_status(status), header, payload, flags)
        return RESPONSE

    def _read_request(self, header: bytes, payload: bytes, flags: i64) -> i64:
        headers: DubboHeaders
        is_cheap = False
        if flags & SERIALIZATION == HESSIAN2:
            try:
                front = RequestBody(payload)
                is_cheap = front.is_ascii
                headers = DubboRequestHeaders(front, payload)
            except Hessian2Error as error:
                raise ProtocolError(BAD_FRAME, f"request {self.request_id} does not say whom it calls: {error}") from None
        else:
            headers = _opaque(payload, flags & SERIALIZATION)
        request = DubboRequest(headers, self.request_id, header, payload, flags)
        if is_cheap or payload.rfind(_TIMEOUT) >= 0:  # it stands near the end
            text = headers.scan(_TIMEOUT)
            milliseconds: i64 = -1 if text is None else decimal(text)
            if milliseconds > 0:
                request.has_timeout = True
                request.timeout = float(milliseconds) / 1000.0
        self.request = request
        return ONE_WAY if request.is_one_way else REQUEST

    def _read_event(self, flags: i64, body: bytes) -> i64:
        if flags & REQUEST_FLAG == 0:
            return HEARTBEAT_ACK
        if flags & TWO_WAY_FLAG != 0:
            # Its body is null, in whatever serialization, and so is that of the answer.
            self.answer = make_frame(flags - REQUEST_FLAG - TWO_WAY_FLAG, OK, self.request_id, body)
            return HEARTBEAT
        # "R": the provider takes no more calls; "W": it does again. Short strings end so in every serialization.
        return GOAWAY if body.endswith(b"R") else IGNORE


def _opaque(payload: bytes, serialization: i64) -> DubboHeaders:
    """The headers of a request that is not in hessian 2: what stands in front where that is known, or none."""
    if serialization == FASTJSON2:
        with contextlib.suppress(ValueError):
            return DubboRequestHeaders(Fastjson2Body(payload), payload)
    return NoHeaders(True, f"it is in serialization {serialization}, not in hessian 2")
