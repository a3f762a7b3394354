"""The framing of messages whose status or method a filter has changed, as h11 reads it, and the request that follows."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import h11
import pytest
from tests.kit import GET, OK, Peer, Start, Talk
from tests.passes import one_of

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.http import HttpRequest
from pymosn.api.routing import Route
from pymosn.core.headers import HeaderError
from pymosn.routing.actions import DirectResponse
from pymosn.routing.matchers import AnyRequest

METHODS = ("GET", "HEAD", "POST")
BEFORE = (200, 204, 304, 404)
AFTER = (0, 200, 204, 205, 304, 404)
BODIES = ("none", "sized", "chunked", "trailers")
SET = ("", "set")
HANDLERS = ("", "appends")


class Changes(StreamFilter):
    """Changes method, status and body of requests for `/first` as the test says."""

    def __init__(self) -> None:
        super().__init__({})
        self.method = ""
        self.status = 0
        self.body: bytes | None = None

    def is_first(self, exchange: Exchange) -> bool:
        return exchange.request.path == "/first"

    def on_request(self, exchange: Exchange) -> Any:
        if self.is_first(exchange) and self.method:
            exchange.request.method = self.method

    def on_response(self, exchange: Exchange) -> Any:
        if self.is_first(exchange):
            if self.status:
                exchange.response_head.status = self.status
            if self.body is not None:
                exchange.response_head.set_body(self.body)


class OnlyMethod(Changes):
    """A chain that sees no responses."""

    on_response = StreamFilter.on_response


class Appends(Changes):
    """Also adds a byte to each body, even to an empty one."""

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        return data + b"!" if last and self.is_first(exchange) else None


class Reader:
    """A client that reads by h11 what it receives. Without `keeps_alive` it asks for the end of the connection."""

    def __init__(self, talk: Talk, version: str = "1.1", keeps_alive: bool = True) -> None:
        self.peer = talk.connect()
        self._version = version
        self.keeps_alive = keeps_alive
        #: Whether the response had no length, so that the connection's end was its end: only a client of HTTP/1.0 gets that.
        self.is_over = False
        self._connection = h11.Connection(h11.CLIENT)

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        fields = "Host: a\r\n"
        if not self.keeps_alive:
            fields += "Connection: close\r\n"
        elif self._version == "1.0":
            fields += "Connection: keep-alive\r\n"
        if body is not None:
            fields += f"Content-Length: {len(body)}\r\n"
        return f"{method} {path} HTTP/{self._version}\r\n{fields}\r\n".encode() + (body or b"")

    def read(self, method: str) -> tuple[int, dict[str, str], bytes]:
        """Status, fields and body of the next response, which must be complete."""
        connection = self._connection
        close = [] if self.keeps_alive else [("connection", "close")]
        connection.send(h11.Request(method=method, target="/", headers=[("host", "a"), *close]))
        connection.send(h11.EndOfMessage())
        received = self.peer.takes() if self.peer.transport.received else b""
        if received:
            connection.receive_data(received)
        body = b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif event is h11.NEED_DATA and self._version == "1.0" and self.peer.has_fin() and not self.is_over:
                self.is_over = True
                connection.receive_data(b"")
            else:
                raise AssertionError(f"no complete response, but {event}: {received!r}")
        fields = {bytes(name).decode(): bytes(value).decode() for name, value in head.headers}
        self._check_end(fields)
        return head.status_code, fields, body

    def _check_end(self, fields: dict[str, str]) -> None:
        """The connection is kept or closed as the client wishes."""
        if not self.keeps_alive or self.is_over:
            assert fields["connection"] == "close"
            assert self._connection.trailing_data[0] == b"", "bytes after the last response"
            return
        assert fields.get("connection") == (None if self._version == "1.1" else "keep-alive")
        assert self._version == "1.1" or "transfer-encoding" not in fields
        self._connection.start_next_cycle()


def upstream_of(talk: Talk) -> tuple[Peer, bytes]:
    """The upstream that has received the request, and the request."""
    if talk.dials:
        talk.expect_dial()
    (found,) = [peer for peer in talk.upstreams if peer.transport.received]
    return found, found.takes()


def method_of(received: bytes) -> str:
    """The method of a request that h11 finds valid and complete."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(received)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), (event, received)
    assert connection.trailing_data[0] == b""
    return bytes(request.method).decode()


