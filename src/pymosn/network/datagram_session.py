"""The session of a client with a UDP listener: its upstream socket, its timeout, and datagrams both ways."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import Connection
from pymosn.core.failure import IDLE_TIMEOUT, Failure
from pymosn.network.datagrams import (
    BUFFER,
    BUSY,
    DENIED,
    HOST_BUSY,
    NOT_PERMITTED,
    REPLY_RATIO,
    TOO_LONG,
    DatagramPort,
    Source,
    failure_of,
)

#: Datagrams that one event takes from a host, so that others have their turn.
REPLIES: Final[i64] = 16
#: Datagrams of one session that wait while the name of its host is resolved, BUFFER bytes in all.
HELD: Final = 16


class SessionState:
    """What another process needs to continue a session whose upstream socket it gets (docs/upgrade.md)."""

    def __init__(self) -> None:
        self.cluster = ""
        #: The address of the host as configured.
        self.host = ""
        #: Hosts that were tried when the session began.
        self.attempts: i64 = 1
        self.bytes_read: i64 = 0
        self.bytes_written: i64 = 0
        #: Seconds since the session began, and since its last datagram.
        self.age: float = 0.0
        self.idle: float = 0.0
        #: Seconds since the first datagram was sent to the host, and since its first reply; negative if there was none.
        self.sent: float = -1.0
        self.answered: float = -1.0


@mypyc_attr(allow_interpreted_subclasses=True)
class DatagramSession(Connection):
    """One client of a listener, for logs and routes a connection. `bytes_read`: from the client; `bytes_written`: to it.

    Layer 4 implements `open`, `is_usable`, `on_reply` and `on_end`; and `describe`, `on_departure` and `on_arrival`, for
    sessions that move to another process.
    """

    def __init__(self, port: DatagramPort, source: Source, id: i64) -> None:
        super().__init__()
        self.id = id
        self.remote_ip = source.ip
        self.remote_port = source.port
        self.local_ip = source.local_ip or port.local_ip
        self.local_port = port.local_port
        self.source = source
        self.idle_timeout: float = 0.0
        self.max_reply_ratio: i64 = 0
        self.port = port
        #: Whether another process continues it.
        self.has_departed = False
        #: Called when the session is over here.
        self.forget: Callable[[DatagramSession], None] | None = None
        self._socket: socket.socket | None = None
        # Received before there is an upstream socket.
        self._held: list[bytes] = []
        self._held_bytes: i64 = 0

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

    def describe(self, state: SessionState) -> None:
        """Adds what layer 4 knows."""

    def on_departure(self) -> None:
        """Another process continues the session."""

    def on_arrival(self, state: SessionState) -> Failure | None:
        """Continues the session of another process. Returns why it cannot be continued here."""
        return None

    # ---- the upstream socket

    def use_socket(self, sock: socket.socket) -> None:
        """Sends to `sock`, which is connected to a host, and takes its replies."""
        self._socket = sock
        self.port.loop.add_reader(sock.fileno(), self._on_readable)
        held, self._held = self._held, []
        for data in held:
            failure = self._send(memoryview(data), len(data))
            if failure is not None:
                self.end(failure)
                return

    def forward(self, view: memoryview[int], size: i64) -> Failure | None:
        """Sends the first `size` bytes of `view`, one datagram, to the host. Returns why the host cannot have it."""
        self.bytes_read += size
        self.port.wheel.set(self, self.idle_timeout)
        if self._socket is None:
            if len(self._held) < HELD and self._held_bytes + size <= BUFFER:
                self._held.append(bytes(view[:size]))
                self._held_bytes += size
            else:
                self.port.drop(HOST_BUSY)
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
            if number in BUSY:
                self.port.drop(HOST_BUSY)
            elif number == errno.EMSGSIZE:
                self.port.drop(TOO_LONG)
            elif number in DENIED:
                self.port.drop(NOT_PERMITTED)
            else:
                return failure_of(number)
            return None
        self.on_sent(size)
        return None

    def _on_readable(self) -> None:
        port = self.port
        port.clock.tick()
        left: i64 = REPLIES
        while left > 0 and self._socket is not None:
            left -= 1
            try:
                size: i64 = self._socket.recv_into(port.view)
            except BlockingIOError:
                return
            except OSError as error:
                self.end(failure_of(error.errno or 0))
                return
            self.on_reply(size)
            self.reply(port.view, size)

    def reply(self, view: memoryview[int], size: i64) -> None:
        """Sends a datagram to the client, unless the host has sent too much for what the client has asked."""
        port = self.port
        ratio = self.max_reply_ratio
        if ratio > 0 and self.bytes_written + size > ratio * self.bytes_read:
            port.drop(REPLY_RATIO)
            return
        port.wheel.set(self, self.idle_timeout)
        if port.send(view[:size], self.source):
            self.bytes_written += size

    # ---- moving to another process

    def departure(self) -> SessionState | None:
        """What another process needs to continue; None while there is no upstream socket. Without effect."""
        if self._socket is None:
            return None
        state = SessionState()
        state.bytes_read, state.bytes_written = self.bytes_read, self.bytes_written
        state.idle = max(0.0, self.idle_timeout - (self.alarm_deadline - self.now()))
        self.describe(state)
        return state

    def descriptor(self) -> int:
        """The number of the upstream socket; -1 if there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    def peer_address(self) -> tuple[str, int]:
        """IP address and port of the host; there is an upstream socket."""
        assert self._socket is not None
        name = self._socket.getpeername()
        return str(name[0]), int(name[1])

    def depart(self) -> None:
        """Gives up the session, whose upstream socket another process has."""
        self.has_departed = True
        self._release()
        self.on_departure()
        self._call_forget()

    def arrive(self, state: SessionState, sock: socket.socket) -> Failure | None:
        """Continues the session of another process with its upstream socket. Returns why it cannot be continued here."""
        self.bytes_read, self.bytes_written = state.bytes_read, state.bytes_written
        failure = self.on_arrival(state)
        if failure is not None:
            return failure
        self.port.wheel.set(self, max(0.0, self.idle_timeout - state.idle))
        self.use_socket(sock)
        return None

    # ---- the end

    def now(self) -> float:
        return self.port.clock.now

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
        for _ in self._held:
            self.port.drop(failure.reason)
        self._held = []
        self._release()
        self.on_end(failure)
        self._call_forget()

    def _release(self) -> None:
        """Closes the upstream socket."""
        self.is_closed = True
        sock = self._socket
        if sock is not None:
            self._socket = None
            self.port.loop.remove_reader(sock.fileno())
            sock.close()
        self.port.wheel.clear(self)

    def _call_forget(self) -> None:
        if self.forget is not None:
            self.forget(self)
            self.forget = None


@mypyc_attr(allow_interpreted_subclasses=True)
class SessionFactory:
    """Makes the sessions of a listener, within limits. 0 is no limit."""

    def __init__(self, max_sessions: i64, max_sessions_per_client: i64) -> None:
        """`max_sessions`: in this worker. `max_sessions_per_client`: of one IP address."""
        self.max_sessions: i64 = max_sessions
        self.max_sessions_per_client: i64 = max_sessions_per_client

    def create(self, port: DatagramPort, source: Source, id: i64) -> DatagramSession:
        """A session, not open yet."""
        raise NotImplementedError

    def is_shedding(self) -> bool:
        """Whether the worker is overloaded, so that no session may begin."""
        return False
