"""Where the credentials of a request are: in headers, and in parameters of the query."""

from __future__ import annotations

from typing import Final, NamedTuple

from pymosn.api.exchange import Exchange
from pymosn.api.variables import query_values
from pymosn.core.headers import Headers, lower_name

_READ: Final = "headers with credentials"
#: `response_cache` has its own rules for these.
_KNOWN: Final = ("authorization", "proxy-authorization", "cookie")


def note_header(exchange: Exchange, name: str) -> None:
    """Notes that a request was let pass by the value of a header, so that its response is for equal values only."""
    if name and name not in _KNOWN:
        exchange.state[_READ] = headers_read(exchange) | {name}


def headers_read(exchange: Exchange) -> frozenset[str]:
    """The noted headers."""
    noted = exchange.state.get(_READ)
    return noted if isinstance(noted, frozenset) else frozenset()


def remove_claims(headers: Headers, name: str) -> None:
    """Removes a header that only a filter may set, also as it is written for servers that take underscores for dashes."""
    headers.remove(name)
    wanted = lower_name(name).replace(b"_", b"-")
    others = [other for other, _ in headers.items_raw() if b"_" in other and other.replace(b"_", b"-") == wanted]
    if others:
        headers.remove_named(frozenset(others))


class TokenSource(NamedTuple):
    """A part of a request that may have a token: a query parameter, or else a header, after a prefix."""

    parameter: str = ""
    header: str = ""
    prefix: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """The parameter or the header, which several sources may share."""
        return self.parameter, self.header.lower()

    def values(self, exchange: Exchange) -> list[str]:
        """All that the request has there, tokens or not."""
        if not self.parameter:
            return exchange.request.headers.get_all(self.header)
        # Some upstreams also separate parameters with semicolons, which a token does not contain.
        query = exchange.request.raw_query
        return query_values(None if query is None else query.replace(b";", b"&"), self.parameter)

    def token_in(self, value: str) -> str | None:
        """The token in one of the values: what follows the prefix; None without the prefix."""
        # The name of the scheme is case-insensitive (RFC 9110 section 11.1), and upstreams accept tabs after it.
        prefix = self.prefix.rstrip(" \t")
        rest = value[len(prefix) :]
        if value[: len(prefix)].lower() != prefix.lower() or (prefix != self.prefix and rest[:1] not in ("", " ", "\t")):
            return None
        return rest.strip(" \t")

    def remove(self, exchange: Exchange) -> None:
        """Removes the token from the request."""
        request = exchange.request
        if not self.parameter:
            request.headers.remove(self.header)
            return
        pairs = (request.raw_query or b"").split(b"&")
        kept = [pair for pair in pairs if not query_values(pair.replace(b";", b"&"), self.parameter)]
        request.query = b"&".join(kept).decode("ascii")
