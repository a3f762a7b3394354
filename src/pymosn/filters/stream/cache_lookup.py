"""What a response cache knows of one exchange, and the responses that it makes from a stored one."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpResponse
from pymosn.core.headers import Headers, is_token, to_bytes
from pymosn.core.message import ResponseHead
from pymosn.filters.stream.cache_directives import Wishes, is_unmodified
from pymosn.filters.stream.cache_flights import Flight
from pymosn.filters.stream.cache_key import fields_of, is_set_by_route
from pymosn.filters.stream.cache_store import Entry, Values, Vary
from pymosn.filters.stream.content import is_coded

#: Fields that describe a connection, a length or a client, so they are not stored.
NOT_STORED: Final = frozenset(
    (b"age", b"content-length", b"proxy-authenticate", b"proxy-authentication-info", b"set-cookie", b"trailer")
)
#: Fields of a 304 that do not change those of the stored response (RFC 9111 section 3.2).
NOT_UPDATED: Final = frozenset(
    (b"age", b"content-encoding", b"content-length", b"content-range", b"content-type", b"etag", b"transfer-encoding")
)
#: Fields of a stored response that a 304 does not have (RFC 9110 section 15.4.5).
NOT_IN_304: Final = frozenset((b"content-encoding", b"content-language", b"content-length", b"content-type"))
#: Maximum number of fields in Vary.
MOST_VARY: Final = 16


class Filling:
    """A response that is being forwarded and collected. `head`, `replaced`: as they must still be with the last chunk."""

    def __init__(self, entry: Entry, head: ResponseHead) -> None:
        self.entry = entry
        self.head = head
        self.replaced = head.new_body
        self.chunks: list[bytes] = []
        self.size = 0


class Lookup:
    """One request.

    `key`: of the responses that may answer it. `target`: of its URI. `current`: the headers when it reached the cache.
    """

    def __init__(self, exchange: Exchange, key: bytes, target: bytes, wishes: Wishes, now: float) -> None:
        headers = exchange.request.headers
        self.key = key
        self.target = target
        self.wishes = wishes
        self.is_get = exchange.request.raw_method == b"GET"
        self.has_credentials = False
        self.choices: list[bytes | None] = []
        #: When it was sent, or will be: monotonic seconds.
        self.sent = now
        self.current: Headers = headers.copy()
        self.path = exchange.request.raw_path, exchange.request.raw_query
        self.variables = dict(exchange.own_variables or {})
        self.received: Headers = exchange.received_headers
        #: The client's conditions, which the cache answers itself.
        self.none_match = headers.joined("if-none-match")
        self.modified_since = headers.get("if-modified-since")
        #: The response to answer with.
        self.found: Entry | None = None
        #: A stale response, which the upstream is asked about if `is_revalidation`.
        self.stale: Entry | None = None
        self.is_revalidation = False
        #: The flight that it leads or waits in.
        self.flight: Flight | None = None
        self.filling: Filling | None = None
        #: Whether a filter or the cache has answered it without the upstream.
        self.is_answered = False
        #: Whether its target was invalidated while the response was on its way.
        self.is_outdated = False
        #: Parameters of Cache-Status (RFC 9211).
        self.outcome = "fwd=uri-miss"
        self.has_waited = False

    def values(self, name: str) -> Values:
        """The values of a request header that decide which variant of a response is meant."""
        return fields_of(self.received, self.current, name)

    def matches(self, entry: Entry) -> bool:
        """Whether a response with this key was made for the same request fields (RFC 9111 section 4.1)."""
        return all(self.values(name) == values for name, values in entry.vary)

    def status(self) -> str:
        """The parameters of Cache-Status."""
        return f"{self.outcome}; collapsed" if self.has_waited else self.outcome

    @property
    def is_conditional(self) -> bool:
        """Whether the client asks whether its own copy is still valid."""
        return self.none_match is not None or self.modified_since is not None


def respond(exchange: Exchange, lookup: Lookup, entry: Entry, now: float) -> None:
    """Makes a stored response, or a 304 if the client has it already, that of the exchange."""
    head = exchange.response_head
    headers = entry.headers.copy()
    headers.set("Age", str(int(entry.age(now))))
    body = entry.body
    status = entry.status
    if status == 200 and is_unmodified(headers, lookup.none_match, lookup.modified_since):
        status, body = 304, b""
        headers.remove_named(NOT_IN_304)
    head.status = status
    head.headers = headers
    head.trailers = None
    if isinstance(head, HttpResponse):
        head.has_date = True
    head.set_body(body)


def updated(stored: Headers, fresh: Headers) -> Headers:
    """The fields of a stored response after a 304 with the fields `fresh`."""
    headers = stored.copy()
    pairs = [(name, value) for name, value in fresh.items_raw() if name not in NOT_UPDATED]
    headers.remove_named(frozenset(name for name, _ in pairs))
    for name, value in pairs:
        headers.add_raw(name, value)
    return headers


def is_usable(entry: Entry, lookup: Lookup, now: float) -> bool:
    """Whether a stored response answers a request without the upstream (RFC 9111 sections 4 and 5.2.1)."""
    wishes = lookup.wishes
    if wishes.no_cache or entry.age(now) > wishes.max_age:
        return False
    staleness = entry.staleness(now)
    if staleness < 0.0:
        return -staleness >= wishes.min_fresh
    return not entry.policy.never_stale and wishes.min_fresh == 0.0 and staleness < wishes.max_stale


def vary_of(exchange: Exchange, lookup: Lookup, headers: Headers) -> Vary | None:
    """The request fields in Vary with their values; None if other requests cannot be compared by them."""
    names = {name.strip(" \t").lower() for line in headers.get_all("vary") for name in line.split(",")} - {""}
    # Upstreams forget these two.
    if is_coded(headers):
        names.add("accept-encoding")
    if (headers.joined("access-control-allow-origin") or "*") != "*":
        names.add("origin")
    if len(names) > MOST_VARY:
        return None
    found = []
    for name in sorted(names):
        if name == "*" or not is_token(to_bytes(name)) or is_set_by_route(exchange, to_bytes(name)):
            return None
        values = lookup.values(name)
        if name != "host" and exchange.request.headers.joined(name) != lookup.current.joined(name):
            return None  # it was changed after the lookup, so that of another request is unknown
        found.append((name, values))
    return tuple(found)
