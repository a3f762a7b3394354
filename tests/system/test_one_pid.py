"""One process id for the outside: service managers, containers and signals, through several upgrades of the real program."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from plain_sockets import PATIENCE
from process_fixtures import Start
from pymosn_process import Pymosn, TwoHops, Upstream, children, eventually, free_ports, is_alive

from pymosn.server.admin_client import stop_running
from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once

UNITS = Path(__file__).parents[2] / "contrib" / "systemd"


class Manager:
    """A service manager: the texts that it was sent, and by which process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.received: list[tuple[str, int]] = []
        self._news = threading.Condition()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind(name.replace("@", "\0"))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            text, ancillary, _, _ = self._sock.recvmsg(4096, socket.CMSG_SPACE(12))
            if not text:
                return
            with self._news:
                self.received.append((text.decode(), int.from_bytes(ancillary[0][2][:4], sys.byteorder)))
                self._news.notify_all()

    @property
    def states(self) -> list[str]:
        """What was sent, without signs of life: `READY`, `RELOADING`."""
        return [text.partition("=")[0] for text, _ in self.received if not text.startswith("WATCHDOG")]

    def wait_for(self, states: list[str]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.states[: len(states)] == states, PATIENCE), self.received

    def wait_for_life(self, count: int) -> None:
        """Waits for so many further signs of life."""

        def number() -> int:
            return sum(text == "WATCHDOG=1" for text, _ in self.received)

        with self._news:
            before = number()
            assert self._news.wait_for(lambda: number() >= before + count, PATIENCE), self.received

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RD)


@pytest.fixture
def manager() -> Iterator[Manager]:
    manager = Manager(f"@pymosn-test-{os.getpid()}")
    yield manager
    manager.close()


def upgrade(proxy: Pymosn, times: int = 1) -> None:
    """Upgrades by a signal to the main process, and waits until the new generation serves, so many times in all."""
    proxy.send(signal.SIGUSR2)
    assert eventually(lambda: len(re.findall("has taken over", proxy.output)) >= times), proxy.output


def is_keeper(pid: int) -> bool:
    return b"pymosn-keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_service_manager_follows_two_upgrades(start: Start, two_hops: TwoHops, manager: Manager, tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "200000", "LISTEN_PID": "1", "LISTEN_FDS": "1"}
    proxy = start(two_hops.config, "--workers", "1", **environment)
    pid = proxy.process.pid
    states = ["READY"]
    manager.wait_for(states)
    proxy.wait_for("admin API for changes")
    proxy.send(signal.SIGHUP)
    states += ["RELOADING", "READY"]
    manager.wait_for(states)
    pid_file = tmp_path / "logs" / "mosn.pid"
    for number in (1, 2):
        upgrade(proxy, number)
        states += ["RELOADING", "READY"]
        manager.wait_for(states)
        manager.wait_for_life(2)
        assert pid_file.read_text() == f"{pid}\n"
        assert two_hops.get("/a")[0] == 200
    assert two_hops.admin("/api/v1/states").startswith(f"pid={pid}&")
    assert eventually(lambda: is_keeper(pid))
    (serving,) = children(pid, "pymosn\0start")
    (worker,) = children(serving, "pymosn.server.worker")
    passed = Path(f"/proc/{worker}/environ").read_bytes()
    assert not re.search(rb"NOTIFY_SOCKET|WATCHDOG|LISTEN_|PYMOSN_TETHER|PYMOSN_INHERIT", passed)
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
    manager.wait_for([*states, "STOPPING"])
    assert manager.states == [*states, "STOPPING"]
    assert {sender for _, sender in manager.received} == {pid}
    assert not pid_file.exists()


def test_signals_reach_the_generation_that_serves_while_the_old_one_drains_and_after(
    start: Start, two_hops: TwoHops, upstream: Upstream, tmp_path: Path
) -> None:
    proxy = start(two_hops.config, "--workers", "1")
    proxy.wait_for("admin API for changes")
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.client_port, timeout=PATIENCE)
    connection.request("GET", "/slow")
    assert upstream.arrived.wait(PATIENCE)
    upgrade(proxy)  # the old generation has a request in flight
    for number in (1, 2):
        proxy.send(signal.SIGHUP)
        assert eventually(lambda number=number: proxy.output.count("change from SIGHUP: version") == number)
        if number == 1:
            assert not is_keeper(proxy.process.pid)
            upstream.gate.set()
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"hello from upstream, /slow\n")
            connection.close()
            assert eventually(lambda: is_keeper(proxy.process.pid))
    assert stop_running(proxy.admin_socket, str(tmp_path / "conf" / "mosn.json"), True, PATIENCE) == proxy.process.pid
    assert proxy.process.poll() == 0  # the main process has ended too


