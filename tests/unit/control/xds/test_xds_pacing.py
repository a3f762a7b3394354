"""When what a control plane has sent is activated."""

import pytest

from pymosn.control.xds.pacing import PAUSE, SHORT_PAUSE, pause_before_change


@pytest.mark.parametrize(
    ("since_last", "is_known", "expected"),
    [
        (60.0, True, SHORT_PAUSE),
        (PAUSE / 4, True, PAUSE * 3 / 4),
        (0.0, True, PAUSE),
        (60.0, False, PAUSE),  # a new cluster, for example, whose endpoints follow
    ],
)
def test_the_pause_before_a_change(since_last: float, is_known: bool, expected: float) -> None:
    assert pause_before_change(PAUSE, since_last, is_known) == pytest.approx(expected)


def test_without_a_pause_nothing_waits() -> None:
    assert pause_before_change(0.0, 0.0, True) == pause_before_change(0.0, 0.0, False) == 0.0
