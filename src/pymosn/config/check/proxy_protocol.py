"""Checks of the PROXY protocol, in and out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pymosn.config.chains import network
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Listener, MosnConfig, RouteAction, Server

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


def check_proxied_clusters(config: MosnConfig, report: Diagnostics) -> None:
    """Finds routes of RPC protocols to clusters with `proxy_protocol`: their connections are shared by all clients."""
    proxied = {cluster.name for cluster in config.cluster_manager.clusters if cluster.proxy_protocol}
    if not proxied:
        return
    for i, server in enumerate(config.servers):
        for path, table in server.all_tables(f"servers[{i}]"):
            spoken = _protocols_of(server, table.router_config_name)
            for j, host in enumerate(table.virtual_hosts):
                for k, route in enumerate(host.routers):
                    inner = f"{path}.virtual_hosts[{j}].routers[{k}].route"
                    found = next((name for name in _clusters_of(route.route) if name in proxied), None)
                    if route.route is not None and found is not None:
                        _check_route(route.route, spoken, found, inner, report)


def _check_route(action: RouteAction, spoken: set[str], cluster: str, path: str, report: Diagnostics) -> None:
    if action.upstream_protocol not in ("", "Auto"):
        spoken = {action.upstream_protocol}
    shared = sorted(spoken - {_HTTP, "Auto"})
    what = f"cluster {cluster!r} has proxy_protocol"
    if shared:
        problem = f"{what}, which {shared[0]} does not support: its connections carry requests of several clients"
        report.error(path, problem)
    elif "Auto" in spoken:
        report.warning(path, f"{what}: requests of other protocols than {_HTTP} are answered with 502")


def _clusters_of(action: RouteAction | None) -> Iterator[str]:
    if action is not None:
        yield action.cluster_name
        yield from (entry.cluster.name for entry in action.weighted_clusters)


def _protocols_of(server: Server, table: str) -> set[str]:
    """The protocols of the clients of a router table."""
    proxies = [acting.proxy for listener in server.listeners for acting in listener.acting_filters()]
    used = [proxy for proxy in proxies if proxy is not None and proxy.router_config_name == table]
    return {name for proxy in used for name in proxy.protocols()}
