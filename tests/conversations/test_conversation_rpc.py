"""Shared connections: heartbeats, goaway, drain, back-pressure, and peers that break the rules. Told with Bolt frames."""

import struct

import pytest
from tests.kit import Start
from tests.kit import bolt_frames as bolt
from tests.kit.bolt_session import begin
from tests.kit.options import rpc_options

from pymosn.stream.rpc import server as server_module
from pymosn.upstream.plan import HeartbeatPlan

# ---- heartbeats


@pytest.mark.parametrize("v2", [False, True])
def test_heartbeats_are_answered_here(start: Start, v2: bool) -> None:
    talk, client, upstream = begin(start)
    client.sends(bolt.heartbeat(77, v2))
    client.receives(bolt.heartbeat_ack(77, v2))
    upstream.sends(bolt.heartbeat(78, v2))
    upstream.receives(bolt.heartbeat_ack(78, v2))
    assert talk.counters()["request_total"] == 1


def test_a_quiet_connection_is_asked_whether_it_lives(start: Start) -> None:
    talk, client, upstream = begin(start, plan={"idle_timeout": 0.0}, rpc=rpc_options(idle_timeout=0.0))
    talk.advance(14.5)
    upstream.receives_nothing()
    talk.advance(0.6)
    upstream.receives(bolt.heartbeat(2))
    upstream.sends(bolt.heartbeat_ack(2))
    for number in range(3, 9):  # six in a row stay without an answer
        talk.advance(15.0)
        upstream.receives(bolt.heartbeat(number))
        assert upstream.is_open()
        if number < 8:
            talk.advance(1.0)
    client.sends(bolt.request(2))
    upstream.receives(bolt.request(9))
    talk.advance(1.0)
    assert upstream.is_reset()
    client.receives(bolt.failure(2, 16))


def test_heartbeats_as_configured(start: Start) -> None:
    heartbeats = HeartbeatPlan(interval=5.0, timeout=2.0, failures=1)
    talk, _client, upstream = begin(start, plan={"idle_timeout": 0.0, "heartbeats": heartbeats})
    talk.advance(5.1)
    upstream.receives(bolt.heartbeat(2))
    talk.advance(1.5)
    upstream.sends(bolt.heartbeat_ack(2))
    talk.advance(5.1)
    upstream.receives(bolt.heartbeat(3))
    talk.advance(2.1)
    assert upstream.is_reset()


def test_any_byte_shows_that_the_peer_lives(start: Start) -> None:
    talk, _client, upstream = begin(start, plan={"idle_timeout": 0.0})
    for number in range(2, 12):
        talk.advance(15.1)
        upstream.receives(bolt.heartbeat(number))
        upstream.sends(bolt.response(99))
    assert upstream.is_open()


def test_an_unused_connection_is_closed_in_spite_of_heartbeats(start: Start) -> None:
    talk, _client, upstream = begin(start)  # 60 seconds
    for number in (2, 3, 4):
        talk.advance(15.1)
        upstream.receives(bolt.heartbeat(number))
        upstream.sends(bolt.heartbeat_ack(number))
    talk.advance(15.1)
    assert upstream.is_closed()


def test_a_silent_client_is_closed_but_not_while_it_waits(start: Start) -> None:
    talk, client, upstream = begin(start, rpc=rpc_options(idle_timeout=30.0), plan={"idle_timeout": 0.0})
    client.sends(bolt.request(2, timeout=100_000))
    upstream.receives(bolt.request(2, timeout=100_000))
    talk.advance(50.0)
    upstream.takes()
    assert client.is_open()
    upstream.sends(bolt.response(2))
    client.receives(bolt.response(2))
    talk.advance(31.0)
    assert client.is_closed()
    upstream.takes()


@pytest.mark.whole_only
def test_a_flood_of_heartbeats_that_reads_no_answer_is_not_read_on(start: Start) -> None:
    _talk, client, _upstream = begin(start)
    client.stalls()
    for _ in range(40):
        client.sends(bolt.heartbeat(5) * 500)
    assert not client.is_read()
    assert len(client.transport.waiting) < 290_000
    client.reads_on()
    assert client.is_read()
    assert client.takes() == bolt.heartbeat_ack(5) * 20_000


# ---- the end of a connection


def test_goaway_loses_no_reply(start: Start) -> None:
    talk, client, old = begin(start)
    client.sends(bolt.request(2) + bolt.request(3))
    old.receives(bolt.request(2) + bolt.request(3))
    old.sends(bolt.response(2) + bolt.goaway(0))
    client.receives(bolt.response(2))
    assert old.is_open()
    client.sends(bolt.request(4))
    new = talk.expect_dial()
    new.receives(bolt.request(1))
    old.sends(bolt.response(3))
    client.receives(bolt.response(3))
    assert old.is_closed()
    new.sends(bolt.response(1))
    client.receives(bolt.response(4))


