"""Starts and stops filters, within bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Final

from pymosn.assembly.filters import BuiltFilter
from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.core.log import ERROR
from pymosn.filters.errors import describe

#: Seconds that `start` and `stop` of a filter may take.
START_TIME: Final = 10.0
STOP_TIME: Final = 5.0


async def start_filters(filters: Iterable[BuiltFilter]) -> list[Diagnostic]:
    """Starts filters concurrently; returns the errors."""
    results = await asyncio.gather(*(_start(built) for built in filters))
    return [fault for fault in results if fault is not None]


async def _start(built: BuiltFilter) -> Diagnostic | None:
    try:
        async with asyncio.timeout(START_TIME):
            starting: object = built.handle.filter.start()
            if not isinstance(starting, Awaitable):
                return _start_error(built, "`start` must be `async def`")
            await starting
        built.is_started = True
    except TimeoutError:
        return _start_error(built, f"`start` did not finish within {START_TIME:g} s")
    except (Exception, SystemExit) as error:
        return _start_error(built, f"does not start: {describe(error)}")
    return None


def _start_error(built: BuiltFilter, text: str) -> Diagnostic:
    return error_at(built.path, f"filter {built.handle.name!r} {text}")


async def stop_filters(filters: Iterable[BuiltFilter]) -> None:
    """Cancels the tasks of filters and stops them; errors are logged."""
    for built in filters:
        context = built.handle.filter.context
        try:
            async with asyncio.timeout(STOP_TIME):
                await context.end_tasks()
                if built.is_started:
                    built.is_started = False
                    stopping: object = built.handle.filter.stop()
                    if isinstance(stopping, Awaitable):
                        await stopping
        except (Exception, SystemExit) as error:
            context.write(f"`stop` failed: {describe(error)}", ERROR)
