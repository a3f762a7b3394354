"""Changes to a checked configuration, block by block: the bodies of the admin API, in the shape of MOSN's updates.

Each body is read like a file, and the resulting configuration is checked as a whole; errors have their location in the body.
Any error rejects the change; warnings are reported only for the changed block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import replace

from pymosn.config.check import check
from pymosn.config.diagnostics import Diagnostic, Diagnostics, Place
from pymosn.config.json_nodes import parse_json
from pymosn.config.nodes import Node, ParseError, plain
from pymosn.config.read import Reader
from pymosn.config.schema import Cluster, Host, Listener, MosnConfig, RouterConfiguration
from pymosn.config.schema.extensions import Extend
from pymosn.config.schema.router import Route, VirtualHost
from pymosn.filters.settings import Block

B = TypeVar("B", bound=Block)
T = TypeVar("T")

#: The file name in diagnostics.
BODY: Final = "body"

#: The new configuration, None if there are errors, and the diagnostics.
Outcome = tuple[MosnConfig | None, list[Diagnostic]]


class Hosts(Block, kw_only=True):
    """Hosts of one cluster: `set`, `add` (or replace, by address) or `remove` (only the addresses count)."""

    cluster: str = ""
    hosts: list[Host] = []


class RouteUpdate(Block, kw_only=True):
    """MOSN's update of one route. `domain`: an exact domain of the virtual host; empty for `*`."""

    router_config_name: str = ""
    domain: str = ""
    route: Route | None = None


class _Kind(NamedTuple):
    """A kind of named blocks: their class, the path of their list, and the name of one."""

    cls: type[Block]
    path: str
    name: Callable[[Any], str]


_ROUTERS: Final = "servers[0].routers"
_CLUSTERS: Final = "cluster_manager.clusters"
_KINDS: Final[dict[str, _Kind]] = {
    "listener": _Kind(Listener, "servers[0].listeners", Listener.known_name),
    "router": _Kind(RouterConfiguration, _ROUTERS, lambda table: table.router_config_name),
    "cluster": _Kind(Cluster, _CLUSTERS, lambda cluster: cluster.name),
    "extend": _Kind(Extend, "extends", lambda extend: extend.type),
}


