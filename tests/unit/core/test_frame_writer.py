from __future__ import annotations

import pytest

from pymosn.core.frame_writer import LONG, FrameWriter


def test_short_pieces_are_copied_together_and_long_ones_kept() -> None:
    out = FrameWriter()
    long = b"x" * LONG
    for piece in (b"a", b"", b"bc", long, b"d", b"e", long, long):
        out.write(piece)
    assert out.size() == 5 + 3 * LONG
    parts = out.take()
    assert parts == [b"abc", long, b"de", long, long]
    assert parts[1] is long
    assert (out.size(), out.take()) == (0, [b""])


@pytest.mark.parametrize("number", [0, 1, 0x01020304, 0x7FFFFFFF, -1, -(2**31)])
@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("size", [0, 9, LONG])
def test_a_number_is_written_over_what_stood_there(number: int, width: int, size: int) -> None:
    out = FrameWriter()
    out.write(b"before")
    rest = b"#" * size
    out.write_numbered(b"head" + b"?" * width + rest, 4, width, number)
    out.write(b"behind")
    expected = b"beforehead" + number.to_bytes(width, "big", signed=True) + rest + b"behind"
    assert out.size() == len(expected)
    assert b"".join(out.take()) == expected
    out.write(b"again")
    assert out.take() == [b"again"]


def test_a_number_of_all_its_bits() -> None:
    out = FrameWriter()
    out.write_numbered(bytes(4), 0, 4, 0xFFFFFFFE)
    out.write_numbered(bytes(8), 0, 8, 2**63 - 1)
    out.write_numbered(bytes(8), 0, 8, -(2**63))
    assert out.take() == [b"\xff\xff\xff\xfe" + b"\x7f" + b"\xff" * 7 + b"\x80" + bytes(7)]


@pytest.mark.parametrize("size", [0, 1, 5, LONG - 1])
def test_the_front_of_a_piece(size: int) -> None:
    for data in (b"x" * (LONG - 1), b"x" * LONG):
        out = FrameWriter()
        out.write(b"before")
        out.write_front(data, size)
        out.write(b"behind")
        assert b"".join(out.take()) == b"before" + b"x" * size + b"behind"


def test_numbers_of_their_own() -> None:
    out = FrameWriter()
    for number, width in ((0, 1), (255, 1), (0xFFFF, 2), (0x01020304, 4), (-1, 4), (-2, 8), (2**63 - 1, 8)):
        out.write_number(number, width)
    assert out.take() == [b"\x00\xff\xff\xff\x01\x02\x03\x04" + b"\xff" * 4 + b"\xff" * 7 + b"\xfe" + b"\x7f" + b"\xff" * 7]
