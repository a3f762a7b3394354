"""`grpc_web`: requests and responses, binary and in base64, trailers, trailers-only, failures, streams."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from shipped_kit import shipped

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.grpc import framed
from pymosn.core.headers import headers_from
from pymosn.filters.stream.grpc_messages import MessageReader
from pymosn.filters.stream.grpc_web import TextDecoder
from pymosn.testing import Down, Request, Response, Result, run

HELLO = framed(b"hello")
OK = {"grpc-status": "0", "grpc-message": ""}


def grpc_response(body: Any, trailers: dict[str, str] | None = None, **headers: str) -> Response:
    response = Response(200, body, {"content-type": "application/grpc+proto", **headers})
    response.trailers = None if trailers is None else headers_from(trailers)
    return response


def call(
    response: Any, kind: str = "application/grpc-web+proto", body: Any = HELLO, filters: Any = (), **headers: str
) -> Result:
    request = Request("POST", "/pkg.Greeter/Hello", {"content-type": kind, "x-grpc-web": "1", **headers}, body)
    return run([shipped("grpc_web", {}), *filters], request, upstream=response)


def trailers_of(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The messages of a body, and the trailers in its last frame."""
    at = 0
    while body[at] & 0x80 == 0:
        at += 5 + int.from_bytes(body[at + 1 : at + 5], "big")
    assert int.from_bytes(body[at + 1 : at + 5], "big") == len(body) - at - 5
    lines = body[at + 5 :].decode().split("\r\n")
    assert lines.pop() == ""
    return body[:at], dict(line.split(": ", 1) for line in lines)


def texts(body: bytes) -> bytes:
    """The bytes of base64 with padding anywhere."""
    return TextDecoder().feed(body, True)


@pytest.mark.parametrize(
    ("kind", "sent", "received"),
    [
        ("application/grpc-web", "application/grpc", "application/grpc-web+proto"),
        ("application/grpc-web+proto", "application/grpc+proto", "application/grpc-web+proto"),
        ("application/grpc-web+json", "application/grpc+json", "application/grpc-web+json"),
        ("Application/gRPC-Web+Proto", "application/grpc+proto", "application/grpc-web+proto"),
    ],
)
def test_a_binary_call(kind: str, sent: str, received: str) -> None:
    result = call(grpc_response([HELLO], {**OK, "x-sum": "7"}), kind)
    asked = result.upstream[0]
    assert (asked.method, asked.path, asked.body) == ("POST", "/pkg.Greeter/Hello", HELLO)
    assert asked.headers["content-type"] == sent
    assert asked.headers["x-grpc-web"] == "1"
    assert (result.status, result.headers["content-type"], result.trailers) == (200, received, None)
    messages, trailers = trailers_of(result.body)
    assert (messages, trailers) == (HELLO, {"grpc-status": "0", "grpc-message": "", "x-sum": "7"})


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 100])
def test_a_call_in_text(size: int) -> None:
    sent = base64.b64encode(HELLO[:5]) + base64.b64encode(HELLO[5:])  # padding in the middle
    assert b"=" in sent[:-2]
    pieces = [sent[i : i + size] for i in range(0, len(sent), size)]
    result = call(grpc_response([b"\0\0\0", b"\0\5hel", b"lo"], OK), "application/grpc-web-text", pieces)
    assert result.upstream[0].body == HELLO
    assert result.upstream[0].headers["content-type"] == "application/grpc"
    assert result.headers["content-type"] == "application/grpc-web-text+proto"
    assert trailers_of(texts(result.body)) == (HELLO, OK)


@pytest.mark.parametrize(
    ("kind", "accept", "is_text"),
    [
        ("application/grpc-web", "application/grpc-web-text", True),
        ("application/grpc-web-text", "application/grpc-web-text", True),
        ("application/grpc-web-text", "*/*", True),
        ("application/grpc-web-text", "application/grpc-web", False),
        ("application/grpc-web", "*/*", False),
    ],
)
def test_accept_chooses_the_form_of_the_response(kind: str, accept: str, is_text: bool) -> None:
    body = base64.b64encode(HELLO) if "text" in kind else HELLO
    result = call(grpc_response([HELLO], OK), kind, body, accept=accept)
    assert result.headers["content-type"] == f"application/grpc-web{'-text' if is_text else ''}+proto"
    assert trailers_of(texts(result.body) if is_text else result.body) == (HELLO, OK)


@pytest.mark.parametrize("body", [b"AAA", b"AA=A", b"====", b"AAAA\nAAAA", b"AA-_", b"A===", b"\xff\xff\xff\xff"])
def test_invalid_text(body: bytes) -> None:
    result = call(Response(), "application/grpc-web-text", body)
    assert (result.status, result.reason) == (200, "untranslatable_request")
    assert result.headers["grpc-status"] == "3"
    assert result.headers["content-type"] == "application/grpc-web-text+proto"


