"""A listener: accepts connections on a socket that somebody else bound."""

from __future__ import annotations

import asyncio
import socket

from mypy_extensions import i64

from pymosn.api.network import FilterChainFactory
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import DRAINING
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import ConnectionOwner, TcpConnection


class ConnectionNumbers:
    """Numbers the connections of one worker, downstream and upstream alike, for logs."""

    def __init__(self) -> None:
        self._last: i64 = 0

    def next(self) -> i64:
        """The next number."""
        self._last += 1
        return self._last


class Listener(ConnectionOwner):
    """One configured listener in one worker."""

    def __init__(
        self,
        name: str,
        address: str,
        factory: FilterChainFactory,
        stats: DownstreamStats,
        numbers: ConnectionNumbers,
        clock: Clock,
        wheel: TimerWheel,
    ) -> None:
        self.name = name
        self.address = address
        self.stats = stats
        self._factory = factory
        self._numbers = numbers
        self._clock = clock
        self._wheel = wheel
        self._connections: set[TcpConnection] = set()
        self._server: asyncio.Server | None = None

    @property
    def connection_count(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def start(self, sock: socket.socket) -> None:
        """Accepts on `sock`, which is bound and listening."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=sock)  # type: ignore[arg-type]

    def _accept(self) -> TcpConnection:
        return TcpConnection(self._numbers.next(), self._factory.create(), self, self._clock, self._wheel)

    def stop_accepting(self) -> None:
        """Closes the listening socket of this worker; open connections go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def drain(self) -> None:
        """Asks every open connection to end at its next good moment."""
        for connection in list(self._connections):
            connection.drain()

    def abort_all(self) -> None:
        """Ends every open connection now."""
        for connection in list(self._connections):
            connection.abort(DRAINING)

    def on_open(self, connection: TcpConnection) -> None:
        self._connections.add(connection)
        self.stats.connection_total.value += 1
        self.stats.connection_active.value += 1

    def on_end(self, connection: TcpConnection) -> None:
        self._connections.discard(connection)
        stats = self.stats
        stats.connection_destroy.value += 1
        stats.connection_active.value -= 1
        stats.bytes_read.value += connection.bytes_read
        stats.bytes_written.value += connection.bytes_written
