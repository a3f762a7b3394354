"""Priorities, localities and degraded hosts, against the tables of Envoy's documentation."""

from collections import Counter

import pytest
from tests.kit import FakeClock

from pymosn.api.network import plain_peer
from pymosn.api.upstream import NO_CONSTRAINTS, Balancer, Host, Selection
from pymosn.upstream.balancers import balancers, make_balancer
from pymosn.upstream.plan import BalancingPlan, LocalityPlan, SubsetPlan
from pymosn.upstream.priorities import COUNT_PERIOD
from pymosn.upstream.priority_load import HostCounts, locality_weight, priority_loads
from pymosn.upstream.selection import BalancerOptions, HealthVersion
from pymosn.upstream.subset import SubsetBalancer

FACTOR = 140


def loads(healthy: list[int], degraded: list[int] | None = None, panic: float = 0.0) -> list[tuple[int, int, bool]]:
    """The loads of priorities of a hundred hosts each."""
    counts = [HostCounts(100, good, worse) for good, worse in zip(healthy, degraded or [0] * len(healthy), strict=True)]
    return [(int(load.healthy), int(load.degraded), load.panics) for load in priority_loads(counts, FACTOR, panic)]


# Percentages of healthy hosts -> percentages of requests (priority levels).
@pytest.mark.parametrize(
    ("healthy", "expected"),
    [
        ([100, 100], [100, 0]),
        ([72, 100], [100, 0]),
        ([71, 100], [99, 1]),
        ([50, 100], [70, 30]),
        ([25, 100], [35, 65]),
        ([0, 100], [0, 100]),
        ([100, 100, 100], [100, 0, 0]),
        ([72, 72, 100], [100, 0, 0]),
        ([71, 71, 100], [99, 1, 0]),
        ([50, 50, 100], [70, 30, 0]),
        ([25, 100, 100], [35, 65, 0]),
        ([25, 25, 100], [35, 35, 30]),
        ([25, 25, 20], [37, 35, 28]),  # the documentation rounds to 36, 36, 28
    ],
)
def test_unhealthy_hosts_move_requests_to_the_next_priority(healthy: list[int], expected: list[int]) -> None:
    assert [load[0] for load in loads(healthy)] == expected


# Healthy percentages of two priorities -> requests and panic of each, with the default threshold (panic threshold).
@pytest.mark.parametrize(
    ("healthy", "expected"),
    [
        ([72, 72], [(100, False), (0, False)]),
        ([71, 71], [(99, False), (1, False)]),
        ([50, 60], [(70, False), (30, False)]),
        ([25, 100], [(35, False), (65, False)]),
        ([25, 25], [(50, True), (50, True)]),
        ([5, 65], [(8, True), (92, False)]),  # 7.1 and 92.9: what rounding leaves goes to the first priority
    ],
)
def test_a_priority_panics_only_if_all_together_cannot_take_the_load(
    healthy: list[int], expected: list[tuple[int, bool]]
) -> None:
    assert [(load, panics) for load, _, panics in loads(healthy, panic=50.0)] == expected


def test_without_healthy_hosts_everything_panics_by_number_of_hosts() -> None:
    counts = [HostCounts(30, 0, 0), HostCounts(10, 0, 0)]
    found = priority_loads(counts, FACTOR, 50.0)
    assert [(load.healthy, load.panics) for load in found] == [(75, True), (25, True)]
    assert [(load.healthy, load.panics) for load in priority_loads(counts, FACTOR, 0.0)] == [(100, False), (0, False)]


def test_degraded_hosts_get_what_the_healthy_ones_of_all_priorities_cannot_take() -> None:
    assert loads([72, 0], [28, 100]) == [(100, 0, False), (0, 0, False)]
    assert loads([50, 0], [50, 0]) == [(70, 30, False), (0, 0, False)]
    # The healthy ones of the second priority come before the degraded ones of the first.
    assert loads([25, 20], [75, 0]) == [(35, 37, False), (28, 0, False)]


