"""A checked configuration as bytes, for the way from the supervisor to its workers."""

import msgspec

from pymosn.config.schema import MosnConfig


def encode(config: MosnConfig) -> bytes:
    """The configuration as MessagePack."""
    return msgspec.msgpack.encode(config)


def decode(data: bytes) -> MosnConfig:
    """The configuration that `encode` packed. msgspec.DecodeError on anything else."""
    return msgspec.msgpack.decode(data, type=MosnConfig)
