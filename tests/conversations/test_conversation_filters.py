"""Stream filters: plain and async, answering, failing, and outlived by their client."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.kit import DATE, GET, OK, Recorder, Start

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.routing.actions import DirectResponse
from pymosn.routing.matchers import AnyRequest

pytestmark = pytest.mark.also_h2

TEXT = b"content-type: text/plain; charset=utf-8\r\n"
BROKEN = (
    b"HTTP/1.1 500 Internal Server Error\r\n" + TEXT + b"content-length: 26\r\n" + DATE + b"\r\n500 Internal Server Error\n"
)
NO = b"HTTP/1.1 403 Forbidden\r\n" + TEXT + b"content-length: 2\r\n" + DATE + b"\r\nno"


class Does(StreamFilter):
    """Does what it is given, in either phase."""

    def __init__(
        self, on_request: Callable[[Exchange], Any] | None = None, on_response: Callable[[Exchange], Any] | None = None
    ):
        super().__init__({})
        self._request = on_request
        self._response = on_response
        self.calls: list[str] = []

    def on_request(self, exchange: Exchange) -> Any:
        self.calls.append("request")
        return self._request(exchange) if self._request else None

    def on_response(self, exchange: Exchange) -> Any:
        self.calls.append("response")
        return self._response(exchange) if self._response else None


class RequestWaits(StreamFilter):
    """Waits in the request phase only."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__({})
        self.gate = asyncio.Event()
        self.answer = answer
        self.calls: list[str] = []

    async def on_request(self, exchange: Exchange) -> Any:
        return await wait(self)


