"""Hessian 2 (http://hessian.caucho.com/doc/hessian-serialization.html), as far as a proxy needs it.

The reader skips values without creating objects and counts what later values may refer to. It is linear in the input,
whatever lengths it claims: every value takes at least one byte, references are not followed, and nesting is a bounded list
of numbers. Strings are Java's, see `java_text`.
"""

from __future__ import annotations

import struct
from typing import Final

from mypy_extensions import i64

from pymosn.protocol.dubbo.java_text import to_utf8

#: Maximum nesting; Java's own reader overflows its stack earlier.
MAX_DEPTH: Final[i64] = 10_000
#: Maximum class definitions in one message.
MAX_CLASSES: Final[i64] = 10_000

_NULL: Final[i64] = 0x4E
_END: Final[i64] = 0x5A

_TRUE: Final[i64] = 0x54
_FALSE: Final[i64] = 0x46
_MAP: Final[i64] = 0x48
_TYPED_MAP: Final[i64] = 0x4D
_CLASS: Final[i64] = 0x43
_OBJECT: Final[i64] = 0x4F
_REFERENCE: Final[i64] = 0x51
_OPEN_LIST: Final[i64] = 0x55
_FIXED_LIST: Final[i64] = 0x56
_OPEN_UNTYPED_LIST: Final[i64] = 0x57
_FIXED_UNTYPED_LIST: Final[i64] = 0x58
_STRING_CHUNK: Final[i64] = 0x52
_STRING: Final[i64] = 0x53
_BINARY_CHUNK: Final[i64] = 0x41
_BINARY: Final[i64] = 0x42
_INT: Final[i64] = 0x49
_LONG: Final[i64] = 0x4C
_LONG_AS_INT: Final[i64] = 0x59
_DOUBLE: Final[i64] = 0x44
_THOUSANDTHS: Final[i64] = 0x5F

# The number of remaining values of a container without a length: a list, a map before a key, a map before a value.
_LIST: Final[i64] = -1
_KEY: Final[i64] = -2
_VALUE: Final[i64] = -3


def _sizes() -> bytes:
    """The size of a whole value by its first byte; 0 if more must be read."""
    sizes = bytearray(256)
    spans = (
        (0x20, 0x30, 0),  # short binary, below
        (0x38, 0x40, 3),  # long
        (0x80, 0xC0, 1),  # int
        (0xC0, 0xD0, 2),
        (0xD0, 0xD8, 3),
        (0xD8, 0xF0, 1),  # long
        (0xF0, 0x100, 2),
    )
    for start, stop, size in spans:
        for tag in range(start, stop):
            sizes[tag] = size or tag - 0x20 + 1
    # False, null, true, the doubles 0 and 1; a double as byte, as short; int, date in minutes, long as int, a double in
    # thousandths; double, date in milliseconds, long.
    for tags, size in ((b"FNT\x5b\x5c", 1), (b"\x5d", 2), (b"\x5e", 3), (b"IKY\x5f", 5), (b"DJL", 9)):
        for tag in tags:
            sizes[tag] = size
    return bytes(sizes)


_SIZES: Final = _sizes()
_HOLDERS: Final = bytes([1 if tag in b"CHMOUVWX" or 0x60 <= tag < 0x80 else 0 for tag in range(256)])


class Hessian2Error(ValueError):
    """Malformed hessian 2, or values that exceed a limit."""


