"""MOSN's driver `otel`: OpenTelemetry's SDK, to the standard output or by OTLP. Needs the extra `otel`.

The SDK's exporters block, so they run in a thread. One that does not come back is not called a second time.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from pymosn.api.tracing import CLIENT, SERVER, SpanRecord, TraceRecord
from pymosn.config.schema.observability import OpenTelemetry
from pymosn.control.threads import off_loop
from pymosn.control.tracing.exporter import Exporter, ExportError, has_failed, status_of, target_of
from pymosn.core.errors import reason
from pymosn.core.log import ERROR, Log
from pymosn.observe.destination import LineFile
from pymosn.version import VERSION

#: The service's name where neither the configuration nor COMP_NAME has one.
DEFAULT_SERVICE: Final = "default_sidecar"
#: Seconds that the SDK tries to send a batch.
SEND_TIME: Final = 8
_KINDS: Final = {SERVER: SpanKind.SERVER, CLIENT: SpanKind.CLIENT}
_SCOPE: Final = InstrumentationScope("pymosn", VERSION)
_LOGGER: Final = "opentelemetry"


def service_of(settings: OpenTelemetry, environment: Mapping[str, str]) -> str:
    """The name of the service: that of the configuration, or COMP_NAME with `_sidecar`."""
    name = environment.get("COMP_NAME")
    return settings.service_name or (f"{name}_sidecar" if name else DEFAULT_SERVICE)


class _LastMessage(logging.Handler):
    """Keeps the last message of the SDK, which gives the reason of a failed export in no other way."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()[:300]


class OtelExporter(Exporter):
    """Gives batches to an exporter of the SDK."""

    batch_spans = 512
    interval = 1.0

    def __init__(self, settings: OpenTelemetry, log: Log, environment: Mapping[str, str] = os.environ) -> None:
        """Imports the exporter, so it may block."""
        attributes = {key: value for key, value in settings.config_map.items() if isinstance(value, str)}
        name = service_of(settings, environment)
        self._resource = Resource.create({"service.name": name, **attributes})
        self._messages = _LastMessage()
        logger = logging.getLogger(_LOGGER)
        logger.handlers = [self._messages]
        logger.propagate = False
        self._log = log
        # Filled in a thread, and logged by `send`.
        self._reports: list[str] = []
        self._exporter = _exporter(settings, self._reports)
        self._is_busy = False

    async def send(self, batch: Sequence[TraceRecord]) -> int:
        if self._is_busy:
            raise ExportError("the collector has not answered the last batch yet")
        self._is_busy = True
        self._messages.text = ""
        spans = [readable(trace, span, self._resource) for trace in batch for span in trace.spans]
        try:
            accepted = await off_loop(self.timeout, self._export, spans)
        except TimeoutError:
            raise ExportError(f"no answer within {self.timeout:g} s") from None
        while self._reports:
            self._log.write(ERROR, self._reports.pop(0))
        if not accepted:
            raise ExportError(self._messages.text or "the collector has not accepted a batch")
        return 0

    async def close(self) -> None:
        if not self._is_busy:
            await off_loop(self.timeout, self._exporter.shutdown)

    def _export(self, spans: Sequence[ReadableSpan]) -> bool:
        """Runs in a thread."""
        try:
            return self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:
            # For example, the endpoint is invalid.
            self._messages.text = reason(error)
            return False
        finally:
            self._is_busy = False


def _exporter(settings: OpenTelemetry, reports: list[str]) -> SpanExporter:
    endpoint = settings.endpoint
    method = settings.report_method if endpoint else ""
    is_url = endpoint.startswith(("http://", "https://"))
    if method == "http":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        url = endpoint if is_url else f"http://{endpoint}/v1/traces"
        return HttpExporter(endpoint=url, timeout=SEND_TIME)
    if method == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=SEND_TIME)
    lines = LineFile("stdout", reports.append)
    return ConsoleSpanExporter(out=cast("IO[str]", _Output(lines)), formatter=lambda span: str(span.to_json(indent=None)))


class _Output(io.TextIOBase):
    """The standard output as the SDK uses it: writing never blocks for long."""

    def __init__(self, lines: LineFile) -> None:
        super().__init__()
        self._lines = lines

    def write(self, text: str) -> int:
        self._lines.write(text.rstrip("\n"))
        return len(text)

    def flush(self) -> None:
        self._lines.flush()


def readable(trace: TraceRecord, span: SpanRecord, resource: Resource) -> ReadableSpan:
    """One span as the SDK's exporters read it: times in nanoseconds."""
    attributes: dict[str, Any] = dict(span.attributes)
    if span.kind == SERVER and "http.request.method" in attributes:
        # MOSN's names, in addition to those of the present conventions.
        attributes["http.method"] = attributes["http.request.method"]
        attributes["http.url"] = target_of(span)
    started = round(span.started * 1e9)
    status = Status(StatusCode.ERROR, span.failure or str(status_of(span))) if has_failed(span) else Status()
    return ReadableSpan(
        name=span.name,
        context=_context(trace, span.span_id),
        parent=_context(trace, span.parent_id, is_remote=span.kind == SERVER) if span.parent_id else None,
        resource=resource,
        attributes=attributes,
        kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
        status=status,
        start_time=started,
        end_time=started + round(span.duration * 1e9),
        instrumentation_scope=_SCOPE,
    )


def _context(trace: TraceRecord, span_id: str, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(
        int(trace.trace_id, 16),
        int(span_id, 16),
        is_remote,
        TraceFlags(TraceFlags.SAMPLED),
        TraceState.from_header([trace.state]) if trace.state else TraceState(),
    )
