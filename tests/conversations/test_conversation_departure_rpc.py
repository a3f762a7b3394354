"""Connections of Bolt and Dubbo that move to the next generation, in every state of a request."""

from typing import Any

import pytest
from tests.kit import Peer, Start, Talk
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo
from tests.kit.bolt_session import BOLT
from tests.kit.moving import Leaving, connection_of
from tests.kit.options import rpc_options

from pymosn.api.network import MAX_CARRIED

DUBBO: dict[str, Any] = {"protocols": ["dubbo"]}
#: A frame of a request, on the client's side and on the host's, and of its response on either side.
CALLS = {
    "bolt": (BOLT, bolt.request(7, b"a"), bolt.request(1, b"a"), bolt.response(1, b"A"), bolt.response(7, b"A")),
    "boltv2": (
        {"protocols": ["boltv2"]},
        bolt.request(7, b"a", v2=True),
        bolt.request(1, b"a", v2=True),
        bolt.response(1, b"A", v2=True),
        bolt.response(7, b"A", v2=True),
    ),
    "dubbo": (DUBBO, dubbo.call(7), dubbo.call(1), dubbo.result(1), dubbo.result(7)),
}


def two(start: Start, **options: Any) -> tuple[Leaving, Talk]:
    """A worker that leaves, and one of the next generation."""
    return Leaving(start(**options)), start(**options)


def hold(leaving: Leaving, client: Peer, is_held: bool = True) -> bool:
    """Asks the connection to be held, or not any more; whether it is."""
    found: list[bool] = []
    leaving.talk.do(lambda: found.append(connection_of(client).network_filter().hold(is_held)))
    return found[0]


@pytest.mark.parametrize("protocol", CALLS)
def test_idle_connection_moves(start: Start, protocol: str) -> None:
    options, call, forwarded, result, answer = CALLS[protocol]
    leaving, other = two(start, **options)
    client, upstream = leaving.talk.forwarded(call, forwarded)
    upstream.sends(result)
    client.receives(answer)
    moved = leaving.move(client, other)
    moved.sends(call)
    upstream = other.expect_dial()
    upstream.receives(forwarded)
    upstream.sends(result)
    moved.receives(answer)
    assert leaving.talk.reasons() == other.reasons() == ["ok"]


@pytest.mark.whole_only
@pytest.mark.parametrize("protocol", CALLS)
def test_part_of_a_frame_goes_along(start: Start, protocol: str) -> None:
    options, call, forwarded, result, answer = CALLS[protocol]
    for size in range(0, len(call), 3):
        leaving, other = two(start, **options)
        client = leaving.talk.connect()
        client.sends(call[:size])
        moved = leaving.move(client, other)
        moved.sends(call[size:])
        upstream = other.expect_dial()
        upstream.receives(forwarded)
        upstream.sends(result)
        moved.receives(answer)
        assert other.reasons() == ["ok"]
        assert leaving.talk.reasons() == []


@pytest.mark.parametrize("protocol", CALLS)
def test_calls_in_flight_end_first(start: Start, protocol: str) -> None:
    options, call, forwarded, result, answer = CALLS[protocol]
    leaving, other = two(start, **options)
    client, upstream = leaving.talk.forwarded(call, forwarded)
    leaving.notify(client)
    assert leaving.passage(client) is None
    assert client.is_read()
    upstream.sends(result)
    client.receives(answer)
    assert leaving.offers == [connection_of(client)]
    assert not client.is_read()
    moved = leaving.move(client, other)
    moved.sends(call)
    upstream = other.expect_dial()
    upstream.receives(forwarded)
    upstream.sends(result)
    moved.receives(answer)


