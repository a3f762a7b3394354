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
from pymosn.testing import Request, Response, Result, World, run

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

    async def without_a_writer() -> list[str]:
        world = World(audit)
        for _ in range(3):
            await world.send(Request())
        await audit.stop()
        return world.log

    assert "2 lines were dropped" in asyncio.run(without_a_writer())[-1]
