"""How the reader of a filter's message is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pymosn.control.xds.convert.view import View

T = TypeVar("T")


def reader_of(
    view: View, readers: Mapping[str, Callable[[View], T]], left_out: Mapping[str, str], passing: str
) -> Callable[[View], T] | None:
    """The reader of a message; None with a warning if the filter is left out, or with a fault if its type is unknown.

    `left_out`: type -> what is lost. `passing`: what must not bypass the filter, for the fault.
    """
    lost = left_out.get(view.type_name)
    if lost is not None:
        view.warn("", f"{view.type_name} is left out: {lost}")
        return None
    reader = readers.get(view.type_name)
    if reader is None:
        with view:
            view.fault("", f"{view.type_name} is not supported; rejected, because {passing} must not bypass it")
    return reader
