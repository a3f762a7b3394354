"""The sockets of all listeners for all workers."""

import contextlib
import os
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pymosn.config.schema import Listener
from pymosn.server.channel import MAX_DESCRIPTORS
from pymosn.server.messages import Command, Sockets
from pymosn.server.sockets import BindError, close_all, listen, listen_unix, parse_address


class Binding(NamedTuple):
    """Where and how a listener listens: what a socket cannot change. `address`: of a unix socket its path."""

    network: str
    address: str
    is_transparent: bool

    def is_beside(self, other: "Binding") -> bool:
        """Whether both have the same address."""
        return (self.network, self.address) == (other.network, other.address)


def binding_of(listener: Listener) -> Binding:
    """Where `listener` listens."""
    network = listener.network.lower() or "tcp"
    return Binding(network, listener.address, listener.use_original_dst == "tproxy")


class ListenerSockets:
    """Kept by the supervisor, so that a worker that is replaced loses no connection that waits to be accepted."""

    def __init__(self) -> None:
        # For each listener one socket per worker.
        self._sockets: dict[str, list[socket.socket]] = {}
        self._configured: dict[str, Binding] = {}
        # Device and inode of the socket files that this process has made, by path.
        self._files: dict[str, tuple[int, int] | None] = {}
        # Of a change that is not decided yet.
        self._new: dict[str, list[socket.socket]] = {}
        self._next: dict[str, Binding] = {}

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
        self._next = {
            listener.name or listener.address: binding_of(listener) for listener in listeners if listener.bind_port
        }
        faults = []
        for name, binding in self._next.items():
            if self._configured.get(name) == binding:
                continue
            try:
                self._new[name] = self._listen(name, binding, workers)
            except (BindError, ValueError) as error:
                faults.append(str(error))
        if faults:
            self.abandon()
        return faults

    def _listen(self, name: str, binding: Binding, workers: int) -> list[socket.socket]:
        """Sockets for all workers at a place that is new, or that a listener of another name or kind has now."""
        ours = [name for name, other in self._configured.items() if other.is_beside(binding)]
        if binding.network == "unix":
            shared = self._sockets[ours[0]][0].dup() if ours else listen_unix(f"listener {name}", binding.address)
            return [shared] * workers
        host, port = parse_address(binding.address)
        return listen(f"listener {name}", host, port, workers, port > 0 and bool(ours), binding.is_transparent)

    def abandon(self) -> None:
        """Closes what `prepare` has bound."""
        for name, sockets in self._new.items():
            binding = self._next[name]
            if binding.network == "unix" and binding.address not in self._files:
                with contextlib.suppress(OSError):
                    os.unlink(binding.address)
            close_all(sockets)
        self._new = {}

    def commit(self) -> list[socket.socket]:
        """Takes over what `prepare` has bound; returns the sockets that are not needed any more, still open."""
        gone = [name for name, binding in self._configured.items() if self._next.get(name) != binding]
        unneeded = [sock for name in gone for sock in self._sockets.pop(name)]
        self._sockets.update(self._new)
        self._configured, self._new = self._next, {}
        paths = {binding.address for binding in self._configured.values() if binding.network == "unix"}
        for path in paths - self._files.keys():
            self._files[path] = _inode(path)
        self._remove_files(self._files.keys() - paths)
        return unneeded

    def _remove_files(self, paths: Iterable[str]) -> None:
        """Removes those of our socket files that nobody has replaced."""
        for path in list(paths):
            inode = self._files.pop(path)
            if inode is not None and _inode(path) == inode:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def handover(self, number: int) -> list[tuple[Command, Sequence[int]]]:
        """The orders that give worker `number` (from 1) its sockets."""
        return _orders(self._sockets, number)

    def handover_new(self, number: int) -> list[tuple[Command, Sequence[int]]]:
        """The orders that give worker `number` those of a change that is not decided yet."""
        return _orders(self._new, number)

    def close(self) -> None:
        """Closes this process's copies; those of the workers stay open. Nobody finds the unix ones any more."""
        self._remove_files(self._files)
        for sockets in self._sockets.values():
            close_all(sockets)
        self._sockets.clear()
        self._configured = {}
        self.abandon()

    def addresses(self) -> dict[str, str]:
        """The address that each listener really has, which differs where the port is 0 or the host a name."""
        found = {}
        for name, (first, *_) in self._sockets.items():
            if first.family == socket.AF_UNIX:
                found[name] = f"unix:{first.getsockname()}"
                continue
            host, port = first.getsockname()[:2]
            found[name] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return found


def _inode(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None when it is gone."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _orders(sockets: dict[str, list[socket.socket]], number: int) -> list[tuple[Command, Sequence[int]]]:
    names = list(sockets)
    orders: list[tuple[Command, Sequence[int]]] = []
    for start in range(0, len(names), MAX_DESCRIPTORS):
        part = names[start : start + MAX_DESCRIPTORS]
        orders.append((Sockets(part), [sockets[name][number - 1].fileno() for name in part]))
    return orders
