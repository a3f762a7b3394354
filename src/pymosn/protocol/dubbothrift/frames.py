"""The messages of dubbo-thrift: a header with service and id, then a message of Thrift's binary protocol.

    length (4) | 0xdabc | length again (4) | length of the header (2) | 1 | service [| path] | id (8) | message

The header begins with the magic. A string is preceded by its length (4). Later versions of Dubbo add the path.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field, RpcHeaders, RpcRequest, RpcResponse, fields_of
from pymosn.core.failure import BAD_RESPONSE, FLAG_TOO_LARGE, Failure, is_lost
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import HeaderError, Headers, lower_name, to_bytes
from pymosn.core.rpc_headers import first
from pymosn.protocol.failure_text import failure_text

MAGIC: Final = b"\xda\xbc"
#: Offset of the header's strings.
STRINGS_AT: Final[i64] = 13
#: Maximum header size, which is a 16-bit number.
MAX_HEADER: Final[i64] = 0xFFFF

# Thrift message types.
CALL: Final[i64] = 1
REPLY: Final[i64] = 2
EXCEPTION: Final[i64] = 3
ONE_WAY: Final[i64] = 4

#: HTTP statuses as types of Thrift's TApplicationException, as in MOSN: unknown method, protocol error, internal error.
_EXCEPTIONS: Final[dict[int, int]] = {404: 1, 400: 7, 403: 6, 500: 6, 504: 6}
_UNKNOWN: Final = 0
_INTERNAL_ERROR: Final = 6
_PROTOCOL_ERROR: Final = 7


def string(value: bytes) -> bytes:
    """Encodes a string with its length."""
    return len(value).to_bytes(4, "big") + value


def write_frame(strings: bytes, request_id: i64, message: bytes, version: bytes, out: FrameWriter) -> None:
    """Writes a frame. `strings`: service and, if present, path. Raises HeaderError if they are too long."""
    header_size: i64 = STRINGS_AT - 4 + len(strings) + 8
    if header_size > MAX_HEADER:
        raise HeaderError(f"dubbo-thrift header of {header_size} bytes exceeds the limit of {MAX_HEADER}")
    size: i64 = header_size + len(message)
    out.write_number(size, 4)
    out.write(MAGIC)
    out.write_number(size, 4)
    out.write_number(header_size, 2)
    out.write(version)
    out.write(strings)
    out.write_number(request_id, 8)
    out.write(message)


class Message:
    """The beginning of a Thrift message."""

    def __init__(self, name: bytes, kind: i64, sequence: i64) -> None:
        self.name = name
        self.kind: i64 = kind
        self.sequence: i64 = sequence


class ThriftHeaders(RpcHeaders):
    """`service`, `path` if present, `method`, `seqId` and `messageType`. Only the first two can be changed.

    Providers look the service up by its path. If that differs, the service is ambiguous and cannot be read; the path can.
    Changes to a response are visible to later readers, but are not sent.
    """

    def __init__(self, service: bytes, path: bytes | None, message: Message, is_request: bool) -> None:
        super().__init__()
        self._is_request = is_request
        self._service = service
        self.path = path
        self.message = message

    def scan(self, name: bytes) -> bytes | None:
        return self.message.name if name == b"method" else super().scan(name)

    def value_in(self, fields: list[Field], name: bytes) -> bytes | None:
        value = super().value_in(fields, name)
        if name == b"service" and self._is_request:
            path = super().value_in(fields, b"path")
            if path and path != value:
                raise self.unreadable("different values of 'service' and 'path'")
        return value

    def items_raw(self) -> list[tuple[bytes, bytes]]:
        self.get_raw(b"service")
        return super().items_raw()

    def read(self) -> list[Field]:
        fields: list[Field] = [(b"service", self._service)]
        if self.path is not None:
            fields.append((b"path", self.path))
        fields.append((b"method", self.message.name))
        fields.append((b"seqId", b"%d" % self.message.sequence))
        fields.append((b"messageType", b"%d" % self.message.kind))
        return fields

    def set(self, name: str, value: str) -> None:
        """Changes service or path; a new service is also the path, if there is one: providers use that.

        Raises HeaderError for other names of a request, which the protocol cannot carry.
        """
        if not self._is_request:
            super().set(name, value)
            return
        raw = lower_name(name)
        if raw != b"service" and (raw != b"path" or self.path is None):
            self._refuse(name)
        self.remove_raw(raw)
        self._put(to_bytes(name), to_bytes(value))
        if raw == b"service" and self.path is not None:
            self.remove_raw(b"path")
            self._put(b"path", to_bytes(value))

    def add(self, name: str, value: str) -> None:
        self._refuse(name)
        super().add(name, value)

    def remove(self, name: str) -> bool:
        self._refuse(name)
        return super().remove(name)

    def add_raw(self, name: bytes, value: bytes) -> None:
        """Ignored for a request, which cannot carry further headers."""
        if not self._is_request:
            super().add_raw(name, value)

    def _refuse(self, name: str) -> None:
        if self._is_request:
            raise HeaderError(f"header {name} cannot be sent in dubbo-thrift")


class ThriftRequest(RpcRequest):
    """A call. The payload is the Thrift message."""

    def __init__(self, headers: ThriftHeaders, request_id: i64, raw: bytes, id_at: i64) -> None:
        super().__init__(headers, request_id, raw, raw[id_at + 8 :], headers.message.kind == ONE_WAY)
        self.id_at: i64 = id_at
        self._message = headers.message
        self._has_path = headers.path is not None

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        out.write_numbered(self.frame, self.id_at, 8, request_id)

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        fields = fields_of(self.headers)
        strings = string(first(fields, b"service") or b"")
        if self._has_path:
            strings += string(first(fields, b"path") or b"")
        write_frame(strings, request_id, payload, self.frame[STRINGS_AT - 1 : STRINGS_AT], out)

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> RpcResponse:
        """A TApplicationException; for a successful status a result, which is a string, or void if `body` is empty.

        `headers` cannot be sent. The header is that of the call, so that it has a path only if the client knows paths.
        """
        return self._reply(status, _EXCEPTIONS.get(int(status), _UNKNOWN), body)

    def failure_reply(self, failure: Failure, headers: Headers, body: bytes) -> RpcResponse:
        if failure.flag & FLAG_TOO_LARGE or failure is BAD_RESPONSE:
            return self._reply(failure.status, _PROTOCOL_ERROR, body)
        if is_lost(failure):
            return self._reply(failure.status, _INTERNAL_ERROR, body)
        return self.local_reply(failure.status, headers, body)

    def _reply(self, status: i64, exception: int, body: bytes) -> RpcResponse:
        """`exception`: the type of the TApplicationException, if it is one."""
        strings = self.frame[STRINGS_AT : self.id_at]
        message = Message(self._message.name, _reply_kind(status), self._message.sequence)
        payload = _answer(message, status, exception, body)
        return ThriftResponse(ThriftHeaders(b"", None, message, False), status, b"", 0, strings, payload)


def _reply_kind(status: i64) -> i64:
    return REPLY if 200 <= status < 300 else EXCEPTION


def _answer(message: Message, status: i64, exception: int, body: bytes) -> bytes:
    """The answer with `status` to the call of `message`. `exception`: the type of the exception, unless it succeeded."""
    kind: i64 = _reply_kind(status)
    sequence = int(message.sequence).to_bytes(4, "big", signed=True)
    begin = b"\x80\x01\x00" + bytes((kind,)) + string(message.name) + sequence
    if kind == REPLY:
        return begin + (b"\x0b\x00\x00" + string(body) if body else b"") + b"\x00"
    text = string(body or failure_text(status))
    return begin + b"\x0b\x00\x01" + text + b"\x08\x00\x02" + exception.to_bytes(4, "big") + b"\x00"


class ThriftResponse(RpcResponse):
    """A response: a result, or an exception of Thrift itself. The payload is the Thrift message."""

    def __init__(self, headers: ThriftHeaders, status: i64, raw: bytes, id_at: i64, strings: bytes, payload: bytes) -> None:
        super().__init__(headers, status, raw, payload)
        self.id_at: i64 = id_at
        self._strings = strings
        self._message = headers.message

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        out.write_numbered(self.frame, self.id_at, 8, request_id)

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        if self.status != self.frame_status and payload is self.payload:
            exception = _EXCEPTIONS.get(int(self.status), _UNKNOWN)
            payload = _answer(self._message, self.status, exception, b"")
        write_frame(self._strings, request_id, payload, self.frame[STRINGS_AT - 1 : STRINGS_AT] or b"\x01", out)
