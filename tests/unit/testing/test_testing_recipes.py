"""The recipes of docs/recipes.md, driven by the kit that users have."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from tests.kit.fake_redis import FakeRedis

from pymosn.api import StreamFilter
from pymosn.filters.errors import FilterLoadError
from pymosn.filters.loading import load_filter
from pymosn.testing import Down, Request, Response, Result, World, run

RECIPES = Path(__file__).parents[3] / "examples" / "filters" / "recipes"
JSON = {"content-type": "application/json"}
SECRET = "a secret of thirty-two letters or more"


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


def test_api_keys() -> None:
    keys = {hashlib.sha256(b"s3cret").hexdigest(): "acme"}
    refused = run(recipe("api_keys", "ApiKeys", keys=keys), Request(headers={"x-api-key": "guess", "x-client": "acme"}))
    assert (refused.status, refused.headers["www-authenticate"], refused.upstream) == (401, "ApiKey", [])
    passed = run(recipe("api_keys", "ApiKeys", keys=keys), Request(headers={"x-api-key": "s3cret", "x-client": "boss"}))
    assert passed.status == 200
    assert passed.upstream[0].headers.get_all("x-client") == ["acme"]
    assert "x-api-key" not in passed.upstream[0].headers
    assert run(recipe("api_keys", "ApiKeys", keys=keys), Request()).status == 401


@pytest.mark.parametrize(
    ("claims", "key", "status"),
    [
        ({"sub": "eve", "exp": 4102444800}, SECRET, 200),
        ({"sub": "eve", "exp": 1000000000}, SECRET, 401),
        ({"sub": "eve"}, SECRET, 401),
        ({"sub": "eve", "exp": 4102444800, "aud": "others"}, SECRET, 401),
        ({"sub": "eve", "exp": 4102444800}, SECRET.upper(), 401),
    ],
)
def test_jwt(claims: dict[str, Any], key: str, status: int) -> None:
    token = jwt.encode(claims, key, "HS256")
    bearer = recipe("jwt_bearer", "JwtBearer", key=SECRET, algorithms=["HS256"])
    result = run(bearer, Request(headers={"authorization": f"Bearer {token}", "x-user": "boss"}))
    assert result.status == status
    if status == 200:
        assert result.upstream[0].headers.get_all("x-user") == ["eve"]
    else:
        assert 'error="invalid_token"' in result.headers["www-authenticate"]


def test_jwt_without_a_token() -> None:
    bearer = recipe("jwt_bearer", "JwtBearer", key=SECRET, algorithms=["HS256"])
    assert run(bearer, Request()).headers["www-authenticate"] == 'Bearer realm="pymosn"'
    unsigned = jwt.encode({"sub": "eve", "exp": 4102444800}, "", "none")
    assert run(bearer, Request(headers={"authorization": f"Bearer {unsigned}"})).status == 401
    with pytest.raises(FilterLoadError, match="empty or contain `none`"):
        recipe("jwt_bearer", "JwtBearer", key=SECRET, algorithms=["none"])


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


@pytest.fixture
def redis() -> Iterator[FakeRedis]:
    server = FakeRedis()
    yield server
    server.close()


def test_redis_limit(redis: FakeRedis) -> None:
    limit = recipe("redis_limit", "RedisLimit", url=redis.url, limit=2, seconds=1_000_000_000)
    limit.timeout = 0.0  # the fake clock does not move anyway
    requests = [Request(headers={"x-api-key": key}) for key in ("a", "a", "b", "a")]
    results = talk(limit, requests)
    assert [result.status for result in results] == [200, 200, 200, 429]
    assert [result.headers.get("x-ratelimit-remaining") for result in results] == ["1", "0", "1", None]
    assert int(results[3].headers["retry-after"]) > 0
    assert sorted(redis.counters.values()) == [1, 3]
    assert set(redis.expires.values()) == {1_000_000_001}


def test_redis_that_is_not_there(redis: FakeRedis) -> None:
    redis.close()
    limit = recipe("redis_limit", "RedisLimit", url=redis.url, limit=1)
    (passed,) = talk(limit, [Request()])
    assert (passed.status, any("ConnectionError" in line for line in passed.log)) == (200, True)
    (refused,) = talk(recipe("redis_limit", "RedisLimit", url=redis.url, limit=1), [Request()], on_error="fail")
    assert refused.status == 500


EVENTS = {"content-type": "text/event-stream"}


def event(text: str, **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}], **more}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def test_token_budget_ends_a_stream() -> None:
    budget = recipe("token_budget", "TokenBudget", tokens=3)
    pieces = [event("one "), event("two ") + event("thr ")[:20], event("thr ")[20:], event("four"), event("five"), DONE]
    ask = Request("POST", "/", {"x-api-key": "k"}, "{}")
    first, second, other = talk(
        budget, [ask, ask, Request("POST", "/", {"x-api-key": "l"}, "{}")], upstream=Response(200, pieces, EVENTS)
    )
    assert first.body.startswith(event("one ") + event("two ") + event("thr "))
    assert b"four" not in first.body
    assert first.body.endswith(b'"finish_reason":"length"}]}\n\ndata: [DONE]\n\n')
    assert (first.was_reset, first.reason) == (False, "")
    assert (second.status, int(second.headers["retry-after"]) > 3500) == (429, True)
    assert other.status == 200


def test_token_budget_lets_short_streams_pass() -> None:
    pieces = [event("one "), event("two "), event("", usage={"completion_tokens": 7}), DONE[:5], DONE[5:]]
    budget = recipe("token_budget", "TokenBudget", tokens=8)
    (result,) = talk(budget, [Request(headers={"x-api-key": "k"})], upstream=Response(200, pieces, EVENTS))
    assert result.body == b"".join(pieces)
    assert budget.used == {"k": 7}, "the model's own count is the better one"


def test_token_budget_and_other_replies() -> None:
    budget = recipe("token_budget", "TokenBudget", tokens=1)
    assert run(budget, Request()).status == 401
    ask = Request(headers={"x-api-key": "k"})
    assert run(budget, ask, upstream=Response(200, [event("a lot of text")])).body == event("a lot of text")
    squeezed = Response(200, [b"x"], {**EVENTS, "content-encoding": "gzip"})
    assert run(budget, ask, upstream=squeezed).status == 502
    long = b"data: " + b"x" * 200_000
    assert run(budget, ask, upstream=Response(200, [long, long], EVENTS)).body == long + long


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


def test_audit_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    audit = recipe("audit_log", "AuditLog", file=str(path))
    talk(audit, [Request("POST", "/a?secret=1", {"x-user": "eve"}, "hello"), Request("GET", "/b")])
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["method"], first["path"], first["user"], first["status"]) == ("POST", "/a", "eve", 200)
    assert (first["client"], first["cluster"], first["reason"]) == ("192.0.2.1", "service", "ok")
    assert (first["bytes_in"], first["bytes_out"], second["user"]) == (5, 2, None)


def test_audit_log_that_cannot_be_written(tmp_path: Path) -> None:
    audit = recipe("audit_log", "AuditLog", file=str(tmp_path / "absent" / "audit.json"))
    with pytest.raises(FileNotFoundError):
        asyncio.run(audit.start())
    asyncio.run(audit.stop())


def test_audit_lines_that_have_no_room(tmp_path: Path) -> None:
    audit = recipe("audit_log", "AuditLog", file=str(tmp_path / "a"), waiting=1)

    class WithoutWriter(type(audit)):  # type: ignore[misc]
        async def start(self) -> None:
            pass

    async def send_three() -> list[str]:
        async with World(WithoutWriter(audit.config)) as world:
            for _ in range(3):
                await world.send(Request())
        return world.log

    assert "2 lines were dropped" in asyncio.run(send_three())[-1]
