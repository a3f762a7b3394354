"""The parameters of `/config_dump` that select a part: `resource`, `mask` and `name_regex`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymosn.control.plane import ClusterView
from pymosn.core.regex import PatternError, compiled

Json = dict[str, Any]
_PREFIX = "type.googleapis.com/envoy.admin.v3."

#: Name of a list of resources -> the message of one.
RESOURCES: Mapping[str, str] = {
    "static_clusters": "ClustersConfigDump.StaticCluster",
    "dynamic_active_clusters": "ClustersConfigDump.DynamicCluster",
    "dynamic_warming_clusters": "ClustersConfigDump.DynamicCluster",
    "static_listeners": "ListenersConfigDump.StaticListener",
    "dynamic_listeners": "ListenersConfigDump.DynamicListener",
    "static_route_configs": "RoutesConfigDump.StaticRouteConfig",
    "dynamic_route_configs": "RoutesConfigDump.DynamicRouteConfig",
    "inline_scoped_route_configs": "ScopedRoutesConfigDump.InlineScopedRouteConfigs",
    "dynamic_scoped_route_configs": "ScopedRoutesConfigDump.DynamicScopedRouteConfigs",
    "static_endpoint_configs": "EndpointsConfigDump.StaticEndpointConfig",
    "dynamic_endpoint_configs": "EndpointsConfigDump.DynamicEndpointConfig",
    "static_secrets": "SecretsConfigDump.StaticSecret",
    "dynamic_active_secrets": "SecretsConfigDump.DynamicSecret",
    "dynamic_warming_secrets": "SecretsConfigDump.DynamicSecret",
}


class QueryError(ValueError):
    """A parameter is invalid; the text is the response."""


class NotFoundError(QueryError):
    """There is no resource of this name."""


def selected(configs: list[Json], resource: str = "", mask: str = "", name_regex: str = "") -> list[Json]:
    """A part of the configs of a dump. `mask`: paths with commas between. `name_regex`: of whole names. QueryError."""
    if name_regex:
        try:
            pattern = compiled(name_regex)
        except PatternError as error:
            raise QueryError(f"name_regex is invalid: {error}") from None
        configs = [_with_names(config, pattern) for config in configs]
    if resource:
        if resource not in RESOURCES and resource != "bootstrap":
            raise NotFoundError(f"{resource} not found in config dump; one of bootstrap, {', '.join(RESOURCES)}")
        configs = _of(configs, resource)
    if not mask:
        return configs
    paths = [path.split(".") for path in mask.split(",") if path]
    masked = [_masked(config, paths) for config in configs]
    found = [config for config in masked if config.keys() - {"@type"}]
    if not found and configs and not resource:
        raise QueryError(f"FieldMask {mask} could not be successfully used: no config has such a field")
    return found


def with_names(clusters: list[ClusterView], pattern: str) -> list[ClusterView]:
    """The clusters of which a part of the name matches a regular expression. QueryError."""
    if not pattern:
        return clusters
    try:
        regex = compiled(pattern)
    except PatternError as error:
        raise QueryError(f"Invalid re2 regex: {error}") from None
    return [cluster for cluster in clusters if regex.search(cluster["name"].encode()) is not None]


def _of(configs: list[Json], resource: str) -> list[Json]:
    if resource == "bootstrap":
        return [config for config in configs if "bootstrap" in config]
    kind = f"{_PREFIX}{RESOURCES[resource]}"
    return [{"@type": kind, **item} for config in configs for item in config.get(resource, ())]


def _with_names(config: Json, pattern: Any) -> Json:
    """Without the resources of other names."""
    return {
        key: [item for item in value if pattern.fullmatch(name_of(item).encode()) is not None] if key in RESOURCES else value
        for key, value in config.items()
    }


def name_of(item: Json) -> str:
    """The name of one resource of a dump."""
    for key in ("cluster", "listener", "route_config", "endpoint_config", "secret"):
        inner = item.get(key)
        if isinstance(inner, dict):
            return str(inner.get("name", inner.get("cluster_name", "")))
    return str(item.get("name", ""))


def _masked(value: Any, paths: list[list[str]]) -> Any:
    """Only the fields of the paths; lists are passed through."""
    if isinstance(value, list):
        return [_masked(item, paths) for item in value]
    if not isinstance(value, dict) or any(not path for path in paths):
        return value
    found: Json = {"@type": value["@type"]} if "@type" in value else {}
    for key, item in value.items():
        below = [path[1:] for path in paths if path[0] == key]
        if below:
            found[key] = _masked(item, below)
    return found
