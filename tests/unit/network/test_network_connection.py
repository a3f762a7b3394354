"""A connection over a transport that the test holds in its hand."""

import asyncio
import gc
import socket
import weakref

import pytest
from tests.kit import FakeClock

from pymosn.api.network import CONTINUE, STOP, Connection, NetworkFilter
from pymosn.core.failure import CLOSED_LOCALLY, CONTINUATION_FLOOD, IDLE_TIMEOUT, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import (
    BATCH_LIMIT,
    BATCH_TURNS,
    DISCARDED,
    FLUSH_TIME,
    JOIN_LIMIT,
    LINGER_TIME,
    PATIENCE,
    QUIET_TURNS,
    YIELDING,
    ConnectionOwner,
    TcpConnection,
)


class HandTransport:
    """Notes what it is asked for."""

    def __init__(self, peer: object = ("192.0.2.1", 1234)) -> None:
        self.calls: list[object] = []
        self.waiting = 0
        self.socket: socket.socket | None = None
        self._peer = peer

    def set_write_buffer_limits(self, high: int) -> None:
        self.calls.append(high)

    def get_extra_info(self, name: str) -> object:
        return self.socket if name == "socket" else self._peer

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.calls.append(list(parts))

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def write_eof(self) -> None:
        self.calls.append("eof")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


class Notes(NetworkFilter):
    def __init__(self, log: list[object], answer: bool = CONTINUE) -> None:
        self.log = log
        self.answer = answer

    def on_connection(self, connection: Connection) -> None:
        self.log.append("open")

    def on_data(self, data: bytes) -> bool:
        self.log.append(data)
        return self.answer

    def on_eof(self) -> None:
        self.log.append("eof")

    def on_writable(self, writable: bool) -> None:
        self.log.append(writable)

    def on_idle(self) -> None:
        self.log.append("idle")

    def on_drain(self) -> None:
        self.log.append("drain")

    def on_close(self, failure: Failure) -> None:
        self.log.append(failure.reason)


class Bench:
    def __init__(self, *answers: bool, peer: object = ("192.0.2.1", 1234)) -> None:
        self.owner = ConnectionOwner()
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.logs: list[list[object]] = [[] for _ in answers or (CONTINUE,)]
        filters: list[NetworkFilter] = [
            Notes(log, answer) for log, answer in zip(self.logs, answers or (CONTINUE,), strict=True)
        ]
        self.connection = TcpConnection(7, filters, self.owner, self.clock, self.wheel)
        self.transport = HandTransport(peer)
        self.connection.connection_made(self.transport)
        self.transport.calls.clear()

    def passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.advance()


def test_every_filter_receives_everything_in_order() -> None:
    bench = Bench(CONTINUE, CONTINUE)
    connection = bench.connection
    connection.data_received(b"x")
    connection.eof_received()
    connection.pause_writing()
    connection.resume_writing()
    connection.drain()
    connection.set_idle(5.0)
    bench.passes(5.1)
    connection.connection_lost(None)
    expected = ["open", b"x", "eof", False, True, "drain", "idle", "closed_by_peer"]
    assert bench.logs == [expected, expected]
    assert connection.is_closed
    assert len(bench.wheel) == 0


def test_a_connection_that_is_gone_leaves_no_garbage() -> None:
    class Keeper(NetworkFilter):
        def on_connection(self, connection: Connection) -> None:
            self.connection = connection

    clock = FakeClock()
    keeper = Keeper()
    connection = TcpConnection(7, [keeper], ConnectionOwner(), clock, TimerWheel(clock))
    connection.connection_made(HandTransport())
    connection.connection_lost(None)
    ended = weakref.ref(keeper)
    gc.disable()
    try:
        del keeper
        assert ended() is None
    finally:
        gc.enable()


def test_stop_keeps_bytes_from_the_next_filter() -> None:
    bench = Bench(CONTINUE, STOP, CONTINUE)
    bench.connection.data_received(b"x")
    assert [b"x" in log for log in bench.logs] == [True, True, False]


