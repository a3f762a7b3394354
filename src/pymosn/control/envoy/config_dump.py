"""`/config_dump`: the resources of xDS as they were received, as Envoy's `ConfigDump`.

The configuration file is not in it, except its sections of xDS as the bootstrap; `/api/v1/config_dump` has the active
configuration in MOSN's form.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from pymosn.control.envoy.facts import ACTIVE, REJECTED, STATIC, WARMING, Facts, Received
from pymosn.control.envoy.json_form import TooDeepError, json_shown, packed_form
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET

Json = dict[str, Any]
_ADMIN: Final = "type.googleapis.com/envoy.admin.v3."
_HCM: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def config_dump(facts: Facts, bootstrap: Json, started: float, with_endpoints: bool) -> list[Json]:
    """The configs of a dump. `bootstrap`: Envoy's, as JSON, read at `started` (seconds since 1970)."""
    of: dict[str, list[Received]] = {}
    for one in facts.resources:
        of.setdefault(one.type_url, []).append(one)
    versions = {one.short: one.version for one in facts.updates}
    clusters, listeners = of.get(CLUSTER, []), of.get(LISTENER, [])
    return [
        _config("BootstrapConfigDump", bootstrap=json_shown(bootstrap), last_updated=time_text(started)),
        _clusters(clusters, versions.get("cds", "")),
        *([_endpoints(of.get(ENDPOINTS, []))] if with_endpoints else []),
        _listeners(listeners, versions.get("lds", "")),
        _config("ScopedRoutesConfigDump"),
        _routes(of.get(ROUTES, []), listeners),
        _secrets(of.get(SECRET, [])),
    ]


def time_text(seconds: float) -> str:
    """Seconds since 1970 as a Timestamp of JSON."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _config(kind: str, **fields: Any) -> Json:
    """The JSON of a message, without its empty fields, as Envoy writes it."""
    return {"@type": f"{_ADMIN}{kind}", **_filled(fields)}


def _filled(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value not in ("", [], {}, None)}


def _body(one: Received) -> Json:
    """The message of a resource; its name only, if there is no message that can be shown."""
    if one.body:
        try:
            return packed_form(one.type_url.rpartition("/")[2], one.body)
        except TooDeepError:
            pass
    return {"@type": one.type_url, "cluster_name" if one.type_url == ENDPOINTS else "name": one.name}


def _times(one: Received) -> Json:
    return {"last_updated": time_text(one.updated)} if one.updated else {}


def _fault(one: Received) -> Json:
    """The reason of a rejection, and the state as in the message `ClientResourceStatus`."""
    return {"error_state": {"details": one.fault}, "client_status": "NACKED"} if one.fault else {}


def _dynamic(one: Received, key: str) -> Json:
    return _filled({"version_info": one.version, key: _body(one), **_times(one), **_fault(one)})


def _static(resources: Iterable[Received], key: str) -> list[Json]:
    return [{key: _body(one), **_times(one)} for one in resources if one.stage == STATIC]


def _clusters(resources: list[Received], version: str) -> Json:
    return _config(
        "ClustersConfigDump",
        version_info=version,
        static_clusters=_static(resources, "cluster"),
        dynamic_active_clusters=[_dynamic(one, "cluster") for one in resources if one.stage == ACTIVE],
        dynamic_warming_clusters=[_dynamic(one, "cluster") for one in resources if one.stage in (WARMING, REJECTED)],
    )


def _endpoints(resources: list[Received]) -> Json:
    return _config(
        "EndpointsConfigDump",
        static_endpoint_configs=_static(resources, "endpoint_config"),
        dynamic_endpoint_configs=[_dynamic(one, "endpoint_config") for one in resources if one.stage != STATIC],
    )


def _listeners(resources: list[Received], version: str) -> Json:
    dynamic: dict[str, Json] = {}
    for one in resources:
        if one.stage == STATIC:
            continue
        shown = dynamic.setdefault(one.name, {"name": one.name})
        if one.body:
            state = _filled({"version_info": one.version, "listener": _body(one), **_times(one)})
            shown["active_state" if one.stage == ACTIVE else "warming_state"] = state
        shown.update(_fault(one))
    return _config(
        "ListenersConfigDump",
        version_info=version,
        static_listeners=_static(resources, "listener"),
        dynamic_listeners=list(dynamic.values()),
    )


def _routes(resources: list[Received], listeners: list[Received]) -> Json:
    inline = [
        {"route_config": found, **_times(one)}
        for one in listeners
        if one.stage in (STATIC, ACTIVE)
        for found in _inline_tables(_body(one))
    ]
    return _config(
        "RoutesConfigDump",
        static_route_configs=inline,
        dynamic_route_configs=[_dynamic(one, "route_config") for one in resources],
    )


def _inline_tables(value: Any) -> list[Json]:
    """The route configurations in the connection managers of a listener."""
    if isinstance(value, list):
        return [found for item in value for found in _inline_tables(item)]
    if not isinstance(value, dict):
        return []
    if str(value.get("@type", "")).endswith(_HCM):
        table = value.get("route_config")
        return [] if table is None else [{"@type": ROUTES, **table}]
    chains = [*value.get("filter_chains", ()), value.get("default_filter_chain")]
    return [
        found
        for chain in chains
        if isinstance(chain, dict)
        for one in chain.get("filters", ())
        for found in _inline_tables(one.get("typed_config"))
    ]


def _secrets(resources: list[Received]) -> Json:
    def shown(one: Received) -> Json:
        return {"name": one.name, **_dynamic(one, "secret")}

    return _config(
        "SecretsConfigDump",
        dynamic_active_secrets=[shown(one) for one in resources if one.stage == ACTIVE],
        dynamic_warming_secrets=[shown(one) for one in resources if one.stage in (WARMING, REJECTED)],
    )
