"""Keys of a response cache: everything that a response may depend on.

A key contains the target and everything that filters and the route decided about the request: cluster, labels, host, route,
variables, and every header that filters have added, changed or removed. So what an authenticating filter found out about
a client separates it from others, whatever the filter and its headers are called.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.routing import Route
from pymosn.core.authority import normal_authority
from pymosn.core.headers import Headers, lower_name, to_bytes, wire_lines
from pymosn.core.message import RequestHead
from pymosn.core.uri import parse_uri
from pymosn.filters.stream.credentials import headers_read
from pymosn.routing.actions import Forward, ForwardWeighted

#: They identify a client (RFC 9111 section 3.5), whatever the settings say.
CREDENTIALS: Final = ("authorization", "proxy-authorization", "x-forwarded-client-cert")
#: Some servers use these in place of the scheme, the host, the target or the method, and do not mention it in Vary.
OVERRIDES: Final = frozenset(
    (
        *(b"forwarded", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-server", b"x-host"),
        *(b"x-forwarded-scheme", b"x-forwarded-ssl", b"x-forwarded-path", b"x-forwarded-uri", b"x-forwarded-protocol"),
        *(b"front-end-https", b"x-scheme", b"x-url-scheme", b"x-original-proto"),
        *(b"x-original-host", b"x-real-host", b"x-http-host-override", b"x-backend-host"),
        *(b"x-original-url", b"x-original-uri", b"x-rewrite-url", b"x-http-destinationurl", b"x-proxy-url"),
        *(b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-method"),
    )
)
#: Fields that the proxy itself adds to the request after the lookup, or removes from it.
OF_PROXY: Final = frozenset(
    (
        *(
            b"host",
            b"x-forwarded-for",
            b"x-forwarded-proto",
            b"x-request-id",
            b"x-mosn-global-timeout",
            b"x-mosn-try-timeout",
        ),
        *(b"if-none-match", b"if-modified-since"),
    )
)

#: Header fields by lower-case name.
Fields = dict[bytes, list[bytes]]


def digest(parts: Iterable[bytes | None]) -> bytes:
    """A digest of a sequence of values. None and b"" differ."""
    made = blake2b(digest_size=20)
    for part in parts:
        made.update(b"-" if part is None else b"%d:" % len(part))
        made.update(part or b"")
    return made.digest()


def target_of(request: RequestHead) -> bytes:
    """A digest of the requested URI, which unsafe methods invalidate."""
    return digest((request.scheme.encode(), request.raw_host, request.raw_path, request.raw_query))


def target_at(request: RequestHead, location: str) -> bytes | None:
    """A digest of the URI in Location or Content-Location; None if it has another origin (RFC 9111 section 4.4)."""
    uri = parse_uri(to_bytes(location))
    scheme = request.scheme.encode()
    if uri.authority is None:
        if uri.scheme or not uri.path.startswith(b"/"):
            return None
    elif (uri.scheme or scheme) != scheme or normal_authority(uri.authority, False) != request.raw_host:
        return None
    return digest((scheme, request.raw_host, uri.path or b"/", uri.query))


class KeyRules:
    """Which requests have a key, and what it consists of."""

    def __init__(
        self, key_headers: list[str], identity_headers: list[str], ignored_cookies: list[str], unkeyed: list[str]
    ) -> None:
        self._key_headers = [name.lower() for name in key_headers]
        self._identity = [*CREDENTIALS, *(name.lower() for name in identity_headers)]
        self._ignored_cookies = frozenset(ignored_cookies)
        self._unkeyed = frozenset(lower_name(name) for name in unkeyed)

    def has_credentials(self, exchange: Exchange) -> bool:
        """Whether the client sent, or a filter added, something that identifies it."""
        sent, current = exchange.received_headers, exchange.request.headers
        return any(name in sent or name in current for name in self._identity)

    def has_cookies(self, exchange: Exchange) -> bool:
        """Whether there are cookies, except those that are ignored."""
        fields = [*exchange.received_headers.get_all("cookie"), *exchange.request.headers.get_all("cookie")]
        pairs = [pair.strip(" \t") for field in fields for pair in field.split(";")]
        return any(pair and pair.partition("=")[0].rstrip(" \t") not in self._ignored_cookies for pair in pairs)

    def key_of(self, exchange: Exchange, address: str) -> bytes:
        """The key of a request. `address`: the host, if the client has chosen it."""
        request = exchange.request
        parts: list[bytes | None] = [target_of(request), *choices_of(exchange), to_bytes(address)]
        for name in (*self._key_headers, *sorted(headers_read(exchange))):
            parts += (to_bytes(name),)
            parts += fields_of(exchange.received_headers, request.headers, name)
        own = exchange.own_variables or {}
        for name in sorted(own):
            if lower_name(name) not in self._unkeyed:
                parts += (b"variable", to_bytes(name), to_bytes(own[name]))
        received = exchange.received_headers
        before = received.items_raw()
        parts += _overrides(before)
        if wire_lines(received) != wire_lines(request.headers):
            after = request.headers.items_raw()
            parts.append(None)
            parts += _overrides(after)
            parts.append(None)
            parts += self._changes(_by_name(before), _by_name(after))
        return digest(parts)

    def has_late_changes(self, exchange: Exchange, current: Headers) -> bool:
        """Whether a filter has changed a header since the lookup, at which there were `current` ones."""
        before, after = _by_name(current.items_raw()), _by_name(exchange.request.headers.items_raw())
        return any(
            before.get(name) != after.get(name)
            and name not in OF_PROXY
            and name not in self._unkeyed
            and not is_set_by_route(exchange, name)
            for name in before.keys() | after.keys()
        )

    def _changes(self, before: Fields, after: Fields) -> list[bytes | None]:
        """The header fields that filters have changed: their names, and the values before and after."""
        found: list[bytes | None] = []
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name) and name not in self._unkeyed:
                found += (name, _list(before.get(name)), _list(after.get(name)))
        return found


def _overrides(fields: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Names and values of the fields in OVERRIDES, also as they are written for servers that take underscores for dashes."""
    found: list[bytes] = []
    for name, value in fields:
        if name in OVERRIDES or (b"_" in name and name.replace(b"_", b"-") in OVERRIDES):
            found += (name, value)
    return found


