"""A checked configuration as bytes, for the way from the supervisor to its workers."""

import msgspec
from msgspec.structs import replace

from pymosn.config.schema import Cluster, MosnConfig, RouterConfiguration


class PackedConfig(msgspec.Struct, array_like=True, frozen=True):
    """A configuration as workers get it.

    `tables`: the router tables by name, each packed by itself, so that a worker looks only into those that have changed.
    `rest`: everything else; it has no `routers`.
    """

    rest: MosnConfig
    tables: dict[str, bytes]


def pack(config: MosnConfig) -> PackedConfig:
    """The parcel of a checked configuration."""
    server = config.servers[0]
    tables = {name: msgspec.msgpack.encode(table) for name, table in server.router_tables().items()}
    return PackedConfig(replace(config, servers=[replace(server, routers=[])]), tables)


def unpack_table(data: bytes) -> RouterConfiguration:
    """One table of a parcel."""
    return msgspec.msgpack.decode(data, type=RouterConfiguration)


def encode(config: MosnConfig) -> bytes:
    """The configuration's parcel as MessagePack."""
    return msgspec.msgpack.encode(pack(config))


def decode(data: bytes) -> PackedConfig:
    """The parcel that `encode` made. msgspec.DecodeError on anything else."""
    return msgspec.msgpack.decode(data, type=PackedConfig)


def encode_cluster(cluster: Cluster) -> bytes:
    """One cluster as MessagePack."""
    return msgspec.msgpack.encode(cluster)


def decode_cluster(data: bytes) -> Cluster:
    """The cluster that `encode_cluster` packed. msgspec.DecodeError on anything else."""
    return msgspec.msgpack.decode(data, type=Cluster)
