"""The run-time options of `tcp_proxy` and `udp_proxy`, with their routes."""

from __future__ import annotations

from pymosn.api.exchange import AccessLog
from pymosn.api.stream_filter import FilterContext
from pymosn.assembly.filters import FilterBuilder
from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema.network_filters import CidrRange, StreamProxyConfig, StreamRoute, WeightedStreamCluster
from pymosn.core.address_ranges import End, address_range, port_ranges
from pymosn.core.counters import DownstreamStats
from pymosn.core.server_names import server_name_pattern
from pymosn.filters.errors import FilterConfigError, problems_of
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.tcp_options import TcpObserver, TcpOptions
from pymosn.routing.by_address import AddressRoute, StreamTarget


def tcp_options(
    name: str,
    config: ListenerConfig,
    tcp: StreamProxyConfig,
    stats: DownstreamStats,
    access_logs: list[AccessLog],
    observers: list[TcpObserver] | None = None,
) -> TcpOptions:
    """The run-time options of a `tcp_proxy` or `udp_proxy`."""
    return TcpOptions(
        listener_name=name,
        target=_target(tcp.cluster, tcp.weighted_clusters),
        routes=[_stream_route(route) for route in tcp.routes],
        stats=stats,
        access_logs=access_logs,
        idle_timeout=tcp.idle_timeout / 1e9 if tcp.idle_timeout > 0 else config.idle_timeout(),
        connect_attempts=tcp.max_connect_attempts,
        connect_timeout=tcp.connect_timeout,
        max_duration=tcp.max_connection_duration,
        observers=observers,
    )


def tcp_observers(tcp: StreamProxyConfig, filters: FilterBuilder, runtime: Runtime) -> list[TcpObserver]:
    """The observers of a `tcp_proxy`: the metrics of `istio_stats`, whose settings have been checked."""
    if not tcp.istio_stats:
        return []
    # Imported only where it is configured: memory is counted per worker.
    from pymosn.filters.istio.tcp import TcpStats

    context = FilterContext(
        "istio.stats", runtime.log, filters.clusters, runtime.clock, all_metrics=runtime.metrics, node=filters.node
    )
    return [TcpStats(settings, context, runtime.wheel) for settings in tcp.istio_stats]


def check_observers(tcp: StreamProxyConfig, path: str) -> list[Diagnostic]:
    """What is wrong with the settings of `tcp_observers`. `path`: of the listener."""
    if not tcp.istio_stats:
        return []
    from pymosn.filters.istio.tcp import check

    faults: list[Diagnostic] = []
    for settings in tcp.istio_stats:
        try:
            check(settings)
        except FilterConfigError as error:
            faults += [error_at(path, f"istio_stats{inner}: {text}") for inner, text in problems_of(error)]
    return faults


def _target(cluster: str, weighted: list[WeightedStreamCluster]) -> StreamTarget:
    if cluster:
        return StreamTarget([(cluster, 1)])
    return StreamTarget([(entry.name, entry.weight) for entry in weighted])


def _stream_route(route: StreamRoute) -> AddressRoute:
    """A route. Without server names, an end without addresses or ports matches no connection, as in MOSN."""
    names = [server_name_pattern(name) for name in route.server_names]
    source = _end(route.sourceaddrs, route.sourceport, bool(names))
    destination = _end(route.destinationaddrs, route.destinationport, bool(names))
    return AddressRoute(_target(route.cluster, route.weighted_clusters), source, destination, names)


def _end(networks: list[CidrRange], ports: str, empty_is_any: bool) -> End | None:
    """The condition on one end; None for any end, even of a unix socket. `empty_is_any`: else an empty one matches none."""
    if empty_is_any and not networks and not ports:
        return None
    ranges = [address_range(entry.address, entry.length) for entry in networks]
    if empty_is_any and not networks:
        ranges = [address_range("0.0.0.0", 0), address_range("::", 0)]
    return End(ranges, port_ranges(ports or ("0-65535" if empty_is_any else "")))
