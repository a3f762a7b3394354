"""What a route does with a request: RouteAction -> the `route` of a route, with its clusters, retries and copies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymosn.config.schema import RouteAction, RouteMatch
from pymosn.config.schema.router import (
    BackOff,
    CookieAttribute,
    FilterMetadata,
    HashCookie,
    HashHeader,
    HashPolicy,
    HashQueryParameter,
    Metadata,
    MirrorPolicy,
    RegexPattern,
    RegexRewrite,
    RetryPolicy,
    WeightedCluster,
    WeightedTarget,
)
from pymosn.control.xds.convert import route_headers, values
from pymosn.control.xds.convert.labels import read_labels
from pymosn.control.xds.convert.route_filters import filter_settings
from pymosn.control.xds.convert.route_settings import SettingsReader
from pymosn.control.xds.convert.view import View
from pymosn.routing.retries import CONDITIONS, STATUS_CODES, condition_names

#: Seconds of a route that does not say anything about its timeout.
_TIMEOUT: Final = 15.0
_NOT_FOUND: Final[Mapping[str, int]] = {"SERVICE_UNAVAILABLE": 503, "NOT_FOUND": 404, "INTERNAL_SERVER_ERROR": 500}
_REFUSED: Final[Mapping[str, str]] = {
    "hedge_policy": "hedging is not supported",
    "internal_redirect_policy": "internal redirects are not supported",
    "internal_redirect_action": "internal redirects are not supported",
    "path_rewrite_policy": "rewrites of extensions are not supported",
    "retry_policy_typed_config": "retry policies of extensions are not supported",
    "cluster_specifier_plugin": "plugins that choose the cluster are not supported",
    "inline_cluster_specifier_plugin": "plugins that choose the cluster are not supported",
}


def route_action(view: View, match: RouteMatch) -> RouteAction:
    """A RouteAction, except for what `weighted_settings`, `mirror_policies` and the caller read. Does not close `view`."""
    made = RouteAction()
    for name, why in _REFUSED.items():
        view.refuse(name, why)
    made.cluster_name = view.value("cluster")
    made.cluster_header = view.value("cluster_header")
    if made.cluster_header.startswith(":"):
        view.fault("cluster_header", "parts of a request cannot name the cluster")
    if not view.which("cluster_specifier"):
        view.fault("", "expected one of cluster, cluster_header, weighted_clusters")
    code = view.enum("cluster_not_found_response_code")
    made.cluster_not_found_response_code = _NOT_FOUND.get(code, 503)
    made.metadata_match = _labels(view)
    made.weighted_header = str(view.message.weighted_clusters.header_name)
    if view.enum("priority") != "DEFAULT":
        view.warn("priority", "not supported; the limits of the default priority apply")
    _read_times(view, made)
    _read_rewrites(view, match, made)
    made.hash_policy = [entry for item in view.items("hash_policy") if (entry := _hash_policy(item)) is not None]
    if made.hash_policy:
        made.hash_function = "XX_HASH"
    retries = view.inner("retry_policy")
    made.retry_policy = None if retries is None else retry_policy(retries)
    ends = [_read_upgrade(item) for item in view.items("upgrade_configs")]
    if match.connect:
        made.connect = "terminate" if any(ends) else "forward"
    return made


def _labels(view: View) -> Metadata | None:
    subset = read_labels(view.inner("metadata_match")).subset
    return Metadata(filter_metadata=FilterMetadata(mosn_lb=subset)) if subset else None


def _read_times(view: View, made: RouteAction) -> None:
    timeout = view.seconds("timeout")
    made.timeout = _TIMEOUT if timeout is None else timeout
    made.no_timeout = timeout == 0.0
    made.idle_timeout = view.seconds("idle_timeout")
    made.max_grpc_timeout = view.seconds("max_grpc_timeout") or 0.0
    limits = view.inner("max_stream_duration")
    if limits is not None:
        with limits:
            made.max_stream_duration = limits.seconds("max_stream_duration")
            made.max_grpc_timeout = limits.seconds("grpc_timeout_header_max") or made.max_grpc_timeout


def _read_rewrites(view: View, match: RouteMatch, made: RouteAction) -> None:
    made.prefix_rewrite = view.line("prefix_rewrite")
    rewrite = view.inner("regex_rewrite")
    if rewrite is not None:
        if made.prefix_rewrite:
            view.fault("regex_rewrite", "not valid together with prefix_rewrite")
        made.regex_rewrite = regex_rewrite(rewrite)
    elif made.prefix_rewrite and not (match.prefix or match.path or match.path_separated_prefix or match.path_regex):
        if match.connect:
            view.fault("prefix_rewrite", "CONNECT has no path")
        # The empty prefix: the replacement comes before the path.
        text = re.sub(r"([$\\])", r"\1\1", made.prefix_rewrite)
        made.regex_rewrite = RegexRewrite(pattern=RegexPattern(regex=r"\A"), substitution=text)
        made.prefix_rewrite = ""
    made.host_rewrite = view.value("host_rewrite_literal")
    made.auto_host_rewrite = view.wrapped("auto_host_rewrite") or False
    made.auto_host_rewrite_header = view.value("host_rewrite_header")
    from_path = view.inner("host_rewrite_path_regex")
    if from_path is not None:
        made.host_rewrite_path_regex = regex_rewrite(from_path)
    made.append_x_forwarded_host = view.value("append_x_forwarded_host")


def regex_rewrite(view: View) -> RegexRewrite:
    """A RegexMatchAndSubstitute."""
    pattern, substitution = values.regex_substitution(view)
    return RegexRewrite(pattern=RegexPattern(regex=pattern), substitution=substitution)


def _read_upgrade(view: View) -> bool:
    """An UpgradeConfig: a listener decides which upgrades it accepts; a route cannot forbid one.

    Returns whether CONNECT ends here; else it is forwarded.
    """
    with view:
        kind = view.value("upgrade_type")
        if view.wrapped("enabled") is False:
            view.fault("enabled", f"the upgrade to {kind} cannot be forbidden for one route")
        settings = view.inner("connect_config")
        if settings is None:
            return False
        with settings:
            settings.refuse("proxy_protocol_config", "the PROXY protocol is not sent to hosts of tunnels")
            if settings.value("allow_post"):
                settings.fault("allow_post", "a POST is no tunnel")
        return str(kind).upper() == "CONNECT"


def _hash_policy(view: View) -> HashPolicy | None:
    with view:
        made = HashPolicy(terminal=view.value("terminal"))
        kind = view.which("policy_specifier")
        inner = view.inner(kind) if kind in ("header", "cookie", "connection_properties", "query_parameter") else None
        if inner is None:
            if kind:
                view.refuse(kind, "this source of a hash is not supported")
            else:
                view.fault("", "expected one of header, cookie, connection_properties, query_parameter")
            return None
        with inner:
            if kind == "header":
                rewrite = inner.inner("regex_rewrite")
                made.header = HashHeader(
                    key=inner.value("header_name"), regex_rewrite=None if rewrite is None else regex_rewrite(rewrite)
                )
            elif kind == "query_parameter":
                made.query_parameter = HashQueryParameter(name=inner.value("name"))
            elif kind == "connection_properties":
                made.source_ip = {}
                if not inner.value("source_ip"):
                    return None
            else:
                made.cookie = _cookie(inner)
    return made


def _cookie_attribute(view: View) -> CookieAttribute:
    with view:
        return CookieAttribute(name=view.value("name"), value=view.value("value"))


def _cookie(view: View) -> HashCookie:
    """A cookie. Envoy makes one for clients without it if there is a `ttl`, which may be 0, and counts whole seconds."""
    ttl = view.seconds("ttl")
    path = view.value("path")
    attributes = [_cookie_attribute(item) for item in view.items("attributes")]
    if ttl is None:
        return HashCookie(name=view.value("name"), attributes=attributes)
    ttl = float(int(ttl))
    return HashCookie(name=view.value("name"), path=path, ttl=ttl, generate=True, attributes=attributes)


# ---- clusters


def weighted_settings(view: View, readers: Mapping[str, SettingsReader]) -> Iterator[tuple[WeightedCluster, dict[str, Any]]]:
    """The clusters of `weighted_clusters`, each with its `per_filter_config`."""
    weighted = view.inner("weighted_clusters")
    if weighted is None:
        return
    shared = read_labels(view.inner("metadata_match")).subset
    with weighted:
        weighted.value("header_name")
        weighted.refuse("use_hash_policy", "the choice by the hash of a request is not supported")
        total = weighted.wrapped("total_weight")
        weight = 0
        for item in weighted.items("clusters"):
            with item:
                cluster = _weighted(item, shared)
                weight += cluster.weight
                yield WeightedCluster(cluster=cluster), filter_settings(item, "typed_per_filter_config", readers)
        if total not in (None, weight):
            weighted.fault("total_weight", f"is {total}, but the weights add up to {weight}")
        if not weight:
            weighted.fault("clusters", "the weights must not all be 0")


def _weighted(view: View, shared: Mapping[str, str]) -> WeightedTarget:
    """A ClusterWeight. `shared`: labels of the route, which are completed by those of the cluster."""
    view.refuse("cluster_header", "a weighted cluster needs a name")
    made = WeightedTarget(
        name=view.value("name"), weight=view.wrapped("weight") or 0, host_rewrite=view.value("host_rewrite_literal")
    )
    if not made.name:
        view.fault("name", "must not be empty")
    route_headers.read_changes(view, made)
    labels = {**shared, **read_labels(view.inner("metadata_match")).subset}
    if labels:
        made.metadata_match = Metadata(filter_metadata=FilterMetadata(mosn_lb=labels))
    return made


def mirror_policies(view: View) -> list[MirrorPolicy]:
    """The field `request_mirror_policies`."""
    return [_mirror_policy(item) for item in view.items("request_mirror_policies")]


def _mirror_policy(view: View) -> MirrorPolicy:
    with view:
        view.refuse("cluster_header", "a copy needs the name of its cluster")
        made = MirrorPolicy(cluster=view.value("cluster"), percent=100.0)
        if not made.cluster:
            view.fault("cluster", "must not be empty")
        fraction = view.inner("runtime_fraction")
        if fraction is not None:
            made.percent = values.runtime_fraction(fraction)
        made.shadow_host_suffix = not view.value("disable_shadow_host_suffix_append")
    return made


# ---- retries


def retry_policy(view: View) -> RetryPolicy:
    """A RetryPolicy. Retries also repeat requests that are not idempotent, as in Envoy."""
    with view:
        count = view.wrapped("num_retries")
        statuses = view.values("retriable_status_codes")
        names = _conditions(view, bool(statuses))
        made = RetryPolicy(
            retry_on=names if names and count != 0 else False,
            num_retries=1 if count is None else count,
            retry_timeout=view.seconds("per_try_timeout") or 0.0,
            status_codes=statuses if STATUS_CODES in names else [],
            retry_non_idempotent=True,
            retry_back_off=_back_off(view.inner("retry_back_off")),
        )
        for item in view.items("retry_host_predicate"):
            _read_predicate(item)
        view.value("host_selection_retry_max_attempts")  # a retry always prefers hosts that were not tried
        _warn_unread(view)
    return made


def _conditions(view: View, has_statuses: bool) -> list[str]:
    names = []
    for name in condition_names(view.value("retry_on")):
        if name not in CONDITIONS:
            view.warn("retry_on", f"unknown condition {name!r}; it has no effect")
        elif name != STATUS_CODES or has_statuses:
            names.append(name)
    return names


def _back_off(view: View | None) -> BackOff | None:
    if view is None:
        return BackOff()
    with view:
        first = max(view.seconds("base_interval") or 0.0, 0.001)
        longest = view.seconds("max_interval") or 0.0
        if 0 < longest < first:
            view.fault("max_interval", "must not be less than base_interval")
            longest = 0.0
        return BackOff(base_interval=first, max_interval=longest)


def _read_predicate(view: View) -> None:
    """A RetryHostPredicate: hosts that a retry avoids. It always avoids those that were tried."""
    with view:
        name = view.value("name")
        if not view.has("typed_config"):
            if name != "envoy.retry_host_predicates.previous_hosts":
                view.fault("name", f"unknown predicate {name!r}")
            return
        inner = view.typed("typed_config")
        if inner is not None:
            if not inner.type_name.endswith("PreviousHostsPredicate"):
                view.fault("typed_config", "only PreviousHostsPredicate is supported")
            inner.close()


def _warn_unread(view: View) -> None:
    """Reads the fields that only make retries more frequent, or choose their host."""
    if view.has("retry_priority"):
        view.value("retry_priority")
        view.warn("retry_priority", "not supported; retries use the same priorities as first attempts")
    if view.values("retriable_headers"):
        view.warn("retriable_headers", "not supported; responses are not retried because of a header")
    if view.has("rate_limited_retry_back_off"):
        view.value("rate_limited_retry_back_off")
        view.warn("rate_limited_retry_back_off", "not supported; the pause is that of retry_back_off")
