"""Stream filters beyond heads: phases after routing, overrides, whole bodies, chunks, streamed replies, policy."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.kit import DATE, GET, OK, Peer, Start, Talk, merge_chunks

from pymosn.api import BodyTooLarge, Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.api.stream_filter import SKIP
from pymosn.routing.actions import DirectResponse, Forward
from pymosn.routing.matchers import AnyRequest, Prefix
from pymosn.upstream.plan import HostPlan

pytestmark = pytest.mark.also_h2

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


def dialled(talk: Talk, address: str = "10.0.0.1:80") -> Peer:
    """The upstream that the proxy dials, which has the request."""
    upstream = talk.expect_dial(address)
    assert upstream.takes()
    return upstream


class Base(StreamFilter):
    def __init__(self, **wishes: Any) -> None:
        super().__init__({})
        self.calls: list[str] = []
        for name, value in wishes.items():
            setattr(self, name, value)


class Phases(Base):
    """Notes each phase and what is known in it."""

    def on_request(self, exchange: Exchange) -> None:
        self.calls.append(f"request {exchange.route is None}")

    def on_route(self, exchange: Exchange) -> None:
        assert exchange.route is not None
        self.calls.append(f"route {exchange.route.name} {exchange.cluster_name}")

    def on_host(self, exchange: Exchange) -> None:
        self.calls.append(f"host {exchange.upstream_address}")

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self.calls.append("request body")

    def on_response(self, exchange: Exchange) -> None:
        assert exchange.response is not None
        self.calls.append(f"response {exchange.response.status}")

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self.calls.append("response body")

    def on_complete(self, exchange: Exchange) -> None:
        self.calls.append("complete")


def test_phases_in_order(start: Start) -> None:
    phases = Phases()
    talk = start(filters={"phases": phases})
    client = talk.connect()
    client.sends(GET)
    upstream = dialled(talk)
    upstream.sends_whole(OK)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\ncontent-length: 2\r\n\r\nhi")
    assert phases.calls == [
        "request True",
        "route all service",
        "host 10.0.0.1:80",
        "response 200",
        "response body",
        "complete",
    ]


def test_a_direct_response_passes_the_route_phase(start: Start) -> None:
    phases = Phases()
    talk = start(filters={"phases": phases}, routes=[Route("own", AnyRequest(), DirectResponse(200, "me"))])
    client = talk.connect()
    client.sends(GET)
    assert phases.calls == ["request True", "route own ", "response 200", "response body", "complete"]
    assert client.takes().endswith(b"\r\n\r\nme")


def test_the_host_phase_comes_with_each_attempt(start: Start) -> None:
    phases = Phases()
    talk = start(filters={"phases": phases}, hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial("10.0.0.1:80")
    upstream = dialled(talk, "10.0.0.2:80")
    upstream.sends(OK)
    assert [call for call in phases.calls if call.startswith("host")] == ["host 10.0.0.1:80", "host 10.0.0.2:80"]
    assert client.takes().startswith(b"HTTP/1.1 200")


class Chooses(Base):
    phase = "on_request"
    choice: dict[str, Any]

    def on_request(self, exchange: Exchange) -> None:
        if self.phase == "on_request":
            exchange.choose(**self.choice)

    def on_route(self, exchange: Exchange) -> None:
        if self.phase == "on_route":
            exchange.choose(**self.choice)

    def on_host(self, exchange: Exchange) -> None:
        if self.phase == "on_host":
            exchange.choose(**self.choice)


@pytest.mark.parametrize("phase", ["on_request", "on_route"])
def test_a_filter_chooses_the_cluster(start: Start, phase: str) -> None:
    talk = start(filters={"f": Chooses(phase=phase, choice={"cluster": "other"})})
    client, upstream = talk.forwarded(GET, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", address="10.0.1.1:80")
    upstream.sends(OK)
    client.receives(OK)


def test_a_cluster_may_be_chosen_where_no_route_matches(start: Start) -> None:
    routes = [Route("a", Prefix("/a"), Forward("service", 60.0))]
    talk = start(filters={"f": Chooses(choice={"cluster": "other"})}, routes=routes)
    client = talk.connect()
    client.sends(GET)
    dialled(talk, "10.0.1.1:80").sends(OK)
    client.receives(OK)


def test_a_chosen_cluster_that_is_not_there(start: Start) -> None:
    talk = start(filters={"f": Chooses(choice={"cluster": "none"})})
    client = talk.connect()
    client.sends(GET)
    assert client.takes().startswith(b"HTTP/1.1 404")
    assert talk.reasons() == ["cluster_unknown"]


def test_a_filter_chooses_the_route(start: Start) -> None:
    routes = [Route("first", AnyRequest(), Forward("service", 60.0)), Route("second", AnyRequest(), Forward("other", 60.0))]
    talk = start(filters={"f": Chooses(choice={"route": "second"})}, routes=routes)
    client = talk.connect()
    client.sends(GET)
    dialled(talk, "10.0.1.1:80").sends(OK)
    client.receives(OK)


@pytest.mark.parametrize("phase", ["on_request", "on_route", "on_host"])
def test_a_filter_chooses_the_host(start: Start, phase: str) -> None:
    hosts = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
    talk = start(filters={"f": Chooses(phase=phase, choice={"host": "10.0.0.3:80"})}, hosts=hosts)
    client = talk.connect()
    client.sends(GET)
    dialled(talk, "10.0.0.3:80").sends(OK)
    client.receives(OK)
    assert talk.outcomes.exchanges[0].upstream_address == "10.0.0.3:80"


@pytest.mark.parametrize("phase", ["on_request", "on_route", "on_host"])
def test_a_chosen_host_that_is_not_there(start: Start, phase: str) -> None:
    talk = start(filters={"f": Chooses(phase=phase, choice={"host": "10.9.9.9:1"})})
    client = talk.connect()
    client.sends(GET)
    talk.expect_no_dial()
    assert client.takes().startswith(b"HTTP/1.1 502")
    assert talk.reasons() == ["no_hosts"]


def test_a_filter_chooses_the_time(start: Start) -> None:
    talk = start(filters={"f": Chooses(choice={"timeout": 2.0})})
    client = talk.connect()
    client.sends(GET)
    dialled(talk)
    talk.advance(1.5)
    client.receives_nothing()
    talk.advance(1.0)
    assert client.takes().startswith(b"HTTP/1.1 504")


def test_a_filter_chooses_labels(start: Start) -> None:
    assert HostPlan("10.0.0.1:80").metadata == ()
    exchange = Exchange(Talk().connect().transport.protocol)  # type: ignore[arg-type]
    exchange.choose(subset={"b": "2", "a": "1"}, retries=2)
    assert exchange.overrides is not None
    assert exchange.overrides.subset == (("a", "1"), ("b", "2"))
    assert exchange.overrides.retries == 2


@pytest.mark.parametrize(
    "choice", [{"timeout": 0.0}, {"timeout": -1.0}, {"timeout": float("nan")}, {"try_timeout": -0.1}, {"retries": -1}]
)
def test_a_choice_that_cannot_be_is_refused_whole(choice: dict[str, Any]) -> None:
    exchange = Exchange(Talk().connect().transport.protocol)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{next(iter(choice))} must "):
        exchange.choose(cluster="a", **choice)
    assert exchange.overrides is None


# ---- whole bodies


class Reads(Base):
    """Reads a body whole, in the request or the reply, and may replace it."""

    limit = 100
    new: bytes | None = None
    in_response = False
    body: bytes | None = None
    catches = False

    async def on_request(self, exchange: Exchange) -> Reply | None:
        return None if self.in_response else await self._read(exchange.request)

    async def on_response(self, exchange: Exchange) -> Reply | None:
        return await self._read(exchange.response) if self.in_response else None

    async def _read(self, head: Any) -> Reply | None:
        try:
            self.body = await head.read(self.limit)
        except BodyTooLarge:
            if not self.catches:
                raise
            return Reply(403, "long")
        if self.new is not None:
            head.set_body(self.new)
        return None


@pytest.mark.parametrize("request_bytes", [POST, CHUNKED])
def test_a_request_body_is_read_and_passed_on(start: Start, request_bytes: bytes) -> None:
    reads = Reads()
    client, upstream = start(filters={"reads": reads}).opening(request_bytes)
    assert reads.body == b"hello"
    assert b"hello" in merge_chunks(upstream.takes())
    upstream.sends(OK)
    assert client.takes().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("request_bytes", [POST, CHUNKED])
@pytest.mark.parametrize("new", [b"", b"something longer"])
def test_a_request_body_is_replaced(start: Start, request_bytes: bytes, new: bytes) -> None:
    client, upstream = start(filters={"reads": Reads(new=new)}).opening(request_bytes)
    head = b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: %d\r\n\r\n" % len(new)
    upstream.receives(head + new)
    upstream.sends(OK)
    client.receives(OK)


def test_a_request_body_that_comes_late(start: Start) -> None:
    reads = Reads()
    talk = start(filters={"reads": reads})
    client = talk.connect()
    client.sends(POST[:-3])
    talk.expect_no_dial()
    assert client.is_read()
    client.sends(b"llo")
    talk.expect_dial().receives(POST)
    assert reads.body == b"hello"


@pytest.mark.parametrize("request_bytes", [POST, CHUNKED])
def test_a_request_body_over_the_limit(start: Start, request_bytes: bytes) -> None:
    talk = start(filters={"reads": Reads(limit=4)})
    client = talk.connect()
    client.sends(request_bytes)
    talk.expect_no_dial()
    assert client.takes().startswith(b"HTTP/1.1 413")
    assert talk.reasons() == ["body_too_large"]


def test_a_filter_may_answer_a_body_over_the_limit(start: Start) -> None:
    talk = start(filters={"reads": Reads(limit=4, catches=True)})
    client = talk.connect()
    client.sends(POST)
    assert client.takes().startswith(b"HTTP/1.1 403")


def test_the_client_that_waits_for_100_gets_it_from_us(start: Start) -> None:
    talk = start(filters={"reads": Reads()})
    client = talk.connect()
    client.sends(POST[:-9] + b"\r\nExpect: 100-continue\r\n\r\n")
    client.receives(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.sends(b"hello")
    talk.expect_dial().receives(POST)


def test_the_client_leaves_while_its_body_is_read(start: Start) -> None:
    reads = Reads()
    talk = start(filters={"reads": reads})
    client = talk.connect()
    client.sends(POST[:-3])
    client.resets()
    talk.expect_no_dial()
    assert reads.body is None
    assert talk.reasons() == ["client_gone"]


@pytest.mark.http1_only("spelling")
def test_a_reply_is_read_and_replaced(start: Start) -> None:
    reads = Reads(in_response=True, new=b"shorter")
    talk = start(filters={"reads": reads})
    client = talk.connect()
    client.sends(GET)
    upstream = dialled(talk)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nlon\r\n")
    client.receives_nothing()
    assert upstream.is_read()
    upstream.sends(b"1\r\ng\r\n0\r\n\r\n")
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\ncontent-length: 7\r\n\r\nshorter")
    assert reads.body == b"long"
    client.sends(GET)  # both connections serve on
    talk.expect_no_dial()
    assert upstream.takes() == GET


def test_a_reply_over_the_limit(start: Start) -> None:
    talk = start(filters={"reads": Reads(in_response=True, limit=1)})
    client = talk.connect()
    client.sends(GET)
    dialled(talk).sends(OK)
    assert client.takes().startswith(b"HTTP/1.1 502")
    assert talk.reasons() == ["response_too_large"]


def test_the_upstream_breaks_off_while_its_reply_is_read(start: Start) -> None:
    talk = start(filters={"reads": Reads(in_response=True)})
    client = talk.connect()
    client.sends(GET)
    upstream = dialled(talk)
    upstream.sends(OK[:-1])
    upstream.resets()
    assert client.takes().startswith(b"HTTP/1.1 502")


def test_json(start: Start) -> None:
    class Adds(Base):
        async def on_request(self, exchange: Exchange) -> None:
            value = await exchange.request.json()
            value["b"] = 2
            exchange.request.set_json(value)

    talk = start(filters={"adds": Adds()})
    client = talk.connect()
    client.sends(b'PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{"a":1}')
    talk.expect_dial().receives(b'PUT / HTTP/1.1\r\nHost: a\r\ncontent-length: 13\r\n\r\n{"a":1,"b":2}')


def test_a_plain_filter_cannot_read(start: Start) -> None:
    class Tries(Base):
        def on_request(self, exchange: Exchange) -> None:
            exchange.request.read()

    talk = start(filters={"tries": Tries()})
    client = talk.connect()
    client.sends(POST)
    assert client.takes().startswith(b"HTTP/1.1 500")
    assert "only be read in an `async` filter method" in talk.log.lines[0]


# ---- chunks


class Upper(Base):
    """Changes letters, and adds some at the end."""

    tail = b""

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data.upper() + (self.tail if last else b"")

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data.upper() + (self.tail if last else b"")


@pytest.mark.parametrize("request_bytes", [POST, CHUNKED])
@pytest.mark.parametrize("tail", [b"", b"!"])
def test_chunks_are_changed_both_ways(start: Start, request_bytes: bytes, tail: bytes) -> None:
    client, upstream = start(filters={"upper": Upper(tail=tail)}).opening(request_bytes)
    sent = upstream.takes()
    assert b"HELLO" + tail in merge_chunks(sent).replace(b"\r\n1\r\n", b"")
    assert (b"content-length" in sent.lower()) != (b"chunked" in sent.lower())
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    upstream.sends(b"1\r\nx\r\n0\r\n\r\n")
    received = client.takes()
    assert b"transfer-encoding: chunked" in received
    assert b"HIX" + tail in merge_chunks(received)


def test_a_filter_that_keeps_the_length(start: Start) -> None:
    class Counts(Base):
        changes_length = False
        seen = 0

        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
            self.seen += len(data)

    counts = Counts()
    talk = start(filters={"counts": counts})
    client = talk.connect()
    client.sends(GET)
    dialled(talk).sends(OK)
    client.receives(OK)
    assert counts.seen == 2


def test_trailers_are_available_with_the_last_chunk(start: Start) -> None:
    class Sees(Base):
        trailer: str | None = None

        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
            if last and exchange.response and exchange.response.trailers:
                self.trailer = exchange.response.trailers.get("x-sum")
                return data + b"."
            return None

    sees = Sees()
    talk = start(filters={"sees": sees})
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
    dialled(talk).sends(
        b"HTTP/1.1 200 OK\r\nDate: today\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"
    )
    assert sees.trailer == "7"
    assert b"hi." in merge_chunks(client.takes())


@pytest.mark.http1_only("chunks")
def test_a_filter_ends_the_reply(start: Start) -> None:
    class Cuts(Base):
        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
            if b"c" in data:
                exchange.end_response()
                return b"the end"
            return None

    talk = start(filters={"cuts": Cuts()})
    client = talk.connect()
    client.sends(GET)
    upstream = dialled(talk)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (b"a", b"b", b"c"):
        upstream.sends_whole(b"1\r\n" + piece + b"\r\n")
    assert client.takes().endswith(b"1\r\na\r\n1\r\nb\r\n7\r\nthe end\r\n0\r\n\r\n")
    assert client.is_open()
    assert upstream.is_reset()
    client.sends(GET)
    dialled(talk).sends(OK)
    assert merge_chunks(client.takes()).startswith(b"HTTP/1.1 200")


def test_an_error_in_a_chunk_aborts_the_reply(start: Start) -> None:
    class Breaks(Base):
        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> Any:
            if data == b"b":
                return "text"
            return None

    talk = start(filters={"breaks": Breaks()})
    client = talk.connect()
    client.sends(GET)
    upstream = dialled(talk)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream.sends_whole(b"1\r\na\r\n")
    assert client.is_open()
    upstream.sends_whole(b"1\r\nb\r\n")
    assert client.is_lingering()
    assert client.takes().endswith(b"1\r\na\r\n")
    assert talk.reasons() == ["filter_error"]


@pytest.mark.http1_only("chunks")
def test_a_skipping_filter_is_left_out_after_an_error_in_a_chunk(start: Start) -> None:
    class Breaks(Base):
        on_error = SKIP

        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
            if data == b"b":
                raise ValueError("b")
            return data.upper()

    talk = start(filters={"breaks": Breaks()})
    client = talk.connect()
    client.sends(GET)
    upstream = dialled(talk)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (b"a", b"b", b"c"):
        upstream.sends_whole(b"1\r\n" + piece + b"\r\n")
    upstream.sends_whole(b"0\r\n\r\n")
    assert client.takes().endswith(b"1\r\nA\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")


# ---- streamed replies


async def later(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


def at_once(pieces: list[bytes]) -> Iterator[bytes]:
    yield from pieces


@pytest.mark.parametrize("make", [later, at_once])
def test_a_reply_made_chunk_by_chunk(start: Start, make: Callable[[list[bytes]], Any]) -> None:
    class Streams(Base):
        def on_request(self, exchange: Exchange) -> Reply:
            return Reply(200, make([b"a", b"b", b"c"]), {"content-type": "text/event-stream"})

    talk = start(filters={"streams": Streams()})
    client = talk.connect()
    client.sends(GET)
    talk.pass_rounds(20)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + DATE + b"transfer-encoding: chunked\r\n\r\n"
    client.receives(head + b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
    assert client.is_open()


def test_a_streamed_reply_waits_for_its_client(start: Start) -> None:
    sent: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        for number in range(1000):
            sent.append(number)
            yield b"x" * 10_000

    class Streams(Base):
        def on_request(self, exchange: Exchange) -> Reply:
            return Reply(200, endless())

    talk = start(filters={"streams": Streams()})
    client = talk.connect()
    client.stalls()
    client.sends(GET)
    talk.pass_rounds(50)
    assert len(sent) < 40
    client.resets()
    talk.pass_rounds(50)
    assert len(sent) < 40


def test_a_streamed_reply_that_breaks(start: Start) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"a"
        raise ValueError("no more")

    class Streams(Base):
        def on_request(self, exchange: Exchange) -> Reply:
            return Reply(200, breaks())

    talk = start(filters={"streams": Streams()})
    client = talk.connect()
    client.sends(GET)
    talk.pass_rounds(20)
    assert client.is_lingering()
    assert client.takes().endswith(b"1\r\na\r\n")
    assert "no more" in talk.log.lines[0]


# ---- policy


class Late(Base):
    timeout = 1.0
    cancelled = False

    async def on_request(self, exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def test_a_filter_that_takes_too_long(start: Start) -> None:
    late = Late()
    talk = start(filters={"late": late})
    client = talk.connect()
    client.sends(GET)
    talk.advance(0.5)
    client.receives_nothing()
    talk.advance(1.0)
    assert client.takes().startswith(b"HTTP/1.1 504")
    assert late.cancelled
    assert talk.reasons() == ["filter_timeout"]


def test_a_late_filter_that_may_be_skipped(start: Start) -> None:
    late = Late()
    type(late).on_error = SKIP
    try:
        talk = start(filters={"late": late, "phases": Phases()})
    finally:
        del type(late).on_error
    client = talk.connect()
    client.sends(GET)
    talk.advance(1.5)
    dialled(talk).sends(OK)
    assert client.takes().startswith(b"HTTP/1.1 200")
    assert late.cancelled


@pytest.mark.parametrize("wrong", [lambda: 1 / 0, lambda: "text"])
def test_a_failing_filter_that_may_be_skipped(start: Start, wrong: Callable[[], Any]) -> None:
    class Fails(Base):
        on_error = SKIP

        def on_request(self, exchange: Exchange) -> Any:
            return wrong()

    talk = start(filters={"fails": Fails()})
    client = talk.connect()
    client.sends(GET)
    dialled(talk).sends(OK)
    client.receives(OK)
    group = talk.metrics.group("filter", ("filter", "fails"))
    assert (group.counter("errors").value, group.counter("skipped").value, group.counter("calls").value) == (1, 1, 1)


def test_body_methods_cannot_wait() -> None:
    class Waits(Base):
        async def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:  # type: ignore[override]
            pass

    with pytest.raises(TypeError, match="on_request_body must be a plain method"):
        Talk(filters={"waits": Waits()})


def test_a_filter_that_leaves_the_body_alone(start: Start) -> None:
    class Chooses(Base):
        def on_response(self, exchange: Exchange) -> None:
            if exchange.request.path != "/upper":
                exchange.skip_body(self)

        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
            return data.upper()

    talk = start(filters={"chooses": Chooses()})
    client = talk.connect()
    client.sends(GET)
    upstream = dialled(talk)
    upstream.sends(OK)
    client.receives(OK)
    client.sends(GET.replace(b"/", b"/upper", 1))
    assert upstream.takes()
    upstream.sends_whole(OK)
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\ncontent-length: 2\r\n\r\nHI")


class Gives(Upper):
    """Gives a GET a body, and reads its chunks."""

    def on_request(self, exchange: Exchange) -> None:
        exchange.request.set_body(b"made")


def test_a_body_that_filters_made_is_not_lost_with_a_stale_connection(start: Start) -> None:
    talk = start(filters={"gives": Gives()})
    client = talk.connect()
    made = b"GET / HTTP/1.1\r\nHost: a\r\ncontent-length: 4\r\n\r\nMADE"
    client.sends(GET)
    upstream = talk.expect_dial()
    upstream.receives(made)
    upstream.sends(b"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n")
    client.receives(b"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n")
    client.sends(GET)
    upstream.receives(made)
    upstream.resets()
    assert client.takes().startswith(b"HTTP/1.1 502")
    talk.expect_no_dial()
