"""Nobody is read faster than the other side takes."""

import pytest
from tests.kit import GET, OK, Start

from pymosn.api.routing import Route
from pymosn.routing.actions import DirectResponse
from pymosn.routing.matchers import AnyRequest

pytestmark = [pytest.mark.also_tls, pytest.mark.also_h2]

#: More than a connection buffers and the window of a stream together, twice.
BIG = 1_200_000
HALF = BIG // 2
BIG_HEAD = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: %d\r\n\r\n" % BIG
BIG_POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BIG


def test_full_client_pauses_the_upstream(start: Start) -> None:
    client, upstream = start().opening(GET)
    upstream.takes()
    client.stalls()
    upstream.sends_whole(BIG_HEAD + b"x" * HALF)
    assert not upstream.is_read()
    assert client.is_read()
    upstream.sends_whole(b"x" * HALF)
    client.receives_nothing()
    client.reads_on()
    assert upstream.is_read()
    client.receives(BIG_HEAD + b"x" * BIG)
    assert upstream.is_open()
    assert client.is_open()


def test_full_client_again_and_again(start: Start) -> None:
    client, upstream = start().opening(GET)
    upstream.takes()
    upstream.sends_whole(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: %d\r\n\r\n" % (5 * HALF))
    client.takes()
    for _ in range(5):
        client.stalls()
        upstream.sends_whole(b"x" * HALF)
        client.reads_on()
        client.receives(b"x" * HALF)
    assert upstream.is_read()
    client.sends(GET)
    upstream.receives(GET)


def test_full_upstream_pauses_the_client(start: Start) -> None:
    client, upstream = start().forwarded(BIG_POST)
    upstream.stalls()
    client.sends_whole(b"x" * HALF)
    assert not client.is_read()
    assert upstream.is_read()
    client.sends_whole(b"x" * HALF)
    upstream.reads_on()
    assert client.is_read()
    upstream.receives(b"x" * BIG)
    upstream.sends(OK)
    client.receives(OK)
    client.sends(GET)
    upstream.receives(GET)


@pytest.mark.http1_only("a window is larger than what is paused here")
def test_client_is_paused_while_dialing(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends_whole(BIG_POST + b"x")
    dial = talk.hold_dial()
    assert client.is_read()
    client.sends_whole(b"x" * 100)
    assert not client.is_read()
    client.sends_whole(b"x" * (BIG - 101))
    upstream = dial.connects()
    assert client.is_read()
    upstream.receives(BIG_POST + b"x" * BIG)


def test_an_upstream_that_is_full_with_bytes_held_while_dialing(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends_whole(BIG_POST)
    dial = talk.hold_dial()
    client.sends_whole(b"x" * HALF)
    assert not client.is_read()
    upstream = dial.connects(stalled=True)
    assert not client.is_read()
    client.sends_whole(b"x" * HALF)
    upstream.reads_on()
    assert client.is_read()
    upstream.receives(BIG_POST + b"x" * BIG)


def test_both_full_at_once(start: Start) -> None:
    client, upstream = start().opening(BIG_POST)
    upstream.takes()
    upstream.stalls()
    client.stalls()
    client.sends_whole(b"x" * HALF)
    upstream.sends_whole(BIG_HEAD + b"y" * HALF)
    assert not client.is_read()
    assert not upstream.is_read()
    upstream.reads_on()
    assert client.is_read()
    assert not upstream.is_read()
    client.reads_on()
    assert upstream.is_read()
    client.sends_whole(b"x" * HALF)
    upstream.sends_whole(b"y" * HALF)
    upstream.receives(b"x" * BIG)
    assert client.takes().endswith(b"y" * BIG)
    assert client.is_lingering()


def test_client_that_leaves_while_it_is_full(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(GET)
    upstream.takes()
    client.stalls()
    upstream.sends_whole(BIG_HEAD + b"x" * HALF)
    client.resets()
    assert upstream.is_reset()
    assert talk.reasons() == ["client_gone"]


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_upstream_that_answers_early_while_it_is_full_is_not_used_again(start: Start) -> None:
    client, upstream = start().opening(BIG_POST)
    upstream.takes()
    upstream.stalls()
    client.sends_whole(b"x" * HALF)
    upstream.sends(b"HTTP/1.1 413 Too Large\r\nDate: d\r\nContent-Length: 0\r\n\r\n")
    client.receives(b"HTTP/1.1 413 Too Large\r\nDate: d\r\nContent-Length: 0\r\nconnection: close\r\n\r\n")
    assert client.is_lingering()
    assert client.is_read(), "lingering reads and forgets"
    assert upstream.transport.is_closing
    upstream.reads_on()
    upstream.takes()


@pytest.mark.http1_only("pipelining")
def test_request_that_is_buffered_when_its_reply_is_complete(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(BIG_POST)
    upstream.takes()
    upstream.stalls()
    client.sends_whole(b"x" * HALF)
    upstream.transport.high_water = 10**9
    upstream.transport.is_full = True
    talk.do(upstream.transport.drain)
    upstream.takes()
    upstream.stalls()
    upstream.transport.high_water = 1000
    client.sends_whole(b"x" * HALF)
    assert not client.is_read()
    upstream.sends(OK)
    client.receives(OK)
    assert client.is_read()
    client.sends(GET)
    talk.expect_dial().receives(GET)
    upstream.reads_on()
    upstream.receives(b"x" * HALF)


@pytest.mark.http1_only("pipelining")
def test_full_client_gets_no_second_reply(start: Start) -> None:
    """Else what is buffered for it would be bounded by the number of its requests only."""
    talk = start()
    client, upstream = talk.forwarded(GET)
    client.stalls()
    upstream.sends_whole(BIG_HEAD + b"x" * BIG)
    assert talk.reasons() == ["ok"]
    client.sends(GET + GET)
    upstream.receives_nothing()
    assert not client.is_read()
    client.reads_on()
    client.receives(BIG_HEAD + b"x" * BIG)
    for _ in range(2):
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(OK)
    assert client.is_read()


@pytest.mark.http1_only("pipelining")
def test_pipelined_direct_responses_to_a_client_that_does_not_read(start: Start) -> None:
    body = "x" * 1000
    talk = start(routes=[Route("d", AnyRequest(), DirectResponse(200, body))])
    client = talk.connect()
    client.stalls()
    client.sends_whole(GET * 600)
    assert talk.counters()["request_total"] < 300
    client.reads_on()
    for _ in range(10):
        client.reads_on()
    assert talk.counters()["request_total"] == 600
    assert client.takes().count(body.encode()) == 600


@pytest.mark.http1_only("the window holds the rest back", "h1-h2", "h2-h2")
def test_full_client_that_leaves_between_requests(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(GET)
    upstream.takes()
    client.stalls()
    upstream.sends_whole(BIG_HEAD + b"x" * BIG)
    client.sends(GET)
    client.resets()
    assert talk.reasons() == ["ok"]
