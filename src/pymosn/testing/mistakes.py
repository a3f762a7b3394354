"""Mistakes of tests, reported with the line of the test's code that contains them."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pymosn.core import errors

_KIT = str(Path(__file__).parent)
_ASYNCIO = str(Path(asyncio.__file__).parent)


class InvalidTest(Exception):
    """A mistake in a test: in what it passes to the kit, or in one of its upstreams. The text names the line."""

    def __init__(self, text: str, place: str | None = None) -> None:
        """`place`: file, line and function; by default the line of the test that is being executed."""
        super().__init__(text + (current_place() if place is None else place))


class StillWaiting(InvalidTest, TimeoutError):
    """An exchange has not ended within the time that a test may take. The text says what it waits for."""


class Mistakes:
    """What has gone wrong in a test, until something raises it."""

    def __init__(self) -> None:
        self._first: BaseException | None = None
        #: Set while there is one.
        self.is_there = asyncio.Event()

    def add(self, error: BaseException) -> None:
        """Code of the test has failed, outside of the task that waits for it."""
        if self._first is None:
            self._first = error
        self.is_there.set()

    def raise_first(self) -> None:
        """Raises the first mistake, if there is one."""
        error = self._first
        self._first = None
        self.is_there.clear()
        if error is not None:
            raise error


def place_of(function: object) -> str:
    """File, line and name of a function; empty if they are unknown."""
    found = getattr(function, "func", function)  # of a `functools.partial`
    if not inspect.isroutine(found) and not hasattr(found, "__code__"):
        found = getattr(type(found), "__call__", found)  # noqa: B004 - the method is needed, not whether there is one
    code = getattr(inspect.unwrap(found), "__code__", None) if callable(found) else None
    return "" if code is None else errors.place_at(code, code.co_firstlineno)


def place_in(error: BaseException, function: object) -> str:
    """Where `function` raised `error`: the innermost line in its file, else the innermost line."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    file = None if code is None else code.co_filename
    return errors.place_in(error, lambda frame: frame.f_code.co_filename == file)


def place_of_task(task: asyncio.Task[Any] | None) -> str:
    """The innermost line of a test or a filter at which a task waits; empty if it is not known."""
    place = ""
    coroutine: Any = None if task is None else task.get_coro()
    while coroutine is not None:
        frame: FrameType | None = getattr(coroutine, "cr_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith((_KIT, _ASYNCIO)):
            place = _place_of_frame(frame)
        coroutine = getattr(coroutine, "cr_await", None)
    return place


def place_of_generator(made: object) -> str:
    """The line at which a generator or an async one waits; empty if it is neither, or at its end."""
    frame: FrameType | None = getattr(made, "gi_frame", None) or getattr(made, "ag_frame", None)
    return "" if frame is None else _place_of_frame(frame)


def _place_of_frame(frame: FrameType) -> str:
    return errors.place_at(frame.f_code, frame.f_lineno)


def raise_as_mistake(error: BaseException, where: str, function: Callable[..., object] | None = None) -> NoReturn:
    """Raises what a test is told if its code raised `error`.

    Failed assertions, and what pytest raises to end a test, remain as they are. `where`: which code it was.
    """
    is_mistake = isinstance(error, (Exception, SystemExit, GeneratorExit, asyncio.CancelledError))
    if not is_mistake or isinstance(error, (AssertionError, InvalidTest)):
        raise error
    raise InvalidTest(f"{where} raised {errors.describe(error)}", place_in(error, function)) from error


def current_place() -> str:
    """The innermost line that is being executed outside of the kit; empty if there is none, as in a new task."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_KIT):
        frame = frame.f_back
    return "" if frame is None or frame.f_code.co_filename.startswith(_ASYNCIO) else _place_of_frame(frame)
