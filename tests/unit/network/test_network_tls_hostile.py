"""Peers that attack an open TLS connection: records that no library sends, floods, and calls from within callbacks."""

from __future__ import annotations

import ctypes
import resource
import ssl
import struct
from pathlib import Path

import pytest
from tests.kit import certificates
from tests.kit.key_updates import handle_of, library
from tests.kit.tls import TlsBench, secured
from tests.kit.tls_records import ALERT, HANDSHAKE, HEARTBEAT, Sealer

from pymosn.api.network import STOP, NetworkFilter
from pymosn.core.failure import CLOSED_LOCALLY
from pymosn.network.tls import transport as module
from pymosn.network.tls.base import new_context
from pymosn.network.tls.settings import TlsSettings
from pymosn.network.tls.transport import SPURIOUS_LIMIT

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CLOSE_NOTIFY = b"\x01\x00"


@pytest.fixture(autouse=True)
def scratch_is_empty() -> object:
    """What one connection leaves in the shared BIOs, another one would send or read."""
    yield
    assert module._INCOMING.pending == 0
    assert module._OUTGOING.pending == 0


def own_context() -> ssl.SSLContext:
    """The server's context as listeners have it."""
    issued = certificates.server()
    return new_context(TlsSettings(certificate=issued.certificate, key=issued.key), is_server=True)


def bench_of(version: ssl.TLSVersion = V13, key_log: Path | None = None) -> TlsBench:
    theirs = certificates.client_context()
    theirs.minimum_version = theirs.maximum_version = version
    if key_log is not None:
        theirs.keylog_filename = str(key_log)
    return secured(TlsBench(own_context(), theirs))


@pytest.fixture
def by_hand(tmp_path: Path) -> tuple[TlsBench, Sealer]:
    """A connection after its handshake, and what makes records for it."""
    bench = bench_of(key_log=tmp_path / "keys")
    return bench, Sealer(tmp_path / "keys", bench.peer)


def assert_broken(bench: TlsBench, data: bytes = b"") -> None:
    """The connection was closed because of what the peer sent, of which only `data` was delivered."""
    assert bench.filter.data == data
    assert bench.raw.calls[-1] == "close"
    bench.lose()
    assert bench.filter.events == ["open", "tls_broken"]


def assert_alive(bench: TlsBench) -> None:
    bench.connection.write(b"still here")
    assert bench.read().endswith(b"still here")


def test_records_by_hand_are_good_ones(by_hand: tuple[TlsBench, Sealer]) -> None:
    bench, sealer = by_hand
    bench.feed(sealer.record(b"one") + sealer.record(b"two", padding=500) + sealer.key_update() + sealer.record(b"three"))
    assert bench.filter.data == b"onetwothree"
    bench.feed(sealer.record(CLOSE_NOTIFY, ALERT))
    assert bench.filter.events == ["open", "eof"]


# ---- records that are wrong


@pytest.mark.parametrize("kind", [0, 20, HEARTBEAT, 25, 99, 255])
def test_a_record_of_unknown_type(by_hand: tuple[TlsBench, Sealer], kind: int) -> None:
    bench, sealer = by_hand
    bench.feed(sealer.record(b"good") + sealer.record(b"\x01\x00\x10ping", kind) + sealer.record(b"never"))
    assert_broken(bench, b"good")


@pytest.mark.parametrize("outer", [0, 20, 21, 22, HEARTBEAT, 99])
def test_a_header_of_another_type(by_hand: tuple[TlsBench, Sealer], outer: int) -> None:
    bench, sealer = by_hand
    bench.feed(sealer.record(b"good") + sealer.record(b"odd" * 10, outer=outer) + sealer.record(b"never"))
    assert_broken(bench, b"good")


@pytest.mark.parametrize("size", [16 * 1024 + 257, 65535])
@pytest.mark.parametrize("piece", [0, 1000, 1])
def test_a_record_over_the_limit(size: int, piece: int) -> None:
    bench = bench_of()
    bench.feed(b"\x17\x03\x03" + struct.pack("!H", size) + bytes(size), piece)
    assert_broken(bench)


def test_a_record_whose_plaintext_is_over_the_limit(by_hand: tuple[TlsBench, Sealer]) -> None:
    bench, sealer = by_hand
    bench.feed(sealer.record(b"x" * (16 * 1024)))
    bench.feed(sealer.record(b"x" * (16 * 1024 + 1)))
    assert_broken(bench, b"x" * (16 * 1024))


@pytest.mark.parametrize("size", range(5))
def test_a_record_without_room_for_its_tag(size: int) -> None:
    bench = bench_of()
    bench.feed(b"\x17\x03\x03" + struct.pack("!H", size) + bytes(size))
    bench.feed(b"\x17\x03\x03" + struct.pack("!H", size) + bytes(size))
    assert_broken(bench)


