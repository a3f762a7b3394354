# ruff: noqa: N815 - attribute names are Envoy's keys
"""One provider of `jwt_authn`: its tokens in requests, its keys, and the verification of its tokens."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import ClientError, FilterContext
from pymosn.core.authority import normal_authority
from pymosn.core.headers import HeaderError, to_bytes, to_text
from pymosn.core.json_text import write_json
from pymosn.core.log import WARN
from pymosn.core.uri import parse_uri
from pymosn.filters.settings import AnyMap, Duration, EnvoyBlock, Unsigned, works
from pymosn.filters.stream.credentials import TokenSource, note_header
from pymosn.filters.stream.dynamic_metadata import note_metadata
from pymosn.filters.stream.envoy_match import EnvoyObject, Test, text_test
from pymosn.filters.stream.jwt_keys import KeySet, UnknownKey
from pymosn.filters.stream.jwt_token import Token, TokenError
from pymosn.filters.stream.problems import Problems

#: Default lifetime of a remote key set in seconds, as in Envoy.
CACHE_TIME: Final = 600.0
#: Minimum seconds between two fetches, if the first failed or did not contain the key that a token names.
FETCH_PAUSE: Final = 2.0
#: Default allowed clock skew in seconds.
SKEW: Final = 60.0
#: The namespace of claims in the dynamic metadata.
NAMESPACE: Final = "envoy.filters.http.jwt_authn"


class InlineJwks(EnvoyBlock, kw_only=True):
    """A key set in the configuration."""

    inlineString: str = ""


class HttpUri(EnvoyBlock, kw_only=True):
    """A URL, and the cluster to fetch it from."""

    uri: str = ""
    cluster: str = ""
    timeout: Duration = 5.0


class RemoteJwks(EnvoyBlock, kw_only=True):
    """A key set that is fetched."""

    httpUri: HttpUri = msgspec.field(default_factory=HttpUri)
    cacheDuration: Annotated[Duration, works("0: 10 minutes; sooner when a token names a key that is not in the set")] = 0.0


class JwtHeader(EnvoyBlock, kw_only=True):
    """A header that may have a token."""

    name: str = ""
    valuePrefix: str = ""


class ClaimHeader(EnvoyBlock, kw_only=True):
    """A header that gets a claim."""

    headerName: str = ""
    claimName: Annotated[str, works("dots separate the keys of nested claims")] = ""


class NormalizedPayload(EnvoyBlock, kw_only=True):
    """How the claims in the dynamic metadata differ from those in the token."""

    spaceDelimitedClaims: Annotated[list[str], works("texts that become lists")] = []


class JwtProvider(EnvoyBlock, kw_only=True):
    """An issuer of tokens, their audience, and where they are in a request."""

    issuer: Annotated[str, works("empty: any")] = ""
    audiences: Annotated[list[str], works("empty: any")] = []
    localJwks: InlineJwks | None = None
    remoteJwks: RemoteJwks | None = None
    forward: Annotated[bool, works("false: a valid token is not forwarded")] = False
    fromHeaders: list[JwtHeader] = []
    fromParams: list[str] = []
    forwardPayloadHeader: Annotated[str, works("base64url of the claims; the client's own header is removed")] = ""
    padForwardPayloadHeader: Annotated[bool, works("with `=` at the end of the base64url")] = False
    clockSkewSeconds: Annotated[Unsigned, works("0: 60")] = 0
    subjects: Annotated[AnyMap | None, works("a condition on `sub`, as a StringMatcher")] = None
    requireExpiration: Annotated[bool, works("tokens without `exp` are invalid")] = False
    maxLifetime: Annotated[Duration, works("of `exp` from now on; 0: no limit")] = 0.0
    payloadInMetadata: Annotated[
        str, works("key of the claims in the dynamic metadata `envoy.filters.http.jwt_authn`, where rbac finds them")
    ] = ""
    normalizePayloadInMetadata: NormalizedPayload | None = None
    claimToHeaders: Annotated[list[ClaimHeader], works("the client's own headers are removed")] = []


def _split(uri: str, path: str, problems: Problems) -> tuple[str, str]:
    """The host of a URL, and its path with the query."""
    parts = parse_uri(to_bytes(uri))
    host = None if parts.authority is None else normal_authority(parts.authority)
    if parts.scheme not in (b"http", b"https") or host is None:
        problems.add(path, f"expected a URL, got {uri!r}")
        return "", "/"
    target = to_text(parts.target())
    problems.target(path, target)
    return to_text(host), target


class Found(NamedTuple):
    """The tokens of a request for one provider, with their sources; `is_ambiguous`: they are not the only credential."""

    tokens: list[tuple[str, TokenSource]]
    is_ambiguous: bool


def claim_text(claims: dict[str, Any], name: str) -> str | None:
    """A claim as the value of a header: objects and arrays as JSON in base64url; None without the claim."""
    value: Any = claims
    for key in name.split(".") if name not in claims else [name]:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = write_json(value)
    return (base64.urlsafe_b64encode(text) if isinstance(value, (dict, list)) else text).decode()


class Provider:
    """A provider, with the keys that this worker has."""

    def __init__(self, name: str, config: JwtProvider, path: str, problems: Problems) -> None:
        self.name = name
        self._config = config
        self._audiences = frozenset(config.audiences)
        self._skew = float(config.clockSkewSeconds) or SKEW
        self.payload_header = config.forwardPayloadHeader
        if self.payload_header:
            problems.changed_header(f"{path}.forwardPayloadHeader", self.payload_header)
        self._subject: Test | None = None
        if config.subjects is not None:
            self._subject = text_test(EnvoyObject(config.subjects, f"{path}.subjects", problems))
        for i, claim in enumerate(config.claimToHeaders):
            problems.changed_header(f"{path}.claimToHeaders[{i}].headerName", claim.headerName)
            problems.require(claim.claimName, f"{path}.claimToHeaders[{i}].claimName", "the name of the claim is missing")
        #: The headers that only this provider may set.
        self.own_headers = [claim.headerName for claim in config.claimToHeaders]
        if self.payload_header:
            self.own_headers.append(self.payload_header)
        sources = [TokenSource("", entry.name, entry.valuePrefix) for entry in config.fromHeaders]
        for i, entry in enumerate(config.fromHeaders):
            problems.changed_header(f"{path}.fromHeaders[{i}].name", entry.name)
        sources += map(TokenSource, config.fromParams)
        self._sources = sources or [TokenSource(header="authorization", prefix="Bearer "), TokenSource("access_token")]
        self._keys: KeySet | None = None
        self._remote: HttpUri | None = None
        self._cache_time = 0.0
        self._fresh_until = float("-inf")
        self._next_fetch = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        if config.localJwks is not None and config.remoteJwks is None:
            self._read_local(config.localJwks.inlineString, f"{path}.localJwks.inlineString", problems)
        elif config.remoteJwks is not None and config.localJwks is None:
            self._read_remote(config.remoteJwks, f"{path}.remoteJwks", problems)
        else:
            problems.add(path, "a provider needs either localJwks or remoteJwks")

    def _read_local(self, text: str, path: str, problems: Problems) -> None:
        self._fresh_until = float("inf")
        try:
            self._keys = KeySet(text)
        except ValueError as error:
            problems.add(path, f"not a usable JWKS: {error}")

    def _read_remote(self, config: RemoteJwks, path: str, problems: Problems) -> None:
        target = self._remote = config.httpUri
        self._host, self._target = _split(target.uri, f"{path}.httpUri.uri", problems)
        problems.require(target.cluster, f"{path}.httpUri.cluster", "the cluster with the keys is missing")
        self._cache_time = config.cacheDuration or CACHE_TIME

    def find(self, exchange: Exchange) -> Found:
        """What a request has where this provider's tokens may be."""
        tokens: list[tuple[str, TokenSource]] = []
        places: dict[tuple[str, str], int] = {}
        for source in self._sources:
            values = source.values(exchange)
            places[source.place] = len(values)
            tokens += [(token, source) for value in values if (token := source.token_in(value)) is not None]
        return Found(tokens, sum(places.values()) > 1)

    def has_keys(self, now: float) -> bool:
        """Whether tokens can be verified without waiting for keys."""
        return self._keys is not None and now < self._fresh_until

    def verify(self, text: str, audiences: frozenset[str] | None, now: float) -> Token:
        """A valid token. `audiences`: instead of the provider's; `now`: since 1970. Raises TokenError."""
        if self._keys is None:
            raise TokenError("Jwks remote fetch is failed")
        token = self._keys.verify(text, self._skew, now)
        claims = token.claims
        if self._config.issuer and claims.get("iss") != self._config.issuer:
            raise TokenError("Jwt issuer is not configured")
        expected = self._audiences if audiences is None else audiences
        given = claims.get("aud", [])
        if expected and expected.isdisjoint([given] if isinstance(given, str) else given):
            raise TokenError("Audiences in Jwt are not allowed")
        self._check_demands(claims, now)
        return token

    def _check_demands(self, claims: dict[str, Any], now: float) -> None:
        """The demands on the subject and on the lifetime. Raises TokenError."""
        config = self._config
        subject = claims.get("sub", "")
        if self._subject is not None and not (isinstance(subject, str) and self._subject(subject)):
            raise TokenError("Jwt subject is not allowed")
        if "exp" not in claims:
            if config.requireExpiration or config.maxLifetime:
                raise TokenError("Jwt has no expiration")
        elif config.maxLifetime and claims["exp"] - now > config.maxLifetime:
            raise TokenError("Jwt lives too long")

    def accept(self, exchange: Exchange, source: TokenSource, token: Token) -> None:
        """Removes a valid token from the request or forwards it, and adds the claims."""
        note_header(exchange, source.header.lower())
        if not self._config.forward:
            source.remove(exchange)
        if self.payload_header:
            padding = "=" * (-len(token.payload) % 4) if self._config.padForwardPayloadHeader else ""
            exchange.request.headers.set(self.payload_header, token.payload + padding)
        for claim in self._config.claimToHeaders:
            value = claim_text(token.claims, claim.claimName)
            if value is not None:
                with suppress(HeaderError):  # a text that no header may have
                    exchange.request.headers.set(claim.headerName, value)
        if self._config.payloadInMetadata:
            note_metadata(exchange, NAMESPACE, {self._config.payloadInMetadata: self._normalized(token.claims)})

    def _normalized(self, claims: dict[str, Any]) -> dict[str, Any]:
        rules = self._config.normalizePayloadInMetadata
        if rules is None:
            return claims
        changed = {name: claims[name].split() for name in rules.spaceDelimitedClaims if isinstance(claims.get(name), str)}
        return {**claims, **changed}

    @property
    def is_remote(self) -> bool:
        """Whether the keys are fetched."""
        return self._remote is not None

    async def refresh(self, context: FilterContext, error: UnknownKey | None = None) -> bool:
        """Fetches the keys if they are outdated, or if a token names an unknown one. Returns whether it tried.

        One fetch serves all waiting requests. If it fails, the old keys stay.
        """
        now = context.clock.now
        if self._remote is None or (error is None and self.has_keys(now)):
            return False
        if self._fetching is None:
            if now < self._next_fetch:
                return False
            self._next_fetch = now + FETCH_PAUSE
            self._fetching = context.create_task(self._fetch(context, self._remote))
        await asyncio.wait([self._fetching])
        return True

    async def _fetch(self, context: FilterContext, target: HttpUri) -> None:
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
            context.write(f"the keys of {self.name!r} cannot be fetched from {target.uri}: {error}", WARN)
        finally:
            self._fetching = None
