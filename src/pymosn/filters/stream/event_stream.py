"""Server-sent events (WHATWG HTML section 9.2), read from chunks that may end anywhere: inside a line end or a character."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Final, NamedTuple

#: Maximum bytes of an event that are kept; of a longer one only the size is known.
LONGEST: Final = 1024 * 1024
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
#: Fields other than data, and comments. Lines that are neither are no events, but count by their size.
_OTHERS: Final = (b"", b"event", b"id", b"retry")


class Event(NamedTuple):
    """One event. `data`: its data lines, joined with LF; None if they are too long. `size`: bytes that count.

    `start`, `end`: its offsets in the chunk that completes it; `start` is negative if it began in an earlier chunk.
    """

    data: bytes | None
    size: int
    start: int
    end: int


class EventReader:
    """Reads events, chunk by chunk."""

    def __init__(self) -> None:
        # The data lines of the current event, None if they are too long, and their size; the line that is not complete yet.
        self._lines: list[bytes] | None = []
        self._size = 0
        self._line = bytearray()
        self._line_size = 0
        # Whether the current event has begun, even with a line other than data, and where.
        self._has_begun = False
        self._start = 0
        self._is_first = True
        self._ended_in_cr = False

    @property
    def pending(self) -> int:
        """Bytes of the event that is not complete yet."""
        return self._size + self._line_size

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete with the next chunk."""
        # The second half of a line end belongs to the line before.
        at = 1 if self._ended_in_cr and chunk.startswith(b"\n") else 0
        self._ended_in_cr = chunk.endswith(b"\r") if chunk else self._ended_in_cr
        self._start = -1 if self._has_begun else at
        for match in _LINE_END.finditer(chunk, at):
            self._add(chunk[at : match.start()])
            at = match.end()
            if self._end_line():
                event = self._end_event(at)
                if event is not None:
                    yield event
                self._start = at
        self._add(chunk[at:])

    def rest(self) -> Event | None:
        """The incomplete event at the end of a stream, which a client may read nevertheless."""
        self._end_line()
        return self._end_event(0)

    def _add(self, data: bytes) -> None:
        if data:
            self._has_begun = True
            self._line_size += len(data)
            if self._line_size <= LONGEST:
                self._line += data
            else:
                self._line.clear()
                self._lines = None

    def _end_line(self) -> bool:
        """Ends a line. Returns whether it is empty, which ends an event."""
        line, size = bytes(self._line), self._line_size
        self._line.clear()
        self._line_size = 0
        if self._is_first:
            line = line.removeprefix(BOM_UTF8)
            self._is_first = False
        if size > LONGEST:
            self._size += size
        elif line.startswith(b"data:") or line == b"data":
            self._keep(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line.partition(b":")[0] not in _OTHERS:
            self._size += size
        return not line and size <= LONGEST

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > LONGEST:
            self._lines = None
        if self._lines is not None:
            self._lines.append(data)

    def _end_event(self, end: int) -> Event | None:
        lines, size = self._lines, self._size
        self._lines, self._size = [], 0
        self._has_begun = False
        return Event(None if lines is None else b"\n".join(lines), size, self._start, end) if size else None
