"""The choice of one of several media types by a request's Accept (RFC 9110 section 12.5.1)."""

from __future__ import annotations

import re
from typing import Final

from mypy_extensions import i64

#: The longest list of ranges that is read; more are ignored.
_MOST_RANGES: Final = 64
#: The value of a parameter; it may have commas and semicolons.
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


class MediaType:
    """A media type without its parameters, in lower case."""

    def __init__(self, text: str) -> None:
        """`text`: such as `text/html; charset=utf-8`."""
        self.full: str = text.partition(";")[0].strip().lower()
        self.group: str = self.full.partition("/")[0] + "/*"


def preferred(accept: str | None, types: list[MediaType]) -> i64:
    """The index of the type that an Accept prefers; of equal ones the first, and 0 if it accepts none, or is None.

    A type has the quality of the most specific range that it is in. Parameters other than `q` are ignored.
    """
    if accept is None or len(types) < 2:
        return 0
    ranges = _ranges(accept)
    best: i64 = 0
    best_quality = 0.0
    for i in range(len(types)):
        quality = _quality(ranges, types[i])
        if quality > best_quality:
            best = i
            best_quality = quality
    return best


def _quality(ranges: dict[str, float], kind: MediaType) -> float:
    for name in (kind.full, kind.group, "*/*"):
        found = ranges.get(name, -1.0)
        if found >= 0.0:
            return found
    return 0.0


def _ranges(accept: str) -> dict[str, float]:
    """The ranges of an Accept and their qualities; of a repeated range the highest. Invalid ones are left out."""
    found: dict[str, float] = {}
    text = _QUOTED.sub("", accept) if '"' in accept else accept
    for item in text.lower().split(",")[:_MOST_RANGES]:
        name, _, parameters = item.partition(";")
        quality = 1.0
        for parameter in parameters.split(";"):
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _weight(value.strip())
                break
        name = name.strip()
        if quality >= 0.0 and quality > found.get(name, -1.0):
            found[name] = quality
    return found


def _weight(text: str) -> float:
    """A quality from 0 to 1 with at most three decimals; -1 for anything else."""
    whole, _, decimals = text.partition(".")
    if whole not in ("0", "1") or len(decimals) > 3 or not (decimals or "0").isdecimal() or not decimals.isascii():
        return -1.0
    value = float(int(decimals or "0")) / float(10 ** len(decimals)) + float(int(whole))
    return value if value <= 1.0 else -1.0
