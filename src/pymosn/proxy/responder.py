"""Sends a response that does not simply stream through: it is filtered, replaced, streamed by a filter, or a local reply.

A plain response of an upstream needs no `Responder`: its head and chunks go straight to `ExchangeOwner.send_head` and
`send_chunk`, which every response uses in the end.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.stream import RequestSender
from pymosn.core.failure import CLIENT_GONE, CLIENT_WRITE_TIMEOUT, CONNECT_NOT_ALLOWED, FILTER_ERROR, FILTER_TIMEOUT, Failure
from pymosn.core.foreign import report
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import UNKNOWN_LENGTH, ResponseHead
from pymosn.proxy.accounting import log_prefix
from pymosn.proxy.body_flow import BodyFlow
from pymosn.proxy.filter_code import report_error
from pymosn.proxy.filtering import Verdict, body_handlers, filter_chunk, filter_start
from pymosn.proxy.owner import ExchangeOwner
from pymosn.proxy.reply_stream import ChunkReceiver, ReplyStream
from pymosn.proxy.stream_filters import FilterHandle, any_changes_length

#: Failures caused by a filter: the chain is not run again for them.
FILTER_FAILURES: Final = (FILTER_ERROR, FILTER_TIMEOUT)


class Responder(ChunkReceiver):
    """One response on its way through filters to the client."""

    def __init__(self, owner: ExchangeOwner, head: ResponseHead, source: RequestSender | None) -> None:
        """`source`: the upstream's sender while more of the body may arrive."""
        self.flow = BodyFlow(source)
        #: A reply that a filter streams.
        self.stream: ReplyStream | None = None
        self.head_sent = False
        self._owner = owner
        self._shown_status: i64 = head.status
        self._has_handlers = False

    # ---- the head

    def check_head(self) -> ResponseHead | None:
        """The head after the filters; None if they made it invalid, in which case the exchange has failed."""
        owner = self._owner
        head = owner.exchange.response
        if head is None:
            owner.fail(FILTER_ERROR, "a filter removed the response")
            return None
        if head.status != self._shown_status and not head.accept_status():
            owner.fail(FILTER_ERROR, f"a filter set an invalid status: {head.status}")
            return None
        return head

    def send(self, head: ResponseHead) -> None:
        """Sends the head and the held part of the body."""
        owner = self._owner
        flow = self.flow
        head.add_date(owner.runtime.dates)
        takes_body = owner.sender.takes_body(head)
        if head.new_body is not None:
            self._replace_body(head, head.new_body, takes_body)
        elif takes_body and flow.size == 0 and flow.ended and self._is_missing(head):
            head.empty()
        elif not takes_body or head.content_length == 0:
            self._drop_body()
        if owner.options.filters.response_body and not self._filter_start(head, takes_body):
            return
        data = flow.take()
        self.head_sent = True
        owner.send_head(head, data, flow.ended, flow.trailers)
        if not flow.ended and self.stream is not None:
            self.stream.start(self, owner.own_context())
        flow.release()

    def _replace_body(self, head: ResponseHead, body: bytes, takes_body: bool) -> None:
        """Replaces the response body with a filter's; the rest of the upstream body is cancelled."""
        self._drop_rest()
        head.replace_body(body)
        self.flow.set_body(body if takes_body and head.content_length != 0 else b"", True)

    def _drop_body(self) -> None:
        """Drops a body that the client does not take, because a filter changed the status or the method."""
        flow = self.flow
        if flow.ended and flow.size == 0 and flow.trailers is None and self.stream is None:
            return
        flow.release()
        flow.source = None
        flow.set_body(b"", True)
        self.stream = None
        self._owner.drain_attempt()

    def _is_missing(self, head: ResponseHead) -> bool:
        """Whether the client expects a body but the response had none, by the status or method that a filter has changed."""
        if self.stream is not None or (head.content_length == 0 and head.status == self._shown_status):
            return False
        shown = head if head.status == self._shown_status else ResponseHead(self._shown_status)
        return not self._owner.exchange.request.has_response_body(shown)

    def _filter_start(self, head: ResponseHead, takes_body: bool) -> bool:
        """Runs body filters on what is held; False if that made the exchange fail."""
        owner = self._owner
        exchange = owner.exchange
        if exchange.failure in FILTER_FAILURES:
            return True
        handlers = body_handlers(exchange, owner.options.filters.response_body)
        if not handlers:
            return True
        if not takes_body:
            if head.content_length > 0 and any_changes_length(handlers):
                head.set_length(UNKNOWN_LENGTH)  # it is that of the body before the filters (RFC 9110 section 8.6)
            return True
        self._has_handlers = True
        flow = self.flow
        status: i64 = head.status
        filtered = filter_start(owner, handlers, flow.take(), flow.ended, flow.trailers is not None)
        if isinstance(filtered, Verdict):
            owner.apply(filtered)
            return False
        if owner.exchange.response is not head or head.status != status:
            # Whether there is a body has been decided by the status that the head had.
            owner.fail(FILTER_ERROR, "a filter changed the response's head or status in on_response_body")
            return False
        if flow.trailers is not None:
            flow.trailers = head.trailers  # a filter may have changed or removed them
        is_whole = flow.ended and flow.trailers is None
        if exchange.response_ended and not is_whole:
            self._drop_rest()
            flow.set_body(filtered, True)
            is_whole = True
        else:
            flow.hold(filtered, flow.ended)
        if any_changes_length(handlers):
            head.set_length(len(filtered) if is_whole else UNKNOWN_LENGTH)
        return True

    def _drop_rest(self) -> None:
        self._owner.cancel_attempt()
        self.flow.source = None
        self.stream = None

    # ---- the body

    def on_data(self, data: bytes, end: bool) -> None:
        """The next chunk of the upstream's body."""
        if end:
            self.flow.source = None  # its connection may already serve another exchange
        if self.head_sent:
            self.on_chunk(data, end)
        else:
            self.flow.add(data, end)

    def on_chunk(self, data: bytes, end: bool) -> None:
        owner = self._owner
        if owner.is_over():
            return
        if self._has_handlers:
            filtered = filter_chunk(owner, owner.options.filters.response_body, data, end)
            if isinstance(filtered, Verdict):
                owner.apply(filtered)
                return
            data = filtered
            if owner.exchange.response_ended and not end:
                self._end_early(data)
                return
        head = owner.exchange.response
        if end and self.stream is not None and head is not None and head.trailers is not None:
            owner.exchange.bytes_sent += len(data)
            owner.sender.send_data(data, False)
            owner.sender.send_trailers(head.trailers)
            owner.finish()
            return
        owner.send_chunk(data, end)

    def _end_early(self, data: bytes) -> None:
        """A filter ended the response after `data`."""
        owner = self._owner
        head = owner.exchange.response
        if head is not None and head.content_length >= 0:
            owner.fail(FILTER_ERROR, "a filter ended a response with a declared Content-Length")
            return
        owner.cancel_attempt()
        owner.send_chunk(data, True)

    def on_trailers(self, trailers: Headers) -> None:
        """The trailers, which end the response. A body filter may change them in `response.trailers`, or remove them."""
        owner = self._owner
        self.flow.source = None
        if not self.head_sent:
            self.flow.add_trailers(trailers)
            return
        if self._has_handlers:
            rest = filter_chunk(owner, owner.options.filters.response_body, b"", True)
            if isinstance(rest, Verdict):
                owner.apply(rest)
                return
            head = owner.exchange.response
            left = trailers if head is None else head.trailers
            if left is None:
                owner.send_chunk(rest, True)
                return
            trailers = left
            if rest:
                owner.exchange.bytes_sent += len(rest)
                owner.sender.send_data(rest, False)
        owner.sender.send_trailers(trailers)
        owner.finish()

    def on_stream_error(self, handle: FilterHandle, error: BaseException | str) -> None:
        owner = self._owner
        report_error(owner.runtime.log, handle, log_prefix(owner.exchange), error)
        if not owner.is_over():
            owner.fail(FILTER_ERROR, f"filter {handle.name}: streaming the reply failed")

    def cancel(self) -> None:
        """Cancels a streamed reply and drops the source: the exchange is over."""
        # The source's connection refers to the head, and so to this object: only the garbage collector would free them.
        self.flow.source = None
        stream = self.stream
        if stream is not None:
            self.stream = None
            stream.cancel()


def failure_headers(failure: Failure, has_reason: bool) -> Headers:
    """The headers of a local reply to a failure. `has_reason`: whether they contain its reason word."""
    headers = headers_from(None)
    if failure.retry_after > 0:
        headers.set("retry-after", str(failure.retry_after))
    if failure is CONNECT_NOT_ALLOWED:
        # Required with a 405 (RFC 9110 section 15.5.6). The target is a host, for which there is no other method.
        headers.add_raw(b"allow", b"")
    if has_reason:
        headers.set("x-pymosn-reason", failure.reason)
    return headers


def last_trailers(exchange: Exchange, failure: Failure) -> Headers | None:
    """Gives the response, which has begun, trailers that report a failure; None: it can only be broken off.

    Body filters do not see them: they would take the end of what has arrived for the end of the body.
    """
    response = exchange.response
    if response is None or failure is CLIENT_GONE or failure is CLIENT_WRITE_TIMEOUT:
        return None
    response.trailers = None  # a reply that a filter streams had those of a success
    try:
        response.trailers = exchange.request.failure_trailers(response, failure)
    except BaseException as error:  # of the heads of an installed protocol
        report("trailers cannot be made", error)
    return response.trailers
