"""What is asked of every peer."""

from dataclasses import dataclass
from pathlib import Path

SMALL_BODY = b"The upstream says: all is well, and this sentence is padded so that it is one hundred bytes long..\r\n"
LARGE_SIZE = 1 << 20

#: What a filter is: it sets headers; the same as a coroutine that does not wait; or looks at each piece of the reply, too.
HEADER, ASYNC, CHUNK = "header", "async", "chunk"

#: Server-sent events: so many streams at the same time, and so many chunks on each, 10,000 in all.
STREAMS = 200
CHUNKS_EACH = 50

#: The fields a request carries besides Host. `x-user` is the one that the header filters read.
REQUEST_FIELDS = {"User-Agent": "bench", "Accept": "*/*", "X-User": "alice"}


@dataclass(frozen=True)
class Case:
    """One kind of load.

    `filters`: how many filters the proxy runs, each of `kind`. `connections`: kept busy at the same time, each with one
    request in flight. `new_connections`: whether every request comes on a connection of its own. `hosts`: virtual hosts,
    of which the request asks for the last; 0 is one for all. `routes`: of the virtual host, of which it meets the last.
    `rounds`: in how many rounds at most it is measured; 0 is all. `streams`: it is not requests that are counted but chunks,
    on so many replies at the same time.
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

    @property
    def fields(self) -> dict[str, str]:
        """The request's header fields; without a Host among them it is the proxy's own address."""
        host = {"Host": host_name(self.hosts - 1)} if self.hosts else {}
        close = {"Connection": "close"} if self.new_connections else {}
        return {**host, **REQUEST_FIELDS, **close}

    @property
    def setup(self) -> tuple[int, str, int, int]:
        """What a proxy must be configured for; cases with the same share a process."""
        return self.filters, self.kind, self.hosts, self.routes


def host_name(number: int) -> str:
    """The domain of a virtual host."""
    return f"h{number}.bench"


def route_kinds(count: int) -> list[tuple[str, str]]:
    """The routes of a virtual host as kind (prefix, path, header) and value; only the last, prefix `/`, is for `/small`."""
    kinds = ("prefix", "path", "header")
    values = {"prefix": "/p{}/", "path": "/e{}", "header": "{}"}
    routes = [(kinds[number % 3], values[kinds[number % 3]].format(number)) for number in range(count - 1)]
    return [*routes, ("prefix", "/")]


LOAD_CASES = (
    Case("small", "small GET, keep-alive, 64 connections"),
    Case("body1m", "1 MiB response body, keep-alive, 16 connections", path="/large", connections=16),
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
)
#: Measured by turns, since they are about small differences.
STREAM_CASES = (
    Case("sse", f"{STREAMS * CHUNKS_EACH:,} SSE chunks over {STREAMS} streams, CPU per chunk", "/events", streams=STREAMS),
    Case("sse-header", "the same through 1 header filter", "/events", filters=1, streams=STREAMS),
    Case("sse-chunk", "the same through 1 filter that sees each chunk", "/events", 1, CHUNK, streams=STREAMS),
)
#: What the filters of these cases add to `small` is measured by pairs of short runs, and without sockets.
FILTER_CASES = ("filter1", "filter3", "async1")
MEMORY = "memory"
#: Cases of `bench.rpc`, for pymosn and the relay alone.
RPC_CASES = ("bolt", "dubbo")
CASE_NAMES = (*(case.name for case in (*LOAD_CASES, *STREAM_CASES)), *RPC_CASES, MEMORY)


def case_named(name: str) -> Case:
    """The load case of that name."""
    return next(case for case in LOAD_CASES if case.name == name)


def large_body() -> bytes:
    """1 MiB in which every 256-byte block differs from the others, so that a lost or doubled piece shows."""
    return b"".join(number.to_bytes(4, "big") * 64 for number in range(LARGE_SIZE // 256))


def write_large_body(path: Path) -> None:
    """Writes the file that the upstream serves as `/large`."""
    path.write_bytes(large_body())
