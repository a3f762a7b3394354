"""The complete request body for `request.read()`; for `response.read()` see `responder.ResponseBody`."""

from __future__ import annotations

from pymosn.core.failure import BODY_TOO_LARGE
from pymosn.core.message import BodySource, BodyTooLarge, ResponseHead
from pymosn.proxy.owner import ExchangeOwner


class RequestBody(BodySource):
    """The body of an exchange's request."""

    def __init__(self, owner: ExchangeOwner) -> None:
        self._owner = owner

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge, and RuntimeError once it has been forwarded."""
        owner = self._owner
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
