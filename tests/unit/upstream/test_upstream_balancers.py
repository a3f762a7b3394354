"""Balancers: who is chosen, how often, and who instead of a sick or tried one."""

import math
import random
from collections import Counter, deque
from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.kit import FakeClock

from pymosn.api.network import plain_peer
from pymosn.api.upstream import NO_CONSTRAINTS, Balancer, Host, Selection
from pymosn.upstream.balancers import RoundRobin, balancers, make_balancer
from pymosn.upstream.maglev import Maglev
from pymosn.upstream.plan import BalancingPlan, SlowStartPlan
from pymosn.upstream.selection import BalancerOptions, SlowStart

ALL = balancers().names()
HASHING = ["LB_MAGLEV", "LB_RING_HASH"]
WEIGHING = ["LB_WEIGHTED_ROUNDROBIN", "LB_LEAST_REQUEST", "LB_LEAST_CONNECTION", *HASHING]


def hosts(count: int, *weights: int) -> list[Host]:
    found = [Host(plain_peer(f"10.0.0.{number}:80"), "", 1, 1.0, 1.0, 0) for number in range(count)]
    for host, weight in zip(found, weights, strict=False):
        host.weight = weight
    return found


def make(name: str, group: list[Host], options: BalancerOptions | None = None) -> Balancer:
    maker = balancers().get(name)
    assert maker is not None
    return make_balancer(maker, group, options or BalancerOptions(FakeClock(), BalancingPlan()))


def hashed(value: int) -> Selection:
    selection = Selection()
    selection.set_hash(value)
    return selection


def tried(*group: Host) -> Selection:
    selection = Selection()
    for host in group:
        selection.add_tried(host)
    return selection


# ---- all of them


@pytest.mark.parametrize("name", ALL)
def test_unhealthy_and_attempted_hosts_are_excluded(name: str) -> None:
    group = hosts(4)
    for sick in (0, 2):
        group[sick].is_healthy = False
    balancer = make(name, group)
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(60)} <= {group[1], group[3]}
    assert {balancer.choose(tried(group[1])) for _ in range(60)} == {group[3]}
    assert balancer.choose(tried(group[1], group[3])) in (group[1], group[3]), "better again than not at all"
    group[3].is_healthy = False
    assert balancer.choose(tried(group[1])) is group[1]
    group[1].is_healthy = False
    assert balancer.choose(NO_CONSTRAINTS) is None
    assert balancer.choose(tried(group[1])) is None


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("weights", [(), (1, 2, 5)], ids=["equal", "weighted"])
def test_when_all_were_attempted_the_last_one_is_the_last_resort(name: str, weights: tuple[int, ...]) -> None:
    group = hosts(3, *weights)
    balancer = make(name, group)
    for last in (0, 1, 2, 0, 2, 1):
        for value in range(20):
            selection = tried(*[host for host in group if host is not group[last]], group[last])
            selection.set_hash(value)
            chosen = balancer.choose(selection)
            assert chosen is not None
            assert chosen is not group[last]
    group[0].is_healthy = group[1].is_healthy = False
    assert balancer.choose(tried(*group)) is group[2], "alone it has to do"


@pytest.mark.parametrize("name", ALL)
def test_no_hosts(name: str) -> None:
    assert make(name, []).choose(NO_CONSTRAINTS) is None
    assert make(name, []).choose(hashed(7)) is None


@pytest.mark.parametrize("name", ALL)
def test_one_is_enough(name: str) -> None:
    group = hosts(1)
    balancer = make(name, group)
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(5)} == set(group)
    assert balancer.choose(tried(group[0])) is group[0]


