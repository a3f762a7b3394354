"""The kinds of load that every peer is measured with."""

from dataclasses import dataclass
from pathlib import Path

SMALL_BODY = b"The upstream says: all is well, and this sentence is padded so that it is one hundred bytes long..\r\n"
LARGE_SIZE = 1 << 20

#: Kinds of filters: one that sets headers; the same as a coroutine that does not wait; one that also reads each chunk of
#: the response.
HEADER, ASYNC, CHUNK = "header", "async", "chunk"

#: Kinds of TLS handshakes.
FULL, RESUMED = "full", "resumed"

#: Versions of HTTP, as pymosn and MOSN name them.
HTTP1, HTTP2 = "Http1", "Http2"

#: Stream cases: chunks or messages in total; concurrent streams of server-sent events, and of gRPC.
CHUNKS = 10_000
STREAMS = 200
GRPC_STREAMS = 100

#: A gRPC method whose request and response are one message of 100 bytes.
UNARY_PATH = "/bench.Echo/Unary"
MESSAGE_SIZE = 100
MESSAGE = b"\0" + MESSAGE_SIZE.to_bytes(4, "big") + b"m" * MESSAGE_SIZE

#: Header fields of a request in addition to Host. The header filters read `x-user`.
REQUEST_FIELDS = {"User-Agent": "bench", "Accept": "*/*", "X-User": "alice"}


@dataclass(frozen=True)
class Case:
    """One kind of load.

    `filters`: number of filters in the proxy, each of `kind`. `connections`: concurrent connections, each with `parallel`
    requests in flight. `new_connections`: whether every request uses a new connection. `hosts`: number of virtual hosts, of
    which the request matches the last; 0 means one for all domains. `routes`: number of routes of the virtual host, of which
    the request matches the last. `rounds`: maximum number of rounds; 0 means all. `streams`: number of concurrent responses,
    whose chunks are counted instead of requests. `tls`: whether the client uses TLS 1.3; `handshakes`: the kind of the
    handshakes, if each request has its own connection and these are what is measured. `front`, `back`: the versions of HTTP
    that clients and the upstream speak. `message`: whether the request is a POST of MESSAGE, and the response the same with
    trailers.
    """

    name: str
    title: str
    path: str = "/small"
    filters: int = 0
    kind: str = HEADER
    connections: int = 64
    new_connections: bool = False
    hosts: int = 0
    routes: int = 0
    streams: int = 0
    rounds: int = 0
    tls: bool = False
    handshakes: str = ""
    front: str = HTTP1
    back: str = HTTP1
    parallel: int = 1
    message: bool = False

    @property
    def fields(self) -> dict[str, str]:
        """The request's header fields; without Host, the proxy's address is used for it."""
        host = {"Host": host_name(self.hosts - 1)} if self.hosts else {}
        close = {"Connection": "close"} if self.new_connections else {}
        grpc = {"Content-Type": "application/grpc", "TE": "trailers"} if self.message else {}
        return {**host, **REQUEST_FIELDS, **close, **grpc}

    @property
    def setup(self) -> tuple[object, ...]:
        """The parameters of a proxy's configuration; cases that have them in common share a process."""
        return self.filters, self.kind, self.hosts, self.routes, self.tls, self.front, self.back

    @property
    def in_flight(self) -> int:
        """The number of concurrent requests."""
        return self.connections * self.parallel

    @property
    def body(self) -> bytes:
        """The body of the response."""
        if self.message:
            return MESSAGE
        return large_body() if self.path == "/large" else SMALL_BODY

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.tls else "http"


def host_name(index: int) -> str:
    """The domain of a virtual host."""
    return f"h{index}.bench"


def route_kinds(count: int) -> list[tuple[str, str]]:
    """The routes of a virtual host as kind (prefix, path, header) and value; only the last, prefix `/`, matches `/small`."""
    kinds = ("prefix", "path", "header")
    values = {"prefix": "/p{}/", "path": "/e{}", "header": "{}"}
    routes = [(kinds[index % 3], values[kinds[index % 3]].format(index)) for index in range(count - 1)]
    return [*routes, ("prefix", "/")]


