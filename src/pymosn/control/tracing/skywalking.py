"""MOSN's driver `SkyWalking`: segments of traces, here in the process log; `skywalking_grpc.py` sends them.

The messages are those of SkyWalking's protocol 3 (Tracing.proto, Management.proto): a segment has an entry span for the
request and an exit span for each attempt.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pymosn.api.tracing import CLIENT, SERVER, SpanRecord, TraceRecord
from pymosn.control.tracing.exporter import (
    Exporter,
    has_failed,
    mosn_tags,
    number_of,
    operation_of,
    peer_of,
    status_of,
    target_of,
    text_of,
)
from pymosn.core import proto_wire
from pymosn.core.log import INFO, Log

#: The component `MOSN` in SkyWalking's list.
COMPONENT: Final = 5003
#: `spanType` and `spanLayer`.
_ENTRY, _EXIT, _LOCAL = range(3)
_UNKNOWN_LAYER: Final = 0
_RPC_LAYER: Final = 2
_HTTP_LAYER: Final = 3
_ERROR_LOG: Final = "Errors on upstream service"


class Instance:
    """The names under which this process reports: of the service, and of its instance."""

    def __init__(self, service: str, instance: str) -> None:
        self.service = service
        self.name = instance


class LogExporter(Exporter):
    """Writes each segment to the process log, as JSON."""

    interval = 0.0

    def __init__(self, instance: Instance, log: Log) -> None:
        self._instance = instance
        self._log = log

    async def send(self, batch: Sequence[TraceRecord]) -> int:
        for trace in batch:
            content = msgspec.json.encode(segment(trace, self._instance)).decode()
            self._log.write(INFO, f"SkyWalking segment {segment_id(trace)}: {content}")
        return 0


def segment_id(trace: TraceRecord) -> str:
    """The id of a trace's segment: the one in the header that the host has received, or one that is unique as well."""
    known = trace.reference.get("sw8.segment")
    return known or f"{trace.trace_id}.{trace.spans[0].span_id if trace.spans else ''}"


def segment(trace: TraceRecord, instance: Instance) -> dict[str, Any]:
    """A segment with the keys of SkyWalking's messages; values that are their defaults are there, too."""
    numbers = {span.span_id: number_of(span, "pymosn.call_number") or at for at, span in enumerate(trace.spans)}
    return {
        "traceId": trace.reference.get("sw8.trace_id") or trace.trace_id,
        "traceSegmentId": segment_id(trace),
        "spans": [_span(trace, span, numbers) for span in trace.spans],
        "service": instance.service,
        "serviceInstance": instance.name,
    }


def _span(trace: TraceRecord, span: SpanRecord, numbers: dict[str, int]) -> dict[str, Any]:
    number = numbers[span.span_id]
    is_http = bool(text_of(trace.spans[0], "http.request.method"))
    is_remote = span.kind in (SERVER, CLIENT)
    started = int(span.started * 1000.0)
    found: dict[str, Any] = {
        "spanId": number,
        # The entry span has none; everything of unknown parents belongs to it.
        "parentSpanId": numbers.get(span.parent_id, 0) if number else -1,
        "startTime": started,
        "endTime": max(started, int((span.started + span.duration) * 1000.0)),
        "refs": _references(trace) if number == 0 else [],
        "operationName": _operation(trace, span),
        "peer": peer_of(span) if span.kind == CLIENT else "",
        "spanType": {SERVER: _ENTRY, CLIENT: _EXIT}.get(span.kind, _LOCAL),
        "spanLayer": (_HTTP_LAYER if is_http else _RPC_LAYER) if is_remote else _UNKNOWN_LAYER,
        "componentId": COMPONENT,
        "isError": bool(span.failure) or status_of(span) >= 400,
        "tags": [{"key": key, "value": value} for key, value in _tags(trace, span).items()],
        "logs": [],
    }
    if found["isError"] and is_remote:
        data = {"event": "error", "error.kind": span.failure or str(status_of(span)), "message": _ERROR_LOG}
        log = [{"key": key, "value": value} for key, value in data.items()]
        found["logs"] = [{"time": found["endTime"], "data": log}]
    return found


