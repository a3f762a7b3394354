"""Packs configurations for the workers (`packed_config.py`).

Blocks of a configuration are replaced and never changed, so what has the same blocks as in the configuration before is not
packed again: with 100,000 hosts in 10,000 clusters, one more host costs one cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec.structs import replace

from pymosn.assembly.drain_order import ends_of, reached_by
from pymosn.assembly.packed_config import PackedCluster, PackedConfig, PackedTable, Parts, pack_cluster, pack_table
from pymosn.assembly.tls_material import TlsMaterial, references, with_references
from pymosn.config.schema import Cluster, ClusterManager, Listener, MosnConfig, RouterConfiguration
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


class Packer:
    """Packs one configuration after the other."""

    def __init__(self) -> None:
        self._clusters: dict[str, _Cluster] = {}
        self._tables: dict[str, _Table] = {}
        self._listeners: dict[str, _Listener] = {}
        self._digests: dict[str, bytes] = {}
        self._sockets: list[tuple[str, str]] = []

    def pack(self, config: MosnConfig, sources: Sources | None = None, material: TlsMaterial | None = None) -> PackedConfig:
        """Packs a checked configuration, the source of its filters, and the files of its TLS contexts."""
        sources, material = sources or Sources(), material or TlsMaterial()
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
        used: dict[bytes, None] = {}
        for cluster in self._clusters.values():
            parts.update(cluster.parts)
            used.update(dict.fromkeys(cluster.used))
        for listener in listeners:
            parts.update(listener.parts)
            used.update(dict.fromkeys(listener.used))
        for table in self._tables.values():
            parts.update(table.parts)
        rest = replace(
            config,
            servers=[replace(server, routers=[], listeners=[done.packed for done in listeners])],
            cluster_manager=replace(manager, clusters=[], tls_context=None),
        )
        return PackedConfig(
            rest,
            {name: table.packed for name, table in self._tables.items()},
            {name: cluster.packed for name, cluster in self._clusters.items()},
            {name: cluster.reached for name, cluster in self._clusters.items() if cluster.reached},
            sources.digests,
            list(used),
            parts,
        )

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
