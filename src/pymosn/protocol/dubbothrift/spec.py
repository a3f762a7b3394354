"""Dubbo-thrift as an `RpcSpec`."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import MORE, NO, YES
from pymosn.api.rpc import RpcDecoder, RpcSpec
from pymosn.protocol.dubbothrift.codec import ThriftDecoder

_MAX_NUMBER: Final[i64] = 0x7FFFFFFFFFFFFFFF
#: First byte of lengths that are too large for any frame: 256 MiB and more.
_NO_LENGTH: Final[i64] = 0x10


class ThriftSpec(RpcSpec):
    """Recognised by the magic after a length. There are no heartbeats: neither Dubbo nor Thrift would answer one."""

    def __init__(self) -> None:
        super().__init__("dubbo-thrift", _MAX_NUMBER)

    def match(self, data: bytes) -> i64:
        size: i64 = len(data)
        if data[0] >= _NO_LENGTH or (size > 4 and data[4] != 0xDA) or (size > 5 and data[5] != 0xBC):
            return NO
        return YES if size > 5 else MORE

    def decoder(self, max_frame: i64) -> RpcDecoder:
        return ThriftDecoder(max_frame)
