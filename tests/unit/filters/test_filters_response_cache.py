"""`response_cache`: what is stored, who gets it, how old it may be, and requests that arrive together."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from shipped_kit import problems, shipped
from tests.kit.tls_facts import certificate, tls_info

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.network import Dialer
from pymosn.api.routing import Route
from pymosn.core.headers import headers_from
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.filters.stream.cache_directives import policy_of
from pymosn.filters.stream.cache_flights import AGAIN, LEAD, Flights
from pymosn.filters.stream.cache_key import choices_of
from pymosn.filters.stream.cache_store import Entry, Store
from pymosn.filters.stream.response_cache import ResponseCacheFilter
from pymosn.routing.actions import Forward, ForwardOptions, ForwardWeighted, Target
from pymosn.routing.changes import ChangeLevel, HeaderAddition, LevelChanges
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.rewrites import RequestChanges
from pymosn.routing.table import RouteTable, VirtualHost
from pymosn.testing import Down, Request, Response, Result, World, make
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.plan import ClusterPlan

FRESH = {"cache-control": "max-age=60"}
WALL = 1_700_000_000.0
DATES = ("Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:14:20 GMT")  # WALL, and a minute later
Fields = dict[str, str] | list[tuple[str, str]]


class Origin:
    """Numbers its responses, so that each shows which request it was made for. `answer`: the next ones."""

    def __init__(self, answer: Response | Callable[[Request], Response] | None = None) -> None:
        self.answer = answer or Response(200, "", FRESH)
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        made = self.answer(request) if callable(self.answer) else self.answer
        response = Response(made.status, made.text or f"#{len(self.requests)}", made.headers.items())
        response.is_sized, response.trailers = made.is_sized, made.trailers
        return response


def cache(**config: Any) -> ResponseCacheFilter:
    made = shipped("response_cache", config)
    assert isinstance(made, ResponseCacheFilter)
    return made


def world_of(*filters: StreamFilter, upstream: Any = None, **more: Any) -> World:
    world = World(list(filters), upstream=upstream or Origin(), **more)
    world.clock.wall_time = WALL
    return world


def talk(requests: list[Request | float], *filters: StreamFilter, upstream: Any = None, **more: Any) -> list[Result]:
    """Sends requests one after the other; a number is a number of seconds between two of them."""

    async def all_of_them() -> list[Result]:
        world = world_of(*(filters or (cache(),)), upstream=upstream, **more)
        results = []
        for request in requests:
            if isinstance(request, Request):
                results.append(await world.send(request))
            else:
                await world.advance(request)
        return results

    return asyncio.run(all_of_them())


def twice(first: Fields, second: Fields, response: Fields, **config: Any) -> bool:
    """Whether the response to the first of two requests also answers the second."""
    origin = Origin(Response(200, "", response))
    results = talk([Request("GET", "/", first), Request("GET", "/", second)], cache(**config), upstream=origin)
    texts = [result.text for result in results]
    assert texts in (["#1", "#1"], ["#1", "#2"])
    return texts == ["#1", "#1"]


@pytest.mark.parametrize(("directives", "texts"), [("max-age=60", ["#1", "#2"]), ("public, max-age=60", ["#1", "#1"])])
def test_a_client_with_a_certificate_has_credentials(directives: str, texts: list[str]) -> None:
    facts = tls_info(certificate())
    upstream = Origin(Response(200, "", {"cache-control": directives}))
    found = talk([Request("GET", "/"), Request("GET", "/")], upstream=upstream, client_tls=facts)
    assert [result.text for result in found] == texts


# ---- what is stored


@pytest.mark.parametrize(
    "headers",
    [
        {"cache-control": "max-age=60"},
        {"cache-control": "MAX-AGE=60"},
        {"cache-control": 'max-age="60"'},
        {"cache-control": ' , max-age=60 ,, x-own="a, no-store", y'},
        [("cache-control", "public"), ("cache-control", "max-age=60")],
        {"cache-control": "s-maxage=60, max-age=0"},
        {"cache-control": "max-age=99999999999999999999999999"},
        {"cache-control": "public", "expires": DATES[1]},
        {"expires": DATES[1], "date": DATES[0]},
        {"cache-control": "max-age=60", "expires": "0"},
        {"cache-control": "max-age=60", "age": "59"},
        {"cache-control": "max-age=60", "vary": "accept, Accept-Language"},
    ],
)
def test_stored(headers: Fields) -> None:
    assert twice({}, {}, headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cache-control": "public"},
        {"last-modified": DATES[0]},
        {"cache-control": "max-age=0"},
        {"cache-control": "no-store, max-age=60"},
        {"cache-control": "no-store=1, max-age=60"},
        {"cache-control": "private, max-age=60"},
        {"cache-control": 'private="x", max-age=60'},
        {"cache-control": 'private="x, max-age=60'},
        {"cache-control": "private=, max-age=60"},
        {"cache-control": 'max-age=60, private="set-cookie, x-a"'},
        {"cache-control": 'no-cache="set-cookie, x-a", max-age=60'},
        {"cache-control": "no-cache, max-age=60"},
        {"cache-control": "No-Cache, max-age=60"},
        [("cache-control", "max-age=60"), ("Cache-Control", "no-store")],
        [("cache-control", 'x="a'), ("cache-control", '", max-age=60')],
        {"cache-control": "max-age=60, max-age=60"},
        {"cache-control": "max-age=60, max-age=10"},
        {"cache-control": "max-age=60, s-maxage=0"},
        {"cache-control": "max-age=60, s-maxage=x"},
        {"cache-control": "max-age"},
        {"cache-control": "max-age="},
        {"cache-control": "max-age=-1"},
        {"cache-control": "max-age=+60"},
        {"cache-control": "max-age=6e1"},
        {"cache-control": "max-age=60.0"},
        {"cache-control": "max-age = 60"},
        {"cache-control": "max-age=60;private"},
        {"cache-control": "max-age=60 private"},
        {"cache-control": "max-age=٦٠"},
        {"cache-control": "max-age=60, stale-if-error=x"},
        {"pragma": "no-cache", "expires": DATES[1]},
        {"cache-control": "max-age=60", "age": "60"},
        {"cache-control": "max-age=60", "age": "99999999999999999999999"},
        {"cache-control": "max-age=60", "age": "-5"},
        {"cache-control": "max-age=60", "age": "1, 2"},
        [("cache-control", "max-age=60"), ("age", "1"), ("age", "1")],
        {"cache-control": "max-age=60", "date": "Tue, 14 Nov 2023 22:12:20 GMT"},
        {"cache-control": "max-age=60", "date": "yesterday"},
        [("cache-control", "max-age=60"), ("date", DATES[0]), ("date", DATES[0])],
        {"expires": "0"},
        {"expires": "Tue, 14 Nov 2023 22:14:20 +0000"},
        {"expires": "Tue, 99 Nov 2023 22:14:20 GMT"},
        [("expires", DATES[1]), ("expires", DATES[1])],
        {"expires": DATES[0]},
        {"cache-control": "public, max-age=60", "set-cookie": "a=b"},
        {"cache-control": "max-age=60", "vary": "*"},
        {"cache-control": "max-age=60", "vary": "accept, *"},
        [("cache-control", "max-age=60"), ("vary", "accept"), ("vary", "*")],
        {"cache-control": "max-age=60", "vary": "a b"},
        {"cache-control": "max-age=60", "vary": ",".join(f"x-{number}" for number in range(17))},
        {"cache-control": "max-age=60", "content-range": "bytes 0-1/2"},
    ],
)
def test_not_stored(headers: Fields) -> None:
    assert not twice({}, {}, headers)


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501])
def test_statuses_with_a_lifetime_are_stored(status: int) -> None:
    origin = Origin(Response(status, "", FRESH))
    first, second = talk([Request(), Request()], upstream=origin)
    assert (first.status, second.status, len(origin.requests)) == (status, status, 1)
    assert second.text == first.text


@pytest.mark.parametrize("status", [201, 202, 206, 226, 304, 400, 401, 402, 403, 407, 408, 429, 451, 500, 502, 503, 504])
def test_other_statuses_are_not(status: int) -> None:
    origin = Origin(Response(status, "", FRESH))
    talk([Request(), Request()], upstream=origin)
    assert len(origin.requests) == 2


def test_errors_without_a_lifetime_are_not_stored() -> None:
    origin = Origin(Response(404))
    talk([Request(), Request()], upstream=origin)
    assert len(origin.requests) == 2


def test_fields_of_a_stored_response() -> None:
    answer = Response(200, "text", {**FRESH, "age": "5", "etag": '"1"', "x-a": "b", "content-type": "text/x"})
    first, second = talk([Request(), 7.0, Request()], upstream=answer)
    assert (first.headers["age"], second.headers["age"]) == ("5", "12")
    assert second.headers.get_all("age") == ["12"]
    assert (second.headers["etag"], second.headers["x-a"], second.headers["content-length"]) == ('"1"', "b", "4")
    assert second.headers.get_all("content-type") == ["text/x"]
    assert second.headers.get_all("date") == [DATES[0]]
    (bare,) = talk([Request(), Request()], upstream=Response(200, "text", FRESH))[1:]
    assert "content-type" not in bare.headers, "nothing is added to what the upstream sent"


def test_the_first_byte_is_not_delayed() -> None:
    async def check() -> None:
        gate = asyncio.Event()

        async def upstream(request: Request) -> Response:
            await gate.wait()
            return Response(200, ["one", "two"], FRESH)

        world = world_of(cache(), upstream=upstream)
        sending = asyncio.create_task(world.send(Request()))
        await asyncio.sleep(0)
        gate.set()
        first = await sending
        assert first.chunks == [b"one", b"two"]
        assert (await world.send(Request())).chunks == [b"onetwo"]

    asyncio.run(check())


# ---- who gets it


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"authorization": "Bearer a"}, {"authorization": "Bearer b"}),
        ({"authorization": "Bearer a"}, {"authorization": "Bearer a"}),
        ({"Authorization": "Basic a"}, {}),
        ({}, {"authorization": "Bearer b"}),
        ({"x-api-key": "a"}, {"x-api-key": "b"}),
        ({"x-api-key": "a"}, {}),
        ({}, {"x-api-key": "b"}),
        ({"cookie": "session=1"}, {"cookie": "session=2"}),
        ({"cookie": "session=1"}, {}),
        ({}, {"cookie": "session=2"}),
        ([("cookie", "a=1"), ("cookie", "b=2")], {}),
        ({"x-original-url": "/admin"}, {}),
        ({"x-http-method-override": "DELETE"}, {}),
        ({"x_http_method_override": "DELETE"}, {}),
        ({"X-Original_URL": "/admin"}, {}),
        ({"x-original-host": "other.example"}, {}),
        ({"front-end-https": "on"}, {}),
        ({"x-url-scheme": "http"}, {"x-scheme": "http"}),
        ({"host": "a.example"}, {"host": "b.example"}),
    ],
)
def test_never_for_another(first: Fields, second: Fields) -> None:
    assert not twice(first, second, FRESH)


def test_the_host_that_a_trusted_proxy_reports_is_part_of_the_key() -> None:
    origin = Origin(Response(200, "", FRESH))
    requests: list[Request | float] = [Request(headers={"x-forwarded-host": "other.example"}), Request()]
    results = talk(requests, upstream=origin, http1={"trust_forwarded": True})
    assert [result.text for result in results] == ["#1", "#2"]


@pytest.mark.parametrize("directive", ["public", "s-maxage=60", "must-revalidate"])
def test_explicitly_for_everyone(directive: str) -> None:
    """RFC 9111 section 3.5. Cookies are not credentials there, so nothing makes their responses public."""
    headers = {"cache-control": f"max-age=60, {directive}"}
    assert twice({"authorization": "a"}, {"authorization": "b"}, headers)
    assert twice({}, {"x-api-key": "b"}, headers)
    assert not twice({"cookie": "a=1"}, {}, headers)
    assert not twice({}, {"cookie": "a=1"}, headers)
    assert not twice({"authorization": "a"}, {"authorization": "b"}, {**headers, "vary": "authorization"})


def test_ignored_cookies() -> None:
    assert twice({"cookie": "lang=de"}, {"cookie": "lang=fr; lang=de"}, FRESH, ignored_cookies=["lang"])
    assert not twice({"cookie": "lang=de; session=1"}, {"cookie": "lang=de"}, FRESH, ignored_cookies=["lang"])
    assert not twice({"cookie": "lang=de"}, {"cookie": "lang=fr"}, {**FRESH, "vary": "Cookie"}, ignored_cookies=["lang"])
    assert not twice({"cookie": "Lang=de"}, {}, FRESH, ignored_cookies=["lang"])


def test_vary() -> None:
    varied = {**FRESH, "vary": "accept-language, X-A"}
    assert twice({"accept-language": "de"}, {"accept-language": "de", "x-b": "1"}, varied)
    for other in ({}, {"accept-language": "fr"}, {"accept-language": "de", "x-a": ""}, {"accept-language": "DE"}):
        assert not twice({"accept-language": "de"}, other, varied)
    assert not twice({"x-a": "1"}, [("x-a", "1"), ("x-a", "2")], varied)
    assert not twice({"accept-encoding": "gzip"}, {}, {**FRESH, "content-encoding": "gzip"}), "without Vary"
    assert not twice({"origin": "a"}, {"origin": "b"}, {**FRESH, "access-control-allow-origin": "a"}), "without Vary"


def test_key_headers() -> None:
    assert twice({"x-plan": "a"}, {"x-plan": "b"}, FRESH)
    assert not twice({"x-plan": "a"}, {"x-plan": "b"}, FRESH, key_headers=["X-Plan"])
    assert twice({"x-plan": "a"}, {"x-plan": "a"}, FRESH, key_headers=["X-Plan"])
    assert not twice({"x-plan": "a"}, {"x-plan": "b"}, FRESH, identity_headers=["x-plan"])


class Decides(StreamFilter):
    """Decides by the header `who`, in the way that the header `how` names, and removes both."""

    def on_request(self, exchange: Exchange) -> None:
        if exchange.request.headers.get("how") == "early":
            exchange.choose(cluster=exchange.request.headers["who"])

    def on_route(self, exchange: Exchange) -> None:
        headers = exchange.request.headers
        who, how = headers["who"], headers["how"]
        if how == "header":
            headers["x-client"] = who
        elif how == "cluster":
            exchange.choose(cluster=who)
        elif how == "subset":
            exchange.choose(subset={"version": who})
        elif how == "variable":
            exchange.set_variable("tenant", who)
        elif how == "host":
            exchange.request.host = who
        elif how == "path":
            exchange.request.path = f"/{who}"
        if how != "late":
            headers.remove("who")
        headers.remove("how")

    def on_host(self, exchange: Exchange) -> None:
        if exchange.request.headers.get("who") is not None:
            exchange.choose(host="service:80")


@pytest.mark.parametrize("how", ["header", "cluster", "early", "variable", "host", "path", "nothing"])
@pytest.mark.parametrize("is_last", [True, False])
def test_decisions_of_filters_are_part_of_the_key(how: str, is_last: bool) -> None:
    """Each of them alone, and wherever the cache is in the chain. `nothing`: the client's header was removed."""
    origin = Origin()
    made = cache(unkeyed=["how"] if how == "nothing" else ["who", "how"])
    chain = [make(Decides), made] if is_last else [made, make(Decides)]
    requests = [Request("GET", "/", {"who": who, "how": how}) for who in ("a", "b", "a", "b")]
    texts = [result.text for result in talk([*requests], *chain, upstream=origin, clusters={"a": origin, "b": origin})]
    assert texts == ["#1", "#2", "#1", "#2"]


