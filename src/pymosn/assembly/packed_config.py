"""A checked configuration as bytes, as the supervisor sends it to its workers.

It is packed in parts of some kilobytes, which are identified by a digest of their content: a part of the hosts of a cluster,
of the routes of a table, a file with code of filters, or a certificate (`tls_material.py`). So a worker never decodes a
large message at once, and a change transfers only the parts that the workers do not have yet.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from pymosn.assembly.clusters import host_plans
from pymosn.assembly.tls_material import digest_of
from pymosn.config.schema import Cluster, MosnConfig, RouterConfiguration
from pymosn.config.schema.router import VirtualHost
from pymosn.upstream.plan import HostPlan

#: A part ends after a host whose address has these bits clear, so that one more host changes one part and not all that
#: follow: one host in 128. And after so many hosts in any case.
_BOUNDARY: Final = 0x7F
_MAX_HOSTS: Final = 512
#: Routes in one part.
_MAX_ROUTES: Final = 100

Digest = bytes
#: The parts of a configuration.
Parts = dict[Digest, bytes]
#: A virtual host or, if the flag is not set, more routes of the one before.
Piece = tuple[bool, VirtualHost]
#: Address, host name, weight, labels, whether it has no TLS; and those of priority, reported health, transport, locality,
#: weight for hashing and workload that most hosts do not have.
_PackedHost = tuple[str, str, int, tuple[tuple[str, str], ...], bool, tuple[int, int, int, str, int, str] | None]
#: The rare facts of most hosts.
_ORDINARY: Final = (0, 0, 0, "", 0, "")


class PackedCluster(msgspec.Struct, array_like=True, frozen=True):
    """The parts of a cluster: everything but its hosts, and these."""

    head: Digest
    hosts: list[Digest]


class PackedTable(msgspec.Struct, array_like=True, frozen=True):
    """The parts of a router table: everything but its virtual hosts, and these."""

    head: Digest
    pieces: list[Digest]


class PackedConfig(msgspec.Struct, array_like=True, frozen=True):
    """A configuration as workers receive it: everything but routers and clusters, and the parts of these by name.

    The TLS contexts have references instead of paths. Each cluster has the context that it uses as its own, also if that is
    the one of the cluster manager.
    """

    rest: MosnConfig
    tables: dict[str, PackedTable]
    clusters: dict[str, PackedCluster]
    #: The indexes of the listeners that a cluster has as hosts, for clusters that have any.
    reach: dict[str, list[int]]
    #: The source of filters: folder -> relative path -> the part with the file's content.
    sources: dict[str, dict[str, Digest]] = {}
    #: The parts that TLS contexts refer to.
    material: list[Digest] = []
    #: The content of the parts, which is sent separately.
    parts: Parts = {}

    def kept_parts(self) -> Parts:
        """The parts that a worker keeps with the active configuration: it has those with hosts in another form."""
        return {digest: self.parts[digest] for digest in self.kept_digests()}

    def kept_digests(self) -> Iterator[Digest]:
        """The parts that a worker keeps."""
        for table in self.tables.values():
            yield table.head
            yield from table.pieces
        for cluster in self.clusters.values():
            yield cluster.head
        for files in self.sources.values():
            yield from files.values()
        yield from self.material

    def source_files(self) -> dict[str, dict[str, bytes]]:
        """The source of filters: folder -> relative path -> content."""
        return {
            folder: {path: self.parts[digest] for path, digest in files.items()} for folder, files in self.sources.items()
        }


def pack_cluster(cluster: Cluster, parts: Parts) -> PackedCluster:
    """Packs a cluster; adds its parts to `parts`."""
    head = _add(parts, replace(cluster, hosts=[]))
    return PackedCluster(head, [_add(parts, hosts) for hosts in _split(host_plans(cluster))])


def _split(hosts: Iterable[HostPlan]) -> Iterator[list[_PackedHost]]:
    part: list[_PackedHost] = []
    for host in hosts:
        rare = (host.priority, host.health, host.transport, host.locality, host.hash_weight, host.workload)
        facts = None if rare == _ORDINARY else rare
        part.append((host.address, host.hostname, host.weight, host.metadata, host.tls_disable, facts))
        if not zlib.crc32(host.address.encode()) & _BOUNDARY or len(part) >= _MAX_HOSTS:
            yield part
            part = []
    if part:
        yield part


def unpack_cluster(packed: PackedCluster, parts: Parts) -> Cluster:
    """A cluster without its hosts."""
    return msgspec.msgpack.decode(parts[packed.head], type=Cluster)


def unpack_hosts(part: bytes) -> tuple[HostPlan, ...]:
    """The hosts of one part. Those of one workload or locality share its text."""
    texts: dict[str, str] = {}
    found: list[HostPlan] = []
    for host in msgspec.msgpack.decode(part, type=list[_PackedHost]):
        rare = host[5]
        if rare is None:
            found.append(HostPlan(*host[:5]))
            continue
        locality, workload = texts.setdefault(rare[3], rare[3]), texts.setdefault(rare[5], rare[5])
        found.append(HostPlan(*host[:5], *rare[:3], locality, rare[4], workload))
    return tuple(found)


def pack_table(table: RouterConfiguration, parts: Parts) -> PackedTable:
    """Packs a router table; adds its parts to `parts`."""
    pieces: list[Digest] = []
    part: list[Piece] = []
    size = 0
    for host in table.virtual_hosts:
        for start in range(0, len(host.routers) or 1, _MAX_ROUTES):
            routes = host.routers[start : start + _MAX_ROUTES]
            if part and size + len(routes) > _MAX_ROUTES:
                pieces.append(_add(parts, part))
                part, size = [], 0
            part.append((start == 0, replace(host, routers=routes)))
            size += len(routes) or 1
    if part:
        pieces.append(_add(parts, part))
    return PackedTable(_add(parts, replace(table, virtual_hosts=[])), pieces)


def unpack_table(packed: PackedTable, parts: Parts) -> RouterConfiguration:
    """A router table without its virtual hosts."""
    return msgspec.msgpack.decode(parts[packed.head], type=RouterConfiguration)


def unpack_pieces(part: bytes) -> list[Piece]:
    """The virtual hosts of one part of a table."""
    return msgspec.msgpack.decode(part, type=list[Piece])


def _add(parts: Parts, value: object) -> Digest:
    """Adds a part; returns its digest."""
    data = msgspec.msgpack.encode(value)
    digest = digest_of(data)
    parts[digest] = data
    return digest


def encode(packed: PackedConfig) -> bytes:
    """A packed configuration without its parts as MessagePack."""
    return msgspec.msgpack.encode(replace(packed, parts={}))


def decode(data: bytes, parts: Parts) -> PackedConfig:
    """Reverses `encode`. Raises msgspec.DecodeError."""
    return replace(msgspec.msgpack.decode(data, type=PackedConfig), parts=parts)
