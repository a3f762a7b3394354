"""WebSocket and other tunnels where a side speaks HTTP/2 (RFC 8441): both handshakes, bytes, ends, refusals."""

import hashlib
from base64 import b64decode, b64encode

import pytest
from tests.kit import OK, Peer, Start, Talk
from tests.kit.h2_end import Pairs, Stream
from tests.kit.h2_peers import H2Client, get, h2_client, h2_upstream
from tests.kit.options import http_options

from pymosn.api.routing import Route
from pymosn.core.message import CONNECT, CONNECT_HERE
from pymosn.routing.actions import DirectResponse
from pymosn.routing.matchers import AnyRequest

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FIELDS = [(b"sec-websocket-version", b"13"), (b"sec-websocket-protocol", b"chat")]
ENABLE_CONNECT_PROTOCOL = 8
#: The settings of a host that supports extended CONNECT.
SUPPORTS = ((ENABLE_CONNECT_PROTOCOL, 1),)
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ASK = (
    b"GET /chat?a=b HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"


def accept_of(key: bytes) -> bytes:
    return b64encode(hashlib.sha1(key + GUID).digest())


def ask(protocol: bytes = b"websocket", path: bytes = b"/chat?a=b") -> Pairs:
    """An extended CONNECT."""
    pseudo = [(b":method", b"CONNECT"), (b":protocol", protocol), (b":scheme", b"http"), (b":path", path)]
    return [*pseudo, (b":authority", b"a"), *FIELDS]


def head_of(peer: Peer) -> tuple[bytes, dict[bytes, bytes]]:
    """The first line and the fields of what an HTTP/1 peer received."""
    raw = peer.takes()
    assert raw.endswith(b"\r\n\r\n"), raw
    lines = raw.split(b"\r\n")[:-2]
    pairs = [line.split(b": ", 1) for line in lines[1:]]
    return lines[0], {name.lower(): value for name, value in pairs}


def from_h2(start: Start, **options: object) -> tuple[Talk, H2Client]:
    """A listener that speaks HTTP/2 to clients, HTTP/1 to hosts; and a client."""
    talk = start(protocols=["Http2"], upstream_protocol="Http1", **options)
    return talk, h2_client(talk)


def opened(start: Start, **options: object) -> tuple[Talk, H2Client, Stream, Peer]:
    """A tunnel from a client with HTTP/2 to a host with HTTP/1."""
    talk, client = from_h2(start, **options)
    stream = client.requests(ask(), end=False)
    upstream = talk.expect_dial()
    _, fields = head_of(upstream)
    upstream.sends(AGREE % accept_of(fields[b"sec-websocket-key"]))
    client.settle()
    assert stream.status == 200
    return talk, client, stream, upstream


# ---- a client with HTTP/2, a host with HTTP/1


def test_the_times_of_a_tunnel_end_with_its_opening(start: Start) -> None:
    talk, client, stream, upstream = opened(start)
    talk.advance(5.0)
    client.sends_data(stream, b"", end=True)
    upstream.shuts()
    client.settle()
    histograms = talk.metrics.group("downstream", ("listener", "l")).data()["histograms"]
    assert [histograms[key]["count"] for key in ("request_time", "process_time")] == [1, 1]
    assert [histograms[key]["sum"] for key in ("request_time", "process_time")] == pytest.approx([0.0, 0.0], abs=0.1)


def test_the_listener_announces_that_it_is_supported(start: Start) -> None:
    _, client = from_h2(start)
    assert client.end.settings[ENABLE_CONNECT_PROTOCOL] == 1
    _, client = from_h2(start, http1=http_options(upgrades=frozenset()))
    assert client.end.settings.get(ENABLE_CONNECT_PROTOCOL, 0) == 0


def test_the_handshake_of_http1_is_made_for_the_host(start: Start) -> None:
    talk, client = from_h2(start)
    stream = client.requests(ask(), end=False)
    upstream = talk.expect_dial()
    line, fields = head_of(upstream)
    assert line == b"GET /chat?a=b HTTP/1.1"
    key = fields.pop(b"sec-websocket-key")
    assert len(b64decode(key, validate=True)) == 16
    assert fields == {b"host": b"a", b"connection": b"upgrade", b"upgrade": b"websocket", **dict(FIELDS)}
    agree = AGREE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n")
    upstream.sends(agree % accept_of(key) + b"\x81\x05first")
    client.settle()
    assert [pair for pair in stream.heads[-1] if pair[0] != b"date"] == [
        (b":status", b"200"),
        (b"sec-websocket-protocol", b"chat"),
    ]
    assert stream.data == b"\x81\x05first"
    assert talk.counters()["tunnel_active"] == 1
    client.sends_data(stream, b"\x81\x02hi")
    assert upstream.takes() == b"\x81\x02hi"
    upstream.sends(b"\x81\x05hello")
    client.settle()
    assert stream.data == b"\x81\x05first\x81\x05hello"


@pytest.mark.parametrize(
    "accept", [b"", b"Sec-WebSocket-Accept: " + accept_of(KEY) + b"\r\n"], ids=["none", "of another key"]
)
def test_a_host_that_does_not_prove_itself_gets_no_bytes(start: Start, accept: bytes) -> None:
    talk, client = from_h2(start)
    stream = client.requests(ask(), end=False)
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(AGREE.replace(b"Sec-WebSocket-Accept: %s\r\n", accept))
    client.settle()
    assert stream.status == 502
    assert upstream.is_reset()
    assert talk.reasons() == ["bad_response"]
    assert client.is_open()


def test_early_bytes_wait_for_the_agreement(start: Start) -> None:
    talk, client = from_h2(start)
    stream = client.requests(ask(), b"early", end=False)
    upstream = talk.expect_dial()
    _, fields = head_of(upstream)
    upstream.sends(AGREE % accept_of(fields[b"sec-websocket-key"]))
    assert upstream.takes() == b"early"
    client.sends_data(stream, b"later")
    assert upstream.takes() == b"later"


def test_a_host_that_refuses(start: Start) -> None:
    talk, client = from_h2(start)
    stream = client.requests(ask(), b"early", end=False)
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    client.settle()
    assert client.result(stream) == (403, b"no")
    assert upstream.left() == b"", "never tunnelled"
    again = client.requests(get())
    upstream.takes()
    upstream.sends(OK)
    client.settle()
    assert again.status == 200


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content"])
def test_a_host_that_ignores_the_upgrade_opens_no_tunnel(start: Start, status: bytes) -> None:
    """In HTTP/2 a 2xx would be the agreement, and its content bytes of the tunnel."""
    talk, client = from_h2(start)
    stream = client.requests(ask(), b"early", end=False)
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)
    client.settle()
    assert client.result(stream) == (501, b"")
    assert upstream.left() == b""


