"""The contexts of filter code: what a filter sets in a ContextVar is visible in the same exchange only.

Theory of operation. All calls of filter code for an exchange run in one `contextvars.Context`, which is empty at first, as
in a new thread. Most filters use no ContextVar, so a call borrows a context of the worker (`Runtime.spare_context`), which
is still empty afterwards and serves the next call of any exchange. Once a variable is set in it or a task runs in it, the
exchange keeps it, and the worker makes another one.

A context can be entered only once at a time, but filter code may end its own exchange, for example by closing the client's
connection, so that `on_complete` is called within it. Such a call is made directly (`ExchangeContext.again`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Final

from pymosn.core.timers import Alarm

# Tells which context is the current one.
_PROBE: Final[ContextVar[None]] = ContextVar("pymosn_probe")


class WaitingFilter(Alarm):
    """An `async` filter that has not returned yet."""

    def cancel(self) -> None:
        """Cancels the filter; the exchange is not notified."""
        raise NotImplementedError


class ExchangeContext:
    """The context of one exchange's filters, and the filter that is waiting."""

    def __init__(self, context: Context) -> None:
        self.context = context
        #: Calls a function in the context, with arguments.
        self.run: Callable[..., object] = context.run
        #: Whether it belongs to its exchange for good, even if no variable is set.
        self.is_kept = False
        #: Whether it is free to be used.
        self.is_spare = True
        self.waiting: WaitingFilter | None = None

    def again(self) -> ExchangeContext:
        """This object for another call; if the context is already entered, one whose `run` works nevertheless."""
        try:
            self.run(_do_nothing)
        except RuntimeError:
            return self._nested()
        return self

    def _nested(self) -> ExchangeContext:
        if _is_current(self.context):
            nested = ExchangeContext(self.context)
            nested.run = _call
        else:
            # Filter code of another exchange was called in between. A copy has the values, but does not keep changes.
            nested = ExchangeContext(self.context.copy())
        nested.is_kept = True
        return nested


def _is_current(context: Context) -> bool:
    token = _PROBE.set(None)
    found = _PROBE in context
    _PROBE.reset(token)
    return found


def _do_nothing() -> None:
    pass


def _call(function: Callable[..., object], *arguments: Any) -> object:
    return function(*arguments)
