"""The real program with connection filters: as in the testing kit, edited under load, failing, blocking, and huge."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import connect, read_all, read_exactly, read_until
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, Upstream, eventually, free_ports, get
from tests.kit import certificates
from tests.kit.hostile_errors import KINDS
from thread_server import ThreadServer

from load_client import Load, bad, summary
from pymosn.filters.loading import load_connection_filter
from pymosn.testing import ConnectionWorld

pytestmark = pytest.mark.once

FILTERS = '''
import time
from pymosn.api import CONTINUE, STOP, ConnectionFilter, SharedState


class Passes(ConnectionFilter):
    def on_data(self, data):
        return CONTINUE

    def on_write(self, data):
        return data


class Version(SharedState):
    async def start(self):
        self.context.write("state VERSION started")

    async def stop(self):
        self.context.write("state VERSION stopped")


class Versioned(ConnectionFilter):
    """Answers each byte `v` with its version; passes on everything else."""

    Shared = Version

    def on_data(self, data):
        if data == b"v":
            self.connection.write(b"VERSION")
            return STOP
        return CONTINUE


class Denies(ConnectionFilter):
    def on_connection(self, connection):
        if connection.remote_ip in self.config["deny"]:
            connection.abort()


class Swaps(ConnectionFilter):
    def on_data(self, data):
        return data.swapcase()

    def on_write(self, data):
        return data[::-1]


class Facts(ConnectionFilter):
    def on_connection(self, connection):
        tls = connection.tls
        connection.write(f"{tls.server_name} {tls.certificate.spiffe_id} ".encode())

    def on_data(self, data):
        return data.upper()


class Odd(ConnectionFilter):
    def on_data(self, data):
        return None


class Closes(ConnectionFilter):
    def on_data(self, data):
        self.connection.write(b"bye")
        self.connection.close()
        self.connection.write(b"late")
        self.connection.pass_on(b"late")
        self.connection.abort()
        return data


class Late(ConnectionFilter):
    timeout = 0.3

    async def on_connection(self, connection):
        import asyncio
        await asyncio.sleep(3600)


class Blocks(ConnectionFilter):
    def on_data(self, data):
        time.sleep(1.6)
        return CONTINUE


class NeverResumes(ConnectionFilter):
    def on_connection(self, connection):
        connection.pause_reading()


class Raises(ConnectionFilter):
    def on_data(self, data):
        import hostile_errors
        raise hostile_errors.make(data.decode())
'''


def python(name: str, **config: object) -> dict[str, Any]:
    return {"type": "python", "config": {"path": "filters.py", "class": name, "config": config}}


@pytest.fixture
def echo() -> Iterator[int]:
    def answer(sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(65536):
                sock.sendall(data)

    server = ThreadServer(answer)
    yield server.port
    server.close()


class World:
    """One listener with connection filters, before `tcp_proxy` to the port of an upstream if there is one."""

    def __init__(self, folder: Path, *filters: dict[str, Any], upstream: int = 0, **listener: object) -> None:
        self.file = folder / "conf" / "filters.py"
        self.file.parent.mkdir(exist_ok=True)
        self.write("1")
        shutil.copy(Path(__file__).parents[1] / "kit" / "hostile_errors.py", self.file.parent)
        self.port, self.admin_port = free_ports(2)
        tcp = [{"type": "tcp_proxy", "config": {"cluster": "server"}}] if upstream else []
        hosts = [{"address": f"127.0.0.1:{upstream or 1}"}]
        chain = {"filters": [*filters, *tcp]}
        entry = {"name": "l", "address": f"127.0.0.1:{self.port}", "bind_port": True, "filter_chains": [chain]}
        logs = [{"log_path": "stdout", "log_format": "LOG %protocol% %bytes_received% %bytes_sent% %reason%"}]
        self.config: dict[str, Any] = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "servers": [
                {
                    "default_log_path": "stdout",
                    "processor": 1,
                    "graceful_timeout": "2s",
                    "listeners": [{**entry, "access_logs": logs, **listener}],
                }
            ],
            "cluster_manager": {"clusters": [{"name": "server", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": hosts}]},
        }

    def write(self, version: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(FILTERS.replace("VERSION", version))
        new.replace(self.file)


def started(start: Start, world: World) -> Pymosn:
    proxy = start(world.config)
    proxy.wait_for(READY)
    return proxy


# ---- the same in the kit and in the program

CASES: dict[str, tuple[list[dict[str, Any]], bool, list[bytes]]] = {
    "passes": ([python("Passes")], True, [b"hello"]),
    "several": ([python("Passes"), python("Swaps"), python("Passes")], True, [b"Hello", b"World"]),
    "changes both ways": ([python("Swaps")], True, [b"Hello"]),
    "denies": ([python("Denies", deny=["127.0.0.1"])], True, [b"hello"]),
    "lets pass": ([python("Denies", deny=["127.0.0.2"])], True, [b"hello"]),
    "an odd value": ([python("Odd")], True, [b"hello"]),
    "closes and goes on": ([python("Closes")], True, [b"hello"]),
    "alone": ([python("Versioned")], False, [b"v", b"x"]),
    "a bad config": ([python("Denies", other=1)], True, [b"hello"]),
}


async def in_kit(filters: list[dict[str, Any]], has_upstream: bool, sent: list[bytes], file: Path) -> tuple[bytes, bool]:
    used = []
    for entry in filters:
        config = entry["config"]
        used.append((load_connection_filter(file, config["class"], config["config"])[0], config["config"]))
    async with ConnectionWorld(*used, is_last=not has_upstream) as world:
        client = await world.connect("127.0.0.1")
        for piece in sent:
            before = len(client.passed_on)
            await client.send(piece)
            if client.passed_on[before:]:
                await client.reply(client.passed_on[before:])
        return client.received, client.was_reset


def in_program(port: int, sent: list[bytes]) -> tuple[bytes, bool]:
    received = b""
    try:
        with connect(port) as sock:  # which a reset may precede
            for piece in sent:
                sock.sendall(piece)
                sock.settimeout(1.0)
                with contextlib.suppress(TimeoutError):  # this piece has no answer
                    received += sock.recv(1000)
    except ConnectionError:
        return received, True
    return received, False


@pytest.mark.parametrize("case", list(CASES))
def test_the_kit_and_the_program_do_the_same(start: Start, echo: int, tmp_path: Path, case: str) -> None:
    filters, has_upstream, sent = CASES[case]
    world = World(tmp_path, *filters, upstream=echo if has_upstream else 0)
    expected = asyncio.run(in_kit(filters, has_upstream, sent, world.file))
    started(start, world)
    assert in_program(world.port, sent) == expected


# ---- reload


def test_an_edit_is_for_new_connections(start: Start, echo: int, tmp_path: Path) -> None:
    world = World(tmp_path, python("Versioned"), upstream=echo)
    proxy = started(start, world)
    with connect(world.port) as old:
        old.sendall(b"v")
        assert read_exactly(old, 1) == b"1"
        world.write("2")
        proxy.wait_for("state 2 started")

        def is_new() -> bool:
            with connect(world.port) as new:
                new.sendall(b"v")
                return read_exactly(new, 1) == b"2"

        assert eventually(is_new)
        # Longer than `graceful_timeout`: an open connection keeps its filter, which is not stopped before.
        threading.Event().wait(3.0)
        old.sendall(b"v")
        assert read_exactly(old, 1) == b"1"
        old.sendall(b"other")
        assert read_exactly(old, 5) == b"other"
        assert "state 1 stopped" not in proxy.output
    proxy.wait_for("state 1 stopped")
    assert "state 2 stopped" not in proxy.output


def test_edits_under_load(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        hops = TwoHops(upstream.port)
        for listener in hops.server["listeners"]:
            listener["filter_chains"][0]["filters"].insert(0, python("Versioned"))
        proxy = start(hops.config, "--workers", "2")
        await asyncio.to_thread(proxy.wait_for, READY)
        load = Load(hops.client_port, 8)
        await load.reaches(20)
        for version in ("2", "3", "4", "5"):
            world.write(version)
            await asyncio.to_thread(proxy.wait_for, f"state {version} started")
            await load.reaches(len(load.asked) + 20)
        load.stop()
        asked = await load.done()
        assert bad(asked) == [], summary(asked)
        for version in ("1", "2", "3", "4"):
            await asyncio.to_thread(proxy.wait_for, f"state {version} stopped")

    asyncio.run(scenario())


def test_a_broken_edit_changes_nothing(start: Start, echo: int, tmp_path: Path) -> None:
    world = World(tmp_path, python("Versioned"), upstream=echo)
    proxy = started(start, world)
    world.file.write_text("class Versioned: (")
    proxy.wait_for(r"filters.py:1: '\(' was never closed")
    with connect(world.port) as sock:
        sock.sendall(b"v")
        assert read_exactly(sock, 1) == b"1"


# ---- failures


def is_reset(port: int, data: bytes) -> bool:
    """Whether a client that sends something is reset."""
    try:
        with connect(port) as sock:
            sock.sendall(data)
            read_all(sock)
    except ConnectionError:  # a reset, or the broken pipe after one
        return True
    return False


@pytest.mark.parametrize("place", ["before tcp_proxy", "alone"])
def test_whatever_a_filter_raises(start: Start, echo: int, tmp_path: Path, place: str) -> None:
    world = World(tmp_path, python("Raises"), upstream=echo if place != "alone" else 0)
    proxy = started(start, world)
    [pid] = proxy.worker_pids()
    with connect(world.port) as bystander:
        for kind, (_, text) in KINDS.items():
            assert is_reset(world.port, kind.encode()), kind
            assert eventually(lambda text=text: f"filter 'Raises' failed: {text}" in proxy.output), kind
        assert proxy.worker_pids() == [pid]
        assert bystander.fileno() >= 0
        errors = [line for line in proxy.lines if "filter 'Raises' failed" in line]
        assert len(errors) == len(KINDS)
    [view] = json.loads(get(world.admin_port, "/api/v1/filters")[1])["filters"]
    [entry] = view["entries"]
    assert (view["name"], entry["path"], entry["on_error"]) == ("Raises", "filter_chains[0].filters[0].config", "fail")
    assert eventually(lambda: proxy.output.count("filter_error") >= len(KINDS))


def test_a_filter_that_waits_too_long(start: Start, echo: int, tmp_path: Path) -> None:
    world = World(tmp_path, python("Late"), upstream=echo)
    proxy = started(start, world)
    with connect(world.port) as sock:
        sock.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            read_all(sock)
    proxy.wait_for("on_connection did not finish within 0.3 s")
    proxy.wait_for("LOG .* filter_timeout")


def test_a_filter_that_blocks_is_named(start: Start, echo: int, tmp_path: Path) -> None:
    world = World(tmp_path, python("Blocks"), upstream=echo)
    proxy = started(start, world)
    with connect(world.port) as sock:
        sock.sendall(b"x")
        assert read_exactly(sock, 1) == b"x"
    proxy.wait_for("event loop blocked for about .* in filter 'Blocks'")


@pytest.mark.parametrize("has_upstream", [True, False])
def test_a_filter_that_never_resumes(start: Start, echo: int, tmp_path: Path, has_upstream: bool) -> None:
    upstream = echo if has_upstream else 0
    world = World(tmp_path, python("NeverResumes"), upstream=upstream, connection_idle_timeout="1s")
    started(start, world)
    with connect(world.port) as sock:
        sock.sendall(b"x")
        assert read_all(sock) == b""  # closed when it is idle


# ---- TLS


def test_filters_see_plaintext_and_the_facts_of_tls(start: Start, echo: int, tmp_path: Path) -> None:
    world = World(tmp_path, python("Facts"), upstream=echo)
    certificate, key = certificates.server().files(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(certificates.ca().certificate)
    [chain] = world.config["servers"][0]["listeners"][0]["filter_chains"]
    chain["tls_context"] = {
        "status": True,
        "cert_chain": certificate,
        "private_key": key,
        "ca_cert": str(tmp_path / "ca.pem"),
        "verify_client": True,
        "require_client_cert": True,
    }
    started(start, world)
    context = certificates.client_context(certificates.spiffe())
    with connect(world.port) as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(b"hello")
        received = b""
        while not received.endswith(b"HELLO"):
            received += sock.recv(1000)
        name, spiffe_id = received.removesuffix(b"HELLO").decode().split()
    assert name == "localhost"
    assert spiffe_id.startswith("spiffe://")


# ---- amounts


@pytest.mark.parametrize("name", ["Passes", "Swaps"])
def test_many_bytes_both_ways(start: Start, echo: int, tmp_path: Path, name: str) -> None:
    world = World(tmp_path, python(name), upstream=echo)
    proxy = started(start, world)
    size = 48 << 20
    # `Swaps` reverses each chunk as it was cut: only bytes that are all the same tell nothing of the cuts.
    data = random.Random(1).randbytes(1 << 20) * 48 if name == "Passes" else b"a" * size
    expected = hashlib.sha256(data if name == "Passes" else b"A" * size).digest()
    with connect(world.port) as sock:
        sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        digest = hashlib.sha256()
        total = 0
        while piece := sock.recv(1 << 16):
            digest.update(piece)
            total += len(piece)
        sender.join()
    assert total == size
    assert digest.digest() == expected
    proxy.wait_for(f"LOG tcp {size} {size}")


def test_a_reader_that_takes_nothing_costs_a_bounded_buffer(start: Start, tmp_path: Path) -> None:
    def pour(sock: socket.socket) -> None:
        try:
            while True:
                sock.sendall(b"x" * 65536)
        except OSError:
            pass

    server = ThreadServer(pour)
    world = World(tmp_path, python("Passes"), upstream=server.port)
    proxy = started(start, world)
    [pid] = proxy.worker_pids()
    before = resident(pid)
    with connect(world.port) as sock:
        threading.Event().wait(2.0)
        assert resident(pid) - before < 16 << 20
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


EXAMPLE = Path(__file__).parents[2] / "examples" / "connection_filters"


def test_the_example(start: Start, tmp_path: Path) -> None:
    def answer(sock: socket.socket) -> None:
        sock.sendall(b"card 4111 1111 1111 1111\nend")

    server = ThreadServer(answer)
    ports = dict(zip(("2047", "2048", "2049", "8080"), [*free_ports(3), server.port], strict=True))
    text = (EXAMPLE / "config.yaml").read_text()
    for old, new in ports.items():
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    shutil.copytree(EXAMPLE, tmp_path / "example")
    (tmp_path / "example" / "config.yaml").write_text(text)
    proxy = start(None, "-c", str(tmp_path / "example" / "config.yaml"))
    proxy.wait_for(READY)
    with connect(int(ports["2049"])) as sock:
        assert read_until(sock, b"\n") == b"220 ready\r\n"
        sock.sendall(b"quit\n")
        assert read_all(sock) == b"221 bye\r\n"
    with connect(int(ports["2048"])) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"card [card]\nend"
    with pytest.raises(ConnectionResetError), connect(int(ports["2047"])) as sock:
        read_all(sock)
    server.close()


def test_check(start: Start, tmp_path: Path) -> None:
    world = World(tmp_path, python("Missing"))
    proxy = start(world.config)
    assert proxy.exit_code() != 0
    assert "has no class 'Missing' (connection filters in it: " in proxy.output
