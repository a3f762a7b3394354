"""Attacks on handshakes and on TLS connections of the real program: others are served, and nothing is left afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import connect, read_all, rejection
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, eventually, free_ports, get
from tests.kit.certificates import server
from tests.kit.client_hello import message, records
from tls_peers import answer, client_context, config_of, context_for, exchange, listener_of, opened, proxy_filter, table_of

pytestmark = pytest.mark.once

#: Handshakes in progress, of all and of one network; the admin API and health checks have none.
LIMIT, OF_ONE = 12, 8
#: Seconds for which a handshake may last.
HANDSHAKE_TIME = 2.0
#: Handshakes that are aborted, in each way.
ABORTED = 300
BIG = 4 << 20


class Program:
    """One worker, a listener with TLS and limits on handshakes, and short times for everything slow."""

    def __init__(self, start: Start) -> None:
        self.port, self.admin = free_ports(2)
        chain = {"tls_context": context_for(server()), "filters": [self._filter()]}
        more = {"tls_handshake_timeout": f"{HANDSHAKE_TIME}s", "write_timeout": "1s", "connection_idle_timeout": "3s"}
        table = table_of("r", "hello")
        big = {"match": {"path": "/big"}, "direct_response": {"status": 200, "body": "x" * BIG}}
        table["virtual_hosts"][0]["routers"].insert(0, big)
        config = config_of([listener_of("l", self.port, [chain], **more)], [table])
        config["servers"][0]["limits"] = {"max_handshakes": LIMIT, "max_handshakes_per_source": OF_ONE}
        config["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}}
        self.process: Pymosn = start(config)
        self.process.wait_for(READY)

    def _filter(self) -> dict[str, Any]:
        made = proxy_filter("r")
        made["config"]["extend_config"] |= {"header_timeout": "2s", "body_timeout": "2s"}
        return made

    def stats(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the listener and of the worker."""
        found = json.loads(get(self.admin, "/api/v1/stats")[1])
        return found["downstream"]["listener.l"], found["worker"]["worker.all"]

    def count(self, key: str) -> int:
        return int(self.stats()[0].get(key, 0))

    def is_served(self, source: str = "127.0.9.1") -> bool:
        return answer(self.port, source=source) == (200, b"hello")

    def is_at_rest(self) -> bool:
        """Nothing is left of any connection."""
        listener, worker = self.stats()
        left = [listener.get(key, 0) for key in ("connection_active", "request_active", "tls_handshake_active")]
        left += [worker.get(key, 0) for key in ("connections", "head_bytes", "timers")]
        return not any(int(value) for value in left)


@pytest.fixture
def program(start: Start) -> Program:
    return Program(start)


def hello() -> bytes:
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client_context().wrap_bio(incoming, outgoing, server_hostname="server.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    return outgoing.read()


@contextlib.contextmanager
def half_open(port: int, source: str, data: bytes) -> Iterator[socket.socket]:
    """A connection whose handshake has begun, and does not go on."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(data)
        yield sock


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ends(sock: socket.socket) -> str:
    """How the program ends a connection: `eof` or `reset`, after whatever it sends."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return "reset"
    return "eof"


def test_half_open_handshakes_and_the_gate(program: Program) -> None:
    first = hello()
    with contextlib.ExitStack() as stack:
        begun = [
            stack.enter_context(half_open(program.port, "127.0.1.1", (first, first[:20], b"")[i % 3])) for i in range(OF_ONE)
        ]
        assert eventually(lambda: program.count("connection_active") == OF_ONE)
        assert rejection_from(program.port, "127.0.1.2") == "reset", "one network has its share"
        assert program.is_served("127.0.2.1"), "others are served"
        more = [stack.enter_context(half_open(program.port, "127.0.3.1", first)) for _ in range(LIMIT - OF_ONE)]
        assert eventually(lambda: program.count("connection_active") == LIMIT)
        assert rejection_from(program.port, "127.0.4.1") == "reset", "the limit for all"
        assert program.count("connection_refused") == 2
        assert program.count("reason_too_many_handshakes") == 2
        for sock in begun + more:
            assert ends(sock) in ("reset", "eof"), "the time of handshakes"
        assert eventually(lambda: program.is_served("127.0.1.1"))
    assert eventually(program.is_at_rest)
    assert all(program.is_served("127.0.1.1") for _ in range(OF_ONE + 2)), "the gate's numbers are those of the beginning"


def rejection_from(port: int, source: str) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)) as sock:
            return ends(sock)
    except ConnectionResetError:
        return "reset"


