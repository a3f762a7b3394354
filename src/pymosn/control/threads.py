"""Calls that may block for ever, such as those on a file of a network mount that hangs: in a thread, and with a time limit.

A thread that does not return cannot be ended, so these are daemon threads: the process can exit nevertheless.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def within(seconds: float, work: Callable[..., T], *args: Any) -> T:
    """The result of `work(*args)`, or its exception; TimeoutError after `seconds`. Ctrl-C interrupts the wait."""
    call = _Call(work, args)
    done = threading.Event()
    call.start(done.set)
    if not done.wait(seconds):
        raise TimeoutError(f"no answer within {seconds:g} s")
    result: T = call.result()
    return result


async def off_loop(seconds: float, work: Callable[..., T], *args: Any) -> T:
    """Like `within`, while the event loop continues."""
    loop = asyncio.get_running_loop()
    call = _Call(work, args)
    done = asyncio.Event()
    call.start(lambda: _notify(loop, done))
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    result: T = call.result()
    return result


def _notify(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(done.set)


class _Call:
    """One call in a thread of its own."""

    def __init__(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._work = work
        self._args = args
        self._value: Any = None
        self._error: BaseException | None = None

    def start(self, on_end: Callable[[], object]) -> None:
        """Starts the thread, which calls `on_end` last."""
        threading.Thread(target=self._run, args=(on_end,), name="blocking call", daemon=True).start()

    def _run(self, on_end: Callable[[], object]) -> None:
        try:
            self._value = self._work(*self._args)
        except BaseException as error:
            self._error = error
        on_end()

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value