class DecidesLate(StreamFilter):
    """Decides when the host has been chosen, by the header `who`, which the upstream does not get."""

    def on_host(self, exchange: Exchange) -> None:
        headers = exchange.request.headers
        who, how = headers["who"], headers["how"]
        if how == "header":
            headers["x-client"] = who
        elif how == "removed":
            headers.remove(f"x-{who}")
        elif how == "variable":
            exchange.set_variable("tenant", who)
        elif how == "query":
            exchange.request.query = who
        headers.remove("who")


@pytest.mark.parametrize("how", ["header", "removed", "variable", "query"])
@pytest.mark.parametrize("is_last", [True, False])
def test_decisions_after_the_lookup(how: str, is_last: bool) -> None:
    """They cannot be part of the key, so such a response is not stored."""
    made = cache(unkeyed=["who"])
    chain = [make(DecidesLate), made] if is_last else [made, make(DecidesLate)]
    requests = [Request("GET", "/", {"who": who, "how": how, "x-a": "", "x-b": ""}) for who in "abab"]
    texts = [result.text for result in talk([*requests], *chain)]
    assert texts == (["#1", "#2", "#1", "#2"] if is_last else ["#1", "#2", "#3", "#4"])


KEYS = {"headers": ["x-k"], "client_header": "", "forward": True, "keys": [{"client": k, "key": k} for k in "ab"]}
SERVICE = {"cluster": "auth", "request_headers": ["X-K", "cookie"]}
SECRET = b"a secret of thirty-two bytes or more"
JWKS = json.dumps({"keys": [{"kty": "oct", "k": base64.urlsafe_b64encode(SECRET).decode().rstrip("=")}]})
PROVIDER = {"fromHeaders": [{"name": "X-K"}], "forward": True, "localJwks": {"inlineString": JWKS}}
TOKENS = {"providers": {"p": PROVIDER}, "rules": [{"match": {"prefix": "/"}, "requires": {"providerName": "p"}}]}


