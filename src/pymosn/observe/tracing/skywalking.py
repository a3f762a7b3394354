"""SkyWalking's `sw8`, version 3; https://skywalking.apache.org/docs/main/next/en/api/x-process-propagation-headers-v3/.

A segment is the part of a trace in one process: here the spans of one exchange. The server span is number 0 of it, and the
client span of the attempt N is number N. The fields `sw8-correlation` and `sw8-x` are forwarded unchanged.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from binascii import b2a_base64
from typing import Final

from mypy_extensions import i64

from pymosn.core.headers import Headers
from pymosn.observe.tracing.context import NOT_SAMPLED, SAMPLED, TraceContext, TraceFormat, replace
from pymosn.observe.tracing.sofa import digits_of, is_own_id

_LONGEST: Final[i64] = 4096
_LONGEST_TEXT: Final[i64] = 1024
#: Encoded addresses that are remembered.
_MEMORY: Final[i64] = 256


class SkyWalking(TraceFormat):
    """Eight parts with dashes between them; texts are encoded in Base64."""

    def __init__(self, name: str, service: str, instance: str) -> None:
        """`service`, `instance`: what SkyWalking calls this proxy and this process."""
        super().__init__(name)
        self._service = _base64(service.encode())
        self._instance = _base64(instance.encode())
        self._encoded: dict[str, bytes] = {}

    def read(self, headers: Headers, is_rpc: bool, context: TraceContext) -> bool:
        value = headers.only_raw(b"sw8")
        if value is None or len(value) > _LONGEST:
            return False
        parts = value.split(b"-")
        if len(parts) != 8 or parts[0] not in (b"0", b"1") or not parts[3].isdigit() or len(parts[3]) > 9:
            return False
        trace_id, segment = _decoded(parts[1]), _decoded(parts[2])
        if trace_id is None or segment is None or not is_own_id(trace_id) or not is_own_id(segment):
            return False
        facts = {"sw8.parent_segment": segment.decode(), "sw8.parent_span": str(int(parts[3]))}
        for at, name in enumerate(("parent_service", "parent_instance", "parent_endpoint", "address")):
            text = _decoded(parts[4 + at])
            if text is None:
                return False
            facts[f"sw8.{name}"] = text.decode("utf-8", "replace")[:_LONGEST_TEXT]
        context.trace_id = digits_of(trace_id)
        context.own_id = trace_id
        context.facts = facts
        context.received = SAMPLED if parts[0] == b"1" else NOT_SAMPLED
        return True

    def write(self, headers: Headers, is_rpc: bool, context: TraceContext, span_id: bytes, number: i64) -> None:
        parts = (
            b"1" if context.sampled == SAMPLED else b"0",
            _base64(context.own_id or context.trace_id),
            _base64(segment_of(context)),
            b"%d" % int(number),
            self._service,
            self._instance,
            self._remembered(context.endpoint or "/"),
            self._remembered(context.peer),
        )
        replace(headers, b"sw8", b"-".join(parts))

    def _remembered(self, text: str) -> bytes:
        found = self._encoded.get(text)
        if found is None:
            found = _base64(text.encode("utf-8", "replace")[:_LONGEST_TEXT])
            if len(self._encoded) < _MEMORY:
                self._encoded[text] = found
        return found


def segment_of(context: TraceContext) -> bytes:
    """The id of the exchange's segment, unique because its server span's is random."""
    return context.trace_id + b"." + context.span_id


def _base64(text: bytes) -> bytes:
    return b2a_base64(text, newline=False)


def _decoded(part: bytes) -> bytes | None:
    """The text of a part; None for an invalid one."""
    try:
        return b64decode(part, validate=True)
    except (Base64Error, ValueError):
        return None
