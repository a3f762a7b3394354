"""In which order the listeners of a process may stop accepting."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema import MosnConfig
from pymosn.core.addresses import UNIX, split_address
from pymosn.network.listener import Listener


def drain_order(
    config: MosnConfig, listeners: list[Listener], clusters_of: Mapping[str, Collection[str]]
) -> list[list[Listener]]:
    """Groups of listeners; one that others of this process send requests to stands in a later group than those.

    `clusters_of`: the clusters that each router table names.

    In MOSN's own example the first hop's upstream is the second hop: were both closed at once, requests in flight on the
    first would find the second gone. Listeners that send to each other in a circle share the last group.
    """
    server = config.servers[0]
    hosts = {cluster.name: [host.address for host in cluster.hosts] for cluster in config.cluster_manager.clusters}
    targets = {
        place: {
            other
            for name in _clusters_of(listener, clusters_of)
            for address in hosts.get(name, [])
            for other, candidate in enumerate(server.listeners)
            if other != place and _same_address(candidate, address)
        }
        | _hand_overs(place, server.listeners)
        for place, listener in enumerate(server.listeners)
    }
    groups: list[list[Listener]] = []
    left = set(targets)
    while left:
        wanted = set().union(*(targets[place] for place in left))
        free = (left - wanted) or left
        groups.append([listeners[place] for place in sorted(free)])
        left -= free
    return groups


def _clusters_of(listener: ListenerConfig, clusters_of: Mapping[str, Collection[str]]) -> set[str]:
    """The clusters that requests of a listener can reach."""
    names: set[str] = set()
    acting = listener.acting_filters()
    if acting.proxy is not None:
        names.update(clusters_of.get(acting.proxy.router_config_name, ()))
    if acting.tcp is not None:
        names.update((acting.tcp.cluster, *(route.cluster for route in acting.tcp.routes)))
    return names


def _hand_overs(place: int, listeners: list[ListenerConfig]) -> set[int]:
    """The listeners without a socket that the one at `place` may give connections to."""
    if not listeners[place].use_original_dst:
        return set()
    return {other for other, candidate in enumerate(listeners) if other != place and not candidate.bind_port}


def _same_address(listener: ListenerConfig, dialed: str) -> bool:
    """Whether a connection to `dialed` may end at `listener`."""
    listening = listener.address
    if listener.network.lower() == "unix":
        return dialed == UNIX + listening
    try:
        dialed_host, dialed_port = split_address(dialed)
        host, _, port = listening.rpartition(":")
        if int(port) != dialed_port:
            return False
    except ValueError:
        return False
    wildcard = host.strip("[]") in ("", "0.0.0.0", "::")
    loopback = ("127.0.0.1", "localhost", "::1")
    return wildcard or host.strip("[]") == dialed_host or (host in loopback and dialed_host in loopback)
