"""A connection with TLS between a fake transport of the event loop and a real peer in memory."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast

from tests.kit import certificates
from tests.kit.fakes import FakeClock
from tests.kit.key_updates import update_key

from pymosn.api.network import STOP, Connection, NetworkFilter
from pymosn.core.failure import Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import ConnectionOwner, TcpConnection
from pymosn.network.tls.transport import HandshakeReceiver, TlsTransport


class RawTransport:
    """The event loop's transport: keeps what is written, and notes what it is asked for."""

    def __init__(self) -> None:
        self.sent = b""
        self.calls: list[str] = []
        self.waiting = 0
        self.protocol: object = None

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> object:
        return ("192.0.2.1", 1234) if name != "socket" else None

    def set_write_buffer_limits(self, high: int) -> None:
        self.calls.append(f"limit {high}")

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        assert not {"close", "fin"}.intersection(self.calls), "written after the end"
        self.sent += data

    def writelines(self, parts: list[bytes]) -> None:
        for part in parts:
            self.write(part)

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def write_eof(self) -> None:
        self.calls.append("fin")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def take(self) -> bytes:
        """What was written since the last call."""
        sent, self.sent = self.sent, b""
        return sent


class Events(NetworkFilter):
    """Notes the events of a connection."""

    def __init__(self) -> None:
        self.data = b""
        self.pieces: list[int] = []
        self.events: list[str] = []
        self.connection = Connection()

    def on_connection(self, connection: Connection) -> None:
        self.connection = connection
        self.events.append("open")

    def on_data(self, data: bytes) -> bool:
        self.data += data
        self.pieces.append(len(data))
        return STOP

    def on_eof(self) -> None:
        self.events.append("eof")

    def on_writable(self, writable: bool) -> None:
        self.events.append(f"writable {writable}")

    def on_close(self, failure: Failure) -> None:
        self.events.append(failure.reason)


class Outcome(HandshakeReceiver):
    """Notes the outcome of a handshake."""

    def __init__(self) -> None:
        self.is_secured = False
        self.failure: Failure | None = None
        self.detail = ""

    def on_secured(self, transport: TlsTransport) -> None:
        self.is_secured = True

    def on_insecure(self, failure: Failure, detail: str) -> None:
        self.failure, self.detail = failure, detail


class ClientOutcome(Outcome):
    """Of a handshake with a host, which then opens the connection."""

    def __init__(self, connection: TcpConnection) -> None:
        super().__init__()
        self._connection = connection

    def on_secured(self, transport: TlsTransport) -> None:
        super().on_secured(transport)
        transport.is_connected = True
        self._connection.continue_with(transport)


class TlsBench:
    """The server half of a connection by default, and a client in memory; with `is_server=False` the other way round."""

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        peer_context: ssl.SSLContext | None = None,
        *,
        is_server: bool = True,
        name: str = "localhost",
        write_timeout: float = 0.0,
    ) -> None:
        clock = FakeClock()
        self.wheel = TimerWheel(clock)
        self.clock = clock
        self.owner = ConnectionOwner()
        self.owner.write_timeout = write_timeout
        self.filter = Events()
        self.raw = RawTransport()
        self.connection = TcpConnection(1, [self.filter], self.owner, clock, self.wheel)
        self.outcome = Outcome() if is_server else ClientOutcome(self.connection)
        made = certificates.server_context if is_server else certificates.client_context
        others = certificates.client_context if is_server else certificates.server_context
        self.tls = TlsTransport(
            self.connection, self.outcome, context or made(), is_server=is_server, server_name="" if is_server else name
        )
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer_context = peer_context or others()
        self.peer = peer_context.wrap_bio(
            self._incoming, self._outgoing, server_side=not is_server, server_hostname=name if is_server else None
        )
        raw = cast(asyncio.Transport, self.raw)
        if is_server:
            self.connection.connection_made(raw)
            self.connection.start_tls(self.tls, b"")
        else:
            self.tls.connection_made(raw)

    def shake(self, piece: int = 0) -> None:
        """Makes the handshake, as far as it succeeds; the connection gets `piece` bytes at a time, 0 for all."""
        for _ in range(4):
            self.shake_once(piece)
        self.absorb()

    def shake_once(self, piece: int = 0) -> None:
        """One step of the peer."""
        self.feed(self.next_step(), piece)

    def next_step(self) -> bytes:
        """What the peer says next in the handshake."""
        self.absorb()
        with contextlib.suppress(ssl.SSLError):  # it wants to read, or has failed
            self.peer.do_handshake()
        return self._outgoing.read()

    def feed(self, data: bytes, piece: int = 0) -> None:
        """The event loop reads `data`, in pieces."""
        step = piece or len(data) or 1
        for start in range(0, len(data), step):
            if not self.raw.is_closing():
                self.tls.data_received(data[start : start + step])

    def absorb(self) -> None:
        """The peer gets what was sent to it."""
        self._incoming.write(self.raw.take())

    def seal(self, data: bytes) -> bytes:
        """What the peer sends for `data`."""
        view = memoryview(data)
        while view:
            view = view[self.peer.write(view) :]
        return self._outgoing.read()

    def send(self, data: bytes, piece: int = 0) -> None:
        """The peer sends `data`."""
        self.feed(self.seal(data), piece)

    def read(self) -> bytes:
        """What the peer can read; with `<end>` for a close_notify."""
        self.absorb()
        found = b""
        while True:
            try:
                data = self.peer.read(1 << 20)
            except ssl.SSLWantReadError:
                return found
            except ssl.SSLZeroReturnError:
                return found + b"<end>"
            if not data:
                return found + b"<end>"
            found += data

    def key_update(self) -> bytes:
        """The peer changes its key, and asks for the same."""
        update_key(self.peer)
        return self._outgoing.read()

    def peer_ends(self) -> bytes:
        """The peer's close_notify."""
        with contextlib.suppress(ssl.SSLError):  # it also wants to read ours
            self.peer.unwrap()
        return self._outgoing.read()

    def lose(self, error: Exception | None = None) -> None:
        """The socket is gone."""
        self.tls.connection_lost(error)


def secured(bench: TlsBench, piece: int = 0) -> TlsBench:
    """The same, after its handshake."""
    bench.shake(piece)
    assert bench.outcome.is_secured, bench.outcome.detail
    return bench
