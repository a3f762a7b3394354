"""What the control plane reports about hosts: health, priority, own TLS; local address and refused shares of requests."""

import random

import pytest
from tests.unit.upstream.test_upstream_hosts import Worker

from pymosn.api.network import PLAIN
from pymosn.api.upstream import NO_CONSTRAINTS
from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.network.tls.upstream import ClientTls
from pymosn.upstream.plan import (
    REPORTED_DEGRADED,
    REPORTED_UNHEALTHY,
    BalancingPlan,
    HostPlan,
    LocalityPlan,
    SubsetPlan,
)

TLS = ClientSettings(TlsSettings(), is_verified=False)
OTHER = ClientSettings(TlsSettings(alpn=("h2",)), server_name="other", is_verified=False)


def test_a_reported_host_is_not_used_until_the_report_changes() -> None:
    worker = Worker()
    cluster = worker.put(HostPlan("a:1", health=REPORTED_UNHEALTHY), "b:1")
    assert cluster.hosts[0].health_words() == ["reported_unhealthy"]
    assert {cluster.balancer.choose(NO_CONSTRAINTS) for _ in range(4)} == {cluster.hosts[1]}
    worker.advance(5)
    after = worker.put("a:1", "b:1")
    assert after.hosts[0] is cluster.hosts[0]
    assert after.hosts[0].is_healthy
    assert after.hosts[0].healthy_since == worker.clock.now, "slow start begins"


def test_the_results_of_active_checks_and_reports_are_independent() -> None:
    worker = Worker()
    host = worker.put(HostPlan("a:1", health=REPORTED_UNHEALTHY)).hosts[0]
    host.set_active_health(False)
    host.set_active_health(True)
    assert not host.is_healthy


def test_a_change_of_health_counts_as_such() -> None:
    worker = Worker()
    cluster = worker.put("a:1", "b:1")
    before = cluster.context.health.value
    cluster.hosts[0].set_active_health(False)
    cluster.hosts[0].set_active_health(False)
    assert cluster.context.health.value == before + 1


def test_priorities_are_used_only_where_there_are_some() -> None:
    worker = Worker()
    kinds = [
        worker.put("a:1", "b:1", name="plain"),
        worker.put("a:1", HostPlan("b:1", priority=1), name="priorities"),
        worker.put("a:1", HostPlan("b:1", health=REPORTED_DEGRADED), name="degraded"),
        worker.put("a:1", name="places", balancing=BalancingPlan(localities=(LocalityPlan("x", 0, 1),))),
    ]
    assert [type(cluster.balancer).__name__ for cluster in kinds] == ["RoundRobin", *["Priorities"] * 3]


def test_a_host_that_changes_its_priority_keeps_its_pools() -> None:
    worker = Worker()
    first = worker.put("a:1", HostPlan("b:1", priority=1))
    pool = first.hosts[1].pool("P")
    assert {first.balancer.choose(NO_CONSTRAINTS) for _ in range(9)} == {first.hosts[0]}
    second = worker.put(HostPlan("a:1", priority=1), "b:1")
    assert {second.balancer.choose(NO_CONSTRAINTS) for _ in range(9)} == {second.hosts[1]}
    assert second.hosts[1].pool("P") is pool
    assert second.hosts[1] is first.hosts[1]


def test_subsets_have_priorities_too() -> None:
    worker = Worker()
    labels = (("v", "1"),)
    plan = BalancingPlan("LB_RANDOM", subset=SubsetPlan((("v",),)))
    hosts = (HostPlan("a:1", metadata=labels), HostPlan("b:1", metadata=labels, priority=1), HostPlan("c:1"))
    cluster = worker.put(*hosts, balancing=plan)
    selection = type(NO_CONSTRAINTS)()
    selection.subset = labels
    assert {cluster.balancer.choose(selection) for _ in range(20)} == {cluster.hosts[0]}
    cluster.hosts[0].set_active_health(False)
    assert {cluster.balancer.choose(selection) for _ in range(20)} == {cluster.hosts[1]}


def test_requests_without_criteria_may_fall_back_as_in_envoy() -> None:
    worker = Worker()
    plan = SubsetPlan((("v",),), 2, (("v", "1"),))
    hosts = (HostPlan("a:1", metadata=(("v", "1"),)), HostPlan("b:1", metadata=(("v", "2"),)))
    as_mosn = worker.put(*hosts, balancing=BalancingPlan("LB_RANDOM", subset=plan))
    assert len({as_mosn.balancer.choose(NO_CONSTRAINTS) for _ in range(40)}) == 2
    strict = worker.put(*hosts, balancing=BalancingPlan("LB_RANDOM", subset=plan._replace(is_strict=True)))
    assert {strict.balancer.choose(NO_CONSTRAINTS) for _ in range(40)} == {strict.hosts[0]}


def test_hosts_may_have_other_tls_than_the_cluster() -> None:
    worker = Worker()
    hosts = (HostPlan("a:1"), HostPlan("b:1", transport=1), HostPlan("c:1", transport=2))
    cluster = worker.put(*hosts, tls=TLS, host_tls=(OTHER, None))
    one, two, three = [host.peer.transport for host in cluster.hosts]
    assert isinstance(one, ClientTls)
    assert one.settings == TLS
    assert isinstance(two, ClientTls)
    assert two.settings == OTHER
    assert cluster.hosts[1].peer.server_name == "other"
    assert three is PLAIN


def test_a_host_that_changes_its_tls_gets_no_request_on_old_connections() -> None:
    worker = Worker()
    first = worker.put("a:1", "b:1", host_tls=(OTHER,))
    pools = [host.pool("P") for host in first.hosts]
    second = worker.put(HostPlan("a:1", transport=1), "b:1", host_tls=(OTHER,))
    assert worker.closed == ["a:1"]
    assert isinstance(second.hosts[0].peer.transport, ClientTls)
    assert second.hosts[1].pool("P") is pools[1]
    third = worker.put(HostPlan("a:1", transport=2), "b:1", host_tls=(None, OTHER))
    assert third.hosts[0].peer.transport is second.hosts[0].peer.transport, "the same TLS at another place of the list"
    assert worker.closed == ["a:1"]


def test_offers_of_protocols_do_not_mix_the_tls_of_hosts() -> None:
    worker = Worker()
    cluster = worker.put("a:1", HostPlan("b:1", transport=1), tls=TLS, host_tls=(OTHER,))
    for _ in range(2):
        found = [host.peer_for("h2", True).transport for host in cluster.hosts]
        assert [transport.settings.server_name for transport in found if isinstance(transport, ClientTls)] == ["", "other"]


def test_connections_have_the_local_address() -> None:
    worker = Worker()
    cluster = worker.put("a:1", bind="127.0.0.6")
    assert cluster.hosts[0].peer.bind == "127.0.0.6"
    assert worker.put("a:1").hosts[0].peer.bind == ""


def test_shares_of_requests_are_refused_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker()
    cluster = worker.put("a:1", drops=(("throttle", 100_000), ("", 500_000)))
    assert cluster.drops
    assert not worker.put("b:1", name="other").drops
    for draws, expected in (([0.05], "throttle"), ([0.2, 0.4], "drop_overload"), ([0.2, 0.6], "")):
        numbers = iter(draws)
        monkeypatch.setattr(random, "random", lambda numbers=numbers: next(numbers))
        assert cluster.dropped_category() == expected
