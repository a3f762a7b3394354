"""The server half of an HTTP/2 connection: streams, windows, limits, times and its ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.kit import h2_frames as wire
from tests.kit.h2_end import Pairs
from tests.kit.h2_server import FakeConnection, Handler, Request, ServerRig, get, method

from pymosn.api.http import HttpResponse
from pymosn.core.failure import (
    CLIENT_WRITE_TIMEOUT,
    CLOSED_BY_PEER,
    INTERNAL_ERROR,
    RESET_AFTER_RESPONSE,
    Failure,
)
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import headers_from
from pymosn.core.overload import OverloadState
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2 import frames
from pymosn.stream.http2.sending import CONNECTION_MARK
from pymosn.stream.http2.server_filter import Http2Server

WINDOW = int(frames.DEFAULT_WINDOW)


class Echo(Handler):
    """Answers each request at once with its content."""

    def on_begin(self, request: Request) -> None:
        self.on_content(request)

    def on_content(self, request: Request) -> None:
        if request.has_end:
            request.respond(200, request.data)


def codes(rig: ServerRig) -> dict[int, int]:
    """The codes of the streams that were reset."""
    return {number: stream.code for number, stream in rig.end.streams.items() if stream.code >= 0}


# ---- requests and responses


def test_a_request_is_answered_in_its_call_stack() -> None:
    rig = ServerRig(Echo())
    stream = rig.open(get())
    assert (stream.status, stream.has_end) == (200, True)
    assert not rig.goaway >= 0


def test_content_that_came_with_the_head_begins_the_request() -> None:
    rig = ServerRig()
    rig.open(method(b"POST", b"/", (b"content-length", b"5")), b"hello")
    assert (rig.request.data, rig.request.has_end, rig.request.pieces) == (b"hello", True, [5])


def test_small_frames_of_one_read_are_passed_on_together() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST"), end=False)
    rig.feed(b"".join(wire.data(stream.number, b"ab") for _ in range(100)))
    assert (rig.request.pieces, rig.request.has_end) == ([200], False)
    rig.feed(wire.data(stream.number, b"x" * 9000) * 3 + wire.data(stream.number, b"", True))
    assert rig.request.pieces == [200, 9000, 9000, 9000]


@pytest.mark.parametrize("each", [1, 3, 50])
def test_bytes_may_arrive_in_any_pieces(each: int) -> None:
    rig = ServerRig(Echo())
    stream = rig.end.new_stream()
    rig.end.send_head(stream, method(b"POST"), False)
    rig.end.send_data(stream, b"0123456789" * 10, True)
    data = rig.exchange()
    for at in range(0, len(data), each):
        rig.feed(data[at : at + each])
    assert (stream.status, stream.data) == (200, b"0123456789" * 10)


def test_trailers_both_ways() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST"), b"a", end=False)
    rig.end.send_trailers(stream, [(b"x-sum", b"1")])
    rig.settle()
    assert rig.request.trailers == [(b"x-sum", b"1")]
    rig.request.respond(200, b"b", end=False)
    rig.request.sender.send_trailers(headers_from({"x-status": "0"}))
    rig.request.sender.release()
    rig.settle()
    assert (stream.data, stream.trailers, stream.has_end) == (b"b", [(b"x-status", b"0")], True)
    assert not codes(rig)


def test_informational_responses() -> None:
    rig = ServerRig()
    stream = rig.open(get())
    rig.request.sender.send_informational(HttpResponse(103, b"", headers_from({"link": "</a>"})))
    rig.request.sender.send_informational(HttpResponse(101, b"", headers_from({})))
    rig.request.respond(200)
    rig.request.sender.send_informational(HttpResponse(103, b"", headers_from({})))
    rig.settle()
    assert [head[0][1] for head in stream.heads] == [b"103", b"200"]


@pytest.mark.parametrize(("name", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
@pytest.mark.parametrize("end", [True, False])
def test_responses_without_content_have_none(name: bytes, status: int, end: bool) -> None:
    rig = ServerRig()
    stream = rig.open(method(name))
    rig.request.respond(status, b"abc", end=end)
    if not end:
        rig.request.sender.send_data(b"def", True)
        rig.request.sender.release()
    rig.settle()
    assert (stream.status, stream.data, stream.has_end) == (status, b"", True)
    assert rig.end.kinds().count(int(frames.DATA)) == 0


def test_an_early_response_stops_the_upload_without_an_error() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST"), b"a", end=False)
    rig.request.respond(403)
    rig.settle()
    assert (stream.status, stream.has_end, stream.code) == (403, True, frames.NO_ERROR)
    before = rig.end.send_window
    rig.feed(wire.data(1, b"x" * 1000) + wire.headers(1, rig.end.block([(b"x-t", b"1")]), True))
    assert rig.goaway == -1
    assert before == rig.end.send_window
    assert rig.open(get()).code == -1


def test_an_aborted_response_is_reset() -> None:
    rig = ServerRig()
    stream = rig.open(get())
    rig.request.respond(200, b"a", end=False)
    rig.request.sender.reset(RESET_AFTER_RESPONSE)
    rig.request.sender.release()
    rig.settle()
    assert (stream.data, stream.code) == (b"a", frames.INTERNAL_ERROR)
    rig.request.sender.send_data(b"b", True)
    assert rig.connection.take() == b""


def test_a_stream_released_without_a_response_is_reset() -> None:
    rig = ServerRig()
    stream = rig.open(get())
    rig.request.sender.release()
    rig.settle()
    assert stream.code == frames.INTERNAL_ERROR


def test_a_client_that_resets() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST"), b"a", end=False)
    rig.end.reset(stream)
    rig.settle()
    assert rig.request.reset == "client_gone"
    rig.request.respond(200)
    assert rig.connection.take() == b""


def test_an_exception_of_a_receiver_resets_only_its_stream() -> None:
    class Raising(Echo):
        def on_content(self, request: Request) -> None:
            if request.data == b"bad":
                raise ValueError("bad")
            super().on_content(request)

    rig = ServerRig(Raising())
    reported: list[Any] = []

    async def talk() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        bad = rig.open(method(b"POST"), b"bad")
        good = rig.open(method(b"POST"), b"good")
        assert (bad.code, good.data) == (frames.INTERNAL_ERROR, b"good")

    asyncio.run(talk())
    assert [str(error) for error in reported] == ["bad"]
    assert rig.requests[0].reset == INTERNAL_ERROR.reason


# ---- refused requests


@pytest.mark.parametrize(
    ("fields", "body", "reason"),
    [
        (get(b"/", (b"connection", b"close")), b"", "malformed"),
        (method(b"POST", b"/", (b"content-length", b"3")), b"ab", "malformed"),
        (method(b"POST", b"/", (b"content-length", b"3")), b"abcd", "malformed"),
        (method(b"POST", b"/", (b"content-length", b"3")), b"", "malformed"),
    ],
)
def test_malformed_requests_are_reset_and_are_exchanges(fields: Any, body: bytes, reason: str) -> None:
    rig = ServerRig()
    stream = rig.open(fields, body)
    assert (stream.code, stream.heads) == (frames.PROTOCOL_ERROR, [])
    assert rig.handler.refusals == [reason]
    assert rig.goaway == -1


def test_content_shorter_than_announced_after_it_has_begun() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST", b"/", (b"content-length", b"3")), b"a", end=False)
    rig.feed(wire.data(1, b"b", True))
    assert (stream.code, rig.request.reset, rig.request.data) == (frames.PROTOCOL_ERROR, "malformed", b"a")


def test_trailers_count_as_the_end_of_the_content() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST", b"/", (b"content-length", b"3")), b"a", end=False)
    rig.end.send_trailers(stream, [(b"a", b"b")])
    rig.settle()
    assert (stream.code, rig.request.reset) == (frames.PROTOCOL_ERROR, "malformed")


def test_a_head_that_is_too_large_is_answered() -> None:
    rig = ServerRig(limits=HttpLimits(head=1000, fields=100, body=0))
    stream = rig.open(get(b"/", (b"a", b"x" * 1500)))
    assert (stream.status, rig.handler.refusals) == (431, ["headers_too_large"])
    assert rig.open(get()).code == -1


def test_content_over_the_limit_is_answered() -> None:
    rig = ServerRig(limits=HttpLimits(head=8192, fields=100, body=1000))
    stream = rig.open(method(b"POST"), b"x" * 800, end=False)

    def answer(request: Request) -> None:
        request.respond(413)

    rig.handler.on_break = answer  # type: ignore[method-assign]
    rig.end.send_data(stream, b"x" * 800, False)
    rig.settle()
    assert (rig.request.reset, stream.status, stream.code) == ("body_too_large", 413, frames.NO_ERROR)
    assert len(rig.request.data) == 800, "what exceeds the limit is not passed on"


@pytest.mark.parametrize("end", [False, True])
def test_content_over_the_limit_that_comes_with_its_head(end: bool) -> None:
    """The host gets nothing of it, and certainly not all."""
    rig = ServerRig(limits=HttpLimits(head=8192, fields=100, body=1000))
    stream = rig.open(method(b"POST"), b"x" * 1001, end=end)
    assert (rig.handler.refusals, rig.request.data, stream.status) == (["body_too_large"], b"", 413)
    assert rig.open(method(b"POST"), b"x" * 1000).code == -1
    assert (len(rig.request.data), rig.request.has_end) == (1000, True)


@pytest.mark.parametrize("protocol", [b"", b"websocket"])
def test_trailers_of_a_tunnel_are_an_error(protocol: bytes) -> None:
    """RFC 9113 section 8.5."""
    rig = ServerRig(connect=b"CONNECT")
    target = [(b":protocol", protocol), *get()[1:]] if protocol else [(b":authority", b"a:443")]
    stream = rig.open([(b":method", b"CONNECT"), *target], end=False)
    rig.end.send_trailers(stream, [(b"a", b"b")])
    rig.settle()
    assert (stream.code, rig.request.reset) == (frames.PROTOCOL_ERROR, "malformed")


def test_streams_beyond_the_maximum_are_refused() -> None:
    rig = ServerRig(max_concurrent_streams=2)
    streams = [rig.open(get()) for _ in range(3)]
    assert [stream.code for stream in streams] == [-1, -1, frames.REFUSED_STREAM]
    assert rig.handler.refusals == ["too_many_streams"]
    rig.requests[0].respond()
    rig.settle()
    assert rig.open(get()).code == -1


# ---- what is sent, and windows


def test_nothing_is_sent_beyond_the_stream_window() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 10),))
    rig.end.grants = False
    stream = rig.open(get())
    rig.request.respond(200, b"x" * 25)
    rig.settle()
    assert (len(stream.data), stream.has_end) == (10, False)
    rig.end.grant(stream, 10)
    rig.settle()
    assert (len(stream.data), stream.has_end) == (20, False)
    rig.end.grant(stream, 5)
    rig.settle()
    assert (len(stream.data), stream.has_end, stream.code) == (25, True, -1)


def test_what_waits_is_sent_in_order() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 0),))
    rig.end.grants = False
    stream = rig.open(get())
    rig.request.respond(200, end=False)
    expected = b"".join(b"%d," % number for number in range(3000))
    for number in range(3000):
        rig.request.sender.send_data(b"%d," % number, False)
    for size in (1, 2, 3, 500, 1, 4000, 5000, 100_000):
        rig.end.grant(stream, size)
        rig.settle()
    assert stream.data == expected


def test_nothing_is_sent_beyond_the_connection_window_and_streams_take_turns() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 1 << 20),))
    rig.end.grants = False
    streams = [rig.open(get()) for _ in range(3)]
    for request in rig.requests:
        request.respond(200, b"x" * 100_000)
    rig.settle()
    assert sum(len(stream.data) for stream in streams) == WINDOW
    for _ in range(6):
        rig.end.grant(None, 16384 * 3)
        rig.settle()
    rig.end.grant(None, 1 << 20)
    rig.settle()
    assert [len(stream.data) for stream in streams] == [100_000] * 3
    # After the first one has had the whole window, they have taken turns.
    data = [frame.stream for frame in rig.end.frames if frame.kind == frames.DATA]
    assert data[6:15] == [5, 1, 3, 5, 1, 3, 5, 1, 3] or len(set(data[5:8])) == 3


def test_a_smaller_initial_window_makes_windows_negative() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 100),))
    rig.end.grants = False
    stream = rig.open(get())
    rig.request.respond(200, b"x" * 300)
    rig.settle()
    rig.feed(wire.settings((int(frames.INITIAL_WINDOW_SIZE), 10)))
    stream.own_window -= 90
    rig.end.grant(stream, 80)
    rig.settle()
    assert len(stream.data) == 100
    rig.end.grant(stream, 20)
    rig.settle()
    assert len(stream.data) == 110
    stream.own_window += 990
    rig.feed(wire.settings((int(frames.INITIAL_WINDOW_SIZE), 1000)))
    rig.settle()
    assert (len(stream.data), stream.has_end) == (300, True)


def test_trailers_wait_for_the_content() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 3),))
    rig.end.grants = False
    stream = rig.open(get())
    rig.request.respond(200, b"abcde", end=False)
    rig.request.sender.send_trailers(headers_from({"a": "b"}))
    rig.request.sender.release()
    rig.settle()
    assert (stream.data, stream.trailers) == (b"abc", None)
    rig.end.grant(stream, 2)
    rig.settle()
    assert (stream.data, stream.trailers, stream.has_end) == (b"abcde", [(b"a", b"b")], True)


def test_the_source_is_paused_when_much_waits() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 0),))
    rig.end.grants = False
    stream = rig.open(get())
    request = rig.request
    request.respond(200, b"x" * 60_000, end=False)
    assert request.writable == []
    request.sender.send_data(b"x" * 10_000, False)
    assert request.writable == [False]
    rig.end.grant(stream, 30_000)
    rig.settle()
    assert request.writable == [False]
    rig.end.grant(stream, 10_000)
    rig.settle()
    assert request.writable == [False, True]


def test_what_waits_on_all_streams_together_is_limited() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 0),))
    rig.end.grants = False
    rig.end.grant(None, 1 << 20)
    streams = [rig.open(get()) for _ in range(50)]
    for request in rig.requests:
        request.respond(200, b"x" * 50_000, end=False)
    within = int(CONNECTION_MARK) // 50_000
    assert [request.writable for request in rig.requests] == [[]] * within + [[False]] * (50 - within)
    stream, request = streams[-1], rig.requests[-1]
    rig.end.grant(stream, 49_000)
    rig.settle()
    assert (len(stream.data), request.writable) == (49_000, [False]), "it goes on when nothing of it waits"
    rig.end.grant(stream, 1_000)
    rig.settle()
    assert request.writable == [False, True]
    stream = rig.open(get())
    rig.end.grant(stream, 50_000)
    rig.settle()
    rig.requests[-1].respond(200, b"x" * 50_000)
    rig.settle()
    assert (len(stream.data), rig.requests[-1].writable) == (50_000, []), "what others have left unsent does not matter"


def test_what_no_longer_waits_does_not_count() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 0),))
    rig.end.grants = False
    rig.end.grant(None, 1 << 24)
    for _ in range(3):
        streams = [rig.open(get()) for _ in range(30)]
        for request in rig.requests[-30:]:
            request.respond(200, b"x" * 30_000, end=False)
            assert request.writable == []
        for number, stream in enumerate(streams):
            if number % 2:
                rig.end.reset(stream)
            else:
                rig.end.grant(stream, 30_000)
                rig.settle()
        rig.settle()


def test_a_full_socket_is_reported_to_streams_that_send() -> None:
    rig = ServerRig()
    stream, other = rig.open(get()), rig.open(get())
    rig.server.on_writable(False)
    rig.requests[0].respond(200, b"x" * 100, end=False)
    assert (rig.requests[0].writable, rig.requests[1].writable) == ([False], [])
    rig.settle()
    assert (stream.status, stream.data, other.heads) == (200, b"", [])
    rig.server.on_writable(True)
    rig.settle()
    assert (len(stream.data), rig.requests[0].writable) == (100, [False, True])


class FillingConnection(FakeConnection):
    """Its socket is full once more than `mark` bytes wait for it, and says so at once."""

    server: Http2Server
    mark = 98_304

    def batch_writer(self) -> FrameWriter:
        if self.out.size() > self.mark:
            self.mark = 1_000_000
            self.server.on_writable(False)
        return super().batch_writer()


def test_the_socket_is_full_again_when_the_last_bytes_of_a_stream_are_written() -> None:
    connection = FillingConnection()
    rig = ServerRig(window=1_000_000, connection=connection)
    connection.server = rig.server
    for _ in range(10):
        rig.open(get())
    rig.server.on_writable(False)
    for request in rig.requests:
        request.respond(200, b"x" * 15_000, end=False)
    rig.settle()
    rig.server.on_writable(True)
    waiting = [len(request.writable) == 1 for request in rig.requests]
    assert waiting == [False] * 7 + [True] * 3
    rig.settle()
    rig.server.on_writable(True)
    assert [request.writable for request in rig.requests] == [[False, True]] * 10


def test_what_waits_is_dropped_when_the_client_resets() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 0),))
    stream = rig.open(get())
    rig.request.respond(200, b"x" * 1000)
    rig.end.reset(stream)
    rig.settle()
    rig.end.grant(None, 1000)
    rig.settle()
    assert not rig.server._server.streams


def test_content_that_is_not_fetched_does_not_wait_for_ever() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 0),))
    stream = rig.open(get())
    rig.request.respond(200, b"x" * 1000)
    rig.advance(59.0)
    assert stream.code == -1
    rig.advance(2.0)
    assert stream.code == frames.CANCEL


def test_large_content_is_cut_into_frames() -> None:
    rig = ServerRig(settings=((int(frames.INITIAL_WINDOW_SIZE), 1 << 20),), window=1 << 20)
    stream = rig.open(get())
    rig.request.respond(200, bytes(300_000))
    rig.settle()
    assert (len(stream.data), stream.has_end) == (300_000, True)


def test_a_large_head_is_continued() -> None:
    rig = ServerRig()
    stream = rig.open(get())
    rig.request.respond(200, b"", a="x" * 40_000)
    rig.settle()
    assert (len(stream.fields[b"a"]), stream.has_end) == (40_000, True)
    assert rig.end.kinds().count(int(frames.CONTINUATION)) >= 1


# ---- what is received, and windows


def test_windows_are_opened_in_steps() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST"), end=False)
    rig.end.send_data(stream, b"x" * 2_000_000, True)
    rig.settle()
    assert len(rig.request.data) == 2_000_000
    updates = [frame for frame in rig.end.frames if frame.kind == frames.WINDOW_UPDATE]
    assert len([frame for frame in updates if frame.stream == 1]) < 2_000_000 // 32768 + 2
    assert len([frame for frame in updates if frame.stream == 0]) < 2_000_000 // 524288 + 3


def test_a_paused_stream_stalls_no_other() -> None:
    rig = ServerRig()
    slow = rig.open(method(b"POST"), end=False)
    rig.request.sender.pause()
    rig.request.sender.pause()
    rig.end.send_data(slow, b"x" * 300_000, False)
    rig.settle()
    assert len(rig.requests[0].data) == 65536
    for _ in range(30):
        quick = rig.open(method(b"POST"), end=False)
        rig.end.send_data(quick, b"y" * 100_000, True)
        rig.settle()
        assert len(rig.request.data) == 100_000
        rig.request.respond()
    rig.requests[0].sender.resume()
    rig.settle()
    assert len(rig.requests[0].data) == 65536
    rig.requests[0].sender.resume()
    rig.settle()
    assert len(rig.requests[0].data) == 300_000


def test_padding_counts_to_the_windows() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST"), end=False)
    for _ in range(2000):
        size = 256 + 4
        if min(stream.send_window, rig.end.send_window) < size:
            pytest.fail("the window was not opened for padding")
        stream.send_window -= size
        rig.end.send_window -= size
        rig.feed(wire.data(1, b"abcd", padding=255))
    assert len(rig.request.data) == 8000


def test_more_than_the_stream_window_is_an_error_of_the_stream() -> None:
    rig = ServerRig()
    stream = rig.open(method(b"POST"), end=False)
    rig.request.sender.pause()
    rig.feed(b"".join(wire.data(1, b"x" * 16384) for _ in range(5)))
    assert (stream.code, rig.goaway) == (frames.FLOW_CONTROL_ERROR, -1)


def test_more_than_the_connection_window_is_an_error_of_the_connection() -> None:
    rig = ServerRig(connection_window=65535, stream_window=1 << 20)
    rig.open(method(b"POST"), end=False)
    rig.feed(b"".join(wire.data(1, b"x" * 16384) for _ in range(20)))
    assert rig.goaway == -1  # the connection's window is opened at once
    rig = ServerRig(connection_window=65535, stream_window=1 << 20, max_frame_size=1 << 17)
    rig.open(method(b"POST"), end=False)
    rig.feed(wire.data(1, b"x" * 70000))
    assert rig.goaway == frames.FLOW_CONTROL_ERROR
    assert rig.handler.refusals == ["http2_flow_control_error"]


def test_content_of_unknown_streams_is_returned_to_the_window() -> None:
    rig = ServerRig(connection_window=65535)
    rig.open(method(b"POST"), b"a", end=False)
    rig.request.respond(403)
    rig.settle()
    for _ in range(20):
        assert rig.end.send_window >= 10_000
        rig.end.send_window -= 10_000
        rig.feed(wire.data(1, b"x" * 10_000))
    assert rig.goaway == -1


# ---- tunnels


def connect(protocol: bytes = b"websocket") -> Any:
    return (
        [*method(b"CONNECT"), (b":protocol", protocol)] if protocol else [(b":method", b"CONNECT"), (b":authority", b"a:1")]
    )


def opened(rig: ServerRig, status: int = 101, tunnel: bytes = b"websocket") -> None:
    head = HttpResponse(status, b"", headers_from({}))
    head.raw_tunnel = tunnel
    rig.request.sender.send_response(head, b"", False)


def test_a_tunnel_carries_bytes_both_ways() -> None:
    rig = ServerRig()
    fields = connect()
    stream = rig.open([fields[0], fields[-1], *fields[1:-1]], end=False)
    assert rig.end.settings[int(frames.ENABLE_CONNECT_PROTOCOL)] == 1
    rig.end.send_data(stream, b"early", False)
    rig.settle()
    assert (rig.request.has_end, rig.request.data) == (True, b"")
    rig.request.has_end = False
    opened(rig)
    rig.settle()
    assert (stream.status, rig.request.data, stream.has_end) == (200, b"early", False)
    rig.end.send_data(stream, b"x" * 200_000, True)
    rig.settle()
    assert (len(rig.request.data), rig.request.has_end) == (200_005, True)
    rig.request.sender.send_data(b"there", True)
    rig.request.sender.release()
    rig.settle()
    assert (stream.data, stream.has_end, stream.code) == (b"there", True, -1)


def test_a_tunnel_ends_by_direction() -> None:
    rig = ServerRig()
    fields = connect()
    stream = rig.open([fields[0], fields[-1], *fields[1:-1]], end=False)
    rig.request.has_end = False
    opened(rig)
    rig.request.sender.send_data(b"a", True)
    rig.settle()
    assert (stream.has_end, stream.code) == (True, -1)
    rig.end.send_data(stream, b"b", True)
    rig.settle()
    assert (rig.request.data, rig.request.has_end) == (b"b", True)


def test_early_bytes_of_a_tunnel_are_not_more_than_its_window() -> None:
    rig = ServerRig()
    fields = connect()
    stream = rig.open([fields[0], fields[-1], *fields[1:-1]], end=False)
    rig.end.send_data(stream, b"x" * 200_000, False)
    rig.settle()
    assert len(stream.waiting) == 200_000 - 65536
    rig.request.respond(403)
    rig.settle()
    assert (stream.status, stream.code) == (403, frames.NO_ERROR)


@pytest.mark.parametrize(
    ("changes", "protocol", "status"),
    [({}, b"connect-udp", 501), ({"upgrades": frozenset()}, b"websocket", 0), ({}, b"", 405)],
)
def test_tunnels_that_are_not_allowed(changes: Any, protocol: bytes, status: int) -> None:
    rig = ServerRig(**changes)
    fields = connect(protocol)
    fields = [fields[0], fields[-1], *fields[1:-1]]
    stream = rig.open(fields, end=False)
    assert stream.status == status
    assert stream.code == (frames.NO_ERROR if status else frames.PROTOCOL_ERROR)


# ---- times


def test_an_idle_connection_ends_gracefully() -> None:
    rig = ServerRig(idle_timeout=90.0)
    rig.open(get())
    rig.advance(200.0)
    assert rig.goaway == -1
    rig.request.respond()
    rig.settle()
    rig.advance(89.0)
    assert rig.goaway == -1
    rig.advance(2.0)
    assert (rig.goaway, rig.connection.end, rig.connection.failure) != (-1, "", None)
    assert rig.connection.failure is not None
    assert rig.connection.failure.reason == "idle_timeout"


def test_a_silent_client_is_closed() -> None:
    rig = ServerRig(idle_timeout=5.0)
    rig.end.answers = False
    rig.advance(6.0)
    assert rig.connection.is_closed


def test_a_head_must_arrive_in_time() -> None:
    rig = ServerRig(header_timeout=5.0)
    block = rig.end.block(get())
    rig.feed(wire.frame(int(frames.HEADERS), 0, 1, block[:3]))
    rig.advance(4.0)
    rig.feed(wire.frame(int(frames.CONTINUATION), 0, 1, block[3:4]))
    assert rig.goaway == -1
    rig.advance(2.0)
    assert rig.goaway == frames.ENHANCE_YOUR_CALM
    assert rig.handler.refusals == ["request_timeout"]


def test_content_must_arrive_in_time_unless_the_response_has_begun() -> None:
    rig = ServerRig(body_timeout=5.0)
    late, answered = rig.open(method(b"POST"), b"a", end=False), rig.open(method(b"POST"), b"a", end=False)
    rig.requests[1].respond(200, b"x", end=False)
    rig.settle()
    rig.advance(4.0)
    rig.feed(wire.data(1, b"b"))
    rig.advance(4.0)
    assert rig.requests[0].reset == ""
    rig.advance(2.0)
    assert [request.reset for request in rig.requests] == ["request_timeout", ""]
    assert late.code >= 0
    assert answered.code == -1


def test_grpc_clients_may_be_silent() -> None:
    rig = ServerRig(body_timeout=5.0)
    rig.open(method(b"POST", b"/a/b", (b"content-type", b"application/grpc"), (b"te", b"trailers")), b"a", end=False)
    rig.advance(100.0)
    assert rig.request.reset == ""


def test_slow_content() -> None:
    rig = ServerRig(body_timeout=5.0, body_min_rate=100.0)
    rig.open(method(b"POST"), end=False)
    for _ in range(30):
        rig.advance(1.0)
        if rig.request.reset:
            break
        rig.feed(wire.data(1, b"x"))
    assert rig.request.reset == "body_too_slow"


def test_settings_must_be_acknowledged() -> None:
    rig = ServerRig(answers=False)
    rig.advance(9.0)
    assert rig.goaway == -1
    rig.advance(2.0)
    assert (rig.goaway, rig.handler.refusals) == (frames.SETTINGS_TIMEOUT, ["http2_settings_timeout"])


def test_keepalive_pings_also_with_streams_in_flight() -> None:
    rig = ServerRig(keepalive_interval=10.0, keepalive_timeout=5.0)
    rig.open(get())
    rig.advance(25.0)
    assert not rig.connection.is_closed
    rig.end.answers = False
    rig.advance(20.0)
    assert (rig.connection.end, rig.connection.failure.reason if rig.connection.failure else "") == (
        "abort",
        "keepalive_timeout",
    )


@pytest.mark.parametrize("grace", [0.0, 5.0])
def test_the_maximum_age(grace: float) -> None:
    rig = ServerRig(max_connection_age=100.0, max_connection_age_grace=grace, idle_timeout=0.0)
    stream = rig.open(get())
    rig.advance(99.0)
    assert rig.goaway == -1
    rig.advance(12.0)
    assert [last for last, _ in rig.end.goaways] == [(1 << 31) - 1, 1]
    assert not rig.connection.is_closed or grace
    rig.advance(10.0)
    if grace:
        assert rig.connection.is_closed
    else:
        rig.request.respond()
        rig.settle()
        assert (stream.status, rig.connection.is_closed) == (200, True)


# ---- its ends


def test_a_drain_loses_no_request() -> None:
    rig = ServerRig()
    first = rig.open(get())
    rig.end.answers = False
    rig.server.on_drain()
    rig.settle()
    assert rig.end.goaways == [((1 << 31) - 1, 0)]
    second = rig.open(get())  # on its way when the GOAWAY was sent
    rig.advance(1.1)
    assert rig.end.goaways[-1] == (3, 0)
    third = rig.open(get())
    for request in rig.requests:
        request.respond()
    rig.settle()
    assert [first.status, second.status, third.status] == [200, 200, 0]
    assert rig.connection.is_closed


def test_a_new_client_of_a_draining_listener_is_served_once() -> None:
    rig = ServerRig(answers=False)
    rig.server.on_drain()
    rig.settle()
    assert rig.end.goaways == []  # a client of gRPC would connect again, and so on
    stream = rig.open(get())
    assert rig.end.goaways == [((1 << 31) - 1, 0)]
    rig.request.respond()
    rig.advance(1.1)
    assert (stream.status, rig.end.goaways[-1], rig.connection.is_closed) == (200, (1, 0), True)


def test_a_new_client_of_a_draining_listener_that_asks_for_nothing_is_notified_later() -> None:
    rig = ServerRig(answers=False)
    rig.server.on_drain()
    rig.advance(0.9)
    assert rig.end.goaways == []
    rig.advance(0.2)
    assert rig.end.goaways == [((1 << 31) - 1, 0)]
    rig.advance(1.1)
    assert rig.connection.is_closed


@pytest.mark.parametrize("fields", [get(), method(b"POST")], ids=["complete", "cut short"])
def test_a_drain_reads_on_until_the_last_response_has_arrived(fields: Pairs) -> None:
    """The client sends WINDOW_UPDATE frames, or the rest of its request: a reset of TCP would take the response from it."""
    rig = ServerRig()
    is_complete = fields == get()
    stream = rig.open(fields, b"" if is_complete else b"in part", end=is_complete)
    rig.server.on_drain()
    rig.settle()
    rig.request.respond(413)
    rig.settle()
    assert (stream.status, rig.connection.end) == (413, "linger")


def test_a_drain_closes_an_idle_connection_whose_client_has_everything() -> None:
    rig = ServerRig(Echo())
    rig.open(get())
    rig.server.on_drain()
    rig.settle()
    assert rig.connection.end == "close"


def test_the_maximum_of_requests() -> None:
    rig = ServerRig(Echo(), max_requests=2)
    assert rig.open(get()).status == 200
    assert rig.goaway == -1
    assert rig.open(get()).status == 200
    assert rig.end.goaways[-1] == (3, 0)
    assert rig.connection.is_closed


def test_a_response_that_ends_the_connection() -> None:
    rig = ServerRig()
    stream = rig.open(get())
    rig.request.sender.end_connection()
    rig.request.respond()
    rig.settle()
    assert (stream.status, rig.connection.is_closed) == (200, True)


def test_a_client_that_closes_its_side() -> None:
    rig = ServerRig()
    rig.open(get())
    upload = rig.open(method(b"POST"), b"a", end=False)
    rig.server.on_eof()
    assert [request.reset for request in rig.requests] == ["", "truncated_body"]
    rig.settle()
    assert upload.code >= 0
    rig.requests[0].respond()
    assert rig.connection.is_closed


def test_a_response_that_is_late_for_a_client_that_closed_its_side() -> None:
    rig = ServerRig()
    rig.open(get())
    rig.server.on_eof()
    rig.advance(1.1)
    assert rig.request.reset == "client_gone"
    assert rig.connection.is_closed


@pytest.mark.parametrize(
    ("timeout", "late", "is_kept"), [(5.0, 4.9, True), (5.0, 5.1, False), (0.0, 60.0, True), (0.2, 0.3, False)]
)
def test_the_time_of_a_client_that_closed_its_side(timeout: float, late: float, is_kept: bool) -> None:
    rig = ServerRig(half_close_timeout=timeout)
    stream = rig.open(get())
    rig.server.on_eof()
    rig.advance(late)
    assert (rig.request.reset, rig.connection.is_closed) == ("" if is_kept else "client_gone", not is_kept)
    if is_kept:
        rig.request.respond()
        rig.settle()
        assert stream.status == 200


@pytest.mark.parametrize("is_complete", [False, True])
def test_a_client_that_closed_its_side_opens_no_more_windows(is_complete: bool) -> None:
    """What waits for them is dropped, and what does not is still sent."""
    rig = ServerRig(window=1_000_000)
    rig.end.grants = False
    waiting, short = rig.open(get()), rig.open(get())
    rig.requests[0].respond(200, b"x" * 100_000, end=is_complete)
    rig.requests[1].respond(200, b"y" * 10, end=False)
    rig.settle()
    rig.server.on_eof()
    rig.advance(3.0)
    assert (waiting.code >= 0, rig.requests[0].reset) == (True, "" if is_complete else "client_gone")
    rig.requests[1].sender.send_data(b"y" * 10, True)
    rig.settle()
    assert (len(waiting.data), waiting.has_end, short.data, short.has_end) == (65_535, False, b"y" * 20, True)
    assert rig.connection.is_closed


@pytest.mark.parametrize(
    ("failure", "reason"), [(CLOSED_BY_PEER, "client_gone"), (CLIENT_WRITE_TIMEOUT, "client_write_timeout")]
)
def test_a_lost_connection_resets_its_streams(failure: Failure, reason: str) -> None:
    rig = ServerRig()
    rig.open(get())
    rig.open(method(b"POST"), b"a", end=False)
    rig.lose(failure)
    assert [request.reset for request in rig.requests] == [reason, reason]


def test_incomplete_heads_count_in_the_overload_state() -> None:
    overload = OverloadState()
    overload.max_head_bytes = 100
    rigs = [ServerRig(overload=overload) for _ in range(2)]
    block = rigs[0].end.block(get())
    rigs[0].feed(wire.frame(int(frames.HEADERS), 0, 1, block + bytes(80)))
    assert overload.head_bytes == len(block) + 80
    assert rigs[0].goaway == -1
    rigs[1].feed(wire.frame(int(frames.HEADERS), 0, 1, block + bytes(80)))
    assert rigs[1].handler.refusals == ["heads_full"]
    rigs[0].lose(CLOSED_BY_PEER)
    assert overload.head_bytes == 0


def test_much_at_once_gives_others_their_turn() -> None:
    rig = ServerRig()
    rig.feed(wire.frame(99, 0, 0, bytes(16000)) * 10)
    assert rig.connection.turns_given == 1
