"""What one exchange knows of its trace: the received context, or a new one. Formats read and write it."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.record import ExchangeTrace
from pymosn.core.headers import Headers

#: Decisions about sampling.
UNDECIDED: Final[i64] = -1
NOT_SAMPLED: Final[i64] = 0
SAMPLED: Final[i64] = 1

#: Characters of an id in hexadecimal digits.
TRACE_ID: Final[i64] = 32
SPAN_ID: Final[i64] = 16


class TraceContext(ExchangeTrace):
    """The context of one trace. All ids are lower-case hexadecimal digits."""

    def __init__(self) -> None:
        #: 32 digits; empty before it is known.
        self.trace_id: bytes = b""
        #: 16 digits of the caller's span; empty for the first span of a trace, and if the format has no such id.
        self.parent_id: bytes = b""
        #: The server span of this exchange, 16 digits.
        self.span_id: bytes = b""
        #: The id of the trace as its format writes it, if it is not the 32 digits.
        self.own_id: bytes = b""
        #: The caller's RpcId of SOFATracer; empty without.
        self.rpc_id: bytes = b""
        #: The value of `tracestate`; empty without.
        self.state: bytes = b""
        #: Whether the context is that of `traceparent`, so that `tracestate` belongs to it.
        self.is_w3c = False
        #: What a format has read that no other format has, by `FORMAT.name`.
        self.facts: dict[str, str] | None = None
        #: The name of the server span and the address of the host, for formats that send them.
        self.endpoint: str = ""
        self.peer: str = ""
        #: The decision of the caller, and the one that counts.
        self.received: i64 = UNDECIDED
        self.sampled: i64 = UNDECIDED
        #: Whether the caller demands that the trace is recorded, whatever others decide.
        self.is_debug = False


@mypyc_attr(allow_interpreted_subclasses=True)
class TraceFormat:
    """One format of contexts in header fields or attachments. `name`: in `tracing.propagation`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, headers: Headers, is_rpc: bool, context: TraceContext) -> bool:
        """Reads the context, if it is there and valid; else False, and `context` is unchanged.

        `is_rpc`: the headers are those of an RPC request, whose names may differ. Raises UnreadableHeaders.
        """
        raise NotImplementedError

    def write(self, headers: Headers, is_rpc: bool, context: TraceContext, span_id: bytes, number: i64) -> None:
        """Writes the context, and removes what was received. `span_id`: of the client span, whose request this is.

        `number`: of the client span in this exchange, from 1. Raises UnreadableHeaders.
        """
        raise NotImplementedError


def is_hex(value: bytes, start: i64, end: i64) -> bool:
    """Whether `value[start:end]` are lower-case hexadecimal digits; no check of the bounds."""
    i: i64 = start
    while i < end:
        byte: i64 = value[i]
        if not (48 <= byte <= 57 or 97 <= byte <= 102):
            return False
        i += 1
    return True


def is_zero(value: bytes, start: i64, end: i64) -> bool:
    """Whether `value[start:end]` are zeros, which no id may be."""
    i: i64 = start
    while i < end:
        if value[i] != 48:
            return False
        i += 1
    return True


def is_id(value: bytes, start: i64, end: i64) -> bool:
    """Whether `value[start:end]` is an id: hexadecimal digits that are not all zero."""
    return is_hex(value, start, end) and not is_zero(value, start, end)


def shortest(trace_id: bytes) -> bytes:
    """An id of 64 bits in 16 digits, as it was received; others unchanged."""
    return trace_id[16:] if len(trace_id) == TRACE_ID and is_zero(trace_id, 0, 16) else trace_id


def replace(headers: Headers, name: bytes, value: bytes) -> None:
    """Makes `value` the only value of `name` (lower case)."""
    headers.remove_raw(name)
    headers.add_raw(name, value)
