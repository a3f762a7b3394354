"""The kit that users test their filters with."""

import asyncio
from typing import Any

import msgspec
import pytest

from pymosn.api import ClientError, Exchange, HttpHeaders, Reply, StreamFilter
from pymosn.filters.errors import FilterConfigError
from pymosn.testing import Down, Request, Response, World, make, run, send


class Tenant(StreamFilter):
    def __init__(self, config: dict[str, Any]) -> None:
        self.header = config.get("header", "x-tenant")

    def on_request(self, exchange: Exchange) -> Reply | None:
        key = exchange.request.headers.get("x-api-key")
        if key is None:
            return Reply(401, "who are you?\n", {"content-type": "text/plain"})
        exchange.request.headers[self.header] = key.partition("-")[0]
        return None

    def on_response(self, exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.headers["x-served-by"] = "pymosn"


def test_the_filter_of_the_readme() -> None:
    refused = run(Tenant({}), Request("GET", "/x"))
    assert (refused.status, refused.text, refused.upstream) == (401, "who are you?\n", [])
    assert refused.headers["x-served-by"] == "pymosn"
    passed = run(Tenant({}), Request("GET", "/x?y=1", {"x-api-key": "acme-7"}))
    assert (passed.status, passed.body, passed.reason) == (200, b"ok", "")
    (upstream,) = passed.upstream
    assert (upstream.method, upstream.path, upstream.query) == ("GET", "/x", "y=1")
    assert upstream.headers["x-tenant"] == "acme"
    assert upstream.headers["host"] == "test.example"


def test_upstreams_are_functions_of_requests() -> None:
    async def echo(request: Request) -> Response:
        await asyncio.sleep(0)
        return Response(201, request.text.upper(), {"x-path": request.path})

    result = run(Tenant({}), Request("POST", "/p", {"x-api-key": "a"}, ["one ", "two"]), upstream=echo)
    assert (result.status, result.text, result.headers["x-path"]) == (201, "ONE TWO", "/p")


def test_an_upstream_that_is_down() -> None:
    def down(request: Request) -> Response:
        raise Down("reset_before_response")

    result = run(Tenant({}), Request(headers={"x-api-key": "a"}), upstream=down)
    assert (result.status, result.reason) == (502, "reset_before_response")


class Checks(StreamFilter):
    async def on_request(self, exchange: Exchange) -> Reply | None:
        try:
            answer = await self.clusters["auth"].get("/check")
        except ClientError as error:
            return Reply(503, error.reason)
        return None if answer.status == 200 else Reply(403, answer.text)


def test_own_requests_of_filters() -> None:
    allowed = run(Checks({}), Request(), clusters={"auth": Response(200)})
    assert [request.path for request in allowed.upstream] == ["/check", "/"]
    assert run(Checks({}), Request(), clusters={"auth": Response(401, "no")}).text == "no"
    assert (
        run(Checks({}), Request(), clusters={"auth": lambda _: (_ for _ in ()).throw(Down("reset_before_response"))}).status
        == 503
    )


class Late(StreamFilter):
    timeout = 2.0

    async def on_request(self, exchange: Exchange) -> None:
        await asyncio.Event().wait()


def test_time_passes_on_demand() -> None:
    async def talk() -> int:
        world = World(Late({}))
        sending = asyncio.create_task(world.send(Request()))
        await world.advance(1.0)
        assert not sending.done()
        await world.advance(1.5)
        assert world.counter("Late", "timeouts") == 1
        return (await sending).status

    assert asyncio.run(talk()) == 504


def test_policy_of_a_world() -> None:
    class Breaks(StreamFilter):
        def on_request(self, exchange: Exchange) -> None:
            raise ValueError("broken")

    broken = run(Breaks({}), Request())
    assert (broken.status, broken.reason) == (500, "filter_error")
    assert "ValueError: broken" in broken.log[0]
    assert run(Breaks({}), Request(), on_error="skip").status == 200


def test_chunks_in_both_directions() -> None:
    class Counts(StreamFilter):
        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
            exchange.state["size"] = exchange.state.get("size", 0) + len(data)  # type: ignore[operator]
            return data + b"|%d" % exchange.state["size"] if last else None

    result = run(Counts({}), Request(), upstream=Response(200, [b"ab", b"c"]))
    assert result.chunks == [b"ab", b"c", b"|3"]


def test_life_cycle() -> None:
    calls: list[str] = []

    class Lives(StreamFilter):
        async def start(self) -> None:
            calls.append("start")
            self.context.create_task(asyncio.sleep(100))

        async def stop(self) -> None:
            calls.append("stop")

    async def talk() -> None:
        await send(Lives({}), Request())

    asyncio.run(talk())
    assert calls == ["start", "stop"]


def test_typed_settings() -> None:
    class Settings(msgspec.Struct):
        limit: int

    class Typed(StreamFilter):
        Config = Settings

        def __init__(self, config: Settings) -> None:
            self.limit = config.limit

    assert make(Typed, {"limit": 3}).limit == 3  # type: ignore[attr-defined]
    with pytest.raises(FilterConfigError, match="limit"):
        make(Typed, {"limit": "x"})


def test_route_config() -> None:
    class Reads(StreamFilter):
        def on_route(self, exchange: Exchange) -> Reply:
            return Reply(200, str(exchange.route_config("reads")))

    assert run(Reads({}), Request(), route_config={"reads": {"a": 1}}).text == "{'a': 1}"


class SumsUp(StreamFilter):
    """Adds to the trailers of both messages."""

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        if last and exchange.request.trailers is not None:
            exchange.request.trailers["x-sum"] = exchange.request.trailers["x-a"] + "!"

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        trailers = exchange.response_head.trailers
        if last and trailers is not None:
            trailers["x-sum"] = trailers["x-b"] + "?"


@pytest.mark.parametrize("body", ["", "hello", ["hel", "lo"]])
def test_trailers(body: Any) -> None:
    def upstream(request: Request) -> Response:
        assert request.text == "".join(body)
        assert "content-length" not in request.headers
        response = Response(200, body)
        response.trailers = HttpHeaders()
        response.trailers["x-b"] = "2"
        return response

    request = Request("POST", "/", None, body)
    request.trailers = HttpHeaders()
    request.trailers["x-a"] = "1"
    result = run(SumsUp({}), request, upstream=upstream)
    assert (result.status, result.text) == (200, "".join(body))
    (got,) = result.upstream
    assert got.trailers is not None
    assert got.trailers.items() == [("x-a", "1"), ("x-sum", "1!")]
    assert result.trailers is not None
    assert result.trailers.items() == [("x-b", "2"), ("x-sum", "2?")]


class Empties(StreamFilter):
    def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.status = 204


def test_a_response_without_a_body() -> None:
    assert run(Empties({}), Request()).body == b""
    assert run(Empties({}), Request()).headers.get("content-length") is None


class Counted(StreamFilter):
    Config = None
    passed = 0

    def on_complete(self, exchange: Exchange) -> None:
        self.passed += 1


def test_made_filters_have_their_own_type() -> None:
    made = make(Counted)
    run(made, Request())
    assert made.passed == 1
    assert HttpHeaders().get("x-a", "none").upper() == "NONE"


@pytest.mark.parametrize("phase", ["on_request", "on_route", "on_host"])
def test_forwarding_fields_that_a_filter_sets_are_not_added_again(phase: str) -> None:
    def sets(_: StreamFilter, exchange: Exchange) -> None:
        exchange.request.headers["x-forwarded-proto"] = "https"
        exchange.request.headers["x-request-id"] = "mine"

    kind = type("Sets", (StreamFilter,), {phase: sets})
    headers = run(make(kind), Request()).upstream[0].headers
    assert (headers.get_all("x-forwarded-proto"), headers.get_all("x-request-id")) == (["https"], ["mine"])
