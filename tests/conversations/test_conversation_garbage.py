"""An exchange and a connection leave no cycles for the garbage collector, which would stop the worker."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable

import pytest
from tests.kit import GET, Peer, Talk
from tests.kit import bolt_frames as bolt

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.api.stream_filter import ClientError, FilterContext
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.routing.actions import Forward, ForwardOptions, RetryPolicy
from pymosn.routing.matchers import AnyRequest

Act = Callable[[Talk, Peer], None]

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
