"""Header fields: what every protocol's headers can do (`Headers`), and those of HTTP (`HttpHeaders`).

HTTP's stay the wire lines that were received. An unmodified message is forwarded unchanged: one bytes object in, the same
object out. Lookups and edits scan that block; for the few hundred bytes of a real head this is cheaper than splitting it
into pairs first (measured: a scan of nine fields 0.5 us, splitting them 1.4 us, joining them again 0.9 us).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, overload

from mypy_extensions import i64, mypyc_attr

from pymosn.core.chars import FIELD_VALUE, TOKEN, all_in, has_lowered
from pymosn.core.clock import HttpDates
from pymosn.core.failure import REPEATED_FIELD, Refused
from pymosn.core.plain import plain_text

COLON: Final[i64] = 58
LF: Final[i64] = 10
CR: Final[i64] = 13
SPACE: Final[i64] = 32
TAB: Final[i64] = 9

#: Fields that frame the message on this hop; only codecs write them (RFC 9112 section 6, RFC 9110 section 7.6.1).
FRAMING: Final = frozenset(
    b"content-length transfer-encoding connection keep-alive proxy-connection te trailer upgrade".split()
)


class HeaderError(ValueError):
    """A field name or value that cannot be sent."""


def joined(values: list[str]) -> str | None:
    """Several values as one, joined with commas; None if there is none."""
    return ",".join(values) if values else None


class RepeatedField(Refused):
    """Several values where only one is allowed. If a filter does not catch it, the client gets 400 `repeated_field`."""

    def __init__(self, what: str) -> None:
        """`what`: the field, parameter or cookie, as in `header x-user`."""
        super().__init__(REPEATED_FIELD, f"{what} is given more than once")


def is_token(name: bytes) -> bool:
    """Whether `name` is a token of RFC 9110 section 5.6.2."""
    return len(name) > 0 and all_in(name, TOKEN)


def is_field_value(value: bytes) -> bool:
    """Whether `value` holds no control character other than a tab (RFC 9110 section 5.5)."""
    return all_in(value, FIELD_VALUE)


def find_field(block: bytes, name: bytes, start: i64) -> i64:
    """The offset of the first line at or after `start` whose name is `name` (lower case), or -1."""
    end: i64 = len(block)
    size: i64 = len(name)
    i: i64 = start
    while i < end:
        if i + size < end and block[i + size] == COLON and has_lowered(block, i, name):
            return i
        i = line_end(block, i)
    return -1


def name_bit(size: i64, first: i64, last: i64) -> i64:
    """One of 64 bits for a name of `size` bytes that begins and ends with these letters, in either case.

    A block remembers the bits of its names, so most lookups of an absent name need no scan.
    """
    one: i64 = (size | 1) & 1  # a constant would be an int of 32 bits in mypyc's C
    return one << ((size * 5 + (first & 31) + (last & 31) * 7) & 63)


def _bit_of(line: bytes, size: i64) -> i64:
    """The bit of the name of `size` bytes, not 0, at the start of `line`."""
    return name_bit(size, line[0], line[size - 1])


def line_end(block: bytes, start: i64) -> i64:
    """The offset after the line that starts at `start`; each ends in CR LF."""
    i: i64 = start
    while True:
        byte: i64 = block[i]
        if byte == LF:
            return i + 1
        if byte == CR and block[i + 1] == LF:
            return i + 2
        i += 2  # cannot step over both CR and LF


def _value(block: bytes, name_size: i64, start: i64) -> bytes:
    """The value of the line at `start`, whose name has `name_size` bytes, without the white space around it."""
    first: i64 = start + name_size + 1
    last: i64 = line_end(block, first) - 2
    while first < last and (block[first] == SPACE or block[first] == TAB):
        first += 1
    while last > first and (block[last - 1] == SPACE or block[last - 1] == TAB):
        last -= 1
    return block[first:last]


def to_text(raw: bytes) -> str:
    """`raw` as text: UTF-8, with surrogate escapes for other bytes."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The reverse of `to_text`."""
    text = plain_text(text)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


