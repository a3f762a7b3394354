"""Clusters of the configuration as run-time clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymosn.api.upstream import criteria
from pymosn.config.schema import Cluster as ClusterConfig
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.cluster import BalancerConfig, CircuitBreaker, Host, OriginalDstConfig
from pymosn.core.counters import Metrics
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster, PoolMaker, make_cluster
from pymosn.upstream.limits import worker_share
from pymosn.upstream.plan import (
    BalancingPlan,
    ClusterPlan,
    EjectionPlan,
    HeartbeatPlan,
    HostPlan,
    LimitPlan,
    OriginalPlan,
    SlowStartPlan,
    SubsetPlan,
)

DEFAULT_BALANCER: Final = "LB_ROUNDROBIN"
MAX_WEIGHT: Final = 128


class BuiltCluster:
    """A run-time cluster and the configuration that it was built from."""

    def __init__(self, config: ClusterConfig, cluster: Cluster) -> None:
        self.config = config
        self.cluster = cluster


def build_clusters(
    config: MosnConfig,
    maker: PoolMaker,
    metrics: Metrics,
    workers: int,
    before: Mapping[str, BuiltCluster] | None = None,
    worker: int = -1,
) -> dict[str, BuiltCluster]:
    """All clusters by name, without effect until `Clusters.activate` puts them in force.

    `workers`: how many workers share each cluster's limits, `worker`: which of them this is. `before`: see `build_cluster`.
    """
    known = before or {}
    return {
        cluster.name: build_cluster(cluster, maker, metrics, workers, known.get(cluster.name), worker)
        for cluster in config.cluster_manager.clusters
    }


def build_cluster(
    config: ClusterConfig,
    maker: PoolMaker,
    metrics: Metrics,
    workers: int,
    before: BuiltCluster | None = None,
    worker: int = -1,
) -> BuiltCluster:
    """One cluster. Of `before`, the cluster of that name in force, what has not changed is taken over.

    That is the whole object when nothing has changed, otherwise each host of the same address, with its pools, its health
    and its counters, and what is in use of the limits.
    """
    if before is not None and before.config == config:
        return before
    kind = balancers().get(config.lb_type) or balancers().get(DEFAULT_BALANCER)
    assert kind is not None
    plan = plan_cluster(config, workers, worker)
    old = before.cluster if before is not None else None
    return BuiltCluster(config, make_cluster(plan, kind, maker, metrics, old))


def plan_cluster(config: ClusterConfig, workers: int, worker: int = -1) -> ClusterPlan:
    """What the cluster is to be, as plain values."""
    limits = config.circuit_breakers[0] if config.circuit_breakers else CircuitBreaker()
    hosts: dict[str, HostPlan] = {}
    for host in config.hosts:
        # Of equal addresses the first counts, as in MOSN.
        hosts.setdefault(host.address, _host(host))
    original = original_plan(config)
    return ClusterPlan(
        name=config.name,
        hosts=tuple(hosts.values()) if original is None else (),
        balancing=_balancing(config),
        limits=LimitPlan(
            worker_share(limits.max_connections, workers, worker),
            worker_share(limits.max_pending_requests, workers, worker),
            worker_share(limits.max_requests, workers, worker),
            worker_share(limits.max_retries, workers, worker),
        ),
        ejection=_ejection(config) if original is None else None,
        connect_timeout=config.connect_timeout,
        idle_timeout=config.idle_timeout,
        max_requests_per_connection=config.max_request_per_conn,
        buffer_limit=config.conn_buffer_limit_bytes,
        original=original,
        heartbeats=_heartbeats(config),
    )


def _heartbeats(config: ClusterConfig) -> HeartbeatPlan:
    asked = config.keepalive
    if asked is None:
        return HeartbeatPlan()
    usual = HeartbeatPlan()
    return HeartbeatPlan(asked.interval or usual.interval, asked.timeout or usual.timeout, asked.failures)


def original_plan(config: ClusterConfig) -> OriginalPlan | None:
    """How an ORIGINAL_DST cluster finds its hosts; None for a cluster of another type."""
    if config.type != "ORIGINAL_DST" and config.lb_type != "LB_ORIGINAL_DST":
        return None
    block = config.original_dst_lb_config or OriginalDstConfig()
    return OriginalPlan((block.header_name.lower() or "host") if block.use_header else "", block.replace_local)


def _host(config: Host) -> HostPlan:
    labels = config.metadata.filter_metadata.mosn_lb if config.metadata is not None else {}
    metadata = criteria({key: str(value) for key, value in labels.items()})
    return HostPlan(config.address, config.hostname, min(max(config.weight, 1), MAX_WEIGHT), metadata)


def _balancing(config: ClusterConfig) -> BalancingPlan:
    numbers = config.lbconfig or BalancerConfig()
    slow = config.slow_start
    subset = config.lb_subset_config
    return BalancingPlan(
        lb_type=config.lb_type if balancers().get(config.lb_type) is not None else DEFAULT_BALANCER,
        choice_count=numbers.choice_count,
        active_request_bias=numbers.active_request_bias,
        client_error_bias=numbers.client_error_bias,
        server_error_bias=numbers.server_error_bias,
        panic_threshold=float(config.panic_threshold),
        slow_start=SlowStartPlan(slow.slow_start_duration, slow.aggression, slow.min_weight_percent)
        if slow is not None and slow.mode == "duration" and slow.slow_start_duration > 0.0
        else None,
        subset=SubsetPlan(
            tuple(tuple(sorted(selector)) for selector in subset.subset_selectors),
            subset.fall_back_policy,
            criteria(subset.default_subset),
        )
        if subset is not None
        else None,
    )


def _ejection(config: ClusterConfig) -> EjectionPlan | None:
    block = config.outlier_detection
    if block is None:
        return None
    return EjectionPlan(
        block.consecutive_errors,
        float(block.error_rate),
        block.minimum_requests,
        block.interval,
        block.base_ejection_time,
        float(block.max_ejection_percent),
    )
