"""`api_key_auth`, pymosn's own: requires a known API key, and adds its owner's name for the upstream."""

from __future__ import annotations

import re
from hashlib import blake2b, sha256
from secrets import token_bytes
from typing import Annotated, Final

import msgspec

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import ACCESS_DENIED, UNAUTHORIZED
from pymosn.core.headers import is_field_value, to_bytes
from pymosn.core.secrets import Secret
from pymosn.filters.settings import StrictBlock, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.credentials import TokenSource, note_header, remove_claims
from pymosn.filters.stream.problems import Problems

NAME: Final = "api_key_auth"
_HEX: Final = re.compile(r"[0-9a-f]{64}")
#: What a key in the configuration may consist of; RFC 9110 section 5.5 allows more, but not every client can send it.
_KEY: Final = re.compile(r"[!-~]+")
_EMPTY: Final = sha256(b"").hexdigest()


class ApiKey(StrictBlock, kw_only=True):
    """A key, or its digest, and the client that it belongs to."""

    client: Annotated[str, own("name of the client; it may have several keys")] = ""
    key: Annotated[Secret[str], own("the key: visible ASCII")] = ""
    sha256: Annotated[Secret[str], own("or its SHA-256 in hexadecimal, so that the file does not reveal it")] = ""


class Settings(StrictBlock, kw_only=True):
    """`api_key_auth`: requires a known API key."""

    keys: Annotated[list[ApiKey], own("at least one")] = []
    headers: Annotated[list[str], own("headers that may have the key; in `authorization`, after `Bearer `")] = msgspec.field(
        default_factory=lambda: ["x-api-key"]
    )
    query_parameters: Annotated[list[str], own("query parameters that may have the key")] = []
    client_header: Annotated[str, own("gets the client's name for the upstream; empty: none")] = "x-client"
    forward: Annotated[bool, own("false: the key is removed from the request")] = False


class RouteSettings(StrictBlock, kw_only=True):
    """`per_filter_config.api_key_auth`."""

    disabled: Annotated[bool, own("requests of this route pass without a key")] = False
    clients: Annotated[list[str], own("the clients that may use this route; empty: all")] = []


class RoutePolicy:
    """Checked settings of a route."""

    def __init__(self, settings: RouteSettings) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        problems.require(not (settings.disabled and settings.clients), ".clients", "no effect if `disabled` is set")
        problems.require(all(settings.clients), ".clients", "a client's name must not be empty")
        problems.end()
        self.is_disabled = settings.disabled
        self.clients = frozenset(settings.clients)


class KnownKeys:
    """The clients by their keys. A lookup takes the same time for every wrong key, however similar it is to a right one."""

    def __init__(self, keys: list[ApiKey], problems: Problems) -> None:
        # Clients can compute SHA-256 themselves, but not a digest with a random key. So the time of a lookup by that digest
        # reveals nothing about the keys in the dict.
        self._blind = token_bytes(32)
        self._clients: dict[bytes, str] = {}
        places: dict[bytes, str] = {}
        problems.require(keys, ".keys", "at least one key is required")
        for i, entry in enumerate(keys):
            path = f".keys[{i}]"
            problems.require(
                entry.client and is_name(entry.client), f"{path}.client", "expected a name without control characters"
            )
            digest = self._digest_of(entry, path, problems)
            first = places.setdefault(digest, path)
            problems.require(first == path or not digest, path, f"the same key as {first[1:]}")
            self._clients[digest] = entry.client

    def _digest_of(self, entry: ApiKey, path: str, problems: Problems) -> bytes:
        if bool(entry.key) == bool(entry.sha256):
            problems.add(path, "expected one of key, sha256")
        elif entry.key and _KEY.fullmatch(entry.key) is None:
            problems.add(f"{path}.key", "must be visible ASCII without spaces")
        elif entry.sha256 and _HEX.fullmatch(entry.sha256.lower()) is None:
            problems.add(f"{path}.sha256", "must be 64 hexadecimal digits")
        elif entry.sha256.lower() == _EMPTY:
            problems.add(f"{path}.sha256", "the digest of an empty key")
        else:
            return self._blinded(bytes.fromhex(entry.sha256) if entry.sha256 else sha256(entry.key.encode()).digest())
        return b""

    def _blinded(self, digest: bytes) -> bytes:
        return blake2b(digest, key=self._blind).digest()

    def client_of(self, key: str) -> str | None:
        """The client with this key, which may consist of any bytes; None if there is none."""
        return self._clients.get(self._blinded(sha256(to_bytes(key)).digest()))


