"""`tcp_proxy` and TLS on the real program: over it, under it with routes by server name, and to hosts with TLS."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, free_ports
from tests.kit.certificates import Issued, ca, client, issue, server
from thread_server import ThreadServer
from tls_peers import client_context, context_for, opened

pytestmark = pytest.mark.once

LOG = "LOG %upstream_cluster% %reason% %bytes_received% %bytes_sent% %requested_server_name% %downstream_tls_version%"


class Server(ThreadServer):
    """Sends its name, then echoes in upper case until the client has ended; over TLS if it has a certificate."""

    def __init__(self, name: str, certificate: Issued | None = None, *, truncates: bool = False) -> None:
        self.name = name
        self._truncates = truncates
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.load_into(self._context)
        super().__init__(self._answer)
        self.address = f"127.0.0.1:{self.port}"

    def _answer(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.settimeout(PATIENCE)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            sock.sendall(self.name.encode() + b";")
            while data := sock.recv(65536):
                sock.sendall(data.upper())
                if self._truncates:
                    return  # a FIN without close_notify
            if isinstance(sock, ssl.SSLSocket):
                sock.unwrap()


class Site:
    """A listener with `tcp_proxy`, and the clusters of some servers."""

    def __init__(self, start: Start, servers: list[Server], chain: dict[str, Any], **tcp: Any) -> None:
        (self.port,) = free_ports(1)
        more = tcp.pop("cluster_tls", None)
        is_one = tcp.pop("is_one", False)
        clusters: list[dict[str, Any]] = [
            {"name": one.name, "lb_type": "LB_RANDOM", "hosts": [{"address": one.address, "hostname": "server.test"}]}
            | ({"tls_context": more} if more else {})
            for one in servers
        ]
        if is_one:  # the first one has the hosts of all
            clusters[0]["hosts"] = [host for cluster in clusters for host in cluster["hosts"]]
            clusters[0]["lb_type"] = "LB_ROUNDROBIN"
        listener = {
            "name": "l",
            "address": f"127.0.0.1:{self.port}",
            "bind_port": True,
            "access_logs": [{"log_path": "stdout", "log_format": LOG}],
            "filter_chains": [{**chain, "filters": [{"type": "tcp_proxy", "config": tcp}]}],
        }
        self.proxy: Pymosn = start(
            {
                "servers": [{"default_log_path": "stdout", "processor": 1, "listeners": [listener]}],
                "cluster_manager": {"clusters": clusters},
            }
        )
        self.proxy.wait_for(READY)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """To be filled; they are closed at the end."""
    made: list[Server] = []
    yield made
    for one in made:
        one.close()


def talk(sock: socket.socket, data: bytes = b"ping") -> bytes:
    """What comes back until the other side has ended its direction."""
    sock.sendall(data)
    if isinstance(sock, ssl.SSLSocket):
        found = sock.recv(65536)
        while not found.endswith(data.upper()):
            found += sock.recv(65536)
        return found
    sock.shutdown(socket.SHUT_WR)
    found = b""
    while piece := sock.recv(65536):
        found += piece
    return found


def test_bytes_over_tls(start: Start, servers: list[Server]) -> None:
    servers.append(Server("plain"))
    site = Site(start, servers, {"tls_context": context_for(server(), demands=ca())}, cluster="plain")
    with opened(site.port, context=client_context(certificate=client())) as sock:
        assert talk(sock, b"x" * 100_000) == b"plain;" + b"X" * 100_000
        sock.unwrap()
    site.proxy.wait_for(r"LOG plain - 100000 100006 server\.test TLSv1\.3")


def test_server_names_choose_the_cluster_of_tls_that_is_not_terminated(start: Start, servers: list[Server]) -> None:
    names = {"one": "one.test", "wild": "a.b.wild.test"}
    servers += [Server(name, issue(host, ca(), names=(host,))) for name, host in names.items()]
    routes = [{"cluster": "one", "server_names": ["one.test"]}, {"cluster": "wild", "server_names": ["*.wild.test"]}]
    site = Site(start, servers, {}, routes=routes)
    for name, host in names.items():
        context = client_context()
        context.check_hostname = True  # the client sees the host's own certificate
        with opened(site.port, host, context=context) as sock:
            assert talk(sock) == f"{name};PING".encode()
            sock.unwrap()
        site.proxy.wait_for(rf"LOG {name} - \d+ \d+ {re.escape(host)} -$")
    for host in ("wild.test", "one.test.evil.test"):
        with pytest.raises((ssl.SSLError, ConnectionError)), opened(site.port, host) as sock:
            talk(sock)
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", site.port), PATIENCE) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert plain.recv(1) == b""
    site.proxy.wait_for(r"LOG - no_route 0 0 wild\.test -")
    site.proxy.wait_for(r"LOG - no_route \d+ 0 - -")


def test_hosts_with_tls(start: Start, servers: list[Server]) -> None:
    servers.append(Server("secure", server()))
    trust = {"status": True, "ca_cert": ca().certificate.decode()}
    site = Site(start, servers, {}, cluster="secure", cluster_tls=trust)
    with socket.create_connection(("127.0.0.1", site.port), PATIENCE) as sock:
        assert talk(sock, b"y" * 100_000) == b"secure;" + b"Y" * 100_000
    site.proxy.wait_for("LOG secure - 100000 100007 - -")


def test_a_host_whose_certificate_is_wrong(start: Start, servers: list[Server]) -> None:
    servers.append(Server("wrong", issue("elsewhere.test", ca(), names=("elsewhere.test",))))
    trust = {"status": True, "ca_cert": ca().certificate.decode()}
    site = Site(start, servers, {}, cluster="wrong", cluster_tls=trust, max_connect_attempts=1)
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", site.port), PATIENCE) as sock:
        assert sock.recv(1) == b""
    site.proxy.wait_for("LOG wrong tls_name_mismatch 0 0")


def test_after_a_failed_handshake_another_host_is_tried(start: Start, servers: list[Server]) -> None:
    servers.append(Server("wrong", issue("elsewhere.test", ca(), names=("elsewhere.test",))))
    servers.append(Server("plain"))  # its greeting is no TLS
    servers.append(Server("right", server()))
    trust = {"status": True, "ca_cert": ca().certificate.decode()}
    site = Site(start, servers, {}, cluster="wrong", cluster_tls=trust, is_one=True)
    for _ in range(6):
        with socket.create_connection(("127.0.0.1", site.port), PATIENCE) as sock:
            sock.sendall(b"early")  # read before there is a host
            assert talk(sock) == b"right;EARLYPING"
    assert site.proxy.wait_for(r"LOG wrong (\S+) 9 15")[1] == "-"


def test_a_host_that_ends_without_close_notify_resets_the_client(start: Start, servers: list[Server]) -> None:
    servers.append(Server("cut", server(), truncates=True))
    trust = {"status": True, "ca_cert": ca().certificate.decode()}
    site = Site(start, servers, {}, cluster="cut", cluster_tls=trust)
    with socket.create_connection(("127.0.0.1", site.port), PATIENCE) as sock:
        sock.sendall(b"ping")
        with pytest.raises(ConnectionResetError):
            b"".join(iter(lambda: sock.recv(4096), b""))
    site.proxy.wait_for("LOG cut tls_truncated 4 8")


def test_a_client_that_ends_without_close_notify_resets_the_host(start: Start, servers: list[Server]) -> None:
    servers.append(Server("plain"))
    site = Site(start, servers, {"tls_context": context_for(server())}, cluster="plain")
    with opened(site.port) as sock:
        assert talk(sock) == b"plain;PING"
        sock.shutdown(socket.SHUT_WR)  # of the socket below TLS
    site.proxy.wait_for("LOG plain tls_truncated 4 10")


@pytest.mark.parametrize("has_tls", [False, True])
def test_weights(start: Start, servers: list[Server], has_tls: bool) -> None:
    servers += [Server("often"), Server("seldom")]
    weighted = [{"name": "often", "weight": 9}, {"name": "seldom", "weight": 1}]
    chain = {"tls_context": context_for(server())} if has_tls else {}
    site = Site(start, servers, chain, weighted_clusters=weighted)
    count = 0
    for _ in range(60):
        with contextlib.ExitStack() as stack:
            raw = socket.create_connection(("127.0.0.1", site.port), PATIENCE)
            sock = stack.enter_context(client_context().wrap_socket(raw) if has_tls else raw)
            sock.sendall(b"x")
            count += sock.recv(4) == b"ofte"
    assert count >= 35  # at 90 %, fewer happen in one of 10**9 runs
