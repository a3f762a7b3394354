"""Hessian 2: what each value is long, what strings are, and what is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.passes import one_of

from pymosn.protocol.dubbo.hessian2 import MAX_CLASSES, MAX_DEPTH, Hessian2Error, Hessian2Reader
from pymosn.protocol.dubbo.java_text import write_text

POINT = b"C\x05Point\x92\x01x\x01y"  # a class with two fields
VALUES = {
    "null": b"N",
    "true": b"T",
    "false": b"F",
    "int of 1": b"\x90",
    "int of 2": b"\xc8\x30",
    "int of 3": b"\xd4\x11\x22",
    "int of 5": b"I\x7f\xff\xff\xff",
    "long of 1": b"\xe0",
    "long of 2": b"\xf8\x00",
    "long of 3": b"\x3c\x01\x02",
    "long of 5": b"Y\x00\x00\x00\x01",
    "long of 9": b"L" + bytes(8),
    "double 0": b"\x5b",
    "double 1": b"\x5c",
    "double byte": b"\x5d\x80",
    "double short": b"\x5e\x80\x00",
    "double of 5": b"\x5f\x00\x00\x00\x01",
    "double of 9": b"D" + struct.pack(">d", 0.1),
    "date": b"\x4a" + bytes(8),
    "date in minutes": b"\x4b" + bytes(4),
    "no string": b"\x00",
    "short string": b"\x03abc",
    "string of two bytes a character": b"\x02\xc3\xa9\xc3\xa8",
    "string of three": b"\x01\xe2\x82\xac",
    "string with a pair": b"\x02\xed\xa0\xbd\xed\xb8\x80",
    "longer string": b"\x31\x00" + b"a" * 256,
    "long string": b"S\x04\x00" + b"a" * 1024,
    "string in chunks": b"R\x00\x02abR\x00\x01c\x02de",
    "no binary": b"\x20",
    "short binary": b"\x23abc",
    "longer binary": b"\x35\x00" + b"a" * 256,
    "long binary": b"B\x04\x00" + b"a" * 1024,
    "binary in chunks": b"A\x00\x02abA\x00\x01c\x22de",
    "binary that ends longer": b"A\x00\x01a\x34\x01b",
    "untyped list": b"\x7a\x90\x91",
    "untyped list with a count": b"X\x92\x90\x91",
    "untyped list with an end": b"W\x90\x91Z",
    "typed list": b"\x72\x04[int\x90\x91",
    "typed list with a count": b"V\x04[int\x92\x90\x91",
    "typed list with an end": b"U\x04[int\x90\x91Z",
    "empty lists": b"\x7c\x78W\x5a\x70\x01aX\x90",
    "type by its number": b"\x7a\x71\x01a\x90\x71\x90\x91",
    "map": b"H\x01a\x90\x01bNZ",
    "typed map": b"M\x01t\x01a\x90Z",
    "empty map": b"HZ",
    "map of maps": b"H\x01aH\x01bHZZZ",
    "object": POINT + b"\x60\x90\x91",
    "object by number": POINT + b"O\x90\x90\x91",
    "object without fields": b"C\x01a\x90\x60",
    "two objects of a class": b"\x7a" + POINT + b"\x60\x90\x91\x60NN",
    "object that is its own field": POINT + b"\x60\x51\x90N",
    "class between the fields": POINT + b"\x60C\x01q\x91\x01z\x61\x51\x91\x92",
    "reference": b"\x7a\x78\x51\x91",
    "deep": b"\x79" * 5000 + b"N",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_is_skipped_to_its_end(value: bytes) -> None:
    reader = Hessian2Reader(value + b"\x90rest")
    reader.skip(1)
    assert reader.at == len(value)
    assert reader.integer() == 0


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_that_is_cut_anywhere_is_refused(value: bytes) -> None:
    for end in range(max(0, len(value) - 600), len(value)):
        with pytest.raises(Hessian2Error):
            Hessian2Reader(value[:end]).skip(1)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"\x40", "invalid value 0x40"),
        (b"\x45", "invalid value 0x45"),
        (b"\x47", "invalid value 0x47"),
        (b"\x50", "invalid value 0x50"),
        (b"Z", "invalid value 0x5a"),
        (b"H\x01aZ", "map ends after a key without a value"),
        (b"\x60", "class 0 of 0"),
        (POINT + b"\x61NN", "class 1 of 1"),
        (POINT + b"O\x8fNN", "class -1 of 1"),
        (b"O\x01a", "where an int is expected"),
        (b"\x51\x90", "reference 0 of 0"),
        (b"\x79\x51\x91", "reference 1 of 1"),
        (b"\x79\x51\x8f", "reference -1 of 1"),
        (b"V\x90\x90", "type 0 of 0"),
        (b"V\x01a\xd4\x11\x22", "values in 0 bytes"),
        (b"XI\x7f\xff\xff\xff" + b"N" * 10, "2147483647 values in 10 bytes"),
        (b"XI\xff\xff\xff\xff" + b"N" * 10, "-1 values"),
        (b"C\x01aI\x7f\xff\xff\xff\x01b", "values in 2 bytes"),
        (b"C\x90\x90", "where a name is expected"),
        (b"C\x01a\x91\x90", "where a name is expected"),
        (b"\x01\xff", "invalid UTF-8 0xff"),
        (b"\x02\xf0\x9f\x98\x80", "invalid UTF-8 0xf0"),
        (b"\x02a\xc3", "truncated"),
        (b"R\x00\x01aN", "invalid string chunk 0x4e"),
        (b"A\x00\x01a\x01b", "invalid binary chunk 0x01"),
        (b"S\xff\xffabc", "truncated"),
        (b"B\xff\xffabc", "truncated"),
        (b"\x79" * (MAX_DEPTH + 2) + b"N", "nested more than"),
        (b"H" * 3 + b"H\x90" * MAX_DEPTH, "nested more than"),
        (b"C\x00\x90" * (MAX_CLASSES + 1) + b"N", "more than 10000 classes"),
    ],
)
def test_invalid_hessian_is_rejected(value: bytes, says: str) -> None:
    with pytest.raises(Hessian2Error, match=says):
        Hessian2Reader(value).skip(1)


def test_a_bomb_of_references_costs_no_more_than_its_bytes() -> None:
    # Ten levels of lists that refer ten times to the level before: 10 ** 10 objects for who follows them.
    levels = b"".join(b"X\x9a" + bytes((0x51, 0x90 + level)) * 10 for level in range(10))
    reader = Hessian2Reader(b"X\x9a" + levels)
    reader.skip(1)
    assert reader.at == len(levels) + 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"N", None),
        (b"\x00", b""),
        (b"\x02\xc3\xa9\xe2\x82\xac", "é€".encode()),
        (b"\x02\xed\xa0\xbd\xed\xb8\x80", "😀".encode()),
        (b"\x01\xed\xa0\xbd", b"\xed\xa0\xbd"),  # half a pair, which no UTF-8 has, stays
        (b"R\x00\x01\xed\xa0\xbd\x01\xed\xb8\x80", "😀".encode()),  # a pair in two chunks
        (b"\x31\x00" + b"a" * 256, b"a" * 256),
        (b"S\x00\x01a", b"a"),
    ],
)
def test_strings(value: bytes, text: bytes | None) -> None:
    reader = Hessian2Reader(value + b"\x90")
    assert reader.text() == text
    assert reader.integer() == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"T", b"true"),
        (b"F", b"false"),
        (b"\x8f", b"-1"),
        (b"\xc7\xff", b"-1"),
        (b"\xd3\xff\xff", b"-1"),
        (b"I\xff\xff\xff\xff", b"-1"),
        (b"\xdf", b"-1"),
        (b"\xf7\xff", b"-1"),
        (b"\x3b\xff\xff", b"-1"),
        (b"Y\xff\xff\xff\xff", b"-1"),
        (b"L" + b"\xff" * 8, b"-1"),
        (b"L\x7f" + b"\xff" * 7, b"9223372036854775807"),
        (b"L\x80" + bytes(7), b"-9223372036854775808"),
        (b"\xd7\xff\xff", b"262143"),
        (b"\x3f\xff\xff", b"262143"),
        (b"\x03abc", b"abc"),
        (b"N", None),
        (b"\x5c", None),
        (b"HZ", None),
    ],
)
def test_scalars_as_text(value: bytes, text: bytes | None) -> None:
    reader = Hessian2Reader(value + b"\x90")
    assert reader.scalar() == text
    assert reader.integer() == 0


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, b"N"),
        (b"", b"\x00"),
        (b"a" * 31, b"\x1f" + b"a" * 31),
        (b"a" * 32, b"\x30\x20" + b"a" * 32),
        (b"a" * 1023, b"\x33\xff" + b"a" * 1023),
        (b"a" * 1024, b"S\x04\x00" + b"a" * 1024),
        ("😀".encode(), b"\x02\xed\xa0\xbd\xed\xb8\x80"),
        (b"\xff", b"\x01\xef\xbf\xbd"),
        (b"a" * 0x8001, b"R\x80\x00" + b"a" * 0x8000 + b"\x01a"),
        (b"a" * 0x7FFF + "😀".encode(), b"R\x7f\xff" + b"a" * 0x7FFF + b"\x02\xed\xa0\xbd\xed\xb8\x80"),
    ],
)
def test_writing_strings(value: bytes | None, written: bytes) -> None:
    assert write_text(value) == written


@given(st.text(max_size=40) | st.text("ab€😀", min_size=1000, max_size=1100))
@settings(deadline=None)
def test_written_values_are_read_back(text: str) -> None:
    written = write_text(text.encode())
    reader = Hessian2Reader(written)
    assert reader.text() == text.encode()
    assert reader.at == len(written)
    reader = Hessian2Reader(written)
    reader.skip(1)
    assert reader.at == len(written)


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from(list(VALUES.values())), max_size=4).map(b"".join), st.integers(1, 9)
)
@settings(max_examples=400 // one_of(3), deadline=None)
def test_any_bytes_are_skipped_or_refused(data: bytes, count: int) -> None:
    reader = Hessian2Reader(data)
    try:
        reader.skip(count)
    except Hessian2Error:
        return
    assert 0 < reader.at <= len(data)
