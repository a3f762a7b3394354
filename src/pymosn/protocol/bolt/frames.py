"""The frames of SOFA Bolt (key reference section 19.1 and 19.2), all numbers big-endian.

    version 1: 1, type, command (2), 1, id (4), codec
    version 2: 2, version of the header, type, command (2), 1, id (4), codec, switches
    then a request: timeout in ms (4, signed); a response: status (2)
    then: length of class (2), of headers (2), of content (4); class, headers, content; with switch bit 0 the CRC32 of it all

Version 2 only shifts what version 1 says: by one byte up to the codec, by two after it.
"""

from __future__ import annotations

import zlib
from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field, RpcHeaders, RpcReply, RpcRequest, fields_of
from pymosn.core.chars import LOWER
from pymosn.core.headers import HeaderError, Headers

V1: Final[i64] = 1
V2: Final[i64] = 2

TYPE_RESPONSE: Final[i64] = 0
TYPE_REQUEST: Final[i64] = 1
TYPE_ONE_WAY: Final[i64] = 2

COMMAND_HEARTBEAT: Final[i64] = 0
COMMAND_REQUEST: Final[i64] = 1
COMMAND_RESPONSE: Final[i64] = 2
COMMAND_GOAWAY: Final[i64] = 100

HESSIAN2: Final = 1

STATUS_SUCCESS: Final[i64] = 0
STATUS_ERROR: Final[i64] = 1
STATUS_SERVER_EXCEPTION: Final[i64] = 2
STATUS_UNKNOWN: Final[i64] = 3
STATUS_THREADPOOL_BUSY: Final[i64] = 4
STATUS_NO_PROCESSOR: Final[i64] = 6
STATUS_TIMEOUT: Final[i64] = 7
STATUS_CONNECTION_CLOSED: Final[i64] = 16

#: What an HTTP status of the proxy's own replies is in Bolt; others are STATUS_UNKNOWN.
FROM_HTTP: Final[dict[int, int]] = {403: 2, 404: 6, 502: 6, 503: 4, 504: 7}
#: The reverse, for retries and metrics; others are 500.
TO_HTTP: Final[dict[int, int]] = {0: 200, 4: 503, 7: 504, 16: 502}

#: The length that stands for a null.
NULL: Final[i64] = 0xFFFFFFFF
MAX_U16: Final = 0xFFFF


def u16(data: bytes, at: i64) -> i64:
    """The 16-bit number at `at`."""
    return (i64(data[at]) << 8) | i64(data[at + 1])


def u32(data: bytes, at: i64) -> i64:
    """The 32-bit number at `at`."""
    return (i64(data[at]) << 24) | (i64(data[at + 1]) << 16) | (i64(data[at + 2]) << 8) | i64(data[at + 3])


def put16(number: i64) -> bytes:
    """A 16-bit number as it is sent."""
    return int(number).to_bytes(2, "big")


def put32(number: i64) -> bytes:
    """A 32-bit number as it is sent."""
    return int(number).to_bytes(4, "big")


def is_header_block(data: bytes, start: i64, end: i64) -> bool:
    """Whether a header block is made of whole pairs."""
    at: i64 = start
    while at < end:
        for _ in (0, 1):
            if at + 4 > end:
                return False
            size: i64 = u32(data, at)
            at += 4
            if size != NULL:
                at += size
            if at > end:
                return False
    return True


def encode_headers(headers: Headers) -> bytes:
    """A header block. Raises HeaderError when it does not fit its 16-bit length."""
    parts: list[bytes] = []
    for name, value in fields_of(headers):
        parts.append(put32(len(name)))
        parts.append(name)
        if value is None:
            parts.append(put32(NULL))
        else:
            parts.append(put32(len(value)))
            parts.append(value)
    block = b"".join(parts)
    if len(block) > MAX_U16:
        raise HeaderError(f"bolt headers of {len(block)} bytes; {MAX_U16} fit")
    return block


