"""Clients that violate RFC 9113 or flood: what ends the stream, what ends the connection, and what does not."""

from __future__ import annotations

import pytest
from tests.kit import h2_frames as wire
from tests.kit.h2_server import Handler, Request, ServerRig, get, method

from pymosn.protocol.http2 import frames


class Echo(Handler):
    """Answers each request when it has ended."""

    def on_begin(self, request: Request) -> None:
        self.on_content(request)

    def on_content(self, request: Request) -> None:
        if request.has_end:
            request.respond(200)


def rig_with_streams() -> ServerRig:
    """Stream 1: ended by both sides. 3: half-closed by the client. 5: open. 7: reset by the client. 9: reset by us."""
    rig = ServerRig()
    rig.open(get())
    rig.request.respond()
    rig.settle()
    rig.open(get())
    rig.open(method(b"POST"), b"a", end=False)
    rig.end.reset(rig.open(method(b"POST"), b"a", end=False))
    rig.settle()
    rig.open(method(b"POST"), b"a", end=False)
    rig.request.respond(403)
    rig.settle()
    assert list(rig.server._server.streams) == [3, 5]
    return rig


CLOSED, PROTOCOL = int(frames.STREAM_CLOSED), int(frames.PROTOCOL_ERROR)
FLOW, SIZE = int(frames.FLOW_CONTROL_ERROR), int(frames.FRAME_SIZE_ERROR)
COMPRESSION = int(frames.COMPRESSION_ERROR)
BLOCK = wire.literals(get())
MALFORMED = wire.literals(get(b"/", (b"connection", b"close")))
TRAILERS = wire.literals([(b"a", b"b")])
OVERFLOW = wire.window_update(5, 0x7FFFFFFF)

