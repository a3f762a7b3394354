"""MOSN's driver `Zipkin`: spans as JSON of Zipkin's version 2 (zipkin.io/zipkin-api), by POST."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import msgspec

from pymosn.api.tracing import CLIENT, SERVER, SpanRecord, TraceRecord
from pymosn.config.schema.observability import Zipkin, ZipkinHttp
from pymosn.control.tracing.exporter import (
    Exporter,
    ExportError,
    as_text,
    client_address,
    endpoint,
    has_failed,
    mosn_tags,
    operation_of,
    peer_of,
    status_of,
    text_of,
)
from pymosn.control.tracing.http_post import parse_url, post
from pymosn.core.errors import reason

#: What MOSN's reporter uses where the configuration has 0 or less.
TIMEOUT: Final = 5
BATCH_SIZE: Final = 100
BATCH_INTERVAL: Final = 1
#: Statuses of refused content, which a retry would not change; others, such as 429 and 503, may be tried again.
_LATER: Final = (408, 429)
_HEADERS: Final = {"content-type": "application/json", "accept": "*/*", "b3": "0"}
_KINDS: Final = {SERVER: "SERVER", CLIENT: "CLIENT"}


class ZipkinExporter(Exporter):
    """POSTs batches to the first of the collectors that accepts them, beginning with the one that accepted the last one."""

    def __init__(self, settings: Zipkin) -> None:
        """Raises ValueError for an invalid address."""
        http = settings.http or ZipkinHttp()
        # A larger batch would not fit into the queue.
        self.batch_spans = min(http.batch_size, self.queue_spans // 2) if http.batch_size > 0 else BATCH_SIZE
        self.interval = float(http.batch_interval if http.batch_interval > 0 else BATCH_INTERVAL)
        self._each = float(http.timeout if http.timeout > 0 else TIMEOUT)
        self.timeout = self._each * len(settings.addresses)
        self._targets = [parse_url(address) for address in settings.addresses]
        self._service = settings.service_name
        self._tls = ssl.create_default_context() if any(each.scheme == "https" for each in self._targets) else None

    async def send(self, batch: Sequence[TraceRecord]) -> int:
        body = msgspec.json.encode([zipkin_span(trace, span, self._service) for trace in batch for span in trace.spans])
        errors: list[str] = []
        for target in list(self._targets):
            try:
                status = await _within(self._each, post(target, body, _HEADERS, self._tls))
            except (OSError, ExportError) as error:
                errors.append(f"{target.authority}: {_why(error)}")
            else:
                if 200 <= status < 300:
                    return 0
                if 400 <= status < 500 and status not in _LATER:
                    raise ExportError(f"{target.authority} has refused spans with status {status}", may_retry=False)
                errors.append(f"{target.authority}: status {status}")
            # The next batch begins with another one.
            self._targets.append(self._targets.pop(0))
        raise ExportError("; ".join(errors))


def _why(error: Exception) -> str:
    """`Connection refused` instead of asyncio's text, which repeats the address."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return reason(error)


async def _within(seconds: float, work: Coroutine[Any, Any, int]) -> int:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise ExportError(f"no answer within {seconds:g} s") from None


def zipkin_span(trace: TraceRecord, span: SpanRecord, service: str) -> dict[str, Any]:
    """One span in Zipkin's form: times in microseconds, all tags as text."""
    tags = {key: as_text(value) for key, value in {**mosn_tags(trace, span), **span.attributes}.items()}
    if span.kind == SERVER:
        tags["result_status"] = str(status_of(span))
    if has_failed(span):
        tags["error"] = span.failure or str(status_of(span))
    found: dict[str, Any] = {
        "traceId": trace.trace_id,
        "id": span.span_id,
        "name": operation_of(span) if span.kind == SERVER else span.name,
        "timestamp": round(span.started * 1e6),
        # 0 would mean that the duration is not known.
        "duration": max(1, round(span.duration * 1e6)),
        "localEndpoint": {"serviceName": service, **_address(text_of(span, "pymosn.local_address"))},
        "tags": tags,
    }
    if span.parent_id:
        found["parentId"] = span.parent_id
    if span.kind in _KINDS:
        found["kind"] = _KINDS[span.kind]
        remote = _address(client_address(span) if span.kind == SERVER else peer_of(span))
        if remote:
            found["remoteEndpoint"] = remote
    return found


def _address(address: str) -> dict[str, Any]:
    """The keys of an endpoint for `ip:port`; none for what is not an IP address."""
    host, port = endpoint(address)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return {}
    found: dict[str, Any] = {"ipv4" if ip.version == 4 else "ipv6": host}
    if port:
        found["port"] = port
    return found
