"""SOFA Bolt as an `RpcSpec`, and decoding of its frames. One connection may carry both versions, as in MOSN."""

from __future__ import annotations

import zlib
from typing import Final

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
from pymosn.core.failure import BAD_FRAME
from pymosn.protocol.bolt.frames import (
    COMMAND_GOAWAY,
    COMMAND_HEARTBEAT,
    HESSIAN2,
    OF_REQUEST,
    STATUS_SUCCESS,
    TO_HTTP,
    TYPE_ONE_WAY,
    TYPE_REQUEST,
    TYPE_RESPONSE,
    V1,
    V2,
    BoltHeaders,
    BoltRequest,
    BoltResponse,
    bare_frame,
    is_header_block,
    put16,
    u16,
    u32,
)

#: The timeout of a request that specifies none.
NO_TIMEOUT: Final = b"\xff\xff\xff\xff"
#: The lengths of a frame without class, headers and content.
NO_LENGTHS: Final = bytes(8)


class BoltDecoder(RpcDecoder):
    """Decodes requests and responses of either version."""

    def frame_size(self, data: bytes, start: i64, end: i64) -> i64:
        version: i64 = data[start]
        if version != V1 and version != V2:
            raise ProtocolError(BAD_FRAME, f"unsupported Bolt version {version}")
        if end - start <= version:
            return 0
        kind: i64 = data[start + version]
        if kind > TYPE_ONE_WAY:
            raise ProtocolError(BAD_FRAME, f"invalid command type {kind}")
        if version == V2 and not 1 <= data[start + 1] <= 2:
            raise ProtocolError(BAD_FRAME, f"invalid header version {data[start + 1]} in a version 2 frame")
        # The offset of the three lengths.
        at: i64 = start + 2 * version + (10 if kind == TYPE_RESPONSE else 12)
        if at + 8 > end:
            return 0
        crc: i64 = 4 if version == V2 and data[start + 1] == 2 and data[start + 11] & 1 == 1 else 0
        return at + 8 - start + u16(data, at) + u16(data, at + 2) + u32(data, at + 4) + crc

    def read(self, data: bytes, start: i64, end: i64) -> i64:
        version: i64 = data[start]
        kind: i64 = data[start + version]
        at: i64 = start + 2 * version + (10 if kind == TYPE_RESPONSE else 12)
        header_start: i64 = at + 8 + u16(data, at)
        front_end: i64 = header_start + u16(data, at + 2)
        payload_end: i64 = front_end + u32(data, at + 4)
        if payload_end != end and zlib.crc32(data[start:payload_end]) != u32(data, payload_end):
            raise ProtocolError(BAD_FRAME, "CRC mismatch")
        if not is_header_block(data, header_start, front_end):
            raise ProtocolError(BAD_FRAME, "malformed header block (odd number of strings)")
        self.request_id = u32(data, start + 4 + version)
        command: i64 = u16(data, start + 1 + version)
        front = data[start:front_end]
        if kind == TYPE_RESPONSE:
            if command == COMMAND_HEARTBEAT:
                return HEARTBEAT_ACK
        elif command == COMMAND_HEARTBEAT:
            self.answer = self._heartbeat_ack(front, version) if kind == TYPE_REQUEST else b""
            return HEARTBEAT
        elif command == COMMAND_GOAWAY:
            return GOAWAY
        headers = BoltHeaders(front, header_start - start, front_end - start)
        payload = data[front_end:payload_end]
        if kind == TYPE_RESPONSE:
            status: i64 = u16(data, at - 2)
            http_status: i64 = 200 if status == STATUS_SUCCESS else TO_HTTP.get(int(status), 500)
            response = BoltResponse(headers, http_status, front, payload, version)
            response.rejects_request = http_status == 500 and status in OF_REQUEST
            self.response = response
            return RESPONSE
        request = BoltRequest(headers, self.request_id, front, payload, kind == TYPE_ONE_WAY, version)
        self.request = request
        timeout: i64 = u32(data, at - 4)
        if 0 < timeout < 0x80000000:
            request.has_timeout = True
            request.timeout = float(timeout) / 1000.0
        return ONE_WAY if kind == TYPE_ONE_WAY else REQUEST

    def read_head(self, data: bytes, start: i64, end: i64) -> i64:
        version: i64 = data[start]
        kind: i64 = data[start + version]
        command: i64 = u16(data, start + 1 + version)
        self.request_id = u32(data, start + 4 + version)
        if command in (COMMAND_HEARTBEAT, COMMAND_GOAWAY):
            return IGNORE
        if kind == TYPE_RESPONSE:
            return RESPONSE
        size: i64 = 2 * version + 12
        front = data[start : start + size] + NO_LENGTHS
        headers = BoltHeaders(front, len(front), len(front))
        self.request = BoltRequest(headers, self.request_id, front, b"", kind == TYPE_ONE_WAY, version)
        return REQUEST

    def _heartbeat_ack(self, front: bytes, version: i64) -> bytes:
        status = put16(STATUS_SUCCESS)
        if version == V1:
            prefix = b"\x01\x00\x00\x00" + front[4:10] + status
        else:
            prefix = front[:2] + b"\x00\x00\x00" + front[5:12] + status
        return bare_frame(prefix, version, self.request_id)


class BoltSpec(RpcSpec):
    """One version of Bolt: for detection, and for what the proxy originates. Both versions are decoded."""

    def __init__(self, version: i64) -> None:
        """`version`: 1 ("bolt") or 2 ("boltv2")."""
        super().__init__("bolt" if version == V1 else "boltv2", 0xFFFFFFFF)
        self._version: i64 = version

    def match(self, data: bytes) -> i64:
        """Matches a request: version, header version (2 only), type 1 or 2, command 0, 1 or 100.

        Connections begin with a request. MOSN checks the first byte only and mistakes other binary protocols for Bolt.
        """
        version: i64 = self._version
        size: i64 = len(data)
        if data[0] != version or (version == V2 and size > 1 and not 1 <= data[1] <= 2):
            return NO
        if size > version and not 1 <= data[version] <= 2:
            return NO
        if size > version + 1 and data[version + 1] != 0:
            return NO
        if size <= version + 2:
            return MORE
        return YES if data[version + 2] in (0, 1, 100) else NO

    def decoder(self, max_frame: i64) -> RpcDecoder:
        return BoltDecoder(max_frame)

    def heartbeat(self, request_id: i64) -> bytes:
        return self._command(COMMAND_HEARTBEAT, request_id)

    def goaway(self, request_id: i64) -> bytes:
        return self._command(COMMAND_GOAWAY, request_id)

    def _command(self, command: i64, request_id: i64) -> bytes:
        """A request without class, headers and content."""
        end = b"\x01\x00\x00\x00\x00" + bytes([HESSIAN2])
        if self._version == V2:
            prefix = b"\x02\x01\x01" + put16(command) + end + b"\x00"
        else:
            prefix = b"\x01\x01" + put16(command) + end
        return bare_frame(prefix + NO_TIMEOUT, self._version, request_id)
