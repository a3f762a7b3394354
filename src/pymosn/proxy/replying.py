"""The second half of an exchange: sending a reply, the upstream's or one of our own, and ending well or badly.

Whatever breaks goes through `fail`, which answers if that is still possible and otherwise breaks the reply off visibly.
"""

from __future__ import annotations

from pymosn.api.proxy import Reply
from pymosn.api.stream import RequestSender, ResponseSender
from pymosn.core.failure import CLIENT_GONE, FILTER_ERROR, Failure
from pymosn.core.headers import Headers
from pymosn.core.log import DEBUG, WARN
from pymosn.core.message import ResponseHead
from pymosn.proxy.attempt import Attempt, AttemptOwner
from pymosn.proxy.filter_chain import report_error
from pymosn.proxy.forwarding import change_response
from pymosn.proxy.local_reply import failure_reply, local_body, local_head
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime


class ReplyingExchange(AttemptOwner):
    """The part of an exchange that deals with its reply and its end."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(runtime, options, sender)
        self._attempt: Attempt | None = None
        self._upstream: RequestSender | None = None
        self._changes_reply = False
        self._head_sent = False
        # The reply, as far as it waits for a filter.
        self._reply_data = b""
        self._reply_end = False
        self._reply_trailers: Headers | None = None
        self._holds_upstream = False

        self.started = runtime.clock.now
        options.stats.request_total.value += 1
        options.stats.request_active.value += 1

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
        filters = self._options.filters.on_response
        if filters:
            self.run_filters(filters, True, 0)
        else:
            self._send_head()

    def on_response_filtered(self) -> None:
        if not self._is_over:
            self._send_head()

    def _send_head(self) -> None:
        head = self.response
        assert head is not None
        if not head.has_date:
            head.headers.block = head.headers.block + self._runtime.dates.line()
        data = self._reply_data
        end = self._reply_end
        self._reply_data = b""
        self._head_sent = True
        self.bytes_sent += len(data)
        self._sender.send_response(head, data, end and self._reply_trailers is None)
        if self._reply_trailers is not None:
            self._sender.send_trailers(self._reply_trailers)
        if end:
            self._finish()
            return
        self._runtime.wheel.set(self, self._options.stream_idle_timeout)
        if self._holds_upstream and self._upstream is not None:
            self._holds_upstream = False
            self._upstream.resume()

    def on_attempt_data(self, data: bytes, end: bool) -> None:
        if end:
            self._forget_upstream()
        if not self._head_sent:
            self._hold_reply(data, end)
            return
        self.bytes_sent += len(data)
        self._sender.send_data(data, end)
        if end:
            self._finish()
        else:
            self._runtime.wheel.set(self, self._options.stream_idle_timeout)

    def on_attempt_trailers(self, trailers: Headers) -> None:
        self._forget_upstream()
        if not self._head_sent:
            self._reply_trailers = trailers
            self._reply_end = True
            return
        self._sender.send_trailers(trailers)
        self._finish()

    def _hold_reply(self, data: bytes, end: bool) -> None:
        """Keeps what came of the reply while a filter thinks about its head; the upstream is not read meanwhile."""
        self._reply_data = self._reply_data + data
        self._reply_end = end
        if not end and not self._holds_upstream and self._upstream is not None:
            self._holds_upstream = True
            self._upstream.pause()

    def _forget_upstream(self) -> None:
        """The attempt is complete; its connection may already serve somebody else."""
        self._attempt = None
        self._upstream = None

    # ---- replies of our own

    def reply_from_filter(self, reply: Reply, in_response: bool) -> None:
        if self._is_over:
            return
        self._cancel_attempt()
        self.response = self._local_head(reply.status, reply.headers.copy(), reply.body)
        if in_response:
            self._send_local(reply.body)
        else:
            self._reply_local(reply.body)

    def _reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Answers by ourselves; the filters see it like any reply."""
        self.response = self._local_head(status, headers, body)
        self._reply_local(body)

    def _local_head(self, status: int, headers: Headers, body: bytes) -> ResponseHead:
        if self._changes_reply:
            self.response = ResponseHead(status, b"", headers)  # for `%response_code%`
            change_response(self, headers)
        return local_head(self.request, status, headers, body)

    def _take_local(self, body: bytes) -> None:
        """Puts a reply of our own, whose head is `response`, in the place of whatever had come of another."""
        head = self.response
        assert head is not None
        self._reply_data = local_body(self.request, head.status, body)
        self._reply_end = True
        self._reply_trailers = None

    def _reply_local(self, body: bytes) -> None:
        self._take_local(body)
        filters = self._options.filters.on_response
        if filters:
            self.run_filters(filters, True, 0)
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
        log = self._runtime.log
        if failure.status >= 500 and log.level <= WARN:
            log.write(WARN, self._describe(failure, detail))
        elif log.level <= DEBUG:
            log.write(DEBUG, self._describe(failure, detail))
        if self._head_sent:
            self._sender.reset(failure)
            self._finish()
        elif failure.status == CLIENT_GONE.status:
            self.response = None
            self._sender.reset(failure)
            self._finish()
        else:
            body = failure_reply(failure)
            headers = Headers()
            if self._options.reason_header:
                headers.set("x-pymosn-reason", failure.reason)
            self.response = self._local_head(failure.status, headers, body)
            if had_failed or failure is FILTER_ERROR:  # the chain itself broke: it is not asked again
                self._send_local(body)
            else:
                self._reply_local(body)

    def _describe(self, failure: Failure, detail: str) -> str:
        head = self.request
        line = (head.raw_method + b" " + head.raw_host + head.raw_path)[:512].decode("latin-1")
        upstream = self.upstream_connection_id or "-"
        return f"[{self.connection_id},{upstream},-] {failure.status} {failure.reason} ({detail}): {line}"

    def _cancel_attempt(self) -> None:
        attempt = self._attempt
        self._attempt = None
        self._upstream = None
        if attempt is not None:
            attempt.cancel()

    def _finish(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        runtime = self._runtime
        runtime.wheel.clear(self)
        self._cancel_attempt()
        self.finished = runtime.clock.now
        self._count()
        for access_log in self._options.access_logs:
            access_log.log(self)
        for named in self._options.filters.on_complete:
            try:
                named.filter.on_complete(self)
            except Exception as error:
                report_error(runtime.log, named, self, error)
        self._sender.release()

    def _count(self) -> None:
        stats = self._options.stats
        stats.request_active.value -= 1
        self.connection.count_into(stats.bytes_read, stats.bytes_written)
        stats.request_time.record(self.finished - self.started)
        failure = self.failure
        if self.response is not None:
            stats.count_status(self.response.status)
        elif failure is not None:
            stats.count_status(failure.status)
        if failure is not None:
            stats.request_failed.value += 1
            stats.count_reason(failure.reason)
            if self._head_sent or failure is CLIENT_GONE:
                stats.request_reset.value += 1
