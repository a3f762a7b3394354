"""What is known of one request and its response: the facts that logs, variables, routes and filters read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mypy_extensions import i32, i64, mypyc_attr

from pymosn.api.network import Connection, join_address
from pymosn.api.tls import TlsInfo
from pymosn.api.tracing import Span, SpanOwner
from pymosn.api.upstream import Criteria
from pymosn.core.counters import Counter
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.core.route_stats import RouteStats
from pymosn.core.stamps import Stamps

#: Placeholder until the request has been received.
NO_REQUEST: Final = RequestHead()


@mypyc_attr(allow_interpreted_subclasses=True)
class RouteInfo:
    """What the record of an exchange keeps of its route; `pymosn.api.routing.Route` has the rest."""

    def __init__(self, name: str, filter_configs: Mapping[str, object] | None = None, label: str = "") -> None:
        """`name`: table, virtual host and index. `filter_configs`: `per_filter_config` by filter name.

        `label`: the name that the configuration gives it, for people.
        """
        self.name = name
        self.filter_configs = filter_configs
        self.label = label
        #: The number of its requests; None until the first one has ended. `stats`: the rest that is counted of them.
        self.hits: Counter | None = None
        self.stats: RouteStats | None = None


class RouteOverrides:
    """Filter overrides for the route's decisions. None means "use the route's value"."""

    def __init__(self) -> None:
        self.route: str | None = None
        self.cluster: str | None = None
        self.host: str | None = None
        self.subset: Criteria | None = None
        self.timeout: float | None = None
        self.try_timeout: float | None = None
        self.retries: int | None = None
        #: The upstream protocol: `Http1`, `Http2`, or one that a transcoder of the listener speaks.
        self.protocol: str | None = None


class EarlierAttempt:
    """An attempt at a host after which the request was sent again."""

    def __init__(self, address: str, started: float, ended: float, status: int, failure: Failure | None) -> None:
        """`started`, `ended`: times of `Clock.now`. `status`: of the response that was discarded; 0 without one.

        `failure`: why there was no response; None if there was one.
        """
        self.address = address
        self.started = started
        self.ended = ended
        self.status = status
        self.failure = failure


