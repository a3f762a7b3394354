"""A TCP relay on loopback that records the data of each connection and direction."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class Relayed:
    """The bytes that one connection's client `sent` and `received`."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.received = bytearray()


class Relay:
    """Listens on a free port and connects each client to `target`."""

    def __init__(self, target: int) -> None:
        self.connections: list[Relayed] = []
        self._target = target
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            relayed = Relayed()
            self.connections.append(relayed)
            threading.Thread(target=self._pump, args=(client, server, relayed.sent), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, relayed.received), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._changed:
                    kept += data
                    self._changed.notify_all()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def wait(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Waits until `condition` holds, checking it after each chunk that passes."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), "the expected data did not pass the relay"

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
