"""Subrequests of filters to the proxy's clusters, through their pools, limits and health checks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import GrpcRequest, is_grpc
from pymosn.api.http import HttpRequest
from pymosn.api.stream import RequestSender
from pymosn.api.stream_filter import ClientError, ClientResponse, ClusterClient, Fields
from pymosn.api.tracing import NO_SPAN, Span
from pymosn.api.upstream import Selection, ServiceFacts
from pymosn.core.addresses import address_host, host_field
from pymosn.core.failure import PROTOCOL_MISMATCH, RESET_BEFORE_RESPONSE, RESPONSE_TOO_LARGE, Failure
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import NoBodySource, RequestHead, ResponseHead
from pymosn.core.uri import PathPolicy
from pymosn.proxy.attempts import UNASKED_ATTEMPTS, UNPROCESSED
from pymosn.proxy.internal_request import InternalRequest
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.upstream_request import NO_VERDICT
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import ClusterHost

#: The protocol of clusters without a choice of their own.
PROTOCOL: Final = "Http1"
#: The protocol of gRPC calls.
CALLS: Final = "Http2"
#: A filter may ask about a path that its listener accepts with `//` in it.
_PATHS: Final = NoBodySource(PathPolicy(merges_slashes=False))


class ClusterClients(Mapping[str, ClusterClient]):
    """A client for each cluster that exists at the moment."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __getitem__(self, name: str) -> ClusterClient:
        if self._runtime.clusters.get(name) is None:
            raise KeyError(f"unknown cluster {name!r}")
        return RuntimeClusterClient(self._runtime, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._runtime.clusters.by_name)

    def __len__(self) -> int:
        return len(self._runtime.clusters.by_name)


