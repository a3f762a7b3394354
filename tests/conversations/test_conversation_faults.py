"""What breaks on the upstream side or by the client's going, at every point of an exchange: one outcome each."""

from collections.abc import Callable

import pytest
from tests.kit import DATE, GET, OK, Peer, Start, Talk

from pymosn.core.failure import CONNECT_REFUSED
from pymosn.core.message import KEPT_BODY

pytestmark = pytest.mark.also_h2


def is_lingering(peer: Peer) -> bool:
    return peer.is_lingering()


def is_open(peer: Peer) -> bool:
    return peer.is_open()


def resets(peer: Peer) -> None:
    peer.resets()


def shuts(peer: Peer) -> None:
    peer.shuts()


POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
TEXT = b"content-type: text/plain; charset=utf-8\r\n"
BAD = b"HTTP/1.1 502 Bad Gateway\r\n" + TEXT + b"content-length: 16\r\n" + DATE
SORRY = BAD + b"\r\n502 Bad Gateway\n"
SORRY_AND_CLOSE = BAD + b"connection: close\r\n\r\n502 Bad Gateway\n"


# ---- dialing


@pytest.mark.parametrize(
    ("answer", "reason"), [(Talk.refuse_dial, "connect_refused"), (Talk.time_out_dial, "connect_timeout")]
)
def test_no_connection(start: Start, answer: Callable[[Talk], None], reason: str) -> None:
    talk = start()
    client = talk.connect()
    client.sends(GET)
    answer(talk)
    client.receives(SORRY)
    assert client.is_open()
    assert talk.reasons() == [reason]
    assert talk.upstream_counters()["connection_con_fail"] == 1
    assert "request_retry" not in talk.upstream_counters()


def test_next_host_after_a_refused_connection(start: Start) -> None:
    talk = start(hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client = talk.connect()
    client.sends(POST + b"0123")
    talk.refuse_dial("10.0.0.1:80")
    upstream = talk.expect_dial("10.0.0.2:80")
    upstream.receives(POST + b"0123")
    upstream.sends(OK)
    client.receives(OK)
    assert talk.reasons() == ["ok"]
    assert talk.upstream_counters()["request_retry"] == 1
    assert talk.outcomes.exchanges[0].attempts == 2
    assert talk.outcomes.exchanges[0].upstream_address == "10.0.0.2:80"


def test_every_host_refuses(start: Start) -> None:
    talk = start(hosts=[f"10.0.0.{number}:80" for number in range(1, 6)])
    client = talk.connect()
    client.sends(GET)
    for number in range(1, 4):
        talk.refuse_dial(f"10.0.0.{number}:80")
    client.receives(SORRY)
    assert talk.reasons() == ["connect_refused"]


def test_connection_that_is_closed_as_soon_as_it_is_open(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(GET)
    talk.hold_dial().connects(lost=True)
    client.receives(SORRY)
    assert talk.reasons() == ["reset_before_response"]


# ---- reuse


def with_used_connection(talk: Talk) -> tuple[Peer, Peer]:
    client, upstream = talk.forwarded(GET)
    upstream.sends(OK)
    client.receives(OK)
    return client, upstream


@pytest.mark.parametrize("breaks", [shuts, resets])
@pytest.mark.parametrize("limit", [0, 1])
@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n0123",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        b"DELETE / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (KEPT_BODY, bytes(KEPT_BODY)),
    ],
    ids=lambda head: head[:40].decode().replace("\r\n", " "),
)
def test_stale_connection_is_replaced_silently(
    start: Start, breaks: Callable[[Peer], None], limit: int, request_head: bytes
) -> None:
    talk = start(max_connections=limit)
    client, stale = with_used_connection(talk)
    request = request_head
    client.sends(request)
    stale.receives(request)
    breaks(stale)
    client.receives_nothing()
    upstream = talk.expect_dial()
    upstream.receives(request)
    upstream.sends(b"HTTP/1.1 204 No Content\r\nDate: d\r\n\r\n")
    client.receives(b"HTTP/1.1 204 No Content\r\nDate: d\r\n\r\n")
    assert talk.reasons() == ["ok", "ok"]
    assert talk.upstream_counters()["request_retry"] == 1


def test_fresh_connection_that_breaks_is_not_replaced(start: Start) -> None:
    talk = start()
    client, stale = with_used_connection(talk)
    client.sends(GET)
    stale.receives(GET)
    stale.resets()
    upstream = talk.expect_dial()
    upstream.receives(GET)
    upstream.resets()
    client.receives(SORRY)
    talk.expect_no_dial()
    assert talk.reasons() == ["ok", "reset_before_response"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + b"0123",
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (KEPT_BODY + 1, bytes(KEPT_BODY + 1)),
    ],
    ids=["post", "post without a body", "patch", "put of more than is kept"],
)
def test_stale_connection_at_a_request_that_cannot_be_sent_again(start: Start, request_bytes: bytes) -> None:
    talk = start()
    client, stale = with_used_connection(talk)
    client.sends(request_bytes)
    stale.receives(request_bytes)
    stale.shuts()
    client.receives(SORRY)
    assert client.is_open()
    talk.expect_no_dial()
    assert talk.reasons() == ["ok", "reset_before_response"]


