"""When a worker stops accepting, and how it starts again: with acceptors of the test, and on real sockets."""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable

import pytest
from test_network_sockets import Answer, Ear, Ears, Place, run
from tests.kit import FakeClock, Lines

from pymosn.api.network import plain_peer
from pymosn.core.failure import CLOSED_LOCALLY, NO_DESCRIPTORS
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import Acceptor, Admission, free_descriptor
from pymosn.network.dialer import TcpDialer
from pymosn.network.listener import ConnectionIds


class Door(Acceptor):
    def __init__(self) -> None:
        super().__init__()
        self.states: list[bool] = []

    def set_accepting(self, accepting: bool) -> None:
        self.states.append(accepting)


class Desk:
    def __init__(self, probe: Callable[[int], int] | None = None) -> None:
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.log = Lines()
        self.admission = Admission(self.wheel, self.log, probe)
        self.doors = [Door(), Door()]
        for door in self.doors:
            self.admission.add(door)

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.clock.now += 0.05
            self.wheel.advance()


def test_a_high_descriptor_pauses_every_listener_until_a_low_one_is_free() -> None:
    desk = Desk()
    ceiling = free_descriptor()
    desk.admission.descriptor_ceiling = ceiling
    desk.admission.on_descriptor(ceiling - 1)
    assert desk.admission.is_accepting
    desk.admission.on_descriptor(ceiling)
    desk.admission.on_descriptor(ceiling + 1)
    assert [door.states for door in desk.doors] == [[False], [False]]
    desk.passes(3.0)
    assert [door.states for door in desk.doors] == [[False], [False]], "none below the ceiling is free"
    assert 3 <= len(desk.log.lines) <= 4, "one line a second"
    desk.admission.descriptor_ceiling = free_descriptor(len(desk.doors))
    desk.passes(1.0)
    assert [door.states for door in desk.doors] == [[False], [False]], "these are for the listeners"
    desk.admission.descriptor_ceiling = free_descriptor(len(desk.doors) + 1) + 1
    desk.passes(0.2)
    assert [door.states for door in desk.doors] == [[False, True], [False, True]]
    assert desk.admission.pauses.value == 1
    assert len(desk.wheel) == 0


def test_frequent_pauses_are_logged_once_a_second() -> None:
    desk = Desk()
    desk.admission.descriptor_ceiling = 1 << 30
    for _ in range(50):
        desk.admission.on_descriptor(1 << 30)
        desk.passes(0.2)
    assert desk.admission.pauses.value == 50
    assert 5 <= len(desk.log.lines) <= 11


def test_memory_and_descriptors_are_two_reasons() -> None:
    desk = Desk()
    desk.admission.descriptor_ceiling = 1 << 30
    desk.admission.set_memory(False)
    desk.admission.on_shortage()
    desk.passes(0.3)
    assert [door.states for door in desk.doors] == [[False], [False]]
    late = Door()
    desk.admission.add(late)
    assert late.states == [False]
    desk.admission.remove(desk.doors[1])
    desk.admission.remove(desk.doors[1])
    desk.admission.set_memory(True)
    desk.admission.set_memory(True)
    assert [door.states for door in (*desk.doors, late)] == [[False, True], [False], [False, True]]


@pytest.mark.parametrize("ceiling", [0, 100])
@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_kernel_that_gives_no_socket(error: int, ceiling: int) -> None:
    """No accept fails for it: a check each second finds it, and ten checks a second find its end."""
    answer = [7]
    desk = Desk(lambda count: answer[0])
    desk.admission.descriptor_ceiling = ceiling
    desk.admission.check()
    assert desk.admission.is_accepting
    answer[0] = -error
    desk.admission.check()
    desk.admission.check()
    assert [door.states for door in desk.doors] == [[False], [False]]
    desk.passes(2.0)
    assert [door.states for door in desk.doors] == [[False], [False]]
    assert all(line.startswith(f"{os.strerror(error)}: pausing accept (1 times") for line in desk.log.lines)
    assert 2 <= len(desk.log.lines) <= 4
    answer[0] = 7
    desk.passes(0.2)
    assert [door.states for door in desk.doors] == [[False, True], [False, True]]
    assert len(desk.wheel) == 0


def test_errors_of_accept() -> None:
    number = free_descriptor()
    assert number > 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        assert free_descriptor() == free_descriptor(2) == -errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert free_descriptor() == number


@pytest.mark.parametrize("then", ["resume", "stop"])
def test_peers_wait_in_the_kernels_queue(then: str) -> None:
    async def test() -> None:
        ears = Ears()
        place = Place(ears)
        await place.listener.start(place.socket)
        place.listener.set_accepting(False)
        await asyncio.sleep(0)
        waiting = [socket.create_connection(("127.0.0.1", place.port)) for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert place.listener.connection_count == 0
        if then == "resume":
            for accepting in (True, False, True, True):
                place.listener.set_accepting(accepting)
        else:
            place.listener.stop_accepting()
            place.listener.set_accepting(True)
        while place.listener.connection_count < 3:
            await asyncio.sleep(0)
        place.listener.stop_accepting()
        for peer in waiting:
            peer.close()
        for ear in ears.made:
            await ear.heard.wait()
            ear.connection.close(CLOSED_LOCALLY)
            await ear.closed.wait()

    run(test)


def test_a_dial_without_a_descriptor_pauses_accepting() -> None:
    async def test() -> None:
        desk = Desk()
        place = Place(Ears())
        dialer = TcpDialer(ConnectionIds(), desk.clock, desk.wheel, desk.admission)
        answer = Answer()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(free_descriptor()), hard))
        try:
            dialer.dial(plain_peer(place.address), 5.0, Ear(), answer)
            failure = await answer.result
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert failure is NO_DESCRIPTORS
        assert "Too many open files" in answer.detail
        assert [door.states for door in desk.doors] == [[False], [False]]
        desk.passes(0.3)
        assert [door.states for door in desk.doors] == [[False, True], [False, True]]
        place.socket.close()

    run(test)
