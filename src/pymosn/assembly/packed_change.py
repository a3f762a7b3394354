"""What differs between two packed configurations: only this is sent to workers that have the first one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from pymosn.assembly.packed_config import Digest, PackedCluster, PackedConfig, PackedTable, Parts
from pymosn.config.exchanged import exchanged_in
from pymosn.config.schema import MosnConfig

T = TypeVar("T", PackedCluster, PackedTable)


class PackedChange(msgspec.Struct, array_like=True, frozen=True):
    """See `PackedConfig`. Tables and clusters: those that are new or different, and the names of removed ones.

    None: as before.
    """

    tables: dict[str, PackedTable] = {}
    clusters: dict[str, PackedCluster] = {}
    removed_tables: list[str] = []
    removed_clusters: list[str] = []
    rest: MosnConfig | None = None
    reach: dict[str, list[int]] | None = None
    sources: dict[str, dict[str, Digest]] | None = None
    material: list[Digest] | None = None

    def is_of_hosts(self, before: PackedConfig) -> bool:
        """Whether nothing but hosts of clusters differs."""
        others = (self.rest, self.reach, self.sources, self.material)
        if self.tables or self.removed_tables or self.removed_clusters or any(one is not None for one in others):
            return False
        known = before.clusters
        return all(name in known and known[name].head == new.head for name, new in self.clusters.items())

    def digests(self) -> Iterator[Digest]:
        """All parts that it refers to."""
        for table in self.tables.values():
            yield table.head
            yield from table.pieces
        for cluster in self.clusters.values():
            yield cluster.head
            yield from cluster.hosts
        for files in (self.sources or {}).values():
            yield from files.values()
        yield from self.material or ()


def change_of(before: PackedConfig, after: PackedConfig) -> PackedChange:
    """What makes `before` become `after`. It costs what differs if only blocks were exchanged."""
    tables, removed_tables = _difference(before.tables, after.tables)
    clusters, removed_clusters = _difference(before.clusters, after.clusters)
    return PackedChange(
        tables,
        clusters,
        removed_tables,
        removed_clusters,
        None if before.rest is after.rest or before.rest == after.rest else after.rest,
        None if before.reach == after.reach else after.reach,
        None if before.sources == after.sources else after.sources,
        None if before.material == after.material else after.material,
    )


def changed(before: PackedConfig, change: PackedChange, parts: Parts) -> PackedConfig:
    """The configuration after a change. `parts`: its parts."""
    return PackedConfig(
        before.rest if change.rest is None else change.rest,
        _updated(before.tables, change.tables, change.removed_tables),
        _updated(before.clusters, change.clusters, change.removed_clusters),
        before.reach if change.reach is None else change.reach,
        before.sources if change.sources is None else change.sources,
        before.material if change.material is None else change.material,
        parts,
    )


def _difference(before: Mapping[str, T], after: Mapping[str, T]) -> tuple[dict[str, T], list[str]]:
    """The items that are new or different, and the names of those that are gone."""
    pairs = exchanged_in(before, after)
    if pairs is not None:
        return {name: new for name, old, new in pairs if old != new}, []
    new = {name: item for name, item in after.items() if before.get(name) != item}
    return new, [name for name in before if name not in after]


def _updated(before: dict[str, T], news: dict[str, T], gone: list[str]) -> dict[str, T]:
    """The same object if nothing differs."""
    if not news and not gone:
        return before
    made = {**before, **news}
    for name in gone:
        made.pop(name, None)
    return made


def encode_change(change: PackedChange) -> bytes:
    """A change as MessagePack."""
    return msgspec.msgpack.encode(change)


def decode_change(data: bytes) -> PackedChange:
    """Reverses `encode_change`. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(data, type=PackedChange)