def test_a_reply_of_the_proxy_opens_no_tunnel(start: Start) -> None:
    _, client = from_h2(start, routes=[Route("d", AnyRequest(), DirectResponse(200, "x"))])
    assert client.result(client.requests(ask(), end=False)) == (501, b"x")


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_half_closes_are_passed_on(start: Start, first: str) -> None:
    talk, client, stream, upstream = opened(start)
    if first == "client":
        client.sends_data(stream, b"last", end=True)
        assert upstream.takes() == b"last"
        assert upstream.has_fin()
        upstream.sends(b"and then")
        upstream.shuts()
        client.settle()
    else:
        upstream.sends(b"and then")
        upstream.shuts()
        client.settle()
        assert stream.has_end
        client.sends_data(stream, b"last", end=True)
        assert upstream.takes() == b"last"
    assert stream.data == b"and then"
    assert stream.has_end
    assert upstream.is_closed()
    assert talk.reasons() == ["ok"]
    assert "tunnel_active" not in talk.counters()
    assert client.is_open()


def test_a_reset_of_the_stream_resets_the_host(start: Start) -> None:
    talk, client, stream, upstream = opened(start)
    client.resets_stream(stream)
    assert upstream.is_reset()
    assert talk.reasons() == ["client_gone"]
    assert client.is_open()


