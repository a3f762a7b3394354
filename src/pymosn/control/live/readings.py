"""The numbers of metric groups that rates are made of, and the rates between two readings of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from pymosn.core.counters import GroupData, GroupKey
from pymosn.core.histograms import BUCKET_BOUNDS
from pymosn.observe.totals import labels_of

#: Groups of which readings are kept, so that their memory is bounded: about 1 KiB each. Further ones have no rates.
MOST_READINGS: Final = 30_000
#: The types of groups that have rates, those with the fewest groups first.
TYPES: Final = ("downstream", "filter", "route", "upstream")

#: Counter keys by type: requests, failures, bytes from the peer, bytes to it, connections.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "downstream": ("request_total", "request_failed", "bytes_read_total", "bytes_write_total", "connection_total"),
    "upstream": (
        "request_total",
        "response_failed",
        "connection_bytes_read_total",
        "connection_bytes_write",
        "connection_total",
    ),
    "filter": ("calls", "errors", "", "", ""),
    "route": ("hits", "", "", "", ""),
}
#: The histogram of each type.
_TIMES: Final = {
    "downstream": "request_time",
    "upstream": "request_duration_time",
    "filter": "time",
    "route": "request_time",
}


class Reading(NamedTuple):
    """One group at one time. `timed`, `total`, `buckets`: the histogram of durations in seconds."""

    requests: int
    failed: int
    read: int
    written: int
    connections: int
    timed: int
    total: float
    buckets: tuple[int, ...]

    def numbers(self) -> tuple[int, int, int, int, int]:
        """The counters, for rates."""
        return self[:5]


Readings = Mapping[GroupKey, Reading]
_NONE: Final = Reading(0, 0, 0, 0, 0, 0, 0.0, ())


def key_of(group: GroupData) -> GroupKey:
    """The type and labels of a group; it may have come through a channel."""
    return group["type"], labels_of(group["labels"])


def reading_of(group: GroupData) -> Reading:
    """The reading of a group of one of TYPES."""
    counters = group["counters"]
    requests, failed, read, written, connections = [counters.get(key, 0) for key in _KEYS[group["type"]]]
    times = group["histograms"].get(_TIMES[group["type"]])
    if times is None or times["bounds"] or not times["count"]:
        return Reading(requests, failed, read, written, connections, 0, 0.0, ())
    buckets = tuple(times["buckets"])
    return Reading(requests, failed, read, written, connections, times["count"], times["sum"], buckets)


def readings_of(groups: Iterable[GroupData]) -> dict[GroupKey, Reading]:
    """The readings of at most MOST_READINGS groups."""
    by_type: dict[str, list[GroupData]] = {name: [] for name in TYPES}
    for group in groups:
        if group["type"] in by_type:
            by_type[group["type"]].append(group)
    found: dict[GroupKey, Reading] = {}
    for name in TYPES:
        for group in by_type[name]:
            if len(found) >= MOST_READINGS:
                return found
            found[key_of(group)] = reading_of(group)
    return found


class Rates(NamedTuple):
    """What happened per second; the percentiles of durations in seconds, None without any."""

    requests: float
    failed: float
    read: float
    written: float
    connections: float
    p50: float | None
    p90: float | None
    p99: float | None
    mean: float | None

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, with a precision that is worth showing."""
        return {key: None if value is None else rounded(value) for key, value in self._asdict().items()}


def rates_between(before: Reading | None, after: Reading, seconds: float) -> Rates:
    """The rates between two readings that are `seconds` apart. A counter that was reset counts as unchanged."""
    old = before or _NONE
    if seconds <= 0.0:
        return Rates(0.0, 0.0, 0.0, 0.0, 0.0, None, None, None, None)
    requests, failed, read, written, connections = [
        max(0, now - then) / seconds for now, then in zip(after.numbers(), old.numbers(), strict=True)
    ]
    buckets = differences(old.buckets, after.buckets)
    timed = after.timed - old.timed
    mean = (after.total - old.total) / timed if timed > 0 else None
    p50, p90, p99 = [percentile(buckets, share) for share in (0.5, 0.9, 0.99)]
    return Rates(requests, failed, read, written, connections, p50, p90, p99, mean)


def differences(before: Collection[int], after: Collection[int]) -> list[int]:
    """What was added to each bucket."""
    old = before or (0,) * len(after)
    if len(old) != len(after):
        return []
    return [max(0, now - then) for now, then in zip(after, old, strict=True)]