def test_trailers_only() -> None:
    response = Response(200, b"", {"content-type": "application/grpc", "grpc-status": "5", "grpc-message": "none"})
    result = call(response)
    assert (result.status, result.body) == (200, b"")
    assert result.headers["content-type"] == "application/grpc-web+proto"
    assert (result.headers["grpc-status"], result.headers["grpc-message"]) == ("5", "none")


def test_a_response_without_a_status_is_told() -> None:
    messages, trailers = trailers_of(call(grpc_response([HELLO])).body)
    assert (messages, trailers["grpc-status"]) == (HELLO, "2")


@pytest.mark.parametrize(("status", "expected"), [(200, "2"), (401, "16"), (404, "12"), (503, "14"), (500, "2")])
def test_a_response_that_is_not_grpc(status: int, expected: str) -> None:
    result = call(Response(status, b"<html>", {"content-type": "text/html", "etag": '"1"'}))
    assert (result.status, result.body) == (200, b"")
    assert result.headers["grpc-status"] == expected
    assert result.headers["content-type"] == "application/grpc-web+proto"
    assert "etag" not in result.headers


def test_failures_and_replies_of_filters() -> None:
    def refuse(request: Request) -> Response:
        raise Down("connect_refused")

    result = call(refuse)
    assert (result.status, result.reason, result.headers["grpc-status"]) == (200, "connect_refused", "14")
    assert result.headers["content-type"] == "application/grpc-web+proto"

    class Denies(StreamFilter):
        def on_request(self, exchange: Exchange) -> Reply:
            return Reply(403, "no")

    result = call(Response(), filters=[Denies({})])
    assert (result.headers["grpc-status"], result.headers["grpc-message"]) == ("7", "no")
    assert result.headers["content-type"] == "application/grpc-web+proto"

    class Broken(StreamFilter):
        def on_response(self, exchange: Exchange) -> None:
            raise ValueError

    result = call(grpc_response([HELLO], OK), filters=[Broken({})])
    assert (result.reason, result.headers["grpc-status"]) == ("filter_error", "13")
    assert result.headers["content-type"] == "application/grpc-web+proto"


def test_a_filter_that_replies_with_messages() -> None:
    class Answers(StreamFilter):
        def on_request(self, exchange: Exchange) -> Reply:
            return Reply(200, HELLO, {"content-type": "application/grpc", "grpc-status": "0"})

    assert trailers_of(call(Response(), filters=[Answers({})]).body) == (HELLO, {"grpc-status": "0"})


def test_messages_are_sent_as_they_arrive() -> None:
    seen: list[int] = []

    class Counts(StreamFilter):
        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
            seen.append(len(data))

    def stream() -> Iterator[bytes]:
        for _ in range(3):
            yield HELLO

    filters = [Counts({}), shipped("grpc_web", {})]  # responses pass in reverse
    request = Request("POST", "/a.B/C", {"content-type": "application/grpc-web"}, HELLO)
    result = run(filters, request, upstream=lambda _: grpc_response(stream(), OK))
    assert len([size for size in seen if size]) >= 4
    assert trailers_of(result.body) == (HELLO * 3, OK)


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc-webby", "application/json", ""])
def test_other_requests_are_not_touched(kind: str) -> None:
    result = call(grpc_response([HELLO], OK), kind)
    assert result.upstream[0].headers.get("content-type", "") == kind
    assert (result.body, result.headers["content-type"]) == (HELLO, "application/grpc+proto")
    assert result.trailers is not None


def test_a_preflight_request_is_not_touched() -> None:
    request = Request("OPTIONS", "/a.B/C", {"content-type": "application/grpc-web"})
    assert run(shipped("grpc_web", {}), request).upstream[0].headers["content-type"] == "application/grpc-web"


def test_the_deadline_and_the_upstream_protocol() -> None:
    result = call(grpc_response([HELLO], OK), **{"grpc-timeout": "2S"})
    exchange = result.exchange
    assert exchange.request.timeout == 2.0
    assert exchange.overrides is not None
    assert exchange.overrides.protocol == "Http2"
    assert (exchange.request.service(), exchange.request.rpc_method()) == ("pkg.Greeter", "Hello")


def test_messages_are_cut_out_of_chunks() -> None:
    body = framed(b"a") + framed(b"") + framed(b"bcd")
    for size in range(1, len(body) + 1):
        reader = MessageReader(10)
        found = [message for i in range(0, len(body), size) for message in reader.feed(body[i : i + size])]
        assert (found, reader.has_rest()) == ([b"a", b"", b"bcd"], False)
    with pytest.raises(ValueError, match="compressed"):
        MessageReader(10).feed(framed(b"a", 1))
    with pytest.raises(ValueError, match="exceeds the limit of 2"):
        MessageReader(2).feed(framed(b"abc"))
    reader = MessageReader(10)
    assert (reader.feed(b"\0\0"), reader.has_rest()) == ([], True)
