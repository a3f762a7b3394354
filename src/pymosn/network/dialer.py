"""Opens outgoing connections. A dial is the one step of the data path that costs a task.

The task makes the `TcpConnection` with the caller's filter, so that `on_connection` and even `on_data` may be called before
`on_dialed`. A dial cannot be cancelled; a caller that has lost interest closes the connection, or keeps it for another
request. `Peer.transport` counts only here: a TLS dial will wrap the socket and finish the handshake before `on_dialed`. So
does `Peer.rule`: the name is resolved here, and the addresses that the rule accepts are dialed as numbers.
"""

from __future__ import annotations

import asyncio
import socket
from contextvars import Context

from pymosn.api.network import Dialer, DialReceiver, DialRule, NetworkFilter, Peer, PlainTransport
from pymosn.core.addresses import UNIX, split_address
from pymosn.core.clock import Clock
from pymosn.core.failure import CONNECT_FAILED, CONNECT_REFUSED, CONNECT_TIMEOUT, LOOP, NO_DESCRIPTORS, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import SHORTAGES, Admission
from pymosn.network.connection import ConnectionOwner, TcpConnection
from pymosn.network.listener import ConnectionIds


class Refused(Exception):
    """Raised when the peer's rule accepts none of its addresses."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


def permitted(rule: DialRule, ips: list[str], port: int) -> list[str]:
    """Those of the resolved addresses that `rule` accepts. Raises Refused if there are none."""
    refusal: Refused | None = None
    accepted: list[str] = []
    for ip in ips:
        fault = rule.fault(ip, port)
        if fault is None:
            accepted.append(ip)
        elif refusal is None:
            why = "an address of this process" if fault is LOOP else "not an allowed destination"
            refusal = Refused(fault, f"{ip} port {port} is {why}")
    if not accepted and refusal is not None:
        raise refusal
    return accepted


class TcpDialer(Dialer):
    """Dials on the running event loop, over TCP or (`unix:/path`) a unix socket."""

    def __init__(self, ids: ConnectionIds, clock: Clock, wheel: TimerWheel, admission: Admission | None = None) -> None:
        """`admission`: notified when there is no file descriptor for a dial."""
        self._admission = admission
        self._ids = ids
        self._clock = clock
        self._wheel = wheel
        self._owner = ConnectionOwner()
        self._owner.drains_after_reset = True
        # The loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def dial(self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver) -> None:
        # The connection outlives the exchange of the filter that may be dialing: it must not keep its context.
        work = self._dial(peer, timeout, network_filter, receiver)
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver) -> None:
        connection = TcpConnection(self._ids.next(), [network_filter], self._owner, self._clock, self._wheel)
        failure: Failure
        try:
            async with asyncio.timeout(timeout):
                await self._connect(peer, connection)
        except TimeoutError:
            failure, detail = CONNECT_TIMEOUT, f"no connection within {timeout:g} s"
        except Refused as refused:
            failure, detail = refused.failure, str(refused)
        except ConnectionRefusedError as error:
            failure, detail = CONNECT_REFUSED, str(error)
        except (OSError, ValueError) as error:
            failure, detail = CONNECT_FAILED, str(error)
            self._clock.tick()
            if isinstance(error, OSError) and error.errno in SHORTAGES:
                failure = NO_DESCRIPTORS
                if self._admission is not None:
                    self._admission.on_shortage(error.errno or 0)
        else:
            self._clock.tick()
            receiver.on_dialed(connection)
            return
        self._clock.tick()
        receiver.on_dial_failed(failure, detail)

    async def _connect(self, peer: Peer, connection: TcpConnection) -> None:
        if not isinstance(peer.transport, PlainTransport):
            raise ValueError(f"unsupported transport for {peer.address!r}: only plain connections are implemented")
        connection.scheme = peer.transport.scheme
        loop = asyncio.get_running_loop()
        if peer.address.startswith(UNIX):
            path = peer.address.removeprefix(UNIX)
            await loop.create_unix_connection(lambda: connection, path)  # type: ignore[type-var]
            return
        host, port = split_address(peer.address)
        if not host or port == 0:
            raise ValueError(f"invalid address: {peer.address!r}")
        local = (peer.bind, 0) if peer.bind else None
        hosts = [host] if peer.rule is None else permitted(peer.rule, await _resolve(host, port), port)
        for left in range(len(hosts) - 1, -1, -1):
            host = hosts[-1 - left]
            try:
                await loop.create_connection(lambda: connection, host, port, local_addr=local)  # type: ignore[type-var]
                return
            except OSError:
                if left == 0:
                    raise


async def _resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a name or of a number in any notation, in the order in which they are to be tried."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
