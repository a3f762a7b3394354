"""TARS' own encoding (JCE), as far as a proxy needs it: fields, each preceded by its tag and type.

The reader skips fields without creating objects. It is linear in the input: every element takes at least one byte.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

# Field types.
INT8: Final[i64] = 0
INT16: Final[i64] = 1
INT32: Final[i64] = 2
INT64: Final[i64] = 3
FLOAT: Final[i64] = 4
DOUBLE: Final[i64] = 5
STRING1: Final[i64] = 6
STRING4: Final[i64] = 7
MAP: Final[i64] = 8
LIST: Final[i64] = 9
STRUCT: Final[i64] = 10
END: Final[i64] = 11
ZERO: Final[i64] = 12
BYTES: Final[i64] = 13

#: Bytes after the head of a field of each type; -1 if more must be read.
_SIZES: Final = (1, 2, 4, 8, 4, 8, -1, -1, -1, -1, -1, 0, 0, -1, -1, -1)

#: Maximum nesting of containers.
MAX_DEPTH: Final[i64] = 1000
#: Maximum entries of a string map, which take about a hundred bytes of memory for four bytes of input.
MAX_PAIRS: Final[i64] = 4096
#: Number of remaining fields of a struct, which only its end determines.
_STRUCT: Final[i64] = -1


class JceError(ValueError):
    """Malformed JCE."""


class JceReader:
    """Reads and skips the fields of one message, in order."""

    def __init__(self, data: bytes, at: i64) -> None:
        self.data = data
        self.at: i64 = at
        self.end: i64 = len(data)
        #: Tag and type of the last head read.
        self.tag: i64 = 0
        self.type: i64 = 0

    def head(self) -> bool:
        """Reads the head of the next field: its tag and type. Returns False at the end of the message."""
        if self.at >= self.end:
            return False
        first: i64 = self.data[self.at]
        self.at += 1
        self.type = first & 15
        self.tag = first >> 4
        if self.tag == 15:
            self.tag = self._big_endian(1)
        return True

    def integer(self) -> i64:
        """Reads the value of an integer field."""
        kind: i64 = self.type
        if kind == ZERO:
            return 0
        if kind > INT64:
            raise JceError(f"type {kind} where an integer is expected")
        size: i64 = 1 << kind
        start: i64 = self.at
        self._forward(size)
        return int.from_bytes(self.data[start : self.at], "big", signed=True)

    def text(self) -> bytes:
        """Reads the value of a string field."""
        size: i64 = self._string_size()
        start: i64 = self.at
        self._forward(size)
        return self.data[start : self.at]

    def bytes_size(self) -> i64:
        """Reads the length of a byte-vector field, whose bytes follow."""
        if self.type != BYTES:
            raise JceError(f"type {self.type} where a byte vector is expected")
        self._head()
        if self.type != INT8:
            raise JceError(f"type {self.type} where {INT8} is expected")
        return self._count()

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """Reads the value of a string-map field."""
        if self.type != MAP:
            raise JceError(f"type {self.type} where a map is expected")
        left: i64 = self._count()
        if left > MAX_PAIRS:
            raise JceError(f"a map of {left} strings exceeds the limit of {MAX_PAIRS}")
        found: list[tuple[bytes, bytes]] = []
        while left > 0:
            self._part(0)
            key = self.text()
            self._part(1)
            found.append((key, self.text()))
            left -= 1
        return found

    def skip(self) -> None:
        """Skips the value of a field with everything nested in it."""
        outer: list[int] = []
        left: i64 = 0
        while True:
            inside: i64 = self._open()
            if inside != 0:
                if len(outer) >= MAX_DEPTH:
                    raise JceError(f"nested more than {MAX_DEPTH} levels deep")
                outer.append(left)
                left = inside
            while True:
                if left == 0:
                    if not outer:
                        return
                    left = outer.pop()
                    continue
                self._head()
                if left != _STRUCT:
                    left -= 1
                elif self.type == END:
                    left = 0
                    continue
                break

    def _open(self) -> i64:
        """Skips a value without parts and returns 0, or reads the head of a container and returns its number of parts."""
        kind: i64 = self.type
        size: i64 = _SIZES[kind]
        if kind == END or kind > BYTES:
            raise JceError(f"invalid type {kind}")
        if size >= 0:
            self._forward(size)
            return 0
        if kind == STRUCT:
            return _STRUCT
        if kind == MAP:
            return 2 * self._count()
        if kind == LIST:
            return self._count()
        self._forward(self.bytes_size() if kind == BYTES else self._string_size())
        return 0

    def _string_size(self) -> i64:
        if self.type == STRING1:
            return self._big_endian(1)
        if self.type == STRING4:
            return self._big_endian(4)
        raise JceError(f"type {self.type} where a string is expected")

    def _count(self) -> i64:
        """Reads a number of parts, which is a field itself; each part has at least one byte."""
        self._part(0)
        count: i64 = self.integer()
        if count < 0 or count > self.end - self.at:
            raise JceError(f"{count} parts in {self.end - self.at} bytes")
        return count

    def _head(self) -> None:
        if not self.head():
            raise JceError("a field is missing")

    def _part(self, tag: i64) -> None:
        """Reads the head of a container's part. Its tag must be `tag`: TARS' own readers accept no other."""
        self._head()
        if self.tag != tag:
            raise JceError(f"tag {self.tag} where {tag} is expected")

    def _forward(self, size: i64) -> None:
        if size > self.end - self.at:
            raise JceError("truncated value")
        self.at += size

    def _big_endian(self, size: i64) -> i64:
        start: i64 = self.at
        self._forward(size)
        value: i64 = 0
        while start < self.at:
            value = value * 256 + self.data[start]
            start += 1
        return value


def write_integer(tag: i64, value: i64) -> bytes:
    """Encodes an integer field of at most 32 bits in the shortest form; `tag` is less than 15."""
    head: i64 = tag << 4
    if value == 0:
        return bytes((head + ZERO,))
    if -0x80 <= value < 0x80:
        return bytes((head, value & 0xFF))
    if -0x8000 <= value < 0x8000:
        return bytes((head + INT16, (value >> 8) & 0xFF, value & 0xFF))
    return bytes((head + INT32,)) + int(value).to_bytes(4, "big", signed=True)


def write_text(tag: i64, value: bytes) -> bytes:
    """Encodes a string field."""
    size: i64 = len(value)
    if size < 0x100:
        return bytes(((tag << 4) + STRING1, size)) + value
    return bytes(((tag << 4) + STRING4,)) + int(size).to_bytes(4, "big") + value


def write_bytes(tag: i64, value: bytes) -> bytes:
    """Encodes a byte-vector field."""
    return bytes(((tag << 4) + BYTES, INT8)) + write_integer(0, len(value)) + value


def write_pairs(tag: i64, pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Encodes a string-map field."""
    parts = [bytes(((tag << 4) + MAP,)), write_integer(0, len(pairs))]
    for key, value in pairs:
        parts.append(write_text(0, key))
        parts.append(write_text(1, value))
    return b"".join(parts)
