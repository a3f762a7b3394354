"""Counters in memory that the worker shares with the supervisor: what they have counted is known after a crash too.

The file has a region of names and two of numbers. A record of a name is its length and its text, the type, the labels and
the key of a counter; the record's index is that of the number, from 1. A record is written before the number of records is
(the first number), so that the supervisor never reads half of one. Nothing is ever removed: a worker has its file for life.

Most writes are of the lowest byte only, because Python makes no object for a number below 256: that is the region of bytes.
The other region has the value as it was at the last multiple of STEP, so that both together are the present one. The byte is
written first: a worker that is killed between the two leaves a value that is STEP less than its byte has, not more.
"""

from __future__ import annotations

import mmap
from typing import Final

from mypy_extensions import i64

#: Bytes for names, the number of 64-bit numbers after them, and of bytes after those. What finds no room is counted as
#: before, without this copy.
NAMES_SIZE: Final = 1024 * 1024
CELLS: Final = 16384
#: Where the bytes begin.
LOW: Final = NAMES_SIZE + CELLS * 8
SIZE: Final = LOW + CELLS
#: A power of two up to 128: the lowest byte repeats after 256.
STEP: Final = 128
#: Between the parts of a name. Labels may contain anything else.
SEPARATOR: Final = "\x00"
#: The cell of counters that find no room.
UNREAD: Final = CELLS - 1


class Ledger:
    """The copies of some counters. Until `attach` they are written to private memory."""

    def __init__(self) -> None:
        #: Hot code writes the lowest byte of a counter's value to `page` at LOW plus its cell, and then, at multiples of
        #: STEP, the value to `cells`. A `memoryview` of bytes would take twice the instructions.
        self.page = mmap.mmap(-1, SIZE)
        self.cells: memoryview[int] = memoryview(self.page)[NAMES_SIZE:LOW].cast("q")
        self._is_shared = False
        self._written: i64 = 0
        self._count: i64 = 0

    def attach(self, page: mmap.mmap) -> None:
        """Writes to a file of SIZE bytes, which are all 0, from now on."""
        self.page = page
        self.cells = memoryview(page)[NAMES_SIZE:LOW].cast("q")
        self._is_shared = True

    def clear(self, cell: i64) -> None:
        """Sets the copy of a counter to 0 that is not to be read any more."""
        self.page[LOW + cell] = 0
        self.cells[cell] = 0

    def cell(self, name: str) -> i64:
        """A new cell for the counter `name`; one that is not read if there is no room or no file."""
        if not self._is_shared:
            return 0
        text = name.encode("utf-8", "surrogateescape")
        end = self._written + 4 + len(text)
        if end > NAMES_SIZE or self._count + 1 >= CELLS - 1:
            return UNREAD
        self.page[self._written : end] = len(text).to_bytes(4, "little") + text
        self._written = end
        self._count += 1
        self.cells[0] = self._count
        return self._count


def ledger_name(type_name: str, labels: tuple[tuple[str, str], ...], key: str) -> str:
    """The name of a counter in the file."""
    return SEPARATOR.join([type_name, key, *[part for label in labels for part in label]])


def read_ledger(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, int]]:
    """What a worker has counted, by type and labels of the group, and key. `page`: the content of its file.

    Damaged records, of which none is expected, end the list; a name with a SEPARATOR in its labels is left out.
    """
    found: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, int]] = {}
    if len(page) != SIZE:
        return found
    cells = memoryview(page)[NAMES_SIZE:LOW].cast("q")
    at = 0
    for index in range(1, min(cells[0], CELLS - 2) + 1):
        size = int.from_bytes(page[at : at + 4], "little")
        parts = page[at + 4 : at + 4 + size].decode("utf-8", "surrogateescape").split(SEPARATOR)
        at += 4 + size
        if at > NAMES_SIZE:
            break
        if len(parts) < 2 or len(parts) % 2:
            continue
        labels = tuple([(parts[n], parts[n + 1]) for n in range(2, len(parts), 2)])
        value = cells[index]
        found.setdefault((parts[0], labels), {})[parts[1]] = max(0, value + (page[LOW + index] - value) % 256)
    return found
