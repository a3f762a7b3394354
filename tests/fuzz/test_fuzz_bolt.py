"""Fuzzing of the Bolt codec: it never fails but by ProtocolError, never depends on splits, and writes what it has read.

The second opinion is `tests/kit/bolt_frames.py`, which is written from the protocol's description.
"""

from __future__ import annotations

import contextlib
from zlib import crc32

import pytest
from hypothesis import strategies as st
from tests.fuzz.test_fuzz_http1 import CUTS, SECONDS, fuzz
from tests.kit import bolt_frames as bolt
from tests.unit.protocol.rpc_frames import built, encoded, items_or_why_not

from pymosn.api.protocol import NEED_MORE, ONE_WAY, REQUEST, RESPONSE, ProtocolError
from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.core.headers import HttpHeaders
from pymosn.core.message import UnreadableHeaders
from pymosn.protocol.bolt.codec import BoltDecoder, BoltSpec

pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)

LIMIT = 4096
TEXTS = st.text(max_size=12)
HEADERS = st.dictionaries(TEXTS, st.none() | TEXTS, max_size=4)
NUMBERS = st.integers(0, 0xFFFFFFFF)
BODIES = st.binary(max_size=40)
REQUESTS = st.builds(
    bolt.request,
    NUMBERS,
    BODIES,
    HEADERS,
    st.integers(-(2**31), 2**31 - 1),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 1, 1, 7]),
    BODIES,
    st.booleans(),
    st.booleans(),
)
RESPONSES = st.builds(
    bolt.response, NUMBERS, BODIES, HEADERS, st.integers(0, 0xFFFF), st.just(2), BODIES, st.booleans(), st.booleans()
)
CONTROL = st.builds(bolt.heartbeat, NUMBERS, st.booleans()) | st.builds(bolt.heartbeat_ack, NUMBERS, st.booleans())
MESSAGES = REQUESTS | RESPONSES
STREAMS = st.lists(MESSAGES | CONTROL, max_size=4).map(b"".join)
EDITS = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=5), st.integers(0, 4)), min_size=1, max_size=4)


def edited(data: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    """`data` with bytes put in, taken out and overwritten."""
    for at, put, dropped in edits:
        data = data[:at] + put + data[at + dropped :]
    return data


ANY = STREAMS | st.builds(edited, STREAMS, EDITS) | st.binary(max_size=80)


def seen(feeds: list[bytes]) -> list[object]:
    """What a decoder finds, in a form that can be compared."""
    decoder = BoltDecoder(LIMIT)
    found: list[object] = []
    try:
        for data in feeds:
            decoder.feed(data)
            while (kind := decoder.decode()) != NEED_MORE:
                found.append((kind, decoder.request_id, decoder.answer, facts(decoder, kind)))
    except ProtocolError as error:
        found.append(error.failure.reason)
    return found


def facts(decoder: BoltDecoder, kind: int) -> object:
    """Everything about the message of a frame, after its invariants have been checked."""
    message: RpcRequest | RpcResponse | None = decoder.response if kind == RESPONSE else decoder.request
    if kind not in (REQUEST, ONE_WAY, RESPONSE) or message is None:
        return None
    check_message(message, decoder.request_id)
    return (message.frame, message.payload, items_or_why_not(message.headers))


def check_message(message: RpcRequest | RpcResponse, number: int) -> None:
    with contextlib.suppress(UnreadableHeaders):  # a name with different values
        items = message.headers.items_raw()
        assert [message.headers.get_raw(name) for name, _ in items] == [value for _, value in items]
    kept = message.frame + message.payload
    assert encoded(message, number, message.payload) in (kept, kept + crc32(kept).to_bytes(4, "big"))
    peer = bolt.frames(encoded(message, 7, message.payload))
    assert [frame.request_id for frame in peer] == [7]


def check_any(data: bytes, cuts: list[int]) -> None:
    whole = seen([data])
    at = 0
    parts = []
    for cut in cuts:
        parts.append(data[at : at + cut])
        at += cut
    assert seen([*parts, data[at:]]) == whole
    assert seen([data[at : at + 1] for at in range(len(data))]) == whole


def check_one(data: bytes) -> None:
    decoder = BoltDecoder(LIMIT)
    decoder.feed(data)
    kind = decoder.decode()
    message: RpcRequest | RpcResponse | None = decoder.response if kind == RESPONSE else decoder.request
    assert message is not None
    (peer,) = bolt.frames(data)
    assert (decoder.request_id, message.payload) == (peer.request_id, peer.content)
    # The look-up in the frame and the list of all fields agree.
    names = [name for name in peer.headers if name.isascii()]
    if len({name.lower() for name in peer.headers}) == len(peer.headers):
        scanned = {name: message.headers.get_raw(name.lower().encode()) for name in names}
        listed = dict(message.headers.items_raw())
        assert scanned == {name: listed.get(name.lower().encode()) for name in names}
    # Written anew from its parts it is what it was.
    assert built(message, decoder.request_id, message.payload) == data
    message.headers.add("x-new", "1")
    (after,) = bolt.frames(encoded(message, 3, b"other"))
    assert after == peer._replace(request_id=3, content=b"other", headers={**peer.headers, "x-new": "1"}, raw=after.raw)
    if isinstance(message, RpcRequest):
        reply = message.local_reply(404, HttpHeaders(), b"")
        (answer,) = bolt.frames(encoded(reply, peer.request_id, reply.payload))
        assert (answer.kind, answer.request_id, answer.status, answer.content) == (0, peer.request_id, 6, b"")


def check_match(data: bytes) -> None:
    for spec in (BoltSpec(1), BoltSpec(2)):
        answers = [spec.match(data[:size]) for size in range(1, len(data) + 1)]
        decided = [answer for answer in answers if answer != 2]
        assert len(set(decided)) <= 1  # more bytes never change a decision


def test_any_bytes_however_cut() -> None:
    fuzz(check_any, 400, ANY, CUTS)


def test_what_is_read_is_written() -> None:
    fuzz(check_one, 150, MESSAGES)


def test_match_is_final() -> None:
    fuzz(check_match, 100, ANY)
