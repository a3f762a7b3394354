"""`gzip`: negotiation, what is compressed, the fields of the head, chunks as they arrive."""

from __future__ import annotations

import zlib
from typing import Any

import brotli
import pytest
import zstandard
from shipped_kit import problems, shipped

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.filters.stream.compressors import best_coding
from pymosn.testing import Request, Response, Result, run

PAGE = b"<p>hello</p>" * 200
HTML = {"content-type": "text/html; charset=utf-8", "etag": '"1"', "accept-ranges": "bytes", "content-md5": "x"}


def ask(accept: str | None, response: Response, config: dict[str, Any] | None = None, method: str = "GET") -> Result:
    request = Request(method, "/", {} if accept is None else {"accept-encoding": accept})
    return run(shipped("gzip", config or {}), request, upstream=response)


def decoded(result: Result) -> bytes:
    coding = result.headers.get("content-encoding")
    if coding == "br":
        return bytes(brotli.decompress(result.body))
    if coding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(result.body)
    return zlib.decompress(result.body, 31) if coding == "gzip" else result.body


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate", "gzip"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, br;q=0.9, zstd;q=0.1", "gzip"),
        ("*", "zstd"),
        ("*;q=0.5, gzip", "gzip"),
        ("*, zstd;q=0, br;q=0.000", "gzip"),
        ("gzip;q=0", ""),
        ("gzip;q=0, *;q=0", ""),
        ("identity", ""),
        ("identity;q=1, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip;q=0.8", "gzip"),
        ("deflate", ""),
        ("", ""),
        (" , ;q=1,gzip ; Q=0.3 ", "gzip"),
        ("gzip;q=abc", ""),
        ("gzip;q=2", ""),
        ("gzip;q=0.0001", ""),
        ("gzip;q=-1", ""),
    ],
)
def test_negotiation(accepted: str, coding: str) -> None:
    assert best_coding([accepted], ["zstd", "br", "gzip"]) == coding


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_compressed_reply(coding: str) -> None:
    result = ask(f"deflate, {coding}", Response(200, PAGE, HTML))
    assert decoded(result) == PAGE
    assert len(result.body) < len(PAGE)
    assert result.headers["content-encoding"] == coding
    assert result.headers["content-length"] == str(len(result.body))
    assert (result.headers["vary"], result.headers["etag"]) == ("Accept-Encoding", 'W/"1"')
    assert "accept-ranges" not in result.headers
    assert "content-md5" not in result.headers


def test_chunks_can_be_read_as_they_arrive() -> None:
    pieces = [b"<p>one</p>", b"<p>two</p>", b"<p>three</p>"]
    result = ask("gzip", Response(200, pieces, HTML))
    assert "content-length" not in result.headers
    stream = zlib.decompressobj(31)
    read = [stream.decompress(piece) for piece in result.chunks]
    assert read[: len(pieces) - 1] == pieces[:-1]
    assert b"".join(read) + stream.flush() == b"".join(pieces)


@pytest.mark.parametrize(
    ("response", "vary"),
    [
        (Response(200, PAGE, {**HTML, "content-type": "image/png"}), None),
        (Response(200, PAGE, {}), None),
        (Response(200, PAGE, {**HTML, "content-encoding": "br"}), None),
        (Response(206, PAGE, HTML), "Accept-Encoding"),
        (Response(204, b"", HTML), None),
        (Response(304, b"", {**HTML, "content-type": "image/png"}), None),
        (Response(304, b"", {**HTML, "cache-control": "no-transform"}), None),
        (Response(200, b"", HTML), None),
        (Response(200, PAGE, {**HTML, "cache-control": "public, No-Transform"}), None),
    ],
    ids=[
        "type",
        "no type",
        "compressed",
        "range",
        "no content",
        "not modified",
        "not modified, no-transform",
        "empty",
        "no-transform",
    ],
)
def test_responses_that_are_not_compressed(response: Response, vary: str | None) -> None:
    before = response.headers.items()
    result = ask("gzip", response)
    assert result.body == response.chunks[0] if response.chunks else result.body == b""
    assert result.headers.get("vary") == vary
    assert [item for item in before if item[0] != "content-length"] == [
        item for item in result.headers.items() if item[0] not in ("date", "content-length", "vary")
    ]


@pytest.mark.parametrize(
    ("fields", "varies"),
    [
        ({"content-range": "bytes 0-1/500"}, True),
        ({"content-range": "bytes 0-1/99"}, False),
        ({"content-range": "bytes 0-1/*"}, True),
        ({}, True),
        ({"content-range": "bytes 0-1/500", "content-type": "image/png"}, False),
        ({"content-type": "multipart/byteranges; boundary=b"}, True),
        ({"content-range": "bytes 0-1/500", "content-encoding": "br"}, False),
    ],
)
def test_a_part_varies_as_the_whole_does(fields: dict[str, str], varies: bool) -> None:
    result = ask("gzip", Response(206, b"hi", {**HTML, **fields}), {"content_length": 100})
    assert (result.body, result.headers.get("etag")) == (b"hi", '"1"')
    assert result.headers.get("vary") == ("Accept-Encoding" if varies else None)


def test_calls_are_not_compressed() -> None:
    for kind in ("application/grpc", "application/grpc+proto"):
        result = ask("gzip", Response(200, PAGE, {"content-type": kind}), {"content_types": [kind]})
        assert (result.body, "content-encoding" in result.headers) == (PAGE, False)


