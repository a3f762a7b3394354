"""Which outcomes count against a host: what the host did. What a client did, or demanded, says nothing about it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kit import GET, OK, Peer, Start, Talk
from tests.kit import bolt_frames as bolt
from tests.kit.bolt_session import BOLT

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.routing import Route
from pymosn.core.failure import CONNECT_REFUSED, NO_DESCRIPTORS, OVERFLOW
from pymosn.routing.actions import Forward, ForwardOptions, Mirror, RetryPolicy, asked_timeouts
from pymosn.routing.matchers import AnyRequest
from pymosn.upstream.plan import BalancingPlan, EjectionPlan, HeartbeatPlan, LimitPlan

pytestmark = pytest.mark.also_h2

HOSTS = ["10.0.0.1:80", "10.0.0.2:80"]
#: The first failure ejects a host.
STRICT: dict[str, Any] = {"ejection": EjectionPlan(1, 0.0, 1, 10.0, 30.0, 100.0), "heartbeats": HeartbeatPlan(0.0)}
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n"


def routes(timeout: float = 60.0, policy: RetryPolicy | None = None, *mirrors: Mirror) -> list[Route]:
    options = ForwardOptions(retry_policy=policy, mirrors=list(mirrors))
    return [Route("all", AnyRequest(), Forward("service", timeout, options))]


def health(talk: Talk, cluster: str = "service") -> list[list[str]]:
    return [host.health_words() for host in talk.clusters.by_name[cluster].hosts]


def hurried(**milliseconds: int) -> bytes:
    fields = "".join(f"x-mosn-{name}-timeout: {value}\r\n" for name, value in milliseconds.items())
    return f"GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode()


# ---- the client's time limits


@pytest.mark.parametrize(
    ("limits", "route_timeout", "waits", "found"),
    [
        ({"global": 1}, 60.0, 1.0, []),
        ({"global": 1, "try": 1}, 60.0, 1.0, []),
        ({"global": 59_000}, 60.0, 60.0, []),
        ({"global": 60_000}, 60.0, 61.0, ["ejected"]),
        ({"global": 5_000}, 3.0, 6.0, ["ejected"]),  # the host had more than the operator's time
        ({"global": 0}, 60.0, 61.0, ["ejected"]),
        ({}, 60.0, 61.0, ["ejected"]),
    ],
)
def test_a_client_that_waits_less_than_the_operator_does_not_judge_the_host(
    start: Start, limits: dict[str, int], route_timeout: float, waits: float, found: list[str]
) -> None:
    talk = start(routes=routes(route_timeout), plan=STRICT)
    client, upstream = talk.opening(hurried(**limits))
    upstream.takes()
    talk.advance(waits)
    assert client.takes().startswith(b"HTTP/1.1 504 ")
    assert health(talk) == [found]
    assert talk.upstream_counters()["request_timeout"] == 1
    talk.advance(31.0)


@pytest.mark.http1_only("another protocol")
def test_the_timeout_of_a_bolt_frame_does_not_judge_the_host(start: Start) -> None:
    talk = start(**BOLT, plan=STRICT)
    client, upstream = talk.opening(bolt.request(1, timeout=1))
    upstream.takes()
    talk.advance(1.0)
    client.takes()
    assert talk.reasons() == ["timeout"]
    assert health(talk) == [[]]
    client.sends(bolt.request(2, timeout=-1))
    upstream.takes()
    talk.advance(61.0)
    client.takes()
    assert health(talk) == [["ejected"]]
    talk.advance(31.0)


@pytest.mark.http1_only("another protocol")
@pytest.mark.parametrize(
    ("timeout", "status", "found"),
    [
        (100, 7, []),  # the server gave up in time for this client
        (-1, 7, ["ejected"]),
        (-1, 6, []),  # the client called an unknown service
        (-1, 9, []),  # its request cannot be decoded
        (-1, 18, []),
        (-1, 2, ["ejected"]),
    ],
)
def test_a_bolt_status_about_the_request_does_not_judge_the_host(
    start: Start, timeout: int, status: int, found: list[str]
) -> None:
    talk = start(**BOLT, plan=STRICT)
    client, upstream = talk.opening(bolt.request(1, timeout=timeout))
    upstream.takes()
    upstream.sends(bolt.response(1, status=status))
    client.takes()
    assert health(talk) == [found]
    talk.advance(31.0)


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_a_clients_timeout_of_an_attempt_takes_no_retry_permit(start: Start) -> None:
    talk = start(routes=routes(60.0, RetryPolicy(True, 1)), hosts=HOSTS, plan={**STRICT, "limits": LimitPlan(retries=1)})
    client, first = talk.opening(hurried(**{"try": 100}), address=HOSTS[0])
    first.takes()
    talk.advance(0.2)
    talk.expect_dial(HOSTS[1]).takes()  # its second attempt
    other, third = talk.opening(GET, address=HOSTS[0])
    third.takes()
    third.resets()
    last = talk.expect_dial(HOSTS[1])
    last.receives(GET)
    last.sends(OK)
    other.receives(OK)
    assert "request_retry_overflow" not in talk.upstream_counters()
    talk.advance(0.2)
    client.takes()
    assert health(talk) == [["ejected"], []], "the first was reset later, without a client's doing"
    talk.advance(31.0)


def test_the_rest_of_the_time_after_a_clients_timeout_judges_no_host(start: Start) -> None:
    """The client leaves the second host a tenth of a second of the operator's second."""
    talk = start(routes=routes(1.0, RetryPolicy(True, 1)), hosts=HOSTS, plan=STRICT)
    client, first = talk.opening(hurried(**{"try": 900}), address=HOSTS[0])
    first.takes()
    talk.advance(0.92)
    talk.expect_dial(HOSTS[1]).takes()
    talk.advance(0.2)
    assert client.takes().startswith(b"HTTP/1.1 504 ")
    assert health(talk) == [[], []]


