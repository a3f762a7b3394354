"""Whether a worker may have one more downstream connection.

Two things end that. The cap on connections: what is over it is accepted and closed, so that the peer knows at once and goes
elsewhere. And what would break the worker, the end of its descriptors or of its memory: then it stops accepting, and the
kernel keeps who comes in its queue.
"""

from __future__ import annotations

import os
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.counters import Counter
from pymosn.core.log import WARN, Log
from pymosn.core.timers import Alarm, TimerWheel
from pymosn.network.connection import ConnectionOwner

#: Seconds between two looks whether descriptors are free again.
LOOK_PERIOD: Final = 0.1
#: Seconds between two lines about the same trouble.
LOG_PERIOD: Final = 1.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Acceptor(ConnectionOwner):
    """An owner of connections that can be told to stop accepting for a while."""

    def set_accepting(self, accepting: bool) -> None:
        """Leaves new connections in the kernel's queue, or accepts them again."""


class Admission(Alarm):
    """One per worker, for all its listeners."""

    def __init__(self, wheel: TimerWheel, log: Log) -> None:
        super().__init__()
        #: Downstream connections that are open, and how many there may be; 0 is no limit.
        self.open: i64 = 0
        self.max_connections: i64 = 0
        #: Descriptors from this number on are for upstream connections, files and the like; 0: not watched.
        self.descriptor_ceiling: i64 = 0
        #: How often accepting stopped.
        self.pauses = Counter()
        self._wheel = wheel
        self._log = log
        self._acceptors: list[Acceptor] = []
        self._lacks_descriptors = False
        self._lacks_memory = False
        self._next_line = 0.0

    @property
    def is_accepting(self) -> bool:
        """Whether nothing stands against new connections."""
        return not self._lacks_descriptors and not self._lacks_memory

    def add(self, acceptor: Acceptor) -> None:
        """`acceptor` is about to accept."""
        self._acceptors.append(acceptor)
        if not self.is_accepting:
            acceptor.set_accepting(False)

    def remove(self, acceptor: Acceptor) -> None:
        """`acceptor` will not accept any more."""
        if acceptor in self._acceptors:
            self._acceptors.remove(acceptor)

    def is_full(self) -> bool:
        """Whether the worker has as many connections as it may."""
        return self.max_connections > 0 and self.open >= self.max_connections

    def on_descriptor(self, number: i64) -> None:
        """A connection was accepted and got that descriptor.

        The kernel gives the lowest number that is free, so a high one says that all below are in use, by whomever.
        """
        if 0 < self.descriptor_ceiling <= number and not self._lacks_descriptors:
            self.on_lack()

    def on_lack(self) -> None:
        """There are no descriptors for more clients; accepting pauses until there are."""
        was_accepting = self.is_accepting
        self._lacks_descriptors = True
        self._apply(was_accepting)
        self._wheel.set(self, LOOK_PERIOD)
        self._tell_lack()

    def _tell_lack(self) -> None:
        now = self._wheel.clock.now
        if now >= self._next_line and self._log.level <= WARN:
            self._next_line = now + LOG_PERIOD
            text = f"all {self.descriptor_ceiling} descriptors for clients are in use: accepting pauses"
            self._log.write(WARN, f"{text} ({self.pauses.value} times so far)", "mosn.proxy.descriptors")

    def on_alarm(self) -> None:
        if free_descriptor() < self.descriptor_ceiling or self.descriptor_ceiling == 0:
            was_accepting = self.is_accepting
            self._lacks_descriptors = False
            self._apply(was_accepting)
        else:
            self._tell_lack()
            self._wheel.set(self, LOOK_PERIOD)

    def set_memory(self, suffices: bool) -> None:
        """Whether there is memory for more connections."""
        was_accepting = self.is_accepting
        self._lacks_memory = not suffices
        self._apply(was_accepting)

    def _apply(self, was_accepting: bool) -> None:
        accepting = self.is_accepting
        if accepting == was_accepting:
            return
        if not accepting:
            self.pauses.value += 1
        for acceptor in self._acceptors:
            acceptor.set_accepting(accepting)


def free_descriptor() -> i64:
    """The lowest descriptor that is free; a very high number when there is none."""
    try:
        number = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 1 << 40
    os.close(number)
    return number
