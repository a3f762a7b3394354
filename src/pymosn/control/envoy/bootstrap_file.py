"""A bootstrap of Envoy as a configuration of ours: dynamic mode, with the flags of Envoy's command line. Pure.

Sections that only tune Envoy itself have no effect and a warning; those that would change what is served are errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pymosn.config.diagnostics import Diagnostic

Json = dict[str, Any]
#: Envoy's levels of a log -> ours; Envoy's `off` has none.
LEVELS: Final = {
    "trace": "TRACE",
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARN",
    "warn": "WARN",
    "error": "ERROR",
    "critical": "FATAL",
}
_USED: Final = ("node", "admin", "static_resources", "dynamic_resources")
#: Sections without effect: why nothing is lost.
_IGNORED: Final[Mapping[str, str]] = {
    "application_log_config": "the process log has MOSN's format",
    "bootstrap_extensions": "extensions of Envoy are not loaded",
    "cluster_manager": "tuning of Envoy's",
    "default_regex_engine": "regular expressions are always RE2's",
    "deferred_stat_options": "tuning of Envoy's",
    "dns_resolution_config": "names are resolved as the system does",
    "enable_dispatcher_stats": "tuning of Envoy's",
    "fatal_actions": "actions of Envoy's crash handler",
    "flags_path": "flags of Envoy's runtime",
    "layered_runtime": "there is no runtime",
    "memory_allocator_manager": "tuning of Envoy's",
    "overload_manager": "see `overload` in docs/limits.md",
    "perf_tracing_file_path": "there are no traces of this kind",
    "stats_config": "statistics are not renamed, and all are kept",
    "stats_flush_interval": "there are no sinks",
    "stats_flush_on_admin": "there are no sinks",
    "stats_server_version_override": "there is no such statistic",
    "stats_sinks": "statistics are at the admin port",
    "tracing": "tracing is configured by `tracing` in a file of MOSN's form (docs/tracing.md)",
    "typed_dns_resolver_config": "names are resolved as the system does",
    "use_tcp_for_dns_lookups": "names are resolved as the system does",
    "watchdog": "workers have a watchdog of their own",
    "watchdogs": "workers have a watchdog of their own",
}


class Flags(NamedTuple):
    """The flags of the command line that change the configuration; empty or None if not given."""

    node_id: str = ""
    cluster: str = ""
    zone: str = ""
    workers: int | None = None
    drain_time: float | None = None
    log_path: str = ""
    log_level: str = "info"
    base_id: int = 0
    allow_unknown: bool = False


def merged(base: Any, overlay: Any) -> Any:
    """Two bootstraps, merged like messages: fields of the second replace those of the first, lists are joined."""
    if isinstance(base, list) and isinstance(overlay, list):
        return [*base, *overlay]
    if not isinstance(base, dict) or not isinstance(overlay, dict) or "@type" in overlay:
        return overlay
    found = dict(base)
    names = {_folded(key): key for key in base}
    for key, value in overlay.items():
        name = names.get(_folded(key), key)
        found[name] = merged(found[name], value) if name in found else value
    return found


def converted(bootstrap: Any, flags: Flags) -> tuple[Json, list[Diagnostic]]:
    """The configuration in our schema as JSON, and the faults of the bootstrap."""
    faults: list[Diagnostic] = []
    if not isinstance(bootstrap, dict):
        return {}, [Diagnostic(message="a bootstrap is an object")]
    sections = {_snake(key): value for key, value in bootstrap.items()}
    for name in sections:
        if name in _IGNORED:
            faults.append(Diagnostic(severity="warning", path=name, message=f"has no effect: {_IGNORED[name]}"))
        elif name not in _USED:
            severity = "warning" if flags.allow_unknown else "error"
            faults.append(Diagnostic(severity=severity, path=name, message="not supported"))  # type: ignore[arg-type]
    config: Json = {"servers": [_server(flags)], "node": _node(sections.get("node"), flags)}
    if "dynamic_resources" not in sections:
        message = "missing: this command needs a control plane; a static configuration is a file for `pymosn start`"
        faults.append(Diagnostic(path="dynamic_resources", message=message))
    config["dynamic_resources"] = sections.get("dynamic_resources") or {}
    config["static_resources"] = sections.get("static_resources") or {}
    if flags.allow_unknown:
        config["static_resources"] = _known_resources(config["static_resources"], faults)
    config["admin"] = _admin(sections.get("admin"), faults)
    return config, faults


def _server(flags: Flags) -> Json:
    server: Json = {
        "default_log_path": flags.log_path or "stderr",
        "default_log_level": LEVELS.get(flags.log_level, "FATAL"),
    }
    if flags.workers is not None:
        server["processor"] = max(1, flags.workers)
    if flags.drain_time is not None:
        server["graceful_timeout"] = f"{flags.drain_time:g}s"
    return server


def _node(value: Any, flags: Flags) -> Json:
    node = dict(value) if isinstance(value, dict) else {}
    if flags.node_id:
        node["id"] = flags.node_id
    if flags.cluster:
        node["cluster"] = flags.cluster
    if flags.zone:
        locality = node.get("locality")
        node["locality"] = {**(locality if isinstance(locality, dict) else {}), "zone": flags.zone}
    return node


def _admin(value: Any, faults: list[Diagnostic]) -> Json:
    """The admin API. Envoy's is open to all who reach its port; here those on this machine may read and drain."""
    admin: Json = {"allow_drain_without_token": True}
    if not isinstance(value, dict):
        return admin
    address = value.get("address")
    address = address if isinstance(address, dict) else {}
    socket = address.get("socket_address", address.get("socketAddress"))
    pipe = address.get("pipe")
    if isinstance(pipe, dict):
        admin["socket"] = pipe.get("path", "")
    if isinstance(socket, dict):
        shown = {_snake(key): item for key, item in socket.items()}
        admin["address"] = {"socket_address": {key: shown[key] for key in ("address", "port_value") if key in shown}}
    for key in value:
        if _snake(key) != "address":
            message = "has no effect: calls that change anything are in the process log"
            faults.append(Diagnostic(severity="warning", path=f"admin.{key}", message=message))
    return admin


def _known_resources(value: Any, faults: list[Diagnostic]) -> Any:
    """The section without the fields that its messages do not have, each with a warning."""
    from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

    return _known(value, Bootstrap.StaticResources.DESCRIPTOR, "static_resources", faults)


def _known(value: Any, kind: Any, path: str, faults: list[Diagnostic]) -> Any:
    if kind.full_name == "google.protobuf.Any" and isinstance(value, dict):
        from pymosn.control.envoy.json_form import message_type

        inner = message_type(str(value.get("@type", "")).rpartition("/")[2])
        kind = None if inner is None else inner.DESCRIPTOR
    if kind is None or kind.full_name.startswith("google.protobuf.") or not isinstance(value, dict):
        return value
    fields = {name: field for field in kind.fields for name in (field.name, field.json_name)}
    found: Json = {}
    for key, item in value.items():
        field = fields.get(key)
        if field is None and key != "@type":
            faults.append(Diagnostic(severity="warning", path=f"{path}.{key}", message="unknown field, ignored"))
        elif field is None or field.message_type is None or field.message_type.GetOptions().map_entry:
            found[key] = item
        elif isinstance(item, list):
            found[key] = [_known(one, field.message_type, f"{path}.{key}[{i}]", faults) for i, one in enumerate(item)]
        else:
            found[key] = _known(item, field.message_type, f"{path}.{key}", faults)
    return found


def _folded(key: str) -> str:
    return key.replace("_", "").lower()


def _snake(key: str) -> str:
    """`socketAddress` as `socket_address`."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in key)
