"""Maglev hashing: a lookup table in which each host has its share of slots (Eisenbud et al., NSDI 2016, section 3.4)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import Balancer, Host, Selection
from pymosn.upstream.hashing import STEP, digest, mix, request_hash
from pymosn.upstream.selection import scan_host

#: Slots of the table, a prime number. The second is for clusters of at least MANY hosts.
SIZE: Final[i64] = 65537
LARGE_SIZE: Final[i64] = 655373
MANY: Final[i64] = 30000

#: Slots tried for a request whose host is not eligible, before the list is scanned.
MAX_REHASHES: Final[i64] = 32


class Maglev(Balancer):
    """Sends requests with the same hash to the same host; few requests move when hosts are added or removed.

    Each host has slots in proportion to its weight. If a host is not eligible the request is hashed again, which spreads the
    host's requests over all others, always in the same way.
    """

    def __init__(self, hosts: list[Host]) -> None:
        super().__init__(hosts)
        self.uses_hash = True
        self._table = maglev_table(hosts, LARGE_SIZE if len(hosts) >= MANY else SIZE) if hosts else []

    def choose(self, selection: Selection) -> Host | None:
        table = self._table
        size: i64 = len(table)
        if size == 0:
            return None
        value = request_hash(selection)
        rehashes: i64 = 0
        while rehashes < MAX_REHASHES:
            host = table[value % size]
            if selection.allows(host):
                return host
            value = mix(value + STEP)
            rehashes += 1
        return scan_host(self.hosts, value % len(self.hosts), selection)


def maglev_table(hosts: list[Host], size: i64) -> list[Host]:
    """Builds the table: in each round a host takes the next free slot of its own permutation of all slots.

    Hosts with less than the maximum weight skip some of the rounds. The order of `hosts` does not matter.
    """
    ordered = sorted(hosts, key=lambda host: host.address)
    offsets: list[int] = []
    skips: list[int] = []
    for host in ordered:
        numbers = digest(host.address)
        offsets.append(numbers[0] % size)
        skips.append(numbers[1] % (size - 1) + 1)
    greatest: i64 = max(host.weight for host in ordered)
    credits = [0] * len(ordered)
    slots: list[Host | None] = [None] * int(size)
    filled: i64 = 0
    while filled < size:
        for index, host in enumerate(ordered):
            credit: i64 = credits[index] + host.weight
            if credit >= greatest:
                credit -= greatest
                skip: i64 = skips[index]
                at: i64 = offsets[index]
                while slots[at] is not None:
                    at += skip
                    if at >= size:
                        at -= size
                slots[at] = host
                offsets[index] = at
                filled += 1
                if filled == size:
                    break
            credits[index] = credit
    return [host for host in slots if host is not None]
