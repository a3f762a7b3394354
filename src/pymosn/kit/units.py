"""Numbers for people, in a terminal. None is unknown, and becomes a dash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

DASH: Final = "-"
_BLOCKS: Final = "▁▂▃▄▅▆▇█"


def _digits(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def count(value: float | None) -> str:
    """`1234`, `12.3k`, `4.50M`."""
    if value is None:
        return DASH
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= max(size, 1e4):
            return f"{_digits(value / size)}{unit}"
    return _digits(value)


def rate(value: float | None) -> str:
    """`12.5/s`."""
    return DASH if value is None else f"{count(value)}/s"


def size(value: float | None) -> str:
    """`1.50 MiB`."""
    if value is None:
        return DASH
    for unit, number in (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)):
        if abs(value) >= number:
            return f"{_digits(value / number)} {unit}"
    return f"{value:.0f} B"


def duration(seconds: float | None) -> str:
    """`12 us`, `3.40 ms`, `1.20 s`."""
    if seconds is None:
        return DASH
    if seconds < 0.001:
        return f"{_digits(seconds * 1e6)} us"
    return f"{_digits(seconds * 1e3)} ms" if seconds < 1 else f"{_digits(seconds)} s"


def age(seconds: float | None) -> str:
    """`45 s`, `3 min`, `2 h 5 min`, `4 d 1 h`."""
    if seconds is None:
        return DASH
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def share(value: float | None) -> str:
    """`1.5 %`."""
    return DASH if value is None else f"{value * 100:.1f} %"


def spark(values: Sequence[float | None], width: int) -> str:
    """The last `width` values as bars; a space where there is none."""
    shown = list(values)[-width:]
    top = max((value for value in shown if value is not None), default=0.0)
    bars = [" " if value is None else _BLOCKS[min(7, int(value / top * 8)) if top > 0 else 0] for value in shown]
    return "".join(bars).rjust(width)


def clean(text: object, width: int = 200) -> str:
    """A text of another process or of a client, for a terminal: one line without control characters."""
    return "".join(char if char.isprintable() else "?" for char in str(text)[:width])
