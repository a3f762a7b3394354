"""The real program with `tcp_proxy`: bytes exact both ways, ends, a dead server, a slow reader, and unknown protocols."""

import contextlib
import hashlib
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import PATIENCE, connect, dead_sockets, port_of, read_all, rejection
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, eventually, free_ports, get, with_ports
from thread_server import ThreadServer

from pymosn.config.load import load_file
from pymosn.server.worker_process import worker_environment

EXAMPLES = Path(__file__).parents[2] / "examples" / "tcp"
MIB = 1 << 20


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Starts a server, gives its port."""
    servers: list[ThreadServer] = []

    def begin(behaviour: Callable[[socket.socket], None]) -> int:
        servers.append(ThreadServer(behaviour))
        return servers[-1].port

    yield begin
    for server in servers:
        server.close()


class TcpWorld:
    """One listener with only `tcp_proxy`."""

    def __init__(self, *upstreams: int, **settings: Any) -> None:
        self.port, self.admin_port = free_ports(2)
        hosts = [{"address": f"127.0.0.1:{port}"} for port in upstreams]
        filters = [{"type": "tcp_proxy", "config": {"cluster": "server", **settings}}]
        self.listener: dict[str, Any] = {
            "name": "bytes",
            "address": f"127.0.0.1:{self.port}",
            "bind_port": True,
            "access_logs": [
                {
                    "log_path": "stdout",
                    "log_format": "LOG %protocol% %bytes_received% %bytes_sent% %upstream_address% %reason%",
                }
            ],
            "filter_chains": [{"filters": filters}],
        }
        self.config: dict[str, Any] = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "servers": [
                {
                    "default_log_path": "stdout",
                    "processor": 1,
                    "graceful_timeout": "1s",
                    "listeners": [self.listener],
                }
            ],
            "cluster_manager": {"clusters": [{"name": "server", "lb_type": "LB_ROUNDROBIN", "hosts": hosts}]},
        }


def test_a_hundred_mebibytes_each_way_at_once(start: Start, serve: Callable[..., int]) -> None:
    sizes = 100 * MIB
    block = random.Random(5).randbytes(MIB)
    seen: list[str] = []

    def pour(sock: socket.socket) -> None:
        for place in range(sizes // MIB):
            sock.sendall(block[place:] + block[:place])
        sock.shutdown(socket.SHUT_WR)

    def drink(sock: socket.socket) -> str:
        digest, count = hashlib.sha256(), 0
        while data := sock.recv(1 << 18):
            digest.update(data)
            count += len(data)
        return f"{count} {digest.hexdigest()}"

    def behave(sock: socket.socket) -> None:
        pouring = threading.Thread(target=pour, args=(sock,))
        pouring.start()
        seen.append(drink(sock))
        pouring.join()

    world = TcpWorld(serve(behave))
    proxy = start(world.config)
    proxy.wait_for(READY)
    before = resident(proxy)
    with connect(world.port) as client:
        pouring = threading.Thread(target=pour, args=(client,))
        pouring.start()
        seen.append(drink(client))
        pouring.join()
    digest = hashlib.sha256()
    for place in range(sizes // MIB):
        digest.update(block[place:] + block[:place])
    assert eventually(lambda: len(seen) == 2)
    assert seen == [f"{sizes} {digest.hexdigest()}"] * 2
    assert eventually(lambda: resident(proxy) - before < 16 * MIB), "memory of a peak is returned"
    proxy.wait_for(rf"LOG tcp {sizes} {sizes} 127\.0\.0\.1:\d+ -")


def resident(proxy: Pymosn) -> int:
    """Bytes of the first worker's memory."""
    [pid, *_] = proxy.worker_pids()
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_each_direction_ends_by_itself(start: Start, serve: Callable[..., int]) -> None:
    def speaks_first(sock: socket.socket) -> None:
        reached.put("first")
        sock.sendall(b"220 hello")
        sock.shutdown(socket.SHUT_WR)
        heard.append(read_all(sock))

    def speaks_last(sock: socket.socket) -> None:
        reached.put("last")
        sock.sendall(read_all(sock)[::-1])

    heard: list[bytes] = []
    reached: queue.Queue[str] = queue.Queue()
    world = TcpWorld(serve(speaks_first), serve(speaks_last))
    proxy = start(world.config)
    proxy.wait_for(READY)
    answers = {}
    for _ in range(2):
        with connect(world.port) as client:
            server = reached.get(timeout=PATIENCE)
            # The one that speaks first ends while our side is open.
            first = read_all(client) if server == "first" else b""
            client.sendall(b"olleh")
            client.shutdown(socket.SHUT_WR)
            answers[server] = first + read_all(client)
    assert answers == {"first": b"220 hello", "last": b"hello"}
    assert eventually(lambda: heard == [b"olleh"])


