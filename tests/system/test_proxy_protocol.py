"""The PROXY protocol with the real program: HAProxy and nginx as real peers on both sides, and hostile clients."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import PATIENCE, connect, read_all, read_until, rejection
from process_fixtures import Start
from pymosn_process import READY, Upstream, eventually, free_ports
from tests.kit.certificates import ca, server
from tls_peers import context_for

pytestmark = pytest.mark.once

CLIENT = "127.0.0.9"
LOG = "LOG %downstream_remote_address% %downstream_local_address% %response_code% %reason%"
V1 = b"PROXY TCP4 203.0.113.9 198.51.100.2 4711 443\r\n"
V1_6 = b"PROXY TCP6 2001:db8::9 2001:db8::2 4711 443\r\n"
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V2 = SIGNATURE + bytes.fromhex("2111000c cb007109 c6336402 1267 01bb")
LOCAL = SIGNATURE + bytes.fromhex("20000000")
GET = b"GET /who HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
TRUSTED: dict[str, Any] = {"trusted_prefixes": ["127.0.0.1/32", "::1/128"], "timeout": "1s"}

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def world(host: str, proxy_protocol: dict[str, Any] | None = None, *, tcp: bool = False, **cluster: Any) -> dict[str, Any]:
    """One listener and one cluster with a host; `host`: its address."""
    port, admin_port = free_ports(2)
    if tcp:
        filters: list[dict[str, Any]] = [{"type": "tcp_proxy", "config": {"cluster": "c"}}]
    else:
        filters = [{"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}]
    listener: dict[str, Any] = {
        "name": "l",
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "access_logs": [{"log_path": "stdout", "log_format": LOG}],
        "filter_chains": [{"filters": filters}],
    }
    if proxy_protocol is not None:
        listener["proxy_protocol"] = proxy_protocol
    routers = [{"match": {"prefix": "/"}, "route": {"cluster_name": "c"}}]
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "servers": [
            {
                "default_log_path": "stdout",
                "processor": 1,
                "graceful_timeout": "1s",
                "listeners": [listener],
                "routers": [{"router_config_name": "r", "virtual_hosts": [{"domains": ["*"], "routers": routers}]}],
            }
        ],
        "cluster_manager": {"clusters": [{"name": "c", "hosts": [{"address": host}], **cluster}]},
    }


def port_of(config: dict[str, Any]) -> int:
    return int(config["servers"][0]["listeners"][0]["address"].rpartition(":")[2])


def wait_for_port(port: int, process: subprocess.Popen[bytes], host: str = "127.0.0.1") -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"the peer does not listen: exit code {process.poll()}")


@contextmanager
def running(port: int, *command: str) -> Iterator[None]:
    """A real peer, until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def haproxy(folder: Path, frontend: str, backend: str = "") -> Iterator[int]:
    """HAProxy with a frontend on a free port, which it gives; `{port}` in `frontend` is replaced by it."""
    [port] = free_ports(1)
    path = folder / "haproxy.cfg"
    limits = "timeout client 30s\n  timeout server 30s\n  timeout connect 5s"
    path.write_text(f"defaults\n  mode tcp\n  {limits}\nfrontend f\n{frontend.format(port=port)}\n{backend}\n")
    with running(port, "haproxy", "-db", "-f", str(path)):
        yield port


def ask(port: int, source: str = "", data: bytes = GET, host: str = "127.0.0.1") -> tuple[bytes, int]:
    """The response to a request from an address of this machine, and the client's port."""
    with socket.create_connection((host, port), PATIENCE, source_address=(source, 0) if source else None) as sock:
        own_port = sock.getsockname()[1]
        sock.sendall(data)
        return read_all(sock), own_port


# ---- in


