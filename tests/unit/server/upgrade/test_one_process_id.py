"""The tether and the keeper, with small programs instead of generations: signals, exit codes, and ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pymosn.server.upgrade.keeper import FORWARDED
from pymosn.server.upgrade.tether import VARIABLE, connect
from pymosn.server.worker_process import worker_environment

PATIENCE = 30.0
GENERATION = Path(__file__).with_name("generation.py")


class Tree:
    """A main process, started as generation 1, and what all generations print."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.main = subprocess.Popen(
            [sys.executable, str(GENERATION), "1"],
            cwd=folder,
            env={**worker_environment(os.environ), **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.pids = {1: self.main.pid}
        self.wait_for("1 serves")

    def _read(self) -> None:
        assert self.main.stdout is not None
        for line in self.main.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()

    def wait_for(self, text: str, times: int = 1) -> str:
        """Waits until that many lines begin with `text`."""

        def found() -> list[str]:
            return [line for line in self.lines if line.startswith(text)]

        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= times, PATIENCE), self.lines
            return found()[-1]

    def count(self, text: str) -> int:
        return self.lines.count(text)

    def tell(self, number: int, command: str) -> None:
        self._sock.sendto(command.encode(), str(self.folder / str(number)))

    def upgrade(self, number: int) -> None:
        """Makes generation `number` start the next one, which takes over."""
        self.tell(number, "upgrade")
        self.pids[number + 1] = int(self.wait_for(f"{number + 1} serves").split()[-1])

    def become_keeper(self) -> None:
        """Generation 1 has nothing left to do."""
        self.tell(1, "leave")
        assert eventually(lambda: b"pymosn-keeper" in Path(f"/proc/{self.main.pid}/cmdline").read_bytes())

    def code(self) -> int:
        return self.main.wait(PATIENCE)

    def all_ended(self) -> bool:
        """Whether all have ended, because nothing has their output open any more."""
        self._reader.join(PATIENCE)
        return not self._reader.is_alive()

    def close(self) -> None:
        if self.main.poll() is None:
            self.main.kill()
            self.main.wait(PATIENCE)
        assert self.all_ended()
        self._sock.close()
        assert self.main.stdout is not None
        self.main.stdout.close()


def eventually(condition: Callable[[], bool]) -> bool:
    """Polls what no event tells of."""
    for _ in range(int(PATIENCE / 0.01)):
        if condition():
            return True
        threading.Event().wait(0.01)
    return False


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Tree]]:
    monkeypatch.chdir(tmp_path)
    trees: list[Tree] = []

    def plant(**environment: str) -> Tree:
        trees.append(Tree(Path(), environment))
        return trees[-1]

    yield plant
    for tree in trees:
        tree.close()


def test_every_signal_reaches_the_generation_that_serves_in_every_phase(plant: Callable[..., Tree]) -> None:
    tree = plant()
    quiet = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]

    def send(to: int, signals: list[signal.Signals], times: int = 1) -> None:
        for number in signals:
            os.kill(tree.main.pid, number)
            tree.wait_for(f"{to} {number.name}", times)

    send(1, list(FORWARDED))
    tree.upgrade(1)
    send(2, quiet)
    tree.upgrade(2)
    send(3, quiet)
    tree.become_keeper()
    send(3, quiet, 2)
    tree.upgrade(3)
    send(4, list(FORWARDED))
    # Each once; SIGUSR1 is also for the logs of what generation 1 drains.
    assert sorted(line for line in tree.lines if "SIG" in line) == sorted(
        [f"1 {each.name}" for each in FORWARDED]
        + ["1 SIGUSR1"] * 2
        + [f"2 {each.name}" for each in quiet]
        + [f"3 {each.name}" for each in quiet] * 2
        + [f"4 {each.name}" for each in FORWARDED]
    )


def test_no_signal_is_lost_or_doubled_while_the_main_process_becomes_the_keeper(plant: Callable[..., Tree]) -> None:
    tree = plant()
    tree.upgrade(1)
    sent = 0
    tree.tell(1, "leave")
    after = 0
    while after < 5:
        after += b"pymosn-keeper" in Path(f"/proc/{tree.main.pid}/cmdline").read_bytes()
        os.kill(tree.main.pid, signal.SIGHUP)
        os.kill(tree.main.pid, signal.SIGUSR2)
        sent += 1
        tree.wait_for("2 SIGHUP", sent)
        tree.wait_for("2 SIGUSR2", sent)
    os.kill(tree.main.pid, signal.SIGTERM)
    tree.wait_for("2 SIGTERM")
    assert (tree.count("2 SIGHUP"), tree.count("2 SIGUSR2"), tree.count("2 SIGTERM")) == (sent, sent, 1)
    assert sent > after


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 3", 3), ("die SIGKILL", 137), ("die SIGSEGV", 139)])
@pytest.mark.parametrize("is_keeper", [False, True])
def test_the_main_process_exits_as_the_main_child_did(
    plant: Callable[..., Tree], command: str, code: int, is_keeper: bool
) -> None:
    tree = plant()
    tree.upgrade(1)
    if is_keeper:
        tree.become_keeper()
    tree.tell(2, command)
    if not is_keeper:
        if code:
            tree.wait_for("1 hurries")
        tree.tell(1, "leave")
    assert tree.code() == code


