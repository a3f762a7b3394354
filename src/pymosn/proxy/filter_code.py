"""The code of filters: what both kinds have in common, checks of their classes, and reports of their errors."""

from __future__ import annotations

import difflib
import inspect
import time
from collections.abc import Collection
from types import CodeType, FrameType
from typing import Any, Final, cast

from mypy_extensions import i64, mypyc_attr

from pymosn.core.counters import Counter, MetricGroup, Metrics
from pymosn.core.errors import describe, place_at, place_in, printable, reason, shown, traceback_of
from pymosn.core.histograms import Histogram
from pymosn.core.log import ERROR, Log

#: One of this many calls of a filter is timed: reading the clock twice costs as much as a small filter. A prime, so that it
#: is not always the same phase of a filter that has several.
TIMED_ONE_IN: Final[i64] = 61
#: Upper bounds of the buckets for durations of calls, in seconds: powers of two from 0.5 us to about 67 s.
COST_BOUNDS: Final = [0.0000005 * 2.0**n for n in range(28)]
#: Part of the names of modules whose frames come before those of a filter.
_CALLERS: Final = "pymosn.proxy."
#: Maximum calls of a stack.
STACK_LIMIT: Final = 32


@mypyc_attr(native_class=False)
class FilterClassError(TypeError):
    """Invalid attributes or methods of a filter's class; the text says which."""


class FilterFault:
    """An error of a filter, as it is shown later. `at`: seconds since 1970; `phase`: the filter's method.

    `stack`: `file:line in function`, innermost call first; empty if the error has no traceback.
    """

    def __init__(self, at: float, phase: str, message: str, stack: list[str]) -> None:
        self.at = at
        self.phase = phase
        self.message = message
        self.stack = stack


class FilterCode:
    """A configured filter in one worker: its name in metrics and logs, and its counters."""

    def __init__(self, name: str, module: str, metrics: Metrics) -> None:
        """`module`: of its class, for the places of its errors."""
        self.name = name
        self.module = module
        group = metrics.group("filter", ("filter", name))
        self.group: MetricGroup = group
        self.calls: Counter = group.counter("calls")
        self.errors: Counter = group.counter("errors")
        self.timeouts: Counter = group.counter("timeouts")
        #: How often it blocked the worker's event loop.
        self.blocked: Counter = group.counter("blocked")
        #: Durations of the timed calls, and of all calls that waited.
        self.time: Histogram = group.distribution("seconds", COST_BOUNDS)
        self.last_fault: FilterFault | None = None


def report_error(log: Log, code: FilterCode, where: str, error: BaseException | str, method: object = None) -> None:
    """Counts and logs an error of a filter. `where`: as of `log_prefix`. `method`: the filter's, without a traceback."""
    code.errors.value += 1
    raised = None if type(error) is str else cast("BaseException", error)
    text = cast("str", error) if raised is None else describe(raised)
    phase = text.partition(" ")[0] if raised is None else ""
    stack: list[str] = []
    try:
        if raised is None:
            place = _place_of(method)
            phase = _name_of(method) or phase
        else:
            place = place_in(raised, lambda frame: _is_in(frame, code.module))
            stack = _stack_of(raised)
            phase = _phase_in(stack)
    except BaseException:  # of attributes of the method, or of the globals of a frame
        place = ""
    code.last_fault = FilterFault(time.time(), phase if phase.startswith("on_") else "", text, stack)
    log.write(ERROR, f"{where} filter {code.name!r} failed: {text}{place}", "pymosn.filter.error")


def _place_of(method: object) -> str:
    """File, line and name of a method; empty if it is compiled."""
    code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
    return "" if code is None else place_at(code, code.co_firstlineno)


def _name_of(method: object) -> str:
    """The name of a method; empty if it has none."""
    name = getattr(method, "__name__", "")
    return name if type(name) is str else ""


def _phase_in(stack: list[str]) -> str:
    """The phase that a stack belongs to: the outermost function with the name of one."""
    for line in reversed(stack):
        name = line.rpartition(" in ")[2]
        if name.startswith("on_"):
            return name
    return ""


def _stack_of(error: BaseException) -> list[str]:
    """The calls that an error passed, `file:line in function`, innermost first; at most the STACK_LIMIT innermost.

    Without the outermost ones, which are the proxy's.
    """
    trace = traceback_of(error)
    calls: list[tuple[CodeType, int]] = []
    is_own = False
    while trace is not None:
        is_own = is_own or not _is_caller(trace.tb_frame)
        if is_own:
            calls.append((trace.tb_frame.f_code, trace.tb_lineno))
            if len(calls) > STACK_LIMIT:
                del calls[0]
        trace = trace.tb_next
    return [f"{printable(code.co_filename, 500)}:{line} in {printable(code.co_name, 200)}" for code, line in reversed(calls)]


def _is_caller(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(_CALLERS)


def _is_in(frame: FrameType, module: str) -> bool:
    return bool(frame.f_globals.get("__name__") == module)


def timeout_of(value: object) -> float:
    """The `timeout` of a filter's class. Raises FilterClassError for an invalid one."""
    if not isinstance(value, (int, float)) or not 0.0 <= value < float("inf"):
        raise FilterClassError(f"timeout must be a number of seconds, 0 for no limit, not {shown(value)}")
    return float(value)


def check_signature(method: str, called: Any, arguments: tuple[str, ...], before: tuple[str, ...] = ()) -> None:
    """Raises FilterClassError if a method cannot be called with `arguments`. `before`: `self`, if it is not bound."""
    try:
        signature = inspect.signature(called)
    except ValueError:
        return  # a compiled method has no signature
    try:
        signature.bind(*before, *arguments)
    except TypeError as error:
        raise FilterClassError(f"{method} is called with ({', '.join(arguments)}): {reason(error)}") from error


def yields(called: object) -> bool:
    """Whether a method is a generator function."""
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def check_names(owner: object, base: type, known: Collection[str], noun: str) -> None:
    """Raises FilterClassError for a method of `owner` that `base` does not have, with a name close to a `known` one."""
    for name in dir(owner):
        if name[:2].lower() == "on" and not hasattr(base, name) and callable(getattr(owner, name)):
            similar = difflib.get_close_matches(name.lower(), list(known), 1, 0.9)
            if similar:
                raise FilterClassError(f"unknown {noun} {name}: did you mean {similar[0]}?")
