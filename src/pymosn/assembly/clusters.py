"""Builds run-time clusters from the configuration."""

from __future__ import annotations

from typing import Final, NamedTuple

from pymosn.api.upstream import criteria
from pymosn.assembly.share import WorkerShare
from pymosn.config.schema import Cluster as ClusterConfig
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.cluster import BalancerConfig, CircuitBreaker, Host, OriginalDstConfig
from pymosn.core.counters import Labels, Metrics
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster, Clusters, PoolMaker
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


class BuiltCluster(NamedTuple):
    """A run-time cluster, with the configuration that it was built from."""

    config: ClusterConfig
    cluster: Cluster


class WorkerClusters:
    """The clusters of one worker: built next to the live ones, activated together, with the health of their hosts."""

    def __init__(self, live: Clusters, maker: PoolMaker, metrics: Metrics, share: WorkerShare) -> None:
        """`live`: the clusters that the data path uses."""
        self._live = live
        self._maker = maker
        self._metrics = metrics
        self._share = share
        self._active: dict[str, BuiltCluster] = {}
        # Cluster and address of hosts that failed their active checks.
        self._unhealthy: set[tuple[str, str]] = set()

    def build(self, config: MosnConfig) -> dict[str, BuiltCluster]:
        """All clusters of a configuration by name, without effect until `activate`."""
        return {cluster.name: self._build(cluster) for cluster in config.cluster_manager.clusters}

    def _build(self, config: ClusterConfig) -> BuiltCluster:
        return build_cluster(config, self._maker, self._metrics, self._share, self._active.get(config.name))

    def activate(self, clusters: dict[str, BuiltCluster]) -> None:
        """Makes built clusters live; removed ones stay reachable until `tidy`."""
        self._active = clusters
        self._activate({**self._live.by_name, **_objects(clusters)})

    def set_hosts(self, config: ClusterConfig) -> None:
        """Replaces the hosts of a cluster; `config` is its whole new configuration."""
        built = self._build(config)
        self._active = {**self._active, config.name: built}
        self._activate({**self._live.by_name, config.name: built.cluster})

    def set_health(self, name: str, hosts: dict[str, bool]) -> None:
        """Applies results of the active health check, also for hosts that are added later."""
        for address, healthy in hosts.items():
            (self._unhealthy.discard if healthy else self._unhealthy.add)((name, address))
        self._apply_health(name)

    def tidy(self) -> None:
        """Drops removed clusters."""
        self._activate(_objects(self._active))
        self._unhealthy &= {(name, host.address) for name, built in self._active.items() for host in built.cluster.hosts}

    def has(self, labels: Labels) -> bool:
        """Whether the cluster or host of a metric group still exists."""
        names = dict(labels)
        built = self._active.get(names.get("cluster", ""))
        if built is None:
            return False
        return "host" not in names or any(host.address == names["host"] for host in built.cluster.hosts)

    def _activate(self, clusters: dict[str, Cluster]) -> None:
        self._live.activate(clusters)
        for name in clusters:
            self._apply_health(name)

    def _apply_health(self, name: str) -> None:
        cluster = self._live.get(name)
        for host in cluster.hosts if cluster is not None else ():
            host.set_active_health((name, host.address) not in self._unhealthy)


def _objects(clusters: dict[str, BuiltCluster]) -> dict[str, Cluster]:
    return {name: built.cluster for name, built in clusters.items()}


def build_cluster(
    config: ClusterConfig, maker: PoolMaker, metrics: Metrics, share: WorkerShare, before: BuiltCluster | None = None
) -> BuiltCluster:
    """One cluster. `before`: the active one of that name, whose unchanged parts are reused.

    That is the whole object if nothing has changed; otherwise hosts with the same address, with their pools, health and
    counters, and the current use of the limits.
    """
    if before is not None and before.config == config:
        return before
    kind = balancers().get(config.lb_type) or balancers().get(DEFAULT_BALANCER)
    assert kind is not None
    old = before.cluster if before is not None else None
    return BuiltCluster(config, Cluster(plan_cluster(config, share), kind, maker, metrics, old))


def plan_cluster(config: ClusterConfig, share: WorkerShare) -> ClusterPlan:
    """The settings of a cluster as plain values."""
    limits = config.circuit_breakers[0] if config.circuit_breakers else CircuitBreaker()
    hosts: dict[str, HostPlan] = {}
    for host in config.hosts:
        # The first of equal addresses wins, as in MOSN.
        hosts.setdefault(host.address, _host(host))
    original = original_plan(config)
    return ClusterPlan(
        name=config.name,
        hosts=tuple(hosts.values()) if original is None else (),
        balancing=_balancing(config),
        limits=LimitPlan(
            share.of(limits.max_connections),
            share.of(limits.max_pending_requests),
            share.of(limits.max_requests),
            share.of(limits.max_retries),
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
    defaults, block = HeartbeatPlan(), config.keepalive
    if block is None:
        return defaults
    return HeartbeatPlan(block.interval or defaults.interval, block.timeout or defaults.timeout, block.failures)


def original_plan(config: ClusterConfig) -> OriginalPlan | None:
    """How an ORIGINAL_DST cluster finds its hosts; None for other types."""
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
