"""Pieces of log lines: escaped text, Go's durations, time stamps."""

from __future__ import annotations

import time
from json.encoder import encode_basestring_ascii
from typing import Final

_MILLISECONDS: Final = [f"{number:03d}" for number in range(1000)]


def one_line(text: str) -> str:
    """`text` with everything escaped that could break out of its line or command a terminal."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else _escaped(char) for char in text])


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def field(text: str) -> str:
    """`text` as the inside of a JSON string in ASCII; `-` when it is empty.

    For what a client or a server chose: neither a line, nor a quoted field, nor a JSON object around it can be broken.
    """
    return encode_basestring_ascii(text)[1:-1] or "-"


class TimeStamps:
    """Local time as text with milliseconds; the part down to the second is kept, it is the same for many lines."""

    def __init__(self, pattern: str, point: str) -> None:
        """`pattern`: of `time.strftime`; `point`: what stands before the milliseconds."""
        self._pattern = pattern
        self._point = point
        self._second = -1
        self._text = ""

    def text(self, wall: float) -> str:
        """The time stamp of `wall`, seconds since 1970."""
        second = int(wall)
        if second != self._second:
            self._second = second
            self._text = time.strftime(self._pattern, time.localtime(second)) + self._point
        return self._text + _MILLISECONDS[int((wall - second) * 1000.0)]
