"""Upgrades that fail, at every boundary of the protocol and on either side: nothing has happened, and nothing is left."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pymosn_process import PATIENCE, TwoHops, children, eventually, is_alive
from test_upgrade import Load, Upgraded, generations

from pymosn.server.channel import frame
from pymosn.server.upgrade.messages import VERSION, Carried, Complete, Estate, Held, HeldSocket, Take
from pymosn.server.worker_process import worker_environment

__all__ = ["generations"]

pytestmark = pytest.mark.once

HERE = Path(__file__).parent
#: What a successor does, and words of the reason that the command prints.
BEHAVIOURS = {
    "exits": "ended|exit code 3",
    "dies early": "ended|killed by signal 9",
    "dies": "ended|killed by signal 9",
    "rubbish": "too large",
    "invalid": "invalid message",
    "refuses": "it is too late",
    "other version": f"version {VERSION + 7}",
    "stops": "is not ready within",
    "ready, dies": "ended|killed by signal 9",
    "takes, dies": "ended|killed by signal 9",
    "takes, invalid": "invalid message",
}


class Footprint:
    """Descriptors and children of a process, and the files in its folder."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._folder = folder
        self.before = self._now()

    def _now(self) -> tuple[int, list[int], list[str]]:
        files = sorted(str(path) for path in self._folder.rglob("*") if "filters" not in str(path))
        return len(os.listdir(f"/proc/{self._pid}/fd")), children(self._pid, ""), files

    def is_as_before(self) -> bool:
        """Each of two workers may have got two more descriptors: the first probe comes a second after the start."""
        count, *rest = self._now()
        return rest == list(self.before[1:]) and count - self.before[0] in (0, 2, 4)


def test_a_successor_that_fails_at_any_boundary(generations: Upgraded, tmp_path: Path) -> None:
    pid = generations.proxy.process.pid
    fake = [sys.executable, str(HERE / "fake_successor.py")]
    footprint = Footprint(pid, tmp_path)
    load = Load(generations.hops.client_port, 1)
    for behaviour, words in BEHAVIOURS.items():
        found = generations.ask([*fake, behaviour], 0.5 if behaviour == "stops" else PATIENCE)
        assert not found["done"], behaviour
        assert any(word in " ".join(found["lines"]) for word in words.split("|")), (behaviour, found)
        assert load.failures == [], behaviour
    load.end()
    assert load.failures == []
    assert eventually(footprint.is_as_before), (footprint.before, footprint._now())
    assert [each["state"] for each in generations.view()["generations"]] == ["serving"]


def test_broken_code_a_broken_file_and_too_little_memory(generations: Upgraded, tmp_path: Path) -> None:
    """They are found by the new process; the exit code of the command is 1 for an invalid configuration."""
    pid = generations.proxy.process.pid
    footprint = Footprint(pid, tmp_path)
    broken = tmp_path.parent / "broken" / "pymosn"
    broken.mkdir(parents=True, exist_ok=True)
    (broken / "__init__.py").write_text("")
    (broken / "__main__.py").write_text("import pymosn.cli\n")
    done = generations.upgrade("--command", f"env PYTHONPATH={broken.parent} {sys.executable} -m pymosn")
    assert (done.returncode, "its output has" in done.stderr) == (2, True)

    limit = f'sh -c \'ulimit -v 60000; exec "$0" "$@"\' {sys.executable} -m pymosn'
    assert generations.upgrade("--command", limit).returncode == 2

    text = generations.config.read_text()
    generations.config.write_text(text.replace('"processor": 2', '"processor": 2, "graceful_timeout": []'))
    done = generations.upgrade()
    assert (done.returncode, "graceful_timeout" in done.stderr) == (1, True)
    other = json.loads(text)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        other["servers"][0]["listeners"][0]["address"] = address
        generations.config.write_text(json.dumps(other))
        found = generations.ask([], PATIENCE)
    assert not found["done"]
    assert f"cannot listen on {address}" in " ".join(found["lines"])
    generations.config.write_text(text)
    assert generations.hops.get()[0] == 200
    assert eventually(footprint.is_as_before), (footprint.before, footprint._now())


