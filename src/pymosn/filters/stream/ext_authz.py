"""`ext_authz`, pymosn's own: a service behind one of the proxy's clusters says by HTTP whether a request may pass."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import ClientError, ClientResponse, StreamFilter
from pymosn.core.failure import ACCESS_DENIED, AUTHORIZATION_FAILED
from pymosn.core.headers import HeaderError
from pymosn.core.log import WARN
from pymosn.filters.stream.problems import Problems

NAME: Final = "ext_authz"
#: Bytes that the service's reply may have.
LIMIT: Final = 64 * 1024
#: Fields of which a message has one (RFC 9110, RFC 9111); of what the service says more than once, the first counts.
SINGLE: Final = frozenset(
    (
        "age",
        "authorization",
        "content-location",
        "content-type",
        "date",
        "etag",
        "expires",
        "host",
        "last-modified",
        "location",
        "proxy-authorization",
        "retry-after",
        "server",
        "user-agent",
    )
)


class RouteSettings:
    """`per_filter_config.ext_authz`: whether requests of the route pass unasked."""

    def __init__(self, config: Any) -> None:
        self.disabled: bool = config.disabled


class ExtAuthzFilter(StreamFilter):
    """Asks for each request, and goes by the status: 2xx lets it pass, 5xx is no answer, any other is the client's reply.

    The request's body is not sent. Per request: a task and a request to the service.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        problems = Problems()
        if not config.cluster:
            problems.add(".cluster", "the cluster of the service is missing")
        if config.path and not config.path.startswith("/"):
            problems.add(".path", f"must begin with /, not {config.path!r}")
        if config.timeout <= 0:
            problems.add(".timeout", "must be more than 0")
        problems.status(".status_on_error", config.status_on_error, 400)
        for key in ("request_headers", "headers_to_upstream", "headers_to_client"):
            for place, name in enumerate(getattr(config, key)):
                problems.header(f".{key}[{place}]", name)
        problems.end()
        self._cluster: str = config.cluster
        self._path: str = config.path
        self._timeout: float = config.timeout
        self._fails_open: bool = config.failure_mode_allow
        self._status: int = config.status_on_error
        self._asked: list[str] = [name.lower() for name in config.request_headers]
        self._to_upstream: list[str] = [name.lower() for name in config.headers_to_upstream]
        self._to_client: list[str] = [name.lower() for name in config.headers_to_client]

    @staticmethod
    def for_route(config: Any) -> RouteSettings:
        """`per_filter_config.ext_authz` as the filter wants it."""
        return RouteSettings(config)

    def on_route(self, exchange: Exchange) -> Awaitable[Reply | None] | None:
        own = exchange.route_config(NAME)
        if isinstance(own, RouteSettings) and own.disabled:
            return None
        return self._ask(exchange)

    async def _ask(self, exchange: Exchange) -> Reply | None:
        request = exchange.request
        target = f"{request.path}?{request.query}" if request.query else request.path
        # As often as they came: what the upstream will see, the service must have seen.
        fields = [(name, value) for name in self._asked for value in request.headers.get_all(name)]
        fields += [
            ("x-forwarded-method", request.method),
            ("x-forwarded-proto", request.scheme),
            ("x-forwarded-host", request.host),
            ("x-forwarded-uri", target),
            ("x-forwarded-for", exchange.remote_ip),
        ]
        try:
            client = self.clusters[self._cluster]
            answer = await client.request("GET", self._path or target, fields, b"", self._timeout, LIMIT)
        except (ClientError, KeyError, HeaderError) as error:
            return self._on_failed(exchange, str(error))
        if answer.status >= 500:
            return self._on_failed(exchange, f"status {answer.status}")
        if 200 <= answer.status < 300:
            self._let_pass(exchange, answer)
            return None
        self.context.counter("denied").value += 1
        exchange.failure = ACCESS_DENIED
        if answer.status < 200 or answer.status == 304:
            return Reply(403)  # no answer for this client
        return Reply(answer.status, answer.body, _chosen(answer, self._to_client))

    def _let_pass(self, exchange: Exchange, answer: ClientResponse) -> None:
        """What the service says about the client is known to come from it: the client's own words are removed."""
        headers = exchange.request.headers
        for name in self._to_upstream:
            headers.remove(name)
        for name, value in _chosen(answer, self._to_upstream):
            headers.add(name, value)

    def _on_failed(self, exchange: Exchange, detail: str) -> Reply | None:
        self.context.counter("failed").value += 1
        self.context.write(f"no answer from cluster {self._cluster!r}: {detail}", WARN)
        if self._fails_open:
            for name in self._to_upstream:
                exchange.request.headers.remove(name)
            return None
        exchange.failure = AUTHORIZATION_FAILED
        exchange.failure_detail = detail
        return Reply(self._status)


def _chosen(answer: ClientResponse, names: list[str]) -> list[tuple[str, str]]:
    chosen: list[tuple[str, str]] = []
    for name in names:
        values = answer.headers.get_all(name)
        chosen += [(name, value) for value in (values[:1] if name in SINGLE else values)]
    return chosen
