"""Conditions on headers and query parameters as settings have them (`HeaderMatch`) -> their run-time form."""

from __future__ import annotations

from typing import Final

from pymosn.api.routing import RouteMatcher
from pymosn.core.headers import is_token, to_bytes
from pymosn.filters.settings import HeaderMatch, StringMatch
from pymosn.routing.conditions import (
    PSEUDO,
    UNSEEN,
    Constant,
    Exact,
    HeaderPresence,
    HeaderTest,
    InRange,
    Part,
    QueryTest,
    TextTest,
    WholeRegex,
    fold,
)
from pymosn.routing.matchers import QueryParameter, header_condition

_KINDS: Final = ("exact", "prefix", "suffix", "contains", "regex")
_OWN: Final = ("string_match", "range_match", "present_match")


def has_own_form(match: HeaderMatch) -> bool:
    """Whether a condition has Envoy's semantics instead of MOSN's."""
    return any(getattr(match, key) is not None for key in _OWN)


def header_matcher(match: HeaderMatch) -> RouteMatcher:
    """A condition on a header. Raises ValueError with a message for the user."""
    if not has_own_form(match):
        _refuse_set(match, ("invert_match", "treat_missing_header_as_empty"), f"needs one of {', '.join(_OWN)}")
        return header_condition(match.name, match.value, match.regex)
    _check_form(match)
    name = match.name.lower()
    if name.startswith(":"):
        if name not in PSEUDO:
            raise ValueError(f"{match.name!r} is neither a header nor one of {', '.join(PSEUDO)}")
    elif not is_token(to_bytes(name)):
        raise ValueError(f"not a header name: {match.name!r}")
    elif name in UNSEEN:
        raise ValueError(f"routes do not see {name}, which concerns one hop, so that no condition on it could match")
    if match.present_match is not None:
        is_expected = match.present_match is not match.invert_match
        return Constant(is_expected) if match.treat_missing_header_as_empty else HeaderPresence(name, is_expected)
    test = _test(match, name == ":authority")
    return HeaderTest(name, test, match.invert_match, match.treat_missing_header_as_empty)


def query_matcher(match: HeaderMatch) -> RouteMatcher:
    """A condition on a query parameter. Raises ValueError with a message for the user."""
    _refuse_set(match, ("range_match", "invert_match", "treat_missing_header_as_empty"), "is for headers only")
    if not has_own_form(match):
        return QueryParameter(match.name, match.value, match.regex)
    _check_form(match)
    if match.string_match is None:
        return QueryTest(match.name, None, bool(match.present_match))
    return QueryTest(match.name, text_test(match.string_match))


def text_test(match: StringMatch, is_host: bool = False) -> TextTest:
    """A condition on a text. `is_host`: on the name of a host, which is in lower case. Raises ValueError."""
    given = [key for key in _KINDS if getattr(match, key) not in (None, "")] + (["exact"] if match.exact == "" else [])
    if len(given) != 1:
        raise ValueError(f"needs exactly one of {', '.join(_KINDS)}, has {', '.join(given) or 'none'}")
    folds = match.ignore_case
    if match.regex:
        if folds:
            raise ValueError("ignore_case is not valid with regex; use (?i) in the expression")
        return WholeRegex(match.regex, is_host)
    kind = given[0]
    expected = match.exact if match.exact is not None else getattr(match, kind)
    if is_host:
        expected, folds = fold(expected), False
    return Exact(expected, folds) if kind == "exact" else Part(kind, expected, folds)


def _test(match: HeaderMatch, is_host: bool) -> TextTest:
    limits = match.range_match
    if limits is not None:
        return InRange(limits.start, limits.end)
    assert match.string_match is not None
    return text_test(match.string_match, is_host)


def _check_form(match: HeaderMatch) -> None:
    given = [key for key in _OWN if getattr(match, key) is not None]
    if len(given) > 1:
        raise ValueError(f"{given[1]} is not valid together with {given[0]}")
    _refuse_set(match, ("value", "regex"), f"is not valid together with {given[0]}")


def _refuse_set(match: HeaderMatch, keys: tuple[str, ...], why: str) -> None:
    for key in keys:
        if getattr(match, key) not in (None, "", False):
            raise ValueError(f"{key} {why}")