def test_two_at_once_and_one_that_a_shutdown_ends(generations: Upgraded) -> None:
    pid = generations.proxy.process.pid
    fake = shlex.join([sys.executable, str(HERE / "fake_successor.py"), "waits"])
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(generations.upgrade("--command", fake)))
    thread.start()
    assert eventually(lambda: generations.view()["state"] == "starting")
    done = generations.upgrade()
    assert (done.returncode, "another upgrade is in progress" in done.stderr) == (2, True)
    generations.proxy.send(signal.SIGTERM)
    thread.join(PATIENCE)
    assert "the process is shutting down" in results[0].stderr
    assert generations.proxy.exit_code() == 0
    assert eventually(lambda: generations.processes() == [])
    assert not is_alive(pid)


class Predecessor:
    """The test as the predecessor of a real process: it has a unix socket and a TCP socket."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        self.folder = folder
        self.path = folder / "unix.sock"
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(self.path))
        self.unix.listen()
        listener = config["servers"][0]["listeners"][0]
        host, _, port = listener["address"].partition(":")
        self.tcp = socket.create_server((host, int(port)), reuse_port=True)
        found = self.path.stat()
        held = [
            HeldSocket("listener", "client", address=listener["address"]),
            HeldSocket("listener", "u", "unix", str(self.path), is_shared=True, inode=(found.st_dev, found.st_ino)),
        ]
        config["servers"][0]["listeners"].append({**listener, "name": "u", "network": "unix", "address": str(self.path)})
        (folder / "conf").mkdir()
        (folder / "conf" / "mosn.json").write_text(json.dumps(config))
        ours, theirs = socket.socketpair()
        self.sock = ours
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pymosn", "start", "-c", "conf/mosn.json"],
            cwd=folder,
            env={**worker_environment(os.environ), "PYMOSN_INHERIT": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        theirs.close()
        ours.settimeout(PATIENCE)
        self.give = [
            (Estate(VERSION, "1.0", 2, os.getpid()), []),
            (Held(held), [self.tcp.fileno(), self.unix.fileno()]),
            (Carried("tickets", b"rubbish"), []),
            (Complete(), []),
        ]

    def send(self, message: object, descriptors: list[int]) -> None:
        socket.send_fds(self.sock, [frame(message, len(descriptors))], descriptors)

    def wait_for(self, word: bytes) -> None:
        found = b""
        while word not in found:
            data, descriptors, _, _ = socket.recv_fds(self.sock, 65536, 100)
            for descriptor in descriptors:
                os.close(descriptor)
            assert data, found
            found += data

    def end(self) -> bytes:
        """Ends the process, if it has not ended itself; returns its output."""
        self.sock.close()
        output = self.process.communicate(timeout=PATIENCE)[0]
        self.tcp.close()
        self.unix.close()
        return output


@pytest.fixture
def predecessor(two_hops: TwoHops, tmp_path: Path) -> Iterator[Predecessor]:
    found = Predecessor(two_hops.config, tmp_path)
    yield found
    found.process.kill()
    found.process.communicate()
    found.sock.close()


@pytest.mark.parametrize("boundary", ["Complete", "Ready", "Take"])
def test_a_successor_whose_predecessor_ends(predecessor: Predecessor, boundary: str) -> None:
    """Only after `Taken` it serves alone. The boundaries before `Complete` have unit tests."""
    for message, descriptors in predecessor.give:
        predecessor.send(message, descriptors)
        if type(message).__name__ == boundary:
            break
    workers: list[int] = []
    if boundary in ("Ready", "Take"):
        predecessor.wait_for(b"Ready")
        workers = children(predecessor.process.pid, "pymosn.server")
        assert len(workers) == 2
    if boundary == "Take":
        predecessor.send(Take(), [])
        predecessor.wait_for(b"Taken")
        predecessor.sock.close()
        assert (predecessor.folder / "logs" / "mosn.pid").exists()
        predecessor.process.terminate()
    output = predecessor.end()
    assert not any(is_alive(worker) for worker in workers) or eventually(lambda: not any(map(is_alive, workers)))
    left = sorted(path.name for path in predecessor.folder.rglob("*") if not path.is_dir())
    if boundary == "Take":
        assert predecessor.process.returncode == 0, output
        assert left == ["mosn.json"]  # the files were its own
    else:
        assert left == ["mosn.json", "unix.sock"], output
