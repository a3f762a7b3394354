"""UDP: listeners that receive datagrams, and the sessions of their clients.

A session is what one client, an IP address and port, sends to the listener until it is idle. It has an upstream socket of
its own, which is connected: the kernel drops what anyone but its host sends to that, and reports the host's ICMP errors.
Replies go to the client of the session. Nothing is queued here: a datagram is sent at once, or dropped and counted.

Each worker has its own socket with SO_REUSEPORT, and the kernel chooses the socket by a hash of both addresses, so that
a client stays with its worker. The supervisor holds a copy of each socket: what arrives while a worker is replaced waits.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import Connection
from pymosn.core.addresses import MAPPED
from pymosn.core.clock import Clock
from pymosn.core.counters import DatagramStats, DownstreamStats
from pymosn.core.failure import CLOSED_LOCALLY, CONNECT_FAILED, CONNECT_REFUSED, DRAINING, IDLE_TIMEOUT, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import Admission
from pymosn.network.destinations import OwnAddresses
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.network.reject_all import RejectAllFactory

#: More than any UDP datagram has, so that none is truncated.
BUFFER: Final = 1 << 16
#: Datagrams that one event takes from a listener, and from a host, so that others have their turn.
BATCH: Final[i64] = 64
REPLIES: Final[i64] = 16
#: Datagrams of one session that wait while the name of its host is resolved.
HELD: Final = 16
#: Bytes for the ancillary data with the address that a datagram was sent to.
_ANCILLARY: Final = 64
#: The option and the message with the address of a datagram; IPv6: from linux/in6.h.
_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50

#: Errors of sending that concern one datagram.
_BUSY: Final = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EINTR))
_DENIED: Final = frozenset((errno.EPERM, errno.EACCES))

# Reasons for dropping a datagram, in counters.
BAD_SOURCE: Final = "bad_source"
OWN_ADDRESS: Final = "own_address"
TOO_MANY_SESSIONS: Final = "too_many_sessions"
TOO_MANY_OF_CLIENT: Final = "too_many_of_client"
WORKER_FULL: Final = "worker_full"
SHEDDING: Final = "overloaded"
PAUSED: Final = "paused"
ENDING: Final = "draining"
HOST_BUSY: Final = "host_busy"
CLIENT_BUSY: Final = "client_busy"
TOO_LONG: Final = "too_long"
NOT_PERMITTED: Final = "not_permitted"
UNREACHABLE: Final = "client_unreachable"
REPLY_RATIO: Final = "reply_ratio"


@mypyc_attr(allow_interpreted_subclasses=True)
class DatagramSession(Connection):
    """One client of a listener, for logs and routes a connection. `bytes_read`: from the client; `bytes_written`: to it.

    Layer 4 implements `open`, `is_usable`, `on_reply` and `on_end`.
    """

    def __init__(self, listener: DatagramListener, source: Source) -> None:
        super().__init__()
        self.id = listener.next_id()
        self.remote_ip = source.ip
        self.remote_port = source.port
        self.local_ip = source.local_ip or listener.local_ip
        self.local_port = listener.local_port
        self.source = source
        self.idle_timeout: float = 0.0
        self.max_reply_ratio: i64 = 0
        self.datagrams_read: i64 = 0
        self.datagrams_written: i64 = 0
        self._listener = listener
        self._socket: socket.socket | None = None
        # Received before there is an upstream socket.
        self._held: list[bytes] = []

    # ---- layer 4

    def open(self) -> Failure | None:
        """Chooses a host and calls `use_socket`, perhaps later. Returns why there can be no session."""
        raise NotImplementedError

    def is_usable(self) -> bool:
        """Whether the session's host may still get datagrams."""
        return True

    def on_sent(self, size: i64) -> None:
        """A datagram of the client was sent to the host."""

    def on_reply(self, size: i64) -> None:
        """A datagram of the host has arrived."""

    def on_end(self, failure: Failure) -> None:
        """The session is over."""

    # ---- the upstream socket

    def use_socket(self, sock: socket.socket) -> None:
        """Sends to `sock`, which is connected to a host, and takes its replies."""
        self._socket = sock
        self._listener.loop.add_reader(sock.fileno(), self._on_readable)
        held, self._held = self._held, []
        for data in held:
            failure = self._send(memoryview(data), len(data))
            if failure is not None:
                self.end(failure)
                return

    def forward(self, view: memoryview[int], size: i64) -> Failure | None:
        """Sends the first `size` bytes of `view`, one datagram, to the host. Returns why the host cannot have it."""
        self.bytes_read += size
        self.datagrams_read += 1
        self._listener.touch(self)
        if self._socket is None:
            if len(self._held) < HELD:
                self._held.append(bytes(view[:size]))
            else:
                self._listener.drop(HOST_BUSY)
            return None
        return self._send(view[:size], size)

    def _send(self, data: memoryview[int], size: i64) -> Failure | None:
        sock = self._socket
        if sock is None:
            return None
        try:
            sock.send(data)
        except OSError as error:
            number = error.errno or 0
            if number in _BUSY:
                self._listener.drop(HOST_BUSY)
            elif number == errno.EMSGSIZE:
                self._listener.drop(TOO_LONG)
            elif number in _DENIED:
                self._listener.drop(NOT_PERMITTED)
            else:
                return failure_of(number)
            return None
        self.on_sent(size)
        return None

    def _on_readable(self) -> None:
        listener = self._listener
        listener.tick()
        left: i64 = REPLIES
        while left > 0 and self._socket is not None:
            left -= 1
            try:
                size: i64 = self._socket.recv_into(listener.view)
            except BlockingIOError:
                return
            except OSError as error:
                self.end(failure_of(error.errno or 0))
                return
            self.on_reply(size)
            self.reply(listener.view, size)

    def reply(self, view: memoryview[int], size: i64) -> None:
        """Sends a datagram to the client, unless the host has sent too much for what the client has asked."""
        listener = self._listener
        ratio = self.max_reply_ratio
        if ratio > 0 and self.bytes_written + size > ratio * self.bytes_read:
            listener.drop(REPLY_RATIO)
            return
        listener.touch(self)
        if listener.send(view[:size], self.source):
            self.bytes_written += size
            self.datagrams_written += 1
            listener.count_written(size)

    # ---- the end

    def now(self) -> float:
        return self._listener.now()

    def on_alarm(self) -> None:
        self.end(IDLE_TIMEOUT)

    def close(self, failure: Failure) -> None:
        self.end(failure)

    def abort(self, failure: Failure) -> None:
        self.end(failure)

    def end(self, failure: Failure) -> None:
        """Ends the session; a further datagram of the client begins another one."""
        if self.is_closed:
            return
        self.is_closed = True
        self._held = []
        sock = self._socket
        if sock is not None:
            self._socket = None
            self._listener.loop.remove_reader(sock.fileno())
            sock.close()
        self.on_end(failure)
        self._listener.forget(self)


