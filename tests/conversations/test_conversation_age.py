"""The age of HTTP/1 connections of clients: `max_connection_age`."""

from tests.kit import GET, OK, Start
from tests.kit.options import http_options


def test_an_old_connection_ends_with_its_next_response(start: Start) -> None:
    talk = start(http1=http_options(max_age=10.0))
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    talk.advance(9.9)
    client.sends(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    talk.advance(0.2)
    client.sends(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))


def test_an_idle_connection_ends_when_it_is_old(start: Start) -> None:
    talk = start(http1=http_options(max_age=10.0))
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    talk.advance(10.2)
    assert client.is_closed()
