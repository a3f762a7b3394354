"""The counted requests: a small GET, the same through a filter and over HTTP/2, calls of RPC and gRPC, bodies of 1 MiB."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.grpc_stream import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    frame,
    literal,
    message,
)
from bench.rpc_frames import Bolt

_FIELDS = (
    b"Host: bench.example\r\nUser-Agent: pymosn-bench\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-User: alice\r\n"
)
_MIB = 1 << 20
#: What both ends of HTTP/2 begin with, and windows that do not end.
_HELLO = (
    frame(SETTINGS, 0, 0, b"\0\4" + WINDOW.to_bytes(4, "big"))
    + frame(SETTINGS, ACK, 0)
    + frame(WINDOW_UPDATE, 0, 0, WINDOW.to_bytes(4, "big"))
)
#: Bytes of a body that arrive in one read.
_READ = 1 << 16


class Case:
    """One kind of request, sent `count` times on one connection.

    `protocol`: of the listener; `match`: of the route; `upstream_protocol`: its own, empty for that of the listener.
    """

    name = ""
    protocol = "Http1"
    match: Mapping[str, object] = {"prefix": "/"}
    upstream_protocol = ""
    #: What the client sends first, and the upstream.
    client_greeting = b""
    upstream_greeting = b""
    count = 1000
    #: Minimum size of a response in bytes.
    body_size = 0
    #: The listener's `stream_filters`.
    filters: Sequence[Mapping[str, object]] = ()

    def request(self) -> bytes:
        """The data that the client sends."""
        raise NotImplementedError

    def response(self, request: bytes) -> Sequence[bytes]:
        """The data that the upstream sends in response to `request`, one item per read."""
        raise NotImplementedError


class SmallGet(Case):
    """Five header fields, and a response body of 100 bytes; both peers send `Connection: keep-alive`, as many do."""

    name = "small GET"
    body_size = 100
    _response = (b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n"
                 b"Content-Length: 100\r\nConnection: keep-alive\r\n\r\n" + bytes(100),)  # fmt: skip

    def request(self) -> bytes:
        return b"GET /items/7?full=1 HTTP/1.1\r\n" + _FIELDS + b"Connection: keep-alive\r\n\r\n"

    def response(self, request: bytes) -> Sequence[bytes]:
        return self._response


class FilteredGet(SmallGet):
    """The same through a plain filter that sees both heads."""

    name = "header filter"
    filters = (
        {
            "type": "python",
            "config": {"path": str(Path(__file__).parents[1] / "filters.py"), "class": "HeaderFilter", "number": 1},
        },
    )


class BoltCall(Case):
    """An echoed body of 1 KiB."""

    name = "Bolt call"
    protocol = "bolt"
    match: Mapping[str, object] = {"headers": [{"name": "service", "value": ".*"}]}
    body_size = 1024

    def __init__(self) -> None:
        self._wire = Bolt()
        self._last = 0

    def request(self) -> bytes:
        self._last += 1
        return self._wire.request(self._last)

    def response(self, request: bytes) -> Sequence[bytes]:
        at = self._wire.id_at
        return (self._wire.response(request[at : at + self._wire.id_size]),)


class Http2ToHttp1(SmallGet):
    """The same over HTTP/2, to HTTP/1.1. The head is the same each time, and refers to the table."""

    name = "h2 to h1"
    protocol = "Http2"
    upstream_protocol = "Http1"
    client_greeting = PREFACE + _HELLO
    _fields = (
        (":authority", "bench.example"),
        (":path", "/items/7?full=1"),
        *(("user-agent", "pymosn-bench"), ("accept", "*/*"), ("accept-encoding", "gzip, deflate"), ("x-user", "alice")),
    )

    def __init__(self) -> None:
        # Made in advance, so that the proxy is counted and not this class.
        numbers = range(1, 4 * self.count + 8, 2)
        self._requests = iter([self._request(n) for n in numbers])

    def _head(self, is_first: bool) -> bytes:
        return b"\x82\x86" + fields(self._fields, is_first)  # GET, http

    def _request(self, number: int) -> bytes:
        return frame(HEADERS, END_HEADERS | END_STREAM, number, self._head(number == 1))

    def request(self) -> bytes:
        return next(self._requests)


class Http2ToHttp2(Http2ToHttp1):
    """The same to HTTP/2."""

    name = "h2 to h2"
    upstream_protocol = "Http2"
    upstream_greeting = _HELLO
    _answer = (("content-type", "text/plain"), ("content-length", "100"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT"))

    def __init__(self) -> None:
        super().__init__()
        numbers = range(1, 4 * self.count + 8, 2)  # those of the proxy's requests, too
        self._responses = iter([self._answers(n) for n in numbers])

    def _answers(self, number: int) -> Sequence[bytes]:
        head = b"\x88" + fields(self._answer, number == 1)  # 200
        return (frame(HEADERS, END_HEADERS, number, head) + frame(DATA, END_STREAM, number, bytes(100)),)

    def response(self, request: bytes) -> Sequence[bytes]:
        return next(self._responses)


class GrpcUnary(Http2ToHttp2):
    """A message of 100 bytes each way, like the case `grpc_unary` of `bench`; the response arrives in one read."""

    name = "gRPC unary"
    body_size = len(message(0))
    _fields = (
        (":authority", "bench.example"),
        (":path", "/bench.Echo/Unary"),
        *(("user-agent", "pymosn-bench"), ("content-type", "application/grpc"), ("te", "trailers"), ("x-user", "alice")),
    )

    def _head(self, is_first: bool) -> bytes:
        return b"\x83\x86" + fields(self._fields, is_first)  # POST, http

    def _request(self, number: int) -> bytes:
        head = frame(HEADERS, END_HEADERS, number, self._head(number == 1))
        return head + frame(DATA, END_STREAM, number, message(0))

    def _answers(self, number: int) -> Sequence[bytes]:
        is_first = number == 1
        head, trailers = (("content-type", "application/grpc"),), (("grpc-status", "0"),)
        # The trailers enter the table after the field of the head.
        parts = (
            frame(HEADERS, END_HEADERS, number, b"\x88" + (fields(head, True) if is_first else b"\xbf")),
            frame(DATA, 0, number, message(0)),
            frame(HEADERS, END_HEADERS | END_STREAM, number, fields(trailers, is_first)),
        )
        return (b"".join(parts),)


def fields(pairs: Sequence[tuple[str, str]], is_first: bool) -> bytes:
    """The fields as literals that enter the table of HPACK (RFC 7541 section 6.2.1); then, as references to them."""
    if is_first:
        return b"".join(b"\x40" + literal(name, value)[1:] for name, value in pairs)
    return bytes(range(0x80 + 61 + len(pairs), 0x80 + 61, -1))


class MiB(SmallGet):
    """A response body of 1 MiB, which arrives in reads of 64 KiB."""

    name = "1 MiB"
    count = 200
    body_size = _MIB
    _response = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % _MIB,
        *(bytes(_READ) for _ in range(_MIB // _READ)),
    )


class GrpcLiterals(GrpcUnary):
    """The same from a host that never refers to the table, like nginx: the fields of each head enter it again."""

    name = "gRPC literals"
    #: By their indexes in the static table.
    _literals = ((54, "nginx/1.22.1"), (33, "Sun, 06 Nov 1994 08:49:37 GMT"), (31, "application/grpc"))

    def _answers(self, number: int) -> Sequence[bytes]:
        head = b"".join(bytes((0x40 + index, len(value))) + value.encode() for index, value in self._literals)
        parts = (
            frame(HEADERS, END_HEADERS, number, b"\x88" + head),
            frame(DATA, 0, number, message(0)),
            frame(HEADERS, END_HEADERS | END_STREAM, number, literal("grpc-status", "0")),
        )
        return (b"".join(parts),)


class Http2MiB(Http2ToHttp2):
    """A response body of 1 MiB in frames of 16 KiB, from HTTP/2 to HTTP/2, in reads of 64 KiB."""

    name = "h2 1 MiB"
    count = 20
    body_size = _MIB
    _frame = 1 << 14
    _answer = (("content-type", "text/plain"), ("content-length", str(_MIB)))

    def _answers(self, number: int) -> Sequence[bytes]:
        last = _MIB // self._frame - 1
        content = (frame(DATA, END_STREAM * (at == last), number, bytes(self._frame)) for at in range(last + 1))
        data = frame(HEADERS, END_HEADERS, number, b"\x88" + fields(self._answer, number == 1)) + b"".join(content)
        return [data[at : at + _READ] for at in range(0, len(data), _READ)]


CASES: Sequence[Case] = (
    SmallGet(),
    FilteredGet(),
    BoltCall(),
    MiB(),
    Http2ToHttp1(),
    Http2ToHttp2(),
    Http2MiB(),
    GrpcUnary(),
    GrpcLiterals(),
)
