"""LAYER 4: streams <-> streams. One exchange as filters see it, and the reply that a filter may make.

`stream_filter` has what a filter may implement.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import cast

from mypy_extensions import mypyc_attr

from pymosn.api.network import Connection
from pymosn.api.record import ExchangeRecord, RouteOverrides
from pymosn.api.tracing import NO_SPAN, Span
from pymosn.api.upstream import criteria
from pymosn.api.variables import Variable, set_variable
from pymosn.core.errors import type_name
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import ResponseHead, body_bytes
from pymosn.core.plain import plain_text


class Reply:
    """A filter's answer to a request, in place of the upstream's response.

    Raises HeaderError for header names or values that may not be sent, ValueError for a status outside 200 to 599.
    """

    def __init__(
        self,
        status: int,
        body: str | bytes | Iterable[bytes] | AsyncIterable[bytes] = b"",
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    ) -> None:
        """`body`: text is sent as UTF-8; an iterable of bytes is streamed, as fast as the client reads."""
        if not 200 <= status <= 599:
            raise ValueError(f"reply status must be between 200 and 599, got {status}")
        self.status = status
        self.body: bytes = b""
        self.stream: Iterable[bytes] | AsyncIterable[bytes] | None = None
        if isinstance(body, (str, bytes, bytearray, memoryview)):
            self.body = body_bytes(body)
        elif isinstance(body, (Iterable, AsyncIterable)):
            self.stream = cast("Iterable[bytes] | AsyncIterable[bytes]", body)
        else:
            raise TypeError(f"reply body must be text, bytes or an iterable of bytes, got {type_name(body)}")
        self.headers: Headers = headers_from(headers if isinstance(headers, list) else dict(headers or {}))


def is_valid_reply(reply: Reply) -> bool:
    """Whether all attributes of a Reply have their types: a filter may have set them, or not called `__init__`.

    Raises whatever an attribute raises that a subclass defines.
    """
    return (
        issubclass(type(reply.status), int)
        and 200 <= reply.status <= 599
        and type(reply.body) is bytes
        and issubclass(type(reply.headers), Headers)
        and (reply.stream is None or isinstance(reply.stream, (Iterable, AsyncIterable)))
    )


@mypyc_attr(allow_interpreted_subclasses=True)
class Exchange(ExchangeRecord):
    """One request with its response and everything that happens in between; what filters and logs see."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        #: Whether a filter ended the response after the current chunk; see `end_response`.
        self.response_ended: bool = False
        #: Filters that skip the bodies of this exchange; see `skip_body`.
        self.body_skipped_by: list[object] | None = None
        self._state: dict[str, object] | None = None

    @property
    def state(self) -> dict[str, object]:
        """Per-request storage for filters."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def received_headers(self) -> Headers:
        """The request's headers as the client sent them, for filters that judge a response by what the client accepts.

        `request.headers` has what filters and the route have made of them since. Of an RPC request, only the route's
        changes are left out.
        """
        return self.request.headers if self.as_received is None else self.as_received

    @property
    def span(self) -> Span:
        """The span of this exchange in its trace, to which filters may add attributes and children; see docs/tracing.md.

        Whatever is added has no effect while tracing is off, or if the trace is not sampled.
        """
        trace = self.trace
        return NO_SPAN if trace is None else trace.server_span()

    @property
    def response_head(self) -> ResponseHead:
        """The response's head in phases that have one, such as `on_response`. RuntimeError in earlier phases."""
        if self.response is None:
            raise RuntimeError("no response yet; the first phase with a response is on_response")
        return self.response

    def variable(self, name: str) -> str | None:
        """The value of a variable (key reference section 12), or None."""
        return Variable(name).value(self)

    def set_variable(self, name: str, value: str) -> None:
        """Sets one of MOSN's control variables, or a variable with any other name.

        `x-mosn-path`, `x-mosn-querystring`, `x-mosn-method`, `x-mosn-host` and `x-mosn-scheme` change the request.
        Raises ValueError for read-only variables, and for a value that is invalid in a request.
        """
        set_variable(self, name, value)

    def route_config(self, name: str) -> object | None:
        """The `per_filter_config` for filter `name`, of the route or else of its virtual host."""
        route = self.route
        return None if route is None or route.filter_configs is None else route.filter_configs.get(name)

    def choose(
        self,
        *,
        route: str | None = None,
        cluster: str | None = None,
        host: str | None = None,
        subset: Mapping[str, str] | None = None,
        timeout: float | None = None,
        try_timeout: float | None = None,
        retries: int | None = None,
        protocol: str | None = None,
    ) -> None:
        """Overrides the route's decisions: a route of the virtual host by name, a cluster, one of its hosts by
        address, labels that the host must have, seconds for the response and for each attempt, the number of retries, and
        the upstream protocol (`Http1`, `Http2`, or that of a transcoder of the listener).

        `route` takes effect in `on_request`, `host` up to `on_host`, the others up to `on_route`. Raises ValueError
        for a `timeout` that is not positive and for a negative `try_timeout` (0 disables it) or `retries`.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout}")
        if try_timeout is not None and not try_timeout >= 0:
            raise ValueError(f"try_timeout must not be negative, got {try_timeout}")
        if retries is not None and retries < 0:
            raise ValueError(f"retries must not be negative, got {retries}")
        overrides = self.overrides
        if overrides is None:
            overrides = RouteOverrides()
            self.overrides = overrides
        if route is not None:
            overrides.route = plain_text(route)
        if cluster is not None:
            overrides.cluster = plain_text(cluster)
        if host is not None:
            overrides.host = plain_text(host)
        if subset is not None:
            overrides.subset = criteria({plain_text(key): plain_text(value) for key, value in subset.items()})
        if timeout is not None:
            overrides.timeout = timeout
        if try_timeout is not None:
            overrides.try_timeout = try_timeout
        if retries is not None:
            overrides.retries = retries
        if protocol is not None:
            overrides.protocol = plain_text(protocol)

    def skip_body(self, stream_filter: object) -> None:
        """Opts `stream_filter` out of this exchange's body callbacks.

        A filter calls it with itself, in `on_request` or `on_response`. Bodies no filter wants are streamed unchanged.
        """
        if self.body_skipped_by is None:
            self.body_skipped_by = []
        self.body_skipped_by.append(stream_filter)

    def end_response(self) -> None:
        """Ends the response after the current chunk; call from `on_response_body`.

        Responses with a declared Content-Length, as left by a filter with `changes_length = False`, are aborted instead.
        """
        self.response_ended = True


@mypyc_attr(allow_interpreted_subclasses=True)
class AccessLog:
    """Writes one line per exchange."""

    def log(self, exchange: Exchange) -> None:
        """Called once, when the exchange is over."""
        raise NotImplementedError
