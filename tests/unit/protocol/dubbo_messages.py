"""Recorded frames of Dubbo, and messages of single frames, for the tests of its codec."""

from __future__ import annotations

from tests.kit.dubbo_frames import frame
from tests.unit.protocol.rpc_frames import Found, encoded, only, recorded

from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.core.headers import Headers, HttpHeaders
from pymosn.protocol.dubbo.codec import DubboSpec

SPEC = DubboSpec()
VERSIONS = ("dubbo-2.7", "dubbo-3")
FRAMES = {f"{folder}/{name}": raw for folder in VERSIONS for name, raw in recorded(folder).items()}
REQUESTS = {name: raw for name, raw in FRAMES.items() if name.endswith("request") and raw[2] & 0x20 == 0}
REPLIES = {name: raw for name, raw in FRAMES.items() if name.endswith("reply") and raw[2] & 0x20 == 0}
CALL = b"\x052.0.2\x01SN\x01m"


def request(body: bytes) -> RpcRequest:
    found = only(SPEC, frame(0xC2, 0, body))
    assert found.request is not None
    return found.request


def reply(body: bytes, status: int = 20) -> RpcResponse:
    found = only(SPEC, frame(2, status, body))
    assert found.response is not None
    return found.response


def local(call: Found, status: int, headers: Headers | None = None, body: bytes = b"") -> bytes:
    assert call.request is not None
    made = call.request.local_reply(status, headers or HttpHeaders(), body)
    assert made.status == status
    return encoded(made, call.request_id, made.payload)
