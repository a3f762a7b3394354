"""The two sides of an upgrade in one process, each with a fake of the other one, of the clock and of the process."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pymosn.core.clock import Clock
from pymosn.core.log import Log
from pymosn.server.channel import Channel
from pymosn.server.fleet import Fleet
from pymosn.server.shutdown import ShutdownSignals
from pymosn.server.upgrade.carried import CarriedState, Kind
from pymosn.server.upgrade.inheritance import Inheritance
from pymosn.server.upgrade.launching import Successor, SuccessorReceiver
from pymosn.server.upgrade.messages import (
    FROM_SUCCESSOR,
    VERSION,
    Carried,
    Estate,
    FromSuccessor,
    HeldSocket,
    Ready,
)
from pymosn.server.upgrade.predecessor import Upgrade
from pymosn.server.upgrade.request import UpgradeRequest, UpgradeResult
from pymosn.server.upgrade.successor import Takeover
from pymosn.server.upgrade.tether import Tether

READY = Ready(VERSION, "1.0")
#: Of one that has no workers left.
FLEET = Fleet(
    1, lambda worker_id, receiver: pytest.fail("starts nothing"), lambda worker_id: [], lambda *call: None, Clock(), Log()
)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def is_open(descriptor: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{descriptor}")


class FakeTimer:
    def __init__(self, seconds: float, call: Callable[[], object]) -> None:
        self.seconds = seconds
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeSuccessor(Successor):
    """Answers each message with what the test has planned for it."""

    pid = 4711

    def __init__(self, world: "World", receiver: SuccessorReceiver) -> None:
        self.world = world
        self.receiver = receiver
        self.sent: list[object] = []
        self.is_closed = self.is_killed = False

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        assert not self.is_closed
        self.sent.append(message)
        action = self.world.actions.get(type(message))
        if action is not None:
            asyncio.get_running_loop().call_soon(action, self)

    def is_flushed(self) -> bool:
        return True

    def close(self) -> None:
        self.is_closed = True
        if self.world.exits_when_closed:
            asyncio.get_running_loop().call_soon(self.receiver.on_exit, 0)

    def kill(self) -> None:
        self.is_killed = True
        asyncio.get_running_loop().call_soon(self.receiver.on_exit, -9)

    def end_family(self) -> None:
        self.world.has_ended_family = True


class World:
    """A predecessor whose successor is a fake."""

    def __init__(self) -> None:
        self.actions: dict[type, Callable[[FakeSuccessor], object]] = {}
        self.exits_when_closed = True
        self.has_ended_family = False
        self.spawn_error: OSError | None = None
        self.successors: list[FakeSuccessor] = []
        self.timers: list[FakeTimer] = []
        self.told: list[str] = []
        self.rejections: list[str] = []
        self.lock = asyncio.Lock()
        self.log = Log()
        self.state = CarriedState(self.log)
        self.state.add(Kind("one", lambda: b"1", lambda content: None))
        self.state.add(Kind("two", lambda: b"2", lambda content: None, is_final=True, is_repeated=True))
        self.upgrade = Upgrade(
            self._spawn,
            self,
            lambda request: Estate(VERSION, "1.0", 2, 1, keeps_config=request.keeps_config),
            lambda: [(HeldSocket("listener", f"l{i}"), 0) for i in range(250)],
            self.state,
            self._call_later,
            self.log,
        )

    def _spawn(self, request: UpgradeRequest, receiver: SuccessorReceiver) -> Successor:
        if self.spawn_error is not None:
            raise self.spawn_error
        self.successors.append(FakeSuccessor(self, receiver))
        return self.successors[-1]

    def _call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> Any:
        self.timers.append(FakeTimer(seconds, lambda: call(*arguments)))
        return self.timers[-1]

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        async with self.lock:
            yield

    def reject_all(self, reason: str = "") -> None:
        self.rejections.append(reason)

    def on(self, message: type, action: Callable[[FakeSuccessor], object]) -> None:
        self.actions[message] = action

    def answers(self, message: type, answer: FromSuccessor, descriptors: Sequence[int] = ()) -> None:
        self.on(message, lambda successor: successor.receiver.on_message(answer, list(descriptors)))

    def expire(self, seconds: float) -> None:
        """The timers of this length fire."""
        found = [timer for timer in self.timers if timer.seconds == seconds and not timer.is_cancelled]
        assert found
        for timer in found:
            timer.call()

    async def run(self, request: UpgradeRequest | None = None) -> UpgradeResult:
        return await self.upgrade.run(request or UpgradeRequest("test"), self.told.append)

    def assert_as_before(self) -> None:
        """The failed upgrade has left nothing."""
        assert self.upgrade.state == "idle"
        assert not self.upgrade.has_left
        assert not self.upgrade.taken.is_set()
        assert self.upgrade.successor is None
        assert self.upgrade.queues.descriptors == []
        assert self.rejections == []
        assert not self.lock.locked()
        assert all(successor.is_closed for successor in self.successors)
        assert all(timer.is_cancelled for timer in self.timers)


def kinds(successor: FakeSuccessor) -> list[str]:
    return [f"{type(m).__name__}{f' {m.kind}' if isinstance(m, Carried) else ''}" for m in successor.sent]


class Old:
    """The predecessor's end of a real channel."""

    def __init__(self, estate: Estate = Estate(VERSION, "1.0", 2, 1)) -> None:  # noqa: B008 -- it is frozen
        self.sock, theirs = socket.socketpair()
        self.inheritance = Inheritance(theirs, estate)
        self.log = Log()
        self.adopted: list[bytes] = []
        carried = CarriedState(self.log)
        carried.add(Kind("known", lambda: None, self.adopted.append))
        loop = asyncio.get_running_loop()
        self.signals = ShutdownSignals(loop, Tether(os.getpid()))
        self.takeover = Takeover(self.inheritance, 2, carried, self.signals, loop, self.log)
        self.got: list[FromSuccessor] = []
        self.descriptors: list[int] = []
        self._news = asyncio.Event()
        self.channel: Channel[FromSuccessor] = Channel(
            loop, self.sock, FROM_SUCCESSOR, self._on_message, lambda reason: None
        )

    def _on_message(self, message: FromSuccessor, descriptors: list[int]) -> None:
        self.got.append(message)
        self.descriptors += descriptors
        self._news.set()

    async def wait_for(self, message: FromSuccessor) -> None:
        while message not in self.got:
            self._news.clear()
            await self._news.wait()

    async def end(self) -> None:
        self.channel.close()
        await self.takeover.stop()
        self.inheritance.sock.close()
        for descriptor in self.descriptors:
            os.close(descriptor)
