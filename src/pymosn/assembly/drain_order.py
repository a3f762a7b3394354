"""The order in which the listeners of a process may stop accepting."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pymosn.config.schema import Cluster, MosnConfig
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.core.addresses import UNIX, normal_ip, split_address
from pymosn.network.listener import Listener


def drain_order(
    config: MosnConfig,
    listeners: list[Listener],
    clusters_of: Mapping[str, Collection[str]],
    reach: Mapping[str, Collection[int]] | None = None,
) -> list[list[Listener]]:
    """Groups of listeners: a listener comes in a later group than the listeners that send requests to it.

    `clusters_of`: the clusters that each router table refers to. `reach`: the result of `reached_listeners`.

    In MOSN's own example the upstream of the first hop is the second hop: if both closed together, requests in flight on the
    first would fail. Listeners that form a cycle share the last group.
    """
    server = config.servers[0]
    if reach is None:
        reach = reached_listeners(config)
    # A listener without a socket gets connections that another one hands over.
    handed_over = {i for i, listener in enumerate(server.listeners) if not listener.bind_port}
    targets: dict[int, set[int]] = {}
    for i, listener in enumerate(server.listeners):
        found = _clusters_of(listener, clusters_of)
        # Few clusters have a listener as a host, and a table may refer to thousands.
        reached = [others for name, others in reach.items() if any(name in names for names in found)]
        targets[i] = {other for others in reached for other in others}
        targets[i] = (targets[i] | (handed_over if listener.hands_over() else set())) - {i}
    groups: list[list[Listener]] = []
    left = set(targets)
    while left:
        targeted = set().union(*(targets[i] for i in left))
        free = (left - targeted) or left
        groups.append([listeners[i] for i in sorted(free)])
        left -= free
    return groups


def reached_listeners(config: MosnConfig) -> dict[str, list[int]]:
    """The indexes of the listeners that a cluster has as hosts, for the clusters that have any."""
    listeners = config.servers[0].listeners
    ends = ends_of(listeners)
    found = {cluster.name: reached_by(cluster, listeners, ends) for cluster in config.cluster_manager.clusters}
    return {name: reached for name, reached in found.items() if reached}


def ends_of(listeners: Sequence[ListenerConfig]) -> set[str]:
    """The ends of the addresses of listeners, which are compared first: a cluster may have tens of thousands of hosts."""
    return {_end(listener.address) for listener in listeners}


def reached_by(cluster: Cluster, listeners: Sequence[ListenerConfig], ends: Collection[str]) -> list[int]:
    """The indexes of the listeners that a cluster has as hosts. `ends`: of `listeners`."""
    near = [host.address for host in cluster.hosts if _end(host.address) in ends]
    return [i for i, listener in enumerate(listeners) if any(_same_address(listener, address) for address in near)]


def _end(address: str) -> str:
    """What follows the last colon, a port or the path of a unix socket; a port without leading zeros."""
    return address.rpartition(":")[2].lstrip("0")


def _clusters_of(listener: ListenerConfig, clusters_of: Mapping[str, Collection[str]]) -> list[Collection[str]]:
    """The clusters that requests of a listener can reach, as several sets."""
    found: list[Collection[str]] = []
    for acting in listener.acting_filters():
        if acting.proxy is not None:
            found.append(clusters_of.get(acting.proxy.router_config_name, ()))
        if acting.tcp is not None:
            found.append(acting.tcp.cluster_names())
    udp = listener.udp_proxy()
    return found if udp is None else [*found, udp.cluster_names()]


def _same_address(listener: ListenerConfig, dialed: str) -> bool:
    """Whether a connection to `dialed` may end at `listener`."""
    listening = listener.address
    if listener.network.lower() == "unix":
        return dialed == UNIX + listening
    try:
        dialed_host, dialed_port = split_address(dialed)
        host, port = split_address(listening)
    except ValueError:
        return False
    if port != dialed_port:
        return False
    host, dialed_host = normal_ip(host) or host.lower(), normal_ip(dialed_host) or dialed_host.lower()
    loopback = ("127.0.0.1", "localhost", "::1")
    return host in ("", "0.0.0.0", "::", dialed_host) or (host in loopback and dialed_host in loopback)
