"""Messages of Protocol Buffers on the wire: the library would cost each worker megabytes.

Fields are numbered as in the .proto files. Unknown fields are skipped (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
#: Bytes of the longest varint.
_LONGEST: Final = 10


def varint(value: int) -> bytes:
    """A number in groups of 7 bits, the lowest first; a negative one as 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(number: int, value: int) -> bytes:
    """A field with a number; empty for 0, which is the default."""
    return varint(number << 3) + varint(value) if value else b""


def text(number: int, value: str | bytes) -> bytes:
    """A field with a string or bytes; empty for the default."""
    return message(number, value if isinstance(value, bytes) else value.encode("utf-8", "replace")) if value else b""


def message(number: int, body: bytes) -> bytes:
    """A field with a message, which may be empty."""
    return varint(number << 3 | _BYTES) + varint(len(body)) + body


def text_map(number: int, items: Iterable[tuple[str, str]]) -> bytes:
    """A field with a map from strings to strings."""
    return b"".join(message(number, text(1, key) + text(2, value)) for key, value in items)


def struct(value: Mapping[str, object]) -> bytes:
    """The body of a google.protobuf.Struct."""
    return b"".join(message(1, text(1, key) + message(2, _json_value(inner))) for key, inner in value.items())


def _json_value(value: object) -> bytes:
    """The body of a google.protobuf.Value."""
    from struct import pack

    if isinstance(value, bool):
        return varint(4 << 3) + varint(int(value))
    if isinstance(value, (int, float)):
        return varint(2 << 3 | _FIXED64) + pack("<d", float(value))
    if isinstance(value, str):
        return message(3, value.encode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return message(5, struct(value))
    if isinstance(value, (list, tuple)):
        return message(6, b"".join(message(1, _json_value(item)) for item in value))
    return varint(1 << 3) + varint(0)


class Budget:
    """The number of fields that may be read in a message from an untrusted peer, and in the messages within it."""

    def __init__(self, fields: int) -> None:
        self._left = fields

    def spend(self) -> None:
        """Counts a field. Raises ValueError if it is one too many."""
        if self._left <= 0:
            raise ValueError("too many fields")
        self._left -= 1


class Fields:
    """The fields of a received message. Raises ValueError for a body that is not one, or that exceeds the budget."""

    def __init__(self, body: bytes, budget: Budget | None = None) -> None:
        """`budget`: shared with the messages within it; None: no limit."""
        self._budget = budget
        self._numbers: dict[int, int] = {}
        self._parts: dict[int, list[bytes]] = {}
        at = 0
        while at < len(body):
            if budget is not None:
                budget.spend()
            tag, at = _read_varint(body, at)
            number, kind = tag >> 3, tag & 7
            if not number:
                raise ValueError("a field with the number 0")
            if kind == _VARINT:
                self._numbers[number], at = _read_varint(body, at)
                continue
            size = 8 if kind == _FIXED64 else 4
            if kind == _BYTES:
                size, at = _read_varint(body, at)
            elif kind not in (_FIXED64, _FIXED32):
                raise ValueError(f"unknown type {kind} of field {number}")
            if at + size > len(body):
                raise ValueError(f"field {number} is longer than the message")
            if kind != _FIXED32:
                self._parts.setdefault(number, []).append(body[at : at + size])
            at += size

    def __contains__(self, number: int) -> bool:
        return number in self._numbers or number in self._parts

    def number(self, number: int) -> int:
        """The value of a field with a number; 0 without it."""
        return self._numbers.get(number, 0)

    def raw(self, number: int) -> bytes:
        """The value of a field with bytes; empty without it."""
        return self._parts.get(number, [b""])[-1]

    def text(self, number: int) -> str:
        """The value of a field with a string."""
        return self.raw(number).decode("utf-8")

    def texts(self, number: int) -> list[str]:
        """The values of a field with strings."""
        return [part.decode("utf-8") for part in self._parts.get(number, [])]

    def inner(self, number: int) -> Fields:
        """The message in a field; empty without it."""
        return Fields(b"".join(self._parts.get(number, [])), self._budget)

    def items(self, number: int) -> list[Fields]:
        """The messages of a repeated field."""
        return [Fields(part, self._budget) for part in self._parts.get(number, [])]


def read_struct(fields: Fields, depth: int = 0) -> dict[str, object]:
    """The values of a google.protobuf.Struct. Raises ValueError, also beyond 32 levels."""
    if depth > 32:
        raise ValueError("a Struct with too many levels")
    return {entry.text(1): _read_value(entry.inner(2), depth) for entry in fields.items(1)}


def _read_value(fields: Fields, depth: int) -> object:
    from struct import unpack

    if 2 in fields:
        number = fields.raw(2)
        if len(number) != 8:
            raise ValueError("a double that does not have 8 bytes")
        return float(unpack("<d", number)[0])
    if 3 in fields:
        return fields.text(3)
    if 4 in fields:
        return fields.number(4) != 0
    if 5 in fields:
        return read_struct(fields.inner(5), depth + 1)
    if 6 in fields:
        if depth > 32:
            raise ValueError("a Struct with too many levels")
        return [_read_value(item, depth + 1) for item in fields.inner(6).items(1)]
    return None


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(_LONGEST):
        if at + i >= len(body):
            break
        value |= (body[at + i] & 0x7F) << 7 * i
        if body[at + i] < 0x80:
            return value, at + i + 1
    raise ValueError("an invalid number")