@pytest.mark.parametrize(
    ("header", "client", "local"),
    [
        (V1, "203.0.113.9:4711", "198.51.100.2:443"),
        (V1_6, "[2001:db8::9]:4711", "[2001:db8::2]:443"),
        (V2, "203.0.113.9:4711", "198.51.100.2:443"),
    ],
    ids=["v1", "v1-6", "v2"],
)
@pytest.mark.parametrize("step", [1, 5000])
def test_the_header_of_a_trusted_peer(
    start: Start, upstream: Upstream, header: bytes, client: str, local: str, step: int
) -> None:
    config = world(f"127.0.0.1:{upstream.port}", TRUSTED)
    proxy = start(config)
    proxy.wait_for(READY)
    data = header + GET
    with connect(port_of(config)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), step):
            sock.sendall(data[at : at + step])
        assert read_all(sock).startswith(b"HTTP/1.1 200")
    proxy.wait_for(re.escape(f"LOG {client} {local} 200 -"))


def test_hostile_peers(start: Start, upstream: Upstream) -> None:
    config = world(f"127.0.0.1:{upstream.port}", TRUSTED)
    proxy = start(config)
    proxy.wait_for(READY)
    port = port_of(config)
    for data, reason in (
        (GET, "no_proxy_header"),
        (b"\x16\x03\x01\x00\x05", "no_proxy_header"),
        (V1.replace(b"TCP4", b"TCP6") + GET, "bad_proxy_header"),
        (V1.replace(b" 4711", b" 04711") + GET, "bad_proxy_header"),
        (V1.replace(b"\r\n", b"\n") + GET, "bad_proxy_header"),
        (b"PROXY " + b"x" * 5000, "bad_proxy_header"),
        (SIGNATURE + b"\x22\x11\x00\x0c" + V2[16:] + GET, "bad_proxy_header"),
        (SIGNATURE + b"\x21\x11\xff\xff" + bytes(70000), "bad_proxy_header"),
        (V2[:-1], "proxy_header_timeout"),
        (b"", "proxy_header_timeout"),
    ):
        proxy.lines.clear()
        assert rejection(port, data) == "reset"
        proxy.wait_for(rf"LOG 127\.0\.0\.1:\d+ 127\.0\.0\.1:{port} \S+ {reason}")


def test_others_are_never_believed(start: Start, upstream: Upstream) -> None:
    config = world(f"127.0.0.1:{upstream.port}", TRUSTED)
    proxy = start(config)
    proxy.wait_for(READY)
    assert ask(port_of(config), CLIENT)[0].startswith(b"HTTP/1.1 200")
    for header in (V1, V2):
        assert ask(port_of(config), CLIENT, header + GET)[0].startswith(b"HTTP/1.1 400")
    proxy.wait_for(rf"LOG {CLIENT}:\d+ \S+ 400 bad_request")
    assert "203.0.113.9" not in proxy.output


def test_a_header_that_is_not_required(start: Start, upstream: Upstream) -> None:
    config = world(f"127.0.0.1:{upstream.port}", {**TRUSTED, "is_required": False})
    proxy = start(config)
    proxy.wait_for(READY)
    for header in (b"", V1, LOCAL, b"PROXY UNKNOWN\r\n"):
        assert ask(port_of(config), data=header + GET)[0].startswith(b"HTTP/1.1 200")
    proxy.wait_for(r"LOG 203\.0\.113\.9:4711")
    # The lines of two workers come in any order.
    assert eventually(lambda: len(re.findall(r"LOG 127\.0\.0\.1:\d+ \S+ 200", proxy.output)) == 3)


