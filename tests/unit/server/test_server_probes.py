"""Probes: a worker that serves answers, one whose event loop is broken does not. On uvloop, as in a worker."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.timers import TimerWheel
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.network.reject_all import RejectAllFactory
from pymosn.server.probes import ProbeReceiver, ProbeSender
from pymosn.server.sockets import bind_tcp

LIMIT = 9.0


class Stage:
    """Both sides in one process. `now` is the supervisor's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop or asyncio.get_running_loop()
        self.wheel = TimerWheel(Clock())
        self.listeners: list[Listener] = []
        self.receiver = ProbeReceiver(self.loop, self.wheel, lambda: self.listeners)
        self.flushed = True
        self.sent = 0
        self.sender = ProbeSender(self._send, lambda: self.flushed)
        self.now = self.sender.answered = 100.0
        self._tick()

    def _send(self, descriptor: int) -> None:
        self.sent += 1
        self.receiver.serve(os.dup(descriptor))

    def _tick(self) -> None:
        self.loop.call_later(0.002, self._tick)
        self.wheel.clock.tick()
        self.wheel.advance()

    def check(self) -> bool:
        self.now += 1.0
        return self.sender.check(self.now, LIMIT)

    async def settles(self, is_so: Callable[[], bool]) -> bool:
        """Whether it is so before the limit is over, with the time that a test has."""
        for _ in range(200):
            if is_so():
                return True
            await asyncio.sleep(0.01)
            self.sender._read(self.now)
        return False

    async def listener(self) -> Listener:
        metrics = Metrics()
        stats = DownstreamStats(metrics.group("downstream"))
        made = Listener("web", "", RejectAllFactory(stats), stats, ConnectionIds(), self.wheel.clock, self.wheel)
        await made.start(bind_tcp("listener web", "127.0.0.1", 0, 1)[0])
        self.listeners.append(made)
        return made


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


def test_a_worker_that_serves_answers_each_probe() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.listener()
        for _ in range(3):
            assert stage.check()
            assert await stage.settles(lambda: stage.sender.answered == stage.now)
        assert stage.sent == 3
        stage.flushed = False
        stage.check()
        assert stage.sent == 3
        stage.sender.close()

    run(scenario())


def breaks_call_soon(stage: Stage) -> None:
    stage.loop.call_soon = lambda *args, **keywords: None  # type: ignore[assignment, method-assign]


def breaks_create_task(stage: Stage) -> None:
    stage.loop.create_task = lambda work, **keywords: work.close()  # type: ignore[assignment, method-assign]


def stops_the_timers(stage: Stage) -> None:
    stage.wheel = TimerWheel(Clock())


@pytest.mark.parametrize("breaks", [breaks_call_soon, breaks_create_task, stops_the_timers])
def test_a_worker_with_a_broken_loop_is_found_after_the_limit(breaks: Callable[[Stage], None]) -> None:
    with contextlib.closing(uvloop.new_event_loop()) as loop:
        asyncio.set_event_loop(loop)
        rounds: list[bool] = []

        def go_on() -> None:
            stage.sender._read(stage.now)
            rounds.append(stage.check())
            if rounds[-1]:
                loop.call_later(0.02, go_on)
            else:
                loop.stop()

        def begin() -> None:
            breaks(stage)
            go_on()

        stage = Stage(loop)
        loop.call_later(0.0, begin)
        loop.run_forever()
        stage.sender.close()
        vars(loop).clear()
    assert rounds == [True] * int(LIMIT) + [False]
    assert stage.sent == 3


def closes_its_server(listener: Listener) -> None:
    listener._servers[0].close()


def closes_the_descriptor(listener: Listener) -> None:
    os.close(listener._servers[0].sockets[0].fileno())


def shuts_it_down(listener: Listener) -> None:
    listener._sockets[0].shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("breaks", "fault"),
    [
        (closes_its_server, "listener web: its socket was closed"),
        (closes_the_descriptor, "listener web: its socket was closed"),
        (shuts_it_down, "listener web: its socket no longer listens"),
    ],
)
def test_a_listener_that_was_closed_is_named(breaks: Callable[[Listener], None], fault: str) -> None:
    async def scenario() -> None:
        stage = Stage()
        listener = await stage.listener()
        assert stage.check()
        assert await stage.settles(lambda: stage.sender.answered == stage.now)
        breaks(listener)
        assert stage.check()
        assert await stage.settles(lambda: stage.sender.fault == fault)
        stage.now += LIMIT
        assert not stage.check()
        stage.sender.close()

    run(scenario())


def test_a_listener_that_pauses_on_purpose_is_no_fault() -> None:
    async def scenario() -> None:
        stage = Stage()
        listener = await stage.listener()
        listener.set_accepting(False)
        assert stage.check()
        assert await stage.settles(lambda: stage.sender.answered == stage.now)
        stage.sender.close()

    run(scenario())
