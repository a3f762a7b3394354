"""The attachments at the end of a body, read on demand and rewritten without changing any other byte.

`Attachments` and `RequestFront` are common to all serializations; the others here read hessian 2.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field
from pymosn.core.chars import has_lowered, table
from pymosn.core.headers import HeaderError, to_text
from pymosn.core.rpc_headers import NO_TEXT
from pymosn.protocol.dubbo.hessian2 import Hessian2Error, Hessian2Reader
from pymosn.protocol.dubbo.java_text import write_text

#: Letters of Java's primitive types in a descriptor.
_PRIMITIVE: Final = table(b"VZBCDFIJS")

#: Characters of Java identifiers in Dubbo's pattern.
_IDENTIFIER: Final = table(b"_$0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
#: The kind of a null result with attachments.
NULL_WITH_ATTACHMENTS: Final[i64] = 5

#: Maximum attachments of a message; with more of them, none can be read.
MAX_ATTACHMENTS: Final[i64] = 4096


def add_entry(parts: list[bytes], field: Field) -> None:
    """Appends the name and value of an attachment to `parts`. Raises HeaderError for a value without a text."""
    parts.append(write_text(field[0]))
    parts.append(write_text(text_value(field)))


def text_value(field: Field) -> bytes | None:
    """The value of a field to encode. Raises HeaderError for a value without a text, whose bytes are not at hand."""
    if field[1] is NO_TEXT:
        raise HeaderError(f"the value of attachment {to_text(field[0])} cannot be encoded")
    return field[1]


class Entry:
    """One attachment: its field and the position of its bytes.

    The value is None for null, and NO_TEXT for values that cannot be a header: doubles, dates, binary, containers.
    """

    def __init__(self, field: Field, start: i64, end: i64, is_fixed: bool) -> None:
        """`is_fixed`: other values may refer to something in it, so it must stay at its position."""
        self.field = field
        self.start: i64 = start
        self.end: i64 = end
        self.is_fixed = is_fixed


class Attachments:
    """The attachments of one message. `start`, `end`: their offsets in `body`."""

    def __init__(self, body: bytes, start: i64) -> None:
        self.body = body
        self.entries: list[Entry] = []
        self.has_fixed = False
        self.is_null = False
        self.start: i64 = start
        self.end: i64 = start

    def fields(self) -> list[Field]:
        """Name and value of each attachment, in order."""
        return [entry.field for entry in self.entries]

    def written(self, fields: list[Field]) -> list[bytes]:
        """The map with `fields` as its entries, in parts. Unchanged entries in the old order keep their bytes.

        Raises HeaderError for a value without a text that is not one of these entries.
        """
        raise NotImplementedError

    def add(self, field: Field, start: i64, end: i64, is_fixed: bool) -> None:
        """Records an entry. Raises Hessian2Error for too many."""
        if len(self.entries) >= MAX_ATTACHMENTS:
            raise Hessian2Error(f"more than {MAX_ATTACHMENTS} attachments")
        self.has_fixed = self.has_fixed or is_fixed
        self.entries.append(Entry(field, start, end, is_fixed))

    def entry_of(self, field: Field, start: i64) -> i64:
        """The index of the entry that equals `field`, searching from `start`; -1 if there is none."""
        i: i64 = start
        while i < len(self.entries):
            old = self.entries[i].field
            if old is field or (old[0] == field[0] and old[1] == field[1]):
                return i
            i += 1
        return -1


class HessianAttachments(Attachments):
    """The attachments at the position of `reader`. Raises Hessian2Error if they cannot be read."""

    def __init__(self, reader: Hessian2Reader) -> None:
        super().__init__(reader.data, reader.at)
        self.is_null = not reader.open_map()
        #: Offset of the first entry.
        self.first: i64 = reader.at
        while not self.is_null and not reader.at_end():
            start: i64 = reader.at
            is_null = reader.is_null()
            name = reader.scalar()
            if name is None and not is_null:
                raise Hessian2Error("the name of an attachment is not a text")
            is_fixed = reader.holds()
            has_value = not reader.is_null()
            value = reader.scalar()
            if value is None and has_value:
                value = NO_TEXT
            if name is None:  # Java's map has a null name too, which no rule can mean
                name, value, is_fixed = b"", None, True
            self.add((name, value), start, reader.at, is_fixed)
        self.end = reader.at

    def written(self, fields: list[Field]) -> list[bytes]:
        body = self.body
        if self.is_null:
            parts = [b"H" if fields else b"N"]
        else:
            parts = [body[self.start : self.first]]
        # Entries `first` to `next_entry` are consecutive and are written together.
        first: i64 = 0
        next_entry: i64 = 0
        for field in fields:
            found: i64 = self.entry_of(field, next_entry)
            if found == next_entry:
                next_entry += 1
                continue
            self._write(first, next_entry, parts)
            if found < 0:
                add_entry(parts, field)
                first = next_entry
            else:
                first = found
                next_entry = found + 1
        self._write(first, next_entry, parts)
        if fields or not self.is_null:
            parts.append(b"Z")
        return parts

    def _write(self, first: i64, stop: i64, parts: list[bytes]) -> None:
        """Adds the bytes of the entries from `first` up to `stop`."""
        if first < stop:
            parts.append(self.body[self.entries[first].start : self.entries[stop - 1].end])


def argument_count(types: bytes) -> i64:
    """The number of parameters in a descriptor such as `Ljava/lang/String;[I`. Raises Hessian2Error if it is invalid.

    As strict as Dubbo's own pattern, which skips what it does not match, so that it would find other parameters.
    """
    count: i64 = 0
    i: i64 = 0
    size: i64 = len(types)
    while i < size:
        while i < size and types[i] == 0x5B:  # [ adds a dimension to the following type
            i += 1
        kind: i64 = types[i] if i < size else 0
        if kind == 0x4C:  # L...;
            i = _class_end(types, i + 1)
        elif _PRIMITIVE[kind] == 0:
            raise Hessian2Error(f"invalid argument type 0x{kind:02x}")
        count += 1
        i += 1
    return count


def _class_end(types: bytes, start: i64) -> i64:
    """The offset of the semicolon after a class name, whose parts are Java identifiers in ASCII."""
    i: i64 = start
    is_first = True
    while i < len(types):
        byte: i64 = types[i]
        if byte == 0x3B and not is_first:
            return i
        if byte == 0x2F and not is_first:
            is_first = True
        elif _IDENTIFIER[byte] == 0 or (is_first and 0x30 <= byte <= 0x39):
            break
        else:
            is_first = False
        i += 1
    raise Hessian2Error("invalid class name in the argument types")


class RequestFront:
    """The part of a request before its arguments: the protocol version, and the called service and method.

    `service_at`, `version_at`, `method_at`, `types_at`: the offsets of service, version, method and parameter types.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.dubbo: bytes | None = None
        self.service: bytes | None = None
        self.version: bytes | None = None
        self.method: bytes | None = None
        self.service_at: i64 = 0
        self.version_at: i64 = 0
        self.method_at: i64 = 0
        self.types_at: i64 = 0

    def read(self) -> None:
        """Reads the strings before the arguments. Raises Hessian2Error if they are malformed."""
        self.dubbo = self.text()
        self.service_at = self.at()
        self.service = self.text()
        self.version_at = self.at()
        self.version = self.text()
        self.method_at = self.at()
        self.method = self.text()
        self.types_at = self.at()

    def skip_arguments(self) -> None:
        """Skips the parameter types, which are next, and the arguments. Raises Hessian2Error if they are malformed."""
        types = self.text()
        if types is not None:
            self.skip(argument_count(types))

    def at(self) -> i64:
        """The offset of the next value."""
        raise NotImplementedError

    def text(self) -> bytes | None:
        """Reads the next value, a string or null."""
        raise NotImplementedError

    def skip(self, count: i64) -> None:
        """Skips the next `count` values."""
        raise NotImplementedError

    def attachments(self) -> Attachments:
        """Reads the attachments; called once. Raises Hessian2Error if they cannot be read."""
        raise NotImplementedError

    def encode(self, text: bytes | None) -> bytes:
        """Encodes a service or version."""
        raise NotImplementedError


