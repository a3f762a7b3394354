"""`cors`, pymosn's own: which pages of other origins may use the upstream, for browsers (WHATWG Fetch)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.authority import is_host
from pymosn.core.headers import Headers, headers_from, is_token, to_bytes
from pymosn.core.uri import parse_uri
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.settings import Block, Duration, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.vary import add_vary

NAME: Final = "cors"
_ANSWERED: Final = "cors answered"


class PolicySettings(Block, kw_only=True):
    """Which pages of other origins may use the upstream."""

    allow_origins: Annotated[list[str], own("`https://app.example`, exactly; `*` is every origin")] = []
    allow_origin_regexes: Annotated[list[str], own("RE2, for the whole origin")] = []
    allow_methods: Annotated[list[str], own("")] = msgspec.field(default_factory=lambda: ["GET", "HEAD", "POST"])
    allow_headers: Annotated[list[str], own("request headers in addition to those that are always allowed")] = []
    expose_headers: Annotated[list[str], own("response headers that pages may read")] = []
    max_age: Annotated[Duration, own("how long a browser remembers the answer to a preflight request")] = 600.0
    without_max_age: Annotated[bool, own("instead of `max_age`: up to the browser")] = False
    allow_credentials: Annotated[bool, own("cookies and the like; not with the origin `*`")] = False
    forward_other_preflights: Annotated[
        bool, own("preflight requests of other origins go to the upstream, instead of 403")
    ] = False


class Settings(PolicySettings, kw_only=True):
    """`cors`: which pages of other origins may use the upstream."""

    only_routes: Annotated[
        bool, own("no policy here: it applies to routes with a policy of their own (`per_filter_config.cors`)")
    ] = False


class RouteSettings(PolicySettings, kw_only=True):
    """`per_filter_config.cors`: the policy of a route, instead of the filter's."""

    enabled: Annotated[bool, own("false: no policy for this route")] = True


class Policy:
    """Checked settings."""

    def __init__(self, settings: PolicySettings) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        has_origins = settings.allow_origins or settings.allow_origin_regexes
        problems.require(has_origins, ".allow_origins", "must not be empty; use * to allow every origin")
        self._any = "*" in settings.allow_origins
        self._origins = frozenset(origin.lower() for origin in settings.allow_origins)
        for i, origin in enumerate(settings.allow_origins):
            if origin != "*" and not _is_origin(origin):
                problems.add(f".allow_origins[{i}]", f"an origin is scheme://host or scheme://host:port, not {origin!r}")
        compiled = [problems.regex(f".allow_origin_regexes[{i}]", p) for i, p in enumerate(settings.allow_origin_regexes)]
        self._regexes = [regex for regex in compiled if regex is not None]
        self._credentials = settings.allow_credentials
        if self._credentials and self._any:
            problems.add(".allow_credentials", "not for every origin (*): any page could act in its visitors' names")
        self._methods = ", ".join(settings.allow_methods)
        self._headers = ", ".join(settings.allow_headers)
        self._exposed = ", ".join(settings.expose_headers)
        self._max_age = "" if settings.without_max_age else str(int(settings.max_age))
        self._forwards = settings.forward_other_preflights
        for i, method in enumerate(settings.allow_methods):
            is_method = is_token(to_bytes(method))
            problems.require(is_method, f".allow_methods[{i}]", f"not a request method: {method!r}")
        problems.headers(".allow_headers", [name for name in settings.allow_headers if name != "*"])
        problems.headers(".expose_headers", [name for name in settings.expose_headers if name != "*"])
        problems.end()

    def preflight(self, exchange: Exchange, origin: str) -> Reply | None:
        """The answer to a preflight request; None if it is for the upstream."""
        if not self.allows(origin):
            return None if self._forwards else Reply(403, b"", [("vary", "Origin")])
        headers = headers_from(None)
        self.mark(headers, origin)
        if self._methods:
            headers.set("access-control-allow-methods", self._methods)
        if self._headers or exchange.request.headers.get("access-control-request-headers", ""):
            headers.set("access-control-allow-headers", self._headers)
        if self._max_age:
            headers.set("access-control-max-age", self._max_age)
        return Reply(204, b"", headers.items())

    def apply(self, headers: Headers, origin: str | None) -> None:
        """Adds the headers of a response to a request from `origin`; those of the upstream are removed."""
        for name in ("access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"):
            headers.remove(name)
        if origin is not None and self.allows(origin):
            self.mark(headers, origin)
            if self._exposed:
                headers.set("access-control-expose-headers", self._exposed)
        elif not self._any:
            add_vary(headers, "Origin")

    def allows(self, origin: str) -> bool:
        """Whether the value of Origin is one allowed origin; browsers send neither several nor a list."""
        if "," in origin:
            return False
        if self._any or origin.lower() in self._origins:
            return True
        text = origin.encode("utf-8", "surrogateescape")
        return any(regex.found_in(text) for regex in self._regexes)

    def mark(self, headers: Headers, origin: str) -> None:
        headers.set("access-control-allow-origin", "*" if self._any else origin)
        if not self._any:
            add_vary(headers, "Origin")
        if self._credentials:
            headers.set("access-control-allow-credentials", "true")


def _is_origin(text: str) -> bool:
    """Whether a text is an origin as browsers send it (RFC 6454 section 6.2)."""
    uri = parse_uri(to_bytes(text))
    is_whole = not uri.path and uri.query is None and uri.fragment is None
    return bool(uri.scheme) and is_whole and uri.authority is not None and is_host(uri.authority)


class CorsFilter(StreamFilter):
    """Answers preflight requests, and adds the CORS headers to all other responses.

    Cost per request: one header lookup; without an Origin header only Vary is added to the response.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._policy: Policy | None = None
        self.follows_routes = settings.only_routes
        if not settings.only_routes:
            self._policy = Policy(settings)
        elif settings.allow_origins or settings.allow_origin_regexes:
            raise FilterConfigError([(".only_routes", "not valid together with a policy")])

    def on_request(self, exchange: Exchange) -> Reply | None:
        return None if self._policy is None else self._preflight(exchange, self._policy)

    def on_route(self, exchange: Exchange) -> Reply | None:
        of_route = self.context.route_config(exchange, NAME)
        return self._preflight(exchange, of_route) if isinstance(of_route, Policy) else None

    def _preflight(self, exchange: Exchange, policy: Policy) -> Reply | None:
        request = exchange.request
        origin = request.headers.joined("origin")
        if origin is None or request.raw_method != b"OPTIONS" or "access-control-request-method" not in request.headers:
            return None
        reply = policy.preflight(exchange, origin)
        if reply is not None:
            exchange.state[_ANSWERED] = True
            if reply.status == 403:
                self.context.counter("denied").value += 1
        return reply

    def on_response(self, exchange: Exchange) -> None:
        response = exchange.response
        assert response is not None
        of_route = self.context.route_config(exchange, NAME)
        policy = of_route if of_route is not None else self._policy
        if not isinstance(policy, Policy) or _ANSWERED in exchange.state:
            return
        received = exchange.received_headers
        if exchange.request.raw_method == b"OPTIONS" and "access-control-request-method" in received:
            return  # not a browser's preflight request
        policy.apply(response.headers, received.joined("origin"))


def _of_route(settings: RouteSettings) -> object:
    """The policy of a route, or another object for a route without one."""
    return Policy(settings) if settings.enabled else NAME


SPEC: Final = FilterSpec(
    NAME, Settings, CorsFilter, "pymosn's own; also of a route", route=RouteSpec(RouteSettings, _of_route), guards=True
)
