"""Peers that are slow on purpose, and too many of them: each is stopped by its own limit, with one entry in the log."""

import re

import pytest
from tests.kit import DATE, GET, OK, Start
from tests.kit.options import http_options

from pymosn.core.overload import NO_KEEP_ALIVE, NORMAL, SHED, OverloadState

pytestmark = pytest.mark.also_tls

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi"
TEXT = b"content-type: text/plain; charset=utf-8\r\n"


def refusal(status: bytes, body: bytes, more: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 %s\r\n" % status
        + more
        + TEXT
        + b"content-length: %d\r\n" % len(body)
        + DATE
        + b"connection: close\r\n\r\n"
        + body
    )


TOO_LATE = refusal(b"408 Request Timeout", b"408 Request Timeout\n")
BUSY = refusal(b"503 Service Unavailable", b"503 Service Unavailable\n", b"retry-after: 5\r\n")


def test_body_that_drips(start: Start) -> None:
    talk = start(http1=http_options(body_timeout=30.0, body_min_rate=10.0))
    client, upstream = talk.forwarded(POST)
    for _ in range(3):
        talk.advance(9)
        client.sends(b"x")
        upstream.receives(b"x")
    talk.advance(9)
    client.sends(b"x")
    client.receives(TOO_LATE)
    assert upstream.is_reset()
    upstream.takes()
    assert talk.reasons() == ["body_too_slow"]
    assert talk.counters()["reason_body_too_slow"] == 1


def test_body_that_is_slow_but_not_too_slow(start: Start) -> None:
    talk = start(http1=http_options(body_timeout=30.0, body_min_rate=10.0))
    client, upstream = talk.forwarded(POST)
    for _ in range(12):
        talk.advance(9)
        client.sends_whole(b"x" * 100)
        upstream.receives(b"x" * 100)
    assert client.is_open()


def test_time_in_which_we_do_not_read_is_not_the_clients(start: Start) -> None:
    talk = start(http1=http_options(body_timeout=30.0, body_min_rate=10.0), stream_idle_timeout=1000.0)
    client, upstream = talk.forwarded(POST)
    upstream.stalls()
    client.sends_whole(b"x" * 300000)
    assert not client.is_read()
    talk.advance(200)
    upstream.reads_on()
    for _ in range(3):
        talk.advance(9)
        client.sends(b"x")
    assert client.is_open()
    upstream.takes()


