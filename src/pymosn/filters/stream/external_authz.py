"""`external_authz`, pymosn's own: Envoy's external authorization, whose service is asked by gRPC or HTTP.

The service is that of envoy.service.auth.v3, or of HTTP as Envoy asks it: by the request's own method and path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import ClientError, ClientResponse, StreamFilter
from pymosn.core.errors import reason
from pymosn.core.failure import ACCESS_DENIED, AUTHORIZATION_FAILED
from pymosn.core.headers import FRAMING, HeaderError, Headers, lower_name, to_text
from pymosn.core.log import WARN
from pymosn.filters.settings import AnyMap, Duration, StrictBlock, Unsigned, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.authz_messages import (
    ADD_IF_ABSENT,
    APPEND,
    CHECK,
    OVERWRITE,
    OVERWRITE_IF_EXISTS,
    Change,
    Description,
    Verdict,
    http_request,
    read_verdict,
)
from pymosn.filters.stream.dynamic_metadata import metadata_test, metadata_value, note_metadata
from pymosn.filters.stream.envoy_match import EVERY_READING, EnvoyObject, Test, text_test
from pymosn.filters.stream.grpc_call import CallError, GrpcTarget, call
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.query_changes import changed_query

NAME: Final = "external_authz"
NAMESPACE: Final = "envoy.filters.http.ext_authz"
_FOR_CLIENT: Final = "external_authz response headers"
#: Maximum size of the body of an HTTP service's response, in bytes.
LIMIT: Final = 64 * 1024
#: Headers of a denial that clients always get, with `client_headers`.
_ALWAYS: Final = ("content-type", "www-authenticate", "location")
_MATCH = "a StringMatcher of Envoy: exact, prefix, suffix, contains or safe_regex, and ignore_case"


class HttpTarget(StrictBlock, kw_only=True):
    """A service that gets each request, usually without its body."""

    cluster: Annotated[str, own("")] = ""
    path_prefix: Annotated[str, own("before the path of the request")] = ""
    headers_to_add: Annotated[dict[str, str], own("")] = {}
    upstream_headers: Annotated[list[AnyMap], own(f"headers of a 200 response for the upstream; each {_MATCH}")] = []
    upstream_headers_to_append: Annotated[list[AnyMap], own("the same, in addition to those of the client")] = []
    client_headers: Annotated[list[AnyMap], own("headers of a denial for the client; empty: all")] = []
    client_headers_on_success: Annotated[list[AnyMap], own("headers of a 200 response for the client")] = []


class Settings(StrictBlock, kw_only=True):
    """`external_authz`: a service decides whether a request is allowed."""

    grpc: Annotated[GrpcTarget | None, own("either this")] = None
    http: Annotated[HttpTarget | None, own("or this")] = None
    timeout: Annotated[Duration, own("")] = 0.2
    failure_mode_allow: Annotated[bool, own("let requests pass when the service does not answer")] = False
    failure_mode_allow_header_add: Annotated[bool, own("then add `x-envoy-auth-failure-mode-allowed: true`")] = False
    status_on_error: Annotated[int, own("status for the client in this case without `failure_mode_allow`")] = 403
    allowed_headers: Annotated[
        list[AnyMap], own(f"request headers that are sent; gRPC: empty for all; HTTP: besides authorization; each {_MATCH}")
    ] = []
    disallowed_headers: Annotated[list[AnyMap], own("request headers that are not sent")] = []
    max_request_bytes: Annotated[Unsigned, own("send the body, up to this size; beyond it 413; 0: it is not sent")] = 0
    pack_as_bytes: Annotated[bool, own("gRPC: as `raw_body` instead of `body`")] = False
    enabled_metadata: Annotated[
        AnyMap | None, own("a MetadataMatcher of Envoy: only ask about requests with this dynamic metadata")
    ] = None
    metadata_namespaces: Annotated[list[str], own("gRPC: dynamic metadata that is sent")] = []
    include_peer_certificate: Annotated[bool, own("gRPC: send the client's certificate")] = False
    include_tls_session: Annotated[bool, own("gRPC: send the name that the client has asked for (SNI)")] = False


class RouteSettings(StrictBlock, kw_only=True):
    """`per_filter_config.external_authz`."""

    disabled: Annotated[bool, own("requests of this route pass without authorization")] = False
    context_extensions: Annotated[dict[str, str], own("gRPC: texts for the service")] = {}
    without_body: Annotated[bool, own("the body is not sent")] = False


class Failed(Exception):
    """The service has not decided; the text is the reason."""


class ExternalAuthzFilter(StreamFilter):
    """Asks the service about each exchange, after the filters before it have seen the route.

    Cost per request: a task and a request.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        self._settings = settings
        target = settings.grpc or settings.http
        if target is None or (settings.grpc is not None and settings.http is not None):
            problems.add("", "needs either grpc or http")
            problems.end()
        assert target is not None
        self._cluster = target.cluster
        key = ".grpc" if settings.grpc is not None else ".http"
        problems.require(self._cluster, f"{key}.cluster", "the cluster of the service is missing")
        problems.require(settings.timeout > 0, ".timeout", "must be greater than 0")
        problems.status(".status_on_error", settings.status_on_error, 400)
        self._allowed = _tests(settings.allowed_headers, ".allowed_headers", problems)
        self._disallowed = _tests(settings.disallowed_headers, ".disallowed_headers", problems)
        self._is_enabled = None
        if settings.enabled_metadata is not None:
            self._is_enabled = metadata_test(EnvoyObject(settings.enabled_metadata, ".enabled_metadata", problems))
        http = settings.http or HttpTarget()
        if http.path_prefix:
            problems.target(".http.path_prefix", http.path_prefix)
        self._upstream = _tests(http.upstream_headers, ".http.upstream_headers", problems)
        self._appended = _tests(http.upstream_headers_to_append, ".http.upstream_headers_to_append", problems)
        self._client = _tests(http.client_headers, ".http.client_headers", problems)
        self._on_success = _tests(http.client_headers_on_success, ".http.client_headers_on_success", problems)
        problems.end()

    async def on_route(self, exchange: Exchange) -> Reply | None:
        of_route = self.context.route_config(exchange, NAME)
        route = of_route if isinstance(of_route, RouteSettings) else RouteSettings()
        if route.disabled or (self._is_enabled is not None and not self._is_enabled(exchange, EVERY_READING)):
            return None
        limit = 0 if route.without_body else self._settings.max_request_bytes
        return await self._authorize(exchange, route, await exchange.request.read(limit) if limit else None)

    async def _authorize(self, exchange: Exchange, route: RouteSettings, body: bytes | None) -> Reply | None:
        settings = self._settings
        try:
            if settings.grpc is not None:
                verdict = await self._ask(exchange, route, settings.grpc, body)
            else:
                assert settings.http is not None
                verdict = await self._ask_by_http(exchange, settings.http, body)
        except Failed as error:
            return self._on_failed(exchange, str(error))
        if verdict.metadata:
            note_metadata(exchange, NAMESPACE, dict(verdict.metadata))
        if verdict.status == 0:
            self._allow(exchange, verdict)
            return None
        self.context.counter("denied").value += 1
        exchange.failure = ACCESS_DENIED
        return Reply(verdict.status, verdict.body, [(c.name, c.value) for c in verdict.changes if _may_set(c.name)])

    async def _ask(self, exchange: Exchange, route: RouteSettings, target: GrpcTarget, body: bytes | None) -> Verdict:
        """The verdict of a gRPC service. Raises Failed."""
        settings = self._settings
        request = exchange.request
        names = dict.fromkeys(name for name, _ in request.headers.items())
        own = {":method": request.method, ":authority": request.host, ":scheme": request.scheme}
        if request.has_path():
            own[":path"] = to_text(request.raw_target())
        values = own | {name: ",".join(request.headers.get_all(name)) for name in names}
        noted = {name: metadata_value(exchange, name, []) for name in settings.metadata_namespaces}
        what = Description(
            [(name, value) for name, value in values.items() if self._is_sent(name, True)],
            body,
            settings.pack_as_bytes,
            route.context_extensions,
            {name: value for name, value in noted.items() if isinstance(value, dict)},
            settings.include_peer_certificate,
            settings.include_tls_session,
        )
        message = http_request(exchange, what, self.context.clock.wall())
        try:
            client = self.clusters[target.cluster]
            metadata = [*target.metadata.items()]
            answer = await call(client, CHECK, message, settings.timeout, target.authority, metadata, exchange)
            return read_verdict(answer)
        except (CallError, KeyError, HeaderError, ValueError) as error:
            raise Failed(reason(error)) from None

    async def _ask_by_http(self, exchange: Exchange, target: HttpTarget, body: bytes | None) -> Verdict:
        """The verdict of an HTTP service. Raises Failed."""
        request = exchange.request
        path = to_text(request.raw_target())
        fields = [(name, value) for name, value in request.headers.items() if self._is_sent(name, False)]
        fields = [("host", request.host), *fields, *target.headers_to_add.items()]
        try:
            client = self.clusters[target.cluster]
            answer = await client.request(
                request.method, target.path_prefix + path, fields, body or b"", self._settings.timeout, LIMIT, exchange
            )
        except (ClientError, KeyError, HeaderError) as error:
            raise Failed(error.reason if isinstance(error, ClientError) else reason(error)) from None
        if answer.status >= 500:
            raise Failed(f"status {answer.status}")
        if answer.status == 200:
            changes = [Change(*field, OVERWRITE) for field in _chosen(answer, self._upstream)]
            changes += [Change(*field, APPEND) for field in _chosen(answer, self._appended)]
            for_client = [Change(*field, APPEND) for field in _chosen(answer, self._on_success)]
            return Verdict(0, changes, for_client=tuple(for_client))
        status = answer.status if answer.status >= 200 and answer.status != 304 else 403
        tests = [*self._client, lambda name: name in _ALWAYS] if self._client else [lambda _name: True]
        return Verdict(status, [Change(*field, APPEND) for field in _chosen(answer, tests)], answer.body)

    def _is_sent(self, name: str, by_default: bool) -> bool:
        """Whether the service gets a header. `by_default`: without a list of those that are allowed."""
        lowered = name.lower()
        if any(test(lowered) for test in self._disallowed):
            return False
        if not by_default and (lowered == "host" or not _may_set(lowered)):
            return False
        if not self._allowed and by_default:
            return True
        return lowered == "authorization" or lowered[:1] == ":" or any(test(lowered) for test in self._allowed)

    def _allow(self, exchange: Exchange, verdict: Verdict) -> None:
        request = exchange.request
        for name in verdict.removed:
            if name.lower() != "host" and name[:1] != ":" and _may_set(name):
                request.headers.remove(name)
        for change in verdict.changes:
            if change.name.lower() in ("host", ":authority"):
                request.host = change.value
            elif _may_set(change.name):
                _apply(request.headers, change)
        if verdict.query_set or verdict.query_removed:
            request.query = changed_query(request.query, verdict.query_set, verdict.query_removed)
        if verdict.for_client:
            exchange.state[_FOR_CLIENT] = verdict.for_client

    def on_response(self, exchange: Exchange) -> None:
        changes = exchange.state.get(_FOR_CLIENT)
        if isinstance(changes, tuple):
            for change in changes:
                if _may_set(change.name):
                    _apply(exchange.response_head.headers, change)

    def _on_failed(self, exchange: Exchange, detail: str) -> Reply | None:
        self.context.counter("failed").value += 1
        self.context.write(f"no decision from cluster {self._cluster!r}: {detail}", WARN)
        if self._settings.failure_mode_allow:
            if self._settings.failure_mode_allow_header_add:
                exchange.request.headers.set("x-envoy-auth-failure-mode-allowed", "true")
            return None
        exchange.failure = AUTHORIZATION_FAILED
        exchange.failure_detail = detail
        return Reply(self._settings.status_on_error)


