"""Builds run-time clusters from the configuration."""

from __future__ import annotations

from typing import Final

import msgspec

from pymosn.api.upstream import Criteria, criteria
from pymosn.assembly.share import WorkerShare
from pymosn.config.schema import Cluster as ClusterConfig
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.cluster import BalancerConfig, CircuitBreaker, OriginalDstConfig
from pymosn.config.schema.router import Metadata
from pymosn.core.address_ranges import port_ranges
from pymosn.core.counters import Labels, Metrics
from pymosn.upstream import plan
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster, Clusters, PoolMaker

DEFAULT_BALANCER: Final = "LB_ROUNDROBIN"
MAX_WEIGHT: Final = 128


class WorkerClusters(msgspec.Struct, eq=False):
    """The clusters of one worker: built next to the live ones, activated together, with the health of their hosts."""

    #: The clusters that the data path uses.
    live: Clusters
    maker: PoolMaker
    metrics: Metrics
    share: WorkerShare
    active: dict[str, Cluster] = {}
    #: Cluster and address of hosts that failed their active checks.
    unhealthy: set[tuple[str, str]] = set()

    def build(self, config: MosnConfig) -> dict[str, Cluster]:
        """All clusters of a configuration by name, without effect until `activate`."""
        return {cluster.name: self._build(cluster) for cluster in config.cluster_manager.clusters}

    def _build(self, config: ClusterConfig) -> Cluster:
        """One cluster: the active one of that name if nothing has changed, otherwise one that reuses its unchanged parts.

        These are the hosts with the same address, with their pools, health and counters, and the use of the limits.
        """
        before = self.active.get(config.name)
        planned = plan_cluster(config, self.share)
        if before is not None and before.plan == planned:
            return before
        kind = balancers().get(planned.balancing.lb_type)
        assert kind is not None
        return Cluster(planned, kind, self.maker, self.metrics, before)

    def activate(self, clusters: dict[str, Cluster]) -> None:
        """Makes built clusters live; removed ones stay reachable until `tidy`."""
        self.active = clusters
        self._activate({**self.live.by_name, **clusters})

    def set_hosts(self, config: ClusterConfig) -> None:
        """Replaces the hosts of a cluster; `config` is its whole new configuration."""
        self.activate({**self.active, config.name: self._build(config)})

    def set_health(self, name: str, hosts: dict[str, bool]) -> None:
        """Applies results of the active health check, also for hosts that are added later."""
        for address, healthy in hosts.items():
            (self.unhealthy.discard if healthy else self.unhealthy.add)((name, address))
        self._apply_health(name)

    def tidy(self) -> None:
        """Drops removed clusters."""
        self._activate(self.active)
        self.unhealthy &= {(name, host.address) for name, cluster in self.active.items() for host in cluster.hosts}

    def has(self, labels: Labels) -> bool:
        """Whether the cluster or host of a metric group still exists."""
        names = dict(labels)
        cluster = self.active.get(names.get("cluster", ""))
        if cluster is None:
            return False
        return "host" not in names or any(host.address == names["host"] for host in cluster.hosts)

    def _activate(self, clusters: dict[str, Cluster]) -> None:
        self.live.activate(clusters)
        for name in clusters:
            self._apply_health(name)

    def _apply_health(self, name: str) -> None:
        cluster = self.live.get(name)
        for host in cluster.hosts if cluster is not None else ():
            host.set_active_health((name, host.address) not in self.unhealthy)


def plan_cluster(config: ClusterConfig, share: WorkerShare) -> plan.ClusterPlan:
    """The settings of a cluster as plain values."""
    block = config.circuit_breakers[0] if config.circuit_breakers else CircuitBreaker()
    limits = (block.max_connections, block.max_pending_requests, block.max_requests, block.max_retries)
    hosts: dict[str, plan.HostPlan] = {}
    for host in config.hosts:
        weight = min(max(host.weight, 1), MAX_WEIGHT)
        # The first of equal addresses wins, as in MOSN.
        hosts.setdefault(host.address, plan.HostPlan(host.address, host.hostname, weight, labels_of(host.metadata)))
    original = original_plan(config)
    return plan.ClusterPlan(
        name=config.name,
        hosts=tuple(hosts.values()) if original is None else (),
        balancing=_balancing(config),
        limits=plan.LimitPlan(*(share.of(limit) for limit in limits)),
        ejection=_ejection(config) if original is None else None,
        connect_timeout=config.connect_timeout,
        idle_timeout=config.idle_timeout,
        max_requests_per_connection=config.max_request_per_conn,
        buffer_limit=config.conn_buffer_limit_bytes,
        original=original,
        heartbeats=_heartbeats(config),
    )


def _heartbeats(config: ClusterConfig) -> plan.HeartbeatPlan:
    defaults, block = plan.HeartbeatPlan(), config.keepalive
    if block is None:
        return defaults
    return plan.HeartbeatPlan(block.interval or defaults.interval, block.timeout or defaults.timeout, block.failures)


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
    labels = {} if metadata is None else metadata.filter_metadata.mosn_lb
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
