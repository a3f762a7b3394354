"""Replies that the proxy makes itself. They carry nothing of the request (MOSN echoes its headers; we do not)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from pymosn.api.rpc import RpcRequest
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead

_PHRASES: Final[dict[int, str]] = {int(status): status.phrase for status in HTTPStatus}


def failure_reply(request: RequestHead, failure: Failure) -> bytes:
    """The body for a failure: what HTTP says of the status; the reason word is for the operator, not the client."""
    if request.is_rpc:
        return b""
    return f"{failure.status} {_PHRASES.get(failure.status, 'Error')}\n".encode()


def has_no_body(request: RequestHead, head: ResponseHead) -> bool:
    """Whether a reply has no body: to a HEAD, or with a status that has no content (RFC 9110 section 6.4.1)."""
    return request.raw_method == b"HEAD" or head.status == 204 or head.status == 304


def local_body(request: RequestHead, head: ResponseHead, body: bytes) -> bytes:
    """What is sent of `body`."""
    return b"" if has_no_body(request, head) else body


def local_head(request: RequestHead, status: int, headers: Headers, body: bytes) -> ResponseHead:
    """The head of a reply with `body`; that of an RPC request is of its own protocol, and may have another body."""
    if isinstance(request, RpcRequest):
        return request.local_reply(status, headers, body)
    if body and status not in (204, 304) and headers.get_raw(b"content-type") is None:
        headers.add_raw(b"content-type", b"text/plain; charset=utf-8")
    head = ResponseHead(status, b"", headers)
    if status == 204:
        head.content_length = 0
    elif status != 304:
        head.content_length = len(body)
        headers.add_raw(b"content-length", b"%d" % len(body))
    return head
