"""A control plane whose metrics a test sets, and a clock that it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.unit.control.fake_plane import FakePlane

from pymosn.control.live.sampler import Sampler
from pymosn.control.plane import ClusterView, HostView
from pymosn.core.counters import DownstreamStats, GroupData, Metrics, UpstreamStats


class LivePlane(FakePlane):
    """`metrics`: what the workers report. `asked`: how often."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = Metrics()
        self.asked = 0
        self.hosts: list[HostView] = []

    def listener(self, name: str = "clientListener") -> DownstreamStats:
        return DownstreamStats(self.metrics.group("downstream", ("listener", name)))

    def host(self, address: str, cluster: str = "c") -> UpstreamStats:
        return UpstreamStats(self.metrics.group("upstream", ("cluster", cluster), ("host", address)))

    def add_hosts(self, number: int, health: str = "healthy") -> None:
        for index in range(len(self.hosts), len(self.hosts) + number):
            self.hosts.append(
                {
                    "address": f"10.0.{index // 250}.{index % 250}:80",
                    "hostname": "",
                    "weight": 1,
                    "health": health,
                    "failed_active_check": 0,
                    "ejected": 0,
                    "why": "" if health == "healthy" else "no answer within 1 s",
                    "requests_active": 0,
                    "requests_total": index,
                    "connections_active": 0,
                }
            )

    async def stats(self) -> list[GroupData]:
        self.asked += 1
        if self.broken:
            raise RuntimeError("workers do not answer")
        return self.metrics.snapshot()

    def cluster_views(self, groups: list[GroupData]) -> list[ClusterView]:
        return [{"name": "c", "workers": 2, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": self.hosts}]


class Time:
    """Monotonic time that only moves when it is told to; sleepers wait until it has passed."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_796_000_000.0 + self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, future))
        await future

    async def pass_(self, seconds: float, done: Callable[[], bool]) -> None:
        """Moves on and wakes who has slept enough, until `done`; fails if that does not become true."""
        self.now += seconds
        due = [future for until, future in self._sleepers if until <= self.now + 1e-9]
        self._sleepers = [entry for entry in self._sleepers if entry[1] not in due]
        for future in due:
            future.set_result(None)
        await until(done)


async def until(done: Callable[[], bool]) -> None:
    """Lets other tasks and threads run until a condition is true."""
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.001)


def sampler_of(plane: LivePlane, time: Time) -> Sampler:
    return Sampler(plane, monotonic=time.monotonic, wall=time.wall, sleep=time.sleep)
