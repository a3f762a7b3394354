"""The predecessor's side of an upgrade, at every boundary between two messages. The other side is a fake."""

import asyncio
import os
from collections.abc import Callable

import pytest
from tests.kit.upgrade_sides import READY, FakeSuccessor, World, is_open, kinds, run

from pymosn.server.upgrade.messages import (
    VERSION,
    Carried,
    Complete,
    Estate,
    Held,
    Leaving,
    Progress,
    Ready,
    Refused,
    Take,
    Taken,
)
from pymosn.server.upgrade.predecessor import EXIT_TIME, TAKE_TIME
from pymosn.server.upgrade.request import UpgradeRequest, UpgradeResult


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
