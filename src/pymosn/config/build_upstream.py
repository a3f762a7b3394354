"""Clusters of the configuration as run-time clusters."""

from __future__ import annotations

from pymosn.api.upstream import Host
from pymosn.config.schema import Cluster as ClusterConfig
from pymosn.config.schema import MosnConfig
from pymosn.core.counters import Metrics, UpstreamStats
from pymosn.upstream.balancers import RoundRobin, balancers
from pymosn.upstream.cluster import Cluster, ClusterHost, ConnectionLimit, PoolMaker


def build_clusters(config: MosnConfig, maker: PoolMaker, metrics: Metrics, workers: int) -> dict[str, Cluster]:
    """All clusters by name. `workers`: how many workers share each cluster's limits."""
    known = balancers()
    clusters: dict[str, Cluster] = {}
    for cluster in config.cluster_manager.clusters:
        stats = UpstreamStats(metrics.group("upstream", ("cluster", cluster.name)))
        hosts = _hosts(cluster, stats, maker, metrics, workers)
        balancer = known.get(cluster.lb_type) or RoundRobin
        choices: list[Host] = list(hosts)
        clusters[cluster.name] = Cluster(cluster.name, hosts, balancer(choices), stats)
    return clusters


def _hosts(
    cluster: ClusterConfig, stats: UpstreamStats, maker: PoolMaker, metrics: Metrics, workers: int
) -> list[ClusterHost]:
    limit = ConnectionLimit(worker_share(_max_connections(cluster), workers))
    hosts: dict[str, ClusterHost] = {}
    for host in cluster.hosts:
        if host.address not in hosts:  # of equal addresses the first counts, as in MOSN
            group = metrics.group("upstream", ("cluster", cluster.name), ("host", host.address))
            hosts[host.address] = ClusterHost(
                host.address,
                host.hostname,
                host.weight,
                cluster.connect_timeout,
                cluster.idle_timeout,
                limit,
                UpstreamStats(group),
                stats,
                maker,
            )
    return list(hosts.values())


def _max_connections(cluster: ClusterConfig) -> int:
    return cluster.circuit_breakers[0].max_connections if cluster.circuit_breakers else 0


def worker_share(limit: int, workers: int) -> int:
    """One worker's part of a limit: together the workers never exceed it, except that each may have one."""
    return max(1, limit // workers) if limit > 0 else 0