@pytest.mark.parametrize("goaway", [False, True])
def test_drain_loses_no_request(start: Start, goaway: bool) -> None:
    talk, client, upstream = begin(start, rpc=rpc_options(goaway=goaway))
    client.sends(bolt.request(2))
    upstream.receives(bolt.request(2))
    talk.drain()
    client.receives(bolt.goaway(0) if goaway else b"")
    talk.advance(3.0)
    client.sends(bolt.request(3))  # it was on its way
    upstream.receives(bolt.request(3))
    upstream.sends(bolt.response(3) + bolt.response(2))
    client.receives(bolt.response(3) + bolt.response(2))
    assert client.is_open()
    talk.advance(1.1)
    assert client.is_closed()


def test_a_client_that_shuts_gets_its_replies_within_a_moment(start: Start) -> None:
    talk, client, upstream = begin(start)
    client.sends(bolt.request(2))
    upstream.receives(bolt.request(2))
    client.shuts()
    upstream.sends(bolt.response(2))
    client.receives(bolt.response(2))
    assert client.is_closed()
    other = talk.connect()
    other.sends(bolt.request(3))
    upstream.receives(bolt.request(3))
    other.shuts()
    talk.advance(1.1)
    assert other.is_reset()
    assert talk.reasons() == ["ok", "ok", "client_gone"]
    upstream.sends(bolt.response(3))
    assert talk.upstream_counters()["response_stray"] == 1


@pytest.mark.parametrize(("timeout", "late", "is_open"), [(5.0, 4.5, True), (0.0, 12.0, True), (0.5, 0.6, False)])
def test_a_client_that_shuts_waits_as_long_as_configured(start: Start, timeout: float, late: float, is_open: bool) -> None:
    talk, client, upstream = begin(start, rpc=rpc_options(half_close_timeout=timeout))
    client.sends(bolt.request(2))
    upstream.receives(bolt.request(2))
    client.shuts()
    talk.advance(late)
    upstream.sends(bolt.response(2))
    if is_open:
        client.receives(bolt.response(2))
    assert talk.reasons() == ["ok", "ok" if is_open else "client_gone"]


def test_an_upstream_that_shuts_will_not_answer_any_more(start: Start) -> None:
    _talk, client, upstream = begin(start)
    client.sends(bolt.request(2))
    upstream.receives(bolt.request(2))
    upstream.shuts()
    client.receives(bolt.failure(2, 16))
    assert upstream.is_closed()


def test_a_pool_that_closes_lets_replies_come(start: Start) -> None:
    talk, client, upstream = begin(start)
    client.sends(bolt.request(2))
    upstream.receives(bolt.request(2))
    talk.do(lambda: talk.clusters.activate({}))
    assert upstream.is_open()
    upstream.sends(bolt.response(2))
    client.receives(bolt.response(2))
    assert upstream.is_closed()


# ---- back-pressure


@pytest.mark.whole_only
def test_requests_wait_while_the_upstream_takes_no_more(start: Start) -> None:
    _talk, client, upstream = begin(start, plan={"buffer_limit": 1000})
    upstream.stalls()
    client.sends(bolt.request(2, b"x" * 2000))
    client.sends(bolt.request(3, b"y"))
    assert len(upstream.transport.waiting) < 2200
    assert client.is_read()
    upstream.reads_on()
    upstream.receives(bolt.request(2, b"x" * 2000) + bolt.request(3, b"y"))


@pytest.mark.whole_only
def test_requests_that_wait_go_when_their_time_is_over(start: Start) -> None:
    talk, client, upstream = begin(start, plan={"buffer_limit": 1000})
    upstream.stalls()
    client.sends(bolt.request(2, b"x" * 2000))
    client.sends(bolt.request(3, timeout=500))
    talk.advance(0.6)
    client.receives(bolt.failure(3, 7))
    upstream.reads_on()
    upstream.receives(bolt.request(2, b"x" * 2000))


@pytest.mark.whole_only
def test_a_client_may_have_only_so_many_requests_at_work(start: Start) -> None:
    _talk, client, upstream = begin(start)
    size = len(bolt.request(1, b"z" * 1_000_000))
    for number in range(2, 42):
        client.sends(bolt.request(number, b"z" * 1_000_000))
    at_work = len(upstream.takes()) // size
    assert 32 <= at_work <= 35
    assert not client.is_read()
    upstream.sends(bolt.response(2))
    client.receives(bolt.response(2))
    assert len(upstream.takes()) == size
    for number in range(3, 42):
        upstream.sends(bolt.response(number))
    upstream.takes()
    assert len(bolt.frames(client.takes())) == 39
    assert client.is_read()


@pytest.mark.whole_only
def test_a_client_that_reads_no_replies_delays_nothing_and_is_cut_off(start: Start) -> None:
    talk, slow, upstream = begin(start)
    other = talk.connect()
    slow.stalls()
    slow.sends(b"".join(bolt.request(number) for number in range(2, 52)))
    upstream.takes()
    for number in range(2, 40):
        upstream.sends(bolt.response(number, b"r" * 1_000_000))
    assert slow.is_reset()
    assert talk.reasons().count("client_write_timeout") == 50 - talk.reasons()[1:].count("ok") > 10
    assert upstream.is_read()
    other.sends(bolt.request(1))
    upstream.receives(bolt.request(52))
    upstream.sends(bolt.response(52))
    other.receives(bolt.response(1))
    assert server_module.MAX_UNSENT < 38_000_000