def test_a_reset_of_the_host_resets_the_stream_alone(start: Start) -> None:
    talk, client, stream, upstream = opened(start)
    upstream.resets()
    client.settle()
    assert stream.code > 0
    assert talk.reasons() == ["reset_after_response"]
    assert client.is_open()


def test_silence_ends_both_sides(start: Start) -> None:
    talk, client, stream, upstream = opened(start, tunnel_idle_timeout=100.0)
    talk.advance(60.0)
    client.sends_data(stream, b"x")
    talk.advance(60.0)
    assert not stream.has_end
    talk.advance(50.0)
    client.settle()
    assert stream.has_end
    assert upstream.takes() == b"x"
    assert upstream.is_closed()
    assert talk.reasons() == ["tunnel_idle_timeout"]


def test_a_draining_worker_lets_tunnels_live(start: Start) -> None:
    talk, client, stream, upstream = opened(start)
    talk.drain()
    talk.advance(100.0)
    client.settle()
    assert client.goaway() == 0
    client.sends_data(stream, b"a")
    assert upstream.takes() == b"a"
    upstream.sends(b"b")
    client.settle()
    assert stream.data == b"b"
    talk.do(talk.listener.abort_all)
    assert upstream.is_reset()
    assert talk.reasons() == ["draining"]


@pytest.mark.whole_only
def test_a_slow_side_of_a_tunnel_is_waited_for(start: Start) -> None:
    talk, client, stream, upstream = opened(start)
    client.end.grants = False
    upstream.sends(bytes(1 << 20))
    client.settle()
    assert len(stream.data) == 65535, "the window"
    assert not upstream.is_read()
    other = client.requests(ask(), end=False)
    second = talk.expect_dial()
    _, fields = head_of(second)
    client.end.grant(None, 65535)
    client.settle()
    second.sends(AGREE % accept_of(fields[b"sec-websocket-key"]) + b"not held up")
    client.settle()
    assert other.data == b"not held up"
    client.end.grants = True
    client.end.grant(None, 1 << 20)
    client.end.grant(stream, 1 << 20)
    client.settle()
    assert len(stream.data) == 1 << 20
    assert upstream.is_read()


def test_tunnels_and_requests_share_a_connection(start: Start) -> None:
    talk, client, stream, upstream = opened(start)
    plain = client.requests(get())
    other = talk.expect_dial()
    other.takes()
    other.sends(OK)
    client.settle()
    assert plain.status == 200
    client.sends_data(stream, b"x")
    assert upstream.takes() == b"x"


@pytest.mark.parametrize("protocol", [b"connect-udp", b"h2c", b"spdy/3.1", b"WEBSOCKETS"])
def test_protocols_that_are_not_allowed(start: Start, protocol: bytes) -> None:
    talk, client = from_h2(start)
    stream = client.requests(ask(protocol), end=False)
    assert stream.status == 501
    assert talk.reasons() == ["unknown_protocol"]
    talk.expect_no_dial()
    assert client.is_open()


def test_another_protocol_that_is_allowed(start: Start) -> None:
    talk, client = from_h2(start, http1=http_options(upgrades=frozenset((b"spdy/3.1",))))
    stream = client.requests(ask(b"SPDY/3.1"), end=False)
    upstream = talk.expect_dial()
    _, fields = head_of(upstream)
    assert fields[b"upgrade"] == b"spdy/3.1"
    assert b"sec-websocket-key" not in fields
    upstream.sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: spdy/3.1\r\nConnection: Upgrade\r\n\r\n")
    client.settle()
    assert stream.status == 200


