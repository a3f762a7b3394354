"""All sockets that the process has bound: one per listener and worker, and those of the supervisor."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pymosn.api.network import join_address
from pymosn.config.schema import Listener
from pymosn.control.service import Service
from pymosn.core.addresses import split_address
from pymosn.server.channel import MAX_DESCRIPTORS
from pymosn.server.messages import Command, Sockets
from pymosn.server.run_options import RunOptions, StartError
from pymosn.server.sockets import BindError, bind_tcp, bind_unix, close_all


class Binding(NamedTuple):
    """The address and kind of a listening socket, which cannot be changed later. `address`: the path of a unix socket."""

    network: str
    address: str
    is_transparent: bool


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
        #: Called with the active sockets, by listener one per worker, before any that are no longer active are closed.
        self.on_change: Callable[[Mapping[str, Sequence[socket.socket]]], None] = lambda sockets: None

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
            listener.known_name(): Binding(
                listener.network.lower() or "tcp", listener.address, listener.use_original_dst == "tproxy"
            )
            for listener in listeners
            if listener.bind_port
        }
        faults = []
        for name, binding in self._next.items():
            try:
                if self._configured.get(name) != binding:
                    self._new[name] = self._listen(f"listener {name}", binding, workers)
            except (BindError, ValueError) as error:
                faults.append(str(error))
        if faults:
            self.abandon()
        return faults

    def _listen(self, owner: str, binding: Binding, workers: int) -> list[socket.socket]:
        """Sockets for all workers. Another listener of this process may already have the address."""
        ours = [name for name, other in self._configured.items() if other[:2] == binding[:2]]
        if binding.network != "unix":
            host, port = split_address(binding.address)
            return bind_tcp(owner, host, port, workers, port > 0 and bool(ours), binding.is_transparent)
        if ours:
            return [self._sockets[ours[0]][0].dup()] * workers
        shared = bind_unix(owner, binding.address)
        self._files[binding.address] = _inode(binding.address)
        return [shared] * workers

    def abandon(self) -> None:
        """Closes the sockets that `prepare` has bound."""
        self._remove_files()
        for sockets in self._new.values():
            close_all(sockets)
        self._new = {}

    def activate(self) -> list[socket.socket]:
        """Adopts the sockets that `prepare` has bound; returns those that are no longer needed, still open."""
        gone = [name for name, binding in self._configured.items() if self._next.get(name) != binding]
        unneeded = [sock for name in gone for sock in self._sockets.pop(name)]
        self._sockets.update(self._new)
        self._configured, self._new = self._next, {}
        self._remove_files()
        self.on_change(self._sockets)
        return unneeded

    def _remove_files(self) -> None:
        """Removes our socket files that are not configured, unless another process has replaced them."""
        configured = {binding.address for binding in self._configured.values() if binding.network == "unix"}
        for path in self._files.keys() - configured:
            if self._files.pop(path) == _inode(path):
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
        self._configured = {}
        self.abandon()
        self.on_change({})
        for sockets in self._sockets.values():
            close_all(sockets)
        self._sockets.clear()

    def addresses(self) -> dict[str, str]:
        """The actual address of each listener, which differs from the configured one if the port is 0 or the host a name."""
        found = {}
        for name, (first, *_) in self._sockets.items():
            if first.family == socket.AF_UNIX:
                found[name] = f"unix:{first.getsockname()}"
            else:
                found[name] = join_address(*first.getsockname()[:2])
        return found


def _inode(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None if it is gone."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        return found.st_dev, found.st_ino
    return None


def _commands(sockets: dict[str, list[socket.socket]], worker_id: int) -> list[tuple[Command, Sequence[int]]]:
    names = list(sockets)
    commands: list[tuple[Command, Sequence[int]]] = []
    for start in range(0, len(names), MAX_DESCRIPTORS):
        part = names[start : start + MAX_DESCRIPTORS]
        commands.append((Sockets(part), [sockets[name][worker_id - 1].fileno() for name in part]))
    return commands


class ProcessSockets(Service):
    """Binds the sockets of all listeners, of the admin API and of the demo upstream; the last two may have none."""

    name = "sockets"

    def __init__(self, options: RunOptions, workers: int) -> None:
        self.listeners = ListenerSockets()
        self.admin: list[socket.socket] = []
        self.demo: list[socket.socket] = []
        self._options = options
        self._workers = workers

    async def start(self) -> None:
        """StartError with all addresses that cannot be bound."""
        lines = self.listeners.bind(self._options.config.servers[0].listeners, self._workers)
        admin = self._options.config.admin
        endpoint = admin.endpoint() if admin is not None else None
        demo = ("127.0.0.1", 8080) if self._options.is_demo else None
        for owner, address, sockets in (("admin", endpoint, self.admin), ("demo upstream", demo, self.demo)):
            try:
                if address is not None:
                    sockets += bind_tcp(owner, *address, 1)
            except BindError as error:
                lines.append(str(error))
        if lines:
            raise StartError(lines=lines)

    async def stop(self) -> None:
        self.listeners.close()
        close_all([*self.admin, *self.demo])
