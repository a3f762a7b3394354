"""One TCP (or unix) connection on the event loop, downstream or upstream.

The event loop calls `TcpConnection` from below (`connection_made`, `data_received`, `connection_lost`, ...); each call reads
the clock once and passes the event to the network filters in order. The filters call it from above (`write`,
`pause_reading`, `close`, ...). Nothing here waits, so a filter may call back from inside an event. A filter that closes the
connection gets no further event except `on_close`, which comes exactly once and last, from `connection_lost`.

A connection passes through these stages, forward only:

    OPEN         bytes go both ways
    LINGERING    `close_lingering`: our FIN is sent, bytes are read and discarded for LINGER_TIME, and for as long as the
                 peer still takes what was sent, then CLOSING. A peer that is still sending would otherwise trigger a
                 reset, which destroys the response on its way. An attacker is reset once DISCARDED bytes have come,
                 those of the read that gave it away included: to read megabytes of each attack would delay the others
    CLOSING      `close` or `abort`: nothing is read or written any more, the event loop flushes the buffer. A peer that
                 takes none of it for FLUSH_TIME is reset
    (lost)       `_transport` is None: the socket is gone

`is_closed` is True from the end of OPEN on; `on_close` gets the first failure passed to `close` and its relatives. The one
alarm is the filters' idle timeout while OPEN, and LINGER_TIME or FLUSH_TIME afterwards.

Three kinds of back-pressure meet here. `pause_reading` is counted, since several parts of the proxy may have a reason.
`on_writable(False)` asks the filters to stop sending while the send buffer exceeds its high-water mark. And a peer must read
some of a full buffer within the owner's `write_timeout`, or else a few clients could hold any amount of memory.

Writes are grouped in two ways. `write_parts` sends one message, head and body, in one system call. `batch_writer` collects
the frames of many streams until a turn of the event loop brings nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from typing import Any, Final, cast

from mypy_extensions import i16, i64, mypyc_attr

from pymosn.api.network import FilterChainFactory, NetworkFilter, Passage
from pymosn.core.addresses import unmapped
from pymosn.core.clock import Clock
from pymosn.core.failure import CLIENT_WRITE_TIMEOUT, CLOSED_BY_PEER, CLOSED_LOCALLY, DRAINING, Failure
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.timers import Alarm, TimerWheel
from pymosn.network.tls.transport import TlsTransport, TransportUser

#: Seconds in which the peer of a closing connection must take some of the remaining bytes.
FLUSH_TIME: Final[float] = 30.0
#: Seconds for which a connection closed while its peer was sending is still read (RFC 9112 section 9.6).
LINGER_TIME: Final[float] = 5.0
#: Bytes buffered for a peer above which its source is asked to pause.
HIGH_WATER: Final = 256 * 1024
#: Writes below this size are joined into one; above it, copying costs more than a second buffer.
JOIN_LIMIT: Final[i64] = 32 * 1024
#: Maximum batched bytes before an early flush.
BATCH_LIMIT: Final[i64] = 96 * 1024
#: A batch is sent after so many turns of the event loop that have brought nothing, or have brought something. They do not
#: wait, and cost less than a system call that sends one small message more, and the wake-up of its reader.
QUIET_TURNS: Final[i64] = 4
BATCH_TURNS: Final[i64] = 16
#: Batches with the messages of one event alone after which the next ones are sent at the end of their turn.
PATIENCE: Final[i16] = 8
#: Idle batch writers that an owner keeps: a new one has to grow again, which costs more than batching saves.
SPARE_WRITERS: Final[i64] = 8
#: Bytes of one read while LINGERING after which other connections get their turn: the event loop would read up to 32 times
#: as much at once. And the bytes after which an attacker is reset.
YIELDING: Final[i64] = 128 * 1024
DISCARDED: Final[i64] = 128 * 1024
#: Maximum bytes read from the socket of a connection that the peer has reset.
DRAIN_LIMIT: Final[i64] = 256 * 1024

#: SO_LINGER on, with a time of 0: closing resets.
NO_LINGER: Final = struct.pack("ii", 1, 0)

#: The filter of a connection that has none any more.
NO_FILTER: Final = NetworkFilter()

_OPEN: Final[i16] = 0
_LINGERING: Final[i16] = 1
_CLOSING: Final[i16] = 2


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionOwner:
    """Owner of connections, notified of open and close: a listener or a dialer."""

    def __init__(self) -> None:
        #: Whether connections that open from now on are drained at once.
        self.is_draining = False
        #: Seconds in which a peer must take some of its buffered bytes (0 disables this), and bytes per second.
        self.write_timeout = 0.0
        self.write_min_rate = 0.0
        # Spare batch writers, shared by its connections: a linked list, since a list object would shrink and grow each time.
        self._spare: FrameWriter | None = None
        self._spares: i64 = 0
        #: Whether to read data received before a reset (useful for upstream responses), directly from the socket.
        self.drains_after_reset = False

    def take_writer(self) -> FrameWriter:
        """A batch writer, which `keep_writer` takes back."""
        writer = self._spare
        if writer is None:
            return FrameWriter()
        self._spare = writer.next_spare
        self._spares -= 1
        writer.next_spare = None
        return writer

    def keep_writer(self, writer: FrameWriter) -> None:
        """Keeps an empty batch writer for later."""
        if self._spares < SPARE_WRITERS:
            writer.next_spare = self._spare
            self._spare = writer
            self._spares += 1

    def on_open(self, connection: TcpConnection) -> bool:
        """The connection is open, before its filters are called. False: it was refused, and they will not be called."""
        return True

    def on_end(self, connection: TcpConnection) -> None:
        """The connection is gone, after its filters have been called."""

    def on_departable(self, connection: TcpConnection) -> None:
        """The connection reads no further and has nothing in flight, so that it may be moved to another process."""


class WriteTimeout(Alarm):
    """Write timeout for a peer with a full send buffer: it must read some of it before the alarm fires."""

    def __init__(self, connection: TcpConnection) -> None:
        super().__init__()
        self._connection = connection

    def on_alarm(self) -> None:
        self._connection.on_write_timeout()


class TcpConnection(TransportUser):
    """The event loop's protocol object. The module's docstring describes its stages."""

    def __init__(
        self, connection_id: i64, filters: list[NetworkFilter], owner: ConnectionOwner, clock: Clock, wheel: TimerWheel
    ) -> None:
        """`filters` must not be empty."""
        super().__init__()
        # Small and first, to share a word with `is_closed`: memory per idle connection matters.
        self._stage: i16 = _OPEN
        self._pauses: i16 = 0
        #: Batches that are kept although the last ones had nothing to gain: see PATIENCE.
        self._patience: i16 = 0
        self.id = connection_id
        self._filter: NetworkFilter = filters[0]
        self._rest: list[NetworkFilter] | None = filters[1:] if len(filters) > 1 else None
        #: What has made its filters, on a listener with several chains; None before, and on others.
        self.chain: FilterChainFactory | None = None
        self._owner = owner
        self._clock = clock
        self._wheel = wheel
        self._transport: asyncio.Transport | None = None
        # The same object, if the connection is encrypted.
        self._tls: TlsTransport | None = None
        self._failure: Failure | None = None
        # Made when the send buffer first fills up.
        self._write_alarm: WriteTimeout | None = None
        # Bytes that the peer had acknowledged at the last check; those of the last read, and of all that follow LINGERING.
        self._acknowledged: i64 = 0
        self._recent: i64 = 0
        # Frames to send at the end of this iteration of the event loop; None when there are none.
        self._batch: FrameWriter | None = None

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._set_transport(transport)
        if not self._owner.on_open(self):
            self._filter = NO_FILTER
            self._rest = None
            return
        rest = self._rest  # the first filter may replace all of them
        self._filter.on_connection(self)
        if rest is not None:
            for network_filter in rest:
                network_filter.on_connection(self)
        if self._owner.is_draining:
            self.drain()

    def _set_transport(self, transport: asyncio.Transport) -> None:
        self._clock.tick()
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.remote_ip = unmapped(peer[0])
            self.remote_port = peer[1]
        local = transport.get_extra_info("sockname")
        if isinstance(local, tuple):
            self.local_ip = unmapped(local[0])
            self.local_port = local[1]

    def hand_over(self, owner: ConnectionOwner, filters: list[NetworkFilter]) -> None:
        """Changes owner and filters, before any filter has been called."""
        self._owner = owner
        self.replace_filters(filters)

    def move_to(self, owner: ConnectionOwner) -> None:
        """Changes the owner of an open connection."""
        self._owner = owner

    def start_tls(self, tls: TlsTransport, data: bytes) -> None:
        """Begins the handshake of a client that has sent `data`; the filters get no bytes until it is complete."""
        raw = self._transport
        if raw is not None and self._stage == _OPEN:
            self.bytes_read -= len(data)  # no bytes of the client's: the handshake
            self._tls = tls
            self._transport = cast(asyncio.Transport, tls)
            tls.start(raw, data)

    def continue_with(self, tls: TlsTransport) -> None:
        """The handshake with a host is complete: the connection is open."""
        self._tls = tls
        self.connection_made(cast(asyncio.Transport, tls))

    def replace_filters(self, filters: list[NetworkFilter]) -> None:
        self._filter = filters[0]
        self._rest = filters[1:] if len(filters) > 1 else None

    def transport_socket(self) -> Any:
        """The event loop's socket object; None when the connection is gone."""
        return self._transport.get_extra_info("socket") if self._transport is not None else None

    def data_received(self, data: bytes) -> None:
        self._clock.tick()
        self.bytes_read += len(data)
        if self._stage != _OPEN:
            self._discard(len(data))
            return
        self._recent = len(data)
        if self._filter.on_data(data) and self._rest is not None:
            for network_filter in self._rest:
                if not network_filter.on_data(data):
                    break

    def _discard(self, size: i64) -> None:
        """Bytes have arrived after our end, for no filter."""
        transport = self._transport
        if transport is None or self._stage != _LINGERING:
            return
        self._recent += size
        if self._is_attack_over():
            self._end_attack()
        elif size >= YIELDING:
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _is_attack_over(self) -> bool:
        """Whether the peer is an attacker, and enough of its bytes were read."""
        failure = self._failure
        return failure is not None and failure.is_attack and self._recent >= DISCARDED

    def _end_attack(self) -> None:
        if self._stage == _LINGERING:
            self._stage = _CLOSING
            self._reset()

    def _read_on(self) -> None:
        """Other connections had their turn."""
        transport = self._transport
        if transport is not None and self._stage == _LINGERING:
            transport.resume_reading()

    def eof_received(self) -> bool:
        self._clock.tick()
        if self._stage == _LINGERING:
            self._finish()
        elif self._stage == _OPEN:
            rest = self._rest  # read now: the filter may replace all of them
            self._filter.on_eof()
            if rest is not None:
                for network_filter in rest:
                    network_filter.on_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._clock.tick()
        self.is_closed = True
        sock = self.transport_socket() if error is not None and self._owner.drains_after_reset else None
        tls = self._tls
        self._transport = None
        self._tls = None
        self._wheel.clear(self)
        if self._write_alarm is not None:
            self._wheel.clear(self._write_alarm)
            self._write_alarm = None  # each holds the other
        if sock is not None:
            self._drain_after_reset(int(sock.fileno()), tls)
        failure = self._failure or CLOSED_BY_PEER
        try:
            self._filter.on_close(failure)
            if self._rest is not None:
                for network_filter in self._rest:
                    network_filter.on_close(failure)
        finally:
            self._rest = None
            # The filter refers to its connection: without this only the garbage collector would free the two.
            self._filter = NO_FILTER
            self._owner.on_end(self)

    def _drain_after_reset(self, descriptor: int, tls: TlsTransport | None) -> None:
        """Reads what the peer sent before it reset the connection, such as an early response.

        When our next write fails, the event loop gives up the socket with the response still in it.
        """
        left: i64 = DRAIN_LIMIT
        with contextlib.suppress(OSError):
            while left > 0 and self._pauses == 0 and self._stage == _OPEN:
                data = os.read(descriptor, int(left))
                if not data:
                    break
                left -= len(data)
                if tls is None:
                    self.data_received(data)
                else:
                    tls.receive(data)

    def pause_writing(self) -> None:
        period = self._owner.write_timeout
        if period > 0.0 and self._stage == _OPEN:
            if self._write_alarm is None:
                self._write_alarm = WriteTimeout(self)
            self._acknowledged = self._count_acknowledged()
            self._wheel.set(self._write_alarm, period)
        self._notify_writable(False)

    def resume_writing(self) -> None:
        self._clock.tick()
        if self._write_alarm is not None:
            self._wheel.clear(self._write_alarm)
        self._notify_writable(True)

    def on_write_timeout(self) -> None:
        """The buffer has been full for the owner's `write_timeout`, or for that time since the last check."""
        alarm = self._write_alarm
        if self._stage != _OPEN or alarm is None:
            return
        period = self._owner.write_timeout
        if self._takes_enough(period):
            self._wheel.set(alarm, period)
        else:
            self.abort(CLIENT_WRITE_TIMEOUT)

    def _takes_enough(self, seconds: float) -> bool:
        """Whether the peer took enough of the written bytes since the last check, `seconds` ago."""
        before = self._acknowledged
        self._acknowledged = self._count_acknowledged()
        return self._acknowledged - before >= max(1, i64(self._owner.write_min_rate * seconds))

    def _count_acknowledged(self) -> i64:
        """Bytes that the peer has acknowledged: no longer in our buffer or in the kernel's."""
        written = self.bytes_written if self._tls is None else self._tls.bytes_sent
        return written - self._count_waiting()

    def _count_waiting(self) -> i64:
        """Bytes that the peer has not acknowledged."""
        transport = self._transport
        if transport is None:
            return 0
        waiting: i64 = transport.get_write_buffer_size()
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                # Without the kernel's buffer a slow peer would seem to take nothing for minutes, and then megabytes.
                waiting += int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), "little")
        return waiting

    def _notify_writable(self, writable: bool) -> None:
        if self._stage == _OPEN:
            self._filter.on_writable(writable)
            if self._rest is not None:
                for network_filter in self._rest:
                    network_filter.on_writable(writable)

    # ---- called by filters

    def now(self) -> float:
        return self._clock.now

    def descriptor(self) -> i64:
        """The file descriptor of the socket; -1 when there is none."""
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
        self._send(parts, size)

    def _send(self, parts: list[bytes], size: i64) -> None:
        """Sends `parts`, which have `size` bytes, in one system call."""
        transport = self._transport
        if transport is None or self._stage != _OPEN:
            return
        self.bytes_written += size
        if len(parts) == 1:
            transport.write(parts[0])
        elif size < JOIN_LIMIT:
            transport.write(b"".join(parts))
        else:
            transport.writelines(parts)

    def batch_writer(self) -> FrameWriter:
        if self._transport is None or self._stage != _OPEN:
            return FrameWriter()  # what is written to it is dropped
        batch = self._batch
        if batch is None:
            batch = self._owner.take_writer()
            batch.last_event = self._clock.now
            batch.turns = batch.quiet_turns = 0
            self._batch = batch
            asyncio.get_running_loop().call_soon(self._end_turn)
        else:
            if batch.last_event != self._clock.now:
                self._patience = PATIENCE  # another event has joined it
            size: i64 = batch.size()
            if size >= BATCH_LIMIT:
                self._send(batch.take(), size)
        return batch

    def _end_turn(self) -> None:
        """A turn of the event loop ends: sends the batch, or keeps it because more may follow."""
        batch = self._batch
        if batch is None:
            return
        now = self._clock.now
        if now != batch.last_event:
            batch.last_event = now
            batch.quiet_turns = 0
        batch.quiet_turns += 1
        batch.turns += 1
        if self._patience > 0:
            if batch.quiet_turns < QUIET_TURNS and batch.turns < BATCH_TURNS:
                asyncio.get_running_loop().call_soon(self._end_turn)
                return
            self._patience -= 1
        self._flush()

    def _flush(self) -> None:
        """Sends the batch."""
        batch = self._batch
        if batch is None:
            return
        self._batch = None
        size: i64 = batch.size()
        parts = batch.take()
        if size > 0:
            self._send(parts, size)
        self._owner.keep_writer(batch)

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
            rest = self._rest  # as in `eof_received`
            self._filter.on_idle()
            if rest is not None:
                for network_filter in rest:
                    network_filter.on_idle()
        elif self._stage == _LINGERING:
            if self._count_waiting() > 0 and self._takes_enough(LINGER_TIME):
                self._wheel.set(self, LINGER_TIME)
            else:
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
        self._acknowledged = self._count_acknowledged()
        self._wheel.set(self, LINGER_TIME)
        transport.write_eof()
        if self._tls is not None:
            self._tls.send_fin()
        if self._is_attack_over():
            # The reason, such as a GOAWAY, is written before the next turn.
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._end_attack)
        elif self._pauses > 0:
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
                # Without this the peer sees a FIN, which may seem to be the regular end of a body.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        transport.abort()

    def _end(self, failure: Failure) -> None:
        self._flush()
        self.is_closed = True
        if self._failure is None:
            self._failure = failure

    def _finish(self) -> None:
        """Closes once the buffer is flushed, or without that when the peer stops reading."""
        self._stage = _CLOSING
        transport = self._transport
        if transport is not None:
            if transport.get_write_buffer_size() > 0:
                self._acknowledged = self._count_acknowledged()
            self._wheel.set(self, FLUSH_TIME)
            transport.close()

    def drain(self) -> None:
        """Notifies the filters that the worker is about to stop."""
        if self._stage == _OPEN:
            self._filter.on_drain()
            if self._rest is not None:
                for network_filter in self._rest:
                    network_filter.on_drain()

    # ---- moving to another process (docs/upgrade.md)

    def departs(self) -> bool:
        """Whether it can be moved, now or when nothing is in flight. TLS cannot: its keys are OpenSSL's."""
        return self._stage == _OPEN and self._tls is None and self._rest is None and self._filter.departs()

    def network_filter(self) -> NetworkFilter:
        """The first of its filters."""
        return self._filter

    def on_depart(self, moves: bool) -> None:
        """Notifies the filters that another process has taken over."""
        if self._stage == _OPEN:
            self._filter.on_depart(moves)
            if self._rest is not None:
                for network_filter in self._rest:
                    network_filter.on_depart(moves)

    def kind(self) -> str:
        """What it carries, for reports."""
        name = self._filter.kind()
        return name if self._tls is None else f"{name} over TLS"

    def end_departure(self) -> None:
        """Closes what was not moved in time, in order if nothing is in flight."""
        if self._stage == _OPEN and self._filter.is_idle():
            self.close(DRAINING)
        elif self._stage != _CLOSING:
            self.abort(DRAINING)

    def end_now(self) -> None:
        """Ends without waiting for anything: in order if the peer cannot mistake that for the end of a message."""
        if self._stage == _OPEN and self._rest is None and self._filter.ends_clearly():
            self.close(DRAINING)
        elif self._stage != _CLOSING:
            self.abort(DRAINING)

    def departure(self) -> Passage | None:
        """What another process needs to continue; None while something is in flight, or not sent yet. Without effect."""
        transport = self._transport
        if transport is None or self._stage != _OPEN or self._tls is not None or self._rest is not None:
            return None
        self._flush()
        if transport.get_write_buffer_size() > 0:
            return None
        passage = self._filter.departure()
        if passage is not None:
            passage.remote_ip, passage.remote_port = self.remote_ip, self.remote_port
            passage.local_ip, passage.local_port = self.local_ip, self.local_port
            passage.original_destination = self.original_destination
            passage.bytes_read, passage.bytes_written = self.bytes_read, self.bytes_written
        return passage

    def depart(self) -> None:
        """Gives the socket up, which another process has: nothing is sent to the peer, not even a FIN."""
        self._end(CLOSED_LOCALLY)
        self._stage = _CLOSING
        self._wheel.clear(self)
        transport = self._transport
        if transport is not None:
            # Nothing may touch the socket any more: SO_LINGER, for example, would be set for the other process too.
            self._transport = None
            transport.abort()

    def may_depart(self) -> None:
        self._owner.on_departable(self)
