"""One worker's clusters and hosts. A change creates a new cluster, which keeps the hosts, limits and balancer it can.

A cluster may have tens of thousands of hosts, and everything here runs on the worker's event loop. So a cluster is built in
steps, in which it is compared with the active one; activating it then takes time only for the hosts that differ, and the
hosts that are gone are closed in steps again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mypy_extensions import i64

from pymosn.api.network import (
    PLAIN,
    Transport,
)
from pymosn.api.upstream import Balancer, Criteria, Host, Selection
from pymosn.core.counters import ClusterStats, Metrics, TlsStats
from pymosn.core.failure import ALL_UNHEALTHY, NO_HOSTS, OVERFLOW, Failure
from pymosn.network.tls.settings import ClientSettings
from pymosn.network.tls.upstream import ClientTls
from pymosn.upstream.balancers import BalancerMaker, RoundRobin, unbuilt_balancer
from pymosn.upstream.cluster_host import ClusterHost, HostContext, PoolMaker
from pymosn.upstream.limits import Limits
from pymosn.upstream.original_dst import HostSource, OriginalHosts
from pymosn.upstream.plan import REPORTED_DEGRADED, ClusterPlan, HostPlan, OriginalPlan, all_tls
from pymosn.upstream.selection import HOSTS_PER_STEP, BalancerOptions, draw
from pymosn.upstream.subset import SubsetBalancer, has_metadata
from pymosn.upstream.way_out import WayOut

#: Criteria whose result a cluster remembers; they may come from requests.
MAX_MATCHES: Final = 1000


class Cluster(HostSource):
    """Equivalent hosts and the balancer that selects among them.

    Created inactive, next to the active one, and built in steps (`build`); `Clusters.activate` activates it.
    """

    def __init__(
        self, plan: ClusterPlan, kind: BalancerMaker, maker: PoolMaker, metrics: Metrics, before: Cluster | None
    ) -> None:
        """Will reuse hosts with an address that the active cluster `before` has, with their pools, health and requests.

        Raises TlsFault.
        """
        self.name = plan.name
        self.plan = plan
        #: Set if the hosts are the clients' original destinations.
        self.original = plan.original
        if before is not None:
            self.context: HostContext = before.context
        else:
            stats = ClusterStats(metrics.group("upstream", ("cluster", plan.name)))
            self.context = HostContext(plan.name, Limits(plan.limits), stats, maker, metrics)
        self.stats = self.context.stats
        self.limits = self.context.limits
        self.balancer: Balancer = RoundRobin([])
        self.hosts: list[ClusterHost] = []
        self._by_address: dict[str, ClusterHost] = {}
        #: Hosts of `before` that this one does not have.
        self.dropped: list[ClusterHost] = []
        #: How hosts are connected to: the cluster's transport, then those that only some hosts have.
        self.transports = self._new_transports(before)
        alpn = next((tls.tls.alpn for tls in all_tls(plan) if tls is not None), ())
        #: Whether some requests are refused.
        self.drops: bool = len(plan.drops) > 0
        #: In which protocol requests are sent.
        self.way_out = WayOut(plan.upstream_protocol, alpn, maker.protocols)
        self._kind = kind
        self._rule = None if plan.original is None else maker.rule_for(plan.original)
        self._before = before
        # Hosts that `before` does not have, and those whose own settings differ.
        self._added: list[ClusterHost] = []
        self._options = BalancerOptions(maker.clock, plan.balancing, self.context.health)
        self._is_built = False
        # Whether a host with some metadata exists, for criteria that have been asked for.
        self._matches: dict[Criteria, bool] = {}

    def _new_transports(self, before: Cluster | None) -> list[Transport]:
        kept: dict[ClientSettings, Transport] = {}
        if before is not None:
            for transport in before.transports:
                if isinstance(transport, ClientTls):
                    kept[transport.settings] = transport
        context = self.context
        made: list[Transport] = []
        for settings in all_tls(self.plan):
            if settings is None:
                made.append(PLAIN)
                continue
            found = kept.get(settings)
            if found is None:
                stats = TlsStats(context.metrics.group("upstream", ("cluster", context.cluster)))
                found = kept[settings] = ClientTls(settings, context.maker.tls.get(settings), stats)
            made.append(found)
        return made

    def transport_of(self, host: HostPlan) -> Transport:
        """How a host is connected to."""
        return self.transports[int(host.transport)]

    def build(self) -> Iterator[None]:
        """Builds it in steps, without effect on the active one. `activate` does what is left to do."""
        if self.original is not None:
            self._is_built = True
            return
        before = self._before
        known: dict[str, ClusterHost] = {}
        if before is not None and before.original is None:
            known = before._by_address
        is_same = before is not None and before.original is None and len(before.hosts) == len(self.plan.hosts)
        for index, plan in enumerate(self.plan.hosts):
            host = known.get(plan.address)
            if host is None:
                rule = self.context.maker.rule_of(plan.address)
                host = ClusterHost(plan, self.plan, self.context, rule, self.transport_of(plan))
                self._added.append(host)
                is_same = False
            elif host.plan is not plan and host.plan != plan:
                self._options.upcoming[plan.address] = plan
                is_same = False
            if plan.priority > 0 or plan.health == REPORTED_DEGRADED:
                self._options.has_levels = True
            is_same = is_same and before is not None and before.hosts[index] is host
            self.hosts.append(host)
            self._by_address[plan.address] = host
            if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield
        if before is not None and before.original is None:
            for index, host in enumerate(before.hosts):
                if host.address not in self._by_address:
                    self.dropped.append(host)
                if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                    yield
        if is_same and before is not None and before.plan.balancing == self.plan.balancing:
            self.balancer = before.balancer
        else:
            self.balancer = self._new_balancer()
            yield from self.balancer.build()
        self._is_built = True

    def _new_balancer(self) -> Balancer:
        choices: list[Host] = list(self.hosts)
        if self.plan.balancing.localities:
            self._options.has_levels = True
        subset = self.plan.balancing.subset
        if subset is not None:
            return SubsetBalancer(subset, self._kind, choices, self._options, self.stats.subset_fallback)
        return unbuilt_balancer(self._kind, choices, self._options)

    def activate(self, before: Cluster | None) -> None:
        """Activates this cluster instead of `before`, and reuses hosts and limits of that with new settings."""
        plan = self.plan
        if before is not self._before or not self._is_built:
            # Another change has been activated since it was built.
            self._build_again(before)
        self._before = None
        self.limits.activate(plan.limits)
        if plan.original is not None:
            self._activate_original(before, plan)
            return
        if before is not None:
            now = self.context.maker.clock.now
            for host in self._added:
                host.healthy_since = now
        self._added = []
        for host_plan in self._options.upcoming.values():
            self._by_address[host_plan.address].apply(host_plan, self.transport_of(host_plan))
        self._options.upcoming = {}
        if before is None or before.plan._replace(hosts=()) != plan._replace(hosts=()):
            for host in self.hosts:
                host.apply_cluster(plan, self.transport_of(host.plan))
        self.context.ejector.activate(plan.ejection, len(self.hosts))
        if self.context.maker.is_first_worker:
            balancer = self.balancer
            self.stats.subsets_created.value = balancer.subset_count() if isinstance(balancer, SubsetBalancer) else 0

    def discard(self) -> Iterator[None]:
        """Frees the memory of a cluster that will not be activated, in steps."""
        added = self._added
        self.hosts = []
        self._by_address = {}
        self._options.upcoming = {}
        self.balancer = RoundRobin([])
        while added:
            del added[-HOSTS_PER_STEP:]
            yield

    def _build_again(self, before: Cluster | None) -> None:
        self._before = before
        if before is not None:
            self.context = before.context
            self.stats = self.context.stats
            self.limits = self.context.limits
        self.transports = self._new_transports(before)
        self.hosts = []
        self._by_address = {}
        self._added = []
        self.dropped = []
        self._options = BalancerOptions(self.context.maker.clock, self.plan.balancing, self.context.health)
        for _ in self.build():
            pass

    def _activate_original(self, before: Cluster | None, plan: ClusterPlan) -> None:
        kept = before.balancer if before is not None else None
        if before is None or not isinstance(kept, OriginalHosts):
            self.balancer = OriginalHosts(self, self.context.maker.clock, self.context.maker.wheel)
            if before is not None:
                self.dropped = list(before.hosts)
            return
        kept.source = self
        self.balancer = kept
        self.hosts = before.hosts
        if _rule_of(before.original) != _rule_of(plan.original):
            kept.forget_all()  # clients may no longer choose all of them, and their open connections would still be used
        for host in self.hosts:
            host.apply_cluster(plan, self.transports[0])

    def new_host(self, address: str) -> Host:
        host = ClusterHost(HostPlan(address, address), self.plan, self.context, self._rule, self.transports[0])
        self.hosts.append(host)
        return host

    def drop_host(self, host: Host) -> None:
        assert isinstance(host, ClusterHost)
        self.hosts.remove(host)
        self.context.close_host(host)

    def dropped_category(self) -> str:
        """The category by which this request is refused; empty if it is not. Each applies to what the others have left."""
        for category, per_million in self.plan.drops:
            if draw(1_000_000) < per_million:
                return category or "drop_overload"
        return ""

    def choices(self) -> i64:
        """Number of hosts that a request can be sent to."""
        return 1 if self.original is not None else len(self.hosts)

    def find(self, address: str) -> ClusterHost | None:
        """The host at `address`, whatever its health."""
        if self.original is None:
            return self._by_address.get(address)
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
            return ALL_UNHEALTHY if self._has_match(criteria) else NO_HOSTS
        return ALL_UNHEALTHY if self.hosts else NO_HOSTS

    def _has_match(self, criteria: Criteria) -> bool:
        found = self._matches.get(criteria)
        if found is None:
            found = any(has_metadata(host, criteria) for host in self.hosts)
            if len(self._matches) < MAX_MATCHES:
                self._matches[criteria] = found
        return found

    def close(self) -> None:
        """Closes the pools of all hosts."""
        for host in self.hosts:
            host.close()


def _rule_of(original: OriginalPlan | None) -> OriginalPlan | None:
    """The part of a plan that decides which destinations clients may choose."""
    return None if original is None else original._replace(header="any" if original.header else "")
