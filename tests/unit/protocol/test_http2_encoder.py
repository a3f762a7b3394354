"""Header blocks that are sent: another library reads the same head in them, and nothing that HTTP/2 forbids."""

from __future__ import annotations

import pytest
from hpack import Decoder
from hpack.struct import NeverIndexedHeaderTuple

from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.core.headers import HttpHeaders
from pymosn.core.message import CONNECT, UNKNOWN_LENGTH
from pymosn.protocol.http2.encoder import HeadEncoder

Pairs = list[tuple[bytes, bytes]]


class Connection:
    """An encoder with the decoder of another library."""

    def __init__(self) -> None:
        self.encoder = HeadEncoder()
        self.peer = Decoder()

    def read(self, block: bytes) -> Pairs:
        return [(name, value) for name, value in self.peer.decode(block, raw=True)]

    def request(self, head: HttpRequest) -> Pairs:
        return self.read(self.encoder.request(head))

    def response(self, head: HttpResponse) -> Pairs:
        return self.read(self.encoder.response(head))

    def trailers(self, lines: bytes) -> Pairs:
        return self.read(self.encoder.trailers(HttpHeaders(lines)))


def request(lines: bytes = b"", path: bytes = b"/", query: bytes | None = None, method: bytes = b"GET") -> HttpRequest:
    head = HttpRequest(HttpHeaders(b"Host: a.Example\r\n" + lines))
    head.raw_method = method
    head.raw_path = path
    head.raw_query = query
    head.raw_host = b"a.example"
    return head


def response(status: int, lines: bytes = b"") -> HttpResponse:
    return HttpResponse(status, b"Reason", HttpHeaders(lines))


GET: Pairs = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a.example")]


def test_a_request() -> None:
    connection = Connection()
    head = request(b"User-Agent: curl\r\nX-A:\t 1 \r\nx-empty:\r\n", b"/a", b"b=c", b"PUT")
    expected = [
        (b":method", b"PUT"),
        (b":scheme", b"http"),
        (b":path", b"/a?b=c"),
        (b":authority", b"a.example"),
        (b"user-agent", b"curl"),
        (b"x-a", b"1"),
        (b"x-empty", b""),
    ]
    sizes = []
    for _ in range(4):
        block = connection.encoder.request(head)
        assert connection.read(block) == expected
        sizes.append(len(block))
    assert sizes[3] < sizes[0] / 2
    connection.encoder.scheme = "https"
    assert connection.request(request(path=b"/x"))[1] == (b":scheme", b"https")


def test_the_host_may_be_only_among_the_fields() -> None:
    head = HttpRequest(HttpHeaders(b"x: 1\r\nhost: b:80\r\n"))
    head.raw_method, head.raw_path = b"GET", b"/"
    assert Connection().request(head) == [*GET[:3], (b":authority", b"b:80"), (b"x", b"1")]
    head.headers = HttpHeaders()
    assert Connection().request(head) == GET[:3]


def test_fields_of_a_connection_are_left_out() -> None:
    lines = (
        b"Connection: close\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nTransfer-Encoding: chunked\r\nTE: gzip\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: a\r\nTrailer: x\r\nProxy-Authorization: Basic x\r\nx: 1\r\n"
    )
    connection = Connection()
    for _ in range(3):
        assert connection.request(request(lines)) == [*GET, (b"proxy-authorization", b"Basic x"), (b"x", b"1")]
        assert connection.response(response(200, b"host: a\r\n" + lines))[1:] == [
            (b"host", b"a"),
            (b"proxy-authorization", b"Basic x"),
            (b"x", b"1"),
        ]


def test_te_is_sent_for_a_client_that_accepts_trailers() -> None:
    connection = Connection()
    head = request(b"TE: gzip\r\n")
    for accepts in (True, True, False, True, True):
        head.accepts_trailers = accepts
        assert connection.request(head) == GET + ([(b"te", b"trailers")] if accepts else [])


def test_what_changes_is_sent() -> None:
    connection = Connection()
    for _ in range(3):
        assert connection.request(request(b"a: 1\r\n")) == [*GET, (b"a", b"1")]
        assert connection.request(request(b"a: 2\r\n")) == [*GET, (b"a", b"2")]
        assert connection.request(request(path=b"/b"))[2] == (b":path", b"/b")
        assert connection.request(request(query=b"b"))[2] == (b":path", b"/?b")
        assert connection.request(request(query=b""))[2] == (b":path", b"/?")
        assert connection.request(request(method=b"POST"))[0] == (b":method", b"POST")
        assert connection.request(request(method=b"OPTIONS", path=b"*"))[2] == (b":path", b"*")
        other = request()
        other.raw_host = b"b"
        assert connection.request(other)[3] == (b":authority", b"b")
        assert connection.request(request()) == GET


def test_tunnels() -> None:
    connection = Connection()
    head = request(b"x: 1\r\n", b"/chat", b"a")
    head.raw_tunnel = b"websocket"
    for _ in range(3):
        assert connection.request(head) == [
            (b":method", b"CONNECT"),
            (b":scheme", b"http"),
            (b":path", b"/chat?a"),
            (b":authority", b"a.example"),
            (b":protocol", b"websocket"),
            (b"x", b"1"),
        ]
    head = request(method=b"CONNECT")
    head.raw_tunnel = CONNECT
    for _ in range(3):
        assert connection.request(head) == [(b":method", b"CONNECT"), (b":authority", b"a.example")]
        assert connection.request(request()) == GET


