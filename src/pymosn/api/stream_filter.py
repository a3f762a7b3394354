"""The interface of stream filters: the extension point for policy in Python.

The phases of an exchange, in order. Each is a method; only overridden methods are called.

    on_request         the request head has been received; no route is selected yet
    on_route           the route is selected
    on_host            the host is selected; called for each attempt
    on_request_body    a chunk of the request body is about to be forwarded
    on_response        the response head is about to be sent
    on_response_body   a chunk of the response body is about to be sent
    on_complete        the exchange has ended, successfully or not
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.upstream import ServiceFacts
from pymosn.core.clock import Clock
from pymosn.core.counters import Counter, MetricGroup, Metrics
from pymosn.core.errors import describe, printable
from pymosn.core.headers import Headers
from pymosn.core.json_text import parse_json
from pymosn.core.log import ERROR, INFO, Log
from pymosn.core.plain import plain_text

#: `on_error` policies: what to do when a filter raises, times out or returns an invalid value.
FAIL: Final = "fail"
SKIP: Final = "skip"

#: Header fields of a request: a dict, or pairs if a name occurs more than once.
Fields = Mapping[str, str] | list[tuple[str, str]]


@mypyc_attr(allow_interpreted_subclasses=True)
class ClusterClient:
    """Sends requests to one of the proxy's clusters, using its pools, limits and host health."""

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
        """Sends a request and waits for the complete response: at most `limit` bytes within `timeout` seconds.

        `exchange`: the one that it is made for, whose trace it becomes a part of.

        Raises ClientError if there is none; a response with an error status is returned. A request with the content type of
        gRPC goes to the host in HTTP/2, and is a call: its status is in the response's trailers. Raises HeaderError for a
        path or fields that cannot be sent, and RefusedPath for a path with a dot segment, which answers 400 unless caught.
        """
        raise NotImplementedError

    async def get(
        self, path: str, headers: Fields | None = None, timeout: float = 5.0, exchange: Exchange | None = None
    ) -> ClientResponse:
        """Sends a GET; see `request`."""
        return await self.request("GET", path, headers, b"", timeout, exchange=exchange)

    async def post(
        self,
        path: str,
        body: bytes | str,
        headers: Fields | None = None,
        timeout: float = 5.0,
        exchange: Exchange | None = None,
    ) -> ClientResponse:
        """Sends a POST; see `request`."""
        return await self.request("POST", path, headers, body, timeout, exchange=exchange)

    def follows_client(self) -> bool:
        """Whether the client chooses the host (ORIGINAL_DST), so that hosts of the cluster may be different services."""
        return False

    def service(self) -> ServiceFacts | None:
        """The service that the cluster represents; None if unknown."""
        return None

    def workload_of(self, address: str) -> str:
        """The workload of the host at `address`, as `name;namespace;service;revision;cluster`; empty if unknown."""
        return ""


