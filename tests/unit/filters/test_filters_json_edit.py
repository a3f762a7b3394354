"""`json_edit`: what is removed and set, what keeps its bytes, and what does not pass because it cannot be edited."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from shipped_kit import of_route, problems, shipped

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.core.headers import headers_from
from pymosn.filters.stream.json_document import Document, Edits, InvalidDocument
from pymosn.testing import Request, Response, Result, World, make, run

JSON = {"content-type": "application/json"}
HIDE: dict[str, Any] = {"response": {"remove": ["password"]}}
SECRET = '{"name":"eve","password":"s3cret"}'


def hidden(response: Response, request: Request | None = None, config: dict[str, Any] | None = None, **more: Any) -> Result:
    result = run(shipped("json_edit", config or HIDE), request or Request(), upstream=response, **more)
    assert "s3cret" not in result.text
    assert "s3cret" not in str(result.headers)
    return result


# ---- documents


def edited(text: str | bytes, remove: list[str] | None = None, set_: dict[str, Any] | None = None) -> str:
    return Document(Edits(remove or [], set_ or {})).edit(text.encode() if isinstance(text, str) else text).decode()


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('{"a":1,"p":2,"b":{"p":{"a":1}},"c":[{"p":1},[{"p":[]}]]}', '{"a":1,"b":{},"c":[{},[{}]]}'),
        ('{"\\u0070":1,"P":2,"pp":3}', '{"P":2,"pp":3}'),
        ('{"a":{"p":1},"a":2,"p":1,"p":2}', '{"a":2}'),
        ('{"a":{"p":1},"\\u0061":{"b":1}}', '{"a":{"b":1}}'),
        ('{ "z" : 1.0 , "y":1,"x":1e400,"w":-0,"v":0.10,"u":12345678901234567890123456789}', None),
        ('{"s":"\\u0041\\/\\ud83d\\ude00é","n":null,"b":true}', None),
        ('\ufeff {"p":1}\r\n', "{}"),
        ("[]", "[]"),
        ('"p"', '"p"'),
        (" 1.50 ", "1.50"),
        ("[" * 99 + '{"p":1}' + "]" * 99, "[" * 99 + "{}" + "]" * 99),
    ],
)
def test_removal(text: str, made: str | None) -> None:
    """Without `made`: only white space between the members changes."""
    assert edited(text, ["p"]) == (text.replace(" ", "") if made is None else made)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", '{"a":1', '{"a":1}}', '{"a":1} {"p":1}', '{"a":1}\n{"p":1}', "1,2", "1],[2", "{'p':1}", "{p:1}"),
        *(
            '{"a":01}',
            '{"a":NaN}',
            '{"a":+1}',
            '{"a":.5}',
            '{"a":1,}',
            "[1,]",
            '{"a":"\x01"}',
            '{"a":"\\q"}',
            "tru",
            "//x\n1",
        ),
        *("[" * 101 + "]" * 101, "[" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000, '{"\\ud800":1}'),
        *(b'{"\xff":1}', '{"p":1}'.encode("utf-16"), '{"p":1}'.encode("utf-32-be"), b"\xff", b"\x00"),
    ],
)
def test_what_is_not_json(text: str | bytes) -> None:
    with pytest.raises(InvalidDocument):
        edited(text, ["p"])


@pytest.mark.parametrize(
    ("text", "remove", "set_", "made"),
    [
        ('{"a":{"b":1,"c":2},"b":3}', ["/a/b"], {}, '{"a":{"c":2},"b":3}'),
        ('{"a":[{"b":1},{"b":2}],"b":3}', ["/a/*/b"], {}, '{"a":[{},{}],"b":3}'),
        ('{"a":[1,2,3]}', ["/a/0", "/a/2"], {}, '{"a":[2]}'),
        ('{"a":{"x":{"b":1},"y":{"b":1}}}', ["/a/*/b"], {}, '{"a":{"x":{},"y":{}}}'),
        ('{"a/b":1,"m~n":2,"":3}', ["/a~1b", "/m~0n", "/"], {}, "{}"),
        ('{"a":1}', ["/a/b", "/x/y/z"], {}, '{"a":1}'),
        ('{"a":{"b":1}}', [], {"/a/b": [1.0], "/c": "d"}, '{"a":{"b":[1.0]},"c":"d"}'),
        ('{"a":1,"b":{"a":{"x":1}}}', [], {"a": None}, '{"a":null,"b":{"a":null}}'),
        ('{"t":"evil","x":{"t":"evil"}}', ["t"], {"/t": "mine"}, '{"x":{},"t":"mine"}'),
        ('{"t":"evil","x":{"t":"evil"}}', ["t"], {"t": "mine"}, '{"t":"mine","x":{"t":"mine"}}'),
        ('{"a":[1,2]}', [], {"/a/1": 9, "/a/7": 9}, '{"a":[1,9]}'),
        ('{"a":[1,2]}', [], {"/a/*": 0}, '{"a":[0,0]}'),
    ],
)
def test_places(text: str, remove: list[str], set_: dict[str, Any], made: str) -> None:
    assert edited(text, remove, set_) == made


# ---- responses


def test_a_hidden_value() -> None:
    result = hidden(Response(200, SECRET, {**JSON, "etag": '"1"', "x-a": "b"}))
    assert (result.status, result.json()) == (200, {"name": "eve"})
    assert (result.headers["content-length"], result.headers["x-a"]) == (str(len(result.body)), "b")


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "text/json",
        'application/problem+json;charset="utf-8"',
        "a/b+json",
    ],
)
def test_types_of_json(kind: str) -> None:
    assert hidden(Response(200, SECRET, {"content-type": kind})).json() == {"name": "eve"}


def test_a_body_in_chunks_with_trailers() -> None:
    response = Response(200, [SECRET[:25], SECRET[25:]], JSON)
    response.trailers = headers_from({"content-digest": "sha-256=:s3cret:"})
    result = hidden(response)
    assert (result.json(), result.trailers) == ({"name": "eve"}, None)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (206, {**JSON, "content-range": "bytes 10-40/41"}, SECRET[10:]),
        (206, {"content-type": "multipart/byteranges; boundary=x"}, SECRET),
        (206, {"content-type": "image/png"}, SECRET),
        (200, {**JSON, "content-range": "bytes 0-40/41"}, SECRET),
        (226, {**JSON, "im": "vcdiff"}, SECRET),
        (200, {**JSON, "content-encoding": "br"}, SECRET),
        (200, {**JSON, "content-encoding": "identity, gzip"}, SECRET),
        (200, {"content-type": "application/json; charset=utf-16"}, SECRET),
        (200, {"content-type": "application/json; charset=latin1"}, SECRET),
        (200, {}, SECRET),
        (200, [("content-type", "application/json"), ("content-type", "image/png")], SECRET),
        (200, {"content-type": "image/png, application/json"}, SECRET),
        (200, {"content-type": "image/png application/json"}, SECRET),
        (200, {"content-type": "image"}, SECRET),
        (200, {"content-type": "text/plain"}, SECRET),
        (200, {"content-type": "application/x-ndjson"}, f"{SECRET}\n{SECRET}"),
        (200, {"content-type": "application/json-seq"}, f"\x1e{SECRET}\n"),
        (200, {"content-type": "text/event-stream"}, f"data: {SECRET}\n\n"),
        (200, {"content-type": "text/javascript"}, f"callback({SECRET})"),
        (200, {"content-type": "application/xml"}, "<password>s3cret</password>"),
        (200, {"content-type": "application/cbor"}, SECRET),
        (200, {"content-type": "multipart/mixed; boundary=x"}, SECRET),
        (200, JSON, f")]}}',\n{SECRET}"),
        (200, JSON, f"{SECRET}\n{SECRET}"),
        (200, JSON, SECRET[:-1]),
        (200, JSON, "[" * 200 + SECRET + "]" * 200),
        (500, JSON, f"error in {SECRET}"),
        (404, {"content-type": "text/plain"}, SECRET),
    ],
)
def test_what_cannot_be_edited_does_not_pass(status: int, headers: Any, body: str) -> None:
    result = hidden(Response(status, body, headers), on_error="skip")
    assert (result.status, result.reason) == (502, "bad_response")


def test_a_compressed_response_does_not_pass() -> None:
    async def squeezed(request: Request) -> Response:
        response = Response(200, "", {**JSON, "content-encoding": "gzip"})
        response.chunks = [gzip.compress(SECRET.encode())]
        return response

    result = run(shipped("json_edit", HIDE), Request(headers={"accept-encoding": "gzip"}), upstream=squeezed)
    assert (result.status, result.upstream[0].headers.get_all("accept-encoding")) == (502, ["identity"])


def test_a_body_over_the_limit_does_not_pass() -> None:
    for response in (Response(200, SECRET, JSON), Response(200, [SECRET[:20], SECRET[20:]], JSON)):
        result = hidden(response, config={**HIDE, "max_bytes": 33})
        assert (result.status, result.reason) == (502, "response_too_large")
    assert hidden(Response(200, SECRET, JSON), config={**HIDE, "max_bytes": 34}).status == 200


def test_ranges_are_not_asked_for() -> None:
    asked = {
        "range": "bytes=10-40",
        "if-range": '"1"',
        "a-im": "vcdiff",
        "request-range": "bytes=1-2",
        "if-none-match": 'W/"1"',
    }
    result = hidden(Response(200, SECRET, {**JSON, "accept-ranges": "bytes"}), Request(headers=asked))
    (request,) = result.upstream
    assert not {"range", "if-range", "a-im", "request-range"} & {name for name, _ in request.headers.items()}
    assert request.headers["if-none-match"] == 'W/"1"', "weak comparison finds the upstream's strong tag"
    assert (result.status, "accept-ranges" in result.headers) == (200, False)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 304])
def test_validators(method: str, status: int) -> None:
    """The tag of the upstream's bytes must not be that of others, and a digest would allow guesses of the hidden value."""
    strong = {**JSON, "etag": '"s3"', "content-md5": "a", "digest": "a", "content-digest": "a", "repr-digest": "a"}
    result = hidden(Response(status, SECRET, {**strong, "last-modified": "x"}), Request(method))
    assert (result.status, result.headers.get_all("etag"), result.headers["last-modified"]) == (status, ['W/"s3"'], "x")
    assert not {"content-md5", "digest", "content-digest", "repr-digest"} & {name for name, _ in result.headers.items()}
    assert result.headers.get("content-length") == (str(len(result.body)) if result.body else None)
    weak = hidden(Response(status, SECRET, {**JSON, "etag": 'W/"s3"'}), Request(method))
    assert weak.headers["etag"] == 'W/"s3"'
    twice = hidden(Response(status, SECRET, [*JSON.items(), ("etag", '"1"'), ("etag", '"2"')]), Request(method))
    assert "etag" not in twice.headers


