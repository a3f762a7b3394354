"""A checked configuration as bytes, as the supervisor sends it to its workers."""

import msgspec
from msgspec.structs import replace

from pymosn.config.schema import Cluster, MosnConfig, RouterConfiguration


class PackedConfig(msgspec.Struct, array_like=True, frozen=True):
    """A configuration as workers receive it: everything but `routers`, and these as packed tables by name."""

    rest: MosnConfig
    #: A worker unpacks only those that changed.
    tables: dict[str, bytes]


def pack(config: MosnConfig) -> PackedConfig:
    """Packs a checked configuration."""
    server = config.servers[0]
    tables = {name: msgspec.msgpack.encode(table) for name, table in server.router_tables().items()}
    return PackedConfig(replace(config, servers=[replace(server, routers=[])]), tables)


def unpack_table(data: bytes) -> RouterConfiguration:
    """Unpacks one router table."""
    return msgspec.msgpack.decode(data, type=RouterConfiguration)


def encode(config: MosnConfig) -> bytes:
    """A packed configuration as MessagePack."""
    return msgspec.msgpack.encode(pack(config))


def decode(data: bytes) -> PackedConfig:
    """Reverses `encode`. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(data, type=PackedConfig)


def encode_cluster(cluster: Cluster) -> bytes:
    """One cluster as MessagePack."""
    return msgspec.msgpack.encode(cluster)


def decode_cluster(data: bytes) -> Cluster:
    """Reverses `encode_cluster`. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(data, type=Cluster)
