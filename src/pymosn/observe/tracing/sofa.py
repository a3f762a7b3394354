"""SOFATracer: an id of the trace, and an RpcId (`0.1.2`) that numbers the calls below each other.

The fields are `SOFA-TraceId` and `SOFA-RpcId` in HTTP, and those that SOFARPC makes of its context in RPC. In MOSN's form
the id of a trace has the address of a machine, the time, a counter and a process id, which are at most 32 digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from mypy_extensions import i64

from pymosn.core.headers import Headers
from pymosn.observe.tracing.context import TraceContext, TraceFormat, is_id, replace

_LONGEST: Final[i64] = 128
_HTTP_TRACE: Final = b"sofa-traceid"
_HTTP_RPC: Final = b"sofa-rpcid"
#: Names are compared without case, and are sent as SOFARPC reads them.
_RPC_TRACE: Final = b"rpc_trace_context.sofaTraceId"
_RPC_RPC: Final = b"rpc_trace_context.sofaRpcId"
_RPC_TRACE_KEY: Final = _RPC_TRACE.lower()
_RPC_RPC_KEY: Final = _RPC_RPC.lower()
#: Other fields that the digest log has: the called service and method, the calling application, and the baggage.
SERVICE: Final = b"service"
METHOD: Final = b"sofa_head_method_name"
CALLER: Final = b"rpc_trace_context.sofacallerapp"
BAGGAGE: Final = b"rpc_trace_context.sofapenattrs"


class Sofa(TraceFormat):
    """Has no decision about sampling. The server span has the RpcId of the caller, and attempts are numbered below it."""

    def __init__(self, name: str, new_id: Callable[[], str]) -> None:
        """`new_id`: a new id of a trace in MOSN's form."""
        super().__init__(name)
        self._new_id = new_id

    def read(self, headers: Headers, is_rpc: bool, context: TraceContext) -> bool:
        trace_id = headers.only_raw(_RPC_TRACE_KEY if is_rpc else _HTTP_TRACE)
        if trace_id is None or not is_own_id(trace_id):
            return False
        rpc_id = headers.only_raw(_RPC_RPC_KEY if is_rpc else _HTTP_RPC)
        context.trace_id = digits_of(trace_id)
        context.own_id = trace_id
        context.rpc_id = b"0" if rpc_id is None or not is_rpc_id(rpc_id) else rpc_id
        return True

    def begin(self, context: TraceContext) -> None:
        """A new trace, whose ids are SOFATracer's."""
        own_id = self._new_id().encode()
        context.trace_id = digits_of(own_id)
        context.own_id = own_id

    def write(self, headers: Headers, is_rpc: bool, context: TraceContext, span_id: bytes, number: i64) -> None:
        trace_id = context.own_id or context.trace_id
        rpc_id = child_rpc_id(context.rpc_id, number)
        if is_rpc:
            headers.remove_raw(_RPC_TRACE_KEY)
            headers.remove_raw(_RPC_RPC_KEY)
            headers.add_raw(_RPC_TRACE, trace_id)
            headers.add_raw(_RPC_RPC, rpc_id)
        else:
            replace(headers, _HTTP_TRACE, trace_id)
            replace(headers, _HTTP_RPC, rpc_id)


def child_rpc_id(parent: bytes, number: i64) -> bytes:
    """The RpcId of the client span `number` below `parent`, which is empty for the first span of a trace."""
    return (parent or b"0") + b".%d" % int(number)


def digits_of(own_id: bytes) -> bytes:
    """An id of 32 digits for one in another form: itself with zeros before it if it has such digits, else a digest."""
    size: i64 = len(own_id)
    if size <= 32 and is_id(own_id, 0, size):
        return own_id.rjust(32, b"0")
    return hashlib.blake2b(own_id, digest_size=16).hexdigest().encode()


def is_own_id(value: bytes) -> bool:
    """Whether a value may be the id of a trace: letters, digits, `-`, `_` and `.`."""
    size: i64 = len(value)
    if not 1 <= size <= _LONGEST:
        return False
    i: i64 = 0
    while i < size:
        byte: i64 = value[i]
        if not (48 <= byte <= 57 or 97 <= byte <= 122 or 65 <= byte <= 90 or 45 <= byte <= 46 or byte == 95):
            return False
        i += 1
    return True


def is_rpc_id(value: bytes) -> bool:
    """Whether a value is an RpcId: numbers with dots between them."""
    size: i64 = len(value)
    if not 1 <= size <= _LONGEST - 8:  # it gets longer with each hop
        return False
    i: i64 = 0
    was_dot = True
    while i < size:
        byte: i64 = value[i]
        if byte == 46:
            if was_dot:
                return False
            was_dot = True
        elif 48 <= byte <= 57:
            was_dot = False
        else:
            return False
        i += 1
    return not was_dot
