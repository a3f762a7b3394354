"""Balancers, limits and clusters."""

import random
from collections import Counter

import pytest

from pymosn.api.network import Dialer
from pymosn.api.upstream import Balancer, Host
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics, UpstreamStats
from pymosn.core.timers import TimerWheel
from pymosn.stream.registry import protocols
from pymosn.upstream.balancers import Random, RoundRobin, balancers
from pymosn.upstream.cluster import Cluster, ClusterHost, Clusters, ConnectionLimit, PoolMaker


def hosts(count: int) -> list[Host]:
    return [Host(f"10.0.0.{number}:80", "", 1, 1.0, 1.0, 0) for number in range(count)]


def test_round_robin_takes_turns() -> None:
    group = hosts(3)
    balancer = RoundRobin(group)
    chosen = [balancer.choose(None) for _ in range(9)]
    start = group.index(chosen[0])  # type: ignore[arg-type]
    assert chosen == [group[(start + place) % 3] for place in range(9)]


def test_round_robin_starts_anywhere() -> None:
    random.seed(3)
    group = hosts(4)
    assert {RoundRobin(group).choose(None) for _ in range(60)} == set(group)


def test_random_is_even() -> None:
    random.seed(5)
    group = hosts(4)
    balancer = Random(group)
    counts = Counter(balancer.choose(None) for _ in range(8000))
    assert all(counts[host] == pytest.approx(2000, rel=0.1) for host in group)


@pytest.mark.parametrize("kind", [RoundRobin, Random])
def test_sick_hosts_are_stepped_over(kind: type[Balancer]) -> None:
    group = hosts(4)
    for sick in (0, 2):
        group[sick].is_healthy = False
    balancer = kind(group)
    assert {balancer.choose(None) for _ in range(50)} == {group[1], group[3]}
    assert {balancer.choose(group[1]) for _ in range(50)} == {group[3]}
    group[3].is_healthy = False
    assert balancer.choose(group[1]) is group[1], "better again than not at all"
    group[1].is_healthy = False
    assert balancer.choose(None) is None
    assert balancer.choose(group[1]) is None


@pytest.mark.parametrize("kind", [RoundRobin, Random])
def test_nobody_there(kind: type[Balancer]) -> None:
    assert kind([]).choose(None) is None


def test_names_of_balancers() -> None:
    assert balancers().get("LB_ROUNDROBIN") is RoundRobin
    assert balancers().get("LB_RANDOM") is Random


class NoDialer(Dialer):
    """Nobody dials in these tests."""


def host(limit: ConnectionLimit, metrics: Metrics, address: str) -> ClusterHost:
    clock = Clock()
    maker = PoolMaker(protocols(), NoDialer(), TimerWheel(clock))
    own = UpstreamStats(metrics.group("upstream", ("cluster", "c"), ("host", address)))
    return ClusterHost(address, "", 1, 1.0, 1.0, limit, own, UpstreamStats(metrics.group("upstream", ("cluster", "c"))), maker)


def test_limit_is_the_clusters() -> None:
    metrics = Metrics()
    limit = ConnectionLimit(2)
    one, two = host(limit, metrics, "a:1"), host(limit, metrics, "b:1")
    assert one.try_connection()
    assert two.try_connection()
    assert not one.try_connection()
    two.on_connection_end(False)
    assert one.try_connection()
    one.on_connection()
    one.on_connection_end(True)
    assert limit.open == 1
    counters = metrics.group("upstream", ("cluster", "c")).data()["counters"]
    assert counters["request_pending_overflow"] == 1
    assert counters["connection_con_fail"] == 1
    assert counters["connection_total"] == counters["connection_close"] == 1


def test_no_limit() -> None:
    one = host(ConnectionLimit(0), Metrics(), "a:1")
    assert all(one.try_connection() for _ in range(10000))


def test_pools_are_made_once_per_protocol() -> None:
    one = host(ConnectionLimit(0), Metrics(), "a:1")
    assert one.pool("Http1") is one.pool("Http1")
    with pytest.raises(KeyError):
        one.pool("Morse")


def test_replaced_clusters_are_closed_and_kept_ones_are_not() -> None:
    metrics = Metrics()
    closed: list[str] = []

    class Watched(ClusterHost):
        def close(self) -> None:
            closed.append(self.address)

    def cluster(name: str) -> Cluster:
        made = host(ConnectionLimit(0), metrics, name)
        watched = Watched(name, "", 1, 1.0, 1.0, ConnectionLimit(0), made.stats, made.cluster_stats, made._maker)
        return Cluster(name, [watched], RoundRobin([watched]), made.cluster_stats)

    clusters = Clusters()
    kept, gone = cluster("kept"), cluster("gone")
    clusters.replace({"kept": kept, "gone": gone})
    clusters.replace({"kept": kept, "gone": cluster("new")})
    assert closed == ["gone"]
    assert clusters.get("kept") is kept
    assert clusters.get("nobody") is None
