"""A listener: accepts connections on sockets bound by the supervisor, or from its siblings in other workers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mypy_extensions import i64

from pymosn.api.network import FilterChainFactory, NetworkFilter, Passage, TcpKeepalive, join_address
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import DRAINING, INTERNAL_ERROR, LISTENER_FULL, WORKER_FULL, Failure
from pymosn.core.foreign import report
from pymosn.core.log import Log
from pymosn.core.stamps import IDS_PER_WORKER
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import Acceptor, Admission
from pymosn.network.arrived import ArrivedConnection
from pymosn.network.closing import accept_last, refuse_new
from pymosn.network.connection import TcpConnection
from pymosn.network.keepalive import set_keepalive
from pymosn.network.original_dst import OriginalDst, redirected_from
from pymosn.network.progress import cell_of

#: Connections that may wait to be accepted; the kernel limits it to net.core.somaxconn.
BACKLOG: Final = 4096


def prepare_to_listen(sock: socket.socket) -> None:
    """Must be called before a bound socket listens: accepted connections inherit SO_REUSEADDR, and so do not block the next
    start while they are in TIME_WAIT. Before that it is off, so that another process cannot bind the address.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def listens(sock: socket.socket) -> bool:
    """Whether a socket listens. OSError if it is closed."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0


class ConnectionIds:
    """Connection ids of one worker, shared by downstream and upstream connections; for logs."""

    def __init__(self, incarnation: i64 = 0) -> None:
        """`incarnation`: how many workers were started before this one (`IDS_PER_WORKER`)."""
        self._last: i64 = incarnation * IDS_PER_WORKER

    def next(self) -> i64:
        """The next id."""
        self._last += 1
        return self._last


class ListenerDirectory:
    """The listeners of a worker by `ip:port`, including those without a socket; replaced as a whole by a change."""

    def __init__(self) -> None:
        self.by_address: dict[str, Listener] = {}

    def find(self, ip: str, port: i64, original: OriginalDst) -> Listener | None:
        """The listener with exactly that address, else the one for this port on any address; None if there is neither."""
        exact = self.by_address.get(join_address(ip, port))
        if exact is not None:
            return exact
        local, every = ("::1", "::") if ":" in ip else ("127.0.0.1", "0.0.0.0")
        return self.by_address.get(join_address(local if original.fallback_to_local else every, port))


class Listener(Acceptor):
    """One configured listener in one worker."""

    def __init__(
        self,
        name: str,
        address: str,
        factory: FilterChainFactory,
        stats: DownstreamStats,
        ids: ConnectionIds,
        clock: Clock,
        wheel: TimerWheel,
        admission: Admission | None = None,
    ) -> None:
        """`admission`: the worker's; without it only the listener's own limit applies."""
        super().__init__()
        self.name = name
        self.address = address
        self.stats = stats
        #: Makes the filters of new connections; a configuration change may replace it.
        self.factory = factory
        #: How to find the original destination of redirected clients; None when connections are not redirected here.
        self.original_dst: OriginalDst | None = None
        #: Where to find the listener for that destination.
        self.directory: ListenerDirectory | None = None
        #: Connections that may be open at once; 0 is no limit.
        self.max_connections: i64 = 0
        #: Probes of TCP on its connections; None: no probes.
        self.keepalive: TcpKeepalive | None = None
        #: Called for connections that may move to another process; None while this one stays.
        self.departable: Callable[[TcpConnection], None] | None = None
        self._admission = admission or Admission(wheel, Log())
        self._ids = ids
        self._clock = clock
        self._wheel = wheel
        self._connections: set[TcpConnection] = set()
        #: Whether another process keeps its sockets open, and will serve what waits there.
        self.is_kept = False
        # Its sockets share one address. The n-th server accepts on a copy of the n-th socket.
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._is_enabled = False
        self._is_opening = False
        self._is_aborting = False
        self._progress = self._admission.progress
        self._cell: i64 = cell_of(name)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def connection_count(self) -> int:
        """Open connections."""
        return len(self._connections)

    def bound_address(self) -> tuple[str, int] | None:
        """The IP address and port of its sockets; None if it has no TCP socket."""
        if not self._sockets or self._sockets[0].family not in (socket.AF_INET, socket.AF_INET6):
            return None
        name = self._sockets[0].getsockname()
        return str(name[0]), int(name[1])

    def socket_ids(self) -> set[int]:
        """What identifies its sockets, whatever their descriptors."""
        return {os.fstat(sock.fileno()).st_ino for sock in self._sockets}

    async def start(self, sock: socket.socket) -> None:
        """Listens on `sock`, which is bound, and accepts. A second one, of the same address, is accepted from as well."""
        sock.setblocking(False)
        prepare_to_listen(sock)
        self._sockets.append(sock)
        self._is_enabled = True
        await self._open_servers()
        self._admission.remove(self)
        self._admission.add(self)

    async def _open_servers(self) -> None:
        """Accepts on copies of the sockets: the loop closes those that it is given, and the backlog must survive that."""
        if self._is_opening or not self._is_enabled:
            return
        self._is_opening = True
        try:
            loop = asyncio.get_running_loop()
            while len(self._servers) < len(self._sockets):
                copy = self._sockets[len(self._servers)].dup()
                # uvloop calls listen(), by default with a backlog of 100.
                server = await loop.create_server(self._accept, sock=copy, backlog=BACKLOG)  # type: ignore[arg-type]
                self._servers.append(server)
        finally:
            self._is_opening = False
        if not self._is_enabled:  # it was stopped meanwhile
            self._close_servers()

    async def _open_servers_again(self) -> None:
        try:
            await self._open_servers()
        except OSError:
            self._admission.on_shortage()  # another part of the process took the last descriptor

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers = []

    def set_accepting(self, accepting: bool) -> None:
        if not self._sockets:
            return
        self._is_enabled = accepting
        if accepting:
            self._start_task(self._open_servers_again())
        else:
            self._close_servers()

    def _start_task(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self) -> TcpConnection:
        self._progress.count(self._cell)
        return self._connection()

    def _connection(self) -> TcpConnection:
        return TcpConnection(self._ids.next(), self.factory.create(), self, self._clock, self._wheel)

    def adopt(self, accepted: socket.socket) -> None:
        """Serves a connection that was accepted elsewhere."""
        accepted.setblocking(False)
        loop = asyncio.get_running_loop()
        self._start_task(loop.connect_accepted_socket(self._connection, accepted))

    def fault(self) -> str:
        """Why it accepts nothing although it should; empty if it does, as far as can be seen without a connection."""
        if not self._is_enabled:
            return ""
        for i in range(min(len(self._servers), len(self._sockets))):
            sock = self._sockets[i]
            server: Any = self._servers[i]  # uvloop's `sockets` is a list, asyncio's a tuple
            try:
                if not listens(sock):
                    return "its socket no longer listens"
                own = os.fstat(sock.fileno()).st_ino
                is_served = server.is_serving() and all(os.fstat(each.fileno()).st_ino == own for each in server.sockets)
            except OSError:
                is_served = False
            if not is_served:
                return "its socket was closed"
        return ""

    def refuse_new(self) -> None:
        """Ignores new clients until `stop_accepting`; handshakes that have begun may still complete, and are served."""
        if not self.is_kept:
            for sock in self._sockets:
                refuse_new(sock)

    def stop_accepting(self) -> None:
        """Closes this worker's listening sockets; connections in the backlog are accepted first, closing would reset them.

        After `abort_all` they are closed. If another process keeps the sockets open, the backlog is left to that.
        """
        if not self._sockets:
            return
        waiting: list[socket.socket] = []
        if not self.is_kept:
            for sock in self._sockets:
                waiting += accept_last(sock)
        self.release()
        for accepted in waiting:
            if self._is_aborting:
                accepted.close()
            else:
                self.adopt(accepted)

    def release(self) -> None:
        """Closes this worker's copies of the sockets. What waits there is left to those who have others."""
        self._admission.remove(self)
        self._is_enabled = False
        self._close_servers()
        for sock in self._sockets:
            sock.close()
        self._sockets = []

    def drain(self) -> None:
        """Asks every connection, also those that open later, to finish and close as soon as nothing is in flight."""
        self.is_draining = True
        for connection in list(self._connections):
            try:
                connection.drain()
            except BaseException as error:  # of an installed protocol
                report("a connection cannot be drained", error)
                connection.abort(INTERNAL_ERROR)

    def part_with(self, chains: list[FilterChainFactory], *, are_all: bool) -> Listener | None:
        """Moves the open connections of `chains`, which are gone, to a listener without a socket, which can be drained.

        `are_all`: also those that have no chain. None if there are no such connections.
        """
        leaving = [
            connection
            for connection in self._connections
            if (are_all if connection.chain is None else connection.chain in chains)
        ]
        if not leaving:
            return None
        other = Listener(
            self.name, self.address, self.factory, self.stats, self._ids, self._clock, self._wheel, self._admission
        )
        other.write_timeout, other.write_min_rate = self.write_timeout, self.write_min_rate
        for connection in leaving:
            self._connections.discard(connection)
            other._connections.add(connection)
            connection.move_to(other)
        return other

    def abort_all(self) -> None:
        """Ends all open connections, and those that open later: what they would need is about to be closed.

        With a FIN, unless a client could take the beginning of a response for a whole one: then the connection is reset.
        """
        self._is_aborting = True
        for connection in list(self._connections):
            connection.end_now()

    def on_open(self, connection: TcpConnection) -> bool:
        if self._is_aborting:
            connection.abort(DRAINING)
            return False
        if self._admission.descriptor_ceiling > 0:
            self._admission.on_descriptor(connection.descriptor())
        original = self.original_dst
        if original is not None:
            target = self._target_listener(connection, original)
            if target is not self:
                connection.hand_over(target, target.factory.create())
                return target.register(connection)
        return self.register(connection)

    def _target_listener(self, connection: TcpConnection, original: OriginalDst) -> Listener:
        """The listener for the original destination of a connection, which is noted on the connection."""
        if original.is_transparent:
            found: tuple[str, int] | None = (connection.local_ip, int(connection.local_port))
        else:
            found = redirected_from(connection.transport_socket())
        if found is None:
            return self
        ip, port = found
        connection.original_destination = join_address(ip, port)
        if self.directory is None or not original.hands_over:
            return self
        target = self.directory.find(ip, port, original)
        return self if target is None else target

    def register(self, connection: TcpConnection) -> bool:
        """Registers the connection, or refuses it when a connection limit is reached."""
        if 0 < self.max_connections <= len(self._connections):
            return self._refuse(connection, LISTENER_FULL)
        if self._admission.is_full():
            return self._refuse(connection, WORKER_FULL)
        if self.keepalive is not None:
            set_keepalive(connection.transport_socket(), self.keepalive)
        self._connections.add(connection)
        self._admission.open += 1
        self.stats.connection_total.value += 1
        self.stats.connection_active.value += 1
        return True

    # ---- connections that move between processes (docs/upgrade.md)

    def connections(self) -> list[TcpConnection]:
        """The open connections."""
        return list(self._connections)

    def passage_of(self, connection: TcpConnection) -> Passage | None:
        """What another process needs to continue a connection of this listener; None if it cannot move now."""
        chain = self.factory.index_of(connection.chain)
        passage = connection.departure() if chain >= -1 else None
        if passage is not None:
            passage.chain = chain
        return passage

    def depart(self, connection: TcpConnection) -> None:
        """Gives up a connection that another process has. Its end will be counted there."""
        self._connections.discard(connection)
        self._admission.open -= 1
        stats = self.stats
        stats.connection_active.value -= 1
        connection.count_into(stats.bytes_read, stats.bytes_written)
        connection.depart()

    def on_departable(self, connection: TcpConnection) -> None:
        if self.departable is not None:
            self.departable(connection)

    def take_over(self, sock: socket.socket, passage: Passage) -> None:
        """Continues to serve a connection of another process."""
        sock.setblocking(False)

        def arrive() -> ArrivedConnection:
            return ArrivedConnection(self._ids.next(), self, self._clock, self._wheel, passage)

        self._start_task(asyncio.get_running_loop().connect_accepted_socket(arrive, sock))

    def on_arrived(self, connection: TcpConnection, passage: Passage) -> list[NetworkFilter] | None:
        # No limit applies: the connection was accepted long ago. It was counted then, too, except as an active one.
        if self._is_aborting:
            return None
        if self._admission.descriptor_ceiling > 0:
            self._admission.on_descriptor(connection.descriptor())
        filters = self.factory.resume(connection, passage)
        if filters is not None:
            if self.keepalive is not None:
                set_keepalive(connection.transport_socket(), self.keepalive)
            self._connections.add(connection)
            self._admission.open += 1
            self.stats.connection_active.value += 1
        return filters

    def _refuse(self, connection: TcpConnection, failure: Failure) -> bool:
        """Resets it: closing would leave a socket in TIME_WAIT for each, which would help a flood."""
        self.stats.connection_refused.value += 1
        self.stats.count_reason(failure.reason)
        self.factory.on_refused(connection, failure)
        connection.abort(failure)
        return False

    def on_end(self, connection: TcpConnection) -> None:
        if connection not in self._connections:
            return  # it was refused
        self._connections.discard(connection)
        self._admission.open -= 1
        stats = self.stats
        stats.connection_destroy.value += 1
        stats.connection_active.value -= 1
        connection.count_into(stats.bytes_read, stats.bytes_written)