def test_a_server_that_speaks_first(start: Start) -> None:
    """Neither the client nor the load balancer sends anything after the header."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = world(f"127.0.0.1:{server.getsockname()[1]}", TRUSTED, tcp=True)
        start(config).wait_for(READY)
        with connect(port_of(config)) as client:
            client.sendall(V1)
            server.settimeout(PATIENCE)
            accepted, _ = server.accept()
            with accepted:
                accepted.sendall(b"220 hello\r\n")
                assert read_until(client, b"\r\n") == b"220 hello\r\n"


def test_unix_listeners_trust_all_peers(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    config = world(f"127.0.0.1:{upstream.port}", {})
    path = tmp_path / "l.sock"
    config["servers"][0]["listeners"][0] |= {"network": "unix", "address": str(path)}
    proxy = start(config)
    proxy.wait_for(READY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        sock.sendall(V2 + GET)
        assert read_all(sock).startswith(b"HTTP/1.1 200")
    proxy.wait_for(r"LOG 203\.0\.113\.9:4711 198\.51\.100\.2:443 200")


@needs_haproxy
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
@pytest.mark.parametrize("family", [4, 6])
def test_behind_haproxy(start: Start, upstream: Upstream, tmp_path: Path, option: str, family: int) -> None:
    config = world(f"127.0.0.1:{upstream.port}", TRUSTED)
    proxy = start(config)
    proxy.wait_for(READY)
    bind = "  bind 127.0.0.1:{port}\n  bind [::1]:{port}\n  unique-id-format %[uuid]\n  default_backend b"
    backend = f"backend b\n  server s 127.0.0.1:{port_of(config)} {option}"
    with haproxy(tmp_path, bind, backend) as port:
        reply, own_port = ask(port, CLIENT) if family == 4 else ask(port, host="::1")
        client = f"{CLIENT}:{own_port} 127.0.0.1:{port}" if family == 4 else f"[::1]:{own_port} [::1]:{port}"
    assert reply.startswith(b"HTTP/1.1 200")
    proxy.wait_for(re.escape(f"LOG {client} 200 -"))


# ---- out


@needs_haproxy
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "http"])
def test_in_front_of_haproxy(start: Start, tmp_path: Path, version: str, tcp: bool) -> None:
    answer = '  http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst]:%[dst_port]"'
    with haproxy(tmp_path, "  mode http\n  bind 127.0.0.1:{port} accept-proxy\n" + answer) as port:
        config = world(f"127.0.0.1:{port}", tcp=tcp)
        config["cluster_manager"]["clusters"][0]["proxy_protocol"] = version
        start(config).wait_for(READY)
        for source in (CLIENT, "127.0.0.10"):
            reply, own_port = ask(port_of(config), source)
            assert reply.endswith(f"{source}:{own_port} 127.0.0.1:{port_of(config)}".encode())


@needs_nginx
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_in_front_of_nginx(start: Start, tmp_path: Path, version: str) -> None:
    [port] = free_ports(1)
    path = tmp_path / "nginx.conf"
    answer = 'return 200 "$proxy_protocol_addr:$proxy_protocol_port $connection";'
    server = f"server {{ listen 127.0.0.1:{port} proxy_protocol; location / {{ {answer} }} }}"
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path.write_text(
        f"daemon off; master_process off; pid {tmp_path}/nginx.pid; error_log /dev/null; events {{}}\n"
        f"http {{ access_log off; {temporary} {server} }}\n"
    )
    with running(port, "nginx", "-p", str(tmp_path), "-c", str(path)):
        config = world(f"127.0.0.1:{port}")
        config["cluster_manager"]["clusters"][0]["proxy_protocol"] = version
        start(config).wait_for(READY)
        seen = []
        for source in (CLIENT, "127.0.0.10"):
            client = http.client.HTTPConnection("127.0.0.1", port_of(config), timeout=PATIENCE, source_address=(source, 0))
            for _ in range(3):
                client.request("GET", "/")
                own_port = client.sock.getsockname()[1]
                address, connection = client.getresponse().read().decode().split()
                assert address == f"{source}:{own_port}"
                seen.append(connection)
            client.close()
        # Kept open between requests, and never shared.
        assert len(set(seen[:3])) == len(set(seen[3:])) == 1
        assert seen[0] != seen[3]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("speaks", ["Http1", "tcp"])
def test_health_checks(start: Start, upstream: Upstream, version: str, speaks: str) -> None:
    """The header of a check names no client: the second hop serves the check under the address of the first one."""
    second = world(f"127.0.0.1:{upstream.port}", TRUSTED)
    second_hop = start(second)
    second_hop.wait_for(READY)
    first = world(f"127.0.0.1:{port_of(second)}")
    check: dict[str, Any] = {"protocol": speaks, "timeout": "5s", "interval": "100ms", "service_name": "c"}
    if speaks == "Http1":
        check["check_config"] = {"http_check_config": {"path": "/checked"}}
    first["cluster_manager"]["clusters"][0] |= {"proxy_protocol": version, "health_check": check}
    first_hop = start(first)
    first_hop.wait_for(READY)
    if speaks == "Http1":
        second_hop.wait_for(r"LOG 127\.0\.0\.1:\d+ \S+ 200 -")
    reply, own_port = ask(port_of(first), CLIENT)
    assert reply.startswith(b"HTTP/1.1 200")
    second_hop.wait_for(re.escape(f"LOG {CLIENT}:{own_port} 127.0.0.1:{port_of(first)} 200 -"))
    assert "proxy_header" not in second_hop.output


def test_two_hops_of_pymosn(start: Start, upstream: Upstream) -> None:
    """The second hop sees the client of the first one, as its own load balancer told it."""
    second = world(f"127.0.0.1:{upstream.port}", TRUSTED)
    second_hop = start(second)
    second_hop.wait_for(READY)
    first = world(f"127.0.0.1:{port_of(second)}", TRUSTED, tcp=True)
    first["cluster_manager"]["clusters"][0]["proxy_protocol"] = "v2"
    start(first).wait_for(READY)
    assert ask(port_of(first), data=V1_6 + GET)[0].startswith(b"HTTP/1.1 200")
    second_hop.wait_for(re.escape("LOG [2001:db8::9]:4711 [2001:db8::2]:443 200 -"))


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "http"])
def test_before_tls(start: Start, upstream: Upstream, version: str, tcp: bool) -> None:
    """The header comes before the handshake, out and in; the second handshake resumes the session of the first."""
    second = world(f"127.0.0.1:{upstream.port}", TRUSTED)
    second["servers"][0]["listeners"][0]["filter_chains"][0]["tls_context"] = context_for(server())
    second_hop = start(second)
    second_hop.wait_for(READY)
    first = world(f"127.0.0.1:{port_of(second)}", tcp=tcp)
    tls = {"status": True, "ca_cert": ca().certificate.decode(), "server_name": "server.test"}
    first["cluster_manager"]["clusters"][0] |= {"proxy_protocol": version, "tls_context": tls}
    start(first).wait_for(READY)
    for source in (CLIENT, "127.0.0.10"):
        reply, own_port = ask(port_of(first), source)
        assert reply.startswith(b"HTTP/1.1 200")
        second_hop.wait_for(re.escape(f"LOG {source}:{own_port} 127.0.0.1:{port_of(first)} 200 -"))


def test_a_filter_chain_for_the_clients_network(start: Start) -> None:
    """The source and the port in the conditions of a chain are those of the header."""
    config = world("127.0.0.1:1", TRUSTED)
    listener, tables = config["servers"][0]["listeners"][0], config["servers"][0]["routers"]
    listener["filter_chains"], tables[:] = [], []
    for name, match in (("a", {"source_prefixes": ["203.0.113.0/24"], "destination_port": 443}), ("b", {})):
        proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": name}}
        listener["filter_chains"].append({"name": name, "match": match, "filters": [proxy]})
        route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": f"chain {name}"}}
        tables.append({"router_config_name": name, "virtual_hosts": [{"domains": ["*"], "routers": [route]}]})
    start(config).wait_for(READY)
    for header, chain in (
        (V1, b"a"),
        (V2, b"a"),
        (V1.replace(b"443", b"444"), b"b"),
        (LOCAL, b"b"),
        (b"PROXY UNKNOWN\r\n", b"b"),
    ):
        assert ask(port_of(config), data=header + GET)[0].endswith(b"chain " + chain), header
