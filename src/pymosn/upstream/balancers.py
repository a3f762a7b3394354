"""Host selection (key reference section 8.3): the simple balancers, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import NO_CONSTRAINTS, Balancer, Host, Selection
from pymosn.core.registry import Registry
from pymosn.upstream.envoy_maglev import EnvoyMaglev
from pymosn.upstream.envoy_ring import EnvoyRing
from pymosn.upstream.least_loaded import LeastConnection, LeastRequest, PeakEwma
from pymosn.upstream.maglev import Maglev
from pymosn.upstream.priorities import COUNT_PERIOD, Priorities
from pymosn.upstream.ring_hash import RingHash
from pymosn.upstream.selection import BalancerOptions, draw, scan, scan_host
from pymosn.upstream.weighted import WeightedRoundRobin

#: Random picks that may fail before the list is scanned: with half of the hosts unhealthy, 1 of 250 requests scans it.
REDRAWS: Final[i64] = 8


class RoundRobin(Balancer):
    """Each host in turn, from a random start; skips unhealthy hosts and those just tried."""

    def __init__(self, hosts: list[Host]) -> None:
        super().__init__(hosts)
        self._next: i64 = draw(len(hosts))

    def choose(self, selection: Selection) -> Host | None:
        hosts = self.hosts
        at = scan(hosts, self._next, selection)
        if at < 0:
            return None
        self._next = at + 1
        return hosts[at]


class Random(Balancer):
    """Any eligible host with equal probability."""

    def choose(self, selection: Selection) -> Host | None:
        hosts = self.hosts
        count: i64 = len(hosts)
        if count == 0:
            return None
        at: i64 = 0
        draws: i64 = 0
        while draws < REDRAWS:
            at = draw(count)
            host = hosts[at]
            if selection.allows(host):
                return host
            draws += 1
        return scan_host(hosts, at, selection)


class RequestRoundRobin(Balancer):
    """The first host for each request, the second for its second attempt, and so on."""

    def choose(self, selection: Selection) -> Host | None:
        hosts = self.hosts
        if not hosts:
            return None
        return scan_host(hosts, selection.attempt_index % len(hosts), selection)


class Panic(Balancer):
    """Makes a balancer ignore health while too few hosts are healthy, so that these are not overloaded."""

    def __init__(self, balancer: Balancer, options: BalancerOptions) -> None:
        super().__init__(balancer.hosts)
        self.uses_hash = balancer.uses_hash
        self.follows_envoy = balancer.follows_envoy
        self._balancer = balancer
        self._clock = options.clock
        self._threshold = options.plan.panic_threshold
        self._fails = options.plan.fails_in_panic
        self._health = options.health
        self._counted: i64 = -1
        self._ignore_health = Selection()
        self._ignore_health.ignores_health = True
        self._until = 0.0
        self._is_on = False

    def build(self) -> Iterator[None]:
        return self._balancer.build()

    def parts(self) -> list[object]:
        return self._balancer.parts()

    def choose(self, selection: Selection) -> Host | None:
        health = self._health
        if (health is None or health.value != self._counted) and self._clock.now >= self._until:
            self._count()
        if not self._is_on:
            return self._balancer.choose(selection)
        if self._fails:
            return None
        if selection is NO_CONSTRAINTS:
            return self._balancer.choose(self._ignore_health)
        selection.ignores_health = True
        host = self._balancer.choose(selection)
        selection.ignores_health = False
        return host

    def _count(self) -> None:
        """Finds whether too few hosts are healthy."""
        self._until = self._clock.now + COUNT_PERIOD
        health = self._health
        if health is not None:
            self._counted = health.value
        healthy: i64 = 0
        for host in self.hosts:
            if host.is_healthy:
                healthy += 1
        self._is_on = float(healthy) * 100.0 < self._threshold * float(len(self.hosts))


#: Creates a balancer for a snapshot of hosts, which must be built before its first use.
BalancerMaker = Callable[[list[Host], BalancerOptions], Balancer]


def _simple(kind: type[Balancer]) -> BalancerMaker:
    """The maker of a balancer without options."""
    return lambda hosts, options: kind(hosts)


def _ring(hosts: list[Host], options: BalancerOptions) -> Balancer:
    return EnvoyRing(hosts, options) if options.plan.hash_function else RingHash(hosts, options)


def _maglev(hosts: list[Host], options: BalancerOptions) -> Balancer:
    return EnvoyMaglev(hosts, options) if options.plan.hash_function else Maglev(hosts, options)


def balancers() -> Registry[BalancerMaker]:
    """Creates the registry of all balancers by `lb_type`."""
    registry: Registry[BalancerMaker] = Registry("balancer")
    registry.add("LB_ROUNDROBIN", _simple(RoundRobin))
    registry.add("LB_RANDOM", _simple(Random))
    registry.add("LB_WEIGHTED_ROUNDROBIN", WeightedRoundRobin)
    registry.add("LB_LEAST_REQUEST", LeastRequest)
    registry.add("LB_LEAST_CONNECTION", LeastConnection)
    registry.add("LB_MAGLEV", _maglev)
    registry.add("LB_RING_HASH", _ring)
    registry.add("LB_REQUEST_ROUNDROBIN", _simple(RequestRoundRobin))
    registry.add("LB_PEAK_EWMA", PeakEwma)
    return registry


def unbuilt_balancer(maker: BalancerMaker, hosts: list[Host], options: BalancerOptions) -> Balancer:
    """Creates a balancer for `hosts`, with panic mode and priorities if configured, that is yet to be built."""
    if options.has_levels:
        return Priorities(maker, hosts, options)
    balancer = maker(hosts, options)
    return Panic(balancer, options) if options.plan.panic_threshold > 0.0 else balancer


def make_balancer(maker: BalancerMaker, hosts: list[Host], options: BalancerOptions) -> Balancer:
    """Creates a balancer for `hosts`, with panic mode if configured, and builds it."""
    balancer = unbuilt_balancer(maker, hosts, options)
    for _ in balancer.build():
        pass
    return balancer
