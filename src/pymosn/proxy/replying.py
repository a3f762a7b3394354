"""The second half of an exchange: sending a reply, the upstream's or one of our own, and ending well or badly.

Whatever breaks goes through `fail`, which answers if that is still possible and otherwise breaks the reply off visibly.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i16, i64

from pymosn.api.exchange import Reply
from pymosn.api.stream import RequestSender, ResponseSender
from pymosn.core.failure import CLIENT_GONE, CLIENT_WRITE_TIMEOUT, FILTER_ERROR, FILTER_TIMEOUT, RESPONSE_TOO_LARGE, Failure
from pymosn.core.headers import Headers, headers_from
from pymosn.core.log import DEBUG, WARN
from pymosn.core.message import UNKNOWN_LENGTH, BodyTooLarge, ResponseHead
from pymosn.core.overload import NORMAL
from pymosn.proxy.attempt import Attempt, AttemptOwner
from pymosn.proxy.bodies import Reading, ResponseBody
from pymosn.proxy.forwarding import change_response
from pymosn.proxy.mirroring import Mirroring
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.overrides import PendingAttempt
from pymosn.proxy.reply_stream import ReplyStream
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import RESPONSE, FilterHandle, any_changes_length, report_error

#: Failures of the filters themselves.
CHAIN_BROKE: Final = (FILTER_ERROR, FILTER_TIMEOUT)


class Tunnel:
    """Where a tunnel stands: whether its reply has been sent, and which side has said that it sends no more."""

    def __init__(self) -> None:
        self.is_open = False
        self.client_ended = False
        self.upstream_ended = False


class ReplyingExchange(AttemptOwner):
    """The part of an exchange that deals with its reply and its end."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(runtime, options, sender)
        self._attempt: Attempt | None = None
        self._upstream: RequestSender | None = None
        self._mirroring: Mirroring | None = None
        # The reply, as far as it waits for a filter.
        self._reply_data = b""
        self._reply_trailers: Headers | None = None
        self._response_reading: Reading | None = None
        # A reply that a filter makes piece by piece.
        self._stream: ReplyStream | None = None
        # A try whose host is chosen and shown to filters.
        self._next: PendingAttempt | None = None
        #: The upstream agreed to one: there is no body but this.
        self._tunnel: Tunnel | None = None
        # Flags stand together and share a word: the object is to stay below the 512 bytes that Python allocates cheaply.
        self._changes_reply = False
        self._head_sent = False
        self._reply_end = False
        self._holds_upstream = False
        self._filters_response = False
        # The status of the reply as its filters get to see it; it shares the word, too.
        self._shown_status: i16 = 0

        self.started = runtime.clock.now
        options.stats.request_total.value += 1
        options.stats.request_active.value += 1
        options.filters.in_use += 1

    # ---- what the exchange does when the reply opens a tunnel

    def open_tunnel(self, head: ResponseHead) -> None:
        """The filters let the reply pass that opens the tunnel."""
        raise NotImplementedError

    def on_client_bytes(self, tunnel: Tunnel, data: bytes, end: bool) -> None:
        """The client sent `data` through the tunnel; `end`: it sends no more."""
        raise NotImplementedError

    def on_upstream_bytes(self, tunnel: Tunnel, data: bytes, end: bool) -> None:
        """The upstream sent `data` through the tunnel; `end`: it sends no more."""
        raise NotImplementedError

    # ---- the reply

    def take_reply(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """The reply that the client is to have has begun."""
        self.response = head
        self.response_received = self._runtime.clock.now
        if self._changes_reply:
            change_response(self, head.headers)
        self._reply_data = data
        self._reply_end = end
        if end:
            self._forget_upstream()
        elif head.raw_tunnel:
            self._tunnel = Tunnel()
        filters = self._options.filters
        if filters.may_read:
            head.body_source = ResponseBody(self)
        if filters.on_response and not self.request.is_one_way:
            self._shown_status = i16(head.status)
            self.run_filters(filters.on_response, RESPONSE, 0)
        else:
            self._send_head()

    def _send_head(self) -> None:
        head = self.response
        assert head is not None
        if head.status < 200 or self._tunnel is not None:
            self.open_tunnel(head)
            return
        head.add_date(self._runtime.dates)
        if head.new_body is not None:
            self._replace_body(head, head.new_body)
        data = self._reply_data
        end = self._reply_end
        if self._options.filters.response_body:
            filtered = self._filter_first(head, data, end)
            if filtered is None:
                return
            data = filtered
            end = self._reply_end
        self._reply_data = b""
        self._head_sent = True
        self.bytes_sent += len(data)
        if self._runtime.overload.level != NORMAL:
            self._sender.end_connection()
        self._sender.send_response(head, data, end and self._reply_trailers is None)
        if self._reply_trailers is not None:
            self._sender.send_trailers(self._reply_trailers)
        if end:
            self._finish()
            return
        self._runtime.wheel.set(self, self._options.stream_idle_timeout)
        if self._stream is not None:
            self._stream.start(self)
        self._release_upstream()

    def _replace_body(self, head: ResponseHead, body: bytes) -> None:
        """Puts what a filter made in the place of the reply's own body; what is still to come of that is not waited for."""
        self._cancel_attempt()
        self._stream = None
        self._reply_data = body if self.request.has_response_body(head) else b""
        self._reply_end = True
        self._reply_trailers = None
        head.replace_body(body)

    def _filter_first(self, head: ResponseHead, data: bytes, end: bool) -> bytes | None:
        """What body filters make of what came with the head; None when the exchange has failed for it."""
        if self.failure in CHAIN_BROKE or not self.request.has_response_body(head):
            return data
        filters = self.body_filters(self._options.filters.response_body)
        if not filters:
            return data
        is_whole = end and self._reply_trailers is None
        self._filters_response = True
        filtered = self.filter_beginning(filters, data, end, self._reply_trailers is not None)
        if filtered is None:
            return None
        if self._ends_response and not is_whole:
            self._cancel_attempt()
            self._stream = None
            self._reply_end = True
            self._reply_trailers = None
            is_whole = True
        if any_changes_length(filters):
            head.set_length(len(filtered) if is_whole else UNKNOWN_LENGTH)
        return filtered

    def on_attempt_data(self, data: bytes, end: bool) -> None:
        if self._tunnel is not None:
            self.on_upstream_bytes(self._tunnel, data, end)
            return
        if end:
            self._forget_upstream()
        if not self._head_sent:
            self._hold_reply(data, end)
            return
        self.on_piece(data, end)

    def on_piece(self, data: bytes, end: bool) -> None:
        if self._is_over:
            return
        if self._filters_response:
            filtered = self.filter_body(self._options.filters.response_body, data, end)
            if filtered is None:
                return
            data = filtered
            if self._ends_response and not end:
                self._end_response(data)
                return
        self.bytes_sent += len(data)
        self._sender.send_data(data, end)
        if end:
            self._finish()
        else:
            self._runtime.wheel.set(self, self._options.stream_idle_timeout)

    def _end_response(self, data: bytes) -> None:
        """A filter ends the reply behind `data`."""
        head = self.response
        if head is not None and head.content_length >= 0:
            self.fail(FILTER_ERROR, "a filter ends a reply whose length is announced")
            return
        self._cancel_attempt()
        self.bytes_sent += len(data)
        self._sender.send_data(data, True)
        self._finish()

    def on_stream_broken(self, named: FilterHandle, error: BaseException | str) -> None:
        if not self._is_over:
            report_error(self._runtime.log, named, self, error)
            self.fail(FILTER_ERROR, f"filter {named.name}: a streamed reply")

    def on_attempt_trailers(self, trailers: Headers) -> None:
        self._forget_upstream()
        if self.response is not None:
            self.response.trailers = trailers
        if not self._head_sent:
            self._reply_trailers = trailers
            self._hold_reply(b"", True)
            return
        if self._filters_response:
            rest = self.filter_body(self._options.filters.response_body, b"", True)
            if rest is None:
                return
            if rest:
                self.bytes_sent += len(rest)
                self._sender.send_data(rest, False)
        self._sender.send_trailers(trailers)
        self._finish()

    def _hold_reply(self, data: bytes, end: bool) -> None:
        """Keeps what came of the reply while a filter thinks about its head; the upstream is not read meanwhile."""
        self._reply_data = self._reply_data + data
        self._reply_end = end
        if self._response_reading is not None:
            self._response_reading.on_size(len(self._reply_data), end)
        elif not end and not self._holds_upstream and self._upstream is not None:
            self._holds_upstream = True
            self._upstream.pause()

    def _release_upstream(self) -> None:
        if self._holds_upstream:
            self._holds_upstream = False
            if self._upstream is not None:
                self._upstream.resume()

    async def read_response(self, limit: int) -> bytes:
        head = self.response
        assert head is not None
        if head.new_body is not None:
            return head.new_body
        if self._tunnel is not None:
            return b""  # what follows is no body
        if self._head_sent or self._stream is not None:
            raise RuntimeError("the reply's body cannot be read as a whole: it is sent as it comes")
        if head.content_length > limit and not self._reply_end:
            raise BodyTooLarge(RESPONSE_TOO_LARGE, limit)
        reading = Reading(limit, RESPONSE_TOO_LARGE)
        reading.on_size(len(self._reply_data), self._reply_end)
        if not reading.done.done():
            self._response_reading = reading
            self._release_upstream()
        try:
            await reading.done
        finally:
            self._response_reading = None
        return self._reply_data

    def _forget_upstream(self) -> None:
        """The attempt is complete; its connection may already serve somebody else."""
        self._attempt = None
        self._upstream = None

    # ---- replies of our own

    def reply_from_filter(self, reply: Reply, phase: i64, named: FilterHandle) -> None:
        if self._is_over:
            return
        self._cancel_attempt()
        if reply.stream is None:
            self.response = self._local_head(reply.status, reply.headers.copy(), reply.body)
        else:
            self.response = self.request.streamed_reply(reply.status, reply.headers.copy())
            if self.request.has_response_body(self.response):
                self._stream = ReplyStream(reply.stream, named, self._runtime.clock)
        if phase == RESPONSE:
            self._send_local(reply.body)
        else:
            self._reply_local(reply.body)

    def _reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Answers by ourselves; the filters see it like any reply."""
        self.response = self._local_head(status, headers, body)
        self._reply_local(body)

    def _local_head(self, status: int, headers: Headers, body: bytes) -> ResponseHead:
        if self._changes_reply:
            self.response = ResponseHead(status, headers)  # for `%response_code%`
            change_response(self, headers)
        return self.request.local_reply(status, headers, body)

    def _take_local(self, body: bytes) -> None:
        """Puts a reply of our own, whose head is `response`, in the place of whatever had come of another."""
        head = self.response
        assert head is not None
        self._reply_data = self.request.reply_body(head, body)
        self._reply_end = self._stream is None
        self._reply_trailers = None
        self._tunnel = None

    def _reply_local(self, body: bytes) -> None:
        self._take_local(body)
        filters = self._options.filters
        if filters.may_read and self.response is not None:
            self.response.body_source = ResponseBody(self)
        if filters.on_response and not self.request.is_one_way:
            self._shown_status = 0 if self.response is None else i16(self.response.status)
            self.run_filters(filters.on_response, RESPONSE, 0)
        else:
            self._send_head()

    def _send_local(self, body: bytes) -> None:
        """Sends a reply of a filter, or about a filter: the other filters are not asked."""
        self._take_local(body)
        self._send_head()

    # ---- how it ends

    def fail(self, failure: Failure, detail: str) -> None:
        if self._is_over:
            return
        had_failed = self.failure is not None
        self.failure = failure
        self.failure_detail = detail
        self._cancel_attempt()
        self.cancel_filter()
        self._end_stream()
        log = self._runtime.log
        if failure.status >= 500 and failure.retry_after == 0 and log.level <= WARN:
            log.write(WARN, self._describe(failure, detail))
        elif log.level <= DEBUG:
            log.write(DEBUG, self._describe(failure, detail))
        is_gone = failure is CLIENT_GONE or failure is CLIENT_WRITE_TIMEOUT
        if self._head_sent or is_gone:
            if not self._head_sent:
                self.response = None
            self._options.stats.request_reset.value += 1
            self._sender.reset(failure)
            self._finish()
        else:
            body = self.request.failure_body(failure)
            headers = headers_from(None)
            if failure.retry_after > 0:
                headers.set("retry-after", str(failure.retry_after))
            if self._options.reason_header:
                headers.set("x-pymosn-reason", failure.reason)
            self.response = self._local_head(failure.status, headers, body)
            if had_failed or failure in CHAIN_BROKE:  # it is not asked again
                self._send_local(body)
            else:
                self._reply_local(body)

    def _describe(self, failure: Failure, detail: str) -> str:
        line = self.request.describe(self.protocol)
        upstream = self.upstream_connection_id or "-"
        return f"[{self.connection_id},{upstream},-] {failure.status} {failure.reason} ({detail}): {line}"

    def _cancel_attempt(self) -> None:
        attempt = self._attempt
        self._attempt = None
        self._upstream = None
        if attempt is not None:
            attempt.cancel()
        elif self._next is not None:
            self._next.give_back()
            self._next = None

    def _end_stream(self) -> None:
        stream = self._stream
        if stream is not None:
            self._stream = None
            stream.cancel()

    def _finish(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        runtime = self._runtime
        runtime.wheel.clear(self)
        self._cancel_attempt()
        self._end_stream()
        if self._mirroring is not None:
            self._mirroring.abandon()
            self._mirroring = None  # it refers to the exchange
        self.finished = runtime.clock.now
        self._count()
        for access_log in self._options.access_logs:
            access_log.log(self)
        filters = self._options.filters
        if filters.on_complete:
            self.run_completion(filters.on_complete)
        filters.in_use -= 1
        if filters.may_read:
            # Each refers to the exchange, which refers to the heads.
            self.request.body_source = None
            if self.response is not None:
                self.response.body_source = None
        self._sender.release()

    def _count(self) -> None:
        stats = self._options.stats
        stats.request_active.value -= 1
        self.connection.count_into(stats.bytes_read, stats.bytes_written)
        if self._tunnel is not None and self._tunnel.is_open:
            stats.tunnel_active.value -= 1
            stats.request_time.record(self.response_received - self.started)
        else:
            stats.request_time.record(self.finished - self.started)
        failure = self.failure
        if self.response is not None:
            stats.count_status(self.response.status)
        elif failure is not None:
            stats.count_status(failure.status)
        if failure is not None:
            stats.request_failed.value += 1
            stats.count_reason(failure.reason)
