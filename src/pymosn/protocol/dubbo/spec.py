"""Dubbo as an `RpcSpec`."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import MORE, NO, YES
from pymosn.api.rpc import RpcDecoder, RpcSpec
from pymosn.protocol.dubbo.codec import DubboDecoder
from pymosn.protocol.dubbo.frames import EVENT_FLAG, HESSIAN2, MAGIC, REQUEST_FLAG, TWO_WAY_FLAG, make_frame

_MAX_NUMBER: Final[i64] = 0x7FFFFFFFFFFFFFFF


class DubboSpec(RpcSpec):
    """Recognised by its two magic bytes."""

    def __init__(self) -> None:
        super().__init__("dubbo", _MAX_NUMBER)

    def match(self, data: bytes) -> i64:
        if data.startswith(MAGIC):
            return YES
        return MORE if MAGIC.startswith(data) else NO

    def decoder(self, max_frame: i64) -> RpcDecoder:
        return DubboDecoder(max_frame)

    def heartbeat(self, request_id: i64) -> bytes:
        """A null event that requests an acknowledgement."""
        return make_frame(REQUEST_FLAG + TWO_WAY_FLAG + EVENT_FLAG + HESSIAN2, 0, request_id, b"N")

    def goaway(self, request_id: i64) -> bytes:
        """The readonly event that Dubbo's providers send when they close."""
        return make_frame(REQUEST_FLAG + EVENT_FLAG + HESSIAN2, 0, request_id, b"\x01R")
