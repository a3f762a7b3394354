"""Errors outside `Exception`, without text and of hostile classes, wherever filters and installed protocols raise them."""

import asyncio
import enum
import re
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.kit import GET, Start, Talk
from tests.kit import dubbo_frames as dubbo
from tests.kit.hostile_errors import KINDS, Panic, make

from pymosn.api import BodyTooLarge, Exchange, Reply, StreamFilter, Transcoder
from pymosn.api.protocol import NEED_MORE, NO, REQUEST, RESPONSE, YES
from pymosn.api.routing import Route
from pymosn.api.rpc import RpcDecoder, RpcHeaders, RpcRequest, RpcResponse, RpcSpec
from pymosn.core.errors import type_name
from pymosn.core.failure import ACCESS_DENIED, Failure, Refused
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import Headers
from pymosn.protocol.dubbo.calls import make_call
from pymosn.routing.actions import Forward, ForwardOptions
from pymosn.routing.matchers import AnyRequest
from pymosn.stream.registry import RpcProtocol
from pymosn.version import build

pytestmark = pytest.mark.sampled(3)

OK = b"HTTP/1.1 200 Fine\r\nDate: today\r\nContent-Length: 2\r\n\r\nhi"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nwell"
HERE = "test_conversation_hostile_errors.py:"

kinds = pytest.mark.parametrize("kind", list(KINDS))


class Raises(StreamFilter):
    """Raises an error of that kind at one place."""

    changes_length = False

    def __init__(self, place: str, kind: str) -> None:
        super().__init__({})
        self._place = place
        self._kind = kind

    def _at(self, place: str) -> None:
        if place == self._place:
            raise make(self._kind)

    async def _wait(self, place: str) -> None:
        await asyncio.sleep(0)
        raise make(self._kind)

    def _phase(self, place: str) -> Any:
        self._at(place)
        return self._wait(place) if self._place == f"async {place}" else None

    def on_request(self, exchange: Exchange) -> Any:
        return self._phase("on_request")

    def on_route(self, exchange: Exchange) -> Any:
        return self._phase("on_route")

    def on_host(self, exchange: Exchange) -> Any:
        return self._phase("on_host")

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self._at("on_request_body")

    def on_response(self, exchange: Exchange) -> Any:
        return self._phase("on_response")

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self._at("on_response_body")

    def on_complete(self, exchange: Exchange) -> None:
        self._at("on_complete")


def reports(talk: Talk, kind: str, place: str = HERE) -> list[str]:
    """The lines of the log about an error of that kind in the filter `bad`."""
    said = KINDS[kind][1]
    return [line for line in talk.log.lines if f"filter 'bad' failed: {said}" in line and place in line]


def with_answer(talk: Talk, request: bytes = POST) -> bytes:
    """What the client gets, from an upstream that answers OK if it is asked."""
    client = talk.connect()
    client.sends(request)
    if talk.dials:
        upstream = talk.expect_dial()
        if upstream.takes():
            upstream.sends(OK)
    return client.takes()


PHASES = ("on_request", "on_route", "on_host", "on_response")


#: Tasks pass two kinds on to whoever runs the loop. Workers ignore them there: tests/system/test_filter_exceptions.py.
in_tasks = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("interrupt", "exit")])


@in_tasks
@pytest.mark.parametrize("phase", PHASES)
def test_an_async_phase_that_fails_is_answered(start: Start, phase: str, kind: str) -> None:
    talk = start(filters={"bad": Raises(f"async {phase}", kind)})
    assert with_answer(talk).startswith(b"HTTP/1.1 500 ")
    assert talk.filter_errors("bad") == 1
    assert talk.reasons() == ["filter_error"]
    if kind != "cancelled":
        assert len(reports(talk, kind)) == 1


