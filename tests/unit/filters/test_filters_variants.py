"""One resource, one set of metadata: filters that change responses give 200, 206, 304, 204, 416 and HEAD the same variant.

The table has a row for each filter. The same upstream answers all requests as an origin does, over HTTP/1 and HTTP/2.
"""

from __future__ import annotations

import asyncio
import base64
import runpy
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import brotli
import pytest
import zstandard
from grpc_shop import descriptor_set
from shipped_kit import shipped

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.grpc import framed
from pymosn.testing import Request, Response, Result, World

EXAMPLES: Final = Path(__file__).parents[3] / "examples" / "filters"
HTML: Final = b"<p>secret</p>" * 100
JSON: Final = b'{"secret": 1, "items": [' + b"1, " * 300 + b"2]}"
#: Fields that a 304 has if the 200 has them (RFC 9110 section 15.4.5).
OF_304: Final = ("cache-control", "content-location", "date", "etag", "expires", "vary")
#: Fields that describe the exact bytes of a body.
OF_BYTES: Final = ("accept-ranges", "content-md5", "content-digest", "repr-digest")
FIELDS: Final = {
    "cache-control": "max-age=60",
    "content-digest": "sha-256=:x:",
    "content-location": "/page.en",
    "content-md5": "x",
    "accept-ranges": "bytes",
    "date": "Sun, 06 Nov 1994 08:49:37 GMT",
    "etag": '"v1"',
    "expires": "Sun, 06 Nov 1994 09:49:37 GMT",
    "last-modified": "Sat, 05 Nov 1994 08:49:37 GMT",
    "repr-digest": "sha-256=:y:",
    "vary": "Accept-Language",
}


class Row(NamedTuple):
    """`ask`: request headers of the client. `changes`: whether bodies are changed. `has_parts`: whether Range has an effect.

    `guesses`: a 304 to a request without a tag has no type, and is taken for that of a compressed body.
    """

    make: Callable[[], list[StreamFilter]]
    ask: dict[str, str]
    kind: str = "text/html"
    changes: bool = False
    has_parts: bool = True
    guesses: bool = False


def of(name: str, **config: Any) -> Callable[[], list[StreamFilter]]:
    return lambda: [shipped(name, config)]


def example(file: str, name: str) -> Callable[[], list[StreamFilter]]:
    """A filter of an example, with its default settings."""

    def make() -> list[StreamFilter]:
        kind = runpy.run_path(str(EXAMPLES / file))[name]
        config = getattr(kind, "Config", None)
        return [kind({} if config is None else config())]

    return make


def both(*makers: Callable[[], list[StreamFilter]]) -> Callable[[], list[StreamFilter]]:
    return lambda: [made for make in makers for made in make()]


CORS: Final = of("cors", allow_origins=["https://app.example"], expose_headers=["x-a"], allow_credentials=True)
EDIT: Final = of("json_edit", response={"remove": ["secret"]})
CACHE: Final = of("response_cache", cache_status="mine")
ROWS: Final = {
    "gzip": Row(of("gzip"), {"accept-encoding": "gzip"}, changes=True),
    "br": Row(of("gzip"), {"accept-encoding": "br, gzip;q=0.5"}, changes=True),
    "zstd": Row(of("gzip"), {"accept-encoding": "zstd"}, changes=True),
    "gzip, for a client without it": Row(of("gzip"), {}),
    "gzip, of another type": Row(of("gzip"), {"accept-encoding": "gzip"}, "image/png", guesses=True),
    "cors": Row(CORS, {"origin": "https://app.example"}),
    "cors, of another origin": Row(CORS, {"origin": "https://other.example"}),
    "cors, without an origin": Row(CORS, {}),
    "cors for everyone": Row(of("cors", allow_origins=["*"]), {"origin": "https://app.example"}),
    "response_cache": Row(CACHE, {}),
    "gzip before response_cache": Row(both(of("gzip"), CACHE), {"accept-encoding": "gzip"}, changes=True),
    "gzip after response_cache": Row(both(CACHE, of("gzip")), {"accept-encoding": "gzip"}, changes=True),
    "json_edit": Row(EDIT, {}, "application/json", changes=True, has_parts=False),
    "json_edit and gzip": Row(
        both(of("gzip", content_types=["application/json"]), EDIT, CORS),
        {"accept-encoding": "gzip", "origin": "https://app.example"},
        "application/json",
        changes=True,
        has_parts=False,
    ),
    "payload_limit": Row(of("payload_limit", max_entity_size=10), {}),
    "fault": Row(of("fault", abort={"percentage": 0, "status": 503}), {}),
    "grpc_web": Row(of("grpc_web"), {}),
    "example filter": Row(example("filters.py", "Tenant"), {"x-api-key": "acme-1"}),
}


