"""One TCP connection on the event loop, downstream or upstream."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from typing import Any, Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import Connection, NetworkFilter
from pymosn.core.addresses import MAPPED
from pymosn.core.clock import Clock
from pymosn.core.failure import CLIENT_WRITE_TIMEOUT, CLOSED_BY_PEER, Failure
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.timers import Alarm, TimerWheel

#: Seconds in which the peer of a closing connection must take some of its last bytes.
FLUSH_TIME: Final[float] = 30.0
#: Seconds for which a connection closed under a sending peer is still read (RFC 9112 section 9.6).
LINGER_TIME: Final[float] = 5.0
#: Bytes buffered for a peer above which its source is asked to pause.
HIGH_WATER: Final = 256 * 1024
#: Writes below this size are joined into one; above it, copying costs more than a second buffer.
JOIN_LIMIT: Final[i64] = 32 * 1024
#: What `batch_writer` gathers before it is sent, the rest of the turn or not.
SOON_LIMIT: Final[i64] = 96 * 1024
#: Writers that are kept for the next turn: one that must grow anew each time costs more than what it saves.
SPARE_WRITERS: Final[i64] = 8

#: Bytes that are still read of what a peer sent before it reset the connection.
LAST_WORDS: Final[i64] = 256 * 1024

#: SO_LINGER on, for no time: closing resets.
NO_LINGER: Final = struct.pack("ii", 1, 0)

#: The filter of a connection that is gone.
NOBODY: Final = NetworkFilter()

_OPEN: Final[i64] = 0
_LINGERING: Final[i64] = 1
_CLOSING: Final[i64] = 2


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionOwner:
    """Who keeps count of connections: a listener or a dialer."""

    def __init__(self) -> None:
        #: Connections that open from now on are told at once that they are to end.
        self.is_draining = False
        #: Seconds in which a peer must take some of what is buffered for it (0 is never), and bytes per second.
        self.write_timeout = 0.0
        self.write_min_rate = 0.0
        #: Of its connections, for `batch_writer`; those that are not in use.
        self.writers: list[FrameWriter] = []
        #: Whether what a peer sent before it reset the connection is still of use, as the reply of an upstream is. It is
        #: read from the bare socket.
        self.drains_after_reset = False

    def on_open(self, connection: TcpConnection) -> bool:
        """The connection is open and its filters are about to hear so; False: it was refused, and they will hear nothing."""
        return True

    def on_end(self, connection: TcpConnection) -> None:
        """The connection is gone and its filters have heard so."""


class WriteTimeout(Alarm):
    """The time of a peer that was told too much: it must take some of it before the next alarm."""

    def __init__(self, connection: TcpConnection) -> None:
        super().__init__()
        self._connection = connection

    def on_alarm(self) -> None:
        self._connection.on_stall()


class TcpConnection(Connection):
    """The event loop's protocol object: turns its callbacks into calls of the network filters."""

    def __init__(
        self, number: i64, filters: list[NetworkFilter], owner: ConnectionOwner, clock: Clock, wheel: TimerWheel
    ) -> None:
        """`filters` must not be empty."""
        super().__init__()
        self.id = number
        self._filter: NetworkFilter = filters[0]
        self._rest: list[NetworkFilter] | None = filters[1:] if len(filters) > 1 else None
        self._owner = owner
        self._clock = clock
        self._wheel = wheel
        self._transport: asyncio.Transport | None = None
        self._pauses: i64 = 0
        self._stage: i64 = _OPEN
        self._failure: Failure | None = None
        # Only for a peer that does not read as fast as it is written to.
        self._stall: WriteTimeout | None = None
        self._taken: i64 = 0
        #: What is to be sent before the loop goes on; None when nothing was written.
        self._batch: FrameWriter | None = None

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._clock.tick()
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.remote_ip = peer[0].removeprefix(MAPPED)
            self.remote_port = peer[1]
        local = transport.get_extra_info("sockname")
        if isinstance(local, tuple):
            self.local_ip = local[0].removeprefix(MAPPED)
            self.local_port = local[1]
        if not self._owner.on_open(self):
            self._filter = NOBODY
            self._rest = None
            return
        self._filter.on_connection(self)
        if self._rest is not None:
            for network_filter in self._rest:
                network_filter.on_connection(self)
        if self._owner.is_draining:
            self.drain()

    def hand_over(self, owner: ConnectionOwner, filters: list[NetworkFilter]) -> None:
        """Gives it to another owner and other filters, before any of them has heard of it."""
        self._owner = owner
        self._filter = filters[0]
        self._rest = filters[1:] if len(filters) > 1 else None

    def transport_socket(self) -> Any:
        """The event loop's socket object; None when the connection is gone."""
        return self._transport.get_extra_info("socket") if self._transport is not None else None

    def data_received(self, data: bytes) -> None:
        self._clock.tick()
        self.bytes_read += len(data)
        if self._stage != _OPEN:
            return
        if self._filter.on_data(data) and self._rest is not None:
            for network_filter in self._rest:
                if not network_filter.on_data(data):
                    break

    def eof_received(self) -> bool:
        self._clock.tick()
        if self._stage == _LINGERING:
            self._finish()
        elif self._stage == _OPEN:
            self._filter.on_eof()
            if self._rest is not None:
                for network_filter in self._rest:
                    network_filter.on_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._clock.tick()
        self.is_closed = True
        sock = self.transport_socket() if error is not None and self._owner.drains_after_reset else None
        self._transport = None
        self._wheel.clear(self)
        if self._stall is not None:
            self._wheel.clear(self._stall)
            self._stall = None  # each holds the other
        if sock is not None:
            self._drain_after_reset(int(sock.fileno()))
        failure = self._failure
        if failure is None:
            failure = CLOSED_BY_PEER
        self._filter.on_close(failure)
        if self._rest is not None:
            for network_filter in self._rest:
                network_filter.on_close(failure)
            self._rest = None
        # The filter knows its connection: without this only the garbage collector would free the two.
        self._filter = NOBODY
        self._owner.on_end(self)

    def _drain_after_reset(self, descriptor: int) -> None:
        """Reads what the peer sent before it reset the connection.

        Who answers before it has read the whole request, and closes, resets. When our next write fails of that, the event
        loop gives up the socket with the answer in it.
        """
        left: i64 = LAST_WORDS
        with contextlib.suppress(OSError):
            while left > 0 and self._pauses == 0 and self._stage == _OPEN:
                data = os.read(descriptor, int(left))
                if not data:
                    break
                left -= len(data)
                self.data_received(data)

    def pause_writing(self) -> None:
        period = self._owner.write_timeout
        if period > 0.0 and self._stage == _OPEN:
            if self._stall is None:
                self._stall = WriteTimeout(self)
            self._taken = self._count_taken()
            self._wheel.set(self._stall, period)
        self._tell_writable(False)

    def resume_writing(self) -> None:
        self._clock.tick()
        if self._stall is not None:
            self._wheel.clear(self._stall)
        self._tell_writable(True)

    def on_stall(self) -> None:
        """The buffer has been full for the owner's `write_timeout`, or for that time since the last look."""
        stall = self._stall
        if self._stage != _OPEN or stall is None:
            return
        period = self._owner.write_timeout
        if self._takes_enough(period):
            self._wheel.set(stall, period)
        else:
            self.abort(CLIENT_WRITE_TIMEOUT)

    def _takes_enough(self, seconds: float) -> bool:
        """Whether the peer took enough of what is written to it since the last look, `seconds` ago."""
        before = self._taken
        self._taken = self._count_taken()
        return self._taken - before >= max(1, i64(self._owner.write_min_rate * seconds))

    def _count_taken(self) -> i64:
        """Bytes that the peer has acknowledged: neither our buffer nor the kernel's has them any more."""
        transport = self._transport
        if transport is None:
            return self.bytes_written
        waiting: i64 = transport.get_write_buffer_size()
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                # Without the kernel's share a slow peer would seem to take nothing for minutes, and then megabytes.
                waiting += int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), "little")
        return self.bytes_written - waiting

    def _tell_writable(self, writable: bool) -> None:
        if self._stage == _OPEN:
            self._filter.on_writable(writable)
            if self._rest is not None:
                for network_filter in self._rest:
                    network_filter.on_writable(writable)

    # ---- what filters call

    def now(self) -> float:
        return self._clock.now

    def descriptor(self) -> i64:
        """The number of its descriptor; -1 when it has none."""
        sock = self.transport_socket()
        return -1 if sock is None else int(sock.fileno())

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is not None and self._stage == _OPEN:
            self.bytes_written += len(data)
            transport.write(data)

    def write_parts(self, parts: list[bytes]) -> None:
        size: i64 = 0
        for part in parts:
            size += len(part)
        transport = self._transport
        if transport is not None and self._stage == _OPEN:
            self.bytes_written += size
            if size < JOIN_LIMIT:
                transport.write(b"".join(parts))
            else:
                transport.writelines(parts)

    def batch_writer(self) -> FrameWriter:
        if self._transport is None or self._stage != _OPEN:
            return FrameWriter()  # nobody reads it
        soon = self._batch
        if soon is None:
            soon = self._owner.writers.pop() if self._owner.writers else FrameWriter()
            self._batch = soon
            asyncio.get_running_loop().call_soon(self._flush)
        elif soon.size() >= SOON_LIMIT:
            self._write_batch(soon)
        return soon

    def _flush(self) -> None:
        """Sends what was written to `batch_writer`."""
        soon = self._batch
        if soon is not None:
            self._batch = None
            self._write_batch(soon)
            if len(self._owner.writers) < SPARE_WRITERS:
                self._owner.writers.append(soon)

    def _write_batch(self, soon: FrameWriter) -> None:
        size: i64 = soon.size()
        parts = soon.take()
        transport = self._transport
        if transport is None or self._stage != _OPEN or size == 0:
            return
        self.bytes_written += size
        if len(parts) == 1:
            transport.write(parts[0])
        else:
            transport.writelines(parts)

    def pause_reading(self) -> None:
        self._pauses += 1
        if self._pauses == 1 and self._transport is not None and self._stage == _OPEN:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._pauses -= 1
        if self._pauses == 0 and self._transport is not None and self._stage == _OPEN:
            self._transport.resume_reading()

    def yield_reading(self) -> None:
        if self._transport is not None and self._stage == _OPEN:
            self.pause_reading()
            asyncio.get_running_loop().call_soon(self.resume_reading)

    def set_buffer_limit(self, limit: i64) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(int(limit))

    def set_idle(self, seconds: float) -> None:
        if self._stage == _OPEN and self._transport is not None:
            if seconds > 0.0:
                self._wheel.set(self, seconds)
            else:
                self._wheel.clear(self)

    def on_alarm(self) -> None:
        if self._stage == _OPEN:
            self._filter.on_idle()
            if self._rest is not None:
                for network_filter in self._rest:
                    network_filter.on_idle()
        elif self._stage == _LINGERING:
            self._finish()
        elif self._takes_enough(FLUSH_TIME):
            self._wheel.set(self, FLUSH_TIME)
        else:
            self._reset()

    def write_eof(self) -> None:
        if self._transport is not None and self._stage == _OPEN:
            self._transport.write_eof()

    def close(self, failure: Failure) -> None:
        if self._stage != _CLOSING:
            self._end(failure)
            self._finish()

    def close_lingering(self, failure: Failure) -> None:
        transport = self._transport
        if transport is None or self._stage != _OPEN:
            return
        self._end(failure)
        self._stage = _LINGERING
        self._wheel.set(self, LINGER_TIME)
        transport.write_eof()
        if self._pauses > 0:
            transport.resume_reading()

    def abort(self, failure: Failure) -> None:
        self._end(failure)
        self._stage = _CLOSING
        self._reset()

    def _reset(self) -> None:
        transport = self._transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                # Without this the peer sees a FIN, which to it may be the proper end of a body.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        transport.abort()

    def _end(self, failure: Failure) -> None:
        self._flush()
        self.is_closed = True
        if self._failure is None:
            self._failure = failure

    def _finish(self) -> None:
        """Closes once the buffer is flushed, and without that when the peer stops taking it."""
        self._stage = _CLOSING
        transport = self._transport
        if transport is not None:
            if transport.get_write_buffer_size() > 0:
                self._taken = self._count_taken()
            self._wheel.set(self, FLUSH_TIME)
            transport.close()

    def drain(self) -> None:
        """Tells the filters that the worker is about to stop."""
        if self._stage == _OPEN:
            self._filter.on_drain()
            if self._rest is not None:
                for network_filter in self._rest:
                    network_filter.on_drain()
