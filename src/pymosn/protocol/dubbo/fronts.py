"""The strings before the arguments of a request, in serializations whose arguments cannot be skipped.

Every serialization of Dubbo writes protocol version, service, version and method first, each with its own `writeUTF`. The
attachments come after the arguments, and are not read here: providers put them over these strings.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.protocol.dubbo.attachments import RequestBody
from pymosn.protocol.dubbo.fastjson import Lines
from pymosn.protocol.dubbo.hessian2 import Hessian2Error
from pymosn.protocol.dubbo.java_text import to_utf8

# Ids of serializations.
JAVA: Final[i64] = 3
COMPACTED_JAVA: Final[i64] = 4
NATIVE_JAVA: Final[i64] = 7
KRYO: Final[i64] = 8
FST: Final[i64] = 9
NATIVE_HESSIAN: Final[i64] = 10
AVRO: Final[i64] = 11
PROTOSTUFF: Final[i64] = 12
GSON: Final[i64] = 16
PROTOBUF_JSON: Final[i64] = 21
PROTOBUF: Final[i64] = 22
KRYO2: Final[i64] = 25
MSGPACK: Final[i64] = 27

#: How Java's object streams begin, and the tags of their blocks of primitive data.
_STREAM: Final = b"\xac\xed\x00\x05"
_BLOCK: Final[i64] = 0x77
_LONG_BLOCK: Final[i64] = 0x7A
#: Bytes of primitive data in which the strings must be.
_MAX_FRONT: Final[i64] = 256 * 1024


class Front:
    """Service, version and method of a call; None for null."""

    def __init__(self, dubbo: bytes | None, service: bytes | None, version: bytes | None, method: bytes | None) -> None:
        self.dubbo = dubbo
        self.service = service
        self.version = version
        self.method = method


def read_front(body: bytes, serialization: i64) -> Front:
    """Reads the strings. Raises Hessian2Error for an unknown serialization, and for strings that cannot be read."""
    if serialization == NATIVE_HESSIAN:
        known = RequestBody(body)
        return Front(known.dubbo, known.service, known.version, known.method)
    if serialization in (GSON, PROTOBUF_JSON):
        lines = Lines(body)
        return Front(lines.text(), lines.text(), lines.text(), lines.text())
    if serialization in (JAVA, COMPACTED_JAVA, NATIVE_JAVA):
        body = _primitive_data(body)
    strings = _Strings(body, serialization)
    return Front(strings.next(), strings.next(), strings.next(), strings.next())


def _primitive_data(body: bytes) -> bytes:
    """The primitive data at the start of Java's object stream."""
    if not body.startswith(_STREAM):
        raise Hessian2Error("not a stream of Java's objects")
    parts: list[bytes] = []
    total: i64 = 0
    at: i64 = len(_STREAM)
    while at + 5 <= len(body) and total < _MAX_FRONT:
        tag: i64 = body[at]
        if tag == _BLOCK:
            size: i64 = body[at + 1]
            at += 2
        elif tag == _LONG_BLOCK:
            size = int.from_bytes(body[at + 1 : at + 5], "big")
            at += 5
        else:
            break
        parts.append(body[at : at + size])
        total += size
        at += size
    return b"".join(parts)


class _Strings:
    """Reads strings one after the other."""

    def __init__(self, data: bytes, serialization: i64) -> None:
        self._data = data
        self._at: i64 = 0
        self._kind: i64 = serialization

    def next(self) -> bytes | None:
        """The next string, as UTF-8."""
        kind: i64 = self._kind
        if kind in (JAVA, COMPACTED_JAVA):
            # The length in characters, -1 for null, then as the others.
            return None if self._number(4) == 0xFFFFFFFF else self._java(self._number(2))
        if kind == NATIVE_JAVA:
            return self._java(self._number(2))
        if kind in (KRYO, KRYO2):
            return self._kryo()
        if kind == FST:
            return self._fst()
        if kind == AVRO:
            size: i64 = self._varint(0, 0)
            return self._take(size >> 1) if size & 1 == 0 else self._fail()
        if kind == PROTOSTUFF:
            return self._take(self._number(4))
        if kind == PROTOBUF:
            return self._protobuf()
        if kind == MSGPACK:
            return self._msgpack()
        raise Hessian2Error(f"serialization {kind} is unknown")

    def _fail(self) -> bytes:
        raise Hessian2Error("not a string")

    def _take(self, size: i64) -> bytes:
        start: i64 = self._at
        if size < 0 or size > len(self._data) - start:
            raise Hessian2Error("truncated string")
        self._at = start + size
        return self._data[start : start + size]

    def _number(self, size: i64) -> i64:
        return int.from_bytes(self._take(size), "big")

    def _varint(self, value: i64, shift: i64) -> i64:
        """A number in groups of seven bits, whose `shift` lowest bits are `value`."""
        while shift < 35:
            group: i64 = self._number(1)
            value += (group & 0x7F) << shift
            if group < 0x80:
                return value
            shift += 7
        raise Hessian2Error("a length is too large")

    def _java(self, size: i64) -> bytes:
        try:
            return to_utf8(self._take(size))
        except IndexError:
            raise Hessian2Error("invalid characters") from None

    def _kryo(self) -> bytes | None:
        first: i64 = self._number(1)
        if first < 0x80:
            # ASCII, whose last character has the highest bit.
            parts = bytearray((first,))
            while parts[len(parts) - 1] < 0x80:
                parts += self._take(1)
            parts[len(parts) - 1] &= 0x7F
            return bytes(parts)
        size: i64 = first & 0x3F
        if first & 0x40 != 0:
            size = self._varint(size, 6)
        return None if size == 0 else self._characters(size - 1)

    def _characters(self, count: i64) -> bytes:
        """That many characters of Java in UTF-8, each surrogate on its own."""
        start: i64 = self._at
        while count > 0:
            lead: i64 = self._number(1)
            if lead >= 0x80:
                self._take(1 if lead & 0xE0 == 0xC0 else 2)
            count -= 1
        return to_utf8(self._data[start : self._at])

    def _fst(self) -> bytes:
        size: i64 = self._number(1)
        if size == 0x80:
            size = int.from_bytes(self._take(2), "little")
        elif size > 0x7F:
            return self._fail()
        units: list[bytes] = []
        while size > 0:
            unit = self._take(1)
            units.append(self._take(2) if unit == b"\xff" else unit + b"\x00")
            size -= 1
        return b"".join(units).decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")

    def _protobuf(self) -> bytes:
        """A StringValue with its length."""
        size: i64 = self._varint(0, 0)
        if size == 0:
            return b""
        end: i64 = self._at + size
        if self._number(1) != 0x0A:
            return self._fail()
        text = self._take(self._varint(0, 0))
        return text if self._at == end else self._fail()

    def _msgpack(self) -> bytes | None:
        tag: i64 = self._number(1)
        if tag == 0xC0:
            return None
        if tag & 0xE0 == 0xA0:
            return self._take(tag & 0x1F)
        if 0xD9 <= tag <= 0xDB:
            return self._take(self._number(i64(1) << (tag - 0xD9)))
        return self._fail()
