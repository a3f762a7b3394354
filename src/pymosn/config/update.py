"""Changes to a checked configuration, block by block: the bodies of the admin API, in the shape of MOSN's updates.

Each body is read like a file, and the resulting configuration is checked as a whole; errors have their location in the body.
Any error rejects the change; warnings are reported only for the changed block.

A slip must not empty anything. So unknown keys are errors at every depth, and so are missing ones: those that a change
consists of, and in a block that replaces another, all that would remove lists and objects. They are removed by naming them
with an empty value or null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import fields, replace

from pymosn.config.check import check
from pymosn.config.diagnostics import Diagnostic, Diagnostics, Place, closest
from pymosn.config.json_nodes import parse_json
from pymosn.config.nodes import Entry, Node, ParseError, plain
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
    """MOSN's update of one route, without the route. `domain`: an exact domain of the virtual host; empty for `*`."""

    router_config_name: str = ""
    domain: str = ""


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
        self._reader = Reader(BODY, self.faults, strict=True)
        self._top = self._parse(text)

    def config(self, before: MosnConfig) -> Outcome:
        """`update_config`: adds a block, or replaces the one of its name, of which it must name all lists and objects.

        The `config` of the type `extend` may be a list of blocks, as in MOSN.
        """
        return self._add(before, is_complete=True)

    def block(self, before: MosnConfig) -> Outcome:
        """`config` for changes by code: what the block omits is removed."""
        return self._add(before, is_complete=False)

    def name(self) -> str:
        """The name of the block; empty if the body is invalid."""
        kind = self._kind("config")
        return "" if kind is None else str(kind.name(self._read(kind.cls, self._config())))

    def _add(self, before: MosnConfig, is_complete: bool) -> Outcome:
        kind = self._kind("config")
        if kind is None:
            return None, self.faults.in_order()
        blocks = _blocks(before, kind.path)
        nodes = [self._config()]
        if is_complete and kind.cls is Extend and nodes[0].kind == "array":
            nodes = nodes[0].items
        if not nodes:
            return self._fail('"config" is empty')
        paths: list[str] = []
        for node in nodes:
            names = [kind.name(block) for block in blocks]
            name = kind.name(self._read(kind.cls, node))
            index = names.index(name) if name in names else len(names)
            paths.append(f"{kind.path}[{index}]")
            if not name and kind.cls is Extend:
                self._error('"config.type" is missing')
            if name in names and is_complete:
                self._require_contents(blocks[index], node)
            blocks = _with(blocks, index, self._read(kind.cls, node, paths[-1]))
        return self._finish(before, _with_blocks(before, kind.path, blocks), *paths)

    def removal(self, before: MosnConfig) -> Outcome:
        """`remove_config`: removes the block of a name."""
        kind = self._kind("name")
        name = self._word("name")
        if kind is None or not name:
            return None, self.faults.in_order()
        kept = [block for block in _blocks(before, kind.path) if kind.name(block) != name]
        after = _with_blocks(before, kind.path, kept)
        if after == before:
            self._error(f"there is no {self._word('type')} {name!r}")
        return self._finish(before, after)

    def hosts(self, before: MosnConfig) -> Outcome:
        """`update_hosts`: changes the hosts of a cluster."""
        action = self._begin(("set", "add", "remove"), "config", "cluster", "hosts")
        if not action:
            return None, self.faults.in_order()
        clusters = before.cluster_manager.clusters
        name = self._read(Hosts, self._config()).cluster
        index = _find(clusters, lambda cluster: cluster.name == name)
        if index is None:
            return self._fail(f"there is no cluster {name!r}")
        path = f"{_CLUSTERS}[{index}]"
        given = self._read(Hosts, self._config(), path).hosts
        for i, host in enumerate(given):
            if not host.address:
                self._error(f'"config.hosts[{i}].address" is missing')
        addresses = {host.address for host in given}
        if action == "remove":
            for address in sorted(addresses - {host.address for host in clusters[index].hosts}):
                self.faults.warning(path, f"cluster {name!r} has no host {address!r}")
        others = [] if action == "set" else [host for host in clusters[index].hosts if host.address not in addresses]
        hosts = others if action == "remove" else [*given, *others]
        changed = _with(clusters, index, replace(clusters[index], hosts=hosts))
        return self._finish(before, _with_blocks(before, _CLUSTERS, changed), path)

    def mosn_route(self, before: MosnConfig) -> Outcome:
        """MOSN's `/debug/update_route`, where an omitted `domain` is `*`, and an omitted `route` of `remove` all routes."""
        return self._change_routes(before, "router_config_name")

    def route(self, before: MosnConfig) -> Outcome:
        """`update_route`: appends a route to those of a virtual host, or removes those with the same match.

        `remove` with `"route": null` empties the virtual host.
        """
        config = self._top.entry("config")
        route = None if config is None else config.node.entry("route")
        is_emptying = route is not None and route.node.kind == "null"
        return self._change_routes(before, "router_config_name", "domain", *(() if is_emptying else ("route",)))

    def _change_routes(self, before: MosnConfig, *required: str) -> Outcome:
        action = self._begin(("add", "remove"), "config", *required)
        if not action:
            return None, self.faults.in_order()
        node = self._config()
        others = Node("object", node.line, node.column, entries=[e for e in node.entries if e.key.lower() != "route"])
        given = self._reader.block(others, RouteUpdate, "config")
        if self.faults.has_errors:
            return None, self.faults.in_order()
        tables = before.servers[0].routers
        i = _find(tables, lambda table: table.router_config_name == given.router_config_name)
        if i is None:
            return self._fail(f"there is no router {given.router_config_name!r} in servers[0].routers")
        hosts, domain = tables[i].virtual_hosts, given.domain or "*"
        j = _find(hosts, lambda host: domain in host.domains)
        if j is None:
            return self._fail(f"router {given.router_config_name!r} has no virtual host with the domain {domain!r}")
        path = f"{_ROUTERS}[{i}].virtual_hosts[{j}]"
        routes = self._routes(action, node, hosts[j], path)
        table = replace(tables[i], virtual_hosts=_with(hosts, j, replace(hosts[j], routers=routes)))
        return self._finish(before, _with_blocks(before, _ROUTERS, _with(tables, i, table)), path)

    def _routes(self, action: str, config: Node, host: VirtualHost, path: str) -> list[Route]:
        entry = _given(config, "route")
        if action == "add":
            if entry is None:
                self._error('"config.route" is missing')
                return host.routers
            return [*host.routers, self._reader.block(entry.node, Route, f"{path}.routers[{len(host.routers)}]")]
        if entry is None:
            return []
        route = self._reader.block(entry.node, Route, "config.route")
        if entry.node.kind == "object" and _given(entry.node, "match") is None:
            self._error('"config.route.match" is missing')
        left = [other for other in host.routers if other.match != route.match]
        if len(left) == len(host.routers) and not self.faults.has_errors:
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

    def _begin(self, allowed: tuple[str, ...], required: str, *inner: str) -> str:
        """The `type`, if it is one of `allowed`, and there is the key `required` and no further one; else empty.

        `inner`: keys that the object at `required` must have.
        """
        if self.faults.has_errors:
            return ""
        known = ("type", required)
        for entry in self._top.entries:
            if entry.key.lower() not in known:
                self._unknown(entry, known)
        kind = self._word("type", allowed)
        holder = _given(self._top, required)
        if holder is None:
            self._error(f'"{required}" is missing')
            return ""
        if inner and holder.node.kind != "object":
            self._error(f'"{required}" must be an object')
        for key in inner:
            if holder.node.kind == "object" and _given(holder.node, key) is None:
                self._error(f'"{required}.{key}" is missing')
        return "" if self.faults.has_errors else kind

    def _unknown(self, entry: Entry, known: tuple[str, ...]) -> None:
        place = Place(BODY, entry.line, entry.column)
        self.faults.add("error", entry.key, "unknown key", suggestion=closest(entry.key, known), at=place)

    def _require_contents(self, active: Block, node: Node, path: str = "config") -> None:
        """Errors for lists and objects of the active block that the new one, `node`, omits, at every depth.

        Of the items of lists only virtual hosts are compared, by name: others may be new ones.
        """
        if node.kind != "object":
            return
        for field in fields(active):
            value = getattr(active, field.name)
            if not isinstance(value, list | dict | Block) or not value:
                continue
            entry, name = node.entry(field.encode_name), f"{path}.{field.encode_name}"
            if entry is None:
                if not isinstance(value, Block) or value != _default(type(active), field.name):
                    self._error(f'"{name}" is missing, which the active one has; to remove it, set it to null')
            elif isinstance(value, Block):
                self._require_contents(value, entry.node, name)
            elif isinstance(value, list):
                self._require_items(value, entry.node, name)

    def _require_items(self, active: list[Any], node: Node, path: str) -> None:
        named = {item.name: item for item in active if isinstance(item, VirtualHost) and item.name}
        for i, item in enumerate(node.items):
            name = item.entry("name")
            known = None if name is None else named.get(str(name.node.value))
            if known is not None:
                self._require_contents(known, item, f"{path}[{i}]")

    def _word(self, key: str, allowed: tuple[str, ...] = ()) -> str:
        entry = self._top.entry(key)
        value = entry.node.value if entry is not None else None
        if isinstance(value, str) and value and (not allowed or value in allowed):
            return value
        if not self.faults.has_errors:
            expected = f"one of {', '.join(allowed)}" if allowed else "a string"
            self._error(f'"{key}" must be {expected}')
        return ""

    def _config(self) -> Node:
        """What is under `config`, once `_begin` has found it."""
        entry = self._top.entry("config")
        assert entry is not None
        return entry.node

    def _read(self, cls: type[B], node: Node, path: str = "") -> B:
        """A block. Without `path`, only to learn its name: errors are not reported."""
        reader = self._reader if path else Reader(BODY, Diagnostics())
        return reader.block(node, cls, path)

    def _error(self, message: str, place: Place | None = None) -> None:
        if not any(item.message == message for item in self.faults.items):
            self.faults.error("", message, at=place or Place(BODY))

    def _fail(self, message: str) -> Outcome:
        self._error(message)
        return None, self.faults.in_order()

    def _finish(self, before: MosnConfig, after: MosnConfig, *paths: str) -> Outcome:
        """Checks the changed configuration. A file may have mistakes that MOSN starts with; a change must not add any.

        `paths`: of the changed blocks.
        """
        if paths or not self.faults.has_errors:
            check(after, self.faults, self._stream_filters)
        if self.faults.oddities:
            known = Diagnostics()
            check(before, known, self._stream_filters)
            old = Counter((fault.message, fault.value) for fault in known.oddities)
            for fault in self.faults.oddities:
                old[fault.message, fault.value] -= 1
                if old[fault.message, fault.value] < 0:
                    self.faults.refuse(fault)
        faults = self.faults.in_order()
        reported = [fault for fault in faults if fault.severity == "error" or fault.path.startswith(paths)]
        return (None if self.faults.has_errors else after), reported


def _given(node: Node, key: str) -> Entry | None:
    """The entry of a key; None if it is missing or null."""
    entry = node.entry(key)
    return None if entry is None or entry.node.kind == "null" else entry


def _default(cls: type[Block], name: str) -> Any:
    return getattr(cls(), name)


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
