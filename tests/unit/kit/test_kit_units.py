"""Numbers for people."""

import pytest

from pymosn.kit.units import age, clean, count, duration, rate, share, size, spark


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (count(None), "-"),
        (count(0), "0"),
        (count(9999), "9999"),
        (count(10_000), "10k"),
        (count(12_345), "12.3k"),
        (count(4_500_000), "4.50M"),
        (rate(0.5), "0.50/s"),
        (rate(None), "-"),
        (size(0), "0 B"),
        (size(1536), "1.50 KiB"),
        (size(3 << 30), "3 GiB"),
        (duration(0.0000125), "12.5 us"),
        (duration(0.25), "250 ms"),
        (duration(2.5), "2.50 s"),
        (duration(None), "-"),
        (age(59.4), "59 s"),
        (age(3599), "59 min"),
        (age(7500), "2 h 5 min"),
        (age(90_000), "1 d 1 h"),
        (share(0.123), "12.3 %"),
        (spark([0.0, 1.0, None, 2.0], 6), "  ▁▅ █"),
        (spark([], 3), "   "),
        (spark([0.0, 0.0], 2), "▁▁"),
        (clean("a\x1b[31m\nb"), "a?[31m?b"),
        (clean("x" * 999), "x" * 200),
    ],
)
def test_numbers_and_texts(shown: str, expected: str) -> None:
    assert shown == expected
