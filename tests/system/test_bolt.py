"""The real program between Bolt clients and a Bolt server: two hops, every protocol on one port, drain, a lost server."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bolt_peers import BoltClient, BoltServer
from plain_sockets import PATIENCE, accepts, connect, rejection
from process_fixtures import Start
from pymosn_process import READY, TwoHops, Upstream, eventually, free_ports, get, with_ports

from pymosn.config.load import load_file
from pymosn.server.worker_process import worker_environment

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def server() -> Iterator[BoltServer]:
    bolt_server = BoltServer()
    yield bolt_server
    bolt_server.close()


def speaking(two_hops: TwoHops, protocol: str, settings: dict[str, Any] | None = None) -> TwoHops:
    """The two hops in that protocol, with MOSN's route for RPC before the one for HTTP."""
    for listener in two_hops.server["listeners"]:
        proxy = listener["filter_chains"][0]["filters"][0]["config"]
        proxy["downstream_protocol"] = protocol
        if settings:
            proxy["extend_config"] = settings
    for table in two_hops.server["routers"]:
        routes = table["virtual_hosts"][0]["routers"]
        match = {"headers": [{"name": "service", "value": ".*"}]}
        routes.insert(
            0, {"match": match, "route": {"cluster_name": table["virtual_hosts"][0]["routers"][0]["route"]["cluster_name"]}}
        )
    for cluster in two_hops.config["cluster_manager"]["clusters"]:
        cluster["max_request_per_conn"] = 1024
    return two_hops


def call_in_threads(
    port: int, clients: int, count: int, v2: bool = False, chop: Callable[[], int] | None = None
) -> dict[int, int]:
    """How often each status came, over so many clients of `count` calls with 16 in flight."""

    def run(_: int) -> dict[int, int]:
        client = BoltClient(port, v2)
        try:
            return client.call_many(count, 16, chop)
        finally:
            client.close()

    total: dict[int, int] = {}
    with ThreadPoolExecutor(clients) as pool:
        for statuses in pool.map(run, range(clients)):
            for status, number in statuses.items():
                total[status] = total.get(status, 0) + number
    return total


def test_two_hops(start: Start, server: BoltServer) -> None:
    two_hops = speaking(TwoHops(server.port), "bolt")
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    assert call_in_threads(two_hops.client_port, 4, 600) == {0: 2400}
    client = BoltClient(two_hops.client_port)
    client.send(client.request(b"just so", kind=2)[1])
    assert client.call(b"x").content == b"x"
    assert eventually(lambda: server.one_ways == [b"just so"])
    client.close()
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0


def test_all_protocols_on_one_port(start: Start, server: BoltServer, upstream: Upstream) -> None:
    two_hops = speaking(TwoHops(server.port), "Auto")
    config = two_hops.config["cluster_manager"]["clusters"]
    config.append({**config[1], "name": "web", "hosts": [{"address": f"127.0.0.1:{upstream.port}"}]})
    two_hops.server["routers"][1]["virtual_hosts"][0]["routers"][1]["route"]["cluster_name"] = "web"
    proxy = start(two_hops.config)
    proxy.wait_for(READY)

    def chop() -> int:
        return random.choice((1, 2, 3, 7, 30, 200))

    def browse() -> list[tuple[int, str]]:
        return [get(two_hops.client_port, f"/{number}") for number in range(40)]

    with ThreadPoolExecutor(4) as pool:
        pages = pool.submit(browse)
        first = pool.submit(call_in_threads, two_hops.client_port, 2, 150, False, chop)
        second = pool.submit(call_in_threads, two_hops.client_port, 2, 150, True, chop)
        raw = pool.submit(get_byte_by_byte, two_hops.client_port)
        assert pages.result() == [(200, f"hello from upstream, /{number}\n") for number in range(40)]
        assert first.result() == {0: 300}
        assert second.result() == {0: 300}
        assert raw.result().startswith(b"HTTP/1.1 200 ")


