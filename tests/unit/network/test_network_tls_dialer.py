"""Handshakes with hosts: the dialer against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
from tests.kit import certificates

from pymosn.api.network import STOP, Connection, DialReceiver, NetworkFilter, Peer
from pymosn.core.clock import Clock
from pymosn.core.failure import CLOSED_LOCALLY, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.dialer import TcpDialer
from pymosn.network.listener import ConnectionIds
from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.network.tls.upstream import ClientTls

PATIENCE = 20.0


class Reads(NetworkFilter):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = b""
        self.has_data = asyncio.Event()
        self.is_closed = asyncio.Event()

    def on_connection(self, connection: Connection) -> None:
        assert connection.scheme == "https" or connection.tls is None
        self.events.append("open")

    def on_data(self, data: bytes) -> bool:
        self.data += data
        self.has_data.set()
        return STOP

    def on_close(self, failure: Failure) -> None:
        self.events.append(failure.reason)
        self.is_closed.set()


class Result(DialReceiver):
    def __init__(self) -> None:
        self.outcome: asyncio.Future[Connection | tuple[str, str]] = asyncio.get_running_loop().create_future()

    def on_dialed(self, connection: Connection) -> None:
        self.outcome.set_result(connection)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self.outcome.set_result((failure.reason, detail))


def tls_of(context: ssl.SSLContext | None = None, **settings: object) -> ClientTls:
    made = ClientSettings(TlsSettings(), **settings)  # type: ignore[arg-type]
    return ClientTls(made, context or certificates.client_context())


async def dial(peer: Peer, timeout: float = PATIENCE) -> tuple[Connection | tuple[str, str], Reads]:
    clock = Clock()
    dialer = TcpDialer(ConnectionIds(), clock, TimerWheel(clock))
    reads, result = Reads(), Result()
    dialer.dial(peer, timeout, reads, result)
    return await asyncio.wait_for(result.outcome, PATIENCE), reads


@contextlib.asynccontextmanager
async def served(context: ssl.SSLContext | None) -> AsyncIterator[str]:
    """The address of a server that greets and echoes."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"hello")
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def peer_at(address: str, tls: ClientTls, name: str = "localhost") -> Peer:
    return Peer(address, transport=tls, server_name=name, bind="")


def test_a_dial_is_complete_after_the_handshake_and_resumes_the_next_time() -> None:
    async def run() -> None:
        tls = tls_of()
        async with served(certificates.server_context()) as address:
            peer = peer_at(address, tls)
            for is_resumed in (False, True):
                connection, reads = await dial(peer)
                assert isinstance(connection, Connection)
                assert connection.tls is not None
                assert (connection.tls.version, connection.tls.is_resumed) == ("TLSv1.3", is_resumed)
                assert connection.tls.server_name == "localhost"
                await asyncio.wait_for(reads.has_data.wait(), PATIENCE)
                assert reads.data.startswith(b"hello")
                connection.close(CLOSED_LOCALLY)
                await asyncio.wait_for(reads.is_closed.wait(), PATIENCE)
                assert reads.events == ["open", "closed_locally"]
            other = peer_at(address, tls_of())
            connection, _ = await dial(other)
            assert isinstance(connection, Connection)
            assert connection.tls is not None
            assert not connection.tls.is_resumed, "a session of another context"
            connection.close(CLOSED_LOCALLY)
        stats = tls.stats
        assert (stats.handshakes.value, stats.resumed.value, stats.failed.value) == (2, 1, 0)

    asyncio.run(run())


def test_a_session_outlives_a_connection_that_was_cut() -> None:
    """OpenSSL makes the session of such a connection unusable, so that a copy is kept."""

    async def run() -> None:
        tls = tls_of()
        async with served(certificates.server_context()) as address:
            peer = peer_at(address, tls)
            for is_resumed in (False, True, True):
                connection, reads = await dial(peer)
                assert isinstance(connection, Connection)
                assert connection.tls is not None
                assert connection.tls.is_resumed is is_resumed
                await asyncio.wait_for(reads.has_data.wait(), PATIENCE)
                connection.abort(CLOSED_LOCALLY)
                await asyncio.wait_for(reads.is_closed.wait(), PATIENCE)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "trusted", "reason"),
    [
        ("other.test", certificates.ca, "tls_name_mismatch"),
        ("localhost", certificates.other_ca, "tls_unknown_ca"),
        ("127.0.0.1", certificates.ca, ""),
    ],
)
def test_verification(name: str, trusted: object, reason: str) -> None:
    async def run() -> None:
        assert callable(trusted)
        tls = tls_of(certificates.client_context(trusted=trusted()))
        async with served(certificates.server_context()) as address:
            outcome, reads = await dial(peer_at(address, tls, name))
        assert (outcome[0] if isinstance(outcome, tuple) else "") == reason
        if reason:
            assert reads.events == [], "its filter never saw the connection"
            assert tls.stats.failed.value == 1

    asyncio.run(run())


@pytest.mark.parametrize(("uris", "reason"), [((certificates.SPIFFE_ID,), ""), (("spiffe://other",), "tls_name_mismatch")])
def test_uris_of_hosts(uris: tuple[str, ...], reason: str) -> None:
    async def run() -> None:
        async with served(certificates.server_context(certificates.spiffe())) as address:
            outcome, reads = await dial(peer_at(address, tls_of(uris=uris)))
        assert (outcome[0] if isinstance(outcome, tuple) else "") == reason
        assert reads.events == ([] if reason else ["open"])

    asyncio.run(run())


def test_a_host_without_tls() -> None:
    async def run() -> None:
        async with served(None) as address:
            tls = tls_of()
            outcome, reads = await dial(peer_at(address, tls))
            assert isinstance(outcome, tuple)
            assert outcome[0] == "tls_not_spoken"
            assert reads.events == []
            falling = tls_of(falls_back=True)
            connection, reads = await dial(peer_at(address, falling))
            assert isinstance(connection, Connection)
            assert (connection.scheme, connection.tls) == ("http", None)
            await asyncio.wait_for(reads.has_data.wait(), PATIENCE)
            assert falling.stats.plain.value == 1
            connection.close(CLOSED_LOCALLY)

    asyncio.run(run())


def test_a_host_that_is_silent() -> None:
    async def run() -> None:
        async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(stay, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        outcome, reads = await dial(peer_at(address, tls_of()), 0.2)
        assert isinstance(outcome, tuple)
        assert outcome[0] == "tls_handshake_timeout"
        assert reads.events == []
        server.close()

    asyncio.run(run())


def test_a_host_that_closes() -> None:
    async def run() -> None:
        async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.close()

        server = await asyncio.start_server(leave, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        outcome, _ = await dial(peer_at(address, tls_of()))
        assert isinstance(outcome, tuple)
        assert outcome[0] == "tls_closed_in_handshake"
        server.close()

    asyncio.run(run())
