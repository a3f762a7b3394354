"""Durations as text."""

from __future__ import annotations


def go_duration(seconds: float) -> str:
    """Formats a duration like Go's `time.Duration`: `0s`, `1.5µs`, `1.234ms`, `2s`, `1m0.5s`, `1h0m0s`."""
    nanoseconds = round(seconds * 1e9)
    if nanoseconds <= 0:
        return "0s"
    if nanoseconds < 1_000:
        return f"{nanoseconds}ns"
    if nanoseconds < 1_000_000:
        return f"{_decimal(nanoseconds / 1e3)}µs"
    if nanoseconds < 1_000_000_000:
        return f"{_decimal(nanoseconds / 1e6)}ms"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    text = f"{_decimal(rest / 1e9)}s"
    if minutes == 0:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"


def _decimal(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")