def origin(kind: str, counts: list[str]) -> Callable[[Request], Response]:
    """An upstream with one page, as an origin answers (RFC 9110 sections 13 and 14)."""
    page = JSON if kind == "application/json" else HTML

    def answer(request: Request) -> Response:
        headers = request.headers
        counts.append(f"{request.method} {request.path}")
        if request.path == "/empty":
            return Response(204, b"", {name: value for name, value in FIELDS.items() if "digest" not in name})
        tags = headers.get("if-none-match")
        if (tags is not None and ("*" in tags or '"v1"' in tags)) or (tags is None and "if-modified-since" in headers):
            return Response(304, b"", {name: value for name, value in FIELDS.items() if name != "last-modified"})
        fields = {**FIELDS, "content-type": kind}
        if headers.get("range") == "bytes=0-9":
            return Response(206, page[:10], {**fields, "content-range": f"bytes 0-9/{len(page)}"})
        if "range" in headers:
            return Response(416, b"no", {"content-type": "text/plain", "content-range": f"bytes */{len(page)}"})
        return Response(200, page, fields)

    return answer


def decoded(result: Result) -> bytes:
    coding = result.headers.get("content-encoding")
    if coding == "br":
        return bytes(brotli.decompress(result.body))
    if coding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(result.body)
    return zlib.decompress(result.body, 31) if coding == "gzip" else result.body


class Answers(NamedTuple):
    """What a client gets for one resource. `again`: to the same request, later; it may come from a cache."""

    whole: Result
    again: Result
    by_tag: Result
    by_time: Result
    head: Result
    part: Result
    beyond: Result
    empty: Result


def all_answers(row: Row, client: str, upstream: str) -> Answers:
    async def ask() -> Answers:
        page = origin(row.kind, [])
        async with World(row.make(), page, client_protocol=client, upstream_protocol=upstream) as world:

            async def get(method: str = "GET", path: str = "/", **more: str) -> Result:
                asked = {**row.ask, **{name.replace("_", "-"): value for name, value in more.items()}}
                return await world.send(Request(method, path, asked))

            whole = await get()
            tag = whole.headers["etag"]
            return Answers(
                whole,
                await get(),
                await get(if_none_match=tag),
                await get(if_modified_since=FIELDS["last-modified"]),
                await get("HEAD"),
                await get(range="bytes=0-9"),
                await get(range="bytes=99999-"),
                await get(path="/empty"),
            )

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "protocols", [("Http1", "Http1"), ("Http2", "Http2"), ("Http2", "Http1"), ("Http1", "Http2")], ids="-".join
)
@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_one_resource_has_one_set_of_metadata(row: Row, protocols: tuple[str, str]) -> None:
    answers = all_answers(row, *protocols)
    check_whole(row, answers)
    check_unmodified(row, answers)
    check_head(answers)
    check_parts(row, answers)
    empty = answers.empty
    assert (empty.status, empty.body, empty.reason) == (204, b"", "")
    assert "content-length" not in empty.headers
    assert "content-encoding" not in empty.headers


def check_whole(row: Row, answers: Answers) -> None:
    for result in (answers.whole, answers.again):
        headers = result.headers
        assert (result.status, result.reason, result.was_reset) == (200, "", False)
        assert headers.get("content-length") in (None, str(len(result.body)))
        page = JSON if row.kind == "application/json" else HTML
        assert (result.body == page) is not row.changes
        assert decoded(result) == page or b"secret" not in decoded(result)
        # What describes the exact bytes of the upstream does not go with others (RFC 9110 section 8.8.1).
        assert headers["etag"] == ('W/"v1"' if row.changes else '"v1"')
        assert all((name in headers) is not row.changes for name in OF_BYTES)
        assert ("content-encoding" in headers) is ("accept-encoding" in row.ask and row.changes)
    assert [fields_of(answers.whole, name) for name in OF_304] == [fields_of(answers.again, name) for name in OF_304]


def check_unmodified(row: Row, answers: Answers) -> None:
    for result in (answers.by_tag, answers.by_time):
        assert (result.status, result.body, result.reason) == (304, b"", "")
        if result is answers.by_time and row.guesses:
            continue
        assert [fields_of(result, name) for name in OF_304] == [fields_of(answers.whole, name) for name in OF_304]
        assert "content-encoding" not in result.headers
        # Not those of another variant: no length at all, or that of the 200.
        assert result.headers.get("content-length") in (None, str(len(answers.whole.body)))
        assert {name for name in OF_BYTES if name in result.headers} <= {
            name for name in OF_BYTES if name in answers.whole.headers
        }


