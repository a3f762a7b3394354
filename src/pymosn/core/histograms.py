"""Histograms of one worker: durations in buckets of doubling width, and values of any unit in buckets of their own."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, TypedDict

from mypy_extensions import i64, mypyc_attr

#: Upper bounds of the histogram buckets in seconds: powers of two from 16 us to about 134 s; one more bucket is unbounded.
BUCKET_BOUNDS: Final[list[float]] = [0.000016 * 2.0**n for n in range(24)]


#: The last value of a histogram's bucket that belongs to a trace: bucket, trace id, value, seconds since 1970.
Exemplar = tuple[int, str, float, float]


class HistogramData(TypedDict):
    """A histogram as plain data: `buckets` has one more entry than BUCKET_BOUNDS; times in seconds.

    If `bounds` is not empty, it is a `Distribution`: these are the bounds of its buckets, and its key names the unit. It is
    always there: compiled classes of this kind have no optional keys. `exemplars`: at most one for each bucket.
    """

    count: int
    sum: float
    min: float
    max: float
    buckets: list[int]
    bounds: list[float]
    exemplars: list[Exemplar]


@mypyc_attr(acyclic=True)
class Bucket:
    """The number of values in a bucket."""

    def __init__(self) -> None:
        self.value: i64 = 0


@mypyc_attr(acyclic=True)
class Histogram:
    """Durations in seconds, in buckets of doubling width. `reported`: its count when it was last reported."""

    def __init__(self) -> None:
        self.count: i64 = 0
        self.reported: i64 = 0
        self.sum: float = 0.0
        self.min: float = 0.0
        self.max: float = 0.0
        # Made by the first duration: thousands of clusters are never used.
        self._buckets: list[Bucket] = []
        # By bucket; None until a duration belongs to a trace.
        self._exemplars: dict[int, Exemplar] | None = None

    def record(self, seconds: float) -> None:
        """Records one duration."""
        if self.count == 0:
            self._buckets = [Bucket() for _ in range(len(BUCKET_BOUNDS) + 1)]
        if self.count == 0 or seconds < self.min:
            self.min = seconds
        if seconds > self.max:
            self.max = seconds
        self.count += 1
        self.sum += seconds
        bucket: i64 = 0
        bound = 0.000016
        while bucket < 24 and seconds > bound:
            bound += bound
            bucket += 1
        self._buckets[bucket].value += 1

    def note_trace(self, seconds: float, trace_id: str, wall: float) -> None:
        """The duration that was recorded last belongs to a trace. `wall`: now, in seconds since 1970."""
        if self._exemplars is None:
            self._exemplars = {}
        bucket = bisect_left(BUCKET_BOUNDS, seconds)
        self._exemplars[bucket] = (bucket, trace_id, seconds, wall)

    def data(self) -> HistogramData:
        """The histogram as plain data."""
        return {
            "count": int(self.count),
            "sum": self.sum,
            "min": self.min,
            "max": self.max,
            "buckets": [int(bucket.value) for bucket in self._buckets] or [0] * (len(BUCKET_BOUNDS) + 1),
            "bounds": [],
            "exemplars": [] if self._exemplars is None else list(self._exemplars.values()),
        }


@mypyc_attr(acyclic=True)
class Distribution(Histogram):
    """Values of any unit, in buckets with bounds of their own."""

    def __init__(self, bounds: list[float]) -> None:
        """`bounds`: upper bounds in ascending order; one more bucket is unbounded."""
        super().__init__()
        self._bounds = bounds
        self._buckets = [Bucket() for _ in range(len(bounds) + 1)]

    def record(self, seconds: float) -> None:
        """Records one value, in its own unit."""
        if self.count == 0 or seconds < self.min:
            self.min = seconds
        if seconds > self.max:
            self.max = seconds
        self.count += 1
        self.sum += seconds
        self._buckets[bisect_left(self._bounds, seconds)].value += 1

    def data(self) -> HistogramData:
        found = super().data()
        found["bounds"] = list(self._bounds)
        return found
