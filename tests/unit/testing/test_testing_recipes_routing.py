"""The recipes that route and rewrite: canary, prefix_hash, rewriting, tenant_routing, also with hostile input."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pymosn.api import StreamFilter
from pymosn.filters.errors import FilterLoadError
from pymosn.filters.loading import load_filter
from pymosn.testing import Request, Response, Result, World, run

RECIPES = Path(__file__).parents[3] / "examples" / "filters" / "recipes"
JSON = {"content-type": "application/json"}


def recipe(name: str, class_name: str, **config: Any) -> Any:
    return load_filter(RECIPES / f"{name}.py", class_name, config)


def talk(recipe: StreamFilter, requests: list[Request], **wishes: Any) -> list[Result]:
    """Several requests to one filter."""

    async def all_of_them() -> list[Result]:
        world = World(recipe, **wishes)
        return [await world.send(request) for request in requests]

    return asyncio.run(all_of_them())


def test_tenant_routing() -> None:
    def routing(**more: Any) -> StreamFilter:
        made: StreamFilter = recipe("tenant_routing", "TenantRouting", tenants={"acme": "gold"}, **more)
        return made

    clusters = {"gold": Response(200, "gold")}
    assert run(routing(), Request(headers={"x-tenant": "acme"}), clusters=clusters).text == "gold"
    assert run(routing(), Request(headers={"x-tenant": "other"}), clusters=clusters).status == 404
    assert run(routing(default="service"), Request(), clusters=clusters).text == "ok"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-tenant": ""},
        {"x-tenant": "ACME"},
        {"x-tenant": "acme, acme"},
        {"x-tenant": "acme;"},
        {"x-tenant": "acme\udcff"},
        {"x-tenant": "\u0430cme"},
        {"x-tenant": "gold"},
        {"x-tenant": "a" * 6_000},
        {"x-tenan": "acme"},
    ],
)
def test_tenants_that_are_unknown(headers: dict[str, str]) -> None:
    routing = recipe("tenant_routing", "TenantRouting", tenants={"acme": "gold"})
    result = run(routing, Request(headers=headers), clusters={"gold": Response(200, "gold")})
    assert (result.status, result.upstream) == (404, [])


@pytest.mark.parametrize("values", [("acme", "acme"), ("acme", "corp"), ("", "acme"), ("acme", "x")])
def test_a_tenant_given_twice(values: tuple[str, str]) -> None:
    routing = recipe("tenant_routing", "TenantRouting", tenants={"acme": "gold"}, default="gold")
    result = run(routing, Request("GET", "/", [("x-tenant", value) for value in values]), clusters={"gold": Response()})
    assert (result.status, result.upstream) == (400, [])


def test_responses_depend_on_the_tenant() -> None:
    routing = recipe("tenant_routing", "TenantRouting", tenants={"acme": "service"}, header="X-Org")
    for vary, made in (("", ["X-Org"]), ("Accept", ["Accept", "X-Org"]), ("accept, x-org", ["accept, x-org"]), ("*", ["*"])):
        answer = Response(200, "", {"vary": vary} if vary else {})
        assert run(routing, Request(headers={"x-org": "acme"}), upstream=answer).headers.get_all("vary") == made


@pytest.mark.parametrize("wrong", [{"tenants": {}}, {"tenants": {"a": "b"}, "header": "x tenant"}])
def test_wrong_settings_of_tenant_routing(wrong: dict[str, Any]) -> None:
    with pytest.raises(FilterLoadError):
        recipe("tenant_routing", "TenantRouting", **wrong)


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


@pytest.mark.parametrize(
    ("cookies", "choice"),
    [
        (["canary=yes"], "next"),
        (["canary=yes; canary=yes"], "next"),
        (["a=b", "canary=yes"], "next"),
        (["canary=yes; canary=no"], ""),
        (["canary=yes", "canary=no"], ""),
        (["canary=yes; canary="], ""),
        (['canary="yes"'], ""),
        (["canary = yes"], ""),
        (["Canary=yes"], ""),
        (["xcanary=yes; canary2=yes"], ""),
        (["canary=yes\udcff"], ""),
        (["a=canary=yes"], ""),
        ([";;=;canary"], ""),
    ],
)
def test_cookies_of_a_canary(cookies: list[str], choice: str) -> None:
    """Without a valid choice a new one is made, which replaces all of them."""
    never = recipe("canary", "Canary", cluster="next", percent=0)
    result = run(
        never, Request("GET", "/", [("cookie", cookie) for cookie in cookies]), clusters={"next": Response(200, "next")}
    )
    assert result.text == (choice or "ok")
    assert [value.partition(";")[0] for value in result.headers.get_all("set-cookie")] == ([] if choice else ["canary=no"])
    assert result.upstream[0].headers.get_all("cookie") == cookies


@pytest.mark.parametrize(
    ("control", "made"),
    [
        ([], "private"),
        (["public, max-age=60"], "private, max-age=60"),
        (["Public", "S-MaxAge=60, max-age=5"], "private, max-age=5"),
        (["max-age=60, s-maxage =9"], "private, max-age=60"),
        (["private, max-age=1"], "private, max-age=1"),
        (["no-store"], "private, no-store"),
        (['private="x, public", max-age=60'], "private, no-cache"),
    ],
)
def test_a_response_with_a_cookie_is_private(control: list[str], made: str) -> None:
    fields = [("cache-control", value) for value in control] + [("surrogate-control", "max-age=9"), ("set-cookie", "a=b")]
    answer = Response(200, "", [*fields, ("cdn-cache-control", "max-age=9"), ("vary", "Accept")])
    always = recipe("canary", "Canary", cluster="service", percent=100)
    first = run(always, Request(), upstream=answer)
    assert first.headers.get_all("cache-control") == [made]
    assert first.headers.get_all("vary") == ["Accept", "Cookie"]
    assert first.headers.get_all("set-cookie") == ["a=b", "canary=yes; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"]
    assert not {"surrogate-control", "cdn-cache-control"} & {name for name, _ in first.headers.items()}
    second = run(always, Request(headers={"cookie": "canary=yes"}), upstream=answer)
    assert second.headers.get_all("cache-control") == control, "without a cookie it is as the upstream made it"
    assert second.headers.get_all("vary") == ["Accept", "Cookie"], "but depends on the cookie that the client sent"


@pytest.mark.parametrize("status", [304, 500, 503])
def test_responses_without_a_cookie(status: int) -> None:
    always = recipe("canary", "Canary", cluster="service", percent=100)
    result = run(always, Request(), upstream=Response(status, "", {"cache-control": "public, max-age=60"}))
    assert ("set-cookie" in result.headers, result.headers["cache-control"]) == (False, "public, max-age=60")


@pytest.mark.parametrize("wrong", [{"cookie": "a=b"}, {"cookie": "a; Domain=x"}, {"cookie": ""}, {"max_age": 0}])
def test_wrong_settings_of_a_canary(wrong: dict[str, Any]) -> None:
    with pytest.raises(FilterLoadError):
        recipe("canary", "Canary", cluster="next", **wrong)


def test_rewriting() -> None:
    rules = [{"path": r"/v1/users/(\d+)", "to": r"/users/\1/profile"}, {"path": "/v1/.*", "to": "/gone"}]
    rewriting = recipe("rewriting", "Rewriting", rules=rules, host="inner", headers={"x-from": "edge"}, without=["utm"])
    (request,) = run(rewriting, Request("GET", "/v1/users/7?utm=x&a=1%202&b=")).upstream
    assert (request.path, request.query) == ("/users/7/profile", "a=1%202&b=")
    assert (request.headers["host"], request.headers["x-from"]) == ("inner", "edge")
    assert request.headers["x-original-path"] == "/v1/users/7"
    assert run(rewriting, Request("GET", "/v1/x")).upstream[0].path == "/gone"
    (untouched,) = run(rewriting, Request("GET", "/other")).upstream
    assert (untouched.path, untouched.headers.get("x-original-path")) == ("/other", None)
    with pytest.raises(FilterLoadError, match="unterminated"):
        recipe("rewriting", "Rewriting", rules=[{"path": "(", "to": "/"}])


@pytest.mark.parametrize(
    ("query", "made"),
    [
        ("a=1&b=%2F&c=+&d", None),
        ("a=%zz&b=%&c=%C3%28", None),
        ("&&a&=&=x&", None),
        ("a=b=c;utm=1&x[]=1&x[]=2", None),
        ("UTM=1&utmx=1&xutm=1&a=utm=1", None),
        ("a=%ff%fe&b='\"<>", None),
        ("a=1&utm=x&b=%2F&utm&c=+&utm=", "a=1&b=%2F&c=+"),
        ("utm", ""),
        ("utm=1", ""),
        ("%75tm=1&a=%2f", "a=%2f"),
        ("u%74%6D=1&&a", "&a"),
        ("my+id=1&my%20id=2&my_id=3", "my_id=3"),
    ],
)
def test_a_query_keeps_its_bytes(query: str, made: str | None) -> None:
    rewriting = recipe("rewriting", "Rewriting", without=["utm", "my id"])
    (request,) = run(rewriting, Request("GET", f"/a%2Fb;c?{query}")).upstream
    assert (request.path, request.query) == ("/a%2Fb;c", query if made is None else made)


def test_paths_that_are_rewritten() -> None:
    rules = [{"path": r"/v1/(.*?)(/x)?", "to": r"/\1\2"}]
    rewriting = recipe("rewriting", "Rewriting", rules=rules)
    for path, made in (("/v1/a%2Fb%20c;d", "/a%2Fb%20c;d"), ("/v1/", "/"), ("/v1/a'(b)*", "/a'(b)*"), ("/v10/a", "/v10/a")):
        (request,) = run(rewriting, Request("GET", f"{path}?a=%2F")).upstream
        assert (request.path, request.query) == (made, "a=%2F")


def test_a_path_that_cannot_be_sent() -> None:
    rewriting = recipe("rewriting", "Rewriting", rules=[{"path": "/v1/(.*)", "to": "/a b/\\1"}])
    assert [run(rewriting, Request("GET", path)).status for path in ("/v1/x", "/v2")] == [400, 200]


def test_a_client_cannot_claim_an_original_path() -> None:
    rewriting = recipe("rewriting", "Rewriting", rules=[{"path": "/v1", "to": "/"}])
    forged = [("x-original-path", "/admin"), ("X-Original-Path", "/root")]
    for path, made in (("/v1", ["/v1"]), ("/other", [])):
        (request,) = run(rewriting, Request("GET", path, forged)).upstream
        assert request.headers.get_all("x-original-path") == made


@pytest.mark.parametrize(
    "wrong",
    [
        {"rules": [{"path": "/(a)", "to": r"/\2"}]},
        {"rules": [{"path": "/(a", "to": "/"}]},
        {"rules": [{"path": "/a", "to": "b"}]},
        {"rules": [{"path": "/a", "to": r"/\g<x>"}]},
        {"headers": {"content-length": "1"}},
        {"headers": {"a b": "1"}},
        {"headers": {"a": "1\r\nb: 2"}},
    ],
)
def test_wrong_settings_of_rewriting(wrong: dict[str, Any]) -> None:
    with pytest.raises(FilterLoadError):
        recipe("rewriting", "Rewriting", **wrong)


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


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"",
        b'{"prompt": 3}',
        b'{"prompt": ""}',
        b'{"prompt": null, "messages": "x"}',
        b"[" * 100_000,
        b'{"messages":' + b"[" * 100_000,
        b'{"messages":[' + b"9" * 5000 + b"]}",
        b'{"prompt": "\xff"}',
        b"\x1f\x8b\x08\x00",
        b'{"prompt": "\\ud800"}',
        b'{"messages":[1e999, NaN, 1.0]}',
        b'{"messages":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"prompt": 1, "prompt": "a"}',
        '{"prompt": "é"}'.encode("utf-16"),
    ],
)
def test_prompts_that_cannot_be_read(body: bytes) -> None:
    """The balancer chooses, and the upstream reports the error."""
    own = recipe("prefix_hash", "PrefixHash", hosts=["service:80"])
    result = run(own, Request("POST", "/", JSON, body))
    assert (result.status, "replicas" in result.exchange.state) == (200, False)
    assert result.upstream[0].body == body


def test_the_type_of_a_prompt_does_not_matter() -> None:
    own = recipe("prefix_hash", "PrefixHash", hosts=["service:80"])
    result = run(own, Request("POST", "/", [("content-type", "a"), ("content-type", "b")], b'{"prompt": "a"}'))
    assert (result.status, result.exchange.state["replicas"]) == (200, ["service:80"])


def test_a_prompt_over_the_limit() -> None:
    own = recipe("prefix_hash", "PrefixHash", hosts=["service:80"], limit=20)
    result = run(own, Request("POST", "/", JSON, b'{"prompt": "' + b"x" * 30 + b'"}'))
    assert (result.status, "replicas" in result.exchange.state) == (200, False)


def test_hosts_with_long_names() -> None:
    hosts = [f"{'a' * 70}.{number}.example:80" for number in range(4)]
    replicas = recipe("prefix_hash", "PrefixHash", hosts=hosts)
    assert {replicas.order(str(number))[0] for number in range(60)} == set(hosts)


@pytest.mark.parametrize("wrong", [{"hosts": []}, {"hosts": ["a:1"], "prefix": 0}, {"hosts": ["a:1"], "limit": 0}])
def test_wrong_settings_of_prefix_hash(wrong: dict[str, Any]) -> None:
    with pytest.raises(FilterLoadError):
        recipe("prefix_hash", "PrefixHash", **wrong)
