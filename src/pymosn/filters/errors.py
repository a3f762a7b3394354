"""Errors of filters that cannot be loaded, and their texts."""

from __future__ import annotations

import os.path
from typing import Final

from pymosn.core import errors
from pymosn.core.plain import plain_text

_HERE: Final = os.path.dirname(__file__)
#: What the compiler raises, and not a subclass by a filter.
_OF_COMPILER: Final = (SyntaxError, IndentationError, TabError)


class FilterLoadError(Exception):
    """A filter cannot be loaded or created; the text has the reason and, for errors in its code, file and line."""


class FilterConfigError(FilterLoadError):
    """Invalid settings of a filter. `problems`: pairs of a path in the settings (`.limits[0]`) and a message."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {text}" if path else text for path, text in problems))
        self.problems = problems


def problems_of(error: FilterConfigError) -> list[tuple[str, str]]:
    """The problems of an error that may be of a filter's own subclass; its text if they cannot be read. Never raises."""
    try:
        return [(errors.printable(plain_text(path)), errors.printable(plain_text(text))) for path, text in error.problems]
    except BaseException:  # whatever the error's own code raises
        return [("", errors.reason(error))]


def describe(error: BaseException) -> str:
    """An error in a filter's code, with file and line if known. Never raises."""
    if type(error) in _OF_COMPILER and isinstance(error, SyntaxError):
        return errors.printable(f"{error.filename}:{error.lineno}: {error.msg}")
    return f"{_location(error)}{errors.describe(error)}"


def _location(error: BaseException) -> str:
    trace = errors.traceback_of(error)
    location = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        # Not the loader itself, whose frames are always there.
        if not file.startswith("<") and os.path.dirname(file) != _HERE:
            location = f"{file}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return errors.printable(location)
