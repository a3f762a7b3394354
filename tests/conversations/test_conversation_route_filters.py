"""Filters that routes enable, disable and configure by their names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.kit import OK, Start
from tests.kit.talk import Talk

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.stream_filter import FilterContext
from pymosn.assembly.routes import build_table
from pymosn.config.schema import RouterConfiguration
from pymosn.config.typed import typed
from pymosn.core.counters import Metrics
from pymosn.core.log import Log
from pymosn.filters.stream.shipped import spec_of
from pymosn.proxy.filter_code import FilterClassError
from pymosn.proxy.stream_filters import FilterHandle
from pymosn.routing.table import RouteTable

pytestmark = pytest.mark.also_h2

ON: dict[str, Any] = {}
OFF = {"disabled": True}
#: A policy of `rbac` that denies everything.
ALLOWS_NONE = {"rules": {"action": "ALLOW", "policies": {}}}


class Noting(StreamFilter):
    """Notes its phases."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.seen: list[str] = []

    def on_route(self, exchange: Exchange) -> None:
        self.seen.append("route")

    def on_host(self, exchange: Exchange) -> None:
        self.seen.append("host")

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self.seen.append("request_body")

    def on_response(self, exchange: Exchange) -> None:
        self.seen.append("response")

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self.seen.append("response_body")

    def on_complete(self, exchange: Exchange) -> None:
        self.seen.append("complete")


class Early(StreamFilter):
    """Acts before the route is selected."""

    def on_request(self, exchange: Exchange) -> Reply:
        return Reply(403)


def table(route: dict[str, Any], host: dict[str, Any], cluster: dict[str, Any] | None = None) -> RouteTable:
    """A table whose route, virtual host and weighted cluster have these settings of filters."""
    target: dict[str, Any] = {"name": "service", "weight": 1, "per_filter_config": cluster or {}}
    routes = [
        {
            "match": {"prefix": "/on"},
            "route": {"weighted_clusters": [{"cluster": target}]},
            "per_filter_config": route,
        },
        {"match": {"prefix": "/"}, "route": {"cluster_name": "service"}},
    ]
    hosts = [{"name": "v", "domains": ["*"], "routers": routes, "per_filter_config": host}]
    return build_table(msgspec.convert({"router_config_name": "t", "virtual_hosts": hosts}, RouterConfiguration))


def rbac(name: str) -> StreamFilter:
    """A filter that lets everything pass unless the route says otherwise."""
    spec = spec_of("rbac")
    assert spec.make is not None
    made = spec.make(typed({"after_routing": True}, spec.settings))
    made.context = FilterContext(name, Log(), {}, route_key=f"rbac/{name}")
    return made


def status(talk: Talk, path: bytes) -> int:
    """The status of the response to a request with a body."""
    client = talk.connect()
    client.sends(b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    if not client.left():
        upstream = talk.expect_dial()
        upstream.takes()
        upstream.sends(OK)
    return int(client.takes().split()[1])


PHASES = {"route", "host", "request_body", "response", "response_body", "complete"}


@pytest.mark.parametrize(
    ("route", "host", "cluster", "is_on"),
    [
        ({}, {}, {}, False),
        ({"/n": ON}, {}, {}, True),
        ({"noting/n": {}}, {}, {}, True),
        ({"noting": {}, "/other": ON}, {}, {}, False),
        ({}, {"/n": ON}, {}, True),
        ({"/n": OFF}, {"/n": ON}, {}, False),
        ({"/n": ON}, {"/n": OFF}, {}, True),
        ({"/n": OFF}, {}, {"/n": ON}, True),
    ],
)
def test_a_route_enables_a_filter(
    start: Start, route: dict[str, Any], host: dict[str, Any], cluster: dict[str, Any], is_on: bool
) -> None:
    """The innermost level decides. A filter that is off has no phase at all."""
    noting = Noting({})
    talk = start(table=table(route, host, cluster), filters={"n": noting}, disabled=["n"])
    assert status(talk, b"/on") == 200
    assert set(noting.seen) == (PHASES if is_on else set())


def test_a_route_disables_a_filter(start: Start) -> None:
    noting = Noting({})
    talk = start(table=table({"/n": OFF}, {}), filters={"n": noting})
    assert status(talk, b"/on") == 200
    assert noting.seen == []


def test_a_filter_without_a_word_of_the_route(start: Start) -> None:
    noting = Noting({})
    talk = start(table=table({"/n": OFF}, {}), filters={"n": noting})
    assert status(talk, b"/other") == 200
    assert set(noting.seen) == PHASES


def test_a_request_without_a_route_passes_a_filter_that_is_disabled(start: Start) -> None:
    noting = Noting({})
    talk = start(table=RouteTable("empty"), filters={"n": noting}, disabled=["n"])
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.takes().startswith(b"HTTP/1.1 404 ")
    assert noting.seen == []


@pytest.mark.parametrize(
    ("route", "denied"),
    [
        ({"rbac/first": ALLOWS_NONE}, "first"),
        ({"rbac/second": ALLOWS_NONE}, "second"),
        ({"rbac/second": ALLOWS_NONE, "rbac": {}}, "second"),
        ({"rbac": ALLOWS_NONE}, "first"),
        ({"rbac": ALLOWS_NONE, "rbac/first": {}}, "second"),
        ({"rbac": ALLOWS_NONE, "rbac/first": {}, "rbac/second": {}}, ""),
        ({"rbac/third": ALLOWS_NONE}, ""),
        ({"rbac/first": ALLOWS_NONE, "/first": OFF}, ""),
    ],
)
def test_settings_of_a_filter_with_a_name(start: Start, route: dict[str, Any], denied: str) -> None:
    """They are the filter's own; those of its type apply to all filters of it that have none."""
    filters = {name: rbac(name) for name in ("first", "second")}
    talk = start(table=table(route, {}), filters=filters)
    assert status(talk, b"/on") == (403 if denied else 200)
    found = [name for name, entry in filters.items() if entry.context.counter("denied").value]
    assert found == ([denied] if denied else [])


def test_what_a_route_cannot_enable_is_rejected() -> None:
    """It would have to act before there is a route."""
    with pytest.raises(FilterClassError, match="cannot be disabled until a route enables it"):
        FilterHandle("early", Early({}), Metrics(), route_name="early", is_disabled=True)
    with pytest.raises(FilterClassError, match="cannot be disabled until a route enables it"):
        FilterHandle("nameless", Noting({}), Metrics(), is_disabled=True)


def test_a_route_cannot_disable_what_acts_before_it(start: Start) -> None:
    talk = start(table=table({"/n": OFF}, {}), filters={"n": Early({})})
    assert status(talk, b"/on") == 403