def failure_of(number: int) -> Failure:
    """What an error of a socket says about its host."""
    return CONNECT_REFUSED if number == errno.ECONNREFUSED else CONNECT_FAILED


class Source:
    """Where a datagram came from, and how to reply. `local_ip`: where it was sent to; empty if the socket's address."""

    def __init__(self, key: object, address: Any, control: list[tuple[int, int, bytes]], local_ip: str) -> None:
        """`key`: of the session. `address`: as the socket module gives it. `control`: to be sent with replies."""
        self.key = key
        self.address = address
        self.control = control
        self.local_ip = local_ip
        self.ip: str = str(address[0]).removeprefix(MAPPED)
        self.port: i64 = address[1]

    def is_valid(self) -> bool:
        """Whether a reply can go there: not to port 0, nor to a multicast, broadcast or unspecified address."""
        ip = self.ip
        if self.port == 0:
            return False
        if ":" in ip:
            return ip != "::" and not ip.startswith("ff")
        return 0 < int(ip.partition(".")[0]) < 224


@mypyc_attr(allow_interpreted_subclasses=True)
class SessionFactory:
    """Makes the sessions of a listener, within limits. 0 is no limit."""

    def __init__(self, max_sessions: i64, max_sessions_per_client: i64) -> None:
        """`max_sessions`: in this worker. `max_sessions_per_client`: of one IP address."""
        self.max_sessions: i64 = max_sessions
        self.max_sessions_per_client: i64 = max_sessions_per_client

    def create(self, listener: DatagramListener, source: Source) -> DatagramSession:
        """A session, not open yet."""
        raise NotImplementedError

    def is_shedding(self) -> bool:
        """Whether the worker is overloaded, so that no session may begin."""
        return False


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
        self.datagrams = datagrams
        self.local_ip = ""
        self.local_port: i64 = 0
        self.view: memoryview[int] = memoryview(bytearray(BUFFER))
        self._own = own
        self._readers = readers
        self._cookie = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._by_key: dict[object, DatagramSession] = {}
        self._of_client: dict[str, int] = {}
        # Whether the socket has several addresses, so that each datagram must tell which one it was sent to.
        self._asks_address = False
        self._buffers: list[memoryview[int]] = [self.view]
        self._is_reading = False

    @property
    def connection_count(self) -> int:
        """Its sessions."""
        return len(self._by_key)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it was started on."""
        assert self._loop is not None
        return self._loop

    def next_id(self) -> i64:
        """The id of a new session."""
        return self._ids.next()

    def now(self) -> float:
        """The time of the present event."""
        return self._clock.now

    def tick(self) -> None:
        """An event has begun."""
        self._clock.tick()

    def touch(self, session: DatagramSession) -> None:
        """Restarts the idle timeout of a session."""
        self._wheel.set(session, session.idle_timeout)

    def drop(self, reason: str) -> None:
        """Counts a datagram that is not forwarded."""
        self.datagrams.count_drop(reason)

    def count_written(self, size: i64) -> None:
        """Counts a datagram that was sent to a client."""
        self.datagrams.written.value += 1
        self.stats.bytes_written.value += size

    def on_shortage(self, error: int) -> None:
        """There was no socket for a session."""
        self._admission.on_shortage(error)

    def reaches_itself(self, ip: str, port: i64) -> bool:
        """Whether a datagram to this address would come back to this listener."""
        if port != self.local_port:
            return False
        own = OwnAddresses()
        own.replace([(self.local_ip, int(self.local_port))])
        return own.has(ip, port)

    # ---- the socket

    async def start(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        name = sock.getsockname()
        self.local_ip = str(name[0])
        self.local_port = int(name[1])
        if self.local_ip in ("0.0.0.0", "::"):
            # The reply must come from the address that the client has sent to.
            self._asks_address = True
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.SOL_IP, _IP_PKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        self._cookie = socket_cookie(sock)
        before = self._readers.get(self._cookie)
        if before is not None:
            before.stop_reading()  # a listener of another name had this address, and keeps only its sessions' replies
        self._readers[self._cookie] = self
        self._is_reading = True
        self._loop.add_reader(sock.fileno(), self._on_readable)
        self._is_enabled = True
        self._admission.add(self)

    def stop_reading(self) -> None:
        """Leaves the datagrams that arrive to another listener with this socket."""
        if self._is_reading and self._socket is not None:
            self._is_reading = False
            self.loop.remove_reader(self._socket.fileno())
        if self._readers.get(self._cookie) is self:
            del self._readers[self._cookie]

    def set_accepting(self, accepting: bool) -> None:
        """Whether sessions may begin; the datagrams of others are forwarded."""
        self._is_enabled = accepting

    def fault(self) -> str:
        sock = self._socket
        if sock is None or not self._is_reading:
            return ""
        try:
            return "" if socket_cookie(sock) == self._cookie else "its socket was closed"
        except OSError:
            return "its socket was closed"

    def stop_accepting(self) -> None:
        """From now on no session begins. The socket is closed with the last session, which may need it until then."""
        if self._socket is None:
            return
        self._admission.remove(self)
        self.is_draining = True
        self._close_if_done()

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
        sock = self._socket
        if sock is not None and self.is_draining and not self._by_key:
            self._admission.remove(self)
            self.stop_reading()
            self._socket = None
            sock.close()

    # ---- datagrams

    def _on_readable(self) -> None:
        self._clock.tick()
        left: i64 = BATCH
        while left > 0 and self._socket is not None:
            left -= 1
            control: list[tuple[int, int, bytes]] = []
            local_ip = ""
            try:
                if not self._asks_address:
                    size, address = self._socket.recvfrom_into(self.view)
                    key: object = address
                else:
                    size, control, _, address = self._socket.recvmsg_into(self._buffers, _ANCILLARY)
                    control, local_ip = reply_control(control)
                    key = (address, local_ip)
            except OSError:
                return
            self.receive(size, key, address, control, local_ip)

    def receive(self, size: i64, key: object, address: Any, control: list[tuple[int, int, bytes]], local_ip: str) -> None:
        """A datagram has arrived in `view`; the other arguments are those of `Source`."""
        self.datagrams.read.value += 1
        self.stats.bytes_read.value += size
        session = self._by_key.get(key)
        if session is not None and not session.is_usable():
            session.end(CLOSED_LOCALLY)
            session = None
        if session is None:
            session = self._open(Source(key, address, control, local_ip))
        if session is None:
            return
        failure = session.forward(self.view, size)
        if failure is None:
            return
        # The host has answered an earlier datagram with an error; this one has not been sent, and may go to another host.
        session.end(failure)
        session = self._open(Source(key, address, control, local_ip))
        if session is not None:
            failure = session.forward(self.view, size)
            if failure is not None:
                session.end(failure)
                self.drop(failure.reason)

    def _open(self, source: Source) -> DatagramSession | None:
        """Begins a session, if one may begin."""
        reason = self._refusal(source)
        if reason:
            self.stats.connection_refused.value += 1
            self.drop(reason)
            return None
        session = self.sessions.create(self, source)
        self._by_key[source.key] = session
        self._of_client[source.ip] = self._of_client.get(source.ip, 0) + 1
        self._admission.open += 1
        stats = self.stats
        stats.connection_total.value += 1
        stats.connection_active.value += 1
        failure = session.open()
        if failure is not None:
            session.end(failure)
            self.drop(failure.reason)
            return None
        return session

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

    def count_descriptor(self, descriptor: i64) -> None:
        """A session has got that descriptor."""
        if self._admission.descriptor_ceiling > 0:
            self._admission.on_descriptor(descriptor)

    def send(self, data: memoryview[int], source: Source) -> bool:
        """Sends a datagram to a client; returns whether the kernel has taken it."""
        sock = self._socket
        if sock is None:
            return False
        try:
            if source.control:
                sock.sendmsg((data,), source.control, 0, source.address)
            else:
                sock.sendto(data, source.address)
        except OSError as error:
            number = error.errno or 0
            if number in _BUSY:
                self.drop(CLIENT_BUSY)
            elif number == errno.EMSGSIZE:
                self.drop(TOO_LONG)
            else:
                self.drop(NOT_PERMITTED if number in _DENIED else UNREACHABLE)
            return False
        return True

    def forget(self, session: DatagramSession) -> None:
        """A session is over."""
        self._wheel.clear(session)
        source = session.source
        if self._by_key.pop(source.key, None) is None:
            return
        count = self._of_client[source.ip] - 1
        if count > 0:
            self._of_client[source.ip] = count
        else:
            del self._of_client[source.ip]
        self._admission.open -= 1
        self.stats.connection_destroy.value += 1
        self.stats.connection_active.value -= 1
        self._close_if_done()


def socket_cookie(sock: socket.socket) -> int:
    """What identifies a socket, whatever its descriptors (SO_COOKIE). OSError if it is closed."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 57, 8), "little")


