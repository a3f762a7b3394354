"""The bodies of messages in each serialization whose attachments can be read."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.protocol.dubbo import fastjson, fastjson2
from pymosn.protocol.dubbo.attachments import Attachments, HessianAttachments, RequestBody, RequestFront, response_map
from pymosn.protocol.dubbo.hessian2 import Hessian2Error

# Ids of serializations.
HESSIAN2: Final[i64] = 2
FASTJSON: Final[i64] = 6
FASTJSON2: Final[i64] = 23


def is_readable(serialization: i64) -> bool:
    """Whether attachments can be read in this serialization."""
    return serialization in (HESSIAN2, FASTJSON, FASTJSON2)


def request_front(body: bytes, serialization: i64) -> RequestFront:
    """The beginning of a request. Raises Hessian2Error if it cannot be read."""
    if serialization == HESSIAN2:
        return RequestBody(body)
    if serialization == FASTJSON2:
        return fastjson2.Fastjson2Body(body)
    if serialization == FASTJSON:
        return fastjson.FastjsonBody(body)
    raise Hessian2Error(f"serialization {serialization} is unknown")


def response_attachments(body: bytes, serialization: i64) -> Attachments | None:
    """The attachments of a response with status OK; None if it has none. Raises Hessian2Error if they cannot be read."""
    if serialization == HESSIAN2:
        reader = response_map(body)
        return None if reader is None else HessianAttachments(reader)
    if serialization == FASTJSON2:
        return fastjson2.response_attachments(body)
    if serialization == FASTJSON:
        return fastjson.response_attachments(body)
    raise Hessian2Error(f"serialization {serialization} is unknown")
