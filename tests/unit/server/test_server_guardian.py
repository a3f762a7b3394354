"""The guardian: what it leaves to a worker, what it takes over, and whom it calls deaf. Real sockets, a fake clock."""

import asyncio
import mmap
import os
import select
import socket
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit import FakeClock, Lines

from pymosn.config.schema import MosnConfig, Server
from pymosn.network.progress import ACCEPTING, BEATS, PAUSED, Progress, cell_of
from pymosn.server import guardian as module
from pymosn.server.guardian import DEAF_AFTER, PATIENCE, PERIOD, Guardian
from pymosn.server.socket_groups import SocketGroup
from pymosn.server.sockets import bind_tcp, bind_unix


class Stage:
    """Workers that exist only as their part of the page, and a listener `web`."""

    def __init__(self, workers: int = 2, listens: bool = True) -> None:
        self.clock = FakeClock(100.0)
        self.log = Lines()
        self.deaf: list[tuple[int, str]] = []
        self.guardian = Guardian(
            workers, lambda worker, name: self.deaf.append((worker, name)), self.log, lambda: self.clock.now
        )
        self.guardian.follow(MosnConfig(servers=[Server(worker_hang_limit=2.0)]))
        page, self.queue = self.guardian.descriptors()
        cells = memoryview(mmap.mmap(page, 0)).cast("Q")
        self.workers = [Progress() for _ in range(workers)]
        for index, worker in enumerate(self.workers):
            worker.attach(cells, index)
            worker.set_state(ACCEPTING)
        self.sockets = bind_tcp("listener web", "127.0.0.1", 0, workers)
        self.clients: list[socket.socket] = []
        if listens:
            self.listen()
        self.guardian.watch({"web": SocketGroup(self.sockets)})

    def listen(self) -> None:
        for sock in self.sockets:
            sock.listen()

    def waiting(self) -> list[int]:
        """Indexes of the workers for which a connection waits."""
        return [index for index, sock in enumerate(self.sockets) if select.select([sock], [], [], 0)[0]]

    def connect(self, worker: int = 0) -> None:
        """Connects until a connection waits for that worker; the others serve theirs."""
        while worker not in self.waiting():
            self.clients.append(socket.create_connection(self.sockets[0].getsockname(), 5))
            for index in set(self.waiting()) - {worker}:
                self.serve(index)

    def serve(self, worker: int) -> None:
        self.sockets[worker].accept()[0].close()
        self.workers[worker].count(cell_of("web"))

    def look(self) -> bool:
        return self.guardian.look([self.sockets[index].fileno() for index in self.waiting()])

    def wait(self, seconds: float = PATIENCE + 0.001) -> None:
        """Lets the guardian look for so long."""
        end = self.clock.now + seconds
        self.look()
        while self.clock.now < end:
            self.clock.now += PERIOD
            self.look()

    def taken(self) -> list[str]:
        """Listeners of the connections in the queue; they are closed."""
        names = []
        with socket.socket(fileno=os.dup(self.queue)) as queue:
            while select.select([queue], [], [], 0)[0]:
                name, ancillary, _, _ = queue.recvmsg(1000, socket.CMSG_LEN(4))
                for _, _, content in ancillary:
                    for descriptor in array("i", content):
                        os.close(descriptor)
                        names.append(name.decode())
        return names

    def end(self) -> None:
        asyncio.run(self.guardian.stop())
        for sock in (*self.sockets, *self.clients):
            sock.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.end()


def test_a_worker_that_serves_is_left_alone(stage: Stage) -> None:
    for _ in range(5):
        stage.connect()
        stage.look()
        stage.clock.now += PATIENCE / 2
        stage.look()
        stage.serve(0)
        stage.clock.now += PATIENCE
    assert stage.taken() == []


def test_what_waits_for_a_worker_without_a_sign_of_life_goes_to_the_others_and_later_ones_do_not_wait(stage: Stage) -> None:
    stage.connect()
    stage.look()
    stage.clock.now += PATIENCE * 0.9
    stage.look()
    assert stage.taken() == []
    stage.clock.now += PATIENCE * 0.2
    stage.look()
    assert stage.taken() == ["web"]
    stage.connect()
    stage.look()
    assert stage.taken() == ["web"]
    # It lives again: its beats move, and it gets its time.
    stage.workers[0].count(BEATS)
    stage.connect()
    stage.look()
    assert stage.taken() == []
    stage.serve(0)
    stage.clock.now += 1.0
    stage.look()
    assert stage.taken() == []


def test_a_dead_worker_has_no_time(stage: Stage) -> None:
    stage.guardian.on_gone(1)
    stage.connect()
    stage.look()
    assert stage.taken() == ["web"]


