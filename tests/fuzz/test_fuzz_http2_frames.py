"""Fuzzing of HTTP/2 frames: the decoder, and the server half of a connection.

They never fail but by ProtocolError, and never depend on how the bytes arrive. The second opinion is the `h2` library as the
client: it accepts all that the server sends, and gets the responses that it must.
"""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import hypothesis.strategies as st
import pytest
from tests.fuzz.test_fuzz_http1 import CUTS, SECONDS, fuzz
from tests.kit import h2_frames as wire
from tests.kit.h2_server import FakeConnection, Handler, Request, get, method, options
from tests.unit.protocol.test_http2_frames import decode, take

from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.decoder import FrameDecoder
from pymosn.stream.http2.server_filter import Http2Server

pytestmark = pytest.mark.timeout(SECONDS * 3 + 120)

START = frames.PREFACE + wire.settings()
IDS = st.sampled_from([0, 1, 1, 1, 3, 3, 3, 5, 5, 7, 9, 2, 0x7FFFFFFF])
SIZES = st.sampled_from([0, 1, 2, 100, 65535, 0x7FFFFFFF])
CODES = st.integers(0, 14)
BLOCKS = st.sampled_from(
    [
        wire.literals(get()),
        wire.literals(get(b"/a?b")),
        wire.literals(method(b"POST")),
        wire.literals(method(b"POST", b"/", (b"content-length", b"3"))),
        wire.literals(method(b"HEAD")),
        wire.literals([(b"x-trailer", b"1")]),
        wire.literals(get(b"/", (b"connection", b"close"))),
        b"\x82\x86\x84\x41\x01a",
        b"\x80",
        b"",
    ]
)
CONTENT = st.sampled_from([b"", b"a", b"abc", bytes(300), bytes(16384), bytes(16385)])
PADDING = st.none() | st.integers(0, 255)
SETTINGS = st.lists(st.tuples(st.integers(1, 9), SIZES | st.integers(0, 1)), max_size=3)
FRAMES = st.one_of(
    st.builds(wire.data, IDS, CONTENT, st.booleans(), PADDING),
    st.builds(wire.headers, IDS, BLOCKS, st.booleans(), st.sampled_from([1, 20, 16384])),
    st.builds(wire.headers, IDS, BLOCKS, st.booleans()),
    st.builds(wire.priority, IDS, IDS),
    st.builds(wire.rst_stream, IDS, CODES),
    st.builds(lambda pairs: wire.settings(*pairs), SETTINGS),
    st.builds(wire.settings_ack),
    st.builds(wire.ping, st.binary(min_size=8, max_size=8), st.booleans()),
    st.builds(wire.goaway, IDS, CODES, st.binary(max_size=8)),
    st.builds(wire.window_update, IDS, SIZES),
    st.builds(wire.frame, st.integers(0, 20), st.integers(0, 255), IDS, st.binary(max_size=20)),
)
EDITS = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=5), st.integers(0, 4)), min_size=1, max_size=4)


