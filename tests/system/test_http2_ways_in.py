"""Ways into HTTP/2 on the real program: ALPN, prior knowledge, detection, curl, and hosts with demands of their own."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from h2_peers import H2Client
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, free_ports
from recorder import Recorder
from tests.kit.certificates import ca, issue, server
from tls_peers import answer, client_context, config_of, context_for, listener_of, opened, plain_answer, table_of

pytestmark = pytest.mark.once

SERVER = context_for(server())
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def chain_of(spoken: str, table: str, **more: Any) -> dict[str, Any]:
    settings = {"downstream_protocol": spoken, "router_config_name": table}
    return {"filters": [{"type": "proxy", "config": settings}], **more}


class Ways:
    """One process; its listeners differ in what they speak."""

    def __init__(self, start: Start, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(ca().certificate)
        self.upstream = Recorder(["c"])
        self.plain, self.secure, self.listed, self.first, self.only, self.mutual, self.mesh = ports = free_ports(7)
        demands = [
            context_for(issue("open", ca(), names=("open.test", "also.test"))),
            context_for(issue("closed", ca(), names=("closed.test",)), demands=ca()),
        ]
        chains = [
            chain_of("Auto", "c"),
            chain_of("Auto", "c", tls_context=SERVER),
            chain_of("Http1,Http2", "c", tls_context={**SERVER, "alpn": "http/1.1,h2"}),
            chain_of("Http1", "c", tls_context=SERVER),
            chain_of("Http2", "c", tls_context=SERVER),
            chain_of("Auto", "r", tls_context_set=demands),
            chain_of("Http1,Http2", "c", tls_context={**SERVER, "alpn": "istio-h2,istio-http/1.1,istio"}),
        ]
        listeners = [listener_of(f"l{port}", port, [chain]) for port, chain in zip(ports, chains, strict=True)]
        tables = [table_of("c", cluster="c"), table_of("r", "r")]
        config = config_of(listeners, tables, {"c": f"127.0.0.1:{self.upstream.ports['c']}"})
        config["cluster_manager"]["clusters"][0]["upstream_protocol"] = "Http1"
        self.proxy = start(config)
        self.proxy.wait_for(READY)

    def curl(self, url: str, *options: str) -> str:
        """What curl prints: the version of HTTP, the status, and how many connections it made."""
        written = "%{http_version} %{http_code} %{num_connects}\n"
        command = ["curl", "-sS", "--max-time", "30", "--cacert", str(self.ca), "-o", "/dev/null", "-w", written, *options]
        made = subprocess.run([*command, url], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    folder = tmp_path_factory.mktemp("ways")
    start = Start(folder)
    try:
        found = Ways(start, folder)
        yield found
        found.upstream.close()
    finally:
        start.end()


def negotiated(port: int, *offered: str) -> str | None:
    with opened(port, alpn=offered) as secured:
        return secured.selected_alpn_protocol()


def test_what_is_negotiated(ways: Ways) -> None:
    for port, both, alone, other in (
        (ways.secure, "h2", "h2", None),
        (ways.listed, "http/1.1", "h2", "refused"),
        (ways.first, None, None, None),
        (ways.only, "h2", "h2", None),
    ):
        assert negotiated(port, "h2", "http/1.1") == both
        assert negotiated(port, "h2") == alone
        if other != "refused":
            assert negotiated(port, "other") == other
    assert b"no application protocol" in answer(ways.listed, alpn=("other",))[1]


def test_one_port_serves_both(ways: Ways) -> None:
    for port in (ways.secure, ways.listed):
        with H2Client(port, context=client_context()) as client:
            assert client.request(path="/h2").status == 200
        assert answer(port, alpn=("http/1.1",)) == (200, b"ok")
        assert answer(port) == (200, b"ok"), "without ALPN by the first bytes"
    with H2Client(ways.plain) as client:
        assert client.request(path="/h2c").body == b"ok"
    assert plain_answer(ways.plain) == (200, b"ok")


def test_the_preface_where_only_http1_is_spoken(ways: Ways) -> None:
    with opened(ways.first) as secured:
        secured.sendall(PREFACE)
        assert secured.recv(1000).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))


@pytest.mark.parametrize("name", ["istio-h2", "istio", "istio-http/1.1"])
def test_names_of_a_mesh_are_negotiated_and_served(ways: Ways, name: str) -> None:
    assert negotiated(ways.mesh, "other", name) == name
    if name != "istio-http/1.1":
        with opened(ways.mesh, alpn=(name,)) as secured:
            secured.sendall(PREFACE + bytes(3) + b"\x04" + bytes(5))
            assert secured.recv(1000)[3] == 4, "SETTINGS"
    if name != "istio-h2":
        assert answer(ways.mesh, alpn=(name,)) == (200, b"ok")


def test_a_preface_in_pieces(ways: Ways) -> None:
    with socket.create_connection(("127.0.0.1", ways.plain), PATIENCE) as sock:
        for place in range(len(PREFACE)):
            sock.sendall(PREFACE[place : place + 1])
        sock.sendall(bytes(3) + b"\x04" + bytes(5))
        assert sock.recv(1000)[3] == 4, "SETTINGS"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(ways: Ways) -> None:
    plain, secure = f"http://127.0.0.1:{ways.plain}/curl", f"https://localhost:{ways.secure}/curl"
    if "HTTP2" not in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("this curl does not speak HTTP/2")
    assert ways.curl(plain, "--http2-prior-knowledge") == "2 200 1"
    assert ways.curl(secure) == "2 200 1"
    assert ways.curl(secure, "--http1.1") == "1.1 200 1"
    ways.upstream.arrived.clear()
    for options in ((), ("--data", "body")):
        assert ways.curl(plain, "--http2", *options) == "1.1 200 1", "Upgrade: h2c is ignored"
    for _, head in ways.upstream.arrived:
        assert b"upgrade" not in head.lower()
        assert b"http2-settings" not in head.lower()
    assert len(ways.upstream.arrived) == 2


def test_each_request_of_a_connection_meets_the_demands_of_its_host(ways: Ways) -> None:
    with H2Client(ways.mutual, context=client_context(), name="open.test") as client:
        for authority, status in (("open.test", 200), ("closed.test", 421), ("also.test", 200), ("closed.test:443", 421)):
            assert client.request(authority=authority).status == status, authority
