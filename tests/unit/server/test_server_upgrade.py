"""Both sides of an upgrade, at every boundary between two messages. The other side, the clock and the process are fakes."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from pymosn.core.clock import Clock
from pymosn.core.log import Log
from pymosn.server.channel import Channel, frame
from pymosn.server.fleet import Fleet
from pymosn.server.run_options import StartError
from pymosn.server.shutdown import ShutdownSignals
from pymosn.server.upgrade.carried import CarriedState, Kind
from pymosn.server.upgrade.generations import Generations
from pymosn.server.upgrade.inheritance import VARIABLE, Inheritance, InheritanceError, Owned, inherit
from pymosn.server.upgrade.launching import Successor, SuccessorReceiver, command_line
from pymosn.server.upgrade.leaving import Leave
from pymosn.server.upgrade.messages import (
    FROM_SUCCESSOR,
    VERSION,
    Carried,
    Complete,
    Estate,
    FromSuccessor,
    Held,
    HeldSocket,
    Leaving,
    OlderGeneration,
    Progress,
    Ready,
    Refused,
    Take,
    Taken,
)
from pymosn.server.upgrade.predecessor import EXIT_TIME, TAKE_TIME, Upgrade
from pymosn.server.upgrade.request import UpgradeRequest, UpgradeResult
from pymosn.server.upgrade.successor import Succession, Takeover
from pymosn.server.upgrade.tether import Tether
from pymosn.version import VERSION as PROGRAM

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


def test_the_successor_gets_everything_and_takes_over() -> None:
    async def scenario() -> None:
        world = World()
        pids: list[int] = []
        world.upgrade.on_taken = pids.append
        end = os.memfd_create("end")

        def is_ready(successor: FakeSuccessor) -> None:
            successor.receiver.on_message(Progress("reads"), [])
            successor.receiver.on_message(READY, [end])

        world.on(Complete, is_ready)
        world.answers(Take, Taken([77]))
        result = await world.run()
        assert world.upgrade.dropped == [77]
        assert result == UpgradeResult(True, ["process 4711 has taken over"], 4711)
        expected = ["Estate", "Held", "Held", "Carried one", "Carried two", "Complete", "Carried two", "Take"]
        assert kinds(world.successors[0]) == expected
        assert world.told == ["process 4711 starts", "reads", "process 4711 is ready"]
        assert world.upgrade.taken.is_set()
        assert world.upgrade.queues.descriptors == [end]
        assert (pids, world.rejections) == ([4711], ["another process has taken over"])
        await world.upgrade.leaving({"http1": 2}, 3.0)
        assert world.successors[0].sent[-2:] == [Carried("two", b"2"), Leaving({"http1": 2}, 3.0)]
        assert (await world.run()).lines == ["another process has already taken over"]
        world.upgrade.close()
        assert not is_open(end)

    run(scenario())


#: What the successor does after it has got a message: exits, closes its end, or sends something else.
def exits(successor: FakeSuccessor) -> None:
    successor.world.exits_when_closed = False
    successor.receiver.on_closed("closed by the peer")
    asyncio.get_running_loop().call_soon(successor.receiver.on_exit, 3)


def is_killed_first(successor: FakeSuccessor) -> None:
    successor.world.exits_when_closed = False
    successor.receiver.on_exit(-9)
    successor.receiver.on_closed("closed by the peer")


def sends_rubbish(successor: FakeSuccessor) -> None:
    successor.receiver.on_closed("invalid message: truncated")


def refuses(successor: FakeSuccessor) -> None:
    successor.receiver.on_message(Refused(["no", "never"], is_config_fault=True), [])


def takes_too_early(successor: FakeSuccessor) -> None:
    successor.receiver.on_message(Taken(), [])


def speaks_another_version(successor: FakeSuccessor) -> None:
    successor.receiver.on_message(Ready(VERSION + 1, "9"), [os.memfd_create("end")])


@pytest.mark.parametrize("boundary", [Estate, Held, Carried, Complete])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (exits, "exit code 3"),
        (is_killed_first, "killed by signal 9"),
        (sends_rubbish, "invalid message"),
        (refuses, "never"),
        (takes_too_early, "unexpected Taken"),
        (speaks_another_version, f"speaks version {VERSION + 1}"),
    ],
)
def test_before_it_is_ready_every_fault_leaves_things_as_they_were(
    boundary: type, fault: Callable[[FakeSuccessor], None], words: str
) -> None:
    async def scenario() -> None:
        world = World()
        world.on(boundary, fault)
        result = await world.run()
        assert not result.done
        assert words in " ".join(result.lines)
        assert result.is_config_fault == (fault is refuses)
        world.assert_as_before()
        # The next one is not affected.
        world.actions.clear()
        world.exits_when_closed = True
        world.answers(Complete, READY)
        world.answers(Take, Taken())
        assert (await world.run()).done

    run(scenario())


@pytest.mark.parametrize("fault", [exits, is_killed_first, sends_rubbish, refuses])
def test_a_fault_after_take_is_survived_too(fault: Callable[[FakeSuccessor], None]) -> None:
    async def scenario() -> None:
        world = World()
        end = os.memfd_create("end")
        world.answers(Complete, READY, [end])
        world.on(Take, fault)
        assert not (await world.run()).done
        world.assert_as_before()
        assert world.successors[0].is_killed  # it might believe that it has taken over
        assert not is_open(end)

    run(scenario())


def test_a_successor_that_is_not_ready_in_time_is_ended() -> None:
    async def scenario() -> None:
        world = World()
        world.exits_when_closed = False  # it is stopped
        loop = asyncio.get_running_loop()
        world.on(Complete, lambda successor: loop.call_soon(world.expire, 7.0))
        work = asyncio.create_task(world.run(UpgradeRequest("test", seconds=7.0)))
        while not (world.successors and world.successors[0].is_closed):
            await asyncio.sleep(0)
        assert not work.done()  # it still lives
        world.expire(EXIT_TIME)
        result = await work
        assert result.lines == ["the new process is not ready within 7 s"]
        assert world.successors[0].is_killed
        assert world.has_ended_family
        world.assert_as_before()

    run(scenario())


def test_a_successor_that_does_not_take_over_in_time_is_killed() -> None:
    async def scenario() -> None:
        world = World()
        world.exits_when_closed = False
        world.answers(Complete, READY)
        world.on(Take, lambda successor: world.expire(TAKE_TIME))
        result = await world.run()
        assert result.lines == [f"the new process has not taken over within {TAKE_TIME:g} s"]
        assert world.successors[0].is_killed
        world.assert_as_before()

    run(scenario())


def test_a_process_that_cannot_be_started() -> None:
    async def scenario() -> None:
        world = World()
        world.spawn_error = FileNotFoundError(2, "No such file or directory", "/new/pymosn")
        result = await world.run()
        assert not result.done
        assert result.lines == ["the new process cannot be started: /new/pymosn: No such file or directory"]
        world.assert_as_before()

    run(scenario())


def test_of_two_upgrades_at_once_the_second_is_refused() -> None:
    async def scenario() -> None:
        world = World()
        work = asyncio.create_task(world.run())
        while not world.successors:
            await asyncio.sleep(0)
        assert (await world.run()).lines == ["another upgrade is in progress"]
        world.successors[0].receiver.on_message(READY, [])
        world.answers(Take, Taken())
        assert (await work).done

    run(scenario())


def test_an_upgrade_waits_for_a_change_in_progress() -> None:
    async def scenario() -> None:
        world = World()
        world.answers(Complete, READY)
        world.answers(Take, Taken())
        async with world.lock:
            work = asyncio.create_task(world.run())
            await asyncio.sleep(0)
            assert world.upgrade.state == "waiting"
            assert world.successors == []
        assert (await work).done

    run(scenario())


def test_a_refusal_has_a_reason() -> None:
    async def scenario() -> None:
        world = World()
        world.upgrade.refusal = lambda: "not now"
        assert (await world.run()).lines == ["not now"]
        assert world.successors == []

    run(scenario())


def test_a_shutdown_ends_an_upgrade_that_is_starting_and_waits_for_one_that_takes_over() -> None:
    async def scenario() -> None:
        world = World()
        await world.upgrade.settle("nothing to do")
        work = asyncio.create_task(world.run())
        while not world.successors:
            await asyncio.sleep(0)
        await world.upgrade.settle("the process is shutting down")
        assert (await work).lines == ["the process is shutting down"]
        world.assert_as_before()

        world = World()
        world.answers(Complete, READY)
        work = asyncio.create_task(world.run())
        while world.upgrade.state != "taking":
            await asyncio.sleep(0)
        settling = asyncio.create_task(world.upgrade.settle("the process is shutting down"))
        await asyncio.sleep(0)
        assert not settling.done()
        world.successors[0].receiver.on_message(Taken(), [])
        await settling
        assert world.upgrade.has_left
        assert (await work).done

        world = World()
        async with world.lock:
            work = asyncio.create_task(world.run())
            await asyncio.sleep(0)
            await world.upgrade.settle("the process is shutting down")
        assert (await work).lines == ["the process is shutting down"]
        assert world.successors == []

    run(scenario())


def test_the_end_of_the_successor_after_it_has_taken_over_is_reported() -> None:
    async def scenario() -> None:
        world = World()
        codes: list[int] = []
        world.upgrade.on_successor_gone = codes.append
        world.answers(Complete, READY)
        world.answers(Take, Taken())
        await world.run()
        world.successors[0].receiver.on_closed("closed by the peer")
        world.successors[0].receiver.on_exit(5)
        assert codes == [5]

    run(scenario())


# ---- the successor


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


def test_it_takes_over_when_it_may() -> None:
    async def scenario() -> None:
        old = Old()
        spare = socket.create_server(("127.0.0.1", 0))
        old.inheritance.put_back([Owned(HeldSocket("listener", "gone"), spare)])
        dropped = [os.fstat(spare.fileno()).st_ino]
        took: list[bool] = []
        old.takeover.on_taken = lambda: took.append(True)
        old.takeover.listener_keys = lambda: {"l": "key"}
        old.takeover.tell("reads")
        starting = asyncio.create_task(old.takeover.start())
        await old.wait_for(msgspec.structs.replace(old_ready(), listeners={"l": "key"}))
        assert old.got[0] == Progress("reads")
        assert len(old.descriptors) == 2
        assert not starting.done()
        old.channel.send(Carried("known", b"1"))
        old.channel.send(Carried("unknown", b"2"))
        old.channel.send(Take())
        await starting
        assert (old.adopted, took) == ([b"1"], [])
        await Succession(old.takeover).start()
        await old.wait_for(Taken(dropped))
        assert spare.fileno() == -1
        assert took == [True]
        old.channel.send(Leaving({"http1": 1}, 2.0))
        while old.takeover.leaving != Leaving({"http1": 1}, 2.0):
            await asyncio.sleep(0)
        old.channel.close()
        while old.takeover.leaving is not None:
            await asyncio.sleep(0)
        assert not old.signals.requested.is_set()  # it goes on alone
        await old.end()

    run(scenario())


def old_ready() -> Ready:
    return Ready(VERSION, PROGRAM)


@pytest.mark.parametrize("moment", ["before it is ready", "when it is ready", "when it may take over"])
def test_it_ends_with_its_predecessor_until_it_has_taken_over(moment: str) -> None:
    async def scenario() -> None:
        old = Old()
        if moment == "before it is ready":
            old.channel.close()
            await old.signals.requested.wait()
            with pytest.raises(StartError):
                await old.takeover.start()
        else:
            starting = asyncio.create_task(old.takeover.start())
            await old.wait_for(old_ready())
            if moment == "when it may take over":
                old.channel.send(Take())
                await starting
            old.channel.close()
            await old.signals.requested.wait()
            if moment == "when it is ready":
                with pytest.raises(StartError, match="cannot start"):
                    await starting
            else:
                with pytest.raises(StartError):
                    await Succession(old.takeover).start()
        assert not old.takeover.has_taken
        await old.end()

    run(scenario())


def test_all_older_generations_are_shown_and_passed_on_until_they_have_gone() -> None:
    """Generation 3 has taken over from 2, which has told it of 1; then 4 takes over from it."""
    first = OlderGeneration(1, 11, "0.9", 1.0, 4, {"websocket": 2}, 9.0)
    second = OlderGeneration(2, 22, "1.0", 2.0, 5, {"http1": 1}, 20.0)

    async def scenario() -> None:
        old = Old(Estate(VERSION, "1.0", 3, 11, pid=22, started=2.0, workers=5))
        generations = Generations(old.inheritance, lambda: 1)
        generations.takeover = old.takeover
        old.takeover.finish()
        old.channel.send(Leaving({"http1": 1}, 20.0, [first]))
        world = World()
        world.answers(Complete, READY)
        world.answers(Take, Taken())
        await world.run()
        leave = Leave(FLEET, world.upgrade, old.takeover, old.signals, old.log)
        old.takeover.outlasts = True
        await old.takeover.stop()
        while len(old.takeover.older()) < 2:
            await asyncio.sleep(0)
        shown = [(each["generation"], each["state"], each.get("connections")) for each in generations.view()["generations"]]
        assert shown == [(1, "leaving", {"websocket": 2}), (2, "leaving", {"http1": 1}), (3, "serving", None)]
        waiting = asyncio.create_task(leave.outlast())
        passed_on = Leaving({}, 0.0, [first, second])
        while passed_on not in world.successors[0].sent:
            await asyncio.sleep(0)
        assert not waiting.done()
        old.channel.close()
        await waiting
        assert [each["generation"] for each in generations.view()["generations"]] == [3]
        await old.end()

    run(scenario())


def test_a_request_to_stop_now_ends_the_wait_for_older_generations() -> None:
    async def scenario() -> None:
        old = Old()
        old.takeover.finish()
        waiting = asyncio.create_task(Leave(FLEET, World().upgrade, old.takeover, old.signals, old.log).outlast())
        await asyncio.sleep(0)
        old.signals.request_stop()
        await waiting
        await old.end()

    run(scenario())


@pytest.mark.parametrize(
    ("requests", "expected"),
    [("", []), ("drain", [signal.SIGTERM]), ("drain drain", [signal.SIGINT]), ("stop", [signal.SIGINT])],
)
def test_a_shutdown_in_the_moment_of_a_takeover_is_passed_on_once(requests: str, expected: list[signal.Signals]) -> None:
    async def scenario() -> None:
        forwarded: list[signal.Signals] = []
        tether = Tether(os.getpid())
        signals = ShutdownSignals(asyncio.get_running_loop(), tether)
        for each in requests.split():
            signals.request_drain() if each == "drain" else signals.request_stop()
        signals.pass_on(forwarded.append)
        assert forwarded == expected

    run(scenario())


def test_a_signal_ends_it_while_it_waits() -> None:
    async def scenario() -> None:
        old = Old()
        starting = asyncio.create_task(old.takeover.start())
        await old.wait_for(old_ready())
        old.signals.request_stop()
        with pytest.raises(StartError) as caught:
            await starting
        assert "a signal has stopped this process" in caught.value.lines[0]
        await old.end()

    run(scenario())


# ---- what it inherits


def environment(*messages: object, rest: bytes = b"", closes: bool = True) -> tuple[dict[str, str], socket.socket]:
    """An environment with a channel on which these messages have arrived, and the other end."""
    ours, theirs = socket.socketpair()
    for message in messages:
        count = len(message.sockets) if isinstance(message, Held) else 0
        if count:
            with socket.socket() as sock:
                socket.send_fds(ours, [frame(message, count)], [sock.fileno()] * count)
        else:
            ours.sendall(frame(message))
    ours.sendall(rest)
    if closes:
        ours.shutdown(socket.SHUT_WR)
    return {VARIABLE: str(theirs.detach()), "OTHER": "1"}, ours


ESTATE = Estate(VERSION, "1.0", 2, 1)
HELD = Held([HeldSocket("listener", "a", address="1.2.3.4:1", index=1), HeldSocket("listener", "a", address="1.2.3.4:1")])


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_it_reads_everything() -> None:
    variables, ours = environment(ESTATE, HELD, Carried("k", b"c"), Complete(), closes=False)
    found = inherit(variables)
    assert found is not None
    assert variables == {"OTHER": "1"}
    assert (found.estate, found.state("k"), found.state("other")) == (ESTATE, b"c", None)
    assert found.has_address("tcp", "1.2.3.4:1")
    assert found.take("admin", "tcp", "1.2.3.4:1") == []
    taken = found.take("listener", "tcp", "1.2.3.4:1")
    assert [each.held.index for each in taken] == [0, 1]
    found.put_back(taken[1:])
    assert len(found.take("listener", "tcp", "1.2.3.4:1")) == 1
    found.refuse(["no"])
    assert ours.recv(1000) == frame(Refused(["no"]))
    for each in taken:
        each.sock.close()
    ours.close()


def test_without_the_variable_it_is_a_start_of_its_own() -> None:
    assert inherit({}) is None


@pytest.mark.parametrize(
    ("messages", "rest", "words"),
    [
        ((), b"", "closed by the peer"),
        ((ESTATE,), b"", "closed by the peer"),
        ((ESTATE, HELD), b"", "closed by the peer"),
        ((ESTATE, HELD, Carried("k", b"c")), b"", "closed by the peer"),
        ((ESTATE, HELD), b"\0\0\0\5\0abcde", "invalid message"),
        ((ESTATE,), b"\xff\xff\xff\xff\0", "too large"),
        ((ESTATE,), frame(Held([]), 3), "without its descriptors"),
        ((ESTATE, Take()), b"", "unexpected Take"),
        ((HELD, Complete()), b"", "first message is missing"),
        ((msgspec.structs.replace(ESTATE, version=VERSION + 1), Complete()), b"", f"version {VERSION + 1}"),
        ((msgspec.structs.replace(ESTATE, version=0), Complete()), b"", "version 0"),
    ],
)
def test_a_predecessor_that_ends_or_sends_rubbish(messages: Sequence[object], rest: bytes, words: str) -> None:
    before = open_descriptors()
    variables, ours = environment(*messages, rest=rest)
    with pytest.raises(InheritanceError, match=words):
        inherit(variables)
    assert b"Refused" in ours.recv(10000)
    ours.close()
    assert open_descriptors() == before


@pytest.mark.parametrize("text", ["", "x", "-1", "1", "99999"])
def test_a_variable_that_names_no_socket(text: str) -> None:
    with pytest.raises(InheritanceError, match="names no socket"):
        inherit({VARIABLE: text})


def test_files_of_spare_sockets_are_removed_unless_they_are_others(tmp_path: Any) -> None:
    paths = [tmp_path / "ours", tmp_path / "replaced"]
    owned = []
    for path in paths:
        path.touch()
        found = path.stat()
        held = HeldSocket("listener", "u", "unix", str(path), inode=(found.st_dev, found.st_ino))
        owned.append(Owned(held, socket.socket()))
    other = tmp_path / "other"
    other.touch()
    other.rename(paths[1])
    inheritance = Inheritance(socket.socket(), ESTATE, owned)
    inheritance.close_spare()
    assert [path.exists() for path in paths] == [False, True]
    late = Owned(owned[0].held, socket.socket())
    inheritance.put_back([late])
    assert late.sock.fileno() == -1
    inheritance.sock.close()


def test_a_unix_socket_whose_file_is_gone_is_not_taken(tmp_path: Any) -> None:
    """Nobody could connect to it; and only the service manager can make the file of one of its own again."""
    (tmp_path / "there").touch()
    owned = [
        Owned(HeldSocket("listener", "u", "unix", str(tmp_path / "there")), socket.socket()),
        Owned(HeldSocket("listener", "u", "unix", str(tmp_path / "gone")), socket.socket()),
        Owned(HeldSocket("listener", "u", "unix", str(tmp_path / "kept"), is_kept=True), socket.socket()),
    ]
    inheritance = Inheritance(socket.socket(), ESTATE, owned)
    taken = {path: inheritance.take("listener", "unix", str(tmp_path / path)) for path in ("there", "gone", "kept")}
    assert taken == {"there": [owned[0]], "gone": [], "kept": [owned[2]]}
    inheritance.close_spare()
    for each in owned:
        each.sock.close()
    inheritance.sock.close()


# ---- the command


@pytest.mark.parametrize(
    ("request_", "original", "argv", "expected"),
    [
        (UpgradeRequest("t"), ["python", "-I", "pymosn", "start", "-c", "f"], ["pymosn", "start", "-c", "f"], None),
        (
            UpgradeRequest("t", workers=3),
            ["python", "pymosn", "start", "--workers", "2", "-c", "f"],
            ["pymosn", "start", "--workers", "2", "-c", "f"],
            ["/py", "pymosn", "start", "-c", "f", "--workers", "3"],
        ),
        (
            UpgradeRequest("t", command=("/new/pymosn", "-v")),
            ["python", "-m", "pymosn", "start"],
            ["/lib/pymosn/__main__.py", "start"],
            ["/new/pymosn", "-v", "start"],
        ),
        (
            UpgradeRequest("t", workers=1),
            ["python", "pymosn-envoy", "-c", "f", "--concurrency=2"],
            ["pymosn-envoy", "envoy", "-c", "f", "--concurrency=2"],
            ["/py", "pymosn-envoy", "-c", "f", "--concurrency", "1"],
        ),
        (
            UpgradeRequest("t", command=("/new/pymosn",)),
            ["python", "pymosn-envoy", "-c", "f"],
            ["pymosn-envoy", "envoy", "-c", "f"],
            ["/new/pymosn", "envoy", "-c", "f"],
        ),
    ],
)
def test_the_command_line(
    request_: UpgradeRequest, original: list[str], argv: list[str], expected: list[str] | None
) -> None:
    assert command_line(request_, original, argv, "/py") == (expected or ["/py", *original[1:]])
