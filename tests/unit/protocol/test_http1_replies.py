"""Replies: bytes in, messages out. The stream layer makes 502 of every refusal, whatever its reason."""

from __future__ import annotations

import pytest
from tests.kit.options import http_limits
from tests.unit.protocol.decoding import Message, replies

from pymosn.core.message import CONNECT, ResponseHead
from pymosn.protocol.http.policy import COMPATIBLE, STRICT, HttpPolicy
from pymosn.protocol.http1.response import MAX_INTERIM, ResponseDecoder


def head_of(message: Message) -> ResponseHead:
    assert isinstance(message.head, ResponseHead)
    return message.head


@pytest.mark.parametrize(
    ("line", "start"),
    [
        (b"HTTP/1.1 200 OK", (200, b"OK", 1)),
        (b"HTTP/1.0 599 ", (599, b"", 0)),
        (b"HTTP/1.1 418", (418, b"", 1)),
        (b"HTTP/1.1 404 Not \t F\xf6und", (404, b"Not \t F\xf6und", 1)),
        (b"HTTP/1.1 200  two", (200, b" two", 1)),
    ],
)
def test_status_lines(line: bytes, start: tuple[int, bytes, int]) -> None:
    outcome = replies([line + b"\r\nContent-Length: 0\r\n\r\n"])
    assert outcome.messages[0].start[:3] == start
    assert outcome.messages[0].ended


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b"HTTP/2.0 200 OK", "status line"),
        (b"HTTP/1.2 200 OK", "status line"),
        (b"HTTP/1.1\t200 OK", "status line"),
        (b"HTTP/1.1  200 OK", "status code"),
        (b"HTTP/1.1 20 OK", "status code"),
        (b"HTTP/1.1 2000 OK", "status code"),
        (b"HTTP/1.1 200OK", "status code"),
        (b"HTTP/1.1 200\tOK", "status code"),
        (b"HTTP/1.1 +20 OK", "status code"),
        (b"HTTP/1.1 099 OK", "status code"),
        (b"HTTP/1.1 600 OK", "status code"),
        (b"HTTP/1.1 200 O\x00K", "control character"),
        (b"HTTP/1.1 200 O\rK", "control character"),
        (b"http/1.1 200 OK", "status line"),
        (b" HTTP/1.1 200 OK", "status line"),
        (b"\r\nHTTP/1.1 200 OK", "status line"),
        (b"hello", "status line"),
        (b"<html>hello, hello</html>", "status line"),
        (b"HTTP/1.1", "status line"),
    ],
)
def test_status_lines_that_are_refused(line: bytes, detail: str) -> None:
    outcome = replies([line + b"\r\nContent-Length: 0\r\n\r\n"])
    assert outcome.reason == "bad_response"
    assert detail in outcome.detail


@pytest.mark.parametrize(
    ("method", "status", "fields", "keep", "length"),
    [
        (b"HEAD", 200, b"Content-Length: 5\r\n", True, 5),
        (b"HEAD", 200, b"Transfer-Encoding: chunked\r\n", True, -1),
        (b"HEAD", 200, b"", True, -1),
        (b"GET", 304, b"Content-Length: 5\r\n", True, 5),
        (b"GET", 304, b"", True, -1),
        (b"GET", 204, b"", True, 0),
        (b"GET", 204, b"Content-Length: 0\r\n", True, 0),
        (b"GET", 204, b"Content-Length: 5\r\n", False, 0),
        (b"GET", 204, b"Transfer-Encoding: chunked\r\n", False, 0),
        (b"HEAD", 204, b"Content-Length: 5\r\n", False, 0),
        (b"GET", 200, b"Content-Length: 0\r\n", True, 0),
    ],
)
def test_replies_without_a_body(method: bytes, status: int, fields: bytes, keep: bool, length: int) -> None:
    outcome = replies([b"HTTP/1.1 %d \r\n" % status + fields + b"\r\nhello"], method)
    message = outcome.messages[0]
    assert (message.ended, message.body, outcome.left) == (True, b"", 5)
    assert (message.keep_alive, head_of(message).content_length) == (keep, length)
    assert message.has(b"content-length") == (status != 204 and length >= 0)


