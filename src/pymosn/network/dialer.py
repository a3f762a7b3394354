"""Opens outgoing connections. A dial is the one step of the data path that costs a task.

The task makes the `TcpConnection` with the caller's filter, so that `on_connection` and even `on_data` may be called before
`on_dialed`. A dial cannot be cancelled; a caller that has lost interest closes the connection, or keeps it for another
request. `Peer.transport` counts only here: with TLS the handshake is a part of the dial, and `on_connection` comes after
it. So does `Peer.rule`: the name is resolved here, and the addresses that the rule accepts are dialed as numbers.

A host with one address, which nearly all have, is left to the event loop. Several are raced (`happy_eyeballs.py`) within
the time of the one dial, which counts as one connection or one failure.
"""

from __future__ import annotations

import asyncio
import socket
from contextvars import Context
from typing import Any, Final

from pymosn.api.network import Dialer, DialReceiver, NetworkFilter, Peer, PlainTransport
from pymosn.core.addresses import UNIX, normal_ip, split_address
from pymosn.core.clock import Clock
from pymosn.core.failure import (
    CONNECT_FAILED,
    CONNECT_REFUSED,
    CONNECT_TIMEOUT,
    NO_DESCRIPTORS,
    UPSTREAM_TLS_TIMEOUT,
    Failure,
)
from pymosn.core.log import ALERT_FALL_BACK, ERROR, INFO, WARN, Log
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import SHORTAGES, Admission
from pymosn.network.connection import ConnectionOwner, TcpConnection
from pymosn.network.happy_eyeballs import GoodAddresses, HostDial, Refused
from pymosn.network.host_connection import HostConnection
from pymosn.network.keepalive import set_keepalive
from pymosn.network.listener import ConnectionIds
from pymosn.network.tls.dialing import HandshakeFailed, UpstreamHandshake
from pymosn.network.tls.transport import TlsTransport
from pymosn.network.tls.upstream import ClientTls

#: Seconds that the plain connection after a failed handshake has at least, even if the handshake took all of the time.
SECOND_TRY: Final = 1.0
#: Seconds between two log lines about connections that fall back to plain text, or about hosts with several addresses.
LOG_PERIOD: Final = 1.0


class TcpDialer(Dialer):
    """Dials on the running event loop, over TCP or (`unix:/path`) a unix socket."""

    def __init__(
        self, ids: ConnectionIds, clock: Clock, wheel: TimerWheel, admission: Admission | None = None, log: Log | None = None
    ) -> None:
        """`admission`: notified when there is no file descriptor for a dial. `log`: for connections that fall back."""
        self._admission = admission
        self._log = log
        self._next_line = 0.0
        self._next_account = 0.0
        self._good = GoodAddresses()
        self._ids = ids
        self._clock = clock
        self._wheel = wheel
        self._owner = ConnectionOwner()
        self._owner.drains_after_reset = True
        # The loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def dial(
        self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver, preface: bytes = b""
    ) -> None:
        # The connection outlives the exchange of the filter that may be dialing: it must not keep its context.
        work = self._dial(peer, timeout, network_filter, receiver, preface)
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(
        self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver, preface: bytes
    ) -> None:
        end = self._clock.now + timeout
        tls = peer.transport if isinstance(peer.transport, ClientTls) else None
        dialing = Dialing(peer, tls, self._connection(network_filter), preface, self._good, self._clock)
        failure, detail = await self._try(dialing, timeout)
        if tls is not None and tls.settings.falls_back and dialing.has_failed_handshake:
            tls.stats.plain.value += 1
            self._note_fall_back(peer, detail)
            dialing = Dialing(peer, None, self._connection(network_filter), preface, self._good, self._clock)
            failure, detail = await self._try(dialing, max(end - self._clock.now, SECOND_TRY))
        if failure is None:
            receiver.on_dialed(dialing.connection)
        else:
            receiver.on_dial_failed(failure, detail)

    def _connection(self, network_filter: NetworkFilter) -> TcpConnection:
        return HostConnection(self._ids.next(), [network_filter], self._owner, self._clock, self._wheel)

    def _note_fall_back(self, peer: Peer, detail: str) -> None:
        if self._log is not None and self._log.level <= ERROR and self._clock.now >= self._next_line:
            self._next_line = self._clock.now + LOG_PERIOD
            text = f"{peer.address}: the TLS handshake failed ({detail}): connecting without TLS"
            self._log.write(ERROR, text, ALERT_FALL_BACK)

    def _note_addresses(self, peer: Peer, level: int, text: str) -> None:
        """Writes to the log what has become of a host's addresses, but not for each of many dials."""
        if self._log is not None and self._log.level <= level and self._clock.now >= self._next_account:
            self._next_account = self._clock.now + LOG_PERIOD
            self._log.write(level, f"{peer.address}: {text}", "mosn.upstream.addresses")

    async def _try(self, dialing: Dialing, timeout: float) -> tuple[Failure | None, str]:
        """Opens the connection. Returns None, or the failure, and its details."""
        failure: Failure | None = None
        detail = ""
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await dialing.connect()
        except TimeoutError as late:  # also one of the kernel's
            failure, detail = dialing.give_up(timeout) if limit.expired() else (CONNECT_TIMEOUT, str(late))
        except Refused as refused:
            failure, detail = refused.failure, str(refused)
        except HandshakeFailed as failed:
            failure, detail = failed.failure, str(failed)
        except ConnectionRefusedError as error:
            failure, detail = CONNECT_REFUSED, str(error)
        except (OSError, ValueError) as error:
            failure, detail = CONNECT_FAILED, str(error)
            if isinstance(error, OSError) and error.errno in SHORTAGES:
                failure = NO_DESCRIPTORS
                if self._admission is not None:
                    self._admission.on_shortage(error.errno or 0)
        self._clock.tick()
        way = dialing.way
        if way is not None and way.is_race:
            self._note_race(dialing, way, failure, detail)
        return failure, detail

    def _note_race(self, dialing: Dialing, way: HostDial, failure: Failure | None, detail: str) -> None:
        """Several addresses were tried."""
        if failure is not None:
            way.on_unusable()
            self._note_addresses(dialing.peer, WARN, f"{failure.reason} ({detail})")
        elif way.remember():
            self._note_addresses(dialing.peer, INFO, f"connected to {way.reached} ({way.account()})")


