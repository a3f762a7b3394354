"""URIs (RFC 3986), and request targets in one normal form, used both for route matching and upstream.

Only `Uri` and its functions split URIs and targets and write them; `core.authority` has the hosts in them.
`normalize_path` is for paths that a client sent, `rewritten_path` for those that routes and filters make; docs/paths.md has
the rules. The decoders find the parts of a target while they scan it, and split no text again.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.chars import PATH, PATH_TEXT, QUERY_TEXT, SCHEME, UNRESERVED, all_in, hex_digit

PERCENT: Final[i64] = 37
DOT: Final[i64] = 46
SLASH: Final[i64] = 47
BACKSLASH: Final[i64] = 92

#: What to do with an encoded slash (`%2F`) or backslash (`%5C`) in a path.
KEEP_SLASHES: Final[i64] = 0
DECODE_SLASHES: Final[i64] = 1
REFUSE_SLASHES: Final[i64] = 2


class Uri:
    """A URI or a reference to one, by its parts without their delimiters.

    `scheme`: in lower case, empty if there is none. `authority`: as written, with user information if it has any; None if
    there is none. `path`: possibly empty. `query` and `fragment`: None if there is none, which differs from an empty one.
    """

    def __init__(
        self,
        path: bytes,
        query: bytes | None = None,
        *,
        scheme: bytes = b"",
        authority: bytes | None = None,
        fragment: bytes | None = None,
    ) -> None:
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.query = query
        self.fragment = fragment

    def target(self) -> bytes:
        """Path and query as they are, as in a request line; `/` for an empty path."""
        return target_of(self.path or b"/", self.query)

    def write(self) -> bytes:
        """The text, in which every byte that its part cannot have is percent-encoded.

        A path cannot be taken for an authority or a scheme: after an authority it is rooted, and without one `//` is
        written as `/.//` (RFC 3986 sections 3.3 and 4.2).
        """
        path = escape_part(self.path, PATH_TEXT)
        if path and not path.startswith(b"/") and (self.authority or not self.scheme):
            path = b"/" + path
        text = self.scheme + b":" if self.scheme else b""
        if self.authority:
            text += b"//" + self.authority
        elif path.startswith(b"//"):
            path = b"/." + path
        text += path
        if self.query is not None:
            text += b"?" + escape_part(self.query, QUERY_TEXT)
        if self.fragment is not None:
            text += b"#" + escape_part(self.fragment, QUERY_TEXT)
        return text


def target_of(path: bytes, query: bytes | None) -> bytes:
    """Path and query as one text."""
    return path if query is None else path + b"?" + query


def parse_target(text: bytes) -> Uri:
    """Splits a path with an optional query and fragment; `//` at its beginning belongs to the path."""
    text, mark, fragment = text.partition(b"#")
    path, question, query = text.partition(b"?")
    return Uri(path, query if question else None, fragment=fragment if mark else None)


def parse_uri(text: bytes) -> Uri:
    """Splits a URI or a reference to one (RFC 3986 appendix B). The parts may have bytes that are invalid in a URI."""
    uri = parse_target(text)
    head, colon, rest = uri.path.partition(b":")
    if colon and head[:1].isalpha() and all_in(head, SCHEME):
        uri.scheme = head.lower()
        uri.path = rest
    if uri.path.startswith(b"//"):
        authority, slash, path = uri.path[2:].partition(b"/")
        uri.authority = authority
        uri.path = slash + path
    return uri


def escape_part(text: bytes, characters: bytes) -> bytes:
    """`text` with every byte percent-encoded that is not in the class `characters`, and every `%` that begins no escape."""
    if b"%" not in text and all_in(text, characters):
        return text
    size: i64 = len(text)
    parts: list[bytes] = []
    i: i64 = 0
    while i < size:
        byte: i64 = text[i]
        is_escape = byte == PERCENT and i + 2 < size and hex_digit(text[i + 1]) >= 0 and hex_digit(text[i + 2]) >= 0
        parts.append(text[i : i + 1] if is_escape or (characters[byte] != 0 and byte != PERCENT) else b"%%%02X" % byte)
        i += 1
    return b"".join(parts)


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
