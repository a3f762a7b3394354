"""Whether a worker may have one more downstream connection.

Two things end that. The cap on connections: what is over it is accepted and closed, so that the peer knows at once and goes
elsewhere. And what would break the worker, the end of its descriptors or of its memory: then it stops accepting, and the
kernel keeps who comes in its queue.
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
from pymosn.network.connection import ConnectionOwner

#: Seconds between two looks whether descriptors are free again.
LOOK_PERIOD: Final = 0.1
#: Seconds between two lines about the same trouble.
LOG_PERIOD: Final = 1.0
#: No descriptor in this process, or in the whole system; no memory of the kernel's for another socket (accept(2)).
LACKS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


@mypyc_attr(allow_interpreted_subclasses=True)
class Acceptor(ConnectionOwner):
    """An owner of connections that can be told to stop accepting for a while."""

    def set_accepting(self, accepting: bool) -> None:
        """Leaves new connections in the kernel's queue, or accepts them again."""


class Admission(Alarm):
    """One per worker, for all its listeners."""

    def __init__(self, wheel: TimerWheel, log: Log, probe: Callable[[], int] | None = None) -> None:
        """`probe`: what `free_descriptor` says, for tests."""
        super().__init__()
        self._probe: Callable[[], int] = free_descriptor if probe is None else probe
        self._error = 0
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

    def look(self) -> None:
        """Whether the kernel would give a descriptor at all; for once a second.

        The event loop does not tell of an accept that fails: it tries again and again, or drops the client.
        """
        if not self._lacks_descriptors:
            found = self._probe()
            if found < 0:
                self.on_lack(-found)

    def on_lack(self, error: int = 0) -> None:
        """There are no descriptors for more clients; accepting pauses until there are.

        `error`: one of LACKS, where it is not that all below the ceiling are in use.
        """
        was_accepting = self.is_accepting
        self._error = error
        self._lacks_descriptors = True
        self._apply(was_accepting)
        self._wheel.set(self, LOOK_PERIOD)
        self._tell_lack()

    def _tell_lack(self) -> None:
        now = self._wheel.clock.now
        if now >= self._next_line and self._log.level <= WARN:
            self._next_line = now + LOG_PERIOD
            cause = f"all {self.descriptor_ceiling} descriptors for clients are in use"
            if self._error > 0:
                cause = os.strerror(self._error)
            self._log.write(WARN, f"{cause}: accepting pauses ({self.pauses.value} times so far)", "mosn.proxy.descriptors")

    def on_alarm(self) -> None:
        found = self._probe()
        if found >= 0 and (found < self.descriptor_ceiling or self.descriptor_ceiling == 0):
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


def free_descriptor() -> int:
    """The lowest descriptor that is free; when a socket cannot be had, minus the errno that says why."""
    try:
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        return -(error.errno or errno.EMFILE)
    number = probe.fileno()
    probe.close()
    return number
