"""The real program with the kernel's redirection in network namespaces: REDIRECT, TPROXY, and marks of sockets."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from namespaces import CLIENT, ORIGIN, PROXY, V4, V6, Namespaces, Unavailable, namespaces
from plain_sockets import read_exactly
from process_fixtures import Start
from pymosn_process import READY, Pymosn, _table
from tests.kit import certificates
from thread_server import ThreadServer

pytestmark = pytest.mark.once

ADMIN, PORT = 34000, 15001
MARK = 0x80000005


@pytest.fixture
def net() -> Iterator[Namespaces]:
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(namespaces())
        except Unavailable as why:
            pytest.skip(f"no network namespaces: {why}")
        yield made


class Origin(ThreadServer):
    """A server on an address of the origin. It sends the client's address that it sees, and echoes."""

    def __init__(self, net: Namespaces, address: str, port: int) -> None:
        super().__init__(self._echo, net.listen(address, port))

    def _echo(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.sendall(f"origin {sock.getsockname()[0]} {sock.getsockname()[1]};".encode())
            while data := sock.recv(4096):
                sock.sendall(data)


@pytest.fixture
def origins(net: Namespaces) -> Iterator[list[Origin]]:
    made = [Origin(net, address, port) for address in (V4, V6) for port in (80, 81)]
    yield made
    for origin in made:
        origin.close()


def talk(sock: socket.socket) -> str:
    """What the origin sends, after an echo has come back through the proxy."""
    with sock:
        sock.sendall(b"ping")
        sock.shutdown(socket.SHUT_WR)
        found = b""
        while data := sock.recv(4096):
            found += data
        assert found.endswith(b";ping"), found
        return found.decode().removesuffix(";ping")


def is_reset(net: Namespaces, address: str, port: int, data: bytes = b"") -> bool:
    """Whether a client's connection ends with a reset, perhaps before it knows that it was accepted."""
    try:
        with net.connect(address, port) as sock:
            sock.sendall(data)
            assert sock.recv(1) == b"", "unasked for"
            return False
    except ConnectionResetError:
        return True


def listener(name: str, address: str, port: int, **more: Any) -> dict[str, Any]:
    """A listener with `tcp_proxy` to wherever the client wanted to go."""
    return {
        "name": name,
        "address": f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        "bind_port": True,
        "access_logs": [{"log_path": "stdout", "log_format": f"LOG {name} %upstream_address% %reason% %bytes_sent%"}],
        "filter_chains": [{"filters": [{"type": "tcp_proxy", "config": {"cluster": "wanted"}}]}],
        **more,
    }


def config(*listeners: dict[str, Any], clusters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    wanted = {"name": "wanted", "type": "ORIGINAL_DST", "lb_type": "LB_ORIGINAL_DST", "connect_timeout": "3s"}
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN}}},
        "servers": [{"default_log_path": "stdout", "routers": [_table("router", "wanted")], "listeners": list(listeners)}],
        "cluster_manager": {"clusters": [wanted] if clusters is None else clusters},
    }


def began(start: Start, settings: dict[str, Any]) -> Pymosn:
    proxy = start(settings, "--workers", "1")
    proxy.wait_for(READY)
    return proxy


def divert(net: Namespaces, method: str, *ports: int) -> None:
    """Diverts clients' connections to `ports` to the proxy's PORT, by REDIRECT or TPROXY."""
    target = f"REDIRECT --to-ports {PORT}" if method == "redirect" else f"TPROXY --on-port {PORT} --tproxy-mark 1"
    table = "nat" if method == "redirect" else "mangle"
    for program in ("iptables", "ip6tables"):
        for port in ports:
            net.run(PROXY, f"{program} -t {table} -A PREROUTING -i to_client -p tcp --dport {port} -j {target}")
    for family in ("-4", "-6") if method == "tproxy" else ():
        net.run(PROXY, f"ip {family} rule add fwmark 1 lookup 100")
        net.run(PROXY, f"ip {family} route add local default dev lo table 100")


@pytest.mark.parametrize("method", ["redirect", "tproxy"])
@pytest.mark.parametrize("listens", ["0.0.0.0", "::"])
@pytest.mark.usefixtures("origins")
def test_clients_reach_the_host_that_they_dialed(start: Start, net: Namespaces, method: str, listens: str) -> None:
    net.route_to_origin()
    divert(net, method, 80)
    proxy = began(start, config(listener("main", listens, PORT, use_original_dst=method)))
    for address, written in ((V4, f"{V4}:80"), (V6, f"\\[{V6}\\]:80")):
        if address == V6 and listens != "::":
            continue
        assert talk(net.connect(address, 80)) == f"origin {address} 80"
        size = len(f"origin {address} 80;ping")
        proxy.wait_for(rf"LOG main {written} - {size}")


@pytest.mark.parametrize("method", ["redirect", "tproxy"])
@pytest.mark.usefixtures("origins")
def test_filter_chains_by_the_port_that_the_client_dialed(start: Start, net: Namespaces, method: str) -> None:
    net.route_to_origin()
    divert(net, method, 80, 81)
    several = listener("four", "0.0.0.0", PORT, use_original_dst=method)
    several["filter_chains"] = [
        {"match": {"destination_port": 80}, "filters": [{"type": "tcp_proxy", "config": {"cluster": "wanted"}}]},
        {"match": {"destination_port": 81}, "filters": [{"type": "tcp_proxy", "config": {"cluster": "nowhere"}}]},
    ]
    settings = config(several)
    settings["cluster_manager"]["clusters"].append({"name": "nowhere", "hosts": []})
    proxy = began(start, settings)
    assert talk(net.connect(V4, 80)) == f"origin {V4} 80"
    assert is_reset(net, V4, 81)
    proxy.wait_for("LOG four - no_hosts 0")