class ResponseWaits(StreamFilter):
    """Waits in the response phase only."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__({})
        self.gate = asyncio.Event()
        self.answer = answer
        self.calls: list[str] = []

    async def on_response(self, exchange: Exchange) -> Any:
        return await wait(self)


async def wait(waiting: Any) -> Any:
    waiting.calls.append("waits")
    try:
        await waiting.gate.wait()
    except asyncio.CancelledError:
        waiting.calls.append("cancelled")
        raise
    waiting.calls.append("goes on")
    if isinstance(waiting.answer, BaseException):
        raise waiting.answer
    return waiting.answer


def tag(header: str) -> Callable[[Exchange], None]:
    def on_request(exchange: Exchange) -> None:
        exchange.request.headers.add("x-seen", header)

    return on_request


def tag_reply(header: str) -> Callable[[Exchange], None]:
    def on_response(exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.headers.add("x-seen", header)

    return on_response


# ---- in order


def test_requests_pass_in_order_and_replies_in_reverse(start: Start) -> None:
    first, second = Does(tag("1"), tag_reply("1")), Does(tag("2"), tag_reply("2"))
    talk = start(filters={"first": first, "second": second})
    client, upstream = talk.forwarded(GET, b"GET / HTTP/1.1\r\nHost: a\r\nx-seen: 1\r\nx-seen: 2\r\n\r\n")
    upstream.sends(OK)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nx-seen: 2\r\nx-seen: 1\r\n\r\nhi")


def test_forwarding_fields_that_a_filter_changed(start: Start) -> None:
    def strip(exchange: Exchange) -> None:
        exchange.request.headers.remove("x-forwarded-for")
        exchange.request.headers["x-forwarded-proto"] = "https"

    talk = start(filters={"strip": Does(strip)}, x_forwarded=True)
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    talk.expect_dial().receives(
        b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-proto: https\r\nx-forwarded-for: 192.0.2.7\r\n\r\n"
    )


@pytest.mark.http1_only("authorities are in lower case", "h1-h2", "h2-h2")
def test_path_and_host_that_a_filter_changed(start: Start) -> None:
    def move(exchange: Exchange) -> None:
        exchange.request.path = "/new"
        exchange.request.query = "z"
        exchange.request.host = "B.example"

    talk = start(filters={"move": Does(move)})
    client = talk.connect()
    client.sends(GET)
    talk.expect_dial().receives(b"GET /new?z HTTP/1.1\r\nHost: B.example\r\n\r\n")
    assert talk.outcomes.exchanges == []


def test_async_filters_take_turns_with_plain_ones(start: Start) -> None:
    waiting = RequestWaits()
    talk = start(filters={"first": Does(tag("1")), "waits": waiting, "last": Does(tag("2"))})
    client = talk.connect()
    client.sends(GET)
    talk.expect_no_dial()
    talk.do(waiting.gate.set)
    upstream = talk.expect_dial()
    upstream.receives(b"GET / HTTP/1.1\r\nHost: a\r\nx-seen: 1\r\nx-seen: 2\r\n\r\n")
    upstream.sends(OK)
    client.receives(OK)


# ---- answering


@pytest.mark.parametrize("is_async", [False, True])
def test_reply_in_the_request_phase_passes_the_response_filters(start: Start, is_async: bool) -> None:
    answering = RequestWaits(Reply(403, "no")) if is_async else Does(lambda exchange: Reply(403, "no"))
    talk = start(filters={"outer": Does(None, tag_reply("1")), "answers": answering})
    client = talk.connect()
    client.sends(GET)
    if isinstance(answering, RequestWaits):
        client.receives_nothing()
        talk.do(answering.gate.set)
    client.receives(NO.replace(DATE, b"x-seen: 1\r\n" + DATE))
    assert client.is_open()
    talk.expect_no_dial()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_reply_in_the_response_phase_replaces_the_upstreams(start: Start, is_async: bool) -> None:
    inner = Does(None, lambda exchange: Reply(403, "no")) if not is_async else ResponseWaits(Reply(403, "no"))
    outer = Does()
    talk = start(filters={"outer": outer, "inner": inner})
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\nab")
    if isinstance(inner, ResponseWaits):
        client.receives_nothing()
        talk.do(inner.gate.set)
    client.receives(NO)
    assert upstream.is_reset(), "the rest of its reply is not read"
    assert client.is_open()
    assert outer.calls == ["request"]
    assert talk.counters()["request_403_total"] == 1


def test_reply_object_may_be_used_for_every_request(start: Start) -> None:
    always = Reply(403, "no")
    talk = start(filters={"answers": Does(lambda exchange: always)})
    client = talk.connect()
    client.sends(GET + GET)
    client.receives(NO + NO)


def test_reply_without_content(start: Start) -> None:
    talk = start(filters={"answers": Does(lambda exchange: Reply(204, "dropped"))})
    client = talk.connect()
    client.sends(GET + b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.receives((b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n") * 2)


# ---- failing


def raises(exchange: Exchange) -> None:
    raise LookupError("no tenant")


async def cancels_itself(exchange: Exchange) -> None:
    raise asyncio.CancelledError


def breaks_out(exchange: Exchange) -> None:
    exchange.request.headers["x-a"] = "1\r\nX-Evil: 2"


def frames(exchange: Exchange) -> None:
    exchange.request.headers["Content-Length"] = "7"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (raises, "LookupError: no tenant"),
        (lambda exchange: "text", "it returned str, not a Reply or None"),
        (lambda exchange: 403, "it returned int, not a Reply or None"),
        (lambda exchange: Reply(99), "ValueError"),
        (breaks_out, "control character"),
        (frames, "content-length is managed by the proxy"),
        (lambda exchange: Reply(200, "", {"Transfer-Encoding": "chunked"}), "transfer-encoding is managed by the proxy"),
        (lambda exchange: Reply(200, "", {"X": "a\nb"}), "control character"),
        (cancels_itself, "the filter cancelled itself"),
    ],
)
@pytest.mark.parametrize("in_response", [False, True])
def test_filter_that_does_wrong(start: Start, wrong: Callable[[Exchange], Any], said: str, in_response: bool) -> None:
    bad = Does(None, wrong) if in_response else Does(wrong)
    watcher = Recorder()
    talk = start(filters={"outer": Does(), "bad": bad, "watcher": watcher})
    client = talk.connect()
    client.sends(GET)
    if in_response:
        upstream = talk.expect_dial()
        upstream.takes()
        upstream.sends(OK)
    client.receives(BROKEN)
    talk.expect_no_dial()
    assert client.is_open()
    assert talk.filter_errors("bad") == 1
    assert talk.filter_errors("outer") == 0
    assert [line for line in talk.log.lines if "'bad'" in line and said in line]
    assert talk.reasons() == ["filter_error"]
    assert len(watcher.completed) == 1
    if not in_response:
        client.sends(GET)
        client.receives(BROKEN)


@pytest.mark.parametrize("answer", [LookupError("late"), "text"])
@pytest.mark.parametrize("kind", [RequestWaits, ResponseWaits])
def test_async_filter_that_does_wrong(start: Start, kind: Callable[[Any], Any], answer: Any) -> None:
    bad = kind(answer)
    talk = start(filters={"bad": bad})
    client = talk.connect()
    client.sends(GET)
    if kind is ResponseWaits:
        upstream = talk.expect_dial()
        upstream.takes()
        upstream.sends(OK)
    client.receives_nothing()
    talk.do(bad.gate.set)
    client.receives(BROKEN)
    assert talk.filter_errors("bad") == 1
    assert talk.reasons() == ["filter_error"]


def test_the_line_of_an_error_is_logged(start: Start) -> None:
    talk = start(filters={"bad": Does(raises)})
    client = talk.connect()
    client.sends(GET)
    client.takes()
    line = next(line for line in talk.log.lines if "'bad'" in line)
    assert "test_conversation_filters.py:" in line
    assert "in raises" in line


def test_error_at_the_end_does_no_harm(start: Start) -> None:
    class Grumbles(StreamFilter):
        def on_complete(self, exchange: Exchange) -> None:
            raise RuntimeError("too late")

    last = Recorder()
    talk = start(filters={"grumbles": Grumbles({}), "last": last})
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    assert talk.filter_errors("grumbles") == 1
    assert len(last.completed) == 1
    client.sends(GET)
    upstream.receives(GET)


# ---- waiting


@pytest.mark.http1_only("a window is larger than what is paused here")
def test_body_that_comes_while_a_filter_waits(start: Start) -> None:
    waiting = RequestWaits()
    talk = start(filters={"waits": waiting})
    client = talk.connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n"
    client.sends_whole(head + b"01")
    client.sends(b"23")
    assert not client.is_read(), "one read may wait, not a whole body"
    client.sends(b"45")
    talk.do(waiting.gate.set)
    upstream = talk.expect_dial()
    assert client.is_read()
    upstream.receives(head + b"012345")
    upstream.sends(OK)
    client.receives(OK)
    assert client.is_open()


def test_trailers_that_come_while_a_filter_waits(start: Start) -> None:
    waiting = RequestWaits()
    talk = start(filters={"waits": waiting})
    client = talk.connect()
    body = b"2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n"
    client.sends_whole(b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    talk.do(waiting.gate.set)
    talk.expect_dial().receives(
        b"POST / HTTP/1.1\r\nHost: a\r\nconnection: te\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n" + body
    )


@pytest.mark.http1_only("a window is larger than what is paused here", "h1-h2", "h2-h2")
def test_reply_body_that_comes_while_a_filter_waits(start: Start) -> None:
    waiting = ResponseWaits()
    talk = start(filters={"waits": waiting})
    client, upstream = talk.opening(GET)
    upstream.takes()
    head = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 6\r\n\r\n"
    upstream.sends_whole(head + b"ab")
    assert upstream.is_read()
    upstream.sends_whole(b"cd")
    assert not upstream.is_read()
    upstream.sends_whole(b"ef")
    client.receives_nothing()
    talk.do(waiting.gate.set)
    client.receives(head + b"abcdef")
    assert client.is_open()
    assert upstream.is_open()
    assert upstream.is_read()


def test_whole_reply_with_trailers_that_comes_while_a_filter_waits(start: Start) -> None:
    waiting = ResponseWaits()
    talk = start(filters={"waits": waiting})
    client, upstream = talk.opening(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
    upstream.takes()
    upstream.sends_whole(b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n")
    talk.do(waiting.gate.set)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert client.is_open()
    assert upstream.is_open()


def test_upstream_that_breaks_while_a_response_filter_waits(start: Start) -> None:
    waiting = ResponseWaits()
    talk = start(filters={"waits": waiting})
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 6\r\n\r\n")
    upstream.resets()
    assert waiting.calls == ["waits", "waits", "cancelled"], "it is asked about the reply that is sent"
    talk.do(waiting.gate.set)
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    assert talk.reasons() == ["reset_after_response"]


@pytest.mark.parametrize("kind", [RequestWaits, ResponseWaits])
def test_client_gone_while_a_filter_waits(start: Start, kind: Callable[[], Any]) -> None:
    waiting = kind()
    watcher = Recorder()
    talk = start(filters={"waits": waiting, "watcher": watcher})
    client = talk.connect()
    client.sends(GET)
    if kind is ResponseWaits:
        upstream = talk.expect_dial()
        upstream.takes()
        upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 6\r\n\r\nab")
    client.resets()
    assert waiting.calls == ["waits", "cancelled"]
    assert talk.reasons() == ["client_gone"]
    assert len(watcher.completed) == 1
    if kind is ResponseWaits:
        assert talk.upstreams[0].is_reset()


@pytest.mark.http1_only("broken chunks")
def test_body_that_breaks_while_a_filter_waits(start: Start) -> None:
    waiting = RequestWaits()
    talk = start(filters={"waits": waiting})
    client = talk.connect()
    client.sends(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.sends(b"zz\r\n")
    assert client.takes().startswith(b"HTTP/1.1 400 ")
    assert waiting.calls == ["waits", "cancelled"]
    talk.do(waiting.gate.set)
    talk.expect_no_dial()


@pytest.mark.http1_only("pipelining")
def test_bytes_after_a_refused_request_are_not_read_while_a_filter_handles_it(start: Start) -> None:
    waiting = ResponseWaits()
    talk = start(filters={"waits": waiting})
    client = talk.connect()
    client.sends(b"GET / HTTP/9.9\r\n\r\n")
    client.sends(GET + GET)
    client.receives_nothing()
    talk.do(waiting.gate.set)
    assert client.takes().count(b"HTTP/1.1 505 ") == 1
    assert talk.reasons() == ["bad_version"]


def test_a_request_pipelined_after_one_that_a_filter_holds(start: Start) -> None:
    waiting = RequestWaits()
    talk = start(filters={"waits": waiting})
    client = talk.connect()
    client.sends(GET + GET)
    assert waiting.calls == ["waits"]
    talk.do(waiting.gate.set)
    upstream = talk.expect_dial()
    for _ in range(2):
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(OK)


# ---- what a filter cannot spoil


def test_method_changed_from_head_to_get(start: Start) -> None:
    """The client of a HEAD would take the body for its next reply."""

    def change(exchange: Exchange) -> None:
        exchange.request.method = "GET"

    talk = start(filters={"change": Does(change)})
    client, upstream = talk.forwarded(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", GET)
    upstream.sends(OK)
    client.receives(OK[:-2])
    assert client.is_open()


def test_method_changed_from_get_to_head(start: Start) -> None:
    def change(exchange: Exchange) -> None:
        exchange.request.method = "HEAD"

    client, upstream = start(filters={"change": Does(change)}).opening(GET)
    upstream.takes()
    upstream.sends(OK[:-2])
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\ncontent-length: 0\r\n\r\n")
    assert client.is_open()


@pytest.mark.parametrize("rest", [b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"])
def test_status_changed_to_one_without_content(start: Start, rest: bytes) -> None:
    def change(exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.status = 204

    client, upstream = start(filters={"change": Does(None, change)}).opening(GET)
    upstream.takes()
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\n" + rest)
    head = client.takes()
    assert head.startswith(b"HTTP/1.1 204 ")
    assert head.endswith(b"\r\n\r\n")
    client.sends(GET)
    upstream.receives(GET)


# ---- the end


@pytest.mark.http1_only("a broken request line")
def test_on_complete_is_called_once_for_every_ending(start: Start) -> None:
    watcher = Recorder()
    talk = start(filters={"watcher": watcher}, hosts=["10.0.0.1:80"])
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    client.sends(GET)
    upstream.takes()
    talk.advance(61)
    client.takes()
    client.sends(GET)
    talk.refuse_dial()
    client.takes()
    client.sends(b"bad\r\n")
    client.takes()
    gone = talk.connect()
    gone.sends(GET)
    gone.resets()
    talk.hold_dial().connects()
    assert [exchange.failure and exchange.failure.reason for exchange in watcher.completed] == [
        None,
        "timeout",
        "connect_refused",
        "bad_request",
        "client_gone",
    ]


def test_the_exchange_reports_what_happened(start: Start) -> None:
    watcher = Recorder()
    talk = start(filters={"watcher": watcher})
    client, upstream = talk.opening(b"POST /x?y HTTP/1.1\r\nHost: A:8\r\nContent-Length: 3\r\n\r\nabc", ip="192.0.2.9")
    upstream.takes()
    talk.advance(2)
    upstream.sends(OK)
    client.receives(OK)
    exchange = watcher.completed[0]
    assert (exchange.request.method, exchange.request.path, exchange.request.query, exchange.request.host) == (
        "POST",
        "/x",
        "y",
        "a:8",
    )
    assert exchange.response is not None
    assert exchange.response.status == 200
    assert exchange.route is not None
    assert exchange.route.name == "all"
    assert exchange.cluster_name == "service"
    assert exchange.upstream_address == "10.0.0.1:80"
    assert exchange.remote_address == "192.0.2.9:40000"
    assert (exchange.bytes_received, exchange.bytes_sent, exchange.attempts) == (3, 2, 1)
    assert exchange.started <= exchange.request_received < exchange.response_received == exchange.finished
    assert exchange.finished - exchange.started == pytest.approx(2.04)


def test_state_belongs_to_one_exchange(start: Start) -> None:
    seen: list[object] = []

    def count(exchange: Exchange) -> Reply:
        seen.append(exchange.state.get("n"))
        exchange.state["n"] = len(seen)
        return Reply(200)

    talk = start(filters={"count": Does(count, lambda exchange: seen.append(exchange.state["n"]))})
    client = talk.connect()
    client.sends(GET + GET)
    client.takes()
    assert seen == [None, 1, None, 3]


def test_filter_that_waits_on_a_direct_response(start: Start) -> None:
    waiting = ResponseWaits()
    talk = start(filters={"waits": waiting}, routes=[Route("d", AnyRequest(), DirectResponse(200, "hi"))])
    client = talk.connect()
    client.sends(GET + GET)
    client.receives_nothing()
    talk.do(waiting.gate.set)
    assert client.takes().count(b"\r\n\r\nhi") == 2
