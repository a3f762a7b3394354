"""An exchange and a connection leave no cycles for the garbage collector, which would stop the worker."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable

import pytest
from tests.kit import GET, Peer, Talk
from tests.kit import bolt_frames as bolt
from tests.kit.h2_end import Pairs, Stream
from tests.kit.h2_frames import data as data_frame
from tests.kit.h2_frames import goaway
from tests.kit.h2_peers import H2Client, H2Upstream, h2_upstream, request

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.api.stream_filter import ClientError, FilterContext
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.protocol.http2.frames import ENABLE_CONNECT_PROTOCOL, REFUSED_STREAM
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.routing.actions import Forward, ForwardOptions, RetryPolicy
from pymosn.routing.matchers import AnyRequest

Act = Callable[[Talk, Peer], None]

GET_FIELDS = request(b"GET")
WEB_SOCKET = request(b"CONNECT", b"/", b"a", (b"sec-websocket-version", b"13"))
WEB_SOCKET.insert(1, (b":protocol", b"websocket"))

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nDate: today\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nt: 1\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nDate: today\r\nContent-Length: 4\r\n\r\nbusy"


def upstream(talk: Talk) -> Peer:
    """Whoever got the request."""
    return talk.expect_dial(talk.dials[0].address) if talk.dials else talk.upstreams[-1]


def answered(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    upstream(talk).sends(OK)


def with_bodies(talk: Talk, client: Peer) -> None:
    client.sends(POST)
    upstream(talk).sends(CHUNKED)


def reset_by_the_host(talk: Talk, client: Peer) -> None:
    client.sends(POST)
    upstream(talk).resets()


def refused_by_the_host(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    talk.refuse_dial(talk.dials[0].address)


def broken_off(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    host = upstream(talk)
    host.sends(OK[:-1])
    host.resets()


def left_by_the_client(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    upstream(talk)
    client.resets()


def left_while_dialing(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    dial = talk.hold_dial(talk.dials[0].address)
    client.resets()
    dial.fails(CONNECT_REFUSED)


def too_late(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    upstream(talk)
    talk.advance(61.0)


def retried(talk: Talk, client: Peer) -> None:
    client.sends(b"GET /retry HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream(talk).sends(BUSY)
    upstream(talk).sends(OK)


def nonsense(talk: Talk, client: Peer) -> None:
    client.sends(b"nonsense\r\n\r\n")


def read_too_slowly(talk: Talk, client: Peer) -> None:
    talk.listener.write_timeout = 20.0
    client.stalls()
    client.sends(GET)
    upstream(talk).sends_whole(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 600000\r\n\r\n" + b"x" * 300000)
    talk.advance(21.0)


def one_too_many(talk: Talk, client: Peer) -> None:
    talk.listener.max_connections = 1
    assert talk.connect().is_reset()
    client.resets()
    talk.listener.max_connections = 0


class Plain(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.headers["x-a"] = "1"

    def on_response(self, exchange: Exchange) -> None:
        exchange.response.headers["x-b"] = "2"


class Waiting(StreamFilter):
    async def on_request(self, exchange: Exchange) -> None:
        await asyncio.sleep(0)

    async def on_response(self, exchange: Exchange) -> None:
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", [None, Plain, Waiting], ids=["no filter", "plain", "async"])
@pytest.mark.parametrize(
    "act",
    [
        *(answered, with_bodies, reset_by_the_host, refused_by_the_host, broken_off),
        *(left_by_the_client, left_while_dialing, too_late, retried, nonsense),
        *(read_too_slowly, one_too_many),
    ],
)
def test_nothing_is_left_for_the_garbage_collector(act: Act, kind: type[StreamFilter] | None) -> None:
    policy = RetryPolicy(True, 2) if act is retried else None
    routes = [Route("all", AnyRequest(), Forward("service", 60.0, ForwardOptions(retry_policy=policy)))]
    assert leavings(Talk(routes=routes, filters={"it": kind({})} if kind is not None else {}), act) == Counter()


@pytest.mark.parametrize("kind", [None, Waiting], ids=["no filter", "async"])
@pytest.mark.parametrize("over", [("Http2", "Http1"), ("Http1", "Http2"), ("Http2", "Http2")], ids="-".join)
@pytest.mark.parametrize(
    "act",
    [
        *(answered, with_bodies, reset_by_the_host, refused_by_the_host, broken_off),
        *(left_by_the_client, left_while_dialing, too_late, retried),
    ],
)
def test_http2_leaves_nothing_for_the_garbage_collector(
    act: Act, over: tuple[str, str], kind: type[StreamFilter] | None
) -> None:
    policy = RetryPolicy(True, 2) if act is retried else None
    routes = [Route("all", AnyRequest(), Forward("service", 60.0, ForwardOptions(retry_policy=policy)))]
    filters = {"it": kind({})} if kind is not None else {}
    assert leavings(Talk(over=over, routes=routes, filters=filters), act) == Counter()


def begun(client: Peer, fields: Pairs = GET_FIELDS, body: bytes = b"", end: bool = True) -> tuple[H2Client, Stream]:
    """The client has sent a request over HTTP/2."""
    own = H2Client(client)
    return own, own.requests(fields, body, end)


def h2_host(talk: Talk, *settings: tuple[int, int]) -> H2Upstream:
    """The host of a new connection, which speaks HTTP/2."""
    return h2_upstream(talk.expect_dial(talk.dials[0].address), settings)


def left_with_streams_unsent(talk: Talk, client: Peer) -> None:
    """Both directions wait for windows."""
    own, stream = begun(client, request(b"POST"), end=False)
    host = h2_host(talk)
    own.end.grants = host.end.grants = False
    taken = host.takes_stream()
    own.sends_data(stream, b"x" * 100_000)
    host.responds(taken, 200, body=b"x" * 200_000, end=False)
    client.resets()
    assert (stream.is_done, taken.code) == (False, 8)
    host.resets()


def gone_away(talk: Talk, client: Peer) -> None:
    begun(client)
    host = h2_host(talk)
    host.sends(goaway(0))
    again = h2_host(talk)
    again.responds(again.takes_stream(), 200, body=b"ok")
    again.resets()


def refused_as_a_stream(talk: Talk, client: Peer) -> None:
    begun(client)
    host = h2_host(talk)
    for _ in range(4):
        host.resets_stream(host.takes_stream(), int(REFUSED_STREAM))
    host.resets()


def tunnelled(talk: Talk, client: Peer) -> None:
    own, stream = begun(client, WEB_SOCKET, end=False)
    host = h2_host(talk, (int(ENABLE_CONNECT_PROTOCOL), 1))
    taken = host.takes_stream()
    host.responds(taken, 200, end=False)
    own.sends_data(stream, b"hi")
    host.sends_data(taken, b"ho", True)
    own.sends_data(stream, b"", True)
    assert (taken.data, stream.data) == (b"hi", b"ho")
    host.resets()


def left_within_a_tunnel(talk: Talk, client: Peer) -> None:
    begun(client, WEB_SOCKET, end=False)
    host = h2_host(talk, (int(ENABLE_CONNECT_PROTOCOL), 1))
    host.responds(host.takes_stream(), 200, end=False)
    client.resets()
    host.resets()


def broken_by_the_host(talk: Talk, client: Peer) -> None:
    begun(client)
    host = h2_host(talk)
    host.sends(data_frame(0, b"x"))


def broken_by_the_client(talk: Talk, client: Peer) -> None:
    own, _ = begun(client)
    host = h2_host(talk)
    own.sends(data_frame(0, b"x"))
    host.resets()


@pytest.mark.parametrize("kind", [None, Waiting], ids=["no filter", "async"])
@pytest.mark.parametrize(
    "act",
    [
        *(left_with_streams_unsent, gone_away, refused_as_a_stream, tunnelled, left_within_a_tunnel),
        *(broken_by_the_host, broken_by_the_client),
    ],
)
def test_streams_of_http2_leave_nothing_for_the_garbage_collector(act: Act, kind: type[StreamFilter] | None) -> None:
    filters = {"it": kind({})} if kind is not None else {}
    talk = Talk(protocols=["Http2"], plan={"upstream_protocol": "Http2"}, filters=filters)
    assert leavings(talk, act) == Counter()


class Broken(StreamFilter):
    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        raise ValueError("on purpose")


class Streaming(StreamFilter):
    def on_request(self, exchange: Exchange) -> Reply:
        return Reply(200, (b"chunk" for _ in range(1000)))


class Asking(StreamFilter):
    async def on_request(self, exchange: Exchange) -> Reply | None:
        try:
            await self.clusters["other"].get("/")
        except ClientError:
            return Reply(503)
        return None


def asked_in_vain(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    talk.refuse_dial("10.0.1.1:80")
    talk.pass_rounds(3)


class Reading(StreamFilter):
    async def on_request(self, exchange: Exchange) -> None:
        await exchange.request.read(1)


def too_large(talk: Talk, client: Peer) -> None:
    client.sends(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.sends(b"2\r\nhi\r\n")


class ReadingResponse(StreamFilter):
    async def on_response(self, exchange: Exchange) -> None:
        await exchange.response_head.read()


class Replacing(StreamFilter):
    async def on_response(self, exchange: Exchange) -> Reply:
        return Reply(403)


def answered_in_part(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    upstream(talk).sends(OK[:-1])


def left_within_a_response(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    upstream(talk).sends(OK[:-1])
    client.resets()


def left_within_a_streamed_reply(talk: Talk, client: Peer) -> None:
    client.sends(GET)
    client.resets()
    talk.pass_rounds(3)


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        *((Broken, answered), (Reading, too_large), (ReadingResponse, left_within_a_response)),
        *((Replacing, answered_in_part), (Streaming, left_within_a_streamed_reply)),
        (Asking, asked_in_vain),
    ],
)
def test_filters_that_fail_leave_nothing_for_the_garbage_collector(kind: type[StreamFilter], act: Act) -> None:
    made = kind({})
    talk = Talk(filters={"it": made})
    made.context = FilterContext("it", talk.log, ClusterClients(talk.runtime), talk.clock)
    assert leavings(talk, act) == Counter()


def called(talk: Talk, client: Peer) -> None:
    client.sends(bolt.request(7) + bolt.request(8, kind=2))
    caller = upstream(talk)
    first, _ = bolt.frames(caller.takes())
    caller.sends(bolt.response(first.request_id))


def called_in_vain(talk: Talk, client: Peer) -> None:
    client.sends(bolt.request(7))
    upstream(talk).resets()


def called_and_left(talk: Talk, client: Peer) -> None:
    client.sends(bolt.request(7))
    upstream(talk)
    client.resets()


def called_too_late(talk: Talk, client: Peer) -> None:
    client.sends(bolt.request(7, timeout=500) + bolt.heartbeat(1))
    upstream(talk)
    talk.advance(0.6)


def called_wrongly(talk: Talk, client: Peer) -> None:
    client.sends(bolt.request(7) + bolt.request(7))
    if talk.dials:  # not when the connection ended while a filter waited
        upstream(talk)


@pytest.mark.parametrize("kind", [None, Plain, Waiting], ids=["no filter", "plain", "async"])
@pytest.mark.parametrize("act", [called, called_in_vain, called_and_left, called_too_late, called_wrongly])
def test_rpc_leaves_nothing_for_the_garbage_collector(act: Act, kind: type[StreamFilter] | None) -> None:
    talk = Talk(protocols=["Http1", "bolt"], filters={"it": kind({})} if kind is not None else {})
    assert leavings(talk, act) == Counter()


def leavings(talk: Talk, act: Act) -> Counter[str]:
    """How many objects of each class three exchanges leave."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(3):
            client = talk.connect()
            act(talk, client)
        del client
        talk.forget()
        gc.collect()
        return Counter(found.__name__ for item in gc.garbage if (found := type(item)).__module__.startswith("pymosn"))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
