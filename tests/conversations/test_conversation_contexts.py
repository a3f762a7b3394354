"""Context variables of filters: visible in all phases of their exchange, and nowhere else."""

from __future__ import annotations

import asyncio
import decimal
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar, Token
from typing import Any

import pytest
from tests.conversations.test_conversation_transcoder import answered, called, example, post
from tests.kit import GET, OK, Peer, Start, Talk
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo
from tests.kit.bolt_session import BOLT

from pymosn.api import Exchange, Reply, StreamFilter, Transcoder
from pymosn.api.routing import Route
from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.api.stream_filter import FilterContext
from pymosn.core.log import Log
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.routing.actions import Forward, ForwardOptions, Mirror, RetryPolicy
from pymosn.routing.matchers import AnyRequest

pytestmark = pytest.mark.also_h2

OWN: ContextVar[str] = ContextVar("own")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
TRACE = "trace"


def get(name: str) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\nx-id: %s\r\n\r\n" % name.encode()


class Marks(StreamFilter):
    """Sets the variable in the first phase, which must find it unset, and notes it in all others."""

    def __init__(self) -> None:
        super().__init__({})
        self.found: list[str | None] = []
        #: What each exchange saw, by the id of its request.
        self.seen: dict[str, list[tuple[str, str | None]]] = {}

    def id_of(self, exchange: Exchange) -> str:
        return exchange.request.headers.get("x-id") or "none"

    def note(self, exchange: Exchange, phase: str) -> None:
        self.seen[self.id_of(exchange)].append((phase, OWN.get(None)))

    def mark(self, exchange: Exchange) -> None:
        self.found.append(OWN.get(None))
        name = self.id_of(exchange)
        self.seen[name] = []
        OWN.set(name)

    def on_request(self, exchange: Exchange) -> Any:
        self.mark(exchange)

    def on_route(self, exchange: Exchange) -> Any:
        self.note(exchange, "route")

    def on_host(self, exchange: Exchange) -> Any:
        self.note(exchange, "host")

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self.note(exchange, "request body")

    def on_response(self, exchange: Exchange) -> Any:
        self.note(exchange, "response")

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self.note(exchange, "response body")

    def on_complete(self, exchange: Exchange) -> None:
        self.note(exchange, "complete")

    def check(self, *names: str) -> None:
        """Only these exchanges ran, and each of them saw nothing but its own value, up to its end."""
        assert self.found == [None] * len(names)
        for name in names:
            seen = self.seen[name]
            assert {value for _, value in seen} == {name}, seen
            assert seen[-1][0] == "complete"
        assert set(self.seen) == set(names)


