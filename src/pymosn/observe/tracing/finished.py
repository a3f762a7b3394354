"""The facts of a finished exchange from which its spans are made later, outside of requests.

It refers to nothing that could be large, such as bodies and connections, and long texts are cut.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.http import HttpRequest
from pymosn.api.record import EarlierAttempt, ExchangeRecord
from pymosn.api.tracing import Span
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead
from pymosn.observe.tracing.context import TraceContext
from pymosn.observe.tracing.sofa import BAGGAGE, CALLER, METHOD, SERVICE

#: Bytes of a path, a query and a header field.
LONGEST: Final[i64] = 2048


class FinishedTrace:
    """One exchange with a sampled trace. Times are those of `Clock.now`, as in ExchangeRecord."""

    def __init__(
        self,
        context: TraceContext,
        exchange: ExchangeRecord,
        listener: str,
        has_sofa: bool,
        client_ids: list[bytes] | None,
        server: Span | None,
        children: list[Span] | None,
    ) -> None:
        """`client_ids`: the id of the client span of each attempt; empty for one that has sent nothing.

        `server`: with the attributes that filters have set. `children`: the spans of filters.
        """
        request = exchange.request
        response = exchange.response
        connection = exchange.connection
        route = exchange.route
        self.context = context
        self.has_sofa = has_sofa
        self.listener = listener
        self.client_ids = client_ids
        self.server = server
        self.children = children
        self.protocol = exchange.protocol
        self.upstream_protocol = exchange.spoken_upstream
        self.cluster = exchange.cluster_name
        self.upstream_address = exchange.upstream_address
        self.upstream_hostname = exchange.upstream_hostname
        self.route_label = "" if route is None else route.label
        self.route_name = "" if route is None else route.name
        self.forwarded_ip = exchange.forwarded_ip
        self.remote_ip = connection.remote_ip
        self.remote_port: i64 = connection.remote_port
        self.local_ip = connection.local_ip
        self.local_port: i64 = connection.local_port
        self.started = exchange.started
        self.attempt_started = exchange.attempt_started
        self.response_received = exchange.response_received
        self.response_completed = exchange.response_completed
        self.finished = exchange.finished
        self.bytes_received: i64 = exchange.bytes_received
        self.bytes_sent: i64 = exchange.bytes_sent
        self.failure = "" if exchange.failure is None else exchange.failure.reason
        self.is_local = exchange.is_local
        self.attempts: i64 = i64(exchange.attempts)
        self.earlier: list[EarlierAttempt] | None = exchange.earlier_attempts
        self.status: i64 = 0 if response is None else response.status
        self.scheme = request.scheme
        self.call_status: i64 = -1
        self.is_call = False
        self.is_http = isinstance(request, HttpRequest)
        self.method: bytes = b""
        self.path: bytes = b""
        self.query: bytes | None = None
        self.host: bytes = b""
        self.user_agent: bytes | None = None
        self.service = ""
        self.rpc_method = ""
        self.processing = exchange.processing_time()
        self.sofa_service: bytes | None = None
        self.sofa_method: bytes | None = None
        self.caller: bytes | None = None
        self.baggage: bytes | None = None
        if self.is_http:
            self.method = _cut(request.raw_method)
            self.path = _cut(exchange.original_path or request.raw_path)
            self.query = request.raw_query
            self.host = _cut(exchange.original_host or request.raw_host)
            self.user_agent = request.headers.get_raw(b"user-agent")
            if self.query is not None:
                self.query = _cut(self.query)
            if self.user_agent is not None:
                self.user_agent = _cut(self.user_agent)
            if request.has_call_status:
                self.call_status = exchange.call_status
                self._read_call(request)
        else:
            self._read_call(request)
        if has_sofa:
            self._read_sofa(request.headers)

    def release(self) -> None:
        """The trace will not be used any more."""
        release(self.server, self.children)

    def _read_call(self, request: RequestHead) -> None:
        """The names of a call, as far as its headers can be read."""
        self.is_call = True
        try:
            self.service = request.service()[:LONGEST]
            self.rpc_method = request.rpc_method()[:LONGEST]
        except BaseException:  # UnreadableHeaders, and what the head of an installed protocol raises
            return

    def _read_sofa(self, headers: Headers) -> None:
        """What only SOFATracer's digests have."""
        try:
            self.sofa_service = _field(headers, SERVICE)
            self.sofa_method = _field(headers, METHOD)
            self.caller = _field(headers, CALLER)
            self.baggage = _field(headers, BAGGAGE)
        except BaseException:  # as above
            return


def release(server: Span | None, children: list[Span] | None) -> None:
    """Releases spans from their trace, to which they refer: otherwise only the garbage collector would free both."""
    if server is not None:
        server.release()
    if children is not None:
        for span in children:
            span.release()


def _cut(value: bytes) -> bytes:
    return value if len(value) <= LONGEST else value[:LONGEST]


def _field(headers: Headers, name: bytes) -> bytes | None:
    value = headers.get_raw(name)
    return None if value is None else _cut(value)
