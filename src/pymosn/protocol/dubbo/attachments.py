"""The map of attachments at the end of a body: taken out when somebody asks, written back with all else byte by byte."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field
from pymosn.core.chars import has_lowered, table
from pymosn.protocol.dubbo.hessian2 import Hessian2Error, Hessian2Reader
from pymosn.protocol.dubbo.java_text import write_text

#: Letters of Java's primitive types in a descriptor.
_PRIMITIVE: Final = table(b"VZBCDFIJS")

#: Attachments of one message that are looked at; with more of them none is.
MAX_ATTACHMENTS: Final[i64] = 4096


def add_entry(parts: list[bytes], field: Field) -> None:
    """Writes name and value of one attachment behind `parts`."""
    parts.append(write_text(field[0]))
    parts.append(write_text(field[1]))


class Entry:
    """One attachment: as a field, and where its bytes are.

    The value is None for null and for what no header can show: dates, binary, containers.
    """

    def __init__(self, field: Field, start: i64, end: i64, is_fixed: bool) -> None:
        """`is_fixed`: other values may refer to something in it, so it has to stay where it is."""
        self.field = field
        self.start: i64 = start
        self.end: i64 = end
        self.is_fixed = is_fixed


class Attachments:
    """The attachments of `body`, which begin where `reader` stands. Hessian2Error when they cannot be read."""

    def __init__(self, body: bytes, reader: Hessian2Reader) -> None:
        self.body = body
        self.entries: list[Entry] = []
        self.has_fixed = False
        #: Where the map begins, where its entries do, and where they end.
        self.start: i64 = reader.at
        self.is_null = not reader.open_map()
        self.first: i64 = reader.at
        if not self.is_null:
            self._read(reader)
        self.end: i64 = reader.at

    def _read(self, reader: Hessian2Reader) -> None:
        while not reader.at_end():
            start: i64 = reader.at
            name = reader.scalar()
            if len(self.entries) >= MAX_ATTACHMENTS:
                raise Hessian2Error(f"more than {MAX_ATTACHMENTS} attachments")
            is_fixed = reader.holds()
            value = reader.scalar()
            if name is None or is_fixed:
                self.has_fixed = True
            if name is None:
                self.entries.append(Entry((b"", None), start, reader.at, True))
            else:
                self.entries.append(Entry((name, value), start, reader.at, is_fixed))

    def fields(self) -> list[Field]:
        """Name and value of each, in order."""
        return [entry.field for entry in self.entries]

    def written(self, fields: list[Field]) -> list[bytes]:
        """The map with `fields` as its entries, in parts. An entry still there, in the old order, keeps its bytes."""
        body = self.body
        if self.is_null:
            parts = [b"H" if fields else b"N"]
        else:
            parts = [body[self.start : self.first]]
        # Entries that follow each other are written in one piece: those from `first` up to `place`.
        first: i64 = 0
        place: i64 = 0
        for field in fields:
            found: i64 = self._place(field, place)
            if found == place:
                place += 1
                continue
            self._write(first, place, parts)
            if found < 0:
                add_entry(parts, field)
                first = place
            else:
                first = found
                place = found + 1
        self._write(first, place, parts)
        if fields or not self.is_null:
            parts.append(b"Z")
        return parts

    def _write(self, first: i64, place: i64, parts: list[bytes]) -> None:
        """Adds the bytes of the entries from `first` up to `place`."""
        if first < place:
            parts.append(self.body[self.entries[first].start : self.entries[place - 1].end])

    def _place(self, field: Field, start: i64) -> i64:
        """Which entry from `start` on says the same as `field`; -1 for none."""
        i: i64 = start
        while i < len(self.entries):
            old = self.entries[i].field
            if old is field or (old[0] == field[0] and old[1] == field[1]):
                return i
            i += 1
        return -1


def argument_count(types: bytes) -> i64:
    """How many arguments a parameter type descriptor names, such as `Ljava/lang/String;[I`. Hessian2Error if it is none."""
    count: i64 = 0
    i: i64 = 0
    size: i64 = len(types)
    while i < size:
        kind: i64 = types[i]
        if kind == 0x4C:  # L...;
            while i < size and types[i] != 0x3B:
                i += 1
            if i == size:
                raise Hessian2Error("an argument type has no end")
            count += 1
        elif _PRIMITIVE[kind] != 0:
            count += 1
        elif kind != 0x5B:  # [ only says that one dimension more follows
            raise Hessian2Error(f"no argument type begins with 0x{kind:02x}")
        i += 1
    return count


class RequestFront:
    """What a request says in front of its arguments: the protocol's version, and who is called."""

    def __init__(self) -> None:
        self.dubbo: bytes | None = None
        self.service: bytes | None = None
        self.version: bytes | None = None
        self.method: bytes | None = None

    def attachments(self) -> Attachments:
        """Reads the attachments behind the arguments, once and as the last thing. Hessian2Error when they cannot be read."""
        raise NotImplementedError

    def plain_map(self) -> i64:
        """Where the attachments begin if they are plain, see `plain_at`; -1 if not. Hessian2Error as for `attachments`."""
        raise NotImplementedError


