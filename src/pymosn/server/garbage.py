"""When a worker looks for garbage: rarely, since what serves a request is freed by its reference count."""

import gc
from collections.abc import Callable
from typing import Final, Protocol

#: Seconds after a change until what it replaced is collected.
GARBAGE_DELAY: Final = 1.0


class Scheduler(Protocol):
    """The part of an event loop that is needed."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> object:
        """Calls `callback` in `delay` seconds."""


def settle() -> None:
    """Moves what was built to the permanent generation and makes collections rare.

    What serves a request is freed by its reference count; cycles are few. The default of 700 allocations would start a
    collection about every ten requests, each of them walking the young objects of thousands of open connections.
    """
    gc.unfreeze()  # what an earlier call moved there may be garbage by now
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class GarbageCollection:
    """Collects once after a burst of changes: each time the worker stands still for some milliseconds."""

    def __init__(self, scheduler: Scheduler, collect: Callable[[], None] = settle) -> None:
        self._scheduler = scheduler
        self._collect = collect
        self._is_due = False

    def after_change(self) -> None:
        """Something was replaced."""
        if not self._is_due:
            self._is_due = True
            self._scheduler.call_later(GARBAGE_DELAY, self._run)

    def _run(self) -> None:
        self._is_due = False
        self._collect()