class MarksLate(Marks):
    """The same with `async` phases; the first sets the variable after a wait."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._rounds = rounds

    async def wait(self) -> None:
        for _ in range(self._rounds):
            await asyncio.sleep(0)

    async def on_request(self, exchange: Exchange) -> None:
        await self.wait()
        self.mark(exchange)
        await self.wait()

    async def on_route(self, exchange: Exchange) -> None:
        self.note(exchange, "route, at once")
        await self.wait()
        self.note(exchange, "route")

    async def on_host(self, exchange: Exchange) -> None:
        await self.wait()
        self.note(exchange, "host")

    async def on_response(self, exchange: Exchange) -> None:
        await self.wait()
        self.note(exchange, "response")


class Notes(Marks):
    """A filter of another class, which only reads the variable."""

    def on_request(self, exchange: Exchange) -> Any:
        self.seen[self.id_of(exchange)] = []
        self.note(exchange, "request")


MARKERS = pytest.mark.parametrize(
    "make", [Marks, lambda: MarksLate(0), lambda: MarksLate(2)], ids=["plain", "async", "waits"]
)
Make = Callable[[], Marks]


def opening(talk: Talk, request: bytes) -> tuple[Peer, Peer]:
    """A client connects and sends a request; filters may wait."""
    client = talk.connect()
    client.sends(request)
    talk.pass_rounds(8)
    return client, talk.expect_dial()


def respond(talk: Talk, upstream: Peer, client: Peer) -> None:
    """The upstream gets the request and answers."""
    talk.pass_rounds(8)
    assert upstream.takes()
    upstream.sends(OK)
    talk.pass_rounds(8)
    assert client.takes().startswith(b"HTTP/1.1 200 OK")


@MARKERS
def test_all_phases_of_one_exchange_share_a_context(start: Start, make: Make) -> None:
    marks, notes = make(), Notes()
    talk = start(filters={"marks": marks, "notes": notes})
    client, upstream = opening(talk, POST)
    respond(talk, upstream, client)
    phases = {"route", "host", "request body", "response", "response body", "complete"}
    assert {phase for phase, _ in marks.seen["none"]} - {"route, at once"} == phases
    marks.check("none")
    notes.found.append(None)
    notes.check("none")


@MARKERS
def test_the_next_request_of_a_connection(start: Start, make: Make) -> None:
    marks = make()
    talk = start(filters={"marks": marks})
    client, upstream = opening(talk, get("a"))
    respond(talk, upstream, client)
    client.sends(get("b"))
    respond(talk, upstream, client)
    marks.check("a", "b")


@MARKERS
def test_pipelined_requests(start: Start, make: Make) -> None:
    marks = make()
    talk = start(filters={"marks": marks})
    client, upstream = opening(talk, get("a") + get("b") + get("c"))
    for _ in range(3):
        respond(talk, upstream, client)
    marks.check("a", "b", "c")


@MARKERS
def test_pipelined_requests_that_filters_answer(start: Start, make: Make) -> None:
    """The next request begins in the call stack of the one before."""

    class Answers(StreamFilter):
        def on_route(self, exchange: Exchange) -> Reply:
            return Reply(200, "")

    marks = make()
    talk = start(filters={"marks": marks, "answers": Answers({})})
    client = talk.connect()
    client.sends(get("a") + get("b") + get("c"))
    talk.pass_rounds(12)
    assert client.takes().count(b"HTTP/1.1 200 OK") == 3
    marks.check("a", "b", "c")


@MARKERS
def test_exchanges_of_several_connections_at_the_same_time(start: Start, make: Make) -> None:
    marks = make()
    talk = start(filters={"marks": marks})
    clients, upstreams = [], []
    names = ("a", "b", "c")
    for name in names:
        client, upstream = opening(talk, get(name))
        clients.append(client)
        upstreams.append(upstream)
    for client, upstream in zip(clients, upstreams, strict=True):
        respond(talk, upstream, client)
    marks.check(*names)


class Remembers(StreamFilter):
    """Sets the variable in its first phase, and resets it in `resets`, a later one."""

    def __init__(self, resets: str) -> None:
        super().__init__({})
        self._resets = resets
        self.token: Token[str] | None = None
        self.seen: list[str | None] = []

    def on_request(self, exchange: Exchange) -> None:
        self.token = OWN.set("value")

    def on_response(self, exchange: Exchange) -> None:
        self.step("response")

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        if last:
            self.step("body")

    def on_complete(self, exchange: Exchange) -> None:
        self.step("complete")
        self.seen.append(OWN.get(None))

    def step(self, phase: str) -> None:
        if phase == self._resets and self.token is not None:
            OWN.reset(self.token)
            self.token = None


class RemembersLate(Remembers):
    async def on_request(self, exchange: Exchange) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.token = OWN.set("value")

    async def on_response(self, exchange: Exchange) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.step("response")


@pytest.mark.parametrize("kind", [Remembers, RemembersLate])
@pytest.mark.parametrize("phase", ["response", "body", "complete"])
def test_a_token_is_reset_in_a_later_phase(start: Start, kind: type[Remembers], phase: str) -> None:
    remembers = kind(phase)
    talk = start(filters={"remembers": remembers})
    client, upstream = opening(talk, GET)
    respond(talk, upstream, client)
    assert remembers.seen == [None]
    assert remembers.token is None
    assert talk.filter_errors("remembers") == 0


# ---- what code within a phase does


class Does(StreamFilter):
    """Calls a function in `on_request`, and another one in `on_complete`."""

    def __init__(self, first: Callable[[], Any], last: Callable[[], Any] = lambda: None) -> None:
        super().__init__({})
        self.first: list[Any] = []
        self.last: list[Any] = []
        self._calls = first, last

    def on_request(self, exchange: Exchange) -> None:
        self.first.append(self._calls[0]())

    def on_complete(self, exchange: Exchange) -> None:
        self.last.append(self._calls[1]())


class DoesLate(Does):
    async def on_request(self, exchange: Exchange) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.first.append(await self._calls[0]())


def two_exchanges(start: Start, does: StreamFilter, **options: Any) -> Talk:
    """Two requests through a filter, on one connection."""
    talk = start(filters={"does": does}, **options)
    client, upstream = opening(talk, get("a"))
    respond(talk, upstream, client)
    client.sends(get("b"))
    respond(talk, upstream, client)
    assert talk.filter_errors("does") == 0
    return talk


def test_the_precision_of_decimals(start: Start) -> None:
    def narrow() -> int:
        before = decimal.getcontext().prec
        decimal.getcontext().prec = 5
        return before

    does = Does(narrow, lambda: decimal.Decimal(1) / decimal.Decimal(3))
    two_exchanges(start, does)
    assert does.first == [28, 28]
    assert does.last == [decimal.Decimal("0.33333")] * 2


def test_a_variable_that_a_library_creates_on_its_first_use(start: Start) -> None:
    made: list[ContextVar[dict[str, int]]] = []

    def bind() -> bool:
        if not made:
            made.append(ContextVar("fields"))
        was_unset = made[0].get(None) is None
        made[0].set({"request": 1})
        return was_unset

    does = Does(bind, lambda: made[0].get(None))
    two_exchanges(start, does)
    assert does.first == [True, True]
    assert does.last == [{"request": 1}] * 2


def test_tasks_inherit_a_copy(start: Start) -> None:
    async def inner() -> str | None:
        before = OWN.get(None)
        OWN.set("of the task")
        await asyncio.sleep(0)
        return before

    async def outer() -> str | None:
        assert OWN.get(None) is None
        OWN.set("exchange")
        return await asyncio.create_task(inner())

    does = DoesLate(outer, lambda: OWN.get(None))
    two_exchanges(start, does)
    assert does.first == does.last == ["exchange"] * 2


def test_callbacks_of_the_loop_inherit_a_copy(start: Start) -> None:
    called: list[str | None] = []

    def soon() -> str | None:
        before = OWN.get(None)
        OWN.set("exchange")
        asyncio.get_running_loop().call_soon(lambda: (called.append(OWN.get(None)), OWN.set("of the callback")))
        return before

    does = Does(soon, lambda: OWN.get(None))
    two_exchanges(start, does)
    assert does.first == [None, None]
    assert does.last == called == ["exchange"] * 2


def test_timeouts_and_task_groups(start: Start) -> None:
    async def outer() -> str | None:
        before = OWN.get(None)
        async with asyncio.timeout(10):
            OWN.set("exchange")
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
        return before

    does = DoesLate(outer, lambda: OWN.get(None))
    two_exchanges(start, does)
    assert (does.first, does.last) == ([None, None], ["exchange"] * 2)


@pytest.mark.whole_only  # threads take their time
def test_threads_get_a_copy(start: Start) -> None:
    def in_thread() -> str | None:
        before = OWN.get(None)
        OWN.set("of the thread")
        return before

    async def outer() -> str | None:
        assert OWN.get(None) is None
        OWN.set("exchange")
        return await asyncio.to_thread(in_thread)

    does = DoesLate(outer, lambda: OWN.get(None))
    talk = start(filters={"does": does})
    client = talk.connect()
    for turn in range(2):
        client.sends(GET)
        deadline = time.monotonic() + 10
        while len(does.first) <= turn and time.monotonic() < deadline:
            talk.pass_rounds(1)
        respond(talk, talk.upstreams[0] if turn else talk.expect_dial(), client)
    assert does.first == does.last == ["exchange"] * 2


def test_a_value_is_freed_with_its_exchange(start: Start) -> None:
    class Value:
        pass

    held: ContextVar[Value] = ContextVar("held")
    values: list[weakref.ref[Value]] = []

    def hold() -> None:
        value = Value()
        values.append(weakref.ref(value))
        held.set(value)

    two_exchanges(start, Does(hold))
    assert values[0]() is None


def test_an_exchange_that_sets_nothing_keeps_no_context(start: Start) -> None:
    does = Does(lambda: OWN.get(None))
    talk = start(filters={"does": does})
    spare = talk.runtime.spare_context
    client, upstream = opening(talk, GET)
    respond(talk, upstream, client)
    assert talk.runtime.spare_context is spare
    assert spare.is_spare


# ---- errors and ends


class SetsAndRaises(Marks):
    on_error = "skip"

    def on_request(self, exchange: Exchange) -> None:
        self.mark(exchange)
        raise ValueError("wrong")


def test_a_filter_that_fails_is_skipped_and_its_value_stays(start: Start) -> None:
    marks = SetsAndRaises()
    talk = start(filters={"marks": marks})
    client, upstream = opening(talk, get("a"))
    respond(talk, upstream, client)
    client.sends(get("b"))
    respond(talk, upstream, client)
    marks.check("a", "b")
    assert talk.filter_errors("marks") == 2


@pytest.mark.http1_only("connections to hosts are shared", "h1-h2", "h2-h2")
@MARKERS
def test_the_client_leaves_during_an_exchange(start: Start, make: Make) -> None:
    marks = make()
    talk = start(filters={"marks": marks})
    client, upstream = opening(talk, get("a"))
    upstream.takes()
    client.resets()
    other, upstream = opening(talk, get("b"))
    respond(talk, upstream, other)
    marks.check("a", "b")


class EndsItself(Marks):
    """Ends its own exchange in a phase: `on_complete` is called within that call."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self._phase = phase
        self.end: Callable[[], None] = lambda: None
        self.after: list[str | None] = []
        self._token: Token[str] | None = None

    def mark(self, exchange: Exchange) -> None:
        super().mark(exchange)
        self._token = OWN.set(self.id_of(exchange))

    def note(self, exchange: Exchange, phase: str) -> None:
        super().note(exchange, phase)
        if phase == self._phase:
            self.end()
            self.after.append(OWN.get(None))
        elif phase == "complete" and self._token is not None:
            OWN.reset(self._token)