@pytest.mark.parametrize("name", ALL)
def test_panic(name: str) -> None:
    group = hosts(4)
    clock = FakeClock()
    balancer = make(name, group, BalancerOptions(clock, BalancingPlan(panic_threshold=50.0)))
    for host in group[:2]:
        host.is_healthy = False
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(60)} <= {group[2], group[3]}, "50 % is not below 50 %"
    group[2].is_healthy = False
    clock.now += 1.0
    if name == "LB_REQUEST_ROUNDROBIN":
        assert balancer.choose(NO_CONSTRAINTS) is group[0]
    else:
        for host in group:  # load-aware ones go elsewhere only when there is something to do
            host.active_requests = host.active_connections = 1
        assert {balancer.choose(NO_CONSTRAINTS) for _ in range(300)} == set(group)
    assert balancer.choose(tried(group[0], group[1], group[2])) is group[3]
    for host in group:
        host.is_healthy = True
    clock.now += 1.0
    group[1].is_healthy = False
    assert group[1] not in {balancer.choose(NO_CONSTRAINTS) for _ in range(100)}


def test_names() -> None:
    assert balancers().get("LB_NONE") is None
    assert isinstance(make("LB_ROUNDROBIN", hosts(2)), RoundRobin)


# ---- shares and churn of each


def load_of(name: str, group: list[Host]) -> Callable[[], Host]:
    """Chooses hosts whose last 20 requests are still under way, as under a steady load."""
    balancer = make(name, group)
    under_way: deque[Host] = deque()
    number = 0

    def choose() -> Host:
        nonlocal number
        number += 1
        host = balancer.choose(hashed(number) if balancer.uses_hash else NO_CONSTRAINTS)
        assert host is not None
        if host.latency is not None:
            host.latency.record(1000.0, 0.010, 200)
        host.active_requests += 1
        host.active_connections += 1
        under_way.append(host)
        if len(under_way) > 20:
            done = under_way.popleft()
            done.active_requests -= 1
            done.active_connections -= 1
        return host

    return choose


@pytest.mark.parametrize("name", [name for name in ALL if name != "LB_REQUEST_ROUNDROBIN"])
def test_equal_hosts_get_equal_shares(name: str) -> None:
    random.seed(17)
    group = hosts(10)
    choose = load_of(name, group)
    counts = Counter(choose() for _ in range(50_000))
    bound = 0.25 if name == "LB_RING_HASH" else 0.05  # a ring of 160 points each is less even
    assert [counts[host] for host in group] == pytest.approx([5000] * 10, rel=bound)


@pytest.mark.parametrize("name", ALL)
def test_while_hosts_fall_sick_and_recover_only_healthy_ones_are_chosen(name: str) -> None:
    random.seed(19)
    group = hosts(8)
    choose = load_of(name, group)
    since_back: dict[Host, int] = {}
    for step in range(4000):
        if step % 5 == 0:
            changed = random.choice(group)
            if changed.is_healthy and sum(host.is_healthy for host in group) > 2:
                changed.is_healthy = False
            elif not changed.is_healthy:
                changed.is_healthy = True
                since_back[changed] = 0
        host = choose()
        assert host.is_healthy
        since_back.pop(host, None)
        for waiting in since_back:
            since_back[waiting] += 1
            too_long = 400 if name in ("LB_REQUEST_ROUNDROBIN", "LB_PEAK_EWMA") else 200
            if name != "LB_REQUEST_ROUNDROBIN" and waiting.is_healthy:
                assert since_back[waiting] < too_long, "a host that is back gets requests again"


@pytest.mark.parametrize("name", [name for name in ALL if name not in HASHING and name != "LB_REQUEST_ROUNDROBIN"])
def test_when_a_host_comes_or_goes_the_shares_are_even_at_once(name: str) -> None:
    random.seed(23)
    group = hosts(6)
    for now in (group[:5], group, group[1:]):
        choose = load_of(name, now)
        counts = Counter(choose() for _ in range(12_000))
        assert set(counts) == set(now)
        assert [counts[host] for host in now] == pytest.approx([12_000 / len(now)] * len(now), rel=0.1)
        for host in group:
            host.active_requests = host.active_connections = 0