def test_one_that_is_never_idle_is_held(start: Start) -> None:
    leaving, other = two(start, **BOLT)
    client, upstream = leaving.talk.opening(bolt.request(1, b"a") + bolt.request(2, b"b"))
    upstream.receives(bolt.request(1, b"a") + bolt.request(2, b"b"))
    leaving.notify(client)
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(1))
    client.sends(bolt.request(3, b"c"))
    upstream.receives(bolt.request(3, b"c"))
    assert leaving.offers == []
    assert hold(leaving, client)
    client.sends(bolt.request(4, b"d"))
    upstream.receives(b"")
    upstream.sends(bolt.response(2) + bolt.response(3))
    client.receives(bolt.response(2) + bolt.response(3))
    assert leaving.offers == [connection_of(client)]
    moved = leaving.move(client, other)
    other_upstream = other.expect_dial()
    other_upstream.receives(bolt.request(1, b"d"))
    other_upstream.sends(bolt.response(1))
    moved.receives(bolt.response(4))
    assert leaving.talk.reasons() == ["ok"] * 3


def test_a_call_that_takes_longer_lets_it_be_read_again(start: Start) -> None:
    leaving, other = two(start, **BOLT)
    client, upstream = leaving.talk.forwarded(bolt.request(1, b"a"))
    leaving.notify(client)
    assert hold(leaving, client)
    client.sends(bolt.request(2, b"b"))
    upstream.receives(b"")
    assert not hold(leaving, client, False)
    upstream.receives(bolt.request(2, b"b"))
    upstream.sends(bolt.response(2) + bolt.response(1))
    client.receives(bolt.response(2) + bolt.response(1))
    leaving.move(client, other)


@pytest.mark.whole_only
def test_a_frame_that_is_too_long_to_go_along_is_read_first(start: Start) -> None:
    leaving, other = two(start, **BOLT)
    client, upstream = leaving.talk.forwarded(bolt.request(1, b"a"))
    frame = bolt.request(2, bytes(int(MAX_CARRIED) + 100))
    client.sends(frame[:-10])
    leaving.notify(client)
    assert not hold(leaving, client)
    assert client.is_read()
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(1))
    assert leaving.offers == []
    client.sends(frame[-10:])
    upstream.receives(frame)
    upstream.sends(bolt.response(2))
    client.receives(bolt.response(2))
    leaving.move(client, other)


def test_heartbeats_are_answered_on_either_side(start: Start) -> None:
    leaving, other = two(start, **BOLT)
    client = leaving.talk.connect()
    client.sends(bolt.heartbeat(1))
    client.receives(bolt.heartbeat_ack(1))
    moved = leaving.move(client, other)
    moved.sends(bolt.heartbeat(2))
    moved.receives(bolt.heartbeat_ack(2))


def test_an_answer_that_is_not_sent_yet_goes_first(start: Start) -> None:
    """It is still in the batch of this turn of the event loop."""
    leaving, other = two(start, **BOLT)
    client = leaving.talk.connect()

    def beat() -> None:
        client.gives(bolt.heartbeat(1))
        assert leaving.talk.listener.passage_of(connection_of(client)) is not None
        client.receives(bolt.heartbeat_ack(1))

    leaving.talk.do(beat)
    leaving.move(client, other)


def test_the_idle_time_continues(start: Start) -> None:
    leaving, other = two(start, **BOLT, rpc=rpc_options(idle_timeout=50.0))
    client = leaving.talk.connect()
    leaving.talk.advance(40.0)
    moved = leaving.move(client, other)
    other.advance(9.0)
    assert moved.is_open()
    other.advance(2.0)
    assert moved.is_closed()


def test_drained_after_all(start: Start) -> None:
    leaving, _ = two(start, **BOLT, rpc=rpc_options(goaway=True))
    client, upstream = leaving.talk.forwarded(bolt.request(1, b"a"))
    leaving.notify(client)
    assert hold(leaving, client)
    leaving.notify(client, moves=False)
    assert client.is_read()
    client.receives(bolt.goaway(0))
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(1))
    leaving.talk.advance(1.0)
    assert client.is_closed()


def test_half_closed_connection_ends_here(start: Start) -> None:
    leaving, _ = two(start, **BOLT)
    client, upstream = leaving.talk.forwarded(bolt.request(1, b"a"))
    leaving.notify(client)
    client.shuts()
    assert not connection_of(client).departs()
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(1))
    assert client.is_closed()