LOAD_CASES = (
    Case("small", "small GET, keep-alive, 64 connections"),
    Case("tls_small", "small GET over TLS, keep-alive, 64 connections", tls=True),
    Case("body1m", "1 MiB response body, keep-alive, 16 connections", path="/large", connections=16),
    Case("tls_1m", "1 MiB response body over TLS, keep-alive, 16 connections", path="/large", connections=16, tls=True),
    *(
        Case(
            name,
            f"small GET, a new TLS connection for each, {kind} handshakes, 16 at a time",
            "/small",
            0,
            HEADER,
            16,
            True,
            tls=True,
            handshakes=kind,
        )
        for name, kind in (("tls_handshake", FULL), ("tls_resumed", RESUMED))
    ),
    Case("filter1", "small GET through 1 header filter", filters=1),
    Case("filter3", "small GET through 3 header filters", filters=3),
    Case("async1", "small GET through 1 async header filter that does not wait", filters=1, kind=ASYNC),
    Case("newconn", "small GET, a new connection for each", new_connections=True),
    *(
        Case(f"hosts{count}", f"small GET for the last of {count:,} virtual hosts", hosts=count, rounds=2)
        for count in (10, 1_000, 10_000)
    ),
    *(
        Case(f"routes{count}", f"small GET for the last of {count:,} routes of all kinds", routes=count, rounds=2)
        for count in (10, 1_000)
    ),
    Case("h2_h1", "HTTP/2 to HTTP/1.1: small GET, 8 connections of 16 streams", parallel=16, connections=8, front=HTTP2),
    Case(
        "h2_h2",
        "HTTP/2 to HTTP/2: small GET, 8 connections of 16 streams",
        parallel=16,
        back=HTTP2,
        connections=8,
        front=HTTP2,
    ),
    Case(
        "grpc_unary",
        "unary gRPC of 100 bytes each way, 8 connections of 16 streams",
        UNARY_PATH,
        parallel=16,
        back=HTTP2,
        message=True,
        connections=8,
        front=HTTP2,
    ),
    Case(
        "tls_h2_h1",
        "HTTP/2 to HTTP/1.1: small GET over TLS, 8 connections of 16 streams",
        parallel=16,
        connections=8,
        front=HTTP2,
        tls=True,
    ),
    Case(
        "h2_h1_1m",
        "HTTP/2 to HTTP/1.1: 1 MiB response body, 8 connections of 2 streams",
        "/large",
        parallel=2,
        connections=8,
        front=HTTP2,
    ),
    Case("h2_h2_1m", "HTTP/2 to HTTP/2: the same", "/large", parallel=2, back=HTTP2, connections=8, front=HTTP2),
)
#: Measured alternately, because their differences are small.
STREAM_CASES = (
    Case("sse", f"{CHUNKS:,} SSE chunks over {STREAMS} streams, CPU per chunk", "/events", streams=STREAMS),
    Case("sse-header", "the same through 1 header filter", "/events", filters=1, streams=STREAMS),
    Case("sse-chunk", "the same through 1 filter that sees each chunk", "/events", 1, CHUNK, streams=STREAMS),
    Case(
        "grpc_stream",
        f"{CHUNKS:,} gRPC messages from the server over {GRPC_STREAMS} streams on 10 connections, CPU per message",
        "/bench.Echo/Stream",
        streams=GRPC_STREAMS,
        connections=10,
        front=HTTP2,
        back=HTTP2,
    ),
)
#: The costs that the filters of these cases add to `small` are measured in pairs of short runs, and without sockets.
FILTER_CASES = ("filter1", "filter3", "async1")
#: TLS adds the difference between these to a small GET.
TLS_SMALL = ("tls_small", "small")
MEMORY, TLS_MEMORY, STREAM_MEMORY = "memory", "tls_memory", "stream_memory"
H2_MEMORY, TLS_H2_MEMORY = "h2_memory", "tls_h2_memory"
#: What is measured in each, and the load case with the same setup.
MEMORY_CASES = {
    MEMORY: ("idle worker and idle keep-alive connections", "small"),
    TLS_MEMORY: ("the same with TLS", "tls_small"),
    H2_MEMORY: ("the same with HTTP/2, without TLS", "h2_h1"),
    TLS_H2_MEMORY: ("the same with HTTP/2 over TLS", "tls_h2_h1"),
    STREAM_MEMORY: ("worker with idle HTTP/2 connections, and open streams on these", "grpc_stream"),
}
#: Cases of `bench.rpc`, only for pymosn and the relay.
RPC_CASES = ("bolt", "dubbo")
CASE_NAMES = (*(case.name for case in (*LOAD_CASES, *STREAM_CASES)), *RPC_CASES, *MEMORY_CASES)


def case_named(name: str) -> Case:
    """The load case of that name."""
    return next(case for case in (*LOAD_CASES, *STREAM_CASES) if case.name == name)


def large_body() -> bytes:
    """1 MiB in which all 256-byte blocks differ, so that a lost or duplicated block is detected."""
    return b"".join(index.to_bytes(4, "big") * 64 for index in range(LARGE_SIZE // 256))


def write_large_body(path: Path) -> None:
    """Writes the file that the upstream serves as `/large`."""
    path.write_bytes(large_body())
