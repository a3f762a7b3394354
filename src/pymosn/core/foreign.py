"""Calls into other people's code: filters, plug-ins, libraries.

Such code may raise any BaseException: panics of Rust extensions, GeneratorExit, `sys.exit`, KeyboardInterrupt, and
a CancelledError without a cancellation. All of these are errors of that code, never events of the process that calls it. So
every such call is in a `try` with `except BaseException`, and only the cancellation of the calling task is passed on. A
plain call cannot be cancelled; one that waits runs in a task of its own, see `outcome`. Text comes from `errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final

#: Seconds for which foreign code may clean up after its time is over.
CLEAN_UP_TIME: Final = 0.2


class Late(Exception):
    """Foreign code did not finish in time."""


async def outcome(work: Callable[[], Awaitable[object]], seconds: float) -> BaseException | None:
    """Calls and awaits `work`; returns what it raised, a Late if it takes longer than `seconds`, or None.

    In a task of its own, so that it can neither cancel the caller nor hold it up by ignoring its own cancellation; and in a
    context of its own, so that its context variables are not visible elsewhere (`pymosn.proxy.contexts`).
    """
    raised: list[BaseException] = []

    async def run() -> None:
        try:
            await work()
        except BaseException as error:
            raised.append(error)

    task = asyncio.get_running_loop().create_task(run(), context=Context())
    try:
        await asyncio.wait([task], timeout=seconds)
        is_late = not task.done()
        if is_late:
            task.cancel()
            await asyncio.wait([task], timeout=CLEAN_UP_TIME)
    except asyncio.CancelledError:  # of the caller
        task.cancel()
        raise
    if is_late:
        return Late(f"did not finish within {seconds:g} s")
    if raised:
        return raised[0]
    return asyncio.CancelledError("it cancelled its own task") if task.cancelled() else None


def report(message: str, error: BaseException) -> None:
    """Passes an error to the handler of the event loop, which logs it with its traceback. Raises it where no loop runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise error from None
    loop.call_exception_handler({"message": message, "exception": error})


def raise_if_cancelled() -> None:
    """Raises CancelledError if the current task was cancelled. For handlers of BaseException around an `await`."""
    task = asyncio.current_task()
    if task is not None and task.cancelling() > 0:
        raise asyncio.CancelledError
