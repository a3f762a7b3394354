"""One worker's clusters and hosts. A change creates a new cluster, which keeps the hosts, limits and balancer it can."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.network import Connection, Dialer, DialReceiver, DialRule, NetworkFilter, plain_peer
from pymosn.api.stream import ConnectionPool, StreamProtocol
from pymosn.api.upstream import EJECTED, FAILED_ACTIVE_CHECK, Balancer, Host, Selection
from pymosn.core.addresses import UNIX, normal_ip
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics, UpstreamStats
from pymosn.core.failure import ALL_UNHEALTHY, NO_HOSTS, OVERFLOW, Failure
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.network.destinations import LOCALHOST, AllowedRange, ClientDestinations, NamedHost, OwnAddresses
from pymosn.upstream.balancers import BalancerMaker, RoundRobin, make_balancer
from pymosn.upstream.ejection import Ejector, Outcomes
from pymosn.upstream.limits import Limits
from pymosn.upstream.original_dst import HostSource, OriginalHosts
from pymosn.upstream.plan import ClusterPlan, HostPlan, OriginalPlan
from pymosn.upstream.selection import BalancerOptions
from pymosn.upstream.subset import SubsetBalancer, has_metadata


class PoolMaker:
    """Factory for connection pools; one per worker."""

    def __init__(
        self, protocols: Registry[StreamProtocol], dialer: Dialer, wheel: TimerWheel, own: OwnAddresses | None = None
    ) -> None:
        """`own`: this process's addresses, which must not be a client's destination."""
        self.protocols = protocols
        self.dialer = dialer
        self.wheel = wheel
        self.own = OwnAddresses() if own is None else own
        self.clock: Clock = wheel.clock

    def rule_for(self, original: OriginalPlan) -> DialRule:
        """The rule for the destinations that clients choose."""
        allowed = [AllowedRange(entry.network, entry.ports) for entry in original.allowed]
        # Without a header it is the kernel that says where the client wanted to go.
        return ClientDestinations(self.own, allowed, bool(original.header) and not original.replace_local)

    def rule_of(self, address: str) -> DialRule | None:
        """The rule for a host of the configuration; None for one whose address is literal."""
        if address.startswith(UNIX):
            return None
        host = address.rpartition(":")[0]
        return None if host.startswith("[") or normal_ip(host) or host.lower() in LOCALHOST else NamedHost(self.own)


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
        rule: DialRule | None = None,
    ) -> None:
        """`rule`: for a host that is not the operator's choice alone."""
        super().__init__(plain_peer(plan.address, rule), "", 1, 0.0, 0.0, 0)
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
        """Applies new settings, reopening a closed host. Open connections keep their settings."""
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

    def set_ejector(self, ejector: Ejector | None) -> None:
        """Sets the passive health rule for further requests; None disables it."""
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
        """Records the result of the active health check."""
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
        """Opens a connection outside of any pool; `try_connection` must have succeeded before."""
        self._maker.dialer.dial(self.peer, self.connect_timeout, network_filter, receiver)

    def count_bytes(self, connection: Connection) -> None:
        """Adds the connection's uncounted bytes to the counters of host and cluster."""
        read = self.stats.bytes_read
        written = self.stats.bytes_written
        read_before = read.value
        written_before = written.value
        connection.count_into(read, written)
        self.cluster_stats.bytes_read.value += read.value - read_before
        self.cluster_stats.bytes_written.value += written.value - written_before

    def close(self) -> None:
        """Closes the pools; requests in flight keep their connections."""
        self._is_closed = True
        self.set_ejector(None)
        self.set_active_health(True)
        for pool in self._pools.values():
            pool.close()

    def try_connection(self) -> bool:
        limits = self.limits
        if limits.connections.try_acquire():
            # Each dial has one waiting request.
            if limits.pending.try_acquire():
                self.active_connections += 1
                return True
            limits.connections.release()
        self._count_overflow()
        return False

    def on_connection(self) -> None:
        self.limits.pending.release()
        for stats in (self.stats, self.cluster_stats):
            stats.connection_total.value += 1
            stats.connection_active.value += 1

    def on_connection_end(self, opened: bool) -> None:
        self.limits.connections.release()
        self.active_connections -= 1
        if not opened:
            self.limits.pending.release()
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
        """Acquires one of the cluster's concurrent requests; returns False if the limit is reached."""
        if not self.limits.requests.try_acquire():
            self._count_overflow()
            return False
        self.active_requests += 1
        return True

    def end_request(self) -> None:
        """Releases a request that `try_request` acquired."""
        self.limits.requests.release()
        self.active_requests -= 1

    def record_outcome(self, seconds: float, status: int) -> None:
        """Records the outcome of a request that the host is responsible for: `status`, or -1 if it failed.

        `seconds`: until the response's head, negative if unknown.
        """
        if self.latency is not None:
            self.latency.record(self._clock.now, seconds, status)
        if self._outcomes is not None:
            self._outcomes.record(status < 0 or status >= 500)

    def _count_overflow(self) -> None:
        self.stats.request_pending_overflow.value += 1
        self.cluster_stats.request_pending_overflow.value += 1