@pytest.mark.parametrize(
    "content",
    [
        b"\x01\x00\x00\x02\x03\x03",  # ClientHello
        b"\x14\x00\x00\x20" + bytes(32),  # Finished
        b"\x18\x00\x00\x01\x02",  # KeyUpdate that asks for what does not exist
        b"\x18\x00\x00\x02\x00\x00",
        b"\x0b\x00\x00\x04\x00\x00\x00\x00",  # Certificate that nobody asked for
        b"\x0d\x00\x00\x03\x00\x00\x00",  # CertificateRequest of a client
        b"\x04\x00\x00\x0d" + bytes(13),  # NewSessionTicket of a client
        b"\xff\x00\x00\x00",
    ],
)
def test_a_handshake_message_out_of_place(by_hand: tuple[TlsBench, Sealer], content: bytes) -> None:
    bench, sealer = by_hand
    bench.feed(sealer.record(b"good") + sealer.record(content, HANDSHAKE) + sealer.record(b"never"))
    assert_broken(bench, b"good")


def test_a_handshake_message_that_never_ends_keeps_no_memory(by_hand: tuple[TlsBench, Sealer]) -> None:
    bench, sealer = by_hand
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bench.feed(sealer.record(b"\x0b\xff\xff\xff" + bytes(1000), HANDSHAKE))
    for _ in range(1000):
        bench.feed(sealer.record(bytes(16000), HANDSHAKE))
    assert bench.raw.calls[-1] == "close"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024, "KiB"


@pytest.mark.parametrize("content", [b"", b"\x02", b"\x02\x28\x00", b"\x02\x28", b"\x01\x64", b"\x07\x07"])
def test_an_alert(by_hand: tuple[TlsBench, Sealer], content: bytes) -> None:
    bench, sealer = by_hand
    bench.feed(sealer.record(b"good") + sealer.record(content, ALERT) + sealer.record(b"never"))
    assert_broken(bench, b"good")


# ---- floods


@pytest.mark.parametrize("at_once", [True, False])
def test_a_flood_of_empty_records(by_hand: tuple[TlsBench, Sealer], at_once: bool) -> None:
    bench, sealer = by_hand
    flood = [sealer.record(b"", padding=100) for _ in range(2 * SPURIOUS_LIMIT)]
    for data in [b"".join(flood)] if at_once else flood:
        bench.feed(data)
    assert_broken(bench)