def reply_control(received: list[tuple[int, int, bytes]]) -> tuple[list[tuple[int, int, bytes]], str]:
    """The ancillary data that makes a reply leave from the address that a datagram was sent to, and that address."""
    for level, kind, content in received:
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO and len(content) >= 20:
            ip = socket.inet_ntop(socket.AF_INET6, content[:16])
            # The interface only where the address needs one.
            index = content[16:20] if ip.startswith("fe80:") else b"\0\0\0\0"
            return [(level, kind, content[:16] + index)], ip.removeprefix(MAPPED)
        if level == socket.SOL_IP and kind == _IP_PKTINFO and len(content) >= 12:
            # struct in_pktinfo: interface, local address, destination of the header.
            local = content[4:8]
            return [(level, kind, b"\0\0\0\0" + local + b"\0\0\0\0")], socket.inet_ntop(socket.AF_INET, local)
    return [], ""


def connected_socket(
    ip: str, port: int, bind: str = "", prepare: Callable[[socket.socket], None] | None = None
) -> socket.socket:
    """A UDP socket whose only peer is that IP address and port. `bind`: the local address. OSError.

    `prepare`: called before it is bound.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if prepare is not None:
            prepare(sock)
        if bind:
            sock.bind((bind, 0))
        sock.connect((ip, port))
    except BaseException:
        sock.close()
        raise
    return sock
