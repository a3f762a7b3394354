"""`grpc_json_transcoder`: requests become calls, responses become JSON, as google/api/http.proto says."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from grpc_shop import METHODS, classes, descriptor_set, rule
from shipped_kit import problems, shipped

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.grpc import framed
from pymosn.core.headers import headers_from
from pymosn.filters.stream.grpc_messages import MessageReader
from pymosn.testing import Down, Request, Response, Result, run

EXAMPLE = Path(__file__).parents[3] / "examples" / "grpc_web"
SET = base64.b64encode(descriptor_set().SerializeToString()).decode()
KINDS = classes()
BOOK = KINDS["Book"](name="books/1", title="Emma", pages=300)
OK = {"grpc-status": "0"}


def config(**more: Any) -> dict[str, Any]:
    return {"proto_descriptor_bin": SET, "services": ["shop.Shop"], **more}


def grpc_response(*messages: Any, trailers: dict[str, str] | None = None, headers: dict[str, str] | None = None) -> Response:
    body = [framed(message.SerializeToString()) for message in messages]
    response = Response(200, body, {"content-type": "application/grpc", **(headers or {})})
    response.trailers = headers_from(OK if trailers is None else trailers)
    return response


def ask(
    method: str, target: str, body: Any = b"", response: Any = None, filters: Any = (), headers: Any = None, **more: Any
) -> Result:
    content = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    fields = {"content-type": "application/json"} if content else {}
    request = Request(method, target, {**fields, **(headers or {})}, content)
    answer = grpc_response(BOOK) if response is None else response
    return run([shipped("grpc_json_transcoder", config(**more)), *filters], request, upstream=answer)


def called(result: Result, kind: str) -> Any:
    """The only message of the call."""
    (message,) = messages(result, kind)
    return message


def messages(result: Result, kind: str) -> list[Any]:
    assert len(result.upstream) == 1, result
    return [KINDS[kind].FromString(data) for data in MessageReader(1 << 20).feed(result.upstream[0].body)]


def error(result: Result) -> tuple[int, int, str]:
    found = result.json()
    assert result.headers["content-type"] == "application/json"
    return result.status, found["code"], found["message"]


# ---- requests


def test_a_call_and_its_response() -> None:
    result = ask("GET", "/v1/shelves/3/books/9", headers={"x-tenant": "a", "grpc-encoding": "gzip"})
    asked = result.upstream[0]
    assert (asked.method, asked.path, asked.query) == ("POST", "/shop.Shop/GetBook", "")
    assert asked.headers["content-type"] == "application/grpc"
    assert asked.headers["x-tenant"] == "a"
    assert "grpc-encoding" not in asked.headers
    assert called(result, "GetBook").name == "shelves/3/books/9"
    assert (result.status, result.headers["content-type"], result.trailers) == (200, "application/json", None)
    assert result.json() == {"name": "books/1", "title": "Emma", "pages": 300}
    assert "grpc-status" not in result.headers
    exchange = result.exchange
    assert exchange.overrides is not None
    assert exchange.overrides.protocol == "Http2"


@pytest.mark.parametrize(
    ("method", "target", "body", "path", "kind", "expected"),
    [
        ("GET", "/v1/books/a%2Fb%20c", b"", "GetBook", "GetBook", {"name": "a/b c"}),
        ("GET", "/v1/books/x?view=POETRY", b"", "GetBook", "GetBook", {"name": "x", "view": "POETRY"}),
        ("GET", "/v1/books/x?view=2", b"", "GetBook", "GetBook", {"name": "x", "view": "POETRY"}),
        ("DELETE", "/v1/books/x", b"", "DeleteBook", "GetBook", {"name": "books/x"}),
        ("PURGE", "/v1/books/x", b"", "PurgeBook", "GetBook", {"name": "books/x"}),
        ("POST", "/v1/books/x:move", {"view": 1}, "MoveBook", "GetBook", {"name": "books/x", "view": "NOVEL"}),
        ("POST", "/v1/books/x:move", {"name": "other"}, "MoveBook", "GetBook", {"name": "books/x"}),
        ("POST", "/v1/books/x:move", b"", "MoveBook", "GetBook", {"name": "books/x"}),
        ("PUT", "/v1/books/a/b", {"title": "T"}, "ReplaceBook", "Book", {"name": "books/a/b", "title": "T"}),
        (
            *("POST", "/v1/shelves/1/books?dry_run=true", {"title": "T"}, "CreateBook", "PutBook"),
            {"shelf": "shelves/1", "book": {"title": "T"}, "dryRun": True},
        ),
        (
            *("PATCH", "/v1/books/7?shelf=s", {"pages": 3}, "PatchBook", "PutBook"),
            {"shelf": "s", "book": {"name": "books/7", "pages": 3}},
        ),
        ("POST", "/v1/shelves/1/books", b"", "CreateBook", "PutBook", {"shelf": "shelves/1"}),
    ],
)
def test_rules(method: str, target: str, body: Any, path: str, kind: str, expected: dict[str, Any]) -> None:
    result = ask(method, target, body)
    assert result.status == 200, result.text
    assert result.upstream[0].path == f"/shop.Shop/{path}"
    assert json_format.MessageToDict(called(result, kind)) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("genres=NOVEL&genres=POETRY", {"genres": ["NOVEL", "POETRY"]}),
        ("author.name=Jane+A&author.born=1775", {"author": {"name": "Jane A", "born": 1775}}),
        ("since=2024-01-02T03:04:05Z", {"since": "2024-01-02T03:04:05Z"}),
        ("max_price=1.5", {"maxPrice": 1.5}),
        ("maxPrice=NaN", {"maxPrice": "NaN"}),
        ("all=true&onlySigned=false", {"all": True, "onlySigned": False}),
        ("ids=9007199254740993&ids=-1", {"ids": ["9007199254740993", "-1"]}),
        ("raw=aGk%3D", {"raw": "aGk="}),
        ("mask=a.b,c", {"mask": "a.b,c"}),
        ("&&", {}),
    ],
)
def test_query_parameters(query: str, expected: dict[str, Any]) -> None:
    result = ask("GET", f"/v1/shelves/1/books?{query}", response=grpc_response(KINDS["Books"]()))
    assert result.status == 200, result.text
    assert json_format.MessageToDict(called(result, "ListBooks")) == {"parent": "shelves/1", **expected}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("nothing=1", "unknown query parameter 'nothing'"),
        ("author=1", "unknown query parameter 'author'"),
        ("author.x=1", "unknown query parameter 'author.x'"),
        ("genres.x=1", "unknown query parameter"),
        ("parent=shelves/2", "unknown query parameter 'parent'"),
        ("all=1", "all: '1' is neither true nor false"),
        ("all=true&all=false", "'all' is given more than once"),
        ("ids=x", "ids: "),
        ("ids=", "ids: empty"),
        ("ids=99999999999999999999", "ids: "),
        ("ids=1_000", "ids: '1_000' is not a number"),
        ("ids=%D9%A1", "ids: "),
        ("max_price=inf", "max_price: "),
        ("max_price=1e999", "max_price: "),
        ("max_price.value=1", "unknown query parameter 'max_price.value'"),
        ("since.seconds=1", "unknown query parameter 'since.seconds'"),
        ("raw=!!!", "raw: '!!!' is not base64"),
        ("genres=NOTHING", "genres: "),
        ("since=yesterday", "since: "),
        ("author.name=%FF", "a query parameter is not UTF-8"),
    ],
)
def test_invalid_query_parameters(query: str, text: str) -> None:
    result = ask("GET", f"/v1/shelves/1/books?{query}")
    status, code, message = error(result)
    assert (status, code, result.upstream) == (400, 3, [])
    assert text in message


def test_query_parameters_that_are_ignored() -> None:
    more: dict[str, Any] = {"ignored_query_parameters": ["key"]}
    assert ask("GET", "/v1/books/1?key=7", **more).status == 200
    assert ask("GET", "/v1/books/1?other=7", **more).status == 400
    assert ask("GET", "/v1/books/1?other=7", ignore_unknown_query_parameters=True).status == 200
    assert ask("POST", "/v1/books/1:move?view=1", {}).status == 400  # the body has all fields


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"bigNumber": "9007199254740993"}, {"bigNumber": "9007199254740993"}),
        ({"big_number": 5}, {"bigNumber": "5"}),
        ({"price": "NaN"}, {"price": "NaN"}),
        ({"price": "-Infinity"}, {"price": "-Infinity"}),
        ({"cover": "_-8="}, {"cover": "/+8="}),
        ({"genre": 1}, {"genre": "NOVEL"}),
        ({"authors": [{"name": "A"}, {}]}, {"authors": [{"name": "A"}, {}]}),
        ({"extra": {"a": [1, None, "x"]}}, {"extra": {"a": [1.0, None, "x"]}}),
        ({"title": None}, {}),
    ],
)
def test_values_in_a_body(body: Any, expected: dict[str, Any]) -> None:
    result = ask("PUT", "/v1/books/1", body)
    assert result.status == 200, result.text
    assert json_format.MessageToDict(called(result, "Book")) == {"name": "books/1", **expected}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "not valid JSON"),
        (b'{"title": NaN}', "not valid JSON"),
        (b'{"title":"a","title":"b"}', "not valid JSON"),
        (b"[" * 200, "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"nothing": 1}', "nothing"),
        (b'{"pages": "x"}', "pages"),
        (b'{"pages": 1.5}', "pages"),
        (b'{"pages": 99999999999}', "pages"),
        (b'{"inPrint": "true"}', "inPrint"),
        (b'{"title": 1}', "title"),
        (b'{"authors": {}}', "authors"),
        (b'{"authors": [1]}', ""),
        (b'{"printed": 5}', ""),
        (b'{"genre": "NOTHING"}', "genre"),
        (b'{"extra": 5}', ""),
        (b'{"price": 1%s}' % (b"0" * 400), "does not fit"),
    ],
)
def test_invalid_bodies(body: bytes, text: str) -> None:
    result = ask("PUT", "/v1/books/1", body)
    status, code, message = error(result)
    assert (status, code, result.upstream) == (400, 3, [])
    assert text in message


def test_unknown_fields_may_be_ignored() -> None:
    assert ask("PUT", "/v1/books/1", {"nothing": 1}, ignore_unknown_fields=True).status == 200


def test_bodies_that_are_not_taken() -> None:
    assert error(ask("GET", "/v1/books/1", b"{}"))[::2] == (400, "this method takes no body")
    assert error(ask("PUT", "/v1/books/1", b"{}", headers={"content-type": "text/plain"}))[0] == 415
    assert error(ask("PUT", "/v1/books/1", b"{}", headers={"content-encoding": "gzip"}))[0] == 415
    result = ask("PUT", "/v1/books/1", {"title": "x" * 100}, max_request_body_size=50)
    assert (result.status, result.reason, result.upstream) == (413, "body_too_large", [])


def test_a_stream_of_requests() -> None:
    target = "/v1/shelves/1/books:add"
    result = ask("POST", target, [{"book": {"title": "a"}}, {"dryRun": True}], response=grpc_response(KINDS["Books"]()))
    first, second = messages(result, "PutBook")
    assert (first.shelf, first.book.title, second.shelf, second.dry_run) == ("shelves/1", "a", "shelves/1", True)
    for body in (b"[]", b""):
        assert messages(ask("POST", target, body, response=grpc_response(KINDS["Books"]())), "PutBook") == []
    assert "must be a JSON array" in error(ask("POST", target, {}))[2]


def test_a_raw_body() -> None:
    reply = KINDS["HttpBody"](content_type="image/png", data=b"\x89PNG")
    result = ask("POST", "/v1/files/a", b"\0\1raw", response=grpc_response(reply), headers={"content-type": "image/gif"})
    sent = called(result, "Upload")
    assert (sent.name, sent.file.data, sent.file.content_type) == ("a", b"\0\1raw", "image/gif")
    assert (result.body, result.headers["content-type"]) == (b"\x89PNG", "image/png")


@pytest.mark.parametrize("target", ["/v2/x", "/v1/shelves/1/2/3", "/shop.Shop/Unruled"])
def test_requests_without_a_rule(target: str) -> None:
    result = ask("GET", target, response=Response(200, b"plain"))
    assert (result.status, result.body, result.upstream[0].path) == (200, b"plain", target)
    assert error(ask("GET", target, reject_unknown_method=True))[:2] == (404, 5)


def test_another_method_is_refused_if_wanted() -> None:
    rejected = ask("POST", "/v1/watch", b"{}", reject_unknown_method=True)
    assert error(rejected)[:2] == (405, 12)
    assert rejected.headers["allow"] == "GET"


def test_methods_without_a_rule_may_be_mapped() -> None:
    result = ask("POST", "/shop.Shop/Unruled", {"name": "x"}, auto_mapping=True)
    assert called(result, "GetBook").name == "x"
    assert result.json()["title"] == "Emma"


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc-web"])
def test_calls_of_grpc_are_not_touched(kind: str) -> None:
    body = framed(KINDS["GetBook"](name="x").SerializeToString())
    result = ask("POST", "/shop.Shop/Unruled", body, headers={"content-type": kind}, auto_mapping=True)
    assert (result.upstream[0].body, result.upstream[0].headers["content-type"]) == (body, kind)
    assert result.headers["content-type"] == "application/grpc"


# ---- responses


def test_how_values_are_printed() -> None:
    book = KINDS["Book"](big_number=2**60, price=float("inf"), cover=b"\xff", genre=1, in_print=False)
    assert ask("GET", "/v1/books/1", response=grpc_response(book)).json() == {
        "bigNumber": str(2**60),
        "price": "Infinity",
        "cover": "/w==",
        "genre": "NOVEL",
    }
    options = {"preserve_proto_field_names": True, "always_print_enums_as_ints": True}
    found = ask("GET", "/v1/books/1", response=grpc_response(book), print_options=options).json()
    assert (found["big_number"], found["genre"]) == (str(2**60), 1)
    found = ask(
        "GET", "/v1/books/1", response=grpc_response(book), print_options={"always_print_primitive_fields": True}
    ).json()
    assert (found["inPrint"], found["title"], found["tags"], "printed" in found) == (False, "", [], False)
    text = ask("GET", "/v1/books/1", print_options={"add_whitespace": True}).text
    assert text.startswith('{\n "name": "books/1",\n')


def test_large_bodies_are_converted_in_a_thread() -> None:
    names = ["x" * 1000] * 100
    result = ask("PUT", "/v1/books/1", {"tags": names}, response=grpc_response(KINDS["Book"](tags=names)))
    assert called(result, "Book").tags == names
    assert result.json() == {"tags": names}
    assert error(ask("PUT", "/v1/books/1", {"tags": [*names, 1]}))[0] == 400
    assert ask("GET", "/v1/books/1", response=broken([framed(b"\xff" * 20_000)], OK)).reason == "untranslatable_reply"


def test_bodies_of_many_small_values_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[Any] = []

    async def to_thread(convert: Any) -> Any:
        threads.append(convert)
        return convert()

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    assert ask("PUT", "/v1/books/1", {"title": "x" * 15_000}).status == 200
    assert not threads
    for body in ({"authors": [{}] * 1000}, {"tags": [""] * 4000}, {"extra": {"a": [[]] * 1000}}):
        assert ask("PUT", "/v1/books/1", body).status == 200
    assert len(threads) == 3


def test_parameters_of_messages_in_messages() -> None:
    file = descriptor_set()
    nested = next(kind for one in file.file for kind in one.message_type if kind.name == "Author")
    nested.field.add(name="friend", number=3, label=1, type=11, type_name=".shop.Author")
    more: dict[str, Any] = {"proto_descriptor_bin": base64.b64encode(file.SerializeToString()).decode()}
    answer = grpc_response(KINDS["Books"]())
    for depth, status in ((100, 200), (101, 400), (1000, 400)):
        name = ".".join(["author", *["friend"] * (depth - 2), "born"])
        assert ask("GET", f"/v1/shelves/1/books?{name}=1", response=answer, **more).status == status


def test_one_field_as_the_body() -> None:
    books = KINDS["Books"](books=[BOOK], total=7)
    assert ask("GET", "/v1/titles", response=grpc_response(books)).json()[0]["title"] == "Emma"
    assert ask("GET", "/v1/count", response=grpc_response(books)).json() == 7
    empty = KINDS["Books"]()
    assert ask("GET", "/v1/titles", response=grpc_response(empty)).json() == []
    assert ask("GET", "/v1/count", response=grpc_response(empty)).json() == 0


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *((1, 499), (2, 500), (3, 400), (4, 504), (5, 404), (6, 409), (7, 403), (8, 429), (9, 400), (10, 409)),
        *((11, 400), (12, 501), (13, 500), (14, 503), (15, 500), (16, 401), (99, 500)),
    ],
)
@pytest.mark.parametrize("only", [True, False])
def test_errors(code: int, status: int, only: bool) -> None:
    fields = {"grpc-status": str(code), "grpc-message": "no%20%C3%A9"}
    response = grpc_response(trailers=fields)
    if only:
        response = Response(200, b"", {"content-type": "application/grpc", **fields})
    result = ask("GET", "/v1/books/1", response=response)
    assert error(result) == (status, 2 if code == 99 else code, "no é")
    assert "grpc-status" not in result.headers


def test_the_details_of_an_error() -> None:
    def any_of(url: str, value: bytes) -> bytes:
        return (
            b"\x1a"
            + bytes([len(url) + len(value) + 4])
            + b"\n"
            + bytes([len(url)])
            + url.encode()
            + b"\x12"
            + bytes([len(value)])
            + value
        )

    author = KINDS["Author"](name="Jane").SerializeToString()
    raw = b"\x08\x05" + any_of("type.example/shop.Author", author) + any_of("type.example/other.Kind", b"\1\2")
    fields = {"grpc-status": "5", "grpc-message": "x", "grpc-status-details-bin": base64.b64encode(raw).decode().rstrip("=")}
    result = ask("GET", "/v1/books/1", response=grpc_response(trailers=fields))
    assert result.json()["details"] == [
        {"@type": "type.example/shop.Author", "name": "Jane"},
        {"@type": "type.example/other.Kind", "value": "AQI="},
    ]
    fields["grpc-status-details-bin"] = "!!"
    assert "details" not in ask("GET", "/v1/books/1", response=grpc_response(trailers=fields)).json()


def broken(body: list[bytes], trailers: dict[str, str] | None = None) -> Response:
    response = Response(200, body, {"content-type": "application/grpc"})
    response.trailers = None if trailers is None else headers_from(trailers)
    return response


@pytest.mark.parametrize(
    "response",
    [
        broken([framed(b"")]),  # no status
        broken([], OK),
        broken([framed(b""), framed(b"")], OK),
        broken([framed(b"")[:3]], OK),
        broken([framed(b"\xff\xff")], OK),
        broken([framed(b"", 1)], OK),
        broken([framed(b"\x52\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f")], OK),  # a timestamp out of range
    ],
)
def test_responses_that_cannot_be_json(response: Response) -> None:
    result = ask("GET", "/v1/books/1", response=response)
    assert (result.status, result.reason) == (502, "untranslatable_reply")
    assert error(result) == (502, 14, "Bad Gateway")


def test_other_responses() -> None:
    result = ask("GET", "/v1/books/1", response=Response(503, b"<html>", {"content-type": "text/html"}))
    assert error(result) == (503, 14, "the upstream's response is not gRPC")
    result = ask("GET", "/v1/books/1", response=Response(200, b"<html>", {"content-type": "text/html"}))
    assert error(result)[0] == 502
    result = ask("GET", "/v1/books/1", response=grpc_response(KINDS["Book"](title="x" * 100)), max_response_body_size=50)
    assert (result.status, result.reason) == (502, "response_too_large")

    def refuse(request: Request) -> Response:
        raise Down("connect_refused")

    result = ask("GET", "/v1/books/1", response=refuse)
    assert (error(result), result.reason) == ((502, 14, "Bad Gateway"), "connect_refused")


def test_replies_of_other_filters_are_not_touched() -> None:
    class Denies(StreamFilter):
        def on_route(self, exchange: Exchange) -> Reply:
            return Reply(403, "no")

    result = ask("GET", "/v1/books/1", filters=[Denies({})])
    assert (result.status, result.text, result.headers["content-type"]) == (403, "no", "text/plain; charset=utf-8")


# ---- streams of responses


def test_a_stream_of_responses() -> None:
    books = [KINDS["Book"](title=title) for title in ("a", "b", "c")]
    result = ask("GET", "/v1/watch", response=grpc_response(*books))
    assert (result.json(), result.trailers) == ([{"title": "a"}, {"title": "b"}, {"title": "c"}], None)
    assert result.headers["content-type"] == "application/json"
    result = ask("GET", "/v1/watch", response=grpc_response(*books), print_options={"stream_newline_delimited": True})
    assert result.text == '{"title":"a"}\n{"title":"b"}\n{"title":"c"}\n'
    assert result.headers["content-type"] == "application/x-ndjson"


def test_messages_of_a_stream_are_sent_as_they_arrive() -> None:
    whole = framed(KINDS["Book"](title="a" * 300).SerializeToString())

    def pieces() -> Iterator[bytes]:
        yield whole[:100]
        yield whole[100:] + whole
        yield whole

    def answer(request: Request) -> Response:
        response = Response(200, pieces(), {"content-type": "application/grpc"})
        response.trailers = headers_from(OK)
        return response

    result = ask("GET", "/v1/watch", response=answer)
    assert len(result.json()) == 3
    assert len(result.chunks) >= 2


def test_streams_without_messages() -> None:
    assert ask("GET", "/v1/watch", response=grpc_response()).json() == []
    only = Response(200, b"", {"content-type": "application/grpc", **OK})
    assert ask("GET", "/v1/watch", response=only).json() == []
    only = Response(200, b"", {"content-type": "application/grpc", "grpc-status": "7", "grpc-message": "x"})
    assert error(ask("GET", "/v1/watch", response=only)) == (403, 7, "x")


def test_a_stream_that_fails_ends_with_its_status() -> None:
    book = KINDS["Book"](title="a")
    trailers = {"grpc-status": "14", "grpc-message": "gone"}
    result = ask("GET", "/v1/watch", response=grpc_response(book, trailers=trailers))
    assert result.json() == [{"title": "a"}, {"error": {"code": 14, "message": "gone"}}]
    options = {"stream_newline_delimited": True}
    result = ask("GET", "/v1/watch", response=grpc_response(book, trailers=trailers), print_options=options)
    assert result.text.splitlines()[1] == '{"error":{"code":14,"message":"gone"}}'


@pytest.mark.parametrize("rest", [[b"\0\0"], [framed(b"\xff\xff")], [framed(b"", 1)]])
def test_a_stream_with_broken_messages_is_cut_off(rest: list[bytes]) -> None:
    def answer(request: Request) -> Response:
        response = Response(200, iter([framed(b""), *rest]), {"content-type": "application/grpc"})
        response.trailers = headers_from(OK)
        return response

    result = ask("GET", "/v1/watch", response=answer)
    assert (result.reason, result.was_reset or result.status == 502) == ("untranslatable_reply", True)


def test_a_raw_stream() -> None:
    parts = [KINDS["HttpBody"](data=b"ab"), KINDS["HttpBody"](data=b"\0c")]
    result = ask("GET", "/v1/files/a", response=grpc_response(*parts))
    assert (result.body, result.headers["content-type"]) == (b"ab\0c", "application/octet-stream")
    result = ask("GET", "/v1/files/a", response=grpc_response(*parts, trailers={"grpc-status": "14"}))
    assert result.was_reset or result.status == 502


# ---- routes


@pytest.mark.parametrize(("matches_incoming", "path"), [(False, "/shop.Shop/GetBook"), (True, "/v1/books/1")])
def test_the_path_that_routes_see(matches_incoming: bool, path: str) -> None:
    seen: list[str] = []

    class Sees(StreamFilter):
        def on_request(self, exchange: Exchange) -> None:
            seen.append(exchange.request.path)

    result = ask("GET", "/v1/books/1", filters=[Sees({})], match_incoming_request_route=matches_incoming)
    assert seen == [path]
    assert result.upstream[0].path == "/shop.Shop/GetBook"
    assert result.json()["title"] == "Emma"


# ---- settings


def test_the_descriptor_set_of_the_example() -> None:
    """It was made by protoc, with the files of google.api."""
    content = base64.b64encode((EXAMPLE / "shop.pb").read_bytes()).decode()
    result = ask("GET", "/v1/shelves/1/books/2", proto_descriptor_bin=content)
    assert (result.upstream[0].path, result.upstream[0].body) == (
        "/shop.Shop/GetBook",
        framed(b"\n\x11shelves/1/books/2"),
    )
    result = ask("POST", "/v1/shelves/1/books", {"title": "a"}, proto_descriptor_bin=content)
    assert result.upstream[0].body == framed(b"\n\tshelves/1\x12\x03\x12\x01a")
    result = ask("GET", "/v1/shelves/1/books:watch?minPages=5", response=grpc_response(), proto_descriptor_bin=content)
    assert (result.json(), result.upstream[0].body) == ([], framed(b"\n\tshelves/1\x10\x05"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"services": []}, ".services: names no service"),
        ({"services": ["shop.Nope"]}, ".services: service shop.Nope is not in the descriptor set, which has: shop.Shop"),
        ({"proto_descriptor_bin": ""}, ".proto_descriptor: the descriptor set is missing"),
        ({"proto_descriptor_bin": "?"}, ".proto_descriptor_bin: not base64"),
        ({"proto_descriptor_bin": "AAAA"}, ".proto_descriptor_bin: not a FileDescriptorSet"),
        ({"proto_descriptor_bin": "ChA="}, ".proto_descriptor_bin: not a FileDescriptorSet"),
    ],
)
def test_invalid_settings(changes: dict[str, Any], problem: str) -> None:
    (found,) = problems("grpc_json_transcoder", config(**changes))
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("http", "problem"),
    [
        (rule(get="/v1/{nothing}"), "shop.Shop/GetBook: shop.GetBook has no single value 'nothing'"),
        (rule(get="v1"), "shop.Shop/GetBook: not a path template: 'v1'"),
        (rule("nothing", post="/v1"), "shop.Shop/GetBook: shop.GetBook has no field 'nothing'"),
        (rule(get="/v1", response_body="nothing"), "shop.Shop/GetBook: shop.Book has no field 'nothing'"),
    ],
)
def test_invalid_rules(http: bytes, problem: str) -> None:
    methods = {"GetBook": (*METHODS["GetBook"][:4], http)}
    content = base64.b64encode(descriptor_set(methods=methods).SerializeToString()).decode()
    (found,) = problems("grpc_json_transcoder", config(proto_descriptor_bin=content))
    assert found.startswith(f".proto_descriptor_bin: {problem}")


def test_the_files_of_the_library_may_be_missing() -> None:
    content = base64.b64encode(descriptor_set(has_imports=False).SerializeToString()).decode()
    shipped("grpc_json_transcoder", config(proto_descriptor_bin=content))
    files = descriptor_set()
    del files.file[0]  # google.api.HttpBody
    content = base64.b64encode(files.SerializeToString()).decode()
    (found,) = problems("grpc_json_transcoder", config(proto_descriptor_bin=content))
    assert "--include_imports" in found