def test_empty_records_among_others_are_allowed(by_hand: tuple[TlsBench, Sealer]) -> None:
    bench, sealer = by_hand
    for _ in range(SPURIOUS_LIMIT // 2):
        bench.feed(sealer.record(b"") + sealer.record(b"x"))
    assert bench.filter.data == b"x" * (SPURIOUS_LIMIT // 2)
    assert_alive(bench)


@pytest.mark.parametrize("asks", [0, 1])
def test_a_flood_of_key_updates_between_data(by_hand: tuple[TlsBench, Sealer], asks: int) -> None:
    bench, sealer = by_hand
    rounds = 0
    while not bench.raw.is_closing() and rounds < 2 * SPURIOUS_LIMIT:
        rounds += 1
        bench.feed(sealer.key_update(asks) + sealer.record(b"x"))
    assert bench.raw.calls[-1] == "close"
    assert len(bench.raw.sent) < 200 * SPURIOUS_LIMIT, "the answers are bounded, too"


def test_a_flood_of_user_canceled(by_hand: tuple[TlsBench, Sealer]) -> None:
    bench, sealer = by_hand
    bench.feed(b"".join(sealer.record(b"\x01\x5a", ALERT) for _ in range(100)))
    assert_broken(bench)


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize(
    "record", [b"\x14\x03\x03\x00\x01\x01", b"\x15\x03\x03\x00\x02\x01\x5a"], ids=["change cipher spec", "user canceled"]
)
@pytest.mark.parametrize("place", ["before the hello", "in the handshake", "after it"])
def test_a_flood_of_unencrypted_records(version: ssl.TLSVersion, record: bytes, place: str) -> None:
    theirs = certificates.client_context()
    theirs.minimum_version = theirs.maximum_version = version
    bench = TlsBench(own_context(), theirs)
    if place == "in the handshake":
        bench.shake_once()
    elif place == "after it":
        secured(bench)
    bench.raw.take()
    bench.feed(record * 1000)
    assert bench.outcome.failure is not None or bench.raw.calls[-1] == "close"
    assert len(bench.raw.sent) < 100


def test_heartbeats_of_tls_1_2_get_no_answer() -> None:
    bench = bench_of(V12)
    bench.raw.take()
    bench.feed(b"\x18\x03\x03\x00\x03\x01\x40\x00" * 10)
    assert len(bench.raw.sent) < 100
    assert bench.raw.calls[-1] == "close"


def test_a_real_renegotiation_is_refused() -> None:
    bench = bench_of(V12)
    library().SSL_renegotiate.argtypes = [ctypes.c_void_p]
    assert library().SSL_renegotiate(handle_of(bench.peer)) == 1
    library().SSL_do_handshake(handle_of(bench.peer))
    hello = bench.next_step()
    assert hello[0] == HANDSHAKE
    bench.feed(hello)
    assert_broken(bench)


# ---- early data


def test_early_data_of_a_first_connection_is_never_delivered() -> None:
    """Nothing offers it, so a client that sends it all the same has made it up."""
    bench = TlsBench(own_context())
    hello = bench.next_step()
    bench.feed(hello + b"\x17\x03\x03\x00\x40" + b"GET / HTTP/1.1\r\n" * 4)
    assert bench.filter.data == b""
    assert bench.outcome.failure is not None


def test_tickets_allow_no_early_data() -> None:
    bench = bench_of()
    bench.connection.write(b"x")
    assert bench.read() == b"x"
    session = bench.peer.session
    assert session is not None
    assert session.has_ticket
    library().SSL_SESSION_get_max_early_data.argtypes = [ctypes.c_void_p]
    library().SSL_get_session.restype = ctypes.c_void_p
    library().SSL_get_session.argtypes = [ctypes.c_void_p]
    found = library().SSL_get_session(handle_of(bench.peer))
    assert library().SSL_SESSION_get_max_early_data(found) == 0


# ---- pauses, and calls from within callbacks


class Acting(NetworkFilter):
    """Keeps data, and does something with each piece."""

    def __init__(self, bench: TlsBench, action: str) -> None:
        self.data = b""
        self.events: list[str] = []
        self._bench = bench
        self._action = action

    def on_data(self, data: bytes) -> bool:
        self.data += data
        connection = self._bench.connection
        if self._action == "writes":
            connection.write(data)
        elif self._action == "writes much":
            connection.write_parts([data] * 3)
        elif self._action == "half-closes":
            connection.write(b"bye")
            connection.write_eof()
        elif self._action == "pauses":
            connection.pause_reading()
        elif self._action == "lingers":
            connection.close_lingering(CLOSED_LOCALLY)
        elif self._action == "aborts":
            connection.abort(CLOSED_LOCALLY)
        return STOP

    def on_eof(self) -> None:
        self.events.append("eof")


def acting(action: str) -> tuple[TlsBench, Acting]:
    bench = bench_of()
    bench.read()
    made = Acting(bench, action)
    bench.connection.replace_filters([made])
    return bench, made


@pytest.mark.parametrize("piece", [0, 1, 17, 16 * 1024])
def test_writing_in_on_data(piece: int) -> None:
    bench, made = acting("writes")
    for part in (b"a" * 20_000, b"b", b"c" * 70_000):
        bench.send(part, piece)
    assert made.data == b"a" * 20_000 + b"b" + b"c" * 70_000
    assert bench.read() == made.data


def test_writing_much_in_on_data() -> None:
    bench, _ = acting("writes much")
    bench.send(b"x" * 200_000, 5000)
    assert len(bench.read()) == 600_000


def test_a_pause_between_records() -> None:
    bench, made = acting("pauses")
    bench.feed(bench.seal(b"one") + bench.seal(b"two") + bench.seal(b"three")[:10])
    assert made.data == b"onetwo", "what was read is delivered, and nothing is held back"
    assert bench.raw.calls[-1] == "pause"
    assert bench.raw.calls.count("pause") == 1
    bench.connection.resume_reading()
    assert bench.raw.calls[-1] == "resume"


def test_a_close_notify_with_the_data_that_pauses() -> None:
    bench, made = acting("pauses")
    bench.feed(bench.seal(b"last") + bench.peer_ends())
    assert (made.data, made.events) == (b"last", ["eof"])
    bench.connection.resume_reading()
    bench.connection.write(b"answer")
    assert bench.read() == b"answer"


def test_half_closing_in_on_data_and_more_data() -> None:
    bench, made = acting("half-closes")
    bench.feed(bench.seal(b"one") + bench.seal(b"two"))
    bench.send(b"three")
    assert made.data == b"onetwothree"
    assert bench.read() == b"bye<end>"
    bench.feed(bench.key_update())
    bench.feed(bench.peer_ends())
    assert made.events == ["eof"]


@pytest.mark.parametrize("action", ["lingers", "aborts"])
def test_ending_in_on_data(action: str) -> None:
    bench, made = acting(action)
    bench.feed(bench.seal(b"one") + bench.seal(b"two") + bench.peer_ends())
    bench.tls.data_received(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert (made.data, made.events) == (b"onetwo", [])


def test_aborting_in_the_handshake_reports_nothing() -> None:
    bench = TlsBench(own_context())
    bench.shake_once()
    bench.connection.abort(CLOSED_LOCALLY)
    bench.lose()
    assert bench.outcome.failure is None
    assert bench.filter.events == ["open", "closed_locally"]


def test_data_after_the_end_is_dropped_however_much() -> None:
    bench = bench_of()
    bench.feed(bench.seal(b"x") + bench.peer_ends())
    for _ in range(10):
        bench.feed(b"\x17\x03\x03\x40\x00" + bytes(0x4000))
    assert bench.filter.data == b"x"
    assert bench.filter.events == ["open", "eof"]
    assert_alive(bench)
