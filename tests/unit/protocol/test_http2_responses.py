"""The heads of responses over HTTP/2: what they become, and what is not a response."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from tests.kit.h2_frames import literals

from pymosn.api.protocol import ProtocolError
from pymosn.core.headers import wire_lines
from pymosn.core.message import CONNECT, UNKNOWN_LENGTH
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2.response import MAX_INTERIM, ResponseHeads

Pairs = list[tuple[bytes, bytes]]
OK: Pairs = [(b":status", b"200")]


def heads() -> ResponseHeads:
    return ResponseHeads(HttpLimits(8192, 100, 0), 4096)


def decode(pairs: Pairs, decoder: ResponseHeads | None = None, end: bool = False, to_head: bool = False) -> ResponseHeads:
    """A decoder that has accepted a response."""
    decoder = decoder or heads()
    assert decoder.decode(literals(pairs), end, to_head, b"") is None, decoder.detail
    assert not decoder.detail
    return decoder


def fault(pairs: Pairs, end: bool = False, tunnel: bytes = b"", interims: int = 0) -> str:
    decoder = heads()
    failure = decoder.decode(literals(pairs), end, False, tunnel, interims)
    assert failure is not None
    assert failure.reason == "bad_response"
    return decoder.detail


def test_a_response() -> None:
    pairs = [*OK, (b"date", b"now"), (b"content-length", b"5"), (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"x_y", b"1")]
    head = decode(pairs).head
    assert (head.status, head.content_length, head.has_date, head.raw_reason) == (200, 5, True, b"")
    assert wire_lines(head.headers) == b"set-cookie: a\r\nset-cookie: b\r\ndate: now\r\ncontent-length: 5\r\nx_y: 1\r\n"
    assert not head.raw_tunnel
    assert not decode(OK).head.has_date


def test_fields_of_a_hop_are_dropped() -> None:
    pairs = [
        *OK,
        (b"trailer", b"a"),
        (b"te", b"gzip"),
        (b"http2-settings", b"a"),
        (b"content_length", b"1"),
        (b"host", b"a"),
    ]
    assert wire_lines(decode(pairs).head.headers) == b"host: a\r\n"


@pytest.mark.parametrize(
    ("status", "given", "end", "to_head", "length", "is_kept"),
    [
        (200, None, False, False, UNKNOWN_LENGTH, False),
        (200, None, True, False, UNKNOWN_LENGTH, False),
        (200, b"0", True, False, 0, True),
        (200, b"0", False, False, 0, True),
        (200, b"9", True, True, 9, True),
        (200, b"9", False, True, 9, True),
        (200, None, True, True, UNKNOWN_LENGTH, False),
        (304, b"9", True, False, 9, True),
        (204, b"9", True, False, 0, False),
        (204, None, True, False, 0, False),
        (500, b"999999999999999999", False, False, 999999999999999999, True),
    ],
)
def test_lengths(status: int, given: bytes | None, end: bool, to_head: bool, length: int, is_kept: bool) -> None:
    pairs = [(b":status", b"%d" % status)] + ([(b"content-length", given)] if given is not None else [])
    decoder = heads()
    for _ in range(3):
        head = decode(pairs, decoder, end, to_head).head
        assert (head.status, head.content_length) == (status, length)
        assert head.headers.has_raw(b"content-length") == is_kept


def test_interim_responses() -> None:
    head = decode([(b":status", b"103"), (b"link", b"a")]).head
    assert (head.status, wire_lines(head.headers)) == (103, b"link: a\r\n")
    assert not decode([(b":status", b"100"), (b"content-length", b"0")]).head.headers
    assert fault([(b":status", b"103")], end=True) == "interim response that ends the stream"
    assert fault([(b":status", b"101")]) == "status 101"
    for status in (b"100", b"102", b"103", b"199"):
        head = decode([(b":status", status), (b"content-length", b"7"), (b"link", b"a")]).head
        assert wire_lines(head.headers) == b"link: a\r\n", "it ends with its fields, whatever it declares"
    assert heads().decode(literals([(b":status", b"103")]), False, False, b"", MAX_INTERIM - 1) is None
    assert fault([(b":status", b"103")], interims=MAX_INTERIM) == "too many interim responses"


@pytest.mark.parametrize(
    ("status", "tunnel", "agreed"),
    [
        (b"200", CONNECT, 200),
        (b"299", CONNECT, 299),
        (b"200", b"websocket", 101),
        (b"204", b"websocket", 101),
        (b"404", b"websocket", 0),
        (b"407", CONNECT, 0),
        (b"103", CONNECT, 0),
    ],
)
def test_tunnels(status: bytes, tunnel: bytes, agreed: int) -> None:
    decoder = heads()
    for _ in range(3):
        assert decoder.decode(literals([(b":status", status), (b"content-length", b"0")]), False, False, tunnel) is None
        head = decoder.head
        assert head.raw_tunnel == (tunnel if agreed else b"")
        assert head.status == (agreed or int(status))
        assert head.headers.has_raw(b"content-length") == (status in (b"404", b"407"))
    assert fault([(b":status", b"101")], tunnel=b"websocket") == "status 101"


@pytest.mark.parametrize(
    ("pairs", "detail"),
    [
        ([], "no :status"),
        ([(b"x", b"1")], "no :status"),
        ([*OK, *OK], "more than one :status, or a late one"),
        ([(b"x", b"1"), *OK], "more than one :status, or a late one"),
        ([*OK, (b":path", b"/")], "pseudo-header field of a request"),
        ([*OK, (b":unknown", b"/")], "unknown pseudo-header field"),
        *(([(b":status", status)], "not a status code") for status in (b"", b"20", b"2000", b"099", b"600", b"+20", b"2 0")),
        *(([(b":status", status)], "control character in a field value, or white space around it") for status in (b"200 ",)),
        ([*OK, (b"X", b"1")], "upper-case letter in a field name"),
        ([*OK, (b"", b"1")], "a field without a name"),
        ([*OK, (b"a b", b"1")], "not a field name"),
        ([*OK, (b"x", b"1\r\n\r\nHTTP/1.1 200 OK")], "control character in a field value, or white space around it"),
        ([*OK, (b"x", b" 1")], "control character in a field value, or white space around it"),
        ([*OK, (b"connection", b"close")], "connection field"),
        ([*OK, (b"transfer-encoding", b"chunked")], "connection field"),
        ([*OK, (b"upgrade", b"h2c")], "connection field"),
        ([*OK, (b"content-length", b"1"), (b"content-length", b"1")], "more than one content-length field"),
        ([*OK, (b"content-length", b"-1")], "content-length is not a number"),
        ([*OK, (b"content-length", b"1"), (b"content-length", b"x")], "more than one content-length field"),
        ([*OK, (b"x", b"1" * 8192)], "response head is too large"),
        ([*OK, *[(b"x", b"1")] * 101], "response head is too large"),
    ],
)
def test_faults(pairs: Pairs, detail: str) -> None:
    assert fault(pairs) == detail


def test_content_that_is_missing() -> None:
    assert fault([*OK, (b"content-length", b"1")], end=True) == "content-length without content"


def test_equal_blocks() -> None:
    decoder, peer = heads(), Encoder()
    pairs = [*OK, (b"content-length", b"0"), (b"server", b"x"), (b"date", b"now")]
    seen = []
    for _ in range(5):
        assert decoder.decode(peer.encode(pairs), False, False, b"") is None
        head = decoder.head
        seen.append((head.status, head.content_length, head.has_date, wire_lines(head.headers)))
        head.headers.set("x-added", "1")
        head.status = 500
        assert decoder.decode(literals([*OK, (b"connection", b"close")]), False, False, b"") is not None
        assert decoder.head.headers.get("server") is None
    assert len(set(seen)) == 1
    assert decoder.decode(literals([(b":status", b"404")]), False, False, b"") is None
    assert (decoder.head.status, decoder.head.content_length) == (404, UNKNOWN_LENGTH)


def test_an_equal_block_may_answer_something_else() -> None:
    decoder = heads()
    block = literals([*OK, (b"content-length", b"5")])
    for _ in range(2):
        assert decoder.decode(block, True, True, b"") is None
    assert decoder.decode(block, True, False, b"") is not None
    assert decoder.decode(block, False, False, b"") is None


def entering(*pairs: tuple[bytes, bytes]) -> bytes:
    """The head of a response whose fields are literals that enter the table (RFC 7541 section 6.2.1)."""
    parts = (b"@%c%s%c%s" % (len(name), name, len(value), value) for name, value in pairs)
    return b"\x88" + b"".join(parts)


def test_equal_blocks_of_literals_enter_the_table_each_time() -> None:
    """As those of nginx do. What they leave in the table is compared with another library, by references to it."""
    decoder, other = heads(), Decoder()
    many = [(b"m%d" % number, b"%d" % number) for number in range(40)]
    blocks = [
        entering((b"server", b"a"), (b"x", b"1"), (b"date", b"now")),
        entering((b"server", b"b"), (b"long", b"l" * 100)),
        entering(*many),
        entering((b"huge", b"h" * 120), (b"x", b"2")),
        b"\x88\x00\x01z\x010",  # enters nothing
    ]
    for number in range(200):
        for block in (blocks[number // 7 % len(blocks)], b"\x88\xbe", b"\x88\xc0\xbf"):
            assert decoder.decode(block, False, False, b"") is None
            lines = [b"%s: %s\r\n" % pair for pair in other.decode(block, raw=True)[1:]]
            assert sorted(wire_lines(decoder.head.headers).splitlines(keepends=True)) == sorted(lines)
            if number % 3 == 0:
                assert decoder.decode_trailers(b"@\x01t\x010") is None
                other.decode(b"@\x01t\x010")


def test_a_change_of_the_size_of_the_table_comes_again() -> None:
    decoder = heads()
    assert decoder.decode(entering((b"x", b"1")), False, False, b"") is None
    for _ in range(3):
        assert decoder.decode(b"\x20\x3f\xe1\x1f" + entering((b"y", b"2")), False, False, b"") is None
        assert wire_lines(decoder.head.headers) == b"y: 2\r\n"
        with pytest.raises(ProtocolError, match="beyond the table"):
            decoder.decode(b"\x88\xbf", False, False, b"")


def test_trailers() -> None:
    decoder, peer = heads(), Encoder()
    for number in range(6):
        pairs = [(b"grpc-status", b"%d" % (number // 3)), (b"content-length", b"1")]
        assert decoder.decode_trailers(peer.encode(pairs)) is None
        assert decoder.trailers is not None
        assert wire_lines(decoder.trailers) == b"grpc-status: %d\r\n" % (number // 3)
    failure = decoder.decode_trailers(literals(OK))
    assert failure is not None
    assert failure.reason == "bad_response"
    assert decoder.detail == "pseudo-header field in trailers"
