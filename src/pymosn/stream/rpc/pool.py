"""The connections of one worker to one host for a multiplexed protocol: few, and each shared by all who ask."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.network import Connection, Dialer, DialReceiver
from pymosn.api.rpc import RpcSpec
from pymosn.api.stream import PoolTarget, ResponseReceiver
from pymosn.core.clock import Clock
from pymosn.core.failure import IDLE_TIMEOUT, OVERFLOW, RESET_BEFORE_RESPONSE, Failure
from pymosn.stream.rpc.client import ClientOwner, RpcClient
from pymosn.stream.rpc.options import MAX_WAITING

#: As many connections as this, or more, is MOSN's way of saying that one will do.
NO_NUMBER: Final[i64] = 65535


class _Dial(DialReceiver):
    """One connection on its way."""

    def __init__(self, pool: RpcPool, client: RpcClient) -> None:
        self._pool = pool
        self._client = client

    def on_dialed(self, connection: Connection) -> None:
        self._pool.on_dialed(self._client)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self._pool.on_dial_failed(failure)


class RpcPool(ClientOwner):
    """Gives a stream on the connection with the fewest requests at work.

    There are as many connections as the cluster's `max_connections` says, or one; a further one is opened when all that
    are there have something to do. A connection that is told to go away, or that holds too many unsent bytes, gets no
    request; while there is no other, requests wait.
    """

    def __init__(self, spec: RpcSpec, upstream: PoolTarget, dialer: Dialer, clock: Clock, max_frame: i64) -> None:
        self._spec = spec
        self._upstream = upstream
        self._dialer = dialer
        self._clock = clock
        self._max_frame: i64 = max_frame
        self._has_heartbeats = bool(spec.heartbeat(1))
        self._open: list[RpcClient] = []
        self._dials: i64 = 0
        self._waiting: list[ResponseReceiver] = []
        self._is_closed = False

    # ---- from the attempts

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        client = self._choose()
        if client is not None:
            if client.load > 0 and self._wants_more():
                self._dial()
            self._give(client, receiver)
            return
        if self._wants_more():
            self._dial()
        if len(self._waiting) < MAX_WAITING and (self._open or self._dials > 0):
            self._waiting.append(receiver)
        else:
            receiver.on_no_sender(OVERFLOW)

    def withdraw(self, receiver: ResponseReceiver) -> None:
        if receiver in self._waiting:
            self._waiting.remove(receiver)

    def close(self) -> None:
        self._is_closed = True
        for client in list(self._open):
            client.retire()

    def _choose(self) -> RpcClient | None:
        best: RpcClient | None = None
        for client in self._open:
            if client.is_full or client.connection.is_closed:
                continue
            if client.load == 0:
                return client
            if best is None or client.load < best.load:
                best = client
        return best

    def _give(self, client: RpcClient, receiver: ResponseReceiver) -> None:
        client.last_used = self._clock.now
        stream = client.open_stream(receiver)
        limit = self._upstream.max_requests_per_connection
        is_last = 0 < limit <= client.served
        if is_last:
            self.forget(client)
        receiver.on_sender(stream)
        if is_last:
            client.retire()

    def _wants_more(self) -> bool:
        """Whether one more connection may be opened; those on their way count."""
        wanted = self._upstream.max_connections
        if wanted <= 0 or wanted >= NO_NUMBER:
            wanted = 1
        return len(self._open) + self._dials < wanted

    # ---- connections

    def _dial(self) -> bool:
        if not self._upstream.try_connection():
            return False
        self._dials += 1
        client = RpcClient(self, self._spec, self._max_frame)
        self._dialer.dial(self._upstream.address, self._upstream.connect_timeout, client, _Dial(self, client))
        return True

    def on_dialed(self, client: RpcClient) -> None:
        """A connection is open."""
        upstream = self._upstream
        self._dials -= 1
        upstream.on_connection()
        if client.connection.is_closed:
            upstream.on_connection_end(True)
            self._fail(RESET_BEFORE_RESPONSE)
            return
        if upstream.buffer_limit > 0:
            client.connection.set_buffer_limit(upstream.buffer_limit)
        client.is_counted = True
        client.last_used = self._clock.now
        self._open.append(client)
        client.watch(self._interval())
        self._serve_waiting()
        if self._is_closed:
            client.retire()

    def on_dial_failed(self, failure: Failure) -> None:
        """A connection could not be opened."""
        self._dials -= 1
        self._upstream.on_connection_end(False)
        self._fail(failure)

    def _serve_waiting(self) -> None:
        while self._waiting:
            client = self._choose()
            if client is None:
                break
            self._give(client, self._waiting.pop(0))

    def _fail(self, failure: Failure) -> None:
        """Those who wait for a connection get none, unless there is hope."""
        if self._open or self._dials > 0:
            return
        waiting = self._waiting
        self._waiting = []
        for receiver in waiting:
            receiver.on_no_sender(failure)

    def _interval(self) -> float:
        """Seconds of silence after which a connection is looked at."""
        upstream = self._upstream
        beats = upstream.heartbeat_interval if self._has_heartbeats else 0.0
        if beats > 0.0 and upstream.idle_timeout > 0.0:
            return min(beats, upstream.idle_timeout)
        return beats if beats > 0.0 else upstream.idle_timeout

    def on_quiet(self, client: RpcClient) -> None:
        """It is closed if nobody needs it or it seems dead; otherwise it is asked whether it lives."""
        upstream = self._upstream
        unused = self._clock.now - client.last_used
        if client.load == 0 and 0.0 < upstream.idle_timeout <= unused:
            self.forget(client)
            client.connection.close(IDLE_TIMEOUT)
            return
        if client.is_asked:
            client.is_asked = False
            client.unanswered += 1
            if client.unanswered >= upstream.heartbeat_failures > 0:
                client.break_off(RESET_BEFORE_RESPONSE)
                return
        elif self._has_heartbeats and upstream.heartbeat_interval > 0.0:
            client.send_heartbeat()
            client.connection.set_idle(upstream.heartbeat_timeout)
            return
        client.connection.set_idle(self._interval())

    def on_room(self, client: RpcClient) -> None:
        self._serve_waiting()

    def on_unexpected_message(self) -> None:
        self._upstream.on_unexpected_message()

    def forget(self, client: RpcClient) -> None:
        """Another connection may take its place before its socket is gone."""
        if client in self._open:
            self._open.remove(client)
        if client.is_counted:
            client.is_counted = False
            self._upstream.on_connection_end(True)
        if self._waiting and not self._open and self._dials == 0 and not self._dial():
            self._fail(OVERFLOW)