@pytest.mark.parametrize("name", HASHING)
def test_adding_a_host_moves_keys_to_it_alone(name: str) -> None:
    group = hosts(20)
    keys = range(20_000)
    less, whole = make(name, group[:19]), make(name, group)
    before = [less.choose(hashed(key)) for key in keys]
    after = [whole.choose(hashed(key)) for key in keys]
    moved = [other for one, other in zip(before, after, strict=True) if one is not other]
    assert 0.03 < len(moved) / len(keys) < 0.08
    assert moved.count(group[19]) > 0.6 * len(moved)


def test_peak_ewma_respects_weights() -> None:
    group = hosts(2, 3, 1)
    choose = load_of("LB_PEAK_EWMA", group)
    counts = Counter(choose() for _ in range(20_000))
    assert counts[group[0]] / counts[group[1]] == pytest.approx(3.0, rel=0.15)


# ---- turns


def test_round_robin_takes_turns_from_anywhere() -> None:
    random.seed(3)
    group = hosts(4)
    assert {make("LB_ROUNDROBIN", group).choose(NO_CONSTRAINTS) for _ in range(60)} == set(group)
    balancer = make("LB_ROUNDROBIN", group)
    chosen = [balancer.choose(NO_CONSTRAINTS) for _ in range(9)]
    start = group.index(chosen[0])  # type: ignore[arg-type]
    assert chosen == [group[(start + place) % 4] for place in range(9)]


def test_random_stays_even_next_to_an_unhealthy_host() -> None:
    random.seed(5)
    group = hosts(5)
    group[1].is_healthy = False
    balancer = make("LB_RANDOM", group)
    counts = Counter(balancer.choose(NO_CONSTRAINTS) for _ in range(8000))
    assert all(counts[host] == pytest.approx(2000, rel=0.1) for host in group if host.is_healthy)


def test_request_round_robin_restarts_for_each_request() -> None:
    group = hosts(3)
    balancer = make("LB_REQUEST_ROUNDROBIN", group)
    assert [balancer.choose(NO_CONSTRAINTS) for _ in range(3)] == [group[0]] * 3
    assert balancer.choose(tried(group[0])) is group[1]
    assert balancer.choose(tried(group[0], group[1])) is group[2]
    group[1].is_healthy = False
    assert balancer.choose(tried(group[0])) is group[2]


# ---- weights


@pytest.mark.parametrize("weights", [(1, 2, 3), (90, 10), (128, 1, 1), (5, 5, 5, 5), (3, 7, 11, 13)])
def test_weighted_turns_are_exact_over_each_cycle(weights: tuple[int, ...]) -> None:
    group = hosts(len(weights), *weights)
    balancer = make("LB_WEIGHTED_ROUNDROBIN", group)
    for _ in range(20):
        counts = Counter(balancer.choose(NO_CONSTRAINTS) for _ in range(sum(weights)))
        assert [counts[host] for host in group] == list(weights)


def test_weighted_turns_are_spread() -> None:
    group = hosts(2, 3, 3)
    balancer = make("LB_WEIGHTED_ROUNDROBIN", group)
    chosen = [balancer.choose(NO_CONSTRAINTS) for _ in range(60)]
    assert all(one is not other for one, other in pairwise(chosen))


def test_weighted_shares_of_the_healthy() -> None:
    group = hosts(3, 128, 1, 3)
    group[0].is_healthy = False
    balancer = make("LB_WEIGHTED_ROUNDROBIN", group)
    counts = Counter(balancer.choose(NO_CONSTRAINTS) for _ in range(4000))
    assert counts[group[2]] == pytest.approx(3000, rel=0.02)
    group[0].is_healthy = True
    counts = Counter(balancer.choose(NO_CONSTRAINTS) for _ in range(13200))
    assert counts[group[0]] == pytest.approx(12800, rel=0.02), "no burst for the turns that it lost"


def test_a_retry_takes_no_turn_away() -> None:
    group = hosts(2, 1, 1)
    balancer = make("LB_WEIGHTED_ROUNDROBIN", group)
    first = balancer.choose(NO_CONSTRAINTS)
    second = balancer.choose(NO_CONSTRAINTS)
    assert first is not None
    assert balancer.choose(tried(first)) is second
    assert balancer.choose(NO_CONSTRAINTS) is first


