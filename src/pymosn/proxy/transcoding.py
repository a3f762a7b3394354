"""An HTTP request that goes to its upstream in an RPC protocol, and the reply that comes back from there."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.api.stream import RequestSender, ResponseSender
from pymosn.api.transcoder import Transcoder
from pymosn.core.failure import (
    BAD_REWRITE,
    PROTOCOL_MISMATCH,
    RESPONSE_TOO_LARGE,
    UNTRANSLATABLE_REPLY,
    UNTRANSLATABLE_REQUEST,
)
from pymosn.core.message import Refused, ResponseHead
from pymosn.proxy.forwarding import change_request
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle, PhaseHandler
from pymosn.proxy.tunnelling import TunnellingExchange
from pymosn.routing.actions import Forward

#: The phase of filters in which the request is transcoded, beside those in `filter_chain`.
TRANSCODE: Final[i64] = 4


class Transcoded:
    """The call that goes to the upstream in place of the client's request."""

    def __init__(self, named: FilterHandle, transcoder: Transcoder, request: RpcRequest) -> None:
        self.named = named
        self.transcoder = transcoder
        self.request = request


class TranscodingExchange(TunnellingExchange):
    """The part of an exchange that deals with an upstream of another protocol than the client's."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(runtime, options, sender)
        self._transcoded: Transcoded | None = None

    def upstream_protocol(self) -> str:
        transcoded = self._transcoded
        return self.protocol if transcoded is None else transcoded.transcoder.upstream_protocol

    # ---- the request

    def transcode(self, protocol: str) -> None:
        """Makes the request a call of `protocol`; `on_filtered` hears when that is done."""
        named = self._options.filters.transcoders.get(protocol)
        if named is None or self.request.raw_tunnel:  # no call is a tunnel
            self.fail(PROTOCOL_MISMATCH, f"{self.protocol} to {protocol}")
        else:
            self.run_filters([PhaseHandler(named, self._make_call)], TRANSCODE, 0)

    async def _make_call(self, exchange: Exchange) -> Reply | None:
        route = self.route
        assert route is not None
        assert isinstance(route.action, Forward)
        named = self._options.filters.transcoders[route.action.upstream_protocol]
        transcoder = named.filter
        assert isinstance(transcoder, Transcoder)
        body = await self.read_request(transcoder.limit)
        filters = self.body_filters(self._options.filters.request_body)
        if filters and body:
            filtered = self.filter_body(filters, body, True)
            if filtered is None:
                return None  # the exchange has failed for it
            body = filtered
        if not change_request(self, route.action.changes):
            raise Refused(BAD_REWRITE, self.request.path)
        try:
            made = transcoder.request(exchange, body)
        except ValueError as error:
            raise Refused(UNTRANSLATABLE_REQUEST, str(error)) from error
        if isinstance(made, Reply):
            return made
        if not isinstance(made, RpcRequest):
            raise TypeError(f"request() returned {type(made).__name__}, not an RpcRequest or a Reply")
        self._transcoded = Transcoded(named, transcoder, made)
        return None

    def send_call(self, transcoded: Transcoded, upstream: RequestSender) -> None:
        """Sends the call in place of the client's request."""
        self._is_sent = True
        self._held = None
        # A body that a filter has put in place of the client's: what still comes of that goes nowhere.
        self._drops_request = not self._request_ended
        self._request_ended = True
        self._release_client()
        upstream.send_request(transcoded.request, transcoded.request.payload, True)

    # ---- the reply

    def take_rpc_reply(self, transcoded: Transcoded, head: ResponseHead) -> None:
        """The upstream's reply, which comes whole, is made one that the client understands."""
        named = transcoded.named
        if not isinstance(head, RpcResponse):
            self.fail(PROTOCOL_MISMATCH, f"a reply that is not of {self.upstream_protocol()}")
            return
        if len(head.payload) > transcoded.transcoder.limit:
            self.fail(RESPONSE_TOO_LARGE, f"filter {named.name}: {len(head.payload)} bytes")
            return
        try:
            made = transcoded.transcoder.response(self, head)
            if not isinstance(made, Reply) or made.stream is not None:
                raise TypeError("response() returned no Reply with a whole body")
        except ValueError as error:
            self.fail(UNTRANSLATABLE_REPLY, f"filter {named.name}: {error}")
            return
        except (Exception, SystemExit) as error:
            self._has_ended_in(named, error)
            return
        http = self.request.local_reply(made.status, made.headers.copy(), made.body)
        self.take_reply(http, self.request.reply_body(http, made.body), True)
