"""Metrics over generations: no counter goes back when another generation takes over.

Each generation adds what the ones before it have counted to its own metrics. The predecessor sends its totals, which
include those of its own predecessors, when the successor is ready, and then what has changed each second until its end. A
group that is sent again replaces what was sent of it before. Gauges, such as open connections, are of the moment: those of a
generation that drains count until it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NotRequired, TypedDict

import msgspec

from pymosn.config.check.clusters import is_original
from pymosn.config.schema import MosnConfig
from pymosn.core.counters import GroupData, GroupKey, Labels
from pymosn.core.histograms import BUCKET_BOUNDS, Exemplar, HistogramData
from pymosn.observe.totals import labels_of, sum_of_two

#: Groups in one content, which are added up, or adopted, in a few milliseconds.
CHUNK: Final = 200
#: Inherited groups whose number no configuration limits, because requests or filters choose their labels.
MAX_FREE_GROUPS: Final = 50_000
#: Workers that have died whose metrics are kept one by one, because adding them up takes time.
MAX_DEAD: Final = 8
#: The types with groups for the configured objects.
_CONFIGURED: Final = ("downstream", "upstream")

#: The metrics of one worker.
Stats = dict[GroupKey, GroupData]


class CarriedHistogram(TypedDict):
    """See `HistogramData`."""

    count: int
    sum: float
    min: float
    max: float
    buckets: list[int]
    bounds: NotRequired[list[float]]
    exemplars: NotRequired[list[Exemplar]]


class CarriedGroup(TypedDict):
    """See `GroupData`."""

    type: str
    labels: Labels
    counters: NotRequired[dict[str, int]]
    gauges: NotRequired[dict[str, int]]
    histograms: NotRequired[dict[str, CarriedHistogram]]


_GROUPS: Final = msgspec.msgpack.Decoder(list[CarriedGroup])


class Inherited:
    """What the generations before this one have counted."""

    def __init__(self) -> None:
        self.stats: Stats = {}
        self._free = 0

    def add(self, content: bytes) -> set[GroupKey]:
        """Replaces groups; returns their keys. msgspec.MsgspecError if the content is invalid.

        Histograms with other buckets than those of this version begin at 0.
        """
        changed = set()
        for group in _GROUPS.decode(content):
            key = group["type"], group["labels"]
            if key not in self.stats and key[0] not in _CONFIGURED:
                if self._free >= MAX_FREE_GROUPS:
                    continue
                self._free += 1
            histograms = group.get("histograms", {})
            self.stats[key] = {
                "type": key[0],
                "labels": list(key[1]),
                "counters": group.get("counters", {}),
                "gauges": group.get("gauges", {}),
                "histograms": {name: _data(found) for name, found in histograms.items() if _is_usable(found)},
            }
            changed.add(key)
        return changed

    async def end(self, is_kept: Callable[[], Callable[[GroupData], bool]]) -> set[GroupKey]:
        """The predecessor has ended: removes gauges, and the groups for which the result of `is_kept` is false.

        Returns the keys of all groups that have changed. Works in a thread.
        """
        self.stats, changed = await asyncio.to_thread(lambda: _ended(self.stats, is_kept()))
        self._free = sum(key[0] not in _CONFIGURED for key in self.stats)
        return changed


class GenerationTotals:
    """The metrics of this generation's workers and of the generations before, and what of it is reported to the next one.

    `others`: metrics of this process, of which counters and histograms are reported.
    """

    def __init__(self) -> None:
        self.inherited = Inherited()
        self.others: Callable[[], list[GroupData]] = list
        # Of workers that have died. Their gauges do not count: they are left out when the others are added up.
        self._dead: list[Stats] = []
        self._live: Callable[[], Sequence[Stats]] = list
        # The groups that have changed since the last report; None: nothing is reported.
        self._changed: set[GroupKey] | None = None
        # The next report has all groups.
        self._is_first = False
        self._last_others: Stats = {}

    def follow(self, live: Callable[[], Sequence[Stats]]) -> None:
        """`live`: the metrics of each live worker."""
        self._live = live

    def note(self, keys: Iterable[GroupKey]) -> None:
        """These groups have changed."""
        if self._changed is not None:
            self._changed.update(keys)

    def retire(self, stats: Stats) -> None:
        """Keeps the counters of a worker that has ended; its gauges end with it."""
        if len(self._dead) == MAX_DEAD:
            self._dead = [sum_of_stats(self._dead)]
        self._dead.append(stats)
        self.note(stats)

    def all(self) -> list[Iterable[GroupData]]:
        """All metrics, to be added up, also in a thread. Each can be read once."""
        dead = [(without_gauges(group) for group in stats.values()) for stats in self._dead]
        return [list(self.inherited.stats.values()), *dead, *(list(stats.values()) for stats in self._live())]

    def _sources(self) -> list[Stats]:
        return [self.inherited.stats, *self._dead, *self._live()]

    def begin(self) -> None:
        """The next report is the first one for a successor: it has all groups."""
        self._is_first = True
        self._changed = set()
        self._last_others = {}

    def export(self) -> Iterator[bytes]:
        """The groups that have changed since the last report, in contents that take some milliseconds each.

        What changes while they are made is part of the next report, or of both.
        """
        changed, self._changed = self._changed or set(), set()
        others = {(group["type"], labels_of(group["labels"])): without_gauges(group) for group in self.others()}
        lists = [list(stats) for stats in self._sources()] if self._is_first else [list(changed)]
        lists.append([key for key, group in others.items() if self._last_others.get(key) != group])
        self._is_first = False
        self._last_others = others
        exported: set[GroupKey] = set()
        for keys in lists:
            for start in range(0, len(keys), CHUNK):
                part = [key for key in keys[start : start + CHUNK] if key not in exported]
                exported.update(part)
                # A worker may have ended meanwhile.
                sources = [self.inherited.stats, *self._live(), others]
                groups = [group for key in part if (group := _sum(sources, self._dead, key)) is not None]
                if groups:
                    yield msgspec.msgpack.encode(groups)

    def adopt(self, content: bytes) -> None:
        """Adds a report of the generation before, see `Inherited.add`."""
        self.note(self.inherited.add(content))

    async def end_inherited(self, config: MosnConfig) -> None:
        """The generation before has ended. `config`: the active one; what is not part of it any more is forgotten."""
        self.note(await self.inherited.end(lambda: is_counted(config)))


def is_counted(config: MosnConfig) -> Callable[[GroupData], bool]:
    """Whether the object of a group is part of a configuration. Other groups than those of objects always are."""
    listeners = {listener.known_name() for server in config.servers for listener in server.listeners}
    hosts = {
        cluster.name: set() if is_original(cluster) else {host.address for host in cluster.hosts}
        for cluster in config.cluster_manager.clusters
    }

    def is_known(group: GroupData) -> bool:
        labels = dict(group["labels"])
        if group["type"] == "downstream" and "listener" in labels:
            return labels["listener"] in listeners
        if group["type"] == "upstream" and "cluster" in labels:
            of_cluster = hosts.get(labels["cluster"])
            return of_cluster is not None and ("host" not in labels or labels["host"] in of_cluster)
        return True

    return is_known


def without_gauges(group: GroupData) -> GroupData:
    """A group without its gauges."""
    return {**group, "gauges": {}}


def sum_of_stats(reports: Iterable[Stats]) -> Stats:
    """The sums of the metrics of several workers."""
    totals: Stats = {}
    for stats in reports:
        for key, group in stats.items():
            before = totals.get(key)
            totals[key] = group if before is None else sum_of_two(before, group)
    return totals


def _sum(sources: Iterable[Stats], dead: Iterable[Stats], key: GroupKey) -> GroupData | None:
    """One group of all sources, and of dead workers without gauges; None if none has it."""
    total: GroupData | None = None
    for stats in dead:
        group = stats.get(key)
        if group is not None:
            group = without_gauges(group)
            total = group if total is None else sum_of_two(total, group)
    for stats in sources:
        group = stats.get(key)
        if group is not None:
            total = group if total is None else sum_of_two(total, group)
    return total


def _ended(stats: Stats, is_kept: Callable[[GroupData], bool]) -> tuple[Stats, set[GroupKey]]:
    """See `Inherited.end`."""
    changed = {key for key, group in stats.items() if group["gauges"]}
    kept = {key: group for key, group in stats.items() if is_kept(group)}
    return {key: without_gauges(group) if group["gauges"] else group for key, group in kept.items()}, changed


def _is_usable(found: CarriedHistogram) -> bool:
    return len(found["buckets"]) == len(found.get("bounds") or BUCKET_BOUNDS) + 1


def _data(found: CarriedHistogram) -> HistogramData:
    return {
        "count": found["count"],
        "sum": found["sum"],
        "min": found["min"],
        "max": found["max"],
        "buckets": found["buckets"],
        "bounds": found.get("bounds", []),
        "exemplars": found.get("exemplars", []),
    }