def test_a_body_ends_at_its_length() -> None:
    outcome = replies([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n"])
    assert outcome.messages[0].body == b"hello"
    assert outcome.left == 17


def test_chunked_with_trailers() -> None:
    outcome = replies(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\nSet-Cookie: a\r\n\r\n"]
    )
    assert outcome.messages[0].body == b"hello"
    assert outcome.messages[0].trailers == [(b"x", b"1")]


@pytest.mark.parametrize("minor", [0, 1])
def test_a_body_without_a_length_ends_with_the_connection(minor: int) -> None:
    data = b"HTTP/1.%d 200 OK\r\nConnection: keep-alive\r\n\r\nhello" % minor
    assert not replies([data]).messages[0].ended
    message = replies([data], eof=True).messages[0]
    assert (message.ended, message.body, message.keep_alive) == (True, b"hello", False)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"",
    ],
)
def test_a_reply_that_is_cut_off_is_not_complete(data: bytes) -> None:
    assert not replies([data], eof=True).complete


@pytest.mark.parametrize(
    ("minor", "value", "keeps"), [(1, b"", True), (1, b"close", False), (0, b"", False), (0, b"keep-alive", True)]
)
def test_keep_alive(minor: int, value: bytes, keeps: bool) -> None:
    fields = b"Connection: " + value + b"\r\n" if value else b""
    outcome = replies([b"HTTP/1.%d 200 OK\r\nContent-Length: 0\r\n" % minor + fields + b"\r\n"])
    assert outcome.messages[0].keep_alive is keeps


def test_interim_replies_come_before_the_final_one() -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\nContent-Length: 0\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    outcome = replies([data])
    assert [message.start[0] for message in outcome.messages] == [100, 103, 200]
    assert outcome.messages[1].fields == [(b"link", b"a")]
    assert [message.ended for message in outcome.messages] == [False, False, True]


def test_interim_replies_are_counted_for_each_request() -> None:
    decoder = ResponseDecoder(http_limits())
    for _ in range(2):
        decoder.expect(b"GET")
        for _ in range(MAX_INTERIM):
            decoder.feed(b"HTTP/1.1 103 \r\n\r\n")
            decoder.decode()
    outcome = replies([b"HTTP/1.1 103 \r\n\r\n" * (MAX_INTERIM + 1)])
    assert len(outcome.messages) == MAX_INTERIM
    assert outcome.reason == "bad_response"


LENGTH, CHUNKED = b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("status", [100, 102, 103, 199])
@pytest.mark.parametrize("fields", [LENGTH, CHUNKED, LENGTH + CHUNKED])
@pytest.mark.parametrize("minor", [0, 1])
def test_an_interim_reply_ends_at_its_empty_line_whatever_it_declares(status: int, fields: bytes, minor: int) -> None:
    interim = b"HTTP/1.%d %d X\r\nLink: a\r\n" % (minor, status) + fields + b"\r\n"
    outcome = replies([interim + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])
    first, final = outcome.messages
    assert (first.start[0], first.fields, first.ended) == (status, [(b"link", b"a")], False)
    assert (final.start[0], final.body, final.ended) == (200, b"ok", True)
    assert not final.keep_alive, "an upstream that announces such a body might send it late"
    assert outcome.reason == ""


def test_the_next_request_of_a_connection_is_not_suspect() -> None:
    decoder = ResponseDecoder(http_limits())
    for interim in (b"HTTP/1.1 103 \r\n" + LENGTH + b"\r\n", b""):
        decoder.expect(b"GET")
        decoder.feed(interim + b"HTTP/1.1 204 X\r\n\r\n")
        for _ in range(2 if interim else 1):
            decoder.decode()
        assert decoder.keep_alive is (interim == b"")


