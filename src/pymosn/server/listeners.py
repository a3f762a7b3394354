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

    def bind(self, listeners: Iterable[Listener], workers: int) -> list[str]:
        """Listens for every listener that has a socket; returns what is wrong, and then nothing is left open."""
        faults = []
        for listener in listeners:
            if not listener.bind_port:
                continue
            name = listener.name or listener.address
            try:
                host, port = parse_address(listener.address)
                self._sockets[name] = listen(f"listener {name}", host, port, workers)
            except (BindError, ValueError) as error:
                faults.append(str(error))
        if faults:
            self.close()
        return faults

    def handover(self, number: int) -> list[tuple[Order, Sequence[int]]]:
        """The orders that give worker `number` (from 1) its sockets."""
        names = list(self._sockets)
        orders: list[tuple[Order, Sequence[int]]] = []
        for start in range(0, len(names), MAX_DESCRIPTORS):
            part = names[start : start + MAX_DESCRIPTORS]
            orders.append((Sockets(part), [self._sockets[name][number - 1].fileno() for name in part]))
        return orders

    def close(self) -> None:
        """Closes this process's copies; those of the workers stay open."""
        for sockets in self._sockets.values():
            close_all(sockets)
        self._sockets.clear()

    def addresses(self) -> dict[str, str]:
        """The address that each listener really has, which differs where the port is 0 or the host a name."""
        found = {}
        for name, (first, *_) in self._sockets.items():
            host, port = first.getsockname()[:2]
            found[name] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return found
