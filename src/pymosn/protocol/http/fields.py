"""The header fields that the proxy itself uses, recognised while a head is scanned."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.http import CLAIMS
from pymosn.core.chars import LOWER
from pymosn.core.headers import SPACE, TAB

OTHER: Final[i64] = 0
HOST: Final[i64] = 1
CONTENT_LENGTH: Final[i64] = 2
TRANSFER_ENCODING: Final[i64] = 3
CONNECTION: Final[i64] = 4
TE: Final[i64] = 5
EXPECT: Final[i64] = 6
X_FORWARDED_FOR: Final[i64] = 7
X_FORWARDED_PROTO: Final[i64] = 8
X_REQUEST_ID: Final[i64] = 9
DATE: Final[i64] = 10
GLOBAL_TIMEOUT: Final[i64] = 11
TRY_TIMEOUT: Final[i64] = 12
MAX_FORWARDS: Final[i64] = 13
#: Claims about the client and its request: forwarded only for a trusted peer (hostile case C15).
CLAIM: Final[i64] = 14
#: Kinds from here on are hop-by-hop fields, which are not forwarded (RFC 9110 section 7.6.1).
HOP_BY_HOP: Final[i64] = 15
UPGRADE: Final[i64] = 16
KEEP_ALIVE: Final[i64] = 17
PROXY_CONNECTION: Final[i64] = 18
PROXY_AUTHORIZATION: Final[i64] = 19
HTTP2_SETTINGS: Final[i64] = 20

#: The names of the kinds above, in their order, then further hop-by-hop fields.
_NAMES: Final[list[bytes]] = [
    b"",
    *b"host content-length transfer-encoding connection te expect x-forwarded-for x-forwarded-proto x-request-id".split(),
    *b"date x-mosn-global-timeout x-mosn-try-timeout max-forwards forwarded trailer upgrade keep-alive".split(),
    b"proxy-connection",
    *b"proxy-authorization http2-settings".split(),
]
#: A name that matches one of these on servers that treat underscores as dashes (hostile case C14): not forwarded.
LOOK_ALIKE: Final[i64] = 21

_DASH: Final[i64] = 45


def _index() -> bytes:
    """Maps length and first letter to the one name that has both, so that one lookup rules out nearly every other field."""
    index = bytearray(1024)
    for kind, name in enumerate(_NAMES):
        if name:
            index[len(name) * 32 + (name[0] & 31)] = kind
    return bytes(index)


_INDEX: Final[bytes] = _index()

#: Fields that a `Connection` option can never remove: they carry the request's meaning (hostile case C16).
PROTECTED: Final = frozenset(
    b"host content-length transfer-encoding authorization cookie set-cookie expect content-type x-forwarded-for".split()
    + b"x-forwarded-proto x-request-id".split()
)
_KNOWN: Final = PROTECTED | frozenset(_NAMES[1:])


def classify(buffer: bytes, start: i64, end: i64) -> i64:
    """The kind of the field name `buffer[start:end]`, which is not empty; OTHER if unknown."""
    size: i64 = end - start
    if size > 31:
        return OTHER
    kind: i64 = _INDEX[size * 32 + (buffer[start] & 31)]
    if kind == OTHER:
        return OTHER
    name = _NAMES[kind]
    k: i64 = 0
    while k < size:
        if LOWER[buffer[start + k]] != name[k]:
            return OTHER
        k += 1
    return kind


def trimmed(value: bytes) -> bytes:
    """`value` without spaces and tabs around it."""
    start: i64 = 0
    end: i64 = len(value)
    while start < end and (value[start] == SPACE or value[start] == TAB):
        start += 1
    while end > start and (value[end - 1] == SPACE or value[end - 1] == TAB):
        end -= 1
    return value[start:end]


def is_claim(buffer: bytes, start: i64, end: i64) -> bool:
    """Whether `buffer[start:end]`, which begins with an x and is not in `_NAMES`, is a claim."""
    if end - start < 8 or buffer[start + 1] != _DASH:
        return False
    name = buffer[start:end].lower()
    return name.startswith(CLAIMS) and (name[:9] != b"x-real-ip" or len(name) == 9)


def is_look_alike(name: bytes) -> bool:
    """Whether a name with underscores would be a known field or a claim if they were dashes."""
    dashed = name.lower().replace(b"_", b"-")
    return dashed in _KNOWN or dashed.startswith(CLAIMS)


#: Fields that are not allowed in trailers (RFC 9110 section 6.5.1): framing, routing, authentication, content.
FORBIDDEN_TRAILERS: Final = _KNOWN.union(
    b"age cache-control content-encoding content-range expires if-match if-modified-since if-none-match if-range".split(),
    b"if-unmodified-since location max-forwards pragma proxy-authenticate range retry-after vary www-authenticate".split(),
)


def may_trail(name: bytes) -> bool:
    """Whether a field called `name`, in any case, may be forwarded in a trailer section."""
    dashed = name.lower().replace(b"_", b"-")
    return dashed not in FORBIDDEN_TRAILERS and not dashed.startswith(CLAIMS)
