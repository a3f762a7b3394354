"""Idle memory: the memory of a worker at rest, and the memory that each idle keep-alive connection adds."""

import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from bench.cases import LOAD_CASES, SMALL_BODY
from bench.measure import Memory, read_memory
from bench.peers import Running
from bench.verify import connect, exchange
from bench.void import Void

CONNECTIONS = 2000
WARM_UP_REQUESTS = 200


@dataclass(frozen=True)
class MemoryResult:
    """Memory of the worker at `rest` and `loaded` with idle `connections`, and of the peer's `helpers`."""

    rest: Memory
    loaded: Memory
    helpers: Memory
    connections: int

    @property
    def per_connection(self) -> float:
        """Bytes of resident memory that one idle keep-alive connection adds to the worker."""
        return (self.loaded.rss - self.rest.rss) / self.connections

    def to_json(self) -> dict[str, object]:
        """The figures, including the derived one."""
        return {**asdict(self), "per_connection": self.per_connection}


def measure_memory(running: Running) -> MemoryResult:
    """Opens connections to a freshly started peer, sends one request on each, and leaves them idle.

    Raises Void if a request fails or a connection does not stay open.
    """
    port, certificate = running.plan.port, running.plan.certificate
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
