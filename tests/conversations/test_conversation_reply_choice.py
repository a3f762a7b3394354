"""Local replies by reason and status, JSON or HTML by Accept, and failures without a body."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit import DATE, Start
from tests.kit.fakes import FakeClock

from pymosn.api.routing import Route
from pymosn.assembly.local_replies import local_replies
from pymosn.config.schema import Listener
from pymosn.config.schema.local_replies import LocalReplies as Config
from pymosn.proxy.local_replies import LONGEST_BODY, LocalReplies
from pymosn.routing.actions import DirectResponse, Forward
from pymosn.routing.matchers import Path as PathMatch

pytestmark = pytest.mark.also_h2

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def form(**config: Any) -> LocalReplies:
    made = local_replies(msgspec.convert(config, Config), FakeClock(), Listener(name="l"))
    assert made is not None
    return made


def example() -> dict[str, Any]:
    """The one in the documentation."""
    lines = OPERATIONS.read_text().partition("test_conversation_reply_choice.py")[2]
    block = re.search(r"\n\n((?:    .*\n)+)", lines)
    assert block is not None
    found: dict[str, Any] = json.loads("{" + block[1] + "}")["local_replies"]
    return found


def routes() -> list[Route]:
    return [
        Route("direct", PathMatch("/direct"), DirectResponse(503, "<b>&")),
        Route("nothing", PathMatch("/nothing"), DirectResponse(204, "")),
        Route("to", PathMatch("/to"), Forward("service", 60.0)),
    ]


def ask(path: bytes, fields: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"


def reply(status: bytes, fields: bytes, body: bytes, length: int = -1) -> bytes:
    size = len(body) if length < 0 else length
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"content-length: %d\r\n" % size + DATE + b"\r\n" + body


JSON = b"vary: Accept\r\ncontent-type: application/json\r\n"
HTML = b"vary: Accept\r\ncontent-type: text/html; charset=utf-8\r\n"


@pytest.mark.parametrize(
    ("accept", "fields"),
    [
        (b"", JSON),
        (b"Accept: */*\r\n", JSON),
        (b"Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n", HTML),
        (b"Accept: application/json\r\nAccept: text/*;q=0.5\r\n", JSON),
        (b"Accept: application/json;q=0.2, TEXT/HTML ; q=0.3\r\n", HTML),
        (b"Accept: image/png\r\n", JSON),
        (b"Accept: application/json;q=0, */*\r\n", HTML),
        (b"Accept: text/html;q=2, application/json;q=0.1\r\n", JSON),
        (b'Accept: text/html;a="b,c;q=1\\"";q=0.1, application/json;q=0.2\r\n', JSON),
        (b'Accept: application/json;a="b,c";q=0.1, text/html;q=0.2\r\n', HTML),
    ],
)
def test_the_documented_example_by_accept(start: Start, accept: bytes, fields: bytes) -> None:
    client = start(routes=routes(), local_replies=form(**example())).connect()
    client.sends(ask(b"/none", accept))
    body = b'{"status":404,"message":"there is no such page","path":"/none","reason":"no_route"}\n'
    if fields is HTML:
        body = b"<h1>404</h1>\n<p>there is no such page: /none</p>\n"
    client.receives(reply(b"404 Not Found", fields, body))


def test_the_documented_example_by_status(start: Start) -> None:
    talk = start(routes=routes(), local_replies=form(**example()))
    client = talk.connect()
    client.sends(ask(b"/to"))
    talk.refuse_dial()
    body = b'{"status":503,"message":"please try again","path":"/to","reason":"connect_refused"}\n'
    client.receives(reply(b"503 Service Unavailable", b"retry-after: 5\r\n" + JSON, body))


def test_values_in_a_page_are_escaped(start: Start) -> None:
    """Those of clients, and the body."""
    page = '<p title="%request_header_x-a%">%local_reply_body%</p> 100\\%'
    client = start(routes=routes(), local_replies=form(format={"html": page})).connect()
    client.sends(ask(b"/direct", b'X-A: "><script>alert(1)</script>\r\n'))
    body = b'<p title="\\&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;">&lt;b&gt;&amp;</p> 100\\%'
    client.receives(reply(b"503 Service Unavailable", b"content-type: text/html; charset=utf-8\r\n", body))


def test_head_has_the_fields_of_get(start: Start) -> None:
    client = start(routes=routes(), local_replies=form(**example())).connect()
    client.sends(ask(b"/none", method=b"HEAD"))
    length = len(b'{"status":404,"message":"there is no such page","path":"/none","reason":"no_route"}\n')
    client.receives(reply(b"404 Not Found", JSON, b"", length))


def test_a_status_without_content(start: Start) -> None:
    client = start(routes=routes(), local_replies=form(formats=[{"text": "t"}, {"html": "h"}])).connect()
    client.sends(ask(b"/nothing"))
    client.receives(
        b"HTTP/1.1 204 No Content\r\nvary: Accept\r\ncontent-type: text/plain; charset=utf-8\r\n" + DATE + b"\r\n"
    )


def test_a_body_that_is_too_long_is_left_out(start: Start) -> None:
    many = LONGEST_BODY // 1000 + 1
    client = start(routes=routes(), local_replies=form(format={"text": "%request_header_x-a%" * many})).connect()
    client.sends(ask(b"/none", b"X-A: " + b"a" * 1000 + b"\r\n"))
    client.receives(reply(b"404 Not Found", b"", b""))


def test_failures_without_a_body(start: Start) -> None:
    """Other replies keep theirs."""
    client = start(routes=routes(), empty_failures=True).connect()
    client.sends(ask(b"/none", b"X-A: b\r\n"))
    client.receives(reply(b"404 Not Found", b"", b""))
    client.sends(ask(b"/direct"))
    client.receives(reply(b"503 Service Unavailable", b"content-type: text/plain; charset=utf-8\r\n", b"<b>&"))


def test_a_mapper_gives_an_empty_failure_a_body(start: Start) -> None:
    mapper = {"filter": {"reasons": ["overflow", "no_route"]}, "format": {"text": "[%local_reply_body%] %reason%"}}
    client = start(routes=routes(), empty_failures=True, local_replies=form(mappers=[mapper])).connect()
    client.sends(ask(b"/none"))
    client.receives(reply(b"404 Not Found", b"content-type: text/plain; charset=utf-8\r\n", b"[] no_route"))


def test_a_header_of_a_client_stays_in_its_line(start: Start) -> None:
    """Decoded parameters may have control characters."""
    header = {"header": {"key": "x-page", "value": "%request_arg_page%"}, "append": False}
    client = start(routes=routes(), local_replies=form(mappers=[{"headers_to_add": [header], "body": ""}])).connect()
    client.sends(ask(b"/none?page=1%0d%0ax-evil:%20yes"))
    client.receives(reply(b"404 Not Found", b"x-page: 1x-evil: yes\r\n", b""))
