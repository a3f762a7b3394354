"""Maglev hashing: a lookup table in which each host has its share of slots (Eisenbud et al., NSDI 2016, section 3.4)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import Balancer, Host, Selection
from pymosn.upstream.hashing import STEP, digest, mix, request_hash
from pymosn.upstream.selection import HOSTS_PER_STEP, BalancerOptions, scan_host, sort_in_steps

#: Slots of the table, a prime number. The second is for clusters of at least MANY hosts.
SIZE: Final[i64] = 65537
LARGE_SIZE: Final[i64] = 655373
MANY: Final[i64] = 30000

#: Slots tried for a request whose host is not eligible, before the list is scanned.
MAX_REHASHES: Final[i64] = 32
#: Slots tried in one step of building the table.
SLOTS_PER_STEP: Final[i64] = 10000
#: Bytes of the index of a host, the lowest first.
INDEX_SIZE: Final[i64] = 3


class Maglev(Balancer):
    """Sends requests with the same hash to the same host; few requests move when hosts are added or removed.

    Each host has slots in proportion to its weight. If a host is not eligible the request is hashed again, which spreads the
    host's requests over all others, always in the same way.
    """

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts)
        self.uses_hash = True
        self._options = options
        self._ordered: list[Host] = []
        # The indexes of hosts in `_ordered`, of INDEX_SIZE bytes each: the garbage collector would traverse a list of hosts.
        self._table = b""

    def build(self) -> Iterator[None]:
        hosts = self.hosts
        if hosts:
            size: i64 = self._options.plan.table_size
            if size == 0:
                size = LARGE_SIZE if len(hosts) >= MANY else SIZE
            self._ordered = yield from _ordered(hosts)
            self._table = yield from _table(self._ordered, size, self._options)

    def choose(self, selection: Selection) -> Host | None:
        table = self._table
        size: i64 = len(table) // INDEX_SIZE
        if size == 0:
            return None
        value = request_hash(selection)
        rehashes: i64 = 0
        while rehashes < MAX_REHASHES:
            at: i64 = value % size * INDEX_SIZE
            host = self._ordered[table[at] | table[at + 1] << 8 | table[at + 2] << 16]
            if selection.allows(host):
                return host
            value = mix(value + STEP)
            rehashes += 1
        return scan_host(self.hosts, value % len(self.hosts), selection)


def _ordered(hosts: list[Host]) -> Generator[None, None, list[Host]]:
    """The hosts by address, so that their order in the configuration does not matter."""
    by_address: dict[str, Host] = {}
    for index, host in enumerate(hosts):
        by_address[host.address] = host
        if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
            yield
    ordered: list[Host] = []
    for address in (yield from sort_in_steps(list(by_address))):
        ordered.append(by_address[address])
        if len(ordered) % HOSTS_PER_STEP == 0:
            yield
    return ordered


def _table(ordered: list[Host], size: i64, options: BalancerOptions) -> Generator[None, None, bytes]:
    """Builds the table: in each round a host takes the next free slot of its own permutation of all slots.

    Hosts with less than the maximum weight skip some of the rounds.
    """
    weights: list[int] = []
    offsets: list[int] = []
    skips: list[int] = []
    greatest: i64 = 1
    for host in ordered:
        weight = options.weight(host)
        greatest = max(greatest, weight)
        weights.append(weight)
        numbers = digest(host.address)
        offsets.append(numbers[0] % size)
        skips.append(numbers[1] % (size - 1) + 1)
        if len(weights) % HOSTS_PER_STEP == 0:
            yield
    credits = [0] * len(ordered)
    slots = bytearray(int(size * INDEX_SIZE))
    is_taken = bytearray(int(size))
    filled: i64 = 0
    tried: i64 = 0
    while filled < size:
        for index in range(len(ordered)):
            credit: i64 = credits[index] + weights[index]
            tried += 1
            if credit >= greatest:
                credit -= greatest
                skip: i64 = skips[index]
                at: i64 = offsets[index]
                while is_taken[at]:
                    tried += 1
                    at += skip
                    if at >= size:
                        at -= size
                is_taken[at] = 1
                slots[at * INDEX_SIZE] = index & 0xFF
                slots[at * INDEX_SIZE + 1] = index >> 8 & 0xFF
                slots[at * INDEX_SIZE + 2] = index >> 16
                offsets[index] = at
                filled += 1
                if filled == size:
                    break
            credits[index] = credit
            if tried >= SLOTS_PER_STEP:
                tried = 0
                yield
    while offsets:  # freeing 50,000 hosts' numbers together is a long step too
        for numbers in (weights, offsets, skips, credits):
            del numbers[-1000:]
        yield
    return bytes(slots)