class RuntimeClusterClient(ClusterClient):
    """The client of one cluster, looked up by name for each request, since updates replace clusters."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._runtime = runtime
        self._name = name

    def follows_client(self) -> bool:
        cluster = self._runtime.clusters.get(self._name)
        return cluster is not None and cluster.original is not None

    def service(self) -> ServiceFacts | None:
        cluster = self._runtime.clusters.get(self._name)
        return None if cluster is None else cluster.plan.service

    def workload_of(self, address: str) -> str:
        cluster = self._runtime.clusters.get(self._name)
        host = None if cluster is None or cluster.original is not None else cluster.find(address)
        return "" if host is None else host.plan.workload

    async def request(
        self,
        method: str,
        path: str,
        headers: Fields | None = None,
        body: bytes | str = b"",
        timeout: float = 5.0,
        limit: int = 1024 * 1024,
        exchange: Exchange | None = None,
    ) -> ClientResponse:
        runtime = self._runtime
        if runtime.turns.is_reached():
            await asyncio.sleep(0)  # a filter may repeat it without end because it fails at once
        data = body.encode() if isinstance(body, str) else body
        deadline = runtime.clock.tick() + timeout
        selection = Selection()
        is_call = _is_call(headers)
        wanted = CALLS if is_call else ""
        tries = 0
        fresh = False
        while True:
            cluster = runtime.clusters.get(self._name)
            if cluster is None:
                raise ClientError("cluster_unknown", self._name)
            protocol = cluster.way_out.protocol(wanted, PROTOCOL)
            if cluster.way_out.translates(protocol, PROTOCOL):
                raise ClientError(PROTOCOL_MISMATCH.reason, f"cluster {self._name} is for {protocol}")
            host = _choose(cluster, selection)
            tries += 1
            head = _head(method, path, headers, is_call, len(data), host)
            span = NO_SPAN if exchange is None else _begin_span(exchange, head, host, self._name)
            call = Call(host, runtime, head, limit)
            try:
                response = await call.make(protocol, data, deadline - runtime.clock.now, fresh)
                span.set_attribute("http.response.status_code", response.status)
                span.end()
                return response
            except ClientError as error:
                span.end(error.reason)
                runtime.clock.tick()
                if tries >= UNASKED_ATTEMPTS or not call.may_repeat() or runtime.clock.now >= deadline:
                    raise
                fresh = call.was_stale
                if not fresh:
                    selection.add_tried(host)


def _begin_span(exchange: Exchange, head: RequestHead, host: ClusterHost, cluster: str) -> Span:
    """The client span of a request for `exchange`, whose context it writes into `head`; without effect if tracing is off.

    A request that is given up because its filter was cancelled ends with its exchange.
    """
    trace = exchange.trace
    if trace is None:
        return NO_SPAN
    is_call = head.has_call_status
    span = trace.begin_call(exchange, head.headers, f"{head.service()}/{head.rpc_method()}" if is_call else head.method)
    if span.is_recorded:
        ip = address_host(host.address)
        span.set_attribute("server.address", host.hostname or ip)
        span.set_attribute("network.peer.address", ip)
        span.set_attribute("pymosn.cluster", cluster)
    return span


def _choose(cluster: Cluster, selection: Selection) -> ClusterHost:
    host = cluster.balancer.choose(selection)
    if host is None:
        failure = cluster.no_host_failure(selection)
        raise ClientError(failure.reason, cluster.name)
    assert isinstance(host, ClusterHost)
    return host


def _head(method: str, path: str, headers: Fields | None, is_call: bool, length: int, host: ClusterHost) -> RequestHead:
    """The head of a request. Raises HeaderError for invalid fields, RefusedPath for a path with dot segments."""
    head: HttpRequest = HttpRequest()
    if is_call:
        head = GrpcRequest(head.headers)
        head.accepts_trailers = True
    head.method = method
    bare, question, query = path.partition("?")  # the setters check the parts
    head.body_source = _PATHS
    head.path = bare
    if question:
        head.query = query
    head.headers = headers_from(headers if isinstance(headers, list) else dict(headers or {}))
    if not head.headers.has_raw(b"host"):
        head.headers.add_raw(b"host", (host.hostname or host_field(host.address)).encode())
    if length or method in ("POST", "PUT", "PATCH"):
        head.set_length(length)
    return head


def _is_call(headers: Fields | None) -> bool:
    """Whether the fields are those of a gRPC call."""
    fields = headers if isinstance(headers, list) else list((headers or {}).items())
    for name, value in fields:
        if name.lower() == "content-type":
            return is_grpc(value.encode("utf-8", "replace"))
    return False


class Call(InternalRequest):
    """One request to one host, whose response is collected."""

    def __init__(self, host: ClusterHost, runtime: Runtime, head: RequestHead, limit: int) -> None:
        """`limit`: maximum size of the response's body in bytes."""
        super().__init__(host, runtime)
        self._head = head
        self._limit: i64 = limit
        self._data = b""
        self._response: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._size: i64 = 0
        self._was_sent = False
        self._failure: Failure | None = None
        #: Whether it failed because its host had closed the reused connection.
        self.was_stale = False
        #: Its result is None if the request failed: an exception in it would refer to this object by its traceback.
        self._done: asyncio.Future[ClientResponse | None] = asyncio.get_running_loop().create_future()

    async def make(self, protocol: str, data: bytes, timeout: float, fresh: bool) -> ClientResponse:
        """Sends the request in `protocol` and waits for the response. Raises ClientError."""
        self._data = data
        self._wheel.set(self, timeout)
        self._take_stream(protocol, fresh)
        try:
            response = await self._done
        finally:
            if not self._is_over:  # the waiting task was cancelled
                self._end(NO_VERDICT)
                self._leave_stream()
        if response is None:
            raise ClientError("" if self._failure is None else self._failure.reason, self.host.address)
        return response

    def may_repeat(self) -> bool:
        """Whether the request may be sent again: nothing of it was sent, or only to a connection that was already closed."""
        failure = self._failure
        if failure is None:
            return False
        if self._was_sent and failure not in UNPROCESSED:
            return self.was_stale and self._head.may_repeat(False, False)
        return failure.may_retry

    def on_head(self, head: ResponseHead) -> None:
        self._response = head

    def on_piece(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            self._fail(RESPONSE_TOO_LARGE, NO_VERDICT)
            self._leave_stream()
            return
        self._pieces.append(data)

    def on_trailers(self, trailers: Headers) -> None:
        if self._response is not None:
            self._response.trailers = trailers
        super().on_trailers(trailers)

    def on_whole(self) -> None:
        head = self._response
        assert head is not None
        self._end_wait(ClientResponse(int(head.status), head.headers, b"".join(self._pieces), head.trailers))

    def on_failed(self, failure: Failure) -> None:
        self._failure = failure
        self._end_wait(None)

    def _end_wait(self, response: ClientResponse | None) -> None:
        if not self._done.done():  # the waiting task may have been cancelled in this iteration of the event loop
            self._done.set_result(response)

    def send(self, sender: RequestSender) -> None:
        self._was_sent = True
        sender.send_request(self._head, self._data, True)

    def on_reset(self, failure: Failure) -> None:
        if not self._is_over:
            verdict: i64 = self._count_reset(failure)
            self.was_stale = failure is RESET_BEFORE_RESPONSE and verdict == NO_VERDICT
            self._fail(failure, verdict)