@kinds
@pytest.mark.parametrize("place", [*PHASES, "on_request_body"])
def test_a_phase_that_fails_is_answered(start: Start, place: str, kind: str) -> None:
    talk = start(filters={"bad": Raises(place, kind)})
    assert with_answer(talk).startswith(b"HTTP/1.1 500 ")
    assert talk.filter_errors("bad") == 1
    assert talk.reasons() == ["filter_error"]
    assert len(reports(talk, kind)) == 1


@kinds
@pytest.mark.whole_only
def test_a_body_that_fails(start: Start, kind: str) -> None:
    talk = start(filters={"bad": Raises("on_response_body", kind)})
    assert with_answer(talk).startswith(b"HTTP/1.1 500 ")
    assert len(reports(talk, kind)) == 1
    assert talk.reasons() == ["filter_error"]


@kinds
def test_the_end_that_fails(start: Start, kind: str) -> None:
    talk = start(filters={"bad": Raises("on_complete", kind)})
    assert with_answer(talk).endswith(b"hi")
    assert len(reports(talk, kind)) == 1
    assert talk.reasons() == ["ok"]


@kinds
@pytest.mark.parametrize("place", ["on_request", "on_response", "on_request_body"])
def test_a_failing_filter_may_be_skipped(start: Start, place: str, kind: str) -> None:
    class Skips(Raises):
        on_error = "skip"

    talk = start(filters={"bad": Skips(place, kind)})
    assert with_answer(talk).endswith(b"hi")
    assert talk.filter_errors("bad") == 1
    assert talk.reasons() == ["ok"]


# ---- streamed replies


class Streams(StreamFilter):
    def __init__(self, chunks: Callable[[], Any]) -> None:
        super().__init__({})
        self._chunks = chunks

    def on_request(self, exchange: Exchange) -> Reply:
        return Reply(200, self._chunks())


