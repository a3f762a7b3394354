"""W3C Trace Context: `traceparent`; `tracestate` and `baggage` are forwarded unchanged."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.headers import Headers, to_bytes
from pymosn.observe.tracing.context import NOT_SAMPLED, SAMPLED, TraceContext, TraceFormat, is_hex, is_id, replace

#: The size of a value of version 00, and of what later versions begin with.
_SIZE: Final[i64] = 55
#: Longer values of later versions are not believed.
_LONGEST: Final[i64] = 512
_DASH: Final[i64] = 45
#: Bytes of `tracestate` that are recorded (section 3.3.1.5); all of it is forwarded.
_LONGEST_STATE: Final[i64] = 512


class W3c(TraceFormat):
    """https://www.w3.org/TR/trace-context/, level 1."""

    def read(self, headers: Headers, is_rpc: bool, context: TraceContext) -> bool:
        value = headers.only_raw(b"traceparent")
        if value is None or not is_traceparent(value):
            return False
        context.trace_id = value[3:35]
        context.parent_id = value[36:52]
        # The last bit of the last digit of the flags.
        context.received = SAMPLED if (value[54] if value[54] <= 57 else value[54] - 87) & 1 else NOT_SAMPLED
        context.is_w3c = True
        state = headers.get_raw(b"tracestate")
        if state is not None:
            several = headers.only_raw(b"tracestate") is None
            context.state = _shortened(b",".join(map(to_bytes, headers.get_all("tracestate"))) if several else state)
        return True

    def write(self, headers: Headers, is_rpc: bool, context: TraceContext, span_id: bytes, number: i64) -> None:
        if not context.is_w3c:
            headers.remove_raw(b"tracestate")  # of another trace
        flags = b"-01" if context.sampled == SAMPLED else b"-00"
        replace(headers, b"traceparent", b"00-" + context.trace_id + b"-" + span_id + flags)


def _shortened(state: bytes) -> bytes:
    """The entries at the beginning of a `tracestate` for which there is room."""
    if len(state) <= _LONGEST_STATE:
        return state
    end: i64 = state.rfind(b",", 0, _LONGEST_STATE + 1)
    return state[:end] if end > 0 else b""


def is_traceparent(value: bytes) -> bool:
    """Whether a value of `traceparent` is valid (section 3.2): version, trace id, parent id, flags.

    Of a later version than 00, what follows after a dash is allowed.
    """
    size: i64 = len(value)
    if size < _SIZE or value[2] != _DASH or value[35] != _DASH or value[52] != _DASH:
        return False
    if not is_hex(value, 0, 2) or value[0:2] == b"ff":
        return False
    if size > _SIZE and (value[0:2] == b"00" or value[55] != _DASH or size > _LONGEST):
        return False
    return is_id(value, 3, 35) and is_id(value, 36, 52) and is_hex(value, 53, 55)