#: What the client sends, and the code of the stream or of the connection (as "goaway"); None: nothing happens.
CASES: list[tuple[str, bytes, tuple[str, int] | None]] = [
    ("data on an idle stream", wire.data(11, b"a"), ("goaway", PROTOCOL)),
    ("data on a stream of ours", wire.data(2, b"a"), ("goaway", PROTOCOL)),
    ("a reset of an idle stream", wire.rst_stream(11), ("goaway", PROTOCOL)),
    ("a window of an idle stream", wire.window_update(11, 1), ("goaway", PROTOCOL)),
    ("a window of 0 of an idle stream", wire.window_update(11, 0), ("goaway", PROTOCOL)),
    ("priority of an idle stream", wire.priority(11, 1), None),
    ("a bad priority of an idle stream", wire.priority(11, 11), ("goaway", PROTOCOL)),
    ("a short priority of an idle stream", wire.frame(2, 0, 11, b"1"), ("goaway", SIZE)),
    ("a head with an even id", wire.headers(12, BLOCK, True), ("goaway", PROTOCOL)),
    ("data on a closed stream", wire.data(1, b"a"), ("reset 1", CLOSED)),
    ("a head on a closed stream", wire.headers(1, BLOCK, True), ("goaway", CLOSED)),
    ("a reset of a closed stream", wire.rst_stream(1), None),
    ("a window of a closed stream", wire.window_update(1, 1), None),
    ("a bad window of a closed stream", wire.window_update(1, 0), None),
    ("priority of a closed stream", wire.priority(1, 3), None),
    ("data on a half-closed stream", wire.data(3, b"a"), ("reset 3", CLOSED)),
    ("a head on a half-closed stream", wire.headers(3, TRAILERS, True), ("reset 3", CLOSED)),
    ("a window of a half-closed stream", wire.window_update(3, 1), None),
    ("data on a stream that the client has reset", wire.data(7, b"a"), ("reset 7", CLOSED)),
    ("a head on a stream that the client has reset", wire.headers(7, TRAILERS, True), ("reset 7", CLOSED)),
    ("a second reset", wire.rst_stream(7), None),
    ("data on a stream that we have reset", wire.data(9, b"a"), None),
    ("trailers on a stream that we have reset", wire.headers(9, TRAILERS, True), None),
    ("trailers that end nothing", wire.headers(5, TRAILERS), ("reset 5", PROTOCOL)),
    ("trailers with a pseudo-header field", wire.headers(5, wire.literals([(b":path", b"/")]), True), ("reset 5", PROTOCOL)),
    ("a window of 0", wire.window_update(5, 0), ("reset 5", PROTOCOL)),
    ("a window that is too large", OVERFLOW, ("reset 5", FLOW)),
    ("the connection's window is too large", wire.window_update(0, 0x7FFFFFFF), ("goaway", FLOW)),
    (
        "an initial window that is too large",
        wire.window_update(5, 0x7FFF0000) + wire.settings((4, 0x7FFFFFFF)),
        ("goaway", FLOW),
    ),
    ("a stream that depends on itself", wire.priority(5, 5), ("reset 5", PROTOCOL)),
    ("a priority of a wrong size", wire.frame(2, 0, 5, b"1234"), ("reset 5", SIZE)),
    ("a new stream that depends on itself", wire.frame(1, 0x25, 11, b"\0\0\0\x0b\0" + BLOCK), ("reset 11", PROTOCOL)),
    ("a head that is no HPACK", wire.headers(11, b"\xff\xff\xff\xff\xff\xff", True), ("goaway", COMPRESSION)),
    ("trailers that are no HPACK", wire.headers(5, b"\x80", True), ("goaway", COMPRESSION)),
    ("a late head that is no HPACK", wire.headers(9, b"\x80", True), ("goaway", COMPRESSION)),
    ("a malformed head", wire.headers(11, MALFORMED, True), ("reset 11", PROTOCOL)),
    ("an unknown frame", wire.frame(99, 0, 5, b"abc"), None),
    ("goaway", wire.goaway(0), None),
    ("hints about priority", wire.frame(0x10, 0, 0, b"\0\0\0\x05u=1"), None),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("each", [0, 1])
def test_frames_in_states(case: tuple[str, bytes, tuple[str, int] | None], each: int) -> None:
    _, data, expected = case
    rig = rig_with_streams()
    before = {number: stream.code for number, stream in rig.end.streams.items()}
    rig.end._made(11)
    before[11] = -1
    for at in range(0, len(data), each or len(data)):
        rig.feed(data[at : at + each] if each else data)
    found = None
    if rig.goaway >= 0:
        found = ("goaway", rig.goaway)
        assert rig.connection.end == "linger"
        assert rig.handler.refusals == [rig.end.debug.decode()]
    else:
        for number, stream in rig.end.streams.items():
            if stream.code != before[number]:
                found = (f"reset {number}", stream.code)
        rig.end.next_id = 13
        assert rig.open(get()).code == -1, "the connection does not go on"
    assert found == expected


def test_a_stream_id_that_was_skipped() -> None:
    rig = ServerRig()
    rig.end.next_id = 5
    rig.open(get())
    rig.feed(wire.headers(3, BLOCK, True))
    assert rig.goaway == PROTOCOL


def test_a_connection_error_resets_the_requests_and_is_an_exchange() -> None:
    rig = rig_with_streams()
    rig.feed(wire.frame(6, 0, 1, bytes(8)))
    assert rig.handler.refusals == ["http2_protocol_error"]
    assert rig.connection.failure is not None
    rig.server.on_close(rig.connection.failure)
    open_requests = [request for request in rig.requests if request.reset == "client_gone"]
    assert len(open_requests) == 3  # 3, 5, and 7, which the client has reset


# ---- floods


def flooded(rig: ServerRig, data: bytes, most: int) -> int:
    """Sends `data` up to `most` times. Returns how often it was sent when the connection ended; 0 if it did not."""
    for count in range(1, most + 1):
        rig.feed(data)
        if rig.connection.is_closed:
            assert rig.goaway == frames.ENHANCE_YOUR_CALM
            return count
    return 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (wire.settings(), "settings_flood"),
        (wire.ping(), "ping_flood"),
        (wire.priority(1, 3), "priority_flood"),
        (wire.frame(99, 0, 0, b"a"), "priority_flood"),
        (wire.window_update(0, 1), "window_update_flood"),
        (wire.window_update(5, 1), "window_update_flood"),
        (wire.data(5, b""), "empty_data_flood"),
        (wire.data(5, b"", padding=9), "empty_data_flood"),
        (wire.headers(9, TRAILERS), "priority_flood"),
    ],
)
def test_floods_of_frames(data: bytes, reason: str) -> None:
    rig = rig_with_streams()
    assert 50 <= flooded(rig, data, 3000) <= 2500
    assert rig.handler.refusals == [reason]
    assert rig.end.debug == reason.encode()


@pytest.mark.parametrize(
    "after",
    [
        lambda number: wire.rst_stream(number),
        lambda number: wire.window_update(number, 0),
        lambda number: wire.window_update(number, 0x7FFFFFFF),
        lambda number: wire.priority(number, number),
        lambda number: wire.frame(2, 0, number, b"1"),
        lambda number: wire.data(number, b"a", True) + wire.data(number, b"a"),
        lambda number: wire.headers(number, TRAILERS),
        lambda number: wire.headers(number, BLOCK, True),
    ],
)
def test_floods_of_resets_by_either_side(after: object) -> None:
    rig = ServerRig()
    assert callable(after)
    for _ in range(1000):
        stream = rig.open(method(b"POST"), end=False)
        stream.is_reset = True
        rig.feed(after(stream.number))
        if rig.connection.is_closed:
            break
    assert rig.handler.refusals == ["reset_flood"]
    assert 100 <= len(rig.requests) <= 300