#: Lower-case bytes of names that filters have used. Only names in code end up here, but a bound costs nothing.
_LOWERED: Final[dict[str, bytes]] = {}
#: The beginnings of lines whose names may be sent.
_LINE_STARTS: Final[dict[str, bytes]] = {}
_MEMORY: Final[i64] = 1024


def lower_name(name: str) -> bytes:
    """`name` as lower-case bytes, for lookups. Only ASCII letters have a lower case, as in codecs."""
    lowered = _LOWERED.get(name)
    if lowered is None:
        lowered = to_bytes(name).lower()
        if len(_LOWERED) < _MEMORY:
            _LOWERED[plain_text(name)] = lowered
    return lowered


def encode_name(name: str) -> bytes:
    """`name` as bytes, case kept. Raises HeaderError for anything but a token, and for fields reserved for the proxy."""
    raw = to_bytes(name)
    if not is_token(raw):
        raise HeaderError(f"not a header name: {name!r}")
    refuse_framing(raw.lower())
    return raw


def line_start(name: str) -> bytes:
    """The beginning of a line: `name`, a colon and a space. Raises HeaderError like `encode_name`."""
    start = _LINE_STARTS.get(name)
    if start is None:
        start = encode_name(name) + b": "
        if len(_LINE_STARTS) < _MEMORY:
            _LINE_STARTS[plain_text(name)] = start
    return start


def encode_value(name: str, value: str) -> bytes:
    """`value` as bytes. Raises HeaderError, naming the field, for a value that would break out of its line."""
    raw = to_bytes(value)
    if not is_field_value(raw):
        raise HeaderError(f"header {name}: control character in value {value!r}")
    return raw


def refuse_framing(lowered: bytes) -> None:
    """Raises HeaderError for a field that only the proxy may write."""
    if lowered in FRAMING:
        raise HeaderError(f"header {lowered.decode()} is managed by the proxy because it controls message framing")


