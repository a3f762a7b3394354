"""Requirements of `jwt_authn` rules: tokens of certain providers, any or all of several, or none."""

from __future__ import annotations

from collections.abc import Callable
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


class Requirement:
    """`providers`: those whose tokens it checks."""

    def __init__(self, providers: list[str]) -> None:
        self.providers = providers

    def evaluate(self, verify: Verify) -> Outcome:
        """Whether a request meets it."""
        raise NotImplementedError


class _OfProvider(Requirement):
    def __init__(self, name: str, audiences: frozenset[str] | None) -> None:
        super().__init__([name])
        self._audiences = audiences

    def evaluate(self, verify: Verify) -> Outcome:
        return verify(self.providers[0], self._audiences)


class _Optional(Requirement):
    """`allowMissing`: no token, or only valid ones; `allowMissingOrFailed`: any request."""

    def __init__(self, providers: list[str], allows_failed: bool) -> None:
        super().__init__(providers)
        self.allows_failed = allows_failed

    def evaluate(self, verify: Verify) -> Outcome:
        outcomes = [verify(name, None) for name in self.providers]
        if self.allows_failed or any(outcome.status == OK for outcome in outcomes):
            return Outcome(OK)
        return next((outcome for outcome in outcomes if outcome.status == FAILED), Outcome(OK))


class _Any(Requirement):
    """One of several. `allowMissing` among them applies to the tokens that the others check."""

    def __init__(self, parts: list[Requirement]) -> None:
        super().__init__([name for part in parts for name in part.providers])
        self._parts = [part for part in parts if not isinstance(part, _Optional)]
        optional = [part for part in parts if isinstance(part, _Optional)]
        self._allows_missing = bool(optional)
        self._allows_failed = any(part.allows_failed for part in optional)
        # Without other requirements it acts as if it were alone.
        self._alone = optional[0] if optional and not self._parts else None

    def evaluate(self, verify: Verify) -> Outcome:
        if self._alone is not None:
            return self._alone.evaluate(verify)
        outcomes = [part.evaluate(verify) for part in self._parts]
        if any(outcome.status == OK for outcome in outcomes) or self._allows_failed:
            return Outcome(OK)
        otherwise = Outcome(OK) if self._allows_missing else outcomes[0]
        return next((outcome for outcome in outcomes if outcome.status == FAILED), otherwise)


class _All(Requirement):
    def __init__(self, parts: list[Requirement]) -> None:
        super().__init__([name for part in parts for name in part.providers])
        self._parts = parts

    def evaluate(self, verify: Verify) -> Outcome:
        outcomes = (part.evaluate(verify) for part in self._parts)
        return next((outcome for outcome in outcomes if outcome.status != OK), Outcome(OK))


def read_requirement(value: object, path: str, providers: list[str], problems: Problems) -> Requirement:
    """A JwtRequirement; `providers`: the known names."""
    with EnvoyObject(value, path, problems) as source:
        if "provider_name" in source:
            return _OfProvider(_name(source, providers), None)
        if "provider_and_audiences" in source:
            with source.inner("provider_and_audiences") as inner:
                audiences = inner.take("audiences", list, [])
                return _OfProvider(_name(inner, providers), frozenset(map(str, audiences)))
        for key, kind in (("requires_any", _Any), ("requires_all", _All)):
            if key in source:
                return kind([read_requirement(*part, providers, problems) for part in source.items(key, "requirements")])
        for key in ("allow_missing", "allow_missing_or_failed"):
            if key in source:
                with source.inner(key):
                    return _Optional(providers, key == "allow_missing_or_failed")
        problems.add(path, "no supported requirement; see docs/shipped-filters.md")
    return _All([])


def _name(source: EnvoyObject, providers: list[str]) -> str:
    name: str = source.take("provider_name", str, "")
    source.problems.require(name in providers, f"{source.path}.providerName", f"unknown provider {name!r}")
    return name
