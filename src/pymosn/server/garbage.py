"""Runs the garbage collector rarely, because the objects of a request are freed by reference counting."""

import gc
from collections.abc import Callable
from typing import Final

from pymosn.server.background import Scheduler

#: Seconds between a change and the collection of the objects that it replaced.
GARBAGE_DELAY: Final = 1.0


def settle() -> None:
    """Moves all objects built so far to the permanent generation and makes collections rare.

    The objects of a request are freed by reference counting; cycles are few. The default of 700 allocations would start a
    collection about every ten requests, and each would traverse the young objects of thousands of open connections.
    """
    gc.unfreeze()  # objects that an earlier call moved there may be garbage by now
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class GarbageCollection:
    """Collects once after a burst of changes, because each collection blocks the worker for some milliseconds."""

    def __init__(self, scheduler: Scheduler, collect: Callable[[], None] = settle) -> None:
        self._scheduler = scheduler
        self._collect = collect
        self._is_due = False

    def after_change(self) -> None:
        """Schedules a collection, because objects have been replaced."""
        if not self._is_due:
            self._is_due = True
            self._scheduler.call_later(GARBAGE_DELAY, self._run)

    def _run(self) -> None:
        self._is_due = False
        self._collect()
