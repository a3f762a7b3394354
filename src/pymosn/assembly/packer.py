"""Packs configurations for the workers (`packed_config.py`).

Blocks of a configuration are replaced and never changed, so what has the same blocks as in the configuration before is not
packed again: with 100,000 hosts in 10,000 clusters, one more host costs one cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

from msgspec.structs import fields, replace

from pymosn.assembly.drain_order import ends_of, reached_by
from pymosn.assembly.packed_config import PackedCluster, PackedConfig, PackedTable, Parts, pack_cluster, pack_table
from pymosn.assembly.tls_material import TlsMaterial, references, with_references
from pymosn.config.exchanged import exchanged
from pymosn.config.schema import Cluster, ClusterManager, Listener, MosnConfig, RouterConfiguration, Server
from pymosn.config.schema.tls import TlsContext
from pymosn.config.tls_contexts import cluster_tls, edit_listener, edit_match
from pymosn.filters.sources import Sources

#: The listeners that a cluster reaches have to be found.
_UNKNOWN: Final[list[int]] = []


class _Cluster(NamedTuple):
    """A packed cluster. `context`: that it uses; `used`: the parts that it refers to; `reached`: indexes of listeners."""

    block: Cluster
    context: TlsContext | None
    packed: PackedCluster
    parts: Parts
    used: list[bytes]
    reached: list[int]


class _Table(NamedTuple):
    block: RouterConfiguration
    packed: PackedTable
    parts: Parts


class _Listener(NamedTuple):
    block: Listener
    packed: Listener
    parts: Parts
    used: list[bytes]


class _Done(NamedTuple):
    """The last configuration that was packed, and what it was made of. `uses`: how many blocks have each part."""

    config: MosnConfig
    packed: PackedConfig
    uses: Counter[bytes]


class Packer:
    """Packs one configuration after the other."""

    def __init__(self) -> None:
        self._clusters: dict[str, _Cluster] = {}
        self._tables: dict[str, _Table] = {}
        self._listeners: dict[str, _Listener] = {}
        self._digests: dict[str, bytes] = {}
        self._sockets: list[tuple[str, str]] = []
        self._done: _Done | None = None

    def pack(self, config: MosnConfig, sources: Sources | None = None, material: TlsMaterial | None = None) -> PackedConfig:
        """Packs a checked configuration, the source of its filters, and the files of its TLS contexts."""
        sources, material = sources or Sources(), material or TlsMaterial()
        again = self._again(config, sources, material)
        if again is not None:
            return again
        if material.digests != self._digests:
            self._clusters, self._listeners, self._digests = {}, {}, material.digests
        server, manager = config.servers[0], config.cluster_manager
        sockets = [(listener.network, listener.address) for listener in server.listeners]
        knows_reached = sockets == self._sockets
        parts: Parts = {
            digest: sources.folders[folder][path]
            for folder, files in sources.digests.items()
            for path, digest in files.items()
        }
        self._sockets = sockets
        self._tables = {name: self._table(name, table) for name, table in server.router_tables().items()}
        clusters: dict[str, _Cluster] = {}
        ends = ends_of(server.listeners)
        for block in manager.clusters:
            done = self._cluster(block, manager, material)
            if not knows_reached or done.reached is _UNKNOWN:
                done = done._replace(reached=reached_by(block, server.listeners, ends))
            clusters[block.name] = done
        self._clusters = clusters
        listeners = [self._listener(block, material) for block in server.listeners]
        self._listeners = {done.block.known_name(): done for done in listeners}
        with_tls: list[_Cluster | _Listener] = [*self._clusters.values(), *listeners]
        packed_blocks: list[_Cluster | _Listener | _Table] = [*with_tls, *self._tables.values()]
        parts.update(chain.from_iterable(done.parts.items() for done in packed_blocks))
        used = chain.from_iterable(done.used for done in with_tls)
        rest = replace(
            config,
            servers=[replace(server, routers=[], listeners=[done.packed for done in listeners])],
            cluster_manager=replace(manager, clusters=[], tls_context=None),
        )
        packed = PackedConfig(
            rest,
            {name: table.packed for name, table in self._tables.items()},
            {name: cluster.packed for name, cluster in self._clusters.items()},
            {name: cluster.reached for name, cluster in self._clusters.items() if cluster.reached},
            sources.digests,
            list(dict.fromkeys(used)),
            parts,
        )
        uses = Counter(chain.from_iterable(done.parts for done in packed_blocks))
        uses.update(digest for files in sources.digests.values() for digest in files.values())
        self._done = _Done(config, packed, uses)
        return packed

    def _again(self, config: MosnConfig, sources: Sources, material: TlsMaterial) -> PackedConfig | None:
        """Packs a configuration in which only some clusters and tables are other blocks than in the last one; else None."""
        done = self._done
        if done is None or sources.digests != done.packed.sources or material.digests != self._digests:
            return None
        clusters = _replaced(done.config.cluster_manager.clusters, config.cluster_manager.clusters, "name")
        tables = _replaced(done.config.servers[0].routers, config.servers[0].routers, "router_config_name")
        if clusters is None or tables is None or not _are_same_but_blocks(done.config, config):
            return None
        server, manager, before = config.servers[0], config.cluster_manager, done.packed
        parts, uses = dict(before.parts), done.uses
        packed_clusters, packed_tables, reach = dict(before.clusters), dict(before.tables), dict(before.reach)
        ends = ends_of(server.listeners) if clusters else set()
        for replaced, cluster in clusters:
            old = self._clusters[cluster.name]
            new = self._cluster(cluster, manager, material)
            if old.block is not replaced or new.used != old.used:
                return None
            new = new._replace(reached=reached_by(cluster, server.listeners, ends))
            self._clusters[cluster.name] = new
            packed_clusters[cluster.name] = new.packed
            reach.pop(cluster.name, None)
            if new.reached:
                reach[cluster.name] = new.reached
            _exchange(parts, uses, old.parts, new.parts)
        for replaced, block in tables:
            name = str(block.router_config_name)
            if self._tables[name].block is not replaced:
                return None
            table = self._table(name, block)
            _exchange(parts, uses, self._tables[name].parts, table.parts)
            self._tables[name] = table
            packed_tables[name] = table.packed
        packed = PackedConfig(before.rest, packed_tables, packed_clusters, reach, before.sources, before.material, parts)
        self._done = _Done(config, packed, uses)
        return packed

    def _table(self, name: str, table: RouterConfiguration) -> _Table:
        before = self._tables.get(name)
        if before is not None and before.block is table:
            return before
        parts: Parts = {}
        return _Table(table, pack_table(table, parts), parts)

    def _cluster(self, cluster: Cluster, manager: ClusterManager, material: TlsMaterial) -> _Cluster:
        context = cluster_tls(cluster, manager)
        before = self._clusters.get(cluster.name)
        if before is not None and before.block is cluster and before.context is context:
            return before
        parts: Parts = {}
        used: list[bytes] = []
        block = cluster
        if context is not None or cluster.cluster_manager_tls:
            packed = None if context is None else _referrer(material, parts, used)(context)
            block = replace(cluster, tls_context=packed)
        if cluster.tls_matches:
            refer = _referrer(material, parts, used)
            block = replace(block, tls_matches=[edit_match(match, refer) for match in cluster.tls_matches])
        return _Cluster(cluster, context, pack_cluster(block, parts), parts, used, _UNKNOWN)

    def _listener(self, listener: Listener, material: TlsMaterial) -> _Listener:
        before = self._listeners.get(listener.known_name())
        if before is not None and before.block is listener:
            return before
        parts: Parts = {}
        used: list[bytes] = []
        return _Listener(listener, edit_listener(listener, _referrer(material, parts, used)), parts, used)


def _replaced(before: list[Any], after: list[Any], key: str) -> list[tuple[Any, Any]] | None:
    """The items that are other objects, before and after; None if there are more or less items, or others by name."""
    name = attrgetter(key)
    pairs = exchanged(before, after)
    return pairs if pairs is not None and all(name(old) == name(new) for old, new in pairs) else None


def _are_same_but_blocks(before: MosnConfig, after: MosnConfig) -> bool:
    """Whether two configurations have the same objects, whatever their clusters and tables are."""
    servers = _have_same(before.servers[0], after.servers[0], Server, ("routers", "listeners"))
    managers = _have_same(before.cluster_manager, after.cluster_manager, ClusterManager, ("clusters",))
    listeners = before.servers[0].listeners, after.servers[0].listeners
    return (
        servers
        and managers
        and exchanged(*listeners) == []
        and _have_same(before, after, MosnConfig, ("servers", "cluster_manager"))
    )


def _have_same(before: object, after: object, kind: type, but: Collection[str]) -> bool:
    names = [field.name for field in fields(kind) if field.name not in but]
    return all(getattr(before, name) is getattr(after, name) for name in names)


def _exchange(parts: Parts, uses: Counter[bytes], old: Parts, new: Parts) -> None:
    """Replaces the parts of one block. Equal parts of several blocks are one."""
    uses.update(new.keys())
    parts.update(new)
    for digest in old:
        uses[digest] -= 1
        if not uses[digest]:
            del uses[digest], parts[digest]


def _referrer(material: TlsMaterial, parts: Parts, used: list[bytes]) -> Callable[[TlsContext], TlsContext]:
    """Replaces the texts of a context by references, and adds their content to `parts`."""

    def refer(context: TlsContext) -> TlsContext:
        packed = with_references(context, material, parts)
        used.extend(references(packed))
        return packed

    return refer


def pack(config: MosnConfig, sources: Sources | None = None, material: TlsMaterial | None = None) -> PackedConfig:
    """Packs one configuration: see `Packer.pack`."""
    return Packer().pack(config, sources, material)
