"""The limits on TLS handshakes in progress."""

import pytest
from tests.kit import FakeClock, Lines

from pymosn.api.network import Connection
from pymosn.core.failure import TLS_ALERT, TLS_CLOSED_IN_HANDSHAKE
from pymosn.network.tls.gate import GatePass, HandshakeGate, source_of


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.200", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:0:100::1", "2001:db8:0:1ff::2", True),
        ("2001:db8:0:100::1", "2001:db8:0:200::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("", "", True),
    ],
)
def test_sources(one: str, other: str, same: bool) -> None:
    assert (source_of(one) == source_of(other)) == same


def test_limits() -> None:
    gate = HandshakeGate()
    gate.limit, gate.source_limit = 3, 2
    passes = [GatePass(gate) for _ in range(4)]
    assert [made.enter() for made in passes] == [True, True, True, False]
    assert [made.enter_source("192.0.2.1") for made in passes[:3]] == [True, True, False]
    assert passes[2].enter_source("198.51.100.1")
    assert (gate.pending, gate.source_count, gate.refused.value) == (3, 2, 2)
    for made in passes:
        made.leave()
        made.leave()
    assert (gate.pending, gate.source_count) == (0, 0)


def test_clients_of_unix_sockets_have_no_source() -> None:
    gate = HandshakeGate()
    gate.limit, gate.source_limit = 3, 2
    for _ in range(5):
        passes = [GatePass(gate) for _ in range(3)]
        assert all(made.enter() and made.enter_source("") for made in passes)
        for made in passes:
            made.leave()
    assert (gate.pending, gate.source_count, gate.refused.value) == (0, 0, 0)


def test_zero_is_no_limit() -> None:
    gate = HandshakeGate()
    assert all(GatePass(gate).enter() and GatePass(gate).enter_source("192.0.2.1") for _ in range(5000))


def test_a_flood_of_failures_is_one_line_per_second() -> None:
    clock = FakeClock()

    class Client(Connection):
        def now(self) -> float:
            return clock.now

    gate, lines = HandshakeGate(), Lines()
    gate.log = lines
    connection = Client()
    connection.remote_ip, connection.remote_port = "192.0.2.1", 5
    for _ in range(1000):
        gate.note_failure(connection, TLS_ALERT, "alert from the client: unknown ca")
    clock.now += 1.1
    gate.note_failure(connection, TLS_ALERT, "alert from the client: unknown ca")
    text = "the TLS handshake with 192.0.2.1:5 failed: client_tls_alert: alert from the client: unknown ca"
    found = [str(line) for line in lines.lines]
    assert len(found) == 2
    assert text in found[0]
    assert f"{text}, and 999 others that are not in this log" in found[1]
    assert lines.alerts == ["mosn.common.tls_read_error"] * 2
    clock.now += 1.1
    gate.note_failure(connection, TLS_CLOSED_IN_HANDSHAKE, "")
    assert lines.alerts[2:] == [""], "what checks ports is no alert"


def test_the_last_failures_of_each_listener_are_kept_until_they_are_taken() -> None:
    class Client(Connection):
        def now(self) -> float:
            return 1.0

    gate, connection = HandshakeGate(), Client()
    connection.remote_ip = "10.0.0.1"
    for i in range(7):
        gate.keep_failure("a", connection, TLS_ALERT, str(i))
    gate.keep_failure("b", connection, TLS_ALERT, "")
    found = gate.take_failures()
    assert {name: [one.detail for one in kept] for name, kept in found.items()} == {
        "a": ["2", "3", "4", "5", "6"],
        "b": [""],
    }
    assert found["b"][0].client == "10.0.0.1"
    assert gate.take_failures() == {}
