"""MOSN's `fault_tolerance`: windows, comparison of shares, maximum, recovery, and hosts that come and go."""

from __future__ import annotations

import pytest
from tests.unit.upstream.test_upstream_hosts import Worker

from pymosn.api.upstream import FaultRule
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.stream.fault_tolerance import FaultToleranceFilter, Settings
from pymosn.upstream.cluster_host import ClusterHost
from pymosn.upstream.plan import EjectionPlan

NAMES = [f"h{number}:1" for number in range(6)]
RULE = FaultRule(frozenset((502, 503, 504)), 10.0, 10, 5.0, 1, 900.0)


def start(count: int = 6) -> tuple[Worker, list[ClusterHost]]:
    worker = Worker()
    return worker, worker.put(*NAMES[:count]).hosts


def record(host: ClusterHost, calls: int, exceptions: int, rule: FaultRule = RULE) -> None:
    for number in range(calls):
        host.record_fault(rule, 503 if number < exceptions else 200)


def ejected(hosts: list[ClusterHost]) -> list[int]:
    return [number for number, host in enumerate(hosts) if not host.is_healthy]


def test_a_host_with_five_times_the_average_is_ejected_at_the_end_of_the_window() -> None:
    worker, hosts = start()
    for host in hosts:
        record(host, 10, 10 if host is hosts[2] else 0)
    worker.advance(9.9)
    assert ejected(hosts) == []
    worker.advance(0.2)
    assert ejected(hosts) == [2]
    assert hosts[2].health_words() == ["fault_tolerance"]
    assert hosts[2].cluster_stats.ejected.value == 1


@pytest.mark.parametrize(
    ("shares", "multiple", "found"),
    [
        ([100, 0, 0, 0], 5.0, []),  # the average is 25 %, so no multiple is above 4
        ([100, 0, 0, 0], 4.0, [0]),
        ([100, 0, 0, 0, 0], 5.0, [0]),
        ([30, 10, 10, 10], 2.0, [0]),
        ([30, 10, 10, 10], 2.1, []),
        ([10, 10, 10, 10], 1.1, []),
        ([0, 0, 0, 0], 1.1, []),
        ([100], 1.1, []),  # a host is not worse than itself
    ],
)
def test_shares_are_compared_with_the_average(shares: list[int], multiple: float, found: list[int]) -> None:
    worker, hosts = start(len(shares))
    for host, share in zip(hosts, shares, strict=True):
        record(host, 100, share, RULE._replace(multiple=multiple))
    worker.advance(10.1)
    assert ejected(hosts) == found


def test_the_average_is_exact() -> None:
    worker, hosts = start(2)
    rule = RULE._replace(multiple=2.0)
    record(hosts[0], 1000, 6, rule)
    record(hosts[1], 1000, 3, rule)  # the average is 0.45 %, which MOSN rounds to 0
    worker.advance(10.1)
    assert ejected(hosts) == []


def test_the_worst_hosts_are_ejected_first_and_not_more_than_allowed() -> None:
    for most, found in ((1, [3]), (2, [1, 3]), (9, [1, 3])):
        worker, hosts = start()
        rule = RULE._replace(multiple=1.5, most_ejected=most)
        for number, share in enumerate([0, 50, 0, 90, 0, 0]):
            record(hosts[number], 100, share, rule)
        worker.advance(10.1)
        assert ejected(hosts) == found


def test_those_that_are_ejected_count_for_the_maximum_until_they_recover() -> None:
    worker, hosts = start()
    rule = RULE._replace(multiple=2.0, recovery=25.0)

    def window(bad: int) -> None:
        for number, host in enumerate(hosts):
            record(host, 10, 10 if number == bad else 0, rule)
        worker.advance(10.1)

    window(0)
    window(1)
    assert ejected(hosts) == [0]
    worker.advance(15.0)
    assert ejected(hosts) == []
    window(1)
    assert ejected(hosts) == [1]


def test_only_hosts_with_enough_requests_are_compared() -> None:
    worker, hosts = start()
    for host in hosts[:5]:
        record(host, 10, 0)
    record(hosts[5], 9, 9)
    worker.advance(10.1)
    assert ejected(hosts) == [], "9 requests are not enough"
    record(hosts[5], 9, 9)
    worker.advance(10.1)
    assert ejected(hosts) == [], "those of the last window do not count any more"


def test_a_window_in_which_no_host_has_enough_requests_is_continued() -> None:
    worker, hosts = start(5)
    for _ in range(2):
        for host in hosts:
            record(host, 5, 5 if host is hosts[4] else 0)
        assert ejected(hosts) == []
        worker.advance(10.1)
    assert ejected(hosts) == [4]


def test_hosts_that_are_unhealthy_for_another_reason_are_not_compared() -> None:
    worker, hosts = start()
    hosts[0].set_active_health(False)
    for host in hosts:
        record(host, 10, 10 if host is hosts[0] else 0)
    worker.advance(10.1)
    assert hosts[0].health_words() == ["failed_active_check"]
    hosts[0].set_active_health(True)
    for host in hosts[1:]:
        record(host, 10, 0)
    worker.advance(10.1)
    assert hosts[0].health_words() == ["fault_tolerance"], "its requests of then still count"