@pytest.mark.whole_only
def test_a_client_that_reads_no_replies_is_logged_though_all_are_sent(start: Start) -> None:
    talk, _, upstream = begin(start)
    talk.listener.write_timeout = 10.0
    client = talk.connect()
    client.stalls()
    client.sends(bolt.request(2))
    upstream.takes()
    upstream.sends(bolt.response(2, b"r" * 1_000_000))
    talk.advance(9.9)
    assert client.is_open()
    talk.advance(0.2)
    assert client.is_reset()
    assert talk.reasons() == ["ok", "ok", "client_write_timeout"]


# ---- peers that break the rules


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x03" + bytes(30), "bad_frame"),
        (b"\x01\x03" + bytes(30), "bad_frame"),
        (b"\x02\x07\x01" + bytes(30), "bad_frame"),
        (bolt.request(5, v2=True, crc=True)[:-1] + b"!", "bad_frame"),
        (bolt.request(5)[:14] + struct.pack(">HHI", 0, 0, 0xFFFFFFFF), "frame_too_large"),
        (bolt.request(5)[:14] + struct.pack(">HHI", 0, 6, 0) + b"\x00\x00\x00\x09ab", "bad_frame"),
        (bolt.request(5)[:14] + struct.pack(">HHI", 0, 5, 0) + b"\x00\x00\x00\x01a", "bad_frame"),
    ],
)
def test_bytes_that_are_no_frames_end_the_connection(start: Start, data: bytes, reason: str) -> None:
    talk, client, upstream = begin(start)
    victim = talk.connect()
    victim.sends(bolt.request(1))
    upstream.receives(bolt.request(2))
    client.sends(data)
    client.receives_nothing()
    assert client.is_closed()
    assert talk.counters()[f"reason_{reason}"] == 1
    upstream.sends(bolt.response(2))
    victim.receives(bolt.response(1))


def test_an_id_may_be_used_again(start: Start) -> None:
    talk, _, upstream = begin(start)
    again = talk.connect()
    for _ in range(3):
        again.sends(bolt.request(1))
        number = bolt.frames(upstream.takes())[0].request_id
        upstream.sends(bolt.response(number))
        again.receives(bolt.response(1))


def test_unexpected_replies(start: Start) -> None:
    talk, client, upstream = begin(start)
    client.sends(bolt.response(1))
    upstream.sends(bolt.response(1) + bolt.response(12345))
    client.receives_nothing()
    assert client.is_open()
    assert talk.counters()["reason_unasked_reply"] == 1
    assert talk.upstream_counters()["response_stray"] == 2


def test_a_server_that_calls_its_client_gets_an_error(start: Start) -> None:
    talk, client, upstream = begin(start)
    upstream.sends(bolt.request(9) + bolt.request(10, kind=2))
    upstream.receives(bolt.failure(9, 6))
    client.receives_nothing()
    assert talk.upstream_counters()["response_stray"] == 2


def test_half_a_frame_and_then_silence(start: Start) -> None:
    talk, client, upstream = begin(start, plan={"idle_timeout": 0.0})
    client.sends(bolt.request(2)[:-1])
    talk.advance(61.0)
    assert client.is_closed()
    assert talk.reasons() == ["ok", "request_timeout"]
    upstream.takes()


def test_half_a_frame_and_then_the_end(start: Start) -> None:
    talk, client, upstream = begin(start)
    client.shuts()
    assert client.is_closed()
    truncated, lost, waiting = talk.connect(), talk.connect(), talk.connect()
    truncated.sends(bolt.request(2)[:-1])
    truncated.shuts()
    assert truncated.is_closed()
    lost.sends(bolt.request(2)[:1])
    lost.resets()
    waiting.sends(bolt.request(5) + bolt.request(6)[:9])
    upstream.receives(bolt.request(2))
    waiting.shuts()
    assert waiting.is_open()  # what it asked before is still answered
    upstream.sends(bolt.response(2))
    waiting.receives(bolt.response(5))
    assert waiting.is_closed()
    assert talk.reasons() == ["ok", "truncated_frame", "client_gone", "truncated_frame", "ok"]


@pytest.mark.whole_only
def test_a_server_that_floods_and_does_not_read_gets_no_more_answers(start: Start) -> None:
    _, client, upstream = begin(start)
    upstream.stalls()
    for flood in (bolt.heartbeat(9), bolt.request(9)):
        for _ in range(40):
            upstream.sends(flood * 1000)
    assert 0 < len(upstream.transport.waiting) < 400_000
    client.sends(bolt.request(2))
    upstream.reads_on()
    upstream.takes()
    upstream.sends(bolt.heartbeat(10))
    upstream.receives(bolt.heartbeat_ack(10))
    client.resets()
