"""What routes change: paths, hosts, header fields, cookies, times; and where variables lead."""

import msgspec
import pytest
from tests.kit import DATE, OK, Start

from pymosn.api import Exchange, StreamFilter
from pymosn.api.routing import Route
from pymosn.assembly.routes import build_table
from pymosn.config.schema import RouterConfiguration
from pymosn.routing.actions import Forward, ForwardByHeader, ForwardOptions, Target, asked_timeouts
from pymosn.routing.hashing import NO_HASH, HashCookie, HashHeader, HashSourceIp, hash_value
from pymosn.routing.matchers import AnyRequest, Prefix
from pymosn.routing.rewrites import PrefixRewrite, RequestChanges
from pymosn.routing.table import RouteTable

pytestmark = pytest.mark.also_h2


def table(*routes: dict[str, object], **level: object) -> RouteTable:
    host = {"name": "v", "domains": ["*"], "routers": list(routes)}
    return build_table(msgspec.convert({"router_config_name": "t", "virtual_hosts": [host], **level}, RouterConfiguration))


def to_service(**action: object) -> dict[str, object]:
    return {"route": {"cluster_name": "service", **action}}


def add(name: str, value: str, append: bool = True) -> dict[str, object]:
    return {"header": {"key": name, "value": value}, "append": append}


def test_a_rewritten_request(start: Start) -> None:
    route = {"match": {"prefix": "/api/"}, **to_service(prefix_rewrite="/", host_rewrite="inner")}
    talk = start(table=table(route, request_headers_to_add=[add("x-from", "%downstream_remote_ip%")]))
    client, upstream = talk.opening(b"GET /api/x?q=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.receives(b"GET /x?q=1 HTTP/1.1\r\nHost: inner\r\nx-from: 192.0.2.7\r\nx-mosn-original-path: /api/x\r\n\r\n")
    upstream.sends(OK)
    client.receives(OK)
    exchange = talk.outcomes.exchanges[0]
    assert (exchange.variable("request_path"), exchange.variable("x-mosn-path")) == ("/api/x", "/x")
    assert (exchange.variable("request_host"), exchange.variable("authority")) == ("a", "inner")


def test_changes_of_replies(start: Start) -> None:
    made = table(
        {"match": {"path": "/d"}, "direct_response": {"status": 200, "body": "hello"}},
        to_service(response_headers_to_add=[add("x-code", "%response_code%"), add("Set-Cookie", "b=2")]),
        response_headers_to_add=[add("x-all", "1"), add("content-type", "text/x", False)],
        response_headers_to_remove=["server"],
    )
    talk = start(table=made)
    client = talk.connect()
    client.sends(b"GET /d HTTP/1.1\r\nHost: a\r\n\r\n")
    client.receives(b"HTTP/1.1 200 OK\r\nx-all: 1\r\ncontent-type: text/x\r\ncontent-length: 5\r\n" + DATE + b"\r\nhello")
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(b"HTTP/1.1 201 Created\r\nDate: d\r\nServer: x\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n")
    client.receives(
        b"HTTP/1.1 201 Created\r\nDate: d\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\nx-code: 201\r\nset-cookie: b=2\r\n"
        b"x-all: 1\r\ncontent-type: text/x\r\n\r\n"
    )


def test_a_rewrite_to_nowhere(start: Start) -> None:
    changes = RequestChanges(path=PrefixRewrite(b"/up", "/../.."))
    talk = start(routes=[Route("up", Prefix("/up"), Forward("service", 60.0, ForwardOptions(changes=changes)))])
    client = talk.connect()
    client.sends(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.expect_no_dial()
    assert client.takes().startswith(b"HTTP/1.1 400 ")
    assert talk.reasons() == ["bad_rewrite"]


class Director(StreamFilter):
    """Sets variables that the routes match, and reads its settings from the route."""

    def __init__(self) -> None:
        super().__init__({})
        self.seen: list[object] = []

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_variable("mine", "yes")
        exchange.set_variable("x-mosn-path", "/new")
        exchange.set_variable("authority", "inner")
        exchange.set_variable("proxy_global_timeout", "1500")

    def on_response(self, exchange: Exchange) -> None:
        self.seen += [exchange.route_config("director"), exchange.route_config("other"), exchange.route_config("none")]


def test_variables_of_a_filter(start: Start) -> None:
    route = {
        "match": {"variables": [{"name": "mine", "value": "yes"}]},
        "per_filter_config": {"director": {"level": "route"}},
        **to_service(),
    }
    director = Director()
    talk = start(table=table({"match": {"path": "/no"}, **to_service()}, route), filters={"d": director})
    client, _ = talk.forwarded(b"GET /old HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /new HTTP/1.1\r\nHost: inner\r\n\r\n")
    talk.advance(2.5)
    assert client.takes().startswith(b"HTTP/1.1 504 ")
    assert director.seen == [{"level": "route"}, None, None]


def test_time_asked_for_by_the_client(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nX-Mosn-Global-Timeout: 2000\r\n\r\n")
    talk.expect_dial().receives(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.advance(1.0)
    client.receives_nothing()
    talk.advance(2.5)
    assert client.takes().startswith(b"HTTP/1.1 504 ")


def test_cluster_by_header(start: Start) -> None:
    talk = start(routes=[Route("h", AnyRequest(), ForwardByHeader("x-to", 60.0))])
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nX-To: other\r\n\r\n")
    talk.expect_dial("10.0.1.1:80").takes()
    lost = talk.connect()
    lost.sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.expect_no_dial()
    assert lost.takes().startswith(b"HTTP/1.1 404 ")
    assert talk.reasons() == ["cluster_unknown"]


def test_a_cookie_is_made_once(start: Start) -> None:
    options = ForwardOptions(hash_policies=[HashCookie("sticky", "/", 60.0, True)])
    talk = start(routes=[Route("c", AnyRequest(), Forward("service", 60.0, options))])
    client, upstream = talk.opening(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.takes()
    upstream.sends(OK)
    reply = client.takes()
    cookie = reply.partition(b"set-cookie: ")[2].partition(b"\r\n")[0]
    assert cookie.startswith(b"sticky=")
    assert cookie.endswith(b"; Path=/; Max-Age=60; HttpOnly")
    first = hash_value(options.hash_policies, talk.outcomes.exchanges[0])
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + cookie.partition(b";")[0] + b"\r\n\r\n")
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    assert hash_value(options.hash_policies, talk.outcomes.exchanges[1]) == first


def test_all_hash_policies_count(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\n\r\n")
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    exchange = talk.outcomes.exchanges[0]
    a, b, none, ip = HashHeader("x-a"), HashHeader("X-B"), HashHeader("none"), HashSourceIp()
    values = [hash_value(list(policies), exchange) for policies in ((a,), (b,), (a, b), (b, a), (a, none), (ip,), (ip, a))]
    assert len(set(values)) == len(values)
    assert all(value > 0 for value in values)
    assert hash_value([none], exchange) == NO_HASH
    assert hash_value([a, b], exchange) == hash_value([a, b], exchange)
    assert asked_timeouts(Forward("x", 3.0), exchange).is_only(3.0)
    assert Target("x").subset is None
