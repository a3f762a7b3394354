"""Retries: for which failures, how often, and what the client sees of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kit import GET, Start, Talk

from pymosn.api import Exchange, StreamFilter
from pymosn.api.routing import Route
from pymosn.core.failure import CONNECT_REFUSED, RESET_BEFORE_RESPONSE
from pymosn.core.message import KEPT_BODY
from pymosn.proxy.attempts import pause_before
from pymosn.routing.actions import Forward, ForwardOptions, RetryPolicy
from pymosn.routing.matchers import AnyRequest
from pymosn.upstream.plan import EjectionPlan, LimitPlan

pytestmark = pytest.mark.also_h2

OK = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nDate: today\r\nContent-Length: 4\r\n\r\nbusy"
HOSTS = ["10.0.0.1:80", "10.0.0.2:80"]


def routes(policy: RetryPolicy | None) -> list[Route]:
    return [Route("all", AnyRequest(), Forward("service", 60.0, ForwardOptions(retry_policy=policy)))]


def talk_with(start: Start, policy: RetryPolicy | None, hosts: list[str] | None = None, **options: Any) -> Talk:
    return start(routes=routes(policy), hosts=HOSTS if hosts is None else hosts, **options)


def test_off_means_off(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(False, 3))
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial(HOSTS[0])
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    talk.expect_no_dial()
    assert talk.reasons() == ["connect_refused"]


def test_a_reset_is_retried_at_the_other_host(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1))
    client, first = talk.forwarded(GET, address=HOSTS[0])
    first.resets()
    second = talk.expect_dial(HOSTS[1])
    second.receives(GET)
    second.sends(OK)
    client.receives(OK)
    assert talk.reasons() == ["ok"]


def test_earlier_attempts_are_recorded(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 2))
    client, first = talk.forwarded(GET, address=HOSTS[0])
    talk.advance(0.25)
    first.resets()
    second = talk.expect_dial(HOSTS[1])
    second.receives(GET)
    second.sends(BUSY)
    talk.advance(0.3)
    third = talk.expect_dial(HOSTS[0])
    third.receives(GET)
    third.sends(OK)
    client.receives(OK)
    [exchange] = talk.outcomes.exchanges
    earlier = exchange.earlier_attempts
    assert earlier is not None
    assert [(each.address, each.status, each.failure) for each in earlier] == [
        (HOSTS[0], 0, RESET_BEFORE_RESPONSE),
        (HOSTS[1], 503, None),
    ]
    assert 0.25 <= earlier[0].ended - earlier[0].started < 0.3
    assert exchange.attempt_started >= earlier[1].ended >= earlier[1].started >= earlier[0].ended


@pytest.mark.parametrize("codes", [frozenset(), frozenset({503})], ids=["any 5xx", "listed"])
def test_a_status_is_retried_at_the_other_host(start: Start, codes: frozenset[int]) -> None:
    talk = talk_with(start, RetryPolicy(True, 1, 0.0, codes))
    client, first = talk.forwarded(GET, address=HOSTS[0])
    first.sends(BUSY)
    second = talk.expect_dial(HOSTS[1])
    second.receives(GET)
    second.sends(OK)
    client.receives(OK)


def test_a_status_that_is_not_listed_is_forwarded(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1, 0.0, frozenset({502})))
    client, first = talk.forwarded(GET, address=HOSTS[0])
    first.sends(BUSY)
    client.receives(BUSY)
    talk.expect_no_dial()


def test_the_last_response_is_forwarded_when_no_retries_are_left(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1))
    client = talk.connect()
    client.sends(GET)
    for host in HOSTS:
        upstream = talk.expect_dial(host)
        upstream.receives(GET)
        upstream.sends(BUSY)
    client.receives(BUSY)
    talk.expect_no_dial()


def test_an_attempt_has_its_own_timeout(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1, 2.0))
    client, slow = talk.forwarded(GET, address=HOSTS[0])
    talk.advance(2.1)
    other = talk.expect_dial(HOSTS[1])
    other.receives(GET)
    other.sends(OK)
    client.receives(OK)
    assert slow.is_reset()


def test_a_second_retry_waits_a_little(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 2))
    client = talk.connect()
    client.sends(GET)
    for host in HOSTS:
        upstream = talk.expect_dial(host)
        upstream.receives(GET)
        upstream.resets()
    talk.advance(0.3)
    third = talk.expect_dial(HOSTS[0])
    third.receives(GET)
    third.sends(OK)
    client.receives(OK)
    # The pause does not count as the host's time.
    cluster = talk.clusters.get("service")
    assert cluster is not None
    assert [host.stats.request_duration.max < 0.1 for host in cluster.hosts] == [True, True]


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_a_retry_needs_no_second_permit_for_its_next_attempt(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 2), plan={"limits": LimitPlan(retries=1)})
    client = talk.connect()
    client.sends(GET)
    for host in HOSTS:
        upstream = talk.expect_dial(host)
        upstream.receives(GET)
        upstream.sends(BUSY.removesuffix(b"busy"))
    talk.advance(0.3)
    third = talk.expect_dial(HOSTS[0])
    third.receives(GET)
    third.sends(OK)
    client.receives(OK)


def test_a_post_that_was_sent_is_not_sent_twice(start: Start) -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    talk = talk_with(start, RetryPolicy(True, 3))
    client, first = talk.forwarded(post, address=HOSTS[0])
    first.resets()
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    talk.expect_no_dial()
    assert talk.reasons() == ["reset_before_response"]


def test_a_response_that_has_begun_is_not_retried(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 3))
    client, first = talk.forwarded(GET, address=HOSTS[0])
    first.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 9\r\n\r\nhalf")
    first.resets()
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 9\r\n\r\nhalf")
    assert client.is_lingering()
    talk.expect_no_dial()
    assert talk.reasons() == ["reset_after_response"]


# ---- off means off


@pytest.mark.parametrize("ending", ["resets", "answers 503"])
def test_off_means_off_after_the_request_was_sent(start: Start, ending: str) -> None:
    talk = talk_with(start, RetryPolicy(False, 3))
    client, first = talk.forwarded(GET, address=HOSTS[0])
    if ending == "resets":
        first.resets()
        assert client.takes().startswith(b"HTTP/1.1 502 ")
    else:
        first.sends(BUSY)
        client.receives(BUSY)
    talk.expect_no_dial()
    assert "request_retry" not in talk.upstream_counters()


class Forbids(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.set_variable("proxy_disable_retry", "true")


def test_a_filter_can_forbid_retries(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 3), filters={"forbids": Forbids({})})
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial(HOSTS[0])
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    talk.expect_no_dial()


# ---- never the host just tried while another one is healthy


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_the_host_of_the_last_attempt_is_the_last_resort(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 5))
    client = talk.connect()
    client.sends(GET)
    for turn in range(6):
        upstream = talk.expect_dial(HOSTS[turn % 2])
        # Meanwhile another request has the next turn, which the balancer must not give to this one by order alone.
        other = talk.connect()
        other.sends(GET)
        elsewhere = talk.upstreams[-1] if not talk.dials else talk.expect_dial(talk.dials[0].address)
        elsewhere.receives(GET)
        elsewhere.sends(OK.replace(b"Content-Length", b"Connection: close\r\nContent-Length"))
        other.takes()
        upstream.receives(GET)
        upstream.resets()
        talk.advance(0.3)
    assert client.takes().startswith(b"HTTP/1.1 502 ")


def test_the_only_healthy_host_is_used_again(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1))
    cluster = talk.clusters.get("service")
    assert cluster is not None
    cluster.hosts[1].set_active_health(False)
    client, first = talk.forwarded(GET, address=HOSTS[0])
    first.resets()
    again = talk.expect_dial(HOSTS[0])
    again.receives(GET)
    again.sends(OK)
    client.receives(OK)


# ---- never a body that is gone or partly consumed


PUT = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n"


def test_a_small_body_is_sent_again_whole(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1))
    client, first = talk.opening(PUT + b"abc", address=HOSTS[0])
    client.sends(b"def")
    first.receives(PUT + b"abcdef")
    first.resets()
    second = talk.expect_dial(HOSTS[1])
    second.receives(PUT + b"abcdef")
    second.sends(OK)
    client.receives(OK)


def test_trailers_are_sent_again_too(start: Start) -> None:
    put = (
        b"PUT / HTTP/1.1\r\nHost: a\r\nconnection: te\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"
    )
    talk = talk_with(start, RetryPolicy(True, 1))
    client, first = talk.opening(put[:-4], address=HOSTS[0])
    client.sends(put[-4:])
    first.receives(put)
    first.resets()
    second = talk.expect_dial(HOSTS[1])
    second.receives(put)
    second.sends(OK)
    client.receives(OK)


def test_a_body_that_has_not_come_whole_is_not_sent_again(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 3))
    client, first = talk.forwarded(PUT + b"abc", address=HOSTS[0])
    first.resets()
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    talk.expect_no_dial()


def test_a_body_that_is_too_large_to_keep_is_not_sent_again(start: Start) -> None:
    size = int(KEPT_BODY) + 1
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    talk = talk_with(start, RetryPolicy(True, 3))
    client, first = talk.opening(head, address=HOSTS[0])
    client.sends_whole(b"x" * size)
    first.receives(head + b"x" * size)
    first.resets()
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    talk.expect_no_dial()


def test_a_body_that_was_never_sent_goes_to_the_next_host_whatever_its_size(start: Start) -> None:
    size = int(KEPT_BODY) + 1
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    talk = talk_with(start, RetryPolicy(True, 1))
    client = talk.connect()
    client.sends(post)
    dial = talk.hold_dial(HOSTS[0])
    client.sends_whole(b"x" * size)
    dial.fails(CONNECT_REFUSED)
    second = talk.expect_dial(HOSTS[1])
    second.receives(post + b"x" * size)
    second.sends(OK)
    client.receives(OK)


# ---- nor non-idempotent requests after bytes were sent unless asked


def test_a_post_is_sent_twice_when_that_is_asked(start: Start) -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    talk = talk_with(start, RetryPolicy(True, 1, non_idempotent=True))
    client, first = talk.forwarded(post, address=HOSTS[0])
    first.resets()
    second = talk.expect_dial(HOSTS[1])
    second.receives(post)
    second.sends(OK)
    client.receives(OK)


def test_a_post_is_not_sent_again_for_a_status_either(start: Start) -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    talk = talk_with(start, RetryPolicy(True, 1))
    client, first = talk.forwarded(post, address=HOSTS[0])
    first.sends(BUSY)
    client.receives(BUSY)
    talk.expect_no_dial()


# ---- a budget per cluster


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_the_cluster_bounds_how_many_requests_are_on_a_retry(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1), plan={"limits": LimitPlan(retries=1)})
    clients = [talk.connect() for _ in range(3)]
    for client in clients:
        client.sends(GET)
    firsts = [talk.expect_dial(HOSTS[place % 2]) for place in range(3)]
    for upstream in firsts:
        upstream.receives(GET)
    firsts[0].resets()
    again = talk.expect_dial(HOSTS[1])
    firsts[1].resets()
    assert clients[1].takes().startswith(b"HTTP/1.1 502 ")
    firsts[2].sends(BUSY)
    clients[2].receives(BUSY)  # the answer that there is, rather than none
    assert talk.upstream_counters()["request_retry_overflow"] == 2
    again.receives(GET)
    again.sends(OK)
    clients[0].receives(OK)
    # The budget is free again.
    clients[0].sends(GET)
    upstream = next(peer for peer in talk.upstreams if peer.transport.received)
    upstream.receives(GET)
    upstream.sends(BUSY)
    last = next((peer for peer in talk.upstreams if peer.transport.received), None) or talk.expect_dial(
        talk.dials[0].address
    )
    last.receives(GET)
    last.sends(OK)
    clients[0].receives(OK)


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_a_stale_connection_costs_neither_an_attempt_nor_the_budget(start: Start) -> None:
    talk = talk_with(start, None, plan={"limits": LimitPlan(retries=1)})
    client = talk.connect()
    for host in HOSTS:
        client.sends(GET)
        upstream = talk.expect_dial(host)
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(OK)
    client.sends(GET)
    stale = talk.upstreams[0]
    stale.receives(GET)
    stale.resets()
    talk.refuse_dial(HOSTS[1])  # replaced, at the host whose turn it is
    last = talk.expect_dial(HOSTS[0])
    last.receives(GET)
    last.sends(OK)
    client.receives(OK)


# ---- what the client gets, and what the host


@pytest.mark.whole_only
def test_the_response_is_forwarded_when_no_other_host_is_left(start: Start) -> None:
    """The 503 itself makes the only host sick: the client gets it, and not a word about health."""
    ejection = EjectionPlan(1, 0.0, 1, 10.0, 30.0, 100.0)
    talk = talk_with(start, RetryPolicy(True, 3), HOSTS[:1], plan={"ejection": ejection})
    client, first = talk.forwarded(GET, address=HOSTS[0])
    first.sends(BUSY)
    client.receives(BUSY)
    talk.expect_no_dial()
    assert talk.reasons() == ["ok"]
    talk.advance(31.0)  # it is let in again


def test_a_response_that_is_retried_counts_for_its_host(start: Start) -> None:
    ejection = EjectionPlan(1, 0.0, 1, 10.0, 30.0, 50.0)
    talk = talk_with(start, RetryPolicy(True, 1), plan={"ejection": ejection})
    client, first = talk.forwarded(GET, address=HOSTS[0])
    first.sends(BUSY[:-2])
    second = talk.expect_dial(HOSTS[1])
    second.receives(GET)
    second.sends(OK)
    client.receives(OK)
    cluster = talk.clusters.get("service")
    assert cluster is not None
    assert [host.health_words() for host in cluster.hosts] == [["ejected"], []]
    talk.advance(31.0)  # it is let in again


def test_the_timeout_of_an_attempt_starts_when_the_request_is_complete(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1, 2.0))
    client, slow = talk.opening(PUT + b"abc", address=HOSTS[0])
    talk.advance(3.0)
    assert slow.is_open()
    client.sends(b"def")
    slow.receives(PUT + b"abcdef")
    talk.advance(2.1)
    assert slow.is_reset()
    other = talk.expect_dial(HOSTS[1])
    other.receives(PUT + b"abcdef")
    other.sends(OK)
    client.receives(OK)


# ---- back-off with jitter


def test_pauses_grow_and_differ() -> None:
    assert [pause_before(None, RESET_BEFORE_RESPONSE, 1, hosts) for hosts in (1, 5)] == [0.0, 0.0]
    # Hosts that could not be connected to leave others to ask at once.
    assert [pause_before(None, CONNECT_REFUSED, tries, 4) for tries in (1, 2, 3)] == [0.0, 0.0, 0.0]
    for tries, longest in ((2, 0.025), (3, 0.05), (4, 0.1), (5, 0.2), (6, 0.25), (50, 0.25)):
        pauses = [pause_before(None, RESET_BEFORE_RESPONSE, tries, 2) for _ in range(500)]
        assert max(pauses) <= longest
        assert max(pauses) > longest * 0.9
        assert min(pauses) < longest * 0.1
