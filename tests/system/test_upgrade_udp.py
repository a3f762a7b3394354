"""UDP sessions over hot upgrades of the real program: hosts see the same sources, and no datagram is lost."""

import contextlib
import json
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generations import Generations
from plain_sockets import PATIENCE
from process_fixtures import Start
from pymosn_process import eventually, free_ports

pytestmark = [pytest.mark.once, pytest.mark.timeout(400)]

SESSIONS = 200
#: Datagrams per second of all clients together.
RATE = 1000.0
#: Seconds for which the clients send after the new process has taken over.
AFTERWARDS = 1.0


class KnownSources:
    """A host that greets who says hello, answers its later datagrams, and no others."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.bind(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.known: set[tuple[str, int]] = set()
        self.strangers: list[tuple[str, int]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, source = self.sock.recvfrom(2000)
            if data == b"end":
                return
            if data == b"hello":
                self.known.add(source)
            elif source not in self.known:
                self.strangers.append(source)
                continue
            self.sock.sendto(data, source)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join(PATIENCE)
        self.sock.close()


class Clients:
    """Each has a session, and sends numbered datagrams in turn with the others."""

    def __init__(self, port: int, count: int = SESSIONS) -> None:
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        self.sent = 0
        self.answers: Counter[bytes] = Counter()
        self._poll = select.epoll()
        self._by_number = {sock.fileno(): sock for sock in self.sockets}
        for sock in self.sockets:
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
            self._poll.register(sock.fileno(), select.EPOLLIN)

    def greet(self) -> None:
        """Begins all sessions."""
        for sock in self.sockets:
            sock.send(b"hello")
            sock.setblocking(True)
            sock.settimeout(PATIENCE)
            assert sock.recv(99) == b"hello"
            sock.setblocking(False)

    def send_while(self, wanted: threading.Event) -> None:
        """Sends at RATE until the event is set."""
        start = time.monotonic() - self.sent / RATE
        while not wanted.is_set():
            due = start + self.sent / RATE
            self._receive(max(0.0, due - time.monotonic()))
            if time.monotonic() >= due:
                self.sockets[self.sent % len(self.sockets)].send(b"%d" % self.sent)
                self.sent += 1

    def finish(self) -> list[int]:
        """The numbers of the datagrams that were not answered."""
        deadline = time.monotonic() + PATIENCE / 4
        while len(self.answers) < self.sent and time.monotonic() < deadline:
            self._receive(0.05)
        return [number for number in range(self.sent) if b"%d" % number not in self.answers]

    def _receive(self, seconds: float) -> None:
        for number, _ in self._poll.poll(seconds):
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.answers[self._by_number[number].recv(99)] += 1

    def close(self) -> None:
        self._poll.close()
        for sock in self.sockets:
            sock.close()


class World:
    def __init__(self, start: Start, folder: Path, workers: int) -> None:
        self.host = KnownSources()
        self.port, self.admin = free_ports(2)
        self.config = folder / "conf" / "mosn.json"
        self.value = self._configuration(workers)
        self.generations = Generations(start(self.value), self.config, self.admin)
        self.clients = Clients(self.port)

    def _configuration(self, workers: int) -> dict[str, Any]:
        filters = [{"type": "udp_proxy", "config": {"cluster": "c"}}]
        listener = {
            "name": "u",
            "address": f"127.0.0.1:{self.port}",
            "network": "udp",
            "bind_port": True,
            "connection_idle_timeout": "600s",  # the default of 5 s is too short for a busy machine
            "filter_chains": [{"filters": filters}],
        }
        cluster = {"name": "c", "type": "SIMPLE", "hosts": [{"address": f"127.0.0.1:{self.host.port}"}]}
        server = {"default_log_path": "stdout", "processor": workers, "graceful_timeout": "5s", "listeners": [listener]}
        admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}}
        return {"servers": [server], "cluster_manager": {"clusters": [cluster]}, "admin": admin}

    def upgrade_under_load(self, *arguments: str) -> None:
        """An upgrade while the clients send, and for a while after it."""
        over = threading.Event()
        sending = threading.Thread(target=self.clients.send_while, args=(over,), daemon=True)
        sending.start()
        try:
            done = self.generations.upgrade(*arguments)
            assert done.returncode == 0, done.stdout + done.stderr
            goal = self.clients.sent + AFTERWARDS * RATE
            assert eventually(lambda: self.clients.sent >= goal)
        finally:
            over.set()
            sending.join(PATIENCE)

    def metrics(self) -> dict[str, float]:
        """The counters and gauges of the listener, of all generations."""
        prefix = "pymosn_"
        found = {}
        for line in self.generations.get("/metrics").decode().splitlines():
            name, _, value = line.rpartition(" ")
            if 'listener="u"' in name and not name.startswith("#"):
                found[name.partition("{")[0].removeprefix(prefix)] = float(value)
        return found

    def close(self) -> None:
        self.generations.end()
        self.clients.close()
        self.host.close()


@pytest.fixture
def make(start: Start, tmp_path: Path) -> Iterator[Any]:
    worlds: list[World] = []

    def new(workers: int) -> World:
        worlds.append(World(start, tmp_path, workers))
        return worlds[-1]

    yield new
    for world in worlds:
        world.close()


@pytest.mark.parametrize(("before", "after"), [(2, 2), (1, 3), (3, 1)])
def test_sessions_continue_with_the_same_sources(make: Any, before: int, after: int) -> None:
    world = make(before)
    world.clients.greet()
    assert len(world.host.known) == SESSIONS
    world.upgrade_under_load("--workers", str(after))
    assert world.clients.finish() == []
    assert world.host.strangers == []
    assert len(world.host.known) == SESSIONS
    # The old process has nothing left, and ends before its time.
    first = world.generations.pids[0]
    assert eventually(lambda: len(world.generations.view()["generations"]) == 1), world.generations.view()
    assert first != world.generations.pids[-1]
    # A second time, by a process that has inherited the sockets itself.
    world.upgrade_under_load("--workers", str(before))
    assert world.clients.finish() == []
    assert world.host.strangers == []


def test_sessions_end_with_the_cluster_or_the_listener(make: Any) -> None:
    """The new configuration has another host: its datagrams go there, and the old host sees no more."""
    world = make(2)
    world.clients.greet()
    other = KnownSources()
    world.value["cluster_manager"]["clusters"][0]["hosts"] = [{"address": f"127.0.0.1:{other.port}"}]
    world.value["servers"][0]["graceful_timeout"] = "1s"
    world.config.write_text(json.dumps(world.value))
    assert world.generations.upgrade().returncode == 0
    # The old process serves until all its workers have left, a moment after the command has returned.
    assert eventually(lambda: len(world.generations.view()["generations"]) == 1), world.generations.view()
    for _ in range(2):
        world.clients.greet()
        assert (len(world.host.known), len(other.known)) == (SESSIONS, SESSIONS)
    world.value["servers"][0]["listeners"] = []
    world.config.write_text(json.dumps(world.value))
    assert world.generations.upgrade().returncode == 0
    client = world.clients.sockets[0]

    def is_refused() -> bool:
        try:
            client.send(b"hello")
            client.recv(99)
        except BlockingIOError:
            return False
        except ConnectionRefusedError:
            return True
        return False

    assert eventually(is_refused)
    # The sessions had gone on until then, and nobody has begun another one.
    assert (len(world.host.known), len(other.known)) == (SESSIONS, SESSIONS)
    other.close()