class EndsItselfLate(EndsItself):
    async def on_response(self, exchange: Exchange) -> None:
        await asyncio.sleep(0)
        self.note(exchange, "response")


@pytest.mark.parametrize("kind", [EndsItself, EndsItselfLate])
@pytest.mark.parametrize("phase", ["route", "host", "response"])
def test_a_filter_ends_its_own_exchange(start: Start, kind: type[EndsItself], phase: str) -> None:
    marks = kind(phase)
    talk = start(filters={"marks": marks})
    client = talk.connect()
    marks.end = client.transport.lose
    client.sends_whole(get("a"))
    if phase == "response":
        upstream = talk.expect_dial()
        upstream.takes()
        upstream.sends(OK)
    talk.pass_rounds(4)
    marks.check("a")
    assert marks.after == ["a"], "the outer call is still in its context"
    assert talk.filter_errors("marks") == 0


# ---- streamed replies


class Streams(Marks):
    """Answers with a stream whose steps note the variable, and set it again."""

    def __init__(self, make: Callable[[Streams, Exchange], Any]) -> None:
        super().__init__()
        self._make = make

    def on_route(self, exchange: Exchange) -> Reply:
        return Reply(200, self._make(self, exchange))


def plain_stream(streams: Streams, exchange: Exchange) -> Iterator[bytes]:
    try:
        for _ in range(3):
            streams.note(exchange, "stream")
            yield b"x"
    finally:
        streams.note(exchange, "stream's end")


