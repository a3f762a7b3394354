"""Outlier detection: gateway failures, local origin, success rate, failure percentage, and the length of ejections."""

import random

import pytest
from tests.unit.upstream.test_upstream_hosts import Worker

from pymosn.upstream.cluster_host import ClusterHost
from pymosn.upstream.plan import EjectionPlan, EnforcingPlan, FailurePercentagePlan, SuccessRatePlan

OFF = EjectionPlan(consecutive_errors=0, interval=10.0, base_ejection_time=30.0, max_ejection_percent=50.0)
NAMES = [f"h{number}:1" for number in range(6)]


def start(rule: EjectionPlan, count: int = 6) -> tuple[Worker, list[ClusterHost]]:
    worker = Worker()
    return worker, worker.put(*NAMES[:count], ejection=rule).hosts


def record(host: ClusterHost, *statuses: int) -> None:
    for status in statuses:
        host.record_outcome(0.1, status)


def ejected(hosts: list[ClusterHost]) -> list[int]:
    return [number for number, host in enumerate(hosts) if not host.is_healthy]


def test_gateway_failures_are_counted_apart_from_other_errors() -> None:
    _, hosts = start(OFF._replace(gateway_failures=3))
    record(hosts[0], 502, 503, 500, 504, 502)
    assert ejected(hosts) == [], "the 500 is an answer of the host itself"
    record(hosts[0], -1)
    assert ejected(hosts) == [0]


def test_local_origin_counts_as_gateway_failure_unless_it_is_split_off() -> None:
    rule = OFF._replace(gateway_failures=2, consecutive_errors=2, local_failures=3)
    _, hosts = start(rule)
    record(hosts[0], -1, -1)
    assert ejected(hosts) == [0]
    _, hosts = start(rule._replace(splits_local_origin=True))
    record(hosts[0], -1, -1, 200, -1, -1)
    assert ejected(hosts) == [], "a response has come in between"
    record(hosts[0], -1)
    assert ejected(hosts) == [0]
    record(hosts[1], 503, -1, 503)
    assert ejected(hosts) == [0, 1], "the failure of local origin neither counts nor resets"


def test_the_success_rate_is_compared_when_the_interval_ends() -> None:
    worker, hosts = start(OFF._replace(success_rate=SuccessRatePlan(5, 10, 1900)))
    for host in hosts:
        record(host, *[200] * 10)
    record(hosts[3], *[500] * 10)
    assert ejected(hosts) == []
    worker.advance(10.1)
    assert ejected(hosts) == [3]


def test_equal_hosts_are_no_outliers_and_few_hosts_are_not_compared() -> None:
    worker, hosts = start(OFF._replace(success_rate=SuccessRatePlan(5, 10, 1900)))
    for host in hosts:
        record(host, *[500] * 10)
    worker.advance(10.1)
    assert ejected(hosts) == []
    for host in hosts[:4]:  # 4 of the 5 that there must be
        record(host, *[200] * 10)
    record(hosts[0], *[500] * 30)
    worker.advance(10.1)
    assert ejected(hosts) == []


def test_the_standard_deviation_decides() -> None:
    # Rates 100 x 5 and 50: average 91.7, deviation 18.6; below 91.7 - 1.9 * 18.6 = 56.3, but not - 2.3 * 18.6 = 48.8.
    for factor, expected in ((1900, [5]), (2300, [])):
        worker, hosts = start(OFF._replace(success_rate=SuccessRatePlan(5, 10, factor)))
        for host in hosts[:5]:
            record(host, *[200] * 10)
        record(hosts[5], *[200] * 5, *[500] * 5)
        worker.advance(10.1)
        assert ejected(hosts) == expected


def test_the_failure_percentage_needs_its_volume() -> None:
    rule = OFF._replace(failure_percentage=FailurePercentagePlan(50.0, 2, 10))
    worker, hosts = start(rule)
    record(hosts[0], *[200] * 5, *[500] * 5)
    record(hosts[1], *[200] * 10)
    record(hosts[2], *[500] * 9)
    worker.advance(10.1)
    assert ejected(hosts) == [0]


def test_local_origin_has_a_percentage_of_its_own() -> None:
    enforcing = EnforcingPlan(failure_percentage=0, local_failure_percentage=100)
    rule = OFF._replace(failure_percentage=FailurePercentagePlan(50.0, 2, 10), splits_local_origin=True, enforcing=enforcing)
    worker, hosts = start(rule)
    record(hosts[0], *[200] * 5, *[-1] * 5)
    record(hosts[1], *[500] * 10)
    worker.advance(10.1)
    assert ejected(hosts) == [0]


def test_each_interval_begins_anew_and_nothing_stays_behind() -> None:
    worker, hosts = start(OFF._replace(failure_percentage=FailurePercentagePlan(50.0, 1, 10)))
    record(hosts[0], *[500] * 6)
    worker.advance(10.1)
    record(hosts[0], *[500] * 6)
    worker.advance(10.1)
    assert ejected(hosts) == [], "never ten in one interval"
    assert len(worker.wheel) == 0


