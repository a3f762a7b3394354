"""Router tables of the configuration as run-time tables."""

from __future__ import annotations

from pymosn.api.routing import Route, RouteAction, RouteMatcher
from pymosn.config.schema import RouterConfiguration
from pymosn.config.schema.router import HeaderMatch, RouteMatch
from pymosn.config.schema.router import Route as RouteConfig
from pymosn.routing.actions import DirectResponse, Forward, ForwardWeighted, Redirect
from pymosn.routing.matchers import (
    AllOf,
    AnyRequest,
    Header,
    HeaderRegex,
    Method,
    MethodRegex,
    Path,
    PathRegex,
    Prefix,
)
from pymosn.routing.table import RouteTable, VirtualHost

#: Seconds for a route that says 0, as in MOSN.
DEFAULT_TIMEOUT = 60.0


def build_table(config: RouterConfiguration) -> RouteTable:
    """The run-time form of a checked router table."""
    table = RouteTable(config.router_config_name)
    for place, host in enumerate(config.virtual_hosts):
        name = host.name or f"virtual_hosts[{place}]"
        routes = [
            Route(f"{config.router_config_name}/{name}/{number}", _matcher(route.match), _action(route))
            for number, route in enumerate(host.routers)
        ]
        table.add(VirtualHost(name, host.domains, routes))
    return table


def _matcher(match: RouteMatch) -> RouteMatcher:
    """The first kind that is given counts (key reference section 6.4); headers are checked besides."""
    conditions: list[RouteMatcher] = []
    if match.prefix:
        conditions.append(Prefix(match.prefix))
    elif match.path:
        conditions.append(Path(match.path))
    elif match.regex:
        conditions.append(PathRegex(match.regex))
    conditions += [_header(header) for header in match.headers]
    if not conditions:
        return AnyRequest()
    return conditions[0] if len(conditions) == 1 else AllOf(conditions)


def _header(match: HeaderMatch) -> RouteMatcher:
    if match.name.lower() == "method":
        return MethodRegex(match.value) if match.regex else Method(match.value)
    return HeaderRegex(match.name, match.value) if match.regex else Header(match.name, match.value)


def _action(route: RouteConfig) -> RouteAction:
    """direct_response before redirect before route, as in MOSN."""
    direct = route.direct_response
    if direct is not None:
        return DirectResponse(direct.status, direct.body)
    redirect = route.redirect
    if redirect is not None:
        return Redirect(
            redirect.response_code, redirect.scheme_redirect.lower(), redirect.host_redirect, redirect.path_redirect
        )
    target = route.route
    assert target is not None, "checked: a route has an action"
    timeout = target.timeout or DEFAULT_TIMEOUT
    if target.weighted_clusters:
        weights = [(entry.cluster.name, entry.cluster.weight) for entry in target.weighted_clusters]
        return ForwardWeighted(weights, timeout)
    return Forward(target.cluster_name, timeout)
