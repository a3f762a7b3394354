"""Request targets and hosts: one normal form, which routes are matched on and which is sent upstream."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.chars import HOST, UNRESERVED

COLON: Final[i64] = 58
OPEN_BRACKET: Final[i64] = 91
#: The longest name of the DNS, and a port.
MAX_HOST: Final[i64] = 255 + 6

_HEX: Final = {byte: int(chr(byte), 16) for byte in b"0123456789abcdefABCDEF"}


def normalize_path(path: bytes) -> bytes | None:
    """The normal form of an absolute path (RFC 3986 section 6.2.2), or None for one that must be refused.

    Percent-encoded unreserved characters are decoded, other escapes get upper-case digits and stay (`%2F` never becomes a
    slash), runs of slashes become one, `.` and `..` are resolved. Refused: broken escapes, encoded control characters, and
    paths that climb above the root.
    """
    decoded = _decode_unreserved(path) if b"%" in path else path
    if decoded is None:
        return None
    segments: list[bytes] = []
    parts = decoded.split(b"/")
    last = parts[-1]
    for segment in parts[1:]:
        if segment == b"..":
            if not segments:
                return None
            segments.pop()
        elif segment and segment != b".":
            segments.append(segment)
    normal = b"/" + b"/".join(segments)
    if segments and last in (b"", b".", b".."):
        normal += b"/"
    return normal


def _decode_unreserved(path: bytes) -> bytes | None:
    out = bytearray()
    size = len(path)
    i = 0
    while i < size:
        byte = path[i]
        if byte != 37:
            out.append(byte)
            i += 1
            continue
        if i + 2 >= size:
            return None
        high = _HEX.get(path[i + 1])
        low = _HEX.get(path[i + 2])
        if high is None or low is None:
            return None
        value = high * 16 + low
        if value < 32 or value == 127:
            return None
        if UNRESERVED[value]:
            out.append(value)
        else:
            out += path[i : i + 3].upper()
        i += 3
    return bytes(out)


def is_host(value: bytes) -> bool:
    """Whether `value` is a host with an optional port (RFC 9110 section 7.2): no userinfo, path, comma or space."""
    size: i64 = len(value)
    if size == 0 or size > MAX_HOST:
        return False
    if value[0] == OPEN_BRACKET:
        return _is_ip_literal(value)
    i: i64 = 0
    while i < size:
        byte: i64 = value[i]
        if byte == COLON:
            return i > 0 and _is_port(value, i + 1)
        if HOST[byte] == 0:
            return False
        i += 1
    return True


def _is_port(value: bytes, start: i64) -> bool:
    """Whether `value` from `start` on is a port number."""
    size: i64 = len(value)
    if size == start or size - start > 5:
        return False
    port: i64 = 0
    i: i64 = start
    while i < size:
        digit: i64 = value[i] - 48
        if digit < 0 or digit > 9:
            return False
        port = port * 10 + digit
        i += 1
    return port < 65536


def _is_ip_literal(value: bytes) -> bool:
    literal, bracket, rest = value.partition(b"]")
    if not bracket or b":" not in literal or not all(byte in b"0123456789abcdefABCDEF:." for byte in literal[1:]):
        return False
    return not rest or (rest.startswith(b":") and _is_port(rest, 1))
