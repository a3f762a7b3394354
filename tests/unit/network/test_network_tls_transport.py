"""TLS below a connection: a fake transport of the event loop on one side, a real peer in memory on the other."""

from __future__ import annotations

import os
import socket
import ssl

import pytest
from tests.kit import certificates
from tests.kit.tls import TlsBench, secured

from pymosn.api.network import STOP, NetworkFilter
from pymosn.core.failure import CLOSED_LOCALLY, IDLE_TIMEOUT
from pymosn.network.tls import transport as module
from pymosn.network.tls.alerts import NO_APPLICATION_PROTOCOL, alert_record

SIDES = pytest.mark.parametrize("is_server", [True, False], ids=["server", "client"])
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def versioned(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = version
    return context


@pytest.fixture(autouse=True)
def scratch_is_empty() -> object:
    """What one connection leaves in the shared BIOs, another one would send or read."""
    yield
    assert module._INCOMING.pending == 0
    assert module._OUTGOING.pending == 0


@SIDES
@VERSIONS
@pytest.mark.parametrize("piece", [0, 1, 7])
def test_bytes_go_both_ways(is_server: bool, version: ssl.TLSVersion, piece: int) -> None:
    ours, theirs = certificates.server_context(), certificates.client_context()
    if not is_server:
        ours, theirs = theirs, ours
    bench = secured(TlsBench(versioned(ours, version), theirs, is_server=is_server), piece)
    bench.send(b"hello", piece)
    assert bench.filter.data == b"hello"
    bench.connection.write(b"good ")
    bench.connection.write_parts([b"b", b"y", b"e"])
    assert bench.read() == b"good bye"
    assert bench.filter.events == ["open"]


@SIDES
@pytest.mark.parametrize("piece", [0, 1500, 16 * 1024 + 22, 70_001])
def test_large_bodies(is_server: bool, piece: int) -> None:
    bench = secured(TlsBench(is_server=is_server))
    body = os.urandom(1 << 20)
    bench.send(body, piece)
    assert bench.filter.data == body
    if piece == 0:
        assert bench.filter.pieces == [len(body)], "what was read is delivered in one piece"
    bench.connection.write_parts([b"head", body])
    bench.connection.write(body[:20_000])
    assert bench.read() == b"head" + body + body[:20_000]


@pytest.mark.parametrize("size", [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 32 * 1024, 64 * 1024, 64 * 1024 + 1])
def test_sizes_around_records(size: int) -> None:
    bench = secured(TlsBench())
    bench.connection.write(b"x" * size)
    bench.connection.write_parts([b"y" * size, b"", b"z"])
    assert bench.read() == b"x" * size + b"y" * size + b"z"
    bench.send(b"x" * size, 1000)
    bench.send(b"end", 1)
    assert bench.filter.data == b"x" * size + b"end"


def test_data_with_the_end_of_the_handshake_is_delivered_after_it() -> None:
    bench = TlsBench()
    bench.shake_once()
    finished = bench.next_step()
    assert not bench.outcome.is_secured
    bench.feed(finished + bench.seal(b"early"))
    assert bench.outcome.is_secured
    assert bench.filter.data == b"early"


def test_many_connections_at_once() -> None:
    benches = [TlsBench() for _ in range(20)]
    for _ in range(4):
        for bench in benches:
            bench.shake_once(5)
    for i, bench in enumerate(benches):
        bench.send(b"%d" % i, 1)
    for i, bench in enumerate(benches):
        bench.connection.write(bench.filter.data)
        assert bench.read() == b"%d" % i


@VERSIONS
def test_close_sends_close_notify_after_the_data(version: ssl.TLSVersion) -> None:
    bench = secured(TlsBench(versioned(certificates.server_context(), version)))
    bench.connection.write(b"last")
    bench.connection.close(CLOSED_LOCALLY)
    assert bench.raw.calls[-1] == "close"
    assert bench.read() == b"last<end>"
    bench.lose()
    assert bench.filter.events == ["open", "closed_locally"]


def test_a_close_notify_is_the_end_of_the_data() -> None:
    bench = secured(TlsBench())
    bench.feed(bench.seal(b"last") + bench.peer_ends() + b"what comes after it is not read")
    assert bench.filter.data == b"last"
    assert bench.filter.events == ["open", "eof"]
    bench.connection.write(b"answer")
    assert bench.read() == b"answer"
    assert bench.tls.eof_received()
    assert bench.filter.events == ["open", "eof"]
    bench.connection.close(CLOSED_LOCALLY)
    assert bench.read() == b"<end>"


def test_a_fin_without_close_notify_is_no_end() -> None:
    bench = secured(TlsBench())
    bench.send(b"cut")
    bench.tls.eof_received()
    assert bench.raw.calls[-1] == "abort"
    bench.lose()
    assert bench.filter.events == ["open", "tls_truncated"]


def test_a_reset_is_no_end() -> None:
    bench = secured(TlsBench())
    bench.lose(ConnectionResetError())
    assert bench.filter.events == ["open", "closed_by_peer"]


def test_half_close() -> None:
    bench = secured(TlsBench())
    bench.connection.write(b"request")
    bench.connection.write_eof()
    assert "fin" not in bench.raw.calls
    assert bench.read() == b"request<end>"
    bench.connection.write(b"too late")
    assert bench.raw.sent == b""
    bench.send(b"response")
    assert bench.filter.data == b"response"
    bench.feed(bench.peer_ends())
    assert bench.filter.events == ["open", "eof"]


def test_lingering_sends_both_ends_and_waits_for_the_peer() -> None:
    bench = secured(TlsBench())
    bench.connection.write(b"413")
    bench.connection.close_lingering(CLOSED_LOCALLY)
    assert bench.raw.calls[-1] == "fin"
    assert bench.read() == b"413<end>"
    bench.send(b"the rest of a body")
    assert bench.filter.data == b""
    assert "close" not in bench.raw.calls
    bench.tls.eof_received()
    assert bench.raw.calls[-1] == "close"


@pytest.mark.parametrize("position", [0, 5, 20, -1])
def test_a_record_that_cannot_be_decrypted(position: int) -> None:
    bench = secured(TlsBench())
    good, bad = bench.seal(b"good"), bytearray(bench.seal(b"x" * 100))
    bad[position] ^= 0x40
    bench.feed(good + bytes(bad) + bench.seal(b"never"))
    assert bench.filter.data == b"good"
    assert bench.raw.calls[-1] == "close"
    with pytest.raises(ssl.SSLError, match=r"ALERT|UNEXPECTED"):
        bench.read()
    bench.lose()
    assert bench.filter.events == ["open", "tls_broken"]


def test_garbage_after_the_handshake() -> None:
    bench = secured(TlsBench())
    bench.feed(b"GET / HTTP/1.1\r\n\r\n" * 10)
    assert bench.raw.calls[-1] == "close"
    bench.lose()
    assert bench.filter.events == ["open", "tls_broken"]


def test_a_filter_that_closes_gets_nothing_more() -> None:
    class Closes(NetworkFilter):
        data = b""

        def on_data(self, data: bytes) -> bool:
            self.data += data
            bench.connection.close(IDLE_TIMEOUT)
            return STOP

    bench = secured(TlsBench())
    closes = Closes()
    bench.connection.replace_filters([closes])
    data = bench.seal(b"one") + bench.peer_ends()
    bench.tls.data_received(data)
    bench.tls.data_received(data)
    bench.tls.eof_received()
    assert closes.data == b"one"
    assert bench.raw.calls[-1] == "close"


def test_back_pressure_reaches_the_event_loop_and_the_filters() -> None:
    bench = secured(TlsBench())
    bench.connection.pause_reading()
    assert bench.raw.calls[-1] == "pause"
    bench.connection.resume_reading()
    assert bench.raw.calls[-1] == "resume"
    bench.tls.pause_writing()
    bench.tls.resume_writing()
    assert bench.filter.events == ["open", "writable False", "writable True"]
    bench.connection.set_buffer_limit(1000)
    assert bench.raw.calls[-1] == "limit 1000"


def test_the_write_rate_counts_encrypted_bytes() -> None:
    bench = secured(TlsBench(write_timeout=10.0))
    for _ in range(1000):
        bench.connection.write(b"x")  # 22 bytes more as a record
    sent = bench.tls.bytes_sent
    assert sent > 22_000
    bench.raw.waiting = sent
    bench.tls.pause_writing()
    bench.raw.waiting = sent - 5000  # less remains than was acknowledged in plain bytes
    bench.clock.now += 11.0
    bench.wheel.advance()
    assert "abort" not in bench.raw.calls
    bench.clock.now += 11.0
    bench.wheel.advance()
    assert bench.raw.calls[-1] == "abort"


def test_what_came_before_a_reset_is_read_and_decrypted() -> None:
    near, far = socket.socketpair()
    bench = secured(TlsBench(is_server=False))
    bench.owner.drains_after_reset = True
    bench.raw.get_extra_info = lambda name: near  # type: ignore[method-assign,assignment]
    with near, far:
        far.sendall(bench.seal(b"an early response") + bench.peer_ends())
        far.shutdown(socket.SHUT_WR)
        bench.lose(ConnectionResetError())
    assert bench.filter.data == b"an early response"
    assert bench.filter.events == ["open", "eof", "closed_by_peer"]


def test_plain_text_instead_of_a_handshake() -> None:
    bench = TlsBench()
    bench.feed(b"GET / HTTP/1.1\r\n\r\n")
    assert bench.outcome.failure is not None
    assert bench.outcome.failure.reason == "not_tls"


@SIDES
def test_closed_during_the_handshake(is_server: bool) -> None:
    bench = TlsBench(is_server=is_server)
    bench.tls.eof_received()
    assert bench.outcome.failure is not None
    assert bench.outcome.failure.reason.endswith("closed_in_handshake")
    bench.lose()
    assert bench.filter.events == (["open", "closed_by_peer"] if is_server else [])


def test_a_handshake_without_end_is_given_up() -> None:
    bench = TlsBench()
    record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + b"x" * (0x4000 - 4)
    for _ in range(40):
        bench.feed(record)
    assert bench.outcome.failure is not None


def test_a_flood_of_key_updates() -> None:
    bench = secured(TlsBench())
    for _ in range(20):
        bench.send(b"data")
        bench.feed(bench.key_update())
    assert bench.filter.data == b"data" * 20
    bench.connection.write(b"still here")
    assert bench.read() == b"still here"
    bench.feed(b"".join(bench.key_update() for _ in range(200)))
    assert bench.raw.calls[-1] == "close"


def test_a_renegotiation_is_refused() -> None:
    bench = secured(TlsBench(versioned(certificates.server_context(), ssl.TLSVersion.TLSv1_2)))
    bench.feed(b"\x16\x03\x03\x00\x20" + bytes(32))
    assert bench.raw.calls[-1] == "close"
    bench.lose()
    assert bench.filter.events == ["open", "tls_broken"]


def client_of(**options: object) -> ssl.SSLContext:
    return certificates.client_context(**options)  # type: ignore[arg-type]


def asks(context: ssl.SSLContext) -> ssl.SSLContext:
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificates.ca().certificate.decode())
    return context


