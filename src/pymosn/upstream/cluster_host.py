"""The hosts of one worker's clusters, their connection pools and counters. A host that was never used has no counters."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.alpn import AlpnOffers
from pymosn.api.network import (
    PLAIN,
    Connection,
    Dialer,
    DialReceiver,
    DialRule,
    NetworkFilter,
    Peer,
    Transport,
)
from pymosn.api.stream import ConnectionPool, StreamProtocol
from pymosn.api.upstream import FAILED_ACTIVE_CHECK, NO_METADATA, OUT, REPORTED, FaultRule, Host
from pymosn.core.addresses import UNIX, address_host, normal_ip
from pymosn.core.clock import Clock
from pymosn.core.counters import ClusterStats, Counter, MetricGroup, Metrics, UpstreamStats
from pymosn.core.log import WARN, Log
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.network.destinations import LOCALHOST, AllowedRange, ClientDestinations, NamedHost, OwnAddresses
from pymosn.network.proxy_protocol import client_preface
from pymosn.network.tls.settings import ClientSettings
from pymosn.network.tls.upstream import ClientContexts, ClientTls
from pymosn.upstream.alpn_pool import AlpnPool
from pymosn.upstream.ejection import Ejector, Outcomes, RecentEjections
from pymosn.upstream.fault_tolerance import Faults
from pymosn.upstream.host_peer import Sockets, offered, peer_of, sockets_for, sockets_of
from pymosn.upstream.limits import Limits
from pymosn.upstream.plan import REPORTED_DEGRADED, REPORTED_UNHEALTHY, ClusterPlan, HostPlan, OriginalPlan
from pymosn.upstream.selection import HealthVersion
from pymosn.upstream.way_out import AUTO

#: Variants of TLS that a cluster remembers.
MAX_OFFERS: Final = 64


class PoolMaker:
    """Factory for connection pools; one per worker."""

    def __init__(
        self,
        protocols: Registry[StreamProtocol],
        dialer: Dialer,
        wheel: TimerWheel,
        own: OwnAddresses | None = None,
        log: Log | None = None,
    ) -> None:
        """`own`: this process's addresses, which must not be a client's destination. `log`: for what hosts do not speak."""
        self.log = Log() if log is None else log
        self.protocols = protocols
        self.dialer = dialer
        self.wheel = wheel
        self.own = OwnAddresses() if own is None else own
        self.clock: Clock = wheel.clock
        self.tls = ClientContexts()
        self.ejections = RecentEjections()
        #: Whether this worker counts what all workers have alike.
        self.is_first_worker = True
        #: Pools that were replaced because the TLS of their connections has changed.
        self.pools_changed = Counter()

    def rule_for(self, original: OriginalPlan) -> DialRule:
        """The rule for the destinations that clients choose."""
        allowed = [AllowedRange(entry.network, entry.ports) for entry in original.allowed]
        # Without a header it is the kernel that says where the client wanted to go.
        return ClientDestinations(self.own, allowed, bool(original.header) and not original.replace_local)

    def rule_of(self, address: str) -> DialRule | None:
        """The rule for a host of the configuration; None for one whose address is literal."""
        if address.startswith(UNIX):
            return None
        host = address_host(address)
        # A literal IPv6 address may have a zone.
        return None if ":" in host or normal_ip(host) or host.lower() in LOCALHOST else NamedHost(self.own)


class HostContext:
    """What all hosts of a cluster share; it outlives the cluster's snapshots."""

    def __init__(self, cluster: str, limits: Limits, stats: ClusterStats, maker: PoolMaker, metrics: Metrics) -> None:
        self.cluster = cluster
        self.limits = limits
        self.stats = stats
        self.maker = maker
        self.metrics = metrics
        self.ejector = Ejector(maker.wheel, cluster, maker.ejections)
        self.faults = Faults(maker.wheel)
        self.health = HealthVersion()
        # Variants of the hosts' transports, by their settings and the protocols that they offer.
        self._offered: dict[tuple[ClientSettings, tuple[str, ...]], ClientTls] = {}

    def offering(self, transport: ClientTls, alpn: tuple[str, ...]) -> ClientTls:
        """`transport`, which is the cluster's or a host's, with another offer of protocols. Raises TlsFault."""
        before = transport.settings
        found = self._offered.get((before, alpn))
        if found is None:
            if len(self._offered) >= MAX_OFFERS:
                self._offered = {}  # those of certificates that have been replaced
            settings = before._replace(tls=before.tls._replace(alpn=alpn))
            found = ClientTls(settings, self.maker.tls.get(settings), transport.stats)
            self._offered[before, alpn] = found
        return found

    def close_host(self, host: ClusterHost) -> None:
        """Closes the pools of a host that the cluster no longer has, and removes its counters."""
        host.close()
        self.metrics.drop("upstream", ("cluster", self.cluster), ("host", host.address))


