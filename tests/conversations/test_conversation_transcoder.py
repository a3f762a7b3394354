"""HTTP/1 clients of a Dubbo provider, through the transcoder of examples/transcoder and through ones that misbehave."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Peer, Start, Talk
from tests.kit import dubbo_frames as dubbo
from tests.unit.protocol.rpc_frames import recorded

from pymosn.api import Exchange, Reply, StreamFilter, Transcoder
from pymosn.api.protocol import REQUEST
from pymosn.api.routing import Route
from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.core.counters import Metrics
from pymosn.filters.loading import load_filter
from pymosn.protocol.dubbo.calls import make_call
from pymosn.protocol.dubbo.codec import DubboDecoder
from pymosn.protocol.dubbo.hessian2 import Hessian2Reader
from pymosn.proxy.stream_filters import FilterHandle
from pymosn.routing.actions import Forward, ForwardOptions
from pymosn.routing.changes import ChangeLevel, HeaderAddition, LevelChanges
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.rewrites import PrefixRewrite, RequestChanges

EXAMPLE = Path(__file__).parents[2] / "examples" / "transcoder" / "json_to_dubbo.py"


def example(**config: object) -> StreamFilter:
    return load_filter(EXAMPLE, "JsonToDubbo", config)


def begin(start: Start, transcoder: StreamFilter | None, **wishes: Any) -> tuple[Talk, Peer]:
    options = ForwardOptions(upstream_protocol="dubbo", **wishes.pop("action", {}))
    routes = [Route("all", AnyRequest(), Forward("service", 5.0, options), wishes.pop("reply_changes", None))]
    filters = {**({} if transcoder is None else {"transcoder": transcoder}), **wishes.pop("filters", {})}
    talk = start(routes=routes, filters=filters, reason_header=True, **wishes)
    return talk, talk.connect()


def post(path: str, body: str) -> bytes:
    raw = body.encode()
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


def called(upstream: Peer) -> tuple[int, list[bytes | None], list[bytes]]:
    """Of the one call that came: its id, the strings in front, and the arguments as bytes."""
    frame = upstream.takes()
    magic, flags, _, number, size = struct.unpack_from(">HBBqI", frame)
    assert (magic, flags, size) == (0xDABB, 0xC2, len(frame) - 16)
    reader = Hessian2Reader(frame[16:])
    front = [reader.text() for _ in range(5)]
    arguments = []
    while reader.data[reader.at] != 0x48 or b"path" not in reader.data[reader.at : reader.at + 6]:
        at = reader.at
        reader.skip(1)
        arguments.append(reader.data[at : reader.at])
    return number, front, arguments


def answered(client: Peer) -> tuple[int, Any]:
    """Status and JSON (or text) of the one reply that came."""
    head, _, body = client.takes().partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()
    is_json = b"application/json" in head
    return int(head.split(b" ")[1]), json.loads(body) if is_json else body.decode()


def test_a_call_and_its_value_on_connections_that_stay(start: Start) -> None:
    talk, client = begin(start, example(version="1.0"))
    client.sends(post("/a.Service/find?group=blue", '["é", 7, 4294967296, 0.5, true, null, [1], {"k": "v"}]'))
    upstream = talk.expect_dial()
    number, front, arguments = called(upstream)
    types = "Ljava/lang/String;IJDZLjava/lang/Object;Ljava/util/List;Ljava/util/Map;"
    assert front == [b"2.0.2", b"a.Service", b"1.0", b"find", types.encode()]
    written = ("é", 7, 4294967296, 0.5, True, None, [1], {"k": "v"})
    assert arguments == [dubbo.Hessian2().write(value) for value in written]
    value = {"list": [1, "é", None, 1.5], "shape": ("a.Point", {"x": 1, "raw": b"ab"})}
    upstream.sends(dubbo.result(number, value, {"any": "thing"}))
    assert answered(client) == (
        200,
        {"list": [1, "é", None, 1.5], "shape": {"class": "a.Point", "x": 1, "raw": "YWI="}},
    )
    client.sends(post("/a.Service/next", ""))  # both connections serve again
    number, front, arguments = called(upstream)
    assert (number, front[3], front[4], arguments) == (2, b"next", b"", [])
    upstream.sends(dubbo.result(number))
    assert answered(client) == (200, None)
    assert talk.reasons() == ["ok", "ok"]
    assert talk.outcomes.exchanges[0].variable("upstream_protocol") == "dubbo"


def test_types_from_the_query(start: Start) -> None:
    talk, client = begin(start, example())
    client.sends(post("/S/m?types=long,double,java.lang.Integer", "[1, 2, null]"))
    upstream = talk.expect_dial()
    number, front, arguments = called(upstream)
    assert front[4] == b"JDLjava/lang/Integer;"
    assert arguments == [b"L" + bytes(7) + b"\x01", dubbo.Hessian2().write(2.0), b"N"]
    upstream.sends(dubbo.result(number))
    assert answered(client) == (200, None)


def test_exceptions_and_errors_of_the_provider(start: Start) -> None:
    talk, client = begin(start, example())
    client.sends(post("/S/m", ""))
    upstream = talk.expect_dial()
    thrown = dubbo.Hessian2().write(("a.Bad", {"detailMessage": "so", "cause": dubbo.Reference(0)}))
    upstream.sends(dubbo.frame(2, 20, b"\x90" + thrown, called(upstream)[0]))
    assert answered(client) == (500, {"error": "so", "exception": "a.Bad"})
    for status, expected in ((60, 404), (31, 504), (100, 503), (70, 500)):
        client.sends(post("/S/m", ""))
        upstream.sends(dubbo.error(called(upstream)[0], status, "no such"))
        assert answered(client) == (expected, {"error": "no such"})
    assert talk.reasons() == ["ok"] * 5


@pytest.mark.parametrize("version", ["dubbo-2.7", "dubbo-3"])
def test_an_exception_as_java_writes_it(start: Start, version: str) -> None:
    talk, client = begin(start, example())
    client.sends(post("/S/m", ""))
    upstream = talk.expect_dial()
    thrown = recorded(version)["fail.reply"]
    upstream.sends(thrown[:4] + struct.pack(">q", called(upstream)[0]) + thrown[12:])
    assert answered(client) == (500, {"error": "as asked", "exception": "interop.EchoException"})


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/S/m", '["a"', "not JSON"),
        ("/S/m", "[" * 20_000, "not JSON"),
        ("/S/m", "{}", "must be a JSON array"),
        ("/m", "[]", "the path of a call"),
        ("/S/m?types=strng", '["a"]', "unknown type 'strng'"),
        ("/S/m?types=int", '["a"]', "is not a valid int"),
        ("/S/m?types=int", "[true]", "is not a valid int"),
        ("/S/m?types=byte", "[128]", "128 is not a valid byte"),
        ("/S/m?types=int,int", "[1]", "2 types for 1 arguments"),
        ("/S/m", "[1e99, 18446744073709551616]", "exceeds 64 bits"),
        ("/S/m", "[1e999]", "1e999 is not in the range of a double"),
        ("/S/m", '[{"a": NaN}]', "NaN is not in the range of a double"),
        ("/S/m?types=double", f"[{'9' * 400}]", "is not a valid double"),
        ("/S/m?types=float", "[1e39]", "1e+39 is not a valid float"),
    ],
)
def test_a_request_that_is_not_a_call_is_answered_at_once(start: Start, path: str, body: str, text: str) -> None:
    talk, client = begin(start, example())
    client.sends(post(path, body))
    status, value = answered(client)
    assert status == 400
    assert text in value["error"]
    client.sends(post("/S/m", ""))  # and the connection is good for the next
    upstream = talk.expect_dial()
    upstream.sends(dubbo.result(called(upstream)[0], 1))
    assert answered(client) == (200, 1)


def test_failures_of_our_own_are_http(start: Start) -> None:
    talk, client = begin(start, example())
    client.sends(post("/S/m", ""))
    talk.refuse_dial()
    assert answered(client) == (502, "502 Bad Gateway\n")
    client.sends(post("/S/m", ""))
    upstream = talk.expect_dial()
    called(upstream)
    talk.advance(5.1)
    assert answered(client) == (504, "504 Gateway Timeout\n")
    client.sends(post("/S/m", ""))
    called(upstream)
    upstream.resets()
    assert answered(client) == (502, "502 Bad Gateway\n")
    assert talk.reasons() == ["connect_refused", "timeout", "reset_before_response"]


def test_without_a_transcoder_nothing_has_changed(start: Start) -> None:
    talk, client = begin(start, None)
    client.sends(post("/S/m", ""))
    assert answered(client)[0] == 502
    assert talk.reasons() == ["protocol_mismatch"]


def test_a_tunnel_is_not_a_call(start: Start) -> None:
    talk, client = begin(start, example())
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    status = answered(client)[0]
    assert (status, talk.reasons()) == (502, ["protocol_mismatch"])
    talk.expect_no_dial()


# ---- transcoders that refuse, and that are wrong


class Small(Transcoder):
    """Calls `S.m`; limits the body it accepts, and replies as configured."""

    upstream_protocol = "dubbo"
    limit = 40

    def __init__(self, request: Any = None, response: Any = None) -> None:
        super().__init__({})
        self.bodies: list[bytes] = []
        self._request = request
        self._response = response

    def request(self, exchange: Exchange, body: bytes) -> RpcRequest | Reply:
        self.bodies.append(body)
        made: RpcRequest | Reply = self._request() if self._request else make_call("S", "m", "", [])
        return made

    def response(self, exchange: Exchange, reply: RpcResponse) -> Reply:
        made: Reply = self._response() if self._response else Reply(200, "fine")
        return made


def raises(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "status", "reason"),
    [
        (raises(ValueError("not this")), 400, "untranslatable_request"),
        (raises(KeyError("bug")), 500, "filter_error"),
        (lambda: b"bytes", 500, "filter_error"),
    ],
)
def test_a_request_that_cannot_be_transcoded(start: Start, work: Any, status: int, reason: str) -> None:
    talk, client = begin(start, Small(request=work))
    client.sends(post("/", ""))
    assert answered(client)[0] == status
    assert talk.reasons() == [reason]
    assert talk.filter_errors("transcoder") == (1 if status == 500 else 0)


@pytest.mark.parametrize(
    ("work", "status", "reason"),
    [
        (raises(ValueError("not this")), 502, "untranslatable_reply"),
        (raises(KeyError("bug")), 500, "filter_error"),
        (lambda: Reply(200, iter([b"a"])), 500, "filter_error"),
    ],
)
def test_a_reply_that_cannot_be_transcoded(start: Start, work: Any, status: int, reason: str) -> None:
    talk, client = begin(start, Small(response=work))
    client.sends(post("/", ""))
    upstream = talk.expect_dial()
    upstream.sends(dubbo.result(called(upstream)[0]))
    assert answered(client)[0] == status
    assert talk.reasons() == [reason]


def test_bodies_beyond_the_limit(start: Start) -> None:
    talk, client = begin(start, Small())
    client.sends(post("/", "x" * 40))
    upstream = talk.expect_dial()
    upstream.sends(dubbo.result(called(upstream)[0], "y" * 100))
    assert answered(client)[0] == 502
    talk.connect().sends_whole(post("/", "x" * 41))
    assert talk.clients[1].takes().startswith(b"HTTP/1.1 413 ")
    assert talk.reasons() == ["response_too_large", "body_too_large"]


class Sees(StreamFilter):
    """Sees bodies on both ways, and marks the reply."""

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        assert last
        return data.upper()

    def on_response(self, exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.headers.set("x-seen", str(exchange.response.status))

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data + b"!"


def test_other_filters_see_http_only(start: Start) -> None:
    transcoder = Small()
    talk, client = begin(start, transcoder, filters={"sees": Sees({})})
    client.sends(post("/", "abc"))
    upstream = talk.expect_dial()
    upstream.sends(dubbo.result(called(upstream)[0]))
    reply = client.takes()
    assert transcoder.bodies == [b"ABC"]
    assert b"x-seen: 200\r\n" in reply
    assert reply.endswith(b"\r\n\r\nfine!")


def test_a_client_that_leaves_while_its_body_is_awaited(start: Start) -> None:
    talk, client = begin(start, Small())
    client.sends(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    talk.expect_no_dial()
    client.resets()
    assert talk.reasons() == ["client_gone"]


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"upstream_protocol": ""}, "upstream_protocol"),
        ({"protocols": ("bolt",)}, "Http1 and Http2 only"),
        ({"on_error": "skip"}, "on_error"),
    ],
)
def test_transcoders_that_cannot_work_are_refused(attributes: dict[str, Any], text: str) -> None:
    made = type("Wrong", (Small,), attributes)()
    with pytest.raises(TypeError, match=text):
        FilterHandle("wrong", made, Metrics())


def test_async_transcoders_are_refused() -> None:
    async def request(self: object, exchange: Exchange, body: bytes) -> None:
        pass

    made = type("Async", (Small,), {"request": request})()
    with pytest.raises(TypeError, match="request must be a plain method"):
        FilterHandle("async", made, Metrics())


class Shower(StreamFilter):
    """Shows what it sees of a request and of a reply."""

    def on_request(self, exchange: Exchange) -> None:
        exchange.request.headers.set("x-seen", f"{exchange.request.path} {exchange.request.headers.get('tenant')}")

    def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.headers.set("x-path", exchange.request.path)


class Telling(Transcoder):
    """Passes on what it sees of the request, as attachments."""

    upstream_protocol = "dubbo"

    def request(self, exchange: Exchange, body: bytes) -> RpcRequest:
        head = exchange.request
        return make_call(head.path.strip("/"), "m", "", [], attachments={**dict(head.headers.items()), "host": head.host})

    def response(self, exchange: Exchange, reply: RpcResponse) -> Reply:
        return Reply(200, "ok", {"x-inner": "1", "x-dropped": "2"})


def test_the_changes_of_a_route_apply_to_the_http_side(start: Start) -> None:
    adding = [HeaderAddition("tenant", "%request_header_who%", True), HeaderAddition("x-new", "1", False)]
    changes = RequestChanges(
        LevelChanges([ChangeLevel(adding, ["who"])]), PrefixRewrite(b"/api/", "/"), host="inner.example"
    )
    talk, client = begin(
        start,
        Telling({}),
        filters={"shower": Shower({})},
        action={"changes": changes},
        reply_changes=LevelChanges([ChangeLevel([HeaderAddition("x-added", "3", True)], ["x-dropped"])]),
    )
    client.sends(b"GET /api/a.Service HTTP/1.1\r\nHost: a\r\nWho: me\r\nTenant: t\r\n\r\n")
    upstream = talk.expect_dial()
    frame = upstream.takes()
    request = DubboDecoder(1 << 20)
    request.feed(frame)
    assert request.decode() == REQUEST
    assert request.request is not None
    sent = request.request.headers
    assert sent.get("service") == "a.Service"
    assert (sent.get("tenant"), sent.get("x-new"), sent.get("who")) == ("t,me", "1", None)
    assert sent.get("host") == "inner.example"
    assert sent.get("x-seen") == "/api/a.Service t"  # filters see the request before
    upstream.sends(dubbo.result(1))
    head = client.takes().partition(b"\r\n\r\n")[0].lower()
    for line in (b"x-inner: 1", b"x-added: 3", b"x-path: /a.service"):
        assert line in head
    assert b"x-dropped" not in head
    [exchange] = talk.outcomes.exchanges
    assert exchange.original_path == b"/api/a.Service"


def test_a_rewritten_path_that_is_invalid(start: Start) -> None:
    changes = RequestChanges(path=PrefixRewrite(b"/api/", "/../"))
    talk, client = begin(start, Telling({}), action={"changes": changes})
    client.sends(b"GET /api/S HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answered(client)[0] == 400
    assert talk.reasons() == ["bad_rewrite"]
