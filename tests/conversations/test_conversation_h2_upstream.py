"""Requests of HTTP/1 clients that are sent to upstreams in HTTP/2, and what such upstreams may do."""

import pytest
from tests.kit.h2_peers import H2Upstream, get, h2_client, h2_upstream, request
from tests.kit.peers import Peer
from tests.kit.starting import Start
from tests.kit.talk import HOST, Talk

from pymosn.api.routing import Route
from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.protocol.http2.frames import (
    CANCEL,
    DATA,
    ENABLE_CONNECT_PROTOCOL,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HTTP_1_1_REQUIRED,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    NO_ERROR,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
)
from pymosn.routing.actions import Forward, ForwardOptions
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.rewrites import PrefixRewrite, RequestChanges
from pymosn.upstream.plan import HeartbeatPlan, HostPlan

pytestmark = pytest.mark.whole_only

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\ndate: d\r\ncontent-length: 2\r\n\r\nok"
DATE = (b"date", b"d")
SIZED = [DATE, (b"content-length", b"2")]


def begin(start: Start, text: bytes = GET, **keywords: object) -> tuple[Talk, Peer, H2Upstream]:
    """A client has sent a request, and its upstream, which speaks HTTP/2, has got it."""
    plan = {"upstream_protocol": "Http2", **dict(keywords.pop("plan", {}))}  # type: ignore[call-overload]
    settings = keywords.pop("settings", ())
    talk = start(plan=plan, **keywords)
    client = talk.connect()
    client.sends(text)
    return talk, client, h2_upstream(talk.expect_dial(), settings)  # type: ignore[arg-type]


def answer(client: Peer, upstream: H2Upstream) -> None:
    """The request is answered."""
    upstream.responds(upstream.takes_stream(), 200, SIZED, b"ok")
    client.receives(OK)


def test_a_request_and_its_response(start: Start) -> None:
    talk, client, upstream = begin(
        start, b"GET /a?b HTTP/1.1\r\nHost: A.example\r\nX-Own: 1\r\nConnection: x-own\r\nTE: trailers\r\n\r\n"
    )
    stream = upstream.takes_stream()
    assert stream.heads == [
        [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"/a?b"),
            (b":authority", b"a.example"),
            (b"te", b"trailers"),
        ]
    ]
    assert stream.has_end
    upstream.responds(stream, 200, SIZED, b"ok")
    client.receives(OK)
    client.sends(GET)
    answer(client, upstream)
    talk.expect_no_dial()
    assert [exchange.variable("upstream_protocol") for exchange in talk.outcomes.exchanges] == ["Http2", "Http2"]


def test_a_request_does_not_wait_for_the_upload_of_another(start: Start) -> None:
    talk = start(plan={"upstream_protocol": "Http2"})
    client = talk.connect()
    client.sends(GET)
    upstream = h2_upstream(talk.expect_dial(), ((INITIAL_WINDOW_SIZE, 1 << 24),), 1 << 24)
    answer(client, upstream)
    host = upstream.peer
    host.stalls()
    client.sends(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(900000))
    waiting = len(host.transport.waiting)
    assert waiting > 60000
    other = talk.connect()
    other.sends(GET)
    assert len(host.transport.waiting) > waiting
    talk.expect_no_dial()


def test_content_and_trailers_in_both_directions(start: Start) -> None:
    text = b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n"
    _, client, upstream = begin(start, text)
    stream = upstream.takes_stream()
    client.sends(b"3\r\nabc\r\n")
    assert (stream.data, stream.has_end) == (b"abc", False)
    client.sends(b"0\r\nX-Sum: 1\r\n\r\n")
    assert stream.trailers == [(b"x-sum", b"1")]
    upstream.responds(stream, 200, [DATE], b"d", end=False)
    client.receives(b"HTTP/1.1 200 OK\r\ndate: d\r\ntransfer-encoding: chunked\r\n\r\n1\r\nd\r\n")
    upstream.sends_trailers(stream, [(b"x-sum", b"2")])
    client.receives(b"0\r\nx-sum: 2\r\n\r\n")


