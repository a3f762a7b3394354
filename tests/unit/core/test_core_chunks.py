"""Lists of bytes that wait."""

from pymosn.core.chunks import SMALL, append_chunk


def test_small_pieces_are_joined_and_others_are_not_copied() -> None:
    chunks: list[bytes] = []
    for _ in range(3000):
        append_chunk(chunks, b"ab")
    assert b"".join(chunks) == b"ab" * 3000
    assert len(chunks) == 6
    large = b"x" * int(SMALL)
    append_chunk(chunks, large)
    assert chunks[-1] is large
    append_chunk(chunks, b"y")
    assert chunks[-1] == b"y"
