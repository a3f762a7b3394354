"""Copies of requests for another cluster: what they hold, and that the exchange itself never notices them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kit import GET, Peer, Start, Talk

from pymosn.api.http import HttpRequest
from pymosn.api.routing import Route
from pymosn.config.typed import typed
from pymosn.filters.stream.mirror import MirrorFilter
from pymosn.filters.stream.mirror import Settings as MirrorSettings
from pymosn.network.connection import HIGH_WATER
from pymosn.proxy.mirroring import MIRROR_BUFFER
from pymosn.routing.actions import Forward, ForwardOptions, Mirror, RetryPolicy
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.rewrites import PrefixRewrite, RequestChanges
from pymosn.upstream.plan import HostPlan, LimitPlan

pytestmark = pytest.mark.also_h2

OK = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\n\r\nok"
EMPTY_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
HOST, OTHER = "10.0.0.1:80", "10.0.1.1:80"
TWO = {"hosts": (HostPlan("10.0.1.1:80"), HostPlan("10.0.1.2:80"))}


def mirrored(*mirrors: Mirror, timeout: float = 60.0, **options: Any) -> list[Route]:
    """Routes that send everything to `service`, with copies."""
    wanted = ForwardOptions(mirrors=list(mirrors) or [Mirror("other", 100)], **options)
    return [Route("all", AnyRequest(), Forward("service", timeout, wanted))]


def answer(other: Peer, request: bytes) -> None:
    """The mirror gets the request, and answers."""
    other.receives(request)
    other.sends(OK)


def test_a_copy_is_sent_with_the_request_and_its_response_is_dropped(start: Start) -> None:
    talk = start(routes=mirrored())
    client = talk.connect()
    for turn in range(2):
        client.sends(GET)
        upstream = talk.upstreams[0] if turn else talk.expect_dial(HOST)
        other = talk.upstreams[1] if turn else talk.expect_dial(OTHER)
        upstream.receives(GET)
        other.receives(GET)
        upstream.sends(OK)
        client.receives(OK)
        other.sends(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nbad")
    assert other.is_open(), "the mirror's connections are kept like others"
    assert talk.mirror_counters() == {"mirrored": 2}
    assert talk.upstream_counters("other")["request_total"] == 2
    assert talk.reasons() == ["ok", "ok"]


@pytest.mark.http1_only("Upgrade")
def test_a_request_for_a_tunnel_is_not_copied(start: Start) -> None:
    """A mirror that agreed to it would get a connection that carries nothing, or the client's half of the talk."""
    talk = start(routes=mirrored())
    client = talk.connect()
    client.sends(GET.replace(b"Host", b"Upgrade: websocket\r\nConnection: upgrade\r\nHost"))
    talk.expect_dial(HOST).receives(GET[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
    talk.expect_no_dial()
    assert talk.mirror_counters() == {}


def test_the_reply_does_not_wait_for_the_copy(start: Start) -> None:
    talk = start(routes=mirrored())
    client, upstream = talk.forwarded(GET, address=HOST)
    dial = talk.hold_dial(OTHER)
    upstream.sends(OK)
    client.receives(OK)
    client.resets()
    other = dial.connects()
    answer(other, GET)
    assert talk.mirror_counters() == {"mirrored": 1}


def test_a_mirror_that_refuses_or_breaks_is_counted_and_nothing_else(start: Start) -> None:
    talk = start(routes=mirrored())
    client = talk.connect()
    for refuses in (True, False):
        client.sends(GET)
        upstream = talk.expect_dial(HOST) if refuses else talk.upstreams[0]
        upstream.receives(GET)
        if refuses:
            talk.refuse_dial(OTHER)
        else:
            other = talk.expect_dial(OTHER)
            other.receives(GET)
            other.resets()
        upstream.sends(OK)
        client.receives(OK)
    assert talk.mirror_counters() == {"mirrored": 2, "mirror_failed": 2}
    assert talk.reasons() == ["ok", "ok"]
    talk.expect_no_dial()


def test_a_mirror_that_never_answers_is_given_up_after_the_routes_time(start: Start) -> None:
    talk = start(routes=mirrored(timeout=5.0))
    client, upstream = talk.forwarded(GET, address=HOST)
    other = talk.expect_dial(OTHER)
    other.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    talk.advance(4.9)
    assert other.is_open()
    talk.advance(0.2)
    assert other.is_reset()
    assert talk.mirror_counters() == {"mirrored": 1, "mirror_failed": 1}
    assert talk.upstream_counters("other")["request_timeout"] == 1


def test_a_mirror_of_no_percent_gets_nothing(start: Start) -> None:
    talk = start(routes=mirrored(Mirror("other", 0)))
    client, upstream = talk.forwarded(GET, address=HOST)
    upstream.sends(OK)
    client.receives(OK)
    assert talk.mirror_counters() == {}


def test_a_body_is_streamed_to_both(start: Start) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n"
    talk = start(routes=mirrored())
    client = talk.connect()
    client.sends(head)
    upstream, other = talk.expect_dial(HOST), talk.expect_dial(OTHER)
    for peer in (upstream, other):
        peer.receives(head)
    client.sends(b"abc")
    for peer in (upstream, other):
        peer.receives(b"abc")
    client.sends(b"def")
    for peer in (upstream, other):
        peer.receives(b"def")
        peer.sends(OK)
    client.receives(OK)
    assert talk.mirror_counters() == {"mirrored": 1}


def test_chunks_and_trailers_reach_the_copy_too(start: Start) -> None:
    talk = start(routes=mirrored())
    client = talk.connect()
    request = (
        b"POST / HTTP/1.1\r\nHost: a\r\nconnection: te\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"
    )
    client.sends(request)
    upstream, other = talk.expect_dial(HOST), talk.expect_dial(OTHER)
    for peer in (upstream, other):
        peer.receives(request)
        peer.sends(OK)
    client.receives(OK)


def test_bytes_waiting_for_the_mirrors_connection_are_bounded(start: Start) -> None:
    size = int(MIRROR_BUFFER) + 1
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    talk = start(routes=mirrored())
    client, upstream = talk.opening(head, address=HOST)
    dial = talk.hold_dial(OTHER)
    client.sends_whole(b"x" * (size - 1))
    assert talk.mirror_counters() == {"mirrored": 1}
    client.sends(b"y")
    assert talk.mirror_counters() == {"mirrored": 1, "mirror_dropped": 1}
    upstream.receives(head + b"x" * (size - 1) + b"y")
    upstream.sends(OK)
    client.receives(OK)
    assert dial.connects().transport.received == b"", "the connection goes to the pool unused"


def test_a_mirror_that_reads_nothing_is_dropped_and_delays_nothing(start: Start) -> None:
    piece = b"x" * 65536
    count = int(MIRROR_BUFFER + HIGH_WATER) // len(piece) + 2
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (count * len(piece))
    talk = start(routes=mirrored())
    client = talk.connect()
    client.sends(head)
    upstream, other = talk.expect_dial(HOST), talk.hold_dial(OTHER).connects(stalled=True)
    for _ in range(count):
        assert client.is_read()
        client.sends_whole(piece)
    upstream.receives(head + piece * count)
    assert other.is_reset()
    upstream.sends(OK)
    client.receives(OK)
    assert talk.mirror_counters() == {"mirrored": 1, "mirror_dropped": 1}


def test_a_mirror_that_is_slow_for_a_while_gets_everything(start: Start) -> None:
    piece = b"x" * 65536
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (6 * len(piece))
    talk = start(routes=mirrored())
    client = talk.connect()
    client.sends(head)
    upstream, other = talk.expect_dial(HOST), talk.hold_dial(OTHER).connects(stalled=True)
    for _ in range(6):
        client.sends_whole(piece)
    assert len(other.transport.waiting) < len(piece) * 6
    other.reads_on()
    for peer in (upstream, other):
        peer.receives(head + piece * 6)
        peer.sends(OK)
    client.receives(OK)
    assert talk.mirror_counters() == {"mirrored": 1}


def test_a_request_that_breaks_off_takes_its_copy_with_it(start: Start) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc"
    talk = start(routes=mirrored())
    client = talk.connect()
    client.sends(head)
    upstream, other = talk.expect_dial(HOST), talk.expect_dial(OTHER)
    upstream.receives(head)
    other.receives(head)
    client.resets()
    assert upstream.is_reset()
    assert other.is_reset()
    assert talk.mirror_counters() == {"mirrored": 1, "mirror_dropped": 1}


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_a_mirror_that_answers_early_is_done(start: Start) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc"
    talk = start(routes=mirrored())
    client = talk.connect()
    client.sends(head)
    upstream, other = talk.expect_dial(HOST), talk.expect_dial(OTHER)
    answer(other, head)
    assert not other.is_open()
    client.sends(b"def")
    upstream.receives(head + b"def")
    upstream.sends(OK)
    client.receives(OK)
    assert talk.mirror_counters() == {"mirrored": 1}


def test_copies_count_in_the_limits_of_their_cluster(start: Start) -> None:
    talk = start(routes=mirrored(), other_plan={"limits": LimitPlan(requests=1)})
    for number in range(2):
        client = talk.connect()
        client.sends(GET)
        upstream = talk.expect_dial(HOST) if number == 0 else talk.upstreams[0]
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(OK)
    answer(talk.expect_dial(OTHER), GET)
    assert talk.mirror_counters() == {"mirrored": 2, "mirror_dropped": 1}
    assert talk.upstream_counters("other")["request_pending_overflow"] == 1


def test_sick_hosts_get_no_copies(start: Start) -> None:
    talk = start(routes=mirrored(), other_plan=TWO)
    cluster = talk.clusters.get("other")
    assert cluster is not None
    cluster.hosts[0].set_active_health(False)
    client = talk.connect()
    client.sends(GET)
    talk.expect_dial(HOST).receives(GET)
    answer(talk.expect_dial("10.0.1.2:80"), GET)


@pytest.mark.parametrize("cluster", ["nowhere", "other"])
def test_a_mirror_without_hosts_is_a_failed_copy(start: Start, cluster: str) -> None:
    talk = start(routes=mirrored(Mirror(cluster, 100)), other_plan={"hosts": ()})
    client, upstream = talk.forwarded(GET, address=HOST)
    upstream.sends(OK)
    client.receives(OK)
    assert talk.mirror_counters(cluster) == {"mirrored": 1, "mirror_failed": 1}


def test_retries_do_not_mirror_again(start: Start) -> None:
    routes = mirrored(retry_policy=RetryPolicy(True, 2))
    talk = start(routes=routes, hosts=["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial("10.0.0.1:80")
    assert talk.mirror_counters() == {}, "nothing was sent yet, so there is no copy yet"
    upstream = talk.expect_dial("10.0.0.2:80")
    upstream.receives(GET)
    answer(talk.expect_dial(OTHER), GET)
    upstream.resets()
    talk.advance(0.1)
    last = talk.expect_dial("10.0.0.3:80")
    last.receives(GET)
    last.sends(OK)
    client.receives(OK)
    assert talk.mirror_counters() == {"mirrored": 1}


def test_copies_have_the_changes_of_the_route(start: Start) -> None:
    changes = RequestChanges(None, PrefixRewrite(b"/old", "/new"), "changed")
    talk = start(routes=mirrored(changes=changes))
    client = talk.connect()
    client.sends(b"GET /old/x?q HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\n")
    sent = b"GET /new/x?q HTTP/1.1\r\nHost: changed\r\nAccept: b\r\nx-mosn-original-path: /old/x\r\n\r\n"
    talk.expect_dial(HOST).receives(sent)
    answer(talk.expect_dial(OTHER), sent)


def test_a_copy_asks_for_its_own_hosts_name(start: Start) -> None:
    talk = start(
        routes=mirrored(uses_host_name=True),
        plan={"hosts": (HostPlan(HOST, "main.example"),)},
        other_plan={"hosts": (HostPlan(OTHER, "other.example"),)},
    )
    client = talk.connect()
    client.sends(GET)
    talk.expect_dial(HOST).receives(GET.replace(b"a", b"main.example"))
    answer(talk.expect_dial(OTHER), GET.replace(b"a", b"other.example"))


def test_several_mirrors_and_several_copies(start: Start) -> None:
    routes = mirrored(Mirror("other", 100), Mirror("service", 100))
    talk = start(
        routes=routes, other_plan=TWO, filters={"mirror": MirrorFilter(typed({"Amplification": 3}, MirrorSettings))}
    )
    client = talk.connect()
    client.sends(GET)
    talk.expect_dial(HOST).receives(GET)
    others = [talk.expect_dial(address) for address in ("10.0.1.1:80", "10.0.1.2:80", "10.0.1.1:80", *[HOST] * 3)]
    for other in others:
        answer(other, GET)
    assert talk.mirror_counters() == talk.mirror_counters("service") == {"mirrored": 3}


def test_no_copies_when_the_filter_disables_them(start: Start) -> None:
    talk = start(routes=mirrored(), filters={"mirror": MirrorFilter(typed({"amplification": 0}, MirrorSettings))})
    client = talk.connect()
    client.sends(GET)
    talk.expect_dial(HOST).receives(GET)
    talk.expect_no_dial()
    assert talk.mirror_counters() == {}


# ---- broadcast


def broadcast(start: Start, **plan: object) -> Talk:
    return start(
        routes=mirrored(),
        other_plan=plan or TWO,
        filters={"mirror": MirrorFilter(typed({"broadcast": True}, MirrorSettings))},
    )


def test_broadcast_answers_for_itself(start: Start) -> None:
    talk = broadcast(start)
    client = talk.connect()
    client.sends(GET)
    client.receives(EMPTY_OK)
    for address in ("10.0.1.1:80", "10.0.1.2:80"):
        other = talk.expect_dial(address)
        answer(other, GET)
    assert talk.mirror_counters() == {"mirrored": 2}
    assert "request_total" not in talk.upstream_counters("service")


def test_broadcast_answers_when_the_body_has_come(start: Start) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n"
    talk = broadcast(start)
    client = talk.connect()
    client.sends(head)
    client.receives(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.sends(b"abc")
    client.receives_nothing()
    client.sends(b"def")
    client.receives(EMPTY_OK)
    for address in ("10.0.1.1:80", "10.0.1.2:80"):
        other = talk.expect_dial(address)
        answer(other, head + b"abcdef")


def test_broadcast_without_hosts_fails(start: Start) -> None:
    talk = broadcast(start, hosts=())
    client = talk.connect()
    client.sends(GET)
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    assert talk.reasons() == ["no_hosts"]
    assert talk.mirror_counters() == {"mirrored": 1, "mirror_failed": 1}


def test_a_broadcast_request_that_stalls_is_given_up(start: Start) -> None:
    talk = broadcast(start)
    client = talk.connect()
    client.sends(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
    others = [talk.expect_dial(address) for address in ("10.0.1.1:80", "10.0.1.2:80")]
    for other in others:
        other.takes()
    talk.advance(61.0)
    client.takes()
    assert all(other.is_reset() for other in others)


# ---- parts


def test_a_copied_head_has_everything_and_is_its_own() -> None:
    head = HttpRequest()
    names = [name for name in dir(head) if not name.startswith("_") and not callable(getattr(head, name))]
    made_of_others = ("method", "path", "query", "host", "tunnel", "upgrade")
    of_the_body_or_class = ("trailers", "body_source", "new_body", "has_call_status")
    settable = [name for name in names if name not in made_of_others + of_the_body_or_class]
    assert "content_length" in settable
    for number, name in enumerate(settable):
        value = getattr(head, name)
        if name == "headers":
            value.set("x-a", "1")
        elif isinstance(value, bool):
            setattr(head, name, not value)
        elif isinstance(value, int):
            setattr(head, name, number)
        elif isinstance(value, float):
            setattr(head, name, number + 0.5)
        elif isinstance(value, str):
            setattr(head, name, f"text {number}")
        else:
            setattr(head, name, b"bytes %d" % number)
    copy = head.copy()
    assert {name: getattr(copy, name) for name in settable if name != "headers"} == {
        name: getattr(head, name) for name in settable if name != "headers"
    }
    copy.headers.set("x-a", "2")
    assert head.headers.items() == [("x-a", "1")]


def test_shares_of_mirrors_are_drawn() -> None:
    drawn = sum(Mirror("other", 30).wants_one() for _ in range(20_000))
    assert 0.28 < drawn / 20_000 < 0.32