def test_head_and_interim_responses(start: Start) -> None:
    _, client, upstream = begin(start, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    stream = upstream.takes_stream()
    upstream.responds(stream, 103, [(b"link", b"x")], end=False)
    upstream.responds(stream, 200, [DATE, (b"content-length", b"1000")])
    client.receives(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ndate: d\r\ncontent-length: 1000\r\n\r\n")
    client.sends(GET)
    answer(client, upstream)


def test_many_requests_share_a_connection_and_a_cancelled_one_is_reset(start: Start) -> None:
    talk, client, upstream = begin(start)
    other = talk.connect()
    other.sends(GET)
    leaving, staying = upstream.takes_stream(), upstream.takes_stream()
    client.resets()
    assert leaving.code == CANCEL
    assert upstream.end.kinds()[-1] == PING, "it may still work on the request: counted until it has read the reset"
    upstream.responds(staying, 200, SIZED, b"ok")
    other.receives(OK)
    assert upstream.is_open()


def test_a_response_before_the_end_of_the_request(start: Start) -> None:
    _, client, upstream = begin(start, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    stream = upstream.takes_stream()
    upstream.responds(stream, 200, SIZED, b"ok")
    assert stream.code == NO_ERROR
    client.receives(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert upstream.is_open()


def test_a_reset_without_an_error_after_the_response_is_no_failure(start: Start) -> None:
    talk, client, upstream = begin(start)
    stream = upstream.takes_stream()
    upstream.end.send_head(stream, [(b":status", b"200"), *SIZED], False)
    upstream.end.send_data(stream, b"ok", True)
    upstream.resets_stream(stream, int(NO_ERROR))
    client.receives(OK)
    assert talk.reasons() == ["ok"]


@pytest.mark.parametrize("has_names", [False, True])
def test_hosts_are_rewritten_between_clients_and_hosts_of_http2(start: Start, has_names: bool) -> None:
    """MOSN forwards the original request."""
    changes = None if has_names else RequestChanges(None, PrefixRewrite(b"/a", "/b"), "inner.example", "")
    options = ForwardOptions(changes=changes, uses_host_name=has_names)
    routes = [Route("all", AnyRequest(), Forward("service", 5.0, options))]
    plan = {"hosts": (HostPlan(HOST, "named.example"),)}
    talk = start(protocols=["Http2"], routes=routes, plan=plan)
    client = h2_client(talk)
    asked = client.requests(request(b"GET", b"/a/c", b"outer.example", (b"host", b"outer.example")))
    upstream = h2_upstream(talk.expect_dial())
    stream = upstream.takes_stream()
    authority, path = (b"named.example", b"/a/c") if has_names else (b"inner.example", b"/b/c")
    assert (stream.fields[b":authority"], stream.fields[b":path"]) == (authority, path)
    assert b"host" not in stream.fields
    upstream.responds(stream, 200, SIZED, b"ok")
    assert client.result(asked) == (200, b"ok")


# ---- what was not processed is sent again


def test_a_goaway_names_what_was_not_processed(start: Start) -> None:
    """Any request is sent again, and those that the host has processed are finished."""
    talk, client, upstream = begin(start)
    other = talk.connect()
    other.sends(POST)
    first = upstream.takes_stream()
    upstream.takes_stream()
    upstream.sends(frame(GOAWAY, first.number.to_bytes(4, "big") + bytes(4)))
    again = h2_upstream(talk.expect_dial())
    repeated = again.takes_stream()
    assert (repeated.data, repeated.has_end) == (b"hello", True)
    again.responds(repeated, 200, SIZED, b"ok")
    other.receives(OK)
    upstream.responds(first, 200, SIZED, b"ok")
    client.receives(OK)
    assert upstream.peer.is_closed()
    assert talk.reasons() == ["ok", "ok"]


def test_a_graceful_goaway_takes_no_request_away(start: Start) -> None:
    talk, client, upstream = begin(start)
    upstream.sends(frame(GOAWAY, b"\x7f\xff\xff\xff" + bytes(4)))
    other = talk.connect()
    other.sends(GET)
    answer(other, h2_upstream(talk.expect_dial()))
    answer(client, upstream)
    assert upstream.peer.is_closed()


@pytest.mark.parametrize("request_bytes", [GET, POST], ids=["GET", "POST"])
def test_a_refused_stream_is_tried_again(start: Start, request_bytes: bytes) -> None:
    _, client, upstream = begin(start, request_bytes)
    upstream.resets_stream(upstream.takes_stream(), int(REFUSED_STREAM))
    answer(client, upstream)


def test_a_request_that_is_refused_each_time_fails(start: Start) -> None:
    talk, client, upstream = begin(start)
    for _ in range(4):
        upstream.resets_stream(upstream.takes_stream(), int(REFUSED_STREAM))
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    assert talk.reasons() == ["refused_stream"]


def test_a_host_may_refuse_any_number_of_uploads(start: Start) -> None:
    """Under load, for example; the other streams of its connection are not disturbed."""
    talk, client, upstream = begin(start)
    first = upstream.takes_stream()
    other = talk.connect()
    for _ in range(150):
        other.sends(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
        for _ in range(4):
            upstream.resets_stream(upstream.takes_stream(), int(REFUSED_STREAM))
        assert other.takes().startswith(b"HTTP/1.1 502 ")
        other = talk.connect()
    upstream.responds(first, 200, SIZED, b"ok")
    client.receives(OK)
    assert upstream.is_open()


def test_the_sent_part_of_a_request_is_sent_again(start: Start) -> None:
    """Also if the client is still sending."""
    _, client, upstream = begin(start, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
    upstream.resets_stream(upstream.takes_stream(), int(REFUSED_STREAM))
    stream = upstream.takes_stream()
    assert (stream.data, stream.has_end) == (b"01234", False)
    client.sends(b"56789")
    assert (stream.data, stream.has_end) == (b"0123456789", True)
    upstream.responds(stream, 200, SIZED, b"ok")
    client.receives(OK)


@pytest.mark.parametrize(
    ("code", "begins", "reason"),
    [
        (CANCEL, False, "reset_before_response"),
        (ENHANCE_YOUR_CALM, False, "reset_before_response"),
        (NO_ERROR, False, "reset_before_response"),
        (CANCEL, True, "reset_after_response"),
        (REFUSED_STREAM, True, "reset_after_response"),
    ],
)
def test_other_resets(start: Start, code: int, begins: bool, reason: str) -> None:
    talk, client, upstream = begin(start)
    stream = upstream.takes_stream()
    if begins:
        upstream.responds(stream, 200, SIZED, b"o", end=False)
    upstream.resets_stream(stream, int(code))
    client.takes()
    assert talk.reasons() == [reason]
    assert upstream.is_open()


def test_a_client_cannot_end_the_requests_of_others_by_those_that_its_host_refuses(start: Start) -> None:
    """They share a connection to the host, whose answers are no flood."""
    talk = start(protocols=["Http2"], plan={"upstream_protocol": "Http2"})
    other, client = h2_client(talk, "192.0.2.8"), h2_client(talk)
    staying = other.requests(request(b"GET", b"/", b"a"))
    upstream = h2_upstream(talk.expect_dial())
    waiting = upstream.takes_stream()
    for number in range(600):
        client.requests(request(b"POST", b"/", b"a"), b"x", end=False)
        stream = upstream.takes_stream()
        if number % 2:
            upstream.resets_stream(stream, int(CANCEL))
        else:
            upstream.responds(stream, 200, [(b"Faulty", b"")])
    upstream.responds(waiting, 200, SIZED, b"ok")
    assert other.result(staying) == (200, b"ok")


def test_clients_that_leave_do_not_end_the_requests_of_others(start: Start) -> None:
    """What a host has sent meanwhile arrives on more streams than are remembered."""
    talk = start(protocols=["Http2"], plan={"upstream_protocol": "Http2"})
    other = h2_client(talk, "192.0.2.8")
    staying = other.requests(request(b"GET", b"/", b"a"))
    upstream = h2_upstream(talk.expect_dial())
    waiting = upstream.takes_stream()
    clients = [h2_client(talk, f"192.0.2.{number}") for number in range(10, 16)]
    for client in clients:
        for _ in range(100):
            client.requests(request(b"GET", b"/", b"a"))
    leaving = [upstream.takes_stream() for _ in range(600)]
    for client in clients:
        client.resets()
    upstream.end.write(b"".join(frame(DATA, b"x", stream=stream.number) for stream in leaving))
    upstream.settle()
    upstream.responds(waiting, 200, SIZED, b"ok")
    assert other.result(staying) == (200, b"ok")


def test_a_host_that_flushes_nothing_is_no_flood(start: Start) -> None:
    _, client, upstream = begin(start)
    for turn in range(300):
        if turn:
            client.sends(GET)
        stream = upstream.takes_stream()
        upstream.responds(stream, 200, SIZED, b"o", end=False)
        upstream.end.write(frame(DATA, b"", stream=stream.number) * 2)
        upstream.settle()
        upstream.sends_data(stream, b"k", True)
        client.receives(OK)


@pytest.mark.parametrize(("body", "end"), [(b"okk", False), (b"o", True)])
def test_a_length_that_is_wrong_resets_the_stream_alone(start: Start, body: bytes, end: bool) -> None:
    talk, client, upstream = begin(start)
    stream = upstream.takes_stream()
    upstream.responds(stream, 200, SIZED, body, end)
    client.takes()
    assert (stream.code, talk.reasons()) == (PROTOCOL_ERROR, ["bad_response"])
    late = talk.connect()
    late.sends(GET)
    answer(late, upstream)


def test_a_violation_of_the_protocol_ends_the_connection(start: Start) -> None:
    talk, client, upstream = begin(start)
    upstream.takes_stream()
    upstream.sends(frame(DATA, b"x"))  # on stream 0
    client.takes()
    assert (upstream.goaway(), talk.reasons()) == (PROTOCOL_ERROR, ["bad_response"])
    late = talk.connect()
    late.sends(GET)
    answer(late, h2_upstream(talk.expect_dial()))


# ---- HTTP/1


@pytest.mark.parametrize("first", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"<!DOCTYPE HTML>"])
def test_a_host_that_answers_in_http1_is_asked_in_http1(start: Start, first: bytes) -> None:
    """The request is sent again, and so are all others, in HTTP/1 from then on."""
    talk = start(plan={"upstream_protocol": "Http2"})
    client = talk.connect()
    client.sends(POST)
    wrong = talk.expect_dial()
    assert wrong.takes().startswith(b"PRI * HTTP/2.0")
    wrong.sends(first)
    upstream = talk.expect_dial()
    upstream.receives(POST)
    upstream.sends(OK)
    client.receives(OK)
    client.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    assert [exchange.variable("upstream_protocol") for exchange in talk.outcomes.exchanges] == ["Http1", "Http1"]
    lines = [line for line in talk.log.lines if "does not speak Http2" in line]
    assert len(lines) == 1


def test_a_request_for_which_the_host_demands_http1(start: Start) -> None:
    """Only that one: others still use HTTP/2."""
    talk, client, upstream = begin(start)
    upstream.resets_stream(upstream.takes_stream(), int(HTTP_1_1_REQUIRED))
    plain = talk.expect_dial()
    plain.receives(GET)
    plain.sends(OK)
    client.receives(OK)
    client.sends(GET)
    answer(client, upstream)


# ---- several connections


def test_another_connection_when_all_streams_are_used(start: Start) -> None:
    talk, client, upstream = begin(start, settings=((int(MAX_CONCURRENT_STREAMS), 1),))
    second, third = talk.connect(), talk.connect()
    second.sends(GET)
    other = h2_upstream(talk.expect_dial(), ((int(MAX_CONCURRENT_STREAMS), 1),))
    third.sends(GET)
    last = talk.hold_dial()
    answer(client, upstream)
    answer(third, upstream)
    answer(second, other)
    h2_upstream(last.connects())


def test_the_limit_of_a_host_is_known_before_its_next_connection_announces_it(start: Start) -> None:
    one = ((int(MAX_CONCURRENT_STREAMS), 1),)
    talk, client, upstream = begin(start, settings=one)
    second, third = talk.connect(), talk.connect()
    second.sends(GET)
    third.sends(GET)
    dials = [talk.hold_dial(), talk.hold_dial()]
    other = h2_upstream(dials[0].connects(), one)
    assert len(other.end.streams) == 1
    last = h2_upstream(dials[1].connects(), one)
    answer(client, upstream)
    answer(second, other)
    answer(third, last)


def test_requests_wait_where_no_other_connection_is_allowed(start: Start) -> None:
    talk, client, upstream = begin(start, settings=((int(MAX_CONCURRENT_STREAMS), 1),), max_connections=1)
    second = talk.connect()
    second.sends(GET)
    talk.expect_no_dial()
    answer(client, upstream)
    answer(second, upstream)


def test_a_connection_grows_old(start: Start) -> None:
    talk, client, upstream = begin(start, plan={"max_connection_age": 50.0})
    answer(client, upstream)
    talk.advance(56.0)
    client.sends(GET)
    dial = talk.hold_dial()
    answer(client, upstream)
    successor = h2_upstream(dial.connects())
    assert upstream.peer.is_closed()
    client.sends(GET)
    answer(client, successor)


def test_uploads_that_fill_the_socket_leave_room_for_other_requests(start: Start) -> None:
    """The host reads more slowly than the uploads arrive: whenever it has read, other requests are sent first."""
    upload = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    talk, client, upstream = begin(start, upload, settings=((int(INITIAL_WINDOW_SIZE), 1 << 20),))
    upstream.end.grant(None, 1 << 24)
    upstream.settle()
    uploads = [client, *(talk.connect() for _ in range(9))]
    for one in uploads[1:]:
        one.sends(upload)
    transport = upstream.peer.transport
    upstream.peer.stalls()
    for one in uploads:
        one.sends(b"x" * 200_000)
    other = talk.connect()
    other.sends(GET)
    read = transport.on_arrival

    def read_and_stall() -> None:
        transport.is_stalled = True
        read()

    transport.on_arrival = read_and_stall
    for _ in range(2):
        upstream.peer.reads_on()
    assert any(stream.fields[b":method"] == b"GET" for stream in upstream.end.streams.values())
    transport.on_arrival = read
    upstream.peer.reads_on()


# ---- PING


def test_a_connection_that_does_not_answer_a_ping_is_left(start: Start) -> None:
    """Within interval and timeout, with a stream in flight; such a request is not sent again without a policy."""
    talk, client, upstream = begin(start, plan={"heartbeats": HeartbeatPlan(10.0, 2.0, 6, 10.0)})
    upstream.takes_stream()
    upstream.end.answers = False
    talk.advance(10.5)
    assert upstream.end.kinds()[-1] == PING
    late = talk.connect()
    talk.advance(1.3)
    late.sends(GET)
    other = h2_upstream(talk.expect_dial())
    answer(late, other)
    talk.advance(0.7)
    assert upstream.peer.is_reset()
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    assert talk.reasons() == ["ok", "keepalive_timeout"]


def test_pings_that_are_answered(start: Start) -> None:
    talk, client, upstream = begin(start, plan={"heartbeats": HeartbeatPlan(10.0, 2.0, 6, 10.0)})
    talk.advance(50.0)
    assert upstream.end.kinds().count(int(PING)) == 5
    answer(client, upstream)


def test_no_pings_unless_they_are_configured(start: Start) -> None:
    talk, client, upstream = begin(start)
    talk.advance(50.0)
    assert int(PING) not in upstream.end.kinds()
    answer(client, upstream)


# ---- ALPN

BOTH = ClientSettings(TlsSettings(alpn=("h2", "http/1.1")), is_verified=False)


@pytest.mark.parametrize("alpn", ["h2", "http/1.1", ""])
def test_the_handshake_decides(start: Start, alpn: str) -> None:
    talk = start(plan={"tls": BOTH})
    client, other = talk.connect(), talk.connect()
    client.sends(GET)
    other.sends(GET)
    dial = talk.hold_dial()
    talk.expect_no_dial()
    peer = dial.connects(alpn=alpn)
    if alpn == "h2":
        upstream = h2_upstream(peer)
        answer(client, upstream)
        answer(other, upstream)
    else:
        for one, host in ((client, peer), (other, talk.expect_dial())):
            host.receives(GET)
            host.sends(OK)
            one.receives(OK)
    protocol = "Http2" if alpn == "h2" else "Http1"
    assert {exchange.variable("upstream_protocol") for exchange in talk.outcomes.exchanges} == {protocol}


def test_a_host_that_selects_http1_although_http2_is_configured(start: Start) -> None:
    talk = start(plan={"tls": BOTH, "upstream_protocol": "Http2"})
    client = talk.connect()
    client.sends(GET)
    first = talk.hold_dial().connects(alpn="http/1.1")
    assert not first.is_open()
    upstream = talk.expect_dial()
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


# ---- tunnels

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
ASK = UPGRADE + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"


def test_a_web_socket_over_a_stream(start: Start) -> None:
    """It waits for the host's SETTINGS, which allow an extended CONNECT."""
    talk, client, upstream = begin(start, ASK, settings=((int(ENABLE_CONNECT_PROTOCOL), 1),))
    stream = upstream.takes_stream()
    assert (stream.fields[b":method"], stream.fields[b":protocol"]) == (b"CONNECT", b"websocket")
    assert b"sec-websocket-key" not in stream.fields
    upstream.responds(stream, 200, end=False)
    head = client.takes()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    client.sends(b"\x81\x02hi")
    assert stream.data == b"\x81\x02hi"
    upstream.sends_data(stream, b"\x81\x02ho", True)
    client.receives(b"\x81\x02ho")
    client.shuts()
    assert stream.has_end
    assert talk.reasons() == ["ok"]
    assert upstream.is_open()


@pytest.mark.parametrize("is_read", [True, False])
def test_the_last_bytes_for_a_host_that_has_ended_its_side(start: Start, is_read: bool) -> None:
    """They wait for its window, but not for ever."""
    talk, client, upstream = begin(start, ASK, settings=((int(ENABLE_CONNECT_PROTOCOL), 1),))
    stream = upstream.takes_stream()
    upstream.responds(stream, 200, end=False)
    client.takes()
    upstream.end.grants = False
    client.sends(b"x" * 100_000)
    upstream.sends_data(stream, b"", True)
    client.shuts()
    assert (len(stream.data), stream.has_end, stream.code) == (65_535, False, -1)
    assert talk.reasons() == ["ok"]
    if is_read:
        upstream.end.grant(stream, 100_000)
        upstream.end.grant(None, 100_000)
        upstream.settle()
        assert (len(stream.data), stream.has_end) == (100_000, True)
        upstream.sends(frame(GOAWAY, bytes(8)))
        assert upstream.peer.is_lingering(), "a reset would take the last bytes away that are on their way"
        upstream.resets()
    else:
        talk.advance(61.0)
        assert stream.code == CANCEL
        assert upstream.is_open()


def test_a_refused_web_socket(start: Start) -> None:
    _, client, upstream = begin(start, ASK, settings=((int(ENABLE_CONNECT_PROTOCOL), 1),))
    stream = upstream.takes_stream()
    upstream.responds(stream, 403, SIZED, b"ok")
    client.receives(OK.replace(b"200 OK", b"403 Forbidden"))
    assert upstream.is_open()


def test_a_web_socket_uses_http1_where_the_host_has_no_extended_connect(start: Start) -> None:
    talk, client, upstream = begin(start, ASK)
    plain = talk.expect_dial()
    assert b"upgrade: websocket\r\n" in plain.takes()
    plain.sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert client.takes().startswith(b"HTTP/1.1 101 ")
    other = talk.connect()
    other.sends(GET)
    answer(other, upstream)


def test_a_connection_whose_only_request_was_not_sent_becomes_idle(start: Start) -> None:
    """Its host has no extended CONNECT."""
    talk, client, upstream = begin(start, ASK)
    plain = talk.expect_dial()
    plain.takes()
    client.resets()
    talk.advance(61.0)
    assert upstream.peer.is_closed()


def frame(kind: int, payload: bytes, stream: int = 0, flags: int = 0) -> bytes:
    """A frame."""
    return len(payload).to_bytes(3, "big") + bytes([int(kind), flags]) + stream.to_bytes(4, "big") + payload


def test_a_client_that_cancels_much_does_not_wear_out_the_connection_of_all(start: Start) -> None:
    """Hosts, pymosn among them, end connections with too many resets, and with them the requests of others."""
    talk = start(protocols=("Http2",))
    client, other = h2_client(talk), h2_client(talk, "192.0.2.8")
    lasting = other.requests(get())
    upstream = h2_upstream(talk.expect_dial())
    got = upstream.takes_stream()
    for _ in range(101):
        stream = client.requests(get())
        upstream.takes_stream()
        client.resets_stream(stream)
        talk.expect_no_dial()
    meanwhile = client.requests(get())
    upstream.responds(upstream.takes_stream(), 200, SIZED, b"ok")
    assert client.result(meanwhile) == (200, b"ok")
    successor = h2_upstream(talk.expect_dial())
    last = client.requests(get())
    successor.responds(successor.takes_stream(), 200, SIZED, b"ok")
    assert client.result(last) == (200, b"ok")
    upstream.responds(got, 200, SIZED, b"ok")
    assert other.result(lasting) == (200, b"ok")


def test_answered_requests_may_be_cancelled(start: Start) -> None:
    talk = start(protocols=("Http2",))
    client = h2_client(talk)
    first = client.requests(get())
    upstream = h2_upstream(talk.expect_dial())
    upstream.responds(upstream.takes_stream(), 200, SIZED, b"ok")
    assert client.result(first) == (200, b"ok")
    for _ in range(400):
        stream = client.requests(get())
        upstream.responds(upstream.takes_stream(), 200, (), b"ok", end=False)
        client.resets_stream(stream)
    assert client.is_open()
    talk.expect_no_dial()
