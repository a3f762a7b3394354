"""Unix sockets on both sides of the real program: examples/uds with paths of the test's own."""

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Request, eventually, free_ports, is_alive

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).parents[2] / "examples" / "uds"


class UnixServer(ThreadingHTTPServer):
    """An HTTP server on a unix socket."""

    address_family = socket.AF_UNIX
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)


class UnixClient(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


class Seen(Request):
    """Also keeps the headers that came."""

    headers_seen: list[dict[str, str]]

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's
        self.headers_seen.append({name.lower(): value for name, value in self.headers.items()})
        super().do_GET()


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[list[dict[str, str]]]:
    """A server on `tmp_path/server.sock`, and the headers that reached it."""
    found: list[dict[str, str]] = []
    gate = threading.Event()
    handler = type("Handler", (Seen,), {"gate": gate, "arrived": threading.Event(), "headers_seen": found})
    server = UnixServer(str(tmp_path / "server.sock"), handler, bind_and_activate=True)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield found
    gate.set()
    server.shutdown()
    server.server_close()


def example(name: str, tmp_path: Path, port: int) -> dict[str, Any]:
    """A file of examples/uds with other paths and another port."""
    text = (EXAMPLES / name).read_text()
    for theirs, ours in (
        ("/tmp/client-proxy.sock", str(tmp_path / "client.sock")),
        ("/tmp/server-proxy.sock", str(tmp_path / "server.sock")),
        ("127.0.0.1:2046", f"127.0.0.1:{port}"),
    ):
        text = text.replace(theirs, ours)
    found: dict[str, Any] = json.loads(text)
    return found


def get(path: Path, target: str = "/", **headers: str) -> tuple[int, str]:
    connection = UnixClient(str(path))
    try:
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def one_process(tmp_path: Path) -> dict[str, Any]:
    """client.sock -> server.sock, in one proxy."""
    config = example("client_config.json", tmp_path, 1)
    config["cluster_manager"]["clusters"][0]["hosts"][0]["address"] = f"unix:{tmp_path / 'server.sock'}"
    return config


def test_the_example(start: Start, tmp_path: Path, seen: list[dict[str, str]]) -> None:
    (port,) = free_ports(1)
    client = tmp_path / "client.sock"
    start(example("server_config.json", tmp_path, port)).wait_for(READY)
    proxy = start(example("client_config.json", tmp_path, port), "--workers", "2")
    proxy.wait_for(READY)
    proxy.wait_for(f"listener clientListener on unix:{client}")
    assert [get(client, f"/{number}") for number in range(20)] == [
        (200, f"hello from upstream, /{number}\n") for number in range(20)
    ]
    assert "x-forwarded-for" in seen[0], "the second hop has a client with an address"
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
    assert not client.exists()


def test_a_client_without_an_address_is_not_made_one_up(start: Start, tmp_path: Path, seen: list[dict[str, str]]) -> None:
    config = one_process(tmp_path)
    config["servers"][0]["listeners"][0]["access_logs"] = [
        {"log_path": str(tmp_path / "access.log"), "log_format": "%downstream_remote_address% %upstream_address%"}
    ]
    proxy = start(config, "--workers", "1")
    proxy.wait_for(READY)
    assert get(tmp_path / "client.sock", "/a")[0] == 200
    assert "x-forwarded-for" not in seen[0]
    assert seen[0]["x-forwarded-proto"] == "http"
    assert get(tmp_path / "client.sock", "/a", **{"X-Forwarded-For": "192.0.2.1"})[0] == 200
    assert seen[1]["x-forwarded-for"] == "192.0.2.1"
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
    line = (tmp_path / "access.log").read_text().splitlines()[0]
    assert line == f"unix unix:{tmp_path / 'server.sock'}"


def test_the_socket_outlives_reloads_and_workers(start: Start, tmp_path: Path, seen: list[dict[str, str]]) -> None:
    client = tmp_path / "client.sock"
    config = one_process(tmp_path)
    proxy = start(config, "--workers", "2")
    proxy.wait_for(READY)
    inode = client.stat().st_ino
    kept = UnixClient(str(client))
    kept.request("GET", "/kept")
    assert kept.getresponse().read() == b"hello from upstream, /kept\n"
    routes = config["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"]
    routes.insert(0, {"match": {"prefix": "/new"}, "direct_response": {"status": 200, "body": "new"}})
    (tmp_path / "conf" / "mosn.json").write_text(json.dumps(config))
    proxy.send(signal.SIGHUP)
    proxy.wait_for("version 2 is active")
    assert client.stat().st_ino == inode
    kept.request("GET", "/new")
    assert kept.getresponse().read() == b"new"
    kept.close()
    victim = proxy.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    proxy.wait_for("replaced by pid")
    assert eventually(lambda: not is_alive(victim))
    assert [get(client, "/new") for _ in range(20)] == [(200, "new")] * 20


def test_active_checks_of_a_host_on_a_unix_socket(start: Start, tmp_path: Path, seen: list[dict[str, str]]) -> None:
    (admin,) = free_ports(1)
    config = one_process(tmp_path)
    config["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}}
    cluster = config["cluster_manager"]["clusters"][0]
    cluster["hosts"].append({"address": f"unix:{tmp_path / 'nobody.sock'}"})
    probe = {"protocol": "http", "check_config": {"http_check_config": {"path": "/up"}}}
    cluster["health_check"] = {"interval": "50ms", "timeout": "30s", "initial_delay_seconds": "10ms", **probe}
    proxy = start(config, "--workers", "1")
    proxy.wait_for(READY)
    proxy.wait_for(r"nobody.sock fails its health check")
    assert [get(tmp_path / "client.sock")[0] for _ in range(10)] == [200] * 10
    assert {"host": "localhost"}.items() <= next(headers for headers in seen if "user-agent" in headers).items()
