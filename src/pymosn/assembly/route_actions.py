"""Builds the run-time actions of routes from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymosn.api.routing import Route, RouteAction, RouteMatcher
from pymosn.assembly.clusters import labels_of
from pymosn.assembly.header_changes import Changes
from pymosn.config.schema import Redirect as RedirectConfig
from pymosn.config.schema import Route as RouteConfig
from pymosn.config.schema import RouteAction as Action
from pymosn.config.schema import RouteMatch
from pymosn.config.schema.router import HashCookie as HashCookieConfig
from pymosn.config.schema.router import HashPolicy as HashPolicyConfig
from pymosn.config.schema.router import RegexRewrite as RegexRewriteConfig
from pymosn.config.schema.router import RetryPolicy as RetryPolicyConfig
from pymosn.config.schema.router import WeightedTarget
from pymosn.config.typed import typed
from pymosn.core.failure import CLUSTER_UNKNOWN, CLUSTER_UNKNOWN_500, CLUSTER_UNKNOWN_503, Failure
from pymosn.filters.stream.shipped import route_spec, switch_of
from pymosn.observe.access_log import SWITCHES
from pymosn.routing import actions, matchers
from pymosn.routing.envoy_hashing import EnvoyCookie, EnvoyHeader, EnvoyPolicy, EnvoyQuery, EnvoySourceIp
from pymosn.routing.hashing import EnvoyHash, HashCookie, HashHeader, HashPolicy, HashQuery, HashSourceIp
from pymosn.routing.regex import Replacement
from pymosn.routing.retries import condition_names, conditions_of
from pymosn.routing.rewrites import PathRewrite, PrefixRewrite, RegexRewrite, RequestChanges
from pymosn.stream.http.options import CONNECT_MODES

_UNKNOWN: Final[Mapping[int, Failure]] = {500: CLUSTER_UNKNOWN_500, 503: CLUSTER_UNKNOWN_503}
#: The longest pause before a retry, as a multiple of the first.
_PAUSES: Final = 10


class RouteParts:
    """What a route is built from, besides its action."""

    def __init__(
        self, name: str, config: RouteConfig, matcher: RouteMatcher, filters: dict[str, object], counts_attempts: bool
    ) -> None:
        """`filters`: `per_filter_config` in its run-time form. `counts_attempts`: the virtual host's."""
        self.name = name
        self.config = config
        self.matcher = matcher
        self.filters = filters
        self.counts_attempts = counts_attempts

    def route(self, action: RouteAction, changes: Changes, filters: dict[str, object]) -> Route:
        """The route with an action."""
        return Route(self.name, self.matcher, action, changes.on_responses(), filters or None, self.config.name)


def filter_settings(config: dict[str, object]) -> dict[str, object]:
    """`per_filter_config`, with the settings of shipped filters in their run-time form; those with a name enable it."""
    made: dict[str, object] = {f"/{name}": True for key in config if (name := key.partition("/")[2])}
    made |= config
    made.pop(SWITCHES, None)
    for name, value in config.items():
        if name.startswith("/"):
            made[name] = switch_of(name, value)
            continue
        spec = route_spec(name, value)
        if spec is not None:
            made[name] = spec.make(typed(value, spec.settings))
    return made


def build_route(parts: RouteParts, changes: Changes) -> Route:
    """The run-time form of a route. The first of direct_response, redirect and route wins, as in MOSN."""
    config = parts.config
    direct = config.direct_response
    if direct is not None:
        return parts.route(
            actions.DirectResponse(direct.status if direct.status > 0 else 200, direct.body), changes, parts.filters
        )
    if config.redirect is not None:
        return parts.route(_redirect(config.match, config.redirect), changes, parts.filters)
    return parts.route(_forward(parts, config.route or Action(), changes), changes, parts.filters)


def _redirect(match: RouteMatch, redirect: RedirectConfig) -> actions.Redirect:
    return actions.Redirect(
        redirect.response_code or 301,
        redirect.scheme_redirect.lower(),
        redirect.host_redirect,
        redirect.path_redirect,
        port=redirect.port_redirect,
        rewrite=_path_rewrite(match, redirect.prefix_rewrite, redirect.regex_rewrite),
        strips_query=redirect.strip_query,
    )


