"""Deadlines: each kind of waiting has one, each has its own outcome."""

import pytest
from tests.kit import DATE, GET, OK, Start, forward
from tests.kit.options import http_options

from pymosn.stream.http.options import HttpOptions

pytestmark = pytest.mark.also_h2

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
TEXT = b"content-type: text/plain; charset=utf-8\r\n"
TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\n" + TEXT + b"content-length: 20\r\n" + DATE
GATEWAY = b"HTTP/1.1 504 Gateway Timeout\r\n" + TEXT + b"content-length: 20\r\n" + DATE


def times(idle: float = 90.0, header: float = 20.0, body: float = 30.0) -> HttpOptions:
    return http_options(idle_timeout=idle, header_timeout=header, body_timeout=body, body_min_rate=0.0)


@pytest.mark.parametrize("idle", [0.5, 7.0, 90.0, 4000.0])
def test_idle_connection_is_closed(start: Start, idle: float) -> None:
    talk = start(http1=times(idle=idle))
    client = talk.connect()
    talk.advance(idle - 0.1)
    assert client.is_open()
    talk.advance(0.2)
    assert client.is_closed()
    client.receives_nothing()
    assert talk.reasons() == []


def test_idle_time_restarts_after_each_reply(start: Start) -> None:
    talk = start(http1=times(idle=50.0))
    client = talk.connect()
    talk.advance(45)
    client.sends(GET)
    upstream = talk.expect_dial()
    upstream.takes()
    talk.advance(20)
    upstream.sends(OK)
    client.receives(OK)
    talk.advance(45)
    assert client.is_open()
    talk.advance(6)
    assert client.is_closed()


def test_no_idle_time_is_never(start: Start) -> None:
    talk = start(http1=times(idle=0.0))
    client = talk.connect()
    talk.advance(300)
    assert client.is_open()


@pytest.mark.http1_only("a head is complete or not sent")
def test_header_timeout_counts_from_the_first_byte(start: Start) -> None:
    talk = start(http1=times())
    client = talk.connect()
    talk.advance(80)
    client.sends(b"GET / HT")
    talk.advance(15)
    client.sends(b"TP/1.1\r\n")
    talk.advance(4)
    assert client.is_open()
    talk.advance(2)
    client.receives(TOO_LATE + b"connection: close\r\n\r\n408 Request Timeout\n")
    assert client.is_lingering()
    assert talk.reasons() == ["request_timeout"]


@pytest.mark.http1_only("a head is complete or not sent")
def test_header_timeout_of_a_second_request(start: Start) -> None:
    talk = start(http1=times())
    client = talk.connect()
    client.sends_whole(GET + b"GET ")
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    talk.advance(21)
    client.receives(TOO_LATE + b"connection: close\r\n\r\n408 Request Timeout\n")


def test_body_timeout_is_the_longest_silence(start: Start) -> None:
    talk = start(http1=times())
    client, upstream = talk.forwarded(POST)
    for digit in (b"0", b"1", b"2"):
        talk.advance(25)
        client.sends(digit)
        upstream.receives(digit)
    talk.advance(31)
    client.receives(TOO_LATE + b"connection: close\r\n\r\n408 Request Timeout\n")
    assert upstream.is_reset()
    assert talk.reasons() == ["request_timeout"]


def test_body_timeout_does_not_run_while_we_hold_the_client(start: Start) -> None:
    talk = start(http1=times(), stream_idle_timeout=1000.0)
    client = talk.connect()
    client.sends_whole(POST + b"012")
    dial = talk.hold_dial()
    client.sends(b"345")
    talk.advance(100)
    assert client.is_open()
    upstream = dial.connects()
    upstream.receives(POST + b"012345")
    client.sends(b"6789")
    upstream.receives(b"6789")
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.parametrize("timeout", [1.0, 60.0, 3600.0])
def test_route_timeout(start: Start, timeout: float) -> None:
    talk = start(routes=forward(timeout=timeout))
    client, upstream = talk.forwarded(GET)
    talk.advance(timeout - 0.1)
    client.receives_nothing()
    talk.advance(0.2)
    client.receives(GATEWAY + b"\r\n504 Gateway Timeout\n")
    assert upstream.is_reset()
    assert client.is_open()
    assert talk.reasons() == ["timeout"]
    assert talk.upstream_counters()["request_timeout"] == 1


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (b"2000", 2.0),
        (b"0002000", 2.0),
        (b"000090000", 90.0),
        # Not 1 to 9 plain digits: ignored, and the route's own timeout applies. 0 is MOSN's default of a minute.
        (b"0", 60.0),
        (b"", 20.0),
        (b"9999999999", 20.0),
        (b"+2000", 20.0),
        (b"-2000", 20.0),
        (b"2_000", 20.0),
        (b"2e3", 20.0),
        (b"2000ms", 20.0),
        (b"2 000", 20.0),
        (b"0x10", 20.0),
        (b"\xb2", 20.0),
        (b"\xd9\xa2", 20.0),
        (b"2000, 1", 20.0),
    ],
)
def test_time_that_a_request_asks_for(start: Start, asked: bytes, seconds: float) -> None:
    talk = start(routes=forward(timeout=20.0), stream_idle_timeout=0.0, http1=times(idle=0.0))
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nx-mosn-global-timeout: " + asked + b"\r\n\r\n")
    talk.expect_dial().receives(GET)
    talk.advance(seconds - 0.2)
    client.receives_nothing()
    talk.advance(1.0)
    assert client.takes().startswith(b"HTTP/1.1 504 ")
    assert talk.reasons() == ["timeout"]


