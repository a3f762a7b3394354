"""A connection that another process of the proxy has served so far (docs/upgrade.md)."""

from __future__ import annotations

import asyncio
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import NetworkFilter, Passage
from pymosn.core.clock import Clock
from pymosn.core.failure import CLOSED_LOCALLY
from pymosn.core.timers import NEVER, TimerWheel
from pymosn.network.connection import NO_FILTER, ConnectionOwner, TcpConnection

#: The shortest time that is left of a timeout which began in the other process.
LEAST_TIME: Final = 0.5


@mypyc_attr(allow_interpreted_subclasses=True)
class ArrivalOwner(ConnectionOwner):
    """What takes connections over."""

    def on_arrived(self, connection: TcpConnection, passage: Passage) -> list[NetworkFilter] | None:
        """Registers the connection, which has its addresses, and makes its filters; None if it cannot be continued."""
        raise NotImplementedError


class ArrivedConnection(TcpConnection):
    """Its filters continue where those of the other process have stopped."""

    def __init__(self, connection_id: i64, owner: ArrivalOwner, clock: Clock, wheel: TimerWheel, passage: Passage) -> None:
        super().__init__(connection_id, [NO_FILTER], owner, clock, wheel)
        self._arrival_owner = owner
        self._passage: Passage | None = passage

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._set_transport(transport)
        passage, self._passage = self._passage, None
        if passage is None:
            return
        self._take_facts(passage)
        filters = self._arrival_owner.on_arrived(self, passage)
        if filters is None:
            self.close(CLOSED_LOCALLY)
            return
        self.replace_filters(filters)
        for network_filter in filters:
            network_filter.on_connection(self)
            network_filter.on_arrival(passage)
        if self._owner.is_draining:
            self.drain()
        if passage.data:
            for network_filter in filters:
                if not network_filter.on_data(passage.data):
                    break
        if passage.idle > 0.0 and self.alarm_deadline < NEVER:
            self._wheel.set(self, max(self.alarm_deadline - self._clock.now - passage.idle, LEAST_TIME))
        if self._pauses > 0:
            # uvloop begins to read after this method, whatever was called in it.
            asyncio.get_running_loop().call_soon(self._pause_again)

    def _take_facts(self, passage: Passage) -> None:
        """Takes over the addresses, which the PROXY protocol may have set, and the bytes that are counted already."""
        if (passage.remote_ip, passage.remote_port) != (self.remote_ip, self.remote_port):
            self.proxy_ip = self.remote_ip
        self.remote_ip, self.remote_port = passage.remote_ip, passage.remote_port
        self.local_ip, self.local_port = passage.local_ip, passage.local_port
        self.original_destination = passage.original_destination
        self.bytes_read = self._counted_read = passage.bytes_read
        self.bytes_written = self._counted_written = passage.bytes_written

    def _pause_again(self) -> None:
        transport = self._transport
        if self._pauses > 0 and transport is not None and not self.is_closed:
            transport.pause_reading()