def _operation(trace: TraceRecord, span: SpanRecord) -> str:
    """As in MOSN, exit spans have the name of the entry span: the target of the request."""
    if span.kind not in (SERVER, CLIENT):
        return span.name
    entry = trace.spans[0]
    return target_of(entry) or operation_of(entry)


def _tags(trace: TraceRecord, span: SpanRecord) -> dict[str, str]:
    found: dict[str, str] = {}
    if span.kind == SERVER and text_of(span, "http.request.method"):
        found["http.method"] = text_of(span, "http.request.method")
        found["url"] = text_of(span, "server.address") + target_of(span)
    if status_of(span):
        found["status_code"] = str(status_of(span))
    for key, value in {**mosn_tags(trace, span), **span.attributes}.items():
        found[key] = str(value).lower() if isinstance(value, bool) else str(value)
    if has_failed(span) and span.failure:
        found["error.type"] = span.failure
    return found


def _references(trace: TraceRecord) -> list[dict[str, Any]]:
    """The span of the client, if it has sent one."""
    known = trace.reference
    parent = known.get("sw8.parent_segment")
    if not parent:
        return []
    number = known.get("sw8.parent_span", "0")
    return [
        {
            "refType": 0,
            "traceId": known.get("sw8.trace_id") or trace.trace_id,
            "parentTraceSegmentId": parent,
            "parentSpanId": int(number) if number.isascii() and number.isdecimal() else 0,
            "parentService": known.get("sw8.parent_service", ""),
            "parentServiceInstance": known.get("sw8.parent_instance", ""),
            "parentEndpoint": known.get("sw8.parent_endpoint", ""),
            "networkAddressUsedAtPeer": known.get("sw8.address", ""),
        }
    ]


#: The fields of messages: number and kind by key. A dict is the message of a field, or of each of its items.
_PAIR: Final = {"key": 1, "value": 2}
_LOG: Final[dict[str, Any]] = {"time": 1, "data": (2, _PAIR)}
_REFERENCE: Final = {
    "refType": 1,
    "traceId": 2,
    "parentTraceSegmentId": 3,
    "parentSpanId": 4,
    "parentService": 5,
    "parentServiceInstance": 6,
    "parentEndpoint": 7,
    "networkAddressUsedAtPeer": 8,
}
_SPAN: Final[dict[str, Any]] = {
    "spanId": 1,
    "parentSpanId": 2,
    "startTime": 3,
    "endTime": 4,
    "refs": (5, _REFERENCE),
    "operationName": 6,
    "peer": 7,
    "spanType": 8,
    "spanLayer": 9,
    "componentId": 10,
    "isError": 11,
    "tags": (12, _PAIR),
    "logs": (13, _LOG),
}
_SEGMENT: Final[dict[str, Any]] = {
    "traceId": 1,
    "traceSegmentId": 2,
    "spans": (3, _SPAN),
    "service": 4,
    "serviceInstance": 5,
}


def encode_segment(content: dict[str, Any]) -> bytes:
    """A segment as `SegmentObject`."""
    return _encode(content, _SEGMENT)


def _encode(content: dict[str, Any], fields: dict[str, Any]) -> bytes:
    found: list[bytes] = []
    for key, field in fields.items():
        value = content[key]
        if isinstance(field, tuple):
            found += [proto_wire.message(field[0], _encode(item, field[1])) for item in value]
        elif isinstance(value, str):
            found.append(proto_wire.text(field, value))
        else:
            found.append(proto_wire.integer(field, int(value)))
    return b"".join(found)


def instance_properties(instance: Instance) -> bytes:
    """What the backend shows of this instance, as `InstanceProperties`."""
    properties = {
        "Process No.": str(os.getpid()),
        "hostname": socket.gethostname(),
        "language": "python",
        "OS Name": platform.system().lower(),
        "Start Time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    pairs = [proto_wire.text(1, key) + proto_wire.text(2, value) for key, value in properties.items()]
    head = proto_wire.text(1, instance.service) + proto_wire.text(2, instance.name)
    return head + b"".join(proto_wire.message(3, pair) for pair in pairs)