def test_servers_that_are_not_there(start: Start, serve: Callable[..., int]) -> None:
    def answer(sock: socket.socket) -> None:
        sock.sendall(b"alive")

    with dead_sockets(2) as sockets:
        dead, other_dead = map(port_of, sockets)
        world = TcpWorld(dead, serve(answer))
        proxy = start(world.config)
        proxy.wait_for(READY)
        for _ in range(4):
            with connect(world.port) as client:
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"alive"
        again = TcpWorld(dead, other_dead)
        proxy = start(again.config)
        proxy.wait_for(READY)
        assert rejection(again.port) == "reset"
        proxy.wait_for(r"LOG tcp 0 0 127\.0\.0\.1:\d+ connect_refused")
        proxy.wait_for(r"tcp_proxy bytes to server: connect_refused")
        assert stats(again.admin_port)["reason_connect_refused"] == "1"


def stats(admin_port: int) -> dict[str, str]:
    """The counters of the listener."""
    found: dict[str, str] = json.loads(get(admin_port, "/api/v1/stats")[1])["downstream"]["listener.bytes"]
    return found


def last_change(admin_port: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(admin_port, "/api/v1/last_change")[1])
    return found


def test_a_reader_that_takes_nothing_costs_a_bounded_buffer(start: Start, serve: Callable[..., int]) -> None:
    stuck = threading.Semaphore(0)

    def pour(sock: socket.socket) -> None:
        sock.settimeout(3)
        try:
            for _ in range(100):
                sock.sendall(bytes(MIB))
        except TimeoutError:
            stuck.release()
        sock.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            sock.recv(1)  # until the other side is gone

    world = TcpWorld(serve(pour))
    proxy = start(world.config)
    proxy.wait_for(READY)
    before = resident(proxy)
    clients = [connect(world.port) for _ in range(8)]
    for _ in clients:
        assert stuck.acquire(timeout=PATIENCE), "the server could send everything"
    assert resident(proxy) - before < 8 * MIB
    for client in clients:
        client.close()
    assert eventually(lambda: stats(world.admin_port)["tcp_active"] == "0")


def test_silence(start: Start, serve: Callable[..., int]) -> None:
    world = TcpWorld(serve(read_all), idle_timeout=300_000_000)
    proxy = start(world.config)
    proxy.wait_for(READY)
    with connect(world.port) as client:
        assert read_all(client) == b""
    proxy.wait_for(r"LOG tcp 0 0 \S+ idle_timeout")


def test_the_end_of_the_program(start: Start, serve: Callable[..., int]) -> None:
    world = TcpWorld(serve(lambda sock: sock.sendall(read_all(sock))))
    world.config["servers"][0]["graceful_timeout"] = "60s"
    proxy = start(world.config)
    proxy.wait_for(READY)
    with connect(world.port) as client:
        client.sendall(b"x")
        assert eventually(lambda: stats(world.admin_port)["tcp_active"] == "1")
        proxy.send(signal.SIGTERM)
        proxy.wait_for("draining")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"x"
    assert proxy.exit_code() == 0