def test_an_empty_priority_gets_nothing() -> None:
    counts = [HostCounts(0, 0, 0), HostCounts(2, 2, 0)]
    assert [(load.healthy, load.panics) for load in priority_loads(counts, FACTOR, 50.0)] == [(0, False), (100, False)]
    assert priority_loads([], FACTOR, 50.0) == []


# Healthy percentage of the locality X of weight 1, beside Y of weight 2, all healthy -> requests of X (locality weights).
@pytest.mark.parametrize(("healthy", "expected"), [(100, 33), (70, 33), (69, 33), (50, 26), (25, 15), (0, 0)])
def test_a_locality_with_unhealthy_hosts_loses_weight(healthy: int, expected: int) -> None:
    one = locality_weight(1, HostCounts(100, healthy, 0), healthy, FACTOR)
    two = locality_weight(2, HostCounts(100, 100, 0), 100, FACTOR)
    assert round(one * 100 / (one + two)) == expected


# ---- the balancer


def group(*priorities: int) -> list[Host]:
    found = [Host(plain_peer(f"10.0.0.{number}:80"), "", 1, 1.0, 1.0, 0) for number in range(len(priorities))]
    for host, priority in zip(found, priorities, strict=True):
        host.priority = priority
    return found


def make(
    hosts: list[Host], plan: BalancingPlan | None = None, clock: FakeClock | None = None, health: HealthVersion | None = None
) -> Balancer:
    plan = plan or BalancingPlan("LB_RANDOM")
    options = BalancerOptions(clock or FakeClock(), plan, health)
    options.has_levels = True
    kind = balancers().get(plan.lb_type)
    assert kind is not None
    return make_balancer(kind, hosts, options)


def picks(balancer: Balancer, count: int = 2000) -> Counter[str]:
    found = [balancer.choose(NO_CONSTRAINTS) for _ in range(count)]
    return Counter("none" if host is None else host.address.removeprefix("10.0.0.").removesuffix(":80") for host in found)


def sick(host: Host) -> None:
    host.set_health_flag(1, True, 0.0)


def test_the_second_priority_is_unused_while_the_first_is_healthy_enough() -> None:
    hosts = group(*[0] * 7, 1)
    sick(hosts[0])
    sick(hosts[1])  # 5 of 7 are 71.4 %: 100 with the factor
    assert set(picks(make(hosts))) == {"2", "3", "4", "5", "6"}


def test_requests_move_when_the_first_priority_becomes_unhealthy_and_return() -> None:
    clock, health = FakeClock(), HealthVersion()
    hosts = group(0, 0, 1)
    balancer = make(hosts, clock=clock, health=health)
    assert set(picks(balancer)) == {"0", "1"}
    sick(hosts[0])
    health.value += 1
    clock.now += COUNT_PERIOD
    found = picks(balancer)
    assert found["0"] == 0
    assert 0.24 < found["2"] / 2000 < 0.36  # 50 % healthy: 70 %
    hosts[0].set_health_flag(1, False, 0.0)
    health.value += 1
    clock.now += COUNT_PERIOD
    assert picks(balancer)["2"] == 0


def test_a_host_that_has_just_failed_is_not_chosen_before_the_next_count() -> None:
    hosts = group(0, 1)
    balancer = make(hosts, health=HealthVersion())
    assert set(picks(balancer)) == {"0"}
    sick(hosts[0])
    assert set(picks(balancer)) == {"1"}


def test_health_is_not_counted_again_without_a_change() -> None:
    clock, health = FakeClock(), HealthVersion()
    hosts = group(0, 0, 1)
    balancer = make(hosts, clock=clock, health=health)
    picks(balancer, 1)
    hosts[0].is_healthy = False  # not counted as a change
    clock.now += 60.0
    assert picks(balancer)["2"] == 0


def test_panic_uses_all_hosts_of_the_priority_or_none() -> None:
    hosts = group(0, 0, 0, 1)
    for host in hosts:
        sick(host)
    assert set(picks(make(hosts, BalancingPlan("LB_RANDOM", panic_threshold=50.0)))) == {"0", "1", "2", "3"}
    failing = BalancingPlan("LB_RANDOM", panic_threshold=50.0, fails_in_panic=True)
    assert set(picks(make(hosts, failing))) == {"none"}
    assert set(picks(make(hosts))) == {"none"}