@pytest.mark.parametrize("name", WEIGHING)
def test_90_to_10(name: str) -> None:
    random.seed(11)
    group = hosts(2, 90, 10)
    balancer = make(name, group)
    counts = Counter(balancer.choose(NO_CONSTRAINTS) for _ in range(100_000))
    bound = 3000 if name == "LB_RING_HASH" else 1000  # each ring is a separate draw
    assert counts[group[0]] == pytest.approx(90_000, abs=bound)


# ---- slow start


def test_slow_start_grows_in_a_line() -> None:
    clock = FakeClock()
    group = hosts(2)
    group[1].healthy_since = clock.now
    balancer = make("LB_WEIGHTED_ROUNDROBIN", group, BalancerOptions(clock, BalancingPlan(slow_start=SlowStartPlan(100.0))))
    shares = []
    for elapsed in (0.0, 50.0, 100.0):
        clock.now = group[1].healthy_since + elapsed
        for _ in range(20):  # the turn that is due was planned by the weight of before
            balancer.choose(NO_CONSTRAINTS)
        counts = Counter(balancer.choose(NO_CONSTRAINTS) for _ in range(3300))
        shares.append(counts[group[1]] / counts[group[0]])
    assert shares == pytest.approx([0.1, 0.5, 1.0], rel=0.02)


def test_slow_start_factors() -> None:
    host = hosts(1)[0]
    slow = SlowStart(SlowStartPlan(10.0, 2.0))
    assert slow.factor(host, 0.0) == 1.0, "it was there from the start"
    host.healthy_since = 100.0
    assert slow.factor(host, 100.0) == 0.1
    assert slow.factor(host, 102.5) == pytest.approx(0.5), "square root of a quarter"
    assert slow.factor(host, 110.0) == 1.0


def test_slow_start_of_peak_ewma_is_a_growing_share_of_the_choices() -> None:
    random.seed(13)
    clock = FakeClock()
    group = hosts(2)
    balancer = make("LB_PEAK_EWMA", group, BalancerOptions(clock, BalancingPlan(slow_start=SlowStartPlan(100.0))))
    for host, seconds in zip(group, (0.020, 0.010), strict=True):
        assert host.latency is not None
        host.latency.record(clock.now, seconds, 200)
    group[1].healthy_since = clock.now
    shares = []
    for elapsed in (0.0, 50.0, 100.0):
        clock.now = group[1].healthy_since + elapsed
        shares.append(share_of(lambda: balancer.choose(NO_CONSTRAINTS), group[1], 5000))
    assert shares == pytest.approx([0.1, 0.5, 1.0], abs=0.03), "it is the quicker one, but not at once"
    clock.now = group[1].healthy_since
    group[0].is_healthy = False
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(50)} == {group[1]}, "rather it than nobody"


@pytest.mark.parametrize("name", ["LB_LEAST_REQUEST", "LB_LEAST_CONNECTION"])
def test_slow_start_of_the_load_aware(name: str) -> None:
    clock = FakeClock()
    group = hosts(2)
    balancer = make(name, group, BalancerOptions(clock, BalancingPlan(slow_start=SlowStartPlan(100.0))))
    group[1].healthy_since = clock.now
    shares = []
    for elapsed in (0.0, 50.0, 100.0):
        clock.now = group[1].healthy_since + elapsed
        for _ in range(20):
            balancer.choose(NO_CONSTRAINTS)
        counts = Counter(balancer.choose(NO_CONSTRAINTS) for _ in range(3300))
        shares.append(counts[group[1]] / counts[group[0]])
    assert shares == pytest.approx([0.1, 0.5, 1.0], rel=0.05)


# ---- load


