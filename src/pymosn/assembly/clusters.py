"""The settings of clusters as the data path uses them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pymosn.api.network import TcpKeepalive
from pymosn.api.upstream import Criteria, criteria
from pymosn.assembly.share import WorkerShare
from pymosn.assembly.tls import client_settings, resolver
from pymosn.config.schema import Cluster as ClusterConfig
from pymosn.config.schema import Host
from pymosn.config.schema.cluster import BalancerConfig, CircuitBreaker, ClusterHttp2, OriginalDstConfig
from pymosn.config.schema.connections import TcpKeepalive as TcpKeepaliveConfig
from pymosn.config.schema.router import Metadata
from pymosn.core.address_ranges import port_ranges
from pymosn.upstream import plan
from pymosn.upstream.balancers import balancers

DEFAULT_BALANCER: Final = "LB_ROUNDROBIN"
MAX_WEIGHT: Final = 128


def plan_cluster(config: ClusterConfig, share: WorkerShare, parts: Mapping[bytes, bytes] | None = None) -> plan.ClusterPlan:
    """The settings of a cluster, as it is packed, as plain values. `parts`: of its TLS context. Raises ValueError."""
    block = config.circuit_breakers[0] if config.circuit_breakers else CircuitBreaker()
    limits = (block.max_connections, block.max_pending_requests, block.max_requests, block.max_retries)
    original = original_plan(config)
    http2 = config.http2 or ClusterHttp2()
    return plan.ClusterPlan(
        name=config.name,
        hosts=tuple(host_plans(config.hosts)) if original is None else (),
        balancing=_balancing(config),
        limits=plan.LimitPlan(*(share.of(limit) for limit in limits)),
        ejection=_ejection(config) if original is None else None,
        connect_timeout=config.connect_timeout,
        idle_timeout=config.idle_timeout,
        max_requests_per_connection=config.max_request_per_conn,
        buffer_limit=config.conn_buffer_limit_bytes,
        original=original,
        heartbeats=_heartbeats(config),
        proxy_protocol=config.proxy_protocol,
        mark=config.mark,
        tls=client_settings(config.tls_context, resolver(parts or {})),
        upstream_protocol=config.upstream_protocol,
        max_connection_age=config.max_connection_age,
        keepalive=tcp_keepalive(config.tcp_keepalive),
        stream_window=http2.initial_stream_window_size,
        connection_window=http2.initial_connection_window_size,
    )


def host_plans(hosts: Iterable[Host]) -> Iterable[plan.HostPlan]:
    """The settings of hosts; the first of equal addresses wins, as in MOSN."""
    found: dict[str, plan.HostPlan] = {}
    for host in hosts:
        if host.address not in found:
            weight = min(max(host.weight, 1), MAX_WEIGHT)
            found[host.address] = plan.HostPlan(
                host.address, host.hostname, weight, labels_of(host.metadata), host.tls_disable
            )
    return found.values()


def _heartbeats(config: ClusterConfig) -> plan.HeartbeatPlan:
    defaults, block = plan.HeartbeatPlan(), config.keepalive
    if block is None:
        return defaults
    interval = block.interval or defaults.interval
    return plan.HeartbeatPlan(interval, block.timeout or defaults.timeout, block.failures, interval)


def tcp_keepalive(config: TcpKeepaliveConfig | None) -> TcpKeepalive | None:
    """The probes of TCP connections; None for the system's default."""
    return None if config is None else TcpKeepalive(int(config.idle), int(config.interval), config.probes)


def original_plan(config: ClusterConfig) -> plan.OriginalPlan | None:
    """How an ORIGINAL_DST cluster finds its hosts; None for other types."""
    if config.type != "ORIGINAL_DST" and config.lb_type != "LB_ORIGINAL_DST":
        return None
    block = config.original_dst_lb_config or OriginalDstConfig()
    allowed = [plan.AllowedPlan(entry.network, tuple(port_ranges(entry.ports))) for entry in block.allowed_destinations]
    header = (block.header_name.lower() or "host") if block.use_header else ""
    return plan.OriginalPlan(header, block.replace_local, tuple(allowed))


def labels_of(metadata: Metadata | None) -> Criteria:
    """The labels of a host, or those that a route demands, as criteria."""
    if metadata is None:
        return ()
    labels = metadata.filter_metadata.mosn_lb
    return criteria({key: str(value) for key, value in labels.items()})


def _balancing(config: ClusterConfig) -> plan.BalancingPlan:
    numbers = config.lbconfig or BalancerConfig()
    slow = config.slow_start
    subset = config.lb_subset_config
    return plan.BalancingPlan(
        lb_type=config.lb_type if balancers().get(config.lb_type) is not None else DEFAULT_BALANCER,
        choice_count=numbers.choice_count,
        active_request_bias=numbers.active_request_bias,
        client_error_bias=numbers.client_error_bias,
        server_error_bias=numbers.server_error_bias,
        panic_threshold=float(config.panic_threshold),
        slow_start=plan.SlowStartPlan(slow.slow_start_duration, slow.aggression, slow.min_weight_percent)
        if slow is not None and slow.mode == "duration" and slow.slow_start_duration > 0.0
        else None,
        subset=plan.SubsetPlan(
            tuple(tuple(sorted(selector)) for selector in subset.subset_selectors),
            subset.fall_back_policy,
            criteria(subset.default_subset),
        )
        if subset is not None
        else None,
    )


def _ejection(config: ClusterConfig) -> plan.EjectionPlan | None:
    block = config.outlier_detection
    if block is None:
        return None
    return plan.EjectionPlan(
        block.consecutive_errors,
        float(block.error_rate),
        block.minimum_requests,
        block.interval,
        block.base_ejection_time,
        float(block.max_ejection_percent),
    )
