"""The successor's side of an upgrade, what it inherits, and the command line with which it starts."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.kit.upgrade_sides import FLEET, READY, Old, World, run

from pymosn.server.channel import frame
from pymosn.server.fleet import Fleet
from pymosn.server.messages import Command, Depart, Finish
from pymosn.server.run_options import StartError
from pymosn.server.shutdown import ShutdownSignals
from pymosn.server.upgrade.generations import Generations
from pymosn.server.upgrade.inheritance import VARIABLE, Inheritance, InheritanceError, Owned, inherit
from pymosn.server.upgrade.launching import command_line
from pymosn.server.upgrade.leaving import Leave
from pymosn.server.upgrade.messages import (
    VERSION,
    Carried,
    Complete,
    Estate,
    Held,
    HeldSocket,
    Leaving,
    OlderGeneration,
    Progress,
    Ready,
    Refused,
    Stopping,
    Take,
    Taken,
)
from pymosn.server.upgrade.request import UpgradeRequest
from pymosn.server.upgrade.successor import Succession
from pymosn.server.upgrade.tether import Tether
from pymosn.version import VERSION as PROGRAM


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


@pytest.mark.parametrize("is_known", [True, False], ids=["told", "ended"])
def test_a_shutdown_reaches_all_older_generations(is_known: bool) -> None:
    """Generation 3 leaves; when 4 shuts down or has ended, 3 no longer waits for idle connections, and 2 is told."""

    async def scenario() -> None:
        old = Old()
        old.takeover.finish()
        world = World()
        world.answers(Complete, READY)
        world.answers(Take, Taken())
        await world.run()
        sent: list[Command] = []
        fleet = Departing(sent)
        leave = Leave(fleet, world.upgrade, old.takeover, old.signals, old.log)
        leaving = asyncio.create_task(leave.run(Depart(30.0)))
        await asyncio.sleep(0)
        assert sent == []
        if is_known:
            world.upgrade.on_message(Stopping(), [])
        else:
            world.upgrade.on_exit(0)
        await old.wait_for(Stopping())
        assert sent == [Finish()]
        fleet.done.set()
        await leaving
        old.channel.close()
        await leave.outlast()
        await old.end()

    try:
        run(scenario())
    finally:
        gc.enable()  # a process that leaves does without it


class Departing(Fleet):
    """Workers that have connections until `done`."""

    def __init__(self, sent: list[Command]) -> None:
        self.done = asyncio.Event()
        self.send = sent.append  # type: ignore[method-assign,assignment]

    async def depart(self, command: Depart, descriptors: Sequence[int]) -> bool:
        return await self.done.wait()

    def departing(self) -> dict[str, int]:
        return {"http1": 1}


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
