"""Connections of HTTP/1 that move to the next generation, in every state of a request: the client notices nothing."""

from typing import Any

import pytest
from tests.kit import GET, OK, Start, Talk
from tests.kit.moving import Leaving, arrive, connection_of
from tests.kit.options import http_options

from pymosn.api import ConnectionFilter
from pymosn.api.network import Passage

POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi"


def two(start: Start, **options: Any) -> tuple[Leaving, Talk]:
    """A worker that leaves, and one of the next generation."""
    return Leaving(start(**options)), start(**options)


def serve(talk: Talk, client: Any, request: bytes = GET) -> None:
    """The request, which the client has sent, is answered on a new connection to the host."""
    upstream = talk.expect_dial()
    upstream.receives(request)
    upstream.sends(OK)
    client.receives(OK)
    assert client.is_open()


def test_idle_connection_is_served_by_the_other(start: Start) -> None:
    leaving, other = two(start)
    client = leaving.talk.connect()
    client.sends(GET)
    serve(leaving.talk, client)
    moved = leaving.move(client, other)
    moved.sends(GET)
    serve(other, moved)
    assert leaving.talk.listener.connection_count == 0
    assert leaving.talk.counters()["connection_total"] == 1
    assert not {"connection_active", "connection_destroy", "connection_refused"} & set(leaving.talk.counters())
    assert leaving.talk.counters()["bytes_read_total"] == len(GET)
    assert other.counters()["connection_active"] == 1
    moved.resets()
    assert other.counters()["connection_destroy"] == 1
    assert other.counters()["bytes_read_total"] == len(GET)
    assert "connection_total" not in other.counters()
    assert leaving.talk.reasons() == other.reasons() == ["ok"]


@pytest.mark.whole_only
@pytest.mark.parametrize("size", range(len(GET)))
def test_part_of_a_head_goes_along(start: Start, size: int) -> None:
    leaving, other = two(start)
    client = leaving.talk.connect()
    client.sends(GET[:size])
    moved = leaving.move(client, other)
    moved.sends(GET[size:])
    serve(other, moved)
    assert leaving.talk.reasons() == []
    assert other.reasons() == ["ok"]
    assert leaving.talk.counters().get("bytes_read_total", 0) == size
    moved.resets()
    assert other.counters()["bytes_read_total"] == len(GET) - size


def test_the_time_for_a_head_continues(start: Start) -> None:
    leaving, other = two(start, http1=http_options(header_timeout=10.0))
    client = leaving.talk.connect()
    client.sends(GET[:9])
    leaving.talk.advance(7.0)
    moved = leaving.move(client, other)
    other.advance(2.0)
    assert moved.is_open()
    other.advance(1.5)
    assert not moved.is_open()
    assert other.reasons() == ["request_timeout"]
    moved.takes()


def test_the_time_of_an_idle_connection_continues(start: Start) -> None:
    leaving, other = two(start)
    client = leaving.talk.connect()
    leaving.talk.advance(80.0)
    moved = leaving.move(client, other)
    other.advance(9.0)
    assert moved.is_open()
    other.advance(2.0)
    assert moved.is_closed()


def test_busy_connection_moves_after_its_response(start: Start) -> None:
    leaving, other = two(start)
    client, upstream = leaving.talk.forwarded(GET)
    leaving.notify(client)
    assert leaving.passage(client) is None
    upstream.sends(OK)
    client.receives(OK)  # without `connection: close`
    assert leaving.offers == [connection_of(client)]
    assert not client.is_read()
    moved = leaving.move(client, other)
    moved.sends(GET)
    serve(other, moved)


def test_body_that_is_being_sent_is_awaited(start: Start) -> None:
    leaving, other = two(start)
    client = leaving.talk.connect()
    client.sends(POST + b"ab")
    leaving.notify(client)
    assert leaving.passage(client) is None
    upstream = leaving.talk.expect_dial()
    client.sends(b"cd")
    upstream.receives(POST + b"abcd")
    assert leaving.passage(client) is None
    upstream.sends(OK)
    client.receives(OK)
    moved = leaving.move(client, other)
    moved.sends(POST + b"abcd")
    serve(other, moved, POST + b"abcd")


def test_response_that_is_being_sent_is_awaited(start: Start) -> None:
    leaving, other = two(start)
    client, upstream = leaving.talk.forwarded(GET)
    upstream.sends(OK[:-1])
    leaving.notify(client)
    assert leaving.passage(client) is None
    upstream.sends(OK[-1:])
    client.receives(OK)
    leaving.move(client, other)


