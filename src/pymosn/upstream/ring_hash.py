"""Consistent hashing on a ring (Karger et al., STOC 1997; the points are made as in ketama)."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import Balancer, Host, Selection
from pymosn.upstream.hashing import digest, request_hash
from pymosn.upstream.selection import scan_host

#: Points of a host per unit of weight, halved until all fit into MAX_POINTS.
POINTS_PER_WEIGHT: Final[i64] = 160
MAX_POINTS: Final[i64] = 32768

#: Low bits of a ring entry that hold the index of its host.
INDEX_BITS: Final = 20
INDEX_MASK: Final = (1 << INDEX_BITS) - 1


class RingHash(Balancer):
    """Sends a request to the host of the first point after its hash, or of the next point with an eligible host."""

    def __init__(self, hosts: list[Host]) -> None:
        super().__init__(hosts)
        self.uses_hash = True
        ring = _ring(hosts)
        self._points: list[int] = [entry >> INDEX_BITS for entry in ring]
        self._owners: list[Host] = [hosts[entry & INDEX_MASK] for entry in ring]

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


def _ring(hosts: list[Host]) -> list[int]:
    """All points in order, each with the index of its host in the low bits: numbers sort faster than pairs."""
    total: i64 = sum(host.weight for host in hosts)
    per_weight = POINTS_PER_WEIGHT
    while total * per_weight > MAX_POINTS and per_weight > 1:
        per_weight //= 2
    ring: list[int] = []
    for index, host in enumerate(hosts):
        points: list[int] = []
        count = int(host.weight * per_weight)
        while len(points) < count:
            points += digest(f"{host.address}_{len(points)}")
        ring += [point << INDEX_BITS | index for point in points[:count]]
    ring.sort()
    return ring