@pytest.mark.parametrize(
    ("peer", "ip"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("2001:db8::1", 1, 0, 0), "2001:db8::1"),
        ("", ""),
    ],
)
def test_addresses(peer: object, ip: str) -> None:
    connection = Bench(peer=peer).connection
    assert connection.remote_ip == connection.local_ip == ip


def test_small_parts_are_joined_and_large_ones_are_not() -> None:
    bench = Bench()
    bench.connection.write_parts([b"a", b"b"])
    large = b"x" * int(JOIN_LIMIT)
    bench.connection.write_parts([b"a", large])
    assert bench.transport.calls == [b"ab", [b"a", large]]
    assert bench.connection.bytes_written == 3 + len(large)


def test_half_a_close() -> None:
    bench = Bench()
    connection = bench.connection
    connection.write(b"last words")
    connection.write_eof()
    assert bench.transport.calls == [b"last words", "eof"]
    connection.data_received(b"the peer goes on")
    assert bench.logs[0][-1] == b"the peer goes on"
    connection.close(CLOSED_LOCALLY)
    connection.write_eof()
    assert bench.transport.calls[2:] == ["close"]


def test_pauses_are_counted() -> None:
    bench = Bench()
    for call in (bench.connection.pause_reading, bench.connection.resume_reading):
        for _ in range(3):
            call()
    assert bench.transport.calls == ["pause", "resume"]


def test_close_flushes_but_not_forever() -> None:
    bench = Bench()
    bench.connection.close(IDLE_TIMEOUT)
    bench.connection.close(CLOSED_LOCALLY)
    bench.connection.write(b"late")
    bench.connection.data_received(b"late")
    assert bench.transport.calls == ["close"]
    bench.passes(FLUSH_TIME + 0.1)
    assert bench.transport.calls == ["close", "abort"]
    bench.connection.connection_lost(None)
    assert bench.logs[0] == ["open", "idle_timeout"], "the first reason counts"


def test_a_closing_connection_stays_as_long_as_its_peer_takes_something() -> None:
    bench = Bench()
    bench.connection.write(b"x" * 1000)
    bench.transport.waiting = 1000
    bench.connection.close(CLOSED_LOCALLY)
    for left in (600, 599):
        bench.transport.waiting = left
        bench.passes(FLUSH_TIME + 0.1)
        assert bench.transport.calls[1:] == ["close"]
    bench.passes(FLUSH_TIME + 0.1)
    assert bench.transport.calls[1:] == ["close", "abort"]


@pytest.mark.parametrize("ends", ["eof", "time", "close"])
def test_lingering_close_reads_and_forgets(ends: str) -> None:
    bench = Bench()
    bench.connection.pause_reading()
    bench.connection.close_lingering(CLOSED_LOCALLY)
    assert bench.transport.calls == ["pause", "eof", "resume"], "a paused one would never see the end"
    bench.connection.resume_reading()
    bench.connection.data_received(b"forgotten")
    bench.connection.write(b"late")
    assert bench.connection.is_closed
    if ends == "eof":
        bench.connection.eof_received()
    elif ends == "time":
        bench.passes(LINGER_TIME + 0.1)
    else:
        bench.connection.close(CLOSED_LOCALLY)
    assert bench.transport.calls == ["pause", "eof", "resume", "close"]
    assert bench.logs[0] == ["open"]


def test_lingering_lasts_while_the_peer_takes_what_was_sent() -> None:
    bench = Bench()
    bench.connection.write(b"x" * 1000)
    bench.transport.waiting = 1000
    bench.connection.close_lingering(CLOSED_LOCALLY)
    for left in (600, 599):
        bench.transport.waiting = left
        bench.passes(LINGER_TIME + 0.1)
        assert bench.transport.calls[1:] == ["eof"]
    bench.passes(LINGER_TIME + 0.1)
    assert bench.transport.calls[1:] == ["eof", "close"]