async def async_stream(streams: Streams, exchange: Exchange) -> AsyncIterator[bytes]:
    try:
        for _ in range(3):
            streams.note(exchange, "stream")
            yield b"x"
            await asyncio.sleep(0)
    finally:
        streams.note(exchange, "stream's end")


STREAMS = pytest.mark.parametrize("make", [plain_stream, async_stream])


@STREAMS
def test_streamed_replies(start: Start, make: Any) -> None:
    streams = Streams(make)
    talk = start(filters={"streams": streams})
    client = talk.connect()
    client.sends(get("a") + get("b"))
    talk.pass_rounds(20)
    assert client.takes().count(b"\r\n0\r\n\r\n") == 2
    streams.check("a", "b")
    phases = [phase for phase, _ in streams.seen["a"]]
    assert phases.count("stream") == 3
    assert phases.count("response body") >= 4
    assert "stream's end" in phases


def endless_plain_stream(streams: Streams, exchange: Exchange) -> Iterator[bytes]:
    while True:
        yield from plain_stream(streams, exchange)


async def endless_async_stream(streams: Streams, exchange: Exchange) -> AsyncIterator[bytes]:
    try:
        while True:
            streams.note(exchange, "stream")
            yield b"x"
    finally:
        await asyncio.sleep(0)
        streams.note(exchange, "stream's end")


