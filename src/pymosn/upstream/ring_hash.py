"""Consistent hashing on a ring (Karger et al., STOC 1997; the points are made as in ketama)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterator
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import Balancer, Host, Selection
from pymosn.upstream.hashing import digest, request_hash
from pymosn.upstream.plan import BalancingPlan
from pymosn.upstream.selection import HOSTS_PER_STEP, BalancerOptions, scan_host, sort_in_steps

#: Points of a host per unit of weight, halved until all fit into MAX_POINTS.
POINTS_PER_WEIGHT: Final[i64] = 160
MAX_POINTS: Final[i64] = 32768

#: Points that are handled in one step of building the ring.
POINTS_PER_STEP: Final[i64] = 1000

#: Low bits of a ring entry that hold the index of its host.
INDEX_BITS: Final = 20
INDEX_MASK: Final = (1 << INDEX_BITS) - 1


class RingHash(Balancer):
    """Sends a request to the host of the first point after its hash, or of the next point with an eligible host."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts)
        self.uses_hash = True
        self._options = options
        self._points: list[int] = []
        self._owners: list[Host] = []

    def build(self) -> Iterator[None]:
        ring = yield from _ring(self.hosts, self._options)
        for entry in ring:
            self._points.append(entry >> INDEX_BITS)
            self._owners.append(self.hosts[entry & INDEX_MASK])
            if len(self._points) % POINTS_PER_STEP == 0:
                yield

    def choose(self, selection: Selection) -> Host | None:
        owners = self._owners
        count: i64 = len(owners)
        if count == 0:
            return None
        value = request_hash(selection)
        at: i64 = bisect_left(self._points, int(value))
        if at == count:
            at = 0
        host = owners[at]
        if selection.allows(host):
            return host
        # The walk along the ring may be long: first check whether there is an eligible host.
        second = scan_host(self.hosts, value % len(self.hosts), selection)
        if second is None or not selection.allows(second):
            return second
        while not selection.allows(host):
            at += 1
            if at == count:
                at = 0
            host = owners[at]
        return host


def _size(total: i64, plan: BalancingPlan) -> i64:
    """The number of points for hosts of that total weight; each host has at least one."""
    if total == 0:
        return 0
    if plan.minimum_ring > 0:
        # As in Envoy: the least multiple of the weights that is large enough.
        least: i64 = plan.minimum_ring
        most: i64 = plan.maximum_ring
        size: i64 = (least + total - 1) // total * total
        return most if 0 < most < size else size
    if total > MAX_POINTS:
        return MAX_POINTS
    per_weight = POINTS_PER_WEIGHT
    while total * per_weight > MAX_POINTS and per_weight > 1:
        per_weight //= 2
    return total * per_weight


def _ring(hosts: list[Host], options: BalancerOptions) -> Generator[None, None, list[int]]:
    """All points in order, each with the index of its host in the low bits: numbers sort faster than pairs."""
    total: i64 = 0
    for index, host in enumerate(hosts):
        total += options.weight(host)
        if index % POINTS_PER_STEP == POINTS_PER_STEP - 1:
            yield
    size = _size(total, options.plan)
    ring: list[int] = []
    for index, host in enumerate(hosts):
        points: list[int] = []
        count = max(1, int(options.weight(host) * size // total))
        while len(points) < count:
            points += digest(f"{host.address}_{len(points)}")
        ring += [point << INDEX_BITS | index for point in points[:count]]
        if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
            yield
    return (yield from sort_in_steps(ring))
