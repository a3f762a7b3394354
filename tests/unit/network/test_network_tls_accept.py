"""From accepting a connection to the filters of a TLS chain: the real listener, reader and gate, and a client in memory."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast

import pytest
from tests.kit import FakeClock, Lines, certificates
from tests.kit.client_hello import message, records
from tests.kit.tls import Events, RawTransport

from pymosn.api.network import DRAIN_GRACE, Connection, FilterChainFactory, NetworkFilter
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.failure import Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.chain_match import ChainConditions
from pymosn.network.connection import TcpConnection
from pymosn.network.filter_chains import Chain, FilterChains
from pymosn.network.listener import ConnectionIds, Listener
from pymosn.network.tls import transport as module
from pymosn.network.tls.contexts import ServerContext, ServerContexts, server_context
from pymosn.network.tls.gate import HandshakeGate
from pymosn.network.tls.settings import ServerSettings, TlsSettings
from pymosn.protocol.tls.hello import HELLO_LIMIT

HANDSHAKE_TIME = 10.0


def settings(issued: certificates.Issued) -> ServerSettings:
    return ServerSettings(TlsSettings(certificate=issued.certificate, key=issued.key))


class Drained(Events):
    """Notes that the worker is about to stop, too."""

    def on_drain(self) -> None:
        self.events.append("drain")


class Chains(FilterChainFactory):
    """Makes filters that note events, and notes what was refused."""

    def __init__(self) -> None:
        self.made: list[Events] = []
        self.refused: list[str] = []

    def create(self) -> list[NetworkFilter]:
        self.made.append(Drained())
        return [self.made[-1]]

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        self.refused.append(f"{connection.remote_ip} {failure.reason}")


class Port:
    """A listener with one chain with TLS."""

    def __init__(self, context: ServerContext | None = None) -> None:
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.stats = DownstreamStats(Metrics().group("downstream"))
        self.gate = HandshakeGate()
        self.lines = Lines()
        self.gate.log = self.lines
        self.chains = Chains()
        ids = ConnectionIds()
        self.listener = Listener("l", "", self.factory(context), self.stats, ids, self.clock, self.wheel)

    def factory(self, context: ServerContext | None = None) -> FilterChains:
        """The listener's chains; a reload makes others."""
        contexts = ServerContexts([context or server_context(settings(certificates.server()))])
        chain = Chain("", ChainConditions(), self.chains, contexts, speaks_http=True, speaks_first=False, reads_hello=False)
        return FilterChains(
            [chain],
            self.stats,
            before=[],
            gate=self.gate,
            inspector=False,
            handshake_timeout=HANDSHAKE_TIME,
            idle_timeout=90.0,
        )

    def passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.advance()

    def figures(self) -> tuple[int, int, int, int]:
        """Handshakes that were completed, failed, and are in progress; connections that were refused."""
        tls = self.stats.tls
        return tls.handshakes.value, tls.failed.value, tls.active.value, self.stats.connection_refused.value

    def assert_empty(self) -> None:
        """Nothing is left of any connection."""
        assert self.listener.connection_count == 0
        assert self.stats.connection_active.value == 0
        assert (self.gate.pending, self.gate.source_count, self.stats.tls.active.value) == (0, 0, 0)
        assert len(self.wheel) == 0
        assert (module._INCOMING.pending, module._OUTGOING.pending) == (0, 0)


