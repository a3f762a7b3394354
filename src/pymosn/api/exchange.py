"""LAYER 4: streams <-> streams. One exchange as filters see it, and the reply that a filter may make.

What a filter may implement is in `stream_filter`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Final, cast

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import Connection, join_address
from pymosn.api.routing import Route
from pymosn.api.stream import RequestReceiver
from pymosn.api.upstream import Criteria, criteria
from pymosn.api.variables import Variable, set_variable
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import RequestHead, ResponseHead


class Reply:
    """An answer made by a filter, in place of the upstream's.

    Raises HeaderError for header names or values that may not be sent, ValueError for a status outside 200 to 599.
    """

    def __init__(
        self,
        status: int,
        body: str | bytes | Iterable[bytes] | AsyncIterable[bytes] = b"",
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    ) -> None:
        """`body`: text is sent as UTF-8; what can be iterated over is sent piece by piece, as fast as the client reads."""
        if not 200 <= status <= 599:
            raise ValueError(f"a reply's status is 200 to 599, not {status}")
        self.status = status
        self.body: bytes = b""
        self.stream: Iterable[bytes] | AsyncIterable[bytes] | None = None
        if isinstance(body, str):
            self.body = body.encode()
        elif isinstance(body, (bytes, bytearray, memoryview)):
            self.body = bytes(body)
        elif isinstance(body, (Iterable, AsyncIterable)):
            self.stream = cast("Iterable[bytes] | AsyncIterable[bytes]", body)
        else:
            raise TypeError(f"a reply's body is text, bytes or an iterable of bytes, not {type(body).__name__}")
        self.headers: Headers = headers_from(headers if isinstance(headers, list) else dict(headers or {}))


class RouteOverrides:
    """What filters want done with a request, in place of what its route says. None: as the route says."""

    def __init__(self) -> None:
        self.route: str | None = None
        self.cluster: str | None = None
        self.host: str | None = None
        self.subset: Criteria | None = None
        self.timeout: float | None = None
        self.try_timeout: float | None = None
        self.retries: int | None = None


#: What an exchange has for a request until that is there.
NO_REQUEST: Final = RequestHead()


@mypyc_attr(allow_interpreted_subclasses=True)
class Exchange(RequestReceiver):
    """One request and all that is done for it, as filters and logs see it.

    Times are those of `Clock.now`; 0.0 is "not yet". The methods that it inherits are how the stream layer drives it;
    filters use the attributes.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.request: RequestHead = NO_REQUEST
        self.response: ResponseHead | None = None
        self.route: Route | None = None
        self.failure: Failure | None = None
        self.failure_detail: str = ""
        self.protocol: str = ""
        self.cluster_name: str = ""
        self.upstream_address: str = ""
        self.upstream_hostname: str = ""
        self.connection: Connection = connection
        #: The client's IP address as the trusted proxies before us wrote it; empty: it is that of the socket.
        self.forwarded_ip: str = ""
        self.upstream_connection_id: i64 = 0
        self.started: float = 0.0
        self.request_received: float = 0.0
        self.response_received: float = 0.0
        self.finished: float = 0.0
        self.bytes_received: i64 = 0
        self.bytes_sent: i64 = 0
        self.attempts: i64 = 0
        #: Path and host as they came, when the route rewrote them.
        self.original_path: bytes = b""
        self.original_host: bytes = b""
        #: What filters set with `set_variable`.
        self.own_variables: dict[str, str] | None = None
        #: The value of a Set-Cookie that the route's hash policy makes.
        self.set_cookie: bytes = b""
        #: What filters chose with `choose`.
        self.choices: RouteOverrides | None = None
        self._state: dict[str, object] | None = None
        # Filters that are not shown the bodies of this exchange.
        self._without_body: list[object] | None = None
        self._ends_response: bool = False

    @property
    def state(self) -> dict[str, object]:
        """A place for filters to keep what belongs to this request."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def response_head(self) -> ResponseHead:
        """The reply's head where there must be one, as in `on_response`. RuntimeError when there is none."""
        if self.response is None:
            raise RuntimeError("there is no reply yet; on_response is the first phase that has one")
        return self.response

    def variable(self, name: str) -> str | None:
        """The value of a variable (key reference section 12); None when it has none."""
        return Variable(name).value(self)

    def set_variable(self, name: str, value: str) -> None:
        """Sets a variable: one of MOSN's control variables, or any name of your own.

        `x-mosn-path`, `x-mosn-querystring`, `x-mosn-method`, `x-mosn-host` and `x-mosn-scheme` change the request.
        Raises ValueError for a name that only the proxy sets, and for a value that the request cannot have.
        """
        set_variable(self, name, value)

    def upstream_protocol(self) -> str:
        """The protocol in which the request goes to the upstream: the client's, unless it is transcoded."""
        return self.protocol

    def route_config(self, name: str) -> object | None:
        """What `per_filter_config` of the route, or else of its virtual host, says for the filter `name`."""
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
    ) -> None:
        """Decides in place of the route: a route of the virtual host by its name, a cluster, one of its hosts by
        address, labels that the host must have, seconds for the reply and for each attempt, and further attempts.

        `route` counts in `on_request`, the others until `on_route`, and `host` also in `on_host`. Raises ValueError for
        a `timeout` that is not above 0, and for the other numbers below it; a `try_timeout` of 0 is none.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is a number of seconds above 0, not {timeout}")
        if try_timeout is not None and not try_timeout >= 0:
            raise ValueError(f"try_timeout is a number of seconds, not {try_timeout}")
        if retries is not None and retries < 0:
            raise ValueError(f"retries is a number of attempts, not {retries}")
        choices = self.choices
        if choices is None:
            choices = RouteOverrides()
            self.choices = choices
        if route is not None:
            choices.route = route
        if cluster is not None:
            choices.cluster = cluster
        if host is not None:
            choices.host = host
        if subset is not None:
            choices.subset = criteria(subset)
        if timeout is not None:
            choices.timeout = timeout
        if try_timeout is not None:
            choices.try_timeout = try_timeout
        if retries is not None:
            choices.retries = retries

    def skip_body(self, stream_filter: object) -> None:
        """`stream_filter` does not look at the bodies of this exchange: without others they go on as they come.

        For `on_request` and `on_response`; a filter calls it with itself.
        """
        if self._without_body is None:
            self._without_body = []
        self._without_body.append(stream_filter)

    def end_response(self) -> None:
        """Ends the reply behind the piece of its body that is in hand; for `on_response_body`.

        A reply of known length, which a filter that says `changes_length = False` leaves one, is broken off.
        """
        self._ends_response = True

    @property
    def remote_address(self) -> str:
        """The client's address, `ip:port`; behind trusted proxies (`trusted_hops`) its port is not known and 0."""
        if self.forwarded_ip:
            return join_address(self.forwarded_ip, 0)
        return self.direct_remote_address

    @property
    def direct_remote_address(self) -> str:
        """The address of the socket's other end, `ip:port`, whoever that is."""
        return join_address(self.connection.remote_ip, self.connection.remote_port)

    @property
    def local_address(self) -> str:
        """The address on which the client's connection was accepted."""
        return join_address(self.connection.local_ip, self.connection.local_port)

    @property
    def remote_ip(self) -> str:
        """The client's IP address: that of its socket, or what the trusted proxies before us say (`trusted_hops`)."""
        return self.forwarded_ip or self.connection.remote_ip

    @property
    def connection_id(self) -> int:
        """The number of the client's connection in its worker."""
        return int(self.connection.id)


@mypyc_attr(allow_interpreted_subclasses=True)
class AccessLog:
    """Writes one line per exchange."""

    def log(self, exchange: Exchange) -> None:
        """The exchange is over."""
        raise NotImplementedError
