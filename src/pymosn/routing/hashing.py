"""The hash of a request for consistent-hash balancers (key reference section 6.5, `hash_policy`).

All policies are combined, in order. A client gets the same hash from every worker and after every restart.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.upstream import Selection
from pymosn.api.variables import cookie_values
from pymosn.core.headers import joined, lower_name, to_bytes, to_text
from pymosn.routing.conditions import query_value

#: Result of `hash_value` if no policy has a value: any host can be selected.
NO_HASH: Final[i64] = 0


class HashPolicy:
    """One component of the hash. `is_terminal`: once there is a value, the following ones are ignored."""

    def __init__(self) -> None:
        self.is_terminal = False

    def part(self, exchange: Exchange) -> bytes | None:
        """Its value in an exchange, or None."""
        raise NotImplementedError


class HashHeader(HashPolicy):
    """A request header; several fields with one name are combined."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = to_text(lower_name(name))

    def part(self, exchange: Exchange) -> bytes | None:
        value = exchange.request.headers.joined(self._name)
        return None if value is None else to_bytes(value)


class HashCookie(HashPolicy):
    """A cookie; several with one name are combined. With `generate`, the response sets it for clients that have none."""

    def __init__(self, name: str, path: str, ttl: float, generate: bool) -> None:
        """`ttl`: in seconds; 0 for a session cookie."""
        super().__init__()
        self._name = name
        self._generate = generate
        attributes = f"; Path={path}" if path else ""
        if ttl > 0:
            attributes += f"; Max-Age={max(1, round(ttl))}"
        self._attributes: bytes = attributes.encode() + b"; HttpOnly"

    def part(self, exchange: Exchange) -> bytes | None:
        value = joined(cookie_values(exchange.request.headers, self._name))
        if value is not None:
            return to_bytes(value)
        if not self._generate:
            return None
        start = self._name.encode() + b"="
        if not exchange.set_cookie.startswith(start):
            exchange.set_cookie = start + os.urandom(8).hex().encode() + self._attributes
        return exchange.set_cookie[len(start) :].partition(b";")[0]


class HashQuery(HashPolicy):
    """The first value of a query parameter, not decoded."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name: bytes = to_bytes(name)

    def part(self, exchange: Exchange) -> bytes | None:
        return query_value(exchange.request.raw_query, self._name)


class HashSourceIp(HashPolicy):
    """The client's IP address."""

    def part(self, exchange: Exchange) -> bytes | None:
        return exchange.remote_ip.encode() or None


def select_by_hash(selection: Selection, policies: list[HashPolicy], exchange: Exchange) -> None:
    """Gives `selection` the hash of the exchange, if a policy has a value."""
    value: i64 = hash_value(policies, exchange)
    if value != NO_HASH:
        selection.set_hash(value)


def hash_value(policies: list[HashPolicy], exchange: Exchange) -> i64:
    """A positive hash of all policies, by default of the source IP; NO_HASH if no policy has a value."""
    hasher = hashlib.blake2b(digest_size=8)
    if not policies:
        hasher.update(exchange.remote_ip.encode())
    else:
        has_any = False
        for policy in policies:
            part = policy.part(exchange)
            if part is None:
                hasher.update(b"\x00")
            else:
                has_any = True
                hasher.update(b"\x01" + len(part).to_bytes(4, "big") + part)
            if policy.is_terminal and has_any:
                break
        if not has_any:
            return NO_HASH
    number: i64 = int.from_bytes(hasher.digest(), "big") >> 1
    return number or 1