def test_the_operators_timeout_of_an_attempt_judges_the_host(start: Start) -> None:
    talk = start(routes=routes(60.0, RetryPolicy(True, 1, 1.0)), hosts=HOSTS, plan=STRICT)
    client, first = talk.opening(GET, address=HOSTS[0])
    first.takes()
    talk.advance(1.1)
    second = talk.expect_dial(HOSTS[1])
    second.receives(GET)
    second.sends(OK)
    client.receives(OK)
    assert health(talk) == [["ejected"], []]
    talk.advance(31.0)


@pytest.mark.parametrize(
    ("fields", "variables", "expected"),
    [
        ({}, {}, (3.0, 0.0, False, False)),
        ({"global": "1"}, {}, (0.001, 0.0, True, False)),
        ({"global": "3000"}, {}, (3.0, 0.0, False, False)),
        ({"global": "5000"}, {}, (5.0, 0.0, False, False)),
        ({"try": "1000"}, {}, (3.0, 1.0, False, True)),
        ({"try": "3000"}, {}, (3.0, 0.0, False, False)),
        ({"global": "1"}, {"proxy_global_timeout": "2000"}, (2.0, 0.0, False, False)),
        ({"try": "1"}, {"proxy_try_timeout": "20"}, (3.0, 0.02, False, False)),
        ({"global": "1"}, {"proxy_global_timeout": "soon"}, (0.001, 0.0, True, False)),
    ],
)
def test_whose_timeouts_they_are(
    fields: dict[str, str], variables: dict[str, str], expected: tuple[float, float, bool, bool]
) -> None:
    exchange = Exchange(Connection())
    exchange.request = HttpRequest()
    for name, value in fields.items():
        exchange.request.headers.add(f"x-mosn-{name}-timeout", value)
    exchange.own_variables = variables
    times = asked_timeouts(Forward("x", 3.0), exchange)
    assert (times.total, times.per_attempt, times.has_clients_total, times.has_clients_try) == expected
    assert times.is_only(3.0) == (expected == (3.0, 0.0, False, False))


# ---- the client's sending, reading and leaving


