"""The peers of the tests that speak HTTP/2: with each other, and HTTP/1 text as messages."""

from __future__ import annotations

import pytest
from tests.kit import h2_frames as wire
from tests.kit.h2_end import End
from tests.kit.http1_text import Http1Text, Renderer, merged

REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]


class Pair:
    """A client and a server, connected."""

    def __init__(self) -> None:
        self.to_server, self.to_client = bytearray(), bytearray()
        self.client = End(True, self.to_server.extend)
        self.server = End(False, self.to_client.extend)
        self.to_server += self.client.opening()
        self.to_client += self.server.opening()
        self.settle()

    def settle(self) -> None:
        while self.to_server or self.to_client:
            data = bytes(self.to_server)
            self.to_server.clear()
            self.server.feed(data)
            data = bytes(self.to_client)
            self.to_client.clear()
            self.client.feed(data)


def test_a_request_and_its_response() -> None:
    pair = Pair()
    stream = pair.client.new_stream()
    pair.client.send_head(stream, REQUEST, False)
    pair.client.send_data(stream, b"x" * 200_000, False)
    pair.client.send_trailers(stream, [(b"sum", b"1")])
    pair.settle()
    got = pair.server.streams[1]
    assert (len(got.data), got.trailers, got.has_end) == (200_000, [(b"sum", b"1")], True)
    pair.server.send_head(got, [(b":status", b"103")], False)
    pair.server.send_head(got, [(b":status", b"200"), (b"x", b"1")], False)
    pair.server.send_data(got, b"hello", True)
    pair.settle()
    assert (stream.status, stream.data, len(stream.heads), stream.has_end) == (200, b"hello", 2, True)
    assert (pair.client.acks, pair.server.acks) == (1, 1)


def test_windows_that_are_not_granted_hold_the_data_back() -> None:
    pair = Pair()
    pair.server.grants = False
    stream = pair.client.new_stream()
    pair.client.send_head(stream, REQUEST, False)
    pair.client.send_data(stream, b"x" * 70_000, True)
    pair.settle()
    got = pair.server.streams[1]
    assert (len(got.data), len(stream.waiting)) == (65_535, 70_000 - 65_535)
    pair.server.grant(got, 10_000)
    pair.settle()
    assert len(got.data) == 65_535
    pair.server.grant(None, 10_000)
    pair.settle()
    assert (len(got.data), got.has_end) == (70_000, True)


@pytest.mark.parametrize(
    "bad",
    [
        wire.data(1, b"x" * 16385),
        wire.data(1, b"x"),
        wire.headers(1, wire.literals([(b":status", b"200"), (b"Upper", b"1")])),
        wire.headers(1, wire.literals([(b":status", b"200"), (b"connection", b"close")])),
        wire.headers(1, wire.literals([(b"x", b"1"), (b":status", b"200")])),
        wire.headers(1, wire.literals([(b":status", b"200")]), True) + wire.data(1, b"x"),
        wire.headers(1, wire.literals([(b":status", b"200"), (b"content-length", b"3")])) + wire.data(1, b"x", True),
        wire.headers(3, wire.literals([(b":status", b"200")]), True),
        wire.rst_stream(1) + wire.rst_stream(1),
        wire.goaway(1) + wire.goaway(3),
        wire.window_update(1, 0),
        wire.frame(5, 4, 1, b"\0\0\0\2"),
    ],
    ids=range(12),
)
def test_what_the_proxy_must_not_send_is_noticed(bad: bytes) -> None:
    pair = Pair()
    pair.client.send_head(pair.client.new_stream(), REQUEST, True)
    pair.settle()
    with pytest.raises(AssertionError):
        pair.client.feed(bad)


def test_frames_that_are_too_large_for_the_windows_are_noticed() -> None:
    pair = Pair()
    pair.client.grants = False
    stream = pair.client.new_stream()
    pair.client.send_head(stream, REQUEST, True)
    pair.client.feed(wire.headers(1, wire.literals([(b":status", b"200")])) + wire.data(1, b"x" * 16384) * 3)
    with pytest.raises(AssertionError, match="window"):
        pair.client.feed(wire.data(1, b"x" * 16384))


TEXT = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nSum: 1\r\n\r\n"
    b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"
)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_http1_text_is_read_in_pieces(step: int) -> None:
    reader = Http1Text(False)
    events = []
    for at in range(0, len(TEXT), step):
        events += reader.feed(TEXT[at : at + step])
    assert merged(events) == [
        ("head", 100, []),
        ("head", 200, [(b"content-length", b"5")]),
        ("data", b"hello"),
        ("end",),
        ("head", 200, []),
        ("data", b"abcde"),
        ("trailers", [(b"sum", b"1")]),
        ("end",),
        ("head", 204, [(b"x", b"1")]),
        ("end",),
    ]


def test_events_are_written_as_text_that_says_the_same() -> None:
    events = merged(Http1Text(False).feed(TEXT))
    assert merged(Http1Text(False).feed(Renderer().text(events))) == events
