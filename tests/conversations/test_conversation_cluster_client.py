"""Filters that ask a cluster by themselves: the same pools, limits and failures as the proxy's own requests."""

from typing import Any

import pytest
from tests.kit import GET, Start, Talk

from pymosn.api import ClientError, Exchange, Reply, StreamFilter
from pymosn.api.stream_filter import FilterContext
from pymosn.core.log import Log
from pymosn.proxy.cluster_client import ClusterClients

pytestmark = pytest.mark.also_h2

CHECK = b"GET /check?x=1 HTTP/1.1\r\nx-key: k\r\nhost: 10.0.1.1:80\r\n\r\n"
YES = b"HTTP/1.1 200 OK\r\nX-User: alice\r\nContent-Length: 13\r\n\r\n"
OTHER = "10.0.1.1:80"


class Asks(StreamFilter):
    """Asks the cluster `other`, and answers with what came of it."""

    def __init__(self, **wishes: Any) -> None:
        super().__init__({})
        self.wishes = wishes
        self.cluster = "other"

    async def on_request(self, exchange: Exchange) -> Reply:
        try:
            client = self.clusters[self.cluster]
            answer = await client.request("GET", "/check?x=1", {"x-key": "k"}, **self.wishes)
        except (ClientError, KeyError) as error:
            return Reply(403, str(error))
        return Reply(200, f"{answer.status} {answer.headers.get('x-user')} {answer.text}")


def begin(start: Start, asks: Asks, **wishes: Any) -> Talk:
    talk = start(filters={"asks": asks}, **wishes)
    asks.context = FilterContext("asks", Log(), ClusterClients(talk.runtime))
    return talk


def body(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


def test_a_filter_asks_a_cluster(start: Start) -> None:
    talk = begin(start, Asks())
    client, upstream = talk.forwarded(GET, CHECK, address=OTHER)
    upstream.sends(YES + b"hello, filter")
    assert body(client.takes()) == b"200 alice hello, filter"
    counters = talk.upstream_counters("other")
    assert counters["request_total"] == counters["response_success"] == 1
    client.sends(GET)
    upstream.receives(CHECK)  # on the same connection
    upstream.sends(b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n")
    assert body(client.takes()) == b"503 None no"


def test_a_body_is_sent(start: Start) -> None:
    class Posts(Asks):
        async def on_request(self, exchange: Exchange) -> Reply:
            return Reply(200, (await self.clusters["other"].post("/p", "text", {"host": "h"})).text)

    talk = begin(start, Posts())
    client, upstream = talk.forwarded(GET, b"POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\ntext", address=OTHER)
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert body(client.takes()) == b"ok"


@pytest.mark.parametrize("answer", [YES + b"hello, filter", b"nonsense\r\n\r\n"], ids=["good", "bad"])
def test_a_response_that_arrives_just_when_the_client_leaves(start: Start, answer: bytes) -> None:
    """The task that awaits it is cancelled by then, but has not continued yet."""
    talk = begin(start, Asks())
    client, upstream = talk.forwarded(GET, CHECK, address=OTHER)

    def both() -> None:
        client.transport.lose()
        upstream.transport.incoming.append(answer)
        upstream.transport.pump()

    talk.do(both)
    assert talk.reasons() == ["client_gone"]
    assert talk.upstream_counters("other")["request_total"] == 1


def test_no_response(start: Start) -> None:
    talk = begin(start, Asks())
    client = talk.connect()
    client.sends(GET)
    for _ in range(3):
        talk.refuse_dial(OTHER)
    assert body(client.takes()) == b"connect_refused: 10.0.1.1:80"


def test_a_late_answer(start: Start) -> None:
    talk = begin(start, Asks(timeout=2.0))
    client, upstream = talk.forwarded(GET, CHECK, address=OTHER)
    talk.advance(2.5)
    assert body(client.takes()) == b"timeout: 10.0.1.1:80"
    assert upstream.is_reset()


def test_an_answer_that_breaks_off(start: Start) -> None:
    client, upstream = begin(start, Asks()).forwarded(GET, CHECK, address=OTHER)
    upstream.sends(YES + b"hello")
    upstream.resets()
    assert body(client.takes()) == b"reset_after_response: 10.0.1.1:80"


def test_an_answer_that_is_too_long(start: Start) -> None:
    client, upstream = begin(start, Asks(limit=5)).forwarded(GET, CHECK, address=OTHER)
    upstream.sends(YES + b"hello, filter")
    assert body(client.takes()) == b"response_too_large: 10.0.1.1:80"


def test_a_connection_that_was_closed_meanwhile_is_replaced(start: Start) -> None:
    talk = begin(start, Asks())
    client, upstream = talk.forwarded(GET, CHECK, address=OTHER)
    upstream.sends(YES + b"hello, filter")
    assert body(client.takes()) == b"200 alice hello, filter"
    client.sends(GET)
    upstream.receives(CHECK)
    upstream.shuts()
    again = talk.expect_dial(OTHER)
    again.receives(CHECK)
    again.sends(YES + b"hello, filter")
    assert body(client.takes()) == b"200 alice hello, filter"


def test_a_cluster_that_is_not_there(start: Start) -> None:
    asks = Asks()
    asks.cluster = "none"
    talk = begin(start, asks)
    client = talk.connect()
    client.sends(GET)
    assert body(client.takes()) == b"\"unknown cluster 'none'\""
    assert set(ClusterClients(talk.runtime)) == {"service", "other"}
    assert len(ClusterClients(talk.runtime)) == 2


@pytest.mark.parametrize("is_open", [False, True])
def test_the_client_leaves_meanwhile(start: Start, is_open: bool) -> None:
    talk = begin(start, Asks())
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial(OTHER)
    if is_open:
        upstream = dial.connects()
        upstream.receives(CHECK)
    client.resets()
    if not is_open:
        upstream = dial.connects()
    assert talk.reasons() == ["client_gone"]
    assert upstream.is_reset() == is_open
    upstream.receives_nothing()
