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
from pymosn.routing.envoy_hashing import NO_HASH, EnvoyPolicy, EnvoySourceIp, envoy_hash
from pymosn.routing.regex import Replacement


class HashPolicy:
    """One component of the hash. `is_terminal`: once there is a value, the following ones are ignored."""

    def __init__(self) -> None:
        self.is_terminal = False

    def part(self, exchange: Exchange) -> bytes | None:
        """Its value in an exchange, or None."""
        raise NotImplementedError


class HashHeader(HashPolicy):
    """A request header; several fields with one name are combined."""

    def __init__(self, name: str, rewrite: Replacement | None = None) -> None:
        """`rewrite`: of the value."""
        super().__init__()
        self._name = to_text(lower_name(name))
        self._rewrite = rewrite

    def part(self, exchange: Exchange) -> bytes | None:
        value = exchange.request.headers.joined(self._name)
        if value is None:
            return None
        return to_bytes(value) if self._rewrite is None else self._rewrite.apply(to_bytes(value))


class HashCookie(HashPolicy):
    """A cookie; several with one name are combined. With `generate`, the response sets it for clients that have none."""

    def __init__(self, name: str, path: str, ttl: float, generate: bool, more: str = "") -> None:
        """`ttl`: in seconds; 0 for a session cookie. `more`: attributes, such as `; Secure`."""
        super().__init__()
        self._name = name
        self._generate = generate
        attributes = f"; Path={path}" if path else ""
        if ttl > 0:
            attributes += f"; Max-Age={max(1, round(ttl))}"
        self._attributes: bytes = attributes.encode() + more.encode() + b"; HttpOnly"

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


class EnvoyHash(HashPolicy):
    """All policies of a route whose hash is Envoy's; always the only one."""

    def __init__(self, policies: list[EnvoyPolicy]) -> None:
        super().__init__()
        self.policies = policies


#: For connections to a cluster that selects the hosts that Envoy selects.
ENVOY_SOURCE: Final[list[HashPolicy]] = [EnvoyHash([EnvoySourceIp()])]
NO_POLICIES: Final[list[HashPolicy]] = []


def select_by_source(selection: Selection, follows_envoy: bool, exchange: Exchange) -> None:
    """Gives `selection` the hash of the client's IP address, which is Envoy's for balancers that follow Envoy."""
    select_by_hash(selection, ENVOY_SOURCE if follows_envoy else NO_POLICIES, exchange)


def select_by_hash(selection: Selection, policies: list[HashPolicy], exchange: Exchange) -> None:
    """Gives `selection` the hash of the exchange, if a policy has a value."""
    value: i64 = hash_value(policies, exchange)
    if value != NO_HASH:
        selection.set_hash(value)


def hash_value(policies: list[HashPolicy], exchange: Exchange) -> i64:
    """A hash of all policies, by default of the source IP; NO_HASH if no policy has a value."""
    if len(policies) == 1:
        policy = policies[0]
        if isinstance(policy, EnvoyHash):
            return envoy_hash(policy.policies, exchange)
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
