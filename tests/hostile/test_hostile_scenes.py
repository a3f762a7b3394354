"""Rows that are a course of events rather than bytes: E5, E8, E9, and limits that must be configured (413)."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hostile.program import Program, running
from tests.system.plain_sockets import connect, read_until

SIZE = 48 << 20
GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


class Upstream:
    """`/fin` and `/rst` are answered and the connection ended at once, unannounced; `/flood` is answered with SIZE bytes.

    `/full` is refused, and the connection closed, before the body is read: what comes of it is answered by a reset.
    """

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._server.getsockname()[1]
        self.received = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while piece := _read(connection):
                data += piece
                self.received += piece
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    if not self._answer(connection, head):
                        return

    def _answer(self, connection: socket.socket, head: bytes) -> bool:
        try:
            if b" /flood " in head:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
                for _ in range(SIZE >> 16):
                    connection.sendall(b"x" * 65536)
                return True
            if b" /full " in head:
                connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
                return False
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except OSError:
            return False
        if b" /rst " in head:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        return b" /fin " not in head and b" /rst " not in head

    def close(self) -> None:
        self._server.close()


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture(scope="module")
def program(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with running(tmp_path_factory.mktemp("scenes"), upstream.port, {"max_request_body_size": 100}) as made:
        yield made


@pytest.fixture(scope="module")
def unlimited(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with running(tmp_path_factory.mktemp("unlimited"), upstream.port) as made:
        yield made


def receive(client: socket.socket, end: bytes) -> bytes:
    """Everything up to and with `end`, or to the end of the connection."""
    data = b""
    while not data.endswith(end):
        piece = client.recv(65536)
        if not piece:
            break
        data += piece
    return data


@pytest.mark.parametrize("path", [b"/fin", b"/rst"])
@pytest.mark.parametrize("hops", [1, 2])
def test_connections_that_close_at_their_reuse_cost_no_get(program: Program, path: bytes, hops: int) -> None:
    """E8."""
    with connect(program.port(hops)) as client:
        for _ in range(200):
            client.sendall(GET % path)
            assert receive(client, b"\r\n\r\nok").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("method", [b"PUT", b"POST"])
@pytest.mark.parametrize("hops", [1, 2])
def test_a_reply_that_a_reset_follows_is_relayed(unlimited: Program, method: bytes, hops: int) -> None:
    """E5: the upstream has read the head alone, and refuses; the proxy's next write finds the connection gone."""
    body = bytes(4 << 20)
    for _ in range(10):
        with connect(unlimited.port(hops)) as client:
            head = method + b" /full HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
            with contextlib.suppress(OSError):
                client.sendall(head + body)
            assert receive(client, b"\r\n\r\nno").startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("hops", [1, 2])
def test_a_slow_reader_costs_no_memory(program: Program, hops: int) -> None:
    """E9: the upstream is not read faster than the client reads; nothing is lost."""

    def memory() -> int:
        return int(Path(f"/proc/{program.worker}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = memory()
    with connect(program.port(hops)) as client:
        client.sendall(GET % b"/flood")
        got = len(read_until(client, b"\r\n\r\n").partition(b"\r\n\r\n")[2])
        # The whole time in which the client reads slowly: each piece waits for the next.
        largest = 0
        while got < SIZE:
            piece = client.recv(65536)
            assert piece, "cut short"
            got += len(piece)
            if got % (1 << 20) < len(piece):
                largest = max(largest, memory())
        assert got == SIZE
    assert largest - before < 16 << 20


def test_a_body_over_the_limit(program: Program, upstream: Upstream) -> None:
    """A9: 413 at once where the length is told, 413 and a cut upstream connection where it is not; nothing is smuggled."""
    for framing, body in (
        (b"Content-Length: 1000", b"x" * 1000),
        (b"Transfer-Encoding: chunked", b"80\r\n" + b"x" * 128 + b"\r\n0\r\n\r\n"),
    ):
        with connect(program.one_hop) as client:
            client.sendall(b"POST /limit HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + body + GET % b"/smuggled")
            data = receive(client, b"never")
        assert data.startswith(b"HTTP/1.1 413 ")
        assert data.count(b"HTTP/1.1 ") == 1
    assert b"/smuggled" not in upstream.received
    assert b"/limit" not in upstream.received or b"0\r\n\r\n" not in upstream.received.partition(b"/limit")[2]
