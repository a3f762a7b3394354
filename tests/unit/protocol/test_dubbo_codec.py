"""The Dubbo codec, on frames that Apache Dubbo 2.7 and 3 sent each other, and on invalid ones."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.dubbo_frames import frame
from tests.unit.protocol.decoding import one_by_one, pieces
from tests.unit.protocol.dubbo_messages import CALL, FRAMES, REPLIES, REQUESTS, SPEC, VERSIONS
from tests.unit.protocol.rpc_frames import built, decoded, encoded, only, recorded

from pymosn.api.protocol import GOAWAY, HEARTBEAT, HEARTBEAT_ACK, IGNORE, MORE, NO, ONE_WAY, REQUEST, RESPONSE, YES
from pymosn.core.message import UnreadableHeaders

# ---- recorded frames


@pytest.mark.parametrize("name", REQUESTS)
def test_a_recorded_request_names_its_service(name: str) -> None:
    found = only(SPEC, REQUESTS[name])
    message = found.request
    assert message is not None
    assert found.kind == (ONE_WAY if "/note." in name else REQUEST)
    assert message.is_one_way == ("/note." in name)
    headers = message.headers
    assert headers.get("service") == message.service() == "interop.EchoService"
    assert headers.get("version") == "1.0.1"
    assert headers.get("group") == "blue"
    assert headers.get("interface") == "interop.EchoService"
    assert headers.get("dubbo") == "2.0.2"
    assert headers.get("remote.application") == "consumer"
    step = name.split("/")[1].split(".")[0].split("-")[0]
    assert message.method == ("$invoke" if step == "generic" else step)
    assert headers.get("colour") == ("green" if "/attachment." in name else headers.get("colour"))
    assert message.has_timeout == name.startswith("dubbo-3")
    assert message.timeout == (10.0 if message.has_timeout else 0.0)


@pytest.mark.parametrize("name", REPLIES)
def test_a_recorded_reply_is_ok_and_has_its_attachments(name: str) -> None:
    found = only(SPEC, REPLIES[name])
    assert found.kind == RESPONSE
    assert found.message.status == 200
    assert found.message.headers.items() == [("dubbo", "2.0.2")]


@pytest.mark.parametrize("name", [*REQUESTS, *REPLIES])
def test_a_recorded_frame_is_sent_on_with_another_id_only(name: str) -> None:
    message = only(SPEC, FRAMES[name]).message
    for number in (7, 2**63 - 1, -1):
        sent = encoded(message, number, message.payload)
        assert sent == FRAMES[name][:4] + struct.pack(">q", number) + FRAMES[name][12:]


@pytest.mark.parametrize("name", [*REQUESTS, *REPLIES])
def test_a_recorded_frame_re_encoded_is_the_same(name: str) -> None:
    found = only(SPEC, FRAMES[name])
    found.message.headers.items()
    assert built(found.message, found.request_id, found.message.payload) == FRAMES[name]
    found.message.headers.is_changed = True  # type: ignore[attr-defined]
    assert encoded(found.message, found.request_id, found.message.payload) == FRAMES[name]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_changed_attachment_leaves_all_else_as_it_was(name: str) -> None:
    raw = REQUESTS[name]
    found = only(SPEC, raw)
    found.message.headers.set("group", "grün")
    sent = encoded(found.message, found.request_id, found.message.payload)
    body = raw[16:].replace(b"\x05group\x04blue", b"")[:-1] + b"\x05group\x04gr\xc3\xbcnZ"
    assert sent == raw[:12] + struct.pack(">I", len(body)) + body
    assert only(SPEC, sent).message.headers.get("group") == "grün"


@pytest.mark.parametrize("name", REPLIES)
def test_an_attachment_added_to_a_reply(name: str) -> None:
    raw = REPLIES[name]
    found = only(SPEC, raw)
    found.message.headers.add("seen", "yes")
    sent = encoded(found.message, found.request_id, found.message.payload)
    body = raw[16:-1] + b"\x04seen\x03yesZ"
    assert sent == raw[:12] + struct.pack(">I", len(body)) + body


@pytest.mark.parametrize("folder", VERSIONS)
def test_recorded_events(folder: str) -> None:
    frames = recorded(folder)
    asks = only(SPEC, frames["heartbeat.request"])
    assert asks.kind == HEARTBEAT
    assert asks.answer == frames["heartbeat.reply"]  # as a provider answered it
    assert only(SPEC, frames["heartbeat.reply"]).kind == HEARTBEAT_ACK
    assert only(SPEC, frames["readonly.request"]).kind == GOAWAY


@pytest.mark.parametrize("folder", VERSIONS)
def test_the_proxy_sends_the_events_that_dubbo_sends(folder: str) -> None:
    frames = recorded(folder)
    for made, name in ((SPEC.heartbeat(5), "heartbeat.request"), (SPEC.goaway(5), "readonly.request")):
        assert made == frames[name][:4] + struct.pack(">q", 5) + frames[name][12:]


# ---- cutting


@pytest.mark.parametrize("folder", VERSIONS)
def test_any_cut_gives_the_same_frames(folder: str) -> None:
    small = [raw for raw in recorded(folder).values() if len(raw) < 600]
    data = b"".join(small)
    whole = [found.key() for found in decoded(SPEC, [data]).found]
    assert len(whole) == len(small)
    for cut in range(1, len(data), 7):
        assert [found.key() for found in decoded(SPEC, pieces(data, [cut])).found] == whole
    assert [found.key() for found in decoded(SPEC, one_by_one(data)).found] == whole


@given(st.lists(st.integers(1, 4000), max_size=8))
@settings(deadline=None, max_examples=50)
def test_cuts_anywhere(cuts: list[int]) -> None:
    data = b"".join(FRAMES[f"dubbo-3/{name}"] for name in ("fail.request", "fail.reply", "mixed.request", "note.request"))
    assert len(decoded(SPEC, pieces(data, cuts)).found) == 4


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\xda", MORE),
        (b"\xda\xbb", YES),
        (b"\xda\xbb\x00\xff", YES),
        (b"\xbb", NO),
        (b"\xda\xbc", NO),
        (b"GET /", NO),
        (b"\x00", NO),
    ],
)
def test_match(data: bytes, answer: int) -> None:
    assert SPEC.match(data) == answer


# ---- what is refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xdb", "bad_frame"),
        (b"\xda\xbc", "bad_frame"),
        (b"GET / HTTP/1.1\r\n", "bad_frame"),
        (b"\xda\xbb\xc2\x00" + bytes(8) + b"\xff\xff\xff\xff", "frame_too_large"),
        (frame(0xC2, 0, b""), "bad_frame"),
        (frame(0xC2, 0, b"N"), "bad_frame"),
        (frame(0xC2, 0, CALL[:-1]), "bad_frame"),
        (frame(0xC2, 0, b"\x90" + CALL), "bad_frame"),
        (frame(0xC2, 0, b"HZ" * 4), "bad_frame"),
    ],
)
def test_frames_that_are_refused(data: bytes, reason: str) -> None:
    outcome = decoded(SPEC, [data], 1 << 20)
    assert outcome.reason == reason
    assert not outcome.found


def test_a_request_truncated_within_its_first_fields_is_rejected_and_after_them_forwarded() -> None:
    raw = FRAMES["dubbo-3/mixed.request"]
    front = raw.index(b"\x05mixed") + 6
    for end in range(16, len(raw)):
        outcome = decoded(SPEC, [frame(0xC2, 0, raw[16:end])])
        if end < front:
            assert outcome.reason == "bad_frame"
            continue
        message = outcome.found[0].message
        assert message.headers.get("method") == "mixed"
        for name in ("service", "group"):
            with pytest.raises(UnreadableHeaders):
                message.headers.get(name)
        assert encoded(message, 9, message.payload) == frame(0xC2, 0, raw[16:end], 9)


# ---- events


@pytest.mark.parametrize(
    ("raw", "kind", "answer"),
    [
        (frame(0xE2, 0, b"N"), HEARTBEAT, frame(0x22, 20, b"N")),
        (frame(0xE2 + 21, 0, b"\xaf"), HEARTBEAT, frame(0x22 + 21, 20, b"\xaf")),
        (frame(0xE2, 0, b""), HEARTBEAT, frame(0x22, 20, b"")),
        (frame(0xA2, 0, b"N"), IGNORE, b""),
        (frame(0xA2, 0, b""), IGNORE, b""),
        (frame(0xA2, 0, b"\x01W"), IGNORE, b""),
        (frame(0xA2, 0, b"\x01R"), GOAWAY, b""),
        (frame(0xA2 + 21, 0, b"\x4aR"), GOAWAY, b""),
        (frame(0x22, 20, b"N"), HEARTBEAT_ACK, b""),
        (frame(0x22, 80, b"\x03why"), HEARTBEAT_ACK, b""),
    ],
)
def test_events(raw: bytes, kind: int, answer: bytes) -> None:
    outcome = decoded(SPEC, [raw])
    assert outcome.reason == ""
    if kind == IGNORE:
        assert not outcome.found
    else:
        assert [(found.kind, found.answer) for found in outcome.found] == [(kind, answer)]


@pytest.mark.parametrize("number", [0, 1, 2**32, 2**63 - 1, -1, -(2**63)])
def test_ids_come_back_bit_by_bit(number: int) -> None:
    found = only(SPEC, frame(0xE2, 0, b"N", number))
    assert found.request_id == number
    assert found.answer[4:12] == struct.pack(">q", number)