@pytest.mark.parametrize("size", [1, len(GET) - 1, len(GET), len(GET) + 9])
def test_pipelined_requests_go_along(start: Start, size: int) -> None:
    leaving, other = two(start)
    client, upstream = leaving.talk.forwarded(GET + (GET + GET)[:size], GET)
    leaving.notify(client)
    upstream.sends(OK)
    client.receives(OK)
    moved = leaving.move(client, other)
    moved.sends((GET + GET)[size:])
    upstream = other.expect_dial()
    for _ in range(2):
        upstream.receives(GET)
        upstream.sends(OK)
    moved.receives(OK + OK)
    assert leaving.talk.reasons() == ["ok"]
    assert other.reasons() == ["ok", "ok"]
    assert moved.is_read()


def test_one_that_was_not_moved_is_served_here(start: Start) -> None:
    """The queue was full: the connection is read again, and offers itself after each response."""
    leaving, other = two(start)
    client, upstream = leaving.talk.forwarded(GET + GET, GET)
    leaving.notify(client)
    upstream.sends(OK)
    client.receives(OK)
    leaving.talk.do(lambda: connection_of(client).network_filter().hold(False))
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    assert len(leaving.offers) == 2
    leaving.move(client, other)


def test_drained_after_all(start: Start) -> None:
    """The next generation has gone meanwhile."""
    leaving, _ = two(start)
    client, upstream = leaving.talk.forwarded(GET)
    leaving.notify(client)
    leaving.notify(client, moves=False)
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_lingering()
    assert leaving.offers == []


def test_a_client_that_does_not_read_keeps_its_connection_here(start: Start) -> None:
    leaving, other = two(start)
    client, upstream = leaving.talk.forwarded(GET)
    leaving.notify(client)
    client.stalls()
    upstream.sends(OK)
    assert leaving.passage(client) is None
    client.reads_on()
    client.receives(OK)
    leaving.move(client, other)