@pytest.mark.parametrize("body", [b"poison!", b"7\r\npoison!\r\n0\r\n\r\n"])
@pytest.mark.parametrize("status", [100, 103])
def test_a_body_after_an_interim_reply_is_no_response(status: int, body: bytes) -> None:
    for fields in (LENGTH, CHUNKED):
        head = b"HTTP/1.1 %d X\r\n" % status + fields + b"\r\n"
        outcome = replies([head + body + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
        assert [message.start[0] for message in outcome.messages] == [status]
        assert outcome.reason == "bad_response"


ODD = [
    b"Content-Length: x\r\n",
    b"Content-Length:\r\n",
    LENGTH + b"Content-Length: 8\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    CHUNKED + CHUNKED,
]


@pytest.mark.parametrize("fields", ODD)
@pytest.mark.parametrize("policy", [STRICT, COMPATIBLE])
def test_framing_that_means_nothing_is_not_judged(fields: bytes, policy: HttpPolicy) -> None:
    final = b"HTTP/1.1 204 X\r\n\r\n"
    messages = replies([b"HTTP/1.1 103 X\r\n" + fields + b"\r\n" + final], policy=policy).messages
    assert [(message.start[0], message.fields) for message in messages] == [(103, []), (204, [])]
    assert not messages[1].keep_alive
    [message] = replies([b"HTTP/1.1 204 X\r\n" + fields + b"\r\n"], policy=policy).messages
    assert (message.ended, message.fields, message.keep_alive) == (True, [], False)
    for status, asked, more in ((101, b"websocket", b"Connection: upgrade\r\nUpgrade: websocket\r\n"), (200, CONNECT, b"")):
        decoder = ResponseDecoder(http_limits(), policy)
        decoder.expect(b"GET", asked)
        decoder.feed(b"HTTP/1.1 %d X\r\n" % status + fields + more + b"\r\ndata")
        decoder.decode()
        assert decoder.head.raw_tunnel == asked
        assert decoder.head.headers.items_raw() == []
        assert decoder.data + decoder.unread() == b"data"


@pytest.mark.parametrize("fields", ODD)
@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 304)])
def test_a_length_that_describes_another_response_is_judged(method: bytes, status: int, fields: bytes) -> None:
    """It is forwarded, unlike the coding."""
    outcome = replies([b"HTTP/1.1 %d X\r\n" % status + fields + b"\r\n"], method)
    is_length = fields.startswith(b"Content-Length")
    assert (outcome.failure is not None) == is_length
    assert is_length or (outcome.messages[0].ended, outcome.messages[0].fields) == (True, [])


@pytest.mark.parametrize("fields", [b"", LENGTH, CHUNKED, LENGTH + CHUNKED])
def test_a_switch_of_protocols_ends_at_its_empty_line(fields: bytes) -> None:
    decoder = ResponseDecoder(http_limits())
    decoder.expect(b"GET", b"websocket")
    decoder.feed(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + fields + b"X: 1\r\n\r\ndata")
    decoder.decode()
    assert decoder.head.raw_tunnel == b"websocket"
    assert decoder.head.headers.items_raw() == [(b"x", b"1")]
    assert decoder.data + decoder.unread() == b"data"


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize(
    ("status", "fields", "length", "kept", "keep_alive"),
    [
        (204, LENGTH, 0, [], False),
        (204, CHUNKED, 0, [], False),
        (204, LENGTH + CHUNKED, 0, [], False),
        (204, b"Content-Length: 0\r\n", 0, [], True),
        (304, LENGTH, 7, [(b"content-length", b"7")], True),
        (304, CHUNKED, -1, [], True),
        (304, LENGTH + CHUNKED, -1, [], False),
    ],
)
def test_replies_without_a_body_end_at_their_empty_line(
    method: bytes, status: int, fields: bytes, length: int, kept: list[tuple[bytes, bytes]], keep_alive: bool
) -> None:
    message = replies([b"HTTP/1.1 %d X\r\n" % status + fields + b"\r\n"], method=method).messages[0]
    assert message.ended
    assert (head_of(message).content_length, message.fields, message.keep_alive) == (length, kept, keep_alive)


def test_a_101_without_an_upgrade_request() -> None:
    assert replies([b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"]).reason == "bad_response"


def test_fields_of_this_hop_stay_on_it() -> None:
    fields = b"Keep-Alive: 5\r\nTE: x\r\nServer: a\r\nConnection: x-a, set-cookie\r\n"
    fields += b"X-A: 1\r\nSet-Cookie: b\r\nUpgrade: h2c\r\nDate: now\r\n"
    message = replies([b"HTTP/1.1 204 \r\n" + fields + b"\r\n"]).messages[0]
    assert message.fields == [(b"server", b"a"), (b"set-cookie", b"b"), (b"date", b"now")]
    assert head_of(message).has_date


def test_head_limits() -> None:
    assert replies([b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 6 + b"\r\n"], limits=http_limits(1000, 5)).failure
    for data in (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1000, b"HTTP/1.1 200 " + b"a" * 1000 + b"\r\n\r\n"):
        assert replies([data], limits=http_limits(1000)).reason == "bad_response"
        assert replies([data[:900]], limits=http_limits(1000)).reason == ""
