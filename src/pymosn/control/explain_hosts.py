"""Explains the choice of a host: all hosts of a cluster, their health, and the one that a request may get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pymosn.api.upstream import Criteria, Selection
from pymosn.assembly.clusters import original_plan, tls_match_of
from pymosn.config.schema import Cluster, Host, TlsContext
from pymosn.control.plane import ClusterView, HostView, health_text
from pymosn.core.failure import ALL_UNHEALTHY, NO_HOSTS, Failure
from pymosn.network.tls.upstream import host_name

#: What a control plane reports about hosts that are not used.
UNUSED_REPORTS: Final = ("unhealthy", "draining")


class Choice(NamedTuple):
    """All hosts as plain data, and the address of the first that a request may get, or why there is none."""

    hosts: list[dict[str, Any]]
    address: str = ""
    hostname: str = ""
    failure: Failure | None = None
    detail: str = ""


def tls_text(context: TlsContext | None, host: Host) -> str:
    """How connections to a host are secured. `context`: that of its cluster."""
    if context is None or not context.status:
        return "no TLS"
    if host.tls_disable:
        return "no TLS (tls_disable)"
    name = context.server_name or host_name(host.hostname, host.address)
    if context.insecure_skip:
        checks = "not verified (insecure_skip)"
    else:
        checks = "verified with " + ("ca_cert" if context.ca_cert else "the system's CAs")
    fall_back = ", plain text if the handshake fails" if context.fall_back else ""
    return f"TLS, name {name or 'none'}, {checks}{fall_back}"


def choose_host(
    cluster: Cluster,
    selection: Selection,
    live: Mapping[str, ClusterView] | None,
    context: TlsContext | None = None,
) -> Choice:
    """The hosts that may get a request with that `selection`; `live`: see `explain`. `context`: the cluster's TLS."""
    choice = _choose_host(cluster, selection, live)
    by_address = {host.address: host for host in cluster.hosts}
    for shown in choice.hosts:
        found = by_address.get(shown["address"]) or Host(address=shown["address"], hostname=shown["hostname"])
        match = tls_match_of(cluster, found)
        shown["tls"] = tls_text(context if match < 0 else cluster.tls_matches[match].tls_context, found)
    return choice


def _choose_host(cluster: Cluster, selection: Selection, live: Mapping[str, ClusterView] | None) -> Choice:
    view = None if live is None else live.get(cluster.name)
    workers = 0 if view is None else view["workers"]
    states = {} if view is None else {host["address"]: host for host in view["hosts"]}
    if original_plan(cluster) is not None:
        known = [Host(address=one["address"], hostname=one["hostname"], weight=one["weight"]) for one in states.values()]
        hosts = [_host(host, None, states[host.address], workers) for host in known]
        address = selection.destination
        if not address:
            return Choice(hosts, failure=NO_HOSTS, detail="neither a header nor the connection has a destination")
        return Choice(hosts, address, address)
    hosts = [_host(host, selection.subset, states.get(host.address), workers) for host in cluster.hosts]
    if not hosts:
        return Choice(hosts, failure=NO_HOSTS, detail=f"cluster {cluster.name} has no hosts")
    candidates = [host for host in hosts if host["in_subset"]] or hosts
    usable = [host for host in candidates if host.get("is_usable", True)]
    panics = len(usable) * 100 < cluster.panic_threshold * len(candidates)
    if not usable and not panics:
        return Choice(hosts, failure=ALL_UNHEALTHY, detail=f"no worker currently uses any host of cluster {cluster.name}")
    first = min(candidates if panics else usable, key=lambda host: int(host.get("priority", 0)))
    return Choice(hosts, first["address"], first["hostname"])


def _host(host: Host, subset: Criteria | None, state: HostView | None, workers: int) -> dict[str, Any]:
    metadata = host.metadata
    labels = {} if metadata is None else {key: str(value) for key, value in metadata.filter_metadata.mosn_lb.items()}
    found: dict[str, Any] = {
        "address": host.address,
        "hostname": host.hostname,
        "weight": host.weight,
        "in_subset": all(labels.get(key) == value for key, value in subset or ()),
    }
    if host.priority:
        found["priority"] = host.priority
    if host.health:
        found |= {"reported": host.health, "is_usable": host.health not in UNUSED_REPORTS}
    if state is not None:
        # Usable if any worker may choose it.
        is_usable = state["health"] != "failed_active_check" and (state["ejected"] < workers or workers == 0)
        found |= {"health": health_text(state, workers), "is_usable": is_usable and found.get("is_usable", True)}
    return found