@pytest.mark.parametrize("status", [100, 103, 200, 204, 206, 299, 304, 400, 404, 418, 500, 599])
def test_responses(status: int) -> None:
    connection = Connection()
    for _ in range(4):
        expected = [(b":status", b"%d" % status), (b"server", b"x"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
        assert connection.response(response(status, b"Server: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n")) == expected
        assert connection.response(response(200)) == [(b":status", b"200")]


def test_an_agreement_to_a_tunnel() -> None:
    connection = Connection()
    head = response(101, b"Connection: upgrade\r\nUpgrade: websocket\r\nx: 1\r\n")
    head.raw_tunnel = b"websocket"
    for _ in range(3):
        assert connection.response(head) == [(b":status", b"200"), (b"x", b"1")]
        assert connection.response(response(200)) == [(b":status", b"200")]


def test_trailers() -> None:
    connection = Connection()
    for _ in range(3):
        assert connection.trailers(b"Grpc-Status: 0\r\ncontent-length: 5\r\nte: x\r\n") == [(b"grpc-status", b"0")]
        assert connection.trailers(b"") == []
        assert connection.response(response(200, b"a: 1\r\n")) == [(b":status", b"200"), (b"a", b"1")]
    for _ in range(2):
        connection.response(response(200, b"content-length: 5\r\n"))
    assert connection.trailers(b"content-length: 5\r\n") == [], "also if the table has it from a head"


def test_trailers_that_come_again_while_the_table_changes() -> None:
    connection = Connection()
    for number in range(300):
        connection.response(response(200, b"a: %d\r\n" % (number // 3)))
        status = b"%d" % (number // 100)
        assert connection.trailers(b"grpc-status: %s\r\n" % status) == [(b"grpc-status", status)]
        if number % 70 == 0:
            connection.encoder.set_table_size(number * 10)
    block = connection.encoder.trailers(HttpHeaders(b"grpc-status: 2\r\n"))
    assert len(block) == 1
    assert connection.encoder.trailers(HttpHeaders(b"grpc-status: 2\r\n")) is block


def test_what_cannot_be_sent_is_left_out() -> None:
    lines = b"a b: 1\r\n: 2\r\nc\x00: 3\r\nd: 4\x005\r\ne: \x7f\r\nno-colon\r\n\r\nf\xc3: 1\r\ng: \xc3\xbc\r\n:path: /\r\n"
    connection = Connection()
    for _ in range(3):
        assert connection.request(request(lines)) == [*GET, (b"g", b"\xc3\xbc")]
        assert connection.trailers(lines) == [(b"g", b"\xc3\xbc")]


def test_secrets_are_never_indexed() -> None:
    connection = Connection()
    lines = b"Authorization: a\r\nCookie: b\r\nX-Key:c\r\nx-other: d\r\n"
    for _ in range(4):
        found = connection.peer.decode(connection.encoder.request(request(lines)), raw=True)[4:]
        assert [isinstance(pair, NeverIndexedHeaderTuple) for pair in found] == [True, True, True, False]
        found = connection.peer.decode(connection.encoder.response(response(200, b"set-cookie: a\r\n")), raw=True)
        assert isinstance(found[1], NeverIndexedHeaderTuple)


def test_unique_fields_do_not_fill_the_table() -> None:
    connection = Connection()
    common = b"user-agent: a common one\r\naccept: */*\r\nx-tenant: a\r\n"
    for number in range(500):
        block = connection.encoder.request(request(common + b"x-request-id: id-%d\r\n" % number, b"/%d" % number))
        assert len(connection.read(block)) == 8
    assert len(block) < 60
    assert connection.peer.header_table._current_size < 2048


def test_request_ids_are_not_indexed() -> None:
    connection = Connection()
    head = request(b"a: 1\r\nx-request-id: 1\r\n")
    sizes = []
    for _ in range(4):
        block = connection.encoder.request(head)
        sizes.append(len(block))
        assert connection.read(block)[-2:] == [(b"a", b"1"), (b"x-request-id", b"1")]
    assert sizes[2] == sizes[3] == 4 + 1 + len(b"  x-request-id 1"), "the others are indexed"


def test_the_peer_shrinks_the_table() -> None:
    connection = Connection()
    lines = b"".join([b"name-%d: value\r\n" % number for number in range(20)])
    for number, size in enumerate((4096, 65536, 4096, 200, 0, 0, 100, 4096, 4096)):
        connection.encoder.set_table_size(size)
        connection.peer.max_allowed_table_size = size
        for _ in range(number % 4):
            assert len(connection.request(request(lines))) == 24
            assert connection.peer.header_table_size <= min(size, 4096)


def test_a_length_is_sent_as_it_is() -> None:
    head = request(b"content-length: 5\r\n", method=b"POST")
    head.content_length = UNKNOWN_LENGTH
    assert (b"content-length", b"5") in Connection().request(head)


def test_only_what_is_new_is_encoded_again() -> None:
    connection = Connection()
    for number in range(40):
        lines = b"accept: */*\r\nx-id: %d\r\nx-last: %d\r\n" % (number, number % 3)
        expected = [(b"accept", b"*/*"), (b"x-id", b"%d" % number), (b"x-last", b"%d" % (number % 3))]
        assert connection.request(request(lines)) == [*GET, *expected]
        assert connection.request(request(lines[:13])) == [*GET, *expected[:1]]
        assert connection.response(response(200, lines)) == [(b":status", b"200"), *expected]
        assert connection.response(response(200)) == [(b":status", b"200")]
