"""Dubbo-thrift as an `RpcSpec`, and decoding of its frames in both directions."""

from __future__ import annotations

from typing import Final

from librt.strings import read_i32_be, read_i64_be
from mypy_extensions import i64

from pymosn.api.protocol import MORE, NEED_MORE, NO, ONE_WAY, REQUEST, RESPONSE, YES, ProtocolError
from pymosn.api.rpc import RpcDecoder, RpcSpec
from pymosn.core.failure import BAD_FRAME
from pymosn.protocol.dubbothrift import frames
from pymosn.protocol.dubbothrift.frames import STRINGS_AT, Message, ThriftHeaders, ThriftRequest, ThriftResponse

#: Minimum length: a header with an empty service, and the beginning of a message with an empty name.
_LEAST: Final[i64] = 9 + 4 + 8
_MAX_NUMBER: Final[i64] = 0x7FFFFFFFFFFFFFFF
#: First byte of lengths that are too large for any frame: 256 MiB and more.
_NO_LENGTH: Final[i64] = 0x10


class ThriftDecoder(RpcDecoder):
    """Decodes both directions: calls and one-way calls are requests, results and exceptions are responses."""

    def frame_size(self, data: bytes, start: i64, end: i64) -> i64:
        if end - start < 4:
            return 0
        size: i64 = i64(read_i32_be(data, start)) & 0xFFFFFFFF
        if size < _LEAST:
            raise ProtocolError(BAD_FRAME, f"frame of {size} bytes is too short")
        if (end - start > 4 and data[start + 4] != 0xDA) or (end - start > 5 and data[start + 5] != 0xBC):
            raise ProtocolError(BAD_FRAME, "not a dubbo-thrift frame (bad magic)")
        return 4 + size if end - start > 5 else 0

    def read_head(self, data: bytes, start: i64, end: i64) -> i64:
        # Up to the end of the beginning of the message, whose name has no limit of its own.
        if end - start < 12:
            return NEED_MORE
        at: i64 = start + 4 + data[start + 10] * 0x100 + data[start + 11]
        if at + 8 > end:
            return NEED_MORE
        is_strict = data[at] == 0x80 and data[at + 1] == 0x01
        name_at: i64 = at + 4 if is_strict else at
        size: i64 = i64(read_i32_be(data, name_at)) & 0xFFFFFFFF
        stop: i64 = name_at + 4 + size + (4 if is_strict else 5)
        return NEED_MORE if stop > end else self.read(data, start, stop)

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
        self.request_id = read_i64_be(frame, id_at)
        message = _read_message(frame, header_end)
        is_request = message.kind in (frames.CALL, frames.ONE_WAY)
        headers = ThriftHeaders(service, path, message, is_request)
        if is_request:
            self.request = ThriftRequest(headers, self.request_id, frame, id_at)
            return REQUEST if message.kind == frames.CALL else ONE_WAY
        status: i64 = 200 if message.kind == frames.REPLY else 500
        self.response = ThriftResponse(headers, status, frame, id_at, frame[STRINGS_AT:id_at], frame[header_end:])
        return RESPONSE


def _string_end(frame: bytes, at: i64, end: i64) -> i64:
    """The end of the string at `at`, which must not exceed `end`."""
    if at + 4 > end:
        raise ProtocolError(BAD_FRAME, "truncated string")
    size: i64 = i64(read_i32_be(frame, at))
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
    if kind < frames.CALL or kind > frames.ONE_WAY:
        raise ProtocolError(BAD_FRAME, f"invalid message type {kind}")
    return Message(name, kind, i64(read_i32_be(frame, name_end)))


class ThriftSpec(RpcSpec):
    """Recognised by the magic after a length. There are no heartbeats: neither Dubbo nor Thrift would answer one."""

    def __init__(self) -> None:
        super().__init__("dubbo-thrift", _MAX_NUMBER)

    def match(self, data: bytes) -> i64:
        size: i64 = len(data)
        if data[0] >= _NO_LENGTH or (size > 4 and data[4] != 0xDA) or (size > 5 and data[5] != 0xBC):
            return NO
        return YES if size > 5 else MORE

    def decoder(self, max_frame: i64) -> RpcDecoder:
        return ThriftDecoder(max_frame)