def percentile(buckets: list[int], share: float) -> float | None:
    """The value below which a share of the durations is, interpolated in its bucket; None without any durations.

    Buckets double, so it is exact to a factor of two at worst. Above the last bound it is the last bound.
    """
    total = sum(buckets)
    if total == 0:
        return None
    wanted, passed = share * total, 0
    for index, count in enumerate(buckets):
        if count and passed + count >= wanted:
            if index >= len(BUCKET_BOUNDS):
                break
            high = BUCKET_BOUNDS[index]
            low = BUCKET_BOUNDS[index - 1] if index else 0.0
            return low + (high - low) * (wanted - passed) / count
        passed += count
    return BUCKET_BOUNDS[-1]


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


# ---- all listeners together

_STATUS_PREFIX: Final = "request_"
_STATUS_SUFFIX: Final = "_total"
_EXACT_PREFIX: Final = "code_"
_REASON_PREFIX: Final = "reason_"


class Overview(NamedTuple):
    """All listeners together at one time: a reading, requests by class of status, failures by reason, and gauges."""

    reading: Reading
    classes: dict[str, int]
    reasons: dict[str, int]
    active: int
    open: int
    refused: int


def overview_of(groups: Iterable[GroupData]) -> Overview:
    """The sum of the listeners."""
    numbers, total, timed = [0] * 5, 0.0, 0
    buckets: list[int] = []
    classes = dict.fromkeys(("2xx", "3xx", "4xx", "5xx", "other"), 0)
    reasons: dict[str, int] = {}
    active = opened = refused = 0
    for group in groups:
        if group["type"] != "downstream" or ("proxy", "global") in labels_of(group["labels"]):
            continue
        reading = reading_of(group)
        numbers = [one + other for one, other in zip(numbers, reading.numbers(), strict=True)]
        total, timed = total + reading.total, timed + reading.timed
        if reading.buckets:
            buckets = [
                one + other for one, other in zip(buckets or [0] * len(reading.buckets), reading.buckets, strict=True)
            ]
        for key, value in group["counters"].items():
            if key.startswith(_REASON_PREFIX):
                reasons[key[len(_REASON_PREFIX) :]] = reasons.get(key[len(_REASON_PREFIX) :], 0) + value
            elif key == "request_other_code":
                classes["other"] += value
            elif (name := _class_of(key)) in classes:
                classes[name] += value
                if key.startswith(_EXACT_PREFIX):
                    # MOSN's key has all of these together.
                    classes["other"] -= value
        gauges = group["gauges"]
        active += gauges.get("request_active", 0)
        opened += gauges.get("connection_active", 0)
        refused += group["counters"].get("connection_refused", 0)
    requests, failed, read, written, connections = numbers
    whole = Reading(requests, failed, read, written, connections, timed, total, tuple(buckets))
    return Overview(whole, classes, reasons, active, opened, refused)


def _class_of(key: str) -> str:
    """`2xx` for the counters `request_200_total` and `code_201`; empty for other counters."""
    if key.startswith(_EXACT_PREFIX):
        code = key.removeprefix(_EXACT_PREFIX)
    else:
        code = key.removeprefix(_STATUS_PREFIX).removesuffix(_STATUS_SUFFIX)
    return f"{code[0]}xx" if len(code) == 3 and code.isdigit() else ""


def point_between(before: Overview | None, after: Overview, seconds: float, time: float) -> dict[str, Any]:
    """A point of the plots. `time`: seconds since 1970. Without an earlier overview its rates are 0."""
    old = before or after
    rates = rates_between(old.reading, after.reading, seconds)
    span = seconds if seconds > 0.0 else 1.0
    return {
        "time": round(time, 3),
        "seconds": round(seconds, 3),
        **rates.as_dict(),
        "status": _per_second(old.classes, after.classes, span),
        "reasons": {key: value for key, value in _per_second(old.reasons, after.reasons, span).items() if value},
        "refused": rounded(max(0, after.refused - old.refused) / span),
        "active": after.active,
        "open": after.open,
    }


def _per_second(before: Mapping[str, int], after: Mapping[str, int], seconds: float) -> dict[str, float]:
    return {key: rounded(max(0, value - before.get(key, 0)) / seconds) for key, value in after.items()}
