"""What xDS adds to the configuration of the file, and how the two are joined.

An item of the file wins over one of xDS with the same name, and is never removed by xDS. Secrets of SDS are put into the TLS
contexts of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import replace

from pymosn.config.exchanged import exchanged_in
from pymosn.config.schema import Cluster, Listener, MosnConfig, RouterConfiguration
from pymosn.config.sds import SecretKey, Secrets, SourceError, filled, keys_of
from pymosn.config.tls_contexts import cluster_contexts, edit_cluster, edit_listener

LISTENER: Final = "listener"
TABLE: Final = "table"
CLUSTER: Final = "cluster"

T = TypeVar("T")

#: The path of a list of items -> their kind, and the name of one.
_KINDS: Final[dict[str, tuple[str, Callable[[Any], str]]]] = {
    "servers[0].listeners": (LISTENER, Listener.known_name),
    "servers[0].routers": (TABLE, lambda table: str(table.router_config_name)),
    "cluster_manager.clusters": (CLUSTER, lambda cluster: str(cluster.name)),
}
_ITEM: Final = re.compile(rf"({'|'.join(map(re.escape, _KINDS))})\[(\d+)\]")


class Owner(NamedTuple):
    """One item of a layer. `kind`: listener, table or cluster."""

    kind: str
    name: str


class Layer(NamedTuple):
    """Immutable. The items of xDS by name, and the secrets of SDS."""

    listeners: Mapping[str, Listener] = {}
    tables: Mapping[str, RouterConfiguration] = {}
    clusters: Mapping[str, Cluster] = {}
    secrets: Secrets = {}

    def items(self, kind: str) -> Mapping[str, Any]:
        """All items of a kind."""
        return {LISTENER: self.listeners, TABLE: self.tables, CLUSTER: self.clusters}[kind]

    def reverted(self, owner: Owner, good: Layer) -> Layer:
        """With the item that `good` has; without it if that has none, or the same."""
        theirs = good.items(owner.kind).get(owner.name)
        return self.with_item(owner, None if theirs is self.items(owner.kind).get(owner.name) else theirs)

    def with_item(self, owner: Owner, item: Any) -> Layer:
        """With another item of this name; None: without one."""
        kept = {name: one for name, one in self.items(owner.kind).items() if name != owner.name}
        if item is not None:
            kept[owner.name] = item
        match owner.kind:
            case "listener":
                return self._replace(listeners=kept)
            case "table":
                return self._replace(tables=kept)
        return self._replace(clusters=kept)


def differs_in_hosts_only(before: Layer, after: Layer) -> bool:
    """Whether two layers differ in nothing but hosts of clusters."""
    if before.listeners is not after.listeners and before.listeners != after.listeners:
        return False
    if before.tables is not after.tables and before.tables != after.tables:
        return False
    changed = exchanged_in(before.clusters, after.clusters)
    if changed is None or before.secrets != after.secrets:
        return False
    return all(replace(old, hosts=[]) == replace(new, hosts=[]) for _, old, new in changed)


def _exchanged(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str] | None:
    """The names of the items that are other objects than before; None if names were added or removed."""
    pairs = exchanged_in(before, after)
    return None if pairs is None else [name for name, _, _ in pairs]


class Merged(NamedTuple):
    """A configuration of both. `shadowed`: items of xDS that have no effect because the file has one of the name.

    `missing`: the secrets that are not there, and the names of what needs them.
    """

    own: MosnConfig
    config: MosnConfig
    shadowed: list[Owner]
    missing: Mapping[SecretKey, list[str]]

    def owner_at(self, path: str) -> Owner | None:
        """The item of xDS that has a path in `config`; None for one of the file."""
        found = _ITEM.match(path)
        if found is None:
            return None
        index = int(found[2])
        kind, name = _KINDS[found[1]]
        lists = _items(self.own, kind), _items(self.config, kind)
        return Owner(kind, name(lists[1][index])) if len(lists[0]) <= index < len(lists[1]) else None

    def is_added(self, owner: Owner) -> bool:
        """Whether an item is from xDS, not from the file."""
        name = _KINDS[{kind: path for path, (kind, _) in _KINDS.items()}[owner.kind]][1]
        return all(name(item) != owner.name for item in _items(self.own, owner.kind))


def path_in_item(path: str) -> str:
    """The part of a path that is below the item: `address` of `servers[0].listeners[1].address`."""
    return _ITEM.sub("", path, count=1).lstrip(".")


class Merger:
    """Joins the active configuration of the file with a layer.

    An unchanged block stays the same object, and the same configuration and layer result in the same object, because what
    follows compares blocks by identity.
    """

    def __init__(self) -> None:
        self._filled: dict[int, tuple[object, tuple[Any, ...], object]] = {}
        self._last: tuple[MosnConfig, Layer, Merged] | None = None
        self._missing: dict[SecretKey, list[str]] = {}
        # Kind -> name -> index; filled when it is needed, and the same as long as only blocks are exchanged.
        self._indexes: dict[str, dict[str, int]] = {}

    def merge(self, own: MosnConfig, layer: Layer) -> Merged:
        """`own`: the configuration of the file, with the changes of the admin API."""
        if self._last is not None and self._last[0] is own and self._last[1] is layer:
            return self._last[2]
        again = self._again(own, layer)
        if again is not None:
            return again
        kept, self._filled = self._filled, {}
        self._missing = {}
        server, manager = own.servers[0], own.cluster_manager
        listeners, clusters = server.listeners, manager.clusters
        shadowed = [
            *_shadowed(LISTENER, layer.listeners, {listener.known_name() for listener in listeners}),
            *_shadowed(TABLE, layer.tables, server.router_tables()),
            *_shadowed(CLUSTER, layer.clusters, {cluster.name for cluster in clusters}),
        ]
        hidden = set(shadowed)
        merged_listeners = self._joined(LISTENER, listeners, layer, hidden, kept)
        tables = [table for name, table in layer.tables.items() if Owner(TABLE, name) not in hidden]
        merged_clusters = self._joined(CLUSTER, clusters, layer, hidden, kept)
        config = own
        if merged_listeners is not listeners or tables or merged_clusters is not clusters:
            config = replace(
                own,
                servers=[replace(server, listeners=merged_listeners, routers=[*server.routers, *tables])],
                cluster_manager=replace(manager, clusters=merged_clusters),
            )
        merged = Merged(own, config, shadowed, self._missing)
        self._last = own, layer, merged
        self._indexes = {}
        return merged

    def _again(self, own: MosnConfig, layer: Layer) -> Merged | None:
        """Joins a layer in which only the blocks of some tables and clusters differ from the last one; None if more does."""
        if self._last is None or self._last[0] is not own or self._last[2].shadowed:
            return None
        before, merged = self._last[1:]
        if before.secrets is not layer.secrets or before.listeners is not layer.listeners:
            return None
        clusters, tables = _exchanged(before.clusters, layer.clusters), _exchanged(before.tables, layer.tables)
        if clusters is None or tables is None:
            return None
        blocks = [block for name in clusters for block in (before.clusters[name], layer.clusters[name])]
        if any(key not in layer.secrets for block in blocks for key in _needed(block, False)):
            return None
        config, server, manager = merged.config, merged.config.servers[0], merged.config.cluster_manager
        if tables:
            routers = list(server.routers)
            for name in tables:
                routers[self._index(merged, TABLE, name)] = layer.tables[name]
            config = replace(config, servers=[replace(server, routers=routers)])
        if clusters:
            items = list(manager.clusters)
            for name in clusters:
                items[self._index(merged, CLUSTER, name)] = self._with_secrets(
                    layer.clusters[name], layer.secrets, self._filled, False
                )
                self._filled.pop(id(before.clusters[name]), None)
            config = replace(config, cluster_manager=replace(manager, clusters=items))
        found = Merged(own, config, merged.shadowed, merged.missing)
        self._last = own, layer, found
        return found

    def _index(self, merged: Merged, kind: str, name: str) -> int:
        """The index of an item of xDS among all of its kind."""
        if kind not in self._indexes:
            first = len(_items(merged.own, kind))
            _, name_of = next(one for one in _KINDS.values() if one[0] == kind)
            items = _items(merged.config, kind)
            self._indexes[kind] = {name_of(items[i]): i for i in range(first, len(items))}
        return self._indexes[kind][name]

    def _joined(self, kind: str, own: list[T], layer: Layer, hidden: set[Owner], kept: dict[int, Any]) -> list[T]:
        """The items of the file, then those of the layer; the same list if that changes nothing."""
        added = layer.items(kind)
        if hidden:
            added = {name: item for name, item in added.items() if Owner(kind, name) not in hidden}
        mine = [self._with_secrets(item, layer.secrets, kept, True) for item in own]
        theirs = [self._with_secrets(item, layer.secrets, kept, False) for item in added.values()]
        is_same = not theirs and all(old is new for old, new in zip(own, mine, strict=True))
        return own if is_same else [*mine, *theirs]

    def _with_secrets(self, item: T, secrets: Secrets, kept: dict[int, Any], in_file: bool) -> T:
        if isinstance(item, Cluster) and item.tls_context is None and not item.tls_matches:
            return item
        keys = list(_needed(item, in_file))
        if not keys:
            return item
        name = item.known_name() if isinstance(item, Listener) else getattr(item, "name", "")
        for key in keys:
            if key not in secrets:
                self._missing.setdefault(key, []).append(name)
        texts = tuple(secrets.get(key) for key in keys)
        found = kept.get(id(item))
        if found is None or found[0] is not item or found[1] != texts:
            found = item, texts, _filled_item(item, secrets, in_file)
        self._filled[id(item)] = found
        result: T = found[2]
        return result


def _items(config: MosnConfig, kind: str) -> list[Any]:
    if kind == CLUSTER:
        return list(config.cluster_manager.clusters)
    server = config.servers[0]
    return list(server.listeners if kind == LISTENER else server.routers)


def _shadowed(kind: str, mine: Iterable[str], own: Collection[str]) -> list[Owner]:
    return [Owner(kind, name) for name in mine if name in own]


def _needed(item: object, in_file: bool) -> Iterable[SecretKey]:
    try:
        return needed_secrets(item, in_file=in_file)
    except SourceError:  # was rejected when it was checked
        return ()


def needed_secrets(item: object, *, in_file: bool = False) -> list[SecretKey]:
    """The secrets that a listener or cluster needs. SourceError."""
    if isinstance(item, Cluster):
        return [key for context in cluster_contexts(item) for key in keys_of(context, in_file=in_file)]
    if isinstance(item, Listener):
        contexts = [context for chain in item.filter_chains for _, context in chain.keyed_contexts()]
        return [key for context in contexts for key in keys_of(context, in_file=in_file)]
    return []


def _filled_item(item: Any, secrets: Secrets, in_file: bool) -> Any:
    """A listener or cluster with the secrets that are there."""
    fill = partial(filled, secrets=secrets, in_file=in_file)
    if isinstance(item, Cluster):
        return edit_cluster(item, fill)
    return edit_listener(item, fill)
