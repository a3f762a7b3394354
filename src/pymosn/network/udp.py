"""UDP: listeners that receive datagrams, and the sessions of their clients.

A session is what one client, an IP address and port, sends to the listener until it is idle. It has an upstream socket of
its own, which is connected: the kernel drops what anyone but its host sends to that, and reports the host's ICMP errors.
Replies go to the client of the session. Nothing is queued here: a datagram is sent at once, or dropped and counted.

Each worker has its own socket with SO_REUSEPORT, and the kernel chooses the socket by a hash of both addresses, so that
a client stays with its worker. The supervisor holds a copy of each socket: what arrives while a worker is replaced waits.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from mypy_extensions import i64

from pymosn.core.clock import Clock
from pymosn.core.counters import DatagramStats, DownstreamStats
from pymosn.core.failure import CLOSED_LOCALLY, DRAINING
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import Admission
from pymosn.network.datagram_session import DatagramSession, SessionFactory, SessionState
from pymosn.network.datagrams import (
    BAD_SOURCE,
    ENDING,
    IP_PKTINFO,
    IPV6_RECVPKTINFO,
    OWN_ADDRESS,
    PAUSED,
    SHEDDING,
    TOO_MANY_OF_CLIENT,
    TOO_MANY_SESSIONS,
    WORKER_FULL,
    DatagramPort,
    Source,
    reply_control,
    socket_cookie,
)
from pymosn.network.destinations import OwnAddresses
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.network.reject_all import RejectAllFactory

#: Datagrams that one event takes from a listener, so that others have their turn.
BATCH: Final[i64] = 64
#: Bytes for the ancillary data with the address that a datagram was sent to.
_ANCILLARY: Final = 64


class DatagramListener(Listener):
    """One UDP listener in one worker. Its sessions are counted as connections."""

    def __init__(
        self,
        name: str,
        address: str,
        stats: DownstreamStats,
        datagrams: DatagramStats,
        ids: ConnectionIds,
        clock: Clock,
        wheel: TimerWheel,
        admission: Admission,
        own: OwnAddresses,
        readers: dict[int, DatagramListener],
        sessions: SessionFactory,
    ) -> None:
        """`own`: the addresses of UDP listeners of this process. `readers`: who reads each socket, shared by all of them.

        `sessions`: for new clients; a configuration change may replace it.
        """
        super().__init__(name, address, RejectAllFactory(stats), stats, ids, clock, wheel, admission)
        self.sessions = sessions
        self.port = DatagramPort(clock, wheel, stats, datagrams, self._admission)
        # Those with a socket.
        self._ports: list[DatagramPort] = []
        self._own = own
        self._readers = readers
        self._by_key: dict[object, DatagramSession] = {}
        self._of_client: dict[str, int] = {}
        # Whether the socket has several addresses, so that the kernel is asked which one each datagram was sent to.
        self._asks_address = False
        self._buffers: list[memoryview[int]] = [self.port.view]
        #: Whether sockets that are started from now on are not read until `read`: another process has their sessions.
        self.is_waiting = False

    @property
    def connection_count(self) -> int:
        """Its sessions."""
        return len(self._by_key)

    # ---- the socket

    async def start(self, sock: socket.socket) -> None:
        """Reads `sock`. A second one, of the same address, is read as well; a session replies by the one of its client."""
        sock.setblocking(False)
        self._sockets.append(sock)
        loop = asyncio.get_running_loop()
        port = self.port
        if self._ports:
            port = DatagramPort(port.clock, port.wheel, port.stats, port.datagrams, port.admission, port.view)
        self._ports.append(port)
        port.open(sock, loop)
        if port.local_ip in ("0.0.0.0", "::"):
            # The reply must come from the address that the client has sent to.
            self._asks_address = True
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.SOL_IP, IP_PKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        before = self._readers.get(port.cookie)
        if before is not None:
            before.stop_reading(port.cookie)  # a listener of another name had it, and keeps only its sessions' replies
        self._readers[port.cookie] = self
        if not self.is_waiting:
            self._begin(port)
        self._is_enabled = True
        self._admission.remove(self)
        self._admission.add(self)

    def stop_reading(self, cookie: int) -> None:
        """Leaves the datagrams that arrive at the socket with this cookie to another listener that has it."""
        for port in self._ports:
            if port.cookie == cookie and port.is_read and port.sock is not None:
                port.is_read = False
                port.loop.remove_reader(port.sock.fileno())
        if self._readers.get(cookie) is self:
            del self._readers[cookie]

    def _begin(self, port: DatagramPort) -> None:
        if not port.is_read and port.sock is not None:
            port.is_read = True
            port.loop.add_reader(port.sock.fileno(), self._on_readable, port)

    def set_accepting(self, accepting: bool) -> None:
        """Whether sessions may begin; the datagrams of others are forwarded."""
        self._is_enabled = accepting

    def fault(self) -> str:
        for port in self._ports:
            sock = port.sock
            if sock is not None and port.is_read:
                try:
                    is_same = socket_cookie(sock) == port.cookie
                except OSError:
                    is_same = False
                if not is_same:
                    return "its socket was closed"
        return ""

    def stop_accepting(self) -> None:
        """From now on no session begins. The sockets are closed with the last session, which may need them until then."""
        if not self._sockets:
            return
        self._admission.remove(self)
        self.is_draining = True
        self._close_if_done()

    def release(self) -> None:
        self.stop_accepting()

    def drain(self) -> None:
        """Sessions end when they are idle."""
        self.is_draining = True

    def abort_all(self) -> None:
        self._is_aborting = True
        self.is_draining = True
        for session in list(self._by_key.values()):
            session.end(DRAINING)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if not self._sockets or not self.is_draining or self._by_key:
            return
        self._admission.remove(self)
        for port in self._ports:
            self.stop_reading(port.cookie)
            port.sock = None
        for sock in self._sockets:
            sock.close()
        self._ports, self._sockets = [], []

    # ---- moving to another process

    def hold(self) -> None:
        """Reads no more from clients: what they send waits in the sockets. Replies of hosts are forwarded."""
        for port in self._ports:
            if port.is_read and port.sock is not None:
                port.is_read = False
                port.loop.remove_reader(port.sock.fileno())

    def read(self, cookie: int = 0) -> None:
        """Begins to read the socket with this cookie; 0: all of them."""
        for port in self._ports:
            if (cookie == 0 or port.cookie == cookie) and self._readers.get(port.cookie) is self:
                self._begin(port)

    def ports(self) -> list[DatagramPort]:
        """Those with a socket, in the order in which they were started."""
        return list(self._ports)

    def sessions_at(self, port: DatagramPort) -> list[DatagramSession]:
        """The sessions whose clients' datagrams arrive at this port."""
        return [session for session in self._by_key.values() if session.port is port]

    def continue_session(self, cookie: int, source: Source, state: SessionState, sock: socket.socket) -> str:
        """Continues a session of another process with its upstream socket, which is closed if that is not possible.

        `cookie`: of the socket that its datagrams arrive at. Returns why it ends; empty if it continues.
        """
        self._clock.tick()
        for port in self._ports:
            if port.cookie == cookie:
                break
        else:
            sock.close()
            return "the socket of the listener is not here"
        if source.key in self._by_key:
            sock.close()
            return "the client has begun another session"
        session = self.sessions.create(port, source, self._ids.next())
        self._register(session)
        failure = session.arrive(state, sock)
        if failure is not None:
            sock.close()
            session.end(failure)
            return failure.reason
        self._admission.on_descriptor(session.descriptor())
        return ""

    # ---- datagrams

    def _on_readable(self, port: DatagramPort) -> None:
        self._clock.tick()
        left: i64 = BATCH
        while left > 0:
            left -= 1
            sock = port.sock
            if sock is None:
                return
            control: list[tuple[int, int, bytes]] = []
            local_ip = ""
            try:
                if not self._asks_address:
                    size, address = sock.recvfrom_into(port.view)
                    key: object = address
                else:
                    size, control, _, address = sock.recvmsg_into(self._buffers, _ANCILLARY)
                    control, local_ip = reply_control(control)
                    key = (address, local_ip)
            except OSError:
                return
            self.receive(size, key, address, control, local_ip, port)

    def receive(
        self,
        size: i64,
        key: object,
        address: Any,
        control: list[tuple[int, int, bytes]],
        local_ip: str,
        port: DatagramPort | None = None,
    ) -> None:
        """A datagram has arrived in the `view` of a port, by default of `self.port`. The others are those of `Source`."""
        port = port or self.port
        port.datagrams.read.value += 1
        self.stats.bytes_read.value += size
        session = self._by_key.get(key)
        if session is not None and not session.is_usable():
            session.end(CLOSED_LOCALLY)
            session = None
        if session is None:
            session = self._open(Source(key, address, control, local_ip), port)
        if session is None:
            return
        failure = session.forward(port.view, size)
        if failure is None:
            return
        # The host has answered an earlier datagram with an error; this one has not been sent, and may go to another host.
        session.end(failure)
        session = self._open(Source(key, address, control, local_ip), port)
        if session is not None:
            failure = session.forward(port.view, size)
            if failure is not None:
                session.end(failure)
                port.drop(failure.reason)

    def _open(self, source: Source, port: DatagramPort) -> DatagramSession | None:
        """Begins a session, if one may begin."""
        reason = self._refusal(source)
        if reason:
            self.stats.connection_refused.value += 1
            port.drop(reason)
            return None
        session = self.sessions.create(port, source, self._ids.next())
        self._register(session)
        self.stats.connection_total.value += 1
        failure = session.open()
        if failure is not None:
            session.end(failure)
            port.drop(failure.reason)
            return None
        return session

    def _register(self, session: DatagramSession) -> None:
        source = session.source
        session.forget = self._forget
        self._by_key[source.key] = session
        self._of_client[source.ip] = self._of_client.get(source.ip, 0) + 1
        self._admission.open += 1
        self.stats.connection_active.value += 1

    def _refusal(self, source: Source) -> str:
        """Why no session may begin; empty if one may."""
        sessions = self.sessions
        if not source.is_valid():
            return BAD_SOURCE
        if self.is_draining:
            return ENDING
        if 0 < sessions.max_sessions <= len(self._by_key) or 0 < self.max_connections <= len(self._by_key):
            return TOO_MANY_SESSIONS
        if 0 < sessions.max_sessions_per_client <= self._of_client.get(source.ip, 0):
            return TOO_MANY_OF_CLIENT
        if self._admission.is_full():
            return WORKER_FULL
        if sessions.is_shedding():
            return SHEDDING
        if not self._is_enabled:
            return PAUSED
        # Two listeners would send each other's replies back for ever.
        return OWN_ADDRESS if self._own.has(source.ip, source.port) else ""

    def _forget(self, session: DatagramSession) -> None:
        source = session.source
        if self._by_key.pop(source.key, None) is None:
            return
        count = self._of_client[source.ip] - 1
        if count > 0:
            self._of_client[source.ip] = count
        else:
            del self._of_client[source.ip]
        self._admission.open -= 1
        if not session.has_departed:  # it is counted where it ends
            self.stats.connection_destroy.value += 1
        self.stats.connection_active.value -= 1
        self._close_if_done()
