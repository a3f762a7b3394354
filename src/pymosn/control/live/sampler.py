"""Takes the metrics each second while someone watches, once for all watchers; at other times it costs nothing.

A sample costs time in proportion to the number of hosts. So the pause after it is at least a multiple of its duration, and
the supervisor spends a bounded share of its time on it. Points of the last minutes are kept for those who come later.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pymosn.control.live.processes import Process, process_of
from pymosn.control.live.readings import (
    Overview,
    Rates,
    Reading,
    key_of,
    overview_of,
    point_between,
    rates_between,
    readings_of,
)
from pymosn.control.plane import ClusterView, ControlPlane
from pymosn.core.counters import GroupData, GroupKey
from pymosn.core.errors import describe
from pymosn.core.log import ERROR, Log

#: Seconds between two samples, at least; and the number of points that are kept.
PERIOD: Final = 1.0
POINTS: Final = 300
#: The pause after a sample is at least so many times its duration.
REST: Final = 4.0
#: Seconds for which a request for a table or the overview counts as watching.
ATTENTION: Final = 10.0
#: Streams at a time.
MAX_WATCHERS: Final = 20
#: Rows of tables have rates over about ten seconds: so many readings are kept, so many seconds apart at least.
BASES: Final = 5
BASE_PERIOD: Final = 2.5
#: Points that a slow watcher gets at once, at most: earlier ones are left out.
CATCH_UP: Final = 5

Sleep = Callable[[float], Awaitable[None]]


class TooManyWatchersError(Exception):
    """MAX_WATCHERS streams are open."""


class Sample:
    """All metrics at one time. `number`: 1 for the first; `monotonic`, `time`: when it was taken."""

    def __init__(self, number: int, monotonic: float, wall: float, groups: list[GroupData]) -> None:
        self.number = number
        self.monotonic = monotonic
        self.time = wall
        self.groups = groups
        self.readings: dict[GroupKey, Reading] = readings_of(groups)
        self.overview = overview_of(groups)
        self.by_key: dict[GroupKey, GroupData] = {key_of(group): group for group in groups}
        #: Per process id.
        self.processes: dict[int, Process] = {}
        self._clusters: list[ClusterView] | None = None

    def clusters(self, plane: ControlPlane) -> list[ClusterView]:
        """The clusters with their hosts, made once. To be called in a thread."""
        if self._clusters is None:
            self._clusters = plane.cluster_views(self.groups)
        return self._clusters


class Watcher:
    """One stream: the number of the last point that it got."""

    def __init__(self) -> None:
        self.last = 0
        self.news = asyncio.Event()


class Sampler:
    """The samples of one process. `close` ends all streams."""

    def __init__(
        self,
        plane: ControlPlane,
        log: Log | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._plane = plane
        self._log = log or Log()
        self._monotonic = monotonic
        self._wall = wall
        self._sleep = sleep
        self._watchers: set[Watcher] = set()
        self._watched_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._sample: Sample | None = None
        self._bases: deque[tuple[float, dict[GroupKey, Reading]]] = deque(maxlen=BASES)
        self._points: deque[dict[str, Any]] = deque(maxlen=POINTS)
        self._count = 0
        self._failure = ""
        self.is_closed = False

    # ---- who watches

    def join(self) -> Watcher:
        """A further stream. TooManyWatchersError if there are too many."""
        if self.is_closed or len(self._watchers) >= MAX_WATCHERS:
            raise TooManyWatchersError
        watcher = Watcher()
        self._watchers.add(watcher)
        self._begin()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """The end of a stream."""
        self._watchers.discard(watcher)

    async def next_points(self, watcher: Watcher, timeout: float) -> list[dict[str, Any]]:
        """The points that a watcher has not got, oldest first; empty after `timeout` seconds, or at the end."""
        if not self._newer(watcher) and not self.is_closed:
            watcher.news.clear()
            try:
                async with asyncio.timeout(timeout):
                    await watcher.news.wait()
            except TimeoutError:
                return []
        found = self._newer(watcher)[-CATCH_UP:]
        watcher.last = self._count
        return found

    def _newer(self, watcher: Watcher) -> list[dict[str, Any]]:
        return [point for point in self._points if point["number"] > watcher.last]

    def history(self, watcher: Watcher | None, number: int) -> list[dict[str, Any]]:
        """The last points, of which there may be none yet."""
        if watcher is not None:
            watcher.last = self._count
        return list(self._points)[-number:] if number > 0 else []

    def close(self) -> None:
        """Ends all streams, and takes no further samples."""
        self.is_closed = True
        if self._task is not None:
            self._task.cancel()
        for watcher in self._watchers:
            watcher.news.set()

    # ---- samples

    async def current(self) -> Sample:
        """A sample of the last second, and more of them for some time: a view of them is open."""
        self._watched_until = self._monotonic() + ATTENTION
        if self._is_fresh():
            assert self._sample is not None
            return self._sample
        async with self._lock:
            if not self._is_fresh():
                await self._take()
        self._begin()
        assert self._sample is not None
        return self._sample

    def _is_fresh(self) -> bool:
        if self._sample is None:
            return False
        # While samples are taken, the last one is as good as any.
        return self._is_running() or self._monotonic() - self._sample.monotonic < PERIOD

    def rates(self, key: GroupKey) -> Rates | None:
        """The rates of a group over the last seconds; None before there are two readings, or if it has none."""
        sample = self._sample
        after = None if sample is None else sample.readings.get(key)
        if sample is None or after is None or not self._bases:
            return None
        taken, before = self._bases[0]
        if sample.monotonic <= taken:
            return None
        return rates_between(before.get(key), after, sample.monotonic - taken)

    def _is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    def _begin(self) -> None:
        if not self._is_running() and not self.is_closed:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _is_watched(self) -> bool:
        return bool(self._watchers) or self._monotonic() < self._watched_until

    async def _run(self) -> None:
        while self._is_watched():
            began = self._monotonic()
            try:
                async with self._lock:
                    # One may have been taken just now, for a view; rates need some time between two.
                    if self._sample is None or began - self._sample.monotonic >= PERIOD / 2:
                        await self._take()
                self._failure = ""
            except Exception as error:
                if describe(error) != self._failure:
                    self._failure = describe(error)
                    self._log.write(ERROR, f"the metrics for the dashboard cannot be taken: {self._failure}")
            took = self._monotonic() - began
            await self._sleep(max(PERIOD - took, REST * took))
        # What is large is not kept; points are few.
        self._sample = None
        self._bases.clear()

    async def _take(self) -> None:
        groups = await self._plane.stats()
        pids = [self._plane.pid(), *(worker["pid"] for worker in self._plane.workers())]
        sample = await asyncio.to_thread(self._make, self._monotonic(), self._wall(), groups, pids)
        before = self._sample
        if before is not None and (not self._bases or sample.monotonic - self._bases[-1][0] >= BASE_PERIOD):
            self._bases.append((before.monotonic, before.readings))
        self._sample = sample
        self._add_point(before, sample)

    def _make(self, monotonic: float, wall: float, groups: list[GroupData], pids: list[int]) -> Sample:
        sample = Sample(self._count + 1, monotonic, wall, groups)
        before = self._sample
        for pid in pids:
            earlier = None if before is None else before.processes.get(pid)
            found = process_of(pid, monotonic, earlier)
            if found is not None:
                sample.processes[pid] = found
        return sample

    def _add_point(self, before: Sample | None, sample: Sample) -> None:
        overview: Overview | None = None if before is None else before.overview
        seconds = 0.0 if before is None else sample.monotonic - before.monotonic
        self._count += 1
        if before is None:
            # Rates begin with the second sample.
            return
        point = point_between(overview, sample.overview, seconds, sample.time)
        point["number"] = self._count
        while self._points and sample.time - self._points[0]["time"] > POINTS * PERIOD:
            self._points.popleft()
        self._points.append(point)
        for watcher in self._watchers:
            watcher.news.set()
