"""Header fields, kept as the wire lines they arrived in.

A message that nobody edits is forwarded as it came: one bytes object in, the same object out. Look-ups and edits scan
that block; with the few hundred bytes of a real head this is cheaper than splitting it into pairs first (measured:
a scan of nine fields 0.5 us, splitting them 1.4 us, joining them again 0.9 us).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.chars import FIELD_VALUE, LOWER, TOKEN

COLON: Final[i64] = 58
LF: Final[i64] = 10

#: Fields that frame the message on this hop; only codecs write them (RFC 9112 section 6, RFC 9110 section 7.6.1).
FRAMING: Final = frozenset(
    (
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    )
)


class HeaderError(ValueError):
    """A field name or value that cannot be put on the wire."""


def is_token(name: bytes) -> bool:
    """Whether `name` is a token of RFC 9110 section 5.6.2."""
    size: i64 = len(name)
    i: i64 = 0
    while i < size:
        if TOKEN[name[i]] == 0:
            return False
        i += 1
    return size > 0


def is_field_value(value: bytes) -> bool:
    """Whether `value` holds no control character other than a tab (RFC 9110 section 5.5)."""
    size: i64 = len(value)
    i: i64 = 0
    while i < size:
        if FIELD_VALUE[value[i]] == 0:
            return False
        i += 1
    return True


def find_field(block: bytes, name: bytes, start: i64) -> i64:
    """The offset of the first line at or after `start` whose name is `name` (lower case), or -1."""
    end: i64 = len(block)
    size: i64 = len(name)
    i: i64 = start
    while i < end:
        if i + size < end and block[i + size] == COLON:
            k: i64 = 0
            while k < size and LOWER[block[i + k]] == name[k]:
                k += 1
            if k == size:
                return i
        while block[i] != LF:
            i += 1
        i += 1
    return -1


def line_end(block: bytes, start: i64) -> i64:
    """The offset just behind the line that starts at `start`."""
    i: i64 = start
    while block[i] != LF:
        i += 1
    return i + 1


def _value(block: bytes, name_size: i64, start: i64) -> bytes:
    return block[start + name_size + 1 : line_end(block, start) - 2].strip(b" \t")


def encode_name(name: str) -> bytes:
    """`name` as bytes. Raises HeaderError when it is no token."""
    raw = name.encode("utf-8", "surrogateescape")
    if not is_token(raw):
        raise HeaderError(f"not a header name: {name!r}")
    return raw


def encode_value(name: bytes, value: str) -> bytes:
    """`value` as bytes. Raises HeaderError when it would break out of its line."""
    raw = value.encode("utf-8", "surrogateescape")
    if not is_field_value(raw):
        raise HeaderError(f"header {name.decode()}: control character in value {value!r}")
    return raw


def refuse_framing(lowered: bytes) -> None:
    """Raises HeaderError for a field that only the proxy itself may write."""
    if lowered in FRAMING:
        raise HeaderError(f"header {lowered.decode()} is the proxy's own: it says how the message is framed")


@mypyc_attr(allow_interpreted_subclasses=True)
class Headers:
    """An ordered, case-insensitive multimap of header fields.

    Text is UTF-8 with surrogate escapes, so that bytes that are no UTF-8 survive a round trip. Methods whose names end in
    `_raw` take lower-case bytes names and check nothing: they are for codecs and the proxy, which have checked already.
    """

    def __init__(self, block: bytes = b"") -> None:
        """`block`: zero or more field lines, each `name:value` ended by CR LF, already checked."""
        self.block: bytes = block

    # ---- the str view, for filters

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of `name`, or `default`."""
        value = self.get_raw(name.lower().encode("utf-8", "surrogateescape"))
        return default if value is None else value.decode("utf-8", "surrogateescape")

    def get_all(self, name: str) -> list[str]:
        """Every value of `name`, in order."""
        raw = name.lower().encode("utf-8", "surrogateescape")
        found: list[str] = []
        size: i64 = len(raw)
        at: i64 = find_field(self.block, raw, 0)
        while at >= 0:
            found.append(_value(self.block, size, at).decode("utf-8", "surrogateescape"))
            at = find_field(self.block, raw, line_end(self.block, at))
        return found

    def set(self, name: str, value: str) -> None:
        """Makes `value` the only value of `name`. Raises HeaderError for names and values that may not be sent."""
        raw = encode_name(name)
        lowered = raw.lower()
        refuse_framing(lowered)
        line = raw + b": " + encode_value(raw, value) + b"\r\n"
        if find_field(self.block, lowered, 0) >= 0:
            self.remove_raw(lowered)
        self.block = self.block + line

    def add(self, name: str, value: str) -> None:
        """Adds one more field. Raises HeaderError like `set`."""
        raw = encode_name(name)
        refuse_framing(raw.lower())
        self.block = self.block + raw + b": " + encode_value(raw, value) + b"\r\n"

    def remove(self, name: str) -> bool:
        """Removes every field called `name`; says whether there was one. Raises HeaderError for framing fields."""
        lowered = name.lower().encode("utf-8", "surrogateescape")
        refuse_framing(lowered)
        return self.remove_raw(lowered)

    def items(self) -> list[tuple[str, str]]:
        """All fields in order: lower-case name, value."""
        return [
            (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in self.items_raw()
        ]

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
        return self.block.count(b"\n")

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self.items()])

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"

    # ---- the bytes view, for codecs and the proxy

    def get_raw(self, name: bytes) -> bytes | None:
        """The first value of `name` (lower case), or None."""
        at: i64 = find_field(self.block, name, 0)
        if at < 0:
            return None
        return _value(self.block, len(name), at)

    def add_raw(self, name: bytes, value: bytes) -> None:
        """Adds a field that was checked elsewhere."""
        self.block = self.block + name + b": " + value + b"\r\n"

    def remove_raw(self, name: bytes) -> bool:
        """Removes every field called `name` (lower case); says whether there was one."""
        block = self.block
        at: i64 = find_field(block, name, 0)
        if at < 0:
            return False
        while at >= 0:
            block = block[:at] + block[line_end(block, at) :]
            at = find_field(block, name, at)
        self.block = block
        return True

    def items_raw(self) -> list[tuple[bytes, bytes]]:
        """All fields in order: lower-case name, value."""
        found: list[tuple[bytes, bytes]] = []
        for line in self.block.split(b"\r\n"):
            if line:
                name, _, value = line.partition(b":")
                found.append((name.lower(), value.strip(b" \t")))
        return found

    def copy(self) -> Headers:
        """A copy that can be edited by itself."""
        return Headers(self.block)


def headers_from(pairs: dict[str, str] | list[tuple[str, str]] | None) -> Headers:
    """Headers from a dict or from pairs. Raises HeaderError for names and values that may not be sent."""
    headers = Headers()
    if pairs is not None:
        for name, value in pairs.items() if isinstance(pairs, dict) else pairs:
            headers.add(name, value)
    return headers
