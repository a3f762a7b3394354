"""`cors`, pymosn's own: says to browsers which pages of other origins may use what is behind the proxy (WHATWG Fetch)."""

from __future__ import annotations

from typing import Any, ClassVar

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.headers import Headers, headers_from
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.vary import add_vary
from pymosn.routing.regex import Regex

ANY = "*"


class CorsFilter(StreamFilter):
    """Answers preflight requests by itself, and puts the fields on the replies to others.

    Per request: one look-up in the headers; without an Origin field only Vary is added to the reply.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        problems = Problems()
        if not config.allow_origins and not config.allow_origin_regexes:
            problems.add(".allow_origins", "at least one origin is needed, or * for all")
        self._any: bool = ANY in config.allow_origins
        self._origins: frozenset[str] = frozenset(origin.lower() for origin in config.allow_origins)
        for place, origin in enumerate(config.allow_origins):
            if origin != ANY and ("://" not in origin or origin.endswith("/") or "*" in origin):
                problems.add(f".allow_origins[{place}]", f"an origin is scheme://host or scheme://host:port, not {origin!r}")
        self._regexes: list[Regex] = []
        for place, pattern in enumerate(config.allow_origin_regexes):
            regex = problems.regex(f".allow_origin_regexes[{place}]", pattern)
            if regex is not None:
                self._regexes.append(regex)
        self._credentials: bool = config.allow_credentials
        if self._credentials and self._any:
            problems.add(".allow_credentials", "not for every origin (*): any page could act in its visitors' names")
        self._methods = ", ".join(config.allow_methods)
        self._headers = ", ".join(config.allow_headers)
        self._exposed = ", ".join(config.expose_headers)
        self._max_age = str(int(config.max_age))
        for key in ("allow_headers", "expose_headers"):
            for place, name in enumerate(getattr(config, key)):
                problems.header(f".{key}[{place}]", name)
        problems.end()

    def on_request(self, exchange: Exchange) -> Reply | None:
        request = exchange.request
        origin = request.headers.get("origin")
        if origin is None or request.raw_method != b"OPTIONS" or "access-control-request-method" not in request.headers:
            return None
        headers = headers_from(None)
        if not self._allows(origin):
            self.context.counter("denied").value += 1
            return Reply(403, b"", [("vary", "Origin")])
        self._mark(headers, origin)
        headers.set("access-control-allow-methods", self._methods)
        asked = request.headers.get("access-control-request-headers", "")
        if self._headers or asked:
            headers.set("access-control-allow-headers", self._headers)
        headers.set("access-control-max-age", self._max_age)
        return Reply(204, b"", headers.items())

    def on_response(self, exchange: Exchange) -> None:
        response = exchange.response
        assert response is not None
        request = exchange.request
        if request.raw_method == b"OPTIONS" and "access-control-request-method" in request.headers:
            return  # the answer of `on_request`, or no preflight of a browser
        origin = request.headers.get("origin")
        for name in ("access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"):
            response.headers.remove(name)
        if origin is not None and self._allows(origin):
            self._mark(response.headers, origin)
            if self._exposed:
                response.headers.set("access-control-expose-headers", self._exposed)
        elif not self._any:
            add_vary(response.headers, "Origin")

    def _allows(self, origin: str) -> bool:
        if self._any or origin.lower() in self._origins:
            return True
        text = origin.encode("utf-8", "surrogateescape")
        return any(regex.found_in(text) for regex in self._regexes)

    def _mark(self, headers: Headers, origin: str) -> None:
        headers.set("access-control-allow-origin", ANY if self._any else origin)
        if not self._any:
            add_vary(headers, "Origin")
        if self._credentials:
            headers.set("access-control-allow-credentials", "true")
