"""`jwt_authn`: requests need tokens that a known issuer has signed, by Envoy's rules (key reference section 13)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import UNAUTHORIZED
from pymosn.filters.stream.envoy_match import Fields, never, regex_test
from pymosn.filters.stream.jwt_keys import TokenError, UnknownKey
from pymosn.filters.stream.jwt_provider import Provider, check_package
from pymosn.filters.stream.jwt_requirements import MISSING, OK, Outcome, Requirement, read_requirement
from pymosn.filters.stream.problems import Problems

NAME: Final = "jwt_authn"
PathTest = Callable[[str], bool]


class JwtAuthnFilter(StreamFilter):
    """The first rule whose match fits says what a request needs; without one it passes. Others get 401.

    The claims of good tokens are in `exchange.state["jwt_authn"]`, by provider. Per request: a few look-ups and, for a token
    that was seen before, one in a dict; a new one costs its verification (RS256: about 60 us). A wait for keys costs a task.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        problems = Problems()
        self._providers: dict[str, Provider] = {}
        if check_package(problems):
            for name, provider in config.providers.items():
                self._providers[name] = Provider(name, provider, f".providers.{name}", problems)
        problems.end()
        self._rules: list[tuple[PathTest, Requirement | None]] = []
        for place, rule in enumerate(config.rules):
            path = f".rules[{place}]"
            requirement = None
            if rule.requires is not None:
                requirement = read_requirement(rule.requires, f"{path}.requires", list(self._providers), problems)
            self._rules.append((_path_test(rule.match, f"{path}.match", problems), requirement))
        problems.end()

    def on_route(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        headers = exchange.request.headers
        for provider in self._providers.values():
            if provider.payload_header:
                headers.remove(provider.payload_header)  # only a verified token may say what is in it
        path = exchange.request.path or "/"  # RPC calls have none
        for matches, requirement in self._rules:
            if matches(path):
                return None if requirement is None else self._require(exchange, requirement)
        return None

    def _require(self, exchange: Exchange, requirement: Requirement) -> Reply | Awaitable[Reply | None] | None:
        now = self.context.clock.now
        found = {name: provider.find(exchange) for name, provider in self._providers.items()}
        used = [self._providers[name] for name in requirement.providers if found[name]]
        if all(provider.has_keys(now) for provider in used):
            check = _Check(exchange, self._providers, found, self.context.clock.wall())
            outcome = requirement.evaluate(check.verify)
            if outcome.status == OK or not check.unknown_keys:
                return self._conclude(check, outcome)
        return self._fetch_first(exchange, requirement, used)

    async def _fetch_first(self, exchange: Exchange, requirement: Requirement, used: list[Provider]) -> Reply | None:
        """The keys may have to be fetched, and fetched again for a token that names a new one."""
        for provider in used:
            await provider.refresh(self.context)
        found = {name: provider.find(exchange) for name, provider in self._providers.items()}
        check = _Check(exchange, self._providers, found, self.context.clock.wall())
        outcome = requirement.evaluate(check.verify)
        if outcome.status != OK:
            tried = [await provider.refresh(self.context, error) for provider, error in check.unknown_keys]
            if any(tried):
                check = _Check(exchange, self._providers, found, self.context.clock.wall())
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

    def __init__(self, exchange: Exchange, providers: dict[str, Provider], found: dict[str, Any], now: float) -> None:
        """`found`: the tokens of each provider, with their places. `now`: seconds since 1970."""
        self._now = now
        self.exchange = exchange
        self.unknown_keys: list[tuple[Provider, UnknownKey]] = []
        self._providers = providers
        self._found = found
        self._good: dict[str, tuple[Any, dict[str, Any]]] = {}

    def verify(self, name: str, audiences: frozenset[str] | None) -> Outcome:
        """Whether the request has a good token of a provider."""
        provider = self._providers[name]
        outcome = Outcome(MISSING, "Jwt is missing")
        for token, place in self._found[name]:
            try:
                claims = provider.verify(token, audiences, self._now)
            except TokenError as error:
                outcome = Outcome.failed(str(error))
                if isinstance(error, UnknownKey) and provider.is_remote:
                    self.unknown_keys.append((provider, error))
                continue
            self._good[name] = place, claims
            return Outcome(OK, "")
        return outcome

    def accept(self) -> None:
        """What the good tokens do to the request."""
        for name, (place, claims) in self._good.items():
            self._providers[name].accept(self.exchange, place, claims)
        if self._good:
            self.exchange.state[NAME] = {name: claims for name, (_, claims) in self._good.items()}


def _path_test(value: object, path: str, problems: Problems) -> PathTest:
    """A RouteMatch, as far as it goes by the path."""
    fields = Fields(value, path, problems)
    is_exact_case = fields.take("case_sensitive", bool, True)
    test: PathTest = never
    if "prefix" in fields:
        prefix = fields.take("prefix", str, "/")
        test = lambda text: text.startswith(prefix)  # noqa: E731
        if not is_exact_case:
            test = lambda text: text.lower().startswith(prefix.lower())  # noqa: E731
    elif "path" in fields:
        wanted = fields.take("path", str, "/")
        test = lambda text: text == wanted  # noqa: E731
        if not is_exact_case:
            test = lambda text: text.lower() == wanted.lower()  # noqa: E731
    elif "safe_regex" in fields:
        test = regex_test(fields.inner("safe_regex"))
    else:
        problems.add(path, "one of prefix, path and safeRegex is needed")
    fields.end()
    return test
