"""What a worker shows of its life in memory that it shares with the supervisor, which reads it without asking.

The page has CELLS numbers per worker: its state, its beats, and a counter of accepted connections per listener. A worker
that is hung or stopped cannot answer a question, but a counter that does not move while connections wait says as much.
"""

from __future__ import annotations

import zlib
from typing import Final

from mypy_extensions import i64

#: 64-bit numbers per worker, and the first two of them; the others count accepted connections.
CELLS: Final = 512
STATE: Final = 0
BEATS: Final = 1
#: States: there is no worker, or it has not begun to accept; it accepts; it has paused accepting on purpose.
AWAY: Final = 0
ACCEPTING: Final = 1
PAUSED: Final = 2


def cell_of(listener: str) -> int:
    """The cell that counts what a listener accepts. Listeners may share one, which then moves for either."""
    return 2 + zlib.crc32(listener.encode()) % (CELLS - 2)


class Progress:
    """One worker's part of the page; until `attach` a private one."""

    def __init__(self) -> None:
        self._cells: memoryview[int] = memoryview(bytearray(CELLS * 8)).cast("Q")
        self._first: i64 = 0

    def attach(self, cells: memoryview[int], worker: i64) -> None:
        """Writes to the shared page from now on. `worker`: its index, from 0."""
        self._cells = cells
        self._first = worker * CELLS

    def count(self, cell: i64) -> None:
        """Something was done."""
        self._cells[self._first + cell] += 1

    def set_state(self, state: i64) -> None:
        """AWAY, ACCEPTING or PAUSED."""
        self._cells[self._first + STATE] = state
