"""A worker that is about to stop: nothing in flight is lost."""

import pytest
from tests.kit import GET, OK, Start

pytestmark = [pytest.mark.also_tls, pytest.mark.also_h2]

LAST = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi"


@pytest.mark.parametrize("seconds", [0, 10, 55])
def test_request_in_flight_is_finished(start: Start, seconds: float) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET)
    talk.advance(30)
    talk.drain()
    talk.advance(min(seconds, 25))
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_lingering()
    assert talk.reasons() == ["ok"]


@pytest.mark.http1_only("GOAWAY, not a grace")
def test_idle_connection_is_closed_after_the_grace(start: Start) -> None:
    talk = start()
    client = talk.connect()
    talk.drain()
    assert client.is_open()
    talk.advance(1)
    assert client.is_closed()


@pytest.mark.http1_only("GOAWAY, not a grace")
def test_request_that_comes_in_the_grace_is_answered(start: Start) -> None:
    talk = start()
    client = talk.connect()
    talk.drain()
    talk.advance(0.8)
    client.sends(GET)
    upstream = talk.expect_dial()
    upstream.receives(GET)
    talk.advance(20)
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_lingering()
    assert talk.reasons() == ["ok"]


@pytest.mark.http1_only("a head is complete or not sent")
def test_head_that_is_being_sent_is_awaited(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\n")
    talk.drain()
    talk.advance(5)
    client.sends(b"Host: a\r\n\r\n")
    upstream = talk.expect_dial()
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_lingering()


def test_body_that_is_being_sent_is_awaited(start: Start) -> None:
    talk = start()
    client = talk.connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    client.sends(head + b"ab")
    upstream = talk.expect_dial()
    talk.drain()
    talk.advance(10)
    client.sends(b"cd")
    upstream.receives(head + b"abcd")
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_lingering()


@pytest.mark.http1_only("GOAWAY, not a grace")
def test_reply_that_is_being_sent_is_finished(start: Start) -> None:
    """Its head promised keep-alive, so a further request may be on its way: the grace period applies."""
    talk = start()
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK[:-2])
    talk.drain()
    talk.advance(10)
    upstream.sends(OK[-2:])
    client.receives(OK)
    assert client.is_open()
    talk.advance(0.5)
    client.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_lingering()
    assert talk.reasons() == ["ok", "ok"]


@pytest.mark.http1_only("pipelining")
def test_request_pipelined_after_a_reply_that_promised_to_continue(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET + GET, GET)
    upstream.sends(OK[:-2])
    talk.drain()
    upstream.sends(OK[-2:])
    client.receives(OK)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_lingering()


def test_connections_that_do_not_end_are_ended(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(GET)
    upstream.takes()
    talk.drain()
    assert talk.listener.connection_count == 1
    talk.do(talk.listener.abort_all)
    assert client.is_closed()
    assert not client.is_reset()  # nothing has been sent that could be mistaken for a whole response
    assert upstream.is_reset()
    assert talk.listener.connection_count == 0
    assert talk.reasons() == ["client_gone"]
