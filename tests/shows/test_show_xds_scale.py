"""Issue 16, show 5: 30,000 routes, 10,000 clusters, 100,000 endpoints from a control plane; what one change costs."""

import asyncio
import statistics
from pathlib import Path
from typing import Final

from process_fixtures import Start
from showing import run, sized, tell
from xds_scale import Size, World, memory

#: Milliseconds from the push of one endpoint until all workers serve it.
ENDPOINT_TIME: Final = 50.0
#: Milliseconds by which the longest request may exceed that of an idle instance.
ALLOWANCE: Final = 20.0
#: Milliseconds of CPU time of the longest iteration of a worker's event loop.
LONGEST_PIECE: Final = 15.0
#: Times that a phase is measured, each with an idle one before; the best counts, because other load on the machine is not
#: the proxy's.
ATTEMPTS: Final = 3


@sized("of", (Size(300, 10, 3000), 1000), (Size(10_000, 10, 30_000), 20_000))  # and requests of each phase
def test_a_change_costs_what_it_changes(start: Start, tmp_path: Path, of: tuple[Size, int]) -> None:
    async def scenario() -> None:
        size, requests = of
        is_full = requests >= 20_000
        world = World(start, tmp_path, size)
        try:
            took = await world.start()
            tell(
                "first push",
                clusters=size.clusters,
                endpoints=size.clusters * size.hosts,
                routes=size.routes,
                seconds=f"{took:.1f}",
            )
            workers = world.proxy.worker_pids()
            tell("memory", **{name: memory(pid) for name, pid in world.pids().items()})
            faults: list[str] = []
            for path in world.changes():
                more: list[float] = []
                pieces: list[float] = []
                medians: list[float] = []
                for _ in range(ATTEMPTS):
                    idle, _ = await world.measure(requests)
                    busy, times = await world.measure(requests, path)
                    more.append(busy.max - idle.max)
                    pieces.append(busy.piece)
                    medians.append(statistics.median(times))
                    cpu = [
                        (with_changes - without) / len(times)
                        for with_changes, without in zip(busy.cpu, idle.cpu, strict=True)
                    ]
                    tell(
                        path,
                        changes=len(times),
                        median_ms=f"{medians[-1]:.1f}",
                        slowest_ms=f"{max(times):.1f}",
                        idle_max_ms=f"{idle.max:.1f}",
                        max_ms=f"{busy.max:.1f}",
                        idle_piece_cpu_ms=f"{idle.piece:.1f}",
                        piece_cpu_ms=f"{busy.piece:.1f}",
                        worker_cpu_ms_per_change=f"{max(cpu):.1f}",
                    )
                    if more[-1] <= ALLOWANCE and pieces[-1] <= LONGEST_PIECE and medians[-1] <= ENDPOINT_TIME:
                        break
                faults += [f"{path}: event loop blocked for {min(pieces)} ms"] * (min(pieces) > LONGEST_PIECE)
                if is_full:
                    faults += [f"{path}: requests delayed by {min(more)} ms"] * (min(more) > ALLOWANCE)
                    faults += [f"{path}: served after {min(medians)} ms"] * (
                        min(medians) > ENDPOINT_TIME > 0 and path == "/endpoint"
                    )
            assert world.nacks() == []
            assert world.proxy.worker_pids() == workers, "no worker was replaced"
            tell("memory", **{name: memory(pid) for name, pid in world.pids().items()})
            assert not faults
        finally:
            await asyncio.to_thread(world.stop)

    run(scenario())