def test_a_removed_host_is_not_ejected_at_the_end_of_the_interval() -> None:
    worker, hosts = start(OFF._replace(failure_percentage=FailurePercentagePlan(50.0, 1, 10)), 2)
    record(hosts[0], *[500] * 10)
    after = worker.put(NAMES[1], ejection=hosts[0]._context.ejector.plan)
    worker.advance(10.1)
    assert hosts[0].is_healthy
    assert not after.context.ejector.ejected


def test_a_rule_that_is_not_enforced_ejects_nothing() -> None:
    _, hosts = start(OFF._replace(consecutive_errors=2, enforcing=EnforcingPlan(consecutive_errors=0)))
    record(hosts[0], *[500] * 20)
    assert ejected(hosts) == []


def test_a_rule_that_is_enforced_sometimes_ejects_in_that_share_of_the_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([0.4, 0.2])
    monkeypatch.setattr(random, "random", lambda: next(draws, 0.0))
    _, hosts = start(OFF._replace(consecutive_errors=2, enforcing=EnforcingPlan(consecutive_errors=30)), 1)
    host = hosts[0]
    host._context.ejector.plan = host._context.ejector.plan._replace(max_ejection_percent=100.0)
    draws = iter([0.4, 0.2])
    record(host, 500, 500)
    assert host.is_healthy
    record(host, 500)
    assert host.is_healthy, "the count has begun again"
    record(host, 500)
    assert not host.is_healthy


def test_one_host_may_always_be_ejected_if_so_configured() -> None:
    rule = OFF._replace(consecutive_errors=1, max_ejection_percent=10.0)
    _, hosts = start(rule)
    record(hosts[0], 500)
    assert ejected(hosts) == []
    _, hosts = start(rule._replace(always_ejects_one=True))
    record(hosts[0], 500)
    record(hosts[1], 500)
    assert ejected(hosts) == [0]


def test_an_ejection_is_not_longer_than_the_maximum() -> None:
    worker, hosts = start(OFF._replace(consecutive_errors=1, max_ejection_time=40.0, interval=1000.0))
    times = []
    for _ in range(3):
        record(hosts[0], 500)
        since = worker.clock.now
        while not hosts[0].is_healthy:
            worker.advance(0.5)
        times.append(worker.clock.now - since)
    assert times == pytest.approx([30, 40, 40], abs=0.6)


def test_another_worker_continues_an_ejection_and_its_growth() -> None:
    rule = OFF._replace(gateway_failures=1)
    before, old = start(rule)
    assert not before.maker.ejections.take_change()
    record(old[0], 502)
    before.advance(30.1)
    record(old[0], 502)  # the second time it takes twice as long
    record(old[1], 502)
    before.advance(20.0)
    assert before.maker.ejections.take_change()
    assert not before.maker.ejections.take_change()
    found = {e[1]: (round(e[2]), e[3], e[4]) for e in before.maker.ejections.all()}
    assert found == {"h0:1": (40, 2, 0.0), "h1:1": (10, 1, 0.0)}
    assert {cluster for cluster, *_ in before.maker.ejections.all()} == {"c"}

    after, new = start(rule)
    for host in new[:2]:
        seconds, times, since = found[host.address]
        host.restore_ejection(seconds, times, since)
        host.restore_ejection(seconds, times, since)  # once more when the generation is ready
    assert ejected(new) == [0, 1]
    assert after.maker.ejections.take_change()
    after.advance(10.1)
    assert ejected(new) == [0]
    after.advance(30.0)
    assert ejected(new) == []
    record(new[0], 502)
    after.advance(80.0)
    assert ejected(new) == [0], "the third time takes 90 seconds"
    after.advance(11.0)
    assert ejected(new) == []


def test_a_host_that_is_back_is_remembered_until_its_ejections_are_forgotten() -> None:
    worker, hosts = start(OFF._replace(gateway_failures=1))
    record(hosts[0], 502)
    worker.advance(30.1)
    assert worker.maker.ejections.take_change()
    ((_, address, seconds, times, since, cause),) = worker.maker.ejections.all()
    assert cause == "consecutive gateway failures"
    assert (address, seconds, times) == ("h0:1", 0.0, 1)
    assert since < 1.0
    _, new = start(OFF._replace(gateway_failures=1))
    new[0].restore_ejection(0.0, times, since)
    assert ejected(new) == []
    record(new[0], 502)
    assert new[0].is_healthy is False
    worker.advance(10.1)
    assert worker.maker.ejections.all() == []


def test_an_ejection_is_not_continued_without_rules_or_beyond_their_limit() -> None:
    _, hosts = start(OFF._replace(gateway_failures=1, max_ejection_percent=20.0))
    for host in hosts[:3]:
        host.restore_ejection(30.0, 1, 0.0)
    assert ejected(hosts) == [0], "one in six is below 20 %, two are not"
    worker = Worker()
    (host,) = worker.put("h0:1").hosts
    host.restore_ejection(30.0, 1, 0.0)
    assert host.is_healthy


def test_hosts_that_are_gone_are_not_reported() -> None:
    worker, hosts = start(OFF._replace(gateway_failures=1))
    record(hosts[0], 502)
    assert worker.maker.ejections.take_change()
    worker.put(*NAMES[1:], ejection=OFF._replace(gateway_failures=1))
    assert worker.maker.ejections.take_change()
    assert worker.maker.ejections.all() == []
