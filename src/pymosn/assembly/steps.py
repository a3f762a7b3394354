"""Long work in steps, so that the event loop can run in between."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

#: Work that yields where it may be interrupted, and returns its result.
Steps = Generator[None, None, T]


def run_whole(steps: Steps[T]) -> T:
    """Runs all steps."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


async def run_in_slices(steps: Steps[T], seconds: float) -> T:
    """Runs the steps in slices of about `seconds`, with an event-loop iteration after each."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        if loop.time() > until:
            await asyncio.sleep(0)
            until = loop.time() + seconds
