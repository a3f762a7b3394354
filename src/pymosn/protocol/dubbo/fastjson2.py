"""Messages in fastjson2's binary form (JSONB), in which Dubbo 3 writes each value after its size (4).

Arguments are skipped by their sizes. Of the attachments only what Dubbo writes is read; for anything else, such as symbols,
references and typed objects, they count as unreadable.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field
from pymosn.core.rpc_headers import NO_TEXT
from pymosn.protocol.dubbo.attachments import (
    NULL_WITH_ATTACHMENTS,
    Attachments,
    RequestFront,
    has_attachments,
    text_value,
)
from pymosn.protocol.dubbo.hessian2 import Hessian2Error

#: Maximum nesting of a value in the attachments.
MAX_NESTING: Final[i64] = 100

# First bytes of values.
_SHORT: Final[i64] = 0x49
_ASCII: Final[i64] = 0x79
_UTF8: Final[i64] = 0x7A
_UTF16_LE: Final[i64] = 0x7C
_UTF16_BE: Final[i64] = 0x7D
_LISTS: Final[i64] = 0x94
_LIST: Final[i64] = 0xA4
_END: Final[i64] = 0xA5
_OBJECT: Final[i64] = 0xA6
_NULL: Final[i64] = 0xAF
_FALSE: Final[i64] = 0xB0
_TRUE: Final[i64] = 0xB1
_DOUBLE_LONG: Final[i64] = 0xB4
_DOUBLE: Final[i64] = 0xB5
_FLOAT_INT: Final[i64] = 0xB6
_FLOAT: Final[i64] = 0xB7


class JsonbReader:
    """Reads the values of `data` from `at` up to `end`, in order. Raises Hessian2Error for unknown or malformed ones."""

    def __init__(self, data: bytes, at: i64, end: i64) -> None:
        self.data = data
        self.at: i64 = at
        self.end: i64 = end

    def next(self) -> i64:
        """Peeks at the first byte of the next value."""
        if self.at >= self.end:
            raise Hessian2Error("missing value")
        return self.data[self.at]

    def item(self) -> JsonbReader:
        """A reader for the next value that is preceded by its size; skips it here."""
        size: i64 = int.from_bytes(self._bytes(4), "big")
        start: i64 = self.at
        self._bytes(size)
        return JsonbReader(self.data, start, self.at)

    def end_item(self) -> None:
        """Checks that the value that was read is all there is."""
        if self.at != self.end:
            raise Hessian2Error("a value does not have its size")

    def text(self) -> bytes | None:
        """Reads a string as UTF-8; None for null."""
        tag: i64 = self.next()
        self.at += 1
        if tag == _NULL:
            return None
        if _SHORT <= tag < _ASCII:
            return _to_utf8(self._bytes(tag - _SHORT), "latin-1")
        if tag == _ASCII:
            return _to_utf8(self._bytes(self._size()), "latin-1")
        if tag == _UTF8:
            return _to_utf8(self._bytes(self._size()), "utf-8")
        if tag in (_UTF16_LE, _UTF16_BE):
            return _to_utf8(self._bytes(self._size()), "utf-16-le" if tag == _UTF16_LE else "utf-16-be")
        raise Hessian2Error(f"0x{tag:02x} where a string is expected")

    def is_text(self) -> bool:
        """Whether the next value is a string or null."""
        tag: i64 = self.next()
        return _SHORT <= tag <= _UTF8 or tag in (_UTF16_LE, _UTF16_BE, _NULL)

    def scalar(self) -> bytes | None:
        """Reads a string, integer or boolean as text, null as None; skips any other value and returns NO_TEXT."""
        if self.is_text():
            return self.text()
        tag: i64 = self.next()
        if tag in (_TRUE, _FALSE):
            self.at += 1
            return b"true" if tag == _TRUE else b"false"
        if self._is_integer(tag):
            return b"%d" % self.integer()
        self._skip(0)
        return NO_TEXT

    def integer(self) -> i64:
        """Reads an integer of any width."""
        tag: i64 = self.next()
        self.at += 1
        if tag < 0x30:
            return tag
        if tag >= 0xF0:
            return tag - 0x100
        if tag < 0x40:
            return (tag - 0x38) * 0x100 + self._number(1, False)
        if tag < 0x48:
            return (tag - 0x44) * 0x10000 + self._number(2, False)
        if tag >= 0xD8:
            return tag - 0xE0
        if tag >= 0xC8:
            return (tag - 0xD0) * 0x100 + self._number(1, False)
        if tag >= 0xC0:
            return (tag - 0xC4) * 0x10000 + self._number(2, False)
        size: i64 = 4 if tag == 0x48 or tag == 0xBF else 2 if tag == 0xBC else 1 if tag == 0xBD else 8 if tag == 0xBE else 0
        if size == 0:
            raise Hessian2Error(f"0x{tag:02x} where an integer is expected")
        return self._number(size, True)

    def _is_integer(self, tag: i64) -> bool:
        return tag <= 0x48 or tag >= 0xC0 or 0xBC <= tag <= 0xBF

    def _skip(self, depth: i64) -> None:
        if depth > MAX_NESTING:
            raise Hessian2Error(f"nested more than {MAX_NESTING} levels deep")
        if self.is_text():
            self.text()
            return
        tag: i64 = self.next()
        if self._is_integer(tag):
            self.integer()
            return
        self.at += 1
        if tag in (_DOUBLE_LONG, _FLOAT_INT):
            self.integer()
        elif tag in (_DOUBLE, _FLOAT):
            self._bytes(8 if tag == _DOUBLE else 4)
        elif _LISTS <= tag <= _LIST:
            count: i64 = tag - _LISTS if tag < _LIST else self._size()
            while count > 0:
                self._skip(depth + 1)
                count -= 1
        elif tag == _OBJECT:
            while self.next() != _END:
                self._skip(depth + 1)
                self._skip(depth + 1)
            self.at += 1
        elif tag < _FALSE or tag > 0xB3:  # booleans, and the doubles 0 and 1
            raise Hessian2Error(f"unknown value 0x{tag:02x}")

    def _size(self) -> i64:
        tag: i64 = self.next()
        if tag > 0x48:
            raise Hessian2Error(f"0x{tag:02x} where a size is expected")
        size: i64 = self.integer()
        if size < 0:
            raise Hessian2Error(f"size {size}")
        return size

    def _number(self, size: i64, is_signed: bool) -> i64:
        return int.from_bytes(self._bytes(size), "big", signed=is_signed)

    def _bytes(self, size: i64) -> bytes:
        start: i64 = self.at
        if size < 0 or size > self.end - start:
            raise Hessian2Error("truncated value")
        self.at = start + size
        return self.data[start : self.at]


class JsonbAttachments(Attachments):
    """The attachments that follow at the position of `reader`."""

    def __init__(self, reader: JsonbReader) -> None:
        super().__init__(reader.data, reader.at)
        item = reader.item()
        self.end = reader.at
        self.is_null = item.next() == _NULL
        if self.is_null:
            item.at += 1
        elif item.next() != _OBJECT:
            raise Hessian2Error("not a map")
        else:
            item.at += 1
            while item.next() != _END:
                start: i64 = item.at
                name = item.scalar()
                if name is None or name is NO_TEXT:
                    raise Hessian2Error("the name of an attachment is not a text")
                value = item.scalar()
                self.add((name, value), start, item.at, False)
            item.at += 1
        item.end_item()

    def written(self, fields: list[Field]) -> list[bytes]:
        if self.is_null and not fields:
            return [self.body[self.start : self.end]]
        parts = [bytes((_OBJECT,))]
        after: i64 = 0
        for field in fields:
            found: i64 = self.entry_of(field, after)
            if found >= 0:
                after = found + 1
                entry = self.entries[found]
                parts.append(self.body[entry.start : entry.end])
            else:
                parts.append(_text(field[0]))
                parts.append(_text(text_value(field)))
        parts.append(bytes((_END,)))
        return [_item(b"".join(parts))]


class Fastjson2Body(RequestFront):
    """The body of a request in fastjson2."""

    def __init__(self, body: bytes) -> None:
        """Reads the strings before the arguments. Raises Hessian2Error if they are malformed."""
        super().__init__(body)
        self._reader = JsonbReader(body, 0, len(body))
        self.read()

    def at(self) -> i64:
        return self._reader.at

    def text(self) -> bytes | None:
        item = self._reader.item()
        text = item.text()
        item.end_item()
        return text

    def skip(self, count: i64) -> None:
        while count > 0:
            self._reader.item()
            count -= 1

    def attachments(self) -> Attachments:
        self.skip_arguments()
        return JsonbAttachments(self._reader)

    def encode(self, text: bytes | None) -> bytes:
        return _item(_text(text))


def response_attachments(body: bytes) -> Attachments | None:
    """The attachments of a response with status OK; None if it has none. Raises Hessian2Error."""
    reader = JsonbReader(body, 0, len(body))
    item = reader.item()
    kind: i64 = item.integer()
    item.end_item()
    if not has_attachments(kind):
        return None
    if kind != NULL_WITH_ATTACHMENTS:
        reader.item()
    return JsonbAttachments(reader)


def _to_utf8(raw: bytes, encoding: str) -> bytes:
    if encoding != "utf-16-le" and encoding != "utf-16-be" and raw.isascii():
        return raw
    try:
        return raw.decode(encoding).encode()
    except UnicodeDecodeError:
        raise Hessian2Error(f"invalid {encoding} string") from None


def _item(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _text(value: bytes | None) -> bytes:
    if value is None:
        return bytes((_NULL,))
    raw = value if value.isascii() else value.decode("utf-8", "replace").encode()
    size: i64 = len(raw)
    if size < 0x30 and raw.isascii():
        return bytes((_SHORT + size,)) + raw
    head = bytes((_ASCII if raw.isascii() else _UTF8,))
    if size < 0x30:
        return head + bytes((size,)) + raw
    if size < 0x800:
        return head + bytes((0x38 + (size >> 8), size & 0xFF)) + raw
    return head + b"\x48" + int(size).to_bytes(4, "big") + raw
