"""`grpc_web` and `grpc_json_transcoder` between a client of HTTP/1 and a host of HTTP/2: what is on the wire, and when."""

from __future__ import annotations

import base64

from tests.kit import Peer, Start, Talk
from tests.kit.h2_end import Stream
from tests.kit.h2_peers import H2Upstream, h2_upstream
from tests.unit.filters.grpc_shop import classes, descriptor_set

from pymosn.api import StreamFilter
from pymosn.api.grpc import framed
from pymosn.api.routing import Route
from pymosn.config.typed import typed
from pymosn.filters.stream.shipped import spec_of
from pymosn.protocol.http2 import frames
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AnyRequest
from pymosn.testing import Request

MESSAGE = framed(b"hi")
HEAD = ((b"content-type", b"application/grpc"),)
KINDS = classes()


def shipped(name: str, **config: object) -> StreamFilter:
    spec = spec_of(name)
    assert spec.make is not None
    return spec.make(typed(config, spec.settings))


def begin(start: Start, entry: StreamFilter, request: Request) -> tuple[Talk, Peer, H2Upstream, Stream]:
    talk = start(routes=[Route("all", AnyRequest(), Forward("service", 5.0))], filters={"web": entry}, reason_header=True)
    client = talk.connect()
    client.sends(b"".join(request.pieces()))
    upstream = h2_upstream(talk.expect_dial())
    return talk, client, upstream, upstream.takes_stream()


def call(start: Start) -> tuple[Talk, Peer, H2Upstream, Stream]:
    fields = {"content-type": "application/grpc-web", "grpc-timeout": "3S", "te": "none"}
    return begin(start, shipped("grpc_web"), Request("POST", "/pkg.Echo/Say", fields, MESSAGE))


def test_messages_and_trailers_arrive_one_by_one(start: Start) -> None:
    talk, client, upstream, stream = call(start)
    fields = stream.fields
    assert (fields[b":method"], fields[b":path"], stream.data) == (b"POST", b"/pkg.Echo/Say", MESSAGE)
    assert (fields[b"te"], fields[b"content-type"]) == (b"trailers", b"application/grpc")
    assert b"grpc-timeout" in fields
    upstream.responds(stream, 200, HEAD, end=False)
    assert b"content-type: application/grpc-web+proto" in client.takes()
    for _ in range(2):
        upstream.sends_data(stream, MESSAGE)
        assert b"hi" in client.takes().replace(b"\r\n1\r\n", b"")
    upstream.sends_trailers(stream, [(b"grpc-status", b"0")])
    assert client.takes().replace(b"\r\n1\r\n", b"").endswith(b"grpc-status: 0\r\n\r\n0\r\n\r\n")
    assert talk.reasons() == ["ok"]
    assert [exchange.call_status for exchange in talk.outcomes.exchanges] == [0]


def test_a_client_that_leaves_and_a_deadline(start: Start) -> None:
    talk, client, _, stream = call(start)
    client.resets()
    assert (stream.code, talk.reasons()) == (frames.CANCEL, ["client_gone"])
    talk, client, _, stream = call(start)
    talk.advance(3.1)
    assert b"grpc-status: 4\r\n" in client.takes()
    assert stream.code == frames.CANCEL


def test_json_for_a_client_of_http1(start: Start) -> None:
    content = base64.b64encode(descriptor_set().SerializeToString()).decode()
    entry = shipped("grpc_json_transcoder", proto_descriptor_bin=content, services=["shop.Shop"])
    talk, client, upstream, stream = begin(start, entry, Request("GET", "/v1/books/7"))
    assert (stream.fields[b":method"], stream.fields[b":path"]) == (b"POST", b"/shop.Shop/GetBook")
    assert (stream.data, stream.is_done) == (framed(KINDS["GetBook"](name="7").SerializeToString()), True)
    upstream.responds(stream, 200, HEAD, framed(KINDS["Book"](title="a").SerializeToString()), end=False)
    upstream.sends_trailers(stream, [(b"grpc-status", b"0")])
    head, _, body = client.takes().partition(b"\r\n\r\n")
    assert (body, b"content-length: 13" in head.lower(), b"trailer" in head.lower()) == (b'{"title":"a"}', True, False)
    assert talk.reasons() == ["ok"]