def test_what_a_paused_worker_cannot_accept_goes_to_the_others_at_once(stage: Stage) -> None:
    for _ in range(4 * DEAF_AFTER):
        stage.workers[0].set_state(PAUSED)
        stage.connect()
        stage.look()
        assert stage.taken() == ["web"]
        stage.workers[0].count(BEATS)
        stage.clock.now += 1.0
    assert stage.deaf == []


def test_if_all_pause_connections_stay_in_the_queue(stage: Stage) -> None:
    for worker in stage.workers:
        worker.set_state(PAUSED)
    stage.connect()
    stage.wait(10.0)
    assert stage.taken() == []
    assert stage.waiting() == [0]


def test_if_nobody_else_accepts_connections_stay_in_the_queue(stage: Stage) -> None:
    stage.workers[1].set_state(PAUSED)
    stage.guardian.on_gone(1)
    stage.connect()
    stage.wait(10.0)
    assert stage.taken() == []
    assert stage.waiting() == [0]


def test_a_worker_that_beats_but_accepts_nothing_is_called_deaf(stage: Stage) -> None:
    for _ in range(2 * DEAF_AFTER):
        stage.connect()
        stage.look()
        stage.workers[0].count(BEATS)
        stage.clock.now += PATIENCE + 0.001
        stage.look()
        assert stage.taken() == ["web"]
        stage.clock.now += 0.2
    assert stage.deaf == [(1, "web")]


def test_one_that_hangs_is_not_called_deaf(stage: Stage) -> None:
    for _ in range(4 * DEAF_AFTER):
        stage.connect()
        stage.wait(0.3)
    assert stage.deaf == []


def test_a_worker_that_accepts_now_and_then_is_not_called_deaf(stage: Stage) -> None:
    for number in range(4 * DEAF_AFTER):
        stage.workers[0].count(BEATS)
        stage.connect()
        stage.look()
        stage.workers[0].count(BEATS)
        if number % 4 == 3:
            stage.serve(0)
        stage.clock.now += PATIENCE + 0.001
        stage.look()
        stage.clock.now += 1.0
    assert stage.deaf == []


def test_a_single_worker_keeps_its_connections_and_is_called_deaf() -> None:
    stage = Stage(workers=1)
    stage.connect()
    for _ in range(10):
        stage.workers[0].count(BEATS)
        stage.clock.now += 0.5
        stage.look()
    assert stage.taken() == []
    assert stage.waiting() == [0]
    assert stage.deaf == [(1, "web")]
    stage.end()


def test_a_socket_that_does_not_listen_yet_is_watched_when_it_does() -> None:
    stage = Stage(listens=False)
    assert not stage.guardian.look([sock.fileno() for sock in stage.sockets])
    stage.listen()
    stage.look()
    stage.connect()
    stage.wait()
    assert stage.taken() == ["web"]
    stage.end()


def test_what_is_no_longer_watched_is_not_touched_and_can_be_closed(stage: Stage) -> None:
    stage.look()
    stage.connect()
    stage.guardian.watch({})
    stage.wait()
    assert stage.taken() == []
    stage.guardian.watch({"other": SocketGroup(stage.sockets[:1])})
    stage.wait()
    assert stage.taken() == ["other"]


def test_a_unix_socket_that_all_workers_share_needs_no_guardian(stage: Stage, tmp_path: Path) -> None:
    with bind_unix("listener u", str(tmp_path / "s")) as shared, socket.socket(socket.AF_UNIX) as client:
        shared.listen()
        stage.guardian.watch({"u": SocketGroup([shared], is_shared=True)})
        client.connect(str(tmp_path / "s"))
        stage.guardian.look([shared.fileno()])
        stage.clock.now += 1.0
        stage.guardian.look([shared.fileno()])
        assert stage.taken() == []


def test_what_cannot_be_handed_over_is_closed_and_counted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise BlockingIOError(11, "full")

    monkeypatch.setattr(module.socket, "send_fds", full)
    stage.connect()
    stage.wait()
    stage.connect()
    stage.wait()
    assert stage.waiting() == [0]  # while the queue is full nothing more is accepted
    stage.end()
    assert stage.guardian.lost == 1
    assert "1 connections could not be handed to another worker" in stage.log.lines[-1]


def test_the_thread_takes_over_by_itself() -> None:
    stage = Stage()
    stage.guardian._clock = time.monotonic
    asyncio.run(stage.guardian.start())
    stage.connect()
    with socket.socket(fileno=os.dup(stage.queue)) as queue:
        assert select.select([queue], [], [], 30)[0]
    assert stage.taken() == ["web"]
    stage.end()
