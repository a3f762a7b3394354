"""Checks router tables: domains, matches, actions and references to clusters."""

import re
from collections.abc import Collection, Mapping

from pymosn.config.check.access_logs import check_switches
from pymosn.config.check.clusters import check_cluster_name
from pymosn.config.check.filters import check_route_settings
from pymosn.config.check.matches import check_match, check_variable_name, present
from pymosn.config.check.protocols import NO_CHOICE, check_protocol, clusters_of, protocols_of
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import (
    Redirect,
    Route,
    RouteAction,
    RouteMatch,
    RouterConfiguration,
    Server,
    VirtualHost,
)
from pymosn.config.schema.router import HeaderChanges, HeaderToAdd, RegexRewrite, RetryPolicy
from pymosn.core.addresses import port_number
from pymosn.core.authority import is_host, split_authority
from pymosn.core.headers import is_token, to_text
from pymosn.core.uri import has_dot_segment
from pymosn.routing.changes import ChangeLevel, HeaderAction, HeaderAddition
from pymosn.routing.regex import Replacement
from pymosn.routing.retries import CONDITIONS, STATUS_CODES, condition_names
from pymosn.upstream.way_out import WayOut

REDIRECT_CODES = (301, 302, 303, 307, 308)
NOT_FOUND_CODES = (404, 500, 503)
_HOST_STAYS = "has no effect on the host of a request, as in MOSN"
_CONNECT = ("", "terminate", "forward")
_NO_PREFIX = "has no effect on a route without prefix or path, as in MOSN; regex_rewrite works on any route"
_FATE = "requests are answered 404"
_NOT_REDIRECT_HOST = "not a host; an international name is written in its ASCII form (xn--), an IPv6 address in brackets"
_DOTS = "must not contain the segment `.` or `..`: a rewrite that climbs is answered with 400"
#: The value of `Path=` in a cookie (RFC 6265 section 4.1.1).
_COOKIE_PATH = re.compile(r"[ -:<-~]*")


def check_tables(
    server: Server, path: str, report: Diagnostics, clusters: Collection[str], ways: Mapping[str, WayOut]
) -> None:
    """Check all router tables of a server, including those in `connection_manager` filters.

    `ways`: how requests are sent to each cluster.
    """
    check_switches(server, path, report)
    seen: dict[str, str] = {}
    for table_path, table in server.all_tables(path):
        name = table.router_config_name
        if not name:
            report.odd(f"{table_path}.router_config_name", "a router table without a name is not used, as in MOSN")
        elif (earlier := seen.setdefault(name, table_path)) != table_path:
            message = f"replaces the router table of the same name in {report.line(earlier)}, as in MOSN"
            report.warning(f"{table_path}.router_config_name", message, name)
        check_table(table, table_path, report, clusters)
        _check_transcoded(table, table_path, report, protocols_of(server, name), ways)


def _check_transcoded(
    table: RouterConfiguration, path: str, report: Diagnostics, spoken: Collection[str], ways: Mapping[str, WayOut]
) -> None:
    """Check for options of a route that do not apply to transcoded requests."""
    for i, host in enumerate(table.virtual_hosts):
        for j, route in enumerate(host.routers):
            action = route.route
            protocol = _transcoded_to(action, spoken, ways) if action is not None else ""
            if action is None or not protocol:
                continue
            inner = f"{path}.virtual_hosts[{i}].routers[{j}]"
            if any(policy.cluster and policy.percent for policy in route.mirror_policies()):
                message = f"requests that are transcoded to {protocol} are not mirrored: not implemented"
                report.warning(f"{inner}.request_mirror_policies", message)
            if action.auto_host_rewrite:
                message = f"has no effect on requests that are transcoded to {protocol}"
                report.warning(f"{inner}.route.auto_host_rewrite", message)


def _transcoded_to(action: RouteAction, spoken: Collection[str], ways: Mapping[str, WayOut]) -> str:
    """The protocol that requests of some of the clients are transcoded to; empty if there is none."""
    for name in clusters_of(action):
        way = ways.get(name, NO_CHOICE)
        for client in sorted(spoken):
            protocol = way.protocol(action.upstream_protocol, client)
            if way.translates(protocol, client):
                return protocol
    return ""


def check_table(table: RouterConfiguration, path: str, report: Diagnostics, clusters: Collection[str]) -> None:
    """Check one table. `clusters`: the names of all clusters."""
    domains: dict[str, str] = {}
    _check_header_changes(table, path, report)
    for i, host in enumerate(table.virtual_hosts):
        inner = f"{path}.virtual_hosts[{i}]"
        _check_domains(host, inner, report, domains, bool(table.envoy_domains))
        _check_header_changes(host, inner, report)
        check_route_settings(host.per_filter_config, f"{inner}.per_filter_config", report)
        for j, route in enumerate(host.routers):
            _check_route(route, f"{inner}.routers[{j}]", report, clusters)