def test_clients_may_reset_streams_that_have_lasted_or_are_answered() -> None:
    """As those of gRPC end streams of messages, and calls that are not answered before their deadline."""
    rig = ServerRig()
    for _ in range(20):
        streams = [rig.open(get()) for _ in range(100)]
        rig.connection.time += 0.15
        rig.feed(b"".join(wire.rst_stream(stream.number) for stream in streams))
    assert (rig.handler.refusals, rig.connection.is_closed) == ([], False)
    for _ in range(1000):
        stream = rig.open(get())
        rig.request.respond(200, b"a", end=False)
        rig.feed(wire.rst_stream(stream.number))
    assert (rig.handler.refusals, rig.connection.is_closed) == ([], False)
    for _ in range(4):
        streams = [rig.open(get()) for _ in range(100)]
        rig.connection.time += 0.05
        rig.feed(b"".join(wire.rst_stream(stream.number) for stream in streams))
        if rig.connection.is_closed:
            break
    assert rig.handler.refusals == ["reset_flood"]


def test_floods_of_malformed_and_of_refused_requests() -> None:
    rig = ServerRig()
    while not rig.connection.is_closed and len(rig.requests) < 1000:
        rig.open(get(b"/", (b"connection", b"close")))
    assert rig.handler.refusals[-1] == "reset_flood"
    rig = ServerRig(max_concurrent_streams=1)
    rig.open(get())
    for _ in range(1000):
        if not rig.connection.is_closed:
            rig.open(get())
    assert rig.handler.refusals[-1] == "reset_flood"
    assert 100 < rig.handler.refusals.count("too_many_streams") < 300


def test_requests_in_flight_end_with_the_connection_not_when_the_client_has_left() -> None:
    rig = ServerRig()
    rig.open(get())
    rig.open(method(b"POST"), b"a", end=False)
    rig.feed(wire.data(0, b"x"))
    assert rig.goaway == PROTOCOL
    assert [request.reset for request in rig.requests[:2]] == ["client_gone"] * 2
    assert not rig.server._server.streams


def test_large_heads_that_are_not_read_are_not_kept_in_any_number() -> None:
    """Responses without content complete their streams, so that a client can always ask for more of them."""
    rig = ServerRig()
    rig.server.on_writable(False)
    for _ in range(1000):
        rig.open(method(b"HEAD"))
        rig.request.respond(200, x="y" * 16_000)
        if rig.connection.is_closed:
            break
    assert rig.handler.refusals == ["unread_control_frames"]
    assert len(rig.requests) < 70


def test_heads_that_are_too_large_are_a_flood_in_the_end() -> None:
    """Thousands of tiny fields take as long as many requests, and would all be answered."""
    rig = ServerRig()
    for _ in range(1000):
        rig.open(get(b"/", *[(b"x", b"y")] * 400))
        if rig.connection.is_closed:
            break
    assert rig.handler.refusals[-1] == "reset_flood"
    assert 200 <= rig.handler.refusals.count("headers_too_large") < 500


def test_trailers_that_are_too_large_are_a_flood_in_the_end() -> None:
    rig = ServerRig()
    for _ in range(1000):
        stream = rig.open(method(b"POST"), b"a", end=False)
        if not rig.connection.is_closed:
            rig.end.send_trailers(stream, [(b"x", b"y")] * 400)
            rig.settle()
    assert rig.handler.refusals == ["reset_flood"]
    assert rig.requests[0].reset == "headers_too_large"
    assert 200 <= len(rig.requests) < 500


@pytest.mark.parametrize(("taken", "is_enough"), [(1, False), (99, False), (110, True)])
def test_what_waits_of_a_finished_response_is_not_kept_for_a_client_that_takes_it_byte_by_byte(
    taken: int, is_enough: bool
) -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 0),))
    rig.end.grants = False
    stream = rig.open(get())
    rig.request.respond(200, b"x" * 60_000)
    for _ in range(150):
        rig.advance(1.0)
        if stream.code < 0:
            rig.end.grant(stream, taken)
            rig.settle()
    assert (stream.code < 0) == is_enough
    assert (not rig.server._server.streams) != is_enough


