"""Checks of the PROXY protocol, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymosn.config.chains import network
from pymosn.config.check.protocols import NO_CHOICE, clusters_of, is_shared, protocols_of
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Listener, MosnConfig
from pymosn.upstream.way_out import AUTO, WayOut

#: The protocol that gives each client connections of its own.
_HTTP: Final = "Http1"


def check_proxy_protocol(listener: Listener, path: str, report: Diagnostics) -> None:
    """Finds errors in the `proxy_protocol` of a listener; `path`: the listener's."""
    block = listener.proxy_protocol
    if block is None:
        return
    path = f"{path}.proxy_protocol"
    transport = listener.network.lower()
    if transport == "udp":
        report.error(path, "UDP listeners do not support the PROXY protocol")
    elif transport == "unix":
        if block.trusted_prefixes:
            problem = "have no effect: peers on a unix socket have no address, and all are trusted; see `mode`"
            report.warning(f"{path}.trusted_prefixes", problem)
    elif not block.trusted_prefixes:
        problem = "must name the networks of the load balancers: anybody else could claim any address"
        report.error(f"{path}.trusted_prefixes", problem)
    for i, prefix in enumerate(block.trusted_prefixes):
        report.attempt(f"{path}.trusted_prefixes[{i}]", network, prefix, value=prefix)


def check_proxied_clusters(config: MosnConfig, report: Diagnostics, ways: Mapping[str, WayOut]) -> None:
    """Finds routes of multiplexed protocols to clusters with `proxy_protocol`: their connections are shared by all clients.

    `ways`: how requests are sent to each cluster.
    """
    proxied = {cluster.name for cluster in config.cluster_manager.clusters if cluster.proxy_protocol}
    if not proxied:
        return
    for i, server in enumerate(config.servers):
        for path, table in server.all_tables(f"servers[{i}]"):
            spoken = protocols_of(server, table.router_config_name)
            for j, host in enumerate(table.virtual_hosts):
                for k, route in enumerate(host.routers):
                    inner = f"{path}.virtual_hosts[{j}].routers[{k}].route"
                    found = next((name for name in clusters_of(route.route) if name in proxied), None)
                    if route.route is not None and found is not None:
                        way = ways.get(found, NO_CHOICE)
                        used = {way.protocol(route.route.upstream_protocol, client) for client in spoken - {AUTO}}
                        is_open = AUTO in spoken and way.protocol(route.route.upstream_protocol, AUTO) == AUTO
                        _check_route(used, is_open, found, inner, report)


def _check_route(used: set[str], is_open: bool, cluster: str, path: str, report: Diagnostics) -> None:
    """`used`: the protocols spoken to the cluster. `is_open`: and whatever clients are found to speak."""
    shared = sorted(name for name in used if name != AUTO and is_shared(name))
    what = f"cluster {cluster!r} has proxy_protocol"
    if shared:
        problem = f"{what}, which {shared[0]} does not support: its connections carry requests of several clients"
        report.error(path, problem)
    elif is_open:
        report.warning(path, f"{what}: requests of other protocols than {_HTTP} are answered with 502")
