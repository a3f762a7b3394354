"""MOSN's driver `SOFATracer`: one line of JSON per request in `rpc-server-digest.log` or `rpc-client-digest.log`.

Keys, their order and the formats of values are MOSN's; `tests/golden/mosn/digests.yaml` has them. A listener of the type
`ingress` writes to the first file, `egress` to the second; the listeners of no type write nothing, as in MOSN.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from pymosn.api.tracing import CLIENT, SpanRecord, TraceRecord
from pymosn.config.schema.observability import SofaTracer
from pymosn.control.threads import off_loop
from pymosn.control.tracing.exporter import (
    Exporter,
    ExportError,
    Facts,
    client_address,
    endpoint,
    host_address,
    server_span,
    status_of,
    text_of,
)
from pymosn.control.tracing.files import digest_files
from pymosn.core import failure
from pymosn.core.durations import go_duration
from pymosn.core.log import ERROR, Log
from pymosn.observe.destination import LineFile

INGRESS: Final = "ingress"
EGRESS: Final = "egress"
#: The names of protocols in digests, where they are not ours.
_PROTOCOLS: Final = {"Http1": "HTTP", "Http2": "HTTP2"}
_HTTP: Final = ("Http1", "Http2")
#: `result.code` of a status; 02 for all others.
_CODES: Final = {200: "00", 504: "03", 404: "04", 502: "04"}
#: The durations of eight phases that MOSN measures; pymosn does not, so each is empty, as in MOSN without them.
_NO_DETAILS: Final = "[]" * 8
_STATUSES: Final = {row.reason: row.status for row in vars(failure).values() if isinstance(row, failure.Failure)}


class SofaExporter(Exporter):
    """Appends lines to the digest files, which are created at the start."""

    batch_spans = 1000
    interval = 0.0

    def __init__(self, settings: SofaTracer, facts: Facts, log: Log) -> None:
        """Opens the files, so it may block. Raises OSError."""
        self._facts = facts
        self._log = log
        # Filled in a thread, and logged by `send`.
        self._reports: list[str] = []
        server, client = digest_files(settings)
        self._files = {kind: LineFile(path, self._reports.append) for kind, path in ((INGRESS, server), (EGRESS, client))}
        self._is_renamed = False
        self._is_writing = False

    async def send(self, batch: Sequence[TraceRecord]) -> int:
        if self._is_writing:
            # A file system that hangs; a second thread would hang as well.
            raise ExportError("a digest file is still being written to")
        lines: dict[str, list[str]] = {INGRESS: [], EGRESS: []}
        for trace in batch:
            span = server_span(trace)
            kind = "" if span is None else self._facts.listener_types.get(text_of(span, "pymosn.listener"), "").lower()
            if span is not None and kind in lines:
                lines[kind].append(digest(trace, span, kind))
        self._is_writing = True
        await off_loop(self.timeout, self._write, lines)
        while self._reports:
            self._log.write(ERROR, self._reports.pop(0))
        return 0

    def reopen(self) -> None:
        self._is_renamed = True

    async def close(self) -> None:
        if not self._is_writing:
            await off_loop(self.timeout, self._close)

    def _write(self, lines: dict[str, list[str]]) -> None:
        """Runs in a thread."""
        try:
            if self._is_renamed:
                self._is_renamed = False
                for file in self._files.values():
                    file.reopen()
            for kind, texts in lines.items():
                file = self._files[kind]
                file.gather(_later)
                for text in texts:
                    file.write(text)
                file.flush()
        finally:
            self._is_writing = False

    def _close(self) -> None:
        for file in self._files.values():
            file.close()


def _later(call: Callable[[], None]) -> None:
    """Nothing is written at each line: `_write` flushes."""


def digest(trace: TraceRecord, span: SpanRecord, kind: str) -> str:
    """The line of one request. `kind`: INGRESS or EGRESS."""
    milliseconds = str(int(span.duration * 1000.0))
    values = {**_common(trace, span), "result.code": _CODES.get(_status(span), "02")}
    if kind == INGRESS:
        values |= {
            "span.kind": "server",
            "remote.ip": client_address(span),
            "remote.app": "" if _is_http(span) else trace.reference.get("sofa.caller_app", ""),
            # MOSN has nothing else.
            "local.app": "TODO",
            "server.duration": milliseconds,
        }
    else:
        host, port = endpoint(client_address(span))
        values |= {
            "span.kind": "client",
            "invoke.type": "sync",
            "router.record": "",
            "remote.ip": host_address(trace),
            "local.client.ip": host,
            **({"local.client.port": str(port)} if port else {}),
            "client.elapse.time": milliseconds,
        }
    # With escapes, other than MOSN: a header of a client must not be able to write keys or lines of its own.
    return msgspec.json.encode(values).decode()


def _common(trace: TraceRecord, span: SpanRecord) -> dict[str, str]:
    """What both kinds begin with."""
    known = trace.reference
    protocol = text_of(span, "pymosn.protocol")
    return {
        "timestamp": _moment(span.started + span.duration),
        "traceId": known.get("sofa.trace_id") or trace.trace_id,
        "spanId": known.get("sofa.rpc_id") or "0",
        "service": known.get("sofa.service") or _of_call(span, "rpc.service"),
        "method": known.get("sofa.method") or _of_call(span, "rpc.method"),
        "protocol": _PROTOCOLS.get(protocol, protocol),
        "resp.size": text_of(span, "http.response.body.size") or "0",
        "req.size": text_of(span, "http.request.body.size") or "0",
        "baggage": known.get("sofa.baggage", ""),
        "mosn.duration": go_duration(_processing_time(trace, span)),
        "mosn.duration.detail": _NO_DETAILS,
        "mosn.data.timestamp": _moments(trace, span),
    }


def _of_call(span: SpanRecord, key: str) -> str:
    """A fact of an RPC request of a protocol that MOSN writes no lines for."""
    return "" if text_of(span, "pymosn.protocol") in (*_HTTP, "bolt", "boltv2") else text_of(span, key)


def _is_http(span: SpanRecord) -> bool:
    return text_of(span, "pymosn.protocol") in _HTTP


def _status(span: SpanRecord) -> int:
    return status_of(span) or _STATUSES.get(span.failure, 200 if not span.failure else 0)


def _processing_time(trace: TraceRecord, span: SpanRecord) -> float:
    """Seconds that the proxy itself needed."""
    known = span.attributes.get("pymosn.process_time")
    if isinstance(known, (int, float)):
        return float(known)
    return max(0.0, span.duration - sum(each.duration for each in trace.spans if each.kind == CLIENT))


def _moments(trace: TraceRecord, span: SpanRecord) -> str:
    """When an RPC request and its response came. MOSN has neither for HTTP."""
    if _is_http(span):
        return "[,]"
    answered = [each for each in trace.spans if each.kind == CLIENT and not each.failure]
    response = _moment(answered[-1].started + answered[-1].duration) if answered else ""
    return f"[{_moment(span.started)},{response}]"


def _moment(seconds: float) -> str:
    """Local time with milliseconds, which are cut off as in Go."""
    whole, thousandths = divmod(int(seconds * 1000.0), 1000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(whole))}.{thousandths:03d}"
