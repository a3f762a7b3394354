"""Adds up the workers' metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pymosn.core.counters import GroupData, GroupKey, Labels
from pymosn.core.histograms import Exemplar, HistogramData

GLOBAL_LABELS: Labels = (("proxy", "global"),)


class Totals:
    """Sums of metric groups of equal type and labels, in the order of their first appearance."""

    def __init__(self) -> None:
        self._groups: dict[GroupKey, GroupData] = {}

    def add(self, groups: Iterable[GroupData], *, gauges: bool = True) -> None:
        """Adds a worker's snapshot; without `gauges` for a worker that has ended, and its connections with it."""
        for group in groups:
            labels = labels_of(group["labels"])
            empty: GroupData = {
                "type": group["type"],
                "labels": list(labels),
                "counters": {},
                "gauges": {},
                "histograms": {},
            }
            _add(self._groups.setdefault((group["type"], labels), empty), group, gauges)

    def groups(self) -> list[GroupData]:
        """The summed groups."""
        return list(self._groups.values())

    def keys(self) -> Collection[GroupKey]:
        """The types and labels of the groups."""
        return self._groups.keys()

    def get(self, key: GroupKey) -> GroupData | None:
        """The sum of one type and labels; None if there is none."""
        return self._groups.get(key)


def labels_of(pairs: Iterable[Iterable[str]]) -> Labels:
    """Labels as a key; after their way through a channel they are lists."""
    return tuple([(name, value) for name, value in pairs])


def key_of(group: GroupData) -> GroupKey:
    """Type and labels of a group."""
    return group["type"], labels_of(group["labels"])


def sum_of(reports: Iterable[Iterable[GroupData]]) -> list[GroupData]:
    """The sums of several reports."""
    totals = Totals()
    for groups in reports:
        totals.add(groups)
    return totals.groups()


def sum_of_two(one: GroupData, other: GroupData) -> GroupData:
    """The sum of two groups of equal type and labels, neither of which is changed."""
    histograms = dict(one["histograms"])
    for key, histogram in other["histograms"].items():
        before = histograms.get(key)
        histograms[key] = _merge(before, histogram) if before else histogram
    return {
        "type": one["type"],
        "labels": one["labels"],
        "counters": _sum_of_numbers(one["counters"], other["counters"]),
        "gauges": _sum_of_numbers(one["gauges"], other["gauges"]),
        "histograms": histograms,
    }


def with_global(groups: Iterable[GroupData]) -> list[GroupData]:
    """`groups` with MOSN's downstream group `{proxy: global}`, the sum over all listeners."""
    given = list(groups)
    downstream = [group for group in given if group["type"] == "downstream"]
    if not downstream or any(dict(group["labels"]).get("proxy") == "global" for group in downstream):
        return given
    totals = Totals()
    totals.add({**group, "labels": list(GLOBAL_LABELS)} for group in downstream)
    return [*totals.groups(), *given]


def _add(total: GroupData, group: GroupData, gauges: bool) -> None:
    _add_numbers(total["counters"], group["counters"])
    if gauges:
        _add_numbers(total["gauges"], group["gauges"])
    for key, histogram in group["histograms"].items():
        before = total["histograms"].get(key)
        total["histograms"][key] = _merge(before, histogram) if before else histogram


def _add_numbers(total: dict[str, int], numbers: dict[str, int]) -> None:
    for key, number in numbers.items():
        total[key] = total.get(key, 0) + number


def _sum_of_numbers(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    total = dict(one)
    _add_numbers(total, other)
    return total


def _merge(one: HistogramData, other: HistogramData) -> HistogramData:
    """The sum; of histograms with different buckets the later one, because a change of a filter has replaced the other."""
    if one["bounds"] != other["bounds"]:
        return other
    filled = [histogram for histogram in (one, other) if histogram["count"]]
    return {
        "count": one["count"] + other["count"],
        "sum": one["sum"] + other["sum"],
        "min": min((histogram["min"] for histogram in filled), default=0.0),
        "max": max(one["max"], other["max"]),
        "buckets": [a + b for a, b in zip(one["buckets"], other["buckets"], strict=True)],
        "bounds": one["bounds"],
        "exemplars": _latest(one["exemplars"], other["exemplars"]) if other["exemplars"] else one["exemplars"],
    }


def _latest(one: list[Exemplar], other: list[Exemplar]) -> list[Exemplar]:
    """The later exemplar of each bucket."""
    found: dict[int, Exemplar] = {}
    for exemplar in sorted([*one, *other], key=lambda exemplar: exemplar[3]):
        found[exemplar[0]] = exemplar
    return list(found.values())
