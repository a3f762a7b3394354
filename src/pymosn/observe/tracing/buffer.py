"""The finished traces of one worker until they are sent: a bounded number, above which they are dropped and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mypy_extensions import i64

from pymosn.core.counters import Counter, Metrics
from pymosn.observe.tracing.finished import FinishedTrace

#: Traces that wait in a worker, each of some kilobytes at most.
MAX_WAITING: Final[i64] = 4096
#: So many are sent without further delay.
FULL_BATCH: Final[i64] = 1024


class TraceBuffer:
    """Collects finished traces. `on_first` is called when there is one again, `on_full` when there is a batch of them."""

    def __init__(self, metrics: Metrics, limit: i64 = MAX_WAITING) -> None:
        self._limit = limit
        self._metrics = metrics
        self._waiting: list[FinishedTrace] = []
        self.on_first: Callable[[], None] = _nothing
        self.on_full: Callable[[], None] = _nothing
        self._recorded: Counter | None = None
        self._unsampled: Counter | None = None
        self._dropped: Counter | None = None
        self._sent: Counter | None = None

    def open(self) -> None:
        """Creates the counters: tracing is on."""
        group = self._metrics.group("tracing", ("side", "worker"))
        self._recorded = group.counter("traces_recorded_total")
        self._unsampled = group.counter("traces_unsampled_total")
        self._dropped = group.counter("traces_dropped_total")
        self._sent = group.counter("traces_sent_total")

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room(self) -> bool:
        """Counts a sampled trace, and returns whether it can be added; if not, it is dropped."""
        _count(self._recorded, 1)
        if len(self._waiting) < self._limit:
            return True
        _count(self._dropped, 1)
        return False

    def add(self, trace: FinishedTrace) -> None:
        """Adds a trace for which there is room."""
        size: i64 = len(self._waiting)
        self._waiting.append(trace)
        if size == 0:
            self.on_first()
        elif size + 1 == FULL_BATCH:
            self.on_full()

    def skip(self) -> None:
        """Counts a trace that is not sampled."""
        _count(self._unsampled, 1)

    def take(self, count: int) -> list[FinishedTrace]:
        """Removes up to `count` traces, the oldest ones."""
        taken = self._waiting[:count]
        del self._waiting[:count]
        return taken

    def note_dropped(self, count: int) -> None:
        """Counts traces that were taken and could not be sent."""
        _count(self._dropped, count)

    def note_sent(self, count: int) -> None:
        """Counts traces that were sent."""
        _count(self._sent, count)


def _count(counter: Counter | None, count: i64) -> None:
    if counter is not None:
        counter.value += count


def _nothing() -> None:
    """Until there is a sender."""
