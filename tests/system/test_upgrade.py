"""Hot upgrades of the real program: another process takes over, and clients see nothing of it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, eventually, get, is_alive
from tests.kit.unix_http import UnixHttp

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once


class Load:
    """Clients that ask without a pause, each time on a new connection. `failures`: anything but a 200."""

    def __init__(self, port: int, clients: int = 2) -> None:
        self.failures: list[str] = []
        self.count = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(port,), daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int) -> None:
        while not self._stop.is_set():
            try:
                status, body = get(port, "/")
            except OSError as error:
                self.failures.append(repr(error))
                continue
            if status != 200:
                self.failures.append(f"{status} {body!r}")
            self.count += 1

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)


class Generations:
    """All processes of one proxy, of which the test has started the first."""

    def __init__(self, proxy: Pymosn, hops: TwoHops, config: Path) -> None:
        self.proxy = proxy
        self.hops = hops
        self.config = config
        self.pids = [proxy.process.pid]
        proxy.wait_for(READY)

    def view(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.hops.admin("/api/v1/upgrade"))
        return found

    def upgrade(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`pymosn upgrade`; notes the process that has taken over."""
        command = [sys.executable, "-m", "pymosn", "upgrade", "-c", str(self.config), *arguments]
        environment = worker_environment(os.environ)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode == 0:
            self.note()
        return done

    def ask(self, command: list[str], seconds: float) -> dict[str, Any]:
        """The last line of the answer of the admin API to an upgrade, which takes less time than the command."""
        connection = UnixHttp(self.proxy.admin_socket, PATIENCE)
        with closing(connection):
            connection.request("POST", "/api/v1/upgrade", json.dumps({"command": command, "timeout": seconds}))
            last: dict[str, Any] = json.loads(connection.getresponse().read().splitlines()[-1])
        return last

    def note(self) -> None:
        self.pids.append(next(each["pid"] for each in self.view()["generations"] if each["state"] == "serving"))

    def processes(self) -> list[int]:
        """The live processes that were started with the configuration file."""
        return [pid for pid in all_pids() if is_alive(pid) and str(self.config).encode() in command_of(pid)]

    def end(self) -> None:
        while found := self.processes():
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.proxy.process.poll()
        self.proxy.end()


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def generations(start: Start, two_hops: TwoHops, tmp_path: Path) -> Iterator[Generations]:
    """A running proxy with a unix listener beside the two hops."""
    listener = {**two_hops.server["listeners"][0], "name": "unix", "network": "unix", "address": str(tmp_path / "unix.sock")}
    two_hops.server["listeners"].append(listener)
    generations = Generations(start(two_hops.config), two_hops, tmp_path / "conf" / "mosn.json")
    yield generations
    generations.end()


def test_two_upgrades_under_load(generations: Generations, tmp_path: Path) -> None:
    """By the command and by SIGUSR2; the second one is an upgrade of an upgrade."""
    first = generations.proxy.process.pid
    load = Load(generations.hops.client_port)
    done = generations.upgrade()
    assert (done.returncode, done.stderr) == (0, "")
    assert "is ready" in done.stdout
    assert f"process {generations.pids[-1]} has taken over" in done.stdout
    second = generations.pids[-1]
    assert eventually(lambda: b"pymosn-keeper" in command_of(first))
    os.kill(first, signal.SIGUSR2)
    assert eventually(lambda: not is_alive(second))
    generations.note()
    load.end()
    assert load.failures == []
    assert load.count > 100
    assert generations.view()["generations"][0]["generation"] == 3
    files = (tmp_path / "unix.sock", Path(generations.proxy.admin_socket), tmp_path / "logs" / "mosn.pid")
    assert all(path.exists() for path in files)
    generations.proxy.send(signal.SIGTERM)
    assert generations.proxy.exit_code() == 0
    assert not any(path.exists() for path in files)
