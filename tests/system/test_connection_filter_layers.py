"""Connection filters of an installed package, behind the PROXY protocol and TLS, and before the detection of protocols."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import connect, read_all, read_exactly
from process_fixtures import Start
from pymosn_process import READY, Upstream, free_ports
from tests.kit import certificates
from thread_server import ThreadServer

PACKAGE = '''
import msgspec
from pymosn.api import ConnectionFilter


class Config(msgspec.Struct, forbid_unknown_fields=True):
    network: str


class Guard(ConnectionFilter):
    """Refuses clients outside of a network."""

    Config = Config

    def on_connection(self, connection):
        is_tls = connection.tls is not None
        self.context.write(f"GUARD {connection.remote_ip} {connection.local_port} {is_tls}")
        if not connection.remote_ip.startswith(self.config.network):
            connection.abort()
'''
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def header(ip: str) -> bytes:
    return f"PROXY TCP4 {ip} 198.51.100.2 4711 443\r\n".encode()


@pytest.fixture
def package(tmp_path: Path) -> str:
    """The PYTHONPATH with an installed package."""
    folder = tmp_path / "installed"
    info = folder / "guards-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "guards.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guards\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pymosn.network_filters]\nguard = guards:Guard\n")
    others = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.pathsep.join([str(folder), *others])


@pytest.fixture
def greeting() -> Iterator[int]:
    def answer(sock: socket.socket) -> None:
        sock.sendall(sock.recv(100) + b" echoed")

    server = ThreadServer(answer)
    yield server.port
    server.close()


def world(folder: Path, http_port: int, tcp_port: int, **filter_config: Any) -> tuple[int, dict[str, Any]]:
    """The port and the configuration of a listener with everything: PROXY protocol, inspector, TLS, filter, detection."""
    port, admin_port = free_ports(2)
    certificate, key = certificates.server().files(folder, "server")
    guard = {"type": "python", "config": {"name": "guard", "config": {"network": "203.0.113.", **filter_config}}}
    proxy = {"downstream_protocol": "Auto", "router_config_name": "r", "fallback_for_unknown_protocol": True}
    filters = [guard, {"type": "proxy", "config": proxy}, {"type": "tcp_proxy", "config": {"cluster": "tcp"}}]
    routers = [{"match": {"prefix": "/"}, "route": {"cluster_name": "http"}}]
    listener = {
        "name": "l",
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "inspector": True,
        "proxy_protocol": {"trusted_prefixes": ["127.0.0.1/32"]},
        "access_logs": [{"log_path": "stdout", "log_format": "LOG %downstream_remote_address% %protocol% %reason%"}],
        "filter_chains": [
            {"filters": filters, "tls_context": {"status": True, "cert_chain": certificate, "private_key": key}}
        ],
    }
    hosts = {"http": http_port, "tcp": tcp_port}
    return port, {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "servers": [
            {
                "default_log_path": "stdout",
                "processor": 1,
                "listeners": [listener],
                "routers": [{"router_config_name": "r", "virtual_hosts": [{"domains": ["*"], "routers": routers}]}],
            }
        ],
        "cluster_manager": {
            "clusters": [{"name": name, "hosts": [{"address": f"127.0.0.1:{at}"}]} for name, at in hosts.items()]
        },
    }


@pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plain"])
def test_all_layers_together(
    start: Start, upstream: Upstream, greeting: int, package: str, tmp_path: Path, is_tls: bool
) -> None:
    port, config = world(tmp_path, upstream.port, greeting)
    proxy = start(config, PYTHONPATH=package)
    proxy.wait_for(READY)

    def ask(ip: str, data: bytes) -> bytes:
        with connect(port) as raw:
            raw.sendall(header(ip))
            if not is_tls:
                raw.sendall(data)
                return read_all(raw) if data == GET else read_exactly(raw, len(data) + 7)
            context = certificates.client_context()
            with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock:
                sock.sendall(data)
                return read_all(sock) if data == GET else read_exactly(sock, len(data) + 7)

    assert ask("203.0.113.9", GET).startswith(b"HTTP/1.1 200")
    assert ask("203.0.113.9", b"\xff\xfe of no protocol") == b"\xff\xfe of no protocol echoed"
    with pytest.raises(OSError, match=r"reset|EOF"):
        ask("192.0.2.9", GET)
    assert proxy.wait_for("GUARD 203.0.113.9 443 (True|False)")[1] == str(is_tls)
    proxy.wait_for("LOG 203.0.113.9:4711 tcp")
    proxy.wait_for("LOG 192.0.2.9:4711 - access_denied")


def test_settings_and_names_are_checked(start: Start, upstream: Upstream, package: str, tmp_path: Path) -> None:
    _, config = world(tmp_path, upstream.port, 1, other=1)
    proxy = start(config, PYTHONPATH=package)
    assert proxy.exit_code() != 0
    assert "unknown field `other`" in proxy.output
    del config["servers"][0]["listeners"][0]["filter_chains"][0]["filters"][0]["config"]["config"]["other"]
    config["servers"][0]["listeners"][0]["filter_chains"][0]["filters"][0]["config"]["name"] = "gard"
    proxy = start(config, PYTHONPATH=package)
    assert proxy.exit_code() != 0
    assert "gard" in proxy.output
    assert "guard" in proxy.output