def test_lingering_reads_in_turns() -> None:
    """Otherwise the event loop would read up to 8 MB at once."""

    async def run() -> None:
        bench = Bench()
        bench.connection.close_lingering(CLOSED_LOCALLY)
        for _ in range(20):
            bench.transport.calls.clear()
            bench.connection.data_received(bytes(YIELDING))
            assert bench.transport.calls == ["pause"]
            await asyncio.sleep(0)
            assert bench.transport.calls == ["pause", "resume"]
        bench.connection.data_received(bytes(YIELDING - 1))
        assert bench.transport.calls == ["pause", "resume"]
        bench.connection.data_received(bytes(YIELDING))
        bench.connection.close(CLOSED_LOCALLY)
        await asyncio.sleep(0)
        assert bench.transport.calls == ["pause", "resume", "pause", "close"]

    asyncio.run(run())


def test_little_is_read_from_an_attacker() -> None:
    bench = Bench()
    bench.connection.close_lingering(CONTINUATION_FLOOD)
    for _ in range(DISCARDED // 1024 - 1):
        bench.connection.data_received(bytes(1024))
    assert bench.transport.calls == ["eof"]
    bench.connection.data_received(bytes(1024))
    assert bench.transport.calls == ["eof", "abort"]
    bench.connection.data_received(bytes(1024))
    assert bench.transport.calls == ["eof", "abort"]
    bench.connection.connection_lost(None)
    assert bench.logs[0] == ["open", "continuation_flood"]
    assert len(bench.wheel) == 0


@pytest.mark.parametrize("failure", [CONTINUATION_FLOOD, CLOSED_LOCALLY])
def test_nothing_more_is_read_from_an_attacker_who_sends_much_at_once(failure: Failure) -> None:
    async def run() -> None:
        bench = Bench()
        bench.connection.data_received(bytes(DISCARDED))
        bench.connection.write(b"why")
        bench.connection.close_lingering(failure)
        is_attack = failure is CONTINUATION_FLOOD
        assert bench.transport.calls == [b"why", "eof", *(["pause"] if is_attack else [])], "it may still arrive"
        await asyncio.sleep(0)
        assert bench.transport.calls == [b"why", "eof", *(["pause", "abort"] if is_attack else [])]

    asyncio.run(run())


def test_an_attacker_may_leave_by_itself() -> None:
    async def run() -> None:
        bench = Bench()
        bench.connection.data_received(bytes(DISCARDED))
        bench.connection.close_lingering(CONTINUATION_FLOOD)
        bench.connection.connection_lost(None)
        await asyncio.sleep(0)
        assert bench.transport.calls == ["eof", "pause"]

    asyncio.run(run())


def test_abort_while_closing() -> None:
    bench = Bench()
    bench.connection.close(CLOSED_LOCALLY)
    bench.connection.abort(IDLE_TIMEOUT)
    assert bench.transport.calls == ["close", "abort"]


def test_nothing_after_the_connection_is_lost() -> None:
    bench = Bench()
    bench.connection.connection_lost(None)
    connection = bench.connection
    connection.write(b"x")
    connection.write_parts([b"x"])
    connection.pause_reading()
    connection.resume_reading()
    connection.set_idle(1.0)
    connection.close(CLOSED_LOCALLY)
    connection.close_lingering(CLOSED_LOCALLY)
    connection.abort(CLOSED_LOCALLY)
    assert bench.transport.calls == []
    assert len(bench.wheel) == 0


@pytest.mark.parametrize(
    ("hears", "error", "ends", "heard"),
    [
        (True, ConnectionResetError(), "open", [b"too large", "closed_by_peer"]),
        (True, BrokenPipeError(), "open", [b"too large", "closed_by_peer"]),
        (False, ConnectionResetError(), "open", ["closed_by_peer"]),
        (True, None, "open", ["closed_by_peer"]),
        (True, ConnectionResetError(), "paused", ["closed_by_peer"]),
        (True, ConnectionResetError(), "aborted", ["closed_locally"]),
    ],
)
def test_bytes_that_an_upstream_sent_before_its_reset_are_delivered(
    hears: bool, error: Exception | None, ends: str, heard: list[object]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"too large")
        bench = Bench()
        bench.owner.drains_after_reset = hears
        bench.transport.socket = ours
        if ends == "paused":
            bench.connection.pause_reading()
        elif ends == "aborted":
            bench.connection.abort(CLOSED_LOCALLY)
        bench.logs[0].clear()
        bench.connection.connection_lost(error)
        assert bench.logs[0] == heard
        assert bench.connection.is_closed


def test_idle_time_of_zero_is_never() -> None:
    bench = Bench()
    bench.connection.set_idle(5.0)
    bench.connection.set_idle(0.0)
    bench.passes(100.0)
    assert bench.logs[0] == ["open"]


def test_a_connection_that_opens_during_a_drain_is_notified() -> None:
    bench = Bench()
    owner = ConnectionOwner()
    owner.is_draining = True
    log: list[object] = []
    connection = TcpConnection(8, [Notes(log)], owner, bench.clock, bench.wheel)
    connection.connection_made(HandTransport())
    assert log == ["open", "drain"]


def test_a_connection_gives_way_for_one_turn_of_the_loop() -> None:
    async def talk() -> None:
        bench = Bench()
        connection, calls = bench.connection, bench.transport.calls
        connection.yield_reading()
        assert calls == ["pause"]
        await asyncio.sleep(0)
        assert calls == ["pause", "resume"]
        connection.pause_reading()
        connection.yield_reading()
        await asyncio.sleep(0)
        assert calls == ["pause", "resume", "pause"]  # it has other reasons to wait
        connection.close(CLOSED_LOCALLY)
        connection.yield_reading()
        assert calls[3:] == ["close"]

    asyncio.run(talk())


def test_batches_wait_for_more_where_that_has_paid() -> None:
    async def talk() -> None:
        bench = Bench()
        connection, calls = bench.connection, bench.transport.calls

        async def turns_of(data: bytes, *, brings: bool = False) -> int:
            """Turns of the loop until a batch is sent. `brings`: whether each of them brings something."""
            sent, turns = len(calls), 0
            connection.batch_writer().write(data)
            while len(calls) == sent:
                turns += 1
                bench.clock.now += 0.001 * brings
                await asyncio.sleep(0)
            assert calls[-1] == data
            return turns

        assert await turns_of(b"alone") == 1
        connection.batch_writer().write(b"a")
        bench.clock.now += 0.001
        connection.batch_writer().write(b"b")  # of another event
        for _ in range(QUIET_TURNS):
            assert calls == [b"alone"]
            await asyncio.sleep(0)
        assert calls == [b"alone", b"ab"]
        assert await turns_of(b"busy", brings=True) == BATCH_TURNS
        waited = [await turns_of(b"alone") for _ in range(PATIENCE)]
        assert waited == [QUIET_TURNS] * (PATIENCE - 2) + [1] * 2

    asyncio.run(talk())


def test_small_writes_are_batched_until_the_next_iteration() -> None:
    async def talk() -> None:
        bench = Bench()
        connection, calls = bench.connection, bench.transport.calls
        for piece in (b"a", b"b", b"c"):
            connection.batch_writer().write(piece)
        assert calls == []
        await asyncio.sleep(0)
        assert calls == [b"abc"]
        connection.batch_writer().write(b"x" * BATCH_LIMIT)  # enough for a separate system call
        connection.batch_writer().write(b"la")
        assert len(calls) == 2
        connection.batch_writer().write(b"st")
        connection.close(CLOSED_LOCALLY)
        connection.batch_writer().write(b"dropped")
        await asyncio.sleep(0)
        assert calls[2:] == [b"last", "close"]
        assert connection.bytes_written == 3 + BATCH_LIMIT + 4

    asyncio.run(talk())
