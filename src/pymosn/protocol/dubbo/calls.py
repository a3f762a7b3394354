"""Making Dubbo calls and reading their results, for transcoders."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import RpcResponse
from pymosn.protocol.dubbo.attachments import RequestBody, argument_count
from pymosn.protocol.dubbo.bodies import HESSIAN2
from pymosn.protocol.dubbo.frames import (
    HEADER_SIZE,
    OK,
    REQUEST_FLAG,
    SERIALIZATION,
    TWO_WAY_FLAG,
    DubboRequest,
    DubboResponse,
    make_frame,
)
from pymosn.protocol.dubbo.headers import DubboRequestHeaders
from pymosn.protocol.dubbo.hessian2 import Hessian2Error
from pymosn.protocol.dubbo.values import Hessian2ValueReader, write_value

_FLAGS: Final[i64] = REQUEST_FLAG + TWO_WAY_FLAG + HESSIAN2


def make_call(
    service: str,
    method: str,
    types: str,
    arguments: list[bytes],
    version: str = "",
    attachments: dict[str, str] | None = None,
) -> DubboRequest:
    """Creates a call of `method` of the interface `service`.

    `types`: the descriptor of its parameters, such as `Ljava/lang/String;I`. `arguments`: a hessian 2 value for each.
    Raises Hessian2Error if these do not match.
    """
    if argument_count(types.encode()) != len(arguments):
        raise Hessian2Error(f"{len(arguments)} arguments for the parameters {types!r}")
    entries = {"path": service, "interface": service, **({"version": version} if version else {}), **(attachments or {})}
    front = [write_value(text) for text in ("2.0.2", service, version, method, types)]
    body = b"".join([*front, *arguments, write_value(entries)])
    header = make_frame(_FLAGS, 0, 0, body)[:HEADER_SIZE]
    return DubboRequest(DubboRequestHeaders(RequestBody(body), body, HESSIAN2), 0, header, body, _FLAGS)


class Result:
    """A provider's result: a `value`, None for null and void, or an exception, which is an object (a dict).

    `error`: the text of an error status, such as an unknown service; otherwise empty.
    """

    def __init__(self, value: object, is_exception: bool, error: str) -> None:
        self.value = value
        self.is_exception = is_exception
        self.error = error


def read_result(response: RpcResponse) -> Result:
    """Reads the result in `response`. Raises Hessian2Error if it is not in hessian 2."""
    is_hessian2 = isinstance(response, DubboResponse) and response.flags & SERIALIZATION == HESSIAN2
    if not is_hessian2 or len(response.frame) < HEADER_SIZE:
        raise Hessian2Error("not a response in hessian 2")
    reader = Hessian2ValueReader(response.payload)
    if response.frame[3] != OK:
        text = reader.value()
        return Result(None, False, text if isinstance(text, str) and text else f"status {response.frame[3]}")
    kind = reader.integer()
    if kind < 0 or kind > 5:
        raise Hessian2Error(f"invalid result kind {kind}")
    if kind in (2, 5):
        return Result(None, False, "")
    return Result(reader.value(), kind in (0, 3), "")
