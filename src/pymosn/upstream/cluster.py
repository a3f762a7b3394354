"""Clusters and their hosts, as one worker knows them. A change makes a new cluster object, which keeps what it can."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.network import Connection, Dialer, DialReceiver, NetworkFilter, plain_peer
from pymosn.api.stream import ConnectionPool, StreamProtocol
from pymosn.api.upstream import EJECTED, FAILED_ACTIVE_CHECK, Balancer, Host, Selection
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics, UpstreamStats
from pymosn.core.failure import ALL_UNHEALTHY, NO_HOSTS, OVERFLOW, Failure
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.network.original_dst import OwnAddresses
from pymosn.upstream.balancers import BalancerMaker, RoundRobin, make_balancer
from pymosn.upstream.ejection import Ejector, Outcomes
from pymosn.upstream.limits import Limits
from pymosn.upstream.original_dst import GuardedDialer, HostSource, OriginalHosts
from pymosn.upstream.plan import ClusterPlan, HostPlan
from pymosn.upstream.selection import BalancerOptions
from pymosn.upstream.slow_start import SlowStart
from pymosn.upstream.subset import SubsetBalancer, has_metadata


class PoolMaker:
    """Factory for connection pools; one per worker."""

    def __init__(
        self, protocols: Registry[StreamProtocol], dialer: Dialer, wheel: TimerWheel, own: OwnAddresses | None = None
    ) -> None:
        """`own`: addresses this process listens on, which no client may name as its destination."""
        self.protocols = protocols
        self.dialer = dialer
        self.wheel = wheel
        self.own = OwnAddresses() if own is None else own
        self.clock: Clock = wheel.clock

    def guarded(self) -> PoolMaker:
        """The factory for hosts that clients name."""
        return PoolMaker(self.protocols, GuardedDialer(self.dialer, self.own), self.wheel, self.own)


class ClusterHost(Host):
    """A host with its counters and its pools, one per protocol."""

    def __init__(
        self,
        plan: HostPlan,
        cluster: ClusterPlan,
        limits: Limits,
        stats: UpstreamStats,
        cluster_stats: UpstreamStats,
        maker: PoolMaker,
    ) -> None:
        super().__init__(plain_peer(plan.address), "", 1, 0.0, 0.0, 0)
        self.stats = stats
        self.cluster_stats = cluster_stats
        self.limits = limits
        self._maker = maker
        self._clock = maker.clock
        self._pools: dict[str, ConnectionPool] = {}
        self._outcomes: Outcomes | None = None
        self._is_closed = False
        self.activate(plan, cluster, limits)

    def set_health_flag(self, flag: i64, on: bool, now: float) -> None:
        was_on = self.health_flags & flag != 0
        super().set_health_flag(flag, on, now)
        if was_on != on:
            for stats in (self.stats, self.cluster_stats):
                gauge = stats.ejected if flag == EJECTED else stats.failed_active_check
                gauge.value += 1 if on else -1

    def activate(self, plan: HostPlan, cluster: ClusterPlan, limits: Limits) -> None:
        """Applies other settings, and reopens the host if it was closed. Open connections keep their settings."""
        if self._is_closed:
            self._is_closed = False
            self._pools = {}
        self.limits = limits
        self.hostname = plan.hostname
        self.weight = plan.weight
        self.metadata = dict(plan.metadata)
        self.connect_timeout = cluster.connect_timeout
        self.idle_timeout = cluster.idle_timeout
        self.max_connections = cluster.limits.connections
        self.max_requests_per_connection = cluster.max_requests_per_connection
        self.buffer_limit = cluster.buffer_limit
        self.heartbeat_interval = cluster.heartbeats.interval
        self.heartbeat_timeout = cluster.heartbeats.timeout
        self.heartbeat_failures = cluster.heartbeats.failures

    def watch(self, ejector: Ejector | None) -> None:
        """What becomes of its requests counts by this rule from now on; None is not at all."""
        outcomes = self._outcomes
        if ejector is None:
            self._outcomes = None
            if outcomes is not None:
                outcomes.end()
        elif outcomes is None:
            self._outcomes = Outcomes(self, ejector, self._clock, self._maker.wheel)
        else:
            outcomes.ejector = ejector

    def set_active_health(self, healthy: bool) -> None:
        """What the active health check says of it."""
        self.set_health_flag(FAILED_ACTIVE_CHECK, not healthy, self._clock.now)

    # ---- connections

    def pool(self, protocol: str) -> ConnectionPool:
        pool = self._pools.get(protocol)
        if pool is None:
            found = self._maker.protocols.get(protocol)
            if found is None:
                raise KeyError(protocol)
            pool = found.pool(self, self._maker.dialer, self._maker.wheel)
            self._pools[protocol] = pool
        return pool

    def dial(self, network_filter: NetworkFilter, receiver: DialReceiver) -> None:
        """Opens a connection outside of the pools; `try_connection` has taken its permit."""
        self._maker.dialer.dial(self.peer, self.connect_timeout, network_filter, receiver)

    def count_bytes(self, connection: Connection) -> None:
        """Adds the bytes of a connection that are not counted yet to the counters of host and cluster."""
        stats = self.stats
        cluster = self.cluster_stats
        read = stats.bytes_read.value
        written = stats.bytes_written.value
        connection.count_into(stats.bytes_read, stats.bytes_written)
        cluster.bytes_read.value += stats.bytes_read.value - read
        cluster.bytes_written.value += stats.bytes_written.value - written

    def close(self) -> None:
        """Closes the pools; requests in flight keep their connections."""
        self._is_closed = True
        self.watch(None)
        self.set_active_health(True)
        for pool in self._pools.values():
            pool.close()

    def try_connection(self) -> bool:
        limits = self.limits
        if not limits.connections.try_take():
            self._count_overflow()
            return False
        # Each dial has one request waiting for it.
        if not limits.pending.try_take():
            limits.connections.give_back()
            self._count_overflow()
            return False
        self.active_connections += 1
        return True

    def on_connection(self) -> None:
        self.limits.pending.give_back()
        for stats in (self.stats, self.cluster_stats):
            stats.connection_total.value += 1
            stats.connection_active.value += 1

    def on_connection_end(self, opened: bool) -> None:
        self.limits.connections.give_back()
        self.active_connections -= 1
        if not opened:
            self.limits.pending.give_back()
        for stats in (self.stats, self.cluster_stats):
            if opened:
                stats.connection_close.value += 1
                stats.connection_active.value -= 1
            else:
                stats.connection_failed.value += 1

    def on_unexpected_message(self) -> None:
        self.stats.response_stray.value += 1
        self.cluster_stats.response_stray.value += 1

    # ---- requests

    def try_request(self) -> bool:
        """Takes one of the requests that the cluster may have at once; False when there is none left."""
        if not self.limits.requests.try_take():
            self._count_overflow()
            return False
        self.active_requests += 1
        return True

    def end_request(self) -> None:
        """One that `try_request` gave is over."""
        self.limits.requests.give_back()
        self.active_requests -= 1

    def record_outcome(self, seconds: float, status: int) -> None:
        """A request was answered with `status` after `seconds`, or failed by the host's fault: then `status` is -1."""
        if self.latency is not None:
            self.latency.record(self._clock.now, seconds, status)
        if self._outcomes is not None:
            self._outcomes.record(status < 0 or status >= 500)

    def _count_overflow(self) -> None:
        self.stats.request_pending_overflow.value += 1
        self.cluster_stats.request_pending_overflow.value += 1


