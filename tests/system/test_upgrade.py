"""Hot upgrades of the real program: another process takes over, and clients see nothing of it."""

import http.client
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from generations import Generations
from process_fixtures import Start
from pymosn_process import PATIENCE, Pymosn, TwoHops, Upstream, children, eventually, get, is_alive
from tests.kit.unix_http import UnixHttp

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
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                continue
            if status != 200:
                self.failures.append(f"{status} {body!r}")
            self.count += 1

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)


class Upgraded(Generations):
    """Two hops that are upgraded."""

    def __init__(self, proxy: Pymosn, hops: TwoHops, config: Path) -> None:
        super().__init__(proxy, config, hops.admin_port)
        self.hops = hops

    def ask(self, command: Sequence[str] = (), seconds: float = PATIENCE, workers: int | None = None) -> dict[str, Any]:
        """The last line of the answer of the admin API to an upgrade, which takes less time than the command."""
        request = {"command": list(command), "timeout": seconds} | ({} if workers is None else {"workers": workers})
        connection = UnixHttp(self.proxy.admin_socket, PATIENCE)
        with closing(connection):
            connection.request("POST", "/api/v1/upgrade", json.dumps(request))
            last: dict[str, Any] = json.loads(connection.getresponse().read().splitlines()[-1])
        return last

    def drain(self) -> list[tuple[int, bool]]:
        """The numbers of the generations that drain, and whether each still has a connection of HTTP/1."""
        leaving = [each for each in self.view()["generations"] if each["state"] == "leaving"]
        return [(each["generation"], bool(each.get("connections", {}).get("http1"))) for each in leaving]


@pytest.fixture
def generations(start: Start, two_hops: TwoHops, tmp_path: Path) -> Iterator[Upgraded]:
    """A running proxy with a unix listener beside the two hops."""
    listener = {**two_hops.server["listeners"][0], "name": "unix", "network": "unix", "address": str(tmp_path / "unix.sock")}
    two_hops.server["listeners"].append(listener)
    generations = Upgraded(start(two_hops.config), two_hops, tmp_path / "conf" / "mosn.json")
    yield generations
    generations.end()


class Slow:
    """A request that the upstream answers when its gate is opened."""

    def __init__(self, hops: TwoHops, upstream: Upstream) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", hops.client_port, timeout=PATIENCE)
        upstream.arrived.clear()
        self._connection.request("GET", "/slow")
        assert upstream.arrived.wait(PATIENCE)

    def finish(self) -> tuple[int, bytes]:
        with closing(self._connection):
            response = self._connection.getresponse()
            return response.status, response.read()


def test_upgrades_while_older_generations_drain_and_then_a_stop(
    generations: Upgraded, upstream: Upstream, tmp_path: Path
) -> None:
    """Three upgrades, to fewer and to more workers; the third generation waits for the first two, which still serve."""
    proxy, hops = generations.proxy, generations.hops
    first = proxy.process.pid
    slow = [Slow(hops, upstream)]
    wrapper = tmp_path.parent / "other-pymosn"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m pymosn "$@"\n')
    wrapper.chmod(0o755)
    load = Load(hops.client_port, 1)
    done = generations.upgrade("--command", str(wrapper), "--workers", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "is ready" in done.stdout
    assert f"process {generations.pids[-1]} has taken over" in done.stdout
    assert len(children(generations.pids[-1], "pymosn.server.worker")) == 1

    assert eventually(lambda: generations.drain() == [(1, True)]), generations.view()  # it accepts nothing more
    slow.append(Slow(hops, upstream))
    _upgrade_during_a_reload(generations, workers=2)
    load.end()
    assert load.failures == []
    assert load.count > 20

    _upgrade_with_a_worker_in_back_off(generations)
    assert generations.hops.get()[0] == 200

    files = (tmp_path / "unix.sock", Path(proxy.admin_socket), tmp_path / "logs" / "mosn.pid")
    assert all(path.exists() for path in files)
    assert eventually(lambda: generations.drain() == [(1, True), (2, True), (3, False)]), generations.view()
    proxy.send(signal.SIGTERM)
    assert eventually(lambda: not is_alive(generations.pids[-1]))
    assert not any(path.exists() for path in files)
    assert is_alive(first)
    upstream.gate.set()
    assert [each.finish() for each in slow] == [(200, b"hello from upstream, /slow\n")] * 2
    assert proxy.exit_code() == 0  # idle connections of older generations are not waited for
    assert eventually(lambda: generations.processes() == [])


#: Its import takes as long as the test wants.
FILTER = """
import os
from pymosn.api import StreamFilter

if os.path.exists(GATE):
    open(GATE).read()

class Slow(StreamFilter):
    pass
"""


def _upgrade_during_a_reload(generations: Upgraded, workers: int) -> None:
    """By the admin API. The reload waits for a new filter; it also sets `sighup`."""
    folder = generations.config.parent
    gate = folder / "gate"
    os.mkfifo(gate)
    (folder / "filters").mkdir(exist_ok=True)
    (folder / "filters" / "slow.py").write_text(FILTER.replace("GATE", repr(str(gate))))
    config = json.loads(generations.config.read_text())
    config["sighup"] = "upgrade"
    entry = {"type": "python", "config": {"path": "filters/slow.py", "class": "Slow"}}
    config["servers"][0]["listeners"][0]["stream_filters"] = [entry]
    generations.config.write_text(json.dumps(config))
    generations.proxy.send(signal.SIGHUP)
    opened: list[int] = []

    def is_imported() -> bool:
        with suppress(OSError):  # nobody reads it yet
            opened.append(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        return bool(opened)

    assert eventually(is_imported)
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(generations.ask(workers=workers)))
    thread.start()
    assert eventually(lambda: generations.view()["state"] == "waiting")
    gate.unlink()
    os.close(opened[0])
    thread.join(PATIENCE)
    assert found[0]["done"], found
    assert "change from SIGHUP: version" in generations.proxy.output
    generations.note()
    assert len(children(generations.pids[-1], "pymosn.server.worker")) == workers


def _upgrade_with_a_worker_in_back_off(generations: Upgraded) -> None:
    """By SIGHUP to the main process."""
    serving = generations.pids[-1]
    killed: set[int] = set()
    while "keeps crashing; restarting in" not in generations.proxy.output:
        for worker in set(children(serving, "pymosn.server.worker")[1:]) - killed:
            killed.add(worker)
            os.kill(worker, signal.SIGKILL)
    generations.proxy.send(signal.SIGHUP)
    assert eventually(lambda: generations.view()["main_pid"] == generations.pids[0] and generations.serving() != serving)
    generations.note()
    assert "upgrade from SIGHUP: process" in generations.proxy.output
