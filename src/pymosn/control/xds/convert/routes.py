"""Route tables: RouteConfiguration -> a router table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pymosn.assembly.routes import clusters_in
from pymosn.config.check.routes import check_table
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Redirect, Route, RouteMatch, RouterConfiguration, VirtualHost
from pymosn.config.schema.router import DirectResponse, HeaderPair, HeaderToAdd, MirrorPolicy, RetryPolicy
from pymosn.control.xds.convert import route_actions, route_headers, values
from pymosn.control.xds.convert.filters import ROUTE_READERS as READERS
from pymosn.control.xds.convert.route_filters import filter_settings
from pymosn.control.xds.convert.route_matches import route_match
from pymosn.control.xds.convert.route_rates import RATE_LIMIT, rate_limits
from pymosn.control.xds.convert.route_settings import SettingsReader
from pymosn.control.xds.convert.view import View
from pymosn.filters.settings import HeaderMatch, StringMatch

#: Longest body of a direct response, unless the table has a limit of its own.
_LONGEST_BODY = 4096
_STATUSES: Mapping[str, int] = {
    "MOVED_PERMANENTLY": 301,
    "FOUND": 302,
    "SEE_OTHER": 303,
    "TEMPORARY_REDIRECT": 307,
    "PERMANENT_REDIRECT": 308,
}


#: Added to responses of hosts.
_ATTEMPTS = HeaderToAdd(
    header=HeaderPair(key="x-envoy-attempt-count", value="%attempts%"), append_action="OVERWRITE_IF_EXISTS_OR_ADD"
)


class _Inherited(NamedTuple):
    """What a level passes on to the levels inside."""

    readers: Mapping[str, SettingsReader]
    longest_body: int
    mirrors: list[MirrorPolicy]
    settings: dict[str, Any]
    retries: RetryPolicy | None = None
    shows_attempts: bool = False


def convert_routes(view: View, name: str, readers: Mapping[str, SettingsReader] = READERS) -> RouterConfiguration:
    """The router table of a RouteConfiguration, called `name`. `readers`: of settings of filters."""
    with view:
        made = RouterConfiguration(router_config_name=name, remove_headers_first=True)
        view.value("name")
        view.refuse("vhds", "virtual hosts on demand are not supported")
        route_headers.read_changes(view, made)
        made.most_specific_header_mutations_wins = view.value("most_specific_header_mutations_wins")
        made.envoy_domains = "any_port" if view.value("ignore_port_in_host_matching") else "with_port"
        longest = view.wrapped("max_direct_response_body_size_bytes")
        inherited = _Inherited(
            readers,
            _LONGEST_BODY if longest is None else longest,
            route_actions.mirror_policies(view),
            filter_settings(view, "typed_per_filter_config", readers),
        )
        hosts = view.items("virtual_hosts")
        secure = [_needs_tls(item) for item in hosts]
        made.virtual_hosts = [_virtual_host(item, inherited) for item in hosts]
    if not view.report.faults:
        _check(made, view)
        for host, secured in zip(made.virtual_hosts, secure, strict=True):
            if secured:
                host.routers.insert(0, _to_https())
    return made


def _check(table: RouterConfiguration, view: View) -> None:
    """Finds what is wrong with the table as a whole, such as a domain that occurs twice."""
    faults = Diagnostics(strict=True)
    check_table(table, "", faults, clusters_in(table))
    for item in faults.items:
        if item.severity == "error":
            path = item.path.lstrip(".").replace(".routers[", ".routes[")
            view.report.fault(path, item.message if item.value is None else f"{item.message}: {item.value}")


def _virtual_host(view: View, outer: _Inherited) -> VirtualHost:
    with view:
        made = VirtualHost(name=view.value("name"), domains=view.values("domains"))
        if not made.domains:
            view.fault("domains", "must not be empty")
        view.refuse("matcher", "match trees are not supported")
        view.refuse("hedge_policy", "hedging is not supported")
        view.refuse("retry_policy_typed_config", "retry policies of extensions are not supported")
        route_headers.read_changes(view, made)
        made.include_request_attempt_count = view.value("include_request_attempt_count")
        if view.value("include_is_timeout_retry_header"):
            view.warn("include_is_timeout_retry_header", "not supported; the header is not sent")
        made.per_filter_config = {**outer.settings, **_filters(view, outer), **_legacy_cors(view, outer)}
        limits = rate_limits(view)
        if limits:
            made.per_filter_config[RATE_LIMIT] = {"rate_limits": limits}
        retries = view.inner("retry_policy")
        inherited = outer._replace(
            mirrors=route_actions.mirror_policies(view) or outer.mirrors,
            retries=None if retries is None else route_actions.retry_policy(retries),
            settings=made.per_filter_config,
            shows_attempts=view.value("include_attempt_count_in_response"),
        )
        made.routers = [_route(item, inherited) for item in view.items("routes")]
    return made


def _needs_tls(view: View) -> bool:
    """Whether a virtual host redirects plaintext requests."""
    demand = view.enum("require_tls")
    if demand not in ("NONE", "ALL"):
        view.fault("require_tls", f"{demand} is not supported: what is external is not known here")
    return demand == "ALL"


def _to_https() -> Route:
    """The route that redirects plaintext requests."""
    is_plain = HeaderMatch(name=":scheme", string_match=StringMatch(exact="https"), invert_match=True)
    return Route(name="require_tls", match=RouteMatch(headers=[is_plain]), redirect=Redirect(scheme_redirect="https"))


def _filters(view: View, outer: _Inherited) -> dict[str, Any]:
    return filter_settings(view, "typed_per_filter_config", outer.readers)


def _legacy_cors(view: View, outer: _Inherited) -> dict[str, Any]:
    """The field `cors`, which was replaced by settings of the filter."""
    policy = view.inner("cors")
    if policy is None:
        return {}
    reader = outer.readers.get(policy.type_name)
    if reader is None:
        view.fault("cors", "not supported")
        return {}
    settings = reader(policy)
    return {} if settings is None else {settings.name: settings.value}


def _route(view: View, outer: _Inherited) -> Route:
    with view:
        made = Route(name=view.value("name"))
        match = view.inner("match")
        if match is None:
            view.fault("match", "missing")
        else:
            made.match = route_match(match)
        made.per_filter_config = _filters(view, outer)
        kind = view.which("action")
        action = view.inner(kind) if kind in ("route", "redirect", "direct_response") else None
        if action is None:
            view.refuse(kind or "action", "only the actions route, redirect and direct_response are supported")
            if not kind:
                view.fault("", "expected one of route, redirect, direct_response")
            return made
        if kind == "route":
            _forward(action, view, made, outer)
            return made
        # What a local reply cannot use is read all the same, so that it is checked.
        route_headers.additions(view, "request_headers_to_add")
        route_headers.removals(view, "request_headers_to_remove")
        made.response_headers_to_add = route_headers.additions(view, "response_headers_to_add")
        made.response_headers_to_remove = route_headers.removals(view, "response_headers_to_remove")
        if kind == "redirect":
            made.redirect = _redirect(action)
        else:
            made.direct_response = _direct_response(action, outer.longest_body)
    return made


def _forward(action: View, view: View, made: Route, outer: _Inherited) -> None:
    with action:
        made.route = target = route_actions.route_action(action, made.match)
        route_headers.read_changes(view, target)
        if outer.shows_attempts:
            target.response_headers_to_add.append(_ATTEMPTS)
        for entry, settings in route_actions.weighted_settings(action, outer.readers):
            target.weighted_clusters.append(entry)
            entry.cluster.per_filter_config = settings
        target.retry_policy = target.retry_policy or outer.retries
        mirrors = route_actions.mirror_policies(action) or outer.mirrors
        made.request_mirror_policies = mirrors or None
        made.per_filter_config.update(_legacy_cors(action, outer))
        limits = rate_limits(action)
        includes_outer = action.wrapped("include_vh_rate_limits") or False
        if limits:
            inherited = outer.settings.get(RATE_LIMIT, {}).get("rate_limits", []) if includes_outer else []
            made.per_filter_config[RATE_LIMIT] = {"rate_limits": [*limits, *inherited]}


def _redirect(view: View) -> Redirect:
    with view:
        made = Redirect(
            host_redirect=view.line("host_redirect"),
            port_redirect=view.value("port_redirect"),
            strip_query=view.value("strip_query"),
            response_code=_STATUSES.get(view.enum("response_code"), 0),
        )
        if not made.response_code:
            view.fault("response_code", f"unknown code {view.enum('response_code')}")
        if view.value("https_redirect"):
            made.scheme_redirect = "https"
        made.scheme_redirect = view.value("scheme_redirect") or made.scheme_redirect
        made.path_redirect = view.line("path_redirect")
        made.prefix_rewrite = view.line("prefix_rewrite")
        rewrite = view.inner("regex_rewrite")
        if rewrite is not None:
            made.regex_rewrite = route_actions.regex_rewrite(rewrite)
        if made.port_redirect > 65535:
            view.fault("port_redirect", f"must be at most 65535, got {made.port_redirect}")
    return made


def _direct_response(view: View, longest: int) -> DirectResponse:
    with view:
        made = DirectResponse(status=view.value("status"))
        if not 200 <= made.status <= 599:
            view.fault("status", f"must be a status code from 200 to 599, got {made.status}")
        view.refuse("body_format", "formats of bodies are not supported")
        body = view.inner("body")
        if body is not None:
            made.body = values.inline_text(body)
            if len(made.body.encode()) > longest:
                view.fault("body", f"longer than {longest} bytes (max_direct_response_body_size_bytes)")
    return made
