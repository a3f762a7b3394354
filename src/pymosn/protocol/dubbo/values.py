"""Complete hessian 2 values, for transcoders that make calls or show results. Not used for forwarding.

| hessian 2 | Python |
|---|---|
| null, boolean, int, long, double, string | None, bool, int, int, float, str |
| date | int: milliseconds since 1970 |
| binary | bytes |
| list, map | list, dict |
| object | dict, with its class under `class`; a `cause` that is the object itself is None |
"""

from __future__ import annotations

import struct
from typing import Final

from mypy_extensions import i64

from pymosn.protocol.dubbo.hessian2 import Hessian2Error, Hessian2Reader
from pymosn.protocol.dubbo.java_text import write_text

#: Maximum nesting of values.
MAX_NESTING: Final[i64] = 100
#: Maximum bytes of all values that are repeated by references: each repetition appears in the result again.
MAX_REPEATED: Final[i64] = 16 * 1024 * 1024

_MAP_KEY: Final[i64] = -2


class Hessian2ValueReader(Hessian2Reader):
    """Reads the values of a message as Python objects. Raises Hessian2Error for malformed, too deep or recursive values."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._class_names: list[str] = []
        self._field_names: list[list[str]] = []
        # Containers read so far, with their sizes in bytes; -1 while one is incomplete.
        self._made: list[object] = []
        self._weights: list[int] = []
        self._repeated: i64 = 0

    def value(self) -> object:
        """Reads one value."""
        return self._value(0)

    def _value(self, depth: i64) -> object:
        tag: i64 = self._take()
        while tag == 0x43:  # C: a class definition before the value
            self._define()
            tag = self._take()
        if tag < 0x20 or 0x30 <= tag < 0x34 or tag == 0x52 or tag == 0x53:
            self.at -= 1
            return self._text()
        if 0x20 <= tag < 0x30 or 0x34 <= tag < 0x38 or tag == 0x41 or tag == 0x42:
            return self._binary(tag)
        if 0x80 <= tag < 0xD8 or tag == 0x49:
            return int(self._integer(tag))
        if tag >= 0xD8 or 0x38 <= tag < 0x40 or tag == 0x4C or tag == 0x59:
            return int(self._long(tag))
        if tag == 0x4E:
            return None
        if tag == 0x54 or tag == 0x46:
            return tag == 0x54
        if tag == 0x44 or 0x5B <= tag < 0x60:
            return self.double(tag)
        if tag == 0x4A:
            return int(self._long(0x4C))
        if tag == 0x4B:
            return int(self._long(0x59)) * 60_000
        if tag == 0x51:
            return self._again()
        return self._container(tag, depth)

    def _text(self) -> str:
        raw = self.text()
        if raw is None:
            raise Hessian2Error("null as a name")
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise Hessian2Error("invalid string") from None

    def _binary(self, tag: i64) -> bytes:
        parts: list[bytes] = []
        while True:
            size: i64 = self._binary_size(tag)
            start: i64 = self.at
            self._forward(size)
            parts.append(self.data[start : self.at])
            if tag != 0x41:
                return b"".join(parts)
            tag = self._take()

    # ---- containers

    def _define(self) -> None:
        name = self._text()
        fields = [self._text() for _ in range(self._count())]
        self._add_class(len(fields))
        self._class_names.append(name)
        self._field_names.append(fields)

    def _again(self) -> object:
        """Resolves a reference to an earlier value."""
        index: i64 = self.integer()
        if index < 0 or index >= len(self._made):
            raise Hessian2Error(f"reference {index} of {len(self._made)}")
        weight: i64 = self._weights[index]
        if weight < 0:
            raise Hessian2Error("recursive value")
        self._repeated += weight
        if self._repeated > MAX_REPEATED:
            raise Hessian2Error(f"values repeated by references exceed {MAX_REPEATED} bytes")
        return self._made[index]

    def _container(self, tag: i64, depth: i64) -> object:
        if depth >= MAX_NESTING:
            raise Hessian2Error(f"nested more than {MAX_NESTING} levels deep")
        start: i64 = self.at
        repeated: i64 = self._repeated
        index: i64 = len(self._made)
        self._made.append(None)
        self._weights.append(-1)
        made: object
        if tag == 0x4F or 0x60 <= tag < 0x70:
            made = self._object(self.integer() if tag == 0x4F else tag - 0x60, depth, index)
        else:
            count: i64 = self._open(tag)
            made = self._entries(depth) if count == _MAP_KEY else self._items(count, depth)
        self._made[index] = made
        self._weights[index] = self.at - start + self._repeated - repeated + 1
        return made

    def _object(self, class_index: i64, depth: i64, index: i64) -> dict[object, object]:
        self._fields(class_index)
        made: dict[object, object] = {"class": self._class_names[class_index]}
        for name in self._field_names[class_index]:
            made[name] = None if name == "cause" and self._is_reference_to(index) else self._value(depth + 1)
        return made

    def _is_reference_to(self, index: i64) -> bool:
        """Skips a reference to container `index`, if one follows: Java writes an exception without a cause like this."""
        start: i64 = self.at
        if self._take() == 0x51 and self.integer() == index:
            return True
        self.at = start
        return False

    def _entries(self, depth: i64) -> dict[object, object]:
        made: dict[object, object] = {}
        while not self.at_end():
            key = self._value(depth + 1)
            if isinstance(key, (list, dict)):
                raise Hessian2Error("a list, map or object as the key of a map")
            made[key] = self._value(depth + 1)
        return made

    def _items(self, count: i64, depth: i64) -> list[object]:
        made: list[object] = []
        while count > 0 or (count < 0 and not self.at_end()):
            made.append(self._value(depth + 1))
            count -= 1
        return made


def write_value(value: object) -> bytes:
    """Encodes a value as Java does: an int of up to 32 bits is an Integer, others are Longs.

    `value`: None, bool, int, float, str, bytes, or lists and dicts of these. Raises Hessian2Error for others and for values
    nested too deeply.
    """
    parts: list[bytes] = []
    _write(value, parts, 0)
    return b"".join(parts)


def write_long(value: int) -> bytes:
    """Encodes a Long, however small. Raises Hessian2Error beyond 64 bits."""
    if not -(2**63) <= value < 2**63:
        raise Hessian2Error("number exceeds 64 bits")
    return b"L" + value.to_bytes(8, "big", signed=True)


def _write_int(value: int) -> bytes:
    if -16 <= value < 48:
        return bytes((0x90 + value,))
    return b"I" + value.to_bytes(4, "big", signed=True) if -(2**31) <= value < 2**31 else write_long(value)


def _write(value: object, parts: list[bytes], depth: i64) -> None:
    if depth > MAX_NESTING:
        raise Hessian2Error(f"nested more than {MAX_NESTING} levels deep")
    if value is None:
        parts.append(b"N")
    elif isinstance(value, bool):
        parts.append(b"T" if value else b"F")
    elif isinstance(value, int):
        parts.append(_write_int(value))
    elif isinstance(value, float):
        parts.append(b"D" + struct.pack(">d", value))
    elif isinstance(value, str):
        parts.append(write_text(value.encode("utf-8", "surrogatepass")))
    elif isinstance(value, bytes):
        for at in range(0, len(value), 0xFFFF):
            chunk = value[at : at + 0xFFFF]
            parts.append(b"A" + len(chunk).to_bytes(2, "big") + chunk)
        parts.append(b"\x20")
    elif isinstance(value, list):
        size = len(value)
        parts.append(bytes((0x78 + size,)) if size < 8 else b"X" + _write_int(size))
        for item in value:
            _write(item, parts, depth + 1)
    elif isinstance(value, dict):
        parts.append(b"H")
        for key, item in value.items():
            _write(key, parts, depth + 1)
            _write(item, parts, depth + 1)
        parts.append(b"Z")
    else:
        raise Hessian2Error(f"{type(value).__name__} cannot be encoded in hessian 2")
