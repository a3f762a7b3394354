"""`api_key_auth`: where keys may be, what they may consist of, and what an upstream gets."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from shipped_kit import of_route, problems, shipped

from pymosn.api import Exchange, StreamFilter
from pymosn.testing import Request, Result, World, make, run

KEY, OTHER = "sk-first-0001", "sk-second-002"
KEYS = [{"client": "acme", "key": KEY}, {"client": "corp", "sha256": sha256(OTHER.encode()).hexdigest().upper()}]
Fields = list[tuple[str, str]]


def ask(fields: Fields, target: str = "/", route: dict[str, Any] | None = None, **config: Any) -> Result:
    own = of_route("api_key_auth", route) if route is not None else None
    made = shipped("api_key_auth", {"keys": KEYS, "query_parameters": ["api_key"], **config})
    return run(made, Request("GET", target, fields), route_config=own)


@pytest.mark.parametrize(
    ("fields", "target", "client"),
    [
        ([("x-api-key", KEY)], "/", "acme"),
        ([("X-API-KEY", OTHER)], "/", "corp"),
        ([("x-api-key", f" {KEY}\t")], "/", "acme"),
        ([], f"/?api_key={KEY}", "acme"),
        ([], f"/?a=1&api%5Fkey={KEY.replace('k', '%6B')}&b", "acme"),
    ],
)
def test_known_keys(fields: Fields, target: str, client: str) -> None:
    result = ask([*fields, ("x-client", "boss"), ("X-Client", "root"), ("X_Client", "root")], target)
    (upstream,) = result.upstream
    assert "x_client" not in upstream.headers
    assert (result.status, upstream.headers.get_all("x-client")) == (200, [client])
    assert "x-api-key" not in upstream.headers
    assert "api" not in upstream.query
    assert result.exchange.state["api_key_auth"] == client


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ([], "/"),
        ([("x-api-key", "")], "/"),
        ([("x-api-key", "guess")], "/"),
        ([("x-api-key", KEY.upper())], "/"),
        ([("x-api-key", KEY[:-1])], "/"),
        ([("x-api-key", KEY + "0")], "/"),
        ([("x-api-key", sha256(KEY.encode()).hexdigest())], "/"),
        ([("x-api-key", KEY), ("x-api-key", KEY)], "/"),
        ([("x-api-key", KEY), ("X-Api-Key", "guess")], "/"),
        ([("x-api-key", f"{KEY},{KEY}")], "/"),
        ([("x-api-key", f"{KEY}, {OTHER}")], "/"),
        ([("x-api-key", KEY)], f"/?api_key={KEY}"),
        ([("x-api-key", KEY)], "/?api_key"),
        ([], f"/?api_key={KEY}&api_key={KEY}"),
        ([], f"/?api_key={KEY};api_key=x"),
        ([("x-api-key", "\udcff\udc80")], "/"),
        ([("x-api-key", KEY + "\udcff")], "/"),
        ([("x-api-key", "\udcc0\udcaf" + KEY)], "/"),
        ([("x-api-key", "ключ")], "/"),
        ([("x-api-key", "k" * 7_000)], "/"),
        ([], "/?api_key=%ff%fe"),
        ([], "/?api_key=%"),
        ([], f"/?api_key={KEY}%00"),
        ([], f"/?API_KEY={KEY}"),
        ([("authorization", f"Bearer {KEY}")], "/"),
        ([("cookie", f"x-api-key={KEY}")], "/"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_anything_else_is_401(fields: Fields, target: str) -> None:
    result = ask(fields, target)
    assert (result.status, result.reason, result.upstream) == (401, "unauthorized", [])
    assert result.headers["www-authenticate"] == "ApiKey"


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer\t {KEY}", 200),
        (KEY, 401),
        (f"Basic {KEY}", 401),
        (f"Bearer{KEY}", 401),
        ("Bearer ", 401),
        ("Bearer \udcff", 401),
    ],
)
def test_the_scheme_of_authorization(value: str, status: int) -> None:
    result = ask([("Authorization", value)], headers=["authorization"])
    assert result.status == status
    if status == 200:
        assert "authorization" not in result.upstream[0].headers
    else:
        assert result.headers["www-authenticate"] == "Bearer"


def test_two_schemes_are_two_credentials() -> None:
    fields = [("authorization", "Basic eA=="), ("x-api-key", KEY)]
    assert ask(fields, headers=["x-api-key", "authorization"]).status == 401
    assert ask(fields).status == 200


def test_a_key_is_forwarded_on_request() -> None:
    (upstream,) = ask([("x-api-key", KEY)], forward=True, client_header="").upstream
    assert (upstream.headers["x-api-key"], upstream.headers.get("x-client")) == (KEY, None)


@pytest.mark.parametrize(
    ("route", "key", "status"),
    [
        ({"clients": ["acme"]}, KEY, 200),
        ({"clients": ["acme"]}, OTHER, 403),
        ({"clients": ["ACME"]}, KEY, 403),
        ({"clients": ["nobody"]}, KEY, 403),
        ({"clients": ["acme"]}, "guess", 401),
        ({}, OTHER, 200),
        ({"disabled": True}, "guess", 200),
    ],
)
def test_routes(route: dict[str, Any], key: str, status: int) -> None:
    result = ask([("x-api-key", key), ("x-client", "acme")], route=route)
    assert (result.status, result.reason) == (status, {403: "access_denied", 401: "unauthorized"}.get(status, ""))
    if route.get("disabled"):
        assert "x-client" not in result.upstream[0].headers, "nobody has checked it"


def test_counters() -> None:
    import asyncio

    async def talk() -> World:
        world = World(shipped("api_key_auth", {"keys": KEYS}))
        for key in (KEY, "guess", KEY, ""):
            await world.send(Request(headers={"x-api-key": key}))
        return world

    world = asyncio.run(talk())
    counts = [world.counter("ApiKeyAuthFilter", name) for name in ("allowed", "denied", "errors")]
    assert counts == [2, 2, 0]


def test_later_filters_see_the_client() -> None:
    class Sees(StreamFilter):
        def on_route(self, exchange: Exchange) -> None:
            exchange.request.headers["x-seen"] = str(exchange.state["api_key_auth"])

    result = run([shipped("api_key_auth", {"keys": KEYS}), make(Sees)], Request(headers={"x-api-key": KEY}))
    assert result.upstream[0].headers["x-seen"] == "acme"


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"keys": []}, ".keys"),
        ({"keys": [{"client": "", "key": KEY}]}, ".keys[0].client"),
        ({"keys": [{"client": "a\nb", "key": KEY}]}, ".keys[0].client"),
        ({"keys": [{"client": " a", "key": KEY}]}, ".keys[0].client"),
        ({"keys": [{"client": "a"}]}, ".keys[0]"),
        ({"keys": [{"client": "a", "key": KEY, "sha256": "0" * 64}]}, ".keys[0]"),
        ({"keys": [{"client": "a", "key": "with space"}]}, ".keys[0].key"),
        ({"keys": [{"client": "a", "key": "é"}]}, ".keys[0].key"),
        ({"keys": [{"client": "a", "key": "x\n"}]}, ".keys[0].key"),
        ({"keys": [{"client": "a", "sha256": "0" * 63}]}, ".keys[0].sha256"),
        ({"keys": [{"client": "a", "sha256": sha256(b"").hexdigest()}]}, ".keys[0].sha256"),
        ({"keys": [*KEYS, {"client": "b", "sha256": sha256(KEY.encode()).hexdigest()}]}, ".keys[2]"),
        ({"headers": []}, ".headers"),
        ({"headers": ["content-length"]}, ".headers[0]"),
        ({"headers": ["a b"]}, ".headers[0]"),
        ({"query_parameters": [""], "headers": []}, ".query_parameters"),
        ({"client_header": "Host"}, ".client_header"),
        ({"client_header": "X-Api-Key"}, ".client_header"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_faults(config: dict[str, Any], path: str) -> None:
    found = problems("api_key_auth", {"keys": KEYS, **config})
    assert [fault.partition(": ")[0] for fault in found] == [path]
    assert not any(KEY in fault or "with space" in fault for fault in found)


def test_faults_of_a_route() -> None:
    for route in ({"disabled": True, "clients": ["a"]}, {"clients": [""]}):
        with pytest.raises(Exception, match="clients"):
            of_route("api_key_auth", route)


@pytest.mark.parametrize("name", ["x-client", "X_Client"])
def test_a_filter_that_judges_before_the_route_does_not_see_a_forged_name(name: str) -> None:
    header = {"name": "x-client", "exact_match": "admin"}
    policies = {"admins": {"permissions": [{"any": True}], "principals": [{"header": header}]}}
    rbac = shipped("rbac", {"version": "1", "rules": {"action": "ALLOW", "policies": policies}})
    chain = [shipped("api_key_auth", {"keys": KEYS}), rbac]
    result = run(chain, Request("GET", "/", [("x-api-key", KEY), (name, "admin")]))
    assert (result.status, result.reason, result.upstream) == (403, "access_denied", [])