@pytest.mark.http1_only("the client does not stop reading")
@pytest.mark.parametrize("make", [endless_plain_stream, endless_async_stream])
def test_a_stream_whose_client_leaves_is_closed_in_its_context(start: Start, make: Any) -> None:
    streams = Streams(make)
    talk = start(filters={"streams": streams})
    client = talk.connect()
    client.sends(get("a"))
    assert client.takes()
    client.resets()
    talk.pass_rounds(8)
    seen = streams.seen["a"]
    assert {value for _, value in seen} == {"a"}
    assert seen[-1][0] == "stream's end"
    assert "complete" in [phase for phase, _ in seen]
    client.transport.received = b""


def test_an_invalid_chunk_closes_the_stream(start: Start) -> None:
    def wrong(streams: Streams, exchange: Exchange) -> Iterator[Any]:
        try:
            yield b"x"
            yield "text"
        finally:
            streams.note(exchange, "stream's end")

    streams = Streams(wrong)
    talk = start(filters={"streams": streams})
    client = talk.connect()
    client.sends(get("a"))
    talk.pass_rounds(8)
    assert client.takes().endswith(b"\r\n1\r\nx\r\n")
    assert ("stream's end", "a") in streams.seen["a"]
    assert talk.reasons() == ["filter_error"]


def test_a_stream_that_fails_does_not_fail_the_next_one(start: Start) -> None:
    """Compiled coroutines are reused: nothing of an earlier one may be left in them."""

    async def fails(streams: Streams, exchange: Exchange) -> AsyncIterator[bytes]:
        yield b"x"
        raise ValueError("wrong")

    for _ in range(3):
        talk = start(filters={"streams": Streams(fails)})
        client = talk.connect()
        client.sends(get("a"))
        assert not client.takes().endswith(b"0\r\n\r\n")
        assert talk.reasons() == ["filter_error"]
        streams = Streams(async_stream)
        talk = start(filters={"streams": streams})
        client = talk.connect()
        client.sends(get("b"))
        talk.pass_rounds(8)
        assert client.takes().endswith(b"0\r\n\r\n")
        streams.check("b")


# ---- attempts, copies, subrequests, tunnels, other protocols


@MARKERS
def test_retries_are_part_of_the_exchange(start: Start, make: Make) -> None:
    marks = make()
    hosts = ("10.0.0.1:80", "10.0.0.2:80")
    routes = [Route("all", AnyRequest(), Forward("service", 60.0, ForwardOptions(retry_policy=RetryPolicy(True, 1, 0.0))))]
    talk = start(filters={"marks": marks}, routes=routes, hosts=hosts)
    client = talk.connect()
    client.sends(get("a"))
    talk.pass_rounds(8)
    talk.refuse_dial(hosts[0])
    talk.pass_rounds(8)
    respond(talk, talk.expect_dial(hosts[1]), client)
    assert [phase for phase, _ in marks.seen["a"]].count("host") == 2
    client.sends(get("b"))
    talk.pass_rounds(8)
    if talk.dials:
        talk.refuse_dial(hosts[0])
    respond(talk, talk.upstreams[-1], client)
    marks.check("a", "b")


@MARKERS
def test_mirrored_exchanges(start: Start, make: Make) -> None:
    marks = make()
    routes = [Route("all", AnyRequest(), Forward("service", 60.0, ForwardOptions(mirrors=[Mirror("other", 100)])))]
    talk = start(filters={"marks": marks}, routes=routes)
    client = talk.connect()
    for turn, name in enumerate(("a", "b")):
        client.sends(get(name))
        talk.pass_rounds(8)
        upstream = talk.upstreams[0] if turn else talk.expect_dial()
        copy = talk.upstreams[1] if turn else talk.expect_dial("10.0.1.1:80")
        copy.takes()
        copy.sends(OK)
        respond(talk, upstream, client)
    marks.check("a", "b")


class Asks(Marks):
    """Sends a subrequest in `on_request`."""

    async def on_request(self, exchange: Exchange) -> None:
        self.mark(exchange)
        await self.clusters["other"].get("/check")
        self.note(exchange, "after the subrequest")


