"""The listening sockets that the supervisor has bound."""

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pymosn.api.network import join_address
from pymosn.config.accounts import Account, find_account, find_group, parse_mode
from pymosn.config.schema import Listener
from pymosn.core.addresses import split_address
from pymosn.server.channel import MAX_DESCRIPTORS
from pymosn.server.messages import Command, Sockets
from pymosn.server.socket_groups import Binding, GivenSockets, SocketGroup
from pymosn.server.sockets import BindError, FileAccess, bind_tcp, bind_udp, bind_unix, close_all, file_reason
from pymosn.server.upgrade.activation import ActivatedSockets
from pymosn.server.upgrade.inheritance import Inheritance, Owned, inode
from pymosn.server.upgrade.messages import HeldSocket


class ListenerSockets:
    """The supervisor's copies, so that a worker that is replaced loses no connection in the backlog."""

    def __init__(
        self,
        account: Account | None = None,
        inheritance: Inheritance | None = None,
        activated: ActivatedSockets | None = None,
        given: GivenSockets | None = None,
    ) -> None:
        """`account`: the user that will own unix sockets, because the process is going to run as that user.

        `inheritance`: sockets of a process that this one is going to replace. `activated`: those of the service manager.
        `given`: those of MOSN.
        """
        self._account = account
        self._inheritance = inheritance
        self._activated = activated or ActivatedSockets()
        self._given = given or GivenSockets()
        # The unix sockets of MOSN, whose files are its own until `own`.
        self._foreign: set[str] = set()
        # What was taken of it, by listener.
        self._adopted: dict[str, list[Owned]] = {}
        # Adopted sockets, which the predecessor still serves.
        self._lent: list[SocketGroup] = []
        # Files of adopted sockets with who may use them: this process's as soon as it has taken over.
        self._later: dict[str, FileAccess] = {}
        self._workers = 1
        self._sockets: dict[str, SocketGroup] = {}
        self._configured: dict[str, Binding] = {}
        # Addresses of UDP listeners that were removed: workers have the sockets as long as there are sessions.
        self._removed: set[str] = set()
        # Device and inode of the socket files that this process has created, by path.
        self._files: dict[str, tuple[int, int] | None] = {}
        # Sockets and bindings of a change in preparation.
        self._new: dict[str, SocketGroup] = {}
        self._next: dict[str, Binding] = {}
        # Who could use the sockets whose access it changes, by path.
        self._access_before: dict[str, FileAccess] = {}
        #: The names of the listeners that the errors of the last `prepare` belong to.
        self.faulty: list[str] = []
        #: Called with the active sockets by listener, before any that are no longer active are closed.
        self.on_change: Callable[[Mapping[str, SocketGroup]], None] = lambda sockets: None

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
        listeners = list(listeners)
        self._workers = workers
        self._next = {
            listener.known_name(): Binding(
                listener.network.lower() or "tcp",
                listener.address,
                listener.use_original_dst == "tproxy" and listener.network.lower() != "unix",
            )
            for listener in listeners
            if listener.bind_port
        }
        access = {listener.known_name(): self._access(listener) for listener in listeners}
        faults = []
        self.faulty = []
        for name, binding in self._next.items():
            try:
                if self._configured.get(name) != binding:
                    found = self._adopt(name, binding, access[name], workers)
                    self._new[name] = found or self._listen(f"listener {name}", binding, access[name], workers)
                elif binding.network == "unix":
                    self._give_access(f"listener {name}", binding.address, access[name])
            except (BindError, ValueError) as error:
                faults.append(str(error))
                self.faulty.append(name)
        if faults:
            self.abandon()
        return faults

    def _adopt(self, name: str, binding: Binding, access: FileAccess, workers: int) -> SocketGroup | None:
        """The sockets of the predecessor, and new ones if it has too few for all workers; None if it has none."""
        owned = [] if self._inheritance is None else self._inheritance.take("listener", *binding)
        if not owned:
            return None
        self._adopted[name] = owned
        sockets = [each.sock for each in owned]
        first = owned[0].held
        missing = 0 if first.is_shared else workers - len(sockets)
        if binding.network == "unix":
            if not first.is_kept:
                self._later[binding.address] = access
        elif missing > 0 and binding.network != "udp":  # another UDP socket would change which one each client reaches
            host, port = sockets[0].getsockname()[:2]
            sockets += bind_tcp(f"listener {name}", str(host), int(port), missing, True, binding.is_transparent)
        is_udp = binding.network == "udp"
        group = SocketGroup(sockets, is_shared=first.is_shared, is_kept=True, is_waiting=is_udp)
        if not first.is_kept:
            self._lent.append(group)
        return group

    def _listen(self, owner: str, binding: Binding, access: FileAccess, workers: int) -> SocketGroup:
        """The sockets of a listener with a new binding. Another listener of this process may already have the address."""
        others = self._given.take(binding)
        if others is not None:
            self._lent.append(others)
            if binding.network == "unix":
                self._foreign.add(binding.address)
            return others
        given = self._activated.take(*binding)
        if given is not None:
            return SocketGroup([given], is_shared=True, is_kept=True)
        if binding.network == "unix":
            return self._listen_unix(owner, binding, access)
        host, port = split_address(binding.address)
        left = self._left(binding) if port > 0 else None
        if left is not None:
            return left.copy()
        ours = [name for name, other in self._configured.items() if other[:2] == binding[:2] and name in self._sockets]
        if binding.network != "udp":
            is_inherited = self._inheritance is not None and self._inheritance.has_address(*binding[:2])
            is_ours = port > 0 and (bool(ours) or is_inherited)
            return SocketGroup(bind_tcp(owner, host, port, workers, is_ours, binding.is_transparent))
        if ours and port > 0:  # another socket would get a part of the datagrams before anything reads it
            return self._sockets[ours[0]].copy()
        try:
            return SocketGroup(bind_udp(owner, host, port, workers))
        except BindError as error:
            if binding.address not in self._removed:
                raise
            raise BindError(f"{error}, or by sessions of the removed listener until they are idle; try again") from error

    def _listen_unix(self, owner: str, binding: Binding, access: FileAccess) -> SocketGroup:
        left = self._left(binding)
        if left is not None:
            self._give_access(owner, binding.address, access)
            return left.copy()
        sock = bind_unix(owner, binding.address, access)
        self._files[binding.address] = inode(binding.address)
        return SocketGroup([sock], is_shared=True)

    def _left(self, binding: Binding) -> SocketGroup | None:
        """The sockets of a listener that has this binding and that the change removes, renames or gives another one.

        They must stay open: a handshake is reset when the socket that its SYN has reached is closed.
        """
        for name, other in self._configured.items():
            if other == binding and self._next.get(name) != binding:
                return self._sockets.get(name)
        return None

    def _access(self, listener: Listener) -> FileAccess:
        """Who may use the socket of a listener, by default the user that the process will run as."""
        mode = parse_mode(listener.mode) if listener.mode else None
        account = find_account(listener.user, listener.group) if listener.user else self._account
        gid = -1 if account is None else account.gid
        if listener.group:
            gid = find_group(listener.group)
        return FileAccess(mode, -1 if account is None else account.uid, gid)

    def _give_access(self, owner: str, path: str, access: FileAccess) -> None:
        """Changes who may use a socket that exists; its file may have been removed meanwhile."""
        try:
            found = os.lstat(path)
            access.apply(path)
            self._access_before.setdefault(path, FileAccess(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BindError(f"{owner}: cannot change the access to {path}: {file_reason(error)}") from error

    def abandon(self) -> None:
        """Undoes `prepare`: closes the sockets that it has bound."""
        for path, access in self._access_before.items():
            with contextlib.suppress(OSError):
                access.apply(path)
        self._access_before = {}
        self._remove_files()
        for name, group in self._new.items():
            adopted = self._adopted.pop(name, [])
            if self._inheritance is not None:
                self._inheritance.put_back(adopted)
            kept = [each.sock for each in adopted]
            close_all(sock for sock in group.sockets if sock not in kept)
        self._new = {}

    def activate(self) -> list[socket.socket]:
        """Adopts the sockets that `prepare` has bound; returns those that are no longer needed, still open."""
        gone = [name for name, binding in self._configured.items() if self._next.get(name) != binding]
        unneeded = [sock for name in gone if name in self._sockets for sock in self._sockets.pop(name).sockets]
        self._removed |= {binding.address for name in gone if (binding := self._configured[name]).network == "udp"}
        self._access_before = {}
        self._sockets.update(self._new)
        self._adopted = {}
        self._configured, self._new = self._next, {}
        self._remove_files()
        self.on_change(self._sockets)
        return unneeded

    def _remove_files(self) -> None:
        """Removes our socket files that are not configured, unless another process has replaced them."""
        configured = {binding.address for binding in self._configured.values() if binding.network == "unix"}
        for path in self._files.keys() - configured:
            if self._files.pop(path) == inode(path):
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def handover(self, worker_id: int) -> list[tuple[Command, Sequence[int]]]:
        """The commands that give a worker its sockets."""
        return _commands(self._sockets, worker_id, self._workers)

    def handover_new(self, worker_id: int) -> list[tuple[Command, Sequence[int]]]:
        """The commands that give a worker the sockets of a change in preparation."""
        return _commands(self._new, worker_id, self._workers)

    def held(self) -> list[tuple[HeldSocket, int]]:
        """All sockets with their descriptors, for a process that is going to replace this one."""
        found = []
        for name, group in self._sockets.items():
            binding = self._configured[name]
            file = self._files.get(binding.address) if binding.network == "unix" else None
            for index, sock in enumerate(group.sockets):
                held = HeldSocket(
                    "listener", name, *binding, index=index, is_shared=group.is_shared, inode=file, is_kept=group.is_kept
                )
                found.append((held, sock.fileno()))
        return found

    def own(self) -> list[str]:
        """This process has taken over: the files of adopted sockets are its own; returns what has failed."""
        faults = []
        for path, access in self._later.items():
            self._files[path] = inode(path)
            try:
                access.apply(path)
            except OSError as error:
                faults.append(f"cannot change the access to {path}, so it stays as it was: {file_reason(error)}")
        self._later = {}
        self._files.update({path: inode(path) for path in self._foreign})
        self._foreign = set()
        for group in self._lent:
            group.is_kept = False
        self._lent = []
        return faults

    def kept(self) -> list[str]:
        """The listeners whose sockets another process keeps open."""
        return [name for name, group in self._sockets.items() if group.is_kept]

    def has_file(self, path: str) -> bool:
        """Whether the file of a unix socket is there for this process."""
        return path in self._files

    def end_waiting(self) -> bool:
        """No more sessions come from the predecessor. Whether there are UDP sockets that waited for them."""
        waiting = [group for group in self._sockets.values() if group.is_waiting]
        for group in waiting:
            group.is_waiting = False
        return bool(waiting)

    def leave(self) -> None:
        """Closes this process's copies: another process serves the sockets, and their files are that one's."""
        self._files = {}
        self.close()

    def close(self) -> None:
        """Closes this process's copies and removes unix sockets from the file system; the workers' copies stay open."""
        self._configured = {}
        self.abandon()
        self.on_change({})
        for group in self._sockets.values():
            group.close()
        self._sockets.clear()

    def close_some(self, names: Collection[str]) -> None:
        """Closes this process's copies of the sockets of these listeners, which stay configured."""
        gone = [self._sockets.pop(name) for name in names if name in self._sockets]
        if gone:
            self.on_change(self._sockets)
            for group in gone:
                group.close()

    def addresses(self) -> dict[str, str]:
        """The actual address of each listener, which differs from the configured one if the port is 0 or the host a name."""
        found = {}
        for name, group in self._sockets.items():
            first = group.sockets[0]
            if first.family == socket.AF_UNIX:
                found[name] = f"unix:{first.getsockname()}"
            else:
                prefix = "udp:" if first.type == socket.SOCK_DGRAM else ""
                found[name] = prefix + join_address(*first.getsockname()[:2])
        return found


def _commands(groups: Mapping[str, SocketGroup], worker_id: int, workers: int) -> list[tuple[Command, Sequence[int]]]:
    pairs = [(name, sock) for name, group in groups.items() for sock in group.of_worker(worker_id, workers)]
    kept = {name for name, group in groups.items() if group.is_kept}
    waiting = {name for name, group in groups.items() if group.is_waiting}
    commands: list[tuple[Command, Sequence[int]]] = []
    for start in range(0, len(pairs), MAX_DESCRIPTORS):
        part = pairs[start : start + MAX_DESCRIPTORS]
        names = [name for name, _ in part]
        command = Sockets(names, sorted(kept.intersection(names)), sorted(waiting.intersection(names)))
        commands.append((command, [sock.fileno() for _, sock in part]))
    return commands