def test_route_timeout_while_dialing(start: Start) -> None:
    talk = start(routes=forward(timeout=5.0))
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    talk.advance(6)
    client.receives(GATEWAY + b"\r\n504 Gateway Timeout\n")
    upstream = dial.connects()
    upstream.receives_nothing()
    client.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


def test_route_timeout_longer_than_the_idle_time_of_a_client_that_sends_close(start: Start) -> None:
    talk = start(routes=forward(timeout=120.0), http1=times(idle=10.0))
    client, upstream = talk.forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", GET)
    talk.advance(100)
    upstream.sends(OK)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi")
    assert talk.reasons() == ["ok"]


def test_route_timeout_counts_from_the_end_of_the_request(start: Start) -> None:
    talk = start(routes=forward(timeout=5.0))
    client, upstream = talk.opening(POST)
    for _ in range(2):
        talk.advance(10)
        client.sends(b"01234")
    talk.advance(4)
    upstream.receives(POST + b"0123401234")
    client.receives_nothing()
    talk.advance(2)
    assert client.takes().startswith(b"HTTP/1.1 504 ")


def test_interim_reply_does_not_extend_the_route_timeout(start: Start) -> None:
    talk = start(routes=forward(timeout=5.0))
    client, upstream = talk.opening(GET)
    upstream.takes()
    talk.advance(4)
    upstream.sends(b"HTTP/1.1 102 Processing\r\n\r\n")
    talk.advance(2)
    assert client.takes().startswith(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 504 ")


def test_stream_idle_after_the_reply_began(start: Start) -> None:
    talk = start(stream_idle_timeout=30.0)
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\nab")
    for byte in (b"c", b"d"):
        talk.advance(25)
        upstream.sends(byte)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\nabcd")
    talk.advance(31)
    client.receives_nothing()
    assert client.is_lingering()
    assert upstream.is_reset()
    assert talk.reasons() == ["stream_idle_timeout"]


def test_client_that_does_not_read_is_given_up(start: Start) -> None:
    talk = start(stream_idle_timeout=30.0)
    client, upstream = talk.opening(GET)
    upstream.takes()
    client.stalls()
    upstream.sends_whole(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 600000\r\n\r\n" + b"x" * 590000)
    assert not upstream.is_read()
    talk.advance(31)
    assert client.is_reset()
    assert upstream.is_reset()
    assert talk.reasons() == ["stream_idle_timeout"]


@pytest.mark.http1_only("connection: close")
def test_client_that_does_not_take_the_last_bytes_is_cut_after_a_while(start: Start) -> None:
    talk = start(http1=times(idle=10.0))
    client = talk.connect()
    client.stalls()
    client.sends(GET)
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(OK)
    talk.advance(11)
    assert client.transport.is_closing
    assert not client.is_reset()
    talk.advance(31)
    assert client.is_reset()


def test_idle_upstream_connection_is_closed(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    talk.advance(59)
    assert upstream.is_open()
    talk.advance(2)
    assert upstream.is_closed()
    client.sends(GET)
    talk.expect_dial().receives(GET)


@pytest.mark.http1_only("connection: close")
def test_lingering_ends_when_the_client_never_stops_sending(start: Start) -> None:
    talk = start(http1=times())
    client = talk.connect()
    client.sends(b"BAD\x01\r\n\r\n")
    assert client.takes().startswith(b"HTTP/1.1 400 ")
    for _ in range(4):
        client.sends(b"x" * 100)
        talk.advance(1)
        assert client.is_lingering()
    talk.advance(2)
    assert client.is_closed()
