"""Sends an HTTP request to its upstream in an RPC protocol.

The request is converted once, before a host is chosen; each attempt then sends the resulting RPC call.
"""

from __future__ import annotations

from typing import cast

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.rpc import RpcRequest
from pymosn.api.transcoder import Transcoder, checked_call, checked_reply
from pymosn.core.errors import reason
from pymosn.core.failure import (
    PROTOCOL_MISMATCH,
    RESPONSE_TOO_LARGE,
    UNTRANSLATABLE_REPLY,
    UNTRANSLATABLE_REQUEST,
    Refused,
)
from pymosn.core.headers import Headers
from pymosn.core.message import BodySource, RequestHead, ResponseHead
from pymosn.proxy.filtering import Verdict, body_handlers, filter_chunk, on_error
from pymosn.proxy.forwarding import change_request
from pymosn.proxy.owner import ExchangeOwner
from pymosn.proxy.sender_wrapper import SenderWrapper
from pymosn.proxy.stream_filters import BodyHandler, FilterHandle
from pymosn.routing.rewrites import RequestChanges, rewrite_path


class Transcoding(SenderWrapper):
    """Sends an RPC call instead of the client's request."""

    def __init__(
        self,
        handle: FilterHandle,
        owner: ExchangeOwner,
        source: BodySource,
        handlers: list[BodyHandler],
        changes: RequestChanges | None,
    ) -> None:
        """`source`: the body of the request. `handlers`: run on it before the conversion. `changes`: those of the route."""
        super().__init__()
        self.wraps_retries = True
        transcoder = handle.filter
        assert isinstance(transcoder, Transcoder)
        self.verdict: Verdict | None = None
        self._handle = handle
        self._transcoder: Transcoder = transcoder
        self._owner = owner
        self._source = source
        self._handlers = handlers
        self._changes = changes
        self._call: RpcRequest | None = None

    # ---- the request

    async def convert(self, exchange: Exchange) -> Reply | None:
        """Converts the request; runs as a filter phase. A Reply is sent to the client at once.

        Sets `verdict` when a body filter failed.
        """
        failure = rewrite_path(exchange, self._changes, self._owner.options.paths)
        if failure is not None:
            raise Refused(failure, f"route: {exchange.request.path}")
        body = await self._source.read(self._transcoder.limit)
        handlers = body_handlers(exchange, self._handlers)
        if handlers and body:
            filtered = filter_chunk(self._owner, handlers, body, True)
            if isinstance(filtered, Verdict):
                self.verdict = filtered
                return None
            body = filtered
        failure = change_request(exchange, self._changes)
        if failure is not None:
            raise Refused(failure, exchange.request.path)
        try:
            made = checked_call(self._transcoder.request(exchange, body))
        except ValueError as error:
            raise Refused(UNTRANSLATABLE_REQUEST, reason(error)) from error
        if isinstance(made, Reply):
            return made
        self._call = made
        exchange.transcoded_to = self._handle.transcodes_to
        return None

    # ---- the response

    def response(self, exchange: Exchange, head: ResponseHead) -> Reply | Verdict:
        """Converts the upstream's complete response for the client."""
        handle = self._handle
        try:
            if head.content_length > self._transcoder.limit:
                return Verdict(handle, None, RESPONSE_TOO_LARGE, f"filter {handle.name}: {head.content_length} bytes")
            made = self._reply(exchange, head)
        except ValueError as error:
            return Verdict(handle, None, UNTRANSLATABLE_REPLY, f"filter {handle.name}: {reason(error)}")
        except BaseException as error:  # `sys.exit` and panics of Rust extensions are not Exceptions
            failed = on_error(self._owner, handle, error)
            assert failed is not None  # a transcoder's errors are never skipped
            return failed
        if made is None:
            return Verdict(handle, None, PROTOCOL_MISMATCH, f"not a {exchange.upstream_protocol()} response")
        return made

    def _reply(self, exchange: Exchange, head: ResponseHead) -> Reply | None:
        owner = self._owner
        context = owner.enter()
        try:
            return cast("Reply | None", context.run(checked_reply, self._transcoder, exchange, head))
        finally:
            owner.leave(context)

    # ---- to the upstream: the client's request has been read

    def sent_headers(self, request: RequestHead) -> Headers:
        return request.headers if self._call is None else self._call.headers

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        call = self._call
        assert call is not None
        super().send_request(call, call.payload, True)

    def send_data(self, data: bytes, end: bool) -> None:
        """Nothing to send: the call is complete."""

    def send_trailers(self, trailers: Headers) -> None:
        """Nothing to send: the call is complete."""
