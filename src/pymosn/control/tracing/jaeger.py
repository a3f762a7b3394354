"""MOSN's driver `jaeger`: spans to Jaeger's agent, as `emitBatch` in Thrift's compact protocol over UDP.

The agent does not acknowledge anything. A packet that it has no room for is lost without notice; only an address where
nothing listens on the same machine is noticed, with the next packet.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from pymosn.api.tracing import CLIENT, SERVER, AttributeValue, SpanRecord, TraceRecord
from pymosn.config.schema.observability import Jaeger
from pymosn.control.tracing import thrift
from pymosn.control.tracing.exporter import (
    Exporter,
    ExportError,
    as_text,
    has_failed,
    mosn_tags,
    operation_of,
    status_of,
    target_of,
    text_of,
)
from pymosn.control.tracing.thrift import BINARY, DOUBLE, FALSE, I32, I64, LIST, STRUCT, TRUE
from pymosn.core.addresses import split_address
from pymosn.core.errors import reason
from pymosn.version import VERSION

#: The address of the agent where neither the configuration nor TRACE has one, and the service likewise with APP_ID.
DEFAULT_AGENT: Final = "0.0.0.0:6831"
DEFAULT_SERVICE: Final = "default_sidecar"
#: Most bytes of a packet, as of Jaeger's own clients.
PACKET: Final = 65_000
#: What a packet has besides its process and its spans, at most.
_FRAME: Final = 64
#: `vType` of a tag.
_STRING, _DOUBLE, _BOOL, _LONG = range(4)
#: `flags` of a sampled span; `refType` of a parent.
_SAMPLED: Final = 1
_CHILD_OF: Final = 0
_KINDS: Final = {SERVER: "server", CLIENT: "client"}


def agent_of(settings: Jaeger, environment: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of the agent. Raises ValueError. 0.0.0.0 means this machine."""
    host, port = split_address(settings.agent_host or environment.get("TRACE") or DEFAULT_AGENT)
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host), port


def service_of(settings: Jaeger, environment: Mapping[str, str]) -> str:
    """The name of the service: that of the configuration, or APP_ID with `_sidecar`."""
    app = environment.get("APP_ID")
    return settings.service_name or (f"{app}_sidecar" if app else DEFAULT_SERVICE)


class JaegerExporter(Exporter):
    """Sends packets of spans to the agent."""

    def __init__(self, settings: Jaeger, environment: Mapping[str, str] = os.environ) -> None:
        """Raises ValueError for an invalid address."""
        self._host, self._port = agent_of(settings, environment)
        tags = {"jaeger.version": f"pymosn-{VERSION}", "hostname": socket.gethostname()}
        self._process = thrift.struct_of(
            [(1, BINARY, thrift.text(service_of(settings, environment))), (2, LIST, _tags(tags))]
        )
        self._room = PACKET - len(self._process) - _FRAME
        self._sequence = 0
        self._socket: socket.socket | None = None

    async def send(self, batch: Sequence[TraceRecord]) -> int:
        spans = [thrift_span(trace, span) for trace in batch for span in trace.spans]
        too_large = [span for span in spans if len(span) > self._room]
        try:
            sock = self._socket = self._socket or await self._connected()
            for packet in self._packets([span for span in spans if len(span) <= self._room]):
                await asyncio.get_running_loop().sock_sendall(sock, packet)
        except OSError as error:
            # The name may have another address by now.
            await self.close()
            raise ExportError(f"the agent at {self._host}:{self._port} cannot be reached: {reason(error)}") from None
        return len(too_large)

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _connected(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _packets(self, spans: Sequence[bytes]) -> list[bytes]:
        packets: list[bytes] = []
        chosen: list[bytes] = []
        size = 0
        for span in spans:
            if size + len(span) > self._room:
                packets.append(self._packet(chosen))
                chosen, size = [], 0
            chosen.append(span)
            size += len(span)
        if chosen:
            packets.append(self._packet(chosen))
        return packets

    def _packet(self, spans: Sequence[bytes]) -> bytes:
        self._sequence = self._sequence + 1 & 0x7FFFFFFF
        batch = thrift.struct_of([(1, STRUCT, self._process), (2, LIST, thrift.list_of(STRUCT, spans))])
        return thrift.oneway("emitBatch", self._sequence, thrift.struct_of([(1, STRUCT, batch)]))


def thrift_span(trace: TraceRecord, span: SpanRecord) -> bytes:
    """One span in Jaeger's form: ids as signed numbers, times in microseconds."""
    low, high = thrift.signed(trace.trace_id[-16:]), thrift.signed(trace.trace_id[:-16])
    fields: list[thrift.Field] = [
        (1, I64, thrift.integer(low)),
        (2, I64, thrift.integer(high)),
        (3, I64, thrift.integer(thrift.signed(span.span_id))),
        (4, I64, thrift.integer(thrift.signed(span.parent_id))),
        (5, BINARY, thrift.text(operation_of(span) if span.kind == SERVER else span.name)),
    ]
    if span.parent_id:
        parent: list[thrift.Field] = [
            (1, I32, thrift.integer(_CHILD_OF)),
            (2, I64, thrift.integer(low)),
            (3, I64, thrift.integer(high)),
            (4, I64, thrift.integer(thrift.signed(span.parent_id))),
        ]
        fields.append((6, LIST, thrift.list_of(STRUCT, [thrift.struct_of(parent)])))
    fields += [
        (7, I32, thrift.integer(_SAMPLED)),
        (8, I64, thrift.integer(round(span.started * 1e6))),
        (9, I64, thrift.integer(round(span.duration * 1e6))),
        (10, LIST, _tags(_all_tags(trace, span))),
    ]
    return thrift.struct_of(fields)


def _all_tags(trace: TraceRecord, span: SpanRecord) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {**mosn_tags(trace, span), **span.attributes}
    if span.kind in _KINDS:
        found["span.kind"] = _KINDS[span.kind]
    if span.kind == SERVER:
        found["http.method"] = text_of(span, "http.request.method")
        found["http.url"] = target_of(span)
        found["http.status_code"] = status_of(span)
    if has_failed(span):
        found["error"] = True
        found["error.message"] = span.failure or str(status_of(span))
    return found


def _tags(tags: Mapping[str, AttributeValue]) -> bytes:
    return thrift.list_of(STRUCT, [_tag(key, value) for key, value in tags.items()])


def _tag(key: str, value: AttributeValue) -> bytes:
    name: thrift.Field = (1, BINARY, thrift.text(key))
    if isinstance(value, bool):
        return thrift.struct_of([name, (2, I32, thrift.integer(_BOOL)), (5, TRUE if value else FALSE, b"")])
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return thrift.struct_of([name, (2, I32, thrift.integer(_LONG)), (6, I64, thrift.integer(value))])
    if isinstance(value, float):
        return thrift.struct_of([name, (2, I32, thrift.integer(_DOUBLE)), (4, DOUBLE, thrift.double(value))])
    return thrift.struct_of([name, (2, I32, thrift.integer(_STRING)), (3, BINARY, thrift.text(as_text(value)))])
