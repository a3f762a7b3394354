"""Envoy's ring hash: the hash of `ADDRESS_INDEX` is a point of a host, as in ketama; only with `hash_function`.

The points are in buckets by their highest bits, so that a ring of millions is sorted, searched and freed in small parts. A
point is a record of bytes that compare in its order; objects would need ten times the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import Balancer, Host, Selection
from pymosn.core.hash64 import murmur2, remainder, xxh64
from pymosn.upstream.envoy_hosts import MURMUR_HASH_2, Shares, hash_of, key_of, shares_of
from pymosn.upstream.selection import BalancerOptions, scan_host

#: Bytes of a point: its hash, and the index of its host, both with the highest byte first.
HASH_SIZE: Final[i64] = 8
POINT_SIZE: Final[i64] = 12
#: Points of a bucket, on average, and the largest number of buckets.
POINTS_PER_BUCKET: Final[i64] = 512
MOST_BUCKETS: Final[i64] = 1 << 14
ALL_BITS: Final[i64] = (1 << 15) - 1
#: Points that are made in one step.
POINTS_PER_STEP: Final[i64] = 500
#: Points that a request passes at most to find an eligible host; a ring may have millions.
LONGEST_WALK: Final[i64] = 10_000
#: Sizes if the plan has none.
MINIMUM_RING: Final = 1024.0
MAXIMUM_RING: Final = 8388608.0


class EnvoyRing(Balancer):
    """Sends a request to the host of the first point from its hash on, or of a later one if that is not eligible."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts)
        self.uses_hash = True
        self.follows_envoy = True
        self._options = options
        self._owners: list[Host] = []
        self._buckets: list[bytes] = []
        #: The bits of a hash that select its bucket, from the highest.
        self._bits: i64 = 0

    def build(self) -> Iterator[None]:
        shares = yield from shares_of(self.hosts, self._options)
        self._owners = shares.hosts
        if not shares.hosts:
            return
        plan = self._options.plan
        least = float(plan.minimum_ring) if plan.minimum_ring else MINIMUM_RING
        most = float(plan.maximum_ring) if plan.maximum_ring else MAXIMUM_RING
        scale = min(math.ceil(shares.least * least) / shares.least, most)
        count: i64 = 1
        while float(count * POINTS_PER_BUCKET) < scale and count < MOST_BUCKETS:
            count *= 2
            self._bits += 1
        made = [bytearray() for _ in range(count)]
        yield from self._fill(made, shares, scale)
        while made:  # the last first, so that each is freed once it is sorted
            self._buckets.append(_sorted(made.pop()))
            yield
        self._buckets.reverse()

    def _fill(self, buckets: list[bytearray], shares: Shares, scale: float) -> Iterator[None]:
        """Adds all points to their buckets."""
        is_murmur = self._options.plan.hash_function == MURMUR_HASH_2
        points = 0.0
        target = 0.0
        steps: i64 = 0
        for index, host in enumerate(shares.hosts):
            start = (key_of(host, self._options) + "_").encode(errors="surrogateescape")
            owner = index.to_bytes(4, "big")
            target += scale * shares.shares[index]
            number = 0
            while points < target:
                name = start + str(number).encode()
                value = murmur2(name) if is_murmur else xxh64(name)
                buckets[self._bucket(value)] += int(value).to_bytes(8, "big", signed=True) + owner
                number += 1
                points += 1.0
                steps += 1
                if steps % POINTS_PER_STEP == 0:
                    yield
            steps += 1
            if steps % POINTS_PER_STEP == 0:
                yield

    def _bucket(self, value: i64) -> i64:
        bits = self._bits
        return 0 if bits == 0 else (value >> (64 - bits)) & (ALL_BITS >> (15 - bits))

    def parts(self) -> list[object]:
        return list(self._buckets)

    def choose(self, selection: Selection) -> Host | None:
        count: i64 = len(self._buckets)
        if count == 0:
            return None
        value = hash_of(selection)
        bucket = self._bucket(value)
        at = _first(self._buckets[bucket], int(value).to_bytes(8, "big", signed=True))
        while at == len(self._buckets[bucket]):
            at = 0
            bucket = bucket + 1 if bucket + 1 < count else 0
        host = self._owner(bucket, at)
        if selection.allows(host):
            return host
        # The walk along the ring may be long: first check whether there is an eligible host.
        second = scan_host(self.hosts, remainder(value, len(self.hosts)), selection)
        if second is None or not selection.allows(second):
            return second
        walked: i64 = 0
        while walked < LONGEST_WALK:
            at += POINT_SIZE
            while at == len(self._buckets[bucket]):
                at = 0
                bucket = bucket + 1 if bucket + 1 < count else 0
            host = self._owner(bucket, at)
            if selection.allows(host):
                return host
            walked += 1
        return second  # the only eligible hosts have few points or, with a small ring, none

    def _owner(self, bucket: i64, at: i64) -> Host:
        points = self._buckets[bucket]
        index = points[at + 8] << 24 | points[at + 9] << 16 | points[at + 10] << 8 | points[at + 11]
        return self._owners[index]


def _sorted(bucket: bytearray) -> bytes:
    """The points of a bucket in order."""
    whole = bytes(bucket)
    points = [whole[at : at + POINT_SIZE] for at in range(0, len(whole), 12)]
    points.sort()
    return b"".join(points)


def _first(points: bytes, value: bytes) -> i64:
    """The offset of the first point in a bucket that is not before `value`; its size if there is none."""
    low: i64 = 0
    high: i64 = len(points) // POINT_SIZE
    while low < high:
        middle = (low + high) // 2
        at = middle * POINT_SIZE
        if points[at : at + HASH_SIZE] < value:
            low = middle + 1
        else:
            high = middle
    return low * POINT_SIZE
