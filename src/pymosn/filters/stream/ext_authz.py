"""`ext_authz`, pymosn's own: an HTTP service in one of the proxy's clusters decides whether a request is allowed."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Final

import msgspec

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import ClientError, ClientResponse, StreamFilter
from pymosn.core.errors import reason
from pymosn.core.failure import ACCESS_DENIED, AUTHORIZATION_FAILED
from pymosn.core.headers import HeaderError, to_text
from pymosn.core.log import WARN
from pymosn.filters.settings import Block, Duration, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.credentials import note_header, remove_claims
from pymosn.filters.stream.problems import Problems

NAME: Final = "ext_authz"
#: Headers that describe the request to the service.
DESCRIBING: Final = ("x-forwarded-method", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri", "x-forwarded-for")
#: Always sent: the client's verified certificate, and what trusted proxies sent about theirs.
CLIENT_CERT: Final = "x-forwarded-client-cert"
#: Maximum size of the service's response body, in bytes.
LIMIT: Final = 64 * 1024
#: Headers that this filter itself sends to the service.
OWN: Final = frozenset(f"x-forwarded-{what}" for what in ("method", "proto", "host", "uri", "for"))
#: Headers that a message has once (RFC 9110, RFC 9111); if the service repeats one, the first value counts.
SINGLE: Final = frozenset(
    (
        *("age", "authorization", "content-location", "content-type", "date", "etag", "expires", "host", "last-modified"),
        *("location", "proxy-authorization", "retry-after", "server", "user-agent"),
    )
)


class Settings(Block, kw_only=True):
    """`ext_authz`: a service decides by HTTP whether a request is allowed."""

    cluster: Annotated[str, own("the cluster of the service")] = ""
    path: Annotated[str, own("path of the GET to the service; empty: the request's own path and query")] = ""
    timeout: Annotated[Duration, own("")] = 2.0
    failure_mode_allow: Annotated[bool, own("let requests pass when the service does not answer or answers 5xx")] = False
    status_on_error: Annotated[int, own("status for the client in this case without `failure_mode_allow`")] = 403
    request_headers: Annotated[list[str], own("request headers that are sent to the service")] = msgspec.field(
        default_factory=lambda: ["authorization", "cookie"]
    )
    headers_to_upstream: Annotated[
        list[str], own("headers of a 2xx response that are sent to the upstream; the client's own are removed")
    ] = []
    headers_to_client: Annotated[list[str], own("headers of any other response that are sent to the client")] = (
        msgspec.field(default_factory=lambda: ["content-type", "location", "set-cookie", "www-authenticate"])
    )


class RouteSettings(Block, kw_only=True):
    """`per_filter_config.ext_authz`."""

    disabled: Annotated[bool, own("requests of this route pass without authorization")] = False


class ExtAuthzFilter(StreamFilter):
    """Sends a request to the service for each exchange: 2xx allows it, 5xx is an error, any other response denies it.

    A denial is sent to the client; the request's body is not sent to the service. Cost per request: a task and a request.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        problems.require(settings.cluster, ".cluster", "the cluster of the service is missing")
        if settings.path:
            problems.target(".path", settings.path)
        problems.require(settings.timeout > 0, ".timeout", "must be greater than 0")
        problems.status(".status_on_error", settings.status_on_error, 400)
        problems.changed_headers(".request_headers", settings.request_headers)
        problems.changed_headers(".headers_to_upstream", settings.headers_to_upstream)
        problems.changed_headers(".headers_to_client", settings.headers_to_client)
        for i, name in enumerate(settings.request_headers):
            text = f"{name} describes the request, and is always sent; the client's own value would contradict it"
            problems.require(name.lower() not in DESCRIBING, f".request_headers[{i}]", text)
        problems.end()
        self._settings = settings
        names = [*settings.request_headers, CLIENT_CERT]
        self._forwarded = list(dict.fromkeys(name.lower() for name in names if name.lower() not in OWN))
        self._to_upstream = [name.lower() for name in settings.headers_to_upstream]
        self._to_client = [name.lower() for name in settings.headers_to_client]

    def on_route(self, exchange: Exchange) -> Awaitable[Reply | None] | None:
        of_route = self.context.route_config(exchange, NAME)
        if isinstance(of_route, RouteSettings) and of_route.disabled:
            return None
        return self._authorize(exchange)

    async def _authorize(self, exchange: Exchange) -> Reply | None:
        request = exchange.request
        target = to_text(request.raw_target())
        # Repeated headers stay repeated: the service must see everything that the upstream will see.
        fields = [(name, value) for name in self._forwarded for value in request.headers.get_all(name)]
        host = request.headers.joined("x-forwarded-host") or request.host
        described = (request.method, request.scheme, host, target, exchange.remote_ip)
        fields += zip(DESCRIBING, described, strict=True)
        settings = self._settings
        try:
            client = self.clusters[settings.cluster]
            answer = await client.request("GET", settings.path or target, fields, b"", settings.timeout, LIMIT, exchange)
        except ClientError as error:
            return self._on_failed(exchange, error.reason)
        except (KeyError, HeaderError) as error:
            # Without a cluster, or with a request that cannot be described, no service could have answered.
            return self._reject(exchange, reason(error))
        if answer.status >= 500:
            return self._on_failed(exchange, f"status {answer.status}")
        if 200 <= answer.status < 300:
            self._allow(exchange, _chosen(answer, self._to_upstream))
            return None
        self.context.counter("denied").value += 1
        exchange.failure = ACCESS_DENIED
        if answer.status < 200 or answer.status == 304:
            return Reply(403)  # not a status for this client
        return Reply(answer.status, answer.body, _chosen(answer, self._to_client))

    def _allow(self, exchange: Exchange, fields: list[tuple[str, str]]) -> None:
        """Adds the service's headers; those of the client are removed, so that the upstream can trust what it gets."""
        for name in self._forwarded:
            note_header(exchange, name)
        headers = exchange.request.headers
        for name in self._to_upstream:
            remove_claims(headers, name)
        for name, value in fields:
            headers.add(name, value)

    def _on_failed(self, exchange: Exchange, detail: str) -> Reply | None:
        self.context.counter("failed").value += 1
        self.context.write(f"no answer from cluster {self._settings.cluster!r}: {detail}", WARN)
        if self._settings.failure_mode_allow:
            self._allow(exchange, [])
            return None
        return self._reject(exchange, detail)

    def _reject(self, exchange: Exchange, detail: str) -> Reply:
        exchange.failure = AUTHORIZATION_FAILED
        exchange.failure_detail = detail
        return Reply(self._settings.status_on_error)


def _chosen(answer: ClientResponse, names: list[str]) -> list[tuple[str, str]]:
    values = [(name, answer.headers.get_all(name)) for name in names]
    return [(name, value) for name, found in values for value in (found[:1] if name in SINGLE else found)]


_NOTE: Final = "pymosn's own: asks a service by HTTP; also of a route"
_ROUTE: Final = RouteSpec(RouteSettings, lambda settings: settings)
SPEC: Final = FilterSpec(
    NAME,
    Settings,
    ExtAuthzFilter,
    _NOTE,
    route=_ROUTE,
    clusters=lambda settings: [("cluster", settings.cluster)],
    guards=True,
)
