"""Paths that routes and filters make: what upstreams get, what is refused, and who sees which path (docs/paths.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit import OK, Start
from tests.kit import bolt_frames as bolt
from tests.kit.options import http1_policy, http_options

from pymosn.api import Exchange, RefusedPath, Reply, StreamFilter, Transcoder
from pymosn.api.http import HttpRequest
from pymosn.api.network import NO_CONNECTION
from pymosn.api.routing import Route
from pymosn.api.rpc import RpcRequest
from pymosn.api.stream_filter import FilterContext
from pymosn.assembly.routes import build_table
from pymosn.config.schema import RouterConfiguration
from pymosn.config.typed import typed
from pymosn.core.headers import HeaderError
from pymosn.core.log import Log
from pymosn.core.message import CONNECT, RequestHead
from pymosn.core.uri import DECODE_SLASHES, REFUSE_SLASHES, normalize_path
from pymosn.filters.stream.rbac import RbacFilter
from pymosn.filters.stream.rbac import Settings as RbacSettings
from pymosn.protocol.dubbo.calls import make_call
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.routing.actions import Forward, ForwardOptions, Mirror, Redirect, RetryPolicy
from pymosn.routing.changes import ChangeLevel, HeaderAddition, LevelChanges
from pymosn.routing.matchers import AnyRequest, Prefix
from pymosn.routing.rewrites import PathRewrite, PrefixRewrite, RegexRewrite, RequestChanges
from pymosn.stream.http.options import HttpOptions

pytestmark = pytest.mark.also_h2

PAGE = Path(__file__).parents[2] / "docs" / "paths.md"
SITE = PrefixRewrite(b"/public", "/site/")
OTHER = "10.0.1.1:80"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def to_service(rewrite: PathRewrite | None, **options: Any) -> list[Route]:
    changes = None if rewrite is None else RequestChanges(path=rewrite)
    return [Route("all", AnyRequest(), Forward("service", 60.0, ForwardOptions(changes=changes, **options)))]


def outcome(start: Start, path: str, http1: HttpOptions | None = None, **options: Any) -> str | None:
    """The path that the upstream gets for a request; None if the client gets a 400 and no upstream anything."""
    talk = start(http1=http1, **options)
    client = talk.connect()
    client.sends(get(path))
    if not talk.dials:
        assert client.takes().startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert talk.reasons() == ["bad_rewrite"]
        return None
    upstream = talk.expect_dial()
    sent = upstream.takes().split(b" ")[1].decode()
    upstream.sends(OK)
    client.receives(OK)
    assert talk.reasons() == ["ok"]
    return sent


# ---- what routes make

COMPATIBLE = http_options(policy=http1_policy(is_strict=False))
WITH_SLASHES = http_options(policy=http1_policy(merges_slashes=False))
DECODING = http_options(policy=http1_policy(slashes=int(DECODE_SLASHES)))
REFUSING = http_options(policy=http1_policy(slashes=int(REFUSE_SLASHES)))
#: Removes every `x`.
REMOVES = RegexRewrite("x", "")

REWRITES = [
    # a part is joined to the replacement
    ("/public/a", SITE, "/site/a"),
    ("/public../admin/x", SITE, None),
    ("/public%2e%2e/admin/x", SITE, None),
    ("/public.%2E/admin/x", SITE, None),
    ("/public..", SITE, None),
    ("/public..;a/admin", SITE, None),
    ("/public..%2fadmin", SITE, None),
    ("/public..%5cadmin", SITE, None),
    ("/public;..%2fadmin", PrefixRewrite(b"/public;", "/site/"), None),
    ("/public.;a/admin", SITE, None),
    ("/public./a", SITE, "/site/a"),
    ("/public.../a", SITE, "/site/.../a"),
    ("/public%252e%252e/a", SITE, "/site/%252e%252e/a"),
    ("/public../a", PrefixRewrite(b"/public", "/site"), "/site../a"),
    ("/public/../x", PrefixRewrite(b"/", "/site/"), "/site/x"),
    ("/a./b", PrefixRewrite(b"/a.", "/site/."), "/site/b"),
    ("/a../b", PrefixRewrite(b"/a.", "/site/."), None),
    ("/a..b", PrefixRewrite(b"/a.", "/site/"), "/site/.b"),
    ("/a./b", PrefixRewrite(b"/a", "/site."), "/site../b"),
    ("/public/a", PrefixRewrite(b"/public/", "/site"), "/sitea"),
    ("/public//a", SITE, "/site/a"),
    ("/public", PrefixRewrite(b"/public", "/"), "/"),
    ("/public", PrefixRewrite(b"", "/whole"), "/whole"),
    ("/public", PrefixRewrite(b"", "bare"), "/bare"),
    ("/p%2Fx", PrefixRewrite(b"/p%", "/site/"), "/site/2Fx"),
    ("/p%2Fx", PrefixRewrite(b"/p%2F", "/site/%"), None),
    ("/p%252e./admin", PrefixRewrite(b"/p%25", "/site/%"), None),
    # an expression removes, moves or joins parts
    ("/a.x./b", REMOVES, "/a../b"),
    ("/a%5c.x.%5cb", REMOVES, None),
    ("/a%2f.x.%2fb", REMOVES, None),
    ("/a/.x./b", REMOVES, None),
    ("/a/.x/b", REMOVES, "/a/b"),
    ("/a/.x.;c/b", REMOVES, None),
    ("/a/%25x2e/b", REMOVES, "/a/%252e/b"),
    ("/a/%252e./b", RegexRewrite("%25", "%"), None),
    ("/x", REMOVES, "/"),
    ("/xx/x", REMOVES, "/"),
    ("/in/../b", RegexRewrite("^/in/(.*)$", "/${1}"), "/b"),
    ("/in/..x/b", RegexRewrite("^/in/([^x]*)x", "/out/${1}"), None),
    ("/in/%2E%2Ex/b", RegexRewrite("^/in/([^x]*)x", "/out/${1}"), None),
    ("/in/a.b/c", RegexRewrite("^/in/a(.)b", "/out/${1}${1}"), None),
    ("/in/a", RegexRewrite("^/in/(.*)$", "/${1}?q#f"), "/a%3Fq%23f"),
    ("/in/a", RegexRewrite("^/in/(.*)$", "/${1}\n"), None),
    ("/in/a", RegexRewrite("^/in/(.*)$", "/..\\\\${1}"), None),
    ("/in/a", RegexRewrite("^/in/(.*)$", "http://else/${1}"), "/http:/else/a"),
]


@pytest.mark.parametrize(("path", "rewrite", "sent"), REWRITES)
def test_what_a_route_makes_of_a_path(start: Start, path: str, rewrite: PathRewrite, sent: str | None) -> None:
    found = outcome(start, path, routes=to_service(rewrite))
    assert found == sent
    if found is not None:
        assert normalize_path(found.encode()) == found.encode()


@pytest.mark.parametrize(
    ("path", "http1", "sent"),
    [
        ("/public/a//b", WITH_SLASHES, "/site//a//b"),
        ("/public../admin", WITH_SLASHES, None),
        ("/public/..;a/b", COMPATIBLE, "/site/..;a/b"),
        ("/public..;a/b", COMPATIBLE, None),
        ("/public..;a/..;a/b", COMPATIBLE, "/site/..;a/..;a/b"),
        ("/public../admin", COMPATIBLE, None),
        ("/public%2e./admin", COMPATIBLE, None),
        ("/public%zz", COMPATIBLE, "/site/%25zz"),
        ("/public..%2Fadmin", DECODING, None),
        ("/public%2Fa", DECODING, "/site/a"),
        ("/public/a", REFUSING, "/site/a"),
    ],
)
def test_what_a_listener_keeps_is_kept_after_a_rewrite(
    start: Start, path: str, http1: HttpOptions, sent: str | None
) -> None:
    assert outcome(start, path, http1, routes=to_service(SITE)) == sent


@pytest.mark.parametrize(
    ("http1", "sent"), [(None, "/a%2Fb"), (DECODING, "/a/b"), (REFUSING, None), (WITH_SLASHES, "/a%2Fb")]
)
def test_a_slash_that_a_rewrite_makes(start: Start, http1: HttpOptions | None, sent: str | None) -> None:
    assert outcome(start, "/in/b", http1, routes=to_service(PrefixRewrite(b"/in/", "/a%2f"))) == sent


def test_a_request_about_the_whole_server_is_not_rewritten(start: Start) -> None:
    ask = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
    talk = start(routes=to_service(RegexRewrite(".*", "/other")))
    client, upstream = talk.forwarded(ask)
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.http1_only("CONNECT")
def test_a_connect_has_no_path_to_rewrite(start: Start) -> None:
    talk = start(http1=http_options(connect=CONNECT), routes=to_service(PrefixRewrite(b"/", "/site/")))
    _, upstream = talk.opening(b"CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n")
    upstream.receives(b"CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n")


def test_an_upgrade_has_one(start: Start) -> None:
    ask = b"GET /public../x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    talk = start(routes=to_service(SITE))
    client = talk.connect()
    client.sends(ask)
    talk.expect_no_dial()
    assert client.takes().startswith(b"HTTP/1.1 400 ")


class Paths(StreamFilter):
    """Notes the path in every phase."""

    def __init__(self) -> None:
        super().__init__({})
        self.seen: list[tuple[str, str]] = []

    def on_request(self, exchange: Exchange) -> None:
        self.seen.append(("request", exchange.request.path))

    def on_route(self, exchange: Exchange) -> None:
        self.seen.append(("route", exchange.request.path))

    def on_host(self, exchange: Exchange) -> None:
        self.seen.append(("host", exchange.request.path))

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        if last:
            self.seen.append(("body", exchange.request.path))

    def on_response(self, exchange: Exchange) -> None:
        self.seen.append(("response", exchange.request.path))

    def on_complete(self, exchange: Exchange) -> None:
        self.seen.append(("complete", exchange.request.path))


def test_who_sees_which_path(start: Start) -> None:
    header = LevelChanges([ChangeLevel([HeaderAddition("x-path", "%x-mosn-path%", False)], [])])
    changes = RequestChanges(header, PrefixRewrite(b"/a", "/a/a"))
    options = ForwardOptions(changes=changes, retry_policy=RetryPolicy(True, 1, non_idempotent=True))
    paths = Paths()
    talk = start(
        routes=[Route("all", AnyRequest(), Forward("service", 60.0, options))],
        hosts=["10.0.0.1:80", "10.0.0.2:80"],
        filters={"paths": paths},
    )
    client, first = talk.opening(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", address="10.0.0.1:80")
    first.takes()
    first.resets()
    assert not talk.dials, "the body has passed filters, so that it is not sent again"
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    sent = "/a/a"
    assert paths.seen == [
        *[("request", "/a"), ("route", "/a"), ("host", sent), ("body", sent)],
        *[("response", sent), ("complete", sent)],
    ]
    (exchange,) = talk.outcomes.exchanges
    names = ("x-mosn-path", "x-mosn-path-original", "request_path")
    assert [exchange.variable(name) for name in names] == [sent, "/a", "/a"]
    fields = exchange.request.headers
    assert (fields["x-path"], fields["x-mosn-original-path"]) == ("/a", "/a")


def test_a_retry_does_not_rewrite_again(start: Start) -> None:
    class OnHost(StreamFilter):
        def __init__(self) -> None:
            super().__init__({})
            self.seen: list[str] = []

        def on_host(self, exchange: Exchange) -> None:
            self.seen.append(exchange.request.path)

    seen = OnHost()
    talk = start(
        routes=to_service(PrefixRewrite(b"/a", "/a/a"), retry_policy=RetryPolicy(True, 2)),
        hosts=["10.0.0.1:80", "10.0.0.2:80"],
        filters={"seen": seen},
    )
    client, first = talk.opening(get("/a"), address="10.0.0.1:80")
    asked = first.takes()
    assert asked.startswith(b"GET /a/a HTTP/1.1\r\n")
    first.resets()
    second = talk.expect_dial("10.0.0.2:80")
    second.receives(asked)
    second.sends(OK)
    client.receives(OK)
    assert seen.seen == ["/a/a", "/a/a"]


def test_copies_get_the_rewritten_path(start: Start) -> None:
    talk = start(routes=to_service(SITE, mirrors=[Mirror("other", 100)]))
    client, upstream = talk.opening(get("/public/x"))
    asked = upstream.takes()
    assert asked.startswith(b"GET /site/x HTTP/1.1\r\n")
    other = talk.expect_dial(OTHER)
    other.receives(asked)
    other.sends(OK)
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.parametrize("broadcast", ["false", "true"])
def test_a_path_that_climbs_is_not_copied(start: Start, broadcast: str) -> None:
    wishes = Sets("on_request", lambda exchange: exchange.set_variable("mirror_broadcast", broadcast))
    talk = start(routes=to_service(SITE, mirrors=[Mirror("other", 100)]), filters={"wishes": wishes})
    client = talk.connect()
    client.sends(get("/public../x"))
    talk.expect_no_dial()
    assert client.takes().startswith(b"HTTP/1.1 400 ")
    assert talk.mirror_counters() == {}


def test_copies_in_place_of_the_request_are_rewritten_too(start: Start) -> None:
    wishes = Sets("on_request", lambda exchange: exchange.set_variable("mirror_broadcast", "true"))
    talk = start(routes=to_service(SITE, mirrors=[Mirror("other", 100)]), filters={"wishes": wishes})
    client, copy = talk.opening(get("/public/x"), address=OTHER)
    assert copy.takes().startswith(b"GET /site/x HTTP/1.1\r\n")
    copy.sends(OK)
    assert client.takes().startswith(b"HTTP/1.1 200 ")


def test_a_transcoder_and_the_body_filters_before_it_read_the_rewritten_path(start: Start) -> None:
    class ToDubbo(Transcoder):
        upstream_protocol = "dubbo"

        def request(self, exchange: Exchange, body: bytes) -> RpcRequest | Reply:
            return Reply(200, exchange.request.path)

    paths = Paths()
    filters = {"paths": paths, "transcoder": ToDubbo({})}
    talk = start(http1=WITH_SLASHES, routes=to_service(SITE, upstream_protocol="dubbo"), filters=filters)
    client = talk.connect()
    client.sends(b"POST /public/a//b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    assert client.takes().endswith(b"\r\n\r\n/site//a//b")
    assert ("body", "/site//a//b") in paths.seen
    client.sends(get("/public../a"))
    assert client.takes().startswith(b"HTTP/1.1 400 ")
    assert talk.reasons() == ["ok", "bad_rewrite"]


@pytest.mark.http1_only("another protocol", "h1-h2", "h2-h2")
def test_a_transcoded_call_is_not_rewritten(start: Start) -> None:
    class ToDubbo(Transcoder):
        upstream_protocol = "dubbo"

        def request(self, exchange: Exchange, body: bytes) -> RpcRequest | Reply:
            return make_call(exchange.request.path.strip("/"), "m", "", [])

    host = Sets("on_host", lambda exchange: exchange.set_variable("seen", exchange.request.path))
    routes = to_service(PrefixRewrite(b"/a", "/a/a"), upstream_protocol="dubbo")
    talk = start(routes=routes, filters={"host": host, "transcoder": ToDubbo({})})
    _, upstream = talk.opening(get("/a/S"))
    assert b"a/a/S" in upstream.takes()
    assert host.exchange is not None
    assert host.exchange.variable("seen") == "/a/a/S"


@pytest.mark.http1_only("another protocol")
def test_an_rpc_request_without_a_path_is_not_rewritten(start: Start) -> None:
    talk = start(protocols=("bolt",), routes=to_service(RegexRewrite("^", "/..")))
    client, upstream = talk.forwarded(bolt.request(1, b"x"))
    upstream.sends(bolt.response(1, b"y"))
    client.receives(bolt.response(1, b"y"))


@pytest.mark.http1_only("another protocol")
def test_a_path_that_a_filter_gave_an_rpc_request(start: Start) -> None:
    sets = Sets("on_request", lambda exchange: setattr(exchange.request, "path", "/public.."))
    talk = start(protocols=("bolt",), routes=to_service(SITE), filters={"sets": sets})
    client = talk.connect()
    client.sends(bolt.request(1, b"x"))
    talk.expect_no_dial()
    assert client.takes()
    assert talk.reasons() == ["bad_rewrite"]


@pytest.mark.parametrize("phase", ["on_request", "on_route"])
def test_a_prefix_is_replaced_only_where_it_is(start: Start, phase: str) -> None:
    """A filter may set another path after the match, or choose the route by its name."""

    def change(exchange: Exchange) -> None:
        exchange.choose(route="other")
        exchange.request.path = "/elsewhere/x"

    other = Route("other", Prefix("/other"), to_service(PrefixRewrite(b"/other", "/site"))[0].action)
    first = to_service(PrefixRewrite(b"/public", "/site"))
    assert outcome(start, "/public/x", routes=[*first, other], filters={"sets": Sets(phase, change)}) == "/elsewhere/x"


def test_an_rbac_filter_guards_the_paths_of_upstreams(start: Start) -> None:
    policy = {"permissions": [{"url_path": {"path": {"prefix": "/admin"}}}], "principals": [{"any": True}]}
    settings = typed({"rules": {"action": "DENY", "policies": {"no": policy}}}, RbacSettings)
    talk = start(routes=to_service(SITE), filters={"rbac": RbacFilter(settings)})
    client = talk.connect()
    client.sends(get("/admin/x"))
    assert client.takes().startswith(b"HTTP/1.1 403 ")
    client.sends(get("/public../admin/x"))
    assert client.takes().startswith(b"HTTP/1.1 400 ")
    talk.expect_no_dial()


# ---- the page


def rows(title: str) -> list[list[str]]:
    """The code in the cells of the table below a title of docs/paths.md, without its head."""
    section = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(lines) > 10
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("path", "match", "rewrite", "sent"), rows("Rewrites of routes"))
def test_rewrites_of_the_page(start: Start, path: str, match: str, rewrite: str, sent: str) -> None:
    key, _, value = rewrite.partition(": ")
    pattern, _, substitution = value.partition(" to")
    expression = {"pattern": {"regex": pattern}, "substitution": substitution.removeprefix(" ")}
    action = {"cluster_name": "service", key: value if key == "prefix_rewrite" else expression}
    host = {"name": "v", "domains": ["*"], "routers": [{"match": {"prefix": match}, "route": action}]}
    config = msgspec.convert({"router_config_name": "t", "virtual_hosts": [host]}, RouterConfiguration)
    assert outcome(start, path, table=build_table(config)) == (None if sent == "400" else sent)


@pytest.mark.parametrize(("path", "then"), rows("Paths that filters set"))
def test_settings_of_the_page(path: str, then: str) -> None:
    head = HttpRequest()
    head.path = "/before"
    errors = {"RefusedPath": RefusedPath, "HeaderError": HeaderError}
    if then in errors:
        with pytest.raises(errors[then]):
            head.path = path
    else:
        head.path = path
        assert head.path == then


# ---- redirects


@pytest.mark.http1_only("HTTP/1.0")
@pytest.mark.parametrize(
    ("request_line", "location"),
    [
        (b"GET //else.example/x HTTP/1.0", b"/.//else.example/x"),
        (b"GET /a//b HTTP/1.0", b"/a//b"),
        (b"GET //else.example/x HTTP/1.1\r\nHost: a", b"http://a//else.example/x"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a", b"http://a/"),
    ],
)
def test_a_redirect_stays_on_its_host(start: Start, request_line: bytes, location: bytes) -> None:
    talk = start(http1=WITH_SLASHES, routes=[Route("r", AnyRequest(), Redirect(302, "", "", ""))])
    client = talk.connect()
    client.sends(request_line + b"\r\n\r\n")
    assert b"\r\nlocation: " + location + b"\r\n" in client.takes()


# ---- what filters make


class Sets(StreamFilter):
    """Does something in one phase."""

    def __init__(self, phase: str, act: Callable[[Exchange], object], on_error: str = "fail") -> None:
        super().__init__({})
        self.on_error = on_error
        self._phase = phase
        self._act = act
        self.exchange: Exchange | None = None

    def _do(self, phase: str, exchange: Exchange) -> None:
        if phase == self._phase:
            self.exchange = exchange
            self._act(exchange)

    def on_request(self, exchange: Exchange) -> None:
        self._do("on_request", exchange)

    def on_route(self, exchange: Exchange) -> None:
        self._do("on_route", exchange)

    def on_host(self, exchange: Exchange) -> None:
        self._do("on_host", exchange)


class SetsLater(StreamFilter):
    """Sets a path after a wait."""

    def __init__(self, path: str) -> None:
        super().__init__({})
        self._path = path

    async def on_request(self, exchange: Exchange) -> None:
        await asyncio.sleep(0)
        exchange.request.path = self._path


def setting(path: str, phase: str = "on_request", on_error: str = "fail") -> dict[str, StreamFilter]:
    return {"sets": Sets(phase, lambda exchange: setattr(exchange.request, "path", path), on_error)}


SET = [
    ("/plain/path", "/plain/path"),
    ("/a//b", "/a/b"),
    ("/a/./b/.", "/a/b/"),
    ("/%61%2f%7e", "/a%2F~"),
    ("/.well-known/x", "/.well-known/x"),
    ("/a...b/..c", "/a...b/..c"),
    ("/a/%252e%252e", "/a/%252e%252e"),
    ("/a/../b", None),
    ("/a/%2e%2E/b", None),
    ("/a/.%2e", None),
    ("/..", None),
    ("/a/..;x/b", None),
    ("/a/..%2fb", None),
    ("/a/%5c../b", None),
    ("/a/.;/b", None),
    ("/%zz", None),
    ("/%4", None),
    ("/%0d%0a", None),
    ("/%00", None),
]


@pytest.mark.parametrize("phase", ["on_request", "on_route", "on_host"])
@pytest.mark.parametrize(("path", "sent"), SET)
def test_what_a_filter_sets(start: Start, path: str, sent: str | None, phase: str) -> None:
    assert outcome(start, "/old", filters=setting(path, phase)) == sent


@pytest.mark.parametrize(("path", "sent"), [("/a//b", "/a/b"), ("/a/../b", None)])
def test_what_an_async_filter_sets(start: Start, path: str, sent: str | None) -> None:
    assert outcome(start, "/old", filters={"sets": SetsLater(path)}) == sent


@pytest.mark.parametrize("phase", ["on_request", "on_route", "on_host"])
def test_a_path_that_climbs_is_400_whatever_on_error_is(start: Start, phase: str) -> None:
    assert outcome(start, "/old", filters=setting("/a/../admin", phase, "skip")) is None


def test_a_filter_may_catch_it(start: Start) -> None:
    def tries(exchange: Exchange) -> None:
        with pytest.raises(RefusedPath):
            exchange.request.path = "/a/../b"
        exchange.request.path = "/safe"

    assert outcome(start, "/old", filters={"sets": Sets("on_request", tries)}) == "/safe"


@pytest.mark.parametrize("path", ["", "a", "*", "/a?b", "/a#b", "/a b", "/a\r\nX: y", "/a\\b", "/é", "/\0", "http://a/b"])
def test_what_is_no_path_is_an_error_of_the_filter(start: Start, path: str) -> None:
    talk = start(filters=setting(path))
    client = talk.connect()
    client.sends(get("/old"))
    talk.expect_no_dial()
    assert client.takes().startswith(b"HTTP/1.1 500 ")
    assert talk.reasons() == ["filter_error"]
    with pytest.raises(HeaderError):
        HttpRequest().path = path


@pytest.mark.parametrize(
    ("path", "http1", "sent"),
    [
        ("/a//b", WITH_SLASHES, "/a//b"),
        ("/a/%2Fb", DECODING, "/a/b"),
        ("/a%2F..", DECODING, None),
        ("/a%2fb", REFUSING, None),
        ("/a/%zz", COMPATIBLE, "/a/%25zz"),
        ("/a/..;x", COMPATIBLE, None),
        ("/old/..;o/x", COMPATIBLE, "/old/..;o/x"),
        ("/a/..", COMPATIBLE, None),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_filters_follow_the_policy_of_the_listener(
    start: Start, path: str, http1: HttpOptions, sent: str | None, waits: bool
) -> None:
    filters = {"sets": SetsLater(path)} if waits else setting(path)
    received = "/old/..;o/x" if http1 is COMPATIBLE else "/old"
    assert outcome(start, received, http1, filters=filters) == sent


def test_a_plain_filter_cannot_read_bodies_under_any_policy(start: Start) -> None:
    def reads(exchange: Exchange) -> None:
        with pytest.raises(RuntimeError, match="async"):
            exchange.request.read()

    assert outcome(start, "/a//b", WITH_SLASHES, filters={"sets": Sets("on_request", reads)}) == "/a//b"


def test_everybody_after_a_filter_sees_what_it_set(start: Start) -> None:
    paths = Paths()
    routes = [
        Route("wrong", Prefix("/old"), Forward("other", 60.0)),
        Route("right", Prefix("/b/c"), to_service(PrefixRewrite(b"/b", "/d"))[0].action),
    ]
    assert outcome(start, "/old", routes=routes, filters={**setting("/b//%63"), "paths": paths}) == "/d/c"
    assert [path for _, path in paths.seen[:3]] == ["/b/c", "/b/c", "/d/c"]


def test_a_guard_after_a_filter_judges_what_is_sent(start: Start) -> None:
    policy = {"permissions": [{"url_path": {"path": {"prefix": "/admin"}}}], "principals": [{"any": True}]}
    settings = typed({"rules": {"action": "DENY", "policies": {"no": policy}}}, RbacSettings)
    talk = start(filters={**setting("/.//%61dmin/x"), "rbac": RbacFilter(settings)})
    client = talk.connect()
    client.sends(get("/old"))
    assert client.takes().startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("x-mosn-path", "/a/../b", RefusedPath),
        ("x-mosn-path", "/a?b", HeaderError),
        ("x-mosn-querystring", "a#b", HeaderError),
        ("x-mosn-querystring", "a b", HeaderError),
        ("x-mosn-querystring", "a\r\nX: y", HeaderError),
        ("x-mosn-querystring", "é=1", HeaderError),
        ("x-mosn-host", "a/b", HeaderError),
        ("x-mosn-host", "a:b:c", HeaderError),
        ("x-mosn-host", "a:99999", HeaderError),
        ("x-mosn-host", "[x", HeaderError),
        ("x-mosn-host", "", HeaderError),
        ("x-mosn-scheme", "http\r\nX: y", ValueError),
        ("x-mosn-path-original", "/a", ValueError),
        ("request_path", "/a", ValueError),
        ("request_uri", "/a", ValueError),
    ],
)
def test_variables_set_no_more_than_attributes(name: str, value: str, error: type[Exception]) -> None:
    exchange = Exchange(NO_CONNECTION)
    exchange.request = HttpRequest()
    with pytest.raises(error):
        exchange.set_variable(name, value)


@pytest.mark.parametrize("name", [":path", ":authority", ":method"])
def test_there_are_no_pseudo_fields(name: str) -> None:
    head: RequestHead = HttpRequest()
    with pytest.raises(HeaderError):
        head.headers[name] = "/x"


def test_a_client_does_not_write_the_original_path(start: Start) -> None:
    talk = start()
    ask = b"GET /a HTTP/1.1\r\nHost: a\r\nX-Mosn-Original-Path: /b\r\nX-Mosn-Path: /c\r\nX-Original-URL: /d\r\n\r\n"
    talk.forwarded(ask, b"GET /a HTTP/1.1\r\nHost: a\r\nX-Original-URL: /d\r\n\r\n")


# ---- subrequests


class Asks(StreamFilter):
    """Makes a subrequest with a path of the client's words."""

    async def on_request(self, exchange: Exchange) -> None:
        await self.clusters["other"].get("/users/" + exchange.request.headers["user"])


@pytest.mark.parametrize(
    ("user", "asked"),
    [
        ("eve", b"/users/eve"),
        ("a//b?c=../d", b"/users/a//b?c=../d"),
        ("../admin", None),
        ("%2e%2E/admin", None),
        ("..%2fadmin", None),
        ("..;/admin", None),
    ],
)
def test_paths_of_subrequests(start: Start, user: str, asked: bytes | None) -> None:
    asks = Asks({})
    talk = start(filters={"asks": asks})
    asks.context = FilterContext("asks", Log(), ClusterClients(talk.runtime))
    client = talk.connect()
    client.sends(f"GET / HTTP/1.1\r\nHost: a\r\nUser: {user}\r\n\r\n".encode())
    if asked is None:
        talk.expect_no_dial()
        assert client.takes().startswith(b"HTTP/1.1 400 ")
        assert talk.reasons() == ["bad_rewrite"]
    else:
        other = talk.expect_dial(OTHER)
        assert other.takes().split(b" ")[1] == asked
        other.sends(OK)
        upstream = talk.expect_dial()
        upstream.takes()
        upstream.sends(OK)
        client.receives(OK)
