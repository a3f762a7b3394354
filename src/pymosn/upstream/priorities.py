"""Balancing among the priorities and localities of a cluster; within each, its ordinary balancer chooses.

Only clusters that have priorities, degraded hosts or localities with weights use it (`BalancerOptions.has_levels`).
`priority_load.py` has the arithmetic. Health is counted again when it has changed, at most every COUNT_PERIOD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import NO_CONSTRAINTS, Balancer, Host, Selection
from pymosn.core.hash64 import remainder
from pymosn.upstream.hashing import STEP, mix, request_hash
from pymosn.upstream.priority_load import HostCounts, PriorityLoad, locality_weight, priority_loads
from pymosn.upstream.selection import HOSTS_PER_STEP, BalancerOptions, draw

#: Seconds between two counts of the healthy hosts.
COUNT_PERIOD: Final[float] = 0.1
#: Random numbers for requests without a hash.
NUMBERS: Final[i64] = 0xFFFFFFFFFFFFF
#: Which hosts of a priority or locality may be chosen.
HEALTHY: Final = 0
DEGRADED: Final = 1
ANY: Final = 2

#: Creates a balancer for some hosts, which must be built before its first use.
Maker = Callable[[list[Host], BalancerOptions], Balancer]


class Group:
    """The hosts of one priority, or of a locality within it, with balancers for all and for those of equal standing."""

    def __init__(self, weight: i64 = 0) -> None:
        """`weight`: of the locality."""
        self.weight: i64 = weight
        self.hosts: list[Host] = []
        self.degraded_hosts: list[Host] = []
        self.counts = HostCounts(0, 0, 0)
        # None: there are no such hosts; `_any` also if none is degraded.
        self._normal: Balancer | None = None
        self._degraded: Balancer | None = None
        self._any: Balancer | None = None

    def add(self, host: Host, is_degraded: bool) -> None:
        """Adds a host, before `build`."""
        self.hosts.append(host)
        if is_degraded:
            self.degraded_hosts.append(host)

    def build(self, maker: Maker, options: BalancerOptions) -> Iterator[None]:
        """Builds the balancers, in steps."""
        if not self.degraded_hosts:
            self._normal = maker(self.hosts, options)
            yield from self._normal.build()
            return
        worse = {host.address for host in self.degraded_hosts}
        normal = [host for host in self.hosts if host.address not in worse]
        self._any = maker(self.hosts, options)
        yield from self._any.build()
        self._degraded = maker(self.degraded_hosts, options)
        yield from self._degraded.build()
        if normal:
            self._normal = maker(normal, options)
            yield from self._normal.build()

    def parts(self) -> list[object]:
        """See `Balancer.parts`."""
        found: list[object] = []
        for balancer in (self._normal, self._degraded, self._any):
            if balancer is not None:
                found += balancer.parts()
        return found

    def uses_hash(self) -> bool:
        """Whether its balancers use the hash of requests."""
        balancer = self._any or self._normal
        return balancer is not None and balancer.uses_hash

    def count(self) -> None:
        """Counts the hosts by their health."""
        healthy: i64 = 0
        degraded: i64 = 0
        for host in self.hosts:
            if host.is_healthy:
                if host.is_degraded:
                    degraded += 1
                else:
                    healthy += 1
        self.counts = HostCounts(len(self.hosts), healthy, degraded)

    def usable(self, kind: i64) -> i64:
        """The number of hosts of a kind, at the last count."""
        counts = self.counts
        if kind == HEALTHY:
            return counts.healthy
        return counts.degraded if kind == DEGRADED else counts.total

    def choose(self, kind: i64, selection: Selection) -> Host | None:
        """A host of a kind. ANY: whatever its health, if `selection` ignores that."""
        balancer = self._normal
        if kind == DEGRADED:
            balancer = self._degraded
        elif kind == ANY and self._any is not None:
            balancer = self._any
        return None if balancer is None else balancer.choose(selection)


class Level:
    """The hosts of one priority. `localities`: those that have a weight; empty if it does not balance among these."""

    def __init__(self) -> None:
        self.all = Group()
        self.localities: list[Group] = []

    def choose(self, kind: i64, selection: Selection, factor: i64, number: i64) -> Host | None:
        """A host of a kind. `number`: selects the locality; evenly distributed below 2**63."""
        localities = self.localities
        if not localities:
            return self.all.choose(kind, selection)
        weights: list[float] = []
        total = 0.0
        for locality in localities:
            weight = locality_weight(locality.weight, locality.counts, locality.usable(kind), factor)
            weights.append(weight)
            total += weight
        if total <= 0.0:
            return self.all.choose(kind, selection)
        point = float(number % 1_000_000_007) / 1_000_000_007.0 * total
        for index, locality in enumerate(localities):
            point -= weights[index]
            if point < 0.0:
                found = locality.choose(kind, selection)
                # Its hosts may have become unhealthy since the last count, or have been tried.
                return self.all.choose(kind, selection) if found is None or not selection.allows(found) else found
        return self.all.choose(kind, selection)


class Priorities(Balancer):
    """Distributes requests among priorities and localities by their health."""

    def __init__(self, maker: Maker, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts)
        self._maker = maker
        self._options = options
        self._clock = options.clock
        self._factor: i64 = options.plan.overprovisioning
        self._threshold = options.plan.panic_threshold
        self._fails_in_panic = options.plan.fails_in_panic
        self._levels: list[Level] = []
        self._loads: list[PriorityLoad] = []
        self._ignore_health = Selection()
        self._ignore_health.ignores_health = True
        self._counted: i64 = -1
        self._until = 0.0

    def build(self) -> Iterator[None]:
        options = self._options
        by_priority: dict[int, Level] = {}
        weights = {(plan.priority, plan.locality): plan.weight for plan in options.plan.localities}
        localities: dict[tuple[int, str], Group] = {}
        for index, host in enumerate(self.hosts):
            priority = int(options.priority(host))
            level = by_priority.get(priority)
            if level is None:
                level = by_priority[priority] = Level()
            is_degraded = options.is_degraded(host)
            level.all.add(host, is_degraded)
            key = (priority, options.locality(host))
            locality = localities.get(key)
            # A ring or table of Envoy's divides itself among the localities.
            if locality is None and not options.plan.hash_function and weights.get(key, 0) > 0:
                locality = localities[key] = Group(weights[key])
                level.localities.append(locality)
            if locality is not None:
                locality.add(host, is_degraded)
            if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield
        for priority in sorted(by_priority):
            level = by_priority[priority]
            self._levels.append(level)
            yield from level.all.build(self._maker, options)
            for locality in level.localities:
                yield from locality.build(self._maker, options)
            self.uses_hash = self.uses_hash or level.all.uses_hash()
        self.follows_envoy = self.uses_hash and options.plan.hash_function != ""

    def parts(self) -> list[object]:
        found: list[object] = []
        for level in self._levels:
            found += level.all.parts()
            for locality in level.localities:
                found += locality.parts()
        return found

    def choose(self, selection: Selection) -> Host | None:
        levels = self._levels
        if not levels:
            return None
        health = self._options.health
        if health is None or health.value != self._counted:
            self._count()
        if self.follows_envoy and selection.has_hash:
            number = selection.hash_value
            percent = remainder(number, 100)
        else:
            number = request_hash(selection) if self.uses_hash else draw(NUMBERS)
            percent = number % 100
        first = self._pick(percent)
        number = mix(number + STEP)
        load = self._loads[first >> 1]
        found = self._choose(levels[first >> 1], load, first & 1, selection, number)
        if found is not None or (load.panics and self._fails_in_panic):
            return found
        # The health has changed since it was counted: the other priorities in their order.
        for index, level in enumerate(levels):
            found = self._choose(level, self._loads[index], HEALTHY, selection, number)
            if found is None and level.all.degraded_hosts:
                found = self._choose(level, self._loads[index], DEGRADED, selection, number)
            if found is not None:
                return found
        return None

    def _pick(self, percent: i64) -> i64:
        """The priority, shifted by one, and the kind of hosts, for a number from 0 to 99: first all healthy shares."""
        for index, load in enumerate(self._loads):
            percent -= load.healthy
            if percent < 0:
                return index * 2 + HEALTHY
        for index, load in enumerate(self._loads):
            percent -= load.degraded
            if percent < 0:
                return index * 2 + DEGRADED
        return HEALTHY

    def _choose(self, level: Level, load: PriorityLoad, kind: i64, selection: Selection, number: i64) -> Host | None:
        if not load.panics:
            return level.choose(kind, selection, self._factor, number)
        if self._fails_in_panic:
            return None
        if selection is NO_CONSTRAINTS:
            return level.all.choose(ANY, self._ignore_health)
        selection.ignores_health = True
        host = level.all.choose(ANY, selection)
        selection.ignores_health = False
        return host

    def _count(self) -> None:
        """Counts the healthy hosts, unless that was done a moment ago."""
        now = self._clock.now
        if now < self._until and self._loads:
            return
        self._until = now + COUNT_PERIOD
        health = self._options.health
        if health is not None:
            self._counted = health.value
        counts: list[HostCounts] = []
        for level in self._levels:
            level.all.count()
            counts.append(level.all.counts)
            for locality in level.localities:
                locality.count()
        self._loads = priority_loads(counts, self._factor, self._threshold)
