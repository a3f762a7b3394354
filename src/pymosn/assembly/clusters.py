"""The settings of clusters as the data path uses them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from pymosn.api.network import TcpKeepalive
from pymosn.api.upstream import Criteria, ServiceFacts, criteria
from pymosn.assembly.share import WorkerShare
from pymosn.assembly.tls import client_settings, resolver
from pymosn.config.schema import Cluster as ClusterConfig
from pymosn.config.schema import Host
from pymosn.config.schema.cluster import (
    BalancerConfig,
    CircuitBreaker,
    ClusterHttp2,
    Enforcing,
    OriginalDstConfig,
    SlowStart,
)
from pymosn.config.schema.connections import TcpKeepalive as TcpKeepaliveConfig
from pymosn.config.schema.router import Metadata
from pymosn.core.address_ranges import port_ranges
from pymosn.upstream import plan
from pymosn.upstream.balancers import balancers

DEFAULT_BALANCER: Final = "LB_ROUNDROBIN"
MAX_WEIGHT: Final = 128
#: What `health` of a host means; all others are healthy.
_REPORTS: Final = {
    "unhealthy": plan.REPORTED_UNHEALTHY,
    "draining": plan.REPORTED_UNHEALTHY,
    "degraded": plan.REPORTED_DEGRADED,
}


def plan_cluster(config: ClusterConfig, share: WorkerShare, parts: Mapping[bytes, bytes] | None = None) -> plan.ClusterPlan:
    """The settings of a cluster, as it is packed, as plain values. `parts`: of its TLS context. Raises ValueError."""
    block = next((block for block in config.circuit_breakers if block.priority == "DEFAULT"), CircuitBreaker())
    limits = (block.max_connections, block.max_pending_requests, block.max_requests, block.max_retries)
    original = original_plan(config)
    find = resolver(parts or {})
    http2 = config.http2 or ClusterHttp2()
    return plan.ClusterPlan(
        name=config.name,
        hosts=tuple(host_plans(config)) if original is None else (),
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
        tls=client_settings(config.tls_context, find),
        upstream_protocol=config.upstream_protocol,
        max_connection_age=config.max_connection_age,
        keepalive=tcp_keepalive(config.tcp_keepalive),
        stream_window=http2.initial_stream_window_size,
        connection_window=http2.initial_connection_window_size,
        max_frame_size=config.max_frame_size,
        host_tls=tuple(client_settings(match.tls_context, find) for match in config.tls_matches),
        bind=config.bind_address,
        keeps_alpn=config.keep_alpn,
        is_strict=config.upstream_profile == "strict",
        drops=tuple((drop.category, drop.per_million) for drop in config.drop_overload),
        attempt_delay=config.connect_attempt_delay,
        service=None if config.istio is None else ServiceFacts(*msgspec.structs.astuple(config.istio)),
    )


def host_plans(config: ClusterConfig) -> Iterable[plan.HostPlan]:
    """The settings of a cluster's hosts; the first of equal addresses wins, as in MOSN."""
    found: dict[str, plan.HostPlan] = {}
    has_localities = bool(config.localities)
    for host in config.hosts:
        if host.address not in found:
            found[host.address] = plan.HostPlan(
                host.address,
                host.hostname,
                min(max(host.weight, 1), MAX_WEIGHT),
                labels_of(host.metadata),
                host.tls_disable,
                host.priority,
                _REPORTS.get(host.health, plan.REPORTED_HEALTHY),
                tls_match_of(config, host) + 1 if config.tls_matches else 0,
                host.locality if has_localities else "",
                host.hash_weight,
                host.workload,
            )
    return found.values()


def tls_match_of(config: ClusterConfig, host: Host) -> int:
    """The index of the first of `tls_matches` whose labels a host has; -1 if there is none."""
    labels = host.tls_labels.items()
    return next((i for i, match in enumerate(config.tls_matches) if match.labels.items() <= labels), -1)


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
        slow_start=_slow_start(slow)
        if slow is not None and slow.mode == "duration" and slow.slow_start_duration > 0.0
        else None,
        subset=plan.SubsetPlan(
            tuple(tuple(sorted(selector)) for selector in subset.subset_selectors),
            subset.fall_back_policy,
            criteria(subset.default_subset),
            subset.falls_back_without_criteria,
        )
        if subset is not None
        else None,
        fails_in_panic=config.fail_in_panic,
        overprovisioning=config.overprovisioning_factor,
        localities=tuple(plan.LocalityPlan(*msgspec.structs.astuple(entry)) for entry in config.localities),
        minimum_ring=numbers.minimum_ring_size,
        maximum_ring=numbers.maximum_ring_size,
        table_size=numbers.table_size,
        hash_function=numbers.hash_function,
        hashes_hostnames=numbers.hashes_hostnames,
    )


def _slow_start(config: SlowStart) -> plan.SlowStartPlan:
    """Its settings, with defaults instead of values that are not positive, as in MOSN."""
    defaults = SlowStart()
    return plan.SlowStartPlan(
        config.slow_start_duration,
        config.aggression if config.aggression > 0 else defaults.aggression,
        config.min_weight_percent if config.min_weight_percent > 0 else defaults.min_weight_percent,
    )


def _ejection(config: ClusterConfig) -> plan.EjectionPlan | None:
    block = config.outlier_detection
    if block is None:
        return None
    rate, share = block.success_rate, block.failure_percentage
    return plan.EjectionPlan(
        block.consecutive_errors,
        float(block.error_rate),
        block.minimum_requests,
        block.interval,
        block.base_ejection_time,
        float(block.max_ejection_percent),
        block.always_eject_one,
        block.max_ejection_time,
        block.max_ejection_time_jitter,
        block.consecutive_gateway_failures,
        block.splits_local_origin,
        block.consecutive_local_origin_failures,
        None if rate is None else plan.SuccessRatePlan(*msgspec.structs.astuple(rate)),
        None if share is None else plan.FailurePercentagePlan(*msgspec.structs.astuple(share)),
        plan.EnforcingPlan(*msgspec.structs.astuple(block.enforcing or Enforcing())),
    )
