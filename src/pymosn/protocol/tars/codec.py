"""TARS as an `RpcSpec`, and decoding of its packets in both directions."""

from __future__ import annotations

from typing import Final

from librt.strings import read_i32_be
from mypy_extensions import i64

from pymosn.api.protocol import MORE, NEED_MORE, NO, ONE_WAY, REQUEST, RESPONSE, YES, ProtocolError
from pymosn.api.rpc import MAX_HEAD, RpcDecoder, RpcSpec
from pymosn.core.chars import decimal
from pymosn.core.failure import BAD_FRAME
from pymosn.protocol.tars.frames import Packet, TarsHeaders, TarsRequest, TarsResponse, http_status, is_tup
from pymosn.protocol.tars.jce import STRING1, STRING4, JceError, JceReader

#: Minimum size of a packet: its length and version.
_LEAST: Final[i64] = 6
_MAX_NUMBER: Final[i64] = 0x7FFFFFFF
#: First byte of lengths that are too large for any packet: 256 MiB and more.
_NO_LENGTH: Final[i64] = 0x10


class TarsDecoder(RpcDecoder):
    """Decodes both directions. The fifth field of a request is a string (servant), that of a response a number (result).

    Responses of the TUP versions have the form of requests; from an upstream they are decoded as responses.
    """

    def frame_size(self, data: bytes, start: i64, end: i64) -> i64:
        if end - start < 4:
            return 0
        size: i64 = i64(read_i32_be(data, start)) & 0xFFFFFFFF
        if size < _LEAST or (end - start > 4 and data[start + 4] != 0x10):
            raise ProtocolError(BAD_FRAME, "not a TARS packet")
        return size if end - start > 4 else 0

    def read_head(self, data: bytes, start: i64, end: i64) -> i64:
        frame = data[start : min(end, start + MAX_HEAD)]
        packet = Packet()
        reader = JceReader(frame, 4)
        try:
            is_request = _read_front(reader, packet)
        except JceError:
            return NEED_MORE  # unless it is malformed, which is the same once MAX_HEAD is reached
        self.request_id = packet.request_id
        if is_request and not (self.is_client and is_tup(packet.version)):
            self.request = TarsRequest(packet, frame[: reader.at])
            return REQUEST
        return RESPONSE

    def read(self, data: bytes, start: i64, end: i64) -> i64:
        frame = data[start:end]
        try:
            packet = Packet()
            is_request = _read(frame, packet)
        except JceError as error:
            raise ProtocolError(BAD_FRAME, f"malformed TARS packet: {error}") from None
        self.request_id = packet.request_id
        if is_request and not (self.is_client and is_tup(packet.version)):
            request = TarsRequest(packet, frame)
            self.request = request
            return ONE_WAY if request.is_one_way else REQUEST
        headers = TarsHeaders(packet, False)
        self.response = TarsResponse(headers, http_status(packet.result), frame, packet.buffer, packet, [])
        return RESPONSE


def _read(frame: bytes, packet: Packet) -> bool:
    """Reads all fields. Returns whether they are those of a request."""
    reader = JceReader(frame, 4)
    is_request = _read_front(reader, packet)
    _read_buffer(reader, packet, 7 if is_request else 6)
    _read_rest(reader, packet, is_request)
    return is_request


def _read_front(reader: JceReader, packet: Packet) -> bool:
    """Reads the fields before the buffer. Returns whether they are those of a request."""
    packet.version = _integer(reader, 1)
    if packet.version < 1 or packet.version > 3:
        raise JceError(f"invalid version {packet.version}")
    packet.packet_type = _integer(reader, 2)
    third_start: i64 = reader.at
    third: i64 = _integer(reader, 3)
    fourth_start: i64 = reader.at
    fourth: i64 = _integer(reader, 4)
    fourth_end: i64 = reader.at
    _expect(reader, 5)
    is_request = reader.type in (STRING1, STRING4)
    if is_request:
        packet.message_type = third
        _set_id(packet, 4, fourth, fourth_start, fourth_end)
        packet.servant = reader.text()
        _expect(reader, 6)
        packet.function = reader.text()
    else:
        packet.message_type = fourth
        _set_id(packet, 3, third, third_start, fourth_start)
        packet.result = reader.integer()
    return is_request


def _set_id(packet: Packet, tag: i64, request_id: i64, start: i64, end: i64) -> None:
    packet.id_tag = tag
    packet.request_id = request_id
    packet.id_start = start
    packet.id_end = end


def _read_buffer(reader: JceReader, packet: Packet, tag: i64) -> None:
    packet.buffer_tag = tag
    packet.buffer_start = reader.at
    _expect(reader, tag)
    size: i64 = reader.bytes_size()
    packet.buffer = reader.data[reader.at : reader.at + size]
    reader.at += size
    packet.buffer_end = reader.at


def _read_rest(reader: JceReader, packet: Packet, is_request: bool) -> None:
    """Reads the optional fields after the buffer: timeout or status, description, context."""
    packet.context_start = reader.end
    packet.context_end = reader.end
    last: i64 = packet.buffer_tag
    start: i64 = reader.at
    while reader.head():
        if reader.tag <= last:
            raise JceError(f"field {reader.tag} after field {last}")
        last = reader.tag
        if last > 9 and packet.context_start == reader.end:
            packet.context_start = packet.context_end = start
        if last == 9:
            packet.context = reader.pairs()
            packet.context_start = start
            packet.context_end = reader.at
        elif last == 8 and is_request:
            packet.timeout = reader.integer()
        elif last == 10 and is_request and is_tup(packet.version):
            _read_status(reader, packet)
        else:
            reader.skip()
        start = reader.at


def _read_status(reader: JceReader, packet: Packet) -> None:
    """Reads the result of a TUP response."""
    for key, value in reader.pairs():
        if key == b"STATUS_RESULT_CODE":
            packet.result = -decimal(value[1:]) if value.startswith(b"-") else decimal(value)


def _expect(reader: JceReader, tag: i64) -> None:
    if not reader.head() or reader.tag != tag:
        raise JceError(f"field {tag} is missing")


def _integer(reader: JceReader, tag: i64) -> i64:
    _expect(reader, tag)
    value: i64 = reader.integer()
    if value < -0x80000000 or value > 0x7FFFFFFF:
        raise JceError(f"field {tag} exceeds 32 bits")
    return value


class TarsSpec(RpcSpec):
    """Recognised by the field after the length: tag 1 with a version from 1 to 3."""

    def __init__(self) -> None:
        super().__init__("tars", _MAX_NUMBER)

    def match(self, data: bytes) -> i64:
        size: i64 = len(data)
        if data[0] >= _NO_LENGTH or (size > 4 and data[4] != 0x10):
            return NO
        if size < 6:
            return MORE
        return YES if 1 <= data[5] <= 3 else NO

    def decoder(self, max_frame: i64) -> RpcDecoder:
        return TarsDecoder(max_frame)
