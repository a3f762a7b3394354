"""The form of local replies that a listener gives them."""

from typing import Any

import msgspec
import pytest
from tests.kit import DATE, GET, OK, Start
from tests.kit.fakes import FakeClock

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.assembly.local_replies import local_replies
from pymosn.config.schema import Listener
from pymosn.config.schema.local_replies import LocalReplies as Config
from pymosn.proxy.local_replies import LocalReplies
from pymosn.routing.actions import DirectResponse, Forward
from pymosn.routing.matchers import AnyRequest, Path

pytestmark = pytest.mark.also_h2

JSON = {"json": {"status": "%response_code%", "error": "%local_reply_body%", "path": "%request_path%"}}


def form(**config: Any) -> LocalReplies:
    made = local_replies(msgspec.convert(config, Config), FakeClock(), Listener(name="l"))
    assert made is not None
    return made


def routes() -> list[Route]:
    return [
        Route("busy", Path("/busy"), DirectResponse(503, 'a "busy" day')),
        Route("empty", Path("/empty"), DirectResponse(200, "")),
        Route("all", AnyRequest(), Forward("service", 60.0)),
    ]


def ask(path: bytes, extra: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + extra + b"\r\n"


def reply(status: bytes, body: bytes, fields: bytes = b"content-type: application/json\r\n") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"content-length: %d\r\n" % len(body) + DATE + b"\r\n" + body


def test_a_mapped_status_body_and_header(start: Start) -> None:
    mapper = {
        "filter": {"status": {"op": "eq", "value": 503}},
        "status": 429,
        "body": "later",
        "headers_to_add": [
            {"header": {"key": "x-was", "value": "%response_code%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ],
    }
    talk = start(routes=routes(), local_replies=form(mappers=[mapper], format=JSON))
    client = talk.connect()
    client.sends(ask(b"/busy"))
    body = b'{"status":429,"error":"later","path":"/busy"}\n'
    client.receives(reply(b"429 Too Many Requests", body, b"x-was: 503\r\ncontent-type: application/json\r\n"))
    assert talk.outcomes.exchanges[0].variable("response_code") == "429"


def test_the_common_format_escapes_the_body(start: Start) -> None:
    talk = start(routes=routes(), local_replies=form(format=JSON))
    client = talk.connect()
    client.sends(ask(b"/busy"))
    client.receives(reply(b"503 Service Unavailable", b'{"status":503,"error":"a \\"busy\\" day","path":"/busy"}\n'))


def test_the_first_mapper_that_applies(start: Start) -> None:
    """Its format is used, and its text has the values of the exchange; lines stay lines."""
    text = {"text": "%request_header_x-id%\n\n[%local_reply_body%] \\%\r\n", "content_type": "text/html"}
    mappers = [
        {"filter": {"header": {"name": "x-id", "match": {"exact": "none"}}}, "status": 418},
        {"filter": {"any_of": [{"failed": True}, {"status": {"op": "ge", "value": 500}}]}, "format": text},
        {"status": 418},
    ]
    talk = start(routes=routes(), local_replies=form(mappers=mappers))
    client = talk.connect()
    client.sends(ask(b"/busy", b'X-Id: a"<b>\r\n'))
    body = b'a\\"<b>\n\n[a "busy" day] \\%\r\n'
    client.receives(reply(b"503 Service Unavailable", body, b"content-type: text/html\r\n"))


def test_a_response_of_the_upstream_is_not_changed(start: Start) -> None:
    talk = start(routes=routes(), local_replies=form(mappers=[{"status": 418}], format=JSON))
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)


def test_an_empty_body_stays_without_a_type(start: Start) -> None:
    talk = start(routes=routes(), local_replies=form(format={"text": "%local_reply_body%"}))
    client = talk.connect()
    client.sends(ask(b"/empty"))
    client.receives(reply(b"200 OK", b"", b""))


def test_a_failure(start: Start) -> None:
    """The reply of a failure is mapped; its reason stays in the log."""
    talk = start(routes=routes(), local_replies=form(mappers=[{"filter": {"response_flags": ["UF"]}, "status": 404}]))
    client = talk.connect()
    client.sends(ask(b"/other"))
    talk.refuse_dial()
    body = b"502 Bad Gateway\n"
    client.receives(reply(b"404 Not Found", body, b"content-type: text/plain; charset=utf-8\r\n"))
    assert talk.reasons() == ["connect_refused"]


class Refuse(StreamFilter):
    """Answers with a header of its own."""

    def on_request(self, exchange: Exchange) -> Reply:
        return Reply(403, "no", {"x-why": "rule"})


def test_the_reply_of_a_filter(start: Start) -> None:
    talk = start(filters={"refuse": Refuse({})}, local_replies=form(format=JSON))
    client = talk.connect()
    client.sends(ask(b"/f"))
    body = b'{"status":403,"error":"no","path":"/f"}\n'
    client.receives(reply(b"403 Forbidden", body, b"x-why: rule\r\ncontent-type: application/json\r\n"))


def test_the_answer_to_head(start: Start) -> None:
    talk = start(routes=routes(), local_replies=form(mappers=[{"body": "four"}]))
    client = talk.connect()
    client.sends(b"HEAD /empty HTTP/1.1\r\nHost: a\r\n\r\n")
    client.receives(reply(b"200 OK", b"four", b"content-type: text/plain; charset=utf-8\r\n")[:-4])
