"""`/clusters`, `/listeners`, `/certs` and `/server_info` in Envoy's forms."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any, Final

from pymosn.config.schema import Cluster, Host, Listener
from pymosn.control.certificates import CertificateView
from pymosn.control.plane import ClusterView, HostView
from pymosn.core.addresses import UNIX, packed_ip, split_address

Json = dict[str, Any]
#: States of a server, with Envoy's numbers.
LIVE: Final = 0
DRAINING: Final = 1
PRE_INITIALIZING: Final = 2
INITIALIZING: Final = 3
STATE_NAMES: Final = ("LIVE", "DRAINING", "PRE_INITIALIZING", "INITIALIZING")

_LIMITS: Final = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
_NO_LIMIT: Final = 4294967295
#: Health of a control plane -> Envoy's.
_EDS_HEALTH: Final = {"unhealthy": "UNHEALTHY", "draining": "DRAINING", "degraded": "DEGRADED"}


def address_form(address: str) -> Json:
    """A message `Address`."""
    if address.startswith(UNIX):
        return {"pipe": {"path": address.removeprefix(UNIX)}}
    host, port = split_address(address)
    return {"socket_address": {"address": host, "port_value": int(port)}}


def clusters_text(views: Iterable[ClusterView], clusters: dict[str, Cluster], added: Collection[str]) -> str:
    """`name::key::value` lines. `added`: the names of clusters of xDS."""
    lines: list[str] = []
    for view in views:
        name, cluster = view["name"], clusters.get(view["name"])
        lines.append(f"{name}::observability_name::{name}")
        for priority, limits in _limits(cluster).items():
            lines += [f"{name}::{priority.lower()}_priority::{key}::{value}" for key, value in limits.items()]
        lines.append(f"{name}::added_via_api::{'true' if name in added else 'false'}")
        known = _hosts(cluster)
        for host in view["hosts"]:
            facts = _host_facts(host, known.get(host["address"]))
            lines += [f"{name}::{host['address']}::{key}::{value}" for key, value in facts.items()]
    return "".join(f"{line}\n" for line in lines)


def clusters_json(views: Iterable[ClusterView], clusters: dict[str, Cluster], added: Collection[str]) -> Json:
    """The message `Clusters`."""
    return {"cluster_statuses": [_cluster_status(view, clusters.get(view["name"]), added) for view in views]}


def _cluster_status(view: ClusterView, cluster: Cluster | None, added: Collection[str]) -> Json:
    name, known = view["name"], _hosts(cluster)
    limits = [{"priority": priority, **values} for priority, values in _limits(cluster).items()]
    return {
        "name": name,
        "added_via_api": name in added,
        "host_statuses": [_host_status(host, known.get(host["address"])) for host in view["hosts"]],
        "circuit_breakers": {"thresholds": limits},
        "observability_name": name,
    }


def _host_status(view: HostView, host: Host | None) -> Json:
    health: Json = {"eds_health_status": _EDS_HEALTH.get(host.health if host is not None else "", "HEALTHY")}
    if view["failed_active_check"]:
        health["failed_active_health_check"] = True
    if view["ejected"]:
        health["failed_outlier_check"] = True
    stats = [
        {"name": name, "value": str(value), **({"type": "GAUGE"} if name.endswith("_active") else {})}
        for name, value in _counters(view).items()
    ]
    shown: Json = {"address": address_form(view["address"]), "stats": stats, "health_status": health}
    shown |= {"weight": view["weight"], "hostname": view["hostname"], "priority": 0 if host is None else host.priority}
    locality = _locality(host)
    if any(locality.values()):
        shown["locality"] = locality
    return shown


def _host_facts(view: HostView, host: Host | None) -> Json:
    flags = ["/failed_active_hc"] if view["failed_active_check"] else []
    flags += ["/failed_outlier_check"] if view["ejected"] else []
    if host is not None and host.health in _EDS_HEALTH:
        flags.append("/degraded_eds_health" if host.health == "degraded" else "/failed_eds_health")
    return {
        **_counters(view),
        "hostname": view["hostname"],
        "health_flags": "".join(flags) or "healthy",
        "weight": view["weight"],
        **_locality(host),
        "canary": "false",
        "priority": 0 if host is None else host.priority,
    }


def _counters(view: HostView) -> dict[str, int]:
    return {
        "cx_active": view["connections_active"],
        "rq_active": view["requests_active"],
        "rq_total": view["requests_total"],
    }


def _locality(host: Host | None) -> dict[str, str]:
    parts = [] if host is None else host.locality.split("/", 2)
    return dict(zip(("region", "zone", "sub_zone"), [*parts, "", "", ""], strict=False))


def _hosts(cluster: Cluster | None) -> dict[str, Host]:
    return {} if cluster is None else {host.address: host for host in reversed(cluster.hosts)}


def _limits(cluster: Cluster | None) -> dict[str, dict[str, int]]:
    """The limits by priority; Envoy has no word for none, but its largest number."""
    found = {} if cluster is None else {limits.priority: limits for limits in reversed(cluster.circuit_breakers)}
    return {
        priority: {key: getattr(found.get(priority), key, 0) or _NO_LIMIT for key in _LIMITS}
        for priority in ("DEFAULT", "HIGH")
    }


def listeners_text(listeners: Iterable[Listener]) -> str:
    """`name::address` lines."""
    return "".join(f"{listener.known_name()}::{listener.address}\n" for listener in listeners)


def listeners_json(listeners: Iterable[Listener]) -> Json:
    """The message `Listeners`."""
    return {
        "listener_statuses": [
            {"name": listener.known_name(), "local_address": address_form(_bound(listener))} for listener in listeners
        ]
    }


def _bound(listener: Listener) -> str:
    return f"{UNIX}{listener.address}" if listener.network == "unix" else listener.address


def certificates_json(views: Iterable[CertificateView]) -> Json:
    """The message `Certificates`: each certificate in an entry of its own."""
    return {
        "certificates": [{"ca_cert" if view["is_ca"] else "cert_chain": [_certificate(view)]} for view in views],
    }


def _certificate(view: CertificateView) -> Json:
    names = [{_kind_of(name): name} for name in view["names"]]
    return {
        "path": view["file"] or "<inline>",
        "serial_number": view["serial"],
        "subject_alt_names": names,
        "days_until_expiration": str(max(0, int(view["days_left"]))),
        "valid_from": view["not_before"],
        "expiration_time": view["not_after"],
    }


def _kind_of(name: str) -> str:
    """The field of `SubjectAlternateName`."""
    if "://" in name:
        return "uri"
    return "ip_address" if packed_ip(name) else "dns"


def server_info(version: str, state: int, started: float, workers: int, node: Any) -> Json:
    """The message `ServerInfo`. `started`: seconds since 1970. `node`: JSON of the node."""
    uptime = f"{max(0, int(time.time() - started))}s"
    return {
        "version": f"pymosn/{version}",
        "state": STATE_NAMES[state],
        "hot_restart_version": "disabled",
        "command_line_options": {"concurrency": workers, "mode": "Serve", "disable_hot_restart": True},
        "node": node,
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
    }
