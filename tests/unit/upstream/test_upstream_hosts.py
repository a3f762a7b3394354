"""Hosts and clusters: pools, limits, and what a change keeps."""

from typing import Any

import pytest
from tests.kit import FakeClock

from pymosn.api.network import Dialer
from pymosn.api.protocol import ProtocolSpec
from pymosn.api.stream import ConnectionPool, PoolTarget, StreamProtocol
from pymosn.api.upstream import LONG_AGO, NO_CONSTRAINTS, Selection, criteria
from pymosn.core.counters import Metrics
from pymosn.core.failure import ALL_UNHEALTHY, NO_HOSTS
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.network.tls.upstream import ClientTls
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.limits import Limits, worker_share
from pymosn.upstream.plan import BalancingPlan, ClusterPlan, EjectionPlan, HostPlan, LimitPlan, SubsetPlan


class NoDialer(Dialer):
    """Nobody dials in these tests."""


class Pool(ConnectionPool):
    """Notes that it was closed."""

    def __init__(self, address: str, closed: list[str]) -> None:
        self._address = address
        self._closed = closed

    def close(self) -> None:
        self._closed.append(self._address)


class Pooled(StreamProtocol):
    """A protocol whose pools do nothing else."""

    def __init__(self, closed: list[str]) -> None:
        super().__init__(ProtocolSpec("P", "", False))
        self._closed = closed

    def pool(self, upstream: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return Pool(upstream.address, self._closed)


class Worker:
    """The upstream side of one worker."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.metrics = Metrics()
        self.clusters = Clusters()
        known: Registry[StreamProtocol] = Registry("protocol")
        known.add("P", Pooled(self.closed))
        self.maker = PoolMaker(known, NoDialer(), self.wheel)

    def put(self, *hosts: str | HostPlan, name: str = "c", **wishes: Any) -> Cluster:
        """Activates a cluster, replacing the one of its name."""
        plans = tuple(HostPlan(host) if isinstance(host, str) else host for host in hosts)
        plan = ClusterPlan(name, plans, **wishes)
        kind = balancers().get(plan.balancing.lb_type)
        assert kind is not None
        cluster = Cluster(plan, kind, self.maker, self.metrics, self.clusters.get(name))
        self.clusters.activate({**self.clusters.by_name, name: cluster})
        return cluster

    def advance(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.advance()


# ---- pools and health


def test_pools_are_made_once_per_protocol() -> None:
    host = Worker().put("a:1").hosts[0]
    assert host.pool("P") is host.pool("P")
    with pytest.raises(KeyError):
        host.pool("Morse")


def test_reasons_of_bad_health_add_up() -> None:
    worker = Worker()
    host = worker.put("a:1", ejection=EjectionPlan(consecutive_errors=1, max_ejection_percent=100)).hosts[0]
    assert (host.is_healthy, host.health_words()) == (True, [])
    host.set_active_health(False)
    host.record_outcome(0.1, 500)
    assert host.health_words() == ["failed_active_check", "ejected"]
    host.set_active_health(True)
    assert not host.is_healthy
    worker.advance(31)
    assert host.is_healthy
    assert host.healthy_since == worker.clock.now
    host.set_active_health(True)
    worker.advance(1)
    assert host.healthy_since == worker.clock.now - 1, "it was healthy before"


# ---- limits


@pytest.mark.parametrize(
    ("limit", "workers", "shares"),
    [(0, 2, [0, 0]), (100, 2, [50, 50]), (7, 3, [3, 2, 2]), (2, 2, [1, 1]), (1, 4, [1, 1, 1, 1]), (3, 4, [1, 1, 1, 1])],
)
def test_shares_of_the_workers(limit: int, workers: int, shares: list[int]) -> None:
    assert [worker_share(limit, workers, worker) for worker in range(workers)] == shares
    if limit >= workers:
        assert sum(shares) == limit
        assert worker_share(limit, workers) * workers <= limit, "also without knowing which worker it is"


def test_connections_are_the_clusters() -> None:
    worker = Worker()
    cluster = worker.put("a:1", "b:1", limits=LimitPlan(connections=2))
    one, two = cluster.hosts
    assert one.try_connection()
    assert two.try_connection()
    assert not one.try_connection()
    two.on_connection_end(False)
    assert one.try_connection()
    one.on_connection()
    one.on_connection_end(True)
    assert (cluster.limits.connections.active, cluster.limits.pending.active, one.active_connections) == (1, 1, 1)
    counters = worker.metrics.group("upstream", ("cluster", "c")).data()["counters"]
    assert counters["request_pending_overflow"] == 1
    assert counters["connection_con_fail"] == 1
    assert counters["connection_total"] == counters["connection_close"] == 1


def test_dials_are_limited_apart_from_connections() -> None:
    host = Worker().put("a:1", limits=LimitPlan(connections=10, pending=2)).hosts[0]
    assert host.try_connection()
    assert host.try_connection()
    assert not host.try_connection()
    assert host.limits.connections.active == 2, "the refused one holds nothing"
    host.on_connection()
    assert host.try_connection()


def test_requests_are_limited() -> None:
    one, two = Worker().put("a:1", "b:1", limits=LimitPlan(requests=2)).hosts
    assert one.try_request()
    assert two.try_request()
    assert not two.try_request()
    assert (one.active_requests, two.active_requests) == (1, 1)
    one.end_request()
    assert two.try_request()
    assert two.stats.request_pending_overflow.value == 1


def test_retries_are_limited() -> None:
    limits = Limits(LimitPlan(retries=1))
    assert limits.retries.try_acquire()
    assert not limits.retries.try_acquire()
    limits.retries.release()
    assert limits.retries.try_acquire()


def test_no_limit() -> None:
    host = Worker().put("a:1").hosts[0]
    assert all(host.try_connection() and host.try_request() for _ in range(1000))


# ---- changes


def test_clusters_that_are_gone_are_closed_and_others_are_not() -> None:
    worker = Worker()
    kept, gone = worker.put("a:1", name="kept"), worker.put("b:1", name="gone")
    for cluster in (kept, gone):
        cluster.hosts[0].pool("P")
    worker.clusters.activate({"kept": kept})
    assert worker.closed == ["b:1"]
    assert worker.clusters.get("kept") is kept
    assert worker.clusters.get("gone") is None


def test_hosts_that_stay_keep_everything() -> None:
    worker = Worker()
    before = worker.put("a:1", "b:1", "c:1", limits=LimitPlan(connections=5))
    for host in before.hosts:
        host.pool("P")
        assert host.try_connection()
    before.hosts[1].set_active_health(False)
    pool = before.hosts[1].pool("P")
    after = worker.put("b:1", HostPlan("c:1", weight=7), "d:1", limits=LimitPlan(connections=3), connect_timeout=2.5)
    assert worker.closed == ["a:1"]
    assert after.hosts[:2] == before.hosts[1:]
    assert after.hosts[0].pool("P") is pool
    assert not after.hosts[0].is_healthy
    assert (after.hosts[1].weight, after.hosts[1].connect_timeout) == (7, 2.5)
    assert not after.hosts[2].try_connection(), "the three that are open count"
    before.hosts[0].on_connection_end(False)
    assert after.hosts[2].try_connection(), "also the one of the host that is gone"
    assert before.balancer.choose(NO_CONSTRAINTS) is not None, "whoever began on the old snapshot goes on with it"


def test_a_cluster_that_is_only_prepared_has_no_effect() -> None:
    worker = Worker()
    before = worker.put(HostPlan("a:1", weight=2))
    kind = balancers().get("LB_RANDOM")
    assert kind is not None
    plan = ClusterPlan("c", (HostPlan("a:1", weight=9), HostPlan("b:1")), limits=LimitPlan(requests=1))
    prepared = Cluster(plan, kind, worker.maker, worker.metrics, before)
    assert (before.hosts[0].weight, before.limits.requests.limit) == (2, 0)
    worker.clusters.activate({"c": prepared})
    assert (before.hosts[0].weight, before.limits.requests.limit) == (9, 1)


def test_changes_that_cross_each_other() -> None:
    worker = Worker()
    first = worker.put("a:1", "b:1", limits=LimitPlan(connections=1))
    kind = balancers().get("LB_ROUNDROBIN")
    assert kind is not None
    plan = ClusterPlan("c", (HostPlan("a:1"), HostPlan("b:1"), HostPlan("c:1")), limits=LimitPlan(connections=1))
    late = Cluster(plan, kind, worker.maker, worker.metrics, first)
    closed = first.hosts[1].pool("P")
    between = worker.put("a:1", "c:1", limits=LimitPlan(connections=1))
    assert between.hosts[1].try_connection()
    worker.clusters.activate({"c": late})
    assert [host.address for host in late.hosts] == ["a:1", "b:1", "c:1"]
    assert late.hosts[0] is first.hosts[0]
    assert late.hosts[2] is between.hosts[1]
    assert late.hosts[1].pool("P") is not closed, "it was closed in between"
    assert not late.hosts[1].try_connection(), "the connection of c:1 counts"
    assert {late.balancer.choose(NO_CONSTRAINTS) for _ in range(3)} == set(late.hosts)


def test_added_hosts_are_new_and_first_ones_are_not() -> None:
    worker = Worker()
    worker.put("a:1")
    worker.advance(5)
    cluster = worker.put("a:1", "b:1")
    assert [host.healthy_since for host in cluster.hosts] == [LONG_AGO, worker.clock.now]


def test_turns_go_on_when_only_numbers_change() -> None:
    worker = Worker()
    before = worker.put("a:1", "b:1")
    assert worker.put("a:1", "b:1", limits=LimitPlan(requests=3)).balancer is before.balancer
    changed = worker.put("a:1", "b:1", balancing=BalancingPlan("LB_RANDOM"))
    assert changed.balancer is not before.balancer


# ---- passive ejection

RULE = EjectionPlan(consecutive_errors=3, base_ejection_time=30.0, interval=10.0, max_ejection_percent=50.0)


def test_consecutive_errors_eject_for_a_time() -> None:
    worker = Worker()
    host = worker.put("a:1", "b:1", ejection=RULE).hosts[0]
    for status in (500, 503, 200, -1, 502):
        host.record_outcome(0.1, status)
    assert host.is_healthy, "a good reply begins the count anew"
    host.record_outcome(0.1, -1)
    assert host.health_words() == ["ejected"]
    worker.advance(29.9)
    assert not host.is_healthy
    worker.advance(0.2)
    assert host.is_healthy


def test_each_ejection_is_longer_until_forgotten() -> None:
    worker = Worker()
    host = worker.put("a:1", "b:1", ejection=RULE).hosts[0]

    def ejected_for() -> float:
        for _ in range(3):
            host.record_outcome(0.1, 500)
        since = worker.clock.now
        while not host.is_healthy:
            worker.advance(0.5)
        return worker.clock.now - since

    assert [ejected_for() for _ in range(3)] == pytest.approx([30, 60, 90], abs=0.6)
    worker.advance(25)
    assert ejected_for() == pytest.approx(60, abs=0.6), "two intervals went well"


def test_no_more_than_the_share_is_ejected() -> None:
    worker = Worker()
    cluster = worker.put(*(f"h{n}:1" for n in range(10)), ejection=RULE._replace(max_ejection_percent=20.0))
    for host in cluster.hosts:
        for _ in range(5):
            host.record_outcome(0.1, -1)
    assert [host.is_healthy for host in cluster.hosts] == [False] * 2 + [True] * 8
    assert cluster.balancer.choose(NO_CONSTRAINTS) in cluster.hosts[2:]


def test_error_rate_within_an_interval() -> None:
    worker = Worker()
    rule = EjectionPlan(0, error_rate=30.0, minimum_requests=20, interval=10.0, max_ejection_percent=50.0)
    host = worker.put("a:1", "b:1", ejection=rule).hosts[0]
    for _ in range(6):
        host.record_outcome(0.1, 500)
    worker.advance(10.1)
    for number in range(19):
        host.record_outcome(0.1, 500 if number < 6 else 200)
    assert host.is_healthy, "too few requests to judge by"
    host.record_outcome(0.1, 500)
    assert not host.is_healthy


def test_ejection_outlives_a_change_and_ends_with_its_rule() -> None:
    worker = Worker()
    host = worker.put("a:1", "b:1", ejection=RULE).hosts[0]
    for _ in range(3):
        host.record_outcome(0.1, -1)
    assert not worker.put("a:1", "b:1", "c:1", ejection=RULE).hosts[0].is_healthy
    assert worker.put("a:1", "b:1").hosts[0].is_healthy
    assert len(worker.wheel) == 0


def test_a_rule_that_is_switched_on_again_has_forgotten_what_was_before() -> None:
    worker = Worker()
    host = worker.put("a:1", "b:1", ejection=RULE).hosts[0]
    for _ in range(2):
        host.record_outcome(0.1, -1)
    worker.put("a:1", "b:1")
    worker.put("a:1", "b:1", ejection=RULE)
    host.record_outcome(0.1, -1)
    assert host.is_healthy, "the first of three"


# ---- counters


def test_a_host_has_counters_from_its_first_use_on() -> None:
    worker = Worker()
    cluster = worker.put("a:1", "b:1", "c:1")
    assert len(worker.metrics) == 1, "those of the cluster"
    cluster.hosts[0].stats.request_total.value += 1
    cluster.hosts[1].set_active_health(False)
    (_, one, two) = worker.metrics.snapshot()
    assert one["counters"]["request_total"] == 1
    assert (two["gauges"], two["counters"]) == ({"failed_active_check": 1}, {})
    cluster.hosts[1].stats.request_total.value += 1
    cluster.hosts[1].set_active_health(True)
    assert worker.metrics.snapshot()[2]["gauges"]["failed_active_check"] == 0
    worker.put("c:1")
    assert len(worker.metrics) == 1
    cluster.hosts[1].stats.request_total.value += 1
    assert len(worker.metrics) == 1, "of a host that is gone nothing is reported any more"


def test_a_closed_host_lets_go_of_its_pools_with_its_last_request() -> None:
    worker = Worker()
    host = worker.put("a:1", "b:1").hosts[0]
    assert host.try_request()
    pool = host.pool("P")
    worker.put("b:1")
    assert worker.closed == ["a:1"]
    assert host.pool("P") is pool
    host.end_request()
    assert host.pool("P") is not pool
    assert worker.closed == ["a:1", "a:1"], "a pool for a request of an old snapshot closes its connections too"


# ---- subsets

SUBSETS = SubsetPlan((("stage", "version"), ("version",)), 0, criteria({"stage": "prod"}))
LABELLED = (
    HostPlan("a:1", metadata=criteria({"version": "1", "stage": "prod"})),
    HostPlan("b:1", metadata=criteria({"version": "1", "stage": "dev"})),
    HostPlan("c:1", metadata=criteria({"version": "2", "stage": "prod"})),
    HostPlan("d:1"),
)


@pytest.mark.parametrize(
    ("wanted", "policy", "addresses"),
    [
        (None, 0, "abcd"),
        ({}, 0, "abcd"),
        ({"version": "1"}, 0, "ab"),
        ({"version": "2"}, 0, "c"),
        ({"version": "1", "stage": "dev"}, 0, "b"),
        ({"stage": "prod"}, 0, ""),  # no selector has this key alone
        ({"version": "3"}, 0, ""),
        ({"version": "3"}, 1, "abcd"),
        ({"version": "3"}, 2, "ac"),
        ({"stage": "prod"}, 2, "ac"),
        ({"version": "2", "stage": "dev"}, 2, "ac"),
        ({"version": "1", "color": "red"}, 1, "abcd"),
        ({"version": "1", "color": "red"}, 0, ""),
    ],
)
@pytest.mark.parametrize("lb_type", ["LB_ROUNDROBIN", "LB_RANDOM", "LB_WEIGHTED_ROUNDROBIN", "LB_MAGLEV", "LB_RING_HASH"])
def test_subsets(lb_type: str, wanted: dict[str, str] | None, policy: int, addresses: str) -> None:
    cluster = Worker().put(*LABELLED, balancing=BalancingPlan(lb_type, subset=SUBSETS._replace(fallback=policy)))
    selection = Selection()
    selection.subset = None if wanted is None else criteria(wanted)
    chosen = {cluster.balancer.choose(selection) for _ in range(80)}
    expected = {host for host in cluster.hosts if host.address[0] in addresses}
    assert chosen == expected if expected else chosen == {None}


def test_a_sick_subset_is_not_replaced_by_others() -> None:
    cluster = Worker().put(*LABELLED, balancing=BalancingPlan(subset=SUBSETS._replace(fallback=1)))
    cluster.hosts[2].set_active_health(False)
    selection = Selection()
    selection.subset = criteria({"version": "2"})
    assert cluster.balancer.choose(selection) is None
    assert cluster.no_host_failure(selection) is ALL_UNHEALTHY
    selection.subset = criteria({"version": "9"})
    assert cluster.no_host_failure(selection) is NO_HOSTS
    assert cluster.no_host_failure(NO_CONSTRAINTS) is ALL_UNHEALTHY
    assert Worker().put().no_host_failure(NO_CONSTRAINTS) is NO_HOSTS


# ---- protocols


@pytest.mark.parametrize(
    ("configured", "alpn", "needs_alpn", "offered"),
    [
        ((), "http/1.1", False, ()),
        (("http/1.1",), "http/1.1", False, ("http/1.1",)),
        (("h2", "http/1.1"), "http/1.1", False, ("http/1.1",)),
        ((), "h2", True, ("h2",)),
        (("http/1.1",), "h2", True, ("h2",)),
        (("h2", "http/1.1"), "h2", True, ("h2", "http/1.1")),
        (("istio",), "http/1.1", False, ("istio",)),
        (("istio", "h2"), "http/1.1", False, ("istio",)),
        (("istio",), "h2", True, ("istio", "h2")),
    ],
)
def test_what_is_offered_by_alpn(configured: tuple[str, ...], alpn: str, needs_alpn: bool, offered: tuple[str, ...]) -> None:
    settings = ClientSettings(TlsSettings(alpn=configured), is_verified=False)
    host = Worker().put("a:1", tls=settings).hosts[0]
    peer = host.peer_for(alpn, needs_alpn)
    assert isinstance(peer.transport, ClientTls)
    assert peer.transport.settings.tls.alpn == offered
    assert host.peer_for(alpn, needs_alpn) is peer, "it keeps the session"
    assert (peer is host.peer) == (offered == configured)


def test_a_host_that_does_not_speak_a_protocol_is_asked_in_another_one_as_long_as_it_exists() -> None:
    worker = Worker()
    host = worker.put("a:1").hosts[0]
    host.speak_instead("Morse", "P")
    assert host.pool("Morse") is host.pool("P")
    assert worker.put("a:1").hosts[0].pool("Morse") is host.pool("P")
    worker.put("b:1")
    with pytest.raises(KeyError):
        worker.put("a:1").hosts[0].pool("Morse")