class Dialing:
    """One attempt to connect to a peer."""

    def __init__(
        self,
        peer: Peer,
        tls: ClientTls | None,
        connection: TcpConnection,
        preface: bytes,
        good: GoodAddresses,
        clock: Clock,
    ) -> None:
        """`tls`: None for a plain connection. `preface`: sent before everything else."""
        self.peer = peer
        self._good = good
        self._clock = clock
        #: The dial to a host that has a name, a rule or a mark; None for others.
        self.way: HostDial | None = None
        self._tls = tls
        self.connection = connection
        self._preface = preface
        self._handshake: UpstreamHandshake | None = None

    async def connect(self) -> None:
        """Opens the connection. Raises OSError, ValueError, Refused and HandshakeFailed."""
        peer, tls = self.peer, self._tls
        if tls is not None:
            protocol: Any = self._start(tls)
        elif isinstance(peer.transport, (PlainTransport, ClientTls)):
            protocol = self.connection
        else:
            raise ValueError(f"unsupported transport for {peer.address!r}")
        await self._connect(protocol)
        if self._handshake is not None:
            await self._handshake.wait()
        elif self._preface:
            self.connection.write(self._preface)

    def _start(self, tls: ClientTls) -> TlsTransport:
        """The event loop's protocol for one more address."""
        handshake = self._handshake = UpstreamHandshake(self.peer, tls, self.connection, self._preface)
        return handshake.transport

    async def _connect(self, protocol: Any) -> None:
        peer = self.peer
        loop = asyncio.get_running_loop()
        if peer.address.startswith(UNIX):
            path = peer.address.removeprefix(UNIX)
            await loop.create_unix_connection(lambda: protocol, path)
            return
        transport = await self._connect_ip(protocol)
        if peer.keepalive is not None:
            set_keepalive(transport.get_extra_info("socket"), peer.keepalive)

    async def _connect_ip(self, protocol: Any) -> Any:
        """Connects over TCP; returns the transport."""
        peer = self.peer
        host, port = split_address(peer.address)
        if not host or port == 0:
            raise ValueError(f"invalid address: {peer.address!r}")
        if peer.rule is not None or peer.mark != 0 or not normal_ip(host):
            way = self.way = HostDial(peer, self._good, self._clock)
            ips = await way.find()
            if len(ips) > 1 or peer.mark != 0:
                return await self._adopt(protocol, await way.open(ips))
            host = ips[0]
        local = (peer.bind, 0) if peer.bind else None
        return (await asyncio.get_running_loop().create_connection(lambda: protocol, host, port, local_addr=local))[0]

    async def _adopt(self, protocol: Any, sock: socket.socket) -> Any:
        """The transport of a connected socket."""
        try:
            return (await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock))[0]
        except BaseException:
            sock.close()
            raise

    @property
    def has_failed_handshake(self) -> bool:
        """Whether the host was reached, but the handshake failed."""
        return self._handshake is not None and self._handshake.has_failed

    def give_up(self, timeout: float) -> tuple[Failure, str]:
        """The time is over: closes what is open, and returns the failure."""
        handshake = self._handshake
        if handshake is None or not handshake.has_begun:
            account = "" if self.way is None else self.way.account()
            return CONNECT_TIMEOUT, f"no connection within {timeout:g} s" + (f": {account}" if account else "")
        handshake.abort()
        return UPSTREAM_TLS_TIMEOUT, f"no TLS handshake within {timeout:g} s"
