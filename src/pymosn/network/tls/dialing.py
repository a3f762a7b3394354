"""The handshake with a host, as a dialer waits for it."""

from __future__ import annotations

import asyncio
import time

from pymosn.api.network import Peer
from pymosn.api.tls import ClientCertificate
from pymosn.core.addresses import normal_ip
from pymosn.core.failure import UPSTREAM_NAME_MISMATCH, UPSTREAM_TLS_TIMEOUT, Failure
from pymosn.network.connection import TcpConnection
from pymosn.network.tls.facts import certificate_of, note_handshake, upstream_facts
from pymosn.network.tls.openssl import HostSession
from pymosn.network.tls.transport import HandshakeReceiver, TlsTransport
from pymosn.network.tls.upstream import ClientTls


class HandshakeFailed(Exception):
    """Raised when a host's handshake has failed."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class UpstreamHandshake(HandshakeReceiver):
    """One handshake with a host, which opens `connection` when it is complete."""

    def __init__(self, peer: Peer, tls: ClientTls, connection: TcpConnection, preface: bytes) -> None:
        """`preface`: sent before the handshake. Raises ValueError for an invalid server name."""
        self._peer = peer
        self._tls = tls
        self._connection = connection
        self._error: HandshakeFailed | None = None
        #: The host's certificate, if its names are verified.
        self._certificate: ClientCertificate | None = None
        self._is_complete = False
        self._waiter: asyncio.Future[None] | None = None
        session = peer.session
        self.transport = TlsTransport(
            connection,
            self,
            tls.ssl_context,
            is_server=False,
            server_name=peer.server_name,
            session=session if isinstance(session, HostSession) else None,
            preface=preface,
        )

    @property
    def has_begun(self) -> bool:
        """Whether the host was reached."""
        return self.transport.has_begun

    @property
    def has_failed(self) -> bool:
        """Whether the handshake failed, or was given up."""
        return self._error is not None

    def abort(self) -> None:
        """Gives it up: the time is over."""
        self._tls.stats.failed.value += 1
        self._error = HandshakeFailed(UPSTREAM_TLS_TIMEOUT, "")
        self.transport.disconnect()

    async def wait(self) -> None:
        """Returns when the connection is open. Raises HandshakeFailed."""
        if not self._is_complete and self._error is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error

    def on_secured(self, transport: TlsTransport) -> None:
        peer = self._peer
        fault = self._fault(transport)
        if fault is not None:
            detail = "the certificate has none of the accepted names" if fault is UPSTREAM_NAME_MISMATCH else ""
            self.on_insecure(fault, detail)
            return
        connection = self._connection
        # An IP address is verified, but not sent as a server name (RFC 6066 section 3).
        name = "" if normal_ip(peer.server_name) else peer.server_name
        info = upstream_facts(transport.engine, name, self._certificate, self._tls.own_uris())
        note_handshake(connection, transport.engine, info, self._tls.stats)
        transport.sessions_to = peer
        transport.is_connected = True
        connection.continue_with(transport)
        self._is_complete = True
        self._wake()

    def _fault(self, transport: TlsTransport) -> Failure | None:
        """What the handshake itself has not verified: the names, and of a resumed session, that its certificate is valid."""
        settings = self._tls.settings
        if not settings.is_verified or not (settings.has_rules() or transport.engine.session_reused):
            return None
        self._certificate = certificate_of(transport.engine, is_verified=True)
        return self._tls.fault_of(self._certificate, time.time())

    def on_insecure(self, failure: Failure, detail: str) -> None:
        self._peer.session = None
        self._tls.stats.failed.value += 1
        self._error = HandshakeFailed(failure, detail)
        self.transport.disconnect()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
