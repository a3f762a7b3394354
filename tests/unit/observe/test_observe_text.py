import time

import pytest

from pymosn.core.durations import go_duration
from pymosn.observe.text import TimeStamps, field, one_line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (-1.0, "0s"),
        (0.000000001, "1ns"),
        (0.0000015, "1.5µs"),
        (0.001234, "1.234ms"),
        (0.001234567, "1.234567ms"),
        (0.999999999, "999.999999ms"),
        (1.0, "1s"),
        (2.5, "2.5s"),
        (60.0, "1m0s"),
        (90.25, "1m30.25s"),
        (3600.0, "1h0m0s"),
        (3661.001, "1h1m1.001s"),
    ],
)
def test_durations_read_as_in_go(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain", "plain"),
        ("grüße 世界", "grüße 世界"),
        ("a\nb\r\n", "a\\nb\\r\\n"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("c1 \x9b31m", "c1 \\x9b31m"),
        ("separators \u2028 \u2029 \x85", "separators \\u2028 \\u2029 \\x85"),
        ("right to left \u202e", "right to left \\u202e"),
        ("no utf-8: \udcff", "no utf-8: \\udcff"),
    ],
)
def test_an_entry_is_one_line_without_commands_for_a_terminal(text: str, escaped: str) -> None:
    assert one_line(text) == escaped
    escaped.encode()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("", "-"),
        ("curl/8.0", "curl/8.0"),
        ('a" x="b', 'a\\" x=\\"b'),
        ("back\\", "back\\\\"),
        ("a\r\nb\x00\x7f", "a\\r\\nb\\u0000\\u007f"),
        ("\x1b[2J", "\\u001b[2J"),
        ("ü", "\\u00fc"),
        ("\udcff", "\\udcff"),
    ],
)
def test_a_field_cannot_leave_its_quotes(text: str, escaped: str) -> None:
    assert field(text) == escaped


def test_time_stamps_are_local_and_follow_the_second() -> None:
    stamps = TimeStamps("%Y-%m-%d %H:%M:%S", ",")
    start = time.mktime((2026, 3, 4, 5, 6, 7, 0, 0, -1))
    assert stamps.text(start + 0.25) == "2026-03-04 05:06:07,250"
    assert stamps.text(start + 1.0) == "2026-03-04 05:06:08,000"
    assert stamps.text(start + 0.9999) == "2026-03-04 05:06:07,999"