def edited(data: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    """`data` with bytes put in, taken out and overwritten."""
    for at, put, dropped in edits:
        data = data[:at] + put + data[at + dropped :]
    return data


STREAMS = st.lists(FRAMES, max_size=12).map(b"".join)
ANY = STREAMS | st.builds(edited, STREAMS, EDITS) | st.binary(max_size=80)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at these offsets."""
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    return [data[start:stop] for start, stop in zip([0, *ends[:-1]], ends, strict=True) if start < stop]


# ---- the decoder


def decoded(parts: list[bytes]) -> tuple[list[tuple[Any, ...]], str]:
    decoder = FrameDecoder(16384, 32768, True)
    found: list[tuple[Any, ...]] = []
    try:
        for part in parts:
            decoder.feed(part)
            while (kind := decoder.decode()) != NEED_MORE:
                take(found, decoder, int(kind))
    except ProtocolError as error:
        return found, error.failure.reason
    return found, ""


def check_decoder(data: bytes, cuts: list[int]) -> None:
    """All ways to cut the bytes give the same frames."""
    whole = decode(START + data)
    assert decode(START + data, 1) == whole
    assert decoded(pieces(START + data, cuts)) == whole


# ---- the server


class Echo(Handler):
    """Answers with the content, in two pieces, when a request has ended."""

    def on_begin(self, request: Request) -> None:
        self.on_content(request)

    def on_content(self, request: Request) -> None:
        if request.has_end:
            half = len(request.data) // 2
            request.respond(200, request.data[:half], end=False)
            request.sender.send_data(request.data[half:], True)
            request.sender.release()


class Served:
    """A server that gets bytes, and what has become of it."""

    def __init__(self, parts: list[bytes]) -> None:
        self.connection = FakeConnection()
        self.handler = Echo()
        self.server = Http2Server(self.handler, options(max_concurrent_streams=3))
        self.server.on_connection(self.connection)
        self.out = b""
        for part in parts:
            if self.connection.is_closed:
                break
            self.server.on_data(part)
            self.check()
            self.out += self.connection.take()
        self.out += self.connection.take()

    def check(self) -> None:
        """What is always true of a connection."""
        server = self.server._server
        assert len(server.streams) <= 3
        assert -frames.LARGEST_WINDOW <= server.send_window <= frames.LARGEST_WINDOW
        assert 0 <= server.receive_window <= 1 << 20 or server.is_broken
        for number, stream in server.streams.items():
            assert stream.id == number
            assert not stream.is_closed
            assert -frames.LARGEST_WINDOW <= stream.send_window <= frames.LARGEST_WINDOW
            assert 0 <= stream.receive_window <= 1 << 16
            assert not (stream.remote_ended and stream.is_sent)
            assert stream.unsent >= 0
            blocked = min(stream.send_window, server.send_window) <= 0
            assert stream.unsent == 0 or blocked or server.is_broken, "content waits although the windows are open"

    def ends(self) -> list[tuple[int, int, bytes]]:
        """The resets and the last GOAWAY that were sent, with their codes."""
        found, rest = wire.split(self.out)
        assert rest == b""
        wanted = (frames.RST_STREAM, frames.GOAWAY)
        return [(one.kind, one.stream, one.payload) for one in found if one.kind in wanted]

    def results(self) -> list[tuple[Any, ...]]:
        """What has become of the requests. Content before a violation may have been passed on, or not."""
        results: list[tuple[Any, ...]] = []
        for request in self.handler.requests:
            broken = request.refusal or request.reset
            results.append((broken,) if broken else (request.data, request.has_end, request.trailers))
        return results


def frame_by_frame(data: bytes) -> list[bytes]:
    """A part for each frame."""
    parts: list[bytes] = []
    while len(data) >= 9:
        size = 9 + int.from_bytes(data[:3], "big")
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data]


def check_server(data: bytes, cuts: list[int]) -> None:
    """All ways to cut frames have the same effects. With several frames in a read, a request may end before it begins."""
    Served([START + data])
    Served(pieces(START + data, cuts))
    frames_of = frame_by_frame(data)
    whole = Served([START, *frames_of])
    halves = [half for one in frames_of for half in (one[: len(one) // 2], one[len(one) // 2 :])]
    for parts in (halves, [*(bytes((byte,)) for one in frames_of[:100] for byte in one), *frames_of[100:]]):
        other = Served([START, *parts])
        assert other.ends() == whole.ends()
        assert other.results() == whole.results()


# ---- against the library

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("get"), st.just(0)),
        st.tuples(st.just("post"), st.sampled_from([0, 1, 1000, 70_000, 200_000])),
        st.tuples(st.just("part"), st.sampled_from([1, 1000, 70_000])),
        st.tuples(st.just("end"), st.just(0)),
        st.tuples(st.just("trailers"), st.just(0)),
        st.tuples(st.just("reset"), st.just(0)),
        st.tuples(st.just("ping"), st.just(0)),
        st.tuples(st.just("window"), st.sampled_from([0, 1000, 65535, 200_000])),
        st.tuples(st.just("table"), st.sampled_from([0, 100, 4096, 65536])),
        st.tuples(st.just("frame"), st.sampled_from([16384, 20_000, 100_000])),
    ),
    max_size=12,
)


class LibraryClient:
    """A client of the `h2` library, which raises for what a server must not do."""

    def __init__(self, each: int) -> None:
        self._each = each
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.connection = FakeConnection()
        self.server = Http2Server(Echo(), options())
        self.server.on_connection(self.connection)
        self.sent: dict[int, bytes] = {}
        self.waiting: dict[int, bytes] = {}
        self.ending: set[int] = set()
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.open: list[int] = []
        self.client.initiate_connection()
        self.settle()

    def settle(self) -> None:
        """Both read until nothing is left."""
        while True:
            self._send_waiting()
            data = self.client.data_to_send()
            for at in range(0, len(data), self._each):
                self.server.on_data(data[at : at + self._each])
            answer = self.connection.take()
            assert not self.connection.is_closed
            if not answer:
                break
            for event in self.client.receive_data(answer):
                self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.received[event.stream_id] = self.received.get(event.stream_id, b"") + event.data
            self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            raise AssertionError(f"stream {event.stream_id} was reset")
        elif isinstance(event, h2.events.ConnectionTerminated):
            raise AssertionError("the connection was ended")

    def _send_waiting(self) -> None:
        for number, data in list(self.waiting.items()):
            while data:
                size = min(len(data), self.client.local_flow_control_window(number), self.client.max_outbound_frame_size)
                if size <= 0:
                    break
                self.client.send_data(number, data[:size])
                data = data[size:]
            self.waiting[number] = data
            if not data and number in self.ending:
                self.client.end_stream(number)
                self.ending.discard(number)
                del self.waiting[number]

    def start(self, name: str, body: bytes, end: bool) -> None:
        number = self.client.get_next_available_stream_id()
        self.client.send_headers(
            number, [(field, value) for field, value in method(name.encode())], end_stream=end and not body
        )
        self.sent[number] = body
        if body or not end:
            self.waiting[number] = body
            if end:
                self.ending.add(number)
            else:
                self.open.append(number)

    def perform(self, operation: str, value: int) -> None:
        last = self.open[-1] if self.open else 0
        if operation == "get":
            self.start("GET", b"", True)
        elif operation == "post":
            self.start("POST", bytes(value), True)
        elif operation == "part" and last:
            self.sent[last] += b"x" * value
            self.waiting[last] += b"x" * value
        elif operation == "part":
            self.start("POST", b"y" * value, False)
        elif operation in ("end", "trailers") and last:
            self.settle()
            self.open.pop()
            if operation == "trailers" and not self.waiting[last]:
                del self.waiting[last]
                self.client.send_headers(last, [(b"x-sum", b"1")], end_stream=True)
            else:
                self.ending.add(last)
        elif operation == "reset" and last:
            self.open.pop()
            del self.waiting[last]
            self.reset.add(last)
            self.client.reset_stream(last, 8)
        elif operation == "ping":
            self.client.ping(b"12345678")
        elif operation in ("window", "table", "frame"):
            code = {"window": 4, "table": 1, "frame": 5}[operation]
            self.client.update_settings({h2.settings.SettingCodes(code): value})

    def finish(self) -> None:
        """Ends all requests, and checks the responses."""
        for number in self.open:
            self.ending.add(number)
        self.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65535})
        self.settle()
        for number, body in self.sent.items():
            if number not in self.reset:
                assert number in self.ended, f"stream {number} has no complete response"
                assert self.received.get(number, b"") == body
        assert not self.server._server.streams


def check_library(operations: list[tuple[str, int]], each: int) -> None:
    """A client of the library gets what it must, whatever it does."""
    client = LibraryClient(each)
    for operation, value in operations:
        client.perform(operation, value)
        client.settle()
    client.finish()


def test_frames_however_cut() -> None:
    fuzz(check_decoder, 300, ANY, CUTS)


def test_a_server_however_cut() -> None:
    fuzz(check_server, 300, ANY, CUTS)


def test_clients_of_the_library() -> None:
    fuzz(check_library, 60, OPERATIONS, st.sampled_from([1000, 16384, 1 << 20]))