def test_last_request_ends_the_connection_here(start: Start) -> None:
    leaving, _ = two(start)
    client = leaving.talk.connect()
    client.sends(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    leaving.notify(client)
    assert not connection_of(client).departs()
    upstream = leaving.talk.expect_dial()
    upstream.takes()
    upstream.sends(OK)
    client.receives(LAST)
    assert leaving.offers == []


def test_half_closed_connection_ends_here(start: Start) -> None:
    leaving, _ = two(start)
    client, upstream = leaving.talk.forwarded(GET)
    client.shuts()
    assert not connection_of(client).departs()
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_closed()


def test_tunnel_stays(start: Start) -> None:
    leaving, _ = two(start)
    client, upstream = leaving.talk.opening(UPGRADE)
    upstream.takes()
    assert connection_of(client).kind() == "http1"
    upstream.sends(SWITCH)
    client.takes()
    leaving.notify(client)
    assert not connection_of(client).departs()
    assert leaving.passage(client) is None
    assert connection_of(client).kind() == "websocket"
    client.sends(b"ping")
    upstream.receives(b"ping")


def test_the_number_of_requests_is_limited_on_both_sides_together(start: Start) -> None:
    leaving, other = two(start, http1=http_options(max_requests=3))
    client = leaving.talk.connect()
    client.sends(GET)
    serve(leaving.talk, client)
    moved = leaving.move(client, other)
    moved.sends(GET)
    serve(other, moved)
    moved.sends(GET)
    upstream = other.upstreams[0]
    upstream.receives(GET)
    upstream.sends(OK)
    moved.receives(LAST)


def test_more_requests_than_are_allowed_now(start: Start) -> None:
    talk = start(http1=http_options(max_requests=3))
    passage = Passage("Http1")
    passage.requests = 7
    client = arrive(talk, passage)
    client.sends(GET)
    upstream = talk.expect_dial()
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(LAST)


def test_the_age_continues(start: Start) -> None:
    leaving, other = two(start, http1=http_options(max_age=100.0))
    client = leaving.talk.connect()
    leaving.talk.advance(80.0)
    moved = leaving.move(client, other)
    other.advance(25.0)
    assert moved.is_closed()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_before_the_protocol_is_detected(start: Start, count: int) -> None:
    leaving, other = two(start, protocols=["Http1", "bolt"])
    client = leaving.talk.connect()
    client.sends(GET[:count])
    moved = leaving.move(client, other)
    moved.sends(GET[count:])
    serve(other, moved)
    moved.sends(GET)
    other.upstreams[0].receives(GET)
    other.upstreams[0].sends(OK)
    moved.receives(OK)


def test_after_the_protocol_was_detected(start: Start) -> None:
    leaving, other = two(start, protocols=["bolt", "Http1"])
    client = leaving.talk.connect()
    client.sends(GET)
    serve(leaving.talk, client)
    moved = leaving.move(client, other)
    other.advance(60.0)
    assert moved.is_open()
    moved.sends(GET)
    serve(other, moved)


def test_a_protocol_that_is_not_spoken_any_more(start: Start) -> None:
    talk = start()
    client = arrive(talk, Passage("bolt"))
    assert client.is_closed()
    assert talk.counters() == {}


def test_address_of_a_proxy(start: Start) -> None:
    talk = start()
    passage = Passage("Http1")
    passage.remote_ip, passage.remote_port, passage.local_ip, passage.local_port = "203.0.113.9", 1234, "198.51.100.1", 443
    passage.original_destination = "198.51.100.2:80"
    connection = connection_of(arrive(talk, passage))
    assert (connection.remote_ip, connection.direct_ip()) == ("203.0.113.9", "192.0.2.7")
    assert connection.destination() == ("198.51.100.2", 80)


def test_limits_do_not_refuse_it(start: Start) -> None:
    leaving, other = two(start)
    other.listener.max_connections = 1
    other.connect()
    client = leaving.talk.connect()
    moved = leaving.move(client, other)
    moved.sends(GET)
    serve(other, moved)


def test_a_draining_listener_drains_it(start: Start) -> None:
    leaving, other = two(start)
    client = leaving.talk.connect()
    other.drain()
    moved = leaving.move(client, other)
    other.advance(1.0)
    assert moved.is_closed()


@pytest.mark.also_tls
@pytest.mark.also_h2
def test_what_cannot_move_is_told_with_its_response(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET)
    talk.do(lambda: talk.listener.connections()[0].on_depart(False))
    talk.advance(5.0)
    upstream.sends(OK)
    client.receives(LAST)
    assert client.is_lingering()


@pytest.mark.also_tls
def test_silent_one_is_closed_in_order_at_the_end(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(GET)
    serve(talk, client)
    connection = talk.listener.connections()[0]
    talk.do(lambda: connection.on_depart(False))
    talk.advance(20.0)
    assert client.is_open()
    talk.do(connection.end_departure)
    assert client.is_closed()
    assert not client.is_reset()


def test_busy_one_is_reset_at_the_end(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET)
    talk.do(talk.listener.connections()[0].end_departure)
    assert client.is_reset()
    assert upstream.is_reset()


def test_tls_never_moves() -> None:
    leaving = Leaving(Talk(is_secure=True))
    client = leaving.talk.connect()
    client.sends(GET)
    serve(leaving.talk, client)
    connection = leaving.talk.listener.connections()[0]
    assert not connection.departs()
    assert leaving.talk.listener.passage_of(connection) is None
    assert connection.kind() == "http1 over TLS"
    leaving.talk.end()


class Guard(ConnectionFilter):
    """Counts the notifications."""

    drains = 0

    def on_drain(self) -> None:
        Guard.drains += 1


def test_connection_filters_keep_their_connection(start: Start) -> None:
    Guard.drains = 0
    leaving = Leaving(start(connection_filters={"guard": Guard}))
    client = leaving.talk.connect()
    client.sends(GET)
    serve(leaving.talk, client)
    connection = connection_of(client)
    assert not connection.departs()
    assert leaving.passage(client) is None
    assert connection.kind() == "filtered"
    leaving.notify(client, moves=False)
    assert Guard.drains == 1


def test_bytes_of_tcp_proxy_keep_their_connection(start: Start) -> None:
    leaving = Leaving(start(protocols=["Http1"], tcp={}))
    client = leaving.talk.connect()
    upstream = leaving.talk.expect_dial()
    connection = connection_of(client)
    assert not connection.departs()
    assert leaving.passage(client) is None
    assert connection.kind() == "tcp"
    leaving.notify(client, moves=False)
    client.sends(b"a")
    upstream.receives(b"a")
    leaving.talk.do(connection.end_departure)
    assert client.is_reset()


def test_nothing_touches_the_socket_after_the_departure(start: Start) -> None:
    """Not even a timeout or a reset: SO_LINGER would be set for the other process too."""
    leaving, other = two(start)
    client = leaving.talk.connect()
    connection = connection_of(client)
    passage = leaving.passage(client)
    assert passage is not None
    leaving.talk.listener.depart(connection)
    assert connection.transport_socket() is None
    leaving.talk.do(leaving.talk.listener.abort_all)
    leaving.talk.advance(200.0)
    arrive(other, passage)
