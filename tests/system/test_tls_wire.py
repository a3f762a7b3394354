"""TLS on the wire, with the real program on both sides: ends, truncation, alerts, single bytes and large bodies."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, free_ports
from tests.kit import certificates
from tests.kit.certificates import server
from tls_peers import client_context, config_of, context_for, exchange, listener_of, opened, proxy_filter, table_of

pytestmark = pytest.mark.once

SIZE = 10 << 20


def answering(own: certificates.Issued, serve: Callable[[ssl.SSLSocket], None]) -> int:
    """The port of a TLS server for one connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    context = certificates.server_context(own)

    def run() -> None:
        with listening, listening.accept()[0] as raw:
            raw.settimeout(PATIENCE)
            with context.wrap_socket(raw, server_side=True) as secured:
                serve(secured)

    threading.Thread(target=run, daemon=True).start()
    return int(listening.getsockname()[1])


def started(start: Start, upstream_port: int) -> tuple[int, object]:
    """The port of a proxy that terminates TLS, and forwards over TLS."""
    (port,) = free_ports(1)
    chain = {"tls_context": context_for(server()), "filters": [proxy_filter("r")]}
    config = config_of([listener_of("l", port, [chain])], [table_of("r", cluster="c")], {"c": f"127.0.0.1:{upstream_port}"})
    tls = {"status": True, "server_name": "server.test", "ca_cert": certificates.ca().certificate.decode()}
    config["cluster_manager"]["clusters"][0]["tls_context"] = tls
    proxy = start(config)
    proxy.wait_for(READY)
    return port, proxy


def head_of(sock: ssl.SSLSocket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    return data


def read_to_end(sock: ssl.SSLSocket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def test_large_bodies_both_ways_with_a_slow_reader(start: Start, tmp_path: Path) -> None:
    body = os.urandom(SIZE)

    def echo(sock: ssl.SSLSocket) -> None:
        received = head_of(sock).partition(b"\r\n\r\n")[2]
        while len(received) < SIZE:
            received += sock.recv(1 << 20)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + received)
        sock.recv(1)

    port, _ = started(start, answering(server(), echo))
    with opened(port) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: server.test\r\nContent-Length: %d\r\n\r\n" % SIZE + body)
        received = head_of(sock).partition(b"\r\n\r\n")[2]
        while len(received) < SIZE:
            received += sock.recv(4096)
    assert received == body


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_body_that_ends_with_the_connection(start: Start, is_cut: bool) -> None:
    def serve(sock: ssl.SSLSocket) -> None:
        head_of(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        if not is_cut:
            sock.settimeout(PATIENCE)
            sock.unwrap().close()
        else:
            os.close(sock.detach())  # a FIN without close_notify

    port, _ = started(start, answering(server(), serve))
    with opened(port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: server.test\r\nConnection: close\r\n\r\n")
        if is_cut:
            received = b""
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                received = read_to_end(sock)
            assert not received.endswith(b"0\r\n\r\n")
        else:
            assert read_to_end(sock).endswith(b"until the end\r\n0\r\n\r\n")


def test_a_truncated_request_reaches_no_upstream_as_complete(start: Start) -> None:
    seen: list[bytes] = []
    begun, done = threading.Event(), threading.Event()

    def serve(sock: ssl.SSLSocket) -> None:
        try:
            while data := sock.recv(65536):
                seen.append(data)
                if b"hello" in data:
                    begun.set()
        except (OSError, ssl.SSLError):
            pass
        finally:
            done.set()

    port, _ = started(start, answering(server(), serve))
    with opened(port) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: server.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert begun.wait(PATIENCE)
        os.close(sock.detach())
    assert done.wait(PATIENCE)
    assert not b"".join(seen).endswith(b"0\r\n\r\n")


def test_the_handshake_and_a_request_in_single_bytes(start: Start) -> None:
    def serve(sock: ssl.SSLSocket) -> None:
        head_of(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        sock.recv(1)

    port, _ = started(start, answering(server(), serve))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client_context().wrap_bio(incoming, outgoing, server_hostname="server.test")
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def flush() -> None:
            for byte in outgoing.read():
                raw.sendall(bytes((byte,)))

        while True:
            try:
                peer.do_handshake()
                break
            except ssl.SSLWantReadError:
                flush()
                incoming.write(raw.recv(65536))
        peer.write(b"GET / HTTP/1.1\r\nHost: server.test\r\n\r\n")
        flush()
        received = b""
        while not received.endswith(b"ok"):
            try:
                received += peer.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(raw.recv(65536))
    assert received.startswith(b"HTTP/1.1 200 OK")


def test_a_broken_record_gets_an_alert(start: Start) -> None:
    port, _ = started(start, free_ports(1)[0])
    with opened(port) as sock:
        assert exchange(sock)[0] == 502
        os.write(sock.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            sock.recv(100)
