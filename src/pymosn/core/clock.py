"""The data path's clock, and the Date field made from it."""

from __future__ import annotations

import time
from email.utils import formatdate

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


class HttpDates:
    """The Date field line, formatted at most once a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self._line = b""
        # The last block that the line was appended to, and the result.
        self._block = b""
        self._dated = b""

    def append_to(self, block: bytes) -> bytes:
        """`block` with the line. For the same block it is the same object, so that responses of one kind share it."""
        line = self.line()
        if block != self._block or len(self._dated) == 0:
            self._dated = block + line
            self._block = block
        return self._dated

    def line(self) -> bytes:
        """`date: ...` for now, with its line end (RFC 9110 section 6.6.1)."""
        if self._clock.now >= self._until:
            self._until = self._clock.now + 1.0
            self._dated = b""
            self._line = b"date: " + formatdate(self._clock.wall(), usegmt=True).encode() + b"\r\n"
        return self._line
