"""The data path's clock."""

from __future__ import annotations

import time

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Clock:
    """`now` is the monotonic time of the current event, in seconds.

    It is read once at the start of each event (`tick`), so that everything within an event has the same time. Tests use a
    clock that they set.
    """

    def __init__(self) -> None:
        self.now: float = time.monotonic()

    def tick(self) -> float:
        """Updates the time and returns it."""
        self.now = time.monotonic()
        return self.now

    def wall(self) -> float:
        """Seconds since 1970, for people."""
        return time.time()
