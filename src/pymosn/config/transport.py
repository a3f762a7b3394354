"""A checked configuration as bytes, for the way from the supervisor to its workers."""

import msgspec

from pymosn.config.schema import Cluster, MosnConfig


def encode(config: MosnConfig) -> bytes:
    """The configuration as MessagePack."""
    return msgspec.msgpack.encode(config)


def decode(data: bytes) -> MosnConfig:
    """The configuration that `encode` packed. msgspec.DecodeError on anything else."""
    return msgspec.msgpack.decode(data, type=MosnConfig)


def encode_cluster(cluster: Cluster) -> bytes:
    """One cluster as MessagePack."""
    return msgspec.msgpack.encode(cluster)


def decode_cluster(data: bytes) -> Cluster:
    """The cluster that `encode_cluster` packed. msgspec.DecodeError on anything else."""
    return msgspec.msgpack.decode(data, type=Cluster)
