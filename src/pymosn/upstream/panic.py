"""Panic mode: ignore health when too few hosts are healthy, so that they are not overloaded."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import NO_CONSTRAINTS, Balancer, Host, Selection
from pymosn.upstream.selection import BalancerOptions

#: Seconds between two counts of the healthy hosts.
COUNT_PERIOD: Final[float] = 0.1


class Panic(Balancer):
    """Wraps another balancer, and makes it ignore health while too few hosts are healthy."""

    def __init__(self, balancer: Balancer, options: BalancerOptions) -> None:
        super().__init__(balancer.hosts)
        self.uses_hash = balancer.uses_hash
        self._balancer = balancer
        self._clock = options.clock
        self._threshold = options.plan.panic_threshold
        self._ignore_health = Selection()
        self._ignore_health.ignores_health = True
        self._until = 0.0
        self.is_on = False

    def choose(self, selection: Selection) -> Host | None:
        if self._clock.now >= self._until:
            self._until = self._clock.now + COUNT_PERIOD
            self._count()
        if self.is_on:
            if selection is NO_CONSTRAINTS:
                return self._balancer.choose(self._ignore_health)
            selection.ignores_health = True
            host = self._balancer.choose(selection)
            selection.ignores_health = False
            return host
        return self._balancer.choose(selection)

    def _count(self) -> None:
        healthy: i64 = 0
        for host in self.hosts:
            if host.is_healthy:
                healthy += 1
        self.is_on = float(healthy) * 100.0 < self._threshold * float(len(self.hosts))
