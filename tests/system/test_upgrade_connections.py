"""Open connections survive upgrades of the real program: each client uses one socket all the time, and no request fails."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bolt_peers import BoltClient, BoltServer
from plain_sockets import PATIENCE, connect, read_exactly
from process_fixtures import Start
from pymosn_process import TwoHops, eventually, free_ports
from test_upgrade import Upgraded
from tests.kit import dubbo_frames as dubbo
from thread_server import ThreadServer

pytestmark = pytest.mark.once

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#: Magic, flags, status, id, length.
HEAD = struct.Struct(">2sBBqI")


def serve_dubbo(sock: socket.socket) -> None:
    """Answers each call with an empty result."""
    try:
        while True:
            _, flags, _, number, size = HEAD.unpack(read_exactly(sock, HEAD.size))
            read_exactly(sock, size)
            if flags & 0x80:
                sock.sendall(dubbo.result(number))
    except (OSError, AssertionError):
        return


def read_response(sock: socket.socket, rest: bytes = b"") -> bytes:
    """Reads a response with 200 whose connection stays; what follows it."""
    while b"\r\n\r\n" not in rest:
        data = sock.recv(65536)
        assert data, f"the connection ended after {rest!r}"
        rest += data
    head, _, rest = rest.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert b"close" not in head.lower()
    size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(rest) < size:
        data = sock.recv(65536)
        assert data, "the connection ended in a body"
        rest += data
    return rest[size:]


def keep_alive(sock: socket.socket) -> None:
    sock.sendall(GET)
    assert read_response(sock) == b""


def pipelined(sock: socket.socket) -> None:
    sock.sendall(GET * 3 + GET[:9])
    rest = b""
    for _ in range(3):
        rest = read_response(sock, rest)
    sock.sendall(GET[9:])
    assert read_response(sock, rest) == b""


def call_dubbo(sock: socket.socket) -> None:
    sock.sendall(dubbo.call(5) + dubbo.call(6))
    found = set()
    for _ in range(2):
        _, _, status, number, size = HEAD.unpack(read_exactly(sock, HEAD.size))
        read_exactly(sock, size)
        assert status == 20
        found.add(number)
    assert found == {5, 6}


class Clients:
    """Threads, each with one connection on which it asks without a pause."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.counts: list[int] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, port: int, ask: Callable[[socket.socket], None]) -> None:
        self._begin(connect(port), ask)

    def start_bolt(self, port: int) -> None:
        """With up to eight calls in flight, so that the connection is never idle for long."""
        self._begin(BoltClient(port), lambda client: _all_succeed(client.call_many(100, 8)))

    def _begin(self, client: Any, ask: Callable[[Any], None]) -> None:
        index = len(self.counts)
        self.counts.append(0)
        self._threads.append(threading.Thread(target=self._run, args=(index, client, ask), daemon=True))
        self._threads[-1].start()

    def _run(self, index: int, client: Any, ask: Callable[[Any], None]) -> None:
        while not self._stop.is_set():
            try:
                ask(client)
            except (OSError, AssertionError, EOFError) as error:
                self.failures.append(f"client {index} after {self.counts[index]}: {error!r}")
                return
            self.counts[index] += 1
        client.close()

    def go_on(self) -> None:
        """Returns when each of them has asked some more times."""
        before = list(self.counts)
        assert eventually(
            lambda: bool(self.failures) or all(now > old + 3 for now, old in zip(self.counts, before, strict=True))
        )
        assert self.failures == []

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)


def _all_succeed(statuses: dict[int, int]) -> None:
    assert statuses == {0: 100}, statuses


class Rig:
    """The proxy with listeners of HTTP/1, Bolt and Dubbo."""

    def __init__(self, generations: Upgraded, bolt: int, dubbo: int) -> None:
        self.generations = generations
        self.http = generations.hops.client_port
        self.bolt = bolt
        self.dubbo = dubbo

    def upgrade(self, *arguments: str) -> None:
        """Returns when the old generation has gone."""
        done = self.generations.upgrade(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert eventually(lambda: len(self.generations.view()["generations"]) == 1), self.generations.view()

    def moved(self) -> dict[str, int]:
        """The workers' counters of moves."""
        stats = json.loads(self.generations.hops.admin("/api/v1/stats"))
        found: dict[str, int] = {}
        collect(stats, found)
        return found


def collect(stats: Any, found: dict[str, int]) -> None:
    for key, value in stats.items() if isinstance(stats, dict) else ():
        if isinstance(value, dict):
            collect(value, found)
        elif "connections_moved" in key:
            name = key[key.index("connections_moved") :]
            found[name] = found.get(name, 0) + int(value)


@pytest.fixture
def rig(start: Start, two_hops: TwoHops, tmp_path: Path) -> Iterator[Rig]:
    for listener in two_hops.server["listeners"]:
        # Silent clients are awaited, however long an upgrade takes on a busy machine.
        listener["connection_idle_timeout"] = "1h"
        proxy = listener["filter_chains"][0]["filters"][0]["config"]
        proxy["extend_config"] = {"Http1": {"header_timeout": "1h"}}
    servers = {"bolt": BoltServer(), "dubbo": ThreadServer(serve_dubbo)}
    ports = dict(zip(servers, free_ports(2), strict=True))
    for name, server in servers.items():
        listener = json.loads(json.dumps(two_hops.server["listeners"][0]))
        proxy = listener["filter_chains"][0]["filters"][0]["config"]
        proxy.update(downstream_protocol=name, router_config_name=name)
        two_hops.server["listeners"].append({**listener, "name": name, "address": f"127.0.0.1:{ports[name]}"})
        match = {"headers": [{"name": "service", "value": ".*", "regex": True}]}
        routes = [{"match": match, "route": {"cluster_name": name}}]
        virtual_hosts = [{"name": name, "domains": ["*"], "routers": routes}]
        two_hops.server["routers"].append({"router_config_name": name, "virtual_hosts": virtual_hosts})
        cluster = {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN"}
        cluster["hosts"] = [{"address": f"127.0.0.1:{server.port}"}]
        two_hops.config["cluster_manager"]["clusters"].append(cluster)
    generations = Upgraded(start(two_hops.config), two_hops, tmp_path / "conf" / "mosn.json")
    yield Rig(generations, ports["bolt"], ports["dubbo"])
    generations.end()
    for server in servers.values():
        server.close()


def test_every_kind_of_client_keeps_its_connection(rig: Rig) -> None:
    """Two upgrades under load, the second with fewer workers; silent clients ask before and after."""
    silent = [connect(rig.http) for _ in range(20)]
    for sock in silent[:10]:
        keep_alive(sock)
    for sock in silent[15:]:
        sock.sendall(GET[:20])
    clients = Clients()
    for _ in range(3):
        clients.start(rig.http, keep_alive)
        clients.start(rig.http, pipelined)
        clients.start_bolt(rig.bolt)
        clients.start(rig.dubbo, call_dubbo)
    for arguments in ((), ("--workers", "1")):
        clients.go_on()
        rig.upgrade(*arguments)
        clients.go_on()
    clients.end()
    assert clients.failures == []
    for sock in silent[15:]:
        sock.sendall(GET[20:])
        assert read_response(sock) == b""
    for sock in silent:
        keep_alive(sock)
        sock.close()
    moved = rig.moved()
    assert moved.get("connections_moved_lost", 0) == 0
    assert moved["connections_moved_in"] >= 2 * (20 + 12)