@pytest.mark.http1_only("broken chunks")
@pytest.mark.parametrize("ending", ["leaves", "malformed", "stalls"])
def test_a_cut_upload_does_not_judge_the_host(start: Start, ending: str) -> None:
    talk = start(plan=STRICT)
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"
    client, upstream = talk.opening(chunked)
    upstream.takes()
    if ending == "leaves":
        client.resets()
    elif ending == "malformed":
        client.sends(b"zz\r\n")
    else:
        talk.advance(61.0)
    client.takes()
    assert health(talk) == [[]]
    assert upstream.is_reset()


@pytest.mark.parametrize(("rest", "found"), [(b"", []), (b"efgh", ["ejected"])])
def test_a_host_may_give_up_an_upload_that_is_not_complete(start: Start, rest: bytes, found: list[str]) -> None:
    talk = start(plan=STRICT)
    client, upstream = talk.opening(POST + b"abcd")
    upstream.takes()
    if rest:
        client.sends(rest)
        upstream.takes()
    upstream.resets()
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    assert health(talk) == [found]
    talk.advance(31.0)


@pytest.mark.http1_only("a window is smaller than the response")
@pytest.mark.whole_only
@pytest.mark.parametrize(("stalls", "found"), [(True, []), (False, ["ejected"])])
def test_a_host_may_give_up_a_client_that_does_not_read(start: Start, stalls: bool, found: list[str]) -> None:
    talk = start(plan=STRICT)
    client, upstream = talk.forwarded(GET)
    if stalls:
        client.stalls()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 900000\r\n\r\n" + b"x" * 300_000)
    if stalls:
        assert not upstream.is_read()
        client.reads_on()  # the reset is only seen when the host is read again
    upstream.resets()
    client.takes()
    assert health(talk) == [found]
    talk.advance(31.0)


UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.mark.http1_only("Upgrade")
def test_how_a_tunnel_ends_does_not_judge_the_host(start: Start) -> None:
    """The client may have sent what makes the host reset the connection."""
    talk = start(plan=STRICT)
    client, upstream = talk.opening(b"GET / HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"\r\n")
    upstream.takes()
    upstream.sends(b"HTTP/1.1 101 Switching Protocols\r\nDate: today\r\n" + UPGRADE + b"\r\n")
    client.sends(b"\xff not a frame")
    upstream.takes()
    upstream.resets()
    client.takes()
    assert talk.reasons() == ["reset_after_response"]
    assert health(talk) == [[]]


def test_a_client_that_leaves_does_not_judge_the_host(start: Start) -> None:
    talk = start(plan=STRICT)
    client, upstream = talk.forwarded(GET)
    client.resets()
    assert upstream.is_reset()
    assert health(talk) == [[]]


def latency(talk: Talk) -> float:
    average = talk.clusters.by_name["service"].hosts[0].latency
    assert average is not None
    return average.seconds


EWMA: dict[str, Any] = {"balancing": BalancingPlan("LB_PEAK_EWMA")}


def test_a_slow_upload_is_not_the_hosts_latency(start: Start) -> None:
    talk = start(plan=EWMA)
    client, upstream = talk.opening(POST + b"abcd")
    talk.advance(20.0)
    client.sends(b"efgh")
    upstream.takes()
    talk.advance(1.0)
    upstream.sends(OK)
    client.receives(OK)
    assert 0.9 < latency(talk) < 1.5


@pytest.mark.whole_only
def test_a_slow_download_is_not_the_hosts_latency(start: Start) -> None:
    talk = start(plan=EWMA)
    client, upstream = talk.forwarded(GET)
    talk.advance(1.0)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 4\r\n\r\nab")
    client.takes()
    talk.advance(20.0)
    upstream.sends(b"cd")
    client.receives(b"cd")
    assert 0.9 < latency(talk) < 1.5


def test_a_response_before_the_end_of_the_request_has_no_latency(start: Start) -> None:
    talk = start(plan=EWMA)
    client, upstream = talk.opening(POST + b"abcd")
    upstream.takes()
    talk.advance(20.0)
    upstream.sends(OK)
    client.takes()
    assert latency(talk) == 0.0


@pytest.mark.http1_only("another protocol")
def test_one_way_requests_do_not_praise_the_host(start: Start) -> None:
    """Nobody knows how the host took them: they must not hide its errors."""
    talk = start(**BOLT, plan={**STRICT, **EWMA, "ejection": EjectionPlan(2, 0.0, 1, 10.0, 30.0, 100.0)})
    client, upstream = talk.opening(bolt.request(1))
    upstream.takes()
    talk.advance(1.0)
    upstream.sends(bolt.response(1, status=2))
    seconds = latency(talk)
    client.sends(bolt.request(7, kind=2, command=2))
    assert latency(talk) == seconds
    client.sends(bolt.request(8))
    upstream.takes()
    upstream.sends(bolt.response(3, status=2))
    client.takes()
    assert health(talk) == [["ejected"]]
    talk.advance(31.0)


# ---- the proxy's own doing


class SlowToRespond(StreamFilter):
    """Waits for longer than the route's timeout once there is a response."""

    async def on_response(self, exchange: Exchange) -> None:
        await exchange.response_head.read()


class Refuses(StreamFilter):
    """Replaces each response."""

    def on_response(self, exchange: Exchange) -> Reply:
        return Reply(503)


def test_a_filters_reply_does_not_judge_the_host(start: Start) -> None:
    talk = start(plan=STRICT, filters={"refuses": Refuses({})})
    client, upstream = talk.forwarded(GET)
    upstream.sends(OK)
    assert client.takes().startswith(b"HTTP/1.1 503 ")
    assert health(talk) == [[]]


def test_a_filter_that_waits_does_not_make_the_host_late(start: Start) -> None:
    talk = start(plan=STRICT, filters={"slow": SlowToRespond({})})
    client, upstream = talk.forwarded(GET)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 4\r\n\r\nab")
    talk.advance(61.0)
    assert client.takes().startswith(b"HTTP/1.1 504 ")
    assert health(talk) == [[]]


@pytest.mark.parametrize(
    ("failure", "found"), [(CONNECT_REFUSED, ["ejected"]), (NO_DESCRIPTORS, []), (OVERFLOW, [])], ids=str
)
@pytest.mark.parametrize("tcp", [False, True])
def test_a_lack_of_this_process_does_not_judge_the_host(start: Start, failure: Any, found: list[str], tcp: bool) -> None:
    talk = start(plan=STRICT, tcp={} if tcp else None)
    client = talk.connect()
    if not tcp:
        client.sends(GET)
    talk.hold_dial().fails(failure)
    client.takes()
    assert health(talk) == [found]
    talk.advance(31.0)


def test_a_pause_before_a_retry_does_not_make_the_host_late(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.9)
    talk = start(routes=routes(1.0, RetryPolicy(True, 5)), hosts=HOSTS, plan={"ejection": EjectionPlan(9)})
    client = talk.connect()
    client.sends(GET)
    for number in range(4):
        upstream: Peer = talk.expect_dial(HOSTS[number % 2])
        upstream.takes()
        talk.clock.now += 0.24
        upstream.resets()
        if not talk.dials and number < 3:
            talk.clock.now += 0.1
            talk.do(talk.wheel.advance)
    talk.advance(0.3)
    assert client.takes()[9:12] in (b"504", b"502")
    hosts = talk.clusters.by_name["service"].hosts
    errors = [0 if host._outcomes is None else host._outcomes._errors for host in hosts]
    assert errors == [2, 2], "four resets, and nothing about the host that was not asked again"


@pytest.mark.parametrize("complete", [False, True])
def test_a_mirrored_request_that_the_client_did_not_complete_does_not_judge_the_host(start: Start, complete: bool) -> None:
    talk = start(routes=routes(60.0, None, Mirror("other", 100)), other_plan=STRICT)
    client, upstream = talk.opening(POST + b"abcd")
    mirror = talk.expect_dial("10.0.1.1:80")
    if complete:
        client.sends(b"efgh")
    upstream.takes()
    mirror.takes()
    mirror.resets()
    client.resets()
    assert health(talk, "other") == [["ejected"] if complete else []]
    talk.advance(31.0)
