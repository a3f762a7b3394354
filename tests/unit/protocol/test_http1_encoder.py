"""What is written, and that our own decoder reads it as it was meant."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.protocol.decoding import replies, requests

from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.core.headers import HttpHeaders
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.protocol.http import fields
from pymosn.protocol.http.fields import classify
from pymosn.protocol.http1.encoder import (
    encode_chunk,
    encode_request,
    encode_response,
    encode_trailers,
    status_line,
)


def request(query: bytes | None = None, length: int = 0) -> RequestHead:
    head = HttpRequest()
    head.raw_method = b"PUT"
    head.raw_path = b"/a"
    head.raw_query = query
    head.headers = HttpHeaders(b"Host: a\r\n")
    head.content_length = length
    return head


def test_requests() -> None:
    assert b"".join(encode_request(request())) == b"PUT /a HTTP/1.1\r\nHost: a\r\n\r\n"
    assert b"".join(encode_request(request(b""))) == b"PUT /a? HTTP/1.1\r\nHost: a\r\n\r\n"
    assert b"".join(encode_request(request(b"b=c", 5))) == b"PUT /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n"
    chunked = b"PUT /a HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    assert b"".join(encode_request(request(None, -1))) == chunked


def test_te_is_rewritten_for_the_next_hop() -> None:
    head = request()
    head.accepts_trailers = True
    assert b"".join(encode_request(head)).endswith(b"\r\nconnection: te\r\nte: trailers\r\n\r\n")


@pytest.mark.parametrize("status", HTTPStatus)
def test_status_lines(status: HTTPStatus) -> None:
    phrase = status.phrase.encode()
    assert status_line(status, b"") == status_line(status, phrase) == b"HTTP/1.1 %d %s\r\n" % (status, phrase)
    assert status_line(status, b"Own") == b"HTTP/1.1 %d Own\r\n" % status


def test_unknown_status() -> None:
    assert status_line(299, b"") == b"HTTP/1.1 299 \r\n"
    assert status_line(599, b"Odd") == b"HTTP/1.1 599 Odd\r\n"


def test_responses() -> None:
    head = HttpResponse(200, b"", HttpHeaders(b"Server: a\r\n"))
    assert b"".join(encode_response(head, b"")) == b"HTTP/1.1 200 OK\r\nServer: a\r\n\r\n"
    assert b"".join(encode_response(head, b"connection: close\r\n")).endswith(b"Server: a\r\nconnection: close\r\n\r\n")


@given(st.lists(st.binary(max_size=300), max_size=5), st.booleans())
def test_chunks_are_read_back(pieces: list[bytes], with_trailers: bool) -> None:
    sent = b"".join(b"".join(encode_chunk(piece, False)) for piece in pieces)
    end = encode_trailers(HttpHeaders(b"x: 1\r\n")) if with_trailers else b"".join(encode_chunk(b"", True))
    head = b"".join(encode_request(request(None, -1)))
    message = requests([head + sent + end]).messages[0]
    assert (message.body, message.ended) == (b"".join(pieces), True)
    assert message.trailers == ([(b"x", b"1")] if with_trailers else [])


def test_the_final_data_is_written_with_the_last_chunk() -> None:
    assert b"".join(encode_chunk(b"a" * 16, True)) == b"10\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n"
    assert encode_chunk(b"", False) == []


def test_a_decoded_message_is_sent_on_and_read_the_same() -> None:
    data = b"GET http://b/%7Ex/./y?q HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\nX_Y: 1\r\n\r\n"
    first = requests([data]).messages[0]
    assert isinstance(first.head, RequestHead)
    again = requests([b"".join(encode_request(first.head))]).messages[0]
    assert again.fields == first.fields
    assert again.start[:4] == first.start[:4] == (b"GET", b"/~x/y", b"q", b"b")
    reply = replies([b"HTTP/1.1 299 Odd\r\nX: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"]).messages[0]
    assert isinstance(reply.head, ResponseHead)
    assert replies([b"".join(encode_response(reply.head, b""))]).messages[0].fields == reply.fields


def test_each_known_field_is_recognised_in_any_case_and_no_other() -> None:
    for number, name in enumerate(fields._NAMES):
        if not name:
            continue
        for spelling in (name, name.upper(), name.title()):
            assert classify(b"\r\n" + spelling + b":", 2, 2 + len(name)) == number
        for other in (name + b"x", name[:-1], b"y" + name[1:], name[:-1] + b"_", bytes([name[0] ^ 64]) + name[1:]):
            if other:
                assert classify(other, 0, len(other)) in (
                    fields.OTHER,
                    fields._NAMES.index(other) if other in fields._NAMES else 0,
                )
        if b"-" in name:
            look_alike = name.replace(b"-", b"_", 1)
            assert fields.is_look_alike(look_alike)
    assert len(fields._NAMES) == fields.LOOK_ALIKE
    assert fields.LOOK_ALIKE >= fields.HOP_BY_HOP
    assert classify(b"x" * 500, 0, 500) == fields.OTHER
