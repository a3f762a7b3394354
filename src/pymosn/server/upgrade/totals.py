"""Metrics over generations: no counter goes back when another generation takes over.

Each generation adds what the ones before it have counted to its own metrics. The predecessor sends its totals, which
include those of its own predecessors, when the successor is ready, and then what has changed each second until its end. A
group that is sent again replaces what was sent of it before. Gauges, such as open connections, are of the moment: those of a
generation that drains count until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import msgspec

from pymosn.config.check.clusters import is_original
from pymosn.config.schema import MosnConfig
from pymosn.core.counters import BUCKET_BOUNDS, GroupData, GroupKey, HistogramData
from pymosn.observe.totals import Totals, labels_of

#: Groups in one content.
CHUNK: Final = 1000
#: Inherited groups whose number no configuration limits, because requests or filters choose their labels.
MAX_FREE_GROUPS: Final = 50_000
#: The types with groups for the configured objects.
_CONFIGURED: Final = ("downstream", "upstream")

#: The metrics of one worker.
Stats = dict[GroupKey, GroupData]


class CarriedHistogram(msgspec.Struct, frozen=True):
    """See `HistogramData`."""

    count: int
    sum: float
    min: float
    max: float
    buckets: list[int]
    bounds: list[float] = []


class CarriedGroup(msgspec.Struct, frozen=True):
    """See `GroupData`."""

    type: str
    labels: list[tuple[str, str]]
    counters: dict[str, int] = {}
    gauges: dict[str, int] = {}
    histograms: dict[str, CarriedHistogram] = {}


_GROUPS: Final = msgspec.msgpack.Decoder(list[CarriedGroup])


class Inherited:
    """What the generations before this one have counted."""

    def __init__(self) -> None:
        self.stats: Stats = {}
        self._free = 0

    def add(self, content: bytes) -> set[GroupKey]:
        """Replaces groups; returns their keys. msgspec.MsgspecError if the content is invalid.

        Histograms with other buckets than this version has begin anew.
        """
        changed = set()
        for group in _GROUPS.decode(content):
            key = group.type, labels_of(group.labels)
            if key not in self.stats and group.type not in _CONFIGURED:
                if self._free >= MAX_FREE_GROUPS:
                    continue
                self._free += 1
            self.stats[key] = {
                "type": group.type,
                "labels": list(key[1]),
                "counters": group.counters,
                "gauges": group.gauges,
                "histograms": {name: _data(found) for name, found in group.histograms.items() if _is_usable(found)},
            }
            changed.add(key)
        return changed

    def end(self, is_kept: Callable[[GroupData], bool]) -> set[GroupKey]:
        """The predecessor has ended: removes gauges, and the groups for which `is_kept` is false.

        Returns the keys of all groups that have changed.
        """
        changed = {key for key, group in self.stats.items() if group["gauges"]}
        kept = {key: group for key, group in self.stats.items() if is_kept(group)}
        self.stats = {key: {**group, "gauges": {}} if group["gauges"] else group for key, group in kept.items()}
        self._free = sum(key[0] not in _CONFIGURED for key in self.stats)
        return changed


class GenerationTotals:
    """The metrics of this generation's workers and of the generations before, and what of it is reported to the next one.

    `others`: metrics of this process, of which counters and histograms are reported.
    """

    def __init__(self) -> None:
        self.inherited = Inherited()
        self.others: Callable[[], list[GroupData]] = list
        # Of workers that have died.
        self._retired = Totals()
        self._live: Callable[[], Sequence[Stats]] = list
        # The groups that have changed since the last report; None: nothing is reported.
        self._changed: set[GroupKey] | None = None
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
        self._retired.add(stats.values(), gauges=False)
        self.note(stats)

    def all(self) -> list[Collection[GroupData]]:
        """All metrics, to be added up."""
        return [self.inherited.stats.values(), self._retired.groups(), *(stats.values() for stats in self._live())]

    def begin(self) -> None:
        """The next report is the first one for a successor: it has all groups."""
        live = self._live()
        keys = [self.inherited.stats, self._retired.keys(), *live]
        self._changed = {key for some in keys for key in some}
        self._last_others = {}

    def export(self) -> list[bytes]:
        """The groups that have changed since the last report, in chunks."""
        changed, self._changed = self._changed or set(), set()
        others = {(group["type"], labels_of(group["labels"])): without_gauges(group) for group in self.others()}
        changed |= {key for key, group in others.items() if self._last_others.get(key) != group}
        self._last_others = others
        finders: list[Callable[[GroupKey], GroupData | None]] = [self.inherited.stats.get, self._retired.get, others.get]
        finders += [stats.get for stats in self._live()]
        totals = Totals()
        for key in changed:
            totals.add([group for find in finders if (group := find(key)) is not None])
        groups = totals.groups()
        return [msgspec.msgpack.encode(groups[start : start + CHUNK]) for start in range(0, len(groups), CHUNK)]

    def adopt(self, content: bytes) -> None:
        """Adds a report of the generation before, see `Inherited.add`."""
        self.note(self.inherited.add(content))

    def end_inherited(self, config: MosnConfig) -> None:
        """The generation before has ended. `config`: the active one; what is not part of it any more is forgotten."""
        self.note(self.inherited.end(is_counted(config)))


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


def _is_usable(found: CarriedHistogram) -> bool:
    return len(found.buckets) == len(found.bounds or BUCKET_BOUNDS) + 1


def _data(found: CarriedHistogram) -> HistogramData:
    return {
        "count": found.count,
        "sum": found.sum,
        "min": found.min,
        "max": found.max,
        "buckets": found.buckets,
        "bounds": found.bounds,
    }
