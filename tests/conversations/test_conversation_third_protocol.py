"""A further protocol is a further pair of heads: `line_protocol` uses the same routes, filters, retries and logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from line_protocol import LineProtocol, LineRequest, LineResponse
from tests.kit import Start, Talk, forward

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.http import HttpRequest
from pymosn.api.routing import Route
from pymosn.api.rpc import RpcRequest
from pymosn.observe.access_log import compile_format
from pymosn.routing.actions import DirectResponse, Forward, ForwardOptions, Mirror, RetryPolicy
from pymosn.routing.changes import ChangeLevel, HeaderAddition, LevelChanges
from pymosn.routing.hashing import HashCookie
from pymosn.routing.matchers import AnyRequest, Header, Method, Prefix
from pymosn.routing.rewrites import PrefixRewrite, RequestChanges

HOSTS = ["10.0.0.1:80", "10.0.0.2:80"]


def begin(start: Start, **wanted: Any) -> Talk:
    return start(protocols=["line"], extra_protocols=[LineProtocol()], **wanted)


def to(cluster: str, **options: object) -> Forward:
    return Forward(cluster, 60.0, ForwardOptions(**options))  # type: ignore[arg-type]


class Base(StreamFilter):
    """A filter without settings."""

    def __init__(self) -> None:
        super().__init__({})


def test_it_is_neither_of_the_others() -> None:
    for known in (HttpRequest, RpcRequest):
        assert not issubclass(LineRequest, known)


# ---- routes


def test_a_request_and_its_response(start: Start) -> None:
    talk = begin(start, x_forwarded=True, x_request_id=True, trusted_hops=1)
    client = talk.connect()
    client.sends(b"get /news a=1 b=2 |body\n")
    upstream = talk.expect_dial()
    upstream.receives(b"get /news a=1 b=2 |body\n")
    upstream.sends(b"200 x=y |answer\n")
    client.receives(b"200 x=y |answer\n")
    client.sends(b"put /news |\n")
    upstream.receives(b"put /news |\n")
    upstream.sends(b"200 |\n")
    client.receives(b"200 |\n")
    assert talk.reasons() == ["ok", "ok"]
    assert isinstance(talk.outcomes.exchanges[0].request, LineRequest)
    assert isinstance(talk.outcomes.exchanges[0].response, LineResponse)


def test_routes_by_path_header_and_method(start: Start) -> None:
    routes = [
        Route("path", Prefix("/other"), to("other")),
        Route("header", Header("a", "1"), to("other")),
        Route("method", Method("drop"), DirectResponse(403, "no")),
        *forward(),
    ]
    talk = begin(start, routes=routes)
    client = talk.connect()
    client.sends(b"get /other/x |\n")
    other = talk.expect_dial("10.0.1.1:80")
    for message in (b"get /other/x |\n", b"get /x a=1 |\n"):
        if message != b"get /other/x |\n":
            client.sends(message)
        other.receives(message)
        other.sends(b"200 |\n")
        client.receives(b"200 |\n")
    client.sends(b"drop /x |\n")
    client.receives(b"403 |no\n")
    client.sends(b"get /x |\n")
    talk.expect_dial().takes()
    assert [exchange.route and exchange.route.name for exchange in talk.outcomes.exchanges] == ["path", "header", "method"]


def test_no_route(start: Start) -> None:
    talk = begin(start, routes=[Route("r", Prefix("/a"), to("service"))], reason_header=True)
    client = talk.connect()
    client.sends(b"get /b |\n")
    client.receives(b"404 x-pymosn-reason=no_route |no_route\n")
    assert talk.reasons() == ["no_route"]


def test_what_a_route_changes(start: Start) -> None:
    changes = LevelChanges([ChangeLevel([HeaderAddition("seen", "%request_method%", True)], ["gone"])])
    answer = LevelChanges([ChangeLevel([HeaderAddition("status", "%response_code%", False)], [])])
    rewrite = RequestChanges(changes, PrefixRewrite(b"/a", "/b"), host="not.known")
    policies = [HashCookie("session", "", 0.0, True)]
    routes = [Route("r", AnyRequest(), to("service", changes=rewrite, hash_policies=policies), answer)]
    talk = begin(start, routes=routes)
    client = talk.connect()
    client.sends(b"get /a/x gone=1 |\n")
    upstream = talk.expect_dial()
    upstream.receives(b"get /b/x seen=get x-mosn-original-path=/a/x |\n")
    upstream.sends(b"200 |\n")
    client.receives(b"200 status=200 |\n")
    assert talk.outcomes.exchanges[0].original_host == b""


def test_copies(start: Start) -> None:
    talk = begin(start, routes=[Route("r", AnyRequest(), to("service", mirrors=[Mirror("other", 100)]))])
    client = talk.connect()
    client.sends(b"put /x |body\n")
    for address in ("10.0.0.1:80", "10.0.1.1:80"):
        upstream = talk.expect_dial(address)
        upstream.receives(b"put /x |body\n")
        upstream.sends(b"200 |from %s\n" % address.encode())
    client.receives(b"200 |from 10.0.0.1:80\n")


# ---- retries


def with_policy(start: Start, policy: RetryPolicy | None) -> Talk:
    return begin(start, routes=[Route("r", AnyRequest(), to("service", retry_policy=policy))], hosts=HOSTS)


@pytest.mark.parametrize("verb", [b"get", b"put"])
def test_a_host_that_cannot_be_connected_to(start: Start, verb: bytes) -> None:
    talk = with_policy(start, None)
    client = talk.connect()
    client.sends(verb + b" /x |body\n")
    talk.refuse_dial(HOSTS[0])
    second = talk.expect_dial(HOSTS[1])
    second.receives(verb + b" /x |body\n")
    second.sends(b"200 |\n")
    client.receives(b"200 |\n")


def test_a_status_is_retried_where_the_request_may_be_repeated(start: Start) -> None:
    talk = with_policy(start, RetryPolicy(True, 1))
    client = talk.connect()
    client.sends(b"get /x |body\n")
    first = talk.expect_dial(HOSTS[0])
    first.receives(b"get /x |body\n")
    first.sends(b"503 |busy\n")
    second = talk.expect_dial(HOSTS[1])
    second.receives(b"get /x |body\n")
    second.sends(b"200 |\n")
    client.receives(b"200 |\n")
    client.sends(b"put /x |body\n")
    first.receives(b"put /x |body\n")
    first.sends(b"503 |busy\n")
    client.receives(b"503 |busy\n")
    assert talk.upstream_counters()["request_retry"] == 1


@pytest.mark.parametrize(("verb", "policy", "repeats"), [(b"get", None, True), (b"put", None, False)])
def test_a_reused_connection_that_was_closed(start: Start, verb: bytes, policy: None, repeats: bool) -> None:
    talk = begin(start)
    client = talk.connect()
    client.sends(b"get / |\n")
    first = talk.expect_dial()
    first.takes()
    first.sends(b"200 |\n")
    client.takes()
    client.sends(verb + b" /x |body\n")
    first.receives(verb + b" /x |body\n")
    first.resets()
    if repeats:
        second = talk.expect_dial()
        second.receives(verb + b" /x |body\n")
        second.sends(b"200 |\n")
        client.receives(b"200 |\n")
    else:
        client.receives(b"502 |reset_before_response\n")


def test_the_time_of_an_attempt_and_of_the_request(start: Start) -> None:
    talk = with_policy(start, RetryPolicy(True, 1, 2.0))
    client = talk.connect()
    client.sends(b"get /x |\n")
    talk.expect_dial(HOSTS[0]).receives(b"get /x |\n")
    talk.advance(2.1)
    talk.expect_dial(HOSTS[1]).receives(b"get /x |\n")
    talk.advance(60.0)
    client.receives(b"504 |timeout\n")
    assert talk.reasons() == ["timeout"]


# ---- filters


class Marks(Base):
    """Changes headers both ways, and the status."""

    def on_request(self, exchange: Exchange) -> None:
        exchange.request.headers["seen"] = exchange.request.method

    def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.headers.add("by", exchange.protocol)
        exchange.response_head.status = 299


class Reads(Base):
    """Reads and replaces the bodies."""

    async def on_request(self, exchange: Exchange) -> None:
        exchange.request.set_body((await exchange.request.read()).upper())

    async def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.set_body((await exchange.response_head.read())[::-1])


class Chunks(Base):
    """Changes bodies chunk by chunk."""

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data.replace(b"b", b"BB")

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data + b"!"


class Answers(Base):
    """Replies in place of the upstream."""

    def on_request(self, exchange: Exchange) -> Reply | None:
        if exchange.request.path == "/whole":
            return Reply(403, "no", {"why": "x"})
        return Reply(200, chunks()) if exchange.request.path == "/chunks" else None

    def on_response(self, exchange: Exchange) -> None:
        if exchange.request.path == "/odd":
            exchange.response_head.status = 1000


def chunks() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


@pytest.mark.parametrize(
    ("stream_filter", "forwarded", "received"),
    [
        (Marks(), b"put /x a=1 seen=put |body\n", b"299 x=y by=line |answer\n"),
        (Reads(), b"put /x a=1 |BODY\n", b"200 x=y |rewsna\n"),
        (Chunks(), b"put /x a=1 |BBody\n", b"200 x=y |answer!\n"),
    ],
    ids=["heads", "whole bodies", "chunks"],
)
def test_filters(start: Start, stream_filter: StreamFilter, forwarded: bytes, received: bytes) -> None:
    talk = begin(start, filters={"f": stream_filter})
    client = talk.connect()
    client.sends(b"put /x a=1 |body\n")
    upstream = talk.expect_dial()
    upstream.receives(forwarded)
    upstream.sends(b"200 x=y |answer\n")
    client.receives(received)
    assert talk.filter_errors("f") == 0


def test_replies_of_a_filter(start: Start) -> None:
    talk = begin(start, filters={"f": Answers()})
    client = talk.connect()
    client.sends(b"get /whole |\n")
    client.receives(b"403 why=x |no\n")
    client.sends(b"get /chunks |\n")
    talk.pass_rounds(8)
    client.receives(b"200 |one two\n")
    assert talk.reasons() == ["ok", "ok"]


def test_a_status_that_the_protocol_does_not_have(start: Start) -> None:
    talk = begin(start, filters={"f": Answers()})
    client = talk.connect()
    client.sends(b"get /odd |\n")
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(b"200 |\n")
    client.receives(b"500 |filter_error\n")


# ---- logs


def test_variables_and_log_lines(start: Start) -> None:
    talk = begin(start, routes=[Route("r", Prefix("/a"), to("service"))])
    client = talk.connect()
    client.sends(b"get /a/x a=1 |body\n")
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(b"200 |hi\n")
    client.takes()
    client.sends(b"put /a |body\n")
    upstream.takes()
    upstream.resets()
    client.takes()
    names = ("protocol", "request_method", "request_path", "request_header_a", "response_code", "bytes_sent", "reason")
    make = compile_format(" ".join(f"%{name}%" for name in names)).bind(talk.clock)
    lines = [make(exchange) for exchange in talk.outcomes.exchanges]
    assert lines == ["line get /a/x 1 200 2 -", "line put /a - 502 21 reset_before_response"]
    for name in ("x-mosn-rpc-service", "x-mosn-rpc-method", "request_host"):
        assert talk.outcomes.exchanges[0].variable(name) is None
    assert talk.log.lines[-1].endswith("502 reset_before_response (10.0.0.1:80): line put /a")
