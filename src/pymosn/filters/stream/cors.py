"""`cors`, pymosn's own: which pages of other origins may use the upstream, for browsers (WHATWG Fetch)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.headers import Headers, headers_from, is_token, to_bytes
from pymosn.filters.settings import Block, Duration, own
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.vary import add_vary


class Settings(Block, kw_only=True):
    """`cors`: which pages of other origins may use the upstream."""

    allow_origins: Annotated[list[str], own("`https://app.example`, exactly; `*` is every origin")] = []
    allow_origin_regexes: Annotated[list[str], own("RE2, for the whole origin")] = []
    allow_methods: Annotated[list[str], own("")] = msgspec.field(default_factory=lambda: ["GET", "HEAD", "POST"])
    allow_headers: Annotated[list[str], own("request headers in addition to those that are always allowed")] = []
    expose_headers: Annotated[list[str], own("response headers that pages may read")] = []
    max_age: Annotated[Duration, own("how long a browser remembers the answer to a preflight request")] = 600.0
    allow_credentials: Annotated[bool, own("cookies and the like; not with the origin `*`")] = False


class CorsFilter(StreamFilter):
    """Answers preflight requests, and adds the CORS headers to all other responses.

    Cost per request: one header lookup; without an Origin header only Vary is added to the response.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        has_origins = settings.allow_origins or settings.allow_origin_regexes
        problems.require(has_origins, ".allow_origins", "must not be empty; use * to allow every origin")
        self._any = "*" in settings.allow_origins
        self._origins = frozenset(origin.lower() for origin in settings.allow_origins)
        for i, origin in enumerate(settings.allow_origins):
            if origin != "*" and ("://" not in origin or origin.endswith("/") or "*" in origin):
                problems.add(f".allow_origins[{i}]", f"an origin is scheme://host or scheme://host:port, not {origin!r}")
        compiled = [problems.regex(f".allow_origin_regexes[{i}]", p) for i, p in enumerate(settings.allow_origin_regexes)]
        self._regexes = [regex for regex in compiled if regex is not None]
        self._credentials = settings.allow_credentials
        if self._credentials and self._any:
            problems.add(".allow_credentials", "not for every origin (*): any page could act in its visitors' names")
        self._methods = ", ".join(settings.allow_methods)
        self._headers = ", ".join(settings.allow_headers)
        self._exposed = ", ".join(settings.expose_headers)
        self._max_age = str(int(settings.max_age))
        for i, method in enumerate(settings.allow_methods):
            problems.require(is_token(to_bytes(method)), f".allow_methods[{i}]", f"not a request method: {method!r}")
        problems.headers(".allow_headers", settings.allow_headers)
        problems.headers(".expose_headers", settings.expose_headers)
        problems.end()

    def on_request(self, exchange: Exchange) -> Reply | None:
        request = exchange.request
        origin = request.headers.joined("origin")
        if origin is None or request.raw_method != b"OPTIONS" or "access-control-request-method" not in request.headers:
            return None
        if not self._allows(origin):
            self.context.counter("denied").value += 1
            return Reply(403, b"", [("vary", "Origin")])
        headers = headers_from(None)
        self._mark(headers, origin)
        headers.set("access-control-allow-methods", self._methods)
        if self._headers or request.headers.get("access-control-request-headers", ""):
            headers.set("access-control-allow-headers", self._headers)
        headers.set("access-control-max-age", self._max_age)
        return Reply(204, b"", headers.items())

    def on_response(self, exchange: Exchange) -> None:
        response = exchange.response
        assert response is not None
        received = exchange.received_headers
        if exchange.request.raw_method == b"OPTIONS" and "access-control-request-method" in received:
            return  # the reply of `on_request`, or not a browser's preflight request
        origin = received.joined("origin")
        for name in ("access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"):
            response.headers.remove(name)
        if origin is not None and self._allows(origin):
            self._mark(response.headers, origin)
            if self._exposed:
                response.headers.set("access-control-expose-headers", self._exposed)
        elif not self._any:
            add_vary(response.headers, "Origin")

    def _allows(self, origin: str) -> bool:
        """Whether the value of Origin is one allowed origin; browsers send neither several nor a list."""
        if "," in origin:
            return False
        if self._any or origin.lower() in self._origins:
            return True
        text = origin.encode("utf-8", "surrogateescape")
        return any(regex.found_in(text) for regex in self._regexes)

    def _mark(self, headers: Headers, origin: str) -> None:
        headers.set("access-control-allow-origin", "*" if self._any else origin)
        if not self._any:
            add_vary(headers, "Origin")
        if self._credentials:
            headers.set("access-control-allow-credentials", "true")


SPEC: Final = FilterSpec("cors", Settings, CorsFilter, "pymosn's own", guards=True)
