"""CONNECT: refused unless the listener allows it, then a TCP tunnel to the cluster's host, or passed on to another proxy."""

import pytest
from tests.kit import DATE, GET, OK, Peer, Start, Talk, forward
from tests.kit.options import http_options

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.core.message import CONNECT, CONNECT_HERE
from pymosn.routing.actions import DirectResponse, Forward, ForwardOptions
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.table import RouteTable, VirtualHost
from pymosn.stream.http.options import HttpOptions

ASK = b"CONNECT Db.example:5432 HTTP/1.1\r\nHost: db.example\r\nProxy-Authorization: x\r\nX-Own: 1\r\n\r\n"
ASKED = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\nX-Own: 1\r\n\r\n"
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
HERE = http_options(connect=CONNECT_HERE)
ON = http_options(connect=CONNECT)
TEXT = b"content-type: text/plain; charset=utf-8\r\n"


def refusal(status: bytes) -> bytes:
    body = status + b"\n"
    head = b"HTTP/1.1 " + status + b"\r\n" + TEXT + b"content-length: %d\r\n" % len(body) + DATE
    return head + b"connection: close\r\n\r\n" + body


# ---- a TCP tunnel that begins here


def test_tcp_tunnel(start: Start) -> None:
    talk = start(http1=HERE)
    client, upstream = talk.opening(ASK)
    client.receives(OPEN)
    upstream.receives_nothing()
    client.sends(b"\x00\x01")
    upstream.sends(b"SSH-2.0\r\n")
    assert upstream.takes() == b"\x00\x01"
    assert client.takes() == b"SSH-2.0\r\n"
    upstream.shuts()
    assert client.has_fin()
    client.sends(b"bye")
    assert upstream.takes() == b"bye"
    client.shuts()
    assert client.is_closed()
    assert upstream.is_closed()
    (exchange,) = talk.outcomes.exchanges
    assert (exchange.bytes_received, exchange.bytes_sent, exchange.request.tunnel) == (5, 9, "TCP")
    assert talk.reasons() == ["ok"]


@pytest.mark.whole_only
def test_a_server_that_sends_before_the_dial_is_reported(start: Start) -> None:
    talk = start(http1=HERE)
    client = talk.connect()
    client.sends(ASK)
    dial = talk.hold_dial()
    upstream = dial.connects(greeting=b"SSH-2.0\r\n")
    client.receives(OPEN + b"SSH-2.0\r\n")
    assert upstream.is_read()


@pytest.mark.parametrize("leaves", [False, True])
def test_http_server_that_speaks_first(start: Start, leaves: bool) -> None:
    """E3: its bytes are not a response to this request, nor to the next one."""
    talk = start()
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    if leaves:
        client.resets()
    upstream = dial.connects(greeting=OK)
    assert upstream.is_reset()
    if not leaves:
        upstream.receives(GET)
        assert client.takes().startswith(b"HTTP/1.1 502 ")
    second = talk.connect()
    second.sends(GET)
    talk.expect_dial().receives(GET)
    assert talk.reasons() == ["client_gone" if leaves else "bad_response"]


@pytest.mark.parametrize("is_ended_here", [True, False])
def test_a_route_decides_instead_of_the_listener(start: Start, is_ended_here: bool) -> None:
    mode = CONNECT_HERE if is_ended_here else CONNECT
    route = Route("own", AnyRequest(), Forward("service", 60.0, ForwardOptions(connect=mode)))
    talk = start(routes=[route], http1=ON if is_ended_here else HERE)
    client, upstream = talk.opening(ASK)
    if is_ended_here:
        upstream.receives_nothing()
    else:
        upstream.receives(ASKED)
        upstream.sends(OK)
    assert client.takes().startswith(b"HTTP/1.1 200 ")
    client.sends(b"x")
    assert upstream.takes() == b"x"


def test_early_bytes_wait_for_the_connection(start: Start) -> None:
    talk = start(http1=HERE)
    client = talk.connect()
    client.sends(ASK + b"\x16\x03hello")
    dial = talk.hold_dial()
    client.receives_nothing()
    upstream = dial.connects()
    client.receives(OPEN)
    assert upstream.takes() == b"\x16\x03hello"


def test_pooled_connections_carry_no_tunnel(start: Start) -> None:
    talk = start(http1=HERE)
    first, pooled = talk.forwarded(GET)
    pooled.sends(OK)
    first.receives(OK)
    client, upstream = talk.opening(ASK)
    client.receives(OPEN)
    client.sends(b"x")
    assert upstream.takes() == b"x"
    pooled.receives_nothing()


