"""Worlds of `pymosn.testing`: their life, waits without an end, and errors that are not mistakes of a test."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pymosn.api import Exchange, HttpHeaders, Reply, StreamFilter
from pymosn.config.schema import ProxyConfig
from pymosn.testing import InvalidTest, Request, Response, World, fakes, make, run, send
from pymosn.testing.listener import HTTP1

pytestmark = pytest.mark.usefixtures("at_once")


class Passes(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.headers["x-seen"] = "1"


def raises(request: Request) -> Response:
    raise ValueError("wrong")


def test_the_settings_are_those_of_a_listener() -> None:
    assert ProxyConfig().extend_config.of("Http1") == {**HTTP1, "upgrades": ["websocket"]}


def test_other_settings() -> None:
    claims = Request(headers={"x-forwarded-for": "10.1.1.1, 10.2.2.2", "x-a": "a" * 9000})
    assert run(make(Passes), claims).reason == "headers_too_large"
    result = run(make(Passes), claims, http1={"max_header_size": 16384, "trusted_hops": 1, "reason_header": True})
    assert (result.status, result.exchange.remote_ip) == (200, "10.2.2.2")
    refused = run(make(Passes), Request("GET", "/a//b%2fc"), http1={"encoded_slashes": "refuse", "reason_header": True})
    assert (refused.status, refused.headers["x-pymosn-reason"]) == (400, "bad_target")
    with pytest.raises(InvalidTest, match="http1: x_forwarded"):
        run(make(Passes), Request(), http1={"x_forwarded": "yes"})


class Sets(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.path = "/a//b%2fc"


@pytest.mark.parametrize(
    ("settings", "path"),
    [({}, "/a/b%2Fc"), ({"merge_slashes": False}, "/a//b%2Fc"), ({"encoded_slashes": "decode"}, "/a/b/c")],
)
def test_paths_that_filters_set_follow_the_settings(settings: dict[str, object], path: str) -> None:
    assert run(make(Sets), Request(), http1=settings).upstream[0].path == path


# ---- the life of a world


class Starts(StreamFilter):
    started = False

    async def start(self) -> None:
        self.started = True

    def on_request(self, exchange: Exchange) -> None:
        assert self.started


def test_send_before_start() -> None:
    async def talk() -> None:
        await World(make(Starts)).send(Request())

    with pytest.raises(InvalidTest, match="the filter Starts has a `start`: call `start` of the World first"):
        asyncio.run(talk())


def test_send_after_stop_and_a_second_start() -> None:
    async def talk() -> None:
        async with World(make(Starts)) as world:
            assert (await world.send(Request())).status == 200
            with pytest.raises(InvalidTest, match="already started"):
                await world.start()
        with pytest.raises(InvalidTest, match="has a `start`"):
            await world.send(Request())

    asyncio.run(talk())


class FailsToStart(Starts):
    fails = True

    async def start(self) -> None:
        self.context.create_task(asyncio.sleep(3600))
        if self.fails:
            raise OSError("no database")
        await super().start()


def test_a_start_that_fails() -> None:
    """It is the filter's own error, and the world has not started."""

    async def talk() -> None:
        filters = make(FailsToStart)
        world = World(filters)
        with pytest.raises(OSError, match="no database"):
            await world.start()
        filters.fails = False
        async with World(filters) as other:
            assert (await other.send(Request())).status == 200

    asyncio.run(talk())


def test_two_event_loops() -> None:
    world = World(make(Passes))
    assert asyncio.run(world.send(Request())).status == 200
    for again in (world.send(Request()), world.advance(1), world.stop()):
        with pytest.raises(InvalidTest, match="used in another event loop"):
            asyncio.run(again)  # type: ignore[arg-type]


def test_a_filter_in_two_worlds() -> None:
    async def talk() -> None:
        passes = make(Passes)
        first = World(passes)
        assert (await first.send(Request())).status == 200
        async with World(passes) as second:
            with pytest.raises(InvalidTest, match="the filter Passes is used by another World now"):
                await first.send(Request())
            with pytest.raises(InvalidTest, match="used by another World, which has not been stopped"):
                World(passes)
            assert (await second.send(Request())).status == 200
        assert (await World(passes).send(Request())).status == 200

    asyncio.run(talk())


def test_run_in_a_coroutine() -> None:
    async def talk() -> None:
        with pytest.raises(InvalidTest, match=r"use `await send\(\.\.\.\)`"):
            run(make(Passes), Request())
        assert (await send(make(Passes), Request())).status == 200

    asyncio.run(talk())


def test_a_world_that_is_not_stopped() -> None:
    async def talk() -> None:
        world = World(make(Starts))
        await world.start()

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        asyncio.run(talk())
        gc.collect()
    (text,) = [str(warning.message) for warning in found if warning.category is ResourceWarning and "World" in str(warning)]
    assert f"a World was started and not stopped (at {__file__}:" in text


