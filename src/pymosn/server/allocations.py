"""Traces the memory that filters allocate and keep, per line. It is expensive: only on demand, and for a few seconds."""

import asyncio
from collections.abc import Collection
from typing import Final

#: Number of lines that are reported, those with the most bytes first.
MOST_LINES: Final = 20


async def trace_allocations(seconds: float, files: Collection[str]) -> list[tuple[str, int, int]]:
    """Traces for `seconds`; returns `file:line`, bytes and blocks allocated in `files` meanwhile and still in use."""
    import tracemalloc  # imported only on demand

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