def test_subrequests(start: Start) -> None:
    asks = Asks()
    talk = start(filters={"asks": asks})
    asks.context = FilterContext("asks", Log(), ClusterClients(talk.runtime))
    client = talk.connect()
    for turn, name in enumerate(("a", "b")):
        client.sends(get(name))
        other = talk.upstreams[0] if turn else talk.expect_dial("10.0.1.1:80")
        other.takes()
        other.sends(OK)
        respond(talk, talk.upstreams[1] if turn else talk.expect_dial(), client)
    asks.check("a", "b")


UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nx-id: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.http1_only("Upgrade")
@MARKERS
def test_tunnels(start: Start, make: Make) -> None:
    marks = make()
    talk = start(filters={"marks": marks})
    tunnels = []
    for name in (b"a", b"b"):
        client, upstream = opening(talk, UPGRADE % name)
        talk.pass_rounds(8)
        upstream.takes()
        upstream.sends(AGREE)
        talk.pass_rounds(8)
        assert client.takes().startswith(b"HTTP/1.1 101")
        tunnels.append((client, upstream))
    for client, upstream in tunnels:
        client.sends(b"ping")
        upstream.receives(b"ping")
        client.shuts()
        upstream.shuts()
    marks.check("a", "b")


@pytest.mark.http1_only("another protocol")
@MARKERS
def test_calls_of_an_rpc_protocol_on_one_connection(start: Start, make: Make) -> None:
    marks = make()
    talk = start(filters={"marks": marks}, **BOLT)
    client = talk.connect()
    calls = [bolt.request(7 + number, b"abc", {"x-id": name}) for number, name in enumerate(("a", "b"))]
    client.sends(b"".join(calls))
    talk.pass_rounds(8)
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(bolt.response(2, b"B") + bolt.response(1, b"A"))
    talk.pass_rounds(8)
    client.takes()
    marks.check("a", "b")


class NotesCall(Transcoder):
    """Converts as the example does, and notes the variable."""

    upstream_protocol = "dubbo"

    def __init__(self, inner: Any, marks: Marks) -> None:
        super().__init__({})
        self._inner = inner
        self._marks = marks

    def request(self, exchange: Exchange, body: bytes) -> RpcRequest | Reply:
        self._marks.note(exchange, "to the call")
        made: RpcRequest | Reply = self._inner.request(exchange, body)
        return made

    def response(self, exchange: Exchange, reply: RpcResponse) -> Reply:
        self._marks.note(exchange, "from the call")
        made: Reply = self._inner.response(exchange, reply)
        return made


@pytest.mark.http1_only("another protocol", "h1-h2", "h2-h2")
@MARKERS
def test_transcoders(start: Start, make: Make) -> None:
    marks = make()
    routes = [Route("all", AnyRequest(), Forward("service", 5.0, ForwardOptions(upstream_protocol="dubbo")))]
    talk = start(routes=routes, filters={"transcoder": NotesCall(example(), marks), "marks": marks})
    client = talk.connect()
    for turn, name in enumerate(("a", "b")):
        call = post("/a.Service/find", "[1]").replace(b"Host: a\r\n", b"Host: a\r\nx-id: %s\r\n" % name.encode())
        client.sends(call)
        talk.pass_rounds(12)
        upstream = talk.upstreams[0] if turn else talk.expect_dial()
        number, _, _ = called(upstream)
        upstream.sends(dubbo.result(number, 1))
        talk.pass_rounds(8)
        answered(client)
    marks.check("a", "b")
    phases = [phase for phase, _ in marks.seen["b"]]
    assert {"to the call", "from the call", "request body"} <= set(phases)


# ---- filters that interfere with other exchanges


class ClosesOther(Marks):
    """In `on_request` ends the exchange before, whose `on_complete` ends this one."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, Callable[[], None]] = {}

    def on_request(self, exchange: Exchange) -> None:
        self.mark(exchange)
        if self.id_of(exchange) == "b":
            self.ends["a"]()

    def on_complete(self, exchange: Exchange) -> None:
        super().on_complete(exchange)
        if self.id_of(exchange) == "a":
            self.ends["b"]()


def test_two_exchanges_end_each_other(start: Start) -> None:
    marks = ClosesOther()
    talk = start(filters={"marks": marks})
    first, upstream = opening(talk, get("a"))
    upstream.takes()
    second = talk.connect()
    marks.ends = {"a": first.transport.lose, "b": second.transport.lose}
    second.sends_whole(get("b"))
    assert talk.filter_errors("marks") == 0
    marks.check("a", "b")
