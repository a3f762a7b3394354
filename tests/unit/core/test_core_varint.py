"""Numbers in groups of 7 bits."""

from __future__ import annotations

import pytest

from pymosn.core.varint import varint


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        ((1 << 64) - 1, "ffffffffffffffffff01"),
        (-1, "ffffffffffffffffff01"),
    ],
)
def test_numbers(number: int, expected: str) -> None:
    assert varint(number).hex() == expected