def test_types_that_pass() -> None:
    png = hidden(Response(200, "png", {"content-type": "image/png", "etag": '"1"', "content-encoding": "gzip"}))
    assert (png.text, png.headers["etag"], png.headers["content-encoding"]) == ("png", '"1"', "gzip")
    head = hidden(Response(200, "", {"content-type": "image/png", "etag": '"1"'}), Request("HEAD"))
    assert head.headers["etag"] == '"1"'
    plain = hidden(Response(200, "text", {"content-type": "text/plain; a=b"}), config={**HIDE, "pass_types": ["text/plain"]})
    assert plain.text == "text"
    assert hidden(Response(200, "<p>", {"content-type": "text/html"}), config={**HIDE, "pass_types": []}).status == 502


def test_bodies_that_are_empty_pass() -> None:
    assert hidden(Response(204, "")).status == 204
    assert hidden(Response(200, "")).status == 200
    assert hidden(Response(301, "", {"location": "/a"})).headers["location"] == "/a"


def test_replies_that_are_not_the_upstreams() -> None:
    class Answers(StreamFilter):
        def on_route(self, exchange: Exchange) -> Reply | None:
            name = exchange.request.path
            return Reply(403, "no") if name == "/no" else Reply(200, SECRET, JSON) if name == "/json" else None

    chain = [make(Answers), shipped("json_edit", HIDE)]
    assert run(chain, Request("GET", "/no")).text == "no"
    assert run(chain, Request("GET", "/json")).json() == {"name": "eve"}, "it may have it from an upstream"
    failed = hidden(Response(), config=HIDE, clusters={}, on_error="skip", request=Request("GET", "/"))
    assert failed.status == 502, "`ok` without a type"