def _check_domains(host: VirtualHost, path: str, report: Diagnostics, seen: dict[str, str], is_envoy: bool) -> None:
    if not host.domains:
        report.warning(f"{path}.domains", "no domains: this virtual host never matches")
    for i, domain in enumerate(host.domains):
        inner = f"{path}.domains[{i}]"
        if fault := domain_fault(domain, is_envoy):
            report.error(inner, fault, domain)
            continue
        lowered = domain.lower()
        key = "*" if lowered == "*" or (lowered == "*:*" and not is_envoy) else lowered
        if (earlier := seen.setdefault(key, inner)) != inner:
            what = "default domain" if key == "*" else "domain"
            report.error(inner, f"duplicate {what}; first defined in {report.line(earlier)}", domain)


def domain_fault(domain: str, is_envoy: bool = False) -> str | None:
    """The error of a domain of a virtual host, None if it is valid. `is_envoy`: it may also end in `*`."""
    if is_envoy:
        if not domain:
            return "a domain must not be empty"
        return "`*` is only allowed at the start or at the end of a domain" if "*" in domain[1:-1] else None
    raw = domain.encode()
    parts = split_authority(raw)
    if not parts.host:
        return "a domain must not be empty"
    has_port = len(raw) > len(parts.host)
    if has_port and parts.port != b"*" and port_number(to_text(parts.port)) < 0:
        return "the port of a domain must be a number or *"
    if b"*" in parts.host[1:]:
        return "`*` is only allowed at the start of a domain"
    return None


def _check_route(route: Route, path: str, report: Diagnostics, clusters: Collection[str]) -> None:
    check_route_settings(route.per_filter_config, f"{path}.per_filter_config", report)
    check_match(route.match, f"{path}.match", report)
    # In the order of precedence in MOSN.
    actions = present(route, ("direct_response", "redirect", "route"), path, report, suffix="")
    if not actions and not report.has_bad_within(path):
        report.odd(path, "none of route, redirect and direct_response: requests are answered 404, as in MOSN")
    if route.redirect is not None:
        _check_redirect(route, route.redirect, f"{path}.redirect", report)
    check_additions(route.response_headers_to_add, f"{path}.response_headers_to_add", "response", report)
    _check_removals(route.response_headers_to_remove, f"{path}.response_headers_to_remove", "response", report)
    if route.direct_response is not None:
        _check_status(route.direct_response.status, f"{path}.direct_response.status", report)
    if route.route is not None and actions[0] == "route":
        _check_target(route, route.route, f"{path}.route", report, clusters)
        _check_mirrors(route, f"{path}.request_mirror_policies", report, clusters)


def _check_status(status: int, path: str, report: Diagnostics) -> None:
    """Check the status of a direct response."""
    if status <= 0:
        report.odd(path, "no status: the response has 200, as in MOSN", status)
    elif 600 <= status <= 999:
        report.odd(path, "not a status of HTTP; sent as it is, as in MOSN", status)
    elif not 200 <= status <= 599:
        report.error(path, "must be a status code from 200 to 599", status)


def _check_mirrors(route: Route, path: str, report: Diagnostics, clusters: Collection[str]) -> None:
    many = isinstance(route.request_mirror_policies, list)
    for i, policy in enumerate(route.mirror_policies()):
        inner = f"{path}[{i}]" if many else path
        if policy.cluster or policy.percent:
            check_cluster_name(policy.cluster, f"{inner}.cluster", report, clusters, "nothing is mirrored")


def _check_redirect(route: Route, redirect: Redirect, path: str, report: Diagnostics) -> None:
    if redirect.response_code == 0:
        report.odd(f"{path}.response_code", "no status: the response has 301, as in MOSN", 0)
    elif redirect.response_code not in REDIRECT_CODES:
        codes = ", ".join(map(str, REDIRECT_CODES))
        report.error(f"{path}.response_code", f"must be one of {codes}", redirect.response_code)
    scheme = redirect.scheme_redirect
    if scheme and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        report.error(f"{path}.scheme_redirect", "not a URL scheme", scheme)
    if redirect.host_redirect and not is_host(redirect.host_redirect.encode()):
        report.error(f"{path}.host_redirect", _NOT_REDIRECT_HOST, redirect.host_redirect)
    if redirect.path_redirect and not redirect.path_redirect.startswith("/"):
        report.warning(f"{path}.path_redirect", "a slash is put before it, as in MOSN", redirect.path_redirect)
    present(redirect, ("path_redirect", "prefix_rewrite", "regex_rewrite"), path, report, suffix="")
    if redirect.prefix_rewrite and not _has_prefix(route.match):
        report.warning(f"{path}.prefix_rewrite", _NO_PREFIX, redirect.prefix_rewrite)
    _check_replacement(redirect.regex_rewrite, f"{path}.regex_rewrite", report)