@mypyc_attr(acyclic=True)
class ClusterHost(Host):
    """A host with its pools, one per protocol, and, once it has been used, its counters."""

    def __init__(
        self,
        plan: HostPlan,
        cluster: ClusterPlan,
        context: HostContext,
        rule: DialRule | None = None,
        transport: Transport = PLAIN,
    ) -> None:
        """`rule`: for a host that is not the operator's choice alone. `transport`: of the cluster's connections."""
        super().__init__(peer_of(plan, transport, rule, sockets_for(cluster)), "", 1, 0.0, 0.0, 0)
        self.cluster_stats = context.stats
        self.limits = context.limits
        self._context = context
        self._maker = context.maker
        self._clock = context.maker.clock
        self._stats: UpstreamStats | None = None
        self._pools: dict[str, ConnectionPool] | None = None
        # How to dial with another offer of protocols than the cluster's; and protocols that it speaks instead of others.
        self._peers: dict[tuple[str, ...], Peer] | None = None
        self._instead: dict[str, str] | None = None
        self._outcomes: Outcomes | None = None
        self._is_closed = False
        self._keeps_alpn = cluster.keeps_alpn
        self._transport = transport
        self.plan = plan
        self.apply(plan, transport)
        self.apply_cluster(cluster, transport)

    @property
    def stats(self) -> UpstreamStats:
        """The counters of the host, which exist from its first use on."""
        stats = self._stats
        if stats is None:
            stats = self._stats = UpstreamStats(self._group())
        return stats

    def _group(self) -> MetricGroup:
        labels = (("cluster", self._context.cluster), ("host", self.address))
        if self._is_closed:  # a request of an old snapshot: nothing would remove a registered group
            return MetricGroup("upstream", labels)
        return self._context.metrics.group("upstream", *labels)

    @property
    def is_gone(self) -> bool:
        """Whether the cluster no longer has it."""
        return self._is_closed

    def set_health_flag(self, flag: i64, on: bool, now: float) -> None:
        before: i64 = self.health_flags
        super().set_health_flag(flag, on, now)
        if before != self.health_flags:
            self._context.health.value += 1
            change = 1 if on else -1
            cluster = self.cluster_stats
            # Without `stats`, which are large: all hosts may fail their checks before they are ever used.
            if flag & OUT != 0:
                if (before & OUT == 0) != (self.health_flags & OUT == 0):
                    self._group().gauge("ejected").value += change
                    cluster.ejected.value += change
            elif flag == FAILED_ACTIVE_CHECK:
                self._group().gauge("failed_active_check").value += change
                cluster.failed_active_check.value += change

    def apply(self, plan: HostPlan, transport: Transport) -> None:
        """Applies the settings of this host. `transport`: of its connections."""
        self.plan = plan
        self._transport = transport
        self.priority = plan.priority
        self.locality = plan.locality
        self.is_degraded = plan.health == REPORTED_DEGRADED
        self.set_health_flag(REPORTED, plan.health == REPORTED_UNHEALTHY, self._clock.now)
        self.hostname = plan.hostname
        self.weight = plan.weight
        self.hash_weight = plan.hash_weight
        self.metadata = dict(plan.metadata) if plan.metadata else NO_METADATA
        self._renew_peer(sockets_of(self.peer))

    def _renew_peer(self, sockets: Sockets) -> None:
        """Applies how its connections are made. If their security has changed, no further request is sent on open ones."""
        before = self.peer
        peer = peer_of(self.plan, self._transport, before.rule, sockets)
        if peer.transport is before.transport and peer.server_name == before.server_name:
            if sockets != sockets_of(before):
                self.peer = peer
                self._peers = None
            return
        self.peer = peer
        self._peers = None
        self._instead = None
        pools = self._pools
        if pools is not None:
            self._pools = None
            self._maker.pools_changed.value += len(pools)
            for pool in list(pools.values()):
                pool.close()

    def apply_cluster(self, cluster: ClusterPlan, transport: Transport) -> None:
        """Applies the settings of the cluster; `transport`: of this host. Open connections keep theirs."""
        self._transport = transport
        self._renew_peer(sockets_for(cluster))
        self.connect_timeout = cluster.connect_timeout
        self.idle_timeout = cluster.idle_timeout
        self.max_connections = cluster.limits.connections
        self.max_requests_per_connection = cluster.max_requests_per_connection
        self.buffer_limit = cluster.buffer_limit
        self.proxy_protocol = cluster.proxy_protocol
        self._keeps_alpn = cluster.keeps_alpn
        self.heartbeat_interval = cluster.heartbeats.interval
        self.heartbeat_timeout = cluster.heartbeats.timeout
        self.heartbeat_failures = cluster.heartbeats.failures
        self.ping_interval = cluster.heartbeats.pings
        self.max_connection_age = cluster.max_connection_age
        self.stream_window = cluster.stream_window
        self.connection_window = cluster.connection_window
        self.is_strict = cluster.is_strict
        self.max_frame_size = cluster.max_frame_size

    def set_active_health(self, healthy: bool) -> None:
        """Records the result of the active health check."""
        self.set_health_flag(FAILED_ACTIVE_CHECK, not healthy, self._clock.now)

    # ---- connections

    def peer_for(self, alpn: str, needs_alpn: bool, offer: tuple[str, ...] = ()) -> Peer:
        peer = self.peer
        transport = peer.transport
        if not isinstance(transport, ClientTls):
            return peer
        configured = transport.settings.tls.alpn
        names = offer or offered(configured, alpn, needs_alpn)
        if names == configured:
            return peer
        if self._peers is None:
            self._peers = {}
        found = self._peers.get(names)
        if found is None:
            offering = self._context.offering(transport, names)
            found = peer_of(self.plan, offering, peer.rule, sockets_of(peer))
            self._peers[names] = found
        return found

    def speak_instead(self, refused: str, spoken: str) -> None:
        if self._instead is None:
            self._instead = {}
        if refused not in self._instead:
            self._instead[refused] = spoken
            log = self._maker.log
            if log.level <= WARN:
                text = f"cluster {self._context.cluster}: {self.address} does not speak {refused}: using {spoken}"
                log.write(WARN, text, "mosn.upstream.protocol")

    def pool(self, protocol: str, offers: AlpnOffers | None = None) -> ConnectionPool:
        if self._instead is not None:
            protocol = self._instead.get(protocol, protocol)
        if offers is not None:
            return self._offering_pool(protocol, offers)
        pools = self._pools
        if pools is not None:
            pool = pools.get(protocol)
            if pool is not None:
                return pool
        return self._make_pool(protocol, protocol, None)

    def _offering_pool(self, protocol: str, offers: AlpnOffers) -> ConnectionPool:
        """The pool whose connections offer what `offers` has for the protocol, unless they offer nothing by ALPN."""
        offer = offers.get(protocol)
        if offer is None or self._keeps_alpn or not isinstance(self.peer.transport, ClientTls):
            return self.pool(protocol)
        pools = self._pools
        if pools is not None:
            pool = pools.get(offer.key)
            if pool is not None:
                return pool
        made = self._make_pool(offer.key, protocol, offers)
        made.offer = offer.names
        return made

    def _make_pool(self, key: str, protocol: str, offers: AlpnOffers | None) -> ConnectionPool:
        """Makes the pool that `key` identifies."""
        maker = self._maker
        if protocol == AUTO:
            pool: ConnectionPool = AlpnPool(self, maker.dialer, maker.protocols, offers)
        else:
            found = maker.protocols.get(protocol)
            if found is None:
                raise KeyError(protocol)
            pool = found.pool(self, maker.dialer, maker.wheel)
        if self._pools is None:
            self._pools = {}
        self._pools[key] = pool
        if self._is_closed:
            pool.close()  # its connections end with their requests
        return pool

    def dial(self, network_filter: NetworkFilter, receiver: DialReceiver, client: Connection) -> None:
        """Opens a connection for one client, outside of any pool; `try_connection` must have succeeded before."""
        preface = client_preface(self.proxy_protocol, client) if self.proxy_protocol else b""
        self._maker.dialer.dial(self.peer, self.connect_timeout, network_filter, receiver, preface)

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
        outcomes = self._outcomes
        if outcomes is not None:
            self._outcomes = None
            outcomes.close()
        self._context.faults.forget(self)
        self.set_active_health(True)
        if self._pools is not None:
            for pool in list(self._pools.values()):
                pool.close()
        self._drop_pools()

    def _drop_pools(self) -> None:
        """Forgets the pools of a closed host once nothing uses them; they are a cycle that nothing collects."""
        if self._is_closed and self.active_requests == 0 and self.active_connections == 0:
            self._pools = None

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

    def is_full(self) -> bool:
        return self.limits.connections.is_reached()

    def on_connection(self) -> None:
        self.limits.pending.release()
        for stats in (self.stats, self.cluster_stats):
            stats.connection_total.value += 1
            stats.connection_active.value += 1

    def on_connection_end(self, opened: bool) -> None:
        self.limits.connections.release()
        self.active_connections -= 1
        if self._is_closed:
            self._drop_pools()
        if not opened:
            self.limits.pending.release()
        for stats in (self.stats, self.cluster_stats):
            if opened:
                stats.connection_close.value += 1
                stats.connection_active.value -= 1
            else:
                stats.connection_failed.value += 1

    def note_close(self, is_remote: bool, has_request: bool) -> None:
        for stats in (self.stats, self.cluster_stats):
            if is_remote:
                stats.connection_remote_close.value += 1
            else:
                stats.connection_local_close.value += 1
            if has_request:
                cut = stats.connection_remote_cut if is_remote else stats.connection_local_cut
                cut.value += 1

    def note_farewell(self) -> None:
        self.stats.connection_close_notify.value += 1
        self.cluster_stats.connection_close_notify.value += 1

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
        if self._is_closed:
            self._drop_pools()

    def record_outcome(self, seconds: float, status: int) -> None:
        """Records the outcome of a request that the host is responsible for: `status`, or -1 if it failed.

        `seconds`: until the response's head, negative if unknown.
        """
        if self.latency is not None:
            self.latency.record(self._clock.now, seconds, status)
        ejector = self._context.ejector
        if ejector.is_on and not self._is_closed:
            self._recent_outcomes(ejector).record(status)

    def record_fault(self, rule: FaultRule, status: i64) -> None:
        """Records the same for the rule of a listener. `status`: of the response, or of the failure."""
        if not self._is_closed:
            self._context.faults.record(rule, self, status)

    def restore_ejection(self, seconds: float, times: i64, since: float, cause: str = "") -> None:
        """Continues an ejection by another worker, see `Outcomes.restore`; not if the cluster has no rules for ejection."""
        ejector = self._context.ejector
        if ejector.is_on and not self._is_closed:
            self._recent_outcomes(ejector).restore(seconds, times, since, cause)

    def _recent_outcomes(self, ejector: Ejector) -> Outcomes:
        outcomes = self._outcomes
        if outcomes is None:
            outcomes = self._outcomes = Outcomes(self, ejector, self._clock, self._maker.wheel)
        return outcomes

    def _count_overflow(self) -> None:
        self.stats.request_pending_overflow.value += 1
        self.cluster_stats.request_pending_overflow.value += 1