@pytest.mark.parametrize("is_first", [True, False])
def test_behind_and_before_a_cache(is_first: bool) -> None:
    async def check() -> None:
        headers = {**JSON, "cache-control": "max-age=60, stale-if-error=60", "etag": '"1"'}
        answers = [Response(200, SECRET, headers), Response(503, f"trace of {SECRET}")]
        edit, cache = shipped("json_edit", HIDE), shipped("response_cache", {})
        world = World([edit, cache] if is_first else [cache, edit], upstream=lambda request: answers[0])
        for seconds in (0.0, 1.0, 70.0):
            await world.advance(seconds)
            result = await world.send(Request())
            assert "s3cret" not in result.text
            if seconds == 0.0 or not is_first:  # a body that is replaced after the cache has seen its head is not stored
                assert (result.status, result.json(), result.headers["etag"]) == (200, {"name": "eve"}, 'W/"1"')
            answers[0] = answers[1]

    asyncio.run(check())


# ---- requests


FORCE: dict[str, Any] = {"request": {"remove": ["admin"], "set": {"/tenant": "acme", "/opts/deep": True}}}


def test_a_forced_value() -> None:
    body = '{"tenant":"evil","tenant":"worse","n":1.0,"x":[{"admin":1}],"opts":{}}'
    request = Request("POST", "/", {**JSON, "content-digest": "sha-256=:x:"}, [body[:30], body[30:]])
    request.trailers = headers_from({"x-t": "1"})
    result = run(shipped("json_edit", FORCE), request)
    (sent,) = result.upstream
    assert sent.text == '{"tenant":"acme","n":1.0,"x":[{}],"opts":{"deep":true}}'
    assert (sent.headers["content-length"], sent.trailers) == (str(len(sent.body)), None)
    assert "content-digest" not in sent.headers
    assert "accept-encoding" not in sent.headers, "responses are not edited"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "text/plain"}, '{"opts":{},"admin":1}', 415),
        ({}, '{"opts":{},"admin":1}', 415),
        ({"content-type": "application/x-www-form-urlencoded"}, "admin=1", 415),
        ([("content-type", "application/json"), ("content-type", "text/plain")], '{"opts":{},"admin":1}', 415),
        ({"content-type": "text/html"}, '{"opts":{},"admin":1}', 415),
        ({**JSON, "content-encoding": "gzip"}, '{"opts":{}}', 415),
        ({"content-type": "application/json; charset=utf-7"}, '{"opts":{}}', 415),
        ({**JSON, "content-range": "bytes 0-1/9"}, '{"opts":{}}', 415),
        (JSON, "{", 400),
        (JSON, '{"opts":{}}{"opts":{}}', 400),
        (JSON, "[]", 400),
        (JSON, '"text"', 400),
        (JSON, "{}", 400),
        (JSON, '{"opts":[]}', 400),
        (JSON, '{"opts":null}', 400),
        (JSON, b'{"opts":{},"\xff":1}', 400),
        (JSON, "[" * 5000, 400),
        (JSON, '{"opts":{},"x":"' + "x" * 1048576 + '"}', 413),
    ],
)
def test_requests_that_cannot_be_edited(headers: Any, body: Any, status: int) -> None:
    result = run(shipped("json_edit", FORCE), Request("POST", "/", headers, body), on_error="skip")
    assert (result.status, result.upstream) == (status, [])


