"""Issue 17, shows 1 and 5: upgrades under load fail no request of any kind of client, and leave nothing behind."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from process_fixtures import Start
from process_tree import Process, descriptors, files_below, kinds
from pymosn_process import PATIENCE, READY
from showing import mib, run, sized, tell
from tests.load.tally import Tally
from tests.load.upgrade_world import World
from upgrading import ClientProcess, Upgrader, asked, check, lines

#: Seconds until what outlives an upgrade is cut.
GRACEFUL: Final = 3.0
#: Numbers of workers, in turn. The last one is that of the start.
WORKERS: Final = (3, 1, 4, 2)
#: Bytes that all processes together may have more than after the first upgrade.
GROWTH: Final = 6 << 20
#: Kinds of clients that use a generation before it is measured.
FEW: Final = ["keep-alive", "tls", "h2", "bolt", "grpc"]


@asynccontextmanager
async def running(start: Start, folder: Path) -> AsyncIterator[Upgrader]:
    """The program with all listeners and their upstreams, temporary files in a folder of its own."""
    (folder / "tmp").mkdir()
    async with World(folder, GRACEFUL) as world:
        proxy = start(world.config, "--workers", str(WORKERS[-1]), TMPDIR=str(folder / "tmp"))
        await asyncio.to_thread(proxy.wait_for, READY)
        upgrader = Upgrader(proxy, world, folder / "conf" / "mosn.json", f"TMPDIR={folder}/tmp")
        try:
            yield upgrader
        finally:
            upgrader.end()


async def ends(upgrader: Upgrader, folder: Path) -> None:
    """SIGTERM to the process that was started first ends all of them, and leaves no file."""
    upgrader.proxy.send(signal.SIGTERM)
    assert await asyncio.to_thread(upgrader.proxy.exit_code) == 0, upgrader.proxy.output
    assert upgrader.processes() == []
    assert files_below(folder) == {str(folder / "conf" / "mosn.json")}


@sized("upgrades", 3, 50)
def test_no_client_notices(start: Start, tmp_path: Path, upgrades: int) -> None:
    async def scenario() -> None:
        async with running(start, tmp_path) as upgrader:
            timeline = upgrader.timeline
            before = upgrader.processes()
            files = files_below(tmp_path)
            async with ClientProcess(upgrader.world) as clients:
                try:
                    await upgrade_often(upgrader, upgrades)
                finally:
                    timeline.note("the clients stop")
                    tallies = await clients.stop()
                    print("\n".join(lines(tallies, timeline, GRACEFUL)))
            tell_of(upgrader, tallies)
            check(tallies, timeline, GRACEFUL)
            assert await counters(upgrader, tallies) == asked(tallies, upgrader.timeline, upgrader.world)
            after = upgrader.processes()
            assert kinds(after) == sorted([*kinds(before), "keeper"]), after
            assert files_below(tmp_path) == files
            await ends(upgrader, tmp_path)

    run(scenario())


async def upgrade_often(upgrader: Upgrader, upgrades: int) -> None:
    """So many upgrades; in turn the next one begins while the last generation but one drains, and when it has ended."""
    for number in range(upgrades):
        is_last = number == upgrades - 1
        await upgrader.upgrade(WORKERS[-1] if is_last else WORKERS[number % len(WORKERS)])
        if number % 2 or is_last:
            await upgrader.only_one_is_left()


def tell_of(upgrader: Upgrader, tallies: list[Tally]) -> None:
    """Prints the figures of upgrades under load."""
    tell(
        f"{len(upgrader.times)} upgrades under load",
        ok=sum(tally.ok for tally in tallies),
        failed=sum(tally.failed for tally in tallies),
        cut=sum(len(tally.cuts) for tally in tallies),
        slowest=f"{max(upgrader.times):.2f} s",
    )


async def counters(upgrader: Upgrader, tallies: list[Tally]) -> dict[str, int]:
    """The counters of the listeners, once they are what the clients have counted, or at last."""
    deadline = time.monotonic() + 5
    while (found := await upgrader.counted()) != asked(
        tallies, upgrader.timeline, upgrader.world
    ) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)  # workers report once a second
    return found


@sized("upgrades", 3, 50)
def test_memory_and_descriptors(start: Start, tmp_path: Path, upgrades: int) -> None:
    async def scenario() -> None:
        async with running(start, tmp_path) as upgrader:
            # SIGUSR2 comes first, which keeps the number of workers. Then there are as many sockets as there will ever be.
            for workers in (2, max(WORKERS), 2):
                await upgrader.upgrade(workers)
            first = await used(upgrader, {})
            files = files_below(tmp_path)
            for number in range(1, upgrades):
                await upgrader.upgrade(WORKERS[number % len(WORKERS)] if number < upgrades - 2 else 2)
            last = await used(upgrader, descriptors(first))
            sizes = [sum(process.pss for process in found) for found in (first, last)]
            tell(
                f"generation {upgrader.generation}",
                memory=mib(sizes[1]),
                of_the_fourth=mib(sizes[0]),
                descriptors=descriptors(last),
                of_the_fourth_=descriptors(first),
            )
            assert kinds(last) == kinds(first)
            assert files_below(tmp_path) == files
            assert all(count <= descriptors(first)[kind] for kind, count in descriptors(last).items()), (first, last)
            assert sizes[1] < sizes[0] + GROWTH
            await ends(upgrader, tmp_path)

    run(scenario())


async def used(upgrader: Upgrader, expected: dict[str, int]) -> list[Process]:
    """All processes after a few requests, when they have no more descriptors than `expected`, or have had time enough."""
    await upgrader.only_one_is_left()
    async with ClientProcess(upgrader.world, FEW) as clients:
        tallies = await clients.stop()
    check(tallies, upgrader.timeline, GRACEFUL)
    deadline = time.monotonic() + PATIENCE
    while True:
        is_idle = await upgrader.connections() == 0
        found = upgrader.processes()
        if is_idle and all(count <= expected.get(kind, count) for kind, count in descriptors(found).items()):
            return found
        assert is_idle or time.monotonic() < deadline, f"{await upgrader.connections()} connections are left"
        if time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.2)
