"""Complete bodies for filters: what `request.read()` and `response.read()` return."""

from __future__ import annotations

import asyncio

from pymosn.core.failure import BODY_TOO_LARGE, RESPONSE_TOO_LARGE
from pymosn.core.message import BodySource, BodyTooLarge, ResponseHead
from pymosn.core.uri import PathPolicy
from pymosn.proxy.owner import ExchangeOwner
from pymosn.proxy.responder import Responder


class RequestBody(BodySource):
    """The body of an exchange's request."""

    def __init__(self, owner: ExchangeOwner) -> None:
        self._owner = owner

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge, and RuntimeError once it has been forwarded."""
        owner = self._owner
        if owner.runtime.turns.is_reached():
            await asyncio.sleep(0)
        head = owner.exchange.request
        if head.new_body is not None:
            return head.new_body
        if owner.is_request_sent():
            raise RuntimeError("the request body has already been forwarded")
        if head.content_length > limit:
            raise BodyTooLarge(BODY_TOO_LARGE, limit)
        flow = owner.held_request()
        if head.expects_continue and not flow.ended and flow.size <= limit:
            head.continue_expected()
            owner.sender.send_informational(ResponseHead(100))
        return await flow.read(limit, BODY_TOO_LARGE)

    def path_policy(self) -> PathPolicy:
        return self._owner.options.paths


class ResponseBody(BodySource):
    """The body of a response, for a filter."""

    def __init__(self, responder: Responder, owner: ExchangeOwner, is_tunnel: bool) -> None:
        self._responder = responder
        self._owner = owner
        self._is_tunnel = is_tunnel

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge, and RuntimeError once it is being sent."""
        if self._owner.runtime.turns.is_reached():
            await asyncio.sleep(0)
        head = self._owner.exchange.response
        responder = self._responder
        if head is not None and head.new_body is not None:
            return head.new_body
        if self._is_tunnel:
            return b""
        if responder.head_sent or responder.stream is not None:
            raise RuntimeError("the response body cannot be buffered: it is already being streamed")
        flow = responder.flow
        if head is not None and head.content_length > limit and not flow.ended:
            raise BodyTooLarge(RESPONSE_TOO_LARGE, limit)
        return await flow.read(limit, RESPONSE_TOO_LARGE)