def _forward(parts: RouteParts, target: Action, changes: Changes) -> actions.Forward:
    has_none = target.no_timeout or target.timeout < 0
    timeout = actions.NO_TIMEOUT if has_none else target.timeout or actions.DEFAULT_TIMEOUT
    options = _options(parts, target, changes, target.host_rewrite)
    if target.weighted_clusters:
        weights = [
            (_target(parts, target, entry.cluster, changes, timeout), entry.cluster.weight)
            for entry in target.weighted_clusters
        ]
        return actions.ForwardWeighted(weights, timeout, options, target.weighted_header)
    if target.cluster_name:
        return actions.Forward(target.cluster_name, timeout, options)
    if target.cluster_variable:
        return actions.ForwardByVariable(target.cluster_variable, timeout, options)
    if target.cluster_header:
        return actions.ForwardByHeader(target.cluster_header, timeout, options)
    return actions.Forward("", timeout, options)  # unknown: 404


def _target(parts: RouteParts, action: Action, cluster: WeightedTarget, changes: Changes, timeout: float) -> actions.Target:
    """One of several clusters. Its labels replace those of the route, even if it has none."""
    subset = labels_of(cluster.metadata_match) or None
    own = changes.within(cluster)
    if own == changes and not cluster.host_rewrite and not cluster.per_filter_config:
        return actions.Target(cluster.name, subset)
    options = _options(parts, action, own, cluster.host_rewrite or action.host_rewrite)
    filters = {**parts.filters, **filter_settings(cluster.per_filter_config)}
    route = parts.route(actions.Forward(cluster.name, timeout, options), own, filters)
    return actions.Target(cluster.name, subset, route)


def _options(parts: RouteParts, target: Action, changes: Changes, host: str) -> actions.ForwardOptions:
    """`host`: to which the request's is rewritten, if not empty."""
    host_header = "" if host else target.auto_host_rewrite_header
    return actions.ForwardOptions(
        labels_of(target.metadata_match) or None,
        _request_changes(parts, target, changes, host, host_header),
        None if target.retry_policy is None else _retry_policy(target.retry_policy, target.timeout >= 0),
        _hash_policies(target),
        [
            actions.Mirror(mirror.cluster, mirror.percent, mirror.shadow_host_suffix)
            for mirror in parts.config.mirror_policies()
        ],
        target.upstream_protocol,
        target.auto_host_rewrite and not host and not host_header,
        idle_timeout=0.0 if target.idle_timeout is None else target.idle_timeout or actions.NO_TIMEOUT,
        longest_exchange=actions.NO_TIMEOUT if target.max_stream_duration == 0.0 else target.max_stream_duration or 0.0,
        longest_call=target.max_grpc_timeout,
        unknown_cluster=_UNKNOWN.get(target.cluster_not_found_response_code, CLUSTER_UNKNOWN),
        connect=CONNECT_MODES.get(target.connect, b""),
    )


def _request_changes(
    parts: RouteParts, target: Action, changes: Changes, host: str, host_header: str
) -> RequestChanges | None:
    headers = changes.on_requests()
    path = _path_rewrite(parts.config.match, target.prefix_rewrite, target.regex_rewrite)
    from_path = None if host or host_header else _regex_rewrite(target.host_rewrite_path_regex)
    if not (headers or path or host or host_header or from_path or parts.counts_attempts or target.append_x_forwarded_host):
        return None
    return RequestChanges(
        headers,
        path,
        host,
        host_header,
        host_from_path=from_path,
        appends_host=target.append_x_forwarded_host,
        counts_attempts=parts.counts_attempts,
    )


