"""The frames of SOFA Bolt (key reference section 19.1 and 19.2), all numbers big-endian.

    version 1: 1, type, command (2), 1, id (4), codec
    version 2: 2, version of the header, type, command (2), 1, id (4), codec, switches
    then a request: timeout in ms (4, signed); a response: status (2)
    then: lengths of class (2), headers (2) and content (4); class, headers, content; with switch bit 0 a CRC32 of everything

Version 2 has the fields of version 1, shifted by one byte up to the codec and by two after it.
"""

from __future__ import annotations

import zlib
from typing import Final

from librt.strings import read_i16_be, read_i32_be
from mypy_extensions import i64

from pymosn.api.rpc import Field, RpcHeaders, RpcRequest, RpcResponse, fields_of, is_name
from pymosn.core.chars import has_lowered
from pymosn.core.failure import FLAG_TOO_LARGE, Failure, is_lost
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import HeaderError, Headers

V1: Final[i64] = 1
V2: Final[i64] = 2

TYPE_RESPONSE: Final[i64] = 0
TYPE_REQUEST: Final[i64] = 1
TYPE_ONE_WAY: Final[i64] = 2

COMMAND_HEARTBEAT: Final[i64] = 0
COMMAND_GOAWAY: Final[i64] = 100

HESSIAN2: Final = 1

STATUS_SUCCESS: Final[i64] = 0
#: HTTP statuses of local replies as Bolt statuses (server exception, no processor, thread pool busy, timeout).
_FROM_HTTP: Final[dict[int, int]] = {403: 2, 404: 6, 502: 6, 503: 4, 504: 7}
_UNKNOWN: Final = 3
#: The reverse, for retries and metrics, where 16 is a closed connection; others are 500.
TO_HTTP: Final[dict[int, int]] = {0: 200, 4: 503, 7: 504, 16: 502}
#: Statuses for failures of calls that were sent: the connection was closed; the frame is too large (codec exception).
_CONNECTION_CLOSED: Final = 16
_CODEC_EXCEPTION: Final = 9
#: Those of a host that finds fault with the request: no such service, codec error, deserialisation error.
OF_REQUEST: Final = (6, 9, 18)

#: The length of a null string.
NULL: Final[i64] = 0xFFFFFFFF
MAX_U16: Final = 0xFFFF


def u16(data: bytes, at: i64) -> i64:
    """The unsigned 16-bit number at offset `at`."""
    return i64(read_i16_be(data, at)) & 0xFFFF


def u32(data: bytes, at: i64) -> i64:
    """The unsigned 32-bit number at offset `at`."""
    return i64(read_i32_be(data, at)) & 0xFFFFFFFF


#: Small numbers, encoded: most lengths are small.
_SHORT: Final = [number.to_bytes(4, "big") for number in range(512)]


def put16(number: i64) -> bytes:
    """Encodes a 16-bit number."""
    return int(number).to_bytes(2, "big")


def put_status(status: i64) -> bytes:
    """Encodes an HTTP status as Bolt's."""
    return put16(STATUS_SUCCESS if 200 <= status < 300 else _FROM_HTTP.get(int(status), _UNKNOWN))


def put32(number: i64) -> bytes:
    """Encodes a 32-bit number."""
    return _SHORT[number] if number < 512 else int(number).to_bytes(4, "big")


def is_header_block(data: bytes, start: i64, end: i64) -> bool:
    """Whether a header block consists of complete pairs."""
    at: i64 = start
    texts: i64 = 0
    while at < end:
        if end - at < 4:
            return False
        size: i64 = u32(data, at)
        at += 4
        if size != NULL:
            if size > end - at:
                return False
            at += size
        texts += 1
    return texts & 1 == 0


def encode_fields(fields: list[Field]) -> bytes:
    """Encodes fields as a header block."""
    parts: list[bytes] = []
    for name, value in fields:
        parts.append(put32(len(name)) + name)
        parts.append(put32(NULL) if value is None else put32(len(value)) + value)
    return b"".join(parts)


#: Headers with the same meaning, by name: SOFARPC writes the service twice, for proxies and for servers.
_SERVICE: Final = b"service"
_TARGET: Final = b"sofa_head_target_service"


def _repeated_by(name: bytes) -> bytes:
    """The header that repeats the service in `name` (lower case); empty for any other name."""
    if name == _SERVICE:
        return _TARGET
    return _SERVICE if name == _TARGET else b""


