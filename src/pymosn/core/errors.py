"""Text of errors that other people's code raised: filters, plug-ins, libraries.

Such an error is any object: its `__str__` may raise, or return megabytes, or text that cannot be encoded. A failure to
describe it must not replace the failure that it describes, so all such text comes from here. `foreign` has the calls
into such code.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

from pymosn.core.plain import plain_text

#: Maximum characters of an error's text.
LIMIT: Final = 2000
TRACEBACK_LIMIT: Final = 50000
_TRACEBACK: Final[Any] = vars(BaseException)["__traceback__"]
_NAME: Final[Any] = vars(type)["__name__"]


def describe(error: BaseException) -> str:
    """The type and the text of an error, or the type alone if it has none. Never raises."""
    text = reason(error)
    name = type_name(error)
    return f"{name}: {text}" if text else name


def reason(error: BaseException) -> str:
    """The text of an error, without its type; at most LIMIT characters, and valid Unicode. Never raises."""
    try:
        return text_of(error)
    except BaseException:  # whatever the error's own code raises
        return "its text cannot be read"


def text_of(value: object) -> str:
    """The `str` of a value; at most LIMIT characters, and valid Unicode. Raises whatever the value raises."""
    # A subclass of `str` could override anything that is called later.
    return printable(plain_text(str(value)))


def traceback_of(error: BaseException) -> TracebackType | None:
    """The traceback of an error, if it has one. Never raises."""
    # Not the attribute: a property of its class would hide the interpreter's own.
    trace: object = _TRACEBACK.__get__(error)
    return trace if isinstance(trace, TracebackType) else None


def place_in(error: BaseException, is_own: Callable[[FrameType], bool]) -> str:
    """File, line and function of the innermost frame that `is_own`, else of the innermost frame; empty without one."""
    trace = traceback_of(error)
    place = ""
    has_own = False
    while trace is not None:
        frame = trace.tb_frame
        is_here = is_own(frame)
        if is_here or not has_own:
            has_own = is_here
            place = place_at(frame.f_code, trace.tb_lineno)
        trace = trace.tb_next
    return place


def place_at(code: CodeType, line: int) -> str:
    """A line of a function, as part of a message."""
    return f" (at {printable(code.co_filename)}:{line} in {code.co_name})"


def is_a(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether an error is of a kind, judged by its type as `except` does: its `__class__` may claim anything, or raise."""
    return issubclass(type(error), kind)


def with_traceback(error: BaseException) -> str:
    """An error with its causes and their tracebacks, in lines; at most TRACEBACK_LIMIT characters. Never raises."""
    import traceback

    try:
        return printable("".join(traceback.format_exception(error)), TRACEBACK_LIMIT)
    except BaseException:  # of its attributes
        return printable("".join([*traceback.format_tb(traceback_of(error)), describe(error)]), TRACEBACK_LIMIT)


def printable(text: str, limit: int = LIMIT) -> str:
    """`text` with lone surrogates escaped, shortened to `limit` characters."""
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text)} characters)"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shown(value: object) -> str:
    """The `repr` of a value; at most LIMIT characters, and valid Unicode. Never raises."""
    try:
        return printable(plain_text(repr(value)))
    except BaseException:
        return type_name(value)


def type_name(value: object) -> str:
    """The name of a value's type. Never raises."""
    # Not the attribute, as in `traceback_of`: a metaclass can override it.
    return printable(plain_text(_NAME.__get__(type(value))))
