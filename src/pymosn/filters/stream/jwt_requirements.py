"""Requirements of `jwt_authn` rules: tokens of certain providers, any or all of several, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from pymosn.filters.stream.envoy_match import EnvoyObject
from pymosn.filters.stream.problems import Problems

OK: Final = 0
MISSING: Final = 1
FAILED: Final = 2


class Outcome(NamedTuple):
    """Whether a requirement is met, and the reason if not. FAILED: the request has a token, but an invalid one."""

    status: int
    text: str = ""


#: Verifies the tokens of a provider, for certain audiences unless None.
Verify = Callable[[str, "frozenset[str] | None"], Outcome]


class Requirement(NamedTuple):
    """`providers`: those whose tokens it checks. `evaluate`: whether a request meets it.

    `accepts`: also no token (MISSING, `allowMissing`), or any tokens (FAILED, `allowMissingOrFailed`).
    """

    providers: list[str]
    evaluate: Callable[[Verify], Outcome]
    accepts: int = OK


def _first(outcomes: Iterable[Outcome], status: int, default: Outcome) -> Outcome:
    return next((outcome for outcome in outcomes if outcome.status == status), default)


def _of_provider(name: str, audiences: frozenset[str] | None) -> Requirement:
    return Requirement([name], lambda verify: verify(name, audiences))


def _optional(providers: list[str], accepts: int) -> Requirement:
    def evaluate(verify: Verify) -> Outcome:
        outcomes = [verify(name, None) for name in providers]
        if accepts == FAILED or any(outcome.status == OK for outcome in outcomes):
            return Outcome(OK)
        return _first(outcomes, FAILED, Outcome(OK))

    return Requirement(providers, evaluate, accepts)


def _any(parts: list[Requirement]) -> Requirement:
    """One of several. `allowMissing` among them applies to the tokens that the others check."""
    required = [part for part in parts if part.accepts == OK]
    accepts = max([part.accepts for part in parts], default=OK)

    def evaluate(verify: Verify) -> Outcome:
        if parts and not required:
            return parts[0].evaluate(verify)
        outcomes = [part.evaluate(verify) for part in required]
        if any(outcome.status == OK for outcome in outcomes) or accepts == FAILED:
            return Outcome(OK)
        return _first(outcomes, FAILED, Outcome(OK) if accepts == MISSING else outcomes[0])

    return Requirement([name for part in parts for name in part.providers], evaluate)


def _all(parts: list[Requirement]) -> Requirement:
    def evaluate(verify: Verify) -> Outcome:
        outcomes = (part.evaluate(verify) for part in parts)
        return next((outcome for outcome in outcomes if outcome.status != OK), Outcome(OK))

    return Requirement([name for part in parts for name in part.providers], evaluate)


def read_requirement(value: object, path: str, providers: list[str], problems: Problems) -> Requirement:
    """A JwtRequirement; `providers`: the known names."""
    with EnvoyObject(value, path, problems) as source:
        if "provider_name" in source:
            return _of_provider(_name(source, providers), None)
        if "provider_and_audiences" in source:
            with source.inner("provider_and_audiences") as inner:
                audiences = inner.take("audiences", list, [])
                return _of_provider(_name(inner, providers), frozenset(map(str, audiences)))
        for key, kind in (("requires_any", _any), ("requires_all", _all)):
            if key in source:
                return kind([read_requirement(*part, providers, problems) for part in source.items(key, "requirements")])
        for key, accepts in (("allow_missing", MISSING), ("allow_missing_or_failed", FAILED)):
            if key in source:
                with source.inner(key):
                    return _optional(providers, accepts)
        problems.add(path, "no supported requirement; see docs/shipped-filters.md")
    return _all([])


def _name(source: EnvoyObject, providers: list[str]) -> str:
    name: str = source.take("provider_name", str, "")
    source.problems.require(name in providers, f"{source.path}.providerName", f"unknown provider {name!r}")
    return name
