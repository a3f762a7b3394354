"""Upstream connections that carry many streams at once, and the pool that shares them.

`SharedPool` knows no protocol: it dials, gives each request the connection with the fewest streams, lets requests wait while
none has room, and watches silent connections. A protocol supplies a `SharedConnection`, its client half, and a pool that
makes them (`new_connection`), as `stream/rpc/client.py` and `stream/http2/pool.py` do. To the pool, a connection is

    dialing   counted by the cluster, but not in the pool yet
    open      in the pool: it gets streams while `room()` is True
    old       open, and above its maximum age, or worn: it gets streams only until another one is open
    retired   not in the pool: its last streams finish, then it closes. The peer has sent a GOAWAY, it has served its
              maximum of requests, it is old, or the pool is closing
    gone      not in the pool: its streams have been reset

A connection leaves the pool by `forget`, which may be called repeatedly; its permit is free from then on, so that a new
connection can replace it before its socket is closed.

A silent connection is probed. Any byte counts as an answer, so that a peer busy with a long response is not taken for a dead
one; only several unanswered probes in a row end the connection.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import NO_CONNECTION, Connection, Dialer, DialReceiver, NetworkFilter
from pymosn.api.stream import ConnectionPool, PoolTarget, RequestSender, ResponseReceiver
from pymosn.core.clock import Clock
from pymosn.core.failure import (
    CLOSED_LOCALLY,
    IDLE_TIMEOUT,
    OVERFLOW,
    PROTOCOL_MISMATCH,
    RESET_BEFORE_RESPONSE,
    Failure,
)
from pymosn.core.foreign import report
from pymosn.stream.ages import vary

#: Maximum requests that wait for a connection to one host, in one worker.
MAX_WAITING: Final[i64] = 4096
#: As in MOSN, a `max_connections` of this or more means "unset": one connection is enough.
UNSET_CONNECTIONS: Final[i64] = 65535


@mypyc_attr(allow_interpreted_subclasses=True)
class SharedConnection(NetworkFilter):
    """The client half of one shared upstream connection. The module's docstring describes its states."""

    def __init__(self, pool: SharedPool) -> None:
        self._pool = pool
        self.connection: Connection = NO_CONNECTION
        #: Whether it is counted among the connections of its host.
        self.is_counted = False
        #: The send buffer exceeds its high-water mark.
        self.is_full = False
        #: It gets no further request and is closed when the last one is answered.
        self.is_retired = False
        #: Whether a probe is pending, and how many before it went unanswered in a row.
        self.is_probed = False
        self.failed_probes: i64 = 0
        #: Requests that it has served, and when the last one began, by `Clock.now`.
        self.served: i64 = 0
        self.last_used = 0.0
        #: Seconds of silence after which `SharedPool.on_silence` is called; 0 means never.
        self.max_silence = 0.0
        #: When it is old, by `Clock.now`; 0.0 for never.
        self.old_at = 0.0

    # ---- supplied by the protocol

    def load(self) -> i64:
        """The number of requests that wait for their response."""
        raise NotImplementedError

    def room(self) -> bool:
        """Whether it can take one more stream now."""
        return not self.is_full and not self.connection.is_closed

    def open_stream(self, receiver: ResponseReceiver) -> RequestSender:
        """A stream for one request; the pool has checked `room()`."""
        raise NotImplementedError

    def probe(self) -> None:
        """Sends a heartbeat, which the peer answers at once. Only called if the pool's protocol has heartbeats."""
        raise NotImplementedError

    def break_off(self, failure: Failure) -> None:
        """Aborts the connection and resets its streams."""
        raise NotImplementedError

    def on_never_open(self, failure: Failure) -> None:
        """It could not be opened."""

    # ---- called by the pool and by the protocol

    def on_activity(self) -> None:
        """Bytes have arrived, so the peer is alive."""
        self.is_probed = False
        self.failed_probes = 0
        self.connection.set_idle(self.max_silence)

    def is_old(self, now: float) -> bool:
        """Whether it is above its maximum age, or worn. `now`: by `Clock.now`."""
        return 0.0 < self.old_at <= now

    def grow_old(self) -> None:
        """The connection should be replaced by another one."""
        self.old_at = self.connection.now()

    def retire(self) -> None:
        """The connection gets no further request."""
        self.is_retired = True
        self._pool.forget(self)
        self.close_if_done()

    def close_if_done(self) -> None:
        """Closes a retired connection without pending requests."""
        if self.is_retired and self.load() == 0:
            self.connection.close(CLOSED_LOCALLY)

    # ---- called by the connection

    def on_connection(self, connection: Connection) -> None:
        self.connection = connection

    def on_idle(self) -> None:
        self._pool.on_silence(self)

    def on_writable(self, writable: bool) -> None:
        self.is_full = not writable
        if writable:
            self._pool.on_room()