@pytest.mark.parametrize(("name", "config"), [("api_key_auth", KEYS), ("ext_authz", SERVICE), ("jwt_authn", TOKENS)])
@pytest.mark.parametrize("is_last", [True, False])
def test_what_guards_read_is_part_of_the_key(name: str, config: dict[str, Any], is_last: bool) -> None:
    """Also if they forward it unchanged and add nothing to the request."""
    made = cache(ignored_cookies=["lang"])
    chain = [shipped(name, config), made] if is_last else [made, shipped(name, config)]
    known = {who: jwt.encode({"sub": who}, SECRET, "HS256") if name == "jwt_authn" else who for who in "ab"}
    requests = [Request("GET", "/", {"x-k": known[who], "cookie": f"lang={i}"}) for i, who in enumerate("abab")]
    texts = [result.text for result in talk([*requests], *chain, clusters={"auth": Response()})]
    assert texts == ["#1", "#2", "#1", "#2"]


def test_labels_are_part_of_the_key() -> None:
    asks = [Request("GET", "/", {"who": who, "how": "subset"}) for who in ("a", "b", "a")]
    one, two, same = (choices_of(result.exchange) for result in talk([*asks], make(Decides)))
    assert one == same != two


def test_a_choice_after_the_lookup_prevents_storing() -> None:
    origin = Origin()
    requests: list[Request | float] = [Request("GET", "/", {"who": "a", "how": "late"}) for _ in range(2)]
    talk(requests, cache(), make(Decides), upstream=origin)
    assert len(origin.requests) == 2


def test_headers_that_change_with_every_request() -> None:
    class Numbers(StreamFilter):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.count = 0

        def on_request(self, exchange: Exchange) -> None:
            self.count += 1
            exchange.request.headers["x-request-id"] = str(self.count)
            exchange.request.headers["x-span"] = str(self.count)

    origin = Origin()
    talk([Request(), Request()], make(Numbers), cache(), upstream=origin)
    assert len(origin.requests) == 2
    talk([Request(), Request()], make(Numbers), cache(unkeyed=["x-request-id", "x-span"]), upstream=origin)
    assert len(origin.requests) == 3


def routed(action: Forward, requests: list[Request], response: Fields) -> int:
    """The number of requests that reach the upstream of a route."""

    async def check() -> int:
        origin = Origin(Response(200, "", response))
        world = world_of(cache(), upstream=origin, clusters={"other": origin})
        table = RouteTable("test")
        table.add(VirtualHost("test", ["*"], [Route("test", AnyRequest(), action)]))
        world._options.slot.table = table
        for request in requests:
            assert (await world.send(request)).status == 200
        return len(origin.requests)

    return asyncio.run(check())