def test_requests_without_a_body_pass() -> None:
    assert run(shipped("json_edit", FORCE), Request("DELETE", "/")).status == 200


# ---- settings


def test_settings_of_a_route() -> None:
    rules = of_route("json_edit", {"response": {"remove": ["name"]}})
    result = run(shipped("json_edit", HIDE), Request(), upstream=Response(200, SECRET, JSON), route_config=rules)
    assert result.json() == {"password": "s3cret"}
    off = run(shipped("json_edit", HIDE), Request(headers={"range": "bytes=0-1"}), route_config=of_route("json_edit", {}))
    assert (off.text, off.upstream[0].headers.get("range")) == ("ok", "bytes=0-1")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"response": {"remove": [""]}}, ".response.remove[0]: must be a name or a JSON Pointer, not empty"),
        ({"request": {"remove": ["/a~2"]}}, ".request.remove[0]: not a JSON Pointer: '/a~2'"),
        ({"request": {"set": {"/~": 1}}}, ".request.set./~: not a JSON Pointer: '/~'"),
        ({"pass_types": ["html"]}, ".pass_types[0]: must be type/subtype, not 'html'"),
        ({"pass_types": ["a/b+json"]}, ".pass_types[0]: JSON is edited, and cannot pass unchanged"),
    ],
)
def test_invalid_settings(config: dict[str, Any], problem: str) -> None:
    assert problems("json_edit", config) == [problem]
