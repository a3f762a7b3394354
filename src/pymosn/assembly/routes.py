"""Builds run-time router tables from the configuration."""

from __future__ import annotations

from collections.abc import Iterable

from pymosn.api.routing import Route
from pymosn.assembly.header_changes import Changes, table_changes
from pymosn.assembly.packed_config import Piece
from pymosn.assembly.route_actions import RouteParts, build_route, filter_settings
from pymosn.assembly.route_matchers import route_matcher
from pymosn.assembly.steps import Steps, run_whole
from pymosn.config.schema import Route as RouteConfig
from pymosn.config.schema import RouterConfiguration
from pymosn.config.schema.router import VirtualHost as HostConfig
from pymosn.observe.access_log import EVERY, SWITCHES
from pymosn.routing.table import EnvoyTable, RouteTable
from pymosn.routing.table import VirtualHost as HostTable


def build_table(config: RouterConfiguration) -> RouteTable:
    """The run-time form of a checked router table."""
    return run_whole(build_in_steps(config, [[(True, host)] for host in config.virtual_hosts]))


def build_in_steps(config: RouterConfiguration, parts: Iterable[list[Piece]]) -> Steps[RouteTable]:
    """The same in steps, of at most fifty routes each; `parts` has the virtual hosts of the table."""
    table = empty_table(config)
    hosts: list[HostTable] = []
    shared = table_changes(config)
    within: _Host | None = None
    routes: list[Route] = []
    for part in parts:
        for starts, host in part:
            if starts:
                within = _Host(config.router_config_name, host, len(hosts), shared)
                routes = []
                hosts.append(HostTable(within.name, host.domains, routes, is_built=False))
            assert within is not None, "the first part starts a virtual host"
            for route in host.routers:
                routes.append(within.route(len(routes), route))
                if len(routes) % 50 == 49:
                    yield
            yield
    for built in hosts:
        yield from built.build()
        table.add(built)
        yield
    return table


def clusters_in(config: RouterConfiguration) -> set[str]:
    """The clusters that a table refers to, as targets and as mirrors."""
    return clusters_of(config.virtual_hosts)


def clusters_of(hosts: Iterable[HostConfig]) -> set[str]:
    """The clusters that virtual hosts refer to, as targets and as mirrors."""
    names: set[str] = set()
    for host in hosts:
        for route in host.routers:
            if route.route is not None:
                names.add(route.route.cluster_name)
                names.update(target.cluster.name for target in route.route.weighted_clusters)
                names.update(policy.cluster for policy in route.mirror_policies())
    names.discard("")  # of routes with weighted clusters, for example
    return names


def empty_table(config: RouterConfiguration) -> RouteTable:
    """A table without virtual hosts, which matches domains in the way of `config`."""
    if config.envoy_domains:
        return EnvoyTable(config.router_config_name, config.envoy_domains == "any_port")
    return RouteTable(config.router_config_name)


def log_switches(outer: dict[str, bool], inner: dict[str, bool]) -> dict[str, bool]:
    """Which access logs a route switches on or off. `outer`: of its virtual host; `inner`: its own, which come first."""
    return inner if EVERY in inner else {**outer, **inner}


class _Host:
    """What the routes of a virtual host share."""

    def __init__(self, table: str, config: HostConfig, index: int, outer: Changes) -> None:
        self.name: str = config.name or f"virtual_hosts[{index}]"
        self._prefix = f"{table}/{self.name}/"
        self._changes = outer.within(config)
        self._filters = filter_settings(config.per_filter_config)
        self._logs = config.access_logs
        self._counts_attempts = config.include_request_attempt_count

    def route(self, index: int, config: RouteConfig) -> Route:
        """The route at an index of the virtual host."""
        filters = {**self._filters, **filter_settings(config.per_filter_config)}
        switches = log_switches(self._logs, config.access_logs)
        if switches:
            filters[SWITCHES] = switches
        parts = RouteParts(f"{self._prefix}{index}", config, route_matcher(config.match), filters, self._counts_attempts)
        changes = self._changes.with_responses(config.response_headers_to_add, config.response_headers_to_remove)
        return build_route(parts, changes if config.route is None else changes.within(config.route))
