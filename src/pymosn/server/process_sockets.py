"""All sockets that the process has bound: those of the listeners, and those of the supervisor."""

import os
import socket
from typing import Final

from pymosn.api.network import join_address
from pymosn.config.accounts import Account
from pymosn.config.check.addresses import is_loopback
from pymosn.config.schema.observability import sinks_to_serve
from pymosn.control.service import Service
from pymosn.control.xds.bootstrap import is_needed
from pymosn.core.log import ERROR, WARN, Log
from pymosn.network.destinations import OwnAddresses
from pymosn.server.admin_socket import AdminSocket
from pymosn.server.listeners import ListenerSockets
from pymosn.server.run_options import RunOptions, StartError
from pymosn.server.socket_groups import Binding, GivenSockets
from pymosn.server.sockets import BindError, bind_tcp, close_all
from pymosn.server.upgrade.activation import activated
from pymosn.server.upgrade.inheritance import Inheritance, inode
from pymosn.server.upgrade.messages import HeldSocket

#: Of the sinks of metrics: the owner of their sockets, for messages and upgrades, and their address, as in MOSN.
SINK_OWNER: Final = "metrics sink"
SINK_HOST: Final = "0.0.0.0"


class ProcessSockets(Service):
    """Binds the sockets of all listeners, of the admin API (a port and a unix socket), of profiles and the demo upstream.

    All but those of listeners may be missing.
    """

    name = "sockets"

    def __init__(
        self,
        options: RunOptions,
        workers: int,
        log: Log,
        account: Account | None = None,
        inheritance: Inheritance | None = None,
        given: GivenSockets | None = None,
    ) -> None:
        """`account`, `inheritance`: as for `ListenerSockets`; the account also owns the admin socket."""
        self._activated = activated(os.environ, workers, log)
        self.listeners = ListenerSockets(account, inheritance, self._activated, given)
        self._given = given or GivenSockets()
        self._inheritance = inheritance
        self._account = account
        self.admin: list[socket.socket] = []
        self.admin_unix: list[socket.socket] = []
        #: Whether the admin port is bound to a loopback address.
        self.is_admin_local = False
        self.demo: list[socket.socket] = []
        self.pprof: list[socket.socket] = []
        self.is_pprof_local = False
        #: Of the sinks of metrics, by port.
        self.sinks: dict[int, socket.socket] = {}
        self._options = options
        self._workers = workers
        self._log = log
        self._admin_socket: AdminSocket | None = None
        # Addresses of sockets other than listeners' that are the service manager's.
        self._kept: set[str] = set()

    async def start(self) -> None:
        """StartError with all addresses that cannot be bound."""
        lines = self.listeners.bind(self._options.config.servers[0].listeners, self._workers)
        admin = self._options.config.admin
        endpoint = admin.endpoint() if admin is not None else None
        lines += self._bind_sinks()
        demo = ("127.0.0.1", 8080) if self._options.is_demo else None
        owners = (
            ("admin", endpoint, self.admin),
            ("demo upstream", demo, self.demo),
            ("pprof", self._profiling(), self.pprof),
        )
        for owner, address, sockets in owners:
            try:
                if address is not None:
                    sockets += self._adopt(owner, join_address(*address)) or bind_tcp(owner, *address, 1)
            except BindError as error:
                if owner == "pprof" and self._options.mosn is not None:
                    # MOSN has the port on all addresses, and serves until it is left.
                    self._log.write(WARN, f"no profiling port: {error}")
                else:
                    lines.append(str(error))
        self.is_admin_local = all(is_loopback(sock.getsockname()[0]) for sock in self.admin)
        self.is_pprof_local = all(is_loopback(sock.getsockname()[0]) for sock in self.pprof)
        lines += self._create_admin_socket()
        if not is_needed(self._options.config):  # else the control plane may have the listeners for them
            self._activated.close_spare(self._log)
        if lines:
            raise StartError(lines=lines)

    def _bind_sinks(self) -> list[str]:
        """Binds the ports of the sinks; returns the errors."""
        lines = []
        for settings in sinks_to_serve(self._options.config.metrics):
            try:
                self.bind_sink(settings.port)
            except BindError as error:
                lines.append(str(error))
        return lines

    def bind_sink(self, port: int) -> socket.socket:
        """The socket of a sink, of the predecessor if it has one. BindError if there is none."""
        address = (SINK_HOST, port)
        found = self._adopt(SINK_OWNER, join_address(*address)) or bind_tcp(SINK_OWNER, *address, 1)
        self.sinks[port] = found[0]
        return found[0]

    def services(self) -> list[tuple[str, int]]:
        """IP address and port of the sockets that are no listeners': clients must not choose them as destinations."""
        bound = (*self.admin, *self.demo, *self.pprof, *self.sinks.values())
        tcp = [sock for sock in bound if sock.family in (socket.AF_INET, socket.AF_INET6)]
        return [(str(name[0]), int(name[1])) for name in (sock.getsockname() for sock in tcp)]

    def is_service(self, ip: str, port: int) -> bool:
        """Whether a connection to this address would end at one of the services."""
        own = OwnAddresses()
        own.set_services(self.services())
        return own.is_service(ip, port)

    def _profiling(self) -> tuple[str, int] | None:
        """Host and port for profiles."""
        pprof = self._options.config.pprof
        return None if pprof is None else pprof.address()

    def _create_admin_socket(self) -> list[str]:
        """Creates the unix socket; returns the errors. A default path that cannot be used is only a warning."""
        path = self._options.admin_socket
        admin = self._options.config.admin
        try:
            adopted = self._adopt("admin_unix", path, "unix")
            self._admin_socket = AdminSocket(path, self._account, adopted[0] if adopted else None, path in self._kept)
        except BindError as error:
            return [str(error)]
        except OSError as error:
            if admin is not None and admin.socket:
                return [f"admin.socket: cannot listen on {path}: {error.strerror}"]
            self._log.write(WARN, f"no admin socket, so commands cannot reach this process: {path}: {error.strerror}")
            return []
        self.admin_unix.append(self._admin_socket.sock)
        return []

    def _adopt(self, owner: str, address: str, network: str = "tcp") -> list[socket.socket]:
        """A socket of the predecessor, or of the service manager; empty if neither has one."""
        others = self._given.take(Binding(network, address, False))
        if others is not None:
            return others.sockets
        given = self._activated.take(network, address)
        if given is not None:
            self._kept.add(address)
            return [given]
        owned = [] if self._inheritance is None else self._inheritance.take(owner, network, address, most=1)
        self._kept.update(each.held.address for each in owned if each.held.is_kept)
        return [each.sock for each in owned]

    def held(self) -> list[tuple[HeldSocket, int]]:
        """All sockets with their descriptors, for a process that is going to replace this one."""
        found = self.listeners.held()
        admin = self._options.config.admin
        endpoint = admin.endpoint() if admin is not None else None
        if endpoint is not None:
            found += [(HeldSocket("admin", address=join_address(*endpoint)), sock.fileno()) for sock in self.admin]
        for port, sock in self.sinks.items():
            found.append((HeldSocket(SINK_OWNER, address=join_address(SINK_HOST, port)), sock.fileno()))
        found += [(HeldSocket("demo upstream", address="127.0.0.1:8080"), sock.fileno()) for sock in self.demo]
        profiling = self._profiling()
        if profiling is not None:
            found += [(HeldSocket("pprof", address=join_address(*profiling)), sock.fileno()) for sock in self.pprof]
        path = self._options.admin_socket
        if self._admin_socket is not None:
            is_kept = self._admin_socket.is_kept
            file = None if is_kept else inode(path)
            unix = HeldSocket("admin_unix", network="unix", address=path, is_shared=True, inode=file, is_kept=is_kept)
            found.append((unix, self._admin_socket.sock.fileno()))
        return found

    def own(self) -> None:
        """This process has taken over: the files of adopted sockets are its own."""
        for fault in self.listeners.own():
            self._log.write(ERROR, f"upgrade: {fault}")
        if self._admin_socket is not None:
            self._admin_socket.owns_file = True

    def leave(self) -> None:
        """Closes this process's copies of the listeners' sockets: another process serves all sockets and has their files."""
        self.listeners.leave()
        if self._admin_socket is not None:
            self._admin_socket.owns_file = False

    async def stop(self) -> None:
        self.listeners.close()
        if self._admin_socket is not None:
            self._admin_socket.close()
        close_all([*self.admin, *self.demo, *self.pprof, *self.sinks.values()])
