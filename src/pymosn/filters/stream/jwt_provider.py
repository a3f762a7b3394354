"""One provider of `jwt_authn`: where its tokens are in a request, where its keys are, and what a good token is."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
from typing import Any, Final
from urllib.parse import urlsplit

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import ClientError, FilterContext
from pymosn.api.variables import query_argument
from pymosn.core.headers import HeaderError
from pymosn.core.log import WARN
from pymosn.filters.stream.jwt_keys import KeySet, TokenError, UnknownKey
from pymosn.filters.stream.problems import Problems

BEARER: Final = "Bearer "
#: Seconds for which a remote key set counts, unless its provider says otherwise, as in Envoy.
CACHE_TIME: Final = 600.0
#: Seconds between two fetches of a set that cannot be had, or that lacks the key that a token names.
FETCH_PAUSE: Final = 2.0
#: Seconds by which clocks may differ.
SKEW: Final = 60.0


class Place:
    """Where in a request a token may be: in a header behind a prefix, or in a query parameter."""

    def __init__(self, header: str, prefix: str, parameter: str) -> None:
        self.header = header.lower()
        self.prefix = prefix
        self.parameter = parameter

    def find(self, exchange: Exchange) -> list[str]:
        """The tokens there."""
        if self.parameter:
            value = query_argument(exchange.request.raw_query, self.parameter)
            return [value] if value else []
        values = exchange.request.headers.get_all(self.header)
        # The name of the scheme is written in any case (RFC 9110 section 11.1).
        size = len(self.prefix)
        return [value[size:].strip() for value in values if value[:size].lower() == self.prefix.lower()]

    def remove(self, exchange: Exchange) -> None:
        """Takes the token out of the request."""
        request = exchange.request
        if not self.parameter:
            request.headers.remove(self.header)
            return
        pairs = (request.raw_query or b"").split(b"&")
        kept = [pair for pair in pairs if query_argument(pair, self.parameter) is None]
        request.query = b"&".join(kept).decode("ascii")


DEFAULT_PLACES: Final = (Place("authorization", BEARER, ""), Place("", "", "access_token"))


class Provider:
    """Its settings, and its keys as this worker has them."""

    def __init__(self, name: str, config: Any, path: str, problems: Problems) -> None:
        self.name = name
        self._issuer: str = config.issuer
        self._audiences = frozenset(config.audiences)
        self._skew: float = config.clockSkewSeconds if config.clockSkewSeconds else SKEW
        self._forwards: bool = config.forward
        self.payload_header: str = config.forwardPayloadHeader
        if self.payload_header:
            problems.header(f"{path}.forwardPayloadHeader", self.payload_header)
        places = [Place(entry.name, entry.valuePrefix, "") for entry in config.fromHeaders]
        for number, entry in enumerate(config.fromHeaders):
            problems.header(f"{path}.fromHeaders[{number}].name", entry.name)
        places += [Place("", "", parameter) for parameter in config.fromParams]
        self._places: list[Place] = places or list(DEFAULT_PLACES)
        self._keys: KeySet | None = None
        self._remote: Any = config.remoteJwks
        self._cache_time = 0.0
        self._fresh_until = float("-inf")
        self._next_fetch = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        if (config.localJwks is None) is (config.remoteJwks is None):
            problems.add(path, "a provider needs either localJwks or remoteJwks")
        elif config.localJwks is not None:
            self._read_local(config.localJwks.inlineString, f"{path}.localJwks.inlineString", problems)
        else:
            self._read_remote(config.remoteJwks, f"{path}.remoteJwks", problems)

    def _read_local(self, text: str, path: str, problems: Problems) -> None:
        self._fresh_until = float("inf")
        try:
            self._keys = KeySet(text)
        except ValueError as error:
            problems.add(path, f"not a JWKS that can be used: {error}")

    def _read_remote(self, config: Any, path: str, problems: Problems) -> None:
        target = config.httpUri
        parts = urlsplit(target.uri)
        if not parts.netloc or parts.scheme not in ("http", "https"):
            problems.add(f"{path}.httpUri.uri", f"a URL is needed, not {target.uri!r}")
        if not target.cluster:
            problems.add(f"{path}.httpUri.cluster", "the cluster that has the keys is missing")
        self._cache_time = config.cacheDuration or CACHE_TIME
        self._host = parts.netloc
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    # ---- tokens

    def find(self, exchange: Exchange) -> list[tuple[str, Place]]:
        """The tokens of a request, and where they are."""
        return [(token, place) for place in self._places for token in place.find(exchange)]

    def has_keys(self, now: float) -> bool:
        """Whether tokens can be verified without a wait."""
        return self._keys is not None and now < self._fresh_until

    def verify(self, token: str, audiences: frozenset[str] | None, now: float) -> dict[str, Any]:
        """The claims of a good token. `audiences`: in place of the provider's; `now`: since 1970. Raises TokenError."""
        if self._keys is None:
            raise TokenError("Jwks remote fetch is failed")
        claims = self._keys.verify(token, self._skew, now)
        if self._issuer and claims.get("iss") != self._issuer:
            raise TokenError("Jwt issuer is not configured")
        wanted = self._audiences if audiences is None else audiences
        given = claims.get("aud", [])
        if wanted and wanted.isdisjoint([given] if isinstance(given, str) else map(str, given)):
            raise TokenError("Audiences in Jwt are not allowed")
        return claims

    def accept(self, exchange: Exchange, place: Place, claims: dict[str, Any]) -> None:
        """What a good token does to the request."""
        if not self._forwards:
            place.remove(exchange)
        if self.payload_header:
            payload = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode())
            exchange.request.headers.set(self.payload_header, payload.rstrip(b"=").decode())

    # ---- keys

    @property
    def is_remote(self) -> bool:
        """Whether the keys are fetched."""
        return self._remote is not None

    async def refresh(self, context: FilterContext, error: UnknownKey | None = None) -> bool:
        """Fetches the keys when they are old, or when a token names one that is not among them.

        Whether that was tried; one fetch serves all who wait. When it fails, the old keys go on.
        """
        now = context.clock.now
        if not self.is_remote or (error is None and self.has_keys(now)):
            return False
        if self._fetching is None:
            if now < self._next_fetch:
                return False
            self._next_fetch = now + FETCH_PAUSE
            self._fetching = context.create_task(self._fetch(context))
        await asyncio.wait([self._fetching])
        return True

    async def _fetch(self, context: FilterContext) -> None:
        target = self._remote.httpUri
        try:
            client = context.clusters[target.cluster]
            answer = await client.get(self._target, {"host": self._host}, target.timeout or 5.0)
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            self._keys = KeySet(answer.body)
            self._fresh_until = context.clock.now + self._cache_time
            self._next_fetch = context.clock.now + FETCH_PAUSE
        except (ClientError, KeyError, HeaderError, ValueError) as error:
            context.counter("jwks_failed").value += 1
            context.write(f"the keys of {self.name!r} cannot be had from {target.uri}: {error}", WARN)
        finally:
            self._fetching = None


def check_package(problems: Problems) -> bool:
    """Whether PyJWT and cryptography are installed; a problem when not."""
    missing = [name for name in ("jwt", "cryptography") if importlib.util.find_spec(name) is None]
    if missing:
        problems.add("", "jwt_authn needs PyJWT and cryptography: pip install 'pymosn[jwt]'")
    return not missing