def test_an_ejected_host_recovers_and_begins_anew() -> None:
    worker, hosts = start()
    for host in hosts:
        record(host, 10, 10 if host is hosts[0] else 0)
    worker.advance(10.1)
    record(hosts[0], 10, 10)  # requests that were in flight
    worker.advance(889.0)
    assert ejected(hosts) == [0]
    worker.advance(11.1)
    assert ejected(hosts) == []
    assert hosts[0].cluster_stats.ejected.value == 0
    for host in hosts[1:]:
        record(host, 10, 0)
    worker.advance(10.1)
    assert ejected(hosts) == []


def test_hosts_survive_changes_of_the_cluster_and_those_that_go_are_forgotten() -> None:
    worker, hosts = start()
    for host in hosts:
        record(host, 10, 10 if host is hosts[0] else 0)
    worker.advance(10.1)
    hosts = worker.put(*NAMES[:5]).hosts
    assert ejected(hosts) == [0]
    gone = hosts[0]
    hosts = worker.put(*NAMES[1:5]).hosts
    assert gone.is_healthy
    assert gone.cluster_stats.ejected.value == 0
    record(gone, 10, 10)
    rule = RULE._replace(multiple=2.0)
    for host in hosts:
        record(host, 10, 10 if host is hosts[0] else 0, rule)
    worker.advance(10.1)
    assert ejected(hosts) == [0], "the maximum counts nobody who is gone"


def test_listeners_with_different_rules_count_apart() -> None:
    worker, hosts = start()
    other = RULE._replace(multiple=4.0)
    for number, host in enumerate(hosts):
        record(host, 5, 5 * (number == 0), RULE)
        record(host, 5, 5 * (number == 0), other)
    worker.advance(10.1)
    assert ejected(hosts) == [], "5 requests each"
    for number, host in enumerate(hosts):
        record(host, 5, 5 * (number == 0), RULE._replace())
    worker.advance(10.1)
    assert ejected(hosts) == [0]


def test_a_rule_that_a_reload_replaces_keeps_its_ejections_until_their_end() -> None:
    worker, hosts = start()
    for host in hosts:
        record(host, 10, 10 if host is hosts[0] else 0)
    worker.advance(10.1)
    assert ejected(hosts) == [0]
    changed = RULE._replace(multiple=2.0, recovery=30.0)
    for host in hosts:
        record(host, 10, 10 if host in hosts[:2] else 0, changed)
    worker.advance(10.1)
    assert ejected(hosts) == [0, 1], "each rule has a maximum of its own"
    worker.advance(30.1)
    assert ejected(hosts) == [0]
    worker.advance(860.0)
    assert ejected(hosts) == []
    assert hosts[0].cluster_stats.ejected.value == 0


def test_both_kinds_of_ejection_are_one_in_the_counters() -> None:
    worker = Worker()
    plan = EjectionPlan(consecutive_errors=3, base_ejection_time=5.0, max_ejection_percent=100.0)
    hosts = worker.put(*NAMES, ejection=plan).hosts
    for host in hosts:
        record(host, 10, 10 if host is hosts[0] else 0)
    worker.advance(10.1)
    for _ in range(3):
        hosts[0].record_outcome(0.1, -1)
    assert hosts[0].health_words() == ["ejected", "fault_tolerance"]
    assert hosts[0].stats.ejected.value == 1
    worker.advance(6.0)
    assert hosts[0].health_words() == ["fault_tolerance"]
    assert hosts[0].stats.ejected.value == 1


# ---- settings


def test_the_defaults_are_those_of_mosn() -> None:
    assert FaultToleranceFilter(Settings()).host_rule is None
    assert FaultToleranceFilter(Settings(enabled=True)).host_rule == RULE
    zeros = Settings(
        enabled=True, timeWindow=0, leastWindowCount=0, exceptionRateMultiple=0.0, maxIpCount=0, recoverTime=0, taskSize=0
    )
    assert FaultToleranceFilter(zeros).host_rule == RULE


def test_all_keys() -> None:
    settings = Settings(
        enabled=True,
        exceptionTypes=[500],
        timeWindow=20_000,
        leastWindowCount=3,
        exceptionRateMultiple=1.5,
        maxIpCount=2,
        recoverTime=1500,
    )
    assert FaultToleranceFilter(settings).host_rule == FaultRule(frozenset((500,)), 20.0, 3, 1.5, 2, 1.5)
    assert FaultToleranceFilter(Settings(enabled=True, exceptionTypes=[])).host_rule == RULE._replace(exceptions=frozenset())


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        (Settings(timeWindow=9), ".timeWindow"),
        (Settings(timeWindow=-1), ".timeWindow"),
        (Settings(leastWindowCount=-1), ".leastWindowCount"),
        (Settings(exceptionRateMultiple=1.0), ".exceptionRateMultiple"),
        (Settings(exceptionRateMultiple=-2.0), ".exceptionRateMultiple"),
        (Settings(recoverTime=-1), ".recoverTime"),
    ],
)
def test_what_mosn_refuses(settings: Settings, path: str) -> None:
    with pytest.raises(FilterConfigError) as caught:
        FaultToleranceFilter(settings)
    assert [fault[0] for fault in caught.value.problems] == [path]
