"""Changes to a checked configuration, block by block: what the admin API takes, in MOSN's update shape.

Each text is read like a file, and the whole configuration that results is checked like one; faults have the place in the
text. Errors anywhere forbid the change; warnings are told for the changed block alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, TypeVar

from msgspec.structs import replace

from pymosn.config.check import check
from pymosn.config.diagnostics import Diagnostic, Diagnostics, Place
from pymosn.config.json_nodes import parse_json
from pymosn.config.nodes import Node, ParseError
from pymosn.config.read import Reader
from pymosn.config.schema import Cluster, Host, Listener, MosnConfig, RouterConfiguration
from pymosn.config.schema.extensions import Extend
from pymosn.config.schema.router import Route, VirtualHost
from pymosn.filters.settings import Block

B = TypeVar("B", bound=Block)

#: How the text is called in faults.
BODY: Final = "body"
TYPES: Final = ("listener", "router", "cluster", "extend")


class Hosts(Block, kw_only=True):
    """Hosts of one cluster: `set`, `add` (or replace, by address) or `remove` (only the addresses count)."""

    cluster: str = ""
    hosts: list[Host] = []


class RouteUpdate(Block, kw_only=True):
    """MOSN's update of one route. `domain`: of the virtual host, exactly; empty for `*`."""

    router_config_name: str = ""
    domain: str = ""
    route: Route | None = None