class Client:
    """A connection to a port, and its client."""

    def __init__(self, port: Port, context: ssl.SSLContext | None = None) -> None:
        self.raw = RawTransport()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = context or certificates.client_context()
        self.peer = context.wrap_bio(self.incoming, self.outgoing, server_hostname="server.test")
        self.connection: TcpConnection = port.listener._accept()
        self.raw.protocol = self.connection
        self.connection.connection_made(cast(asyncio.Transport, self.raw))
        self.is_lost = False

    def step(self) -> bytes:
        """What the client says next in the handshake."""
        self.incoming.write(self.raw.take())
        with contextlib.suppress(ssl.SSLWantReadError):
            self.peer.do_handshake()
        return self.outgoing.read()

    def seal(self, data: bytes) -> bytes:
        self.peer.write(data)
        return self.outgoing.read()

    def ends(self) -> bytes:
        """The client's close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self.peer.unwrap()
        return self.outgoing.read()

    def feed(self, data: bytes, piece: int = 0) -> None:
        step = piece or len(data) or 1
        for start in range(0, len(data), step):
            if not self.raw.is_closing():
                self.raw.protocol.data_received(data[start : start + step])  # type: ignore[attr-defined]

    def shake(self) -> Client:
        """Completes the handshake."""
        for _ in range(3):
            self.feed(self.step())
        return self

    def fin(self) -> None:
        self.raw.protocol.eof_received()  # type: ignore[attr-defined]

    def lose(self, error: Exception | None = None) -> None:
        """The event loop reports the end, once."""
        assert not self.is_lost
        self.is_lost = True
        self.raw.protocol.connection_lost(error)  # type: ignore[attr-defined]


@pytest.mark.parametrize("piece", [0, 1, 100])
def test_a_connection_and_its_end(piece: int) -> None:
    port = Port()
    client = Client(port)
    assert (port.gate.pending, port.gate.source_count) == (1, 1), "from the beginning"
    client.feed(client.step(), piece)
    assert port.figures() == (0, 0, 1, 0)
    assert port.chains.made == [], "no filters before the end of the handshake"
    client.feed(client.step(), piece)
    assert port.figures() == (1, 0, 0, 0)
    assert (port.gate.pending, port.gate.source_count) == (0, 0)
    port.passes(1000.0)  # no time of the handshake is left
    client.feed(client.seal(b"hello"), piece)
    client.feed(client.ends(), piece)
    assert port.chains.made[0].data == b"hello"
    assert port.chains.made[0].events == ["open", "eof"]
    assert client.connection.bytes_read == 5, "the handshake is not counted"
    assert (client.connection.scheme, client.connection.tls.version) == ("https", "TLSv1.3")
    client.lose()
    assert port.chains.made[0].events == ["open", "eof", "closed_by_peer"]
    assert port.chains.refused == []
    port.assert_empty()


def test_first_data_and_the_end_in_the_flight_of_finished() -> None:
    port = Port()
    client = Client(port)
    client.feed(client.step())
    client.feed(client.step() + client.seal(b"early ") + client.seal(b"data") + client.ends())
    assert port.chains.made[0].data == b"early data"
    assert port.chains.made[0].events == ["open", "eof"]


def test_a_fin_without_close_notify_directly_after_the_handshake() -> None:
    port = Port()
    client = Client(port).shake()
    client.fin()
    assert client.raw.calls[-1] == "abort"
    client.lose()
    assert port.chains.made[0].events == ["open", "tls_truncated"]
    assert port.figures() == (1, 0, 0, 0)
    port.assert_empty()


def test_silence_before_the_client_hello() -> None:
    port = Port()
    client = Client(port)
    port.passes(HANDSHAKE_TIME - 0.1)
    assert client.raw.calls[-1] != "close"
    port.passes(0.2)
    assert client.raw.calls[-1] == "close"
    client.lose()
    port.assert_empty()


@pytest.mark.parametrize("part", [1, 6, -1])
def test_half_a_client_hello_and_then_silence(part: int) -> None:
    port = Port()
    client = Client(port)
    port.passes(HANDSHAKE_TIME - 1.0)
    client.feed(client.step()[:part])
    port.passes(0.9)
    assert "abort" not in client.raw.calls
    port.passes(0.2)
    assert client.raw.calls[-1] == "abort", "bytes do not extend it"
    client.lose()
    assert port.chains.refused == ["192.0.2.1 client_tls_handshake_timeout"]
    port.assert_empty()


def test_silence_within_the_handshake() -> None:
    port = Port()
    client = Client(port)
    port.passes(HANDSHAKE_TIME - 1.0)
    client.feed(client.step())
    port.passes(0.9)
    assert "abort" not in client.raw.calls
    port.passes(0.2)
    assert client.raw.calls[-1] == "abort"
    client.lose()
    assert port.figures() == (0, 1, 0, 1), "one failure"
    assert port.chains.refused == ["192.0.2.1 client_tls_handshake_timeout"]
    port.assert_empty()


def test_single_bytes_do_not_extend_the_handshake() -> None:
    port = Port()
    client = Client(port)
    hello = client.step()
    for byte in hello:
        if client.raw.is_closing():
            break
        client.feed(bytes((byte,)))
        port.passes(0.1)
    assert client.raw.calls[-1] == "abort"
    client.lose()
    assert port.chains.refused == ["192.0.2.1 client_tls_handshake_timeout"]
    port.assert_empty()


@pytest.mark.parametrize("error", [None, ConnectionResetError(104, "reset")], ids=["closes", "resets"])
@pytest.mark.parametrize("steps", [0, 1])
def test_a_client_that_leaves_in_the_handshake(error: Exception | None, steps: int) -> None:
    port = Port()
    client = Client(port)
    hello = client.step()
    client.feed(hello if steps else hello[:50])
    if error is None:
        client.fin()
    client.lose(error)
    assert port.chains.made == []
    assert port.chains.refused == ["192.0.2.1 client_tls_closed_in_handshake"], "once"
    assert port.figures() == (0, steps, 0, 1)
    port.assert_empty()


def test_a_client_that_sends_nothing_is_no_refusal() -> None:
    port = Port()
    client = Client(port)
    client.fin()
    client.lose()
    assert port.chains.refused == []
    port.assert_empty()


def test_an_alert_of_the_client_is_named_in_the_log() -> None:
    port = Port()
    client = Client(port, certificates.client_context(trusted=certificates.other_ca()))
    client.feed(client.step())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.step()
    client.feed(client.outgoing.read())
    assert client.raw.calls[-1] == "close"
    client.lose()
    assert port.chains.refused == ["192.0.2.1 client_tls_alert"]
    (line,) = port.lines.lines
    assert "the TLS handshake with 192.0.2.1:1234 failed: client_tls_alert: alert from the client: unknown ca" in str(line)
    port.assert_empty()


def test_a_client_hello_over_the_limit() -> None:
    port = Port()
    client = Client(port)
    client.feed(records(message(tail=bytes(HELLO_LIMIT))), 1000)
    assert client.raw.sent[:1] == b"\x15", "an alert"
    assert client.raw.calls[-1] == "fin"
    assert port.chains.refused == ["192.0.2.1 bad_client_hello"]
    assert port.gate.pending == 0, "what lingers is no handshake"
    client.lose()
    port.assert_empty()


def test_plain_text_gets_an_answer_in_plain_text() -> None:
    port = Port()
    client = Client(port)
    client.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.raw.sent.startswith(b"HTTP/1.1 400 ")
    assert port.chains.refused == ["192.0.2.1 not_tls"]
    client.lose()
    port.assert_empty()


@pytest.mark.parametrize("limit", ["limit", "source_limit"])
def test_the_gate_refuses_with_a_reset(limit: str) -> None:
    port = Port()
    setattr(port.gate, limit, 2)
    silent, shaking = Client(port), Client(port)
    shaking.feed(shaking.step())
    refused = Client(port)
    assert refused.raw.calls[-1] == "abort"
    assert port.chains.refused == ["192.0.2.1 too_many_handshakes"]
    assert port.gate.refused.value == 1
    refused.lose()
    assert (port.gate.pending, port.gate.source_count) == (2, 1)
    shaking.feed(shaking.step())
    assert port.gate.pending == 1, "an open connection is no handshake"
    again = Client(port).shake()
    assert port.chains.made[-1].events == ["open"]
    for client in (silent, shaking, again):
        client.lose()
    port.assert_empty()


def test_a_drain_during_the_handshake() -> None:
    port = Port()
    ready, silent = Client(port), Client(port)
    ready.feed(ready.step())
    silent.feed(silent.step())
    port.listener.drain()
    port.passes(DRAIN_GRACE - 0.1)
    ready.feed(ready.step() + ready.seal(b"request"))
    assert port.chains.made[0].data == b"request"
    assert port.chains.made[0].events == ["open", "drain"]
    port.passes(0.2)
    assert silent.raw.calls[-1] == "abort"
    silent.lose()
    late = Client(port)  # from the backlog
    assert late.connection is not None
    port.passes(DRAIN_GRACE + 0.1)
    assert late.raw.calls[-1] == "close"
    for client in (ready, late):
        client.lose()
    port.assert_empty()


def test_a_worker_that_ends_during_the_handshake() -> None:
    port = Port()
    client = Client(port)
    client.feed(client.step())
    port.listener.abort_all()
    assert client.raw.calls[-1] == "abort"
    client.lose()
    assert port.figures() == (0, 0, 0, 0), "the client has not failed"
    assert port.chains.refused == []
    port.assert_empty()


def test_a_reload_in_the_middle_of_the_handshake() -> None:
    port = Port()
    before, early = Client(port), Client(port)
    before.feed(before.step())
    early.feed(early.step()[:30])
    old, port.chains = port.chains, Chains()
    other = certificates.issue("server.test", certificates.ca(), names=("server.test",))
    port.listener.factory = port.factory(server_context(settings(other)))
    after = Client(port).shake()
    before.feed(before.step() + before.seal(b"one"))
    assert [made.data for made in old.made] == [b"one"], "a handshake ends as it began"
    assert len(port.chains.made) == 1
    seen = [client.peer.getpeercert(binary_form=True) for client in (before, after)]
    assert seen == [ssl.PEM_cert_to_DER_cert(pem.certificate.decode()) for pem in (certificates.server(), other)]
    for client in (before, early, after):
        client.lose()
    port.assert_empty()


def test_a_filter_that_closes_at_once_gets_no_first_data() -> None:
    port = Port()

    class Closes(Drained):
        def on_connection(self, connection: Connection) -> None:
            super().on_connection(connection)
            connection.close(Failure("closed_locally", 0))

    class Closing(Chains):
        def create(self) -> list[NetworkFilter]:
            self.made.append(Closes())
            return [self.made[-1]]

    port.chains = Closing()
    port.listener.factory = port.factory()
    client = Client(port)
    client.feed(client.step())
    client.feed(client.step() + client.seal(b"never"))
    assert client.raw.calls[-1] == "close"
    client.lose()
    assert port.chains.made[0].data == b""
    assert port.chains.made[0].events == ["open", "closed_locally"]
    port.assert_empty()


@pytest.mark.parametrize("end", ["reset", "closed", "alert"])
def test_hundreds_of_aborted_handshakes_leave_nothing(end: str) -> None:
    port = Port()
    for _ in range(100):
        client = Client(port)
        client.feed(client.step())
        if end == "closed":
            client.fin()
        elif end == "alert":
            client.feed(b"\x15\x03\x03\x00\x02\x02\x28")
        client.lose(ConnectionResetError() if end == "reset" else None)
    assert port.figures() == (0, 100, 0, 100)
    assert len(port.chains.refused) == 100
    assert len(port.lines.lines) == 1, "one line in a second"
    port.assert_empty()
