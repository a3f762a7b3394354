"""The opening handshake of WebSocket, where the two versions of HTTP differ (RFC 6455 section 4, RFC 8441 section 5).

In HTTP/1 the client sends a key, and the server proves by a digest of it that it speaks WebSocket. HTTP/2 has neither.
Between the codecs every handshake is one of HTTP/1: a request from HTTP/2 gets a key and a response from HTTP/2 its digest,
both of which are left out where a head is sent over HTTP/2.
"""

from __future__ import annotations

import os
from base64 import b64encode
from hashlib import sha1
from typing import Final

from pymosn.api.http import HttpRequest
from pymosn.core.message import RequestHead, ResponseHead

WEBSOCKET: Final = b"websocket"
_KEY: Final = b"sec-websocket-key"
_ACCEPT: Final = b"sec-websocket-accept"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(key: bytes) -> bytes:
    """The digest of a key."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def add_key(head: HttpRequest) -> None:
    """Gives a request that was received over HTTP/2 a new key, if it asks for WebSocket."""
    if head.raw_tunnel != WEBSOCKET:
        return
    key = b64encode(os.urandom(16))
    head.headers.remove_raw(_KEY)
    head.headers.add_raw(b"Sec-WebSocket-Key", key)
    head.expected_accept = accept_of(key)


def without_key(head: RequestHead) -> RequestHead:
    """The head that is sent over HTTP/2 for a request; the same object if there is no key in it."""
    if head.raw_tunnel != WEBSOCKET or not head.headers.has_raw(_KEY):
        return head
    other = head.copy()
    other.headers.remove_raw(_KEY)
    return other


def accept_for(request: RequestHead) -> bytes:
    """The digest that the response to a request must have; empty if it asks for something else, or has no key."""
    key = request.headers.get_raw(_KEY) if request.raw_tunnel == WEBSOCKET else None
    return b"" if key is None else accept_of(key)


def add_accept(response: ResponseHead, accept: bytes) -> None:
    """Gives a response that was received over HTTP/2 the digest, of `accept_for`, if it agrees to WebSocket."""
    if response.raw_tunnel == WEBSOCKET:
        response.headers.remove_raw(_ACCEPT)
        if accept:
            response.headers.add_raw(b"Sec-WebSocket-Accept", accept)


def remove_accept(response: ResponseHead) -> None:
    """Removes the digest from a response that is sent over HTTP/2."""
    if response.raw_tunnel == WEBSOCKET:
        response.headers.remove_raw(_ACCEPT)