class BoltHeaders(RpcHeaders):
    """The headers of a frame.

    `service` and `sofa_head_target_service` repeat each other, so different values are ambiguous like those of one name.
    """

    def __init__(self, front: bytes, start: i64, end: i64) -> None:
        """The block is `front[start:end]`, and is well formed."""
        super().__init__()
        self.front = front
        self.start: i64 = start
        self.end: i64 = end
        # Whether the proxy has set one of the two headers with the service: both are then its own.
        self._sets_service = False

    def value_in(self, fields: list[Field], name: bytes) -> bytes | None:
        value = super().value_in(fields, name)
        other = _repeated_by(name)
        if value is not None and len(other) > 0 and not self._sets_service:
            self._check_service(value, super().value_in(fields, other))
        return value

    def _check_service(self, value: bytes, repeated: bytes | None) -> None:
        if repeated is not None and repeated != value:
            raise self.unreadable("different values of 'service' and 'sofa_head_target_service'")

    def items_raw(self) -> list[tuple[bytes, bytes]]:
        self.get_raw(_SERVICE)
        return super().items_raw()

    def _put(self, name: bytes, value: bytes) -> None:
        super()._put(name, value)
        self._sets_service = self._sets_service or is_name(name, _SERVICE) or is_name(name, _TARGET)

    def read(self) -> list[Field]:
        found: list[Field] = []
        data = self.front
        at: i64 = self.start
        name: bytes | None = None
        is_value = False
        while at < self.end:
            size: i64 = u32(data, at)
            at += 4
            text: bytes | None = None
            if size != NULL:
                text = data[at : at + size]
                at += size
            if not is_value:
                name = text
            elif name is not None:  # Java's reader drops a null name too
                found.append((name, text))
            is_value = not is_value
        return found

    def scan(self, name: bytes) -> bytes | None:
        """One pass over all headers, for `name` and for the name that repeats it."""
        length: i64 = len(name)
        other = _repeated_by(name) if (length == 7 or length == 24) and not self._sets_service else b""
        other_length: i64 = len(other) or -2
        data = self.front
        end: i64 = self.end
        at: i64 = self.start
        # Offsets of the lengths of the values, or -1.
        found: i64 = -1
        repeated: i64 = -1
        candidates: i64 = 0
        while at < end:
            name_at: i64 = at + 4
            size: i64 = i64(read_i32_be(data, at))  # -1 for null
            at = name_at + size if size > 0 else name_at
            if size == length and has_lowered(data, name_at, name):
                if found >= 0 and self._text_at(at) != self._text_at(found):
                    raise self.conflict(name)
                found = at
            elif size == other_length:
                candidates += 1
                repeated = at
            size = i64(read_i32_be(data, at))
            at = at + 4 + size if size > 0 else at + 4
        value = None if found < 0 else self._text_at(found)
        # Usually the two values are equal, and then it does not matter what the other name is.
        if candidates > 0 and (candidates > 1 or (value is not None and self._text_at(repeated) != value)):
            self._check_repeated(value, other)
        return value

    def _check_repeated(self, value: bytes | None, other: bytes) -> None:
        """Compares `value` with all values of the name that repeats it."""
        before: i64 = -1
        at: i64 = self._value_at(other, self.start)
        while at >= 0:
            text = self._text_at(at)
            if before >= 0 and text != self._text_at(before):
                raise self.conflict(other)
            if value is not None:
                self._check_service(value, text)
            before = at
            at = self._value_at(other, at + 4 + (0 if text is None else len(text)))

    def _text_at(self, at: i64) -> bytes | None:
        size: i64 = u32(self.front, at)
        return None if size == NULL else self.front[at + 4 : at + 4 + size]

    def holds(self, name: bytes) -> bool:
        return self._value_at(name, self.start) >= 0

    def _value_at(self, name: bytes, start: i64) -> i64:
        """The offset of the length of the next value of `name` (lower case) from the pair at `start`, or -1."""
        data = self.front
        length: i64 = len(name)
        at: i64 = start
        while at < self.end:
            size: i64 = u32(data, at)
            at += 4
            if size == length and has_lowered(data, at, name):
                return at + size
            if size != NULL:
                at += size
            size = u32(data, at)
            at += 4
            if size != NULL:
                at += size
        return -1


def has_crc(version: i64, front: bytes) -> bool:
    """Whether a frame with this `front` ends with a CRC."""
    return version == V2 and front[1] == 2 and front[11] & 1 == 1


def write_crc(frame: FrameWriter, out: FrameWriter) -> None:
    """Writes a frame followed by its CRC."""
    crc = 0
    for part in frame.take():
        crc = zlib.crc32(part, crc)
        out.write(part)
    out.write_number(crc, 4)


def write_renumbered(front: bytes, version: i64, request_id: i64, payload: bytes, out: FrameWriter) -> None:
    """Writes an unchanged frame with another request id."""
    frame = FrameWriter() if has_crc(version, front) else out
    frame.write_numbered(front, 4 + version, 4, request_id)
    frame.write(payload)
    if frame is not out:
        write_crc(frame, out)