class Cluster(HostSource):
    """Hosts that do the same work, and the balancer that chooses among them.

    Made beside the one in force; `Clusters.activate` makes it act.
    """

    def __init__(
        self,
        plan: ClusterPlan,
        hosts: list[ClusterHost],
        kind: BalancerMaker,
        maker: PoolMaker,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self.name = plan.name
        self.plan = plan
        self.hosts = hosts
        self.stats = UpstreamStats(metrics.group("upstream", ("cluster", plan.name)))
        self.limits = limits
        self.balancer: Balancer = RoundRobin([])
        #: Set when its hosts are where the clients want to go.
        self.original = plan.original
        self._kind = kind
        self._maker = maker
        self._metrics = metrics

    def activate(self, before: Cluster | None) -> None:
        """It is in force from now on, in place of `before`: hosts and limits that both have get its settings."""
        plan = self.plan
        if before is not None:
            self.limits = before.limits
        self.limits.change(plan.limits)
        if plan.original is not None:
            self._activate_original(before, plan)
            return
        known: dict[str, ClusterHost] = {}
        if before is not None:
            # Another change may have come in between, so what is in force now counts, not what was when this was made.
            known = _known_hosts(before, plan)
            self.hosts = [known.get(host.address, host) for host in self.hosts]
        choices: list[Host] = list(self.hosts)
        ejector = Ejector(plan.ejection, choices) if plan.ejection is not None else None
        for host, host_plan in zip(self.hosts, plan.hosts, strict=True):
            host.activate(host_plan, plan, self.limits)
            host.watch(ejector)
            if before is not None and host.address not in known:
                host.healthy_since = self._maker.clock.now
        if before is not None and _chooses_alike(before.plan, plan):
            self.balancer = before.balancer
        else:
            self.balancer = self._make_balancer(choices)

    def _activate_original(self, before: Cluster | None, plan: ClusterPlan) -> None:
        kept = before.balancer if before is not None else None
        if before is None or not isinstance(kept, OriginalHosts):
            self.balancer = OriginalHosts(self, self._maker.clock, self._maker.wheel)
            return
        kept.source = self
        self.balancer = kept
        self.hosts = before.hosts
        for host in self.hosts:
            host.activate(HostPlan(host.address, host.address), plan, self.limits)

    def new_host(self, address: str) -> Host:
        group = self._metrics.group("upstream", ("cluster", self.name), ("host", address))
        plan = HostPlan(address, address)
        host = ClusterHost(plan, self.plan, self.limits, UpstreamStats(group), self.stats, self._maker.guarded())
        self.hosts.append(host)
        return host

    def drop_host(self, host: Host) -> None:
        assert isinstance(host, ClusterHost)
        self.hosts.remove(host)
        host.close()
        self._metrics.drop("upstream", ("cluster", self.name), ("host", host.address))

    def choices(self) -> i64:
        """How many hosts there are for a request."""
        return 1 if self.original is not None else len(self.hosts)

    def _make_balancer(self, choices: list[Host]) -> Balancer:
        plan = self.plan.balancing
        slow = plan.slow_start
        options = BalancerOptions(
            self._maker.clock,
            plan.choice_count,
            plan.active_request_bias,
            plan.client_error_bias,
            plan.server_error_bias,
            SlowStart(slow.duration, slow.aggression, slow.min_weight_percent) if slow is not None else None,
            plan.panic_threshold,
        )
        if plan.subset is not None:
            return SubsetBalancer(plan.subset, self._kind, choices, options)
        return make_balancer(self._kind, choices, options)

    def find(self, address: str) -> ClusterHost | None:
        """The host at `address`, however healthy it is."""
        for host in self.hosts:
            if host.address == address:
                return host
        return None

    def no_host_failure(self, selection: Selection) -> Failure:
        """What to say when the balancer found no host."""
        wanted = selection.subset
        if self.original is not None:
            return OVERFLOW if selection.destination else NO_HOSTS
        if wanted is not None and self.plan.balancing.subset is not None:
            return ALL_UNHEALTHY if any(has_metadata(host, wanted) for host in self.hosts) else NO_HOSTS
        return ALL_UNHEALTHY if self.hosts else NO_HOSTS

    def close(self) -> None:
        """Closes the pools of all hosts."""
        for host in self.hosts:
            host.close()


def make_cluster(
    plan: ClusterPlan, kind: BalancerMaker, maker: PoolMaker, metrics: Metrics, before: Cluster | None
) -> Cluster:
    """A cluster as `plan` says, without effect yet.

    Hosts of the same address as in `before`, the cluster of that name in force, are the same objects: they keep pools,
    health and what they have to do.
    """
    stats = UpstreamStats(metrics.group("upstream", ("cluster", plan.name)))
    limits = before.limits if before is not None else Limits(plan.limits)
    known = _known_hosts(before, plan) if before is not None else {}
    hosts: list[ClusterHost] = []
    for host_plan in plan.hosts:
        host = known.get(host_plan.address)
        if host is None:
            group = metrics.group("upstream", ("cluster", plan.name), ("host", host_plan.address))
            host = ClusterHost(host_plan, plan, limits, UpstreamStats(group), stats, maker)
        hosts.append(host)
    return Cluster(plan, hosts, kind, maker, metrics, limits)


def _chooses_alike(before: ClusterPlan, after: ClusterPlan) -> bool:
    """Whether a balancer made for one plan does for the other."""
    return before.original is None and before.hosts == after.hosts and before.balancing == after.balancing


def _known_hosts(before: Cluster, plan: ClusterPlan) -> dict[str, ClusterHost]:
    """The hosts of the cluster in force that one with `plan` may go on with, by address."""
    if before.original is not None or plan.original is not None:
        return {}
    return {host.address: host for host in before.hosts}


class Clusters:
    """All clusters of a worker by name. The dict is replaced, never changed."""

    def __init__(self) -> None:
        self.by_name: dict[str, Cluster] = {}

    def get(self, name: str) -> Cluster | None:
        """The cluster of that name."""
        return self.by_name.get(name)

    def activate(self, by_name: dict[str, Cluster]) -> None:
        """Puts another set in place; hosts that stand in none of its clusters close their pools."""
        old = self.by_name
        for name, cluster in by_name.items():
            before = old.get(name)
            if before is not cluster:
                cluster.activate(before)
        self.by_name = by_name
        kept = {id(host) for cluster in by_name.values() for host in cluster.hosts}
        for name, cluster in old.items():
            after = by_name.get(name)
            if after is not cluster:
                balancer = cluster.balancer
                if isinstance(balancer, OriginalHosts) and (after is None or after.balancer is not balancer):
                    balancer.forget_all()
                for host in cluster.hosts:
                    if id(host) not in kept:
                        host.close()
