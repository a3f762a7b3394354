"""The parts of Thrift's compact protocol that Jaeger's agent needs (thrift-compact-protocol.md in Apache Thrift)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from pymosn.core.proto_wire import varint

#: Types of fields.
TRUE: Final = 1
FALSE: Final = 2
I32: Final = 5
I64: Final = 6
DOUBLE: Final = 7
BINARY: Final = 8
LIST: Final = 9
STRUCT: Final = 12

#: A message without a response.
ONEWAY: Final = 4
_PROTOCOL: Final = 0x82
_VERSION: Final = 1
_STOP: Final = b"\x00"

#: A field: its number, type and encoded value.
Field = tuple[int, int, bytes]


def integer(number: int) -> bytes:
    """A signed number of at most 64 bits."""
    return varint((number << 1 ^ number >> 63) & 0xFFFFFFFFFFFFFFFF)


def signed(digits: str) -> int:
    """The signed 64-bit number with the bits of up to 16 hexadecimal digits."""
    number = int(digits or "0", 16)
    return number - (1 << 64) if number >> 63 else number


def double(number: float) -> bytes:
    """A floating-point number; little-endian, as all implementations do."""
    return struct.pack("<d", number)


def text(value: str) -> bytes:
    """A string as UTF-8."""
    content = value.encode("utf-8", "replace")
    return varint(len(content)) + content


def list_of(kind: int, items: Iterable[bytes]) -> bytes:
    """A list of encoded values of one type."""
    values = list(items)
    size = len(values)
    head = bytes((size << 4 | kind,)) if size < 15 else bytes((0xF0 | kind,)) + varint(size)
    return head + b"".join(values)


def struct_of(fields: Iterable[Field]) -> bytes:
    """A struct of fields with ascending numbers. A boolean is its type, and its value is empty."""
    found = bytearray()
    last = 0
    for number, kind, value in fields:
        step = number - last
        if step <= 15:
            found.append(step << 4 | kind)
        else:
            found.append(kind)
            found += integer(number)
        found += value
        last = number
    return bytes(found) + _STOP


def oneway(name: str, sequence: int, arguments: bytes) -> bytes:
    """A call without a response."""
    return bytes((_PROTOCOL, ONEWAY << 5 | _VERSION)) + varint(sequence) + text(name) + arguments
