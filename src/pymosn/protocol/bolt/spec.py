"""SOFA Bolt as an `RpcSpec`."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import MORE, NO, YES
from pymosn.api.rpc import RpcDecoder, RpcSpec
from pymosn.protocol.bolt.codec import BoltDecoder
from pymosn.protocol.bolt.frames import COMMAND_GOAWAY, COMMAND_HEARTBEAT, HESSIAN2, V1, V2, bare_frame, put16

#: The timeout of a request that specifies none.
NO_TIMEOUT: Final = b"\xff\xff\xff\xff"


class BoltSpec(RpcSpec):
    """One version of Bolt: for detection, and for what the proxy originates. Both versions are decoded."""

    def __init__(self, version: i64) -> None:
        """`version`: 1 ("bolt") or 2 ("boltv2")."""
        super().__init__("bolt" if version == V1 else "boltv2", 0xFFFFFFFF)
        self._version: i64 = version

    def match(self, data: bytes) -> i64:
        """Matches a request: version, header version (2 only), type 1 or 2, command 0, 1 or 100.

        Connections begin with a request. MOSN checks the first byte only and mistakes other binary protocols for Bolt.
        """
        version: i64 = self._version
        size: i64 = len(data)
        if data[0] != version or (version == V2 and size > 1 and not 1 <= data[1] <= 2):
            return NO
        if size > version and not 1 <= data[version] <= 2:
            return NO
        if size > version + 1 and data[version + 1] != 0:
            return NO
        if size <= version + 2:
            return MORE
        return YES if data[version + 2] in (0, 1, 100) else NO

    def decoder(self, max_frame: i64) -> RpcDecoder:
        return BoltDecoder(max_frame)

    def heartbeat(self, request_id: i64) -> bytes:
        return self._command(COMMAND_HEARTBEAT, request_id)

    def goaway(self, request_id: i64) -> bytes:
        return self._command(COMMAND_GOAWAY, request_id)

    def _command(self, command: i64, request_id: i64) -> bytes:
        """A request without class, headers and content."""
        end = b"\x01\x00\x00\x00\x00" + bytes([HESSIAN2])
        if self._version == V2:
            prefix = b"\x02\x01\x01" + put16(command) + end + b"\x00"
        else:
            prefix = b"\x01\x01" + put16(command) + end
        return bare_frame(prefix + NO_TIMEOUT, V2 if self._version == V2 else V1, request_id)
