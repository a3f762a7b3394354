"""Makes the spans of finished exchanges, outside of requests. The names of attributes are those of OpenTelemetry.

The `reference` of a record has these facts:

- `sofa.trace_id`, `sofa.rpc_id`: SOFATracer's ids; the client span of the attempt N has the RpcId `RPC_ID.N`.
  `sofa.parent_rpc_id`: absent for the first span of a trace. `sofa.service`, `sofa.method`,
  `sofa.caller_app`, `sofa.baggage`: fields of the request, if it has them.
- `sw8.trace_id`, `sw8.segment`: SkyWalking's ids; the server span is number 0 of the segment, that of the attempt N is N.
  `sw8.parent_segment`, `sw8.parent_span`, `sw8.parent_service`, `sw8.parent_instance`, `sw8.parent_endpoint`,
  `sw8.address`: what the caller has sent.

A request that a filter sends itself has the attribute `pymosn.call_number`, which is its number instead of N.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_plus

from mypy_extensions import i64

from pymosn.api.network import join_address
from pymosn.api.tracing import CLIENT, SERVER, AttributeValue, Span, SpanRecord, TraceRecord
from pymosn.core.addresses import address_host, address_port
from pymosn.core.authority import split_authority
from pymosn.core.secrets import REDACTED, is_secret_parameter
from pymosn.observe.tracing.context import SPAN_ID
from pymosn.observe.tracing.finished import FinishedTrace
from pymosn.observe.tracing.ids import IdSource
from pymosn.observe.tracing.names import method_name, method_text, span_name
from pymosn.observe.tracing.skywalking import segment_of

#: Protocol name and version by the protocols of HTTP.
_HTTP: Final[dict[str, tuple[str, str]]] = {"Http1": ("http", "1.1"), "Http2": ("http", "2")}

#: What has been found out about names of query parameters, addresses and hosts; bounded, since clients choose them.
_SECRET: Final[dict[str, bool]] = {}
_PARTS: Final[dict[str, tuple[str, int]]] = {}
_HOSTS: Final[dict[bytes, str]] = {}
_MEMORY: Final = 1024
#: Characters of what is remembered.
_LONGEST_KEY: Final = 256

#: The `reference` of most traces; it is only read.
_NO_FACTS: Final[dict[str, str]] = {}

Attributes = dict[str, AttributeValue]


def record_of(trace: FinishedTrace, offset: float, ids: IdSource) -> TraceRecord:
    """The record of a trace. `offset`: what to add to times of `Clock.now`, to get seconds since 1970. `ids`: for spans
    of attempts that have sent nothing."""
    context = trace.context
    name = span_name(trace.is_http, trace.method, trace.route_label, trace.service, trace.rpc_method, trace.protocol)
    server_id = context.span_id.decode("ascii")
    attributes = _server_attributes(trace)
    if trace.server is not None and trace.server.attributes is not None:
        attributes.update(trace.server.attributes)
    duration = trace.finished - trace.started
    parent = context.parent_id.decode("ascii")
    spans = [SpanRecord(server_id, parent, SERVER, name, trace.started + offset, duration, trace.failure, attributes)]
    _add_attempts(spans, trace, server_id, offset, ids)
    if trace.children is not None:
        for span in trace.children:
            spans.append(_child(span, trace.finished, offset))
    record = TraceRecord(context.trace_id.decode("ascii"), _text(context.state), _reference(trace), spans)
    trace.release()
    return record


def _server_attributes(trace: FinishedTrace) -> Attributes:
    found: Attributes = {}
    known = _HTTP.get(trace.protocol)
    name, version = (trace.protocol.lower(), "") if known is None else known
    if trace.is_http:
        found["http.request.method"] = method_text(trace.method)
        found["url.path"] = _text(trace.path)
        if trace.query is not None:
            found["url.query"] = redacted_query(_text(trace.query))
        found["url.scheme"] = trace.scheme
        if trace.host:
            found["server.address"] = _name_of_host(trace.host)
        if trace.user_agent is not None:
            found["user_agent.original"] = _text(trace.user_agent)
    if trace.route_name:
        found["http.route"] = trace.route_label or trace.route_name
    if trace.is_call:
        found["rpc.system"] = "grpc" if trace.is_http else name
        _set(found, "rpc.service", _valid(trace.service))
        _set(found, "rpc.method", _valid(trace.rpc_method))
        if trace.call_status >= 0:
            found["rpc.grpc.status_code"] = int(trace.call_status)
    found["network.protocol.name"] = name
    _set(found, "network.protocol.version", version)
    _set(found, "client.address", trace.forwarded_ip or trace.remote_ip)
    if trace.remote_ip and not trace.forwarded_ip:
        found["client.port"] = int(trace.remote_port)
    if trace.status:
        found["http.response.status_code"] = int(trace.status)
    found["http.request.body.size"] = int(trace.bytes_received)
    found["http.response.body.size"] = int(trace.bytes_sent)
    _set(found, "error.type", trace.failure)
    found["pymosn.listener"] = trace.listener
    found["pymosn.protocol"] = trace.protocol
    found["pymosn.process_time"] = trace.processing
    found["pymosn.local_address"] = _joined(trace.local_ip, trace.local_port)
    found["pymosn.remote_address"] = _joined(trace.remote_ip, trace.remote_port)
    _set(found, "pymosn.cluster", trace.cluster)
    if trace.attempts:
        found["pymosn.upstream_protocol"] = trace.upstream_protocol or trace.protocol
    return found


def _add_attempts(spans: list[SpanRecord], trace: FinishedTrace, parent: str, offset: float, ids: IdSource) -> None:
    """Adds the client span of each attempt."""
    number = 0
    for attempt in trace.earlier or ():
        number += 1
        failure = "" if attempt.failure is None else attempt.failure.reason
        attributes = _client_attributes(trace, attempt.address, "", number, attempt.status, failure)
        spans.append(_client(trace, parent, number, attempt.started, attempt.ended, failure, attributes, offset, ids))
    if number >= trace.attempts:
        return
    is_complete = trace.response_completed > 0.0
    failure = "" if is_complete else trace.failure
    has_response = trace.response_received > 0.0 and not trace.is_local
    attributes = _client_attributes(
        trace, trace.upstream_address, trace.upstream_hostname, number + 1, trace.status if has_response else 0, failure
    )
    ended = trace.response_completed if is_complete else trace.finished
    spans.append(_client(trace, parent, number + 1, trace.attempt_started, ended, failure, attributes, offset, ids))


def _client(
    trace: FinishedTrace,
    parent: str,
    number: int,
    started: float,
    ended: float,
    failure: str,
    attributes: Attributes,
    offset: float,
    ids: IdSource,
) -> SpanRecord:
    sent = trace.client_ids
    span_id = sent[number - 1] if sent is not None and number <= len(sent) else b""
    if len(span_id) == 0:
        span_id = ids.take(SPAN_ID)
    name = (
        method_name(trace.method)
        if trace.is_http and not trace.is_call
        else span_name(trace.is_http, trace.method, "", trace.service, trace.rpc_method, trace.protocol)
    )
    duration = max(ended - started, 0.0)
    return SpanRecord(span_id.decode("ascii"), parent, CLIENT, name, started + offset, duration, failure, attributes)


def _client_attributes(
    trace: FinishedTrace, address: str, hostname: str, number: int, status: i64, failure: str
) -> Attributes:
    found: Attributes = {}
    ip, port = _parts_of(address)
    _set(found, "server.address", hostname or ip)
    _set(found, "network.peer.address", ip)
    if port:
        found["server.port"] = port
        found["network.peer.port"] = port
    if trace.is_http:
        found["http.request.method"] = method_text(trace.method)
    if number > 1:
        found["http.request.resend_count"] = number - 1
    if status:
        found["http.response.status_code"] = int(status)
    _set(found, "error.type", failure)
    found["pymosn.cluster"] = trace.cluster
    return found


def _child(span: Span, finished: float, offset: float) -> SpanRecord:
    ended = span.ended or finished
    attributes: Attributes = {} if span.attributes is None else span.attributes
    if span.failure and "error.type" not in attributes:
        attributes["error.type"] = span.failure
    duration = max(ended - span.started, 0.0)
    return SpanRecord(
        span.span_id, span.parent_id, span.kind, span.name, span.started + offset, duration, span.failure, attributes
    )


def _reference(trace: FinishedTrace) -> dict[str, str]:
    context = trace.context
    if not trace.has_sofa and not context.endpoint and context.facts is None:
        return _NO_FACTS
    found: dict[str, str] = {}
    own_id = _text(context.own_id or context.trace_id)
    if trace.has_sofa:
        found["sofa.trace_id"] = own_id
        found["sofa.rpc_id"] = _text(context.rpc_id or b"0")
        if context.rpc_id:
            found["sofa.parent_rpc_id"] = _text(context.rpc_id)
        if trace.sofa_service is not None:
            found["sofa.service"] = _text(trace.sofa_service)
        if trace.sofa_method is not None:
            found["sofa.method"] = _text(trace.sofa_method)
        if trace.caller is not None:
            found["sofa.caller_app"] = _text(trace.caller)
        if trace.baggage is not None:
            found["sofa.baggage"] = _text(trace.baggage)
    if context.endpoint:
        found["sw8.trace_id"] = own_id
        found["sw8.segment"] = _text(segment_of(context))
    if context.facts is not None:
        found.update(context.facts)
    return found


def redacted_query(query: str) -> str:
    """A query whose secret values are replaced."""
    if "&" not in query:
        at: i64 = query.find("=")
        return query if at < 0 or not _is_secret(query[:at]) else f"{query[:at]}={REDACTED}"
    pairs = query.split("&")
    has_secret = False
    for i in range(len(pairs)):
        name, equals, _ = pairs[i].partition("=")
        if equals and _is_secret(name):
            pairs[i] = f"{name}={REDACTED}"
            has_secret = True
    return "&".join(pairs) if has_secret else query


def _is_secret(name: str) -> bool:
    found = _SECRET.get(name)
    if found is None:
        found = is_secret_parameter(unquote_plus(name))
        if len(_SECRET) < _MEMORY and len(name) <= _LONGEST_KEY:
            _SECRET[name] = found
    return found


def _parts_of(address: str) -> tuple[str, int]:
    """IP address and port of a host; a unix socket has its path, and no port."""
    found = _PARTS.get(address)
    if found is None:
        found = address_host(address), address_port(address)
        if len(_PARTS) < _MEMORY:
            _PARTS[address] = found
    return found


def _name_of_host(host: bytes) -> str:
    """The host of a request without its port."""
    found = _HOSTS.get(host)
    if found is None:
        found = _text(split_authority(host).host)
        if len(_HOSTS) < _MEMORY and len(host) <= _LONGEST_KEY:
            _HOSTS[host] = found
    return found


def _joined(ip: str, port: i64) -> str:
    return f"{ip}:{int(port)}" if ip and ":" not in ip else join_address(ip, port)


def _set(found: Attributes, name: str, value: str) -> None:
    if value:
        found[name] = value


def _valid(text: str) -> str:
    """A text of headers, in which surrogates are bytes that are not UTF-8, as one that can be encoded."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _text(value: bytes) -> str:
    try:
        return value.decode()  # twice as fast as with another handling of errors
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace")