def is_name(name: str) -> bool:
    """Whether a client's name arrives at an upstream as it is."""
    return is_field_value(to_bytes(name)) and name == name.strip(" \t")


class ApiKeyAuthFilter(StreamFilter):
    """Denies requests without a known key (401), and those of clients that the route does not allow (403).

    A key must be the only one in the request. The client's name is in `exchange.state["api_key_auth"]` for later filters.
    Cost per request: a lookup per header and parameter, and two digests.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        self._keys = KnownKeys(settings.keys, problems)
        problems.require(
            settings.headers or settings.query_parameters, ".headers", "a header or a query parameter is required"
        )
        problems.changed_headers(".headers", settings.headers)
        problems.require(all(settings.query_parameters), ".query_parameters", "the name of a parameter is missing")
        self._client_header = settings.client_header
        if self._client_header:
            problems.changed_header(".client_header", self._client_header)
            names = [name.lower() for name in settings.headers]
            problems.require(self._client_header.lower() not in names, ".client_header", "is also a header with a key")
        problems.end()
        self._forward = settings.forward
        headers = dict.fromkeys(name.lower() for name in settings.headers)
        self._sources = [
            TokenSource(header=name, prefix="Bearer " if name.endswith("authorization") else "") for name in headers
        ]
        self._sources += [TokenSource(parameter=name) for name in dict.fromkeys(settings.query_parameters)]
        self._challenge = "Bearer" if any(source.prefix for source in self._sources) else "ApiKey"

    def on_request(self, exchange: Exchange) -> None:
        # Already here, for later filters that judge in this phase, such as rbac: it may only come from this filter.
        if self._client_header:
            remove_claims(exchange.request.headers, self._client_header)

    def on_route(self, exchange: Exchange) -> Reply | None:
        self.on_request(exchange)  # it may have been set since
        policy = self.context.route_config(exchange, NAME)
        route = policy if isinstance(policy, RoutePolicy) else None
        if route is not None and route.is_disabled:
            return None
        values = [(value, source) for source in self._sources for value in source.values(exchange)]
        if len(values) != 1:
            return self._deny(exchange, "the API key is missing" if not values else "more than one API key")
        value, source = values[0]
        key = source.token_in(value)
        client = None if key is None else self._keys.client_of(key)
        if client is None:
            return self._deny(exchange, "unknown API key")
        if route is not None and route.clients and client not in route.clients:
            return self._refuse(exchange, client)
        self._accept(exchange, source, client)
        return None

    def _accept(self, exchange: Exchange, source: TokenSource, client: str) -> None:
        self.context.counter("allowed").value += 1
        exchange.state[NAME] = client
        note_header(exchange, source.header.lower())
        if not self._forward:
            source.remove(exchange)
        if self._client_header:
            exchange.request.headers.set(self._client_header, client)

    def _deny(self, exchange: Exchange, detail: str) -> Reply:
        self.context.counter("denied").value += 1
        exchange.failure = UNAUTHORIZED
        exchange.failure_detail = detail
        return Reply(401, "a valid API key is required\n", {"www-authenticate": self._challenge})

    def _refuse(self, exchange: Exchange, client: str) -> Reply:
        self.context.counter("denied").value += 1
        exchange.failure = ACCESS_DENIED
        exchange.failure_detail = f"the client {client!r} may not use this route"
        return Reply(403, "the API key is not valid here\n")


_NOTE: Final = "pymosn's own: API keys; also of a route"
SPEC: Final = FilterSpec(NAME, Settings, ApiKeyAuthFilter, _NOTE, route=RouteSpec(RouteSettings, RoutePolicy), guards=True)
