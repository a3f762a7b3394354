"""TARS as an `RpcSpec`."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import MORE, NO, YES
from pymosn.api.rpc import RpcDecoder, RpcSpec
from pymosn.protocol.tars.codec import TarsDecoder

_MAX_NUMBER: Final[i64] = 0x7FFFFFFF
#: First byte of lengths that are too large for any packet: 256 MiB and more.
_NO_LENGTH: Final[i64] = 0x10


class TarsSpec(RpcSpec):
    """Recognised by the field after the length: tag 1 with a version from 1 to 3."""

    def __init__(self) -> None:
        super().__init__("tars", _MAX_NUMBER)

    def match(self, data: bytes) -> i64:
        size: i64 = len(data)
        if data[0] >= _NO_LENGTH or (size > 4 and data[4] != 0x10):
            return NO
        if size < 6:
            return MORE
        return YES if 1 <= data[5] <= 3 else NO

    def decoder(self, max_frame: i64) -> RpcDecoder:
        return TarsDecoder(max_frame)