def _tests(matchers: list[AnyMap], path: str, problems: Problems) -> list[Test]:
    return [text_test(EnvoyObject(value, f"{path}[{i}]", problems)) for i, value in enumerate(matchers)]


def _chosen(answer: ClientResponse, tests: list[Callable[[str], bool]]) -> list[tuple[str, str]]:
    fields = [(name.lower(), value) for name, value in answer.headers.items()]
    return [(name, value) for name, value in fields if _may_set(name) and any(test(name) for test in tests)]


def _may_set(name: str) -> bool:
    """Whether a header does not concern the framing of messages, which is the proxy's own."""
    return name[:1] != ":" and lower_name(name) not in FRAMING


def _apply(headers: Headers, change: Change) -> None:
    """Changes a header. Raises HeaderError for a name or value that cannot be sent."""
    name, value, action = change
    exists = name in headers
    if action == APPEND:
        headers.add(name, value)
    elif action == OVERWRITE or (action == ADD_IF_ABSENT and not exists) or (action == OVERWRITE_IF_EXISTS and exists):
        headers.set(name, value)


def _clusters(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.grpc is not None:
        yield "grpc.cluster", settings.grpc.cluster
    if settings.http is not None:
        yield "http.cluster", settings.http.cluster


_NOTE: Final = "pymosn's own: asks a service as Envoy's ext_authz does, by gRPC or HTTP; also of a route"
_ROUTE: Final = RouteSpec(RouteSettings, lambda settings: settings)
SPEC: Final = FilterSpec(NAME, Settings, ExternalAuthzFilter, _NOTE, route=_ROUTE, clusters=_clusters, guards=True)
