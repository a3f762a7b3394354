"""Checks the conditions of routes."""

from collections.abc import Callable
from typing import Final

from pymosn.api.routing import RouteMatcher
from pymosn.api.variables import FOREIGN, OWN, PREFIXES, SETTABLE, is_known
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import HeaderMatch, RouteMatch
from pymosn.config.schema.router import VariableMatch
from pymosn.filters.header_matches import has_own_form, header_matcher, query_matcher
from pymosn.filters.settings import Block
from pymosn.routing.expressions import Expression
from pymosn.routing.regex import PatternError, Regex

#: Kinds of conditions of which a route has one, in the order of their precedence: MOSN's, then pymosn's own.
_KINDS: Final = (
    *("prefix", "path", "regex", "path_separated_prefix", "path_regex", "connect"),
    *("variables", "dsl_expressions"),
)


def present(block: Block, keys: tuple[str, ...], path: str, report: Diagnostics, suffix: str = ", as in MOSN") -> list[str]:
    """The keys that are set, of those that exclude each other in this order; all but the first have no effect."""
    found = [key for key in keys if getattr(block, key) not in (None, "", False, [])]
    for key in found[1:]:
        report.warning(f"{path}.{key}", f"has no effect together with {found[0]}{suffix}")
    return found


def check_match(match: RouteMatch, path: str, report: Diagnostics) -> None:
    """Check the conditions of a route."""
    present(match, _KINDS, path, report)
    for key in ("regex", "path_regex"):
        if pattern := getattr(match, key):
            _check_regex(pattern, f"{path}.{key}", report)
    if match.case_sensitive is not None and not (match.prefix or match.path or match.path_separated_prefix):
        report.warning(f"{path}.case_sensitive", "has no effect without prefix, path or path_separated_prefix")
    if match.path_separated_prefix.endswith("/"):
        report.error(f"{path}.path_separated_prefix", "must not end with a slash", match.path_separated_prefix)
    _check_values(match.headers, f"{path}.headers", "a header match", header_matcher, report)
    _check_values(match.query_parameters, f"{path}.query_parameters", "a query parameter match", query_matcher, report)
    for i, variable in enumerate(match.variables):
        _check_variable(variable, f"{path}.variables[{i}]", report)
    for i, entry in enumerate(match.dsl_expressions):
        inner = f"{path}.dsl_expressions[{i}].expression"
        report.attempt(inner, Expression, entry.expression, value=entry.expression)


def _check_values(
    matches: list[HeaderMatch], path: str, what: str, make: Callable[[HeaderMatch], RouteMatcher], report: Diagnostics
) -> None:
    for i, match in enumerate(matches):
        if not match.name and make is header_matcher and not has_own_form(match):
            report.odd(f"{path}[{i}].name", f"{what} without a name never matches, as in MOSN")
        elif not match.name:
            report.error(f"{path}[{i}].name", f"{what} needs a name")
            continue
        try:
            make(match)
        except PatternError as error:
            report.error(f"{path}[{i}].value", f"not a regular expression (RE2): {error}", match.value or ...)
        except ValueError as error:
            report.error(f"{path}[{i}]", str(error))


def _check_variable(match: VariableMatch, path: str, report: Diagnostics) -> None:
    check_variable_name(match.name, f"{path}.name", report)
    if match.model.lower() not in ("", "and", "or"):
        report.error(f"{path}.model", "must be and or or", match.model)
    if match.regex:
        _check_regex(match.regex, f"{path}.regex", report)
        if match.value:
            report.warning(f"{path}.value", "has no effect together with regex, as in MOSN")


def check_variable_name(name: str, path: str, report: Diagnostics) -> None:
    """Check the name of a variable; an unknown one may still be set by a filter."""
    if not name:
        report.error(path, "missing variable name")
    elif not is_known(name):
        message = "unknown variable: it has a value only if a filter sets it"
        report.warning(path, message, name, [*OWN, *FOREIGN, *SETTABLE, *PREFIXES])


def _check_regex(pattern: str, path: str, report: Diagnostics) -> None:
    report.attempt(path, Regex, pattern, value=pattern, prefix="not a regular expression (RE2): ")
