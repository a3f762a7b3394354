"""Builds run-time router tables from the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pymosn.api.routing import Route, RouteAction, RouteMatcher
from pymosn.assembly.clusters import labels_of
from pymosn.assembly.packed_config import Piece
from pymosn.assembly.steps import Steps, run_whole
from pymosn.config.schema import Route as RouteConfig
from pymosn.config.schema import RouteAction as Action
from pymosn.config.schema import RouteMatch, RouterConfiguration
from pymosn.config.schema.router import HashPolicy as HashPolicyConfig
from pymosn.config.schema.router import HeaderChanges as HeaderChangesConfig
from pymosn.config.schema.router import HeaderToAdd
from pymosn.config.schema.router import RetryPolicy as RetryPolicyConfig
from pymosn.config.schema.router import VirtualHost as HostConfig
from pymosn.config.typed import typed
from pymosn.filters.stream.shipped import route_spec
from pymosn.routing import actions, matchers
from pymosn.routing.changes import ChangeLevel, HeaderAddition, LevelChanges
from pymosn.routing.expressions import Expression
from pymosn.routing.hashing import HashCookie, HashHeader, HashPolicy, HashSourceIp
from pymosn.routing.retries import condition_names, conditions_of
from pymosn.routing.rewrites import PathRewrite, PrefixRewrite, RegexRewrite, RequestChanges
from pymosn.routing.table import RouteTable
from pymosn.routing.table import VirtualHost as HostTable


def build_table(config: RouterConfiguration) -> RouteTable:
    """The run-time form of a checked router table."""
    return run_whole(build_in_steps(config, [[(True, host)] for host in config.virtual_hosts]))


def build_in_steps(config: RouterConfiguration, parts: Iterable[list[Piece]]) -> Steps[RouteTable]:
    """The same in steps, of at most fifty routes each; `parts` has the virtual hosts of the table."""
    table = RouteTable(config.router_config_name)
    shared = _changes(config)
    hosts: list[HostTable] = []
    outer, filters, name = shared, dict[str, object](), ""
    routes: list[Route] = []
    for part in parts:
        for starts, host in part:
            if starts:
                name = host.name or f"virtual_hosts[{len(hosts)}]"
                outer = _changes(host, shared)
                filters = _filter_settings(host.per_filter_config)
                routes = []
                hosts.append(HostTable(name, host.domains, routes, is_built=False))
            for route in host.routers:
                routes.append(_route(f"{config.router_config_name}/{name}/{len(routes)}", route, filters, outer))
                if len(routes) % 50 == 49:
                    yield
            yield
    for built in hosts:
        yield from built.build()
        table.add(built)
        yield
    return table


def clusters_in(config: RouterConfiguration) -> set[str]:
    """The clusters that a table refers to, as targets and as mirrors."""
    return clusters_of(config.virtual_hosts)


def clusters_of(hosts: Iterable[HostConfig]) -> set[str]:
    """The clusters that virtual hosts refer to, as targets and as mirrors."""
    names: set[str] = set()
    for host in hosts:
        for route in host.routers:
            if route.route is not None:
                names.add(route.route.cluster_name)
                names.update(target.cluster.name for target in route.route.weighted_clusters)
                names.update(policy.cluster for policy in route.mirror_policies())
    return names


class _Changes(NamedTuple):
    """The header changes for a route: those of its action, its virtual host and its table, innermost first."""

    requests: list[ChangeLevel]
    responses: list[ChangeLevel]


def _changes(config: HeaderChangesConfig, outer: _Changes = _Changes([], [])) -> _Changes:  # noqa: B008
    return _Changes(
        _with_level(config.request_headers_to_add, config.request_headers_to_remove, outer.requests),
        _with_level(config.response_headers_to_add, config.response_headers_to_remove, outer.responses),
    )


def _with_level(to_add: list[HeaderToAdd], to_remove: list[str], outer: list[ChangeLevel]) -> list[ChangeLevel]:
    if not to_add and not to_remove:
        return outer
    additions = [HeaderAddition(item.header.key, item.header.value, item.append) for item in to_add]
    return [ChangeLevel(additions, to_remove), *outer]


def _header_changes(levels: list[ChangeLevel]) -> LevelChanges | None:
    return LevelChanges(levels) if levels else None


def _route(name: str, config: RouteConfig, filters: dict[str, object], outer: _Changes) -> Route:
    changes = _changes(config.route, outer) if config.route is not None else outer
    filters = {**filters, **_filter_settings(config.per_filter_config)}
    response = _header_changes(changes.responses)
    return Route(name, _matcher(config.match), _action(config, changes.requests), response, filters or None)


def _filter_settings(config: dict[str, object]) -> dict[str, object]:
    """`per_filter_config`, with the settings of shipped filters in their run-time form."""
    made = dict(config)
    for name, value in config.items():
        route = route_spec(name, value)
        if route is not None:
            made[name] = route.make(typed(value, route.settings))
    return made


def _matcher(match: RouteMatch) -> RouteMatcher:
    """Among mutually exclusive match kinds the first one wins (key reference 6.4); other conditions are ANDed."""
    conditions: list[RouteMatcher] = []
    if match.prefix:
        conditions.append(matchers.Prefix(match.prefix))
    elif match.path:
        conditions.append(matchers.Path(match.path))
    elif match.regex:
        conditions.append(matchers.PathRegex(match.regex))
    elif match.variables:
        make = matchers.VariableTest
        tests = [make(v.name, v.regex or v.value, bool(v.regex), v.model.lower() == "or") for v in match.variables]
        conditions.append(matchers.Variables(tests))
    elif match.dsl_expressions:
        conditions += [Expression(entry.expression) for entry in match.dsl_expressions]
    elif len(match.headers) == 1 and match.headers[0].name.lower() == "service" and not match.query_parameters:
        return matchers.Service(match.headers[0].value)
    conditions += [matchers.header_condition(entry.name, entry.value, entry.regex) for entry in match.headers]
    conditions += [matchers.QueryParameter(entry.name, entry.value, entry.regex) for entry in match.query_parameters]
    if not conditions:
        return matchers.AnyRequest()
    return conditions[0] if len(conditions) == 1 else matchers.AllOf(conditions)


def _action(route: RouteConfig, changes: list[ChangeLevel]) -> RouteAction:
    """The first of direct_response, redirect and route wins, as in MOSN."""
    direct = route.direct_response
    if direct is not None:
        return actions.DirectResponse(direct.status, direct.body)
    redirect = route.redirect
    if redirect is not None:
        scheme = redirect.scheme_redirect.lower()
        return actions.Redirect(redirect.response_code, scheme, redirect.host_redirect, redirect.path_redirect)
    target = route.route
    assert target is not None, "checked: a route has an action"
    return _forward(target, _options(route, target, changes))


def _forward(target: Action, options: actions.ForwardOptions) -> actions.Forward:
    timeout = target.timeout or actions.DEFAULT_TIMEOUT
    if target.weighted_clusters:
        # The labels of the selected cluster replace those of the route, even if it has none.
        weights = [
            (actions.Target(entry.cluster.name, labels_of(entry.cluster.metadata_match) or None), entry.cluster.weight)
            for entry in target.weighted_clusters
        ]
        return actions.ForwardWeighted(weights, timeout, options)
    if target.cluster_name:
        return actions.Forward(target.cluster_name, timeout, options)
    if target.cluster_variable:
        return actions.ForwardByVariable(target.cluster_variable, timeout, options)
    return actions.ForwardByHeader(target.cluster_header, timeout, options)


def _options(route: RouteConfig, target: Action, changes: list[ChangeLevel]) -> actions.ForwardOptions:
    headers = _header_changes(changes)
    path = _path_rewrite(route.match, target)
    host_header = "" if target.host_rewrite else target.auto_host_rewrite_header
    has_changes = bool(headers or path or target.host_rewrite or host_header)
    retry = target.retry_policy
    return actions.ForwardOptions(
        labels_of(target.metadata_match) or None,
        RequestChanges(headers, path, target.host_rewrite, host_header) if has_changes else None,
        None if retry is None else _retry_policy(retry),
        [made for entry in target.hash_policy if (made := _hash_policy(entry)) is not None],
        [actions.Mirror(mirror.cluster, mirror.percent) for mirror in route.mirror_policies()],
        target.upstream_protocol,
        target.auto_host_rewrite and not target.host_rewrite and not host_header,
    )


def _retry_policy(config: RetryPolicyConfig) -> actions.RetryPolicy:
    statuses = frozenset(config.status_codes)
    conditions = None
    retries_on = config.retry_on
    if not isinstance(retries_on, bool):
        names = condition_names(retries_on)
        conditions = conditions_of(names, statuses)
        retries_on = bool(names)
    return actions.RetryPolicy(
        retries_on, config.num_retries, config.retry_timeout, statuses, config.retry_non_idempotent, conditions
    )


def _path_rewrite(match: RouteMatch, target: Action) -> PathRewrite | None:
    """prefix_rewrite wins, and needs a prefix or a path to replace; regex_rewrite works on any route."""
    if target.prefix_rewrite:
        if match.prefix:
            return PrefixRewrite(matchers.path_text(match.prefix), target.prefix_rewrite)
        return PrefixRewrite(b"", target.prefix_rewrite) if match.path else None
    rewrite = target.regex_rewrite
    if rewrite is None or not rewrite.pattern.regex:
        return None
    return RegexRewrite(rewrite.pattern.regex, rewrite.substitution)


def _hash_policy(config: HashPolicyConfig) -> HashPolicy | None:
    if config.header is not None:
        return HashHeader(config.header.key)
    if config.cookie is not None:
        cookie = config.cookie
        return HashCookie(cookie.name, cookie.path, cookie.ttl, bool(cookie.path) or cookie.ttl > 0)
    return HashSourceIp() if config.source_ip is not None else None
