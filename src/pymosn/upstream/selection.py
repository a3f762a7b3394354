"""Shared by the balancers (key reference section 8.3): their options, and the scan for an eligible host."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Generator
from typing import Final, TypeVar

from mypy_extensions import i64

from pymosn.api.upstream import Host, Selection
from pymosn.core.clock import Clock
from pymosn.upstream.plan import REPORTED_DEGRADED, BalancingPlan, HostPlan, SlowStartPlan

#: Hosts that are handled in one step of work that is proportional to their number.
HOSTS_PER_STEP: Final[i64] = 200
#: Items of a list that is sorted at once.
SORTED_AT_ONCE: Final = 2000

Item = TypeVar("Item", int, str)


class SlowStart:
    """Raises a host's weight from a small share to its full value within `duration` seconds after it became healthy."""

    def __init__(self, plan: SlowStartPlan) -> None:
        self._duration = plan.duration
        self._exponent = 1.0 / plan.aggression if plan.aggression > 0.0 else 1.0
        self._least = plan.min_weight_percent

    def factor(self, host: Host, now: float) -> float:
        """The share of its weight that `host` has at `now`, above 0.0 and up to 1.0."""
        elapsed = now - host.healthy_since
        if elapsed >= self._duration:
            return 1.0
        share = max(0.0, elapsed / self._duration)
        # A zero weight would never be scheduled again.
        return max(self._least, math.pow(share, self._exponent), 0.001)


class HealthVersion:
    """Counts the changes of the health of a cluster's hosts; it outlives the cluster's snapshots."""

    def __init__(self) -> None:
        self.value: i64 = 0


class BalancerOptions:
    """The settings of a cluster's balancer, and the clock."""

    def __init__(self, clock: Clock, plan: BalancingPlan, health: HealthVersion | None = None) -> None:
        """`health`: None if changes of health are not counted."""
        self.clock = clock
        self.plan = plan
        self.health = health
        #: Whether hosts differ in priority or are degraded, or have localities with weights.
        self.has_levels: bool = False
        self.slow_start = None if plan.slow_start is None else SlowStart(plan.slow_start)
        #: The plans, by address, of hosts that change when the balancer becomes active; until then it is built with them.
        self.upcoming: dict[str, HostPlan] = {}

    def weight(self, host: Host) -> i64:
        """The weight of `host` once the balancer is active."""
        if self.upcoming:
            plan = self.upcoming.get(host.address)
            if plan is not None:
                return plan.weight
        return host.weight

    def hash_weight(self, host: Host) -> i64:
        """The weight of `host` for balancers that follow Envoy, once the balancer is active."""
        plan = self.upcoming.get(host.address)
        if plan is not None:
            return plan.hash_weight or plan.weight
        return host.hash_weight or host.weight

    def priority(self, host: Host) -> i64:
        """The priority of `host` once the balancer is active."""
        plan = self.upcoming.get(host.address)
        return host.priority if plan is None else plan.priority

    def locality(self, host: Host) -> str:
        """The locality of `host` once the balancer is active."""
        plan = self.upcoming.get(host.address)
        return host.locality if plan is None else plan.locality

    def is_degraded(self, host: Host) -> bool:
        """Whether `host` is degraded once the balancer is active."""
        plan = self.upcoming.get(host.address)
        return host.is_degraded if plan is None else plan.health == REPORTED_DEGRADED

    def metadata(self, host: Host) -> dict[str, str]:
        """The metadata of `host` once the balancer is active."""
        plan = self.upcoming.get(host.address)
        return host.metadata if plan is None else dict(plan.metadata)


def sort_in_steps(items: list[Item]) -> Generator[None, None, list[Item]]:
    """Sorts `items`, in steps if they are many."""
    if len(items) <= SORTED_AT_ONCE:
        return sorted(items)
    runs: list[list[Item]] = []
    for start in range(0, len(items), SORTED_AT_ONCE):
        runs.append(sorted(items[start : start + SORTED_AT_ONCE]))
        yield
    merged: list[Item] = []
    for item in heapq.merge(*runs):
        merged.append(item)
        if len(merged) % HOSTS_PER_STEP == 0:
            yield
    return merged


def scan(hosts: list[Host], start: i64, selection: Selection) -> i64:
    """The index of the first eligible host from `start` on, wrapping around; -1 if there is none.

    A host that was tried is used only if there is no other, and the one tried last only if it is the only one.
    """
    count: i64 = len(hosts)
    second: i64 = -1
    at = start
    passes: i64 = 0
    while passes < count:
        if at >= count:
            at = 0
        host = hosts[at]
        if selection.allows(host):
            return at
        if selection.can_use(host) and (second < 0 or selection.was_last(hosts[second])):
            second = at
        at += 1
        passes += 1
    return second


def scan_host(hosts: list[Host], start: i64, selection: Selection) -> Host | None:
    """The host that `scan` finds, or None."""
    at = scan(hosts, start, selection)
    return hosts[at] if at >= 0 else None


def draw(bound: i64) -> i64:
    """A random number from 0 to `bound` - 1, ten times as fast as `random.randrange`."""
    return i64(random.random() * float(bound))