def p99(name: str, slow_factor: int) -> float:
    """The 99th percentile in ms of 20,000 requests, one each ms, to ten hosts, one of which is slower."""
    random.seed(7)
    clock = FakeClock()
    group = hosts(10)
    balancer = make(name, group, BalancerOptions(clock, BalancingPlan()))
    under_way: list[deque[float]] = [deque() for _ in group]
    times = []
    for step in range(20_000):
        clock.now = 1000.0 + step / 1000
        for place, queue in enumerate(under_way):
            while queue and queue[0] <= clock.now:
                queue.popleft()
                group[place].active_requests -= 1
        host = balancer.choose(NO_CONSTRAINTS)
        assert host is not None
        place = group.index(host)
        work = 0.005 * (slow_factor if place == 0 else 1)
        done = max(clock.now, under_way[place][-1] if under_way[place] else 0.0) + work
        under_way[place].append(done)
        host.active_requests += 1
        if host.latency is not None:
            host.latency.record(clock.now, done - clock.now, 200)
        times.append(done - clock.now)
    return sorted(times)[int(len(times) * 0.99)] * 1000


@pytest.mark.parametrize("name", ["LB_LEAST_REQUEST", "LB_PEAK_EWMA"])
def test_load_aware_balancers_avoid_a_slow_host(name: str) -> None:
    assert p99("LB_ROUNDROBIN", 10) > 5000, "the slow host's queue grows without end"
    assert p99(name, 10) < 300


def test_least_request_of_two() -> None:
    group = hosts(2)
    balancer = make("LB_LEAST_REQUEST", group)
    group[0].active_requests = 5
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(40)} == {group[1]}
    group[1].is_healthy = False
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(40)} == {group[0]}, "MOSN would take the sick one"


def test_least_connection_is_based_on_connections() -> None:
    group = hosts(2)
    group[0].active_requests = 9
    group[1].active_connections = 1
    balancer = make("LB_LEAST_CONNECTION", group)
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(40)} == {group[0]}


def test_bias_with_weights() -> None:
    for bias, expected in ((0.0, 0.5), (1.0, 1 / 3), (2.0, 1 / 9 / (1 + 1 / 9) + 0.1)):
        group = hosts(2, 2, 1)
        group[0].active_requests = 3
        balancer = make("LB_LEAST_REQUEST", group, BalancerOptions(FakeClock(), BalancingPlan(active_request_bias=bias)))
        counts = Counter(balancer.choose(NO_CONSTRAINTS) for _ in range(3000))
        share = 2 / 4**bias
        assert counts[group[0]] / 3000 == pytest.approx(share / (share + 1), abs=0.01), expected


def test_peak_ewma_by_latency_errors_and_load() -> None:
    group = hosts(2)
    clock = FakeClock()
    balancer = make("LB_PEAK_EWMA", group, BalancerOptions(clock, BalancingPlan(server_error_bias=1.0)))
    first, second = group[0].latency, group[1].latency
    assert first is not None
    assert second is not None
    first.record(clock.now, 0.010, 200)
    second.record(clock.now, 0.025, 200)
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(20)} == {group[0]}
    group[0].active_requests = 2
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(20)} == {group[1]}, "3 x 10 ms are more than 25 ms"
    group[0].active_requests = 0
    for _ in range(60):
        first.record(clock.now, 0.010, 503)
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(20)} == {group[1]}, "quick errors are no bargain"


def test_peak_ewma_sends_one_request_to_an_unknown_host() -> None:
    group = hosts(2)
    balancer = make("LB_PEAK_EWMA", group)
    known = group[0].latency
    assert known is not None
    known.record(1000.0, 0.5, 200)
    assert balancer.choose(NO_CONSTRAINTS) is group[1]
    group[1].active_requests = 1
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(20)} == {group[0]}


# ---- hashing


@pytest.mark.parametrize("name", HASHING)
def test_removing_one_of_twenty_moves_few_keys(name: str) -> None:
    group = hosts(20)
    whole, less = make(name, group), make(name, group[:7] + group[8:])
    keys = range(20_000)
    before = [whole.choose(hashed(key)) for key in keys]
    after = [less.choose(hashed(key)) for key in keys]
    moved = sum(one is not other for one, other in zip(before, after, strict=True))
    assert 0.03 < moved / len(keys) < 0.08
    assert all(other is not group[7] for other in after)
    assert min(Counter(before).values()) > 700, "of 1000"


