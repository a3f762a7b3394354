"""Admission control: whether a worker may accept another downstream connection.

Above the cap on connections, new ones are accepted and closed, so that the peer knows at once and can go elsewhere. When
file descriptors or memory run out, which would break the worker, new connections wait in the kernel's backlog.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.counters import Counter
from pymosn.core.log import WARN, Log
from pymosn.core.timers import Alarm, TimerWheel
from pymosn.network.arrived import ArrivalOwner
from pymosn.network.progress import Progress

#: Seconds between two checks whether descriptors are free again.
CHECK_PERIOD: Final = 0.1
#: Seconds between two log lines about the same shortage.
LOG_PERIOD: Final = 1.0
#: No descriptor in this process or in the whole system; no kernel memory for another socket (accept(2)).
SHORTAGES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


@mypyc_attr(allow_interpreted_subclasses=True)
class Acceptor(ArrivalOwner):
    """An owner of connections that can pause accepting."""

    def set_accepting(self, accepting: bool) -> None:
        """Leaves new connections in the kernel's backlog, or accepts them again."""


class Admission(Alarm):
    """One per worker, for all its listeners."""

    def __init__(self, wheel: TimerWheel, log: Log, probe: Callable[[int], int] | None = None) -> None:
        """`probe`: a replacement of `free_descriptor`, for tests."""
        super().__init__()
        self._probe: Callable[[int], int] = free_descriptor if probe is None else probe
        self._error = 0
        #: Open downstream connections, and their maximum; 0 means no limit.
        self.open: i64 = 0
        self.max_connections: i64 = 0
        #: Descriptors from this number on are reserved for upstream connections, files and the like; 0: not watched.
        self.descriptor_ceiling: i64 = 0
        #: Whether new connections are currently accepted, and how often that was paused.
        self.is_accepting = True
        self.pauses = Counter()
        #: Counts what is accepted.
        self.progress = Progress()
        self._wheel = wheel
        self._log = log
        self._acceptors: list[Acceptor] = []
        self._is_short_of_descriptors = False
        self._is_short_of_memory = False
        self._next_line = 0.0

    def add(self, acceptor: Acceptor) -> None:
        """Called before `acceptor` starts accepting."""
        self._acceptors.append(acceptor)
        if not self.is_accepting:
            acceptor.set_accepting(False)

    def remove(self, acceptor: Acceptor) -> None:
        """`acceptor` has stopped for good."""
        if acceptor in self._acceptors:
            self._acceptors.remove(acceptor)

    def is_full(self) -> bool:
        """Whether the worker has reached its maximum of connections."""
        return self.max_connections > 0 and self.open >= self.max_connections

    def on_descriptor(self, descriptor: i64) -> None:
        """A connection got that descriptor, the lowest free one; a high one means that all below it are in use."""
        if 0 < self.descriptor_ceiling <= descriptor and not self._is_short_of_descriptors:
            self.on_shortage()

    def check(self) -> None:
        """Checks once a second whether the kernel has descriptors: the event loop does not report a failing accept."""
        if not self._is_short_of_descriptors:
            found = self._probe(1)
            if found < 0:
                self.on_shortage(-found)

    def on_shortage(self, error: int = 0) -> None:
        """Pauses accepting for lack of descriptors. `error`: one of SHORTAGES; 0 if all below the ceiling are in use."""
        self._error = error
        self._is_short_of_descriptors = True
        self._apply()
        self._wheel.set(self, CHECK_PERIOD)
        self._log_shortage()

    def _log_shortage(self) -> None:
        now = self._wheel.clock.now
        if now >= self._next_line and self._log.level <= WARN:
            self._next_line = now + LOG_PERIOD
            in_use = f"all {self.descriptor_ceiling} descriptors for clients are in use"
            cause = os.strerror(self._error) if self._error > 0 else in_use
            self._log.write(WARN, f"{cause}: pausing accept ({self.pauses.value} times so far)", "mosn.proxy.descriptors")

    def on_alarm(self) -> None:
        # A pause frees a descriptor of each acceptor, which takes it back: these are not for clients.
        found = self._probe(len(self._acceptors) + 1)
        if found >= 0 and (found < self.descriptor_ceiling or self.descriptor_ceiling == 0):
            self._is_short_of_descriptors = False
            self._apply()
        else:
            self._log_shortage()
            self._wheel.set(self, CHECK_PERIOD)

    def set_memory(self, suffices: bool) -> None:
        """Whether there is memory for more connections."""
        self._is_short_of_memory = not suffices
        self._apply()

    def _apply(self) -> None:
        accepting = not self._is_short_of_descriptors and not self._is_short_of_memory
        if accepting == self.is_accepting:
            return
        self.is_accepting = accepting
        if not accepting:
            self.pauses.value += 1
        for acceptor in self._acceptors:
            acceptor.set_accepting(accepting)


def free_descriptor(count: int = 1) -> int:
    """The last of the `count` lowest free descriptors, or minus the errno when the kernel does not give so many sockets."""
    probes: list[socket.socket] = []
    try:
        for _ in range(count):
            probes.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        return probes[-1].fileno()
    except OSError as error:
        return -(error.errno or errno.EMFILE)
    finally:
        for probe in probes:
            probe.close()
