"""The Date field of HTTP responses."""

from __future__ import annotations

from email.utils import formatdate

from pymosn.core.clock import Clock


class HttpDates:
    """The Date field line, formatted at most once a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self._line = b""

    def line(self) -> bytes:
        """`date: ...` for now, with its line end (RFC 9110 section 6.6.1)."""
        if self._clock.now >= self._until:
            self._until = self._clock.now + 1.0
            self._line = b"date: " + formatdate(self._clock.wall(), usegmt=True).encode() + b"\r\n"
        return self._line
