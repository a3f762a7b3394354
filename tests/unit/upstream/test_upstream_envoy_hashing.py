"""Balancers that select the hosts that Envoy selects; `interop/xds_hashing.py` compares them with Envoy itself."""

import math
import random
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import pytest
from tests.kit import FakeClock

from pymosn.api.network import plain_peer
from pymosn.api.upstream import REPORTED, Balancer, Host, Selection
from pymosn.core.hash64 import murmur2, xxh64
from pymosn.upstream.balancers import balancers, make_balancer, unbuilt_balancer
from pymosn.upstream.envoy_ring import EnvoyRing
from pymosn.upstream.plan import BalancingPlan, HostPlan, LocalityPlan
from pymosn.upstream.selection import BalancerOptions

ALL = 1 << 64
KINDS = ("LB_RING_HASH", "LB_MAGLEV")
#: Hashes of requests, as signed numbers.
_SOURCE = random.Random(5)
HASHES = [_SOURCE.randrange(-(1 << 63), 1 << 63) for _ in range(300)]


def hosts(*weights: int) -> list[Host]:
    found = [Host(plain_peer(f"10.0.0.{number}:80"), "", 1, 1.0, 1.0, 0) for number in range(len(weights))]
    for host, weight in zip(found, weights, strict=True):
        host.weight = weight
    return found


def options(lb_type: str, **more: object) -> BalancerOptions:
    return BalancerOptions(FakeClock(), BalancingPlan(lb_type, **{"hash_function": "XX_HASH", **more}))  # type: ignore[arg-type]


def make(lb_type: str, group: list[Host], **more: object) -> Balancer:
    maker = balancers().get(lb_type)
    assert maker is not None
    return make_balancer(maker, group, options(lb_type, **more))


def hashed(value: int) -> Selection:
    selection = Selection()
    selection.set_hash(value)
    return selection


def chosen(balancer: Balancer) -> list[str]:
    return [found.address for value in HASHES if (found := balancer.choose(hashed(value)))]


def ring_of(weights: Sequence[int], least: int, most: int, is_murmur: bool = False) -> list[str]:
    """What Envoy's ring selects, written down in the plainest way."""
    shares = [weight / sum(weights) for weight in weights]
    scale = min(math.ceil(min(shares) * least) / min(shares), most)
    points: list[tuple[int, str]] = []
    target = 0.0
    for number, share in enumerate(shares):
        target += scale * share
        index = 0
        while len(points) < target:
            name = f"10.0.0.{number}:80_{index}".encode()
            points.append(((murmur2(name) if is_murmur else xxh64(name)) % ALL, f"10.0.0.{number}:80"))
            index += 1
    points.sort()
    return [points[bisect_left(points, (value % ALL, "")) % len(points)][1] for value in HASHES]


def maglev_of(weights: Sequence[int], size: int) -> list[str]:
    """What Envoy's table selects, for fewer than ten hosts."""
    keys = [f"10.0.0.{number}:80".encode() for number in range(len(weights))]
    table: list[int | None] = [None] * size
    places, targets = [0] * len(keys), [0.0] * len(keys)
    shares = [weight / sum(weights) for weight in weights]
    turn = 0
    while None in table:
        turn += 1
        for number, key in enumerate(keys):
            if None not in table or turn * shares[number] < targets[number]:
                continue
            targets[number] += max(shares)
            while True:
                at = (xxh64(key) % ALL % size + (xxh64(key, 1) % ALL % (size - 1) + 1) * places[number]) % size
                places[number] += 1
                if table[at] is None:
                    break
            table[at] = number
    return [f"10.0.0.{table[value % ALL % size]}:80" for value in HASHES]


@pytest.mark.parametrize("weights", [(1,), (1, 1, 1), (1, 2, 3), (5, 1, 128)])
@pytest.mark.parametrize("function", ["XX_HASH", "MURMUR_HASH_2"])
@pytest.mark.parametrize(("least", "most"), [(1024, 1 << 23), (3000, 1 << 23), (1, 7), (500, 500)])
def test_the_ring_is_envoys(weights: tuple[int, ...], function: str, least: int, most: int) -> None:
    balancer = make("LB_RING_HASH", hosts(*weights), hash_function=function, minimum_ring=least, maximum_ring=most)
    assert chosen(balancer) == ring_of(weights, least, most, function == "MURMUR_HASH_2")


@pytest.mark.parametrize("weights", [(1,), (1, 1, 1), (1, 2, 3), (5, 1, 128)])
@pytest.mark.parametrize("size", [11, 1021])
def test_the_table_is_envoys(weights: tuple[int, ...], size: int) -> None:
    assert chosen(make("LB_MAGLEV", hosts(*weights), table_size=size)) == maglev_of(weights, size)


@pytest.mark.parametrize("lb_type", KINDS)
def test_without_the_key_hosts_are_not_those_of_envoy(lb_type: str) -> None:
    """The files of earlier versions keep their hosts."""
    group = hosts(1, 1, 1, 1)
    assert chosen(make(lb_type, group)) != chosen(make(lb_type, group, hash_function=""))


