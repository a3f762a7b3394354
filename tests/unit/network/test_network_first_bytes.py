"""The step between accepting a connection and choosing its filters, over a real connection and steps of the test."""

import pytest
from test_network_connection import HandTransport, Notes
from tests.kit import FakeClock

from pymosn.api.network import (
    DONE,
    DRAIN_GRACE,
    MORE_BYTES,
    REFUSE,
    STOP,
    Accepted,
    Connection,
    FilterChainFactory,
    FirstBytes,
    NetworkFilter,
)
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.failure import BAD_REQUEST, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import ConnectionOwner, TcpConnection
from pymosn.network.first_bytes import FirstBytesPlan, FirstBytesReader


class ProxyHeader(FirstBytes):
    """Like the PROXY protocol: a line in front of everything else, which it uses up."""

    def on_first_bytes(self, accepted: Accepted, data: bytes) -> int:
        if not b"PROXY ".startswith(data[:6]):
            accepted.failure = BAD_REQUEST
            return REFUSE
        line, end, _ = data.partition(b"\r\n")
        if not end:
            return MORE_BYTES
        accepted.connection.remote_ip = line[6:].decode()
        accepted.consumed = len(line) + 2
        return DONE


class Peek(FirstBytes):
    """Like TLS inspection: needs three bytes, which stay where they are."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def on_first_bytes(self, accepted: Accepted, data: bytes) -> int:
        self.seen.append(data)
        if len(data) < 3:
            return MORE_BYTES
        accepted.connection.alpn = data[:3].decode()
        return DONE


class Choice(FirstBytes):
    """Like protocol detection: sets the filters once it sees a full stop."""

    def __init__(self, filters: list[NetworkFilter], fallback: list[NetworkFilter] | None = None) -> None:
        self._filters = filters
        self._fallback = fallback

    def on_first_bytes(self, accepted: Accepted, data: bytes) -> int:
        if b"." not in data:
            return MORE_BYTES
        accepted.filters = self._filters
        return DONE

    def on_undecided(self, accepted: Accepted) -> int:
        if self._fallback is None:
            return REFUSE
        accepted.filters = self._fallback
        return DONE


class Refusals(FilterChainFactory):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        self.reasons.append(failure.reason)


class Bench:
    def __init__(self, *steps: FirstBytes, serves_undecided: bool = False, timeout: float = 5.0) -> None:
        self.refusals = Refusals()
        self.stats = DownstreamStats(Metrics().group("downstream"))
        plan = FirstBytesPlan(
            list(steps),
            factory=self.refusals,
            stats=self.stats,
            silence_timeout=20.0,
            timeout=timeout,
            serves_undecided=serves_undecided,
        )
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.connection = TcpConnection(7, [FirstBytesReader(plan)], ConnectionOwner(), self.clock, self.wheel)
        self.transport = HandTransport()
        self.connection.connection_made(self.transport)
        self.transport.calls.clear()

    def sends(self, *parts: bytes) -> None:
        for part in parts:
            self.connection.data_received(part)

    def passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.advance()


@pytest.mark.parametrize(
    "parts",
    [
        [b"PROXY 192.0.2.9\r\nh2 data. more"],
        [b"PROXY 192.0.2.9\r\nh2", b" data. more"],
        [b"PR", b"OXY 192.0.2.9\r", b"\nh", b"2 data", b". more"],
        [bytes([byte]) for byte in b"PROXY 192.0.2.9\r\nh2 data. more"],
    ],
)
def test_steps_run_in_order_however_the_bytes_are_cut(parts: list[bytes]) -> None:
    log: list[object] = []
    peek = Peek()
    bench = Bench(ProxyHeader(), peek, Choice([Notes(log)]))
    bench.sends(*parts)
    assert (bench.connection.remote_ip, bench.connection.alpn) == ("192.0.2.9", "h2 ")
    assert log[0] == "open"
    assert b"".join(data for data in log if isinstance(data, bytes)) == b"h2 data. more", "all that no step has consumed"
    assert peek.seen[-1].startswith(b"h2 ")
    assert b"" not in peek.seen, "a step is never called without bytes"


def test_the_chosen_filters_take_the_readers_place() -> None:
    logs: list[list[object]] = [[], []]
    bench = Bench(Choice([Notes(log) for log in logs]))
    bench.sends(b"a", b".", b"b")
    bench.passes(100.0)  # no time of the first bytes remains set
    bench.connection.eof_received()
    bench.connection.drain()
    bench.connection.connection_lost(None)
    assert logs[0] == ["open", b"a.", b"b", "eof", "drain", "closed_by_peer"]
    assert logs[1] == logs[0]


def test_stop_keeps_the_first_bytes_from_the_next_filter() -> None:
    logs: list[list[object]] = [[], []]
    bench = Bench(Choice([Notes(logs[0], STOP), Notes(logs[1])]))
    bench.sends(b"a.")
    assert logs == [["open", b"a."], ["open"]]


def test_a_step_refuses_with_its_own_reason() -> None:
    bench = Bench(ProxyHeader(), Choice([]))
    bench.sends(b"GET / HTTP/1.1\r\n")
    bench.connection.connection_lost(None)
    assert bench.transport.calls == ["abort"]
    assert bench.refusals.reasons == ["bad_request"], "once"
    assert bench.stats.connection_refused.value == 1


def test_no_filters_is_a_refusal() -> None:
    bench = Bench(Peek())
    bench.sends(b"abc")
    assert bench.refusals.reasons == ["no_filter_chain"]


def test_time_for_the_first_byte_and_for_the_rest() -> None:
    silent, hesitant = Bench(Choice([])), Bench(Choice([]))
    silent.passes(19.9)
    hesitant.passes(19.9)
    hesitant.sends(b"a")
    assert silent.transport.calls == []
    silent.passes(0.2)
    assert (silent.transport.calls, silent.refusals.reasons) == (["close"], [])
    hesitant.passes(4.9)
    hesitant.sends(b"b")  # more bytes do not extend it
    assert hesitant.transport.calls == []
    hesitant.passes(0.2)
    assert (hesitant.transport.calls, hesitant.refusals.reasons) == (["abort"], ["detection_timeout"])


@pytest.mark.parametrize(("timeout", "begins", "decided"), [(5.0, 1.0, 6.0), (5.0, 18.0, 20.0), (0.0, 1.0, 20.0)])
def test_undecided_connections_are_served_where_a_step_has_a_fallback(timeout: float, begins: float, decided: float) -> None:
    log: list[object] = []
    bench = Bench(Choice([], [Notes(log)]), serves_undecided=True, timeout=timeout)
    bench.passes(begins)
    bench.sends(b"a")
    bench.passes(decided - begins - 0.1)
    assert log == []
    bench.passes(0.2)
    assert log == ["open", b"a"]


def test_every_step_that_is_left_must_have_a_fallback() -> None:
    log: list[object] = []
    bench = Bench(ProxyHeader(), Choice([], [Notes(log)]), serves_undecided=True)
    bench.sends(b"PROXY")
    bench.passes(5.1)
    assert (log, bench.refusals.reasons) == ([], ["detection_timeout"])


def test_half_closed_while_undecided() -> None:
    log: list[object] = []
    bench = Bench(Choice([], [Notes(log)]), serves_undecided=True)
    bench.sends(b"a")
    bench.connection.eof_received()
    assert log == ["open", b"a", "eof"]
    refused = Bench(Choice([]))
    refused.sends(b"a")
    refused.connection.eof_received()
    assert refused.refusals.reasons == ["protocol_unknown"]


def test_drain() -> None:
    log: list[object] = []
    bench = Bench(Choice([Notes(log)]))
    bench.connection.drain()
    bench.passes(DRAIN_GRACE - 0.1)
    bench.sends(b"a", b".")
    assert log == ["open", "drain", b"a."]
    silent = Bench(Choice([]))
    silent.connection.drain()
    silent.passes(DRAIN_GRACE + 0.1)
    assert silent.transport.calls == ["close"]
