"""Checks the names of protocols, and which of them are spoken to the hosts of clusters."""

from collections.abc import Iterator, Mapping
from typing import Final

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import MosnConfig, RouteAction, Server
from pymosn.config.schema.network_filters import PROTOCOLS
from pymosn.config.tls_contexts import cluster_tls
from pymosn.filters.loading import PROTOCOLS as PROTOCOL_ENTRY_POINTS
from pymosn.filters.loading import installed
from pymosn.network.tls.names import alpn_of
from pymosn.stream.registry import protocols
from pymosn.upstream.way_out import WayOut

_KNOWN: Final = protocols()
BUILT_PROTOCOLS: Final = frozenset(_KNOWN.names())
#: What the field calls protocols, in lower case, and what the configuration calls them.
_OTHER_NAMES: Final = {
    "grpc": "gRPC needs Http2",
    **dict.fromkeys(("h2", "h2c", "http/2", "http/2.0"), "the name of HTTP/2 is Http2"),
    **dict.fromkeys(("http", "http/1.1"), "the name of HTTP/1.1 is Http1"),
}
#: For a cluster that does not exist.
NO_CHOICE: Final = WayOut("", (), _KNOWN)


def check_protocol(name: str, path: str, report: Diagnostics, fate: str = "") -> None:
    """Check the name of a protocol. `fate`: what happens with an unknown one, in MOSN and here; empty: it is an error."""
    if name not in BUILT_PROTOCOLS and name != "Auto" and name not in installed(PROTOCOL_ENTRY_POINTS):
        known = _OTHER_NAMES.get(name.lower())
        message = f"unknown protocol; {known}" if known else "unknown protocol"
        if fate:
            report.odd(path, f"{message}: {fate}", name, () if known else PROTOCOLS)
        else:
            report.error(path, message, name, () if known else PROTOCOLS)


def protocols_of(server: Server, table: str) -> set[str]:
    """The protocols of the clients of a router table."""
    proxies = [acting.proxy for listener in server.listeners for acting in listener.acting_filters()]
    used = [proxy for proxy in proxies if proxy is not None and proxy.router_config_name == table]
    return {name for proxy in used for name in proxy.protocols()}


def clusters_of(action: RouteAction | None) -> Iterator[str]:
    """The clusters that a route names."""
    if action is not None:
        yield action.cluster_name
        yield from (entry.cluster.name for entry in action.weighted_clusters)


def ways_out(config: MosnConfig) -> Mapping[str, WayOut]:
    """How requests are sent to the hosts of each cluster, by its name."""
    found: dict[str, WayOut] = {}
    for cluster in config.cluster_manager.clusters:
        context = cluster_tls(cluster, config.cluster_manager)
        alpn = () if context is None else alpn_of(context.alpn)
        found[cluster.name] = WayOut(cluster.upstream_protocol, alpn, _KNOWN)
    return found


def is_shared(protocol: str) -> bool:
    """Whether a connection of that protocol may carry requests of several clients."""
    known = _KNOWN.get(protocol)
    return known is None or known.spec.multiplexed