def test_the_parent_tells_how_the_main_child_of_a_keeper_has_ended(plant: Callable[..., Tree]) -> None:
    tree = plant()
    tree.upgrade(1)
    tree.become_keeper()
    tree.upgrade(2)
    tree.tell(3, "die SIGABRT")  # generation 2 still drains
    assert tree.code() == 134
    assert tree.all_ended()


def test_after_a_graceful_end_older_generations_finish_what_they_drain(plant: Callable[..., Tree]) -> None:
    tree = plant()
    tree.upgrade(1)
    tree.become_keeper()
    tree.upgrade(2)
    os.kill(tree.main.pid, signal.SIGTERM)
    tree.wait_for("3 SIGTERM")
    tree.tell(3, "exit 0")
    assert eventually(lambda: not Path(f"/proc/{tree.pids[3]}").exists())
    tree.tell(2, "notify STATUS=still here")
    assert tree.main.poll() is None
    tree.tell(2, "leave")
    assert tree.code() == 0


@pytest.mark.parametrize("hurry", ["SIGTERM", "SIGINT", "SIGQUIT", "hurry"])
def test_older_generations_end_at_once_if_that_was_asked_for(plant: Callable[..., Tree], hurry: str) -> None:
    tree = plant()
    tree.upgrade(1)
    tree.become_keeper()
    tree.upgrade(2)
    for count, number in enumerate((signal.SIGTERM, signal.Signals[hurry] if hurry != "hurry" else signal.SIGHUP)):
        os.kill(tree.main.pid, number)
        tree.wait_for(f"3 {number.name}", count + 1 if number == signal.SIGTERM else 1)
    if hurry == "hurry":
        tree.tell(3, "hurry")
    tree.tell(3, "exit 0")
    assert tree.code() == 0
    assert tree.all_ended()  # generation 2 too


@pytest.mark.parametrize("is_keeper", [False, True])
def test_everything_ends_at_once_with_a_main_process_that_is_killed(plant: Callable[..., Tree], is_keeper: bool) -> None:
    tree = plant()
    tree.upgrade(1)
    if is_keeper:
        tree.become_keeper()
    tree.upgrade(2)
    tree.tell(3, "hang")
    tree.wait_for("3 hangs")
    tree.main.kill()
    assert tree.code() == -signal.SIGKILL
    assert tree.all_ended()


def test_the_keeper_collects_orphans(plant: Callable[..., Tree]) -> None:
    tree = plant()
    tree.upgrade(1)
    tree.become_keeper()
    tree.upgrade(2)
    tree.tell(2, "orphan")
    tree.wait_for("2 left an orphan")
    tree.tell(2, "leave")  # its children are the keeper's now
    assert eventually(lambda: children(tree.main.pid).split() == [str(tree.pids[3])])
    assert tree.main.poll() is None


def test_a_stopped_main_process_forwards_to_the_generation_that_took_over_meanwhile(plant: Callable[..., Tree]) -> None:
    tree = plant()
    tree.upgrade(1)
    tree.become_keeper()
    os.kill(tree.main.pid, signal.SIGSTOP)
    tree.upgrade(2)
    os.kill(tree.main.pid, signal.SIGHUP)
    os.kill(tree.main.pid, signal.SIGCONT)
    tree.wait_for("3 SIGHUP")
    assert tree.count("2 SIGHUP") == 0


def test_texts_for_the_service_manager_come_from_the_main_process(plant: Callable[..., Tree], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("notify")
        manager.settimeout(PATIENCE)
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        tree = plant(NOTIFY_SOCKET=str(tmp_path / "notify"))

        def received() -> tuple[str, int]:
            text, ancillary, _, _ = manager.recvmsg(1000, socket.CMSG_SPACE(12))
            return text.decode(), int.from_bytes(ancillary[0][2][:4], sys.byteorder)

        tree.tell(1, "notify one")
        assert received() == ("one", tree.main.pid)
        tree.upgrade(1)
        tree.tell(2, "notify two")
        assert received() == ("two", tree.main.pid)
        tree.become_keeper()
        tree.upgrade(2)
        tree.tell(3, "notify three")
        assert received() == ("three", tree.main.pid)


@pytest.mark.parametrize("value", ["", "7", "x:1", "999999:1"])
def test_an_invalid_variable_is_an_error_and_removed(value: str) -> None:
    environment = {VARIABLE: value}
    with pytest.raises(ValueError, match=VARIABLE):
        connect(asyncio.new_event_loop(), environment)
    assert environment == {}
