"""URIs, hosts, Max-Forwards, half-closed clients and faulty upstreams on the real program."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from process_fixtures import Start
from pymosn_process import READY, Pymosn, _cluster, _listener, free_ports

FAULTY = b"HTTP/1.1 200 OK\nX : 1\nContent-Length: 2\n\nhi"


class Server:
    """An upstream: `/faulty` gets FAULTY, `/late` nothing before the end, everything else its own head as content."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            path = head.split(b" ")[1]
            if path == b"/faulty":
                connection.sendall(FAULTY)
                return
            if path == b"/late":
                self.asked.set()
                self.go.wait(20)
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(head) + head)

    def close(self) -> None:
        self.go.set()
        self._socket.close()


class Program(NamedTuple):
    """A running program and its upstream."""

    port: int
    running: Pymosn
    server: Server

    def open(self, request: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), 20)
        connection.sendall(request)
        return connection

    def ask(self, line: bytes, host: bytes = b"a", *fields: bytes) -> bytes:
        """What the client gets."""
        lines = [line + b" HTTP/1.1", b"Host: " + host, b"Connection: close", *fields, b"", b""]
        with self.open(b"\r\n".join(lines)) as connection:
            return b"".join(iter(lambda: connection.recv(65536), b""))


def settings(route: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {"match": {"prefix": prefix}, **route}


ROUTERS = [
    settings({"redirect": {"path_redirect": "/new?x=1#é"}}, "/query"),
    settings({"redirect": {"host_redirect": "b.example:8443", "port_redirect": 9, "scheme_redirect": "https"}}, "/host"),
    settings({"route": {"cluster_name": "tolerant", "prefix_rewrite": "/faulty"}}, "/tolerant"),
    settings({"route": {"cluster_name": "strict"}}, "/"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder: Path = tmp_path_factory.mktemp("uris")
    server = Server()
    start = Start(folder)
    (port,) = free_ports(1)
    listener = _listener("l", port, "table")
    http1 = {"half_close_timeout": "2s", "trusted_hops": 1, "profile": "compatible"}
    listener["filter_chains"][0]["filters"][0]["config"]["extend_config"] = {"Http1": http1}
    table = {"router_config_name": "table", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": ROUTERS}]}
    clusters = [_cluster("strict", server.port), {**_cluster("tolerant", server.port), "upstream_profile": "compatible"}]
    config = {"default_log_path": "stdout", "routers": [table], "listeners": [listener]}
    running = start({"servers": [config], "cluster_manager": {"clusters": clusters}}, "--workers", "1")
    running.wait_for(READY)
    yield Program(port, running, server)
    start.end()
    server.close()


@pytest.mark.parametrize(
    ("path", "location"),
    [
        (b"/query?y=2", b"http://a/new?x=1#%C3%A9"),
        (b"/query", b"http://a/new?x=1#%C3%A9"),
        (b"/host?y=\xc3\xa9", b"https://b.example:9/host?y=%C3%A9"),
    ],
)
def test_location(program: Program, path: bytes, location: bytes) -> None:
    assert b"\r\nlocation: " + location + b"\r\n" in program.ask(b"GET " + path)


@pytest.mark.parametrize(
    ("line", "host", "sent"),
    [
        (b"GET /a", b"a.example:", (b"GET /a HTTP/1.1\r\n", b"Host: a.example\r\n")),
        (b"GET http://a.example:/b", b"other", (b"GET /b HTTP/1.1\r\n", b"Host: a.example\r\n")),
        (b"GET /a?b\\c", b"a", (b"GET /a?b\\c HTTP/1.1\r\n",)),
        (b"GET /\xc3\xa9?\xff", b"a", (b"GET /%C3%A9?%FF HTTP/1.1\r\n",)),
        (b"TRACE /a\x3f", b"a", (b"TRACE /a? HTTP/1.1\r\n",)),
    ],
)
def test_what_is_forwarded(program: Program, line: bytes, host: bytes, sent: tuple[bytes, ...]) -> None:
    reply = program.ask(line, host)
    assert reply.startswith(b"HTTP/1.1 200 ")
    for part in sent:
        assert part in reply


def test_max_forwards_and_x_forwarded_for(program: Program) -> None:
    reply = program.ask(b"OPTIONS /a", b"a", b"Max-Forwards: 3", b"X-Forwarded-For: evil, [2001:db8::1]:4711")
    assert b"\r\nmax-forwards: 2\r\n" in reply
    assert b"\r\nx-forwarded-for: [2001:db8::1]:4711, 127.0.0.1\r\n" in reply
    answer = program.ask(b"TRACE /a", b"a", b"Max-Forwards: 0", b"Cookie: secret")
    assert answer.endswith(b"\r\n\r\nTRACE /a HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n")


def test_upstream_profiles(program: Program) -> None:
    reply = program.ask(b"GET /tolerant")
    assert reply.startswith(b"HTTP/1.1 200 OK\r\nX: 1\r\n")
    assert reply.endswith(b"\r\n\r\nhi")
    assert program.ask(b"GET /faulty").startswith(b"HTTP/1.1 502 ")
    program.running.wait_for(rf"502 bad_response \(127\.0\.0\.1:{program.server.port}: [a-zA-Z ]+\)")


def test_a_client_that_has_closed_its_side(program: Program) -> None:
    """It gets an answer that is not late, and is given up after the configured time."""
    with program.open(b"GET /soon HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    with program.open(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        connection.shutdown(socket.SHUT_WR)
        begin = time.monotonic()
        assert program.server.asked.wait(20)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(65536) == b""
        assert time.monotonic() - begin > 1.5, "the default is a second"