def get_byte_by_byte(port: int) -> bytes:
    with connect(port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /bytes HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":
            sock.sendall(bytes([byte]))
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_drain_loses_no_reply(start: Start, server: BoltServer) -> None:
    two_hops = speaking(TwoHops(server.port), "bolt", {"enable_bolt_goaway": True})
    proxy = start(two_hops.config, "--workers", "1")
    proxy.wait_for(READY)
    client = BoltClient(two_hops.client_port)
    server.gate.clear()
    numbers = set()
    for place in range(20):
        number, frame = client.request(b"slow %d" % place)
        numbers.add(number)
        client.send(frame)
    for _ in range(20):
        assert server.held.acquire(timeout=PATIENCE)
    proxy.send(signal.SIGTERM)
    proxy.wait_for("drain|stopping|stops")
    assert eventually(lambda: not accepts(two_hops.client_port))
    number, late = client.request(b"late")  # sent before the goaway was read
    client.send(late)
    reply = client.receive()
    assert (reply.request_id, reply.status, client.goaways) == (number, 0, 1)
    server.gate.set()
    assert {client.receive().request_id for _ in range(20)} == numbers
    assert client.ends()
    assert proxy.exit_code() == 0


def test_a_server_that_dies_and_comes_back(start: Start, server: BoltServer) -> None:
    two_hops = speaking(TwoHops(server.port), "bolt")
    proxy = start(two_hops.config, "--workers", "1")
    proxy.wait_for(READY)
    client = BoltClient(two_hops.client_port)
    assert client.call(b"one").content == b"one"
    server.gate.clear()
    number, frame = client.request(b"slow")
    client.send(frame)
    assert server.held.acquire(timeout=PATIENCE)
    server.connections[0].shutdown(socket.SHUT_RDWR)
    reply = client.receive()
    assert (reply.request_id, reply.status) == (number, 16)  # CONNECTION_CLOSED
    server.gate.set()
    assert client.call(b"two").content == b"two"
    assert len(server.connections) == 2
    client.close()


def test_bytes_that_are_no_frames_hurt_nobody_else(start: Start, server: BoltServer) -> None:
    two_hops = speaking(TwoHops(server.port), "bolt")
    proxy = start(two_hops.config, "--workers", "1")
    proxy.wait_for(READY)
    stop = threading.Event()

    def attack() -> int:
        count = 0
        while True:
            for data in (b"\xff" * 100, b"\x01\x01\x00\x01\x01" + b"\xff" * 17, b"GET / HTTP/1.1\r\n\r\n"):
                rejection(two_hops.client_port, data)
                count += 1
            if stop.is_set():
                return count

    with ThreadPoolExecutor(1) as pool:
        attacks = pool.submit(attack)
        try:
            assert call_in_threads(two_hops.client_port, 2, 300) == {0: 600}
        finally:
            stop.set()
        assert attacks.result() > 0
    stats, metrics = two_hops.admin("/api/v1/stats"), two_hops.admin("/metrics")
    for reason in ("bad_frame", "frame_too_large"):
        assert f"reason_{reason}" in stats
        assert f'reason="{reason}"' in metrics


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("bolt/*.json")) + sorted(EXAMPLES.glob("auto/*.json")), ids=lambda p: p.name
)
def test_the_examples_are_without_fault(path: Path) -> None:
    loaded = load_file(str(path))
    assert loaded.config is not None
    assert [fault.text() for fault in loaded.faults] == []


@pytest.mark.parametrize(
    ("demo", "config", "ports", "expected"),
    [
        (
            "bolt/demo.py",
            "bolt/both.json",
            {2045: "--port", 2046: "", 8080: "--server-port"},
            ["call 1", "call 2", "call 3"],
        ),
        (
            "auto/demo.py",
            "auto/auto.json",
            {2045: "--port", 8080: "--http-port", 8081: "--bolt-port"},
            ["call 1", "call 2", "hello /world"],
        ),
    ],
)
def test_the_demos_run(tmp_path: Path, demo: str, config: str, ports: dict[int, str], expected: list[str]) -> None:
    text = (EXAMPLES / config).read_text()
    arguments = ["--config", str(tmp_path / "config.json")]
    new = dict(zip([*ports, 34901], free_ports(len(ports) + 1), strict=True))
    for old, option in ports.items():
        arguments += [option, str(new[old])] if option else []
    (tmp_path / "config.json").write_text(with_ports(text, new))
    command = [sys.executable, str(EXAMPLES / demo), *arguments]
    done = subprocess.run(
        command, cwd=tmp_path, env=worker_environment(os.environ), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout.replace("echo: ", "").splitlines() == expected, done.stderr
