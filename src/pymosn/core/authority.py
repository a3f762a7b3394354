"""Hosts with an optional port, as in Host, `:authority`, targets and domains (RFC 3986 section 3.2, RFC 9110 section 7.2).

Only this module splits, checks and writes them. `normal_authority` is for what others sent: everything that judges,
routes or forwards a host gets its result. An empty port is no port (RFC 3986 section 6.2.3). A zone of an IPv6 address means
nothing to another machine, so it is never sent (RFC 9844 section 3, RFC 6874 section 4). Addresses to dial are
`core.addresses`.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.addresses import HIGHEST_PORT, normal_ip
from pymosn.core.chars import HOST, REG_NAME, UNRESERVED, decimal

COLON: Final[i64] = 58
OPEN_BRACKET: Final[i64] = 91
UPPER_A: Final[i64] = 65
UPPER_Z: Final[i64] = 90
#: The longest DNS name plus a port.
MAX_HOST: Final[i64] = 255 + 6
#: The default ports of the schemes that proxies know (RFC 9110 section 4.2).
DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}
#: How the zone of an address begins in a URI; in other texts it is `%` alone.
ZONE: Final = b"%25"


class Authority:
    """A host and its port. `host` is in brackets if it is an IPv6 address; `port` is empty if there is none."""

    def __init__(self, host: bytes, port: bytes = b"") -> None:
        self.host = host
        self.port = port

    def write(self) -> bytes:
        """The text; empty without a host."""
        return self.host + b":" + self.port if self.host and self.port else self.host

    def is_literal(self) -> bool:
        """Whether the host is an address in brackets."""
        return self.host.startswith(b"[")

    def name(self) -> bytes:
        """The host without brackets."""
        return self.host[1:-1] if self.is_literal() else self.host

    def has_port(self, number: i64) -> bool:
        """Whether the port is `number`, which may be written with leading zeros (RFC 3986 section 3.2.3)."""
        return number >= 0 and decimal(self.port) == number

    def without_default_port(self, scheme: bytes) -> Authority:
        """The same host without the port that `scheme` has anyway."""
        return Authority(self.host) if self.has_port(DEFAULT_PORTS.get(scheme, -1)) else self


def split_authority(text: bytes) -> Authority:
    """Splits `host`, `host:port`, `host:`, `host:*` or `[v6]:port`. Does not check the parts."""
    host, colon, port = text.rpartition(b":")
    if not colon or b"]" in port:
        return Authority(text)
    return Authority(host, port)


def normal_authority(value: bytes, is_strict: bool = True) -> bytes | None:
    """The normal form of a host with an optional port: lower case, without an empty port; None for an invalid one.

    The name may have letters, digits and `-._~`; unless `is_strict`, every character of RFC 3986 except for a comma, and
    the zone of an IPv6 address is dropped. Only if something was dropped, the result is shorter than `value`.
    """
    size: i64 = len(value)
    if size == 0 or size > MAX_HOST:
        return None
    if value[0] == OPEN_BRACKET:
        return _normal_literal(value, is_strict)
    characters = HOST if is_strict else REG_NAME
    is_lower = True
    i: i64 = 0
    while i < size:
        byte: i64 = value[i]
        if characters[byte] == 0:
            break
        if UPPER_A <= byte <= UPPER_Z:
            is_lower = False
        i += 1
    if i < size:
        if value[i] != COLON or i == 0:
            return None
        if i + 1 == size:
            value = value[:i]
        elif not _is_port(value, i + 1):
            return None
    return value if is_lower else value.lower()


def is_host(value: bytes, is_strict: bool = True) -> bool:
    """Whether `value` is a host with an optional port, which may be empty."""
    return normal_authority(value, is_strict) is not None


def connect_target(value: bytes) -> bytes | None:
    """The normal form of the target of a CONNECT, or None. Its port has no default (RFC 9110 section 9.3.6)."""
    normal = normal_authority(value)
    if normal is None or len(normal) != len(value) or not split_authority(normal).port:
        return None
    return normal


def as_sent(value: bytes, normal: bytes) -> bytes:
    """`value`, whose normal form is `normal`, as it is forwarded: in its own case, unless something was dropped."""
    return value if len(value) == len(normal) else normal


def _is_port(value: bytes, start: i64) -> bool:
    """Whether `value` from `start` to its end is a port number."""
    return len(value) - start <= 5 and 0 <= decimal(value[start:]) <= HIGHEST_PORT


def _normal_literal(value: bytes, is_strict: bool) -> bytes | None:
    """The normal form of an IPv6 address in brackets with an optional port."""
    literal, bracket, rest = value[1:].partition(b"]")
    if not bracket:
        return None
    address, percent, zone = literal.partition(ZONE)
    if percent and (is_strict or not _is_zone(zone)):
        return None
    if b":" not in address or not normal_ip(address.decode("latin-1")):
        return None
    if rest and (not rest.startswith(b":") or (len(rest) > 1 and not _is_port(rest, 1))):
        return None
    return (b"[" + address + b"]" + (rest if len(rest) > 1 else b"")).lower()


def _is_zone(text: bytes) -> bool:
    """Whether `text` is the name of a zone (RFC 6874 section 2), without escapes, which no interface needs."""
    return len(text) > 0 and not [byte for byte in text if UNRESERVED[byte] == 0]
