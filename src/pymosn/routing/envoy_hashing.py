"""The hash of a request as Envoy computes it, for routes with `hash_function`.

Each policy gives an XXH64 hash. They are combined in order: the hash so far, rotated by one bit, exclusive-or the next one.
A hash of 0 counts as none; it would be one of 2**64.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.core.hash64 import rotated, xxh64
from pymosn.core.headers import Headers, lower_name, to_bytes, to_text
from pymosn.routing.conditions import part_of, query_value
from pymosn.routing.regex import Replacement

#: The result if no policy has a value.
NO_HASH: Final[i64] = 0


class EnvoyPolicy:
    """One component of the hash. `is_terminal`: once there is a hash, the following ones are ignored."""

    def __init__(self) -> None:
        self.is_terminal = False

    def hash(self, exchange: Exchange) -> i64:
        """Its hash in an exchange, or NO_HASH."""
        raise NotImplementedError


class EnvoyHeader(EnvoyPolicy):
    """A request header, or `:path` and the like. Several values are sorted; the hash so far is the seed of the next."""

    def __init__(self, name: str, rewrite: Replacement | None = None) -> None:
        """`rewrite`: of each value."""
        super().__init__()
        self._rewrite = rewrite
        self._name = to_text(lower_name(name))

    def hash(self, exchange: Exchange) -> i64:
        request = exchange.request
        values = [] if self._name.startswith(":") else request.headers.get_all(self._name)
        if not values:
            value = part_of(request, self._name)
            return NO_HASH if value is None else xxh64(self._rewritten(value))
        found: i64 = 0
        for raw in sorted([self._rewritten(value) for value in values]):
            found = xxh64(raw, found)
        return found

    def _rewritten(self, value: str) -> bytes:
        raw = to_bytes(value)
        return raw if self._rewrite is None else self._rewrite.apply(raw)


class EnvoyCookie(EnvoyPolicy):
    """The first cookie of a name. With `generate`, the response sets one for clients that have none."""

    def __init__(self, name: str, generate: bool, attributes: str) -> None:
        """`attributes`: of a new cookie, such as `; Max-Age=60; Path=/`."""
        super().__init__()
        self._name = name
        self._generate = generate
        self._attributes: bytes = attributes.encode()

    def hash(self, exchange: Exchange) -> i64:
        value = _first_cookie(exchange.request.headers, self._name)
        if value:
            return xxh64(to_bytes(value))
        if not self._generate:
            return NO_HASH
        start = self._name.encode() + b'="'
        if not exchange.set_cookie.startswith(start):
            # The same for all requests of a connection, so that the first ones, sent together, have one host.
            ends = exchange.forwarded_ip + exchange.direct_remote_address + exchange.local_address
            exchange.set_cookie = start + int(xxh64(ends.encode())).to_bytes(8, "big", signed=True).hex().encode()
            exchange.set_cookie += b'"' + self._attributes
        return xxh64(exchange.set_cookie[len(start) :].partition(b'"')[0])


def _first_cookie(headers: Headers, name: str) -> str:
    """The first cookie of a name, without quotes; empty without one. Only spaces before a pair are removed, as in Envoy."""
    for line in headers.get_all("cookie"):
        for pair in line.split(";"):
            key, equals, value = pair.lstrip(" ").partition("=")
            if equals and key == name:
                return value[1:-1] if len(value) >= 2 and value.startswith('"') and value.endswith('"') else value
    return ""


class EnvoyQuery(EnvoyPolicy):
    """The first value of a query parameter, not decoded."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name: bytes = to_bytes(name)

    def hash(self, exchange: Exchange) -> i64:
        value = query_value(exchange.request.raw_query, self._name)
        return NO_HASH if value is None else xxh64(value)


class EnvoySourceIp(EnvoyPolicy):
    """The client's IP address."""

    def hash(self, exchange: Exchange) -> i64:
        address = exchange.remote_ip
        return xxh64(address.encode()) if address else NO_HASH


def envoy_hash(policies: list[EnvoyPolicy], exchange: Exchange) -> i64:
    """The combined hash; NO_HASH if no policy has a value."""
    found: i64 = NO_HASH
    for policy in policies:
        value = policy.hash(exchange)
        if value != NO_HASH:
            found = value if found == NO_HASH else rotated(found, 1) ^ value
        if policy.is_terminal and found != NO_HASH:
            break
    return found
