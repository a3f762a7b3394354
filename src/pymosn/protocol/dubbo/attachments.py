"""The attachments at the end of a body, read on demand and rewritten without changing any other byte."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field
from pymosn.core.chars import has_lowered, table
from pymosn.protocol.dubbo.hessian2 import Hessian2Error, Hessian2Reader
from pymosn.protocol.dubbo.java_text import write_text

#: Letters of Java's primitive types in a descriptor.
_PRIMITIVE: Final = table(b"VZBCDFIJS")

#: Maximum attachments of a message; with more of them, none can be read.
MAX_ATTACHMENTS: Final[i64] = 4096


def add_entry(parts: list[bytes], field: Field) -> None:
    """Appends the name and value of an attachment to `parts`."""
    parts.append(write_text(field[0]))
    parts.append(write_text(field[1]))


class Entry:
    """One attachment: its field and the position of its bytes.

    The value is None for null and for values that cannot be a header: dates, binary, containers.
    """

    def __init__(self, field: Field, start: i64, end: i64, is_fixed: bool) -> None:
        """`is_fixed`: other values may refer to something in it, so it must stay at its position."""
        self.field = field
        self.start: i64 = start
        self.end: i64 = end
        self.is_fixed = is_fixed


class Attachments:
    """The attachments at the position of `reader`. Raises Hessian2Error if they cannot be read."""

    def __init__(self, reader: Hessian2Reader) -> None:
        self.body = reader.data
        self.entries: list[Entry] = []
        self.has_fixed = False
        #: Offsets of the map, of its first entry, and of its end.
        self.start: i64 = reader.at
        self.is_null = not reader.open_map()
        self.first: i64 = reader.at
        while not self.is_null and not reader.at_end():
            start: i64 = reader.at
            name = reader.scalar()
            if len(self.entries) >= MAX_ATTACHMENTS:
                raise Hessian2Error(f"more than {MAX_ATTACHMENTS} attachments")
            is_fixed = reader.holds()
            value = reader.scalar()
            if name is None:
                name, value, is_fixed = b"", None, True
            self.has_fixed = self.has_fixed or is_fixed
            self.entries.append(Entry((name, value), start, reader.at, is_fixed))
        self.end: i64 = reader.at

    def fields(self) -> list[Field]:
        """Name and value of each attachment, in order."""
        return [entry.field for entry in self.entries]

    def written(self, fields: list[Field]) -> list[bytes]:
        """The map with `fields` as its entries, in parts. Unchanged entries in the old order keep their bytes."""
        body = self.body
        if self.is_null:
            parts = [b"H" if fields else b"N"]
        else:
            parts = [body[self.start : self.first]]
        # Entries `first` to `next_entry` are consecutive and are written together.
        first: i64 = 0
        next_entry: i64 = 0
        for field in fields:
            found: i64 = self._entry_of(field, next_entry)
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

    def _entry_of(self, field: Field, start: i64) -> i64:
        """The index of the entry that equals `field`, searching from `start`; -1 if there is none."""
        i: i64 = start
        while i < len(self.entries):
            old = self.entries[i].field
            if old is field or (old[0] == field[0] and old[1] == field[1]):
                return i
            i += 1
        return -1


def argument_count(types: bytes) -> i64:
    """The number of parameters in a descriptor such as `Ljava/lang/String;[I`. Raises Hessian2Error if it is invalid."""
    count: i64 = 0
    i: i64 = 0
    size: i64 = len(types)
    while i < size:
        kind: i64 = types[i]
        if kind == 0x4C:  # L...;
            while i < size and types[i] != 0x3B:
                i += 1
            if i == size:
                raise Hessian2Error("unterminated argument type")
            count += 1
        elif _PRIMITIVE[kind] != 0:
            count += 1
        elif kind != 0x5B:  # [ adds a dimension to the following type
            raise Hessian2Error(f"invalid argument type 0x{kind:02x}")
        i += 1
    return count


class RequestFront:
    """The part of a request before its arguments: the protocol version, and the called service and method."""

    def __init__(self) -> None:
        self.dubbo: bytes | None = None
        self.service: bytes | None = None
        self.version: bytes | None = None
        self.method: bytes | None = None

    def at_map(self) -> Hessian2Reader:
        """A reader, positioned at the attachments unless they have been read. Raises Hessian2Error if there are none."""
        raise NotImplementedError


class RequestBody(RequestFront):
    """The body of a request in hessian 2: method, arguments, which are skipped, and attachments."""

    def __init__(self, body: bytes) -> None:
        """Reads the strings before the arguments. Raises Hessian2Error if they are malformed."""
        super().__init__()
        reader = Hessian2Reader(body)
        self.body = body
        # Positioned at the parameter types, and at the attachments once they have been located without a fault.
        self._reader = reader
        #: Whether the body is ASCII: the attachments are then found without checking the strings before them.
        self.is_ascii = reader.is_ascii
        self._is_sought = False
        self._fault = ""
        self.dubbo = reader.text()
        self.service_at: i64 = reader.at
        self.service = reader.text()
        self.version_at: i64 = reader.at
        self.version = reader.text()
        self.method_at: i64 = reader.at
        self.method = reader.text()
        #: Offset of the parameter types.
        self.types_at: i64 = reader.at

    def at_map(self) -> Hessian2Reader:
        """The first call skips everything before the attachments."""
        reader = self._reader
        if not self._is_sought:
            self._is_sought = True
            try:
                types = reader.text()
                if types is not None:
                    reader.skip(argument_count(types))
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
    """The first value of `name` (lower case) in the plain map at `start`, or None."""
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
            return body[at : at + value_size]
        at += value_size
    return None


def response_map(body: bytes) -> Hessian2Reader:
    """A reader at the attachments of a response with status OK, in hessian 2. Raises Hessian2Error if there are none.

    The body is the kind of result, the result if it is not null, and the attachments.
    """
    reader = Hessian2Reader(body)
    # 0 exception, 1 value, 2 null; 3 to 5 the same with attachments.
    kind: i64 = reader.integer()
    if kind < 3 or kind > 5:
        raise Hessian2Error(f"result kind {kind} has no attachments")
    if kind != 5:
        reader.skip(1)
    return reader
