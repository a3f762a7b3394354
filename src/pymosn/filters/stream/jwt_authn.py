"""`jwt_authn`: requires tokens signed by known issuers, by Envoy's rules (key reference section 13)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from importlib.util import find_spec
from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import UNAUTHORIZED
from pymosn.filters.settings import AnyMap, EnvoyBlock, works
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.credentials import TokenSource, remove_claims
from pymosn.filters.stream.envoy_match import EnvoyObject, never, regex_test
from pymosn.filters.stream.jwt_keys import UnknownKey
from pymosn.filters.stream.jwt_provider import Found, JwtProvider, Provider
from pymosn.filters.stream.jwt_requirements import FAILED, MISSING, OK, Outcome, Requirement, read_requirement
from pymosn.filters.stream.jwt_token import Token, TokenError
from pymosn.filters.stream.problems import Problems

NAME: Final = "jwt_authn"
_REQUIREMENTS: Final = (
    "`providerName`, `providerAndAudiences`, `requiresAny`, `requiresAll`, `allowMissing`, `allowMissingOrFailed`"
)
PathTest = Callable[[str], bool]


class JwtRule(EnvoyBlock, kw_only=True):
    """The requirement for requests to some paths."""

    match: Annotated[AnyMap, works("`prefix`, `path` or `safeRegex`, and `caseSensitive`")] = {}
    requires: Annotated[AnyMap | None, works(f"{_REQUIREMENTS}; without it a token is not required")] = None


class Settings(EnvoyBlock, kw_only=True):
    """`jwt_authn`."""

    providers: dict[str, JwtProvider] = {}
    rules: list[JwtRule] = []


class JwtAuthnFilter(StreamFilter):
    """Applies the requirement of the first matching rule; a request without one passes. Denied requests get 401.

    The claims of valid tokens are in `exchange.state["jwt_authn"]`, by provider. Cost per request: a few header lookups, and
    one dict lookup for a known token; the verification of a new one (RS256: about 60 us). Waiting for keys costs a task.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        has_packages = all(find_spec(name) is not None for name in ("jwt", "cryptography"))
        problems.require(has_packages, "", "jwt_authn needs PyJWT and cryptography: pip install 'pymosn[jwt]'")
        problems.end()
        self._providers = {
            name: Provider(name, provider, f".providers.{name}", problems) for name, provider in settings.providers.items()
        }
        problems.end()
        self._rules: list[tuple[PathTest, Requirement | None]] = []
        for i, rule in enumerate(settings.rules):
            path = f".rules[{i}]"
            requirement = None
            if rule.requires is not None:
                requirement = read_requirement(rule.requires, f"{path}.requires", list(self._providers), problems)
            self._rules.append((_path_test(rule.match, f"{path}.match", problems), requirement))
        problems.end()

    def on_request(self, exchange: Exchange) -> None:
        # Already here, for later filters that judge in this phase, such as rbac: it may only come from a verified token.
        headers = exchange.request.headers
        for provider in self._providers.values():
            if provider.payload_header:
                remove_claims(headers, provider.payload_header)

    def on_route(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        self.on_request(exchange)  # it may have been set since
        path = exchange.request.path or "/"  # RPC calls have none
        for matches, requirement in self._rules:
            if matches(path):
                return None if requirement is None else self._require(exchange, requirement)
        return None

    def _require(self, exchange: Exchange, requirement: Requirement) -> Reply | Awaitable[Reply | None] | None:
        now = self.context.clock.now
        check = _Check(exchange, self._providers, self.context.clock.wall())
        used = [self._providers[name] for name in requirement.providers if check.found[name].tokens]
        if all(provider.has_keys(now) for provider in used):
            outcome = requirement.evaluate(check.verify)
            if outcome.status == OK or not check.unknown_keys:
                return self._conclude(check, outcome)
        return self._fetch_first(exchange, requirement, used)

    async def _fetch_first(self, exchange: Exchange, requirement: Requirement, used: list[Provider]) -> Reply | None:
        """Fetches missing or outdated keys, and fetches again if a token names an unknown one."""
        for provider in used:
            await provider.refresh(self.context)
        check = _Check(exchange, self._providers, self.context.clock.wall())
        outcome = requirement.evaluate(check.verify)
        if outcome.status != OK:
            tried = [await provider.refresh(self.context, error) for provider, error in check.unknown_keys]
            if any(tried):
                check = _Check(exchange, self._providers, self.context.clock.wall())
                outcome = requirement.evaluate(check.verify)
        return self._conclude(check, outcome)

    def _conclude(self, check: _Check, outcome: Outcome) -> Reply | None:
        exchange = check.exchange
        if outcome.status == OK:
            check.accept()
            self.context.counter("allowed").value += 1
            return None
        self.context.counter("denied").value += 1
        exchange.failure = UNAUTHORIZED
        exchange.failure_detail = outcome.text
        challenge = "Bearer" if outcome.status == MISSING else 'Bearer error="invalid_token"'
        return Reply(401, outcome.text, {"www-authenticate": challenge})


class _Check:
    """The verification of one request's tokens."""

    def __init__(self, exchange: Exchange, providers: dict[str, Provider], now: float) -> None:
        """`now`: seconds since 1970."""
        self._now = now
        self.exchange = exchange
        self.unknown_keys: list[tuple[Provider, UnknownKey]] = []
        self._providers = providers
        #: By provider.
        self.found: dict[str, Found] = {name: provider.find(exchange) for name, provider in providers.items()}
        self._valid: dict[str, tuple[TokenSource, Token]] = {}

    def verify(self, name: str, audiences: frozenset[str] | None) -> Outcome:
        """Whether the request has a valid token of a provider."""
        provider = self._providers[name]
        found = self.found[name]
        if not found.tokens:
            return Outcome(MISSING, "Jwt is missing")
        if found.is_ambiguous:
            return Outcome(FAILED, "Jwt is not the only credential of the request")
        text, source = found.tokens[0]
        try:
            token = provider.verify(text, audiences, self._now)
        except TokenError as error:
            if isinstance(error, UnknownKey) and provider.is_remote:
                self.unknown_keys.append((provider, error))
            return Outcome(FAILED, str(error))
        self._valid[name] = source, token
        return Outcome(OK)

    def accept(self) -> None:
        """Applies the valid tokens to the request, and removes all others, which the upstream could take for valid ones."""
        verified = {(token.text, source.place) for source, token in self._valid.values()}
        for found in self.found.values():
            for text, source in found.tokens:
                if (text, source.place) not in verified:
                    source.remove(self.exchange)
        for name, (source, token) in self._valid.items():
            self._providers[name].accept(self.exchange, source, token)
        if self._valid:
            self.exchange.state[NAME] = {name: token.claims for name, (_, token) in self._valid.items()}


def _path_test(value: object, path: str, problems: Problems) -> PathTest:
    """A RouteMatch; only its conditions on the path are supported."""
    with EnvoyObject(value, path, problems) as source:
        fold: Callable[[str], str] = str if source.take("case_sensitive", bool, True) else str.lower
        if "prefix" in source:
            prefix = fold(source.take("prefix", str, "/"))
            return lambda text: fold(text).startswith(prefix)
        if "path" in source:
            exact = fold(source.take("path", str, "/"))
            return lambda text: fold(text) == exact
        if "safe_regex" in source:
            return regex_test(source.inner("safe_regex"))
        problems.add(path, "expected one of prefix, path, safeRegex")
    return never


def _clusters(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, provider in settings.providers.items():
        if provider.remoteJwks is not None:
            yield f"providers.{name}.remoteJwks.httpUri.cluster", provider.remoteJwks.httpUri.cluster


DIFFERENCES: Final = (
    ("tokens in the query", "never found", "found, and removed unless `forward`"),
    ("`path` without `caseSensitive`", "a panic", "case-sensitive"),
    ("`forwardPayloadHeader` from the client", "forwarded", "removed"),
    (
        "a token whose key is not in the set yet",
        "401 until the cached set expires",
        "the set is fetched again, at most every two seconds",
    ),
)
_NOTE: Final = "needs the extra pymosn[jwt]"
SPEC: Final = FilterSpec(NAME, Settings, JwtAuthnFilter, _NOTE, DIFFERENCES, clusters=_clusters, guards=True)