@pytest.mark.parametrize("lb_type", KINDS)
def test_hosts_that_are_not_eligible(lb_type: str) -> None:
    group = hosts(1, 1, 1, 1)
    balancer = make(lb_type, group)
    before = chosen(balancer)
    group[1].is_healthy = False
    after = chosen(balancer)
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert {old for old, _ in moved} == {group[1].address}
    assert {new for _, new in moved} == {group[0].address, group[2].address, group[3].address}
    for host in group:
        host.is_healthy = False
    assert balancer.choose(hashed(5)) is None
    group[3].is_healthy = True
    assert set(chosen(balancer)) == {group[3].address}


@pytest.mark.parametrize("lb_type", KINDS)
def test_a_retry_gets_another_host(lb_type: str) -> None:
    group = hosts(1, 1, 1)
    balancer = make(lb_type, group)
    for value in HASHES[:20]:
        selection = hashed(value)
        found = []
        for _ in group:
            host = balancer.choose(selection)
            assert host is not None
            found.append(host)
            selection.add_tried(host)
        assert set(found) == set(group)


@pytest.mark.parametrize("lb_type", KINDS)
def test_hosts_that_are_reported_unhealthy_have_no_share(lb_type: str) -> None:
    group = hosts(1, 1, 1)
    group[2].set_health_flag(REPORTED, True, 0.0)
    assert chosen(make(lb_type, group)) == chosen(make(lb_type, group[:2]))
    # Below the threshold, health has no effect.
    everyone = make(lb_type, group, panic_threshold=70.0)
    group[2].set_health_flag(REPORTED, False, 0.0)
    assert chosen(everyone) == chosen(make(lb_type, group))


@pytest.mark.parametrize("lb_type", KINDS)
def test_a_report_that_comes_with_the_snapshot_counts(lb_type: str) -> None:
    group = hosts(1, 1, 1)
    given = options(lb_type)
    given.upcoming[group[2].address] = HostPlan(group[2].address, health=1)
    maker = balancers().get(lb_type)
    assert maker is not None
    assert chosen(make_balancer(maker, group, given)) == chosen(make(lb_type, group[:2]))


@pytest.mark.parametrize("lb_type", KINDS)
def test_exact_weights_take_precedence(lb_type: str) -> None:
    group, other = hosts(1, 1, 1), hosts(100, 2, 3)
    for host, weight in zip(group, (100, 2, 3), strict=True):
        host.hash_weight = weight
    assert chosen(make(lb_type, group)) == chosen(make(lb_type, other))


@pytest.mark.parametrize("lb_type", KINDS)
def test_weights_of_localities(lb_type: str) -> None:
    group = hosts(1, 1, 1)
    for host, locality in zip(group, ("a", "a", "b"), strict=True):
        host.locality = locality
    plans = (LocalityPlan("a", 0, 1), LocalityPlan("b", 0, 9), LocalityPlan("a", 1, 99))
    counts = Counter(chosen(make(lb_type, group, localities=plans)))
    assert counts[group[2].address] > 240  # of 300
    assert len(counts) == 3


@pytest.mark.parametrize("lb_type", KINDS)
def test_names_and_keys_replace_addresses(lb_type: str) -> None:
    def numbers(group: list[Host], **more: object) -> list[int]:
        addresses = [host.address for host in group]
        return [addresses.index(found) for found in chosen(make(lb_type, group, **more))]

    named, others = hosts(1, 1, 1), hosts(1, 1, 1, 1, 1, 1)[3:]
    for number, (host, other) in enumerate(zip(named, others, strict=True)):
        host.hostname = other.hostname = f"host-{number}.test"
    assert numbers(named) != numbers(others)
    assert numbers(named, hashes_hostnames=True) == numbers(others, hashes_hostnames=True)
    by_name = numbers(named, hashes_hostnames=True)
    for host in others:
        host.metadata = {"hash_key": host.hostname}
    assert numbers(others) == by_name


@pytest.mark.parametrize("lb_type", KINDS)
def test_requests_without_a_hash_go_anywhere(lb_type: str) -> None:
    group = hosts(1, 1, 1)
    balancer = make(lb_type, group)
    assert {balancer.choose(Selection()) for _ in range(200)} == set(group)
    assert make(lb_type, []).choose(hashed(1)) is None


@pytest.mark.parametrize("lb_type", KINDS)
def test_a_large_one_is_built_in_short_steps(lb_type: str) -> None:
    """Each step is a part of a slice of the event loop. The CPU time is measured, so that other processes do not count."""
    maker = balancers().get(lb_type)
    assert maker is not None
    given = options(lb_type, minimum_ring=50_000, table_size=65_537)
    balancer = unbuilt_balancer(maker, hosts(*[1 + number % 5 for number in range(400)]), given)
    steps = []
    start = time.thread_time()
    for _ in balancer.build():
        steps.append(time.thread_time() - start)
        start = time.thread_time()
    assert len(steps) > 10
    steps.sort()
    assert steps[len(steps) * 9 // 10] < 0.05
    assert balancer.choose(hashed(1)) is not None
    if isinstance(balancer, EnvoyRing):
        assert len(balancer.parts()) >= 64
