"""Route tables in Envoy's JSON, converted and built, and requests to them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.routing import Route
from pymosn.assembly.routes import build_table
from pymosn.config.schema import RouterConfiguration
from pymosn.control.xds.convert.route_settings import RouteSettings
from pymosn.control.xds.convert.routes import convert_routes
from pymosn.control.xds.convert.view import Report, View
from pymosn.core.headers import HttpHeaders
from pymosn.core.uri import STRICT_PATHS
from pymosn.proxy.decision import Rejection, decide
from pymosn.proxy.forwarding import change_request, change_response
from pymosn.routing.actions import Forward, Redirect
from pymosn.routing.rewrites import rewrite_path

Json = dict[str, Any]


def _settings(view: View) -> RouteSettings:
    """Settings of a filter that only a test knows."""
    with view:
        for name in [field.name for field, _ in view.message.ListFields()]:
            view.value(name)
    return RouteSettings(view.type_name.rpartition(".")[2], {"type": view.type_name})


#: Readers of settings of filters, which are another file's.
READERS = dict.fromkeys(
    (
        "envoy.config.route.v3.CorsPolicy",
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
    ),
    _settings,
)


def message(source: Json) -> route_pb2.RouteConfiguration:
    """The message for Envoy's JSON. Imports the types that may be inside an `Any`."""
    return json_format.ParseDict(source, route_pb2.RouteConfiguration())


def convert(source: Json) -> tuple[RouterConfiguration, Report]:
    """The table for a RouteConfiguration, and what was found."""
    report = Report()
    return convert_routes(View(message(source), "", report), "table", READERS), report


def one_host(*routes: Json, **more: Any) -> Json:
    """A RouteConfiguration with one virtual host for all domains."""
    return {"virtualHosts": [{"name": "all", "domains": ["*"], "routes": list(routes), **more}]}


def forward(match: Json | None = None, /, **action: Any) -> Json:
    """A route to the cluster `c`."""
    return {"match": {"prefix": "/"} if match is None else match, "route": {"cluster": "c", **action}}


class Outcome:
    """What a table does with one request."""

    def __init__(self, source: Json, url: str, headers: list[tuple[str, str]], method: str, scheme: str) -> None:
        config, report = convert(source)
        assert not report.faults, report.text()
        self.exchange = exchange = Exchange(Connection())
        parts = urlsplit(url)
        head = HttpRequest()
        head.raw_method = method.encode()
        head.raw_path = parts.path.encode()
        head.raw_query = parts.query.encode() if "?" in url else None
        head.raw_host = (parts.netloc or "host.example").encode()
        head.scheme = scheme
        head.headers = HttpHeaders(b"".join(f"{name}: {value}\r\n".encode() for name, value in headers))
        exchange.request = head
        found = decide(exchange, build_table(config), "table")
        self.route: Route | None = None if isinstance(found, Rejection) else found
        self.index = -1 if self.route is None else int(self.route.name.rpartition("/")[2])
        self.cluster = ""
        if self.route is not None and isinstance(self.route.action, Forward):
            target = self.route.action.choose(exchange)
            assert target is not None
            self.cluster = target.cluster
            if target.route is not None:
                self.route = exchange.route = target.route

    @property
    def host(self) -> str:
        """The name of the virtual host; empty without one."""
        return "" if self.route is None else self.route.name.split("/")[1]

    @property
    def forward(self) -> Forward:
        """The action, which forwards."""
        assert self.route is not None
        assert isinstance(self.route.action, Forward)
        return self.route.action

    @property
    def location(self) -> str:
        """The value of the Location field of a redirect."""
        assert self.route is not None
        assert isinstance(self.route.action, Redirect)
        return self.route.action.location(self.exchange.request)

    def sent(self) -> HttpRequest:
        """The request after the changes of the route."""
        changes = self.forward.changes
        assert rewrite_path(self.exchange, changes, STRICT_PATHS) is None
        assert change_request(self.exchange, changes) is None
        head = self.exchange.request
        assert isinstance(head, HttpRequest)
        return head

    def answered(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The fields of a response after the changes of the route."""
        fields = HttpHeaders(b"".join(f"{name}: {value}\r\n".encode() for name, value in headers))
        change_response(self.exchange, fields)
        return fields.items()


def ask(
    source: Json,
    url: str = "/",
    headers: list[tuple[str, str]] | None = None,
    *,
    method: str = "GET",
    scheme: str = "http",
) -> Outcome:
    """What a table does with a request. `url`: a path, or `//host/path`."""
    return Outcome(source, url, headers or [], method, scheme)