def _by_name(fields: list[tuple[bytes, bytes]]) -> Fields:
    found: Fields = {}
    for name, value in fields:
        found.setdefault(name, []).append(value)
    return found


def _list(values: list[bytes] | None) -> bytes | None:
    return None if values is None else digest(values)


def choices_of(exchange: Exchange) -> list[bytes | None]:
    """What the route and filters have chosen for a request."""
    chosen = exchange.overrides
    found = [None if exchange.route is None else to_bytes(exchange.route.name), to_bytes(exchange.cluster_name)]
    found.append(to_bytes(exchange.connection.original_destination))
    found.append(_named_host(exchange))
    if chosen is not None:
        found += [_text(chosen.route), _text(chosen.cluster), _text(chosen.host)]
        for name, value in chosen.subset or ():
            found += (to_bytes(name), to_bytes(value))
    return found


def _text(value: str | None) -> bytes | None:
    return None if value is None else to_bytes(value)


def _named_host(exchange: Exchange) -> bytes | None:
    """The value of the header that names the host for the upstream (`auto_host_rewrite_header`)."""
    action = exchange.route.action if isinstance(exchange.route, Route) else None
    changes = action.changes if isinstance(action, Forward) else None
    if changes is None or not changes.host_header:
        return None
    return _text(exchange.request.headers.joined(changes.host_header))


def is_ambiguous(exchange: Exchange) -> bool:
    """Whether the route may send the same request to different hosts of one cluster, by labels that are drawn at random."""
    action = exchange.route.action if isinstance(exchange.route, Route) else None
    if not isinstance(action, ForwardWeighted):
        return False
    names = [name for name, _ in action.shares()]
    return len(set(names)) < len(names)


def is_set_by_route(exchange: Exchange, name: bytes) -> bool:
    """Whether the route adds, changes or removes the request header `name` (lower case) when the request is sent."""
    action = exchange.route.action if isinstance(exchange.route, Route) else None
    changes = action.changes if isinstance(action, Forward) else None
    return changes is not None and changes.headers is not None and changes.headers.changes_field(name)


def fields_of(received: Headers, current: Headers, name: str) -> tuple[bytes | None, bytes | None]:
    """The values of a request header as the client sent it and as filters have left it."""
    return _text(received.joined(name)), _text(current.joined(name))
