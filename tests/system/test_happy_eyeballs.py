"""A host whose name has several addresses, the first of which is a black hole, with the real program and resolver."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, TwoHops, eventually, free_ports, get

pytestmark = pytest.mark.once

#: Becomes a process for which the file {} is /etc/hosts.
INSIDE = """exec unshare -rm sh -c 'mount --bind {} /etc/hosts && exec "$0" "$@"' "$0" "$@" """
NAMES = "127.0.0.1 localhost\n127.0.0.2 two.test\n127.0.0.3 two.test\n127.0.0.2 none.test\n127.0.0.4 none.test\n"


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hosts(tmp_path: Path) -> str:
    """The command that gives a process these names; skips the test where that is not possible."""
    path = tmp_path / "hosts"
    path.write_text(NAMES)
    command = INSIDE.format(path)
    if shutil.which("unshare") is None:
        pytest.skip("the program unshare is not installed")
    seen = subprocess.run(["sh", "-c", command, "getent", "ahosts", "two.test"], capture_output=True, text=True)
    if "127.0.0.3" not in seen.stdout:
        pytest.skip(f"this user cannot have another /etc/hosts: {seen.stderr}")
    return command


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which 127.0.0.3 serves HTTP, and 127.0.0.2 ignores all clients."""
    clients: list[socket.socket] = []
    with socket.create_server(("127.0.0.2", 0), backlog=0) as hole:
        number: int = hole.getsockname()[1]
        for _ in range(4):  # nobody accepts: when the backlog is full, further clients get no answer
            clients.append(socket.socket())
            clients[-1].setblocking(False)
            clients[-1].connect_ex(("127.0.0.2", number))
        with ThreadingHTTPServer(("127.0.0.3", number), Hello) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            yield number
            server.shutdown()
            thread.join(PATIENCE)
        for client in clients:
            client.close()


def test_pools_tcp_proxy_and_health_checks_reach_the_second_address(start: Start, hosts: str, port: int) -> None:
    hops = TwoHops(port)
    (tcp_port,) = free_ports(1)
    client, server = hops.config["cluster_manager"]["clusters"]
    server["hosts"] = [{"address": f"two.test:{port}"}]
    server["connect_attempt_delay"] = "20ms"
    check = {"interval": "20ms", "timeout": "30s", "initial_delay_seconds": "1ms"}
    server["health_check"] = {"service_name": "checked", **check}
    client["hosts"] = [{"address": f"none.test:{port}"}]
    client["connect_timeout"] = "300ms"
    client["connect_attempt_delay"] = "20ms"
    client["health_check"] = {"service_name": "unchecked", **check, "timeout": "200ms"}
    proxy_filter = {"type": "tcp_proxy", "config": {"cluster": "server"}}
    listener = {**hops.server["listeners"][1], "name": "tcp", "address": f"127.0.0.1:{tcp_port}"}
    hops.server["listeners"].append({**listener, "filter_chains": [{"filters": [proxy_filter]}]})
    hops.server["default_log_level"] = "INFO"
    proxy = start(hops.config, before=hosts)
    proxy.wait_for(READY)
    assert get(hops.server_port, "/") == (200, "hello")
    assert get(tcp_port, "/") == (200, "hello")
    proxy.wait_for(rf"two\.test:{port}: connected to 127\.0\.0\.3 \(127\.0\.0\.2: no answer\)")

    def count(service: str, counter: str) -> int:
        found = hops.admin(f"/api/v1/stats?key=healthcheck.service.{service}")
        return int(found.partition(f'"{counter}": "')[2].partition('"')[0] or 0)

    assert eventually(lambda: count("checked", "success") >= 2)
    assert count("checked", "failure") == 0

    # No address: one failure, with all reasons. All hosts have failed their checks, so that they are not asked.
    proxy.wait_for(
        rf"host none\.test:{port} fails its health check: .*127\.0\.0\.2: no answer; 127\.0\.0\.4: Connection refused"
    )
    assert eventually(lambda: get(hops.client_port, "/")[0] == 502)
    assert count("unchecked", "success") == 0


def test_a_failure_is_one_attempt_and_names_all_addresses(start: Start, hosts: str, port: int) -> None:
    hops = TwoHops(port)
    client, _ = hops.config["cluster_manager"]["clusters"]
    client["hosts"] = [{"address": f"none.test:{port}"}]
    client["connect_timeout"] = "300ms"
    hops.server["processor"] = 1
    table = hops.server["routers"][0]["virtual_hosts"][0]["routers"][0]["route"]
    table["retry_policy"] = {"retry_on": False}
    proxy = start(hops.config, before=hosts)
    proxy.wait_for(READY)
    assert get(hops.client_port, "/")[0] == 502
    reasons = "127.0.0.2: no answer; 127.0.0.4: Connection refused"
    line = proxy.wait_for(r"none\.test:\d+: connect_timeout \((.*)\)")
    assert line[1] == f"no connection within 0.3 s: {reasons}"
    found = hops.admin("/api/v1/stats?key=upstream.cluster.client")
    assert '"connection_total": "1"' not in found, "none was opened"
    assert '"connection_active": "0"' in found or "connection_active" not in found