def test_next_host_when_one_cannot_be_connected_to(start: Start) -> None:
    talk = start(http1=HERE, hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client = talk.connect()
    client.sends(ASK)
    talk.refuse_dial("10.0.0.1:80")
    upstream = talk.expect_dial("10.0.0.2:80")
    client.receives(OPEN)
    client.sends(b"x")
    assert upstream.takes() == b"x"


def test_no_host_to_connect_to(start: Start) -> None:
    """Bytes sent for the tunnel are not a request."""
    talk = start(http1=HERE)
    client = talk.connect()
    client.sends(ASK + GET)
    talk.refuse_dial()
    client.receives(refusal(b"502 Bad Gateway"))
    assert client.is_lingering()
    talk.expect_no_dial()
    assert talk.reasons() == ["connect_refused"]


@pytest.mark.parametrize("leaver", ["client", "upstream"])
def test_resets(start: Start, leaver: str) -> None:
    client, upstream = start(http1=HERE).opening(ASK)
    client.receives(OPEN)
    (client if leaver == "client" else upstream).resets()
    assert (upstream if leaver == "client" else client).is_reset()


def test_client_gone_while_dialing(start: Start) -> None:
    talk = start(http1=HERE)
    client = talk.connect()
    client.sends(ASK)
    dial = talk.hold_dial()
    client.resets()
    dial.connects().receives_nothing()
    assert talk.reasons() == ["client_gone"]


# ---- where it goes


def test_routed_by_its_target_and_not_by_its_host_field(start: Start) -> None:
    table = RouteTable("table")
    table.add(VirtualHost("db", ["db.example:5432"], [Route("db", AnyRequest(), Forward("other", 60.0))]))
    table.add(VirtualHost("rest", ["*"], [Route("rest", AnyRequest(), DirectResponse(403, "no"))]))
    talk = start(http1=HERE, table=table)
    client, upstream = talk.opening(ASK, address="10.0.1.1:80")
    client.receives(OPEN)
    assert upstream.is_open()
    second = talk.connect()
    second.sends(ASK.replace(b"Db.example:5432", b"evil:1").replace(b"Host: db.example", b"Host: db.example:5432") + GET)
    assert second.takes().startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert second.is_lingering()
    talk.expect_no_dial()


class Guard(StreamFilter):
    def on_request(self, exchange: Exchange) -> Reply | None:
        assert exchange.request.method == "CONNECT"
        return Reply(403, "no", {"content-type": "text/plain"})


def test_a_filter_refuses(start: Start) -> None:
    talk = start(http1=HERE, filters={"guard": Guard({})})
    client = talk.connect()
    client.sends(ASK)
    client.receives(
        b"HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n"
        + DATE
        + b"connection: close\r\n\r\nno"
    )
    assert client.is_lingering()


class Body(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.set_body(b"body")


@pytest.mark.parametrize("options", [HERE, ON])
def test_a_filter_cannot_give_it_a_body(start: Start, options: HttpOptions) -> None:
    talk = start(http1=options, filters={"body": Body({})})
    client, upstream = talk.opening(ASK)
    client.receives(refusal(b"500 Internal Server Error"))
    upstream.receives_nothing()
    assert talk.reasons() == ["filter_error"]


# ---- refused


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (ASK.replace(b"Db.example:5432", target), b"400 Bad Request")
        for target in (b"a", b"a:", b":1", b"[::1]", b"a:b", b"a:99999", b"/", b"http://a:1/", b"u@a:1", b"a:1?q", b"*")
    ]
    + [
        (ASK.replace(b"X-Own", b"Content-Length: 1\r\nX-Own") + b"x", b"400 Bad Request"),
        (ASK.replace(b"X-Own", b"Transfer-Encoding: chunked\r\nX-Own") + b"0\r\n\r\n", b"400 Bad Request"),
    ],
)
def test_requests_that_are_not_a_valid_connect(start: Start, request_bytes: bytes, status: bytes) -> None:
    talk = start(http1=HERE)
    client = talk.connect()
    client.sends(request_bytes)
    client.receives(refusal(status))
    talk.expect_no_dial()


def test_refused_by_default(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(ASK)
    refused = b"HTTP/1.1 405 Method Not Allowed\r\n"
    client.receives(refusal(b"405 Method Not Allowed").replace(refused, refused + b"allow: \r\n"))
    assert talk.reasons() == ["connect_not_allowed"]


# ---- passed on to another proxy


def passed_on(talk: Talk) -> tuple[Peer, Peer]:
    client, upstream = talk.forwarded(ASK, ASKED)
    return client, upstream


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ],
)
@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content"])
def test_agreement_of_another_proxy(start: Start, status: bytes, fields: bytes) -> None:
    """RFC 9110 section 9.3.6: its body fields are ignored, and not forwarded."""
    talk = start(http1=ON)
    client, upstream = passed_on(talk)
    upstream.sends(b"HTTP/1.1 " + status + b"\r\nVia: p\r\n" + fields + b"\r\n" + b"0\r\n\r\nhello")
    assert client.takes() == b"HTTP/1.1 " + status + b"\r\nVia: p\r\n\r\n0\r\n\r\nhello"
    client.sends(GET)
    assert upstream.takes() == GET
    upstream.shuts()
    client.shuts()
    assert client.is_closed()
    assert upstream.is_closed()
    assert talk.reasons() == ["ok"]


def test_refusal_of_another_proxy(start: Start) -> None:
    talk = start(http1=ON)
    client, upstream = talk.forwarded(ASK + GET, ASKED)
    upstream.sends(b"HTTP/1.1 403 Forbidden\r\nDate: d\r\nContent-Length: 2\r\n\r\nno")
    client.receives(b"HTTP/1.1 403 Forbidden\r\nDate: d\r\nContent-Length: 2\r\nconnection: close\r\n\r\nno")
    assert client.is_lingering()
    upstream.receives_nothing()
    assert talk.reasons() == ["ok"]


@pytest.mark.parametrize("reply", [b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: connect\r\n\r\n", b"SSH-2.0\r\n"])
def test_nonsense_of_another_proxy(start: Start, reply: bytes) -> None:
    talk = start(http1=ON)
    client, upstream = passed_on(talk)
    upstream.sends(reply)
    client.receives(refusal(b"502 Bad Gateway"))
    assert upstream.is_reset()


def test_a_post_to_the_same_routes_is_forwarded_as_before(start: Start) -> None:
    talk = start(http1=HERE, routes=forward())
    client, upstream = talk.opening(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
