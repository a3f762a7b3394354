"""The stream filters of a listener: their policies, the methods that each of them overrides, and reports of their errors."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Final, cast

from mypy_extensions import i64

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import FAIL, SKIP, StreamFilter
from pymosn.api.transcoder import Transcoder
from pymosn.api.upstream import FaultRule
from pymosn.core.counters import Counter, Metrics
from pymosn.core.errors import shown
from pymosn.core.plain import plain_text
from pymosn.proxy.filter_code import FilterClassError, FilterCode, check_names, check_signature, timeout_of, yields

#: The phases that handle heads; their methods may be `async`.
REQUEST: Final[i64] = 0
ROUTE: Final[i64] = 1
HOST: Final[i64] = 2
RESPONSE: Final[i64] = 3
TRANSCODE: Final[i64] = 4

_WAITING: Final = ("on_request", "on_route", "on_host", "on_response")
_PLAIN: Final = ("on_request_body", "on_response_body", "on_complete")
_TRANSCODING: Final = ("request", "response")
#: A method of the life cycle that begins like a phase.
_REOPEN: Final = "on_reopen"
#: An attribute of the filter `fault_tolerance`.
_RULE: Final = "host_rule"

PhaseCall = Callable[[Exchange], Reply | Awaitable[Reply | None] | None]
#: Declared to return an object, since the exchange checks at run time what a filter returns.
BodyCall = Callable[[Exchange, bytes, bool], object]


class FilterHandle(FilterCode):
    """A filter with its policy, and the name used in metrics and logs.

    Reads the filter's attributes once, because any of them may be a property that raises: nothing else has to expect that.
    """

    def __init__(
        self,
        name: str,
        stream_filter: StreamFilter,
        metrics: Metrics,
        on_error: str = "",
        timeout: float = -1.0,
        route_name: str = "",
        is_disabled: bool = False,
    ) -> None:
        """`on_error`, `timeout`: override the filter's own, unless empty or negative.

        `route_name`: by which routes enable and disable it; empty: they cannot. `is_disabled`: unless the route enables it.

        Raises FilterClassError for invalid attributes or methods of the filter's class, and whatever they raise themselves.
        """
        policy, wait, served = _settings(stream_filter)
        super().__init__(name, plain_text(type(stream_filter).__module__), metrics)
        self.filter = stream_filter
        self.kind: type = type(stream_filter)
        self.skips_errors: bool = (on_error or policy) == SKIP
        self.timeout: float = wait if timeout < 0.0 else timeout
        self.protocols: tuple[str, ...] = served
        self.changes_length: bool = bool(stream_filter.changes_length)
        self.skipped: Counter = self.group.counter("skipped")
        rule = getattr(stream_filter, _RULE, None)
        #: The rule for hosts that is all of the filter `fault_tolerance`.
        self.fault_rule: FaultRule | None = rule if isinstance(rule, FaultRule) else None
        #: The upstream protocol that it transcodes to; empty for other filters.
        self.transcodes_to = ""
        plain: tuple[str, ...] = _PLAIN
        if isinstance(stream_filter, Transcoder):
            plain = _PLAIN + _TRANSCODING
            self.transcodes_to = plain_text(stream_filter.upstream_protocol)
            if self.skips_errors:
                raise FilterClassError("a request cannot be forwarded without its transcoder: on_error must be fail")
            if not self.transcodes_to or not served or not set(served) <= set(Transcoder.protocols):
                raise FilterClassError("a transcoder needs an upstream_protocol, and protocols may be Http1 and Http2 only")
        for method in (*plain, _REOPEN):
            if inspect.iscoroutinefunction(getattr(stream_filter, method)):
                raise FilterClassError(f"{method} must be a plain method, not async")
        _check_methods(stream_filter)
        #: The methods that it overrides, by the names of their phases.
        self.methods: dict[str, object] = {
            method: getattr(stream_filter, method) for method in (*_WAITING, *_PLAIN) if _overrides(stream_filter, method)
        }
        #: The key of `per_filter_config` by which routes enable and disable it; empty if they cannot.
        self.switch = ""
        self.is_disabled = is_disabled
        if (
            route_name
            and not self.transcodes_to
            and ("on_request" not in self.methods or bool(stream_filter.follows_routes))
        ):
            self.switch = f"/{route_name}"
        if is_disabled and not self.switch:
            raise FilterClassError("cannot be disabled until a route enables it: it has no name, or acts before the route")
        #: Whether one of its methods is `async`.
        self.may_wait: bool = any(inspect.iscoroutinefunction(getattr(stream_filter, method)) for method in _WAITING)

    def is_off(self, exchange: Exchange) -> bool:
        """Whether the route of an exchange disables it, or does not enable it; for filters with a `switch`."""
        state = exchange.route_config(self.switch)
        return self.is_disabled if state is None else state is False


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
        self.on_request = _phase(filters, "on_request")
        self.on_route = _phase(filters, "on_route")
        self.on_host = _phase(filters, "on_host")
        self.on_response = _phase(backwards, "on_response")
        self.request_body = _body_phase(filters, "on_request_body")
        self.response_body = _body_phase(backwards, "on_response_body")
        self.on_complete = _phase(filters, "on_complete")
        #: By upstream protocol; the first of several with the same one.
        self.transcoders: dict[str, FilterHandle] = {}
        for handle in backwards:
            if handle.transcodes_to:
                self.transcoders[handle.transcodes_to] = handle
        #: Whether a filter may change requests.
        self.sees_requests: bool = bool(self.on_request or self.on_route or self.on_host or self.request_body)
        #: Whether a filter may read a complete body.
        self.may_read: bool = any(handle.may_wait for handle in filters)
        #: Whether a filter may change responses.
        self.sees_responses: bool = bool(self.on_response or self.response_body or self.may_read)
        #: Whether no filter may change requests or responses.
        self.is_passive: bool = not (self.sees_requests or self.sees_responses)
        #: The rule by which requests judge hosts, in addition to those of clusters; None without one.
        self.fault_rule: FaultRule | None = None
        for handle in backwards:
            if handle.fault_rule is not None:
                self.fault_rule = handle.fault_rule
        #: Number of exchanges that use the chain now.
        self.in_use: i64 = 0
        self._parts: dict[str, StreamFilters] = {}

    def for_protocol(self, name: str) -> StreamFilters:
        """The part of the chain for exchanges of that protocol; the same object each time."""
        part = self._parts.get(name)
        if part is None:
            wanted = [handle for handle in self.all if not handle.protocols or name in handle.protocols]
            part = self if len(wanted) == len(self.all) else StreamFilters(wanted)
            self._parts[name] = part
        return part

    def is_in_use(self) -> bool:
        """Whether an exchange of any protocol uses one of the filters."""
        return self.in_use > 0 or any(part.in_use > 0 for part in self._parts.values())


def any_changes_length(chain: list[BodyHandler]) -> bool:
    """Whether the length of a body is unknown until the chain has processed all of it."""
    return any(step.handle.changes_length for step in chain)


def _phase(filters: list[FilterHandle], method: str) -> list[PhaseHandler]:
    return [PhaseHandler(n, cast("PhaseCall", n.methods[method])) for n in filters if method in n.methods]


def _body_phase(filters: list[FilterHandle], method: str) -> list[BodyHandler]:
    return [BodyHandler(n, cast("BodyCall", n.methods[method])) for n in filters if method in n.methods]


def _overrides(stream_filter: StreamFilter, method: str) -> bool:
    return getattr(type(stream_filter), method) is not getattr(StreamFilter, method)


def _settings(stream_filter: StreamFilter) -> tuple[str, float, tuple[str, ...]]:
    """`on_error`, `timeout` and `protocols` of a filter. Raises FilterClassError for invalid values."""
    values: dict[str, object] = {name: getattr(stream_filter, name) for name in ("on_error", "timeout", "protocols")}
    policy = values["on_error"]
    if policy not in (FAIL, SKIP):
        raise FilterClassError(f"on_error must be {FAIL!r} or {SKIP!r}, not {shown(policy)}")
    timeout = timeout_of(values["timeout"])
    names = values["protocols"]
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise FilterClassError(f'protocols must be a tuple of names, such as ("Http1",), not {shown(names)}')
    return SKIP if policy == SKIP else FAIL, timeout, tuple([plain_text(name) for name in names])


def _check_methods(stream_filter: StreamFilter) -> None:
    """Raises FilterClassError for a phase with an invalid signature, and for a method with a name close to a phase's."""
    for method in (*_WAITING, *_PLAIN, _REOPEN):
        if method != _REOPEN and not _overrides(stream_filter, method):
            continue  # is never called
        called = getattr(stream_filter, method)
        if yields(called):
            raise FilterClassError(f"{method} must not yield; a Reply may have a generator as its body")
        arguments: tuple[str, ...] = ("exchange", "data", "last") if method.endswith("_body") else ("exchange",)
        if method == _REOPEN:
            arguments = ()
        check_signature(method, called, arguments)
    check_names(stream_filter, StreamFilter, (*_WAITING, *_PLAIN, _REOPEN), "phase")