@pytest.mark.parametrize("accept", [None, "br;q=0", "identity"])
def test_vary_also_where_the_client_wants_it_plain(accept: str | None) -> None:
    result = ask(accept, Response(200, PAGE, {**HTML, "vary": "Cookie"}))
    assert (result.body, result.headers["vary"], result.headers["etag"]) == (PAGE, "Cookie, Accept-Encoding", '"1"')


def test_vary_is_not_repeated() -> None:
    assert ask("gzip", Response(200, PAGE, {**HTML, "vary": "accept-encoding"})).headers["vary"] == "accept-encoding"
    assert ask("gzip", Response(200, PAGE, {**HTML, "vary": "*"})).headers["vary"] == "*"


def test_head_has_the_fields_of_the_compressed_response() -> None:
    result = ask("gzip", Response(200, PAGE, HTML), method="HEAD")
    whole = ask("gzip", Response(200, PAGE, HTML))
    of_whole = [item for item in whole.headers.items() if item[0] != "content-length"]
    assert sorted(result.headers.items()) == sorted(of_whole)
    assert result.body == b""


@pytest.mark.parametrize(
    ("none_match", "accept", "etag"),
    [
        ('W/"1"', "gzip", 'W/"1"'),
        ('W/"1"', None, 'W/"1"'),  # it has the compressed one, whatever it accepts now
        ('"a,b", W/"1"', "gzip", 'W/"1"'),
        ('"1"', "gzip", '"1"'),
        ('"1"', None, '"1"'),
        ("*", "gzip", 'W/"1"'),
        ("*", "identity", '"1"'),
        ("*", None, '"1"'),
        ("", "gzip", 'W/"1"'),
    ],
)
def test_a_304_is_about_the_variant_that_the_client_has(none_match: str, accept: str | None, etag: str) -> None:
    asked = {"if-none-match": none_match} if none_match else {"if-modified-since": "yesterday"}
    asked |= {} if accept is None else {"accept-encoding": accept}
    fields = {"etag": '"1"', "accept-ranges": "bytes", "content-digest": "x", "content-length": "9"}
    answer = Response(304, b"", {name: value for name, value in fields.items() if name != "content-length"})
    result = run(shipped("gzip", {}), Request("GET", "/", asked), upstream=answer)
    is_weak = etag.startswith("W/")
    assert (result.status, result.body, result.headers["etag"]) == (304, b"", etag)
    # A client that accepts a coding, and has the other variant, has it because the type is not compressed.
    assert ("vary" in result.headers) == ((none_match, accept) != ('"1"', "gzip"))
    assert ("accept-ranges" in result.headers, "content-digest" in result.headers) == (not is_weak, not is_weak)
    assert "content-encoding" not in result.headers


def test_settings() -> None:
    config = {
        "content_length": len(PAGE),
        "content_types": ["application/json", "text/html; charset=utf-8"],
        "gzip_level": 9,
    }
    assert decoded(ask("gzip", Response(200, PAGE, HTML), {**config, "encodings": ["gzip"]})) == PAGE
    assert ask("gzip", Response(200, PAGE[:-1], HTML), config).body == PAGE[:-1]
    assert ask("gzip", Response(200, PAGE, {"content-type": "text/html"}), config).body == PAGE
    result = ask("gzip", Response(200, PAGE, {"content-type": "Application/JSON; charset=utf-8"}), config)
    assert result.headers["content-encoding"] == "gzip"
    assert ask("br", Response(200, PAGE, HTML), {"encodings": ["gzip"]}).body == PAGE
    assert ask("gzip, br", Response(200, PAGE, HTML), {"encodings": ["gzip", "br"]}).headers["content-encoding"] == "gzip"
    assert problems("gzip", {"gzip_level": 10, "encodings": ["deflate"]}) == [
        ".gzip_level: must be 1 to 9, not 10",
        ".encodings[0]: must be one of zstd, br, gzip, not 'deflate'",
    ]


class Switches(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.set_variable("proxy_gzip_switch", "off")


class Replaces(StreamFilter):
    def on_response(self, exchange: Exchange) -> Reply:
        return Reply(200, "mine", {"content-type": "text/html"})


class Rewrites(StreamFilter):
    def on_response(self, exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.set_body(b"other" * 50)


def test_with_other_filters() -> None:
    accept = Request("GET", "/", {"accept-encoding": "gzip"})
    page = Response(200, PAGE, HTML)
    assert run([Switches({}), shipped("gzip", {})], accept, upstream=page).body == PAGE
    replaced = run([Replaces({}), shipped("gzip", {})], accept, upstream=page)
    assert (replaced.body, replaced.headers.get("content-encoding")) == (b"mine", None)
    for chain in ([Rewrites({}), shipped("gzip", {})], [shipped("gzip", {}), Rewrites({})]):
        result = run(chain, accept, upstream=page)
        assert result.headers["content-encoding"] == "gzip"
        assert decoded(result) == b"other" * 50


def test_replies_of_the_proxy_itself_are_compressed_too() -> None:
    class Answers(StreamFilter):
        def on_request(self, exchange: Exchange) -> Reply:
            return Reply(200, PAGE, {"content-type": "text/html"})

    result = run([shipped("gzip", {}), Answers({})], Request("GET", "/", {"accept-encoding": "gzip"}))
    assert decoded(result) == PAGE


@pytest.mark.parametrize("accept", ["gzip", "identity"])
def test_a_weak_tag_is_that_of_both_variants(accept: str) -> None:
    asked = {"if-none-match": 'W/"1"', "accept-encoding": accept}
    result = run(shipped("gzip", {}), Request("GET", "/", asked), upstream=Response(304, b"", {"etag": 'W/"1"'}))
    assert (result.headers["etag"], result.headers["vary"]) == ('W/"1"', "Accept-Encoding")