def respond(method: str, status: int, kind: str) -> bytes:
    """A valid response of an upstream."""
    framing, body = {
        "none": (b"Content-Length: 0\r\n", b""),
        "sized": (b"Content-Length: 5\r\n", b"hello"),
        "chunked": (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        "trailers": (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\nx-end: yes\r\n\r\n"),
    }[kind]
    if status == 204:
        framing = body = b""
    elif status == 304 or method == "HEAD":
        body = b""
    return b'HTTP/1.1 %d X\r\nDate: d\r\nETag: "e"\r\n%s\r\n%s' % (status, framing, body)


def expected(client: str, upstream: str, before: int, after: int, kind: str, sets: str, handler: str) -> bytes:
    """The body that the client must get."""
    if client == "HEAD" or after in (204, 205, 304):
        return b""
    body = b"" if upstream == "HEAD" or before in (204, 304) or kind == "none" else b"hello"
    if sets:
        body = b"filter"
    return body + (b"!" if handler else b"")


def exchange(
    talk: Talk, changes: Changes, reader: Reader, method: str, before: int, kind: str, body: bytes | None
) -> tuple[int, dict[str, str], bytes]:
    """One request for `/first`, and one pipelined after it if the connection is kept; returns the first response."""
    pipelined = reader.request("GET", "/next") if reader.keeps_alive else b""
    reader.peer.sends(reader.request(method, "/first", body) + pipelined)
    upstream, received = upstream_of(talk)
    sent = method_of(received)
    assert sent == (changes.method or method)
    if sent == "POST":
        assert b"content-length: " in received.lower()
    upstream.sends(respond(sent, before, kind))
    found = reader.read(method)
    if not pipelined or reader.is_over:
        return found
    upstream, received = upstream_of(talk)
    assert method_of(received) == "GET"
    upstream.sends(OK)
    assert reader.read("GET")[::2] == (200, b"hi")
    return found


@pytest.mark.parametrize("client", METHODS)
@pytest.mark.parametrize("upstream", METHODS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("keeps_alive", [True, False])
@pytest.mark.whole_only
def test_the_table(start: Start, client: str, upstream: str, version: str, keeps_alive: bool) -> None:
    for handler in HANDLERS:
        changes = Appends() if handler else Changes()
        talk = start(filters={"changes": changes})
        changes.method = "" if upstream == client else upstream
        body = b"abc" if client == "POST" else None
        rows = itertools.product(BEFORE, AFTER, BODIES, SET)
        for before, status, kind, sets in itertools.islice(rows, 0, None, one_of(5)):
            if handler and status == 205:
                continue
            row = (client, upstream, before, status or before, kind, sets, handler)
            changes.status = status
            changes.body = b"filter" if sets else None
            reader = Reader(talk, version, keeps_alive)
            got, fields, received = exchange(talk, changes, reader, client, before, kind, body)
            assert got == (status or before), row
            assert received == expected(*row), row
            if got == 204:
                assert "content-length" not in fields, row
            elif got == 205 and status:
                assert fields["content-length"] == "0", row
            if got == 304 or (client == "HEAD" and got != 204):
                # What a GET would get, if that is known (RFC 9110 section 8.6).
                assert handler == "" or fields.get("content-length") in (None, "0"), row
            check_content_fields(row, fields, sets)
            reader.peer.resets()
        assert talk.reasons().count("ok") == len(talk.reasons())
        assert talk.filter_errors("changes") == 0
        talk.clients.clear()


def check_content_fields(row: tuple[str, str, int, int, str, str, str], fields: dict[str, str], sets: str) -> None:
    """An ETag is not that of an empty body that replaces a missing one."""
    client, upstream, before, after, kind, _, _ = row
    had_none = before in (204, 304) or upstream == "HEAD"
    is_empty = after not in (204, 304) and (after != before or upstream == "HEAD")
    if client != "HEAD" and had_none and is_empty and not sets and kind != "none":
        assert "etag" not in fields, row
    elif sets or not had_none:
        assert fields["etag"] == '"e"', row


@pytest.mark.parametrize("client", METHODS)
@pytest.mark.parametrize("upstream", METHODS)
@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("body", [None, b"", b"abc"])
def test_a_chain_that_sees_no_responses(start: Start, client: str, upstream: str, kind: str, body: bytes | None) -> None:
    changes = OnlyMethod()
    changes.method = upstream
    talk = start(filters={"changes": changes})
    for version in ("1.1", "1.0"):
        reader = Reader(talk, version)
        status, _, received = exchange(talk, changes, reader, client, 200, kind, body if client == "POST" else None)
        assert status == 200
        assert received == expected(client, upstream, 200, 200, kind, "", "")
        reader.peer.resets()
    talk.clients.clear()


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("client", ["GET", "HEAD"])
@pytest.mark.parametrize("rest", ["short", "long", "late"])
@pytest.mark.whole_only
def test_the_rest_of_a_body_that_nobody_takes(start: Start, status: int, client: str, rest: str) -> None:
    """The client is not kept waiting; a short rest is read, so that the connection can be used again."""
    changes = Changes()
    changes.status = status
    changes.method = "GET"
    talk = start(filters={"changes": changes})
    reader = Reader(talk)
    reader.peer.sends(reader.request(client, "/first"))
    upstream, _ = upstream_of(talk)
    size = 1_000_000 if rest == "long" else 100
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: %d\r\n\r\n" % size + b"x" * 50)
    assert reader.read(client)[0] == status
    assert talk.reasons() == ["ok"]
    if rest == "late":
        talk.advance(1.1)
    else:
        upstream.sends(b"x" * (size - 50) if rest == "short" else b"x" * 70_000)
    assert upstream.is_reset() == (rest != "short")
    reader.peer.sends(reader.request("GET", "/next"))
    again, _ = upstream_of(talk)
    assert (again is upstream) == (rest == "short")
    again.sends(OK)
    assert reader.read("GET")[2] == b"hi"


@pytest.mark.also_tls
@pytest.mark.whole_only
def test_an_upload_that_continues_after_the_response(start: Start) -> None:
    """Its connection is not used again: the rest of the request would be taken for another one."""
    changes = Changes()
    changes.status = 204
    talk = start(filters={"changes": changes})
    client = talk.connect()
    client.sends(b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    upstream, _ = upstream_of(talk)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 100\r\n\r\nx")
    assert client.takes().startswith(b"HTTP/1.1 204 No Content\r\n")
    assert upstream.is_reset()


# ---- replies


class Replies(Changes):
    """Replies instead of the upstream; the filter before it changes the status."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__()
        self._reply = status, body

    def on_route(self, exchange: Exchange) -> Any:
        return Reply(self._reply[0], self._reply[1]()) if self.is_first(exchange) else None


def text() -> str:
    return "text"


def stream() -> Iterator[bytes]:
    yield b"te"
    yield b"xt"


async def async_stream() -> AsyncIterator[bytes]:
    yield b"te"
    yield b"xt"


@pytest.mark.parametrize("client", ["GET", "HEAD"])
@pytest.mark.parametrize("body", [text, stream, async_stream])
@pytest.mark.parametrize("before", [200, 204, 205, 304])
@pytest.mark.parametrize("after", AFTER)
def test_replies_of_filters(start: Start, client: str, body: Any, before: int, after: int) -> None:
    replies = Replies(before, body)
    replies.status = after
    talk = start(filters={"replies": replies})
    reader = Reader(talk)
    reader.peer.sends(reader.request(client, "/first") + reader.request("GET", "/next"))
    talk.pass_rounds(8)
    status, _, received = reader.read(client)
    assert status == (after or before)
    has_body = client != "HEAD" and before == 200 and status in (200, 404)
    assert received == (b"text" if has_body else b"")
    upstream, _ = upstream_of(talk)
    upstream.sends(OK)
    assert reader.read("GET")[2] == b"hi"


@pytest.mark.also_tls
@pytest.mark.parametrize(("client", "upstream"), [("GET", "HEAD"), ("HEAD", "GET")])
def test_replies_of_the_proxy_follow_the_clients_method(start: Start, client: str, upstream: str) -> None:
    changes = OnlyMethod()
    changes.method = upstream
    talk = start(filters={"changes": changes}, routes=[Route("direct", AnyRequest(), DirectResponse(404, "none"))])
    reader = Reader(talk)
    for _ in range(2):
        reader.peer.sends(reader.request(client, "/first"))
        status, fields, received = reader.read(client)
        assert (status, fields["content-length"]) == (404, "4")
        assert received == (b"none" if client == "GET" else b"")


# ---- requests


@pytest.mark.parametrize("before", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("after", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_request_without_content(start: Start, before: str, after: str) -> None:
    changes = OnlyMethod()
    changes.method = after
    talk = start(filters={"changes": changes})
    client = talk.connect()
    client.sends(f"{before} /first HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    upstream, received = upstream_of(talk)
    assert method_of(received) == after
    assert (b"content-length: 0\r\n" in received) == (after in ("POST", "PUT", "PATCH"))
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.also_tls
@pytest.mark.parametrize("after", METHODS)
def test_a_request_with_chunks(start: Start, after: str) -> None:
    changes = OnlyMethod()
    changes.method = after
    talk = start(filters={"changes": changes})
    client = talk.connect()
    client.sends(b"POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    upstream, received = upstream_of(talk)
    assert method_of(received) == after
    upstream.sends(respond(after, 200, "sized"))
    talk.pass_rounds(2)
    assert client.takes()
    client.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


# ---- what cannot be changed


@pytest.mark.also_tls
@pytest.mark.parametrize("status", [100, 101, 102, 103, 199])
def test_an_interim_status_is_no_response(start: Start, status: int) -> None:
    changes = Changes()
    changes.status = status
    talk = start(filters={"changes": changes})
    reader = Reader(talk)
    reader.peer.sends(reader.request("GET", "/first"))
    upstream, _ = upstream_of(talk)
    upstream.sends(OK)
    assert reader.read("GET")[0] == 500
    assert talk.reasons() == ["filter_error"]


def test_the_method_of_a_connect_cannot_be_changed() -> None:
    head = HttpRequest()
    head.raw_method = b"CONNECT"
    with pytest.raises(HeaderError, match="the client expects a tunnel"):
        head.method = "GET"
    head.raw_method = b"GET"
    with pytest.raises(HeaderError, match="cannot be changed to CONNECT"):
        head.method = "CONNECT"
