"""Traces that wait for their exporter, bounded by number and by size."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from pymosn.api.tracing import TraceRecord

#: Most bytes of memory, roughly, that waiting traces use.
MOST_BYTES: Final = 32 * 1024 * 1024
#: The memory of an object of Python and of the pointer to it, roughly.
_OBJECT: Final = 64


def size_of(trace: TraceRecord) -> int:
    """The memory of a trace in bytes, roughly: texts and objects."""
    size = 4 * _OBJECT + len(trace.trace_id) + len(trace.state)
    for name, value in trace.reference.items():
        size += 2 * _OBJECT + len(name) + len(value)
    for span in trace.spans:
        size += 8 * _OBJECT + len(span.name) + len(span.failure)
        for key, attribute in span.attributes.items():
            # Keys are the same objects in most spans, but after decoding each has its own.
            size += 2 * _OBJECT + len(key) + (len(attribute) if isinstance(attribute, str) else 0)
    return size


class TraceQueue:
    """Waiting traces, oldest first. `spans` and `bytes`: of all that wait."""

    def __init__(self, most_spans: int, most_bytes: int = MOST_BYTES) -> None:
        self._most_spans = most_spans
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[TraceRecord, int]] = deque()
        self.spans = 0
        self.bytes = 0

    def limit(self, most_spans: int) -> None:
        """Sets the limit of later traces; what already waits is kept."""
        self._most_spans = most_spans

    def add(self, trace: TraceRecord) -> bool:
        """Adds a trace; False if there is no room, and it is dropped."""
        size = size_of(trace)
        if self.spans + len(trace.spans) > self._most_spans or self.bytes + size > self._most_bytes:
            return False
        self._waiting.append((trace, size))
        self.spans += len(trace.spans)
        self.bytes += size
        return True

    def take(self, spans: int) -> Sequence[TraceRecord]:
        """Removes the oldest traces, which have at least `spans` spans if there are as many."""
        taken: list[TraceRecord] = []
        number = 0
        while self._waiting and number < spans:
            trace, size = self._waiting.popleft()
            taken.append(trace)
            number += len(trace.spans)
            self.bytes -= size
        self.spans -= number
        return taken
