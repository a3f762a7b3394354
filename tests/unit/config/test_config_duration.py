"""Durations are read and written as Go does."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pymosn.config.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("-0", 0.0),
        ("0s", 0.0),
        ("5s", 5.0),
        ("300ms", 0.3),
        ("1.5h", 5400.0),
        ("1h30m", 5400.0),
        ("1m0s", 60.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("+2s", 2.0),
        ("-2m", -120.0),
        ("10us", 1e-5),
        ("10\u00b5s", 1e-5),
        ("10\u03bcs", 1e-5),
        ("7ns", 7e-9),
        ("1s1ms", 1.001),
    ],
)
def test_reads(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "-", "s", "5", "1.5", "5 s", " 5s", "5S", "1d", "1h30", ".s", "1e3s", "99999999h", "\uff15s"]
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_a_number_without_unit_is_answered_with_the_units() -> None:
    with pytest.raises(ValueError, match='"5s" or "5ms"'):
        parse_duration("5")


def test_a_very_long_text_is_refused_quickly() -> None:
    with pytest.raises(ValueError, match="unit"):
        parse_duration("9" * 100_000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (15.0, "15s"),
        (60.0, "1m0s"),
        (90.0, "1m30s"),
        (5400.0, "1h30m0s"),
        (0.3, "300ms"),
        (0.0015, "1.5ms"),
        (1e-6, "1\u00b5s"),
        (7e-9, "7ns"),
        (1.5, "1.5s"),
        (-2.0, "-2s"),
        (3600.0, "1h0m0s"),
    ],
)
def test_writes(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=-(10**15), max_value=10**15))
@example(288780915505837)
def test_written_durations_are_read_back(microseconds: int) -> None:
    seconds = microseconds / 1e6
    # A float of nine years of seconds is exact to 60 ns only.
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-15, abs=1e-9)
