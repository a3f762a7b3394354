"""Any split of the input gives the same messages; and work grows with the input, not with its square."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.options import http_limits
from tests.unit.protocol.decoding import assert_same, one_by_one, pieces, replies, requests

from pymosn.api.protocol import HEAD, NEED_MORE
from pymosn.protocol.http1.request import RequestDecoder
from pymosn.protocol.http1.response import ResponseDecoder

GET = b"GET /a/../b?c=d HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = (
    b'PUT /u HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n3;x="y;z"\r\nabc\r\nA\r\n0123456789\r\n'
    b"0\r\nx-sum: 1\r\nhost: evil\r\n\r\n"
)
OLD = b"\r\nGET http://b.example:81 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
REPLIES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: x\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx: y\r\n\r\n",
    b"HTTP/1.0 404 \r\n\r\nuntil the end",
    b"HTTP/1.1 204\r\nServer: a\r\n\r\nleft over",
)
BAD = (
    GET + b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    POST + b"BROKEN\x00 / HTTP/1.1\r\n\r\n",
    CHUNKED.replace(b"\r\nA\r\n", b"\r\nAX\r\n"),
    CHUNKED.replace(b"x-sum: 1", b"x-sum : 1"),
    GET.replace(b"HTTP/1.1", b"HTTP/2.0"),
)


@pytest.mark.parametrize("data", [GET, POST, CHUNKED, OLD, GET + POST + CHUNKED + OLD, *BAD])
def test_requests_cut_at_every_offset(data: bytes) -> None:
    whole = requests([data])
    for cut in range(1, len(data)):
        assert_same(whole, requests(pieces(data, [cut])), False)
    assert_same(whole, requests(one_by_one(data)), False)


@pytest.mark.parametrize("data", REPLIES)
def test_replies_cut_at_every_offset(data: bytes) -> None:
    whole = replies([data], eof=True)
    assert whole.complete
    for cut in range(1, len(data)):
        assert_same(whole, replies(pieces(data, [cut]), eof=True), False)
    assert_same(whole, replies(one_by_one(data), eof=True), False)


@given(
    st.lists(st.sampled_from([GET, POST, CHUNKED, OLD, *BAD]), min_size=1, max_size=4).map(b"".join),
    st.lists(st.integers(1, 900), max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_requests_cut_anywhere(data: bytes, cuts: list[int]) -> None:
    assert_same(requests([data]), requests(pieces(data, cuts)), False)


class Watched(bytes):
    """Bytes that count how often one of them is read."""

    looks = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def,override]
        Watched.looks += 1
        return super().__getitem__(key)


def looks_at(decoder: RequestDecoder | ResponseDecoder, data: bytes) -> int:
    """The number of bytes that `decoder` reads while `data` arrives one byte at a time."""
    Watched.looks = 0
    for piece in one_by_one(data):
        decoder.feed(piece)
        decoder._buffer = Watched(decoder._buffer)
        assert decoder.decode() == NEED_MORE
    return Watched.looks


@pytest.mark.parametrize(
    ("data", "factor"),
    [
        pytest.param(b"GET /" + b"a" * 8000, 4, id="target"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 7900, 10, id="value"),
        # One scan for each line that ends: 40 of 200 bytes are 20 times the head on the average.
        pytest.param(b"GET / HTTP/1.1\r\n" + (b"X: " + b"a" * 195 + b"\r\n") * 40, 60, id="lines"),
    ],
)
def test_a_head_byte_by_byte_is_not_scanned_for_each_byte(data: bytes, factor: int) -> None:
    assert looks_at(RequestDecoder(http_limits()), data) < factor * len(data)


def test_a_request_line_is_read_once_however_the_fields_come() -> None:
    Watched.looks = 0
    decoder = RequestDecoder(http_limits())
    line = b"GET http://a/" + b"%2f" * 2000 + b" HTTP/1.1\r\n"
    for piece in (line, *[b"Host: a\r\n"], *[b"X: 1\r\n"] * 90):
        decoder.feed(piece)
        decoder._buffer = Watched(decoder._buffer)
        assert decoder.decode() == NEED_MORE
    assert Watched.looks < 10 * len(line)
    decoder.feed(b"\r\n")
    assert decoder.decode() == HEAD
    assert (decoder.head.raw_host, decoder.head.raw_path) == (b"a", b"/" + b"%2F" * 2000)


@pytest.mark.parametrize(
    ("data", "factor"),
    [
        pytest.param(b"5;" + b"a" * 8000, 20, id="extension"),
        pytest.param(b"0\r\nx: " + b"a" * 8000, 20, id="trailer"),
        pytest.param(b"0\r\n" + b"x: aaaaaaaaaaaaa\r\n" * 80, 100, id="trailers"),
    ],
)
def test_a_chunked_body_byte_by_byte_is_not_scanned_for_each_byte(data: bytes, factor: int) -> None:
    decoder = RequestDecoder(http_limits())
    decoder.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    decoder.decode()
    assert looks_at(decoder, data) < factor * len(data)


def test_many_tiny_chunks_in_one_read_become_one_chunk() -> None:
    body = b"1\r\na\r\n" * 5000
    outcome = requests([b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"])
    assert outcome.messages[0].body == b"a" * 5000
    decoder = RequestDecoder(http_limits())
    decoder.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    decoder.decode()
    decoder.feed(body)
    decoder.decode()
    assert decoder.data == b"a" * 5000
    assert decoder.decode() == NEED_MORE


def test_thousands_of_connection_options_are_checked_in_one_pass() -> None:
    options = b",".join(b"o%d" % i for i in range(8000))
    fields = b"".join(b"o%d: 1\r\nkeep%d: 1\r\n" % (i, i) for i in range(2000))
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + options + b"\r\n" + fields + b"\r\n"
    outcome = requests([head], http_limits(len(head), 5000))
    names = [name for name, _ in outcome.messages[0].fields]
    assert names == [b"host", *(b"keep%d" % i for i in range(2000))]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 20000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: " + b"a" * 20000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"a" * 40000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;aaaaaaaa\r\na\r\n" * 3000,
    ],
)
def test_an_endless_input_is_buffered_within_a_bound(data: bytes) -> None:
    outcome = requests(pieces(data, range(0, len(data), 100)))
    assert outcome.failure is not None
    assert outcome.largest <= 16 * 1024 + 100
