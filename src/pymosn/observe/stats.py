"""Metrics in the formats of MOSN's admin API: JSON with numbers as strings, times in nanoseconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pymosn.core.counters import GroupData
from pymosn.core.histograms import BUCKET_BOUNDS, HistogramData

Stats = dict[str, dict[str, dict[str, str]]]

PERCENTILES: Final = (50, 95, 99)


def stats_json(groups: Iterable[GroupData], key: str = "") -> Stats | None:
    """Type -> `label.value...` -> metric -> number as text; with `key` (`type.label.value...`) only that group.

    Returns None if there is no group with that key. Histograms have MOSN's `_min`, `_max` and `_total`, and `_count`, `_sum`
    and `_p50`, `_p95`, `_p99`, estimated from their buckets; all times in nanoseconds, other values in the unit of the key.
    """
    found: Stats = {}
    for group in groups:
        name = group_name(group)
        if key in ("", f"{group['type']}.{name}"):
            found.setdefault(group["type"], {})[name] = _metrics(group)
    return found if found or not key else None


def stats_glob(groups: Iterable[GroupData]) -> str:
    """The metrics of downstream `{proxy: global}` as `key:value` lines."""
    stats = stats_json(groups, "downstream.proxy.global")
    metrics = stats["downstream"]["proxy.global"] if stats else {}
    return "".join([f"{key}:{value}\n" for key, value in metrics.items()])


def group_name(group: GroupData) -> str:
    """The labels of a group in MOSN's form, `cluster.a.host.10.0.0.1:80`, sorted by name."""
    return ".".join([part for label in sorted(group["labels"]) for part in label])


def percentile(histogram: HistogramData, percent: float) -> float:
    """The value below which `percent` of all values are, interpolated within its bucket; of durations in seconds."""
    bounds = histogram["bounds"] or BUCKET_BOUNDS
    rank = histogram["count"] * percent / 100.0
    below = 0
    for index, inside in enumerate(histogram["buckets"]):
        if inside and below + inside >= rank:
            start = bounds[index - 1] if index > 0 else 0.0
            end = bounds[index] if index < len(bounds) else histogram["max"]
            estimate = start + (end - start) * (rank - below) / inside
            return min(max(estimate, histogram["min"]), histogram["max"])
        below += inside
    return 0.0


def _metrics(group: GroupData) -> dict[str, str]:
    metrics = {key: str(value) for key, value in {**group["counters"], **group["gauges"]}.items()}
    for key, histogram in group["histograms"].items():
        text = _as_it_is if histogram["bounds"] else _nanoseconds
        metrics[f"{key}_min"] = text(histogram["min"])
        metrics[f"{key}_max"] = text(histogram["max"])
        metrics[f"{key}_total"] = text(histogram["sum"])
        metrics[f"{key}_count"] = str(histogram["count"])
        metrics[f"{key}_sum"] = text(histogram["sum"])
        for percent in PERCENTILES:
            metrics[f"{key}_p{percent}"] = text(percentile(histogram, percent))
    return metrics


def _nanoseconds(seconds: float) -> str:
    return str(round(seconds * 1e9))


def _as_it_is(value: float) -> str:
    return f"{value:.12g}"
