"""The stream filters of a listener, and which of them care for what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pymosn.api.proxy import Exchange, Reply, StreamFilter
from pymosn.core.counters import Counter, Metrics
from pymosn.core.log import ERROR, Log

Ask = Callable[[Exchange], Reply | Awaitable[Reply | None] | None]


class NamedFilter:
    """A filter with the name under which its errors are counted and logged."""

    def __init__(self, name: str, stream_filter: StreamFilter, metrics: Metrics) -> None:
        self.name = name
        self.filter = stream_filter
        # Kept here because looking a method up by its name costs as much as a small filter does.
        self.ask_request: Ask = stream_filter.on_request
        self.ask_response: Ask = stream_filter.on_response
        self.errors: Counter = metrics.group("filter", ("filter", name)).counter("errors")


class StreamFilters:
    """A chain: requests pass it in the order of the configuration, replies in reverse.

    Only filters that override a method are asked for it, so an empty phase costs nothing.
    """

    def __init__(self, filters: list[NamedFilter]) -> None:
        self.all = filters
        self.on_request = [named for named in filters if _overrides(named.filter, "on_request")]
        self.on_response = [named for named in reversed(filters) if _overrides(named.filter, "on_response")]
        self.on_complete = [named for named in filters if _overrides(named.filter, "on_complete")]


def _overrides(stream_filter: StreamFilter, method: str) -> bool:
    return getattr(type(stream_filter), method) is not getattr(StreamFilter, method)


def report_error(log: Log, named: NamedFilter, exchange: Exchange, error: BaseException | str) -> None:
    """Counts and logs what a filter did wrong."""
    named.errors.value += 1
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    place = "" if isinstance(error, str) else _place(error)
    log.write(ERROR, f"[{exchange.connection_id},-,-] filter {named.name!r} failed: {text}{place}", "pymosn.filter.error")


def _place(error: BaseException) -> str:
    """The last place in the filter's own code: file, line and function of the innermost frame."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f" (at {code.co_filename}:{trace.tb_lineno} in {code.co_name})"
