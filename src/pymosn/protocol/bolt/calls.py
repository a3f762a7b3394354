"""Making Bolt requests, for transcoders."""

from __future__ import annotations

from typing import Final

from pymosn.core.headers import HeaderError
from pymosn.protocol.bolt.frames import HESSIAN2, MAX_U16, BoltHeaders, BoltRequest, encode_fields, put16

#: Version 1, a request, command 1, version of the command 1, any id, codec, no timeout.
_PREFIX: Final = b"\x01\x01\x00\x01\x01\x00\x00\x00\x00" + bytes([HESSIAN2]) + b"\xff\xff\xff\xff"


def make_request(fields: list[tuple[bytes, bytes]], payload: bytes) -> BoltRequest:
    """A request of version 1 without a class. Raises HeaderError for headers that exceed their 16-bit length."""
    block = encode_fields([(name, value) for name, value in fields])
    if len(block) > MAX_U16:
        raise HeaderError(f"bolt headers of {len(block)} bytes exceed the limit of {MAX_U16}")
    start = len(_PREFIX) + 8
    front = _PREFIX + b"\x00\x00" + put16(len(block)) + len(payload).to_bytes(4, "big") + block
    return BoltRequest(BoltHeaders(front, start, len(front)), 0, front, payload, False, 1)
