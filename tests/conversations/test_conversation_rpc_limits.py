"""Frames above the limit, providers that die, and ids that are used twice, in every RPC protocol."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from tests.kit import Start
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo
from tests.kit.options import rpc_options
from tests.kit.peers import Peer
from tests.kit.rpc_wires import WIRES, Wire, carried
from tests.kit.talk import Talk

from pymosn.api.rpc import MAX_SKIPPED
from pymosn.upstream.plan import EjectionPlan

SMALL = carried("small")
LARGE = carried("x" * 3000)
LIMIT = 1000


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


def begin(start: Start, wire: Wire) -> tuple[Talk, Peer, Peer]:
    """A client whose call 1 is in flight; its id at the host is 1."""
    talk = start(protocols=[wire.name], rpc=rpc_options(max_frame=LIMIT), plan={"max_frame_size": LIMIT})
    client = talk.connect()
    client.sends(wire.request(1, SMALL))
    upstream = talk.expect_dial()
    assert frames(wire, upstream) == [(1, SMALL)]
    return talk, client, upstream


def frames(wire: Wire, peer: Peer) -> list[tuple[int, bytes]]:
    """Ids and contents of the frames that have arrived; TARS has several encodings of an id."""
    found, rest = wire.cut(peer.takes())
    assert rest == b""
    return [(wire.request_id(frame), wire.content(frame)) for frame in found]


def only(wire: Wire, peer: Peer) -> bytes:
    """The one frame that has arrived."""
    [frame], rest = wire.cut(peer.takes())
    assert rest == b""
    return frame


def told(wire: Wire, frame: bytes) -> tuple[int, bytes]:
    """What a local reply says, in the protocol's own terms: its status, and the text if it has one."""
    if wire.name.startswith("bolt"):
        [parsed] = bolt.frames(frame)
        assert parsed.kind == 0
        return parsed.status, parsed.content
    if wire.name == "dubbo":
        assert frame[2] == 2
        return frame[3], frame[17:]
    if wire.name == "tars":
        result = frame[frame.index(b"\x50") + 1] if b"\x50" in frame else 0
        text = frame[frame.index(b"\x86") + 2 :]
        return result - 256 if result > 127 else result, text
    message = frame[4 + struct.unpack_from(">H", frame, 10)[0] :]
    assert message[:4] == b"\x80\x01\x00\x03"
    size = struct.unpack_from(">I", message, 19)[0]
    return struct.unpack_from(">i", message, 23 + size + 3)[0], message[23 : 23 + size]


#: Status and text by protocol: of a request and of a response above the limit, and of a lost connection.
LARGE_REQUEST = {
    "bolt": (9, b""),
    "boltv2": (9, b""),
    "dubbo": (40, b"413|frame_too_large"),
    "dubbo-thrift": (7, b"413|frame_too_large"),
    "tars": (-1, b"413|frame_too_large"),
}
LARGE_RESPONSE = {
    "bolt": (9, b""),
    "boltv2": (9, b""),
    "dubbo": (50, b"502|frame_too_large"),
    "dubbo-thrift": (7, b"502|frame_too_large"),
    "tars": (-8, b"502|frame_too_large"),
}
LOST = {
    "bolt": (16, b""),
    "boltv2": (16, b""),
    "dubbo": (35, b"502|reset_before_response"),
    "dubbo-thrift": (6, b"502|reset_before_response"),
    "tars": (-8, b"502|reset_before_response"),
}


def test_a_request_above_the_limit_fails_alone(start: Start, wire: Wire) -> None:
    talk, client, upstream = begin(start, wire)
    client.sends(wire.request(2, LARGE) + wire.request(3, SMALL))
    frame = only(wire, client)
    assert (wire.request_id(frame), told(wire, frame)) == (2, LARGE_REQUEST[wire.name])
    assert frames(wire, upstream) == [(2, SMALL)]
    upstream.sends(wire.reply(2, SMALL) + wire.reply(1, SMALL))
    assert frames(wire, client) == [(3, SMALL), (1, SMALL)]
    assert talk.reasons() == ["frame_too_large", "ok", "ok"]
    assert client.is_open()


def test_several_requests_above_the_limit(start: Start, wire: Wire) -> None:
    talk, client, upstream = begin(start, wire)
    client.sends(wire.request(2, LARGE) + wire.request(3, LARGE) + wire.request(4, LARGE, one_way=True))
    found, _ = wire.cut(client.takes())
    assert [wire.request_id(frame) for frame in found] == [2, 3]  # a one-way request gets no reply
    upstream.receives_nothing()
    assert talk.reasons() == ["frame_too_large"] * 3
    upstream.sends(wire.reply(1, SMALL))
    assert frames(wire, client) == [(1, SMALL)]


