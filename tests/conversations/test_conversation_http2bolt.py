"""MOSN's transcoders: `http2bolt_simple` for servers that speak Bolt, and those that only choose HTTP/1 or HTTP/2."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kit import Peer, Start, Talk, bolt_frames
from tests.kit.h2_peers import h2_client, h2_upstream, request

from pymosn.api.routing import Route
from pymosn.config.typed import typed
from pymosn.core.headers import HeaderError
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.stream.shipped import is_from_file, route_spec, spec_of
from pymosn.protocol.bolt.calls import make_request
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AnyRequest
from pymosn.testing import Request, run

SIMPLE = {"type": "http2bolt_simple"}


def transcoder(config: dict[str, Any]) -> Any:
    spec = spec_of("transcoder")
    assert spec.make is not None
    return spec.make(typed(config, spec.settings))


def of_route(config: dict[str, Any]) -> dict[str, object]:
    spec = route_spec("transcoder", config)
    assert spec is not None
    return {"transcoder": spec.make(typed(config, spec.settings))}


def begin(start: Start, config: dict[str, Any], protocol: str = "Http1") -> Talk:
    routes = [Route("all", AnyRequest(), Forward("service", 5.0))]
    filters = {"transcoder": transcoder(config)}
    return start(routes=routes, filters=filters, reason_header=True, protocols=(protocol,))


def answered(client: Peer) -> tuple[int, dict[str, str], bytes]:
    head, _, body = client.takes().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split(" ")[1]), fields, body


def test_a_request_and_its_response(start: Start) -> None:
    talk = begin(start, SIMPLE)
    client = talk.connect()
    fields = "service: test\r\nX-Two: a\r\nx-two: b\r\nCookie: c=1\r\ncookie: d=2\r\nConnection: keep-alive\r\n"
    client.sends(f"POST /hello?x=1 HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: 4\r\n\r\nbody".encode())
    upstream = talk.expect_dial()
    (frame,) = bolt_frames.frames(upstream.takes())
    assert (frame.content, frame.class_name, frame.timeout) == (b"body", b"", -1)
    assert frame.headers == {"host": "h", "service": "test", "x-two": "a, b", "cookie": "c=1; d=2"}
    headers: dict[str, str | None] = {"origin": "bolt", "dataId": "xyz", "content-length": "99", "connection": "close"}
    upstream.sends(bolt_frames.response(frame.request_id, b"pong", headers))
    status, received, body = answered(client)
    assert (status, body, received["origin"], received["dataid"]) == (200, b"pong", "bolt", "xyz")
    assert (received["content-length"], "connection" in received) == ("4", False)
    assert talk.outcomes.exchanges[0].variable("upstream_protocol") == "bolt"
    client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")  # both connections serve again
    (frame,) = bolt_frames.frames(upstream.takes())
    assert (frame.headers, frame.content) == ({"host": "h"}, b"")
    upstream.sends(bolt_frames.response(frame.request_id, b"", {}))
    assert answered(client)[0] == 200
    assert talk.reasons() == ["ok", "ok"]


@pytest.mark.parametrize("status", [1, 4, 7, 16])
def test_any_other_status_is_a_500(start: Start, status: int) -> None:
    talk = begin(start, SIMPLE)
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    upstream = talk.expect_dial()
    (frame,) = bolt_frames.frames(upstream.takes())
    upstream.sends(bolt_frames.response(frame.request_id, b"x", {}, status))
    assert answered(client)[0] == 500


def test_a_header_of_a_response_that_cannot_be_sent(start: Start) -> None:
    talk = begin(start, SIMPLE)
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    upstream = talk.expect_dial()
    (frame,) = bolt_frames.frames(upstream.takes())
    upstream.sends(bolt_frames.response(frame.request_id, b"", {"a": "x\r\nset-cookie: y"}))
    status, fields, _ = answered(client)
    assert (status, fields["x-pymosn-reason"], "set-cookie" in fields) == (502, "untranslatable_reply", False)


def test_clients_of_http2(start: Start) -> None:
    talk = begin(start, SIMPLE, "Http2")
    client = h2_client(talk)
    stream = client.requests(request(b"POST", b"/hello", b"h", (b"service", b"test"), (b"cookie", b"a=1")), b"body", True)
    upstream = talk.expect_dial()
    (frame,) = bolt_frames.frames(upstream.takes())
    assert (frame.headers, frame.content) == ({"host": "h", "service": "test", "cookie": "a=1"}, b"body")
    upstream.sends(bolt_frames.response(frame.request_id, b"pong", {"dataId": "xyz"}))
    assert client.result(stream) == (200, b"pong")
    assert stream.fields[b"dataid"] == b"xyz"


def test_clients_of_http2_and_responses_at_the_limit(start: Start) -> None:
    whole = len(bolt_frames.response(1, b"x" * 2000, {}))
    routes = [Route("all", AnyRequest(), Forward("service", 5.0))]
    talk = start(
        routes=routes, filters={"transcoder": transcoder(SIMPLE)}, protocols=("Http2",), plan={"max_frame_size": whole}
    )
    client = h2_client(talk)
    streams = [client.requests(request(b"GET", b"/hello", b"h"), b"", True) for _ in range(4)]
    upstream = talk.expect_dial()
    frames = bolt_frames.frames(upstream.takes())
    # The third one is in flight when the host dies in the middle of its response.
    sizes = (2001, 2000, 1999)
    replies = [bolt_frames.response(frame.request_id, b"x" * size, {}) for frame, size in zip(frames, sizes, strict=False)]
    upstream.sends(b"".join(replies)[:-1])
    upstream.resets()
    results = [client.result(stream) for stream in streams]
    assert [status for status, _ in results] == [502, 200, 502, 502]
    assert results[1][1] == b"x" * 2000
    assert talk.reasons() == ["frame_too_large", "ok", "reset_before_response", "reset_before_response"]


def test_from_http1_to_http2(start: Start) -> None:
    talk = begin(start, {"type": "httpTohttp2"})
    client = talk.connect()
    client.sends(b"POST /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo")
    upstream = h2_upstream(talk.expect_dial())
    stream = upstream.takes_stream()
    assert (stream.fields[b":path"], stream.data) == (b"/a?b", b"bo")  # it does not wait for the rest
    client.sends(b"dy")
    upstream.responds(stream, 200, ((b"x-a", b"1"), (b"content-length", b"4")), b"done", end=True)
    status, fields, body = answered(client)
    assert (status, fields["x-a"], body, stream.data) == (200, "1", b"done", b"body")


def test_from_http2_to_http1(start: Start) -> None:
    talk = begin(start, {"type": "http2Tohttp"}, "Http2")
    client = h2_client(talk)
    stream = client.requests(request(b"GET", b"/a", b"h"), b"", True)
    upstream = talk.expect_dial()
    assert upstream.takes().startswith(b"GET /a HTTP/1.1\r\nhost: h\r\n")
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
    assert client.result(stream) == (200, b"done")


def test_headers_that_are_too_long() -> None:
    assert make_request([(b"a", b"b" * 65_500)], b"").headers["a"] == "b" * 65_500
    with pytest.raises(HeaderError, match="65535"):
        make_request([(b"a", b"b" * 65_530)], b"")


RULES = {
    "rules": [
        {
            "matcher_config": {"matcher_type": "simpleMatcher", "config": {"name": "x-way", "value": "h1"}},
            "rule_info": {"upstream_protocol": "Http1"},
        },
        {
            "matcher_config": {"matcher_type": "simpleMatcher", "config": {"name": "x-way", "value": "h2"}},
            "rule_info": {"upstream_protocol": "Http2", "description": "text"},
        },
    ],
    "type": "http2bolt_simple",
}


@pytest.mark.parametrize(
    ("config", "route", "field", "protocol"),
    [
        ({"type": "http2Tohttp"}, None, "", None),  # only for clients of HTTP/2
        ({"type": "httpTohttp2"}, None, "", "Http2"),
        ({"type": "httpTohttp2", "trans": {"receiver_phase": 0}}, None, "", "Http2"),
        (RULES, None, "h1", "Http1"),
        (RULES, None, "h2", "Http2"),
        (SIMPLE, {"type": "http2Tohttp"}, "", None),
        ({"type": "http2Tohttp"}, {"rules": RULES["rules"]}, "h2", "Http2"),
        ({"rules": RULES["rules"]}, None, "h3", None),
        ({"rules": RULES["rules"]}, None, "", None),
    ],
)
def test_rules_choose_the_upstream_protocol(
    config: dict[str, Any], route: dict[str, Any] | None, field: str, protocol: str | None
) -> None:
    headers = {"x-way": field} if field else {}
    settings = None if route is None else of_route(route)
    overrides = run(transcoder(config), Request("GET", "/", headers), route_config=settings).exchange.overrides
    assert (None if overrides is None else overrides.protocol) == protocol


def test_the_type_comes_after_the_rules(start: Start) -> None:
    talk = begin(start, RULES)
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert bolt_frames.frames(talk.expect_dial().takes())


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"type": "http2bolt"}, ".type: must be one of httpTohttp2, http2Tohttp, http2bolt_simple, not 'http2bolt'"),
        ({**SIMPLE, "trans": {"receiver_phase": 3}}, ".trans.receiver_phase: must be 0, 1 or 2, not 3"),
        ({"rules": [{}]}, ".rules[0].matcher_config.matcher_type: must be simpleMatcher"),
        (
            {"rules": [{**RULES["rules"][0], "rule_info": {"upstream_protocol": "bolt"}}]},  # type: ignore[dict-item]
            ".rules[0].rule_info.upstream_protocol: must be Http1 or Http2, not 'bolt'",
        ),
        (
            {"rules": [{"matcher_config": {"matcher_type": "simpleMatcher", "config": {"value": "x"}}}]},
            ".rules[0].matcher_config.config: needs `name` and `value` of a header",
        ),
    ],
)
def test_settings_that_cannot_work(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(FilterConfigError) as caught:
        transcoder(config)
    path, text = caught.value.problems[0]
    assert f"{path}: {text}".startswith(problem)


def test_which_settings_are_those_of_a_class() -> None:
    assert is_from_file("transcoder", {"path": "a.py", "class": "A"})
    assert not is_from_file("transcoder", SIMPLE)
    assert route_spec("transcoder", {"anything": 1}) is None
    assert route_spec("transcoder", SIMPLE) is not None