class Hessian2Reader:
    """Reads and skips the values of one message in order, starting at offset `at`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at: i64 = 0
        self.end: i64 = len(data)
        #: Whether all input is ASCII: strings then have as many bytes as characters.
        self.is_ascii: bool = data.isascii()
        # Targets of later references: field counts of the defined classes, number of containers and of type names.
        self._classes: list[int] | None = None
        self._objects: i64 = 0
        self._types: i64 = 0

    def _next(self) -> i64:
        """Peeks at the first byte of the next value. Raises Hessian2Error at the end."""
        if self.at >= self.end:
            raise Hessian2Error("missing value")
        return self.data[self.at]

    def holds(self) -> bool:
        """Whether later values may refer to the next value: a class, a type or a container."""
        return _HOLDERS[self._next()] != 0

    def is_null(self) -> bool:
        """Whether the next value is null. Does not read it."""
        return self._next() == _NULL

    def at_end(self) -> bool:
        """Whether the map of the last `open_map` ends here; if so, reads its end."""
        if self._next() != _END:
            return False
        self.at += 1
        return True

    def text(self) -> bytes | None:
        """Reads a string as UTF-8; returns None for null."""
        data = self.data
        tag: i64 = self._take()
        start: i64 = self.at
        if tag < 0x20 and self._skip_ascii(tag):
            return data[start : self.at]
        if tag == _NULL:
            return None
        raw = self._string_chunk(tag)
        if tag == _STRING_CHUNK:
            parts = [raw]
            while tag == _STRING_CHUNK:
                tag = self._take()
                parts.append(self._string_chunk(tag))
            raw = b"".join(parts)
        return raw if self.is_ascii else to_utf8(raw)

    def integer(self) -> i64:
        """Reads a number, such as a length, as a 32-bit int, from any value that Java reads as one.

        These are null and booleans, and longs and doubles, which are cut to 32 bits.
        """
        return self._integer(self._take())

    def scalar(self) -> bytes | None:
        """Reads a string, integer or boolean as text; skips any other value and returns None."""
        tag: i64 = self._next()
        if _is_string(tag):
            return self.text()
        if tag in (_TRUE, _FALSE):
            self.at += 1
            return b"true" if tag == _TRUE else b"false"
        if tag == _INT or 0x80 <= tag < 0xD8:
            return str(self.integer()).encode()
        if tag in (_LONG, _LONG_AS_INT) or tag >= 0xD8 or 0x38 <= tag < 0x40:
            self.at += 1
            return str(self._long(tag)).encode()
        self.skip(1)
        return None

    def open_map(self) -> bool:
        """Reads the beginning of a map; returns False for null. The entries follow, until `at_end`."""
        tag: i64 = self._take()
        if tag == _NULL:
            return False
        if tag == _TYPED_MAP:
            self._type()
        elif tag != _MAP:
            raise Hessian2Error(f"0x{tag:02x} where a map is expected")
        self._objects += 1
        return True

    def skip(self, count: i64) -> None:
        """Skips `count` values with everything nested in them."""
        outer: list[int] | None = None
        left: i64 = count
        while True:
            if left == 0:
                if not outer:
                    return
                left = outer.pop()
                continue
            tag: i64 = self._take()
            if tag == _CLASS:
                self._define()
                continue
            if left > 0:
                left -= 1
            elif tag == _END:
                if left == _VALUE:
                    raise Hessian2Error("map ends after a key without a value")
                left = 0
                continue
            elif left != _LIST:
                left = _VALUE if left == _KEY else _KEY
            size: i64 = _SIZES[tag]
            if size > 0:
                self._forward(size - 1)
                continue
            if tag < 0x20:
                self._chars(tag)
                continue
            inside: i64 = self._open(tag)
            if inside != 0:
                if outer is None:
                    outer = []
                if len(outer) >= MAX_DEPTH:
                    raise Hessian2Error(f"nested more than {MAX_DEPTH} levels deep")
                outer.append(left)
                left = inside

    # ---- steps

    def _take(self) -> i64:
        at: i64 = self.at
        if at >= self.end:
            raise Hessian2Error("missing value")
        self.at = at + 1
        return self.data[at]

    def _forward(self, size: i64) -> None:
        if size > self.end - self.at:
            raise Hessian2Error("truncated value")
        self.at += size

    def _big_endian(self, size: i64) -> i64:
        start: i64 = self.at
        self._forward(size)
        value: i64 = 0
        i: i64 = 0
        while i < size:
            value = value * 256 + self.data[start + i]
            i += 1
        return value

    def _integer(self, tag: i64) -> i64:
        if 0x80 <= tag < 0xC0:
            return tag - 0x90
        if 0xC0 <= tag < 0xD0:
            return (tag - 0xC8) * 0x100 + self._big_endian(1)
        if 0xD0 <= tag < 0xD8:
            return (tag - 0xD4) * 0x10000 + self._big_endian(2)
        if tag in (_INT, _LONG_AS_INT):
            return _signed_32(self._big_endian(4))
        if tag == _LONG or tag >= 0xD8 or 0x38 <= tag < 0x40:
            return _signed_32(self._long(tag) & 0xFFFFFFFF)
        if tag in (_NULL, _FALSE, _TRUE):
            return 1 if tag == _TRUE else 0
        if tag == _THOUSANDTHS:
            return int(0.001 * float(_signed_32(self._big_endian(4))))  # as Java does; a quotient may differ
        if tag == _DOUBLE or 0x5B <= tag < 0x5F:
            return _java_int(self.double(tag))
        raise Hessian2Error(f"0x{tag:02x} where an int is expected")

    def double(self, tag: i64) -> float:
        """Reads the rest of a double that begins with `tag`."""
        if tag == 0x5B or tag == 0x5C:
            return 0.0 if tag == 0x5B else 1.0
        size: i64 = 1 if tag == 0x5D else 2 if tag == 0x5E else 4 if tag == 0x5F else 8
        start: i64 = self.at
        self._forward(size)
        raw = self.data[start : self.at]
        if tag == _DOUBLE:
            return float(struct.unpack(">d", raw)[0])
        number = float(int.from_bytes(raw, "big", signed=True))
        return number / 1000 if tag == 0x5F else number  # in thousandths, as Java writes them

    def _long(self, tag: i64) -> i64:
        if tag == _LONG_AS_INT:
            return _signed_32(self._big_endian(4))
        if tag == _LONG:
            high: i64 = _signed_32(self._big_endian(4))
            return high * 0x100000000 + self._big_endian(4)
        if tag < 0x40:
            return (tag - 0x3C) * 0x10000 + self._big_endian(2)
        if tag < 0xF0:
            return tag - 0xE0
        return (tag - 0xF8) * 0x100 + self._big_endian(1)

    def _count(self) -> i64:
        """Reads a number of following values; each has at least one byte."""
        count: i64 = self.integer()
        if count < 0 or count > self.end - self.at:
            raise Hessian2Error(f"{count} values in {self.end - self.at} bytes")
        return count

    # ---- containers

    def _open(self, tag: i64) -> i64:
        """Opens the value of `tag`: returns the number of values in a container, or how it ends; 0 if it was skipped."""
        if _is_string(tag):
            self._skip_string(tag)
            return 0
        if tag in (_BINARY, _BINARY_CHUNK) or 0x34 <= tag < 0x38:
            self._skip_binary(tag)
            return 0
        if tag == _REFERENCE:
            index: i64 = self.integer()
            if index < 0 or index >= self._objects:
                raise Hessian2Error(f"reference {index} of {self._objects}")
            return 0
        self._objects += 1
        if tag == _MAP:
            return _KEY
        if tag == _TYPED_MAP:
            self._type()
            return _KEY
        if tag == _OBJECT or 0x60 <= tag < 0x70:
            return self._fields(self.integer() if tag == _OBJECT else tag - 0x60)
        return self._open_list(tag)

    def _open_list(self, tag: i64) -> i64:
        if tag == _OPEN_UNTYPED_LIST:
            return _LIST
        if tag == _FIXED_UNTYPED_LIST:
            return self._count()
        if 0x78 <= tag < 0x80:
            return tag - 0x78
        if tag != _OPEN_LIST and tag != _FIXED_LIST and (tag < 0x70 or tag >= 0x78):
            raise Hessian2Error(f"invalid value 0x{tag:02x}")
        self._type()
        if tag == _OPEN_LIST:
            return _LIST
        return self._count() if tag == _FIXED_LIST else tag - 0x70

    def _type(self) -> None:
        """Reads the type of a list or map: a name, or the index of an earlier one."""
        tag: i64 = self._take()
        if _is_string(tag):
            self._skip_string(tag)
            self._types += 1
            return
        index: i64 = self._integer(tag)
        if index < 0 or index >= self._types:
            raise Hessian2Error(f"type {index} of {self._types}")

    def _define(self) -> None:
        """Reads a class definition: its name and those of its fields."""
        self._name()
        fields: i64 = self._count()
        self._add_class(fields)
        while fields > 0:
            self._name()
            fields -= 1

    def _name(self) -> None:
        tag: i64 = self._take()
        if not _is_string(tag):
            raise Hessian2Error(f"0x{tag:02x} where a name is expected")
        self._skip_string(tag)

    def _fields(self, index: i64) -> i64:
        classes = self._classes
        if classes is None or index < 0 or index >= len(classes):
            raise Hessian2Error(f"class {index} of {0 if classes is None else len(classes)}")
        return classes[index]

    def _add_class(self, fields: i64) -> None:
        if self._classes is None:
            self._classes = []
        if len(self._classes) >= MAX_CLASSES:
            raise Hessian2Error(f"more than {MAX_CLASSES} classes")
        self._classes.append(int(fields))

    # ---- strings and binary

    def _string_size(self, tag: i64) -> i64:
        """The UTF-16 units of a string or chunk that begins with `tag`."""
        if tag < 0x20:
            return tag
        if tag in (_STRING, _STRING_CHUNK):
            return self._big_endian(2)
        if 0x30 <= tag < 0x34:
            return (tag - 0x30) * 0x100 + self._big_endian(1)
        raise Hessian2Error(f"invalid string chunk 0x{tag:02x}")

    def _string_chunk(self, tag: i64) -> bytes:
        size: i64 = self._string_size(tag)
        start: i64 = self.at
        self._chars(size)
        return self.data[start : self.at]

    def _skip_string(self, tag: i64) -> None:
        self._chars(self._string_size(tag))
        while tag == _STRING_CHUNK:
            tag = self._take()
            self._chars(self._string_size(tag))

    def _skip_ascii(self, size: i64) -> bool:
        """Skips `size` bytes if they are available and ASCII; otherwise returns False."""
        data = self.data
        at: i64 = self.at
        stop: i64 = at + size
        if stop > self.end:
            return False
        if size > 96:
            if not self.is_ascii and not data[at:stop].isascii():
                return False
        elif not self.is_ascii:
            while at < stop:
                if data[at] >= 0x80:
                    return False
                at += 1
        self.at = stop
        return True

    def _chars(self, units: i64) -> None:
        """Skips characters of this many UTF-16 units."""
        if self._skip_ascii(units):
            return
        data = self.data
        end: i64 = self.end
        at: i64 = self.at
        if units > end - at:
            raise Hessian2Error("truncated string")
        while units > 0 and at < end:
            lead: i64 = data[at]
            if lead < 0x80:
                at += 1
            elif lead & 0xE0 == 0xC0:
                at += 2
            elif lead & 0xF0 == 0xE0:
                at += 3
            else:
                raise Hessian2Error(f"invalid UTF-8 0x{lead:02x}")
            units -= 1
        if units > 0 or at > end:
            raise Hessian2Error("truncated string")
        self.at = at

    def _binary_size(self, tag: i64) -> i64:
        """The bytes of binary data or a chunk of it that begins with `tag`."""
        if 0x20 <= tag < 0x30:
            return tag - 0x20
        if 0x34 <= tag < 0x38:
            return (tag - 0x34) * 0x100 + self._big_endian(1)
        if tag in (_BINARY, _BINARY_CHUNK):
            return self._big_endian(2)
        raise Hessian2Error(f"invalid binary chunk 0x{tag:02x}")

    def _skip_binary(self, tag: i64) -> None:
        self._forward(self._binary_size(tag))
        while tag == _BINARY_CHUNK:
            tag = self._take()
            self._forward(self._binary_size(tag))


def _is_string(tag: i64) -> bool:
    return tag < 0x20 or tag in (_STRING, _STRING_CHUNK) or 0x30 <= tag < 0x34


def _java_int(number: float) -> i64:
    """A double as Java casts it to an int: NaN is 0, and what is too large becomes the largest or smallest int."""
    if number != number:
        return 0
    return int(max(-2147483648.0, min(2147483647.0, number)))


def _signed_32(value: i64) -> i64:
    return value - 0x100000000 if value >= 0x80000000 else value
