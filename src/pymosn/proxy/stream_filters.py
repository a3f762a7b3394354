"""The stream filters of a listener: their policies, the methods that each of them overrides, and reports of their errors."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import FAIL, SKIP, StreamFilter
from pymosn.api.transcoder import Transcoder
from pymosn.core.counters import Counter, Histogram, Metrics
from pymosn.core.errors import describe, traceback_of
from pymosn.core.log import ERROR, Log

#: The phases that handle heads; their methods may be `async`.
REQUEST: Final[i64] = 0
ROUTE: Final[i64] = 1
HOST: Final[i64] = 2
RESPONSE: Final[i64] = 3
TRANSCODE: Final[i64] = 4

#: One of this many calls of a filter is timed: reading the clock twice costs as much as a small filter.
TIMED_ONE_IN: Final[i64] = 64

_WAITING: Final = ("on_request", "on_route", "on_host", "on_response")
_PLAIN: Final = ("on_request_body", "on_response_body", "on_complete")
_TRANSCODING: Final = ("request", "response")

PhaseCall = Callable[[Exchange], Reply | Awaitable[Reply | None] | None]
#: Declared to return an object, since the exchange checks at run time what a filter returns.
BodyCall = Callable[[Exchange, bytes, bool], object]


class FilterHandle:
    """A filter with its policy, and the name used in metrics and logs."""

    def __init__(
        self, name: str, stream_filter: StreamFilter, metrics: Metrics, on_error: str = "", timeout: float = -1.0
    ) -> None:
        """`on_error`, `timeout`: override the filter's own, unless empty or negative.

        Raises TypeError for invalid attributes or methods of the filter's class.
        """
        _check_settings(stream_filter)
        self.name = name
        self.filter = stream_filter
        self.skips_errors: bool = (on_error or stream_filter.on_error) == SKIP
        self.timeout: float = stream_filter.timeout if timeout < 0.0 else timeout
        self.changes_length: bool = bool(stream_filter.changes_length)
        group = metrics.group("filter", ("filter", name))
        self.calls: Counter = group.counter("calls")
        self.errors: Counter = group.counter("errors")
        self.skipped: Counter = group.counter("skipped")
        self.timeouts: Counter = group.counter("timeouts")
        #: How often it blocked the worker's event loop.
        self.blocked: Counter = group.counter("blocked")
        #: Durations of the timed calls, and of all calls that waited.
        self.time: Histogram = group.histogram("time")
        plain: tuple[str, ...] = _PLAIN
        if isinstance(stream_filter, Transcoder):
            plain = _PLAIN + _TRANSCODING
            if self.skips_errors:
                raise TypeError("a request cannot be forwarded without its transcoder: on_error must be fail")
            if not stream_filter.upstream_protocol or stream_filter.protocols != Transcoder.protocols:
                raise TypeError("a transcoder must set upstream_protocol, and its protocols must be Http1 only")
        for method in plain:
            if inspect.iscoroutinefunction(getattr(stream_filter, method)):
                raise TypeError(f"{method} must be a plain method, not async")
        _check_methods(stream_filter)

    @property
    def may_wait(self) -> bool:
        """Whether one of its methods is `async`."""
        return any(inspect.iscoroutinefunction(getattr(self.filter, method)) for method in _WAITING)


class PhaseHandler:
    """One method of a filter, bound once: binding it costs as much as a small filter."""

    def __init__(self, handle: FilterHandle, call: PhaseCall) -> None:
        self.handle = handle
        self.call = call


class BodyHandler:
    """The same for a method that handles pieces of a body."""

    def __init__(self, handle: FilterHandle, call: BodyCall) -> None:
        self.handle = handle
        self.call = call


class StreamFilters:
    """A filter chain: requests pass it in the order of the configuration, responses in reverse.

    A method is only called on filters that override it, so an empty phase costs nothing.
    """

    def __init__(self, filters: list[FilterHandle]) -> None:
        backwards = list(reversed(filters))
        self.all = filters
        self.on_request = [PhaseHandler(n, n.filter.on_request) for n in filters if _overrides(n, "on_request")]
        self.on_route = [PhaseHandler(n, n.filter.on_route) for n in filters if _overrides(n, "on_route")]
        self.on_host = [PhaseHandler(n, n.filter.on_host) for n in filters if _overrides(n, "on_host")]
        self.on_response = [PhaseHandler(n, n.filter.on_response) for n in backwards if _overrides(n, "on_response")]
        self.request_body = [BodyHandler(n, n.filter.on_request_body) for n in filters if _overrides(n, "on_request_body")]
        self.response_body = [
            BodyHandler(n, n.filter.on_response_body) for n in backwards if _overrides(n, "on_response_body")
        ]
        self.on_complete = [PhaseHandler(n, n.filter.on_complete) for n in filters if _overrides(n, "on_complete")]
        #: By upstream protocol; the first of several with the same one.
        self.transcoders: dict[str, FilterHandle] = {}
        for handle in backwards:
            stream_filter = handle.filter
            if isinstance(stream_filter, Transcoder):
                self.transcoders[stream_filter.upstream_protocol] = handle
        #: Whether a filter may change requests.
        self.sees_requests: bool = bool(self.on_request or self.on_route or self.on_host or self.request_body)
        #: Whether a filter may read a complete body.
        self.may_read: bool = any(handle.may_wait for handle in filters)
        #: Whether no filter may change requests or responses.
        self.is_passive: bool = not self.sees_requests
        #: Whether a filter may change responses.
        self.sees_responses: bool = bool(self.on_response or self.response_body or self.may_read)
        if self.sees_responses:
            self.is_passive = False
        #: Number of exchanges that use the chain now.
        self.in_use: i64 = 0
        self._parts: dict[str, StreamFilters] = {}

    def for_protocol(self, name: str) -> StreamFilters:
        """The part of the chain for exchanges of that protocol; the same object each time."""
        part = self._parts.get(name)
        if part is None:
            wanted = [handle for handle in self.all if not handle.filter.protocols or name in handle.filter.protocols]
            part = self if len(wanted) == len(self.all) else StreamFilters(wanted)
            self._parts[name] = part
        return part

    def is_in_use(self) -> bool:
        """Whether an exchange of any protocol uses one of the filters."""
        return self.in_use > 0 or any(part.in_use > 0 for part in self._parts.values())


def any_changes_length(chain: list[BodyHandler]) -> bool:
    """Whether the length of a body is unknown until the chain has processed all of it."""
    return any(step.handle.changes_length for step in chain)


def _overrides(handle: FilterHandle, method: str) -> bool:
    return getattr(type(handle.filter), method) is not getattr(StreamFilter, method)


def _check_settings(stream_filter: StreamFilter) -> None:
    """Raises TypeError for class attributes with invalid values."""
    values: dict[str, object] = {name: getattr(stream_filter, name) for name in ("on_error", "timeout", "protocols")}
    if values["on_error"] not in (FAIL, SKIP):
        raise TypeError(f"on_error must be {FAIL!r} or {SKIP!r}, not {values['on_error']!r}")
    timeout = values["timeout"]
    if not isinstance(timeout, (int, float)) or not 0.0 <= timeout < float("inf"):
        raise TypeError(f"timeout must be a number of seconds, 0 for no limit, not {timeout!r}")
    protocols = values["protocols"]
    if not isinstance(protocols, tuple) or not all(isinstance(name, str) for name in protocols):
        raise TypeError(f'protocols must be a tuple of names, such as ("Http1",), not {protocols!r}')


def _check_methods(stream_filter: StreamFilter) -> None:
    """Raises TypeError for a phase with an invalid signature, and for a method whose name is close to that of a phase."""
    for method in (*_WAITING, *_PLAIN):
        called = getattr(stream_filter, method)
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError(f"{method} must not yield; a Reply may have a generator as its body")
        try:
            signature = inspect.signature(called)
        except ValueError:
            continue  # a compiled method has no signature
        arguments = ("exchange", "data", "last") if method.endswith("_body") else ("exchange",)
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise TypeError(f"{method} is called with ({', '.join(arguments)}): {error}") from error
    for name in dir(stream_filter):
        if name[:2].lower() == "on" and not hasattr(StreamFilter, name) and callable(getattr(stream_filter, name)):
            similar = difflib.get_close_matches(name.lower(), (*_WAITING, *_PLAIN), 1, 0.9)
            if similar:
                raise TypeError(f"unknown phase {name}: did you mean {similar[0]}?")


def report_error(
    log: Log, handle: FilterHandle, exchange: Exchange, error: BaseException | str, method: object = None
) -> None:
    """Counts and logs an error of a filter. `method`: the filter's method, for errors without a traceback."""
    handle.errors.value += 1
    text = error if isinstance(error, str) else describe(error)
    place = _place_of(method) if isinstance(error, str) else _place(error, type(handle.filter).__module__)
    log.write(ERROR, f"[{exchange.connection_id},-,-] filter {handle.name!r} failed: {text}{place}", "pymosn.filter.error")


def _place_of(method: object) -> str:
    """File, line and name of a method; empty if it is compiled."""
    code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
    return "" if code is None else f" (at {code.co_filename}:{code.co_firstlineno} in {code.co_name})"


def _place(error: BaseException, module: str) -> str:
    """File, line and function of the innermost frame in the filter's `module`, else of the innermost frame."""
    trace = traceback_of(error)
    place = ""
    is_own = False
    while trace is not None:
        frame = trace.tb_frame
        is_here = frame.f_globals.get("__name__") == module
        if is_here or not is_own:
            is_own = is_here
            place = f" (at {frame.f_code.co_filename}:{trace.tb_lineno} in {frame.f_code.co_name})"
        trace = trace.tb_next
    return place
