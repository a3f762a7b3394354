"""Values of hessian 2 made into objects and back, and what is refused."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit import dubbo_frames as dubbo
from tests.passes import one_of

from pymosn.protocol.dubbo import values
from pymosn.protocol.dubbo.hessian2 import Hessian2Error
from pymosn.protocol.dubbo.values import Hessian2ValueReader, write_long, write_value

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=30
)


def read(data: bytes) -> Any:
    """The one value that `data` is."""
    reader = Hessian2ValueReader(data)
    value = reader.value()
    assert reader.at == len(data)
    return value


@settings(max_examples=150 // one_of(3), deadline=None)
@given(PLAIN, st.booleans())
def test_values_written_by_others_are_read(value: Any, wide: bool) -> None:
    assert read(dubbo.Hessian2(wide).write(value)) == value


@settings(max_examples=150 // one_of(3), deadline=None)
@given(PLAIN)
def test_written_values_are_read_back(value: Any) -> None:
    assert read(write_value(value)) == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\xe0", 0),
        (b"\x3c\x01\x02", 258),
        (b"\xf7\xff", -1),
        (b"Y\xff\xff\xff\xff", -1),
        (b"\x5b", 0.0),
        (b"\x5c", 1.0),
        (b"\x5d\x80", -128.0),
        (b"\x5e\x80\x00", -32768.0),
        (b"\x5f\x00\x00\x30\x39", 12.345),
        (b"\x4a" + struct.pack(">q", 894621091000), 894621091000),
        (b"\x4b\x00\x00\x00\x02", 120000),
        (b"\x72\x04[int\x90\x91", [0, 1]),
        (b"V\x04[int\x92\x90\x91", [0, 1]),
        (b"M\x01t\x01a\x90Z", {"a": 0}),
        (b"\x7a\x79\x90\x51\x91", [[0], [0]]),
        (b"\x34\x01a", b"a"),
    ],
)
def test_other_forms(data: bytes, value: object) -> None:
    assert read(data) == value


def test_objects_and_references_to_them() -> None:
    writer = dubbo.Hessian2()
    point = ("a.Point", {"x": 1, "next": None})
    data = writer.write([point, ("a.Point", {"x": 2, "next": dubbo.Reference(1)})])
    first = {"class": "a.Point", "x": 1, "next": None}
    assert read(data) == [first, {"class": "a.Point", "x": 2, "next": first}]


def test_an_exception_that_is_its_own_cause_has_none() -> None:
    inner = ("a.Bad", {"cause": dubbo.Reference(1), "detailMessage": "inner"})
    data = dubbo.Hessian2().write(("a.Bad", {"cause": inner, "detailMessage": "outer"}))
    found = {"class": "a.Bad", "cause": None, "detailMessage": "inner"}
    assert read(data) == {"class": "a.Bad", "cause": found, "detailMessage": "outer"}
    with pytest.raises(Hessian2Error, match="recursive value"):  # a circle does not expand
        read(data.replace(b"Q\x91", b"Q\x90"))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "missing"),
        (b"\x79\x51\x90", "recursive value"),
        (b"Q\x90", "reference 0 of 0"),
        (b"H\x78\x90Z", "the key of a map"),
        (b"\x60", "class 0 of 0"),
        (b"\x79" * 200 + b"\x78", "nested more than"),
        (b"D\x00", "truncated"),
        (b"X\xbf\x90", "47 values"),
        (b"A\x00\x01ab", "invalid binary chunk"),
        (b"G", "invalid value"),
    ],
)
def test_invalid_values_are_rejected(data: bytes, text: str) -> None:
    with pytest.raises(Hessian2Error, match=text):
        read(data)


def test_references_cannot_expand_to_much_more_than_was_sent() -> None:
    # Each list holds the one before it seven times: 15 bytes a level, 7 ** 29 values when shown.
    data = b"X" + bytes((0x90 + 30,)) + b"\x79\x04" + b"abcd"
    for level in range(29):
        data += b"\x7f" + (b"\x51" + bytes((0x90 + level + 1,))) * 7
    with pytest.raises(Hessian2Error, match=f"exceed {values.MAX_REPEATED} bytes"):
        read(data)


def test_values_that_cannot_be_written() -> None:
    deep: list[object] = []
    for _ in range(200):
        deep = [deep]
    for value in (object(), deep, 2**63, {"a": {1}}):
        with pytest.raises(Hessian2Error):
            write_value(value)
    with pytest.raises(Hessian2Error):
        write_long(2**63)


@settings(max_examples=300 // one_of(3), deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Hessian2Error):
        Hessian2ValueReader(data).value()
