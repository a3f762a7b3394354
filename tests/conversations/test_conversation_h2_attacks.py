"""Attacks on HTTP/2 (rows F8 to F15 of the hostile catalogue): the budget ends the connection, and nobody else notices.

Each attack runs until the proxy ends its connection, and for a bounded number of frames.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import hpack
import pytest
from tests.kit import GET, OK, Start, Talk
from tests.kit import h2_frames as wire
from tests.kit.h2_peers import H2Client, get, h2_client, request

from pymosn.api.routing import Route
from pymosn.protocol.http2 import frames as known
from pymosn.routing.actions import DirectResponse
from pymosn.routing.matchers import AnyRequest

pytestmark = pytest.mark.whole_only

CALM = 11
HEAD = wire.literals(get())
POST = wire.literals(request(b"POST"))
DIRECT = [Route("d", AnyRequest(), DirectResponse(200, "x"))]
#: Frames after which every attack must have ended its connection.
MOST = 20_000
Frames = Callable[[int], bytes]


def rapid_resets(stream: int) -> bytes:
    return wire.headers(stream, HEAD, True) + wire.rst_stream(stream)


def resets_of_uploads(stream: int) -> bytes:
    return wire.headers(stream, POST) + wire.data(stream, b"x") + wire.rst_stream(stream)


def made_to_reset(behind: Callable[[int], bytes], end: bool = True) -> Frames:
    """A request, and a frame because of which the proxy must reset it (CVE-2025-8671)."""
    return lambda stream: wire.headers(stream, HEAD if end else POST, end) + behind(stream)


RESETS: dict[str, Frames] = {
    "rapid reset": rapid_resets,
    "reset of an upload": resets_of_uploads,
    "window update of 0": made_to_reset(lambda stream: wire.window_update(stream, 0)),
    "window that overflows": made_to_reset(lambda stream: wire.window_update(stream, 0x7FFFFFFF)),
    "priority of a wrong length": made_to_reset(lambda stream: wire.frame(known.PRIORITY, 0, stream, b"\0\0\0")),
    "priority that depends on itself": made_to_reset(lambda stream: wire.priority(stream, stream)),
    "head after the end": made_to_reset(lambda stream: wire.headers(stream, HEAD, True)),
    "data after the end": made_to_reset(lambda stream: wire.data(stream, b"x")),
    "more than the length": made_to_reset(lambda stream: b""),
    "malformed": lambda stream: wire.headers(stream, wire.literals([*get(), (b"Connection", b"x")]), True),
}
RESETS["more than the length"] = lambda stream: (
    wire.headers(stream, wire.literals(request(b"POST", b"/", b"a", (b"content-length", b"1"))))
    + wire.data(stream, b"xx", True)
)


def attack(talk: Talk, client: H2Client, frames: Frames) -> int:
    """Repeats frames, on a new stream each time, until the connection is over: how often."""
    for turn in range(MOST):
        if not client.peer.is_open() or client.end.goaways:
            return turn
        client.sends(frames(2 * turn + 1))
        while talk.dials:
            talk.hold_dial().connects()
    raise AssertionError("the attack was never ended")


def has_ended(talk: Talk, client: H2Client, *words: str) -> None:
    """The connection ends with ENHANCE_YOUR_CALM and a word, which is also in the log."""
    assert client.goaway() == CALM
    said = client.end.debug.decode()
    assert any(word in said for word in words), said
    assert any(word in line for word in words for line in talk.log.lines), talk.log.lines[-3:]
    talk.advance(10)
    assert client.peer.transport.is_lost


def others_are_served(talk: Talk, other: H2Client) -> None:
    """A client of another connection gets its response."""
    stream = other.requests(get())
    if talk.dials:
        talk.expect_dial()
    for upstream in talk.upstreams:
        if upstream.transport.received.endswith(b"\r\n\r\n") and not upstream.transport.is_lost:
            upstream.takes()
            upstream.sends(OK)
    assert other.result(stream)[0] == 200


@pytest.mark.parametrize("kind", RESETS)
def test_resets_by_either_side(start: Start, kind: str) -> None:
    talk = start(protocols=("Http2",), upstream_protocol="Http1")
    other, client = h2_client(talk, "192.0.2.8"), h2_client(talk)
    assert attack(talk, client, RESETS[kind]) < 1000
    has_ended(talk, client, "reset_flood")
    for upstream in talk.upstreams:
        got_request = bool(upstream.takes())
        assert not (got_request and upstream.is_open()), "a request of the attack is still at its upstream"
    assert not talk.upstreams, "a request that was reset in the same read has cost a connection to a host"
    others_are_served(talk, other)
    assert talk.counters().get("request_active", 0) == 0
    assert set(talk.reasons()) <= {"client_gone", "malformed", "http2_protocol_error", "reset_flood", "ok", "truncated_body"}


FLOODS: dict[str, tuple[Frames, str]] = {
    "settings": (lambda turn: wire.settings((int(known.INITIAL_WINDOW_SIZE), 65535)), "settings_flood"),
    "empty settings": (lambda turn: wire.settings(), "settings_flood"),
    "churn of the table": (lambda turn: wire.settings((int(known.HEADER_TABLE_SIZE), turn % 4096)), "settings_flood"),
    "ping": (lambda turn: wire.ping(), "ping_flood"),
    "priority": (lambda turn: wire.priority(1 + turn % 200 * 2, 0), "priority_flood"),
    "unknown frames": (lambda turn: wire.frame(0xEE, 0, 0, b"x"), "priority_flood"),
    "window updates": (lambda turn: wire.window_update(0, 1), "window_update_flood"),
    "window updates of a stream": (lambda turn: wire.window_update(1, 1), "window_update_flood"),
    "empty data": (lambda turn: wire.data(1, b""), "empty_data_flood"),
    "padded empty data": (lambda turn: wire.data(1, b"", padding=0), "empty_data_flood"),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods(start: Start, kind: str) -> None:
    talk = start(protocols=("Http2",), upstream_protocol="Http1")
    other, client = h2_client(talk, "192.0.2.8"), h2_client(talk)
    client.requests(request(b"POST"), end=False)
    upstream = talk.expect_dial()
    upstream.takes()
    frames, word = FLOODS[kind]
    assert attack(talk, client, frames) < 3000
    has_ended(talk, client, word)
    assert not upstream.is_open()
    upstream.takes()
    others_are_served(talk, other)


def one_by_one(piece: bytes) -> Iterator[bytes]:
    yield wire.frame(known.HEADERS, 0, 1, b"")
    while True:
        yield wire.frame(known.CONTINUATION, 0, 1, piece)


@pytest.mark.parametrize(
    "piece", [b"", b"\x00", wire.literal(b"x", b"y"), b"\x00\x01a\x7f\x80\x7c", b"z" * 16384], ids=range(5)
)
def test_continuations_without_an_end(start: Start, piece: bytes) -> None:
    talk = start(protocols=("Http2",), upstream_protocol="Http1")
    other, client = h2_client(talk, "192.0.2.8"), h2_client(talk)
    sent = 0
    for frames in one_by_one(piece):
        client.sends(frames)
        sent += len(frames)
        if client.end.goaways:
            break
        assert sent < 200_000
    has_ended(talk, client, "continuation_flood", "headers_too_large")
    others_are_served(talk, other)


def test_a_bomb_of_indexed_fields(start: Start) -> None:
    """One field of 4 KB in the table, and thousands of references to it, each of one byte."""
    talk = start(protocols=("Http2",), routes=DIRECT)
    client = h2_client(talk)
    encoder = hpack.Encoder()
    seed = bytes(encoder.encode([*get(), (b"x", b"y" * 3500)]))
    client.sends(wire.headers(1, seed, True))
    index = bytes((0x80 | 62,))
    tracemalloc.start()
    for turn in range(1, 10):  # not so large that they are no mistake
        client.sends(wire.headers(2 * turn + 1, wire.literals(get()) + index * 20, True))
    assert client.goaway() == -1
    client.sends(wire.headers(21, wire.literals(get()) + index * 15_000, True))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 << 20
    statuses = [stream.status for number, stream in client.end.streams.items() if number > 1]
    assert 200 not in statuses
    has_ended(talk, client, "header_bomb")


def test_responses_that_are_not_fetched(start: Start) -> None:
    """100 streams with a window of 0: each upstream is paused soon, and in the end all are given up."""
    talk = start(protocols=("Http2",), upstream_protocol="Http1", stream_idle_timeout=30.0)
    other, client = h2_client(talk, "192.0.2.8"), h2_client(talk, settings=((int(known.INITIAL_WINDOW_SIZE), 0),))
    streams = [client.requests(get()) for _ in range(100)]
    upstreams = [talk.expect_dial() for _ in streams]
    taken = 0
    for upstream in upstreams:
        upstream.takes()
        upstream.sends_whole(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 10000000\r\n\r\n")
        while upstream.is_read():
            upstream.sends_whole(b"x" * 16384)
            taken += 16384
            assert taken < 100 * 200_000
    assert not any(stream.data for stream in streams)
    others_are_served(talk, other)
    talk.advance(31)
    assert all(stream.code > 0 for stream in streams)
    assert all(upstream.is_reset() for upstream in upstreams)
    assert talk.counters().get("request_active", 0) == 0


def test_a_window_of_one_byte_at_a_time(start: Start) -> None:
    talk = start(protocols=("Http2",), upstream_protocol="Http1")
    client = h2_client(talk, settings=((int(known.INITIAL_WINDOW_SIZE), 0),))
    stream = client.requests(get())
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)
    client.end.grants = False
    for _ in range(500):
        client.end.grant(stream, 1)
        client.settle()
    assert len(stream.data) == 500
    for _ in range(2000):
        if client.end.goaways:
            break
        client.end.grant(stream, 1)
        client.settle()
    has_ended(talk, client, "window_update_flood")


def test_replies_to_pings_that_are_not_read(start: Start) -> None:
    """Slowly enough for the budget: what waits to be written is bounded all the same."""
    talk = start(protocols=("Http2",), upstream_protocol="Http1")
    client = h2_client(talk)
    client.peer.stalls()
    client.peer.transport.high_water = 1 << 14
    for _ in range(3000):
        client.sends(wire.ping() * 10)
        talk.clock.now += 0.5
        talk.do(talk.wheel.advance)
        if client.peer.transport.is_closing:
            break
    assert client.peer.transport.is_closing
    assert len(client.peer.transport.waiting) < 1 << 20
    others_are_served(talk, h2_client(talk, "192.0.2.8"))


def test_more_streams_than_allowed(start: Start) -> None:
    talk = start(protocols=("Http2",), upstream_protocol="Http1")
    client = h2_client(talk)
    streams = [client.requests(get()) for _ in range(101)]
    assert streams[100].code == 7, "REFUSED_STREAM"
    upstreams = [talk.expect_dial() for _ in range(100)]
    for upstream in upstreams:
        upstream.receives(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: te\r\nte: trailers\r\n\r\n")
    upstreams[0].sends(OK)
    assert client.result(streams[0])[0] == 200
    again = client.requests(get())
    upstreams[0].takes()
    upstreams[0].sends(OK)
    assert client.result(again)[0] == 200


def test_the_last_stream_id(start: Start) -> None:
    talk = start(protocols=("Http2",), routes=DIRECT)
    client = h2_client(talk)
    client.end.next_id = 0x7FFFFFFF
    assert client.result(client.requests(get())) == (200, b"x")
    assert not client.is_open(), "there can be no further stream"


def test_clients_of_http1_beside_an_attack(start: Start) -> None:
    talk = start(protocols=("Http1", "Http2"), upstream_protocol="Http1")
    client = h2_client(talk)
    attack(talk, client, rapid_resets)
    for upstream in talk.upstreams:
        upstream.takes()
    plain = talk.connect("192.0.2.8")
    plain.sends(GET)
    used = [upstream for upstream in talk.upstreams if upstream.transport.received]
    upstream = used[0] if used else talk.expect_dial()
    upstream.receives(GET)
    upstream.sends(OK)
    plain.receives(OK)