class ClientResponse:
    """A cluster's response to a filter's request."""

    def __init__(self, status: int, headers: Headers, body: bytes, trailers: Headers | None = None) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        #: Those after the body; None if there were none.
        self.trailers = trailers

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError, as `parse_json` does."""
        return parse_json(self.body)


class ClientError(Exception):
    """No complete response was received. `reason`: a word of the failure table: `connect_refused`, `timeout`, ..."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class FilterContext:
    """Per-worker services for one filter: logging, clusters, clock, metrics and background tasks."""

    def __init__(
        self,
        name: str,
        log: Log,
        clusters: Mapping[str, ClusterClient],
        clock: Clock | None = None,
        metrics: MetricGroup | None = None,
        workers: int = 1,
        worker: int = 0,
        all_metrics: Metrics | None = None,
        route_key: str = "",
        node: Mapping[str, Any] | None = None,
    ) -> None:
        """`workers`: number of workers, each with its own filter object. `worker`: index of this worker, from 0.

        `route_key`: of the filter's own settings in `per_filter_config`, `TYPE/NAME`; empty for a filter without a name.
        `node`: this proxy's, as control planes get it: Envoy's Node as JSON.
        """
        self.name = name
        self.route_key = route_key
        self.clusters = clusters
        self.clock = Clock() if clock is None else clock
        self.workers = workers
        self.worker = worker
        self.node: Mapping[str, Any] = {} if node is None else node
        self._metrics = MetricGroup("filter", (("filter", name),)) if metrics is None else metrics
        self._all_metrics = Metrics() if all_metrics is None else all_metrics
        self._log = log
        self._tasks: set[asyncio.Task[Any]] = set()

    def route_config(self, exchange: Exchange, kind: str) -> object | None:
        """The `per_filter_config` of the route for this filter: the one with its name, or else that of its type `kind`."""
        own = exchange.route_config(self.route_key) if self.route_key else None
        return exchange.route_config(kind) if own is None else own

    def write(self, text: str, level: int = INFO) -> None:
        """Writes a line to the process log."""
        if self._log.level <= level:
            self._log.write(level, f"filter {self.name!r}: {text}", "pymosn.filter")

    def counter(self, key: str) -> Counter:
        """Returns a custom counter, creating it on first use; reported next to `calls` and `errors`."""
        return self._metrics.counter(_metric_key(key))

    def gauge(self, key: str) -> Counter:
        """Returns a custom gauge, whose value may also decrease, creating it on first use."""
        return self._metrics.gauge(_metric_key(key))

    def group(self, type_name: str, *labels: tuple[str, str]) -> MetricGroup:
        """Returns a group of metrics with its own type and labels, for a shipped filter. Their number must be bounded."""
        return self._all_metrics.group(type_name, *labels)

    def bounded_group(self, limit: int, type_name: str, *labels: tuple[str, str]) -> MetricGroup | None:
        """Like `group`, for labels that peers choose; None if it would exceed `limit` groups of this type in the worker."""
        return self._all_metrics.bounded(limit, type_name, *labels)

    def create_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work` in the background until it ends or the filter stops; exceptions are logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error: BaseException | None
        if not task.cancelled():
            error = task.exception()
        else:
            error = None if task.cancelling() > 0 else asyncio.CancelledError("it cancelled itself")
        if error is not None:
            self.write(f"background task failed: {describe(error)}", ERROR)

    async def end_tasks(self) -> None:
        """Cancels running tasks and waits for them. Waiting can be cancelled, even for a task that cannot."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _metric_key(key: str) -> str:
    """Reports take no subclass of `str`, and valid text only."""
    return printable(plain_text(key))


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamFilter:
    """Base of stream filters. The phases on heads may be plain methods or `async def`.

    One object serves all requests of a listener in a worker; keep per-request data in `exchange.state`. A ContextVar that a
    method sets is visible in all later phases of the same exchange, and nowhere else. Each exchange begins with an empty
    context, as a new thread does: values set at import or in `start` are not visible.
    """

    #: A msgspec.Struct or pydantic model; `config` is then an instance of it, and invalid settings prevent the start.
    Config: ClassVar[Any] = None
    #: `fail` responds with 500, `skip` continues without this filter; the configuration can override it.
    on_error: ClassVar[str] = FAIL
    #: Seconds for each wait in an `async` method; 0 means no limit. The configuration can override it.
    timeout: ClassVar[float] = 0.0
    #: Protocols whose exchanges the filter handles, as in `exchange.protocol`; empty for all.
    protocols: ClassVar[tuple[str, ...]] = ()
    #: Whether body methods may return more or fewer bytes than they received.
    changes_length: ClassVar[bool] = True
    #: Whether `on_request`, which is called before there is a route, may be skipped, so that routes can disable
    #: the filter. Without that method they always can.
    follows_routes: bool = False

    def __init__(self, config: Any) -> None:
        """`config`: the filter's configuration object, without `path` and `class`."""
        self.context: FilterContext = NO_CONTEXT

    @property
    def clusters(self) -> Mapping[str, ClusterClient]:
        """Clients of the proxy's clusters by name, available from `start` on. Raises KeyError for unknown clusters."""
        return self.context.clusters

    async def start(self) -> None:
        """Called before the filter goes live in this worker. Raise to reject the configuration."""

    async def stop(self) -> None:
        """Called when the filter is no longer active and no exchange uses it."""

    def on_reopen(self) -> None:
        """Called when log files must be opened again: on SIGUSR1, and after pymosn has rotated logs. A plain method.

        From the end of `start` to the beginning of `stop`, also in a filter that has been replaced and is still in use. An
        exception is logged, and counted as an error.
        """

    def on_request(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """Called with the request head, before routing. Return a Reply to answer immediately, None to continue."""
        return None

    def on_route(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """Called with `exchange.route` and, if the route has one, `cluster_name`; `exchange.choose` can change it."""
        return None

    def on_host(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """Called with `exchange.upstream_address`, once for each attempt."""
        return None

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        """Called for each chunk of the request body; the last one may be empty. Return None to forward it unchanged.

        Not called for requests without a body. Must be a plain method, like `on_response_body`.
        """
        return None

    def on_response(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """Called before the response head (`exchange.response`) is sent. Return a Reply to send that instead."""
        return None

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        """Called for each chunk of the response body; like `on_request_body`. See also `exchange.end_response`."""
        return None

    def on_complete(self, exchange: Exchange) -> None:
        """Called at the end of the exchange, whether successful or not (`exchange.failure`)."""


NO_CONTEXT: Final = FilterContext("", Log(), {})