def _check_target(route: Route, action: RouteAction, path: str, report: Diagnostics, clusters: Collection[str]) -> None:
    if action.upstream_protocol:
        fate = "requests are answered 502, as in MOSN"
        check_protocol(action.upstream_protocol, f"{path}.upstream_protocol", report, fate)
    if action.connect not in _CONNECT:
        report.error(f"{path}.connect", "must be terminate or forward", action.connect, _CONNECT)
    if action.weighted_clusters:
        _check_weighted(action, path, report, clusters)
    elif action.cluster_name:
        check_cluster_name(action.cluster_name, f"{path}.cluster_name", report, clusters, _FATE)
    elif action.cluster_variable:
        check_variable_name(action.cluster_variable, f"{path}.cluster_variable", report)
    elif not action.cluster_header:
        report.odd(f"{path}.cluster_name", "no cluster_name or weighted_clusters: requests are answered 404, as in MOSN")
    _check_retries(action.retry_policy, f"{path}.retry_policy", report)
    _check_rewrites(route.match, action, path, report)
    _check_header_changes(action, path, report)
    _check_hash_policies(action, path, report)
    if action.no_timeout and action.timeout not in (0.0, RouteAction().timeout):
        report.warning(f"{path}.timeout", "has no effect together with no_timeout")
    if action.cluster_not_found_response_code not in NOT_FOUND_CODES:
        codes = ", ".join(map(str, NOT_FOUND_CODES))
        at = f"{path}.cluster_not_found_response_code"
        report.error(at, f"must be one of {codes}", action.cluster_not_found_response_code)


def _check_retries(policy: RetryPolicy | None, path: str, report: Diagnostics) -> None:
    """Check the conditions and pauses of a retry policy."""
    if policy is None:
        return
    pause = policy.retry_back_off
    if pause is not None and pause.base_interval <= 0:
        report.error(f"{path}.retry_back_off.base_interval", "must be positive")
    elif pause is not None and 0 < pause.max_interval < pause.base_interval:
        report.error(f"{path}.retry_back_off.max_interval", "must not be less than base_interval")
    if isinstance(policy.retry_on, bool):
        return
    for name in condition_names(policy.retry_on):
        if name not in CONDITIONS:
            report.error(f"{path}.retry_on", "unknown condition", name, CONDITIONS)
        elif name == STATUS_CODES and not policy.status_codes:
            report.warning(f"{path}.retry_on", f"{name} has no effect without status_codes", name)


def _check_weighted(action: RouteAction, path: str, report: Diagnostics, clusters: Collection[str]) -> None:
    if action.cluster_name:
        report.warning(f"{path}.cluster_name", "has no effect together with weighted_clusters, as in MOSN")
    for i, entry in enumerate(action.weighted_clusters):
        inner = f"{path}.weighted_clusters[{i}].cluster"
        cluster = entry.cluster
        check_cluster_name(cluster.name, f"{inner}.name", report, clusters, _FATE)
        _check_header_changes(cluster, inner, report)
        check_route_settings(cluster.per_filter_config, f"{inner}.per_filter_config", report)
        if cluster.host_rewrite and not is_host(cluster.host_rewrite.encode()):
            report.error(f"{inner}.host_rewrite", "not a host", cluster.host_rewrite)
    if not sum(entry.cluster.weight for entry in action.weighted_clusters):
        report.error(f"{path}.weighted_clusters", "the weights must not all be 0")


def _check_rewrites(match: RouteMatch, action: RouteAction, path: str, report: Diagnostics) -> None:
    """Check prefix_rewrite, regex_rewrite and host_rewrite of a route."""
    if action.prefix_rewrite and not _has_prefix(match):
        report.warning(f"{path}.prefix_rewrite", _NO_PREFIX, action.prefix_rewrite)
    if has_dot_segment(f"/{action.prefix_rewrite}".encode()):
        report.error(f"{path}.prefix_rewrite", _DOTS, action.prefix_rewrite)
    rewrite = action.regex_rewrite
    if rewrite is not None and action.prefix_rewrite:
        report.warning(f"{path}.regex_rewrite", "has no effect together with prefix_rewrite, as in MOSN")
    else:
        _check_replacement(rewrite, f"{path}.regex_rewrite", report)
    _check_replacement(action.host_rewrite_path_regex, f"{path}.host_rewrite_path_regex", report)
    if action.host_rewrite and not is_host(action.host_rewrite.encode()):
        report.error(f"{path}.host_rewrite", "not a host", action.host_rewrite)
    hosts = ("host_rewrite", "auto_host_rewrite_header", "auto_host_rewrite", "host_rewrite_path_regex")
    present(action, hosts, path, report)


