"""Bodies that filters read and set as JSON."""

from typing import Any

import pytest
from tests.kit import GET, Peer, Start, Talk

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.stream_filter import FilterContext
from pymosn.core.log import Log
from pymosn.proxy.cluster_client import ClusterClients

pytestmark = pytest.mark.also_h2

DEEP = b"[" * 10_000 + b"]" * 10_000
WRONG = {
    "deep": DEEP,
    "not JSON": b"{'a': 1}",
    "NaN": b'{"a": NaN}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a name twice": b'{"a": 1, "a": 2}',
    "5000 digits": b"1" * 5000,
    "half of a pair": b'"\\ud800"',
}
wrong = pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def serve(talk: Talk, body: bytes) -> Peer:
    """The upstream that the proxy dials takes the request and sends `body`."""
    upstream = talk.expect_dial()
    assert upstream.takes()
    upstream.sends_whole(ok(body))
    return upstream


class Reads(StreamFilter):
    """Reads the request or the response, and may catch what is wrong with it."""

    def __init__(self, what: str = "request", catches: bool = False) -> None:
        super().__init__({})
        self.what = what
        self.catches = catches

    async def on_request(self, exchange: Exchange) -> Reply | None:
        return await self._read(exchange.request) if self.what == "request" else None

    async def on_response(self, exchange: Exchange) -> Reply | None:
        return await self._read(exchange.response) if self.what == "response" else None

    async def _read(self, head: Any) -> Reply | None:
        try:
            await head.json()
        except ValueError:
            if not self.catches:
                raise
            return Reply(422, "caught")
        return None


class ReadsAnyhow(Reads):
    on_error = "skip"


@wrong
@pytest.mark.parametrize("kind", [Reads, ReadsAnyhow])
def test_of_a_client(start: Start, body: bytes, kind: type[Reads]) -> None:
    """Whatever `on_error` is: a filter that judges bodies must not be skipped for one that it cannot read."""
    talk = start(filters={"reads": kind()})
    client = talk.connect()
    client.sends_whole(post(body))
    assert client.takes().startswith(b"HTTP/1.1 400")
    assert talk.reasons() == ["invalid_json"]
    assert talk.filter_errors("reads") == 0
    assert client.is_open()


@wrong
def test_of_an_upstream(start: Start, body: bytes) -> None:
    talk = start(filters={"reads": Reads("response")})
    client = talk.connect()
    client.sends(GET)
    serve(talk, body)
    assert client.takes().startswith(b"HTTP/1.1 502")
    assert talk.reasons() == ["invalid_response_json"]


@pytest.mark.parametrize("body", [b"", *WRONG.values()], ids=["nothing", *WRONG])
def test_a_filter_catches_it(start: Start, body: bytes) -> None:
    talk = start(filters={"reads": Reads(catches=True)})
    client = talk.connect()
    client.sends_whole(post(body))
    assert client.takes().startswith(b"HTTP/1.1 422")
    talk = start(filters={"reads": Reads("response", catches=True)})
    client = talk.connect()
    client.sends(GET)
    serve(talk, body)
    assert client.takes().startswith(b"HTTP/1.1 422")


class Asks(StreamFilter):
    """Reads the JSON of another cluster."""

    async def on_request(self, exchange: Exchange) -> None:
        await self.get()

    async def get(self) -> None:
        (await self.clusters["service"].get("/check")).json()


class AsksAnyhow(Asks):
    on_error = "skip"


@wrong
def test_of_a_subrequest(start: Start, body: bytes) -> None:
    """Like a ClientError: an error of the filter, which does not say anything about the client."""
    for asks, ends in ((Asks({}), b"500 Internal Server Error\n"), (AsksAnyhow({}), b"passed")):
        talk = start(filters={"asks": asks})
        asks.context = FilterContext("asks", Log(), ClusterClients(talk.runtime))
        client = talk.connect()
        client.sends(GET)
        upstream = serve(talk, body)
        assert "in get)" in talk.log.lines[0]
        if ends == b"passed":
            assert upstream.takes()
            upstream.sends_whole(ok(b"passed"))
        assert client.takes().endswith(ends)
        assert talk.filter_errors("asks") == 1


class Sets(StreamFilter):
    def __init__(self, value: object, on_error: str = "fail") -> None:
        super().__init__({})
        self.value = value
        self.on_error = on_error  # type: ignore[misc]

    def on_request(self, exchange: Exchange) -> None:
        exchange.request.set_json(self.value)


@pytest.mark.parametrize(
    "value", [float("nan"), {"a": [float("inf")]}, {float("nan"): 1}, {1: 0, "1": 0}, object(), "\ud800"]
)
def test_values_that_are_not_json(start: Start, value: object) -> None:
    talk = start(filters={"sets": Sets(value)})
    client = talk.connect()
    client.sends(post(b"hello"))
    assert client.takes().startswith(b"HTTP/1.1 500")
    assert "in on_request)" in talk.log.lines[0]
    talk = start(filters={"sets": Sets(value, "skip")})
    client = talk.connect()
    client.sends(post(b"hello"))
    assert talk.expect_dial().takes().endswith(b"\r\n\r\nhello"), "the body stays as it was"
