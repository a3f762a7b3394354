"""The counters of Istio's metrics by their labels: found once for equal facts, and bounded in number.

Peers and clients choose some of the labels. So a worker has `max_label_sets` sets at most; what has further ones is counted
under one set whose labels are `overflow`.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from pymosn.api.stream_filter import FilterContext
from pymosn.core.counters import Counter, MetricGroup
from pymosn.core.histograms import Histogram
from pymosn.core.log import WARN
from pymosn.filters.istio.labels import Facts, Labeller, Labels

#: The type of the metrics: their names begin with it.
TYPE: Final = "istio"
#: The bounds of the histograms, of milliseconds and of bytes: Envoy's defaults.
BOUNDS: Final = [
    *(0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0),
    *(300000.0, 600000.0, 1800000.0, 3600000.0),
]

C = TypeVar("C", bound="Counts")


class Counts:
    """The counters and histograms for one set of facts; None for those that are not reported."""

    def __init__(self, source: Source) -> None:
        raise NotImplementedError


class Source:
    """Finds the counters for one set of facts."""

    def __init__(self, book: Book[C], facts: Facts) -> None:
        self._book = book
        self._facts = facts
        self._standard = book.labeller.labels(facts)
        #: Whether some of them are those of the overflow.
        self.is_over = False

    def counter(self, metric: str) -> Counter | None:
        """The counter of a metric, by its name without `istio_`."""
        group = self._group(metric)
        return None if group is None else group.counter(metric)

    def histogram(self, metric: str) -> Histogram | None:
        """The histogram of a metric."""
        group = self._group(metric)
        return None if group is None else group.distribution(metric, BOUNDS)

    def _group(self, metric: str) -> MetricGroup | None:
        book = self._book
        if not book.labeller.reports(metric):
            return None
        found = book.group(book.labeller.labels_of(metric, self._standard, self._facts.values))
        if found is None:
            self.is_over = True
            return book.overflow(metric, self._standard)
        return found


class Book(Generic[C]):
    """The counters of one filter in one worker."""

    def __init__(self, labeller: Labeller, context: FilterContext, limit: int, kind: type[C]) -> None:
        """`limit`: sets of labels of all filters of the worker."""
        self.labeller = labeller
        self._context = context
        self._limit = limit
        self._kind = kind
        self._known: dict[Facts, C] = {}
        self._has_warned = False

    def counts(self, facts: Facts) -> C:
        """The counters for these facts."""
        found = self._known.get(facts)
        if found is None:
            source = Source(self, facts)
            found = self._kind(source)
            if not source.is_over:
                if len(self._known) >= self._limit:
                    self._known.clear()  # several facts may have the same labels
                self._known[facts] = found
        return found

    def group(self, labels: tuple[tuple[str, str], ...]) -> MetricGroup | None:
        """The group with these labels; None above the limit."""
        found = self._context.bounded_group(self._limit, TYPE, *labels)
        if found is None and not self._has_warned:
            self._has_warned = True
            text = f"more than {self._limit} sets of labels; further requests are counted with labels `overflow`"
            self._context.write(text, WARN)
        return found

    def overflow(self, metric: str, standard: Labels) -> MetricGroup:
        """The group of everything above the limit."""
        return self._context.group(TYPE, *self.labeller.overflow(metric, standard))