@VERSIONS
@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (None, "no_client_certificate"),
        (certificates.other_client, "client_certificate_unknown_ca"),
        (certificates.expired, "client_certificate_expired"),
        (certificates.not_yet_valid, "client_certificate_invalid"),
        (certificates.client, ""),
    ],
)
def test_certificates_of_clients(own: object, reason: str, version: ssl.TLSVersion) -> None:
    issued = own() if callable(own) else None
    bench = TlsBench(versioned(asks(certificates.server_context()), version), client_of(own=issued))
    bench.shake()
    assert bench.outcome.is_secured == (reason == "")
    assert (bench.outcome.failure.reason if bench.outcome.failure else "") == reason


@pytest.mark.parametrize(
    ("own", "name", "reason"),
    [
        (certificates.server, "localhost", ""),
        (certificates.server, "127.0.0.1", ""),
        (certificates.server, "a.wild.test", ""),
        (certificates.server, "a.b.wild.test", "tls_name_mismatch"),
        (certificates.server, "192.0.2.1", "tls_name_mismatch"),
        (certificates.wrong_name, "localhost", "tls_name_mismatch"),
        (certificates.expired, "localhost", "tls_certificate_expired"),
        (certificates.not_yet_valid, "localhost", "tls_certificate_not_yet_valid"),
        (certificates.self_signed, "localhost", "tls_self_signed"),
        (certificates.other_client, "localhost", "tls_unknown_ca"),
    ],
)
def test_certificates_of_hosts(own: object, name: str, reason: str) -> None:
    assert callable(own)
    bench = TlsBench(None, certificates.server_context(own()), is_server=False, name=name)
    bench.shake()
    assert bench.outcome.is_secured == (reason == "")
    assert (bench.outcome.failure.reason if bench.outcome.failure else "") == reason


def test_a_host_that_speaks_no_tls() -> None:
    bench = TlsBench(is_server=False)
    bench.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert bench.outcome.failure is not None
    assert bench.outcome.failure.reason == "tls_not_spoken"


def test_alerts_have_names() -> None:
    bench = TlsBench(is_server=False)
    bench.feed(alert_record(NO_APPLICATION_PROTOCOL))
    assert bench.outcome.failure is not None
    assert bench.outcome.failure.reason == "tls_alert"
    assert bench.outcome.detail == "alert from the host: no application protocol"


def test_versions_that_do_not_overlap() -> None:
    old = versioned(certificates.client_context(), ssl.TLSVersion.TLSv1_2)
    bench = TlsBench(versioned(certificates.server_context(), ssl.TLSVersion.TLSv1_3), old)
    bench.shake()
    assert bench.outcome.failure is not None
    assert bench.outcome.failure.reason == "client_tls_version"


def test_a_host_that_wants_a_certificate_after_the_handshake() -> None:
    bench = secured(TlsBench(None, asks(certificates.server_context()), is_server=False))
    assert bench.filter.events == ["open"]
    bench.lose()
    assert bench.filter.events == ["open", "tls_alert"]