class Cluster(HostSource):
    """Equivalent hosts and the balancer that selects among them.

    Created inactive, next to the active one; `Clusters.activate` activates it.
    """

    def __init__(
        self, plan: ClusterPlan, kind: BalancerMaker, maker: PoolMaker, metrics: Metrics, before: Cluster | None
    ) -> None:
        """Reuses hosts with an address that the active cluster `before` has, with their pools, health and requests."""
        self.name = plan.name
        self.plan = plan
        self.stats = UpstreamStats(metrics.group("upstream", ("cluster", plan.name)))
        self.limits: Limits = before.limits if before is not None else Limits(plan.limits)
        self.balancer: Balancer = RoundRobin([])
        #: Set if the hosts are the clients' original destinations.
        self.original = plan.original
        self._kind = kind
        self._maker = maker
        self._metrics = metrics
        self._rule = None if plan.original is None else maker.rule_for(plan.original)
        self.hosts: list[ClusterHost] = []
        known = self._known_hosts(before)
        self.hosts = [known.get(host.address) or self._make_host(host, maker.rule_of(host.address)) for host in plan.hosts]

    def _known_hosts(self, before: Cluster | None) -> dict[str, ClusterHost]:
        """The hosts of the active cluster `before` that this one may reuse, by address."""
        if before is None or before.original is not None or self.original is not None:
            return {}
        return {host.address: host for host in before.hosts}

    def _make_host(self, plan: HostPlan, rule: DialRule | None) -> ClusterHost:
        group = self._metrics.group("upstream", ("cluster", self.name), ("host", plan.address))
        return ClusterHost(plan, self.plan, self.limits, UpstreamStats(group), self.stats, self._maker, rule)

    def activate(self, before: Cluster | None) -> None:
        """Activates this cluster instead of `before`, and reuses hosts and limits of that with new settings."""
        plan = self.plan
        if before is not None:
            self.limits = before.limits
        self.limits.activate(plan.limits)
        if plan.original is not None:
            self._activate_original(before, plan)
            return
        # Uses the hosts of `before` rather than those known at creation: another change may have been activated since.
        known = self._known_hosts(before)
        self.hosts = [known.get(host.address, host) for host in self.hosts]
        choices: list[Host] = list(self.hosts)
        ejector = Ejector(plan.ejection, choices) if plan.ejection is not None else None
        for host, host_plan in zip(self.hosts, plan.hosts, strict=True):
            host.activate(host_plan, plan, self.limits)
            host.set_ejector(ejector)
            if before is not None and host.address not in known:
                host.healthy_since = self._maker.clock.now
        if before is not None and _can_share_balancer(before.plan, plan):
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
        if _rule_of(before.original) != _rule_of(plan.original):
            kept.forget_all()  # clients may no longer choose all of them, and their open connections would still be used
        for host in self.hosts:
            host.activate(HostPlan(host.address, host.address), plan, self.limits)

    def new_host(self, address: str) -> Host:
        host = self._make_host(HostPlan(address, address), self._rule)
        self.hosts.append(host)
        return host

    def drop_host(self, host: Host) -> None:
        assert isinstance(host, ClusterHost)
        self.hosts.remove(host)
        host.close()
        self._metrics.drop("upstream", ("cluster", self.name), ("host", host.address))

    def choices(self) -> i64:
        """Number of hosts that a request can be sent to."""
        return 1 if self.original is not None else len(self.hosts)

    def _make_balancer(self, choices: list[Host]) -> Balancer:
        options = BalancerOptions(self._maker.clock, self.plan.balancing)
        subset = self.plan.balancing.subset
        if subset is not None:
            return SubsetBalancer(subset, self._kind, choices, options)
        return make_balancer(self._kind, choices, options)

    def find(self, address: str) -> ClusterHost | None:
        """The host at `address`, whatever its health."""
        for host in self.hosts:
            if host.address == address:
                return host
        return None

    def no_host_failure(self, selection: Selection) -> Failure:
        """The failure to report when no host is available."""
        criteria = selection.subset
        if self.original is not None:
            return OVERFLOW if selection.destination else NO_HOSTS
        if criteria is not None and self.plan.balancing.subset is not None:
            return ALL_UNHEALTHY if any(has_metadata(host, criteria) for host in self.hosts) else NO_HOSTS
        return ALL_UNHEALTHY if self.hosts else NO_HOSTS

    def close(self) -> None:
        """Closes the pools of all hosts."""
        for host in self.hosts:
            host.close()


def _rule_of(original: OriginalPlan | None) -> OriginalPlan | None:
    """The part of a plan that decides which destinations clients may choose."""
    return None if original is None else original._replace(header="any" if original.header else "")


def _can_share_balancer(before: ClusterPlan, after: ClusterPlan) -> bool:
    """Whether a balancer created for one plan is valid for the other."""
    return before.original is None and before.hosts == after.hosts and before.balancing == after.balancing


class Clusters:
    """All clusters of a worker by name. The dict is replaced as a whole, never changed."""

    def __init__(self) -> None:
        self.by_name: dict[str, Cluster] = {}

    def get(self, name: str) -> Cluster | None:
        """Returns the cluster of that name, or None."""
        return self.by_name.get(name)

    def activate(self, by_name: dict[str, Cluster]) -> None:
        """Activates another set of clusters; hosts that are in none of them close their pools."""
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
