"""Datagrams: the socket of a UDP listener, where a datagram came from, and sockets that are connected to a host."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any, Final

from mypy_extensions import i64

from pymosn.core.addresses import unmapped
from pymosn.core.clock import Clock
from pymosn.core.counters import DatagramStats, DownstreamStats
from pymosn.core.failure import CONNECT_FAILED, CONNECT_REFUSED, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import Admission
from pymosn.network.destinations import OwnAddresses
from pymosn.network.marks import set_mark

#: More than any UDP datagram has, so that none is truncated.
BUFFER: Final = 1 << 16
#: The option and the message with the address that a datagram was sent to (ip(7)); IPv6: from linux/in6.h.
IP_PKTINFO: Final = 8
IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
#: The option for what identifies a socket (asm-generic/socket.h).
_SO_COOKIE: Final = 57

#: Errors of sending that concern one datagram.
BUSY: Final = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EINTR))
DENIED: Final = frozenset((errno.EPERM, errno.EACCES))

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


class Source:
    """Where a datagram came from, and how to reply. `local_ip`: where it was sent to; empty if the socket's address."""

    def __init__(self, key: object, address: Any, control: list[tuple[int, int, bytes]], local_ip: str) -> None:
        """`key`: of the session. `address`: as the socket module gives it. `control`: to be sent with replies."""
        self.key = key
        self.address = address
        self.control = control
        self.local_ip = local_ip
        self.ip: str = unmapped(str(address[0]))
        self.port: i64 = address[1]

    def is_valid(self) -> bool:
        """Whether a reply can go there: not to port 0, nor to a multicast, broadcast or unspecified address."""
        ip = self.ip
        if self.port == 0:
            return False
        if ":" in ip:
            return ip != "::" and not ip.startswith("ff")
        return 0 < int(ip.partition(".")[0]) < 224


class DatagramPort:
    """One socket of a UDP listener, with what its sessions share."""

    def __init__(
        self,
        clock: Clock,
        wheel: TimerWheel,
        stats: DownstreamStats,
        datagrams: DatagramStats,
        admission: Admission,
        view: memoryview[int] | None = None,
    ) -> None:
        """`view`: that of another port of the listener."""
        self.clock = clock
        self.wheel = wheel
        self.stats = stats
        self.datagrams = datagrams
        self.admission = admission
        self.sock: socket.socket | None = None
        self.local_ip = ""
        self.local_port: i64 = 0
        #: Where every datagram is received, and forwarded from at once.
        self.view: memoryview[int] = memoryview(bytearray(BUFFER)) if view is None else view
        #: Identifies the socket, see `socket_cookie`.
        self.cookie = 0
        #: Whether what arrives is read here, and not by another listener with the same socket.
        self.is_read = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it was opened on."""
        assert self._loop is not None
        return self._loop

    def open(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """Sends from `sock`, which is bound."""
        self.sock = sock
        self.cookie = socket_cookie(sock)
        self._loop = loop
        name = sock.getsockname()
        self.local_ip = str(name[0])
        self.local_port = int(name[1])

    def is_at(self, ip: str, number: i64) -> bool:
        """Whether a datagram to that IP address and port would come back here."""
        if number != self.local_port:
            return False
        own = OwnAddresses()
        own.replace([(self.local_ip, int(self.local_port))])
        return own.has(ip, number)

    def drop(self, reason: str) -> None:
        """Counts a datagram that is not forwarded."""
        self.datagrams.count_drop(reason)

    def send(self, data: memoryview[int], source: Source) -> bool:
        """Sends a datagram to a client; returns whether the kernel has taken it."""
        sock = self.sock
        if sock is None:
            return False
        try:
            if source.control:
                sock.sendmsg((data,), source.control, 0, source.address)
            else:
                sock.sendto(data, source.address)
        except OSError as error:
            number = error.errno or 0
            if number in BUSY:
                self.drop(CLIENT_BUSY)
            elif number == errno.EMSGSIZE:
                self.drop(TOO_LONG)
            else:
                self.drop(NOT_PERMITTED if number in DENIED else UNREACHABLE)
            return False
        self.datagrams.written.value += 1
        self.stats.bytes_written.value += len(data)
        return True


def failure_of(number: int) -> Failure:
    """The failure that an error of a connected socket means."""
    return CONNECT_REFUSED if number == errno.ECONNREFUSED else CONNECT_FAILED


def socket_cookie(sock: socket.socket) -> int:
    """What identifies a socket, whatever its descriptors (SO_COOKIE). OSError if it is closed."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), "little")


def reply_control(received: list[tuple[int, int, bytes]]) -> tuple[list[tuple[int, int, bytes]], str]:
    """The ancillary data that makes a reply leave from the address that a datagram was sent to, and that address."""
    for level, kind, content in received:
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO and len(content) >= 20:
            ip = socket.inet_ntop(socket.AF_INET6, content[:16])
            # The interface only where the address needs one.
            index = content[16:20] if ip.startswith("fe80:") else b"\0\0\0\0"
            return [(level, kind, content[:16] + index)], unmapped(ip)
        if level == socket.SOL_IP and kind == IP_PKTINFO and len(content) >= 12:
            # struct in_pktinfo: interface, local address, destination of the header.
            local = content[4:8]
            return [(level, kind, b"\0\0\0\0" + local + b"\0\0\0\0")], socket.inet_ntop(socket.AF_INET, local)
    return [], ""


def connected_socket(ip: str, port: int, bind: str = "", mark: i64 = 0) -> socket.socket:
    """A UDP socket whose only peer is that IP address and port. `bind`: the local address. `mark`: SO_MARK. OSError."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if mark != 0:
            set_mark(sock, int(mark))
        if bind:
            sock.bind((bind, 0))
        sock.connect((ip, port))
    except BaseException:
        sock.close()
        raise
    return sock
