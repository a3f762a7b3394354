"""What a listener says about itself, and what it removes from the hosts of requests."""

from typing import Any

import pytest
from tests.kit import GET, Start, forward

ANSWER = b"HTTP/1.1 200 OK\r\nServer: app\r\nDate: d\r\nContent-Length: 0\r\n\r\n"
BARE = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("options", "sent", "received"),
    [
        ({}, ANSWER, ANSWER),
        ({"server": b"edge"}, ANSWER, BARE[:-2] + b"server: edge\r\n\r\n"),
        ({"server": b"edge", "keeps_server": True}, ANSWER, ANSWER),
        ({"server": b"edge", "keeps_server": True}, BARE, BARE[:-2] + b"server: edge\r\n\r\n"),
    ],
)
def test_the_server_of_responses(start: Start, options: dict[str, Any], sent: bytes, received: bytes) -> None:
    talk = start(forwarding=options)
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(sent)
    client.receives(received)


def test_the_server_of_local_replies(start: Start) -> None:
    talk = start(forwarding={"server": b"edge"}, routes=forward("nowhere"))
    client = talk.connect()
    client.sends(GET)
    assert b"server: edge\r\n" in client.takes()


@pytest.mark.parametrize(
    ("options", "host", "expected"),
    [
        ({"any_port": True}, b"A.example:8080", b"a.example"),
        ({"any_port": True}, b"[::1]:8080", b"[::1]"),
        ({"any_port": True}, b"[::1]", b"[::1]"),
        ({"own_port": True}, b"a.example:2046", b"a.example"),
        ({"own_port": True}, b"a.example:02046", b"a.example"),
        ({"own_port": True}, b"a.example:81", b"a.example:81"),
        ({"trailing_dot": True}, b"a.example.", b"a.example"),
        ({"trailing_dot": True}, b"a.example.:81", b"a.example:81"),
        ({"trailing_dot": True}, b".", b"."),
    ],
)
def test_what_is_removed_from_the_host(start: Start, options: dict[str, Any], host: bytes, expected: bytes) -> None:
    talk = start(forwarding=options)
    _, upstream = talk.opening(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    upstream.receives(b"GET / HTTP/1.1\r\nHost: " + expected + b"\r\n\r\n")


def test_ids_of_clients_are_replaced(start: Start) -> None:
    talk = start(x_request_id=True, forwarding={"replaces_request_id": True})
    _, upstream = talk.opening(b"GET / HTTP/1.1\r\nHost: a\r\nx-request-id: mine\r\n\r\n")
    sent = upstream.takes()
    assert sent.count(b"x-request-id: ") == 1
    assert b"mine" not in sent