class RequestBody(RequestFront):
    """The body of a request in hessian 2: method, arguments, which are skipped, and attachments."""

    def __init__(self, body: bytes) -> None:
        """Reads the strings before the arguments. Raises Hessian2Error if they are malformed."""
        super().__init__(body)
        reader = Hessian2Reader(body)
        # Positioned at the parameter types, and at the attachments once they have been located without a fault.
        self._reader = reader
        #: Whether the body is ASCII: the attachments are then found without checking the strings before them.
        self.is_ascii = reader.is_ascii
        self._is_sought = False
        self._fault = ""
        self.read()

    def at(self) -> i64:
        return self._reader.at

    def text(self) -> bytes | None:
        return self._reader.text()

    def skip(self, count: i64) -> None:
        self._reader.skip(count)

    def attachments(self) -> Attachments:
        return HessianAttachments(self.at_map())

    def encode(self, text: bytes | None) -> bytes:
        return write_text(text)

    def at_map(self) -> Hessian2Reader:
        """A reader, positioned at the attachments unless they have been read. Raises Hessian2Error if there are none.

        The first call skips everything before the attachments.
        """
        reader = self._reader
        if not self._is_sought:
            self._is_sought = True
            try:
                self.skip_arguments()
                if reader.at == reader.end:
                    self._fault = "no attachments"
            except Hessian2Error as error:
                self._fault = str(error)
        if self._fault:
            raise Hessian2Error(self._fault)
        return reader


