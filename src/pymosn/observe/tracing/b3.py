"""B3 of Zipkin in one field (`b3`) and in several (`X-B3-*`); https://github.com/openzipkin/b3-propagation."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.headers import Headers
from pymosn.observe.tracing.context import (
    NOT_SAMPLED,
    SAMPLED,
    UNDECIDED,
    TraceContext,
    TraceFormat,
    is_id,
    replace,
    shortest,
)

#: The longest value of `b3`: two ids, the state and the id of the parent.
_LONGEST: Final[i64] = 32 + 1 + 16 + 1 + 1 + 1 + 16
_NO_STATE: Final[i64] = -2


class B3Single(TraceFormat):
    """`b3: TRACE-SPAN-STATE-PARENT`, of which state and parent may be absent; or a state alone."""

    def read(self, headers: Headers, is_rpc: bool, context: TraceContext) -> bool:
        value = headers.only_raw(b"b3")
        if value is None or len(value) > _LONGEST:
            return False
        if len(value) == 1:
            state = _state(value)
            if state != _NO_STATE:
                context.received = state
                context.is_debug = value == b"d"
            return state != _NO_STATE
        parts = value.split(b"-")
        if not 2 <= len(parts) <= 4 or not are_ids(parts[0], parts[1]):
            return False
        state = UNDECIDED if len(parts) == 2 else _state(parts[2])
        if state == _NO_STATE or (len(parts) == 4 and not _is_span(parts[3])):
            return False
        _accept(context, parts[0], parts[1], state, len(parts) > 2 and parts[2] == b"d")
        return True

    def write(self, headers: Headers, is_rpc: bool, context: TraceContext, span_id: bytes, number: i64) -> None:
        state = b"-d-" if context.is_debug else b"-1-" if context.sampled == SAMPLED else b"-0-"
        replace(headers, b"b3", shortest(context.trace_id) + b"-" + span_id + state + context.span_id)


class B3Multi(TraceFormat):
    """`X-B3-TraceId`, `X-B3-SpanId`, `X-B3-ParentSpanId`, and `X-B3-Sampled` or `X-B3-Flags: 1`; or a decision alone."""

    def read(self, headers: Headers, is_rpc: bool, context: TraceContext) -> bool:
        trace_id = headers.only_raw(b"x-b3-traceid")
        span_id = headers.only_raw(b"x-b3-spanid")
        sampled = headers.only_raw(b"x-b3-sampled")
        is_debug = headers.only_raw(b"x-b3-flags") == b"1"
        if trace_id is None and span_id is None and sampled is None and not is_debug:
            return False
        state = UNDECIDED
        if is_debug or sampled in (b"1", b"true"):
            state = SAMPLED
        elif sampled in (b"0", b"false"):
            state = NOT_SAMPLED
        elif sampled is not None:
            return False
        if trace_id is None and span_id is None:
            context.received = state
            context.is_debug = is_debug
            return True
        if trace_id is None or span_id is None or not are_ids(trace_id, span_id):
            return False
        _accept(context, trace_id, span_id, state, is_debug)
        return True

    def write(self, headers: Headers, is_rpc: bool, context: TraceContext, span_id: bytes, number: i64) -> None:
        replace(headers, b"x-b3-traceid", shortest(context.trace_id))
        replace(headers, b"x-b3-spanid", span_id)
        replace(headers, b"x-b3-parentspanid", context.span_id)
        headers.remove_raw(b"x-b3-sampled")
        headers.remove_raw(b"x-b3-flags")
        if context.is_debug:
            headers.add_raw(b"x-b3-flags", b"1")
        else:
            headers.add_raw(b"x-b3-sampled", b"1" if context.sampled == SAMPLED else b"0")


def are_ids(trace_id: bytes, span_id: bytes) -> bool:
    """Whether these are the ids of a trace, 16 or 32 digits, and of a span."""
    size: i64 = len(trace_id)
    return (size == 32 or size == 16) and is_id(trace_id, 0, size) and _is_span(span_id)


def _is_span(value: bytes) -> bool:
    return len(value) == 16 and is_id(value, 0, 16)


def _state(value: bytes) -> i64:
    if value == b"1" or value == b"d":
        return SAMPLED
    return NOT_SAMPLED if value == b"0" else _NO_STATE


def _accept(context: TraceContext, trace_id: bytes, span_id: bytes, state: i64, is_debug: bool) -> None:
    context.trace_id = trace_id if len(trace_id) == 32 else b"0000000000000000" + trace_id
    context.parent_id = span_id
    context.received = state
    context.is_debug = is_debug