class Update:
    """One text from the admin API, and what it makes of a configuration. `faults` tells what is wrong with either."""

    def __init__(self, text: str, stream_filters: Collection[str] = ()) -> None:
        """`stream_filters`: as for `load_file`."""
        self.faults = Diagnostics()
        self._stream_filters = stream_filters
        self._places: dict[str, Place] = {"": Place(BODY)}
        self._reader = Reader(BODY, self.faults, self._places, False)
        self._top = self._parse(text)

    def config(self, before: MosnConfig) -> tuple[MosnConfig | None, list[Diagnostic]]:
        """`update_config`: puts a block in the place of the one of its name, or adds it."""
        kind = self._begin(TYPES, "config")
        if kind == "listener":
            return self._finish(*self._put_listener(before))
        if kind == "router":
            return self._finish(*self._put_router(before))
        if kind == "cluster":
            return self._finish(*self._put_cluster(before))
        if kind == "extend":
            return self._finish(*self._put_extend(before))
        return None, self.faults.in_order()

    def removal(self, before: MosnConfig) -> tuple[MosnConfig | None, list[Diagnostic]]:
        """`remove_config`: takes out the block of a name."""
        kind, name = self._begin(TYPES, "name"), self._word("name")
        if not kind or not name:
            return None, self.faults.in_order()
        server, manager = before.servers[0], before.cluster_manager
        after = before
        if kind == "listener":
            kept = [listener for listener in server.listeners if name != (listener.name or listener.address)]
            after = _with_server(before, listeners=kept)
        elif kind == "router":
            kept_tables = [table for table in server.routers if table.router_config_name != name]
            after = _with_server(before, routers=kept_tables)
        elif kind == "cluster":
            kept_clusters = [cluster for cluster in manager.clusters if cluster.name != name]
            after = replace(before, cluster_manager=replace(manager, clusters=kept_clusters))
        elif kind == "extend":
            after = replace(before, extends=[extend for extend in before.extends if extend.type != name])
        if after == before:
            self._error(f"there is no {kind} {name!r}")
        return self._finish(after, "")

    def hosts(self, before: MosnConfig) -> tuple[MosnConfig | None, list[Diagnostic]]:
        """`update_hosts`: changes the hosts of a cluster."""
        action = self._begin(("set", "add", "remove"), "config")
        if not action:
            return None, self.faults.in_order()
        manager = before.cluster_manager
        wanted = self._block("config", Hosts, "hosts")
        place = _find(manager.clusters, lambda cluster: cluster.name == wanted.cluster)
        if place is None:
            self._error(f"there is no cluster {wanted.cluster!r}")
            return None, self.faults.in_order()
        path = f"cluster_manager.clusters[{place}]"
        wanted = self._block("config", Hosts, path)
        cluster = manager.clusters[place]
        named = {host.address for host in wanted.hosts}
        others = [] if action == "set" else [host for host in cluster.hosts if host.address not in named]
        hosts = others if action == "remove" else [*wanted.hosts, *others]
        clusters = _with(manager.clusters, place, replace(cluster, hosts=hosts))
        return self._finish(replace(before, cluster_manager=replace(manager, clusters=clusters)), path)

    def route(self, before: MosnConfig) -> tuple[MosnConfig | None, list[Diagnostic]]:
        """`update_route`: adds a route behind the others of a virtual host, or removes routes.

        `remove` without a route empties the virtual host, as in MOSN; with one, it removes those with the same match.
        """
        action = self._begin(("add", "remove"), "config")
        if not action:
            return None, self.faults.in_order()
        tables = before.servers[0].routers
        wanted = self._block("config", RouteUpdate, "config")
        place = _find(tables, lambda table: table.router_config_name == wanted.router_config_name)
        if place is None:
            self._error(f"there is no router {wanted.router_config_name!r} in servers[0].routers")
            return None, self.faults.in_order()
        table = tables[place]
        domain = wanted.domain or "*"
        inner = _find(table.virtual_hosts, lambda host: domain in host.domains)
        if inner is None:
            self._error(f"router {table.router_config_name!r} has no virtual host with the domain {domain!r}")
            return None, self.faults.in_order()
        host = table.virtual_hosts[inner]
        path = f"servers[0].routers[{place}].virtual_hosts[{inner}]"
        routes = self._routes(action, wanted.route, host, path)
        hosts = _with(table.virtual_hosts, inner, replace(host, routers=routes))
        routers = _with(tables, place, replace(table, virtual_hosts=hosts))
        return self._finish(_with_server(before, routers=routers), path)

    def _routes(self, action: str, route: Route | None, host: VirtualHost, path: str) -> list[Route]:
        if action == "add":
            if route is None:
                self._error("a route is missing")
                return host.routers
            config = self._top.entry("config")
            node = config.node.entry("route") if config is not None else None
            if node is not None:
                route = self._reader.block(node.node, Route, f"{path}.routers[{len(host.routers)}]")
            return [*host.routers, route]
        if route is None:
            return []
        left = [other for other in host.routers if other.match != route.match]
        if len(left) == len(host.routers):
            self._error("no route has this match")
        return left

    def _put_listener(self, before: MosnConfig) -> tuple[MosnConfig, str]:
        listeners = before.servers[0].listeners
        new = self._block("config", Listener, "config")
        name = new.name or new.address
        place = _place(listeners, lambda listener: (listener.name or listener.address) == name)
        path = f"servers[0].listeners[{place}]"
        block = self._block("config", Listener, path)
        return _with_server(before, listeners=_with(listeners, place, block)), path

    def _put_router(self, before: MosnConfig) -> tuple[MosnConfig, str]:
        tables = before.servers[0].routers
        new = self._block("config", RouterConfiguration, "config")
        place = _place(tables, lambda table: table.router_config_name == new.router_config_name)
        path = f"servers[0].routers[{place}]"
        return _with_server(before, routers=_with(tables, place, self._block("config", RouterConfiguration, path))), path

    def _put_cluster(self, before: MosnConfig) -> tuple[MosnConfig, str]:
        manager = before.cluster_manager
        new = self._block("config", Cluster, "config")
        place = _place(manager.clusters, lambda cluster: cluster.name == new.name)
        path = f"cluster_manager.clusters[{place}]"
        clusters = _with(manager.clusters, place, self._block("config", Cluster, path))
        return replace(before, cluster_manager=replace(manager, clusters=clusters)), path

    def _put_extend(self, before: MosnConfig) -> tuple[MosnConfig, str]:
        new = self._block("config", Extend, "config")
        place = _place(before.extends, lambda extend: extend.type == new.type)
        path = f"extends[{place}]"
        return replace(before, extends=_with(before.extends, place, self._block("config", Extend, path))), path

    # ---- reading

    def _parse(self, text: str) -> Node:
        if not text.strip():
            self._error("the body is empty")
            return Node("object", 0, 0)
        try:
            top, repeated = parse_json(text)
        except ParseError as error:
            self.faults.error(Place(BODY, error.line, error.column), "", error.message)
            return Node("object", 0, 0)
        for key in repeated:
            self._error(f'the key "{key.key}" stands twice', Place(BODY, key.line, key.column))
        if top.kind != "object":
            self._error("the body is not an object")
        return top

    def _begin(self, allowed: tuple[str, ...], beside: str) -> str:
        """The `type`, if the body is an object that has one of those and the key `beside`; else empty, and told why."""
        if self.faults.has_errors:
            return ""
        kind = self._word("type", allowed)
        if self._top.entry(beside) is None:
            self._error(f'"{beside}" is missing')
            return ""
        return kind

    def _word(self, key: str, allowed: tuple[str, ...] = ()) -> str:
        entry = self._top.entry(key)
        value = entry.node.value if entry is not None else None
        if isinstance(value, str) and value and (not allowed or value in allowed):
            return value
        if not self.faults.has_errors:
            wish = f"one of {', '.join(allowed)}" if allowed else "a text"
            self._error(f'"{key}" must be {wish}')
        return ""

    def _block(self, key: str, cls: type[B], path: str) -> B:
        """The block under a key. It is read once to learn its name and once at its path: each fault is told once."""
        entry = self._top.entry(key)
        assert entry is not None
        if "[" not in path:
            return Reader(BODY, Diagnostics(), {}, False).block(entry.node, cls, path)
        return self._reader.block(entry.node, cls, path)

    def _error(self, message: str, place: Place | None = None) -> None:
        if not any(item.message == message for item in self.faults.items):
            self.faults.error(place or Place(BODY), "", message)

    def _finish(self, after: MosnConfig, path: str) -> tuple[MosnConfig | None, list[Diagnostic]]:
        if path or not self.faults.has_errors:
            check(after, self._places, self.faults, self._stream_filters)
        told = [
            fault for fault in self.faults.in_order() if fault.severity == "error" or (path and fault.path.startswith(path))
        ]
        return (None if self.faults.has_errors else after), told


T = TypeVar("T")


def _find(items: list[T], wanted: Callable[[T], bool]) -> int | None:
    return next((place for place, item in enumerate(items) if wanted(item)), None)


def _place(items: list[T], wanted: Callable[[T], bool]) -> int:
    """The place of the wanted item, or the one behind the last."""
    place = _find(items, wanted)
    return len(items) if place is None else place


def _with(items: list[T], place: int, item: T) -> list[T]:
    return [*items[:place], item, *items[place + 1 :]]


def _with_server(config: MosnConfig, **changes: object) -> MosnConfig:
    return replace(config, servers=[replace(config.servers[0], **changes)])