def plain_at(reader: Hessian2Reader) -> i64:
    """The position of `reader` if the rest of the body is a map of short ASCII strings, else -1. Does not move the reader.

    Java writes attachments in this form. Every byte of such a map is ASCII, including the lengths, so that lengths in
    characters are lengths in bytes.
    """
    body = reader.data
    start: i64 = reader.at
    if start >= len(body) or body[start] != 0x48 or not (reader.is_ascii or body[start:].isascii()):  # H
        return -1
    end: i64 = len(body) - 1
    at: i64 = start + 1
    texts: i64 = 0
    while at < end:
        tag: i64 = body[at]
        if tag < 0x20:
            at += 1 + tag
        elif 0x30 <= tag < 0x34:
            at += 2 + (tag - 0x30) * 0x100 + body[at + 1]
        else:
            return -1
        texts += 1
    return start if at == end and body[end] == 0x5A and texts & 1 == 0 else -1  # Z


def find_plain(body: bytes, start: i64, name: bytes) -> bytes | None:
    """The value of `name` (lower case) in the plain map at `start`, or None. Raises Hessian2Error for different values."""
    found: bytes | None = None
    length: i64 = len(name)
    end: i64 = len(body) - 1
    at: i64 = start + 1
    while at < end:
        size: i64 = body[at]
        at += 1
        if size >= 0x20:
            size = (size - 0x30) * 0x100 + body[at]
            at += 1
        is_match = size == length and has_lowered(body, at, name)
        at += size
        value_size: i64 = body[at]
        at += 1
        if value_size >= 0x20:
            value_size = (value_size - 0x30) * 0x100 + body[at]
            at += 1
        if is_match:
            value = body[at : at + value_size]
            if found is not None and found != value:
                raise Hessian2Error(f"different values of {to_text(name)!r}")
            found = value
        at += value_size
    return found


def has_attachments(kind: i64) -> bool:
    """Whether a result of this kind is followed by attachments. Raises Hessian2Error for an invalid kind.

    0 exception, 1 value, 2 null; 3 to 5 the same with attachments.
    """
    if kind < 0 or kind > NULL_WITH_ATTACHMENTS:
        raise Hessian2Error(f"invalid result kind {kind}")
    return kind > 2


def response_map(body: bytes) -> Hessian2Reader | None:
    """A reader at the attachments of a response with status OK, in hessian 2; None if it has none.

    The body is the kind of result, the result if it is not null, and the attachments. Raises Hessian2Error.
    """
    reader = Hessian2Reader(body)
    kind: i64 = reader.integer()
    if not has_attachments(kind):
        return None
    if kind != NULL_WITH_ATTACHMENTS:
        reader.skip(1)
    return reader
