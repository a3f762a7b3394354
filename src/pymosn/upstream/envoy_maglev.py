"""Envoy's Maglev, only with `hash_function`: offset and skip of a host's permutation are XXH64 hashes of its address."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import Balancer, Host, Selection
from pymosn.core.hash64 import remainder, xxh64
from pymosn.upstream.envoy_hosts import Shares, hash_of, key_of, shares_of
from pymosn.upstream.selection import HOSTS_PER_STEP, BalancerOptions, scan_host, sort_in_steps

#: Slots if the plan has no number.
SIZE: Final[i64] = 65537
#: Slots tried for a request whose host is not eligible, before the list is scanned.
MAX_ATTEMPTS: Final[i64] = 32
#: Slots tried in one step of building the table.
SLOTS_PER_STEP: Final[i64] = 10000
#: Bytes of the index of a host, the lowest first.
INDEX_SIZE: Final[i64] = 3


class EnvoyMaglev(Balancer):
    """Sends a request to the host in the slot of its hash."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts)
        self.uses_hash = True
        self.follows_envoy = True
        self._options = options
        self._ordered: list[Host] = []
        # The indexes of hosts in `_ordered`: the garbage collector would traverse a list of hosts.
        self._table = b""

    def build(self) -> Iterator[None]:
        shares = yield from shares_of(self.hosts, self._options)
        if shares.hosts:
            self._table = yield from self._fill(shares)

    def _fill(self, shares: Shares) -> Generator[None, None, bytes]:
        """Fills all slots: in each round a host takes the next free slot of its permutation.

        A host whose share is a half or a third of the greatest takes part in every second or third round.
        """
        size: i64 = self._options.plan.table_size
        if size == 0:
            size = SIZE
        weights = yield from self._order(shares)
        offsets: list[int] = []
        skips: list[int] = []
        for index, host in enumerate(self._ordered):
            key = key_of(host, self._options).encode(errors="surrogateescape")
            offsets.append(int(remainder(xxh64(key), size)))
            skips.append(int(remainder(xxh64(key, 1), size - 1)) + 1)
            if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield
        targets = [0.0] * len(weights)
        slots = bytearray(int(size * INDEX_SIZE))
        is_taken = bytearray(int(size))
        filled: i64 = 0
        tried: i64 = 0
        turn = 0.0
        while filled < size:
            turn += 1.0
            for index in range(len(weights)):
                tried += 1
                if turn * weights[index] >= targets[index]:
                    targets[index] += shares.greatest
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
                    offsets[index] = int(at)
                    filled += 1
                    if filled == size:
                        break
                if tried >= SLOTS_PER_STEP:
                    tried = 0
                    yield
        while offsets:  # freeing 50,000 hosts' numbers together is a long step too
            for numbers in (offsets, skips):
                del numbers[-1000:]
            yield
        return bytes(slots)

    def _order(self, shares: Shares) -> Generator[None, None, list[float]]:
        """Makes `_ordered` the hosts in the order of their keys. Returns their shares in that order."""
        by_key: dict[str, int] = {}
        for index, host in enumerate(shares.hosts):
            # The address makes equal keys of hosts differ.
            by_key[f"{key_of(host, self._options)}\n{host.address}"] = index
            if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield
        weights: list[float] = []
        for key in (yield from sort_in_steps(list(by_key))):
            self._ordered.append(shares.hosts[by_key[key]])
            weights.append(shares.shares[by_key[key]])
            if len(weights) % HOSTS_PER_STEP == 0:
                yield
        return weights

    def choose(self, selection: Selection) -> Host | None:
        table = self._table
        size: i64 = len(table) // INDEX_SIZE
        if size == 0:
            return None
        value = hash_of(selection)
        attempt: i64 = 0
        while attempt < MAX_ATTEMPTS:
            # As in Envoy, further attempts change most bits.
            at = remainder(value if attempt == 0 else value ^ -attempt, size) * INDEX_SIZE
            host = self._ordered[table[at] | table[at + 1] << 8 | table[at + 2] << 16]
            if selection.allows(host):
                return host
            attempt += 1
        return scan_host(self.hosts, remainder(value, len(self.hosts)), selection)