class RequestBody(RequestFront):
    """The body of a request in hessian 2: the strings in front, the arguments, which are skipped, and the attachments."""

    def __init__(self, body: bytes) -> None:
        """Reads the strings in front. Hessian2Error when they are not there."""
        super().__init__()
        reader = Hessian2Reader(body)
        self.body = body
        # It stands at the parameter types and, once the attachments have been sought, at them, if there is no fault.
        self._reader = reader
        #: Whether all of it is ASCII: then the attachments are found without looking at the strings in front of them.
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
        #: Where the parameter types begin.
        self.types_at: i64 = reader.at

    def attachments(self) -> Attachments:
        return Attachments(self.body, self._at_map())

    def plain_map(self) -> i64:
        return plain_at(self._at_map())

    def _at_map(self) -> Hessian2Reader:
        """The reader at the attachments. The first time it walks over all that is in front of them."""
        reader = self._reader
        if not self._is_sought:
            self._is_sought = True
            try:
                self._skip_arguments()
            except Hessian2Error as error:
                self._fault = str(error)
        if self._fault:
            raise Hessian2Error(self._fault)
        return reader

    def _skip_arguments(self) -> None:
        reader = self._reader
        types = reader.text()
        if types is not None:
            reader.skip(argument_count(types))
        if reader.at == reader.end:
            raise Hessian2Error("there are no attachments")


def plain_at(reader: Hessian2Reader) -> i64:
    """Where `reader` stands if a map of short ASCII strings begins there and ends the body, else -1: it is left there.

    That is how Java writes attachments. All of such a map is ASCII, the bytes that say the sizes too, so that they are
    the bytes of the strings.
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
    """The first value of `name` (lower case) in the plain map at `start`."""
    wanted: i64 = len(name)
    end: i64 = len(body) - 1
    at: i64 = start + 1
    while at < end:
        size: i64 = body[at]
        at += 1
        if size >= 0x20:
            size = (size - 0x30) * 0x100 + body[at]
            at += 1
        is_it = size == wanted and has_lowered(body, at, name)
        at += size
        value_size: i64 = body[at]
        at += 1
        if value_size >= 0x20:
            value_size = (value_size - 0x30) * 0x100 + body[at]
            at += 1
        if is_it:
            return body[at : at + value_size]
        at += value_size
    return None


class ResponseBody:
    """The body of a reply whose status is OK, in hessian 2: what kind of result, the result, attachments."""

    def __init__(self, body: bytes) -> None:
        """Reads the kind. Hessian2Error when it is none."""
        self.body = body
        self._reader = Hessian2Reader(body)
        #: 0 exception, 1 value, 2 null; 3 to 5 the same with attachments.
        self.kind: i64 = self._reader.integer()
        if self.kind < 0 or self.kind > 5:
            raise Hessian2Error(f"no result is of kind {self.kind}")

    def attachments(self) -> Attachments:
        """Skips the result and reads the attachments. To be called once. Hessian2Error when there are none to be read."""
        self._skip_result()
        return Attachments(self.body, self._reader)

    def plain_map(self) -> i64:
        """Where the attachments begin if they are plain, see `plain_at`; -1 if not. As `attachments`."""
        self._skip_result()
        return plain_at(self._reader)

    def _skip_result(self) -> None:
        if self.kind < 3:
            raise Hessian2Error("this kind of result has no attachments")
        if self.kind != 5:
            self._reader.skip(1)
