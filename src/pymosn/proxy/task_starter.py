"""Tasks whose first step runs at once: a coroutine that does not wait is over before its caller goes on.

Python 3.12 calls such tasks eager; 3.11 has none, and uvloop no factory for them. What makes a task is the task itself:
it asks its loop for a call of its first step. Here that call is kept back and made at once. So this is the loop's own kind
of task from the first step to the last: `asyncio.current_task`, `timeout`, `TaskGroup`, context variables and
cancellation are what they always are.
"""

from __future__ import annotations

from asyncio import Task, current_task, get_running_loop
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

CallSoon = tuple[Callable[..., object], tuple[Any, ...], Context | None]


class TaskStarter:
    """Makes the tasks of one worker's loop."""

    def __init__(self) -> None:
        self._calls: list[CallSoon] = []

    def __call__(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> None:
        """Stands in for the loop's `call_soon` while a task is made."""
        self._calls.append((callback, args, context))

    def start(self, coroutine: Coroutine[Any, Any, object], name: str) -> Task[object]:
        """A task called `name`, which has taken its first step and may be done.

        Inside another task, whose step that would be otherwise, the loop starts it: two tasks are never current at a time.
        """
        loop = get_running_loop()
        if current_task(loop) is not None:
            return loop.create_task(coroutine, name=name)
        loop.call_soon = self  # type: ignore[method-assign,assignment]
        try:
            task = Task(coroutine, loop=loop, name=name)
        finally:
            del loop.call_soon
            calls = self._calls
            self._calls = []
        for callback, args, context in calls:
            if context is not None and (len(calls) == 1 or getattr(callback, "__self__", None) is task):
                try:  # noqa: SIM105 - `suppress` takes as long as all the rest
                    context.run(callback, *args)
                except (SystemExit, KeyboardInterrupt):
                    pass  # the task keeps it, as it keeps every other exception
            else:
                loop.call_soon(callback, *args, context=context)  # of something that was collected just then
        return task
