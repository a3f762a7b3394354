"""Clusters and their hosts, as one worker knows them. A change of hosts makes a new cluster object."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.network import Dialer
from pymosn.api.stream import ConnectionPool, StreamProtocol
from pymosn.api.upstream import Balancer, Host
from pymosn.core.counters import UpstreamStats
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel


class PoolMaker:
    """What it takes to open pools; one per worker."""

    def __init__(self, protocols: Registry[StreamProtocol], dialer: Dialer, wheel: TimerWheel) -> None:
        self.protocols = protocols
        self.dialer = dialer
        self.wheel = wheel


class ConnectionLimit:
    """How many connections a cluster may have at once in this worker; 0 is no limit."""

    def __init__(self, limit: i64) -> None:
        self.limit: i64 = limit
        self.open: i64 = 0


class ClusterHost(Host):
    """A host with its pools, one per protocol that is spoken to it, and its counters."""

    def __init__(
        self,
        address: str,
        hostname: str,
        weight: i64,
        connect_timeout: float,
        idle_timeout: float,
        limit: ConnectionLimit,
        stats: UpstreamStats,
        cluster_stats: UpstreamStats,
        maker: PoolMaker,
    ) -> None:
        super().__init__(address, hostname, weight, connect_timeout, idle_timeout, limit.limit)
        self.stats = stats
        self.cluster_stats = cluster_stats
        self._limit = limit
        self._maker = maker
        self._pools: dict[str, ConnectionPool] = {}

    def pool(self, protocol: str) -> ConnectionPool:
        pool = self._pools.get(protocol)
        if pool is None:
            spoken = self._maker.protocols.get(protocol)
            if spoken is None:
                raise KeyError(protocol)
            pool = spoken.pool(self, self._maker.dialer, self._maker.wheel)
            self._pools[protocol] = pool
        return pool

    def close(self) -> None:
        """Closes the pools; requests in flight keep their connections."""
        for pool in self._pools.values():
            pool.close()

    def try_connection(self) -> bool:
        limit = self._limit
        if limit.limit > 0 and limit.open >= limit.limit:
            self.stats.request_pending_overflow.value += 1
            self.cluster_stats.request_pending_overflow.value += 1
            return False
        limit.open += 1
        return True

    def on_connection(self) -> None:
        for stats in (self.stats, self.cluster_stats):
            stats.connection_total.value += 1
            stats.connection_active.value += 1

    def on_connection_end(self, opened: bool) -> None:
        self._limit.open -= 1
        for stats in (self.stats, self.cluster_stats):
            if opened:
                stats.connection_close.value += 1
                stats.connection_active.value -= 1
            else:
                stats.connection_failed.value += 1


class Cluster:
    """Hosts that do the same work, and the balancer that chooses among them."""

    def __init__(self, name: str, hosts: list[ClusterHost], balancer: Balancer, stats: UpstreamStats) -> None:
        self.name = name
        self.hosts = hosts
        self.balancer = balancer
        self.stats = stats

    def close(self) -> None:
        """Closes the pools of all hosts."""
        for host in self.hosts:
            host.close()


class Clusters:
    """All clusters of a worker by name. The dict is replaced, never changed."""

    def __init__(self) -> None:
        self.by_name: dict[str, Cluster] = {}

    def get(self, name: str) -> Cluster | None:
        """The cluster of that name."""
        return self.by_name.get(name)

    def replace(self, by_name: dict[str, Cluster]) -> None:
        """Puts another set in place; clusters that are gone close their pools."""
        old = self.by_name
        self.by_name = by_name
        for name, cluster in old.items():
            if by_name.get(name) is not cluster:
                cluster.close()