def write_frame(
    prefix: bytes, version: i64, request_id: i64, class_name: bytes, headers: Headers, payload: bytes, out: FrameWriter
) -> None:
    """Writes a frame. `prefix`: everything before the length of the class, with any request id.

    Raises HeaderError if the headers do not fit their 16-bit length.
    """
    old = b""
    added: list[Field] | None = None
    if isinstance(headers, BoltHeaders):
        added = headers.additions()
        if added is not None:
            old = headers.front[headers.start : headers.end]
    block = encode_fields(fields_of(headers) if added is None else added)
    size: i64 = len(old) + len(block)
    if size > MAX_U16:
        raise HeaderError(f"bolt headers of {size} bytes exceed the limit of {MAX_U16}")
    frame = FrameWriter() if has_crc(version, prefix) else out
    frame.write_numbered(prefix, 4 + version, 4, request_id)
    frame.write_number(len(class_name), 2)
    frame.write_number(size, 2)
    frame.write_number(len(payload), 4)
    frame.write(class_name)
    frame.write(old)
    frame.write(block)
    frame.write(payload)
    if frame is not out:
        write_crc(frame, out)


def bare_frame(prefix: bytes, version: i64, request_id: i64) -> bytes:
    """A frame without class, headers and content."""
    out = FrameWriter()
    write_frame(prefix, version, request_id, b"", RpcHeaders(), b"", out)
    return b"".join(out.take())


class BoltRequest(RpcRequest):
    """A request or one-way request. `frame` is everything before the content."""

    def __init__(
        self, headers: BoltHeaders, request_id: i64, front: bytes, payload: bytes, is_one_way: bool, version: i64
    ) -> None:
        super().__init__(headers, request_id, front, payload, is_one_way)
        self.version: i64 = version

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        write_renumbered(self.frame, self.version, request_id, self.payload, out)

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        front = self.frame
        size: i64 = 12 + 2 * self.version
        write_frame(front[:size], self.version, request_id, class_name(front, size), self.headers, payload, out)

    def service(self) -> str:
        return super().service() or self.headers.get("sofa_head_target_service") or ""

    def method_name(self) -> str:
        return self.headers.get("sofa_head_method_name") or super().method_name()

    def failure_body(self, failure: Failure) -> bytes:
        """None: the content must be an object of the client's language."""
        return b""

    def failure_reply(self, failure: Failure, headers: Headers, body: bytes) -> BoltResponse:
        if is_lost(failure):
            return self._reply(failure.status, put16(_CONNECTION_CLOSED), headers, body)
        if failure.flag & FLAG_TOO_LARGE:
            return self._reply(failure.status, put16(_CODEC_EXCEPTION), headers, body)
        return self.local_reply(failure.status, headers, body)

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> BoltResponse:
        """Uses the request's version and codec. A failure has a status and no content, which every client understands."""
        return self._reply(status, put_status(status), headers, body)

    def _reply(self, status: i64, own_status: bytes, headers: Headers, body: bytes) -> BoltResponse:
        """`own_status`: Bolt's, encoded."""
        front = self.frame
        if self.version == V1:
            start = b"\x01\x00\x00\x02\x01\x00\x00\x00\x00" + front[9:10]
        else:
            start = front[:2] + b"\x00\x00\x02\x01\x00\x00\x00\x00" + front[10:12]
        return BoltResponse(headers, status, b"", body, self.version, start + own_status)


def class_name(front: bytes, size: i64) -> bytes:
    """The Java class of the content, such as `com.alipay.sofa.rpc.core.request.SofaRequest`. Its length is at `size`."""
    start: i64 = size + 8
    return front[start : start + u16(front, size)]


class BoltResponse(RpcResponse):
    """A response. `frame` is everything before the content."""

    def __init__(
        self, headers: Headers, status: i64, front: bytes, payload: bytes, version: i64, prefix: bytes = b""
    ) -> None:
        """`prefix`: everything before the length of the class, for a response that was not decoded from a frame."""
        super().__init__(headers, status, front, payload)
        self.version: i64 = version
        self._prefix = prefix

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        write_renumbered(self.frame, self.version, request_id, self.payload, out)

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        prefix = self._prefix
        name = b""
        if self.frame:
            size: i64 = 10 + 2 * self.version
            prefix = self.frame[:size]
            name = class_name(self.frame, size)
        if self.status != self.frame_status:
            prefix = prefix[: len(prefix) - 2] + put_status(self.status)
        write_frame(prefix, self.version, request_id, name, self.headers, payload, out)
