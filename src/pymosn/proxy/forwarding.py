"""Applies the changes that routes and filters make to requests and responses."""

from __future__ import annotations

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest
from pymosn.api.routing import Route
from pymosn.core.failure import Failure
from pymosn.core.forwarding import ForwardingOptions
from pymosn.core.headers import Headers
from pymosn.routing.rewrites import RequestChanges, rewrite_host


def change_request(exchange: Exchange, changes: RequestChanges | None) -> Failure | None:
    """Applies the changes of a filter (the variable `authority`), then the route's; returns the failure of the latter."""
    own = exchange.own_variables
    if own is not None and "authority" in own:
        rewrite_host(exchange, own["authority"].encode("utf-8", "surrogateescape"))
    return None if changes is None else changes.apply(exchange)


def change_response(exchange: Exchange, headers: Headers, options: ForwardingOptions | None = None) -> None:
    """Applies the route's changes to the headers of a response. Adds its hash policy's cookie, and the listener's Server."""
    route = exchange.route
    if isinstance(route, Route) and route.response_changes is not None:
        route.response_changes.apply(headers, exchange)
    if exchange.set_cookie:
        exchange.request.add_cookie(headers, exchange.set_cookie)
    if options is not None and options.server and isinstance(exchange.request, HttpRequest):
        if not options.keeps_server:
            headers.remove_raw(b"server")
        if not headers.has_raw(b"server"):
            headers.add_raw(b"server", options.server)