def test_decisions_of_the_route() -> None:
    same = [Request(), Request()]
    plain = ForwardOptions()
    assert routed(Forward("service", 60.0, plain), same, FRESH) == 1
    drawn = ForwardWeighted([(Target("service", (("v", "1"),)), 1), (Target("service", (("v", "2"),)), 1)], 60.0, plain)
    assert routed(drawn, same, FRESH) == 2, "the labels of a host are not known"
    two = ForwardWeighted([(Target("service"), 1), (Target("other"), 1)], 60.0, plain)
    assert routed(two, [Request() for _ in range(40)], FRESH) == 2, "one response of each cluster"


def test_hosts_and_fields_that_the_route_sets() -> None:
    named = ForwardOptions(changes=RequestChanges(host_header="x-host-name"))
    asks = [Request(headers={"x-host-name": name}) for name in ("a.example", "b.example", "a.example")]
    assert routed(Forward("service", 60.0, named), asks, FRESH) == 2, "the client names the host for the upstream"
    level = ChangeLevel([HeaderAddition("x-ip", "%downstream_remote_address%", False)], ["x-gone"])
    adds = ForwardOptions(changes=RequestChanges(LevelChanges([level])))
    for name, count in (("x-ip", 2), ("X-Gone", 2), ("x-other", 1)):
        claims = [Request(headers={"x-ip": "192.0.2.1:50000"}) for _ in range(2)]
        assert routed(Forward("service", 60.0, adds), claims, {**FRESH, "vary": name}) == count


def test_responses_of_the_route_are_changed_once() -> None:
    async def check() -> None:
        world = world_of(cache())
        changes = LevelChanges([ChangeLevel([HeaderAddition("x-a", "b", True)], [])])
        table = RouteTable("test")
        route = Route("test", AnyRequest(), Forward("service", 60.0), changes)
        table.add(VirtualHost("test", ["*"], [route]))
        world._options.slot.table = table
        results = [await world.send(Request()) for _ in range(2)]
        assert [(result.text, result.headers.get_all("x-a")) for result in results] == [("#1", ["b"])] * 2

    asyncio.run(check())


def test_replies_of_filters_are_not_stored() -> None:
    class Refuses(StreamFilter):
        def on_host(self, exchange: Exchange) -> Reply | None:
            return Reply(404, "mine", FRESH) if exchange.request.headers.get("x-bad") else None

    origin = Origin()
    first, second = talk([Request(headers={"x-bad": "1"}), Request()], cache(), make(Refuses), upstream=origin)
    assert (first.text, second.text) == ("mine", "#1")


def test_later_filters_do_not_change_a_stored_response_again() -> None:
    class Marks(StreamFilter):
        def on_response(self, exchange: Exchange) -> None:
            exchange.response_head.headers.add("x-mark", "m")

    after, before = (talk([Request(), Request()], *chain) for chain in ([cache(), make(Marks)], [make(Marks), cache()]))
    assert [result.headers.get_all("x-mark") for result in (*after, *before)] == [["m"]] * 4


def test_a_body_that_an_earlier_filter_replaces_is_not_stored_with_the_old_head() -> None:
    class Replaces(StreamFilter):
        def on_response(self, exchange: Exchange) -> None:
            exchange.response_head.set_body(f"for {exchange.request.headers.get('x-a')}")

    requests: list[Request | float] = [Request(headers={"x-a": name}) for name in ("one", "two")]
    assert [result.text for result in talk(requests, make(Replaces), cache())] == ["for one", "for two"]
    assert [result.text for result in talk(requests, cache(), make(Replaces))] == ["for one", "for one"]


@pytest.mark.parametrize("is_last", [True, False])
def test_with_compression(is_last: bool) -> None:
    """After the cache `gzip` compresses once, before it each time; no client gets a coding that it does not accept."""
    squeezes = shipped("gzip", {"content_types": ["text/plain"], "encodings": ["gzip"]})
    chain = [squeezes, cache()] if is_last else [cache(), squeezes]
    origin = Origin(Response(200, "hello " * 50, {**FRESH, "content-type": "text/plain", "etag": '"1"'}))
    accepts = [{"accept-encoding": "gzip"}, {}, {"accept-encoding": "gzip"}, {}, {"accept-encoding": "gzip;q=0"}]
    results = talk([Request(headers=headers) for headers in accepts], *chain, upstream=origin)
    for result, headers in zip(results, accepts, strict=True):
        is_compressed = headers.get("accept-encoding") == "gzip"
        assert (result.headers.get("content-encoding") == "gzip") is is_compressed
        assert (zlib.decompress(result.body, 31) if is_compressed else result.body) == b"hello " * 50
        assert result.headers["etag"] == ('W/"1"' if is_compressed else '"1"')
        assert result.headers.get_all("vary") == ["Accept-Encoding"]
    assert len(origin.requests) == (1 if is_last else 3)


# ---- requests


@pytest.mark.parametrize(
    "headers",
    [
        {"cache-control": "no-cache"},
        {"cache-control": "no-store"},
        {"cache-control": "max-age=0"},
        {"cache-control": "max-age=9"},
        {"cache-control": "min-fresh=51"},
        {"cache-control": "max-age=x"},
        {"cache-control": "max-age=100, max-age=100"},
        {"cache-control": "max-stale, min-fresh=-1"},
        {"pragma": "no-cache"},
        {"range": "bytes=0-1"},
        {"if-match": '"1"'},
        {"if-unmodified-since": DATES[0]},
    ],
)
def test_requests_that_need_the_upstream(headers: Fields) -> None:
    origin = Origin()
    _, answer = talk([Request(), 10.0, Request(headers=headers)], upstream=origin)
    assert (answer.text, len(origin.requests)) == ("#2", 2)


@pytest.mark.parametrize(
    "headers",
    [
        {"cache-control": "max-age=11"},
        {"cache-control": "min-fresh=40"},
        {"cache-control": "only-if-cached, x=y"},
        {"cache-control": "no-transform", "pragma": "no-cache"},
    ],
)
def test_requests_that_do_not(headers: Fields) -> None:
    assert talk([Request(), 10.0, Request(headers=headers)])[1].text == "#1"


def test_only_if_cached() -> None:
    origin = Origin()
    (answer,) = talk([Request(headers={"cache-control": "only-if-cached"})], upstream=origin)
    assert (answer.status, origin.requests) == (504, [])