@mypyc_attr(allow_interpreted_subclasses=True)
class ExchangeTrace(SpanOwner):
    """The trace of one exchange: what the proxy reports to it, and what filters and logs read. `api.tracer` begins it."""

    def on_attempt(self, exchange: ExchangeRecord, headers: Headers) -> None:
        """An attempt begins to send the request: writes the context into its `headers`. Never raises."""
        raise NotImplementedError

    def begin_call(self, exchange: ExchangeRecord, headers: Headers, name: str) -> Span:
        """A filter sends a request of its own: writes the context into its `headers`. Returns its client span."""
        raise NotImplementedError

    def end(self, exchange: ExchangeRecord) -> None:
        """The exchange has ended."""
        raise NotImplementedError

    def shown_id(self) -> str:
        """The id of the trace, in the form of the format that it was received or begun in."""
        raise NotImplementedError

    def recorded_id(self) -> str:
        """The id of the exchange's span; empty if the trace is not sampled."""
        raise NotImplementedError

    def server_span(self) -> Span:
        """The span of the exchange, for filters; one that is not recorded if the trace is not sampled."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ExchangeRecord:
    """The facts of one exchange. Times are those of `Clock.now`; 0.0 means "not yet"."""

    def __init__(self, connection: Connection) -> None:
        self.request: RequestHead = NO_REQUEST
        self.response: ResponseHead | None = None
        self.route: RouteInfo | None = None
        self.failure: Failure | None = None
        self.failure_detail: str = ""
        #: The name of the filter that made the reply, or whose error ended the exchange; empty if none did.
        self.replied_by: str = ""
        self.protocol: str = ""
        #: The protocol that a transcoder translates the request to; empty when it is not transcoded.
        self.transcoded_to: str = ""
        #: The protocol spoken to the upstream: the one that has been chosen, then the one of the connection.
        self.spoken_upstream: str = ""
        self.cluster_name: str = ""
        self.upstream_address: str = ""
        self.upstream_hostname: str = ""
        self.connection: Connection = connection
        #: The client's IP address as reported by trusted proxies; empty: the address of the socket counts.
        self.forwarded_ip: str = ""
        self.upstream_connection_id: i64 = 0
        #: The number that the client's protocol gives the request; -1 without one.
        self.stream_number: i64 = -1
        #: The worker's clock and ids; None where nothing serves the exchange, as in `explain`.
        self.stamps: Stamps | None = None
        #: None if tracing is off.
        self.trace: ExchangeTrace | None = None
        #: The TLS of the connection to the host; None without.
        self.upstream_tls: TlsInfo | None = None
        self.started: float = 0.0
        self.request_received: float = 0.0
        #: When the last attempt at a host began.
        self.attempt_started: float = 0.0
        #: When the last part of the request was sent to the upstream.
        self.request_sent: float = 0.0
        #: When the response's head came from the upstream, and when its last part did.
        self.response_received: float = 0.0
        self.response_completed: float = 0.0
        self.finished: float = 0.0
        self.bytes_received: i64 = 0
        self.bytes_sent: i64 = 0
        #: The request's headers before filters and the route changed them; see `Exchange.received_headers`.
        self.as_received: Headers | None = None
        #: Path and host as received, when the route rewrote them.
        self.original_path: bytes = b""
        self.original_host: bytes = b""
        #: Variables set with `Exchange.set_variable`.
        self.own_variables: dict[str, str] | None = None
        #: The ids of the stream and the trace, if they were made; not among the variables, on which cached responses depend.
        self.made_ids: dict[str, str] | None = None
        #: The value of a Set-Cookie that the route's hash policy generates.
        self.set_cookie: bytes = b""
        #: The attempts before the last one, in order; None without retries.
        self.earlier_attempts: list[EarlierAttempt] | None = None
        #: Overrides set with `Exchange.choose`.
        self.overrides: RouteOverrides | None = None
        #: The status of a call in the trailers that arrived; -1 without one. A filter may have moved them into the body.
        self.received_status: i64 = -1
        #: The random number from 0 to below 100 by which routes take a share of the requests; -1 before it is drawn.
        self.draw: float = -1.0
        # Last, so that they share a word with small attributes of a subclass.
        #: Whether the response is a local reply.
        self.is_local = False
        self.attempts: i32 = 0

    def upstream_protocol(self) -> str:
        """The protocol spoken to the upstream; the client's as long as none has been chosen."""
        return self.spoken_upstream or self.protocol

    @property
    def call_status(self) -> int:
        """The status of the call that the client got, in gRPC 0 to 16; -1 for other requests, and before the response."""
        response = self.response
        if self.received_status >= 0 and self.failure is None and response is not None and response.trailers is None:
            return int(self.received_status)
        return int(self.request.call_outcome(response, self.failure))

    @property
    def remote_address(self) -> str:
        """The client's address, `ip:port`; behind trusted proxies (`trusted_hops`) the port is unknown and 0."""
        if self.forwarded_ip:
            return join_address(self.forwarded_ip, 0)
        return self.direct_remote_address

    @property
    def direct_remote_address(self) -> str:
        """The address of the socket's other end, `ip:port`: the client or the last proxy."""
        return join_address(self.connection.remote_ip, self.connection.remote_port)

    @property
    def local_address(self) -> str:
        """The address on which the client's connection was accepted."""
        return join_address(self.connection.local_ip, self.connection.local_port)

    @property
    def remote_ip(self) -> str:
        """The client's IP address: the socket's, or the one reported by trusted proxies (`trusted_hops`)."""
        return self.forwarded_ip or self.connection.remote_ip

    @property
    def connection_id(self) -> int:
        """The id of the client's connection, unique among all workers of the process, and those that they replaced."""
        return int(self.connection.id)

    def elapsed(self) -> float:
        """Seconds from the start to the end, or until now: the clock is read, because an event may take its time."""
        if self.finished > 0.0:
            return self.finished - self.started
        stamps = self.stamps
        return 0.0 if stamps is None else stamps.now() - self.started

    def processing_time(self) -> float:
        """Seconds that the proxy took itself: until the whole request was sent to an upstream, and from its response's end.

        All of them for a local reply without an upstream. What was waited for does not count: an upstream that is not
        reached or does not answer, and a client that is still sending. 0.0 for a connection whose bytes are forwarded.
        """
        if self.attempts == 0:
            return 0.0 if self.request is NO_REQUEST else self.elapsed()
        before = self.request_sent - self.started if self.request_sent > 0.0 else 0.0
        if self.response_completed <= 0.0 or self.finished <= 0.0:
            return before
        return before + self.finished - max(self.response_completed, self.request_sent)
