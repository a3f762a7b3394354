"""Durations as Go writes them: `300ms`, `1.5h`, `1h30m`, `0`."""

import re
from typing import Final

from pymosn.core.durations import go_duration

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,  # micro sign
    "\u03bcs": 1e-6,  # Greek mu; Go takes both
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART: Final = re.compile("([0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
# Go keeps durations as signed 64-bit nanoseconds.
_LARGEST: Final = (2**63 - 1) / 1e9


def parse_duration(text: str) -> float:
    """Seconds of a Go duration string (time.ParseDuration of Go's standard library).

    Raises ValueError, with a message for the user, for anything else; numbers other than "0" need a unit.
    """
    sign, body = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if body == "0":
        return 0.0
    seconds = 0.0
    position = 0
    while part := _PART.match(body, position):
        seconds += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not body or position != len(body):
        if body.isascii() and body.replace(".", "", 1).isdigit():
            raise ValueError(f'a duration needs a unit, such as "{body}s" or "{body}ms"')
        raise ValueError('not a duration; write for example "300ms", "15s" or "1h30m"')
    if seconds > _LARGEST:
        raise ValueError("exceeds the maximum duration of about 292 years")
    return sign * seconds


def format_duration(seconds: float) -> str:
    """A duration as Go prints it: `0s`, `300ms`, `15s`, `1m0s`, `1h30m0s`."""
    return f"-{go_duration(-seconds)}" if seconds < 0 else go_duration(seconds)
