"""Idle memory: the memory of a worker at rest, and the memory that each idle connection or open stream adds."""

import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from bench.cases import HTTP2, LOAD_CASES, SMALL_BODY, Case
from bench.grpc_stream import Streams
from bench.http2 import Client
from bench.measure import Memory, read_memory
from bench.peers import Running
from bench.verify import connect, exchange
from bench.void import Void

CONNECTIONS = 2000
WARM_UP_REQUESTS = 200
#: Open streams, on so many connections; more are more than Envoy takes by default.
OPEN_STREAMS, STREAM_CONNECTIONS = 1000, 20


@dataclass(frozen=True)
class MemoryResult:
    """Memory of the worker at `rest` and `loaded` with `count` idle connections or streams, and of the peer's `helpers`.

    `unit`: "connection" or "stream".
    """

    rest: Memory
    loaded: Memory
    helpers: Memory
    count: int
    unit: str = "connection"

    @property
    def each(self) -> float:
        """Bytes of resident memory that one idle connection or stream adds to the worker."""
        return (self.loaded.rss - self.rest.rss) / self.count

    def to_json(self) -> dict[str, object]:
        """The figures, including the derived one."""
        return {**asdict(self), f"per_{self.unit}": self.each}


def measure_memory(running: Running) -> MemoryResult:
    """Opens connections to a freshly started peer, sends one request on each, and leaves them idle.

    Raises Void if a request fails or a connection does not stay open.
    """
    port, certificate = running.plan.port, running.plan.certificate
    if running.plan.front == HTTP2:
        return _measure_http2(running)
    with connect(port, certificate) as first:
        for _ in range(WARM_UP_REQUESTS):
            _ask(first, port)
    _settle()
    rest = _sum(running.workers)
    with ExitStack() as open_connections:
        connections = [open_connections.enter_context(connect(port, certificate)) for _ in range(CONNECTIONS)]
        for connection in connections:
            _ask(connection, port)
        _settle()
        loaded = _sum(running.workers)
        helpers = _sum(running.helpers)
        _check_open(connections)
    return MemoryResult(rest, loaded, helpers, CONNECTIONS)


def _measure_http2(running: Running) -> MemoryResult:
    port, certificate = running.plan.port, running.plan.certificate
    with Client(port, certificate) as first:
        for _ in range(WARM_UP_REQUESTS):
            _ask_http2(first)
        _settle()
        rest = _sum(running.workers)
        with ExitStack() as open_connections:
            clients = [open_connections.enter_context(Client(port, certificate)) for _ in range(CONNECTIONS)]
            for client in clients:
                _ask_http2(client)
            _settle()
            loaded = _sum(running.workers)
            helpers = _sum(running.helpers)
            for client in clients:  # all are open still
                _ask_http2(client)
    return MemoryResult(rest, loaded, helpers, CONNECTIONS)


def measure_stream_memory(running: Running, case: Case) -> MemoryResult:
    """Opens streams of a gRPC method on a few connections, receives a message on each, and leaves them idle.

    Raises Void if one of them breaks.
    """
    streams = Streams(running.plan.port, running.plan.upstream_port)
    try:
        streams.connect(STREAM_CONNECTIONS)
        streams.open(case.connections)
        rest = _sum(running.workers)
        streams.open(OPEN_STREAMS)
        streams.settle()
        loaded = _sum(running.workers)
        helpers = _sum(running.helpers)
        streams.send(1)  # all are open still
    except (OSError, ValueError) as fault:
        raise Void(f"a stream failed: {fault}") from None
    finally:
        streams.close()
    return MemoryResult(rest, loaded, helpers, OPEN_STREAMS, "stream")


def _ask_http2(client: Client) -> None:
    case = LOAD_CASES[0]
    body = client.ask(case.path, case.fields).body
    if body != SMALL_BODY:
        raise Void(f"GET {case.path}: a body of {len(body)} bytes differs from the upstream's {len(SMALL_BODY)}")


def _ask(connection: socket.socket, port: int) -> None:
    case = LOAD_CASES[0]
    _, body = exchange(connection, port, case.path, case.fields)
    if body != SMALL_BODY:
        raise Void(f"GET {case.path}: a body of {len(body)} bytes differs from the upstream's {len(SMALL_BODY)}")


def _check_open(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.setblocking(False)
        try:
            data = connection.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            continue
        raise Void(f"an idle connection {'received unexpected bytes' if data else 'was closed'}")


def _sum(pids: Iterable[int]) -> Memory:
    each = [read_memory(pid) for pid in pids]
    return Memory(sum(memory.rss for memory in each), sum(memory.pss for memory in each))


def _settle() -> None:
    time.sleep(0.3)  # connections are closed and memory is freed after the last response
