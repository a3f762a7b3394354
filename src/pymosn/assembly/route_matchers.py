"""Builds the run-time conditions of routes from the configuration."""

from __future__ import annotations

from pymosn.api.routing import RouteMatcher
from pymosn.config.schema import RouteMatch
from pymosn.filters.header_matches import has_own_form, header_matcher, query_matcher
from pymosn.routing import conditions, matchers
from pymosn.routing.expressions import Expression


def route_matcher(match: RouteMatch) -> RouteMatcher:
    """Among mutually exclusive match kinds the first one wins (key reference 6.4); other conditions are ANDed."""
    found: list[RouteMatcher] = []
    path = _path_matcher(match)
    if path is not None:
        found.append(path)
    elif match.variables:
        make = matchers.VariableTest
        tests = [make(v.name, v.regex or v.value, bool(v.regex), v.model.lower() == "or") for v in match.variables]
        found.append(matchers.Variables(tests))
    elif match.dsl_expressions:
        found += [Expression(entry.expression) for entry in match.dsl_expressions]
    elif _is_service(match):
        return matchers.Service(match.headers[0].value)
    if match.grpc:
        found.append(conditions.GrpcRequests())
    if match.certificate_presented is not None or match.certificate_verified is not None:
        found.append(conditions.CertificateTest(match.certificate_presented, match.certificate_verified))
    found += [header_matcher(entry) for entry in match.headers]
    found += [query_matcher(entry) for entry in match.query_parameters]
    if match.percent is not None:
        found.append(conditions.Share(match.percent))
    if not found:
        return matchers.AnyRequest()
    return found[0] if len(found) == 1 else matchers.AllOf(found)


def _path_matcher(match: RouteMatch) -> RouteMatcher | None:
    """The condition on the path or, for CONNECT, the method; None without one."""
    ignores_case = match.case_sensitive is False
    if match.prefix:
        return matchers.FoldedPrefix(match.prefix) if ignores_case else matchers.Prefix(match.prefix)
    if match.path:
        return matchers.ExactPath(match.path) if match.case_sensitive else matchers.Path(match.path)
    if match.regex:
        return matchers.PathRegex(match.regex)
    if match.path_separated_prefix:
        prefix = match.path_separated_prefix
        return matchers.FoldedPrefix(prefix, True) if ignores_case else matchers.SeparatedPrefix(prefix)
    if match.path_regex:
        return matchers.PathRegex(match.path_regex, is_whole=True)
    return conditions.ConnectRequests() if match.connect else None


def _is_service(match: RouteMatch) -> bool:
    """Whether the only condition is MOSN's rule for RPC: a header named `service`."""
    if match.certificate_presented is not None or match.certificate_verified is not None:
        return False
    if len(match.headers) != 1 or match.query_parameters or match.grpc or match.percent is not None:
        return False
    return match.headers[0].name.lower() == "service" and not has_own_form(match.headers[0])
