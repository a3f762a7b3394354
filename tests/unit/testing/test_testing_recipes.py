"""The recipes of docs/recipes.md, driven by the kit that users have."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pymosn.api import StreamFilter
from pymosn.filters.errors import FilterLoadError
from pymosn.filters.loading import load_filter
from pymosn.testing import Down, Request, Response, Result, World, run

RECIPES = Path(__file__).parents[3] / "examples" / "filters" / "recipes"
JSON = {"content-type": "application/json"}


def recipe(name: str, class_name: str, **config: Any) -> Any:
    return load_filter(RECIPES / f"{name}.py", class_name, config)


def talk(recipe: StreamFilter, requests: list[Request], **wishes: Any) -> list[Result]:
    """Several requests to one filter, which is started and stopped."""

    async def all_of_them() -> list[Result]:
        world = World(recipe, **wishes)
        await world.start()
        try:
            return [await world.send(request) for request in requests]
        finally:
            await world.stop()

    return asyncio.run(all_of_them())


def test_tenant_routing() -> None:
    def routing(**more: Any) -> StreamFilter:
        made: StreamFilter = recipe("tenant_routing", "TenantRouting", tenants={"acme": "gold"}, **more)
        return made

    clusters = {"gold": Response(200, "gold")}
    assert run(routing(), Request(headers={"x-tenant": "acme"}), clusters=clusters).text == "gold"
    assert run(routing(), Request(headers={"x-tenant": "other"}), clusters=clusters).status == 404
    assert run(routing(default="service"), Request(), clusters=clusters).text == "ok"


def test_canary() -> None:
    always = recipe("canary", "Canary", cluster="next", percent=100)
    clusters = {"next": Response(200, "next")}
    first = run(always, Request(), clusters=clusters)
    assert first.text == "next"
    assert first.headers["set-cookie"].startswith("canary=yes; Path=/")
    stays = run(always, Request(headers={"cookie": "a=b; canary=no"}), clusters=clusters)
    assert (stays.text, stays.headers.get("set-cookie")) == ("ok", None)
    never = recipe("canary", "Canary", cluster="next", percent=0)
    assert run(never, Request(headers={"cookie": "canary=yes"}), clusters=clusters).text == "next"
    assert run(never, Request(headers={"cookie": "canary=maybe"}), clusters=clusters).text == "ok"
    with pytest.raises(FilterLoadError, match=r"percent: Expected `float` <= 100"):
        recipe("canary", "Canary", cluster="next", percent=101)


def test_canary_takes_its_share() -> None:
    canary = recipe("canary", "Canary", cluster="next", percent=30)
    canary.random.seed(7)
    results = talk(canary, [Request() for _ in range(300)], clusters={"next": Response(200, "next")})
    assert 60 < sum(result.text == "next" for result in results) < 120


def test_rewriting() -> None:
    rules = [{"path": r"/v1/users/(\d+)", "to": r"/users/\1/profile"}, {"path": "/v1/.*", "to": "/gone"}]
    rewriting = recipe("rewriting", "Rewriting", rules=rules, host="inner", headers={"x-from": "edge"}, without=["utm"])
    (request,) = run(rewriting, Request("GET", "/v1/users/7?utm=x&a=1%202&b=")).upstream
    assert (request.path, request.query) == ("/users/7/profile", "a=1+2&b=")
    assert (request.headers["host"], request.headers["x-from"]) == ("inner", "edge")
    assert request.headers["x-original-path"] == "/v1/users/7"
    assert run(rewriting, Request("GET", "/v1/x")).upstream[0].path == "/gone"
    (untouched,) = run(rewriting, Request("GET", "/other")).upstream
    assert (untouched.path, untouched.headers.get("x-original-path")) == ("/other", None)
    with pytest.raises(FilterLoadError, match="unterminated"):
        recipe("rewriting", "Rewriting", rules=[{"path": "(", "to": "/"}])


def test_json_edit() -> None:
    def upstream(request: Request) -> Response:
        return Response(200, json.dumps({"got": request.json(), "users": [{"name": "a", "password": "p"}]}), JSON)

    edit = recipe("json_edit", "JsonEdit", add={"via": "edge"})
    result = run(edit, Request("POST", "/", JSON, ['{"a"', ": 1}"]), upstream=upstream)
    assert result.json() == {"got": {"a": 1, "via": "edge"}, "users": [{"name": "a"}]}
    assert run(edit, Request("POST", "/", JSON, "{"), upstream=upstream).status == 400
    plain = run(edit, Request("POST", "/", {"content-type": "text/plain"}, "{"), upstream=Response(200, "password"))
    assert (plain.text, plain.upstream[0].text) == ("password", "{")
    assert run(edit, Request(), upstream=Response(200, "{", JSON)).status == 502
    assert run(edit, Request(), upstream=Response(304, b"", JSON)).status == 304
    small = recipe("json_edit", "JsonEdit", add={"a": 1}, limit=10)
    assert run(small, Request("POST", "/", JSON, b"[" + b"1," * 10 + b"1]")).status == 413


def test_prefix_hash() -> None:
    hosts = [f"10.0.0.{number}:80" for number in range(1, 6)]
    replicas = recipe("prefix_hash", "PrefixHash", hosts=hosts, prefix=20)
    system = "You are a helpful assistant"
    best = {text: replicas.order(text)[0] for text in (f"{number} prompt" for number in range(100))}
    assert set(best.values()) == set(hosts)
    fewer = recipe("prefix_hash", "PrefixHash", hosts=hosts[:-1])
    assert all(fewer.order(text)[0] == host for text, host in best.items() if host != hosts[-1])

    def chosen(body: bytes, upstream: Any = None) -> Result:
        own = recipe("prefix_hash", "PrefixHash", hosts=["service:80"])
        return run(own, Request("POST", "/v1/completions", JSON, body), upstream=upstream)

    body = json.dumps({"prompt": system}).encode()
    result = chosen(body)
    assert (result.exchange.state["replicas"], result.upstream[0].body) == (["service:80"], body)
    for strange in (b"{", b"[]", b'{"prompt": 3}', b""):
        assert "replicas" not in chosen(strange).exchange.state


def test_response_cache() -> None:
    asked: list[str] = []

    def upstream(request: Request) -> Response:
        asked.append(request.path)
        headers = {"cache-control": "public, max-age=60", "vary": "Accept-Language", "etag": '"1"'}
        return Response(200, ["piece ", request.headers.get("accept-language") or "none"], headers)

    german, french = {"accept-language": "de"}, {"accept-language": "fr"}
    requests = [Request(headers=german), Request(headers=german), Request(headers=french), Request(headers=french)]
    cache = recipe("response_cache", "ResponseCache")
    first, second, third, fourth = talk(cache, requests, upstream=upstream)
    assert first.chunks == [b"piece ", b"de"], "it streams through"
    assert (first.headers.get("age"), second.headers["age"]) == (None, "0")
    assert (second.text, second.headers["etag"]) == ("piece de", '"1"')
    assert (third.text, fourth.text) == ("piece fr", "piece fr")
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("request_headers", "headers"),
    [
        ({}, {}),
        ({}, {"cache-control": "private, max-age=60"}),
        ({}, {"cache-control": "no-store"}),
        ({}, {"cache-control": "max-age=60, s-maxage=0"}),
        ({}, {"cache-control": "max-age=60", "age": "60"}),
        ({}, {"cache-control": "max-age=60", "vary": "*"}),
        ({}, {"cache-control": "max-age=60", "set-cookie": "a=b"}),
        ({"authorization": "x"}, {"cache-control": "max-age=60"}),
        ({"cache-control": "no-cache"}, {"cache-control": "max-age=60"}),
        ({"cache-control": "no-store"}, {"cache-control": "max-age=60"}),
    ],
)
def test_requests_that_bypass_the_cache(request_headers: dict[str, str], headers: dict[str, str]) -> None:
    cache = recipe("response_cache", "ResponseCache")
    requests = [Request(headers=request_headers), Request(headers=request_headers)]
    results = talk(cache, requests, upstream=Response(200, "x", headers))
    assert [len(result.upstream) for result in results] == [1, 1]


def test_the_cache_is_bounded() -> None:
    fresh = {"cache-control": "max-age=60"}
    cache = recipe("response_cache", "ResponseCache", total=10_000, largest=3000)

    def upstream(request: Request) -> Response:
        return Response(200, b"x" * int(request.query or 100), fresh)

    talk(cache, [Request("GET", f"/{number}?2000") for number in range(20)], upstream=upstream)
    assert [path for _, _, path, _ in cache.entries] == ["/17", "/18", "/19"]
    assert 0 < cache.size <= 10_000
    talk(cache, [Request("GET", "/large?3001")], upstream=upstream)
    assert ("http", "test.example", "/large", "3001") not in cache.entries
    cache = recipe("response_cache", "ResponseCache")
    varied = Response(200, "x", {**fresh, "vary": "x-a"})
    talk(cache, [Request("GET", "/v", {"x-a": str(number)}) for number in range(40)], upstream=varied)
    assert len(cache.entries["http", "test.example", "/v", ""]) == 16


def test_half_a_reply_is_not_kept() -> None:
    cache = recipe("response_cache", "ResponseCache")

    async def breaks(request: Request) -> Response:
        raise Down("reset_before_response")

    assert [result.status for result in talk(cache, [Request(), Request()], upstream=breaks)] == [502, 502]
    assert not cache.entries
