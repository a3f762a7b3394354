"""Parts of log lines: escaped text and time stamps."""

from __future__ import annotations

import time
from json.encoder import encode_basestring_ascii
from typing import Final

_MILLISECONDS: Final = [f"{number:03d}" for number in range(1000)]


def one_line(text: str) -> str:
    """Escapes everything in `text` that could break the line or control a terminal."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text])


def field(text: str) -> str:
    """Escapes `text` like the inside of an ASCII JSON string; `-` if it is empty.

    Needed for values chosen by clients or servers: they cannot break the line, a quoted field or a JSON object.
    """
    return encode_basestring_ascii(text)[1:-1] or "-"


class TimeStamps:
    """Local time with milliseconds as text. The part down to the second is cached."""

    def __init__(self, pattern: str, point: str) -> None:
        """`pattern`: of `time.strftime`; `point`: the separator before the milliseconds."""
        self._pattern = pattern
        self._point = point
        self._second = -1
        self._text = ""

    def text(self, wall: float) -> str:
        """The time stamp for `wall`, seconds since 1970."""
        second = int(wall)
        if second != self._second:
            self._second = second
            self._text = time.strftime(self._pattern, time.localtime(second)) + self._point
        return self._text + _MILLISECONDS[int((wall - second) * 1000.0)]