@pytest.mark.parametrize(
    ("allowed", "response", "text"),
    [
        ("max-stale", "max-age=60", "#1"),
        ("max-stale=5", "max-age=60", "#1"),
        ("max-stale=4", "max-age=60", "#2"),
        ("max-stale", "max-age=60, must-revalidate", "#2"),
        ("max-stale", "max-age=60, proxy-revalidate", "#2"),
        ("max-stale", "s-maxage=60", "#2"),
        ("max-stale, max-age=60", "max-age=60", "#2"),
    ],
)
def test_max_stale(allowed: str, response: str, text: str) -> None:
    origin = Origin(Response(200, "", {"cache-control": response, "etag": '"1"'}))
    _, answer = talk([Request(), 64.0, Request(headers={"cache-control": allowed})], upstream=origin)
    assert answer.text == text


def test_head_is_answered_by_a_get() -> None:
    origin = Origin(Response(200, "text", FRESH))
    missed, _, head = talk([Request("HEAD"), Request(), Request("HEAD")], upstream=origin)
    assert [request.method for request in origin.requests] == ["HEAD", "GET"], "a HEAD is not stored"
    assert (head.status, head.body, head.headers["content-length"], head.headers["age"]) == (200, b"", "4", "0")
    assert "age" not in missed.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PURGE", "GETS"])
def test_other_methods_pass(method: str) -> None:
    origin = Origin()
    answer = talk([Request(), Request(method), Request(method)], upstream=origin)[2]
    assert (answer.text, len(origin.requests)) == ("#3", 3)


def test_a_get_with_a_body_passes() -> None:
    origin = Origin()
    talk([Request("GET", "/", {}, "a"), Request("GET", "/", {}, "b"), Request()], upstream=origin)
    assert len(origin.requests) == 3


@pytest.mark.parametrize("pair", [("/a", "/A"), ("/a?b=1", "/a?b=2"), ("/a?", "/a?b"), ("/a?b=1&c=2", "/a?c=2&b=1")])
def test_targets_differ(pair: tuple[str, str]) -> None:
    origin = Origin()
    talk([Request("GET", target) for target in pair], upstream=origin)
    assert len(origin.requests) == 2


# ---- conditions


LAST = {"last-modified": "Tue, 14 Nov 2023 22:00:00 GMT"}


@pytest.mark.parametrize(
    ("etag", "headers", "status"),
    [
        ('"1"', {"if-none-match": '"1"'}, 304),
        ('"1"', {"if-none-match": 'W/"1"'}, 304),
        ('W/"1"', {"if-none-match": '"0", "1"'}, 304),
        ('"1"', [("if-none-match", '"0"'), ("if-none-match", '"1"')], 304),
        ('"1"', {"if-none-match": "*"}, 304),
        ('"a,b"', {"if-none-match": '"a,b"'}, 304),
        ('"1"', {"if-none-match": '"2"'}, 200),
        ('"1"', {"if-none-match": "1"}, 200),
        ('"1"', {"if-none-match": '"2"', "if-modified-since": DATES[0]}, 200),
        ('"1"', {"if-modified-since": DATES[0]}, 304),
        ('"1"', {"if-modified-since": LAST["last-modified"]}, 304),
        ('"1"', {"if-modified-since": "Tue, 14 Nov 2023 21:59:59 GMT"}, 200),
        ('"1"', {"if-modified-since": "Tuesday, 14-Nov-23 22:00:00 GMT"}, 304),
        ('"1"', {"if-modified-since": "Tue Nov 14 22:00:00 2023"}, 304),
        ('"1"', {"if-modified-since": "now"}, 200),
    ],
)
def test_conditional_requests_are_answered(etag: str, headers: Fields, status: int) -> None:
    origin = Origin(Response(200, "text", {**FRESH, **LAST, "etag": etag, "content-type": "a/b", "x-a": "b"}))
    answer = talk([Request(), Request("GET", "/", headers)], upstream=origin)[1]
    assert (answer.status, len(origin.requests)) == (status, 1)
    assert (answer.headers["etag"], answer.headers["cache-control"]) == (etag, "max-age=60")
    if status == 304:
        assert answer.body == b""
        assert "content-length" not in answer.headers
        assert "content-type" not in answer.headers


def valid(**more: str) -> Callable[[Request], Response]:
    """An upstream whose response is still valid."""

    def answer(request: Request) -> Response:
        tag = '"1"' in (request.headers.get("if-none-match") or "")
        headers = {"cache-control": "max-age=60", "etag": '"1"', **LAST, "content-type": "a/b"}
        return Response(304, "", {**headers, **more}) if tag else Response(200, "text", headers)

    return answer


def test_revalidation() -> None:
    origin = Origin(valid(**{"x-new": "1", "content-type": "evil/type", "content-length-x": "1"}))
    first, second, third, fourth = talk(
        [Request(), 70.0, Request(), Request(), Request("GET", "/", {"if-none-match": '"1"'})], upstream=origin
    )
    assert [(result.status, result.text) for result in (first, second, third)] == [(200, "text")] * 3
    assert fourth.status == 304
    asked = origin.requests[1].headers
    assert (asked["if-none-match"], asked["if-modified-since"]) == ('"1"', LAST["last-modified"])
    assert (third.headers["x-new"], third.headers["content-type"], third.headers["age"]) == ("1", "a/b", "0")
    assert len(origin.requests) == 2


def test_revalidation_for_a_client_that_has_another_copy() -> None:
    origin = Origin(valid())
    asks = [Request("GET", "/", {"if-none-match": tag}) for tag in ('"1"', '"0"')]
    _, same, _, other = talk([Request(), 70.0, asks[0], 70.0, Request(), 70.0, asks[1]], upstream=origin)
    assert (same.status, other.status, other.text) == (304, 200, "text")
    assert [request.headers.get_all("if-none-match") for request in origin.requests[1:]] == [['"1"']] * 3


def test_a_304_about_another_response() -> None:
    origin = Origin(valid(etag='"2"'))
    _, broken, again = talk([Request(), 70.0, Request(), Request()], upstream=origin)
    assert (broken.status, broken.reason) == (502, "bad_response")
    assert again.text == "text"


@pytest.mark.parametrize(
    "more", [{"set-cookie": "a=b"}, {"cache-control": "private"}, {"cache-control": "no-store"}, {"vary": "*"}]
)
def test_a_304_that_forbids_storing(more: dict[str, str]) -> None:
    origin = Origin(valid(**more))
    _, second, third = talk([Request(), 70.0, Request(), Request()], upstream=origin)
    assert (second.status, second.text, second.headers.get("set-cookie")) == (200, "text", more.get("set-cookie"))
    assert "if-none-match" not in origin.requests[2].headers
    assert "set-cookie" not in third.headers


@pytest.mark.parametrize("control", ["no-cache", "max-age=0", "max-age=0, must-revalidate", 'no-cache="x-a", max-age=60'])
def test_a_response_that_is_validated_each_time(control: str) -> None:
    origin = Origin(valid(**{"cache-control": control}))
    normal, origin.answer = origin.answer, Response(200, "text", {"cache-control": control, "etag": '"1"'})

    async def check() -> None:
        world = world_of(cache(), upstream=origin)
        assert (await world.send(Request())).text == "text"
        origin.answer = normal
        for _ in range(2):
            assert (await world.send(Request())).text == "text"
        assert [request.headers.get("if-none-match") for request in origin.requests] == [None, '"1"', '"1"']

    asyncio.run(check())


