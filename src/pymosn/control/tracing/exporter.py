"""The contract of exporters, and what several of them read from spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pymosn.api.tracing import SERVER, AttributeValue, SpanRecord, TraceRecord
from pymosn.core.addresses import split_address

#: Why spans were dropped, as in the counters of the metrics group `tracing`.
QUEUE_FULL: Final = "queue_full"
UNAVAILABLE: Final = "unavailable"
REFUSED: Final = "refused"
TOO_LARGE: Final = "too_large"
STOPPED: Final = "stopped"
OFF: Final = "off"
REASONS: Final = (QUEUE_FULL, UNAVAILABLE, REFUSED, TOO_LARGE, STOPPED, OFF)


class ExportError(Exception):
    """A batch has not been accepted; the text is the reason. `may_retry`: whether the same batch may be accepted later."""

    def __init__(self, text: str, *, may_retry: bool = True) -> None:
        super().__init__(text)
        self.may_retry = may_retry


class Exporter:
    """Sends traces to one collector, or writes them to a log.

    `batch_spans`: a batch has at least this many spans, unless `interval` seconds have passed since its first one.
    `queue_spans`: the most spans that wait. `timeout`: seconds for one `send`, after which it is cancelled.
    """

    batch_spans: int = 100
    interval: float = 1.0
    queue_spans: int = 10_000
    timeout: float = 10.0

    async def send(self, batch: Sequence[TraceRecord]) -> int:
        """Sends a batch; returns the number of spans that are too large to be sent at all. Raises ExportError."""
        raise NotImplementedError

    def reopen(self) -> None:
        """Reopens files after they were renamed (SIGUSR1). Must not block."""

    async def close(self) -> None:
        """Releases everything. `send` is not called any more."""


class Facts:
    """What exporters know of the active configuration; the service updates it."""

    def __init__(self) -> None:
        #: The `type` of each listener, by name.
        self.listener_types: dict[str, str] = {}


def number_of_spans(batch: Sequence[TraceRecord]) -> int:
    """The spans of a batch."""
    return sum(len(trace.spans) for trace in batch)


def server_span(trace: TraceRecord) -> SpanRecord | None:
    """The span of the proxy as a server; None in a trace of something else."""
    return trace.spans[0] if trace.spans and trace.spans[0].kind == SERVER else None


def text_of(span: SpanRecord, key: str) -> str:
    """An attribute as text; empty if it is not set."""
    return as_text(span.attributes.get(key, ""))


def number_of(span: SpanRecord, key: str) -> int:
    """An attribute as a number; 0 if it is not set."""
    value = span.attributes.get(key, 0)
    return int(value) if isinstance(value, (int, float)) else 0


def as_text(value: AttributeValue) -> str:
    """An attribute's value as text: `true` and `false` for booleans."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def status_of(span: SpanRecord) -> int:
    """The status of the response, as in `http.response.status_code`; 0 without one."""
    return number_of(span, "http.response.status_code")


def has_failed(span: SpanRecord) -> bool:
    """Whether a span is an error: it has a failure, or a server's error as its status."""
    return bool(span.failure) or status_of(span) >= 500


def target_of(span: SpanRecord) -> str:
    """Path and query of the request; empty if it is none of HTTP."""
    path, query = text_of(span, "url.path"), text_of(span, "url.query")
    return f"{path}?{query}" if query else path


def operation_of(span: SpanRecord) -> str:
    """The name that MOSN gives a span: the path; the span's own name if there is none."""
    return text_of(span, "url.path") or span.name


def client_address(span: SpanRecord) -> str:
    """`address:port` of the downstream connection."""
    return text_of(span, "pymosn.remote_address")


def host_address(trace: TraceRecord) -> str:
    """`address:port` of the host that the last attempt was for; empty without one."""
    clients = [span for span in trace.spans if span.kind == "client"]
    return peer_of(clients[-1]) if clients else ""


def peer_of(span: SpanRecord) -> str:
    """`address:port` of the host of a client span."""
    address, port = text_of(span, "network.peer.address"), number_of(span, "network.peer.port")
    if not address:
        address, port = text_of(span, "server.address"), number_of(span, "server.port")
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def endpoint(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; port 0 if there is none, as for unix sockets."""
    try:
        host, port = split_address(address)
    except ValueError:
        return address, 0
    return host.strip("[]"), port


def mosn_tags(trace: TraceRecord, span: SpanRecord) -> Mapping[str, AttributeValue]:
    """The tags by which MOSN's own drivers describe a request, for dashboards that were made for it."""
    if span.kind != SERVER:
        return {}
    tags: dict[str, AttributeValue] = {
        "request_size": number_of(span, "http.request.body.size"),
        "response_size": number_of(span, "http.response.body.size"),
        "downstream_host_address": client_address(span),
    }
    host = host_address(trace)
    if host:
        tags["upstream_host_address"] = host
    return tags
