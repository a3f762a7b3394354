"""A connection to a host, which is read in small pieces at first.

By default the event loop reads up to 256 KB at once. What was read is held while the receiver cannot take it: a client of
HTTP/2 with closed windows and a hundred requests for large responses would make the worker hold megabytes. So the first
read of a response is of FIRST_READ bytes, which is all of most, and each read that fills its buffer is followed by a
larger one. Reading begins small again after a pause, and for the next request.

The event loop reads by `get_buffer` and `buffer_updated`, as of an `asyncio.BufferedProtocol`. With TLS, the transport
calls `data_received` instead, with all of what the event loop has read.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.network import NetworkFilter
from pymosn.core.clock import Clock
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import ConnectionOwner, TcpConnection

#: Bytes of the first read, and of the largest; each one that fills its buffer is followed by one GROWTH times as large.
FIRST_READ: Final[i64] = 16 * 1024
LARGEST_READ: Final[i64] = 256 * 1024
GROWTH: Final[i64] = 4

# Scratch space of all connections: read into and copied from within one call of the event loop.
_SCRATCH: Final = memoryview(bytearray(int(LARGEST_READ)))
_FIRST: Final = _SCRATCH[: int(FIRST_READ)]


class HostConnection(TcpConnection):
    """The event loop's protocol object. The module's docstring describes it."""

    def __init__(
        self, connection_id: i64, filters: list[NetworkFilter], owner: ConnectionOwner, clock: Clock, wheel: TimerWheel
    ) -> None:
        super().__init__(connection_id, filters, owner, clock, wheel)
        self._read_size: i64 = FIRST_READ

    def get_buffer(self, hint: int) -> memoryview:
        """Where the event loop reads into. `hint` is ignored."""
        size = self._read_size
        return _FIRST if size == FIRST_READ else _SCRATCH[: int(size)]

    def buffer_updated(self, count: int) -> None:
        """`count` bytes were read."""
        size = self._read_size
        if count == size and size < LARGEST_READ:
            self._read_size = size * GROWTH
        self.data_received(_SCRATCH[:count].tobytes())

    def pause_reading(self) -> None:
        self._read_size = FIRST_READ
        super().pause_reading()

    def yield_reading(self) -> None:
        size = self._read_size
        super().yield_reading()
        self._read_size = size  # it is not the receiver that asks for this pause

    def set_idle(self, seconds: float) -> None:
        self._read_size = FIRST_READ
        super().set_idle(seconds)