@pytest.mark.parametrize("is_main", [True, False], ids=["main process", "generation"])
def test_a_kill_ends_everything(start: Start, two_hops: TwoHops, is_main: bool) -> None:
    proxy = start(two_hops.config, "--workers", "1")
    proxy.wait_for("admin API for changes")
    upgrade(proxy)
    assert eventually(lambda: is_keeper(proxy.process.pid))
    (generation,) = children(proxy.process.pid, "pymosn\0start")
    workers = children(generation, "pymosn.server.worker")
    os.kill(proxy.process.pid if is_main else generation, signal.SIGKILL)
    assert proxy.process.wait(PATIENCE) == (-signal.SIGKILL if is_main else 128 + signal.SIGKILL)
    assert eventually(lambda: not any(map(is_alive, [generation, *workers])))


class FirstProcess(Pymosn):
    """pymosn as process 1 of a namespace; `process` is the parent of that one, outside of it."""

    def __init__(self, config: Path, directory: Path) -> None:
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-m", "pymosn", "start"]
        self._run([*command, "-c", str(config), "--workers", "1"], directory, worker_environment(os.environ))

    @property
    def pid(self) -> int:
        """The id of process 1 outside of its namespace."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text())


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False).returncode != 0,
    reason="may not make a namespace for process ids",
)
def test_as_the_first_process_of_a_container(two_hops: TwoHops, tmp_path: Path) -> None:
    config = tmp_path / "conf" / "mosn.json"
    config.parent.mkdir()
    config.write_text(json.dumps(two_hops.config))
    proxy = FirstProcess(config, tmp_path)
    try:
        proxy.wait_for("admin API for changes")
        os.kill(proxy.pid, signal.SIGUSR2)
        proxy.wait_for("has taken over")
        assert eventually(lambda: is_keeper(proxy.pid))
        assert (tmp_path / "logs" / "mosn.pid").read_text() == "1\n"
        assert two_hops.get("/a")[0] == 200
        os.kill(proxy.pid, signal.SIGHUP)
        proxy.wait_for("change from SIGHUP: version")
        os.kill(proxy.pid, signal.SIGTERM)
        assert proxy.exit_code() == 0
        assert not (tmp_path / "logs" / "mosn.pid").exists()
    finally:
        proxy.end()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_are_valid(tmp_path: Path) -> None:
    for name in ("pymosn.service", "pymosn.socket"):
        (tmp_path / name).write_text((UNITS / name).read_text().replace("/usr/bin/pymosn", sys.executable))
    units = [str(tmp_path / "pymosn.service"), str(tmp_path / "pymosn.socket")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


#: Binds the addresses of its first argument, as a service manager does, and becomes the program.
ACTIVATE = """
import json, os, socket, sys
for number, address in enumerate(json.loads(sys.argv[1])):
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.bind(address if isinstance(address, str) else tuple(address))
    sock.listen()
    os.dup2(sock.fileno(), 50 + number)
for number in range(number + 1):
    os.dup2(50 + number, 3 + number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(number + 1)}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Activated(Pymosn):
    """pymosn with sockets of a service manager."""

    def __init__(self, config: Path, directory: Path, addresses: list[str | tuple[str, int]]) -> None:
        command = [sys.executable, "-c", ACTIVATE, json.dumps(addresses), "-m", "pymosn", "start", "-c", str(config)]
        self._run(command, directory, worker_environment(os.environ))


def test_sockets_of_the_service_manager_are_shared_by_all_workers_and_handed_over(two_hops: TwoHops, tmp_path: Path) -> None:
    config = tmp_path / "conf" / "mosn.json"
    config.parent.mkdir()
    two_hops.config["admin"]["socket"] = admin = str(tmp_path / "admin.sock")
    config.write_text(json.dumps(two_hops.config))
    spare = free_ports(1)[0]
    ports = [two_hops.client_port, two_hops.admin_port, spare]
    umask = os.umask(0o177)
    try:
        proxy = Activated(config, tmp_path, [admin, *(("127.0.0.1", port) for port in ports)])
    finally:
        os.umask(umask)
    try:
        proxy.wait_for(f"the socket tcp:127.0.0.1:{spare} of the service manager is not used")
        proxy.wait_for("admin API for changes")
        inodes = {os.stat(f"/proc/{proxy.process.pid}/fd/{number}").st_ino for number in (3, 4, 5)}
        for generation in range(2):
            assert [two_hops.get("/a")[0] for _ in range(10)] == [200] * 10
            assert two_hops.admin("/api/v1/states").startswith(f"pid={proxy.process.pid}&")
            assert proxy.post("/api/v1/reload_filters")[0] == 200
            if not generation:
                upgrade(proxy)
        (serving,) = children(proxy.process.pid, "pymosn\0start")
        held = set()
        for entry in Path(f"/proc/{serving}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                held.add(os.stat(entry).st_ino)
        assert inodes <= held  # the same sockets
        proxy.send(signal.SIGTERM)
        assert proxy.exit_code() == 0
        assert Path(admin).exists()  # the service manager's
    finally:
        proxy.end()