def test_a_newer_response_replaces_the_stored_one() -> None:
    async def check(second: Fields, is_kept: bool) -> None:
        origin = Origin(Response(200, "", {**FRESH, "etag": '"1"'}))
        world = world_of(cache(), upstream=origin)
        await world.send(Request())
        origin.answer = Response(200, "", second)
        assert (await world.send(Request(headers={"cache-control": "no-cache"}))).text == "#2"
        assert (await world.send(Request())).text == ("#2" if is_kept else "#3")

    asyncio.run(check({**FRESH, "etag": '"2"'}, True))
    asyncio.run(check({"cache-control": "no-store"}, False))


# ---- stale responses


@pytest.mark.parametrize(
    ("control", "seconds", "text"),
    [
        ("max-age=60, stale-if-error=30", 80.0, "#1"),
        ("max-age=60, stale-if-error=30", 95.0, ""),
        ("max-age=60", 61.0, ""),
        ("max-age=60, stale-if-error=30, must-revalidate", 80.0, ""),
        ("s-maxage=60, stale-if-error=30", 80.0, ""),
        ("no-cache, stale-if-error=30", 1.0, ""),
    ],
)
@pytest.mark.parametrize("error", [500, 502, 503, 504, "connect_refused", "reset_before_response"])
def test_stale_if_error(control: str, seconds: float, text: str, error: int | str) -> None:
    async def check() -> None:
        origin = Origin(Response(200, "", {"cache-control": control, "etag": '"1"'}))
        made = cache()
        world = world_of(made, upstream=origin)
        await world.send(Request())
        await world.advance(seconds)

        def fails(request: Request) -> Response:
            if isinstance(error, str):
                raise Down(error)
            return Response(error, "the upstream's secret trace")

        origin.answer = fails
        answer = await world.send(Request())
        assert (answer.status == 200, answer.text if text else "") == (bool(text), text)
        if text:
            assert answer.reason == ""
            assert answer.headers["age"] == str(int(seconds))
        assert not made.flights

    asyncio.run(check())


def test_other_failures_are_not_answered_from_the_cache() -> None:
    class Limits(StreamFilter):
        def on_route(self, exchange: Exchange) -> Reply | None:
            return Reply(503, "no") if "x-limit" in exchange.request.headers else None

    origin = Origin(Response(200, "", {"cache-control": "max-age=60, stale-if-error=60"}))
    denied = talk([Request(), Request(headers={"x-limit": "1"})], make(Limits), cache(), upstream=origin)[1]
    assert (denied.status, denied.text) == (503, "no")
    failed = talk([Request(), 70.0, Request(headers={"cache-control": "no-cache"})], upstream=FailsLater())[1]
    assert failed.status == 503


class FailsLater(Origin):
    """Its first response may be used if others fail, which they do."""

    def __call__(self, request: Request) -> Response:
        self.answer = Response(503 if self.requests else 200, "", {"cache-control": "max-age=60, stale-if-error=60"})
        return super().__call__(request)


def lose_hosts(world: World) -> None:
    """Removes the hosts of the cluster."""
    kind = balancers().get("LB_RANDOM")
    assert kind is not None
    maker = PoolMaker(Registry("protocol"), Dialer(), TimerWheel(world.clock))
    empty = Cluster(ClusterPlan("service", ()), kind, maker, world.metrics, None)
    world._runtime.clusters.activate({"service": empty})


def test_without_hosts() -> None:
    async def check() -> None:
        origin = Origin(Response(200, "", {"cache-control": "max-age=60, stale-if-error=60"}))
        world = world_of(cache(cache_status="edge"), upstream=origin)
        await world.send(Request())
        await world.send(Request("GET", "/other", {"x-api-key": "k"}))
        lose_hosts(world)
        fresh = await world.send(Request())
        await world.advance(70.0)
        stale = await world.send(Request())
        absent = await world.send(Request("GET", "/other", {"x-api-key": "k"}))
        assert [result.status for result in (fresh, stale, absent)] == [200, 200, 502]
        assert (fresh.text, stale.text, stale.headers["cache-status"]) == ("#1", "#1", "edge; hit; ttl=-10")

    asyncio.run(check())


# ---- unsafe methods


