"""Replies that the proxy makes itself, pipelining, and requests that it refuses."""

import pytest
from tests.kit import DATE, GET, OK, Start, forward
from tests.kit.options import http_limits, http_options

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.routing.actions import DirectResponse, Forward, ForwardWeighted, Redirect, Target
from pymosn.routing.matchers import AnyRequest, Path, Prefix
from pymosn.routing.table import RouteTable, VirtualHost

pytestmark = pytest.mark.also_h2

TEXT = b"content-type: text/plain; charset=utf-8\r\n"
HELLO = b"HTTP/1.1 200 OK\r\n" + TEXT + b"content-length: 5\r\n" + DATE + b"\r\nhello"


def routes() -> list[Route]:
    return [
        Route("direct", Path("/direct"), DirectResponse(200, "hello")),
        Route("nothing", Path("/nothing"), DirectResponse(204, "must not be sent")),
        Route("same", Path("/same"), DirectResponse(304, "must not be sent")),
        Route("old", Prefix("/old"), Redirect(301, "https", "", "/new")),
        *forward(),
    ]


def ask(path: bytes, method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def failure(status: bytes, extra: bytes = b"connection: close\r\n") -> bytes:
    body = status + b"\n"
    return b"HTTP/1.1 " + status + b"\r\n" + TEXT + b"content-length: %d\r\n" % len(body) + DATE + extra + b"\r\n" + body


def test_direct_response(start: Start) -> None:
    talk = start(routes=routes())
    client = talk.connect()
    client.sends(ask(b"/direct"))
    client.receives(HELLO)
    client.sends(ask(b"/direct", b"HEAD"))
    client.receives(HELLO[:-5])
    assert client.is_open()
    assert talk.reasons() == ["ok", "ok"]


def test_trailers_of_a_request_that_is_already_answered(start: Start) -> None:
    """They arrive in one read with the request, which is answered without them."""
    talk = start(routes=routes())
    client = talk.connect()
    chunked = b"POST /direct HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n"
    client.sends_whole(chunked + ask(b"/direct"))
    client.receives(HELLO + HELLO)
    assert client.is_open()
    assert talk.reasons() == ["ok", "ok"]


@pytest.mark.parametrize(("path", "line"), [(b"/nothing", b"204 No Content"), (b"/same", b"304 Not Modified")])
def test_status_without_content_carries_none(start: Start, path: bytes, line: bytes) -> None:
    talk = start(routes=routes())
    client = talk.connect()
    client.sends(ask(path) + ask(b"/direct"))
    client.receives(b"HTTP/1.1 " + line + b"\r\n" + DATE + b"\r\n" + HELLO)


def test_redirect_keeps_the_query(start: Start) -> None:
    talk = start(routes=routes())
    client = talk.connect()
    client.sends(b"GET /old?x=1 HTTP/1.1\r\nHost: a:80\r\n\r\n")
    client.receives(
        b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://a/new?x=1\r\ncontent-length: 0\r\n" + DATE + b"\r\n"
    )


@pytest.mark.http1_only("pipelining")
def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    talk = start(routes=routes())
    client, upstream = talk.opening(ask(b"/one") + ask(b"/direct") + ask(b"/two") + ask(b"/nothing") + ask(b"/direct"))
    upstream.receives(ask(b"/one"))
    client.receives_nothing()
    assert not client.is_read(), "pipelined bytes wait in the client's socket"
    upstream.sends(OK)
    client.receives(OK + HELLO)
    upstream.receives(ask(b"/two"))
    upstream.sends(OK)
    client.receives(OK + b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n" + HELLO)
    assert client.is_read()
    assert client.is_open()


def test_a_thousand_pipelined_direct_responses(start: Start) -> None:
    talk = start(routes=routes())
    client = talk.connect()
    client.sends_whole(ask(b"/direct") * 1000)
    client.receives(HELLO * 1000)
    assert talk.counters()["request_total"] == 1000


def test_a_thousand_pipelined_requests_through_one_connection(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends_whole(GET * 1000)
    upstream = talk.expect_dial()
    for _ in range(1000):
        upstream.receives(GET)
        upstream.sends_whole(OK)
    client.receives(OK * 1000)
    talk.expect_no_dial()


@pytest.mark.http1_only("pipelining")
def test_pipelined_close_ends_the_connection(start: Start) -> None:
    talk = start(routes=routes())
    client = talk.connect()
    client.sends_whole(b"GET /direct HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + ask(b"/direct"))
    client.receives(HELLO.replace(DATE, DATE + b"connection: close\r\n"))
    assert client.is_lingering()
    assert talk.counters()["request_total"] == 1


@pytest.mark.whole_only
def test_body_that_is_here_is_skipped_before_the_next_request(start: Start) -> None:
    talk = start(routes=routes())
    client = talk.connect()
    client.sends(b"POST /direct HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\n\r\n" + GET + ask(b"/direct"))
    client.receives(HELLO + HELLO)
    assert client.is_open()


@pytest.mark.http1_only("pipelining")
def test_body_that_is_not_here_is_never_read_as_a_request(start: Start) -> None:
    talk = start(routes=routes())
    client = talk.connect()
    client.sends(b"POST /direct HTTP/1.1\r\nHost: a\r\nContent-Length: 54\r\n\r\n")
    client.receives(HELLO.replace(DATE, DATE + b"connection: close\r\n"))
    client.sends(GET + GET)
    client.sends(GET)
    talk.expect_no_dial()
    assert client.is_lingering()
    client.shuts()
    assert client.is_closed()
    assert talk.counters()["request_total"] == 1


class Guard(StreamFilter):
    """Answers everything below /private."""

    def on_request(self, exchange: Exchange) -> Reply | None:
        return Reply(401, "who?", {"WWW-Authenticate": "Basic"}) if exchange.request.path.startswith("/private") else None


def test_reply_of_a_filter_then_a_further_request(start: Start) -> None:
    talk = start(filters={"guard": Guard({})})
    client = talk.connect()
    client.sends(ask(b"/private/x") + GET)
    client.receives(
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n" + TEXT + b"content-length: 4\r\n" + DATE + b"\r\nwho?"
    )
    upstream = talk.expect_dial()
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.http1_only("connection: close")
def test_reply_of_a_filter_while_the_body_is_unread(start: Start) -> None:
    talk = start(filters={"guard": Guard({})})
    client = talk.connect()
    client.sends(b"POST /private HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    assert client.takes().endswith(DATE + b"connection: close\r\n\r\nwho?")
    client.sends(b"cde\r\n0\r\n\r\n" + GET)
    talk.expect_no_dial()
    assert client.is_lingering()


# ---- requests that are refused

LIMITS = http_options(limits=http_limits(300, 10, 50))


@pytest.mark.http1_only("bytes of HTTP/1")
@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX:\x01\r\n\r\n", b"400 Bad Request", "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request", "bad_host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", b"400 Bad Request", "bad_framing"),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", b"400 Bad Request", "bad_target"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 51\r\n\r\n", b"413 Request Entity Too Large", "body_too_large"),
        (b"GET /" + b"x" * 400, b"414 Request-URI Too Long", "target_too_long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: cake\r\n\r\n", b"417 Expectation Failed", "bad_expectation"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 400 + b"\r\n\r\n",
            b"431 Request Header Fields Too Large",
            "headers_too_large",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 10 + b"\r\n",
            b"431 Request Header Fields Too Large",
            "headers_too_large",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"501 Not Implemented",
            "unknown_transfer_coding",
        ),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"505 HTTP Version Not Supported", "bad_version"),
    ],
)
def test_refusal(start: Start, request_bytes: bytes, status: bytes, reason: str) -> None:
    talk = start(http1=LIMITS, routes=routes())
    client = talk.connect()
    client.sends(ask(b"/direct") + request_bytes)
    client.receives(HELLO + failure(status))
    assert client.is_lingering()
    client.sends(GET)
    talk.expect_no_dial()
    assert talk.reasons() == ["ok", reason]
    assert talk.counters()["request_failed"] == 1
    talk.advance(6)
    assert client.is_closed()


@pytest.mark.http1_only("broken chunks")
@pytest.mark.parametrize(
    ("rest", "status", "reason"),
    [
        (b"g\r\n", b"400 Bad Request", "bad_body"),
        (b"1\r\nabc\r\n", b"400 Bad Request", "bad_body"),
        (b"40\r\n" + b"x" * 64, b"413 Request Entity Too Large", "body_too_large"),
    ],
)
def test_body_that_breaks_while_the_upstream_waits(start: Start, rest: bytes, status: bytes, reason: str) -> None:
    talk = start(http1=LIMITS)
    client, upstream = talk.opening(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream.receives(b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    client.sends(rest)
    assert b"\r\n0\r\n" not in upstream.takes(), "the upstream must not see a clean end"
    client.receives(failure(status))
    assert upstream.is_reset()
    assert client.is_lingering()
    assert talk.reasons() == [reason]


@pytest.mark.http1_only("broken chunks")
def test_body_that_breaks_after_the_reply_began(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream.takes()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\nab")
    client.takes()
    client.sends(b"zzz\r\n")
    client.receives_nothing()
    assert client.is_lingering()
    assert upstream.is_reset()
    assert talk.reasons() == ["bad_body"]


# ---- routing


def test_no_host_to_send_it_to(start: Start) -> None:
    talk = start(
        routes=[Route("x", Path("/x"), Forward("gone", 1.0)), Route("y", Path("/y"), Forward("service", 1.0))], hosts=[]
    )
    client = talk.connect()
    client.sends(ask(b"/x") + ask(b"/y") + ask(b"/z"))
    lost = failure(b"404 Not Found", b"")
    client.receives(lost + failure(b"502 Bad Gateway", b"") + lost)
    assert talk.reasons() == ["cluster_unknown", "no_hosts", "no_route"]
    assert client.is_open()


def test_no_virtual_host_and_no_router(start: Start) -> None:
    table = RouteTable("t")
    table.add(VirtualHost("v", ["b.example"], forward()))
    talk = start(table=table)
    client = talk.connect()
    client.sends(GET)
    client.receives(failure(b"404 Not Found", b""))
    talk.slot.table = None
    client.sends(GET)
    client.receives(failure(b"404 Not Found", b""))
    assert talk.reasons() == ["no_virtual_host", "no_router"]


def test_reason_header(start: Start) -> None:
    talk = start(reason_header=True, hosts=[])
    client = talk.connect()
    client.sends(GET)
    assert b"\r\nx-pymosn-reason: no_hosts\r\n" in client.takes()


def test_unhealthy_hosts_are_not_asked(start: Start) -> None:
    talk = start()
    talk.clusters.by_name["service"].hosts[0].is_healthy = False
    client = talk.connect()
    client.sends(GET)
    client.receives(failure(b"502 Bad Gateway", b""))
    assert talk.reasons() == ["all_unhealthy"]


def test_with_envoys_statuses_an_upstream_that_is_not_reached_is_503(start: Start) -> None:
    talk = start(envoy_statuses=True, hosts=[])
    client = talk.connect()
    client.sends(GET)
    client.receives(failure(b"503 Service Unavailable", b""))
    assert talk.reasons() == ["no_hosts"]


def test_with_envoys_statuses_an_invalid_response_is_502(start: Start) -> None:
    talk = start(envoy_statuses=True)
    client, upstream = talk.forwarded(GET)
    upstream.sends(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    client.receives(failure(b"502 Bad Gateway", b""))
    assert talk.reasons() == ["bad_response"]


def test_weighted_clusters(start: Start) -> None:
    talk = start(routes=[Route("w", AnyRequest(), ForwardWeighted([(Target("service"), 0), (Target("other"), 7)], 60.0))])
    client, upstream = talk.forwarded(GET, address="10.0.1.1:80")
    upstream.sends(OK)
    client.receives(OK)


def test_round_robin_over_hosts(start: Start) -> None:
    talk = start(hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client = talk.connect()
    for address in ("10.0.0.1:80", "10.0.0.2:80"):
        client.sends(GET)
        upstream = talk.expect_dial(address)
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(OK)
    client.sends(GET)
    talk.upstreams[0].receives(GET)


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_overflow(start: Start) -> None:
    talk = start(max_connections=1)
    first, second = talk.connect(), talk.connect()
    first.sends(GET)
    second.sends(GET)
    second.receives(failure(b"503 Service Unavailable", b""))
    upstream = talk.expect_dial()
    upstream.receives(GET)
    upstream.sends(OK)
    first.receives(OK)
    second.sends(GET)
    upstream.receives(GET)
    assert talk.reasons() == ["overflow", "ok"]
    assert talk.upstream_counters()["request_pending_overflow"] == 1
