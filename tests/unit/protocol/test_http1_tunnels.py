"""What a codec makes of requests for a tunnel, and of the replies to them."""

from __future__ import annotations

import pytest
from tests.kit.options import http_limits
from tests.unit.protocol.decoding import one_by_one

from pymosn.api.protocol import DATA, HEAD, NEED_MORE, ProtocolError
from pymosn.core.headers import HeaderError
from pymosn.core.message import CONNECT, CONNECT_HERE, RequestHead
from pymosn.protocol.http1.encoder import encode_agreement, encode_request
from pymosn.protocol.http1.request import RequestDecoder
from pymosn.protocol.http1.response import MAX_INTERIM_SIZE, ResponseDecoder

ASK = b"GET /x?y HTTP/1.1\r\nHost: a\r\nUpgrade: Foo/2\r\nConnection: upgrade\r\n\r\n"
AGREE = b"HTTP/1.1 101 Fine\r\nUpgrade: foo/2\r\nConnection: upgrade\r\nX: 1\r\n\r\n"


def ask(data: bytes, connect: bytes = b"") -> RequestHead:
    decoder = RequestDecoder(http_limits(), connect=connect)
    decoder.feed(data)
    assert decoder.decode() == HEAD
    assert decoder.end
    return decoder.head


def test_the_protocol_asked_for() -> None:
    head = ask(ASK)
    assert (head.raw_tunnel, head.tunnel) == (b"foo/2", "foo/2")
    assert not head.headers.has_raw(b"upgrade")
    assert b"".join(encode_request(head)) == (
        b"GET /x?y HTTP/1.1\r\nHost: a\r\nconnection: upgrade\r\nupgrade: foo/2\r\n\r\n"
    )


@pytest.mark.parametrize("value", [b"foo/", b"/2", b"foo/2/3", b"foo bar", b"foo;q=1", b"foo,bar", b"", b"\xc3\xa9"])
def test_invalid_protocol_names(value: bytes) -> None:
    assert ask(ASK.replace(b"Foo/2", value)).raw_tunnel == b""


def test_each_request_asks_again() -> None:
    decoder = RequestDecoder(http_limits())
    decoder.feed(ASK + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    found = []
    while decoder.decode() == HEAD:
        found.append(decoder.head.raw_tunnel)
    assert found == [b"foo/2", b"", b""]


@pytest.mark.parametrize("target", [b"a.example:443", b"[::1]:22", b"192.0.2.1:1"])
@pytest.mark.parametrize("kind", [CONNECT, CONNECT_HERE])
def test_connect(target: bytes, kind: bytes) -> None:
    head = ask(b"CONNECT " + target + b" HTTP/1.1\r\nHost: other\r\nContent-Length: 0\r\n\r\n", kind)
    assert (head.raw_host, head.raw_path, head.raw_query, head.raw_tunnel) == (target, b"/", None, kind)
    assert head.headers.get_raw(b"host") == target


def test_connect_on_the_wire() -> None:
    head = ask(b"CONNECT A:1 HTTP/1.1\r\nHost: A:1\r\nX: 1\r\n\r\n", CONNECT)
    assert b"".join(encode_request(head)) == b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX: 1\r\n\r\n"


def test_a_filter_cannot_make_a_connect() -> None:
    head = ask(ASK)
    with pytest.raises(HeaderError):
        head.method = "CONNECT"
    assert head.method == "GET"


def reply(data: bytes, method: bytes, tunnel: bytes) -> tuple[ResponseDecoder, bytes]:
    """The decoder after the head of the response, and its tunnel state: the same byte by byte and whole."""
    outcomes = []
    for feeds in ([data], one_by_one(data)):
        decoder = ResponseDecoder(http_limits(64 * 1024, 256))
        decoder.expect(method, tunnel)
        got = b""
        for feed in feeds:
            decoder.feed(feed)
            while (found := decoder.decode()) != NEED_MORE:
                assert not decoder.end
                assert found == DATA or decoder.head.raw_tunnel == tunnel
                got += decoder.data
        outcomes.append((decoder, got))
    assert outcomes[0][1] == outcomes[1][1]
    return outcomes[0]


def test_agreement_and_the_bytes_that_follow() -> None:
    behind = b"HTTP/1.1 200 OK\r\n\r\n\x00"
    decoder, got = reply(AGREE + behind, b"GET", b"foo/2")
    assert got == behind
    assert not decoder.keep_alive
    assert b"".join(encode_agreement(decoder.head)) == (
        b"HTTP/1.1 101 Fine\r\nX: 1\r\nconnection: upgrade\r\nupgrade: foo/2\r\n\r\n"
    )


def test_agreement_to_connect() -> None:
    data = b"HTTP/1.1 299 Odd\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nabc"
    decoder, got = reply(data, b"CONNECT", CONNECT)
    assert got == b"abc"
    assert b"".join(encode_agreement(decoder.head)) == b"HTTP/1.1 299 Odd\r\n\r\n"


def refused(data: bytes, tunnel: bytes) -> str:
    decoder = ResponseDecoder(http_limits(64 * 1024, 256))
    decoder.expect(b"GET", tunnel)
    decoder.feed(data)
    try:
        while decoder.decode() != NEED_MORE:
            pass
    except ProtocolError as error:
        return error.failure.reason
    return "accepted"


@pytest.mark.parametrize("tunnel", [b"", b"foo", b"websocket", CONNECT])
def test_agreement_that_was_not_requested(tunnel: bytes) -> None:
    assert refused(AGREE, tunnel) == "bad_response"


def test_the_next_request_of_a_connection_has_not_asked() -> None:
    decoder = ResponseDecoder(http_limits())
    decoder.expect(b"GET", b"foo/2")
    decoder.feed(b"HTTP/1.1 204 No\r\n\r\n")
    assert decoder.decode() == HEAD
    decoder.expect(b"GET")
    decoder.feed(AGREE)
    with pytest.raises(ProtocolError):
        decoder.decode()


def test_interim_replies_are_bounded_in_bytes() -> None:
    hint = b"HTTP/1.1 103 \r\nlink: " + b"x" * 8000 + b"\r\n\r\n"
    assert len(hint) * 9 > MAX_INTERIM_SIZE
    assert refused(hint * 9, b"") == "bad_response"
    decoder = ResponseDecoder(http_limits(64 * 1024, 256))
    decoder.expect(b"GET")
    decoder.feed(hint * 8 + b"HTTP/1.1 204 No\r\n\r\n")
    assert [decoder.decode() for _ in range(9)] == [HEAD] * 9
    assert decoder.head.status == 204
