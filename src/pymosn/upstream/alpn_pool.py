"""A pool for hosts whose protocol the TLS handshake decides (ALPN).

The first connection goes to the pool of the protocol that the host has selected, and so do all further requests,
for as long as the host exists. Until then requests wait here. A host that selects nothing speaks HTTP/1.1 (RFC 9110
section 4.2.2), the protocol of the identifier `http/1.1`; so does one that is reached without TLS.
"""

from __future__ import annotations

from typing import Final

from pymosn.api.alpn import AlpnOffers, plain_name
from pymosn.api.network import NO_CONNECTION, STOP, Connection, Dialer, DialReceiver, NetworkFilter
from pymosn.api.stream import ConnectionPool, PoolTarget, ResponseReceiver, StreamProtocol
from pymosn.core.failure import CLOSED_LOCALLY, OVERFLOW, PROTOCOL_MISMATCH, RESET_BEFORE_RESPONSE, Failure
from pymosn.core.registry import Registry

#: Without ALPN.
DEFAULT_ALPN: Final = "http/1.1"
#: Maximum requests that wait for the first connection.
MAX_WAITING: Final = 4096


class AlpnPool(ConnectionPool):
    """Passes requests on to the pool of the protocol that the first handshake has selected."""

    def __init__(
        self,
        target: PoolTarget,
        dialer: Dialer,
        protocols: Registry[StreamProtocol],
        offers: AlpnOffers | None = None,
    ) -> None:
        """`offers`: those of the listener's proxy, also for the pools of the protocols."""
        self._offers = offers
        self._target = target
        self._dialer = dialer
        self._protocols = protocols
        #: The name of the protocol; empty until it is known.
        self._chosen = ""
        self._is_dialing = False
        self._is_closed = False
        self._waiting: list[ResponseReceiver] = []

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        if self._chosen:
            self._pool().acquire(receiver, fresh)
            return
        if self._target.proxy_protocol:
            # Each connection is for one client, and the host must learn its address: only HTTP/1 can do that.
            self._choose(DEFAULT_ALPN)
            self.acquire(receiver, fresh)
            return
        if len(self._waiting) >= MAX_WAITING or not (self._is_dialing or self._dial()):
            receiver.on_no_sender(OVERFLOW)
        else:
            self._waiting.append(receiver)

    def withdraw(self, receiver: ResponseReceiver) -> None:
        if receiver in self._waiting:
            self._waiting.remove(receiver)
        elif self._chosen:
            self._pool().withdraw(receiver)

    def close(self) -> None:
        self._is_closed = True  # the pools of the protocols are closed by the host

    def _pool(self) -> ConnectionPool:
        """The pool of the protocol that was chosen."""
        return self._target.pool(self._chosen, self._offers)

    def _dial(self) -> bool:
        target = self._target
        if not target.try_connection():
            return False
        self._is_dialing = True
        first = FirstConnection()
        # As the cluster is configured: all protocols are offered.
        peer = target.peer_for("", False, self.offer) if self.offer else target.peer
        self._dialer.dial(peer, target.connect_timeout, first, _Dial(self, first))
        return True

    def _choose_selected(self, alpn: str) -> bool:
        """Notes the protocol of a host that has selected `alpn`, empty for nothing; False if there is none."""
        if self._choose(alpn or DEFAULT_ALPN):
            return True
        # Any other name that a listener's proxy offers is an agreement with the host about HTTP, as in Envoy.
        return alpn in self.offer and self._choose(DEFAULT_ALPN)

    def _choose(self, alpn: str) -> bool:
        """Notes the protocol with that identifier; False if there is none."""
        known = plain_name(alpn)
        for name in self._protocols.names():
            protocol = self._protocols.get(name)
            if protocol is not None and protocol.spec.alpn == known:
                self._chosen = name
                return True
        return False

    def on_dialed(self, first: FirstConnection) -> None:
        """The first connection is open."""
        self._is_dialing = False
        connection = first.connection
        if connection.is_closed or not self._choose_selected(connection.alpn):
            failure = RESET_BEFORE_RESPONSE if connection.is_closed else PROTOCOL_MISMATCH
            self._target.on_connection()
            self._target.on_connection_end(True)
            self._target.note_close(connection.is_closed, False)
            connection.close(CLOSED_LOCALLY)
            self._fail(failure)
            return
        pool = self._pool()
        pool.adopt(connection, first.data)
        if self._is_closed:
            pool.close()
        waiting = self._waiting
        self._waiting = []
        for receiver in waiting:
            pool.acquire(receiver, False)

    def on_dial_failed(self, failure: Failure) -> None:
        """The first connection could not be opened; the next request tries again."""
        self._is_dialing = False
        self._target.on_connection_end(False)
        self._fail(failure)

    def _fail(self, failure: Failure) -> None:
        waiting = self._waiting
        self._waiting = []
        for receiver in waiting:
            receiver.on_no_sender(failure)


class FirstConnection(NetworkFilter):
    """Holds what arrives before the pool of the protocol has taken over the connection."""

    def __init__(self) -> None:
        self.connection: Connection = NO_CONNECTION
        self.data = b""

    def on_connection(self, connection: Connection) -> None:
        self.connection = connection

    def on_data(self, data: bytes) -> bool:
        self.data += data
        return STOP

    def on_eof(self) -> None:
        self.connection.close(CLOSED_LOCALLY)


class _Dial(DialReceiver):
    """The dial in progress."""

    def __init__(self, pool: AlpnPool, first: FirstConnection) -> None:
        self._pool = pool
        self._first = first

    def on_dialed(self, connection: Connection) -> None:
        self._pool.on_dialed(self._first)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self._pool.on_dial_failed(failure)