@pytest.mark.parametrize("method", ["redirect", "tproxy"])
@pytest.mark.usefixtures("origins")
def test_tls_is_terminated_for_one_of_the_ports_that_clients_dial(
    start: Start, net: Namespaces, tmp_path: Path, method: str
) -> None:
    net.route_to_origin()
    divert(net, method, 80, 81)
    certificate, key = certificates.server().files(tmp_path, "server")
    several = listener("four", "0.0.0.0", PORT, use_original_dst=method)
    filters = [{"type": "tcp_proxy", "config": {"cluster": "wanted"}}]
    tls = {"status": True, "cert_chain": certificate, "private_key": key}
    names = {"destination_port": 80, "server_names": ["localhost"]}
    several["filter_chains"] = [
        {"match": names, "tls_context": tls, "filters": filters},
        {"match": {"destination_port": 81}, "filters": filters},
    ]
    proxy = began(start, config(several))
    context = certificates.client_context()
    with context.wrap_socket(net.connect(V4, 80), server_hostname="localhost") as sock:
        greeting = f"origin {V4} 80;".encode()
        assert read_exactly(sock, len(greeting)) == greeting
        sock.sendall(b"ping")
        assert read_exactly(sock, 4) == b"ping"
    assert talk(net.connect(V4, 81)) == f"origin {V4} 81"
    assert is_reset(net, V4, 80, b"no TLS")
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"), net.connect(V4, 80) as raw:
        context.wrap_socket(raw, server_hostname="other.example")
    for reason in ("-", "no_filter_chain"):
        proxy.wait_for(f"LOG four .* {reason} ")


@pytest.mark.usefixtures("origins")
def test_a_direct_connection_to_a_redirecting_listener_does_not_loop(start: Start, net: Namespaces) -> None:
    net.route_to_origin()
    divert(net, "redirect", 80)
    proxy = began(start, config(listener("four", "0.0.0.0", PORT, use_original_dst="redirect")))
    assert is_reset(net, "10.77.1.2", PORT)
    proxy.wait_for("LOG four .* loop 0")
    assert talk(net.connect(V4, 80)) == f"origin {V4} 80"


def marked(mark: int) -> list[dict[str, Any]]:
    hosts = [{"address": f"{V4}:80"}, {"address": f"[{V6}]:80"}]
    return [{"name": "wanted", "lb_type": "LB_ROUNDROBIN", "connect_timeout": "3s", "mark": mark, "hosts": hosts}]


@pytest.mark.usefixtures("origins")
def test_the_mark_of_a_cluster_is_on_its_sockets(start: Start, net: Namespaces) -> None:
    # Only marked connections have a route to the origin.
    net.route_to_origin("200")
    for family in ("-4", "-6"):
        net.run(PROXY, f"ip {family} rule add fwmark {MARK} lookup 200")
    for program in ("iptables", "ip6tables"):
        net.run(PROXY, f"{program} -A OUTPUT -p tcp --syn --dport 80 -m mark --mark {MARK}")
    proxy = began(start, config(listener("four", "0.0.0.0", PORT), clusters=marked(MARK)))
    seen = {talk(net.connect("10.77.1.2", PORT)) for _ in range(4)}
    assert seen == {f"origin {V4} 80", f"origin {V6} 80"}
    for program in ("iptables", "ip6tables"):
        counted = net.run(PROXY, f"{program} -L OUTPUT -v -n -x").splitlines()[2].split()
        assert counted[0] == "2", counted
    proxy.end()
    plain = began(start, config(listener("four", "0.0.0.0", PORT), clusters=marked(0)))
    assert is_reset(net, "10.77.1.2", PORT)
    plain.wait_for("LOG four .* connect_failed 0")


@pytest.mark.usefixtures("origins")
def test_without_the_capability_the_mark_fails_with_its_reason(start: Start, net: Namespaces) -> None:
    net.route_to_origin()
    if shutil.which("setpriv") is None:
        pytest.skip("the program setpriv is not installed")
    # Root without the capability; exec replaces the shell that would go on with the command.
    unprivileged = 'exec setpriv --bounding-set=-net_admin,-net_raw --inh-caps=-net_admin,-net_raw "$0" "$@"'
    settings = config(listener("four", "0.0.0.0", PORT), clusters=marked(5))
    proxy = start(settings, "--workers", "1", before=unprivileged)
    proxy.wait_for(r"clusters with `mark` \('wanted'\) will fail: the process has no CAP_NET_ADMIN")
    proxy.wait_for(READY)
    assert is_reset(net, "10.77.1.2", PORT)
    proxy.wait_for("SO_MARK 5 is not permitted: the cluster's `mark` needs the capability CAP_NET_ADMIN")


def test_the_namespaces_are_separate(net: Namespaces) -> None:
    """So that a passing test above has used the proxy: without a route, or the proxy, nobody reaches the origin."""
    with pytest.raises(OSError, match="unreachable"):
        net.call(PROXY, lambda: socket.create_connection((V4, 80), 1))
    with pytest.raises(OSError, match=r"unreachable|timed out"):
        net.call(CLIENT, lambda: socket.create_connection((V4, 80), 1))
    assert "eth0" in net.run(ORIGIN, "ip link show")