def test_talk_in_both_directions_has_no_least_rate(start: Start) -> None:
    talk = start(http1=http_options(body_timeout=30.0, body_min_rate=10.0))
    client, upstream = talk.opening(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream.takes()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(20):
        talk.advance(9)
        client.sends(b"1\r\nx\r\n")
    assert client.is_open()
    client.takes()
    upstream.takes()


@pytest.mark.whole_only
@pytest.mark.parametrize(("rate", "survives"), [(0, True), (10, True), (100, False)])
def test_reply_that_is_read_too_slowly(start: Start, rate: int, survives: bool) -> None:
    talk = start()
    talk.listener.write_timeout, talk.listener.write_min_rate = 20.0, float(rate)
    client, upstream = talk.opening(GET)
    upstream.takes()
    client.stalls()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 600000\r\n\r\n" + b"x" * 300000)
    for _ in range(4):
        talk.advance(10)
        client.reads(300)
    client.takes()
    assert client.is_open() == survives
    if not survives:
        assert client.is_reset()
        assert upstream.is_reset()
        assert talk.reasons() == ["client_write_timeout"]


def test_reply_that_is_not_read_at_all(start: Start) -> None:
    talk = start()
    talk.listener.write_timeout = 20.0
    client, other = talk.connect(), talk.connect()
    client.sends(GET)
    upstream = talk.expect_dial()
    upstream.takes()
    client.stalls()
    upstream.sends_whole(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 600000\r\n\r\n" + b"x" * 300000)
    other.sends(GET)
    second = talk.expect_dial()
    second.takes()
    second.sends(OK)
    other.receives(OK)
    talk.advance(19)
    assert client.is_open()
    talk.advance(1.1)
    assert client.is_reset()
    assert other.is_open()
    assert talk.reasons() == ["ok", "client_write_timeout"]


def test_client_that_reads_in_time_is_not_cut_later(start: Start) -> None:
    talk = start()
    talk.listener.write_timeout = 20.0
    client, upstream = talk.opening(GET)
    upstream.takes()
    client.stalls()
    upstream.sends_whole(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 600000\r\n\r\n" + b"x" * 300000)
    talk.advance(15)
    client.reads_on()
    talk.advance(30)
    assert client.is_open()
    client.takes()


@pytest.mark.parametrize("part", [b"G", b"GET / HT", GET[:-1]])
def test_head_that_breaks_off_with_a_fin(start: Start, part: bytes) -> None:
    talk = start()
    client = talk.connect()
    client.sends(part)
    client.shuts()
    client.receives(refusal(b"400 Bad Request", b"400 Bad Request\n"))
    assert client.is_closed()
    assert talk.reasons() == ["truncated_head"]
    assert talk.counters()["reason_truncated_head"] == 1


def test_head_that_breaks_off_with_a_reset(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(b"GET / HT")
    client.resets()
    client.receives_nothing()
    assert talk.reasons() == ["client_gone"]


def test_a_connection_without_a_byte_is_not_refused(start: Start) -> None:
    talk = start()
    talk.connect().shuts()
    talk.connect().resets()
    assert talk.reasons() == []


def test_heads_in_part_share_a_budget(start: Start) -> None:
    overload = OverloadState()
    overload.max_head_bytes = 100
    talk = start(http1=http_options(overload=overload))
    first, second, third = (talk.connect() for _ in range(3))
    first.sends(b"GET / HTTP/1.1\r\nx-a: " + b"a" * 30)
    second.sends(b"GET / HTTP/1.1\r\nx-a: ")
    assert overload.head_bytes == 51 + 21
    third.sends_whole(b"GET / HTTP/1.1\r\nx-a: " + b"a" * 30)
    third.receives(BUSY)
    assert talk.reasons() == ["heads_full"]
    assert overload.head_bytes == 72
    first.sends(b"\r\nHost: a\r\n\r\n")
    assert overload.head_bytes == 21
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(OK)
    first.receives(OK)
    second.resets()
    assert overload.head_bytes == 0
    fourth = talk.connect()
    fourth.sends_whole(b"GET / HTTP/1.1\r\nx-a: " + b"a" * 60)
    talk.advance(61)
    fourth.receives(TOO_LATE)
    assert overload.head_bytes == 0


def test_a_connection_serves_as_many_requests_as_it_may(start: Start) -> None:
    client, upstream = start(http1=http_options(max_requests=3)).opening(GET)
    for reply in (OK, OK, LAST):
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(reply)
        if reply is OK:
            client.sends(GET)
    assert client.is_lingering()


def test_connections_over_the_listeners_cap(start: Start) -> None:
    talk = start()
    talk.listener.max_connections = 2
    clients = [talk.connect() for _ in range(4)]
    assert [client.is_reset() for client in clients] == [False, False, True, True]
    assert talk.reasons() == ["listener_full"] * 2
    assert talk.counters() == {
        "connection_total": 2,
        "connection_active": 2,
        "connection_refused": 2,
        "reason_listener_full": 2,
    }
    clients[0].resets()
    assert talk.connect().is_open()


def test_connections_over_the_workers_cap(start: Start) -> None:
    talk = start()
    talk.listener._admission.max_connections = 1
    first, second = talk.connect(), talk.connect()
    assert first.is_open()
    assert second.is_reset()
    assert talk.reasons() == ["worker_full"]
    first.resets()
    assert talk.listener._admission.open == 0
    assert talk.connect().is_open()


def test_the_ladder_seen_by_a_client(start: Start) -> None:
    talk = start()
    overload = talk.runtime.overload
    client, upstream = talk.forwarded(GET)
    overload.level = NO_KEEP_ALIVE
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_lingering()
    overload.level = SHED
    client = talk.connect()
    client.sends(GET)
    client.receives(BUSY)
    upload = talk.connect()
    upload.sends(POST)
    upload.receives(BUSY)
    assert upload.is_lingering()
    overload.level = NORMAL
    client = talk.connect()
    client.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    assert talk.reasons() == ["ok", "overloaded", "overloaded", "ok"]
    assert not [line for line in talk.log.lines if "overloaded" in line and "WARN" in line]


def test_hosts_and_paths_do_not_make_metrics(start: Start) -> None:
    talk = start()

    def shape() -> set[tuple[str, ...]]:
        """Without the counters of status codes, of which there are at most 900."""
        return {
            (
                *(group["type"], str(group["labels"]), *group["gauges"], *group["histograms"]),
                *[key for key in group["counters"] if not re.fullmatch(r"code_\d\d\d", key)],
            )
            for group in talk.metrics.snapshot()
        }

    def ask(number: int) -> None:
        client.sends_whole(b"GET /%d?%d HTTP/1.1\r\nHost: h%d.example\r\nUser-Agent: %d\r\n\r\n" % ((number,) * 4))
        upstream.takes()
        upstream.sends_whole(b"HTTP/1.1 %d Odd\r\nDate: d\r\nContent-Length: 0\r\n\r\n" % (200 + number % 700))
        client.takes()

    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    ask(0)
    before = shape()
    for number in range(1, 400):
        ask(number)
    assert shape() == before


@pytest.mark.parametrize("begin", [b"GET /two HTTP/1.1\r\nHo", b"\r"])
@pytest.mark.parametrize("ends", ["time", "fin", "reset", "bad"])
def test_a_refused_head_is_not_logged_as_the_request_before_it(start: Start, ends: str, begin: bytes) -> None:
    talk = start()
    client, upstream = talk.opening(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    client.sends(begin)
    if ends == "time":
        talk.advance(61)
    elif ends == "fin":
        client.shuts()
    elif ends == "reset":
        client.resets()
    else:
        client.sends(b"st : a\r\n\r\n")
    client.takes()
    assert len(talk.outcomes.exchanges) == 2
    assert talk.outcomes.exchanges[1].request.raw_path != b"/one"


@pytest.mark.parametrize("late", [GET, b"\x00"])
def test_bytes_after_the_last_reply_do_not_destroy_it(start: Start, late: bytes) -> None:
    """RFC 9112 section 9.6: a client that did not ask for the end may have sent more, and a reset would take the reply."""
    client, upstream = start(http1=http_options(max_requests=1)).forwarded(GET)
    upstream.sends(OK)
    client.receives(LAST)
    client.sends(late)
    assert client.is_lingering()
    upstream.receives_nothing()
    client.shuts()
    assert client.is_closed()