def _retry_policy(config: RetryPolicyConfig, limits_attempts: bool) -> actions.RetryPolicy:
    """`limits_attempts`: whether `retry_timeout` has an effect; in MOSN it has not with a negative timeout."""
    statuses = frozenset(config.status_codes)
    conditions = None
    retries_on = config.retry_on
    if not isinstance(retries_on, bool):
        names = condition_names(retries_on)
        conditions = conditions_of(names, statuses)
        retries_on = bool(names)
    pause = config.retry_back_off
    first = 0.0 if pause is None else pause.base_interval
    return actions.RetryPolicy(
        retries_on,
        config.num_retries,
        config.retry_timeout if limits_attempts else 0.0,
        statuses,
        config.retry_non_idempotent,
        conditions,
        first_pause=first,
        longest_pause=first * _PAUSES if pause is None or not pause.max_interval else pause.max_interval,
    )


def _path_rewrite(match: RouteMatch, prefix_rewrite: str, regex_rewrite: RegexRewriteConfig | None) -> PathRewrite | None:
    """prefix_rewrite wins, and needs something to replace; regex_rewrite works on any route."""
    if not prefix_rewrite:
        return _regex_rewrite(regex_rewrite)
    # The order in which `route_matcher` decides.
    if match.prefix or (match.path_separated_prefix and not match.path and not match.regex):
        prefix = matchers.path_text(match.prefix or match.path_separated_prefix)
        return PrefixRewrite(prefix, prefix_rewrite, match.case_sensitive is False)
    return PrefixRewrite(b"", prefix_rewrite) if match.path or (match.path_regex and not match.regex) else None


def _regex_rewrite(rewrite: RegexRewriteConfig | None) -> RegexRewrite | None:
    if rewrite is None or not rewrite.pattern.regex:
        return None
    return RegexRewrite(rewrite.pattern.regex, rewrite.substitution)


def _replacement(rewrite: RegexRewriteConfig | None) -> Replacement | None:
    return None if rewrite is None else Replacement(rewrite.pattern.regex, rewrite.substitution)


def _hash_policies(target: Action) -> list[HashPolicy]:
    if not target.hash_function:
        return [made for entry in target.hash_policy if (made := _hash_policy(entry)) is not None]
    policies = [policy for entry in target.hash_policy if (policy := _envoy_policy(entry)) is not None]
    return [EnvoyHash(policies)] if policies else []


def _makes_cookie(config: HashCookieConfig) -> bool:
    """Whether clients without the cookie get one."""
    return config.generate or bool(config.path) or config.ttl > 0


def _further_attributes(config: HashCookieConfig) -> str:
    """Those that the configuration lists."""
    written = ""
    for attribute in config.attributes:
        written += f"; {attribute.name}={attribute.value}" if attribute.value else f"; {attribute.name}"
    return written


def _envoy_policy(config: HashPolicyConfig) -> EnvoyPolicy | None:
    made: EnvoyPolicy
    if config.header is not None:
        made = EnvoyHeader(config.header.key, _replacement(config.header.regex_rewrite))
    elif config.cookie is not None:
        made = _envoy_cookie(config.cookie)
    elif config.source_ip is not None:
        made = EnvoySourceIp()
    elif config.query_parameter is not None:
        made = EnvoyQuery(config.query_parameter.name)
    else:
        return None
    made.is_terminal = config.terminal
    return made


def _envoy_cookie(config: HashCookieConfig) -> EnvoyCookie:
    attributes = f"; Max-Age={max(1, round(config.ttl))}" if config.ttl > 0 else ""
    if config.path:
        attributes += f"; Path={config.path}"
    return EnvoyCookie(config.name, _makes_cookie(config), f"{attributes}{_further_attributes(config)}; HttpOnly")


def _hash_policy(config: HashPolicyConfig) -> HashPolicy | None:
    made: HashPolicy
    if config.header is not None:
        made = HashHeader(config.header.key, _replacement(config.header.regex_rewrite))
    elif config.cookie is not None:
        cookie = config.cookie
        made = HashCookie(cookie.name, cookie.path, cookie.ttl, _makes_cookie(cookie), _further_attributes(cookie))
    elif config.source_ip is not None:
        made = HashSourceIp()
    elif config.query_parameter is not None:
        made = HashQuery(config.query_parameter.name)
    else:
        return None
    made.is_terminal = config.terminal
    return made