@pytest.mark.parametrize("name", HASHING)
def test_sickness_moves_only_the_keys_of_the_sick(name: str) -> None:
    group = hosts(20)
    balancer = make(name, group)
    keys = range(20_000)
    before = [balancer.choose(hashed(key)) for key in keys]
    group[7].is_healthy = False
    after = [balancer.choose(hashed(key)) for key in keys]
    assert all(one is other for one, other in zip(before, after, strict=True) if one is not group[7])
    heirs = Counter(other for one, other in zip(before, after, strict=True) if one is group[7])
    assert len(heirs) == 19, "spread over all others"
    assert [balancer.choose(hashed(key)) for key in keys] == after, "always the same way"
    group[7].is_healthy = True
    assert [balancer.choose(hashed(key)) for key in keys] == before


@pytest.mark.parametrize("name", HASHING)
def test_the_order_of_hosts_does_not_matter(name: str) -> None:
    group = hosts(9, 1, 2, 3)
    one, other = make(name, group), make(name, group[::-1])
    assert all(one.choose(hashed(key)) is other.choose(hashed(key)) for key in range(2000))


@pytest.mark.parametrize("name", HASHING)
def test_without_hash_any_host(name: str) -> None:
    random.seed(1)
    group = hosts(4)
    balancer = make(name, group)
    counts = Counter(balancer.choose(NO_CONSTRAINTS) for _ in range(4000))
    assert all(counts[host] > 700 for host in group)


@pytest.mark.parametrize("name", HASHING)
@pytest.mark.parametrize("value", [0, -1, 1, 2**63 - 1, -(2**63)])
def test_any_hash_has_its_host(name: str, value: int) -> None:
    group = hosts(5)
    balancer = make(name, group)
    assert len({balancer.choose(hashed(value)) for _ in range(5)}) == 1


def test_maglev_table_is_full_and_fair() -> None:
    group = hosts(7, 1, 1, 1, 1, 1, 1, 6)
    balancer = make("LB_MAGLEV", group)
    assert isinstance(balancer, Maglev)
    counts = Counter(balancer._table[0::3])
    assert counts.total() == 65537
    assert [counts[index] for index in range(7)] == pytest.approx([65537 / 12] * 6 + [65537 / 2], rel=0.01)


def test_a_retry_of_a_hashed_request_goes_elsewhere() -> None:
    group = hosts(5)
    for name in HASHING:
        balancer = make(name, group)
        selection = hashed(42)
        seen = []
        for _ in group:
            host = balancer.choose(selection)
            assert host is not None
            seen.append(host)
            selection.add_tried(host)
        assert set(seen) == set(group)


def share_of(chosen: Callable[[], Host | None], host: Host, count: int) -> float:
    return sum(chosen() is host for _ in range(count)) / count


def test_shares_settle_when_load_is_level() -> None:
    random.seed(2)
    group = hosts(10)
    balancer = make("LB_LEAST_REQUEST", group)
    assert math.isclose(share_of(lambda: balancer.choose(NO_CONSTRAINTS), group[0], 20_000), 0.1, abs_tol=0.01)


@pytest.mark.parametrize("name", ["LB_WEIGHTED_ROUNDROBIN", "LB_LEAST_REQUEST"])
def test_a_choice_among_many_unhealthy_hosts_does_not_walk_through_the_schedule(name: str) -> None:
    group = hosts(1000, *(1 + number % 2 for number in range(1000)))
    balancer = make(name, group)
    for host in group:
        host.is_healthy = False
    before = list(balancer._heap)  # type: ignore[attr-defined]
    assert balancer.choose(NO_CONSTRAINTS) is None
    moved = set(map(id, before)) - set(map(id, balancer._heap))  # type: ignore[attr-defined]
    assert len(moved) <= 64
    group[500].is_healthy = True
    assert {balancer.choose(NO_CONSTRAINTS) for _ in range(50)} == {group[500]}
