"""The key under which a request is counted: all requests, a client's address, a path, or the value of a header."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import IPv6Address
from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.core.failure import UNAUTHORIZED, Refused
from pymosn.core.headers import to_bytes
from pymosn.filters.stream.addresses import parse_ip
from pymosn.filters.stream.problems import Problems

KEYS: Final = ("all", "client", "path", "header")
#: What happens to requests without the header.
WITHOUT_HEADER: Final = ("client", "reject")
#: Characters from which on a text is replaced by its digest, which has as many.
LONGEST: Final = 64
#: The first bits of an IPv6 address that count: one host chooses the others itself.
IPV6_BITS: Final = 64


class RequestKey:
    """Determines keys. They are short printable ASCII, whatever the client sends, and do not reveal values of headers."""

    def __init__(self, key: str, header: str, without_header: str, problems: Problems) -> None:
        """`key`: one of KEYS; `header`: for the key `header`; `without_header`: one of WITHOUT_HEADER."""
        self._key = key
        self._header = header.lower()
        self._rejects = without_header == "reject"
        problems.one_of(".key", key, KEYS)
        problems.one_of(".without_header", without_header, WITHOUT_HEADER)
        if key == "header":
            problems.header(".header", header)
        elif key in KEYS:
            problems.require(not header, ".header", "only valid with `key: header`")

    def of(self, exchange: Exchange) -> str:
        """The key of a request. Raises RepeatedField, and Refused (401) for a missing header if that is rejected."""
        if self._key == "all":
            return "all"
        if self._key == "path":
            return f"path:{_digest(exchange.request.path)}"
        if self._key == "header":
            value = exchange.request.headers.single(self._header)
            if value:
                return f"header:{_digest(value)}"
            if self._rejects:
                raise Refused(UNAUTHORIZED, f"the header {self._header} is missing")
        return f"client:{_network(exchange.remote_ip)}"


def short(text: str) -> str:
    """A text that is a key in memory: itself, or the digest of a longer one, so that many keys do not fill the memory."""
    return text if len(text) < LONGEST else _digest(text)


def _digest(text: str) -> str:
    return sha256(to_bytes(text)).hexdigest()


def _network(text: str) -> str:
    """An IPv4 address, or the network of an IPv6 address."""
    if ":" not in text:
        return text
    address = parse_ip(text)
    if not isinstance(address, IPv6Address):
        return str(address) if address is not None else _digest(text)
    return str(IPv6Address(int(address) >> (128 - IPV6_BITS) << (128 - IPV6_BITS)))
