"""Fuzzing of the codecs of Dubbo, dubbo-thrift and TARS: nothing but ProtocolError is raised, splits do not matter, what was
read is written back, and what cannot be read is forwarded.

The second opinion on hessian 2 is `tests/kit/dubbo_frames.py`, which writes it from its description.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import strategies as st
from tests.fuzz.test_fuzz_http1 import CUTS, SECONDS, fuzz
from tests.kit import dubbo_frames as dubbo
from tests.unit.protocol.decoding import one_by_one, pieces
from tests.unit.protocol.dubbo_messages import FRAMES
from tests.unit.protocol.rpc_frames import built, decoded, encoded, items_or_why_not
from tests.unit.protocol.test_dubbothrift_codec import FRAMES as THRIFT_FRAMES
from tests.unit.protocol.test_tars_codec import FRAMES as TARS_FRAMES

from pymosn.api.protocol import ONE_WAY, REQUEST, RESPONSE
from pymosn.api.rpc import RpcSpec
from pymosn.core.headers import HeaderError, HttpHeaders
from pymosn.core.message import UnreadableHeaders
from pymosn.protocol.dubbo.codec import DubboSpec
from pymosn.protocol.dubbothrift.codec import ThriftSpec
from pymosn.protocol.tars.codec import TarsSpec

pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)

LIMIT = 1 << 20
TEXTS = st.text(max_size=50)
NAMES = st.text("abAB.-é€😀", min_size=1, max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | TEXTS
    | st.binary(max_size=30)
    | st.builds(dubbo.Reference, st.just(0))
)
CLASSES = st.tuples(st.sampled_from(["a.B", "c.D"]), st.dictionaries(st.sampled_from(["x", "y"]), SCALARS, max_size=2))
#: Arguments behind a first list, which references may point to.
VALUES = st.recursive(
    SCALARS | CLASSES,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)
ATTACHMENTS = st.dictionaries(NAMES, TEXTS | VALUES, max_size=5)
EDITS = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=5), st.integers(0, 4)), min_size=1, max_size=4)


def edited(data: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    """`data` with bytes put in, taken out and overwritten."""
    for at, put, dropped in edits:
        data = data[:at] + put + data[at + dropped :]
    return data


def streams(frames: list[bytes]) -> st.SearchStrategy[bytes]:
    """Frames in a row, good ones and broken ones."""
    rows = st.lists(st.sampled_from(frames), max_size=4).map(b"".join)
    return rows | st.builds(edited, rows, EDITS) | st.binary(max_size=60)


def check_call(arguments: list[Any], attachments: dict[str, Any], wide: bool, name: str, value: str) -> None:
    """Attachments are found behind whatever arguments, and one that changes leaves all else as it was."""
    writer = dubbo.Hessian2(wide)
    types = "Ljava/lang/Object;" * (len(arguments) + 1)
    front = b"".join(map(writer.write, ("2.0.2", "S", "v", "m", types, [], *arguments)))
    entries = {key: writer.write(key) + writer.write(item) for key, item in attachments.items()}
    raw = dubbo.frame(0xC2, 0, front + b"H" + b"".join(entries.values()) + b"Z")
    request = decoded(DubboSpec(), [raw]).found[0].request
    assert request is not None
    lowered = [key.lower() for key in attachments]
    for key, item in attachments.items():
        if isinstance(item, str) and lowered.count(key.lower()) == 1:
            assert request.headers.get(key) == item
    assert built(request, 1, request.payload) == raw
    try:
        request.headers.set(name, value)
    except UnreadableHeaders:
        assert any(
            key.lower() == name.lower() and isinstance(item, list | dict | tuple) for key, item in attachments.items()
        )
        assert encoded(request, 1, request.payload) == raw
        return
    kept = [entry for key, entry in entries.items() if key.lower() != name.lower()]
    short = dubbo.Hessian2()
    if attachments.get(name) != value:  # else it may keep its bytes
        kept.append(short.write(name) + short.write(value))
        assert encoded(request, 1, request.payload) == dubbo.frame(0xC2, 0, front + b"H" + b"".join(kept) + b"Z")


def check_stream(spec: RpcSpec, data: bytes, cuts: list[int]) -> None:
    whole = decoded(spec, [data], LIMIT)
    for feeds in (pieces(data, cuts), one_by_one(data)):
        split = decoded(spec, feeds, LIMIT)
        assert [found.key() for found in split.found] == [found.key() for found in whole.found]
        assert split.reason == whole.reason
    for found in whole.found:
        if found.kind not in (REQUEST, ONE_WAY, RESPONSE):
            continue
        message = found.message
        assert built(message, found.request_id, message.payload) == encoded(message, found.request_id, message.payload)
        again = decoded(spec, [encoded(message, 7, message.payload)], LIMIT)
        assert again.found[0].request_id == 7
        if found.request is not None:
            made = found.request.local_reply(504, HttpHeaders(), b"")
            answer = decoded(spec, [encoded(made, found.request_id, made.payload)], LIMIT)
            assert not answer.reason
        with contextlib.suppress(HeaderError, UnreadableHeaders):
            message.headers.set("group", "x")
        with contextlib.suppress(HeaderError, UnreadableHeaders):
            message.headers.remove("colour")
        changed = decoded(spec, [encoded(message, 7, message.payload)], LIMIT)
        assert not changed.reason
        if found.request is not None:  # what is set on a reply without a place for it is not sent
            assert items_or_why_not(changed.found[0].message.headers) == items_or_why_not(message.headers)


def dubbo_streams() -> st.SearchStrategy[bytes]:
    frames = [raw for raw in FRAMES.values() if len(raw) < 1000]
    frames += [dubbo.heartbeat(3), dubbo.readonly(), dubbo.error(), dubbo.result(2, [1, {}], {"a": "b"}), dubbo.result(2, 1)]
    frames += [dubbo.call(1, attachments={"group": "g", "n": 5, "m": {}}, arguments=(("a.B", {"x": 1}), "t")), dubbo.call(4)]
    return streams(frames)


def test_attachments_behind_any_arguments() -> None:
    fuzz(check_call, 400, st.lists(VALUES, max_size=3), ATTACHMENTS, st.booleans(), NAMES, st.text(max_size=15))


def test_streams_of_dubbo() -> None:
    fuzz(check_stream, 500, st.just(DubboSpec()), dubbo_streams(), CUTS)


def test_streams_of_dubbo_thrift() -> None:
    fuzz(check_stream, 300, st.just(ThriftSpec()), streams(list(THRIFT_FRAMES.values())), CUTS)


def test_streams_of_tars() -> None:
    fuzz(check_stream, 300, st.just(TarsSpec()), streams(list(TARS_FRAMES.values())), CUTS)