def test_a_response_above_the_limit_fails_alone(start: Start, wire: Wire) -> None:
    talk, client, upstream = begin(start, wire)
    client.sends(wire.request(2, SMALL))
    assert frames(wire, upstream) == [(2, SMALL)]
    upstream.sends(wire.reply(1, LARGE))
    frame = only(wire, client)
    assert (wire.request_id(frame), told(wire, frame)) == (1, LARGE_RESPONSE[wire.name])
    upstream.sends(wire.reply(99, LARGE))  # it answers nothing
    upstream.sends(wire.reply(2, SMALL))
    assert frames(wire, client) == [(2, SMALL)]
    assert talk.reasons() == ["frame_too_large", "ok"]
    assert talk.upstream_counters()["response_stray"] == 1
    assert upstream.is_open()
    client.sends(wire.request(3, SMALL))
    assert frames(wire, upstream) == [(3, SMALL)]


def test_a_host_whose_responses_are_too_large_is_not_ejected(start: Start, wire: Wire) -> None:
    ejection = EjectionPlan(consecutive_errors=2, max_ejection_percent=100.0)
    talk = start(protocols=[wire.name], plan={"max_frame_size": LIMIT, "ejection": ejection})
    client, upstream = talk.opening(wire.request(1, SMALL))
    for number in range(1, 11):
        upstream.takes()
        upstream.sends(wire.reply(number, LARGE))
        client.takes()
        client.sends(wire.request(number + 1, SMALL))
    upstream.takes()
    assert talk.reasons() == ["frame_too_large"] * 10
    assert talk.clusters.by_name["service"].hosts[0].is_healthy


def test_calls_in_flight_at_a_provider_that_dies(start: Start, wire: Wire) -> None:
    talk, client, upstream = begin(start, wire)
    client.sends(wire.request(2, SMALL))
    upstream.takes()
    upstream.resets()
    found, _ = wire.cut(client.takes())
    assert [wire.request_id(frame) for frame in found] == [1, 2]
    assert [told(wire, frame) for frame in found] == [LOST[wire.name]] * 2
    assert talk.reasons() == ["reset_before_response"] * 2


def test_calls_in_flight_at_a_provider_that_closes(start: Start, wire: Wire) -> None:
    _, client, upstream = begin(start, wire)
    upstream.shuts()
    assert told(wire, only(wire, client)) == LOST[wire.name]


def test_calls_in_flight_at_a_provider_that_sends_rubbish(start: Start, wire: Wire) -> None:
    talk, client, upstream = begin(start, wire)
    upstream.sends_whole(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(50))
    status, text = told(wire, only(wire, client))
    assert status == {"dubbo": 50, "dubbo-thrift": 7}.get(wire.name, LOST[wire.name][0])
    assert text in (b"", b"502|bad_response")
    assert talk.reasons() == ["bad_response"]


def test_without_a_host_it_is_still_no_healthy_upstream(start: Start, wire: Wire) -> None:
    talk = start(protocols=[wire.name], hosts=[])
    client = talk.connect()
    client.sends(wire.request(1, SMALL))
    status, text = told(wire, only(wire, client))
    assert status == {"dubbo": 60, "dubbo-thrift": 0, "tars": -8}.get(wire.name, 6)
    assert text in (b"", b"502|no health upstream")


def test_an_id_that_is_still_in_flight_gets_a_response_for_each_request(start: Start, wire: Wire) -> None:
    talk, client, upstream = begin(start, wire)
    client.sends(wire.request(1, SMALL) + wire.request(1, SMALL))
    assert frames(wire, upstream) == [(2, SMALL), (3, SMALL)]
    for number, text in ((2, "second"), (1, "first"), (3, "third")):
        upstream.sends(wire.reply(number, carried(text)))
        assert frames(wire, client) == [(1, carried(text))]
    assert talk.reasons() == ["ok"] * 3
    client.sends(wire.request(1, SMALL))
    assert frames(wire, upstream) == [(4, SMALL)]
    upstream.resets()
    assert told(wire, only(wire, client)) == LOST[wire.name]


def test_a_client_that_leaves_with_an_id_in_flight_twice(start: Start, wire: Wire) -> None:
    talk, client, upstream = begin(start, wire)
    client.sends(wire.request(1, SMALL))
    upstream.takes()
    client.resets()
    assert talk.reasons() == ["client_gone"] * 2


# ---- a frame that is being skipped


def half(wire: Wire) -> tuple[bytes, bytes]:
    """A request above the limit, in two parts."""
    whole = wire.request(2, LARGE)
    return whole[:1500], whole[1500:]


def test_the_reply_does_not_wait_for_the_rest(start: Start, wire: Wire) -> None:
    _, client, upstream = begin(start, wire)
    first, second = half(wire)
    client.sends(first)
    assert wire.request_id(only(wire, client)) == 2
    client.sends(second[:-1])
    upstream.receives_nothing()
    client.sends(second[-1:] + wire.request(3, SMALL))
    assert frames(wire, upstream) == [(2, SMALL)]