@mypyc_attr(allow_interpreted_subclasses=True, acyclic=True)
class Headers:
    """An ordered, case-insensitive multimap of header fields. How they are stored is up to each protocol.

    Text is UTF-8 with surrogate escapes, so that bytes that are not UTF-8 survive a round trip. Methods whose names end in
    `_raw` take lower-case bytes names and check nothing: they are for codecs and the proxy, which have checked already.

    A protocol implements `get_raw`, `add_raw`, `remove_raw`, `items_raw` and `copy`. Everything else is built on these five
    and may be overridden to be faster, or stricter about what the protocol can send.
    """

    # ---- the str view, for filters

    @overload
    def get(self, name: str, default: None = None) -> str | None: ...

    @overload
    def get(self, name: str, default: str) -> str: ...

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of `name`, or `default`."""
        value = self.get_raw(lower_name(name))
        return default if value is None else to_text(value)

    def get_all(self, name: str) -> list[str]:
        """Every value of `name`, in order."""
        raw = lower_name(name)
        return [to_text(value) for key, value in self.items_raw() if key == raw]

    def joined(self, name: str) -> str | None:
        """All values of `name` in order, joined with commas (RFC 9110 section 5.3); None if there is none.

        The value to compare or to use as a key. The first value alone is not what every upstream sees.
        """
        return joined(self.get_all(name))

    def single(self, name: str) -> str | None:
        """The only value of `name`, or None. Raises RepeatedField if there are several.

        For values that identify a client or select a destination: receivers of several differ in which one they use.
        """
        values = self.get_all(name)
        if len(values) > 1:
            raise RepeatedField(f"header {name}")
        return values[0] if values else None

    def set(self, name: str, value: str) -> None:
        """Makes `value` the only value of `name`. Raises HeaderError for names and values that cannot be sent."""
        if not name:
            raise HeaderError("a header needs a name")
        self.remove(name)
        self.add_raw(to_bytes(name), to_bytes(value))

    def add(self, name: str, value: str) -> None:
        """Adds a field. Raises HeaderError like `set`."""
        if not name:
            raise HeaderError("a header needs a name")
        self.check_change(name)
        self.add_raw(to_bytes(name), to_bytes(value))

    def remove(self, name: str) -> bool:
        """Removes every field called `name`; returns whether there was one. Raises HeaderError for a read-only field."""
        self.check_change(name)
        return self.remove_raw(lower_name(name))

    def check_change(self, name: str) -> None:
        """Raises HeaderError when filters cannot change the field `name`. Called by `set`, `add` and `remove`."""

    def items(self) -> list[tuple[str, str]]:
        """All fields in order: lower-case name, value."""
        return [(to_text(name), to_text(value)) for name, value in self.items_raw()]

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if not self.remove(name):
            raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __len__(self) -> int:
        return len(self.items_raw())

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self.items()])

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"

    # ---- the bytes view, for codecs and the proxy

    def has_raw(self, name: bytes) -> bool:
        """Whether there is a field `name` (lower case)."""
        return self.get_raw(name) is not None

    def get_raw(self, name: bytes) -> bytes | None:
        """The first value of `name` (lower case), or None."""
        raise NotImplementedError

    def only_raw(self, name: bytes) -> bytes | None:
        """The value of `name` (lower case) if exactly one field has it; None if there is none, or several."""
        found: bytes | None = None
        for key, value in self.items_raw():
            if key == name:
                if found is not None:
                    return None
                found = value
        return found

    def add_raw(self, name: bytes, value: bytes) -> None:
        """Adds a field that has been checked."""
        raise NotImplementedError

    def remove_raw(self, name: bytes) -> bool:
        """Removes every field called `name` (lower case); returns whether there was one."""
        raise NotImplementedError

    def remove_named(self, names: frozenset[bytes]) -> None:
        """Removes every field whose name (lower case) is in `names`."""
        for name in names:
            self.remove_raw(name)

    def items_raw(self) -> list[tuple[bytes, bytes]]:
        """All fields in order: lower-case name, value."""
        raise NotImplementedError

    def copy(self) -> Headers:
        """An independent copy."""
        raise NotImplementedError

    def add_lines(self, lines: bytes) -> None:
        """Adds complete wire lines (`name: value` CR LF) that have been checked."""
        for line in lines.split(b"\r\n"):
            if line:
                name, _, value = line.partition(b":")
                self.add_raw(name, value.strip(b" \t"))

    def add_date(self, dates: HttpDates) -> None:
        """Adds the Date field for now."""
        self.add_lines(dates.line())

    def put_first(self, name: bytes, value: bytes) -> None:
        """Adds a checked field before all others, where the protocol keeps an order."""
        self.add_raw(name, value)

    def wire_size(self) -> i64:
        """Bytes of the fields as HTTP/1 lines."""
        return len(wire_lines(self))


@mypyc_attr(allow_interpreted_subclasses=True, acyclic=True)
class HttpHeaders(Headers):
    """The fields of an HTTP message, kept as a block of wire lines.

    The block is private to this module; codecs read it with `wire_lines`.
    """

    def __init__(self, block: bytes = b"", bits: i64 = -1) -> None:
        """`block`: zero or more field lines, each `name:value` followed by CR LF, already checked.

        `bits`: the `name_bit` of each name in it, from a codec that has seen them anyway; -1 when they are not known.
        """
        self._block: bytes = block
        # Every name in the block has its bit; others may too. A method that only removes lines leaves the bits alone.
        self._bits: i64 = bits

    def _find(self, name: bytes) -> i64:
        """The offset of the first line whose name is `name` (lower case), or -1."""
        if len(name) > 0 and self._bits & _bit_of(name, len(name)) == 0:
            return -1
        return find_field(self._block, name, 0)

    def get_all(self, name: str) -> list[str]:
        raw = lower_name(name)
        found: list[str] = []
        size: i64 = len(raw)
        at: i64 = self._find(raw)
        while at >= 0:
            found.append(to_text(_value(self._block, size, at)))
            at = find_field(self._block, raw, line_end(self._block, at))
        return found

    def set(self, name: str, value: str) -> None:
        start = line_start(name)
        raw = encode_value(name, value)
        bit = _bit_of(start, len(start) - 2)
        if self._bits & bit != 0:
            self.remove_raw(lower_name(name))
        self._append(bit, start, raw)

    def add(self, name: str, value: str) -> None:
        """Adds a field. Raises HeaderError like `set`, and for a second Host (RFC 9112 section 3.2)."""
        start = line_start(name)
        if len(start) == 6 and start.lower() == b"host: " and self.has_raw(b"host"):
            raise HeaderError("duplicate Host header; set `request.host` instead")
        self._append(_bit_of(start, len(start) - 2), start, encode_value(name, value))

    def check_change(self, name: str) -> None:
        refuse_framing(lower_name(name))

    def __len__(self) -> int:
        return self._block.count(b"\n")

    def has_raw(self, name: bytes) -> bool:
        return self._find(name) >= 0

    def get_raw(self, name: bytes) -> bytes | None:
        at: i64 = self._find(name)
        return None if at < 0 else _value(self._block, len(name), at)

    def only_raw(self, name: bytes) -> bytes | None:
        at: i64 = self._find(name)
        if at < 0 or find_field(self._block, name, line_end(self._block, at)) >= 0:
            return None
        return _value(self._block, len(name), at)

    def add_raw(self, name: bytes, value: bytes) -> None:
        self._append(_bit_of(name, len(name)), name + b": ", value)

    def _append(self, bit: i64, start: bytes, value: bytes) -> None:
        """Adds a line; `bit` is the one of its name."""
        line = start + value + b"\r\n"
        self._block = self._block + line
        self._bits |= bit

    def remove_raw(self, name: bytes) -> bool:
        at: i64 = self._find(name)
        if at < 0:
            return False
        block = self._block
        while at >= 0:
            block = block[:at] + block[line_end(block, at) :]
            at = find_field(block, name, at)
        self._block = block
        return True

    def remove_named(self, names: frozenset[bytes]) -> None:
        lines = self._block.splitlines(True)
        self._block = b"".join([line for line in lines if line.partition(b":")[0].lower() not in names])

    def items_raw(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        for line in self._block.split(b"\r\n"):
            if line:
                name, _, value = line.partition(b":")
                found.append((name.lower(), value.strip(b" \t")))
        return found

    def copy(self) -> Headers:
        return HttpHeaders(self._block, self._bits)

    def add_lines(self, lines: bytes) -> None:
        self._block = self._block + lines
        self._bits = -1

    def add_date(self, dates: HttpDates) -> None:
        self._block = dates.append_to(self._block)
        self._bits |= _bit_of(b"date", 4)

    def put_first(self, name: bytes, value: bytes) -> None:
        self._bits |= _bit_of(name, len(name))
        self._block = name + b": " + value + b"\r\n" + self._block

    def wire_size(self) -> i64:
        return len(self._block)


def wire_lines(headers: Headers) -> bytes:
    """All fields as wire lines, for codecs: of HttpHeaders the block itself, without a copy."""
    if isinstance(headers, HttpHeaders):
        return headers._block
    return b"".join([name + b": " + value + b"\r\n" for name, value in headers.items_raw()])


#: The headers of a head that has not been decoded yet; nothing may be added to them.
NO_HEADERS: Final = HttpHeaders()


def headers_from(pairs: dict[str, str] | list[tuple[str, str]] | None) -> Headers:
    """Headers from a dict or from pairs; None for empty ones. Raises HeaderError for fields that cannot be sent."""
    headers = HttpHeaders()
    if pairs is not None:
        for name, value in pairs.items() if isinstance(pairs, dict) else pairs:
            headers.add(name, value)
    return headers
