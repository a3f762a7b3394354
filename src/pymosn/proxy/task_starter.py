"""Tasks whose first step runs at once: a coroutine that does not wait is done before `start` returns.

Python 3.12 calls these eager tasks; 3.11 lacks them, and uvloop has no factory for them. A new task schedules its first step
with `call_soon` of its loop. Here that call is intercepted and made at once. The result is an ordinary task:
`asyncio.current_task`, `timeout`, `TaskGroup`, context variables and cancellation work as usual.
"""

from __future__ import annotations

from asyncio import Task, current_task, get_running_loop
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

CallSoon = tuple[Callable[..., object], tuple[Any, ...], Context | None]


class TaskStarter:
    """Creates the tasks of one worker's loop."""

    def __init__(self) -> None:
        self._calls: list[CallSoon] = []

    def __call__(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> None:
        """Replaces the loop's `call_soon` while a task is created."""
        self._calls.append((callback, args, context))

    def start(self, coroutine: Coroutine[Any, Any, object], name: str, context: Context) -> Task[object]:
        """A task called `name` that runs in `context`. It has run its first step, and may be done.

        Within another task, or if the context is already entered, the loop starts it later.
        """
        loop = get_running_loop()
        if current_task(loop) is not None:
            return loop.create_task(coroutine, name=name, context=context)
        loop.call_soon = self  # type: ignore[method-assign,assignment]
        try:
            task = Task(coroutine, loop=loop, name=name, context=context)
        finally:
            del loop.call_soon
            calls = self._calls
            self._calls = []
        for callback, args, its_context in calls:
            if len(calls) == 1 or getattr(callback, "__self__", None) is task:
                try:
                    context.run(callback, *args)
                except RuntimeError:  # not the task's, which stores its exceptions
                    loop.call_soon(callback, *args, context=context)
                except (SystemExit, KeyboardInterrupt):
                    pass  # the task stores it, like any other exception
            else:
                loop.call_soon(callback, *args, context=its_context)  # made by a finalizer that ran meanwhile
        return task