class Update:
    """One body from the admin API, to be applied to a configuration; errors of both are in `faults`."""

    def __init__(self, text: str, stream_filters: Collection[str] = ()) -> None:
        """`stream_filters`: as for `load_file`."""
        self.faults = Diagnostics()
        self._stream_filters = stream_filters
        self.faults.places[""] = Place(BODY)
        self._reader = Reader(BODY, self.faults)
        self._top = self._parse(text)

    def config(self, before: MosnConfig) -> Outcome:
        """`update_config`: adds a block, or replaces the one of its name."""
        kind = self._kind("config")
        if kind is None:
            return None, self.faults.in_order()
        blocks = _blocks(before, kind.path)
        names = [kind.name(block) for block in blocks]
        name = kind.name(self._block(kind.cls))
        index = names.index(name) if name in names else len(names)
        path = f"{kind.path}[{index}]"
        blocks = _with(blocks, index, self._block(kind.cls, path))
        return self._finish(_with_blocks(before, kind.path, blocks), path)

    def removal(self, before: MosnConfig) -> Outcome:
        """`remove_config`: removes the block of a name."""
        kind, name = self._kind("name"), self._word("name")
        if kind is None or not name:
            return None, self.faults.in_order()
        kept = [block for block in _blocks(before, kind.path) if kind.name(block) != name]
        after = _with_blocks(before, kind.path, kept)
        if after == before:
            self._error(f"there is no {self._word('type')} {name!r}")
        return self._finish(after, "")

    def hosts(self, before: MosnConfig) -> Outcome:
        """`update_hosts`: changes the hosts of a cluster."""
        action = self._begin(("set", "add", "remove"), "config")
        if not action:
            return None, self.faults.in_order()
        clusters = before.cluster_manager.clusters
        name = self._block(Hosts).cluster
        index = _find(clusters, lambda cluster: cluster.name == name)
        if index is None:
            return self._fail(f"there is no cluster {name!r}")
        path = f"{_CLUSTERS}[{index}]"
        given = self._block(Hosts, path).hosts
        addresses = {host.address for host in given}
        others = [] if action == "set" else [host for host in clusters[index].hosts if host.address not in addresses]
        hosts = others if action == "remove" else [*given, *others]
        changed = _with(clusters, index, replace(clusters[index], hosts=hosts))
        return self._finish(_with_blocks(before, _CLUSTERS, changed), path)

    def route(self, before: MosnConfig) -> Outcome:
        """`update_route`: appends a route to those of a virtual host, or removes routes.

        `remove` without a route empties the virtual host, as in MOSN; otherwise it removes the routes with the same match.
        """
        action = self._begin(("add", "remove"), "config")
        if not action:
            return None, self.faults.in_order()
        tables = before.servers[0].routers
        given = self._block(RouteUpdate)
        i = _find(tables, lambda table: table.router_config_name == given.router_config_name)
        if i is None:
            return self._fail(f"there is no router {given.router_config_name!r} in servers[0].routers")
        hosts, domain = tables[i].virtual_hosts, given.domain or "*"
        j = _find(hosts, lambda host: domain in host.domains)
        if j is None:
            return self._fail(f"router {given.router_config_name!r} has no virtual host with the domain {domain!r}")
        path = f"{_ROUTERS}[{i}].virtual_hosts[{j}]"
        routes = self._routes(action, given.route, hosts[j], path)
        table = replace(tables[i], virtual_hosts=_with(hosts, j, replace(hosts[j], routers=routes)))
        return self._finish(_with_blocks(before, _ROUTERS, _with(tables, i, table)), path)

    def _routes(self, action: str, route: Route | None, host: VirtualHost, path: str) -> list[Route]:
        if action == "add":
            if route is None:
                self._error("a route is missing")
                return host.routers
            config = self._top.entry("config")
            entry = config.node.entry("route") if config is not None else None
            if entry is not None:
                route = self._reader.block(entry.node, Route, f"{path}.routers[{len(host.routers)}]")
            return [*host.routers, route]
        if route is None:
            return []
        left = [other for other in host.routers if other.match != route.match]
        if len(left) == len(host.routers):
            self._error("no route has this match")
        return left

    # ---- reading

    def _parse(self, text: str) -> Node:
        if not text.strip():
            self._error("the body is empty")
            return Node("object", 0, 0)
        try:
            top, repeated = parse_json(text)
        except ParseError as error:
            self.faults.error("", error.message, at=Place(BODY, error.line, error.column))
            return Node("object", 0, 0)
        self.faults.quote_from(partial(plain, top))
        for key in repeated:
            self._error(f'duplicate key "{key.key}"', Place(BODY, key.line, key.column))
        if top.kind != "object":
            self._error("the body is not an object")
        return top

    def _kind(self, required: str) -> _Kind | None:
        return _KINDS.get(self._begin(tuple(_KINDS), required))

    def _begin(self, allowed: tuple[str, ...], required: str) -> str:
        """The `type`, if it is one of `allowed` and the key `required` is present; else empty, with an error."""
        if self.faults.has_errors:
            return ""
        kind = self._word("type", allowed)
        if self._top.entry(required) is None:
            self._error(f'"{required}" is missing')
            return ""
        return kind

    def _word(self, key: str, allowed: tuple[str, ...] = ()) -> str:
        entry = self._top.entry(key)
        value = entry.node.value if entry is not None else None
        if isinstance(value, str) and value and (not allowed or value in allowed):
            return value
        if not self.faults.has_errors:
            expected = f"one of {', '.join(allowed)}" if allowed else "a string"
            self._error(f'"{key}" must be {expected}')
        return ""

    def _block(self, cls: type[B], path: str = "") -> B:
        """The block under `config`. Without `path`, only to learn its name: errors are not reported."""
        entry = self._top.entry("config")
        assert entry is not None
        reader = self._reader if path else Reader(BODY, Diagnostics())
        return reader.block(entry.node, cls, path)

    def _error(self, message: str, place: Place | None = None) -> None:
        if not any(item.message == message for item in self.faults.items):
            self.faults.error("", message, at=place or Place(BODY))

    def _fail(self, message: str) -> Outcome:
        self._error(message)
        return None, self.faults.in_order()

    def _finish(self, after: MosnConfig, path: str) -> Outcome:
        if path or not self.faults.has_errors:
            check(after, self.faults, self._stream_filters)
        faults = self.faults.in_order()
        reported = [fault for fault in faults if fault.severity == "error" or (path and fault.path.startswith(path))]
        return (None if self.faults.has_errors else after), reported


def _find(items: list[T], matches: Callable[[T], bool]) -> int | None:
    return next((i for i, item in enumerate(items) if matches(item)), None)


def _with(items: list[T], index: int, item: T) -> list[T]:
    return [*items[:index], item, *items[index + 1 :]]


def _blocks(config: MosnConfig, path: str) -> list[Any]:
    """The list of blocks at a path of `_KINDS`."""
    holder, _, key = path.rpartition(".")
    blocks: list[Any] = getattr(_holder(config, holder), key)
    return blocks


def _holder(config: MosnConfig, path: str) -> Block:
    return {"servers[0]": config.servers[0], "cluster_manager": config.cluster_manager}.get(path, config)


def _with_blocks(config: MosnConfig, path: str, blocks: list[Any]) -> MosnConfig:
    """The configuration with another list at a path of `_KINDS`."""
    holder, _, key = path.rpartition(".")
    changed = replace(_holder(config, holder), **{key: blocks})
    if isinstance(changed, MosnConfig):
        return changed
    return replace(config, servers=[changed]) if holder == "servers[0]" else replace(config, cluster_manager=changed)