def check_head(answers: Answers) -> None:
    head = answers.head
    assert (head.status, head.body, head.reason) == (200, b"", "")
    assert head.headers.get("content-length") in (None, str(len(answers.whole.body)))
    ignored = ("content-length", "age", "cache-status")
    of_whole = sorted(item for item in answers.whole.headers.items() if item[0] not in ignored)
    assert sorted(item for item in head.headers.items() if item[0] not in ignored) == of_whole


def check_parts(row: Row, answers: Answers) -> None:
    part, beyond, whole = answers.part, answers.beyond, answers.whole
    if not row.has_parts:  # the whole body, because the upstream did not see the Range
        for result in (part, beyond):
            assert (result.status, decoded(result)) == (200, decoded(whole))
            assert "content-range" not in result.headers
        return
    page = JSON if row.kind == "application/json" else HTML
    # A part is one of the upstream's bytes, so that its tag is, too.
    assert (part.status, part.body, part.headers["etag"]) == (206, page[:10], '"v1"')
    assert part.headers["content-range"] == f"bytes 0-9/{len(page)}"
    assert part.headers.get("content-length") in (None, "10")
    assert "content-encoding" not in part.headers
    shared = [name for name in OF_304 if name != "etag"]
    assert [fields_of(part, name) for name in shared] == [fields_of(whole, name) for name in shared]
    assert (beyond.status, decoded(beyond)) == (416, b"no")
    assert beyond.headers["content-range"] == f"bytes */{len(page)}"


def fields_of(result: Result, name: str) -> list[str]:
    """The members of a field."""
    return sorted(part.strip().lower() for value in result.headers.get_all(name) for part in value.split(","))


@pytest.mark.parametrize("client", ["Http1", "Http2"])
@pytest.mark.parametrize("status", [200, 204, 206, 304, 416, 503])
@pytest.mark.parametrize("name", ["grpc_web", "grpc_json_transcoder"])
def test_a_call_keeps_nothing_of_a_response_that_is_not_grpc(name: str, status: int, client: str) -> None:
    """Neither its status nor what describes its body: a client would take the reply for a part, or for unmodified."""

    def answer(_: Request) -> Response:
        fields = {**FIELDS, "content-type": "text/html", "content-encoding": "br", "content-range": "bytes 0-9/20"}
        return Response(status, b"" if status in (204, 304) else HTML, fields)

    async def ask() -> Result:
        if name == "grpc_web":
            request = Request("POST", "/shop.Shop/GetBook", {"content-type": "application/grpc-web+proto"}, framed(b""))
            made = shipped(name, {})
        else:
            request = Request("GET", "/v1/shelves/1/books/2")
            descriptors = base64.b64encode(descriptor_set().SerializeToString()).decode()
            made = shipped(name, {"proto_descriptor_bin": descriptors, "services": ["shop.Shop"]})
        async with World(made, answer, client_protocol=client) as world:
            return await world.send(request)

    result = asyncio.run(ask())
    assert len(result.upstream) == 1
    if name == "grpc_web":
        assert (result.status, result.headers["content-type"]) == (200, "application/grpc-web+proto")
        assert int(result.headers["grpc-status"]) != 0
    else:
        assert (result.status, result.headers["content-type"]) == (status if status >= 400 else 502, "application/json")
        assert result.json()["message"]
    left = {field for field, _ in result.headers.items()}
    assert not left & {*OF_BYTES, "etag", "last-modified", "content-encoding", "content-range"}
    assert result.headers.get("content-length") in (None, str(len(result.body)))


class Demands(StreamFilter):
    """Answers with a status that demands a field, for methods or with a body that may have none."""

    def on_request(self, exchange: Exchange) -> Reply:
        status = int(exchange.request.path[1:])
        return Reply(status, b"body", {"allow": "GET", "etag": '"v1"', "content-range": "bytes */9"})


@pytest.mark.parametrize("client", ["Http1", "Http2"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 205, 304, 405, 416])
def test_replies_of_filters_have_what_they_declare(client: str, method: str, status: int) -> None:
    async def ask() -> Result:
        async with World(Demands({}), client_protocol=client) as world:
            return await world.send(Request(method, f"/{status}"))

    result = asyncio.run(ask())
    has_body = method == "GET" and status not in (204, 205, 304)
    assert (result.status, result.body) == (status, b"body" if has_body else b"")
    fields = [result.headers[name] for name in ("allow", "etag", "content-range")]
    assert fields == ["GET", '"v1"', "bytes */9"]
    length = {204: None, 205: "0", 304: None}.get(status, "4")
    assert result.headers.get("content-length") == length
