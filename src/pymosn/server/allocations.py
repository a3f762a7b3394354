"""What filters allocate and keep, line by line: tracing costs much, so it is done on demand and for some seconds only."""

import asyncio
from collections.abc import Collection
from typing import Final

#: Lines that are told, those with the most bytes first.
MOST_LINES: Final = 20


async def trace_allocations(seconds: float, files: Collection[str]) -> list[tuple[str, int, int]]:
    """Traces for `seconds`; `file:line`, bytes and blocks that were allocated in `files` meanwhile and are still there."""
    import tracemalloc  # only who asks pays for it

    if tracemalloc.is_tracing():
        return []
    tracemalloc.start()
    try:
        await asyncio.sleep(seconds)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    snapshot = snapshot.filter_traces([tracemalloc.Filter(True, file) for file in files] or [tracemalloc.Filter(False, "*")])
    found = snapshot.statistics("lineno")[:MOST_LINES]
    return [(f"{line.traceback[0].filename}:{line.traceback[0].lineno}", line.size, line.count) for line in found]
