"""Strings of hessian 2 as Java writes them: lengths in UTF-16 units, each unit encoded in UTF-8, surrogates too."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

#: UTF-16 units per chunk of a long string, as in Java.
_CHUNK: Final[i64] = 0x8000
#: Encoded lengths of short strings.
_SHORT: Final = [bytes((size,)) for size in range(0x20)]


def to_utf8(raw: bytes) -> bytes:
    """Converts Java's form of a string to UTF-8, lone surrogates as bytes of their own.

    Java does not check continuation bytes and accepts overlong forms, which could hide a name from rules.
    """
    try:
        text = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = "".join([chr(unit) for unit in _units(raw)])
    else:
        if raw.find(b"\xed") < 0:  # ten times as fast as "in", which first tries the bytes as a number
            return raw
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")


def _units(raw: bytes) -> list[int]:
    """The UTF-16 units of a complete string, decoded as Java does."""
    units: list[int] = []
    at: i64 = 0
    while at < len(raw):
        lead: i64 = raw[at]
        if lead < 0x80:
            units.append(int(lead))
            at += 1
        elif lead & 0xE0 == 0xC0:
            units.append(int((lead & 0x1F) * 0x40 + (raw[at + 1] & 0x3F)))
            at += 2
        else:
            units.append(int((lead & 0x0F) * 0x1000 + (raw[at + 1] & 0x3F) * 0x40 + (raw[at + 2] & 0x3F)))
            at += 3
    return units


def write_text(value: bytes | None) -> bytes:
    """Encodes a UTF-8 string, or null, as Java does. Invalid UTF-8 becomes U+FFFD."""
    if value is None:
        return b"N"
    if len(value) < 0x20 and value.isascii():
        return _SHORT[len(value)] + value
    try:
        text = value.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = value.decode("utf-8", "replace")
    raw = text.encode("utf-16-be", "surrogatepass")
    units = [raw[i] * 0x100 + raw[i + 1] for i in range(0, len(raw), 2)]
    parts: list[bytes] = []
    start: i64 = 0
    while len(units) - start > _CHUNK:
        stop: i64 = start + _CHUNK
        if 0xD800 <= units[stop - 1] < 0xDC00:
            stop -= 1  # a surrogate pair stays in one chunk
        parts.append(b"R" + int(stop - start).to_bytes(2, "big") + _characters(units[start:stop]))
        start = stop
    rest = units[start:]
    size: i64 = len(rest)
    if size < 0x20:
        parts.append(bytes((size,)))
    elif size < 0x400:
        parts.append(bytes((0x30 + (size >> 8), size & 0xFF)))
    else:
        parts.append(b"S" + int(size).to_bytes(2, "big"))
    parts.append(_characters(rest))
    return b"".join(parts)


def _characters(units: list[int]) -> bytes:
    return "".join([chr(unit) for unit in units]).encode("utf-8", "surrogatepass")