def test_degraded_hosts_are_used_for_what_is_lacking() -> None:
    hosts = group(0, 0, 0, 0)
    hosts[3].is_degraded = True
    assert set(picks(make(hosts))) == {"0", "1", "2"}
    sick(hosts[0])
    sick(hosts[1])
    found = picks(make(hosts))  # a quarter is healthy: 35 %; and 35 % degraded, normalized to half each
    assert set(found) == {"2", "3"}
    assert 0.44 < found["3"] / 2000 < 0.56


def placed(weights: dict[str, int], names: list[str], **keys: float) -> tuple[list[Host], BalancingPlan]:
    hosts = group(*[0] * len(names))
    for host, name in zip(hosts, names, strict=True):
        host.locality = name
    places = tuple(LocalityPlan(name, 0, weight) for name, weight in weights.items())
    return hosts, BalancingPlan("LB_RANDOM", localities=places, **keys)  # type: ignore[arg-type]


def test_localities_share_by_weight_and_not_by_number_of_hosts() -> None:
    hosts, plan = placed({"a": 1, "b": 3}, ["a", "a", "a", "b"])
    assert 0.70 < picks(make(hosts, plan))["3"] / 2000 < 0.80


def test_a_locality_without_weight_gets_nothing_unless_all_lack_one() -> None:
    hosts, plan = placed({"a": 1}, ["a", "b"])
    assert set(picks(make(hosts, plan))) == {"0"}
    hosts, plan = placed({"a": 0, "b": 0}, ["a", "b"])
    assert set(picks(make(hosts, plan))) == {"0", "1"}


def test_an_unhealthy_locality_gets_nothing() -> None:
    hosts, plan = placed({"a": 5, "b": 1}, ["a", "b"])
    sick(hosts[0])
    assert set(picks(make(hosts, plan))) == {"1"}


@pytest.mark.parametrize("name", ["LB_MAGLEV", "LB_RING_HASH"])
def test_a_hash_always_leads_to_the_same_host(name: str) -> None:
    hosts, plan = placed({"a": 1, "b": 1}, ["a", "b", "a", "b"])
    hosts[2].priority = hosts[3].priority = 1
    sick(hosts[0])
    balancer = make(hosts, plan._replace(lb_type=name))
    assert balancer.uses_hash
    chosen: set[str] = set()
    for value in range(200):
        selection = Selection()
        selection.set_hash(value)
        first = balancer.choose(selection)
        assert first is not None
        assert all(balancer.choose(selection) is first for _ in range(3))
        chosen.add(first.address)
    assert len(chosen) == 3


@pytest.mark.parametrize("function", ["", "XX_HASH"])
def test_subsets_of_hosts_with_priorities_use_hashes(function: str) -> None:
    plan = BalancingPlan("LB_RING_HASH", hash_function=function)
    options = BalancerOptions(FakeClock(), plan)
    options.has_levels = True
    kind = balancers().get(plan.lb_type)
    assert kind is not None
    balancer = SubsetBalancer(SubsetPlan((("v",),)), kind, group(0, 0, 1), options)
    for _ in balancer.build():
        pass
    assert (balancer.uses_hash, balancer.follows_envoy) == (True, bool(function))


def test_another_host_is_preferred_to_the_one_that_was_tried() -> None:
    hosts, plan = placed({"a": 1, "b": 1}, ["a", "b"])
    balancer = make(hosts, plan)
    selection = Selection()
    selection.add_tried(hosts[0])
    assert {balancer.choose(selection) for _ in range(50)} == {hosts[1]}


def test_a_cluster_of_one_priority_does_not_use_them() -> None:
    options = BalancerOptions(FakeClock(), BalancingPlan("LB_RANDOM"))
    kind = balancers().get("LB_RANDOM")
    assert kind is not None
    assert type(make_balancer(kind, group(0, 0), options)).__name__ == "Random"
