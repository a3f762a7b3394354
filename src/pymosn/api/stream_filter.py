"""What a stream filter may implement: the extension point for policy in Python.

The phases of an exchange, in order; each is a method, and only those that a filter overrides are called:

    on_request         the head is here, no route is chosen yet
    on_route           the route is chosen
    on_host            the host is chosen; once for each attempt
    on_request_body    each piece of the request's body, on its way to the host
    on_response        the reply's head is about to be sent
    on_response_body   each piece of the reply's body, on its way to the client
    on_complete        the exchange is over, well or badly
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from pymosn.api.exchange import Exchange, Reply
from pymosn.core.clock import Clock
from pymosn.core.counters import Counter, MetricGroup
from pymosn.core.headers import Headers
from pymosn.core.log import ERROR, INFO, Log

#: Values of `on_error`: what becomes of an exchange whose filter raised, timed out or answered nonsense.
FAIL: Final = "fail"
SKIP: Final = "skip"

#: Header fields of a request: a dict, or pairs when a name comes more than once.
Fields = Mapping[str, str] | list[tuple[str, str]]


@mypyc_attr(allow_interpreted_subclasses=True)
class ClusterClient:
    """Asks the hosts of one of the proxy's clusters, through their pools, limits and health."""

    async def request(
        self,
        method: str,
        path: str,
        headers: Fields | None = None,
        body: bytes | str = b"",
        timeout: float = 5.0,
        limit: int = 1024 * 1024,
    ) -> ClientResponse:
        """Sends a request and waits for its whole reply, of at most `limit` bytes, for at most `timeout` seconds.

        Raises ClientError when there is no complete reply; a reply of any status is one.
        """
        raise NotImplementedError

    async def get(self, path: str, headers: Fields | None = None, timeout: float = 5.0) -> ClientResponse:
        """A GET; see `request`."""
        return await self.request("GET", path, headers, b"", timeout)

    async def post(
        self, path: str, body: bytes | str, headers: Fields | None = None, timeout: float = 5.0
    ) -> ClientResponse:
        """A POST; see `request`."""
        return await self.request("POST", path, headers, body, timeout)


class ClientResponse:
    """What a cluster answered to a filter."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


class ClientError(Exception):
    """A cluster gave no complete reply. `reason` is a word of the failure table: `connect_refused`, `timeout`, ..."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class FilterContext:
    """What a worker gives to one filter: its name, log, clusters, clock and counters, and a place for its tasks."""

    def __init__(
        self,
        name: str,
        log: Log,
        clusters: Mapping[str, ClusterClient],
        clock: Clock | None = None,
        metrics: MetricGroup | None = None,
        workers: int = 1,
        worker: int = 0,
    ) -> None:
        """`workers`: how many there are, each with a filter of its own. `worker`: which of them this is, from 0."""
        self.name = name
        self.clusters = clusters
        self.clock = Clock() if clock is None else clock
        self.workers = workers
        self.worker = worker
        self._metrics = MetricGroup("filter", (("filter", name),)) if metrics is None else metrics
        self._log = log
        self._tasks: set[asyncio.Task[Any]] = set()

    def write(self, text: str, level: int = INFO) -> None:
        """A line in the process log."""
        if self._log.level <= level:
            self._log.write(level, f"filter {self.name!r}: {text}", "pymosn.filter")

    def counter(self, key: str) -> Counter:
        """A counter of the filter's own, made when absent; it stands beside `calls` and `errors` in the statistics."""
        return self._metrics.counter(key)

    def create_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work` beside the exchanges until it ends or the filter does; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.write(f"a task of its own failed: {type(error).__name__}: {error}", ERROR)

    async def end_tasks(self) -> None:
        """Cancels what still runs, and waits for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamFilter:
    """Base of stream filters. Override what is wanted; the phases on heads may be plain methods or `async def`.

    One object serves all requests of a listener in a worker; what belongs to a request goes into `exchange.state`.
    """

    #: A msgspec.Struct or pydantic model; `config` then is an instance of it, and what does not fit refuses the start.
    Config: ClassVar[Any] = None
    #: `fail` answers 500, `skip` goes on without this filter; the configuration may say otherwise.
    on_error: ClassVar[str] = FAIL
    #: Seconds for each wait of an `async` method; 0 is no limit. The configuration may say otherwise.
    timeout: ClassVar[float] = 0.0
    #: Names of the protocols whose exchanges it wants to see, as in `exchange.protocol`; empty for all.
    protocols: ClassVar[tuple[str, ...]] = ()
    #: Whether the body methods may return more or fewer bytes than they got.
    changes_length: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        """`config`: the filter's own object from the configuration, without `path` and `class`."""
        self.context: FilterContext = NO_CONTEXT

    @property
    def clusters(self) -> Mapping[str, ClusterClient]:
        """Clients of the proxy's clusters, by name; from `start` on. KeyError for one that is not configured."""
        return self.context.clusters

    async def start(self) -> None:
        """The filter is about to be put in force in this worker. Raise to refuse that."""

    async def stop(self) -> None:
        """The filter is not in force any more, and no exchange uses it."""

    def on_request(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """The request's head is here, its route is not chosen yet. A Reply answers it; None lets it pass."""
        return None

    def on_route(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """`exchange.route` is chosen, and `cluster_name` if it leads to one; `exchange.choose` may change that."""
        return None

    def on_host(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """`exchange.upstream_address` is chosen; once for each attempt."""
        return None

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        """A piece of the request's body, which may be empty when it is the last. None passes it as it is.

        Not called for requests without a body. Must be a plain method; so must `on_response_body`.
        """
        return None

    def on_response(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """The reply's head is about to be sent (`exchange.response`). A Reply takes its place."""
        return None

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        """A piece of the reply's body; otherwise like `on_request_body`. See also `exchange.end_response`."""
        return None

    def on_complete(self, exchange: Exchange) -> None:
        """The exchange is over, well or badly (`exchange.failure`)."""


NO_CONTEXT: Final = FilterContext("", Log(), {})
