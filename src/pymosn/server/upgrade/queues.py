"""The queues through which the workers of two generations pass connections: one for each worker of the successor.

Each is a SEQPACKET socket pair: a message (`messages.Moved`) and its descriptor arrive together, or not at all. The
receiving end is a worker's, also that of its replacement, so this process keeps it. The sending ends go to the
predecessor, which gives all of them to each of its workers.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Final

from pymosn.server.channel import MAX_DESCRIPTORS


class Queues:
    """The queues of the successor's workers."""

    def __init__(self, workers: int) -> None:
        """At most as many queues as descriptors fit into a message; further workers get no connections from others."""
        self._pairs: Final = [
            socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(min(workers, MAX_DESCRIPTORS))
        ]
        for pair in self._pairs:
            for end in pair:
                end.setblocking(False)

    def receiving(self, worker_id: int) -> list[int]:
        """The descriptor of a worker's receiving end; empty if it has none, or the predecessor has gone."""
        pair = self._pairs[worker_id - 1] if worker_id <= len(self._pairs) else None
        return [] if pair is None or pair[1].fileno() < 0 else [pair[1].fileno()]

    def sending(self) -> list[int]:
        """The descriptors of all sending ends, for the predecessor."""
        return [sending.fileno() for sending, _ in self._pairs]

    def close_sending(self) -> None:
        """Closes the sending ends, when the predecessor has them: their last close ends the queues."""
        for sending, _ in self._pairs:
            sending.close()

    def close(self) -> None:
        """Closes both ends of all queues in this process."""
        for pair in self._pairs:
            for end in pair:
                end.close()


class SendingEnds:
    """The sending ends of the successor's queues, as the predecessor received them."""

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        self.descriptors: Final = list(descriptors)

    def close(self) -> None:
        """Closes them."""
        while self.descriptors:
            with contextlib.suppress(OSError):
                os.close(self.descriptors.pop())
