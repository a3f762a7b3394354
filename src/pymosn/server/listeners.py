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
    """The address and kind of a listening socket, which cannot be changed later. `address`: the path of a unix socket."""

    network: str
    address: str
    is_transparent: bool

    def has_address_of(self, other: "Binding") -> bool:
        """Whether both have the same address."""
        return (self.network, self.address) == (other.network, other.address)


def binding_of(listener: Listener) -> Binding:
    """The binding that `listener` requires."""
    network = listener.network.lower() or "tcp"
    return Binding(network, listener.address, listener.use_original_dst == "tproxy")


class ListenerSockets:
    """The supervisor's copies, so that a worker that is replaced loses no connection in the backlog."""

    def __init__(self) -> None:
        # For each listener one socket per worker.
        self._sockets: dict[str, list[socket.socket]] = {}
        self._configured: dict[str, Binding] = {}
        # Device and inode of the socket files that this process has created, by path.
        self._files: dict[str, tuple[int, int] | None] = {}
        # Sockets and bindings of a change in preparation.
        self._new: dict[str, list[socket.socket]] = {}
        self._next: dict[str, Binding] = {}

    def bind(self, listeners: Iterable[Listener], workers: int) -> list[str]:
        """Binds the sockets of all listeners; returns the errors, and then nothing is left open."""
        faults = self.prepare(listeners, workers)
        if not faults:
            self.activate()
        return faults

    def prepare(self, listeners: Iterable[Listener], workers: int) -> list[str]:
        """Binds the additional sockets that another set of listeners requires; returns the errors, and then undoes it.

        Must be followed by `activate` or `abandon`.
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
        """Sockets for all workers. Another listener of this process may already have the address."""
        ours = [name for name, other in self._configured.items() if other.has_address_of(binding)]
        if binding.network == "unix":
            shared = self._sockets[ours[0]][0].dup() if ours else listen_unix(f"listener {name}", binding.address)
            return [shared] * workers
        host, port = parse_address(binding.address)
        return listen(f"listener {name}", host, port, workers, port > 0 and bool(ours), binding.is_transparent)

    def abandon(self) -> None:
        """Closes the sockets that `prepare` has bound."""
        for name, sockets in self._new.items():
            binding = self._next[name]
            if binding.network == "unix" and binding.address not in self._files:
                with contextlib.suppress(OSError):
                    os.unlink(binding.address)
            close_all(sockets)
        self._new = {}

    def activate(self) -> list[socket.socket]:
        """Adopts the sockets that `prepare` has bound; returns those that are no longer needed, still open."""
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
        """Removes our socket files, unless another process has replaced them."""
        for path in list(paths):
            inode = self._files.pop(path)
            if inode is not None and _inode(path) == inode:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def handover(self, worker_id: int) -> list[tuple[Command, Sequence[int]]]:
        """The commands that give a worker its sockets."""
        return _commands(self._sockets, worker_id)

    def handover_new(self, worker_id: int) -> list[tuple[Command, Sequence[int]]]:
        """The commands that give a worker the sockets of a change in preparation."""
        return _commands(self._new, worker_id)

    def close(self) -> None:
        """Closes this process's copies and removes unix sockets from the file system; the workers' copies stay open."""
        self._remove_files(self._files)
        for sockets in self._sockets.values():
            close_all(sockets)
        self._sockets.clear()
        self._configured = {}
        self.abandon()

    def addresses(self) -> dict[str, str]:
        """The actual address of each listener, which differs from the configured one if the port is 0 or the host a name."""
        found = {}
        for name, (first, *_) in self._sockets.items():
            if first.family == socket.AF_UNIX:
                found[name] = f"unix:{first.getsockname()}"
                continue
            host, port = first.getsockname()[:2]
            found[name] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return found


def _inode(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None if it is gone."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _commands(sockets: dict[str, list[socket.socket]], worker_id: int) -> list[tuple[Command, Sequence[int]]]:
    names = list(sockets)
    commands: list[tuple[Command, Sequence[int]]] = []
    for start in range(0, len(names), MAX_DESCRIPTORS):
        part = names[start : start + MAX_DESCRIPTORS]
        commands.append((Sockets(part), [sockets[name][worker_id - 1].fileno() for name in part]))
    return commands
