"""Bounds what runs within one turn of the event loop.

An `await` whose result is already there does not suspend its task. Code of a filter that loops over such awaits would keep
the event loop from everything else: an async generator that yields without waiting, a subrequest that is repeated because it
fails at once. What such code calls therefore lets the event loop continue after a bounded number of calls.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

#: Calls that complete without waiting before the event loop must continue.
CALLS_PER_TURN: Final[i64] = 32


class TurnLimit:
    """Counts calls that completed without waiting."""

    def __init__(self) -> None:
        self._calls: i64 = 0

    def is_reached(self) -> bool:
        """Counts one call. True: the caller must `await asyncio.sleep(0)` now."""
        self._calls += 1
        if self._calls < CALLS_PER_TURN:
            return False
        self._calls = 0
        return True