def test_nothing_is_allowed_without_upgrades(start: Start) -> None:
    talk, client = from_h2(start, http1=http_options(upgrades=frozenset()))
    stream = client.requests(ask(), end=False)
    assert stream.code == 1, "PROTOCOL_ERROR: not announced"
    talk.expect_no_dial()


# ---- CONNECT


TARGET = [(b":method", b"CONNECT"), (b":authority", b"db.test:5432")]


def test_connect_is_refused_by_default(start: Start) -> None:
    talk, client = from_h2(start)
    stream = client.requests(TARGET, end=False)
    assert stream.status == 405
    assert talk.reasons() == ["connect_not_allowed"]


def test_connect_ends_here(start: Start) -> None:
    talk, client = from_h2(start, http1=http_options(connect=CONNECT_HERE))
    stream = client.requests(TARGET, b"early", end=False)
    upstream = talk.expect_dial()
    client.settle()
    assert stream.status == 200
    assert upstream.takes() == b"early"
    upstream.sends(b"\x00bytes")
    client.settle()
    assert stream.data == b"\x00bytes"
    client.sends_data(stream, b"", end=True)
    assert upstream.has_fin()
    upstream.shuts()
    client.settle()
    assert stream.has_end
    assert client.is_open()


def test_connect_is_forwarded(start: Start) -> None:
    talk, client = from_h2(start, http1=http_options(connect=CONNECT))
    stream = client.requests(TARGET, end=False)
    upstream = talk.expect_dial()
    upstream.receives(b"CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n")
    upstream.sends(b"HTTP/1.1 200 Connection established\r\n\r\n")
    client.settle()
    assert stream.status == 200
    client.sends_data(stream, b"x")
    assert upstream.takes() == b"x"
    upstream.sends(b"y")
    client.settle()
    assert stream.data == b"y"
    assert not stream.has_end


# ---- hosts with HTTP/2


def to_h2(start: Start, **options: object) -> Talk:
    """A listener that speaks HTTP/1 to clients, HTTP/2 to hosts."""
    return start(upstream_protocol="Http2", **options)


def test_the_handshake_of_http1_is_made_for_the_client(start: Start) -> None:
    talk = to_h2(start)
    client = talk.connect()
    client.sends(ASK)
    upstream = h2_upstream(talk.expect_dial(), SUPPORTS)
    stream = upstream.takes_stream()
    assert stream.fields == {
        b":method": b"CONNECT",
        b":protocol": b"websocket",
        b":scheme": b"http",
        b":path": b"/chat?a=b",
        b":authority": b"a",
        b"sec-websocket-version": b"13",
    }
    assert not stream.has_end
    upstream.responds(stream, 200, [(b"sec-websocket-protocol", b"chat")], b"first", end=False)
    raw = client.takes()
    assert raw.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n" in raw
    assert b"Sec-WebSocket-Accept: " + accept_of(KEY) + b"\r\n" in raw
    assert raw.endswith(b"\r\n\r\nfirst")
    client.sends(b"\x81\x02hi")
    upstream.settle()
    assert stream.data == b"\x81\x02hi"
    upstream.sends_data(stream, b"bye", end=True)
    assert client.takes() == b"bye"
    assert client.has_fin()
    client.shuts()
    upstream.settle()
    assert stream.has_end
    assert client.is_closed()
    assert talk.reasons() == ["ok"]


def test_a_host_with_http2_that_refuses(start: Start) -> None:
    talk = to_h2(start)
    client = talk.connect()
    client.sends(ASK)
    upstream = h2_upstream(talk.expect_dial(), SUPPORTS)
    stream = upstream.takes_stream()
    upstream.responds(stream, 403, [(b"content-length", b"2")], b"no")
    assert client.takes().startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert stream.has_end or stream.code >= 0