def test_a_mistake_after_the_response() -> None:
    """It is not lost, although no request waits for it."""

    class Forgets(StreamFilter):
        def on_request(self, exchange: Exchange) -> Reply:
            self.context.create_task(self.clusters["auth"].get("/"))  # type: ignore[arg-type]
            return Reply(200)

    async def talk() -> None:
        async with World(make(Forgets), clusters={"auth": raises}) as world:
            assert (await world.send(Request())).status == 200
            await world.advance(1)

    with pytest.raises(InvalidTest, match="raised ValueError: wrong"):
        asyncio.run(talk())
    with pytest.raises(InvalidTest, match="raised ValueError: wrong"):
        run(StartAsks({}), Request(), clusters={"auth": raises})


class StartAsks(StreamFilter):
    async def start(self) -> None:
        await self.clusters["auth"].get("/")


# ---- waits without an end


class Late(StreamFilter):
    timeout = 2.0

    async def on_request(self, exchange: Exchange) -> None:
        await asyncio.Event().wait()


class Never(StreamFilter):
    async def on_response(self, exchange: Exchange) -> None:
        await self.wait()

    async def wait(self) -> None:
        await asyncio.get_running_loop().create_future()


class NeverStarts(StreamFilter):
    async def start(self) -> None:
        await asyncio.Event().wait()


def pauses(request: Request) -> Response:
    async def pausing() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.Event().wait()

    return Response(200, pausing())


def sends_nothing(request: Request) -> Response:
    def nothing() -> Iterator[bytes]:
        while True:
            yield b""

    return Response(200, nothing())


async def silent(request: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


@pytest.mark.parametrize(
    ("kind", "upstream", "text", "name"),
    [
        (Late, None, "the filter Late waits", "on_request"),
        (Never, None, "the filter Never waits", "wait"),
        (NeverStarts, None, "`start` of the filter NeverStarts waits", "start"),
        (Passes, silent, "the upstream 'service' has not responded to <Request GET /a>", "silent"),
        (Passes, pauses, "the upstream 'service' has not ended its response to <Request GET /a>", "pausing"),
        (Passes, sends_nothing, "the upstream 'service' has not ended its response to <Request GET /a>", "nothing"),
    ],
)
def test_a_wait_without_an_end(
    kind: type[StreamFilter], upstream: Any, text: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes, "TEST_TIMEOUT", 0.2)
    with pytest.raises(TimeoutError, match=text) as caught:
        run(make(kind), Request("GET", "/a"), upstream=upstream)
    assert isinstance(caught.value, InvalidTest)
    assert f"{__file__}:" in str(caught.value)
    assert f" in {name})" in str(caught.value)
    advice = "No timeout will end this" if kind is NeverStarts else "moves only with `await world.advance(seconds)`"
    assert advice in str(caught.value)


def test_a_client_that_leaves() -> None:
    """A cancelled `send` is a client that disconnects: nothing keeps running."""
    ended: list[str] = []

    class Waits(StreamFilter):
        async def on_request(self, exchange: Exchange) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        def on_complete(self, exchange: Exchange) -> None:
            assert exchange.failure is not None
            ended.append(exchange.failure.reason)

    async def talk() -> None:
        world = World(make(Waits))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.send(Request()), 0.05)
        await world.advance(0)

    asyncio.run(talk())
    assert sorted(ended) == ["cancelled", "client_gone"]


# ---- what is not a mistake of the test


class Breaks(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        raise ValueError("the filter's own")


def test_errors_of_filters_are_results() -> None:
    result = run(make(Breaks), Request())
    assert (result.status, result.reason) == (500, "filter_error")
    assert "ValueError: the filter's own" in result.log[0]


class Exits(StreamFilter):
    async def on_request(self, exchange: Exchange) -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)


def test_a_filter_that_exits_after_a_wait() -> None:
    result = run(make(Exits), Request())
    assert (result.status, result.reason) == (500, "filter_error")
    assert "SystemExit: 3" in result.log[0]


class Unknown(StreamFilter):
    async def on_request(self, exchange: Exchange) -> None:
        if exchange.request.path == "/choose":
            exchange.choose(cluster="absent")
        else:
            await self.clusters["absent"].get("/")


def test_unknown_clusters_are_results() -> None:
    assert run(make(Unknown), Request("GET", "/choose")).reason == "cluster_unknown"
    result = run(make(Unknown), Request())
    assert (result.status, result.reason) == (500, "filter_error")
    assert "unknown cluster 'absent'" in result.log[0]


def test_bytes_and_text_of_all_types() -> None:
    for body in ("hello", b"hello", bytearray(b"hello"), memoryview(b"hello"), ["hel", b"lo"], iter(["hello"])):
        assert run(make(Passes), Request("POST", "/", None, body)).upstream[0].text == "hello"  # type: ignore[arg-type]
    request = Request("POST", "/", HttpHeaders(b"x-a: 1\r\n"), "")
    assert run(make(Passes), request).upstream[0].headers["x-a"] == "1"
