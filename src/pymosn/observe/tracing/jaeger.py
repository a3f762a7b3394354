"""Jaeger's `uber-trace-id`; https://www.jaegertracing.io/docs/1.22/client-libraries/#propagation-format."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.headers import Headers
from pymosn.observe.tracing.context import (
    NOT_SAMPLED,
    SAMPLED,
    TraceContext,
    TraceFormat,
    is_hex,
    is_id,
    replace,
    shortest,
)

#: The longest value: ids of the trace, the span and its parent, and flags; with encoded colons.
_LONGEST: Final[i64] = 32 + 16 + 16 + 2 + 9
_NAME: Final = b"uber-trace-id"


class Jaeger(TraceFormat):
    """`TRACE:SPAN:PARENT:FLAGS`, where zeros at the beginning of ids may be absent, and colons may be percent-encoded."""

    def read(self, headers: Headers, is_rpc: bool, context: TraceContext) -> bool:
        value = headers.only_raw(_NAME)
        if value is None or len(value) > _LONGEST:
            return False
        value = value.lower()
        if b"%" in value:
            value = value.replace(b"%3a", b":")
        parts = value.split(b":")
        if len(parts) != 4:
            return False
        trace_id, span_id, parent_id, flags = parts
        if not _is_short_id(trace_id, 32) or not _is_short_id(span_id, 16):
            return False
        # The parent is not used any more: 0, or empty in some clients.
        if len(parent_id) > 16 or not is_hex(parent_id, 0, len(parent_id)):
            return False
        if not 1 <= len(flags) <= 2 or not is_hex(flags, 0, len(flags)):
            return False
        bits = int(flags, 16)
        context.trace_id = trace_id.rjust(32, b"0")
        context.parent_id = span_id.rjust(16, b"0")
        context.is_debug = bits & 3 == 3
        context.received = SAMPLED if bits & 1 else NOT_SAMPLED
        return True

    def write(self, headers: Headers, is_rpc: bool, context: TraceContext, span_id: bytes, number: i64) -> None:
        flags = b":0:3" if context.is_debug else b":0:1" if context.sampled == SAMPLED else b":0:0"
        replace(headers, _NAME, shortest(context.trace_id) + b":" + span_id + flags)


def _is_short_id(value: bytes, longest: i64) -> bool:
    size: i64 = len(value)
    return 1 <= size <= longest and is_id(value, 0, size)
