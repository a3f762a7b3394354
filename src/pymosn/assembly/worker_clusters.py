"""The clusters of one worker: built next to the live ones, activated together, with the health of their hosts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from pymosn.assembly.clusters import plan_cluster
from pymosn.assembly.packed_config import (
    Digest,
    PackedCluster,
    PackedConfig,
    Parts,
    unpack_cluster,
    unpack_hosts,
)
from pymosn.assembly.prepared import BuildError
from pymosn.assembly.share import WorkerShare
from pymosn.assembly.steps import Steps
from pymosn.config.diagnostics import error_at
from pymosn.config.exchanged import exchanged_in
from pymosn.core.counters import Labels, Metrics
from pymosn.network.tls.settings import ClientSettings
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.ejection import Ejection
from pymosn.upstream.plan import HostPlan, all_tls

#: Clusters in one step.
NAMES_PER_STEP: Final = 500
#: Clusters that have been replaced, at least, or this share of all, before hosts that are no longer used are dropped.
MIN_REPLACED: Final = 64
SHARE: Final = 0.125
#: Seconds in which a host that another worker has ejected may appear: control planes send hosts late.
ADOPTION_TIME: Final = 300.0


class WorkerClusters(msgspec.Struct, eq=False):
    """Nothing here takes time in proportion to all hosts, except in steps."""

    #: The clusters that the data path uses.
    live: Clusters
    maker: PoolMaker
    metrics: Metrics
    share: WorkerShare
    active: dict[str, Cluster] = {}
    #: The parts of the active clusters, and the hosts of each part.
    packed: dict[str, PackedCluster] = {}
    plans: dict[Digest, tuple[HostPlan, ...]] = {}
    #: Addresses of hosts that failed their active checks, by cluster.
    unhealthy: dict[str, set[str]] = {}
    #: Ejections by another worker of hosts that have not appeared yet, by cluster; and until when they may appear.
    ejected: dict[str, list[Ejection]] = {}
    ejected_at: float = 0.0
    #: Clusters that were replaced since unused plans were dropped, and whether one of them had TLS.
    replaced: int = 0
    replaces_tls: bool = False

    def build(self, packed: PackedConfig) -> Steps[dict[str, Cluster]]:
        """All clusters of a configuration by name, without effect until `activate`."""
        changed = exchanged_in(self.packed, packed.clusters)
        if changed is not None:
            made = dict(self.active)
            for name, old, new in changed:
                if old != new:
                    made[name] = yield from self.build_one(new, packed.parts)
            return made
        made = {}
        for count, (name, entry) in enumerate(packed.clusters.items()):
            if self.packed.get(name) == entry:
                made[name] = self.active[name]
            else:
                made[name] = yield from self.build_one(entry, packed.parts)
            if not count % NAMES_PER_STEP:
                yield
        return made

    def build_one(self, packed: PackedCluster, parts: Parts) -> Steps[Cluster]:
        """A cluster that reuses what it can of the live one of its name.

        These are the hosts with the same address, with their pools, health and counters, and the use of the limits.
        Raises BuildError.
        """
        hosts: list[HostPlan] = []
        for digest in packed.hosts:
            plans = self.plans.get(digest)
            if plans is None:
                plans = self.plans[digest] = unpack_hosts(parts[digest])
                yield
            hosts += plans
        config = unpack_cluster(packed, parts)
        try:
            planned = plan_cluster(config, self.share, parts)
            if planned.original is None:
                planned = planned._replace(hosts=tuple(hosts))
            kind = balancers().get(planned.balancing.lb_type)
            assert kind is not None
            cluster = Cluster(planned, kind, self.maker, self.metrics, self.live.get(planned.name))
        except (KeyError, ValueError) as error:  # of its TLS context, which the supervisor has checked
            raise BuildError([error_at("cluster_manager", f"cluster {config.name!r}: tls_context: {error}")]) from None
        yield
        yield from cluster.build()
        return cluster

    def activate(self, clusters: dict[str, Cluster], packed: dict[str, PackedCluster]) -> None:
        """Makes built clusters live; removed ones stay reachable until `tidy`. `clean_up` must follow."""
        pairs = exchanged_in(self.active, clusters)
        if pairs is None:
            self.replaced += len(self.active)
            self.replaces_tls = True
        else:
            self._note_replaced([old for _, old, _ in pairs])
        self.active = clusters
        self.packed = packed
        self._switch({**self.live.by_name, **clusters}, None if pairs is None else [name for name, _, _ in pairs])

    def set_hosts(self, name: str, cluster: Cluster, packed: PackedCluster) -> None:
        """Makes one built cluster live."""
        self._note_replaced([self.active[name]])
        self.active = {**self.active, name: cluster}
        self.packed = {**self.packed, name: packed}
        self._switch({**self.live.by_name, name: cluster}, [name])

    def _note_replaced(self, clusters: list[Cluster]) -> None:
        self.replaced += len(clusters)
        uses_tls = any(tls is not None for cluster in clusters for tls in all_tls(cluster.plan))
        self.replaces_tls = self.replaces_tls or uses_tls

    def set_health(self, name: str, hosts: dict[str, bool]) -> None:
        """Applies results of the active health check, also for hosts that are added later."""
        unhealthy = self.unhealthy.setdefault(name, set())
        cluster = self.live.get(name)
        for address, healthy in hosts.items():
            (unhealthy.discard if healthy else unhealthy.add)(address)
            host = cluster.find(address) if cluster is not None else None
            if host is not None:
                host.set_active_health(healthy)

    def restore_ejections(self, ejections: Iterable[Ejection]) -> None:
        """Continues ejections by another worker, also of hosts that are added soon."""
        self.ejected_at = self.maker.clock.now
        self.ejected = {}
        for ejection in ejections:
            self.ejected.setdefault(ejection[0], []).append(ejection)
        for name in list(self.ejected):
            self._restore_ejections(name, self.live.get(name))

    def _restore_ejections(self, name: str, cluster: Cluster | None) -> None:
        if cluster is None:
            return
        passed = self.maker.clock.now - self.ejected_at
        later = []
        for ejection in self.ejected.pop(name):
            _, address, seconds, times, since, cause = ejection
            host = cluster.find(address)
            if host is not None:
                host.restore_ejection(max(0.0, seconds - passed), times, since + max(0.0, passed - seconds), cause)
            elif passed < ADOPTION_TIME:
                later.append(ejection)
        if later:
            self.ejected[name] = later

    def tidy(self) -> bool:
        """Drops removed clusters; False if there are none. `clean_up` must follow."""
        if self.live.by_name.keys() == self.active.keys():
            return False
        self.replaces_tls = True
        self.replaced += len(self.live.by_name) - len(self.active)
        self._switch(self.active)
        return True

    def clean_up(self) -> Steps[None]:
        """Closes the hosts that are in no cluster any more, and forgets what is known about them."""
        yield from self.live.close_dropped()
        if self.replaces_tls:
            self.replaces_tls = False
            used_tls: set[ClientSettings] = set()
            for count, active in enumerate(self.active.values()):
                used_tls.update(tls for tls in all_tls(active.plan) if tls is not None)
                if not count % NAMES_PER_STEP:
                    yield
            self.maker.tls.keep(used_tls)
        if self.replaced > max(MIN_REPLACED, SHARE * len(self.packed)):
            self.replaced = 0
            yield from self._forget_plans()
        for name in list(self.unhealthy):
            cluster = self.active.get(name)
            unhealthy = self.unhealthy[name]
            for address in list(unhealthy):
                if cluster is None or cluster.find(address) is None:
                    unhealthy.discard(address)
            if not unhealthy:
                del self.unhealthy[name]
            yield

    def _forget_plans(self) -> Steps[None]:
        """Drops the hosts of parts that no cluster has any more."""
        used: set[Digest] = set()
        for count, packed in enumerate(self.packed.values()):
            used.update(packed.hosts)
            if not count % NAMES_PER_STEP:
                yield
        for count, digest in enumerate([digest for digest in self.plans if digest not in used]):
            del self.plans[digest]
            if not count % NAMES_PER_STEP:
                yield

    def has(self, labels: Labels) -> bool:
        """Whether the cluster or host of a metric group still exists."""
        names = dict(labels)
        cluster = self.active.get(names.get("cluster", ""))
        return cluster is not None and ("host" not in names or cluster.find(names["host"]) is not None)

    def _switch(self, clusters: dict[str, Cluster], changed: list[str] | None = None) -> None:
        """`changed`: the names of all that differ; None if they are not known."""
        before = self.live.by_name
        self.live.switch(clusters, changed)
        for name, unhealthy in self.unhealthy.items():
            cluster = clusters.get(name)
            if cluster is None or cluster is before.get(name):
                continue
            for address in unhealthy:
                host = cluster.find(address)
                if host is not None:
                    host.set_active_health(False)
        for name in list(self.ejected):
            if clusters.get(name) is not before.get(name):
                self._restore_ejections(name, clusters.get(name))
