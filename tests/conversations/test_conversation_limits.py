"""What a cluster's limits, balancer and passive ejection do to real exchanges."""

import pytest
from tests.kit import GET, OK, Peer, Start, Talk

from pymosn.api.routing import Route
from pymosn.api.upstream import criteria
from pymosn.routing.actions import Forward, ForwardOptions
from pymosn.routing.hashing import HashHeader
from pymosn.routing.matchers import AnyRequest
from pymosn.upstream.plan import BalancingPlan, EjectionPlan, HostPlan, LimitPlan, SubsetPlan

pytestmark = pytest.mark.also_h2

ERROR = b"HTTP/1.1 500 Internal Server Error\r\nDate: today\r\nContent-Length: 2\r\n\r\nno"
TWO = ["10.0.0.1:80", "10.0.0.2:80"]


def route(action: Forward) -> list[Route]:
    return [Route("r", AnyRequest(), action)]


def taker(talk: Talk) -> Peer:
    """The upstream that got the request, dialed if need be."""
    if talk.dials:
        talk.expect_dial(talk.dials[0].address)
    upstream = next(peer for peer in talk.upstreams if peer.left())
    upstream.takes()
    return upstream


def test_requests_beyond_the_limit_are_refused_at_once(start: Start) -> None:
    talk = start(plan={"limits": LimitPlan(requests=2)})
    clients = [talk.connect() for _ in range(5)]
    for client in clients:
        client.sends(GET)
    assert [client.takes()[9:12] for client in clients] == [b"", b"", b"503", b"503", b"503"]
    assert talk.reasons() == ["overflow"] * 3
    assert talk.upstream_counters()["request_pending_overflow"] == 3
    for client in clients[:2]:
        upstream = talk.expect_dial()
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(OK)
    clients[4].sends(GET)
    talk.upstreams[1].receives(GET)


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_requests_that_wait_for_a_dial_are_limited(start: Start) -> None:
    talk = start(plan={"limits": LimitPlan(pending=1)})
    first, second = talk.connect(), talk.connect()
    first.sends(GET)
    second.sends(GET)
    assert second.takes()[9:12] == b"503"
    upstream = talk.expect_dial()
    second.sends(GET)
    talk.expect_dial().receives(GET)
    upstream.receives(GET)


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_a_connection_serves_as_many_requests_as_it_may(start: Start) -> None:
    talk = start(plan={"max_requests_per_connection": 2})
    client, upstream = talk.opening(GET)
    for last in (False, True):
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(OK)
        assert upstream.is_closed() == last
        client.sends(GET)
    talk.expect_dial().receives(GET)


@pytest.mark.http1_only("a window is larger than what is paused here")
def test_the_high_water_mark_of_upstream_connections(start: Start) -> None:
    talk = start(plan={"buffer_limit": 1000})
    client, upstream = talk.opening(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n")
    upstream.stalls()
    client.sends_whole(b"x" * 2000)
    assert not client.is_read()
    upstream.reads_on()
    assert client.is_read()
    upstream.takes()


@pytest.mark.parametrize("ends_with", [ERROR, None])
def test_a_host_that_fails_is_left_out(start: Start, ends_with: bytes | None) -> None:
    rule = EjectionPlan(consecutive_errors=2, base_ejection_time=30.0, max_ejection_percent=50.0)
    talk = start(hosts=TWO, plan={"ejection": rule})
    first, second = talk.clusters.by_name["service"].hosts
    asked = []
    for _ in range(6):
        client = talk.connect()
        client.sends(GET)
        upstream = taker(talk)
        asked.append(upstream.name.removeprefix("upstream "))
        answer = OK if asked[-1] == TWO[1] else ends_with
        if answer is None:
            upstream.resets()
        else:
            upstream.sends(answer)
        client.takes()
    assert asked == [TWO[0], TWO[1], TWO[0], TWO[1], TWO[1], TWO[1]]
    assert first.health_words() == ["ejected"]
    assert second.is_healthy
    talk.advance(31)
    assert first.is_healthy


def test_hash_policies_keep_a_client_at_its_host(start: Start) -> None:
    options = ForwardOptions(hash_policies=[HashHeader("x-user")])
    routes = route(Forward("service", 60.0, options))
    hosts = [f"10.0.0.{number}:80" for number in range(1, 6)]
    talk = start(hosts=hosts, routes=routes, plan={"balancing": BalancingPlan("LB_MAGLEV")})
    dialed: dict[bytes, set[str]] = {}
    for user in (b"ann", b"bob", b"cid", b"dan", b"eve", b"fay") * 2:
        request = b"GET / HTTP/1.1\r\nHost: a\r\nx-user: " + user + b"\r\n\r\n"
        client = talk.connect()
        client.sends(request)
        upstream = taker(talk)
        upstream.sends(OK)
        client.receives(OK)
        dialed.setdefault(user, set()).add(talk.outcomes.exchanges[-1].upstream_address)
    assert all(len(addresses) == 1 for addresses in dialed.values())
    assert len(set().union(*dialed.values())) > 1


def test_subsets_by_the_routes_criteria(start: Start) -> None:
    hosts = tuple(HostPlan(address, metadata=criteria({"v": str(number)})) for number, address in enumerate(TWO))
    balancing = BalancingPlan(subset=SubsetPlan((("v",),)))
    routes = route(Forward("service", 60.0, ForwardOptions(subset=criteria({"v": "1"}))))
    talk = start(hosts=TWO, routes=routes, plan={"hosts": hosts, "balancing": balancing})
    for _ in range(2):
        client = talk.connect()
        client.sends(GET)
        talk.expect_dial(TWO[1]).receives(GET)
    routes = route(Forward("service", 60.0, ForwardOptions(subset=criteria({"v": "7"}))))
    talk = start(hosts=TWO, routes=routes, plan={"hosts": hosts, "balancing": balancing})
    client = talk.connect()
    client.sends(GET)
    assert client.takes()[9:12] == b"502"
    assert talk.reasons() == ["no_hosts"]


def test_a_refused_share_of_the_requests_reaches_no_host(start: Start) -> None:
    talk = start(plan={"drops": (("too busy", 1_000_000),)})
    client = talk.connect()
    client.sends(GET)
    assert client.takes()[9:12] == b"503"
    assert talk.reasons() == ["drop_overload"]
    assert not talk.dials
    talk.change("service", drops=())
    client = talk.connect()
    client.sends(GET)
    upstream = talk.expect_dial()
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


def test_requests_fail_over_to_the_second_priority_and_return(start: Start) -> None:
    talk = start(hosts=TWO)
    talk.change("service", hosts=(HostPlan(TWO[0]), HostPlan(TWO[1], priority=1)))

    def asked_host() -> str:
        client = talk.connect()
        client.sends(GET)
        upstream = taker(talk)
        upstream.sends(OK)
        client.receives(OK)
        return upstream.name.removeprefix("upstream ")

    assert [asked_host() for _ in range(3)] == [TWO[0]] * 3
    cluster = talk.clusters.get("service")
    assert cluster is not None
    cluster.hosts[0].set_active_health(False)
    assert [asked_host() for _ in range(3)] == [TWO[1]] * 3
    cluster.hosts[0].set_active_health(True)
    talk.advance(0.2)  # health is counted again after a tenth of a second
    assert asked_host() == TWO[0]
    cluster.hosts[0].set_active_health(False)
    cluster.hosts[1].set_active_health(False)
    client = talk.connect()
    client.sends(GET)
    assert client.takes()[9:12] == b"502"
    assert talk.reasons()[-1] == "all_unhealthy"
