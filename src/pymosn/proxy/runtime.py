"""What one worker has once: handed to everything that is built, so that nothing is global."""

from __future__ import annotations

import os
from email.utils import formatdate

from mypy_extensions import i64

from pymosn.api.stream import StreamProtocol
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics
from pymosn.core.log import Log
from pymosn.core.overload import OverloadState
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.proxy.task_starter import TaskStarter
from pymosn.upstream.cluster import Clusters


class Runtime:
    """Clock, timers, counters, log, load, protocols and clusters of one worker."""

    def __init__(
        self,
        clock: Clock,
        wheel: TimerWheel,
        metrics: Metrics,
        log: Log,
        protocols: Registry[StreamProtocol],
        clusters: Clusters,
    ) -> None:
        self.clock = clock
        self.wheel = wheel
        self.metrics = metrics
        self.log = log
        self.protocols = protocols
        self.clusters = clusters
        self.overload = OverloadState()
        self.dates = HttpDates(clock)
        self.request_ids = RequestIds()
        self.tasks = TaskStarter()


class HttpDates:
    """The Date field line, made anew at most once a second."""

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


class RequestIds:
    """Makes request ids of the form of a UUID: random per worker, counted per request. Unique, not secret."""

    def __init__(self) -> None:
        digits = os.urandom(10).hex()
        self._start: bytes = f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-".encode()
        self._count: i64 = int.from_bytes(os.urandom(5), "big")
        self._prefix: bytes = b""
        # The last three digits come from a table; formatting a number costs more than the rest of the request's id.
        self._endings: list[bytes] = [b"%03x" % number for number in range(4096)]

    def next(self) -> bytes:
        """The next id."""
        self._count += 1
        low: i64 = self._count & 4095
        if low == 0 or not self._prefix:
            self._prefix = self._start + (b"%09x" % (self._count >> 12))
        return self._prefix + self._endings[low]