@pytest.mark.parametrize(
    ("target", "status", "headers", "is_gone"),
    [
        ("/a", 200, {}, True),
        ("/a", 204, {}, True),
        ("/a", 303, {}, True),
        ("/a", 400, {}, False),
        ("/a", 500, {}, False),
        ("/b", 200, {}, False),
        ("/b", 201, {"location": "/a"}, True),
        ("/b", 201, {"location": "http://test.example/a"}, True),
        ("/b", 201, {"content-location": "HTTP://Test.Example/a#x"}, True),
        ("/b", 201, {"location": "//evil.example/a"}, False),
        ("/b", 201, {"location": "http://evil.example/a"}, False),
        ("/b", 201, {"location": "http://test.example.evil/a"}, False),
        ("/b", 201, {"location": "https://test.example/a"}, False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PURGE"])
def test_invalidation(method: str, target: str, status: int, headers: Fields, is_gone: bool) -> None:
    def upstream(request: Request) -> Response:
        return Response(200, "", FRESH) if request.method == "GET" else Response(status, "x", headers)

    origin = Origin(upstream)
    last = talk([Request("GET", "/a"), Request(method, target, {}, "body"), Request("GET", "/a")], upstream=origin)[2]
    assert last.text == ("#3" if is_gone else "#1")


def test_a_response_on_its_way_is_not_stored_after_a_change() -> None:
    async def check() -> None:
        gate = asyncio.Event()
        origin = Origin()

        async def upstream(request: Request) -> Response:
            made = origin(request)
            if request.method == "GET":
                await gate.wait()
            return made

        world = world_of(cache(), upstream=upstream)
        before = asyncio.create_task(world.send(Request()))
        await world.advance(0)
        await world.send(Request("POST", "/", {}, "x"))
        gate.set()
        assert (await before).text == "#1"
        assert (await world.send(Request())).text == "#3"

    asyncio.run(check())


def test_a_change_while_the_body_arrives() -> None:
    async def check() -> None:
        class Changes(StreamFilter):
            def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
                if exchange.request.method == "GET" and not changes:
                    changes.append(asyncio.create_task(world.send(Request("POST", "/", {}, "x"))))
                return None

        chunked = Response(200, [b"x"] * 500, FRESH)
        changes: list[asyncio.Task[Result]] = []
        made = cache()
        world = world_of(made, make(Changes), upstream=lambda request: chunked if request.method == "GET" else Response())
        assert len((await world.send(Request())).body) == 500
        assert changes[0].done()
        assert (len(made.store), made.store._arriving) == (0, 0)

    asyncio.run(check())


def test_other_filters_see_a_hit_as_a_response_of_the_upstream() -> None:
    class Sees(StreamFilter):
        def on_response(self, exchange: Exchange) -> None:
            exchange.response_head.headers["x-seen"] = f"{exchange.response_received > 0.0} {exchange.upstream_address}"

    first, second = talk([Request(), Request()], make(Sees), cache())
    assert (first.headers["x-seen"], second.headers["x-seen"]) == ("True service:80", "True")


# ---- truncated and large bodies


def test_incomplete_bodies_are_not_stored() -> None:
    async def check(response: Response, ends: str) -> None:
        origin = Origin(response)
        made = cache()
        world = world_of(made, Ends(ends), upstream=origin)
        await world.send(Request())
        assert (len(made.store), made.store._arriving, len(made.flights)) == (0, 0, 0)

    chunked = Response(200, ["one", "two"], FRESH)
    chunked.is_sized = False
    trailed = Response(200, ["one"], FRESH)
    trailed.trailers = headers_from({"grpc-status": "1"})
    asyncio.run(check(chunked, "reset"))
    asyncio.run(check(chunked, "early"))
    asyncio.run(check(trailed, ""))


class Ends(StreamFilter):
    """Ends a response in its middle."""

    changes_length = True

    def __init__(self, how: str) -> None:
        super().__init__(None)
        self.how = how

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        if self.how == "reset" and not last:
            raise ValueError("broken")
        if self.how == "early":
            exchange.end_response()
        return None


def test_memory_is_bounded() -> None:
    async def check() -> None:
        origin = Origin(lambda request: Response(200, "x" * int(request.query), FRESH))
        made = cache(max_bytes=30_000, max_entry_bytes=5000, cache_status="edge")
        world = world_of(made, upstream=origin)
        for number in range(20):
            await world.send(Request("GET", f"/{number}?4000"))
            assert made.store.size <= 30_000
        assert (len(made.store), made.store.evicted) == (4, 16)
        assert (await world.send(Request("GET", "/19?4000"))).headers["cache-status"].startswith("edge; hit")
        assert (await world.send(Request("GET", "/0?4000"))).headers["cache-status"] == "edge; fwd=uri-miss"
        await world.send(Request("GET", "/large?5001"))
        assert (await world.send(Request("GET", "/large?5001"))).headers["cache-status"] == "edge; fwd=uri-miss"
        big = Response(200, [b"x" * 3000, b"x" * 3000], FRESH)
        big.is_sized = False
        origin.answer = big
        await world.send(Request("GET", "/chunked?1"))
        assert made.store._arriving == 0
        assert made.store.size <= 30_000
        assert world.metrics.group("filter", ("filter", "ResponseCacheFilter")).gauge("bytes").value == made.store.size

    asyncio.run(check())


def test_responses_that_are_arriving_count() -> None:
    store = Store(10_000, 4)
    headers = headers_from({"a": "b"})
    policy = policy_of(headers_from(FRESH), WALL, 0.0, 60.0)
    assert policy is not None
    for key in (b"1", b"2"):
        store.add(key, b"target", Entry(200, headers, b"x" * 1000, (), policy, 0.0))
    assert (len(store), store.size < 7000) == (2, True)
    assert store.reserve(6000)
    assert (len(store), store.evicted) == (1, 1), "the first one made room"
    assert not store.reserve(4001)
    assert (len(store), store.size) == (0, 6000)
    store.release(6000)
    assert store.size == 0
    store.pass_by(b"3", b"target", 5.0)
    assert (store.is_passed(b"3", 4.0), store.is_passed(b"3", 5.0), store.size > 0) == (True, False, True)
    store.invalidate(b"target")
    assert store.size == 0


def test_the_least_recently_used_is_removed() -> None:
    origin = Origin(Response(200, "x" * 1000, FRESH))
    targets = ["/a", "/b", "/c", "/a", "/d", "/a", "/b"]
    talk([Request("GET", target) for target in targets], cache(max_bytes=10_000, max_entry_bytes=1000), upstream=origin)
    assert [request.path for request in origin.requests] == ["/a", "/b", "/c", "/d", "/b"]


def test_variants_are_bounded() -> None:
    made = cache(max_variants=3)
    requests: list[Request | float] = [Request(headers={"x-a": str(number)}) for number in range(10)]
    talk(requests, made, upstream=Origin(Response(200, "", {**FRESH, "vary": "x-a"})))
    assert (len(made.store), made.store.evicted) == (3, 7)


def test_max_ttl() -> None:
    assert talk([Request(), 9.0, Request(), 2.0, Request()], cache(max_ttl="10s"))[2].text == "#2"


# ---- requests that arrive together


class Gate(Origin):
    """Waits for `open` before each response."""

    def __init__(self, answer: Response | Callable[[Request], Response] | None = None) -> None:
        super().__init__(answer)
        self.gate = asyncio.Event()

    async def wait(self, request: Request) -> Response:
        made = self(request)
        await self.gate.wait()
        return made


@asynccontextmanager
async def together(
    count: int, origin: Gate, made: StreamFilter, requests: list[Request] | None = None
) -> AsyncIterator[tuple[World, list[asyncio.Task[Result]]]]:
    """Requests of which the first has reached the upstream, and the others the cache."""
    world = world_of(made, upstream=origin.wait)
    tasks = [asyncio.create_task(world.send(request)) for request in requests or [Request() for _ in range(count)]]
    await world.advance(0)
    yield world, tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_stampede_is_one_request() -> None:
    async def check() -> None:
        origin, made = Gate(), cache()
        async with together(50, origin, made) as (world, tasks):
            assert len(origin.requests) == 1
            origin.gate.set()
            results = await asyncio.gather(*tasks)
            assert {result.text for result in results} == {"#1"}
            assert (len(origin.requests), len(made.flights)) == (1, 0)
            assert world.counter("ResponseCacheFilter", "coalesced") == 49

    asyncio.run(check())


@pytest.mark.parametrize("headers", [{}, {"cache-control": "private"}, {"cache-control": "max-age=60", "set-cookie": "a=b"}])
def test_waiting_requests_do_not_get_a_response_that_is_not_for_them(headers: Fields) -> None:
    async def check() -> None:
        origin, made = Gate(Response(200, "", headers)), cache()
        async with together(5, origin, made) as (world, tasks):
            assert len(origin.requests) == 1
            origin.gate.set()
            texts = [result.text for result in await asyncio.gather(*tasks)]
            assert sorted(texts) == ["#1", "#2", "#3", "#4", "#5"]
            origin.gate.clear()
            later = [asyncio.create_task(world.send(Request())) for _ in range(3)]
            await world.advance(0)
            assert len(origin.requests) == 8, "they no longer wait for each other"
            origin.gate.set()
            await asyncio.gather(*later)

    asyncio.run(check())


def test_requests_with_credentials_do_not_wait() -> None:
    async def check(headers: dict[str, str]) -> None:
        origin = Gate()
        async with together(0, origin, cache(), [Request(headers=headers) for _ in range(3)]):
            assert len(origin.requests) == 3

    for headers in ({"authorization": "a"}, {"x-api-key": "a"}, {"cookie": "a=b"}, {"cache-control": "no-cache"}):
        asyncio.run(check(headers))


def test_variants_are_coalesced_separately() -> None:
    async def check() -> None:
        origin = Gate(lambda request: Response(200, request.headers["x-a"], {**FRESH, "vary": "x-a"}))
        requests = [Request(headers={"x-a": name}) for name in ("a", "b", "b", "c", "c", "c", "a")]
        async with together(0, origin, cache(), requests) as (_, tasks):
            origin.gate.set()
            assert [result.text for result in await asyncio.gather(*tasks)] == ["a", "b", "b", "c", "c", "c", "a"]
            assert sorted(request.headers["x-a"] for request in origin.requests) == ["a", "b", "c"]

    asyncio.run(check())


def test_the_next_one_leads_when_the_leader_fails() -> None:
    async def check() -> None:
        def fails_once(request: Request) -> Response:
            return Response(200, "", FRESH)

        origin, made = Gate(fails_once), cache()
        first = True

        async def upstream(request: Request) -> Response:
            nonlocal first
            made_response = await origin.wait(request)
            if first:
                first = False
                raise Down("reset_before_response")
            return made_response

        world = world_of(made, upstream=upstream)
        tasks = [asyncio.create_task(world.send(Request("GET", "/", {"x-n": str(n)}))) for n in range(4)]
        await world.advance(0)
        origin.gate.set()
        results = await asyncio.gather(*tasks)
        assert [result.status for result in results].count(200) == 3
        assert len({result.text for result in results if result.status == 200}) == 1
        assert not made.flights

    asyncio.run(check())


def test_flights_hand_over_when_a_client_leaves() -> None:
    """The leader's client, one that waits, and one that was just told to lead."""

    async def check() -> None:
        flights = Flights()
        deadline = asyncio.get_running_loop().time() + 5.0
        flight = flights.join(b"k", (), "first")
        waiting = {}
        for name in ("second", "third", "fourth"):
            assert flights.join(b"k", (), name) is flight
            waiting[name] = asyncio.create_task(flights.wait(flight, name, deadline))
        await asyncio.sleep(0)
        waiting["second"].cancel()
        await asyncio.sleep(0)
        flights.leave(flight, "second")
        flights.leave(flight, "first")
        assert flight.leader == "third"
        waiting["third"].cancel()  # before it could run
        flights.leave(flight, "third")
        assert flight.leader == "fourth"
        assert await waiting["fourth"] == LEAD
        fifth = asyncio.create_task(flights.wait(flight, "fifth", deadline))
        await asyncio.sleep(0)
        flights.land(flight, "first")
        assert not fifth.done(), "it no longer leads"
        flights.land(flight, "fourth")
        assert (await fifth, len(flights)) == (AGAIN, 0)

    asyncio.run(check())


def test_a_slow_leader_delays_others_for_a_limited_time() -> None:
    async def check() -> None:
        origin, made = Gate(), cache(wait="50ms")
        async with together(3, origin, made) as (world, tasks):
            async with asyncio.timeout(5):
                while len(origin.requests) < 3:
                    await asyncio.sleep(0.005)
            origin.gate.set()
            await asyncio.gather(*tasks)
            assert (await world.send(Request())).text in ("#1", "#2", "#3")
            assert not made.flights

    asyncio.run(check())


def test_stale_while_revalidate() -> None:
    async def check(control: str, seconds: float, is_stale: bool) -> None:
        origin = Gate(Response(200, "", {"cache-control": control, "etag": '"1"'}))
        origin.gate.set()
        world = world_of(cache(), upstream=origin.wait)
        await world.send(Request())
        await world.advance(seconds)
        origin.gate.clear()
        leader = asyncio.create_task(world.send(Request()))
        await world.advance(0)
        other = asyncio.create_task(world.send(Request()))
        await world.advance(0)
        assert other.done() == is_stale
        assert len(origin.requests) == 2
        origin.gate.set()
        assert (await leader).text == "#2"
        assert (await other).text == ("#1" if is_stale else "#2")

    asyncio.run(check("max-age=60, stale-while-revalidate=30", 80.0, True))
    asyncio.run(check("max-age=60, stale-while-revalidate=30", 100.0, False))
    asyncio.run(check("max-age=60, stale-while-revalidate=30, must-revalidate", 80.0, False))


def test_without_coalescing() -> None:
    async def check() -> None:
        origin = Gate()
        async with together(3, origin, cache(wait=0)):
            assert len(origin.requests) == 3

    asyncio.run(check())


# ---- Cache-Status, settings


def test_cache_status() -> None:
    origin = Origin(Response(200, "", {**FRESH, "vary": "x-a", "cache-status": "inner; hit"}))
    requests: list[Request | float] = [
        Request(),
        Request(),
        Request(headers={"x-a": "1"}),
        Request(headers={"cache-control": "no-cache"}),
        Request(headers={"range": "bytes=0-1"}),
        70.0,
        Request(),
    ]
    results = talk(requests, cache(cache_status="edge"), upstream=origin)
    assert [result.headers.get_all("cache-status")[1:] for result in results] == [
        ["edge; fwd=uri-miss"],
        ["edge; hit; ttl=60"],
        ["edge; fwd=vary-miss"],
        ["edge; fwd=request"],
        ["edge; fwd=bypass"],
        ["edge; fwd=stale"],
    ]
    assert "cache-status" not in talk([Request()])[0].headers


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"max_bytes": 10, "max_entry_bytes": 11}, ".max_entry_bytes: must not be greater than max_bytes"),
        ({"max_ttl": "0s"}, ".max_ttl: must be greater than 0"),
        ({"key_headers": ["a b"]}, ".key_headers[0]: not a header name: 'a b'"),
        ({"identity_headers": [""]}, ".identity_headers[0]: the name of a header is missing"),
        ({"ignored_cookies": ["a=b"]}, ".ignored_cookies[0]: not the name of a cookie: 'a=b'"),
        ({"cache_status": "my cache"}, ".cache_status: must be a token, not 'my cache'"),
    ],
)
def test_invalid_settings(config: dict[str, Any], problem: str) -> None:
    assert problems("response_cache", config) == [problem]