def test_a_goaway_never_names_a_later_stream_than_the_one_before() -> None:
    rig = ServerRig()
    rig.open(get())
    rig.server.on_drain()
    rig.settle()
    rig.feed(wire.headers(3, BLOCK, True) + wire.data(0, b"x"))
    assert rig.end.goaways == [(0x7FFFFFFF, 0), (1, 0), (1, PROTOCOL)]


def test_tiny_pieces_of_content_that_wait_do_not_take_much_more_memory_than_their_content() -> None:
    rig = ServerRig()
    handshake = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *get()[1:]]
    streams = [rig.open(handshake, end=False) for _ in range(2)]
    pieces = b"".join(wire.data(stream.number, b"ab") for stream in streams)
    for _ in range(1000):
        rig.feed(pieces)
    for stream in rig.server._server.streams.values():
        early = stream.early()
        assert early is not None
        assert (len(early), sum(map(len, early))) == (2, 2000)


def test_a_client_that_never_acknowledges_the_settings_may_not_exceed_the_maximum_for_ever() -> None:
    rig = ServerRig(answers=False, max_concurrent_streams=1)
    rig.open(get())
    for _ in range(1000):
        rig.open(get())
    assert not rig.connection.is_closed
    for _ in range(1000):
        if not rig.connection.is_closed:
            rig.open(get())
    assert rig.handler.refusals[-1] == "reset_flood"
    assert rig.handler.refusals.count("too_many_streams") < 1300


def test_a_moderate_rate_is_no_flood() -> None:
    rig = ServerRig()
    for _ in range(60):
        for _ in range(15):
            rig.end.reset(rig.open(get()))
            rig.settle()
            rig.feed(wire.ping() + wire.priority(1, 3))
        rig.feed(wire.settings() * 4 + wire.window_update(0, 1) * 90)
        rig.connection.time += 1.0
    assert not rig.connection.is_closed


def test_a_busy_client_may_cancel_a_third() -> None:
    rig = ServerRig()
    for number in range(6000):
        stream = rig.open(get())
        if number % 3 == 0:
            rig.end.reset(stream)
        else:
            rig.request.respond()
        rig.settle()
    assert not rig.connection.is_closed


def test_acknowledging_each_small_message_is_no_flood() -> None:
    """gRPC server streaming: for each DATA frame a client may send two WINDOW_UPDATE frames and a PING."""
    rig = ServerRig()
    stream = rig.open(get())
    rig.request.respond(200, end=False)
    for _ in range(20_000):
        rig.request.sender.send_data(b"message", False)
        rig.settle()
        rig.feed(wire.ping())
    assert (len(stream.data), rig.goaway) == (140_000, -1)


def test_small_messages_of_the_client_are_no_flood() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST"), end=False)
    for _ in range(20_000):
        rig.end.send_data(stream, b"message", False)
        rig.settle()
    assert len(rig.request.data) == 140_000


def test_a_window_opened_byte_by_byte() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 1),))
    rig.end.grants = False
    stream = rig.open(get())
    rig.request.respond(200, b"x" * 100_000)
    rig.settle()
    for _ in range(10_000):
        if rig.connection.is_closed:
            break
        rig.end.grant(stream, 1)
        rig.settle()
    assert rig.handler.refusals == ["window_update_flood"]
    assert 1000 <= len(stream.data) < 1200


def test_a_small_window_is_no_flood() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 300),))
    stream = rig.open(get())
    rig.request.respond(200, b"x" * 1_000_000)
    rig.settle()
    assert (len(stream.data), rig.handler.refusals) == (1_000_000, [])


def test_replies_that_are_not_read_are_bounded() -> None:
    rig = ServerRig()
    rig.open(method(b"POST"), end=False)
    rig.server.on_writable(False)
    for _ in range(600):
        rig.connection.time += 1.0
        rig.server.on_data((wire.ping() + wire.settings()) * 4)
        if rig.connection.is_closed:
            break
    rig.exchange()
    assert rig.handler.refusals == ["unread_control_frames"]


def test_continuations_that_never_end() -> None:
    rig = ServerRig()
    rig.feed(wire.frame(1, 0, 1, b""))
    assert flooded(rig, wire.frame(9, 0, 1, b""), 1000) < 50
    assert rig.handler.refusals == ["continuation_flood"]


def test_requests_after_a_goaway_with_an_error_are_not_processed() -> None:
    rig = ServerRig()
    rig.feed(wire.frame(6, 0, 1, bytes(8)) + wire.headers(1, BLOCK, True))
    assert [request.refusal for request in rig.requests] == ["http2_protocol_error"]
