"""What the soak concludes from a worker's memory."""

import pytest
from tests.load.soak import GROWTH, memory_fault

MIB = 1 << 20


@pytest.mark.parametrize(
    ("memory", "is_fault"),
    [
        ([70 * MIB] * 600, False),
        ([50 * MIB + second * 100_000 for second in range(150)] + [65 * MIB] * 450, False),
        ([65 * MIB + second % 20 * MIB for second in range(600)], False),
        ([65 * MIB + second * 15_000 for second in range(600)], True),
        ([65 * MIB] * 300 + [65 * MIB + GROWTH + 1] * 300, True),
        ([65 * MIB] * 30 + [90 * MIB] * 29, False),  # too short to tell
        ([], False),
    ],
)
def test_memory_that_grows_is_a_fault(memory: list[int], is_fault: bool) -> None:
    assert (memory_fault(memory) != "") is is_fault


def test_a_step_of_the_allowed_growth_is_none() -> None:
    assert memory_fault([65 * MIB] * 300 + [65 * MIB + GROWTH] * 300) == ""
