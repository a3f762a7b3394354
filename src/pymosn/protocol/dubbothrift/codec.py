"""Decoding of dubbo-thrift frames, in both directions."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api import protocol
from pymosn.api.protocol import ProtocolError
from pymosn.api.rpc import RpcDecoder
from pymosn.core.failure import BAD_FRAME
from pymosn.protocol.dubbothrift.frames import (
    CALL,
    ONE_WAY,
    REPLY,
    STRINGS_AT,
    Message,
    ThriftHeaders,
    ThriftRequest,
    ThriftResponse,
)

#: Minimum length: a header with an empty service, and the beginning of a message with an empty name.
_LEAST: Final[i64] = 9 + 4 + 8


def integer(data: bytes, at: i64) -> i64:
    """A signed 32-bit number."""
    value: i64 = data[at] * 0x1000000 + data[at + 1] * 0x10000 + data[at + 2] * 0x100 + data[at + 3]
    return value - 0x100000000 if value >= 0x80000000 else value


class ThriftDecoder(RpcDecoder):
    """Decodes both directions: calls and one-way calls are requests, results and exceptions are responses."""

    def frame_size(self, data: bytes, start: i64, end: i64) -> i64:
        if end - start < 4:
            return 0
        size: i64 = data[start] * 0x1000000 + data[start + 1] * 0x10000 + data[start + 2] * 0x100 + data[start + 3]
        if size < _LEAST:
            raise ProtocolError(BAD_FRAME, f"frame of {size} bytes is too short")
        if (end - start > 4 and data[start + 4] != 0xDA) or (end - start > 5 and data[start + 5] != 0xBC):
            raise ProtocolError(BAD_FRAME, "not a dubbo-thrift frame (bad magic)")
        return 4 + size if end - start > 5 else 0

    def read(self, data: bytes, start: i64, end: i64) -> i64:
        frame = data[start:end]
        if frame[6:10] != frame[:4]:
            raise ProtocolError(BAD_FRAME, "conflicting frame lengths")
        header_end: i64 = 4 + frame[10] * 0x100 + frame[11]
        id_at: i64 = header_end - 8
        if header_end > len(frame):
            raise ProtocolError(BAD_FRAME, "header is longer than the frame")
        at: i64 = _string_end(frame, STRINGS_AT, id_at)
        service = frame[STRINGS_AT + 4 : at]
        path: bytes | None = None
        if at < id_at:
            path_at: i64 = at + 4
            at = _string_end(frame, at, id_at)
            path = frame[path_at:at]
        if at != id_at:
            raise ProtocolError(BAD_FRAME, "unknown bytes in the header")
        self.request_id = int.from_bytes(frame[id_at:header_end], "big", signed=True)
        message = _read_message(frame, header_end)
        is_request = message.kind in (CALL, ONE_WAY)
        headers = ThriftHeaders(service, path, message, is_request)
        if is_request:
            self.request = ThriftRequest(headers, self.request_id, frame, id_at)
            return protocol.REQUEST if message.kind == CALL else protocol.ONE_WAY
        status: i64 = 200 if message.kind == REPLY else 500
        self.response = ThriftResponse(headers, status, frame, id_at, frame[STRINGS_AT:id_at], frame[header_end:])
        return protocol.RESPONSE


def _string_end(frame: bytes, at: i64, end: i64) -> i64:
    """The end of the string at `at`, which must not exceed `end`."""
    if at + 4 > end:
        raise ProtocolError(BAD_FRAME, "truncated string")
    size: i64 = integer(frame, at)
    if size < 0 or size > end - at - 4:
        raise ProtocolError(BAD_FRAME, f"invalid string length {size}")
    return at + 4 + size


def _read_message(frame: bytes, at: i64) -> Message:
    """Reads the beginning of a message, with or without the version that newer Thrift writes."""
    end: i64 = len(frame)
    if at + 4 > end:
        raise ProtocolError(BAD_FRAME, "truncated message")
    kind: i64 = 0
    is_strict = frame[at] == 0x80 and frame[at + 1] == 0x01
    start: i64 = at + 4 if is_strict else at
    name_end: i64 = _string_end(frame, start, end)
    name = frame[start + 4 : name_end]
    if is_strict:
        kind = frame[at + 3]
    else:
        kind = frame[name_end] if name_end < end else 0
        name_end += 1
    if name_end + 4 > end:
        raise ProtocolError(BAD_FRAME, "truncated message")
    if kind < CALL or kind > ONE_WAY:
        raise ProtocolError(BAD_FRAME, f"invalid message type {kind}")
    return Message(name, kind, integer(frame, name_end))