def test_a_digest_of_a_host_with_http2_is_not_believed(start: Start) -> None:
    talk = to_h2(start)
    client = talk.connect()
    client.sends(ASK)
    upstream = h2_upstream(talk.expect_dial(), SUPPORTS)
    upstream.responds(upstream.takes_stream(), 200, [(b"sec-websocket-accept", b"theirs")], end=False)
    raw = client.takes()
    assert b"theirs" not in raw
    assert accept_of(KEY) in raw


def test_resets_between_http1_and_http2(start: Start) -> None:
    talk = to_h2(start)
    client, other = talk.connect(), talk.connect()
    client.sends(ASK)
    upstream = h2_upstream(talk.expect_dial(), SUPPORTS)
    first = upstream.takes_stream()
    upstream.responds(first, end=False)
    client.takes()
    other.sends(ASK)
    second = upstream.takes_stream()
    upstream.responds(second, end=False)
    other.takes()
    upstream.resets_stream(first)
    assert client.is_reset()
    other.sends(b"x")
    upstream.settle()
    assert second.data == b"x"
    other.resets()
    upstream.settle()
    assert second.code >= 0
    assert upstream.is_open()
    assert talk.reasons() == ["reset_after_response", "client_gone"]


def test_from_http2_to_http2(start: Start) -> None:
    talk = start(protocols=["Http2"], upstream_protocol="Http2")
    client = h2_client(talk)
    stream = client.requests(ask(), b"early", end=False)
    upstream = h2_upstream(talk.expect_dial(), SUPPORTS)
    client.settle()
    asked = upstream.takes_stream()
    assert asked.fields[b":protocol"] == b"websocket"
    assert b"sec-websocket-key" not in asked.fields
    assert asked.data == b""
    upstream.responds(asked, 200, [(b"sec-websocket-protocol", b"chat")], end=False)
    client.settle()
    assert [pair for pair in stream.heads[-1] if pair[0] != b"date"] == [
        (b":status", b"200"),
        (b"sec-websocket-protocol", b"chat"),
    ]
    upstream.settle()
    assert asked.data == b"early"
    upstream.sends_data(asked, b"answer", end=True)
    client.settle()
    assert (stream.data, stream.has_end) == (b"answer", True)
    client.sends_data(stream, b"last", end=True)
    upstream.settle()
    assert (asked.data, asked.has_end) == (b"earlylast", True)
    assert talk.reasons() == ["ok"]


def test_connect_over_http2_on_both_sides(start: Start) -> None:
    talk = start(protocols=["Http2"], upstream_protocol="Http2", http1=http_options(connect=CONNECT))
    client = h2_client(talk)
    stream = client.requests(TARGET, end=False)
    upstream = h2_upstream(talk.expect_dial())
    client.settle()
    asked = upstream.takes_stream()
    assert asked.fields == {b":method": b"CONNECT", b":authority": b"db.test:5432"}
    upstream.responds(asked, end=False)
    client.settle()
    assert stream.status == 200
    client.sends_data(stream, b"x")
    upstream.settle()
    assert asked.data == b"x"


def test_a_connect_that_ends_here_needs_no_http(start: Start) -> None:
    talk = start(protocols=["Http2"], upstream_protocol="Http2", http1=http_options(connect=CONNECT_HERE))
    client = h2_client(talk)
    stream = client.requests(TARGET, b"\x00raw", end=False)
    upstream = talk.expect_dial()
    client.settle()
    assert upstream.takes() == b"\x00raw"
    upstream.sends(b"\x01")
    client.settle()
    assert stream.data == b"\x01"


def test_events_are_passed_on_at_once(start: Start) -> None:
    """Server-sent events: each goes on before the next comes."""
    talk, client = from_h2(start)
    stream = client.requests(get(b"/events"))
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.settle()
    assert stream.status == 200
    for number in range(3):
        event = b"data: %d\n\n" % number
        upstream.sends(b"%x\r\n" % len(event) + event + b"\r\n")
        client.settle()
        assert stream.data.endswith(event)
    assert not stream.has_end