def test_a_client_that_ends_meanwhile_is_counted_once(start: Start, wire: Wire) -> None:
    talk, client, upstream = begin(start, wire)
    client.sends(half(wire)[0])
    client.takes()
    client.shuts()
    upstream.sends(wire.reply(1, SMALL))
    assert frames(wire, client) == [(1, SMALL)]
    assert client.is_closed()
    assert talk.reasons() == ["frame_too_large", "ok"]


def test_a_client_that_falls_silent_meanwhile_is_closed(start: Start, wire: Wire) -> None:
    talk = start(protocols=[wire.name], rpc=rpc_options(max_frame=LIMIT, frame_timeout=5.0))
    client = talk.connect()
    client.sends(half(wire)[0])
    client.takes()
    talk.advance(4.9)
    assert client.is_open()
    talk.advance(0.2)
    assert client.is_closed()
    assert talk.reasons() == ["frame_too_large", "request_timeout"]


#: The offset of the 32-bit length of a request, and what else it counts.
LENGTHS: dict[str, Callable[[Wire], int]] = {
    "bolt": lambda _: 18,
    "boltv2": lambda _: 20,
    "dubbo": lambda _: 12,
    "dubbo-thrift": lambda _: 0,
    "tars": lambda _: 0,
}


def test_what_is_no_length_ends_the_connection(start: Start, wire: Wire) -> None:
    talk, client, _ = begin(start, wire)
    raw = bytearray(wire.request(2, SMALL))
    struct.pack_into(">I", raw, LENGTHS[wire.name](wire), int(MAX_SKIPPED) + LIMIT + 1)
    client.sends(bytes(raw))
    client.receives_nothing()
    assert client.is_closed()
    assert talk.counters()["reason_frame_too_large"] == 1


def test_large_events_are_skipped(start: Start) -> None:
    _, client, upstream = begin(start, WIRES["dubbo"])
    client.sends(dubbo.frame(0xE2, 0, b"S" * 3000, 5) + WIRES["dubbo"].request(3, SMALL))
    assert frames(WIRES["dubbo"], upstream) == [(2, SMALL)]
    client.receives_nothing()
    assert client.is_open()


def test_a_head_without_end_cannot_be_skipped(start: Start) -> None:
    wire = WIRES["dubbo-thrift"]
    talk, client, _ = begin(start, wire)
    raw = wire.request(2, carried("x" * 400_000))
    at = raw.index(b"\x80\x01\x00\x01") + 4
    client.sends_whole(raw[:at] + struct.pack(">I", 300_000) + raw[at + 4 : 200_000])
    client.receives_nothing()
    assert client.is_closed()
    assert talk.counters()["reason_frame_too_large"] == 1


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_the_limit_is_exact(start: Start, wire: Wire, excess: int) -> None:
    request, reply = wire.request(1, LARGE), wire.reply(1, LARGE)
    sized = rpc_options(max_frame=len(request) - excess)
    talk = start(protocols=[wire.name], rpc=sized, plan={"max_frame_size": len(reply) - excess})
    client = talk.connect()
    client.sends(request + wire.request(2, SMALL))
    if excess > 0:
        assert wire.request_id(only(wire, client)) == 1
        upstream = talk.expect_dial()
        assert frames(wire, upstream) == [(1, SMALL)]
    else:
        upstream = talk.expect_dial()
        assert frames(wire, upstream) == [(1, LARGE), (2, SMALL)]
    client.sends(wire.request(3, SMALL))
    [(number, _)] = frames(wire, upstream)
    upstream.sends(wire.reply(number, LARGE) + wire.reply(number - 1, SMALL))
    found, _ = wire.cut(client.takes())
    assert [wire.request_id(frame) for frame in found] == [3, 2]
    assert [wire.is_good(frame) for frame in found] == [excess <= 0 or len(wire.reply(number, LARGE)) < len(reply), True]


def test_a_provider_that_dies_between_two_replies(start: Start, wire: Wire) -> None:
    talk, client, upstream = begin(start, wire)
    client.sends(wire.request(2, SMALL) + wire.request(3, SMALL))
    upstream.takes()
    upstream.sends(wire.reply(2, SMALL) + wire.reply(1, LARGE[:900])[:-1])
    upstream.resets()
    found, _ = wire.cut(client.takes())
    assert [wire.request_id(frame) for frame in found] == [2, 1, 3]
    assert [wire.is_good(frame) for frame in found] == [True, False, False]
    assert [told(wire, frame) for frame in found[1:]] == [LOST[wire.name]] * 2
    assert client.is_open()
    # The next call takes another connection.
    client.sends(wire.request(4, SMALL))
    assert frames(wire, talk.expect_dial()) == [(1, SMALL)]