@kinds
@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_that_fails_is_reset(start: Start, is_async: bool, kind: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise make(kind)

    async def later_chunks() -> AsyncIterator[bytes]:
        yield b"one"
        raise make(kind)

    talk = start(filters={"bad": Streams(later_chunks if is_async else chunks)})
    client = talk.connect()
    client.sends(GET)
    assert client.takes().endswith(b"3\r\none\r\n")
    assert not client.is_open()
    assert len(reports(talk, kind)) == 1
    assert talk.reasons() == ["filter_error"]


class Iterates:
    """An iterable that fails before its first chunk."""

    def __init__(self, kind: str, method: str) -> None:
        self._kind = kind
        self._method = method

    def __iter__(self) -> Any:
        if self._method == "iter":
            raise make(self._kind)
        return self

    def __next__(self) -> bytes:
        raise make(self._kind)


@kinds
@pytest.mark.parametrize("method", ["iter", "next"])
def test_an_iterable_that_fails(start: Start, method: str, kind: str) -> None:
    talk = start(filters={"bad": Streams(lambda: Iterates(kind, method))})
    client = talk.connect()
    client.sends(GET)
    client.takes()
    assert not client.is_open()
    assert len(reports(talk, kind)) == 1


@kinds
def test_a_stream_that_fails_when_the_client_leaves(start: Start, kind: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            raise make(kind)

    talk = start(filters={"bad": Streams(chunks)})
    client = talk.connect()
    client.sends(GET)
    client.takes()
    client.resets()
    talk.pass_rounds(3)
    if kind != "cancelled":
        assert len(reports(talk, kind)) == 1
    assert talk.reasons() == ["client_gone"]


# ---- rejections and replies


class Answers(StreamFilter):
    def __init__(self, answer: Callable[[Exchange], Any]) -> None:
        super().__init__({})
        self._answer = answer

    def on_request(self, exchange: Exchange) -> Any:
        return self._answer(exchange)


class Lacks(Refused):
    def __init__(self) -> None:
        Exception.__init__(self, "no failure")


class Wrong(BodyTooLarge):
    def __init__(self, failure: Any) -> None:
        Exception.__init__(self, "no")
        self.found = failure

    @property
    def failure(self) -> Any:  # type: ignore[override]
        return self.found


@pytest.mark.parametrize("make_error", [Lacks, lambda: Wrong(5), lambda: Wrong(Failure("odd", 42)), lambda: Wrong(None)])
def test_a_rejection_without_a_valid_failure_is_an_error(start: Start, make_error: Callable[[], Refused]) -> None:
    def answer(exchange: Exchange) -> None:
        raise make_error()

    talk = start(filters={"bad": Answers(answer)})
    assert with_answer(talk).startswith(b"HTTP/1.1 500 ")
    assert talk.filter_errors("bad") == 1


def test_a_rejection_of_an_own_class_is_one(start: Start) -> None:
    def answer(exchange: Exchange) -> None:
        raise Wrong(ACCESS_DENIED)

    talk = start(filters={"bad": Answers(answer)})
    assert with_answer(talk).startswith(b"HTTP/1.1 403 ")
    assert talk.filter_errors("bad") == 0


def bare_reply(exchange: Exchange) -> Any:
    return Reply.__new__(Reply)


def reply_without_body(exchange: Exchange) -> Any:
    reply = Reply(200, b"x")
    reply.body = None  # type: ignore[assignment]
    return reply


def reply_with_dict(exchange: Exchange) -> Any:
    reply = Reply(200, b"x")
    reply.headers = {"a": "b"}  # type: ignore[assignment]
    return reply


def own_reply(exchange: Exchange) -> Any:
    class Own(Reply):
        @property
        def body(self) -> Any:  # type: ignore[override]
            raise Panic

        @body.setter
        def body(self, value: object) -> None:
            pass

    return Own(200)


@pytest.mark.parametrize("answer", [bare_reply, reply_without_body, reply_with_dict, own_reply])
def test_a_reply_that_is_none(start: Start, answer: Callable[[Exchange], Any]) -> None:
    talk = start(filters={"bad": Answers(answer)})
    assert with_answer(talk).startswith(b"HTTP/1.1 500 ")
    assert talk.filter_errors("bad") == 1


@pytest.mark.skipif(build() == "compiled", reason="compiled classes have no such subclasses")
def test_a_reply_of_an_own_class(start: Start) -> None:
    class Own(Reply):
        pass

    talk = start(filters={"good": Answers(lambda exchange: Own(201, "made"))})
    assert with_answer(talk).startswith(b"HTTP/1.1 201 ")


# ---- values of subclasses


class Over:
    """Whether the filter has returned."""

    is_so = False

    @classmethod
    def check(cls) -> None:
        if cls.is_so:
            raise Panic


class Data(bytes):
    def __bytes__(self) -> bytes:
        raise Panic

    def __len__(self) -> int:
        raise Panic

    def __eq__(self, other: object) -> bool:
        raise Panic

    __hash__ = None  # type: ignore[assignment]


class Word(str):
    """Fails once the filter has returned."""

    def __hash__(self) -> int:
        Over.check()
        return str.__hash__(self)

    def __eq__(self, other: object) -> bool:
        Over.check()
        return str.__eq__(self, other)

    def __str__(self) -> str:
        Over.check()
        return str.__str__(self)

    def __format__(self, spec: str) -> str:
        Over.check()
        return str.__format__(self, spec)

    def encode(self, *arguments: Any) -> bytes:
        return b"another"


class Colour(enum.StrEnum):
    RED = "red"


def test_values_are_taken_as_they_are(start: Start) -> None:
    """Only the values count: no method of their classes is called when the filter has returned."""

    def answer(exchange: Exchange) -> Any:
        exchange.set_variable(Word("tenant-of-test"), Word("blue"))
        exchange.request.headers.set(Word("x-of-this-test"), Word("blue"))
        exchange.request.headers.set("x-colour", Colour.RED)
        exchange.request.path = Word("/blue")
        exchange.request.set_body(Data(b"body"))
        exchange.choose(cluster=Word("other"))
        Over.is_so = True

    talk = start(filters={"good": Answers(answer)})
    client = talk.connect()
    client.sends(POST)
    got = talk.expect_dial("10.0.1.1:80").takes()
    assert got.startswith(b"POST /blue HTTP/1.1\r\n")
    assert b"x-of-this-test: blue\r\nx-colour: red\r\n" in got
    assert got.endswith(b"body")
    talk.upstreams[0].sends(OK)
    assert client.takes().endswith(b"hi")
    exchange = talk.outcomes.exchanges[0]
    assert exchange.variable("tenant-of-test") == "blue"
    assert exchange.request.headers.get("x-of-this-test") == "blue"  # the name is remembered by its value


def test_a_reply_of_such_values(start: Start) -> None:
    def answer(exchange: Exchange) -> Reply:
        reply = Reply(200, Data(b"data"), {Word("x-of-that-test"): Colour.RED})
        Over.is_so = True
        return reply

    talk = start(filters={"good": Answers(answer)})
    got = with_answer(talk)
    assert b"x-of-that-test: red\r\n" in got
    assert got.endswith(b"data")


def test_chunks_of_a_subclass(start: Start) -> None:
    talk = start(filters={"good": Streams(lambda: iter([Data(b"one")]))})
    assert with_answer(talk).endswith(b"3\r\none\r\n0\r\n\r\n")


def test_chunks_of_a_subclass_from_a_body_filter(start: Start) -> None:
    class Replaces(StreamFilter):
        changes_length = False

        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
            return Data(data.upper())

    talk = start(filters={"good": Replaces({})})
    assert with_answer(talk).endswith(b"HI")


def test_filters_are_told_apart_by_identity(start: Start) -> None:
    class Equal(StreamFilter):
        def __eq__(self, other: object) -> bool:
            raise Panic

        __hash__ = None  # type: ignore[assignment]

        def on_request(self, exchange: Exchange) -> None:
            exchange.skip_body(self)

        def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
            raise AssertionError("was skipped")

    class Watches(Equal):
        seen = b""

        def on_request(self, exchange: Exchange) -> None:
            pass

        def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
            self.seen += data

    watcher = Watches({})
    talk = start(filters={"first": Equal({}), "second": watcher})
    assert with_answer(talk).endswith(b"hi")
    assert watcher.seen == b"well"


# ---- transcoders


class Calls(Transcoder):
    upstream_protocol = "dubbo"

    def __init__(self, place: str, kind: str) -> None:
        super().__init__({})
        self._place = place
        self._kind = kind

    def request(self, exchange: Exchange, body: bytes) -> RpcRequest:
        if self._place == "request":
            raise make(self._kind)
        return make_call("a.Service", "find", "", [])

    def response(self, exchange: Exchange, reply: RpcResponse) -> Reply:
        raise make(self._kind)


@in_tasks
@pytest.mark.parametrize("place", ["request", "response"])
def test_a_transcoder_that_fails(start: Start, place: str, kind: str) -> None:
    options = ForwardOptions(upstream_protocol="dubbo")
    talk = start(routes=[Route("all", AnyRequest(), Forward("service", 5.0, options))], filters={"bad": Calls(place, kind)})
    client = talk.connect()
    client.sends(POST)
    if place == "response":
        upstream = talk.expect_dial()
        number = struct.unpack_from(">HBBqI", upstream.takes())[3]
        upstream.sends(dubbo.result(number))
    assert client.takes().startswith(b"HTTP/1.1 500 ")
    assert talk.filter_errors("bad") == 1
    if kind != "cancelled":
        assert len(reports(talk, kind)) == 1


# ---- protocols of installed packages: a letter for the kind, one for the id, a place, and a space at the end


class Bad:
    """Where the codec fails, and how."""

    place = ""
    kind = ""

    @classmethod
    def at(cls, place: str) -> None:
        if place == cls.place:
            raise make(cls.kind)


class BadRequest(RpcRequest):
    def with_request_id(self, request_id: int, out: FrameWriter) -> None:
        out.write(b"half")
        if b"bad" in self.frame:
            Bad.at("request")
        out.truncate(out.size() - 4)
        out.write(b"q%d" % request_id + self.frame[2:])

    def local_reply(self, status: int, headers: Headers, body: bytes) -> RpcResponse:
        if b"bad" in self.frame:
            Bad.at("local_reply")
        return BadResponse(headers, status, b"", b"%d" % status)

    def service(self) -> str:
        if b"bad" in self.frame:
            Bad.at("head")
        return "s"


class BadResponse(RpcResponse):
    def with_request_id(self, request_id: int, out: FrameWriter) -> None:
        if b"bad" in self.frame:
            Bad.at("response")
        out.write(b"r%d" % request_id + self.frame[2:])

    def build(self, request_id: int, payload: bytes, out: FrameWriter) -> None:
        out.write(b"e%d%b " % (request_id, payload))


class BadDecoder(RpcDecoder):
    def frame_size(self, data: bytes, start: int, end: int) -> int:
        return data.find(b" ", start) + 1 - start

    def read(self, data: bytes, start: int, end: int) -> int:
        frame = data[start:end]
        if b"bad" in frame:
            Bad.at("upstream" if self.is_client else "read")
        self.request_id = int(frame[1:2])
        if frame[:1] == b"q":
            self.request = BadRequest(RpcHeaders(), self.request_id, frame, b"", False)
            return REQUEST
        self.response = BadResponse(RpcHeaders(), 200, frame, b"")
        return RESPONSE


class BadSpec(RpcSpec):
    def __init__(self) -> None:
        super().__init__("bad", 9)

    def match(self, data: bytes) -> int:
        Bad.at("match")
        return YES if data[:1] == b"q" else NO

    def decoder(self, max_frame: int) -> RpcDecoder:
        Bad.at("decoder")
        return BadDecoder(max_frame)

    def heartbeat(self, request_id: int) -> bytes:
        Bad.at("heartbeat")
        return b"h%d " % request_id

    def goaway(self, request_id: int) -> bytes:
        Bad.at("goaway")
        return b"g "


def rpc(start: Start, place: str, kind: str, protocols: tuple[str, ...] = ("bad",), **wishes: Any) -> Talk:
    Bad.place, Bad.kind = place, kind
    return start(protocols=protocols, extra_protocols=[RpcProtocol(BadSpec())], **wishes)


def told(talk: Talk) -> list[str]:
    """What was reported to the event loop: message and type of the error."""
    found = [f"{fault['message']}: {type_name(fault['exception'])}" for fault in talk.loop.faults]
    talk.loop.faults.clear()
    return found


def type_of(kind: str) -> str:
    return re.split("[: ]", KINDS[kind][1])[0]


@pytest.fixture(autouse=True)
def good_again() -> Iterator[None]:
    yield
    Bad.place = ""
    Over.is_so = False


@kinds
@pytest.mark.parametrize("place", ["request", "response"])
def test_a_call_that_cannot_be_encoded_harms_no_other(start: Start, place: str, kind: str) -> None:
    talk = rpc(start, place, kind)
    client, upstream = talk.opening(b"q1good q2bad q3good ")
    if place == "request":
        upstream.receives(b"q1good q3good ")
        client.receives(b"e2500 ")
    else:
        upstream.receives(b"q1good q2bad q3good ")
        upstream.sends(b"r2bad ")
        client.receives(b"e2500 ")
    upstream.sends(b"r3good r1good ")
    client.receives(b"r3good r1good ")
    assert told(talk) == [f"a {place} cannot be encoded: {type_of(kind)}"]
    assert talk.reasons() == ["internal_error", "ok", "ok"]


@kinds
def test_a_call_whose_failure_cannot_be_told(start: Start, kind: str) -> None:
    talk = rpc(start, "local_reply", kind)
    client = talk.connect()
    client.sends(b"q1bad ")
    talk.refuse_dial()
    assert not client.is_open()
    assert talk.reasons() == ["connect_refused"]
    assert told(talk) == [
        f"a local reply cannot be sent: {type_of(kind)}",
        f"an error response cannot be encoded: {type_of(kind)}",
    ]


@kinds
def test_a_frame_of_a_client_that_cannot_be_read(start: Start, kind: str) -> None:
    talk = rpc(start, "read", kind)
    client = talk.connect()
    client.sends(b"q1bad ")
    assert not client.is_open()
    assert talk.reasons() == ["bad_frame"]
    assert told(talk) == [f"a frame cannot be decoded: {type_of(kind)}"]


@kinds
def test_a_frame_of_an_upstream_that_cannot_be_read(start: Start, kind: str) -> None:
    talk = rpc(start, "upstream", kind)
    client, upstream = talk.opening(b"q1good ")
    upstream.receives(b"q1good ")
    upstream.sends(b"r1bad ")
    client.receives(b"e1502 ")
    assert talk.reasons() == ["bad_response"]
    assert told(talk) == [f"a frame cannot be decoded: {type_of(kind)}"]


@kinds
def test_the_first_bytes_are_given_to_the_next_protocol(start: Start, kind: str) -> None:
    talk = rpc(start, "match", kind, ("bad", "Http1"))
    assert with_answer(talk).endswith(b"hi")
    assert set(told(talk)) == {f"protocol 'bad' cannot be detected: {type_of(kind)}"}


@kinds
@pytest.mark.parametrize("protocols", [("bad",), ("Http1", "bad")])
def test_a_connection_without_a_decoder_is_closed(start: Start, protocols: tuple[str, ...], kind: str) -> None:
    talk = rpc(start, "decoder", kind, protocols)
    client = talk.connect()
    if client.is_open():
        client.sends(b"q1good ")
    assert not client.is_open()
    assert told(talk)


@kinds
@pytest.mark.parametrize("place", ["decoder", "heartbeat"])
def test_an_upstream_connection_that_cannot_be_made(start: Start, place: str, kind: str) -> None:
    talk = rpc(start, "", kind)
    client = talk.connect()
    Bad.place = place
    client.sends(b"q1good ")
    talk.expect_no_dial()
    client.receives(b"e1502 " if place == "heartbeat" else b"e1503 ")
    assert len(told(talk)) == 1


@kinds
def test_an_upstream_that_cannot_be_probed(start: Start, kind: str) -> None:
    talk = rpc(start, "", kind)
    client, upstream = talk.opening(b"q1good ")
    upstream.receives(b"q1good ")
    Bad.place = "heartbeat"
    talk.advance(15.1)
    assert told(talk) == [f"a heartbeat cannot be made: {type_of(kind)}"]
    upstream.sends(b"r1good ")
    client.receives(b"r1good ")


@kinds
def test_a_connection_that_cannot_be_told_to_go_is_drained(start: Start, kind: str) -> None:
    talk = rpc(start, "goaway", kind)
    client, upstream = talk.opening(b"q1good ")
    upstream.receives(b"q1good ")
    other = talk.connect()
    talk.drain()
    upstream.sends(b"r1good ")
    client.receives(b"r1good ")
    talk.advance(5.0)
    assert not client.is_open()
    assert not other.is_open()
    told(talk)


@kinds
def test_a_head_that_fails_where_it_is_logged(start: Start, kind: str) -> None:
    talk = rpc(start, "head", kind)
    client = talk.connect()
    client.sends(b"q1bad ")
    talk.refuse_dial()
    client.receives(b"e1502 ")
    assert talk.reasons() == ["connect_refused"]
    told(talk)


def test_the_codec_works(start: Start) -> None:
    """What the tests above rely on."""
    talk = rpc(start, "", "")
    client, upstream = talk.opening(b"q1bad ")
    upstream.receives(b"q1bad ")
    upstream.sends(b"r1bad ")
    client.receives(b"r1bad ")
    assert NEED_MORE not in (REQUEST, RESPONSE)