def _has_prefix(match: RouteMatch) -> bool:
    """Whether a part of the path has matched that can be replaced."""
    return bool(match.prefix or match.path or (not match.regex and (match.path_separated_prefix or match.path_regex)))


def _check_replacement(rewrite: RegexRewrite | None, path: str, report: Diagnostics) -> None:
    if rewrite is None or not rewrite.pattern.regex:
        return
    regex, substitution = rewrite.pattern.regex, rewrite.substitution
    report.attempt(path, Replacement, regex, substitution, prefix="cannot be used: ")
    if has_dot_segment(substitution.encode()):
        report.error(f"{path}.substitution", _DOTS, substitution)


def _check_header_changes(level: HeaderChanges, path: str, report: Diagnostics) -> None:
    """Check the header changes of a route, a virtual host or a table."""
    for side in ("request", "response"):
        to_add, to_remove = f"{side}_headers_to_add", f"{side}_headers_to_remove"
        check_additions(getattr(level, to_add), f"{path}.{to_add}", side, report)
        _check_removals(getattr(level, to_remove), f"{path}.{to_remove}", side, report)


def check_additions(entries: list[HeaderToAdd], path: str, side: str, report: Diagnostics) -> None:
    """Check headers to add to a `request` or `response`."""
    for i, entry in enumerate(entries):
        inner = f"{path}[{i}].header"
        header = entry.header
        if side == "request" and header.key.lower() == "host":
            report.odd(f"{inner}.key", f"{_HOST_STAYS}; use host_rewrite", header.key)
        elif entry.append_action:
            report.attempt(inner, HeaderAction, header.key, header.value, entry.append_action, entry.keep_empty_value)
        else:
            report.attempt(inner, HeaderAddition, header.key, header.value, entry.append)


def _check_removals(names: list[str], path: str, side: str, report: Diagnostics) -> None:
    for i, name in enumerate(names):
        if side == "request" and name.lower() == "host":
            report.odd(f"{path}[{i}]", _HOST_STAYS, name)
        elif not is_token(name.encode(errors="replace")):
            report.odd(f"{path}[{i}]", "no header has this name: has no effect, as in MOSN", name)
        else:
            report.attempt(f"{path}[{i}]", ChangeLevel, [], [name])


def _check_hash_policies(action: RouteAction, path: str, report: Diagnostics) -> None:
    """Check that each entry has one source, and that its cookie is valid."""
    for i, entry in enumerate(action.hash_policy):
        inner = f"{path}.hash_policy[{i}]"
        if entry.header is not None:
            _check_replacement(entry.header.regex_rewrite, f"{inner}.header.regex_rewrite", report)
        if not present(entry, ("header", "cookie", "source_ip", "query_parameter"), inner, report):
            report.odd(inner, "has no effect without header, cookie, source_ip or query_parameter")
        if entry.query_parameter is not None and not entry.query_parameter.name:
            report.error(f"{inner}.query_parameter.name", "missing parameter name")
        if entry.header is not None and not entry.header.key:
            report.odd(f"{inner}.header.key", "missing header name: no request has a value, as in MOSN")
        cookie = entry.cookie
        if cookie is not None:
            if not is_token(cookie.name.encode(errors="replace")):
                # As a new cookie it could not be sent.
                say = report.error if cookie.path or cookie.ttl or cookie.generate else report.odd
                say(f"{inner}.cookie.name", "not a cookie name: no request has it", cookie.name)
            if not _COOKIE_PATH.fullmatch(cookie.path):
                report.error(f"{inner}.cookie.path", "not a cookie path", cookie.path)
            for j, attribute in enumerate(cookie.attributes):
                if not is_token(attribute.name.encode(errors="replace")):
                    report.error(f"{inner}.cookie.attributes[{j}].name", "not a name", attribute.name)
                if not _COOKIE_PATH.fullmatch(attribute.value):
                    report.error(f"{inner}.cookie.attributes[{j}].value", "not a value of a cookie", attribute.value)
