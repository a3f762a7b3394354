"""The body of a request on its way: held while nobody is there to take it, read as a whole, shown to filters, sent on."""

from __future__ import annotations

from pymosn.api.stream import RequestSender, ResponseSender
from pymosn.core.failure import BODY_TOO_LARGE, FILTER_ERROR
from pymosn.core.headers import Headers
from pymosn.core.message import CONNECT, UNKNOWN_LENGTH, BodyTooLarge, ResponseHead
from pymosn.proxy.bodies import Reading
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.replying import ReplyingExchange
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import any_changes_length


class RequestingExchange(ReplyingExchange):
    """The part of an exchange that deals with the request behind its head."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(runtime, options, sender)
        self._timeout = 0.0
        self._try_timeout = 0.0
        # The request, as far as it waits for an upstream; None when nothing does.
        self._held: list[bytes] | None = None
        self._trailers: Headers | None = None
        self._request_reading: Reading | None = None
        self._request_ended = False
        self._is_sent = False
        # Whether the body is kept, as far as it has come, so that it can be sent once more.
        self._keeps_body = False
        self._holds_client = False
        self._client_is_full = False
        # A filter has put another body in its place; or looks at each piece.
        self._drops_request = False
        self._filters_request = False

    # ---- it comes

    def on_data(self, data: bytes, end: bool) -> None:
        if self._is_over or self._drops_request:
            return
        if self._tunnel is not None:
            self.on_client_bytes(self._tunnel, data, end)
            return
        self.bytes_received += len(data)
        if end:
            self._request_ended = True
            self.request_received = self._runtime.clock.now
        upstream = self._upstream
        if upstream is None or not self._is_sent:
            self._hold(data)
            if self._request_reading is None:
                self._hold_client()
            else:
                self._request_reading.on_size(self.bytes_received, end)
            return
        if self._filters_request:
            filtered = self.filter_body(self._options.filters.request_body, data, end)
            if filtered is None:
                return
            data = filtered
        elif self._keeps_body:
            self._keep_body(data)
        upstream.send_data(data, end)
        self._await_upstream()

    def on_trailers(self, trailers: Headers) -> None:
        if self._is_over or self._drops_request:
            return
        self._request_ended = True
        self.request_received = self._runtime.clock.now
        self.request.trailers = trailers
        upstream = self._upstream
        if upstream is None or not self._is_sent:
            self._trailers = trailers
            if self._request_reading is not None:
                self._request_reading.on_size(self.bytes_received, True)
            return
        if self._filters_request:
            rest = self.filter_body(self._options.filters.request_body, b"", True)
            if rest is None:
                return
            if rest:
                upstream.send_data(rest, False)
        self._trailers = trailers  # for another try
        upstream.send_trailers(trailers)
        self._await_upstream()

    async def read_request(self, limit: int) -> bytes:
        head = self.request
        if head.new_body is not None:
            return head.new_body
        if self._is_sent:
            raise RuntimeError("the request's body has been sent on already")
        if head.content_length > limit:
            raise BodyTooLarge(BODY_TOO_LARGE, limit)
        reading = Reading(limit, BODY_TOO_LARGE)
        reading.on_size(self.bytes_received, self._request_ended)
        if not reading.done.done():
            self._request_reading = reading
            if head.expects_continue:
                head.continue_expected()
                self._sender.send_informational(ResponseHead(100))
            self._release_client()
        try:
            await reading.done
        finally:
            self._request_reading = None
        body = self._take_held()
        if body:
            self._hold(body)
        return body

    def _await_reply(self) -> None:
        """Sets the time for what comes next: the reply's head, or more of the request."""
        if self._head_sent or not self._request_ended:
            self._runtime.wheel.set(self, self._options.stream_idle_timeout)
        else:
            self._runtime.wheel.set(self, self._timeout)

    def _await_upstream(self) -> None:
        """More of the request went to the upstream; what comes next has its time."""
        if self._is_over:
            return
        self._await_reply()
        attempt = self._attempt
        if self._request_ended and attempt is not None and self.response is None and self._time_for_try() > 0.0:
            attempt.limit_time(self._time_for_try())

    def _time_for_try(self) -> float:
        """Seconds for one attempt; 0 for no time of its own: the whole time is shorter, or the request is not here yet."""
        if 0.0 < self._try_timeout < self._timeout and self._request_ended:
            return self._try_timeout
        return 0.0

    # ---- it goes on

    def send_request(self, upstream: RequestSender) -> None:
        """Sends the head, and what is here of the rest."""
        if self._client_is_full:
            upstream.pause()
        self._is_sent = True
        data = self._take_held()
        if self._filters_request:
            filtered = self._filter_held(data)
            if filtered is None:
                return
            data = filtered
        elif data and self._keeps_body:
            self._keep_body(data)
        # Before the request is sent: that may fill the upstream, which holds the client anew.
        self._release_client()
        upstream.send_request(self.request, data, self._request_ended and self._trailers is None)
        if self._trailers is not None:
            upstream.send_trailers(self._trailers)

    def _hold(self, data: bytes) -> None:
        held = self._held
        if held is None:
            self._held = [data]
        else:
            held.append(data)

    def _take_held(self) -> bytes:
        held = self._held
        if held is None:
            return b""
        self._held = None
        return held[0] if len(held) == 1 else b"".join(held)

    def _keep_body(self, data: bytes) -> None:
        """Keeps what is being sent of the body, until that is too much. That of RPC is there anyway, in its frame."""
        if self.bytes_received > self.request.kept_body_limit():
            self._keeps_body = False
            self._held = None
        else:
            self._hold(data)

    def _prepare_body(self) -> None:
        """What filters want done with the body."""
        head = self.request
        filters = self.body_filters(self._options.filters.request_body)
        if head.new_body is not None:
            if head.raw_method == CONNECT:
                self.fail(FILTER_ERROR, "a filter gave a body to a CONNECT")
                return
            head.replace_body(head.new_body)
            self._held = [head.new_body]
            self._drops_request = not self._request_ended
            self._request_ended = True
            self._trailers = None
        elif filters and head.content_length == 0:
            return
        if filters:
            self._filters_request = True
            self._keeps_body = False
            if any_changes_length(filters):
                head.set_length(UNKNOWN_LENGTH)

    def _filter_held(self, data: bytes) -> bytes | None:
        """What body filters make of what came before the host was there; None when the exchange has failed for it."""
        filters = self._options.filters.request_body
        has_trailers = self._trailers is not None
        filtered = self.filter_beginning(filters, data, self._request_ended, has_trailers)
        if filtered is not None and self._request_ended and not has_trailers:
            self.request.set_length(len(filtered))
        return filtered

    # ---- back-pressure

    def on_writable(self, writable: bool) -> None:
        self._client_is_full = not writable
        upstream = self._upstream
        if upstream is not None:
            if writable:
                upstream.resume()
            else:
                upstream.pause()
        elif self._stream is not None:
            self._stream.on_writable(writable)

    def on_attempt_writable(self, writable: bool) -> None:
        if writable:
            self._release_client()
        else:
            self._hold_client()

    def _hold_client(self) -> None:
        if not self._holds_client and not self._is_over:
            self._holds_client = True
            self._sender.pause()

    def _release_client(self) -> None:
        if self._holds_client:
            self._holds_client = False
            self._sender.resume()
