"""What a transcoder implements: an HTTP/1 request made into a call of an RPC protocol, and the reply back."""

from __future__ import annotations

from typing import ClassVar

from mypy_extensions import mypyc_attr

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.api.stream_filter import StreamFilter


@mypyc_attr(allow_interpreted_subclasses=True)
class Transcoder(StreamFilter):
    """A stream filter that also serves the routes whose `upstream_protocol` is its own.

    It works behind all filters that see the request and behind what the route changes about it, and before all that see
    the reply, so these see HTTP only, and so does the client where no reply comes. Bodies are whole, and
    `exchange.request` stays the HTTP request. Both methods are plain; what must be waited for belongs into an `async`
    method of a filter, such as its own `on_route`.
    """

    #: Only requests of this protocol can be transcoded.
    protocols: ClassVar[tuple[str, ...]] = ("Http1",)
    #: The RPC protocol that it makes calls of: `dubbo`, `bolt`, ...
    upstream_protocol: ClassVar[str] = ""
    #: Bytes of the longest body of a request (beyond: 413) and of a reply (beyond: 502).
    limit: ClassVar[int] = 1024 * 1024

    def request(self, exchange: Exchange, body: bytes) -> RpcRequest | Reply:
        """The call that `exchange.request` with `body` stands for, or a Reply that answers it at once.

        Raise ValueError, whose text is logged, for a request that stands for none: 400, `untranslatable_request`.
        """
        raise NotImplementedError

    def response(self, exchange: Exchange, reply: RpcResponse) -> Reply:
        """What the client gets for `reply`; its body is `reply.payload`. A streamed Reply is not possible here.

        Raise ValueError, whose text is logged, for a reply that HTTP cannot show: 502, `untranslatable_reply`.
        """
        raise NotImplementedError
