"""When a worker returns freed memory to the system.

glibc keeps freed blocks for later use. When many clients leave at once, that may be hundreds of MiB in pieces between
blocks that are in use, and without a trim the process would keep them for ever. A trim takes about 0.1 ms for each MiB
that it returns, in which the worker does nothing else; and memory that is needed again soon costs page faults. So a worker
trims only if enough may be free, when its memory has stopped growing, and seldom.
"""

from typing import Final

#: Bytes above the least since the last trim from which on another one is worthwhile.
EXCESS: Final = 8 << 20
#: Measurements after which memory has stopped growing if it has not reached a new maximum, by at least so many bytes.
SETTLED: Final = 3
GROWTH: Final = 1 << 20
#: Measurements between two trims, at least; and at most, while memory is above that of the start by EXCESS: the blocks that
#: were in use during the last one may be free now.
LEAST_GAP: Final = 10
MOST_GAP: Final = 300


class TrimPolicy:
    """Decides by the resident memory, which is measured once a second."""

    def __init__(self) -> None:
        # The least memory ever, the least since the last trim, and the most since then, in bytes.
        self._start: int | None = None
        self._least = 0
        self._most = 0
        # Measurements since the last trim, and since the maximum.
        self._since_trim = 0
        self._since_most = 0

    def is_due(self, rss: int) -> bool:
        """Whether to trim now, after a measurement of `rss` bytes; then `on_trimmed` is to be called."""
        if self._start is None:
            self.on_trimmed(rss)
            return False
        self._start = min(self._start, rss)
        self._least = min(self._least, rss)
        self._since_trim += 1
        self._since_most += 1
        if rss >= self._most + GROWTH:
            self._most = rss
            self._since_most = 0
        if self._since_trim < LEAST_GAP:
            return False
        has_settled = self._since_most >= SETTLED and rss >= self._least + EXCESS
        return has_settled or (self._since_trim >= MOST_GAP and rss >= self._start + EXCESS)

    def on_trimmed(self, rss: int) -> None:
        """Memory was returned to the system, if any was free; `rss` bytes are left."""
        if self._start is None:
            self._start = rss
        self._least = self._most = rss
        self._since_trim = self._since_most = 0
