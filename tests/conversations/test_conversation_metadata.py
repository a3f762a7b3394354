"""Fields that a response must have because of its status, and header changes that do not depend on it."""

from __future__ import annotations

import msgspec
import pytest
from tests.kit import GET, Start

from pymosn.assembly.routes import build_table
from pymosn.config.schema import RouterConfiguration

HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
#: Responses of an upstream, with the request and what follows the head.
RESPONSES = {
    "200": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", b"hi"),
    "200 to HEAD": (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", b""),
    "204": (GET, b"HTTP/1.1 204 No Content\r\n", b""),
    "206": (GET, b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n", b"hi"),
    "304": (GET, b"HTTP/1.1 304 Not Modified\r\n", b""),
    "304 to HEAD": (HEAD, b"HTTP/1.1 304 Not Modified\r\n", b""),
    "416": (GET, b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */9\r\nContent-Length: 2\r\n", b"hi"),
}
KEPT = b'Date: d\r\nETag: "1"\r\nVary: x\r\nCache-Control: no-cache\r\nExpires: 0\r\nContent-Location: /a\r\n'


ADDED = (("x-added", "1"), ("cache-control", "no-store"))


@pytest.mark.also_h2
@pytest.mark.parametrize("name", RESPONSES)
def test_header_changes_of_a_route_do_not_depend_on_the_status(start: Start, name: str) -> None:
    request, line, body = RESPONSES[name]
    added = [{"header": {"key": key, "value": value}, "append": False} for key, value in ADDED]
    action = {
        "cluster_name": "service",
        "response_headers_to_add": added,
        "response_headers_to_remove": ["expires", "x-internal"],
    }
    source = {"name": "v", "domains": ["*"], "routers": [{"match": {"prefix": "/"}, "route": action}]}
    configured = {"router_config_name": "t", "virtual_hosts": [source]}
    talk = start(table=build_table(msgspec.convert(configured, RouterConfiguration)))
    client, upstream = talk.opening(request)
    assert upstream.takes()
    upstream.sends(line + KEPT + b"X-Internal: 1\r\n\r\n" + body)
    head, _, rest = client.takes().partition(b"\r\n\r\n")
    fields = sorted(field.lower() for field in head.split(b"\r\n")[1:])
    expected = {b"date: d", b'etag: "1"', b"vary: x", b"content-location: /a", b"x-added: 1", b"cache-control: no-store"}
    assert expected <= set(fields)
    assert not [field for field in fields if field.startswith((b"expires", b"x-internal", b"transfer-encoding"))]
    assert [field for field in fields if field.startswith(b"content-range")] == [
        field.lower() for field in line.split(b"\r\n") if field.startswith(b"Content-Range")
    ]
    assert rest == body


UPGRADE = (
    b"HTTP/1.1 426 Upgrade Required\r\nDate: d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno"
)


def test_a_426_keeps_the_protocol_that_it_demands(start: Start) -> None:
    """RFC 9110 section 15.5.22: such a response must have an Upgrade field, which Connection names."""
    client, upstream = start().forwarded(GET)
    upstream.sends(UPGRADE)
    demand = b"upgrade: websocket\r\n"
    client.receives(
        b"HTTP/1.1 426 Upgrade Required\r\nDate: d\r\nContent-Length: 2\r\n" + demand + b"connection: upgrade\r\n\r\nno"
    )
    client.sends(GET)
    assert upstream.takes()
    upstream.sends(UPGRADE.replace(b"Upgrade: websocket\r\n", b""))
    client.receives(b"HTTP/1.1 426 Upgrade Required\r\nDate: d\r\nContent-Length: 2\r\n\r\nno")


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"503 Service Unavailable"])
def test_other_responses_do_not_pass_on_what_belongs_to_one_hop(start: Start, status: bytes) -> None:
    client, upstream = start().forwarded(GET)
    upstream.sends(UPGRADE.replace(b"426 Upgrade Required", status))
    client.receives(b"HTTP/1.1 " + status + b"\r\nDate: d\r\nContent-Length: 2\r\n\r\nno")


def test_a_426_to_a_client_that_is_closed_names_both_options(start: Start) -> None:
    client, upstream = start().forwarded(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), GET)
    upstream.sends(UPGRADE)
    options = b"connection: upgrade\r\nconnection: close\r\n"
    found = client.takes()
    assert found.endswith(b"upgrade: websocket\r\n" + options + b"\r\nno")


def test_a_405_of_the_proxy_has_an_allow_field(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
    head = client.takes().partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nallow: \r\n" in head
    assert talk.reasons() == ["connect_not_allowed"]