class BoltHeaders(RpcHeaders):
    """The header map of a frame."""

    def __init__(self, frame: bytes, start: i64, end: i64) -> None:
        """The block is `frame[start:end]`, and well formed."""
        super().__init__()
        self._frame = frame
        self._start: i64 = start
        self._end: i64 = end

    def read(self) -> list[Field]:
        found: list[Field] = []
        data = self._frame
        at: i64 = self._start
        while at < self._end:
            size: i64 = u32(data, at)
            at += 4
            name: bytes | None = None
            if size != NULL:
                name = data[at : at + size]
                at += size
            size = u32(data, at)
            at += 4
            value: bytes | None = None
            if size != NULL:
                value = data[at : at + size]
                at += size
            if name is not None:  # a null name names nothing; Java's reader drops it too
                found.append((name, value))
        return found

    def scan(self, name: bytes) -> bytes | None:
        data = self._frame
        wanted: i64 = len(name)
        at: i64 = self._start
        while at < self._end:
            size: i64 = u32(data, at)
            at += 4
            is_it = False
            if size != NULL:
                if size == wanted:
                    k: i64 = 0
                    while k < size and LOWER[data[at + k]] == name[k]:
                        k += 1
                    is_it = k == size
                at += size
            size = u32(data, at)
            at += 4
            if size != NULL:
                if is_it:
                    return data[at : at + size]
                at += size
        return None


def has_crc(version: i64, prefix: bytes) -> bool:
    """Whether a frame that begins like this ends with a CRC."""
    return version == V2 and prefix[1] == 2 and prefix[11] & 1 == 1


def renumbered(frame: bytes, version: i64, number: i64) -> bytes:
    """The frame with another id."""
    at: i64 = 4 + version
    if has_crc(version, frame):
        body = b"".join([frame[:at], put32(number), frame[at + 4 : len(frame) - 4]])
        return body + put32(zlib.crc32(body))
    return b"".join([frame[:at], put32(number), frame[at + 4 :]])


def joined(prefix: bytes, version: i64, number: i64, class_name: bytes, headers: Headers, payload: bytes) -> bytes:
    """A frame of its parts; `prefix` is all that stands before the length of the class, with any id."""
    at: i64 = 4 + version
    block = encode_headers(headers)
    frame = b"".join(
        [
            prefix[:at],
            put32(number),
            prefix[at + 4 :],
            put16(len(class_name)),
            put16(len(block)),
            put32(len(payload)),
            class_name,
            block,
            payload,
        ]
    )
    return frame + put32(zlib.crc32(frame)) if has_crc(version, prefix) else frame


class BoltRequest(RpcRequest):
    """A request or a one-way request."""

    def __init__(
        self,
        headers: BoltHeaders,
        number: i64,
        frame: bytes,
        payload: bytes,
        is_one_way: bool,
        version: i64,
        class_name: bytes,
    ) -> None:
        super().__init__(headers, number, frame, payload, is_one_way)
        self.version: i64 = version
        #: The Java class of the content, such as `com.alipay.sofa.rpc.core.request.SofaRequest`.
        self.class_name = class_name

    def with_number(self, number: i64) -> bytes:
        return renumbered(self.frame, self.version, number)

    def build(self, number: i64, payload: bytes) -> bytes:
        prefix = self.frame[: 12 + 2 * self.version]
        return joined(prefix, self.version, number, self.class_name, self.headers, payload)

    def service(self) -> str:
        return super().service() or self.headers.get("sofa_head_target_service") or ""

    def method_name(self) -> str:
        return self.headers.get("sofa_head_method_name") or super().method_name()

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> BoltReply:
        """Of the request's own version and codec; a failure has a status and no content, which every client understands."""
        frame = self.frame
        mine: i64 = STATUS_SUCCESS if 200 <= status < 300 else FROM_HTTP.get(int(status), 3)
        if self.version == V1:
            start = b"\x01\x00\x00\x02\x01\x00\x00\x00\x00" + frame[9:10]
        else:
            start = frame[:2] + b"\x00\x00\x02\x01\x00\x00\x00\x00" + frame[10:12]
        return BoltReply(headers, status, b"", body, self.version, b"", start + put16(mine))


class BoltReply(RpcReply):
    """A response."""

    def __init__(
        self, headers: Headers, status: i64, frame: bytes, payload: bytes, version: i64, class_name: bytes, prefix: bytes
    ) -> None:
        """`prefix`: what stands before the length of the class."""
        super().__init__(headers, status, frame, payload)
        self.version: i64 = version
        self.class_name = class_name
        self.prefix = prefix

    def with_number(self, number: i64) -> bytes:
        return renumbered(self.frame, self.version, number)

    def build(self, number: i64, payload: bytes) -> bytes:
        prefix = self.prefix
        if self.status != self.frame_status:
            mine: i64 = STATUS_SUCCESS if 200 <= self.status < 300 else FROM_HTTP.get(int(self.status), 3)
            prefix = prefix[: len(prefix) - 2] + put16(mine)
        return joined(prefix, self.version, number, self.class_name, self.headers, payload)
