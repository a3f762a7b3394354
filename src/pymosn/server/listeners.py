"""The sockets of all listeners for all workers."""

import socket
from collections.abc import Iterable, Sequence

from pymosn.config.schema import Listener
from pymosn.server.channel import MAX_DESCRIPTORS
from pymosn.server.messages import Order, Sockets
from pymosn.server.sockets import BindError, close_all, listen, parse_address


class ListenerSockets:
    """Kept by the supervisor, so that a worker that is replaced loses no connection that waits to be accepted."""

    def __init__(self) -> None:
        # For each listener one socket per worker.
        self._sockets: dict[str, list[socket.socket]] = {}
        self._configured: dict[str, str] = {}
        # Of a change that is not decided yet.
        self._new: dict[str, list[socket.socket]] = {}
        self._next: dict[str, str] = {}

    def bind(self, listeners: Iterable[Listener], workers: int) -> list[str]:
        """Listens for every listener that has a socket; returns what is wrong, and then nothing is left open."""
        faults = self.prepare(listeners, workers)
        if not faults:
            self.commit()
        return faults

    def prepare(self, listeners: Iterable[Listener], workers: int) -> list[str]:
        """Binds what another set of listeners needs beside what is there; returns what is wrong, and then does nothing.

        Followed by `commit` or `abandon`.
        """
        self._next = {listener.name or listener.address: listener.address for listener in listeners if listener.bind_port}
        faults = []
        for name, address in self._next.items():
            if self._configured.get(name) == address:
                continue
            try:
                host, port = parse_address(address)
                is_ours = port > 0 and address in self._configured.values()
                self._new[name] = listen(f"listener {name}", host, port, workers, is_ours)
            except (BindError, ValueError) as error:
                faults.append(str(error))
        if faults:
            self.abandon()
        return faults

    def abandon(self) -> None:
        """Closes what `prepare` has bound."""
        for sockets in self._new.values():
            close_all(sockets)
        self._new = {}

    def commit(self) -> list[socket.socket]:
        """Takes over what `prepare` has bound; returns the sockets that are not needed any more, still open."""
        gone = [name for name, address in self._configured.items() if self._next.get(name) != address]
        unneeded = [sock for name in gone for sock in self._sockets.pop(name)]
        self._sockets.update(self._new)
        self._configured, self._new = self._next, {}
        return unneeded

    def handover(self, number: int) -> list[tuple[Order, Sequence[int]]]:
        """The orders that give worker `number` (from 1) its sockets."""
        return _orders(self._sockets, number)

    def handover_new(self, number: int) -> list[tuple[Order, Sequence[int]]]:
        """The orders that give worker `number` those of a change that is not decided yet."""
        return _orders(self._new, number)

    def close(self) -> None:
        """Closes this process's copies; those of the workers stay open."""
        for sockets in self._sockets.values():
            close_all(sockets)
        self._sockets.clear()
        self._configured = {}
        self.abandon()

    def addresses(self) -> dict[str, str]:
        """The address that each listener really has, which differs where the port is 0 or the host a name."""
        found = {}
        for name, (first, *_) in self._sockets.items():
            host, port = first.getsockname()[:2]
            found[name] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return found


def _orders(sockets: dict[str, list[socket.socket]], number: int) -> list[tuple[Order, Sequence[int]]]:
    names = list(sockets)
    orders: list[tuple[Order, Sequence[int]]] = []
    for start in range(0, len(names), MAX_DESCRIPTORS):
        part = names[start : start + MAX_DESCRIPTORS]
        orders.append((Sockets(part), [sockets[name][number - 1].fileno() for name in part]))
    return orders
