"""Request targets and hosts in one normal form, used both for route matching and upstream.

`normalize_path` is for paths that a client sent, `rewritten_path` for those that routes and filters make; docs/paths.md has
the rules.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.addresses import normal_ip
from pymosn.core.chars import HOST, PATH, REG_NAME, UNRESERVED, decimal, hex_digit

COLON: Final[i64] = 58
PERCENT: Final[i64] = 37
DOT: Final[i64] = 46
SLASH: Final[i64] = 47
BACKSLASH: Final[i64] = 92
OPEN_BRACKET: Final[i64] = 91
#: The longest DNS name plus a port.
MAX_HOST: Final[i64] = 255 + 6

#: What to do with an encoded slash (`%2F`) or backslash (`%5C`) in a path.
KEEP_SLASHES: Final[i64] = 0
DECODE_SLASHES: Final[i64] = 1
REFUSE_SLASHES: Final[i64] = 2


class PathPolicy:
    """How paths are normalized. Immutable.

    `is_strict`: refuse ambiguous paths. `merges_slashes`: replace a run of slashes by one. `slashes`: a constant above.
    """

    def __init__(self, is_strict: bool = True, merges_slashes: bool = True, slashes: i64 = KEEP_SLASHES) -> None:
        self.is_strict = is_strict
        self.merges_slashes = merges_slashes
        self.slashes: i64 = slashes


STRICT_PATHS: Final = PathPolicy()


def normalize_path(path: bytes, policy: PathPolicy = STRICT_PATHS) -> bytes | None:
    """The normal form of an absolute path (RFC 3986 section 6.2.2), or None for one that must be refused.

    Percent-encoded unreserved characters are decoded, other escapes are kept with upper-case digits (`%2F` and `%5C`
    become slashes only if `policy` decodes slashes), runs of slashes become one, `.` and `..` are resolved. Refused:
    encoded control characters, and by a strict policy invalid escapes, paths that escape the root, and segments that are
    dot segments to a server which cuts off path parameters or decodes slashes late (`..;a`, `..%2Fa`).
    """
    decoded = _decode_escapes(path, policy) if b"%" in path else path
    if decoded is None:
        return None
    kept: list[bytes] = []
    parts = decoded.split(b"/")
    last = parts.pop()
    for segment in [*parts[1:], last] if last else parts[1:]:
        if segment == b"..":
            if kept:
                kept.pop()
            elif policy.is_strict:
                return None
        elif segment and segment != b".":
            if policy.is_strict and _hides_dots(segment):
                return None
            kept.append(segment)
        elif not segment and not policy.merges_slashes:
            kept.append(segment)
    normal = b"/" + b"/".join(kept)
    if kept and last in (b"", b".", b".."):
        normal += b"/"
    return normal


def is_plain_path(path: bytes) -> bool:
    """Whether `path` is in the normal form of every policy, as one scan can tell: without escapes, `//` and `/.`."""
    size: i64 = len(path)
    if size == 0 or path[0] != SLASH:
        return False
    before: i64 = 0
    i: i64 = 0
    while i < size:
        byte: i64 = path[i]
        if PATH[byte] == 0 or byte == PERCENT or (before == SLASH and (byte in (SLASH, DOT))):
            return False
        before = byte
        i += 1
    return True


def rewritten_path(path: bytes, before: bytes, policy: PathPolicy = STRICT_PATHS) -> bytes | None:
    """The normal form of an absolute path that a route or a filter has made of `before`; None if it must be refused.

    Refused is what `normalize_path` refuses, and every `..`: `before` is in normal form and has none, so that it arose where
    parts were joined, decoded or removed, and would lead to an unjudged path. That applies under any policy. A
    dot segment in disguise (`..;a`) is kept only where the policy accepts it and `before` has the same one.
    """
    if is_plain_path(path):
        return path
    decoded = _decode_escapes(path, policy) if b"%" in path else path
    if decoded is None or _climbs(decoded, before):
        return None
    return normalize_path(path, policy)


def _climbs(path: bytes, before: bytes) -> bool:
    """Whether a segment of `path`, whose escapes are decoded, is `..` or a dot segment in disguise that `before` has not."""
    known = before.split(b"/")
    for segment in path.split(b"/"):  # noqa: SIM110 - no generator in compiled code
        if segment == b".." or (_hides_dots(segment) and segment not in known):
            return True
    return False


def has_dot_segment(text: bytes) -> bool:
    """Whether configured text that becomes part of a path has a dot segment, in any form, after one of its slashes."""
    decoded = _decode_escapes(text, STRICT_PATHS) if b"%" in text else text
    parts = (text if decoded is None else decoded).split(b"/")[1:]
    return any([part in (b".", b"..") or _hides_dots(part) for part in parts])  # noqa: C419 - no generator in compiled code


def _hides_dots(segment: bytes) -> bool:
    """Whether some servers treat this segment as a dot segment, which RFC 3986 does not."""
    if b"." not in segment or (b";" not in segment and b"%" not in segment):
        return False
    parts = segment.replace(b"%5C", b"%2F").split(b"%2F")
    return any([part.partition(b";")[0] in (b".", b"..") for part in parts])  # noqa: C419 - no generator in compiled code


def _decode_escapes(path: bytes, policy: PathPolicy) -> bytes | None:
    """`path` with escapes of unreserved characters decoded, other escapes in upper case; None for an invalid one."""
    size: i64 = len(path)
    parts: list[bytes] = []
    kept: i64 = 0
    i: i64 = path.find(b"%")
    while i >= 0:
        if i > kept:
            parts.append(path[kept:i])
        high: i64 = hex_digit(path[i + 1]) if i + 1 < size else -1
        low: i64 = hex_digit(path[i + 2]) if i + 2 < size else -1
        if high < 0 or low < 0:
            if policy.is_strict:
                return None
            parts.append(b"%25")
            kept = i + 1
        else:
            value: i64 = high * 16 + low
            if value < 32 or value == 127:
                return None
            if value in (SLASH, BACKSLASH) and policy.slashes == REFUSE_SLASHES:
                return None
            if value in (SLASH, BACKSLASH) and policy.slashes == DECODE_SLASHES:
                parts.append(b"/")  # for many servers a backslash is a slash
            elif UNRESERVED[value] != 0:
                parts.append(bytes([value]))
            else:
                parts.append(path[i : i + 3].upper())
            kept = i + 3
        i = path.find(b"%", kept)
    parts.append(path[kept:])
    return b"".join(parts)


def is_host(value: bytes, is_strict: bool = True) -> bool:
    """Whether `value` is a host with an optional port (RFC 9110 section 7.2).

    The name may have letters, digits and `-._~`; unless `is_strict`, every character of RFC 3986 except for a comma.
    """
    characters = HOST if is_strict else REG_NAME
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
        if characters[byte] == 0:
            return False
        i += 1
    return True


def _is_port(value: bytes, start: i64) -> bool:
    """Whether `value` from `start` to its end is a port number."""
    return len(value) - start <= 5 and 0 <= decimal(value[start:]) < 65536


def _is_ip_literal(value: bytes) -> bool:
    """Whether `value` is an IPv6 address in brackets with an optional port."""
    literal, bracket, rest = value[1:].partition(b"]")
    if not bracket or b":" not in literal or not normal_ip(literal.decode("latin-1")):
        return False
    return not rest or (rest.startswith(b":") and _is_port(rest, 1))
