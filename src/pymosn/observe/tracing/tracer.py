"""Begins traces, and records the events of each: the data path of tracing.

Theory of operation. `WorkerTracer.begin` reads the context of a request by the first format that finds one, or begins a new
trace, and decides whether it is sampled: at once, or when the route is known if a rule asks for it. Before an attempt sends
the request, `on_attempt` writes the context in all formats, with the id of the client span of this attempt. At the end, a
sampled trace leaves its facts in the buffer (`finished`); everything else happens outside of requests (`records`).

What is forwarded without being recorded costs as little as possible: a context that was received as unsampled stays as it
is.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.http import HttpRequest
from pymosn.api.record import ExchangeRecord
from pymosn.api.rpc import RpcRequest
from pymosn.api.tracer import Tracer
from pymosn.api.tracing import CLIENT, MAX_CHILDREN, MAX_TEXTS, NO_SPAN, SERVER, Span
from pymosn.core.headers import Headers
from pymosn.core.stamps import Stamps
from pymosn.observe.tracing.buffer import TraceBuffer
from pymosn.observe.tracing.context import NOT_SAMPLED, SAMPLED, SPAN_ID, TRACE_ID, UNDECIDED, TraceContext, TraceFormat
from pymosn.observe.tracing.finished import FinishedTrace, release
from pymosn.observe.tracing.formats import formats
from pymosn.observe.tracing.ids import IdSource
from pymosn.observe.tracing.names import span_name
from pymosn.observe.tracing.sampling import Sampling
from pymosn.observe.tracing.sofa import Sofa

#: The number of the first request of a filter, among the client spans of an exchange; attempts are numbered from 1.
FIRST_CALL: Final[i64] = 1001
#: Bytes before the payload of an RPC request that gets no context: Bolt's headers have at most 65,535 bytes.
LONGEST_HEAD: Final[i64] = 60_000


class WorkerTracer(Tracer):
    """The tracer of one worker, for one configuration."""

    def __init__(
        self,
        names: list[str],
        sampling: Sampling,
        buffer: TraceBuffer,
        stamps: Stamps,
        service: str = "",
        instance: str = "",
        ids: IdSource | None = None,
    ) -> None:
        """`names`: of the formats, at least one. `service`, `instance`: what SkyWalking calls the proxy and the process."""
        self.formats: list[TraceFormat] = formats(names, service, instance, stamps.trace_id)
        self.sampling = sampling
        self.buffer = buffer
        self.stamps = stamps
        self.ids: IdSource = IdSource() if ids is None else ids
        first = self.formats[0]
        #: The format that makes ids of its own.
        self._makes_ids: Sofa | None = first if isinstance(first, Sofa) else None
        self.has_sofa = "sofa" in names
        self.has_names = "sw8" in names

    def begin(self, exchange: ExchangeRecord, listener: str) -> Recording:
        trace = Recording(self, listener)
        request = exchange.request
        is_rpc = not isinstance(request, HttpRequest)
        for one in self.formats:
            try:
                if one.read(request.headers, is_rpc, trace):
                    trace.read_by = one
                    break
            except BaseException:  # UnreadableHeaders, and what headers of an installed protocol raise
                continue
        if len(trace.trace_id) == 0:
            if self._makes_ids is not None:
                self._makes_ids.begin(trace)
            else:
                trace.trace_id = self.ids.take(TRACE_ID)
        trace.span_id = self.ids.take(SPAN_ID)
        if not self.sampling.needs_route:
            self.sampling.decide(trace, exchange, listener)
        return trace


class Recording(TraceContext):
    """The trace of one exchange."""

    def __init__(self, tracer: WorkerTracer, listener: str) -> None:
        super().__init__()
        self._tracer = tracer
        self._listener = listener
        #: The format of the received context; None for a new trace.
        self.read_by: TraceFormat | None = None
        # The ids of the client spans of the attempts; empty for those that have sent nothing.
        self._client_ids: list[bytes] | None = None
        self._server: Span | None = None
        self._children: list[Span] | None = None
        # The number of the next request of a filter.
        self._next_call: i64 = FIRST_CALL
        # Characters that filters may still add.
        self._room: i64 = MAX_TEXTS
        self._is_over = False

    # ---- from the proxy

    def on_attempt(self, exchange: ExchangeRecord, headers: Headers) -> None:
        tracer = self._tracer
        if self.sampled == UNDECIDED:
            tracer.sampling.decide(self, exchange, self._listener)
        if self.sampled == NOT_SAMPLED and self._may_stay():
            return
        number = i64(exchange.attempts)
        # Copies that replace the request are no attempts, and have no client span.
        span_id = tracer.ids.take(SPAN_ID) if number > 0 else self.span_id
        if self.sampled == SAMPLED and number > 0:
            self._note_attempt(number, span_id)
        request = exchange.request
        if isinstance(request, RpcRequest) and len(request.frame) - len(request.payload) > LONGEST_HEAD:
            return
        is_rpc = not isinstance(request, HttpRequest) or len(exchange.transcoded_to) > 0
        if tracer.has_names:
            self.endpoint = name_of(exchange)
            self.peer = exchange.upstream_address
        self._write(headers, is_rpc, span_id, number)

    def _note_attempt(self, number: i64, span_id: bytes) -> None:
        ids = self._client_ids
        if ids is None:
            ids = []
            self._client_ids = ids
        while len(ids) < number:
            ids.append(b"")
        ids[number - 1] = span_id

    def _may_stay(self) -> bool:
        """Whether the received context can be forwarded as it is: nothing is recorded here, or elsewhere because of it."""
        return self.received == NOT_SAMPLED and len(self._tracer.formats) == 1

    def _write(self, headers: Headers, is_rpc: bool, span_id: bytes, number: i64) -> None:
        for one in self._tracer.formats:
            try:
                one.write(headers, is_rpc, self, span_id, number)
            except BaseException:  # as in `begin`
                continue

    def begin_call(self, exchange: ExchangeRecord, headers: Headers, name: str) -> Span:
        if self.sampled == UNDECIDED:
            self._tracer.sampling.decide(self, exchange, self._listener)
        number = self._next_call
        self._next_call = number + 1
        span = self.child_span(self._span(), name, CLIENT) if self.sampled != NOT_SAMPLED else NO_SPAN
        span_id = span.span_id.encode() or self._tracer.ids.take(SPAN_ID)
        self.endpoint = self.endpoint or name
        self.peer = ""
        self._write(headers, False, span_id, number)
        if span.is_recorded:
            span.set_attribute("pymosn.call_number", int(number))
        return span

    def end(self, exchange: ExchangeRecord) -> None:
        tracer = self._tracer
        if self.sampled == UNDECIDED:
            tracer.sampling.decide(self, exchange, self._listener)
        if self.sampled != SAMPLED:
            tracer.buffer.skip()
            self._is_over = True
            release(self._server, self._children)
            return
        self._is_over = True
        if not tracer.buffer.has_room():
            release(self._server, self._children)
            return
        if tracer.has_names and len(self.endpoint) == 0:
            self.endpoint = name_of(exchange)
        tracer.buffer.add(
            FinishedTrace(self, exchange, self._listener, tracer.has_sofa, self._client_ids, self._server, self._children)
        )
        self._server = None  # spans refer to this object, too
        self._children = None

    # ---- for filters and logs

    def shown_id(self) -> str:
        return (self.own_id or self.trace_id).decode("ascii")

    def recorded_id(self) -> str:
        return "" if self.sampled == NOT_SAMPLED else self.span_id.decode("ascii")

    def server_span(self) -> Span:
        if self.sampled == NOT_SAMPLED or self._is_over:
            return Span(None, self.trace_id.decode("ascii"), "")
        return self._span()

    def _span(self) -> Span:
        span = self._server
        if span is None:
            parent = self.parent_id.decode("ascii")
            span = Span(self, self.trace_id.decode("ascii"), self.span_id.decode("ascii"), parent, "", SERVER)
            self._server = span
        return span

    def now(self) -> float:
        return self._tracer.stamps.now()

    def take_room(self, size: i64) -> bool:
        if size > self._room:
            return False
        self._room -= size
        return True

    def child_span(self, parent: Span, name: str, kind: str) -> Span:
        children = self._children
        if children is None:
            children = []
            self._children = children
        if len(children) >= MAX_CHILDREN:
            return Span(None, parent.trace_id, "")
        span = Span(self, parent.trace_id, self._tracer.ids.take(SPAN_ID).decode("ascii"), parent.span_id, name, kind)
        span.started = self.now()
        children.append(span)
        return span


def name_of(exchange: ExchangeRecord) -> str:
    """The name of an exchange's server span."""
    request = exchange.request
    route = exchange.route
    label = "" if route is None else route.label
    is_http = isinstance(request, HttpRequest)
    try:
        is_call = not is_http or request.has_call_status
        service = request.service() if is_call else ""
        method = request.rpc_method() if is_call else ""
    except BaseException:  # as in `begin`
        service = method = ""
    return span_name(is_http, request.raw_method, label, service, method, exchange.protocol)