@pytest.mark.parametrize("piece", [1, 7])
def test_a_client_hello_in_single_bytes(program: Program, piece: int) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client_context().wrap_bio(incoming, outgoing, server_hostname="server.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    data = outgoing.read()
    with half_open(program.port, "127.0.0.1", b"") as sock:
        for start in range(0, len(data), piece):
            sock.sendall(data[start : start + piece])
        while True:
            incoming.write(sock.recv(65536))
            try:
                peer.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        sock.sendall(outgoing.read())
        assert eventually(lambda: program.count("tls_handshake_total") == 1)
    assert eventually(program.is_at_rest)


def test_a_client_hello_over_the_limit(program: Program) -> None:
    with half_open(program.port, "127.0.0.1", records(message(tail=bytes(60_000)), 16_000, 32_000, 48_000)) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock)[:1] in (b"\x15", b"")
    assert eventually(program.is_at_rest)
    assert program.is_served()


def test_single_bytes_do_not_buy_time(program: Program) -> None:
    data = hello()
    with half_open(program.port, "127.0.0.1", b"") as sock:
        sock.settimeout(0.1)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < len(data):
                sock.sendall(data[sent : sent + 1])
                sent += 1
                with contextlib.suppress(TimeoutError):
                    if not sock.recv(1):
                        break
        assert sent < HANDSHAKE_TIME / 0.1 + 20
    assert eventually(program.is_at_rest)


def test_hundreds_of_aborted_handshakes_leave_nothing(program: Program) -> None:
    (pid,) = program.process.worker_pids()
    first = hello()

    def round_of_them() -> None:
        for number in range(ABORTED):
            with half_open(
                program.port, f"127.0.{number % 200}.1", (first, first[:40], b"\x16", b"junk")[number % 4]
            ) as sock:
                if number % 3 == 0:
                    reset(sock)
                elif number % 3 == 1:
                    with contextlib.suppress(ConnectionError):  # what is not TLS is reset at once
                        sock.sendall(b"\x15\x03\x03\x00\x02\x02\x28")

    round_of_them()
    assert eventually(program.is_at_rest)
    before = memory(pid), descriptors(pid)
    for _ in range(3):
        round_of_them()
    assert eventually(program.is_at_rest)
    assert eventually(lambda: descriptors(pid) <= before[1])
    assert memory(pid) - before[0] < 3 << 20
    assert program.is_served()
    assert program.count("connection_total") >= 4 * ABORTED
    assert len([line for line in program.process.lines if "handshake" in line]) < 60, "the log is no victim, either"


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_handshake_and_then_silence_or_a_reset(program: Program) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(opened(program.port, source=f"127.0.{number}.1")) for number in range(1, 4)]
        for number in range(20):
            with opened(program.port, source=f"127.0.{number}.2") as secured:
                reset(secured)
        for secured in silent:
            assert secured.recv(1) == b"", "the idle timeout, with close_notify"
    assert eventually(program.is_at_rest)
    assert program.count("tls_handshake_total") == 23
    assert program.count("tls_handshake_failed") == 0


def test_slowloris_within_tls(program: Program) -> None:
    with opened(program.port) as secured:
        secured.settimeout(0.2)
        secured.sendall(b"GET / HTTP/1.1\r\n")
        got = b""
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                piece = secured.recv(65536)
                got += piece
                if not piece:
                    break
            with contextlib.suppress(OSError):
                secured.sendall(b"x")
        assert got.startswith(b"HTTP/1.1 408 ")
    assert eventually(program.is_at_rest)


def test_a_peer_that_never_reads(program: Program) -> None:
    with opened(program.port) as secured:
        secured.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
        assert eventually(lambda: program.count("connection_active") == 1)
        assert eventually(lambda: program.count("connection_active") == 0), "the write timeout"
    assert eventually(program.is_at_rest)
    with opened(program.port) as secured:
        assert exchange(secured, target="/big")[0] == 200, "one that reads gets all"


def test_plain_text_to_the_port(program: Program) -> None:
    with connect(program.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")
    assert rejection(program.port, b"\x00" * 100) == "reset"
    assert eventually(program.is_at_rest)
