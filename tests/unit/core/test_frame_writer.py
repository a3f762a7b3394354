from __future__ import annotations

from pathlib import Path

import pytest

from pymosn.core.frame_writer import KEPT, LONG, FrameWriter


def test_short_chunks_are_joined_and_long_ones_kept() -> None:
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
def test_a_number_overwrites_the_bytes_at_its_offset(number: int, width: int, size: int) -> None:
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
def test_the_start_of_a_chunk(size: int) -> None:
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


@pytest.mark.parametrize("before", [[], [b"a"], [b"x" * LONG], [b"a", b"x" * LONG, b"b"]])
@pytest.mark.parametrize("half", [[], [b"c"], [b"y" * LONG], [b"c", b"y" * LONG], [b"c", b"y" * LONG, b"d", b"z" * LONG]])
def test_a_frame_that_came_to_nothing_is_taken_back(before: list[bytes], half: list[bytes]) -> None:
    out = FrameWriter()
    for piece in before:
        out.write(piece)
    size = out.size()
    for piece in half:
        out.write(piece)
    out.truncate(size)
    assert out.size() == size
    out.write(b"next")
    assert b"".join(out.take()) == b"".join(before) + b"next"
    assert (out.size(), out.take()) == (0, [b""])


def memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def test_a_buffer_that_had_to_grow_is_not_held() -> None:
    writers = [FrameWriter() for _ in range(8)]
    size = 40 * KEPT
    before = memory()
    for writer in writers:
        for _ in range(size // 1024):
            writer.write(b"x" * 1024)
        writer.take()
    assert memory() - before < len(writers) * size / 2  # the last one's may not be back at the system yet