def test_a_change_is_for_the_next_connection(start: Start, serve: Callable[..., int], tmp_path: Path) -> None:
    def named(name: bytes) -> Callable[[socket.socket], None]:
        return lambda sock: sock.sendall(name + b" " + read_all(sock))

    world = TcpWorld(serve(named(b"old")))
    proxy = start(world.config)
    proxy.wait_for(READY)
    hosts = [{"address": f"127.0.0.1:{serve(named(b'new'))}"}]
    world.config["cluster_manager"]["clusters"].append({"name": "other", "hosts": hosts})
    with connect(world.port) as open_one:
        assert eventually(lambda: stats(world.admin_port)["tcp_active"] == "1")
        world.listener["filter_chains"][0]["filters"][0]["config"]["cluster"] = "other"
        (tmp_path / "conf" / "mosn.json").write_text(json.dumps(world.config))
        before = last_change(world.admin_port)["attempt"]
        proxy.send(signal.SIGHUP)
        assert eventually(lambda: last_change(world.admin_port)["attempt"] > before)
        assert last_change(world.admin_port)["applied"]
        for client, name in ((connect(world.port), b"new"), (open_one, b"old")):
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == name + b" x"
            client.close()


def test_unknown_protocols_beside_known_ones(start: Start, serve: Callable[..., int], two_hops: TwoHops) -> None:
    def echo(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            sock.sendall(data)

    def greet(sock: socket.socket) -> None:
        sock.sendall(b"220 hello")

    def reverse(sock: socket.socket) -> None:
        sock.sendall(read_all(sock)[::-1])

    port = serve(echo)
    [chain] = two_hops.server["listeners"][0]["filter_chains"]
    chain["filters"][0]["config"].update(downstream_protocol="Auto", fallback_for_unknown_protocol=True)
    chain["filters"].append({"type": "tcp_proxy", "config": {"cluster": "bytes"}})
    bytes_cluster = {"name": "bytes", "hosts": [{"address": f"127.0.0.1:{port}"}]}
    two_hops.config["cluster_manager"]["clusters"].append(bytes_cluster)
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    assert get(two_hops.client_port, "/x")[0] == 200
    dice = random.Random(7)
    for _ in range(20):
        talk = b"\x00" + dice.randbytes(dice.randrange(1, 5000))
        with connect(two_hops.client_port) as client:
            place = 0
            while place < len(talk):
                size = dice.randrange(1, 700)
                client.sendall(talk[place : place + size])
                place += size
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == talk
    with connect(two_hops.client_port) as client:
        client.sendall(b"P")  # may still become a POST; its end says that it does not
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"P"
    assert get(two_hops.client_port, "/y")[0] == 200


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name)
def test_the_examples_are_without_fault(path: Path) -> None:
    loaded = load_file(str(path))
    assert loaded.config is not None
    assert [fault.text() for fault in loaded.faults] == []


def test_the_sample_of_the_shape_of_mosns(start: Start, serve: Callable[..., int], tmp_path: Path) -> None:
    port, routed = free_ports(2)
    text = (EXAMPLES / "config.json").read_text()
    server = serve(lambda sock: sock.sendall(read_all(sock).upper()))
    path = tmp_path / "config.json"
    path.write_text(with_ports(text, {2045: port, 2046: routed, 8080: server}))
    proxy = start(None, "-c", str(path))
    proxy.wait_for(READY)
    for listener in (port, routed):
        with connect(listener) as client:
            client.sendall(b"shout")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"SHOUT"


def test_the_demo_runs(tmp_path: Path) -> None:
    text = (EXAMPLES / "fallback.json").read_text()
    arguments = ["--config", str(tmp_path / "config.json")]
    options = {2046: "--port", 8080: "--http-port", 9090: "--tcp-port"}
    ports = dict(zip(options, free_ports(3), strict=True))
    for old, option in options.items():
        arguments += [option, str(ports[old])]
    (tmp_path / "config.json").write_text(with_ports(text, ports))
    command = [sys.executable, str(EXAMPLES / "demo.py"), *arguments]
    done = subprocess.run(
        command, cwd=tmp_path, env=worker_environment(os.environ), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout.splitlines() == ["WHAT PROTOCOL IS THIS?", "hello /world"], done.stderr
