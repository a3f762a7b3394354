"""Requests and replies that go well."""

import pytest
from tests.kit import DATE, GET, OK, Start
from tests.kit.options import http1_policy, http_options

pytestmark = [pytest.mark.also_tls, pytest.mark.also_h2]


def test_get(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(
        b"GET /x?y=1 HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n\r\n", address="10.0.0.1:80"
    )
    upstream.sends(b"HTTP/1.1 200 OK\r\nServer: u\r\nContent-Length: 5\r\n\r\nhello")
    client.receives(b"HTTP/1.1 200 OK\r\nServer: u\r\nContent-Length: 5\r\n" + DATE + b"\r\nhello")
    assert client.is_open()
    assert upstream.is_open()
    assert talk.reasons() == ["ok"]
    assert talk.counters()["request_200_total"] == 1
    assert talk.upstream_counters()["response_success"] == 1


def test_upstream_connection_is_used_again(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(GET)
    for _ in range(3):
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(OK)
        client.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    talk.expect_no_dial()
    assert talk.upstream_counters()["connection_total"] == 1


def test_two_clients_at_once_use_two_connections(start: Start) -> None:
    talk = start()
    first, second = talk.connect(), talk.connect()
    first.sends(GET)
    second.sends(GET)
    one, two = talk.expect_dial(), talk.expect_dial()
    one.receives(GET)
    two.receives(GET)
    two.sends(OK)
    second.receives(OK)
    first.receives_nothing()
    one.sends(OK)
    first.receives(OK)


def test_post_with_length(start: Start) -> None:
    client, upstream = start().opening(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
    client.sends(b"56789")
    upstream.receives(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789")
    upstream.sends(OK)
    client.receives(OK)
    assert client.is_open()
    assert upstream.is_open()


def test_post_in_chunks(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n")
    upstream.receives(b"POST /a HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    client.sends(b"2\r\nde\r\n0\r\n\r\n")
    if not talk.one_byte:
        upstream.receives(b"2\r\nde\r\n0\r\n\r\n")
    else:
        assert upstream.takes() == b"1\r\nd\r\n1\r\ne\r\n0\r\n\r\n"
    upstream.sends(OK)
    client.receives(OK)
    assert client.is_open()
    assert upstream.is_open()


def test_reply_in_chunks(start: Start) -> None:
    client, upstream = start().forwarded(GET)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\n")
    upstream.sends(b"de\r\n0\r\n\r\n")
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert client.is_open()
    assert upstream.is_open()


@pytest.mark.http1_only("chunks")
@pytest.mark.whole_only
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_reply_in_chunks_that_is_here_at_once_gets_a_length(start: Start, version: bytes) -> None:
    talk = start()
    client, upstream = talk.forwarded(b"GET / " + version + b"\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", GET)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    keeps = b"connection: keep-alive\r\n" if version == b"HTTP/1.0" else b""
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\ncontent-length: 5\r\n" + keeps + b"\r\nabcde")
    assert client.is_open()


def test_head(start: Start) -> None:
    talk = start()
    client = talk.connect()
    head = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
    client.sends(head + GET)
    upstream = talk.expect_dial()
    upstream.receives(head)
    reply = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 500\r\n\r\n"
    upstream.sends(reply)
    client.receives(reply)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


def test_head_with_chunked_reply_head(start: Start) -> None:
    client, upstream = start().opening(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.takes()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\n\r\n")
    assert upstream.is_open()


@pytest.mark.parametrize(
    ("reply", "relayed"),
    [
        (b"HTTP/1.1 204 No Content\r\nDate: d\r\n\r\n", b"HTTP/1.1 204 No Content\r\nDate: d\r\n\r\n"),
        (b"HTTP/1.1 204 No Content\r\nDate: d\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 204 No Content\r\nDate: d\r\n\r\n"),
        (b"HTTP/1.1 304 Not Modified\r\nDate: d\r\nContent-Length: 7\r\n\r\n",) * 2,
        (b"HTTP/1.1 304 Not Modified\r\nDate: d\r\nETag: x\r\n\r\n",) * 2,
        (b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 0\r\n\r\n",) * 2,
        (b"HTTP/1.1 299 My own\r\nDate: d\r\nContent-Length: 0\r\n\r\n",) * 2,
        (b"HTTP/1.1 200 Fine\r\nDate: d\r\nContent-Length: 0\r\n\r\n",) * 2,
    ],
)
def test_reply_without_body(start: Start, reply: bytes, relayed: bytes) -> None:
    client, upstream = start().forwarded(GET + GET, GET)
    upstream.sends(reply)
    client.receives(relayed)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


def test_interim_replies_are_relayed(start: Start) -> None:
    client, upstream = start().forwarded(GET)
    upstream.sends(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    client.receives(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    upstream.sends(b"HTTP/1.1 102 Processing\r\n\r\n" + OK)
    client.receives(b"HTTP/1.1 102 Processing\r\n\r\n" + OK)
    assert upstream.is_open()


@pytest.mark.http1_only("HTTP/1.0")
def test_interim_replies_do_not_go_to_http_1_0(start: Start) -> None:
    client, upstream = start().forwarded(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", GET)
    upstream.sends(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi")
    assert client.is_lingering()


def test_flood_of_interim_replies_is_cut(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 101)
    assert client.takes().count(b"HTTP/1.1 103 ") == 100
    assert upstream.is_reset()
    assert talk.reasons() == ["bad_response"]


def test_expect_continue(start: Start) -> None:
    talk = start()
    client = talk.connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    client.sends(head)
    upstream = talk.expect_dial()
    upstream.receives(head)
    upstream.sends(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.receives(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.sends(b"abc")
    upstream.receives(b"abc")
    upstream.sends(OK)
    client.receives(OK)
    assert client.is_open()
    assert upstream.is_open()


def test_expect_continue_refused_by_upstream(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    upstream.takes()
    upstream.sends(b"HTTP/1.1 401 Unauthorized\r\nDate: d\r\nContent-Length: 0\r\n\r\n")
    client.receives(b"HTTP/1.1 401 Unauthorized\r\nDate: d\r\nContent-Length: 0\r\nconnection: close\r\n\r\n")
    assert client.is_lingering()
    assert upstream.is_closed()
    client.sends(b"abc")
    upstream.receives_nothing()


TAKES_TRAILERS = b"POST / HTTP/1.1\r\nHost: a\r\nconnection: te\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n"


def test_trailers_of_the_request(start: Start) -> None:
    talk = start()
    client = talk.connect()
    body = b"3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n"
    client.sends(b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    upstream = talk.expect_dial()
    upstream.receives(TAKES_TRAILERS + body)
    upstream.sends(OK)
    client.receives(OK)
    assert client.is_open()


@pytest.mark.http1_only("trailers are always accepted")
def test_trailers_of_a_request_that_does_not_speak_of_them(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n"
    )
    upstream.receives(b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n")
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    assert client.is_open()
    assert upstream.is_open()


def test_trailers_of_the_request_come_after_the_dial(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(
        b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    )
    client.sends(b"0\r\nX-Sum: 9\r\nHost: evil\r\n\r\n")
    upstream.receives(TAKES_TRAILERS + b"3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n")
    upstream.sends(OK)
    client.receives(OK)
    assert client.is_open()


def test_trailers_of_the_reply(start: Start) -> None:
    client, upstream = start().opening(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
    upstream.receives(b"GET / HTTP/1.1\r\nHost: a\r\nconnection: te\r\nte: trailers\r\n\r\n")
    upstream.sends(
        b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nAge: 7\r\n\r\n"
    )
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert client.is_open()
    assert upstream.is_open()


def test_http_1_0_client(start: Start) -> None:
    client, upstream = start().forwarded(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", GET)
    upstream.sends(OK)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi")
    assert client.is_lingering()
    assert upstream.is_open()
    client.shuts()
    assert client.is_closed()


def test_http_1_0_client_that_keeps_alive(start: Start) -> None:
    talk = start()
    client = talk.connect()
    request = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    client.sends(request)
    upstream = talk.expect_dial()
    for _ in range(2):
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: keep-alive\r\n\r\nhi")
        client.sends(request)
    upstream.receives(GET)
    upstream.sends(OK)
    assert client.takes().endswith(b"hi")


@pytest.mark.http1_only("HTTP/1.0")
def test_http_1_0_client_without_host_gets_one(start: Start) -> None:
    """A proxy speaks 1.1 to its upstreams, and a 1.1 request has a host (RFC 9112 section 3.2)."""
    talk = start()
    client, upstream = talk.forwarded(b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nhost: 10.0.0.1:80\r\n\r\n")
    upstream.sends(OK)
    assert client.takes().endswith(b"hi")


@pytest.mark.http1_only("HTTP/1.0")
def test_chunked_reply_to_http_1_0_ends_with_the_connection(start: Start) -> None:
    client, upstream = start().forwarded(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", GET)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    upstream.sends(b"2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n")
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\nconnection: close\r\n\r\nabcde")
    assert client.is_lingering()
    assert upstream.is_open()


def test_reply_that_ends_with_the_connection(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET)
    upstream.sends(b"HTTP/1.0 200 OK\r\nDate: d\r\n\r\nab")
    upstream.sends(b"cde")
    upstream.shuts()
    client.receives(
        b"HTTP/1.1 200 OK\r\nDate: d\r\ntransfer-encoding: chunked\r\n\r\n" + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
    )
    assert client.is_open()
    assert upstream.is_closed()
    assert talk.reasons() == ["ok"]


@pytest.mark.http1_only("HTTP/1.0")
def test_reply_that_ends_with_the_connection_to_http_1_0(start: Start) -> None:
    client, upstream = start().forwarded(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", GET)
    upstream.sends(b"HTTP/1.0 200 OK\r\nDate: d\r\n\r\nab")
    upstream.shuts()
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\nconnection: close\r\n\r\nab")
    assert client.is_lingering()


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
def test_upstream_sends_close(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 2\r\n\r\nhi")
    assert upstream.is_closed()
    client.sends(GET)
    talk.expect_dial().receives(GET)


def test_client_sends_close(start: Start) -> None:
    client, upstream = start().forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", GET)
    upstream.sends(OK)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi")
    assert client.is_lingering()
    assert upstream.is_open()
    client.shuts()
    assert client.is_closed()


@pytest.mark.http1_only("connection: close")
def test_bytes_after_a_close_are_read_and_dropped(start: Start) -> None:
    client, upstream = start().forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", GET)
    upstream.sends(OK)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nconnection: close\r\n\r\nhi")
    client.sends(GET)
    assert client.is_lingering()
    upstream.receives_nothing()
    client.receives_nothing()
    client.shuts()
    assert client.is_closed()


@pytest.mark.http1_only("fields of a connection")
def test_fields_of_one_hop_are_not_passed_on(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(
        b"GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Own: 1\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAA\r\nProxy-Authorization: x\r\nConnection: x-own, Upgrade, Authorization, keep-alive\r\n"
        b"TE: gzip\r\nTrailer: x\r\nAuthorization: b\r\nX-Kept: 2\r\n\r\n"
    )
    upstream.receives(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\nX-Kept: 2\r\n\r\n")
    upstream.sends(
        b"HTTP/1.1 200 OK\r\nDate: d\r\nKeep-Alive: timeout=5\r\nX-Own: 1\r\nConnection: X-Own\r\nContent-Length: 0\r\n"
        b"Trailer: x\r\nProxy-Connection: close\r\nUpgrade: h2\r\nX-Kept: 2\r\n\r\n"
    )
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 0\r\nX-Kept: 2\r\n\r\n")
    assert client.is_open()
    assert upstream.is_open()


CLAIMS = (
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n"
    b"x-mosn-original-path: /\r\nX-Envoy-Internal: true\r\nx-mosn-global-timeout: 5000\r\n"
)


@pytest.mark.plain_only
def test_forwarded_for(start: Start) -> None:
    client, upstream = start(x_forwarded=True).opening(GET, ip="192.0.2.7")
    upstream.receives(b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n")
    upstream.sends(OK)
    client.receives(OK)
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n" + CLAIMS + b"\r\n")
    upstream.receives(
        b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 1.1.1.1, 2.2.2.2, 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n"
    )


def test_fields_of_a_trusted_peer_are_forwarded(start: Start) -> None:
    talk = start(x_forwarded=True, trusts_peer=True, http1=http_options(policy=http1_policy(trusts_peer=True)))
    client = talk.connect("192.0.2.7")
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n" + CLAIMS + b"\r\n")
    talk.expect_dial().receives(b"GET / HTTP/1.1\r\nHost: a\r\n" + CLAIMS + b"x-forwarded-for: 1.1.1.1, 192.0.2.7\r\n\r\n")


@pytest.mark.plain_only
def test_forwarded_for_cannot_be_taken_away_by_a_connection_option(start: Start) -> None:
    talk = start(x_forwarded=True)
    client = talk.connect("192.0.2.7")
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nConnection: x-forwarded-for, close\r\n\r\n")
    talk.expect_dial().receives(
        b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 1.1.1.1, 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n"
    )


def test_request_id_is_made_once_and_kept_when_given(start: Start) -> None:
    client, upstream = start(x_request_id=True).opening(GET)
    first = upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    client.sends(GET)
    second = upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    made = [text.partition(b"x-request-id: ")[2].partition(b"\r")[0] for text in (first, second)]
    assert made[0] != made[1]
    assert all(len(name) == 36 and name.count(b"-") == 4 for name in made)
    kept = b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n"
    client.sends(kept)
    upstream.receives(kept)


@pytest.mark.http1_only("connection: close")
def test_reply_before_the_request_is_complete(start: Start) -> None:
    """The reply is relayed, and neither connection is used again: the rest of the body would be read as a request."""
    talk = start()
    client, upstream = talk.opening(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123")
    upstream.takes()
    upstream.sends(b"HTTP/1.1 413 Content Too Large\r\nDate: d\r\nContent-Length: 2\r\n\r\nno")
    client.receives(b"HTTP/1.1 413 Content Too Large\r\nDate: d\r\nContent-Length: 2\r\nconnection: close\r\n\r\nno")
    assert client.is_lingering()
    assert upstream.is_closed()
    client.sends(b"456789" + GET)
    talk.expect_no_dial()
    talk.advance(6)
    assert client.is_closed()
    assert talk.reasons() == ["ok"]


def test_echo_while_the_request_is_being_sent(start: Start) -> None:
    client, upstream = start().forwarded(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n01")
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 4\r\n\r\n01")
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 4\r\nconnection: close\r\n\r\n01")
    client.sends(b"23")
    upstream.receives(b"23")
    upstream.sends(b"23")
    client.receives(b"23")
    assert client.is_lingering()
    assert upstream.is_open()


@pytest.mark.http1_only("the scheme is read when the connection opens")
@pytest.mark.plain_only
def test_the_scheme_of_a_request_is_that_of_its_connection(start: Start) -> None:
    talk = start(x_forwarded=True)
    client = talk.connect()
    assert client.transport.protocol is not None
    client.transport.protocol.scheme = "https"
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = talk.expect_dial()
    upstream.receives(b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\r\n")
    upstream.sends(b"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n")
    client.receives(b"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n")
    assert talk.outcomes.exchanges[0].request.scheme == "https"
