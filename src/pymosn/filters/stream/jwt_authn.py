# ruff: noqa: N815 - attribute names are Envoy's keys
"""`jwt_authn`: requires tokens signed by known issuers, by Envoy's rules (key reference section 13)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from importlib.util import find_spec
from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import UNAUTHORIZED
from pymosn.core.message import RequestHead
from pymosn.filters.settings import AnyMap, EnvoyBlock, own, works
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.credentials import TokenSource, remove_claims
from pymosn.filters.stream.envoy_match import EnvoyObject, never, regex_test, upper_escapes
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

    match: Annotated[AnyMap, works("`prefix`, `path`, `pathSeparatedPrefix` or `safeRegex`, and `caseSensitive`")] = {}
    requires: Annotated[AnyMap | None, works(f"{_REQUIREMENTS}; without it a token is not required")] = None
    requirementName: Annotated[str, works("instead of `requires`: one of `requirementMap`")] = ""


class Settings(EnvoyBlock, kw_only=True):
    """`jwt_authn`."""

    providers: dict[str, JwtProvider] = {}
    rules: list[JwtRule] = []
    requirementMap: Annotated[dict[str, AnyMap], works("requirements by name, for rules and routes")] = {}
    bypassCorsPreflight: Annotated[bool, works("preflight requests of browsers need no token")] = False
    stripFailureResponse: Annotated[bool, works("denials have no reason")] = False
    before_routing: Annotated[
        bool, own("verify before the route is selected, so that it can depend on headers with claims")
    ] = False


class RouteSettings(EnvoyBlock, kw_only=True):
    """`per_filter_config.jwt_authn`: instead of the rules."""

    disabled: Annotated[bool, works("requests of this route need no token")] = False
    requirementName: Annotated[str, works("one of `requirementMap`")] = ""


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
        names = list(self._providers)
        self._named = {
            name: read_requirement(value, f".requirementMap.{name}", names, problems)
            for name, value in settings.requirementMap.items()
        }
        for i, rule in enumerate(settings.rules):
            path = f".rules[{i}]"
            requirement = None
            if rule.requires is not None:
                problems.require(not rule.requirementName, f"{path}.requirementName", "not valid together with requires")
                requirement = read_requirement(rule.requires, f"{path}.requires", names, problems)
            elif rule.requirementName:
                requirement = self._named.get(rule.requirementName)
                problems.require(requirement, f"{path}.requirementName", f"not in requirementMap: {rule.requirementName!r}")
            self._rules.append((_path_test(rule.match, f"{path}.match", problems), requirement))
        problems.end()
        self._settings = settings
        self.follows_routes = not settings.before_routing

    def on_request(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        self._remove_claims(exchange)
        return self._apply_rules(exchange) if self._settings.before_routing else None

    def on_route(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        of_route = self.context.route_config(exchange, NAME)
        if isinstance(of_route, RouteSettings):
            self._remove_claims(exchange)
            return self._apply_route(exchange, of_route)
        if self._settings.before_routing:
            return None
        self._remove_claims(exchange)  # they may have been set since
        return self._apply_rules(exchange)

    def _remove_claims(self, exchange: Exchange) -> None:
        # Already in `on_request`, for later filters that judge in that phase, such as rbac: they only come from tokens.
        headers = exchange.request.headers
        for provider in self._providers.values():
            for name in provider.own_headers:
                remove_claims(headers, name)

    def _apply_route(self, exchange: Exchange, settings: RouteSettings) -> Reply | Awaitable[Reply | None] | None:
        if settings.disabled:
            return None
        requirement = self._named.get(settings.requirementName)
        if requirement is None:
            exchange.failure = UNAUTHORIZED
            exchange.failure_detail = f"unknown requirement {settings.requirementName!r} of the route"
            return Reply(403)
        return self._require(exchange, requirement)

    def _apply_rules(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        request = exchange.request
        if self._settings.bypassCorsPreflight and _is_preflight(request):
            return None
        path = request.path or "/"  # RPC calls have none
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
        if self._settings.stripFailureResponse:
            return Reply(401)
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


def _is_preflight(request: RequestHead) -> bool:
    headers = request.headers
    return (
        request.raw_method == b"OPTIONS"
        and bool(headers.get("origin", ""))
        and bool(headers.get("access-control-request-method", ""))
    )


def _path_test(value: object, path: str, problems: Problems) -> PathTest:
    """A RouteMatch; only its conditions on the path are supported."""
    with EnvoyObject(value, path, problems) as source:
        fold: Callable[[str], str] = str if source.take("case_sensitive", bool, True) else str.lower
        if "prefix" in source:
            prefix = fold(upper_escapes(source.take("prefix", str, "/")))
            return lambda text: fold(text).startswith(prefix)
        if "path" in source:
            exact = fold(upper_escapes(source.take("path", str, "/")))
            return lambda text: fold(text) == exact
        if "path_separated_prefix" in source:
            start = fold(upper_escapes(source.take("path_separated_prefix", str, "/")))
            return lambda text: fold(text) == start or fold(text).startswith(f"{start}/")
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
_NOTE: Final = "needs the extra pymosn[jwt]; also of a route"
_ROUTE: Final = RouteSpec(RouteSettings, lambda settings: settings)
SPEC: Final = FilterSpec(NAME, Settings, JwtAuthnFilter, _NOTE, DIFFERENCES, _ROUTE, clusters=_clusters, guards=True)