@pytest.mark.parametrize("leave", [shuts, resets])
def test_idle_connection_that_the_upstream_closes(start: Start, leave: Callable[[Peer], None]) -> None:
    talk = start()
    client, upstream = with_used_connection(talk)
    leave(upstream)
    client.sends(GET)
    talk.expect_dial().receives(GET)
    assert talk.upstream_counters()["connection_active"] == 1
    assert talk.upstream_counters()["connection_close"] == 1


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_unsolicited_bytes_on_an_idle_connection(start: Start) -> None:
    talk = start()
    client, upstream = with_used_connection(talk)
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    assert upstream.is_reset()
    client.sends(GET)
    fresh = talk.expect_dial()
    fresh.receives(GET)
    fresh.sends(OK)
    client.receives(OK)


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
@pytest.mark.whole_only
def test_bytes_after_a_complete_response(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET + GET, GET)
    upstream.sends(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    client.receives(OK)
    assert upstream.is_closed()
    fresh = talk.expect_dial()
    fresh.receives(GET)
    fresh.sends(OK)
    client.receives(OK)


@pytest.mark.whole_only
@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_body_where_none_may_be(start: Start, method: bytes) -> None:
    client, upstream = start().opening(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.takes()
    head = b"HTTP/1.1 304 Not Modified\r\nDate: d\r\nContent-Length: 4\r\n\r\n"
    upstream.sends(head + b"body")
    client.receives(head)
    assert upstream.is_closed()
    assert client.is_open()


# ---- every point at which it can break, by every event that can break it

#: What the client sent, what the upstream answered so far, and what of it the client has got.
STAGES: dict[str, tuple[bytes, bytes, bytes]] = {
    "nothing answered": (GET, b"", b""),
    "body half sent": (POST + b"01", b"", b""),
    "interim reply": (GET, b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "in the head": (GET, b"HTTP/1.1 200 OK\r\nDate: d\r\nConte", b""),
    "in a length": (
        GET,
        b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 4\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 4\r\n\r\nab",
    ),
    "in chunks": (
        GET,
        b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n5\r\n",
        b"HTTP/1.1 200 OK\r\nDate: d\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    ),
    "until close": (
        GET,
        b"HTTP/1.1 200 OK\r\nDate: d\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nDate: d\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    ),
    "early reply": (
        POST + b"01",
        b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 4\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 4\r\nconnection: close\r\n\r\nab",
    ),
}


def at(talk: Talk, stage: str) -> tuple[Peer, Peer]:
    request, reply, relayed = STAGES[stage]
    client, upstream = talk.forwarded(request)
    if reply:
        upstream.sends(reply)
    client.receives(relayed)
    return client, upstream


def upstream_garbage(upstream: Peer) -> None:
    upstream.sends(b"\x00\x00\r\n\x00\r\n")


BEFORE = "reset_before_response"
AFTER = "reset_after_response"


@pytest.mark.parametrize(
    ("stage", "breaks", "reason", "answer", "how"),
    [
        ("nothing answered", shuts, BEFORE, SORRY, is_open),
        ("nothing answered", resets, BEFORE, SORRY, is_open),
        ("body half sent", shuts, BEFORE, SORRY_AND_CLOSE, is_lingering),
        ("body half sent", resets, BEFORE, SORRY_AND_CLOSE, is_lingering),
        ("interim reply", shuts, BEFORE, SORRY, is_open),
        ("interim reply", resets, BEFORE, SORRY, is_open),
        ("in the head", shuts, BEFORE, SORRY, is_open),
        ("in the head", resets, BEFORE, SORRY, is_open),
        ("in a length", shuts, AFTER, b"", is_lingering),
        ("in a length", resets, AFTER, b"", is_lingering),
        ("in chunks", shuts, AFTER, b"", is_lingering),
        ("in chunks", resets, AFTER, b"", is_lingering),
        ("until close", shuts, "ok", b"0\r\n\r\n", is_open),
        ("until close", resets, AFTER, b"", is_lingering),
        ("early reply", shuts, AFTER, b"", is_lingering),
        ("early reply", resets, AFTER, b"", is_lingering),
    ],
)
def test_upstream_breaks(
    start: Start, stage: str, breaks: Callable[[Peer], None], reason: str, answer: bytes, how: Callable[[Peer], bool]
) -> None:
    talk = start()
    client, upstream = at(talk, stage)
    breaks(upstream)
    client.receives(answer)
    assert how(client)
    assert upstream.transport.is_lost
    assert talk.reasons() == [reason]


@pytest.mark.http1_only("bytes of HTTP/1", "h1-h2", "h2-h2")
@pytest.mark.parametrize(
    ("stage", "answer", "how"),
    [
        ("nothing answered", SORRY, is_open),
        ("body half sent", SORRY_AND_CLOSE, is_lingering),
        ("interim reply", SORRY, is_open),
        ("in the head", SORRY, is_open),
    ],
)
def test_upstream_sends_garbage(start: Start, stage: str, answer: bytes, how: Callable[[Peer], bool]) -> None:
    test_upstream_breaks(start, stage, upstream_garbage, "bad_response", answer, how)


@pytest.mark.http1_only("a stream is reset in any case")
@pytest.mark.parametrize("breaks", [shuts, resets])
@pytest.mark.parametrize("is_sized", [True, False])
def test_only_a_reply_without_a_length_is_cut_off_by_a_reset(
    start: Start, breaks: Callable[[Peer], None], is_sized: bool
) -> None:
    """E4. HTTP/1.0 has no chunks: only the reset shows that a reply that ends with the connection is incomplete."""
    talk = start()
    client, upstream = talk.opening(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    upstream.takes()
    framing = b"Content-Length: 9\r\n\r\n" if is_sized else b"Transfer-Encoding: chunked\r\n\r\n9\r\n"
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\n" + framing + b"abc")
    breaks(upstream)
    assert client.takes().endswith(b"\r\n\r\nabc")
    assert (client.is_lingering(), client.is_reset()) == (is_sized, not is_sized)
    assert talk.reasons() == [AFTER]


@pytest.mark.parametrize("stage", STAGES)
def test_client_resets(start: Start, stage: str) -> None:
    talk = start()
    client, upstream = at(talk, stage)
    client.resets()
    assert upstream.is_reset()
    client.receives_nothing()
    assert talk.reasons() == ["client_gone"]
    counters = talk.counters()
    assert counters["request_reset"] == 1
    assert ("request_499_total" in counters) == (b" 200 " not in STAGES[stage][2])
    assert talk.upstream_counters()["request_local_reset"] == 1


@pytest.mark.parametrize("stage", STAGES)
def test_client_gone_by_half_close(start: Start, stage: str) -> None:
    """A request that is whole is finished if its reply begins within a second; a body that is cut off is refused."""
    talk = start()
    client, upstream = at(talk, stage)
    client.shuts()
    if stage == "body half sent":
        assert client.takes().startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert upstream.is_reset()
        assert client.is_closed()
        assert talk.reasons() == ["truncated_body"]
    elif stage == "early reply":
        assert client.is_closed()
        assert upstream.is_reset()
        assert talk.reasons() == ["truncated_body"]
    elif b" 200 " in STAGES[stage][2]:
        assert client.is_open()
        talk.advance(30)
        assert talk.reasons() == []
    else:
        assert client.is_open()
        talk.advance(1)
        assert client.is_reset()
        assert upstream.is_reset()
        assert talk.reasons() == ["client_gone"]


def test_half_close_of_a_client_that_reads_on(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(GET)
    client.shuts()
    upstream = talk.expect_dial()
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi")
    assert client.is_closed()
    assert upstream.is_open()
    assert talk.reasons() == ["ok"]


def test_half_close_after_the_head_of_the_reply(start: Start) -> None:
    talk = start()
    client, upstream = at(talk, "in a length")
    client.shuts()
    upstream.sends(b"cd")
    client.receives(b"cd")
    assert client.is_closed()
    assert talk.reasons() == ["ok"]


def test_half_close_between_requests(start: Start) -> None:
    talk = start()
    client, _ = with_used_connection(talk)
    client.shuts()
    assert client.is_closed()
    assert talk.reasons() == ["ok"]


def test_client_gone_while_dialing(start: Start) -> None:
    """The connection is kept for the next request: its dial has cost enough."""
    talk = start()
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    client.resets()
    assert talk.reasons() == ["client_gone"]
    upstream = dial.connects()
    upstream.receives_nothing()
    second = talk.connect()
    second.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    second.receives(OK)


def test_client_gone_while_dialing_in_vain(start: Start) -> None:
    talk = start(hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    client.resets()
    dial.fails(CONNECT_REFUSED)
    talk.expect_no_dial()
    assert talk.reasons() == ["client_gone"]


def test_clusters_replaced_during_an_exchange(start: Start) -> None:
    talk = start()
    client, upstream = at(talk, "in a length")
    talk.do(lambda: talk.clusters.activate({}))
    upstream.sends(b"cd")
    client.receives(b"cd")
    assert upstream.is_closed(), "its pool is closed"
    client.sends(GET)
    assert client.takes().startswith(b"HTTP/1.1 404 ")
    assert talk.reasons() == ["ok", "cluster_unknown"]


def test_success_depends_on_the_status(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(GET)
    upstream.takes()
    reply = b"HTTP/1.1 503 Service Unavailable\r\nDate: d\r\nContent-Length: 4\r\n\r\n"
    upstream.sends(reply)
    upstream.sends(b"body")
    client.receives(reply + b"body")
    assert talk.upstream_counters()["response_failed"] == 1
    assert "response_success" not in talk.upstream_counters()


def test_a_failure_with_a_reply_is_not_a_reset(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial()
    assert client.takes().startswith(b"HTTP/1.1 502")
    assert talk.counters()["request_failed"] == 1
    assert "request_reset" not in talk.counters()