@mypyc_attr(allow_interpreted_subclasses=True)
class SharedPool(ConnectionPool):
    """The shared connections of one worker to one host; another one is opened when all are busy, if `_may_grow`."""

    def __init__(self, target: PoolTarget, dialer: Dialer, clock: Clock, has_heartbeats: bool) -> None:
        """`has_heartbeats`: whether connections can be probed."""
        self._target = target
        self._dialer = dialer
        self._clock = clock
        self._has_heartbeats = has_heartbeats
        # For `PoolTarget.peer_for`.
        self.alpn = ""
        #: Connections if the cluster sets no limit.
        self.unset_maximum: i64 = 1
        self._open: list[SharedConnection] = []
        self._dials: i64 = 0
        self._waiting: list[ResponseReceiver] = []
        self._is_closed = False

    def new_connection(self) -> SharedConnection:
        """The client half of a connection that is about to be dialed."""
        raise NotImplementedError

    def needs_connection(self, chosen: SharedConnection | None) -> bool:
        """Whether to dial another connection for a request that `chosen` will get; None if none has room."""
        return chosen is None or chosen.load() > 0

    def on_waiting(self) -> None:
        """Requests are still waiting although there is an open connection."""

    def watch(self, shared: SharedConnection) -> None:
        """A connection is open: arranges for `on_silence`."""
        shared.max_silence = self._silence_limit()
        shared.connection.set_idle(shared.max_silence)

    # ---- called by attempts

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        if self._target.proxy_protocol:
            receiver.on_no_sender(PROTOCOL_MISMATCH)  # the host would take all requests for those of one client
            return
        chosen = self._choose()
        if chosen is not None and chosen.is_old(self._clock.now):
            chosen = self._renew(chosen)
        if self._may_grow() and self.needs_connection(chosen):
            self._dial()
        if chosen is not None:
            self._open_stream(chosen, receiver)
            return
        if len(self._waiting) < MAX_WAITING and (self._open or self._dials > 0):
            self._waiting.append(receiver)
        else:
            receiver.on_no_sender(OVERFLOW)

    def withdraw(self, receiver: ResponseReceiver) -> None:
        if receiver in self._waiting:
            self._waiting.remove(receiver)

    def _renew(self, old: SharedConnection) -> SharedConnection | None:
        """Dials the successor of an old connection, which serves until that is open. Returns the old one, or None.

        Where the limit of connections does not allow both, the request waits for the new one.
        """
        if self._dials > 0 or (self._may_grow() and self._dial()):
            return old
        old.retire()
        return None

    def adopt(self, connection: Connection, data: bytes) -> None:
        shared = self.new_connection()
        connection.replace_filters([shared])
        shared.on_connection(connection)
        if data:
            shared.on_data(data)
        self._dials += 1
        self.on_dialed(shared)

    def close(self) -> None:
        self._is_closed = True
        for shared in list(self._open):
            shared.retire()

    def _choose(self) -> SharedConnection | None:
        """The least loaded connection that has room, an old one only if no other has."""
        best: SharedConnection | None = None
        least: i64 = 0
        is_best_old = False
        for shared in self._open:
            if not shared.room():
                continue
            load = shared.load()
            is_old = shared.is_old(self._clock.now)
            if load == 0 and not is_old:
                return shared
            if best is None or (load < least if is_old == is_best_old else is_best_old):
                is_best_old = is_old
                best = shared
                least = load
        return best

    def _open_stream(self, shared: SharedConnection, receiver: ResponseReceiver) -> None:
        shared.last_used = self._clock.now
        stream = shared.open_stream(receiver)
        limit = self._target.max_requests_per_connection
        is_last = 0 < limit <= shared.served
        if is_last:
            self.forget(shared)
        receiver.on_sender(stream)
        if is_last:
            shared.retire()

    def on_room(self) -> None:
        """A connection may have room again: serves the waiting requests."""
        while self._waiting:
            shared = self._choose()
            if shared is None:
                break
            self._open_stream(shared, self._waiting.pop(0))
        if self._waiting:
            self.on_waiting()

    def refuse_waiting(self, failure: Failure) -> None:
        """Fails all waiting requests, whatever connections there are."""
        waiting = self._waiting
        self._waiting = []
        for receiver in waiting:
            receiver.on_no_sender(failure)

    def _fail_waiting(self, failure: Failure) -> None:
        """Fails all waiting requests unless another connection is open or being dialed."""
        if not self._open and self._dials == 0:
            self.refuse_waiting(failure)

    # ---- dials

    def _may_grow(self) -> bool:
        """Whether the cluster's `max_connections` (`unset_maximum` if unset) permits another connection; dials count."""
        maximum = self._target.max_connections
        if maximum <= 0 or maximum >= UNSET_CONNECTIONS:
            maximum = self.unset_maximum
        return len(self._open) + self._dials < maximum

    def _dial(self) -> bool:
        if not self._target.try_connection():
            return False
        try:
            shared = self.new_connection()
            peer = self._target.peer_for(self.alpn, True, self.offer) if self.alpn else self._target.peer
        except BaseException as error:  # of the codec of an installed package, or of a TLS context
            report("a connection cannot be made", error)
            self._target.on_connection_end(False)
            return False
        self._dials += 1
        self._dialer.dial(peer, self._target.connect_timeout, shared, _Dial(self, shared))
        return True

    def on_dialed(self, shared: SharedConnection) -> None:
        """A connection is open."""
        target = self._target
        self._dials -= 1
        target.on_connection()
        if shared.connection.is_closed:
            target.on_connection_end(True)
            target.note_close(True, False)
            self._fail_waiting(RESET_BEFORE_RESPONSE)
            return
        if target.buffer_limit > 0:
            shared.connection.set_buffer_limit(target.buffer_limit)
        shared.is_counted = True
        shared.last_used = self._clock.now
        if target.max_connection_age > 0.0:
            shared.old_at = self._clock.now + vary(target.max_connection_age)
        self._retire_old()
        self._open.append(shared)
        self.watch(shared)
        self.on_room()
        if self._is_closed:
            shared.retire()

    def _retire_old(self) -> None:
        """The successor of the old connections is about to be open."""
        for shared in list(self._open):
            if shared.is_old(self._clock.now):
                shared.retire()

    def on_dial_failed(self, failure: Failure) -> None:
        """A connection could not be opened."""
        self._dials -= 1
        self._target.on_connection_end(False)
        self._fail_waiting(failure)

    # ---- called by connections

    def _silence_limit(self) -> float:
        """Seconds of silence after which a connection is checked."""
        target = self._target
        interval = target.heartbeat_interval if self._has_heartbeats else 0.0
        if interval > 0.0 and target.idle_timeout > 0.0:
            return min(interval, target.idle_timeout)
        return interval if interval > 0.0 else target.idle_timeout

    def on_silence(self, shared: SharedConnection) -> None:
        """Nothing has arrived on `shared` for its `max_silence`: closes it if it is idle or seems dead, else probes it."""
        target = self._target
        unused = self._clock.now - shared.last_used
        if shared.load() == 0 and 0.0 < target.idle_timeout <= unused:
            self.forget(shared)
            shared.connection.close(IDLE_TIMEOUT)
            return
        if shared.is_probed:
            shared.is_probed = False
            shared.failed_probes += 1
            if shared.failed_probes >= target.heartbeat_failures > 0:
                shared.break_off(RESET_BEFORE_RESPONSE)
                return
        elif self._has_heartbeats and target.heartbeat_interval > 0.0:
            shared.is_probed = True
            shared.probe()
            shared.connection.set_idle(target.heartbeat_timeout)
            return
        shared.connection.set_idle(self._silence_limit())

    def on_unexpected_message(self) -> None:
        """A message that answers no request was received and discarded."""
        self._target.on_unexpected_message()

    def note_farewell(self) -> None:
        """The host has sent a GOAWAY."""
        self._target.note_farewell()

    def forget(self, shared: SharedConnection, is_remote: bool = False, has_request: bool = False) -> None:
        """Removes a connection from the pool, and releases its permit. May be called repeatedly.

        `is_remote`, `has_request`: see `PoolTarget.note_close`.
        """
        if shared in self._open:
            self._open.remove(shared)
        if shared.is_counted:
            shared.is_counted = False
            self._target.on_connection_end(True)
            self._target.note_close(is_remote, has_request)
        if not self._waiting or self._dials > 0:
            return
        if not self._open:
            if not self._dial():
                self._fail_waiting(OVERFLOW)
        else:
            self.on_waiting()


class _Dial(DialReceiver):
    """A dial in progress."""

    def __init__(self, pool: SharedPool, shared: SharedConnection) -> None:
        self._pool = pool
        self._shared = shared

    def on_dialed(self, connection: Connection) -> None:
        self._pool.on_dialed(self._shared)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self._shared.on_never_open(failure)
        self._pool.on_dial_failed(failure)
