"""The decoder of HTTP/2 frames: what it accepts, what it refuses, and that it does not matter how the bytes arrive."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from tests.kit import h2_frames as wire

from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.core.frame_writer import FrameWriter
from pymosn.protocol.http2 import decoder as kinds
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.decoder import FrameDecoder
from pymosn.protocol.http2.settings import PeerSettings
from pymosn.protocol.http2.writer import (
    settings_frame,
    window_update,
    write_data,
    write_goaway,
    write_head,
    write_ping,
    write_reset,
    write_settings_ack,
)

START = frames.PREFACE + wire.settings()
MAX_FRAME = 16384
MAX_BLOCK = 32768


class Found(NamedTuple):
    """The result of decoding: what was found, with the pieces of one DATA frame joined, and the error at the end."""

    found: list[tuple[Any, ...]]
    error: str


def decode(data: bytes, each: int = 0, expects_preface: bool = True) -> Found:
    """Decodes bytes that arrive in pieces of `each` bytes; 0: at once."""
    decoder = FrameDecoder(MAX_FRAME, MAX_BLOCK, expects_preface)
    found: list[tuple[Any, ...]] = []
    error = ""
    try:
        for at in range(0, len(data), each or max(1, len(data))):
            decoder.feed(data[at : at + each] if each else data)
            while (kind := decoder.decode()) != NEED_MORE:
                take(found, decoder, int(kind))
    except ProtocolError as caught:
        error = caught.failure.reason
    return Found(found, error)


def take(found: list[tuple[Any, ...]], decoder: FrameDecoder, kind: int) -> None:
    """Records one result."""
    stream = int(decoder.stream_id)
    if kind == kinds.DATA:
        if not decoder.is_first:
            _, _, data, _, flow, size = found.pop()
            assert decoder.flow == 0
            found.append((kind, stream, data + decoder.data, decoder.end, flow, size + int(decoder.size)))
        else:
            found.append((kind, stream, decoder.data, decoder.end, int(decoder.flow), int(decoder.size)))
    elif kind == kinds.HEADERS:
        found.append((kind, stream, decoder.fragment, decoder.end, decoder.is_self_dependent))
    elif kind in (kinds.SETTINGS, kinds.PING):
        found.append((kind, decoder.data, decoder.is_ack))
    elif kind == kinds.GOAWAY:
        found.append((kind, int(decoder.number), int(decoder.code), decoder.data))
    elif kind == kinds.WINDOW_UPDATE:
        found.append((kind, stream, int(decoder.number)))
    elif kind in (kinds.RST_STREAM, kinds.STREAM_ERROR):
        found.append((kind, stream, int(decoder.code)))
    else:
        found.append((kind, stream))


DATA, HEADERS, SETTINGS = int(kinds.DATA), int(kinds.HEADERS), int(kinds.SETTINGS)
STREAM_ERROR = int(kinds.STREAM_ERROR)
BLOCK = b"block"

ACCEPTED: list[tuple[str, bytes, list[tuple[Any, ...]]]] = [
    ("data", wire.data(1, b"abc"), [(DATA, 1, b"abc", False, 3, 3)]),
    ("the last data", wire.data(1, b"abc", True), [(DATA, 1, b"abc", True, 3, 3)]),
    ("no data", wire.data(1, b"", True), [(DATA, 1, b"", True, 0, 0)]),
    ("padded data", wire.data(1, b"abc", True, 4), [(DATA, 1, b"abc", True, 8, 8)]),
    ("nothing but padding", wire.data(1, b"", False, 255), [(DATA, 1, b"", False, 256, 256)]),
    ("padding of no bytes", wire.data(1, b"abc", False, 0), [(DATA, 1, b"abc", False, 4, 4)]),
    ("the largest frame", wire.data(1, bytes(MAX_FRAME)), [(DATA, 1, bytes(MAX_FRAME), False, MAX_FRAME, MAX_FRAME)]),
    ("a head", wire.headers(1, BLOCK, True), [(HEADERS, 1, BLOCK, True, False)]),
    ("a continued head", wire.headers(1, BLOCK, False, 1), [(HEADERS, 1, BLOCK, False, False)]),
    ("an empty head", wire.headers(3, b""), [(HEADERS, 3, b"", False, False)]),
    (
        "a head with padding and priority",
        wire.frame(1, 0x2D, 5, b"\x02" + b"\x80\0\0\x03\xff" + BLOCK + b"\0\0"),
        [(HEADERS, 5, BLOCK, True, False)],
    ),
    ("a head that depends on itself", wire.frame(1, 0x24, 5, b"\0\0\0\x05\0" + BLOCK), [(HEADERS, 5, BLOCK, False, True)]),
    ("priority", wire.priority(3, 1), [(int(kinds.PRIORITY), 3)]),
    ("a stream that depends on itself", wire.priority(3, 3), [(STREAM_ERROR, 3, 1)]),
    ("priority of a wrong size", wire.frame(2, 0, 3, b"1234"), [(STREAM_ERROR, 3, 6)]),
    ("a reset", wire.rst_stream(3, 8), [(int(kinds.RST_STREAM), 3, 8)]),
    ("settings", wire.settings((1, 2), (77, 1)), [(SETTINGS, b"\0\x01\0\0\0\x02\0\x4d\0\0\0\x01", False)]),
    ("acknowledged settings", wire.settings_ack(), [(SETTINGS, b"", True)]),
    ("a ping", wire.ping(b"abcdefgh"), [(int(kinds.PING), b"abcdefgh", False)]),
    ("an answered ping", wire.ping(b"abcdefgh", True), [(int(kinds.PING), b"abcdefgh", True)]),
    ("goaway", wire.goaway(7, 1, b"why"), [(int(kinds.GOAWAY), 7, 1, b"why")]),
    ("a window", wire.window_update(0, 9), [(int(kinds.WINDOW_UPDATE), 0, 9)]),
    ("the reserved bit of a window", wire.frame(8, 0, 1, b"\x80\0\0\x09"), [(int(kinds.WINDOW_UPDATE), 1, 9)]),
    ("a stream's window of 0", wire.window_update(1, 0), [(STREAM_ERROR, 1, 1)]),
    ("an unknown type", wire.frame(77, 255, 0, b"abc"), [(int(kinds.IGNORED), 0)]),
    ("the reserved bit of the stream", wire.frame(0, 0, (1 << 31) + 1, b"a"), [(DATA, 1, b"a", False, 1, 1)]),
    ("unknown flags", wire.frame(6, 0xFE, 0, b"abcdefgh"), [(int(kinds.PING), b"abcdefgh", False)]),
]

REFUSED: list[tuple[str, bytes, str]] = [
    ("data on stream 0", wire.data(0, b"a"), "http2_protocol_error"),
    ("headers on stream 0", wire.headers(0, b"a"), "http2_protocol_error"),
    ("priority on stream 0", wire.frame(2, 0, 0, bytes(5)), "http2_protocol_error"),
    ("a reset of stream 0", wire.rst_stream(0), "http2_protocol_error"),
    ("continuation on stream 0", wire.frame(9, 4, 0, b"a"), "http2_protocol_error"),
    ("settings on a stream", wire.frame(4, 0, 1), "http2_protocol_error"),
    ("a ping on a stream", wire.frame(6, 0, 1, bytes(8)), "http2_protocol_error"),
    ("goaway on a stream", wire.frame(7, 0, 1, bytes(8)), "http2_protocol_error"),
    ("a push", wire.frame(5, 4, 1, bytes(4) + BLOCK), "http2_protocol_error"),
    ("the connection's window of 0", wire.window_update(0, 0), "http2_protocol_error"),
    ("too large data", wire.frame(0, 0, 1, bytes(MAX_FRAME + 1)), "http2_frame_size_error"),
    ("a too large unknown frame", wire.frame(99, 0, 1, b"", MAX_FRAME + 1), "http2_frame_size_error"),
    ("settings of a wrong size", wire.frame(4, 0, 0, bytes(5)), "http2_frame_size_error"),
    ("an acknowledgement with settings", wire.frame(4, 1, 0, bytes(6)), "http2_frame_size_error"),
    ("a ping of 7", wire.frame(6, 0, 0, bytes(7)), "http2_frame_size_error"),
    ("a ping of 9", wire.frame(6, 0, 0, bytes(9)), "http2_frame_size_error"),
    ("a reset of 3", wire.frame(3, 0, 1, bytes(3)), "http2_frame_size_error"),
    ("a window of 5", wire.frame(8, 0, 1, bytes(5)), "http2_frame_size_error"),
    ("goaway of 7", wire.frame(7, 0, 0, bytes(7)), "http2_frame_size_error"),
    ("padding longer than data", wire.frame(0, 8, 1, b"\x04abc"), "http2_protocol_error"),
    ("padded data without a byte", wire.frame(0, 8, 1), "http2_frame_size_error"),
    ("padding longer than a head", wire.frame(1, 12, 1, b"\x04abc"), "http2_protocol_error"),
    ("padding that leaves no priority", wire.frame(1, 0x2C, 1, b"\x04\0\0\0\0\0abc"), "http2_protocol_error"),
    ("a padded head without a byte", wire.frame(1, 12, 1), "http2_frame_size_error"),
    ("a head without its priority", wire.frame(1, 0x24, 1, b"abc"), "http2_frame_size_error"),
    ("continuation alone", wire.frame(9, 4, 1, BLOCK), "http2_protocol_error"),
    ("a head within a head", wire.frame(1, 0, 1, BLOCK) + wire.headers(3, BLOCK), "http2_protocol_error"),
    ("data within a head", wire.frame(1, 0, 1, BLOCK) + wire.data(1, b"a"), "http2_protocol_error"),
    ("an unknown frame within a head", wire.frame(1, 0, 1, BLOCK) + wire.frame(77, 0, 1), "http2_protocol_error"),
    ("another stream's continuation", wire.frame(1, 0, 1, BLOCK) + wire.frame(9, 4, 3, BLOCK), "http2_protocol_error"),
    ("a large head", wire.headers(1, bytes(MAX_BLOCK + 1)), "continuation_flood"),
    ("many continuations", wire.frame(1, 0, 1) + wire.frame(9, 0, 1) * 1000, "continuation_flood"),
]


@pytest.mark.parametrize("each", [0, 1, 2, 7])
@pytest.mark.parametrize(("data", "found"), [case[1:] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED])
def test_accepted(data: bytes, found: list[tuple[Any, ...]], each: int) -> None:
    assert decode(START + data + data, each) == Found([(SETTINGS, b"", False), *found, *found], "")


@pytest.mark.parametrize("each", [0, 1, 2, 7])
@pytest.mark.parametrize(("data", "error"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused(data: bytes, error: str, each: int) -> None:
    found = decode(START + data, each)
    assert found.error == error
    assert found.found[1:] == []


@pytest.mark.parametrize("each", [0, 1, 5])
def test_the_beginning(each: int) -> None:
    bad = Found([], "http2_protocol_error")
    assert decode(frames.PREFACE[:20], each) == Found([], "")
    assert decode(b"GET / HTTP/1.1\r\n\r\n", each) == bad
    assert decode(frames.PREFACE[:23] + b"x", each) == bad
    assert decode(frames.PREFACE + wire.ping(), each) == bad
    assert decode(frames.PREFACE + wire.settings_ack(), each) == bad
    assert decode(wire.settings(), each, expects_preface=False).error == ""
    assert decode(wire.ping(), each, expects_preface=False) == bad


def test_whether_something_is_incomplete() -> None:
    decoder = FrameDecoder(MAX_FRAME, MAX_BLOCK, True)
    assert not decoder.has_begun()
    assert not decoder.awaits_head()

    def after(data: bytes) -> tuple[bool, bool, int]:
        decoder.feed(data)
        while decoder.decode() != NEED_MORE:
            pass
        return decoder.has_begun(), decoder.awaits_head(), int(decoder.head_size())

    assert after(frames.PREFACE[:3]) == (True, True, 3)
    assert after(frames.PREFACE[3:])[1]
    assert after(wire.settings()) == (False, False, 0)
    assert after(wire.ping()[:12]) == (True, False, 0)
    assert after(wire.ping()[12:]) == (False, False, 0)
    assert after(wire.frame(1, 0, 1, BLOCK)[:10]) == (True, True, 10)
    assert after(wire.frame(1, 0, 1, BLOCK)[10:12]) == (True, True, 12)
    assert after(wire.frame(1, 0, 1, BLOCK)[12:]) == (True, True, 5)
    assert after(wire.frame(9, 4, 1, BLOCK)) == (False, False, 0)
    assert after(wire.data(1, b"abc")[:10]) == (True, False, 0)


def test_data_is_passed_on_as_it_arrives() -> None:
    decoder = FrameDecoder(MAX_FRAME, MAX_BLOCK, False)
    decoder.feed(wire.settings())
    decoder.decode()
    data = wire.data(1, b"abcdef", True, 3)
    decoder.feed(data[:12])
    assert decoder.decode() == kinds.DATA
    assert (decoder.data, decoder.end, decoder.flow, decoder.size, decoder.is_first) == (b"ab", False, 10, 2, True)
    decoder.feed(data[12:-2])
    assert decoder.decode() == kinds.DATA
    assert (decoder.data, decoder.end, decoder.flow, decoder.size, decoder.is_first) == (b"cdef", False, 0, 4, False)
    assert decoder.decode() == NEED_MORE
    decoder.feed(data[-2:-1])
    assert decoder.decode() == NEED_MORE
    decoder.feed(data[-1:])
    assert decoder.decode() == kinds.DATA
    assert (decoder.data, decoder.end, decoder.flow, decoder.size, decoder.is_first) == (b"", True, 0, 4, False)


def test_what_the_library_writes_is_read() -> None:
    made: list[Frame] = [
        DataFrame(1, b"abc", flags=["END_STREAM"]),
        DataFrame(1, b"abc", pad_length=9, flags=["PADDED"]),
        HeadersFrame(3, BLOCK, flags=["END_HEADERS"]),
        HeadersFrame(5, BLOCK, flags=["END_STREAM"]),
        ContinuationFrame(5, BLOCK, flags=["END_HEADERS"]),
        PriorityFrame(3, depends_on=1, stream_weight=3, exclusive=True),
        RstStreamFrame(3, error_code=5),
        SettingsFrame(0, {3: 100}),
        PingFrame(0, b"abcdefgh"),
        GoAwayFrame(0, last_stream_id=3, error_code=1, additional_data=b"x"),
        WindowUpdateFrame(3, window_increment=77),
    ]
    found = decode(START + b"".join(frame.serialize() for frame in made))
    assert found.error == ""
    assert found.found[1:] == [
        (DATA, 1, b"abc", True, 3, 3),
        (DATA, 1, b"abc", False, 13, 13),
        (HEADERS, 3, BLOCK, False, False),
        (HEADERS, 5, BLOCK * 2, True, False),
        (int(kinds.PRIORITY), 3),
        (int(kinds.RST_STREAM), 3, 5),
        (SETTINGS, b"\0\x03\0\0\0\x64", False),
        (int(kinds.PING), b"abcdefgh", False),
        (int(kinds.GOAWAY), 3, 1, b"x"),
        (int(kinds.WINDOW_UPDATE), 3, 77),
    ]


def test_what_is_written_is_read_by_the_library() -> None:
    out = FrameWriter()
    write_data(out, 1, b"abc", True)
    write_data(out, 0x12345678, bytes(5000), False)
    write_head(out, 3, BLOCK, True, 16384)
    write_head(out, 3, bytes(40000), False, 16384)
    write_reset(out, 3, 8)
    write_settings_ack(out)
    write_ping(out, b"abcdefgh", True)
    write_goaway(out, 0x7FFFFFFF, 11, b"flood")
    data = b"".join(out.take()) + window_update(0, 0x7FFFFFFF) + settings_frame([(3, 100), (4, 1 << 20)])
    read: list[Frame] = []
    while data:
        frame, size = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + size]))
        read.append(frame)
        data = data[9 + size :]
    assert [(type(frame).__name__, frame.stream_id, sorted(frame.flags)) for frame in read] == [
        ("DataFrame", 1, ["END_STREAM"]),
        ("DataFrame", 0x12345678, []),
        ("HeadersFrame", 3, ["END_HEADERS", "END_STREAM"]),
        ("HeadersFrame", 3, []),
        ("ContinuationFrame", 3, []),
        ("ContinuationFrame", 3, ["END_HEADERS"]),
        ("RstStreamFrame", 3, []),
        ("SettingsFrame", 0, ["ACK"]),
        ("PingFrame", 0, ["ACK"]),
        ("GoAwayFrame", 0, []),
        ("WindowUpdateFrame", 0, []),
        ("SettingsFrame", 0, []),
    ]
    assert isinstance(read[9], GoAwayFrame)
    assert (read[9].last_stream_id, read[9].error_code, read[9].additional_data) == (0x7FFFFFFF, 11, b"flood")
    assert isinstance(read[11], SettingsFrame)
    assert read[11].settings == {3: 100, 4: 1 << 20}


def payload(*pairs: tuple[int, int]) -> bytes:
    return wire.settings(*pairs)[9:]


def test_settings_are_applied_in_order() -> None:
    peer = PeerSettings()
    peer.apply(payload((1, 100), (1, 0), (1, 200), (3, 7), (4, 9), (5, 20000), (8, 1), (6, 1), (77, 5)), False)
    assert (peer.least_table_size, peer.table_size) == (0, 200)
    assert (peer.max_streams, peer.window, peer.frame_size, peer.has_connect) == (7, 9, 20000, True)
    peer.apply(payload((4, 1), (4, 2)), False)
    assert (peer.least_table_size, peer.table_size, peer.window) == (200, 200, 2)


@pytest.mark.parametrize(
    ("pair", "is_client", "error"),
    [
        ((2, 0), False, ""),
        ((2, 1), False, ""),
        ((2, 2), False, "http2_protocol_error"),
        ((2, 0), True, ""),
        ((2, 1), True, "http2_protocol_error"),
        ((4, 0x7FFFFFFF), False, ""),
        ((4, 0x80000000), False, "http2_flow_control_error"),
        ((5, 16383), False, "http2_protocol_error"),
        ((5, 0xFFFFFF), False, ""),
        ((5, 0x1000000), False, "http2_protocol_error"),
        ((8, 2), True, "http2_protocol_error"),
        ((9, 1), False, ""),
        ((9, 2), False, "http2_protocol_error"),
        ((3, 0xFFFFFFFF), False, ""),
    ],
)
def test_values_of_settings(pair: tuple[int, int], is_client: bool, error: str) -> None:
    peer = PeerSettings()
    if not error:
        peer.apply(payload(pair), is_client)
        return
    with pytest.raises(ProtocolError) as caught:
        peer.apply(payload(pair), is_client)
    assert caught.value.failure.reason == error


def test_extended_connect_cannot_be_withdrawn() -> None:
    peer = PeerSettings()
    peer.apply(payload((8, 1)), True)
    with pytest.raises(ProtocolError):
        peer.apply(payload((8, 0)), True)
