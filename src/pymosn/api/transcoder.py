"""What a transcoder implements: it converts an HTTP request to a call of an RPC protocol, and the response back."""

from __future__ import annotations

from typing import ClassVar

from mypy_extensions import mypyc_attr

from pymosn.api.exchange import Exchange, Reply, is_valid_reply
from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.errors import type_name
from pymosn.core.message import ResponseHead


@mypyc_attr(allow_interpreted_subclasses=True)
class Transcoder(StreamFilter):
    """A stream filter that also serves the routes whose `upstream_protocol` is its own.

    It runs after all filters that see the request and after the route's changes to it, and before all that see the
    response, so these and the client see HTTP only. Bodies are complete, and `exchange.request` stays the HTTP request. Both
    methods are plain; anything that waits belongs in an `async` method, such as the transcoder's own `on_route`.
    """

    #: Only requests of these protocols can be transcoded.
    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")
    #: The RPC protocol of the calls: `dubbo`, `bolt`, ...
    upstream_protocol: ClassVar[str] = ""
    #: Maximum body size in bytes of a request (beyond: 413) and of a response (beyond: 502).
    limit: ClassVar[int] = 1024 * 1024

    def request(self, exchange: Exchange, body: bytes) -> RpcRequest | Reply:
        """Converts `exchange.request` with `body` to an RPC call, or returns a Reply to answer immediately.

        Raise ValueError (its text is logged) if the request cannot be converted: 400, `untranslatable_request`.
        """
        raise NotImplementedError

    def response(self, exchange: Exchange, reply: RpcResponse) -> Reply:
        """The client's response for `reply`, whose body is `reply.payload`. A streamed Reply is not possible here.

        Raise ValueError (its text is logged) if the response cannot be converted: 502, `untranslatable_reply`.
        """
        raise NotImplementedError


def checked_call(made: object) -> RpcRequest | Reply:
    """What `Transcoder.request` returned. Raises TypeError for anything but an RpcRequest or a Reply."""
    if not isinstance(made, (RpcRequest, Reply)):
        raise TypeError(f"request() returned {type_name(made)}, not an RpcRequest or a Reply")
    return made


def checked_reply(transcoder: Transcoder, exchange: Exchange, head: ResponseHead) -> Reply | None:
    """`transcoder.response(...)`, or None if `head` is of no RPC protocol. TypeError for anything but a complete Reply."""
    if not isinstance(head, RpcResponse):
        return None
    made = transcoder.response(exchange, head)
    if not isinstance(made, Reply) or made.stream is not None or not is_valid_reply(made):
        raise TypeError("response() must return a Reply with a complete (non-streaming) body")
    return made
