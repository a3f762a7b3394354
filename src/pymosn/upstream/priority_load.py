"""The distribution of requests among the priorities and localities of a cluster, by the health of their hosts.

As in Envoy (architecture overview, load balancing: priority levels, degraded endpoints, locality weighted load balancing,
panic threshold): a priority gets all of its requests as long as its percentage of healthy hosts, times the overprovisioning
factor, is at least 100; what it lacks goes to the next one. Percentages are whole numbers, rounded down.
"""

from __future__ import annotations

from mypy_extensions import i64


class HostCounts:
    """The hosts of one priority or locality: all, the healthy ones that are not degraded, and the degraded ones."""

    def __init__(self, total: i64, healthy: i64, degraded: i64) -> None:
        self.total: i64 = total
        self.healthy: i64 = healthy
        self.degraded: i64 = degraded

    def available(self, factor: i64, hosts: i64) -> i64:
        """The percentage of the load that `hosts` of all can take, up to 100."""
        return 0 if self.total == 0 else min(100, factor * hosts // self.total)


class PriorityLoad:
    """What one priority gets: percentages of all requests, for its healthy and for its degraded hosts.

    `panics`: too few hosts are available, so that their health is ignored.
    """

    def __init__(self) -> None:
        self.healthy: i64 = 0
        self.degraded: i64 = 0
        self.panics: bool = False


def priority_loads(counts: list[HostCounts], factor: i64, panic_threshold: float) -> list[PriorityLoad]:
    """The distribution among priorities. `factor`: overprovisioning in percent; `panic_threshold`: percent, 0 for never.

    Without an available host, everything goes to the first priority.
    """
    loads = [PriorityLoad() for _ in counts]
    healthy: list[int] = []
    degraded: list[int] = []
    total: i64 = 0
    for count in counts:
        healthy.append(int(count.available(factor, count.healthy)))
        degraded.append(int(count.available(factor, count.degraded)))
        total += healthy[-1] + degraded[-1]
    total = min(100, total)
    if total == 0:
        if loads:
            loads[0].healthy = 100
        _panic(loads, counts, panic_threshold)
        return loads
    left: i64 = 100
    for index, load in enumerate(loads):
        load.healthy = _share(healthy[index], total, left)
        left -= load.healthy
    for index, load in enumerate(loads):
        load.degraded = _share(degraded[index], total, left)
        left -= load.degraded
    _add_rest(loads, healthy, left)
    if total < 100:
        _panic(loads, counts, panic_threshold)
    return loads


def _share(available: i64, total: i64, left: i64) -> i64:
    """The percentage of the load for one of those that are `available`, in percent, at most what is left."""
    share = available * 100 // total
    return share if share < left else left


def _add_rest(loads: list[PriorityLoad], healthy: list[int], rest: i64) -> None:
    """Gives what rounding has left to the first available priority."""
    for index, load in enumerate(loads):
        if healthy[index] > 0:
            load.healthy += rest
            return
    for load in loads:
        if load.degraded > 0:
            load.degraded += rest
            return


def _panic(loads: list[PriorityLoad], counts: list[HostCounts], threshold: float) -> None:
    """Finds the priorities in panic. If all are, requests are distributed by the number of hosts."""
    if threshold <= 0.0:
        return
    all_hosts: i64 = 0
    all_panic = True
    for index, load in enumerate(loads):
        count = counts[index]
        all_hosts += count.total
        share = 0.0
        if count.total > 0:
            share = float(count.healthy + count.degraded) * 100.0 / float(count.total)
        load.panics = share < threshold
        all_panic = all_panic and load.panics
    if not all_panic or all_hosts == 0:
        return
    left: i64 = 100
    for index, load in enumerate(loads):
        load.degraded = 0
        load.healthy = counts[index].total * 100 // all_hosts
        left -= load.healthy
    for index, load in enumerate(loads):
        if counts[index].total > 0:
            load.healthy += left
            return


def locality_weight(weight: i64, counts: HostCounts, hosts: i64, factor: i64) -> float:
    """The effective weight of a locality of which `hosts` can be used: it shrinks when these are too few."""
    if counts.total == 0:
        return 0.0
    return float(weight) * min(100.0, float(factor * hosts) / float(counts.total))
