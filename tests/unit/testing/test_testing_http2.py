"""The testing kit over HTTP/2, and its calls of gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pymosn.api import Exchange, HttpHeaders, Reply, StreamFilter
from pymosn.testing import (
    Down,
    GrpcRequest,
    GrpcResponse,
    InvalidTest,
    Request,
    Response,
    World,
    grpc_messages,
    grpc_status,
    run,
)

WAYS = [("Http2", ""), ("Http2", "Http1"), ("Http1", "Http2")]


class Tags(StreamFilter):
    """Changes either message."""

    def on_request(self, exchange: Exchange) -> None:
        exchange.request.headers["x-tag"] = exchange.request.path

    def on_response(self, exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.headers["x-seen"] = "1"


class Refuses(StreamFilter):
    async def on_request(self, exchange: Exchange) -> Reply:
        await asyncio.sleep(0)
        return Reply(403, "no")


class Nothing(StreamFilter):
    pass


@pytest.mark.parametrize(("client", "upstream"), WAYS)
def test_messages_in_either_version(client: str, upstream: str) -> None:
    ways: Any = {"client_protocol": client, "upstream_protocol": upstream}
    request = Request("POST", "/a?b=1", {"X-K": "v", "cookie": "a=1"}, ["hel", "lo"])
    request.trailers = HttpHeaders(b"x-sum: 1\r\n")
    response = Response(201, [b"wor", b"ld"], {"Set-Cookie": "c=1"})
    response.trailers = HttpHeaders(b"x-end: 2\r\n")
    result = run(Tags({}), request, upstream=response, **ways)
    got = result.upstream[0]
    assert (got.method, got.target, got.headers["x-k"], got.headers["x-tag"], got.text) == (
        "POST",
        "/a?b=1",
        "v",
        "/a",
        "hello",
    )
    assert got.headers["host"] == "test.example"
    assert got.trailers is not None
    assert got.trailers["x-sum"] == "1"
    assert (result.status, result.text, result.headers["set-cookie"], result.headers["x-seen"]) == (201, "world", "c=1", "1")
    assert result.trailers is not None
    assert result.trailers["x-end"] == "2"
    assert (result.reason, result.was_reset) == ("", False)


@pytest.mark.parametrize(("client", "upstream"), WAYS)
@pytest.mark.parametrize("status", [200, 204, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_responses_without_content(client: str, upstream: str, status: int, method: str) -> None:
    ways: Any = {"client_protocol": client, "upstream_protocol": upstream}
    result = run(Nothing({}), Request(method), upstream=Response(status, "hello"), **ways)
    assert (result.status, result.body, result.reason) == (status, b"hello" if (method, status) == ("GET", 200) else b"", "")
    assert not result.was_reset


@pytest.mark.parametrize(("client", "upstream"), WAYS)
def test_large_messages_wait_for_windows(client: str, upstream: str) -> None:
    ways: Any = {"client_protocol": client, "upstream_protocol": upstream}
    result = run(
        Nothing({}), Request("POST", body=b"x" * 3_000_000), upstream=lambda request: Response(200, request.body), **ways
    )
    assert (result.status, len(result.body)) == (200, 3_000_000)


@pytest.mark.parametrize(("client", "upstream"), WAYS)
def test_failures_of_hosts(client: str, upstream: str) -> None:
    def down(request: Request) -> Response:
        raise Down("reset_before_response")

    def breaks(request: Request) -> Response:
        def body() -> Any:
            yield b"x"
            raise Down("reset_after_response")

        return Response(200, body())

    ways: Any = {"client_protocol": client, "upstream_protocol": upstream}
    result = run(Nothing({}), Request(), upstream=down, **ways)
    assert (result.status, result.reason) == (502, "reset_before_response")
    result = run(Nothing({}), Request(), upstream=breaks, **ways)
    assert (result.status, result.reason, result.was_reset) == (200, "reset_after_response", True)


def test_what_the_proxy_refuses() -> None:
    ways: Any = {"client_protocol": "Http2"}
    assert run(Nothing({}), Request("GET", "/%zz"), **ways).status == 400
    assert run(Nothing({}), Request("GET", "/", {"x": "y" * 9000}), **ways).status == 431
    result = run(Nothing({}), Request("GET", "/", {"connection": "close"}), **ways)
    assert (result.status, result.was_reset, result.reason, result.upstream) == (0, True, "malformed", [])
    result = run(Refuses({}), Request("POST", body="x"), **ways)
    assert (result.status, result.text) == (403, "no")


def test_expectations() -> None:
    for client, upstream in WAYS:
        ways: Any = {"client_protocol": client, "upstream_protocol": upstream}
        request = Request("POST", "/", {"expect": "100-continue"}, "hello")
        result = run(Nothing({}), request, upstream=lambda received: Response(200, received.body), **ways)
        assert (result.status, result.text) == (200, "hello")


def test_several_requests_and_time() -> None:
    asyncio.run(several_requests_and_time())


async def several_requests_and_time() -> None:
    async def slow(request: Request) -> Response:
        await asyncio.Event().wait()
        return Response()

    async with World(Nothing({}), slow, client_protocol="Http2") as world:
        sending = asyncio.create_task(world.send(Request()))
        await world.advance(61)
        assert (await sending).status == 504
    async with World(Tags({}), client_protocol="Http2") as world:
        assert [(await world.send(Request())).status for _ in range(3)] == [200] * 3


def test_mistakes() -> None:
    with pytest.raises(InvalidTest, match="client_protocol"):
        World(Nothing({}), client_protocol="http2")
    with pytest.raises(InvalidTest, match="upstream_protocol"):
        World(Nothing({}), upstream_protocol="Auto")
    with pytest.raises(InvalidTest, match="must be bytes"):
        GrpcRequest("/a.B/C", "text")  # type: ignore[arg-type]
    with pytest.raises(InvalidTest, match="set client_protocol='Http2'"):
        run(Nothing({}), GrpcRequest("/a.B/C"))
    with pytest.raises(InvalidTest, match="ends within"):
        grpc_messages(b"\0\0\0\0\5abc")


# ---- gRPC


def call(*filters: StreamFilter, request: GrpcRequest, response: Any) -> Any:
    return run(list(filters), request, upstream=response, client_protocol="Http2")


def test_a_call() -> None:
    def answer(request: Request) -> Response:
        assert grpc_messages(request.body) == [b"one", b"", b"three"]
        assert request.headers["content-type"] == "application/grpc"
        return GrpcResponse(b"a", b"b", headers={"x-served": "1"})

    result = call(Tags({}), request=GrpcRequest("/shop.Orders/Get", b"one", b"", b"three"), response=answer)
    assert (result.status, grpc_status(result), grpc_messages(result.body)) == (200, 0, [b"a", b"b"])
    assert (result.headers["x-served"], result.headers["x-seen"]) == ("1", "1")


def test_calls_that_fail() -> None:
    result = call(Nothing({}), request=GrpcRequest("/a.B/C", b"x"), response=GrpcResponse(status=5, message="none: \u00e9"))
    assert (grpc_status(result), grpc_messages(result.body), result.headers["grpc-message"]) == (5, [], "none: %C3%A9")
    result = call(Nothing({}), request=GrpcRequest("/a.B/C", b"x"), response=GrpcResponse(b"x", status=8))
    assert (grpc_status(result), grpc_messages(result.body)) == (8, [b"x"])
    result = call(Refuses({}), request=GrpcRequest("/a.B/C", b"x"), response=GrpcResponse(b"x"))
    assert (result.status, grpc_status(result)) == (200, 7)


def test_the_deadline_of_a_call() -> None:
    asyncio.run(deadline_of_a_call())


async def deadline_of_a_call() -> None:
    async def slow(request: Request) -> Response:
        await asyncio.Event().wait()
        return Response()

    async with World(Nothing({}), slow, client_protocol="Http2") as world:
        sending = asyncio.create_task(world.send(GrpcRequest("/a.B/C", b"x", timeout="2S")))
        await world.advance(2.5)
        assert grpc_status(await sending) == 4
