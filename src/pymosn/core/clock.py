"""The time, as the data path sees it."""

from __future__ import annotations

import time

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Clock:
    """`now` is the monotonic time of the event being handled, in seconds.

    It is read once at the start of each event (`tick`), not at each use: what happens within one event happens at one time.
    Tests have a clock of their own that moves when told.
    """

    def __init__(self) -> None:
        self.now: float = time.monotonic()

    def tick(self) -> float:
        """Reads the time anew and returns it."""
        self.now = time.monotonic()
        return self.now

    def wall(self) -> float:
        """Seconds since 1970, for what people read."""
        return time.time()
