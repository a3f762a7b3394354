"""The sockets of a worker's listeners: received from the supervisor, and then started."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from pymosn.network.listener import Listener
from pymosn.network.udp import DatagramListener
from pymosn.server.messages import Sockets
from pymosn.server.sockets import close_all


class WorkerSockets:
    """Sockets for listeners that have not started, and what other processes do with those of each listener."""

    def __init__(self) -> None:
        self._sockets: dict[str, list[socket.socket]] = {}
        # The listeners whose sockets another process keeps open.
        self._kept: set[str] = set()
        #: The UDP listeners whose sessions come from another process.
        self.waiting: set[str] = set()

    def receive(self, command: Sockets, descriptors: Sequence[int]) -> None:
        """Owns the descriptors."""
        for name, descriptor in zip(command.listeners, descriptors, strict=True):
            self._sockets.setdefault(name, []).append(socket.socket(fileno=descriptor))
        self._kept = self._kept.difference(command.listeners).union(command.kept)
        self.waiting |= set(command.waiting)

    def own(self, kept: Iterable[str], listeners: Iterable[Listener]) -> None:
        """Other processes do not keep sockets open any more, except those of `kept`."""
        self._kept = set(kept)
        for listener in listeners:
            listener.is_kept = listener.name in self._kept

    async def start(self, listeners: Sequence[Listener], retired: Iterable[Listener]) -> None:
        """Starts the listeners for which sockets were received. `retired`: those that a change has removed."""
        for listener in listeners:
            listener.is_kept = listener.name in self._kept
            if isinstance(listener, DatagramListener):
                listener.is_waiting = listener.name in self.waiting
            for sock in self._sockets.pop(listener.name, []):
                await listener.start(sock)
        # A removed listener whose sockets another one has now: what waits there is left to that.
        taken = {number for listener in listeners for number in listener.socket_ids()}
        for old in retired:
            if not taken.isdisjoint(old.socket_ids()):
                old.release()

    def close(self) -> None:
        """Closes the sockets of listeners that have not started."""
        while self._sockets:
            close_all(self._sockets.popitem()[1])
