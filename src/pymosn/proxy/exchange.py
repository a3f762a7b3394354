"""The exchange driver: conducts one request and its response.

Theory of operation. The stream layer feeds the request into an `ExchangeDriver`, attempts feed the response, filters run in
between. What filters and logs see is in `driver.exchange`; the driver itself keeps only what it needs to continue.
Everything happens in one synchronous call stack. The exchange waits in three cases only: an `async` filter is running, an
attempt has no stream yet, or a peer has to send something.

An exchange is in exactly one `stage` and only moves forward, except for retries. The request's body has no stage: it may
arrive in any of them. It is forwarded while there is an upstream and held in a `BodyFlow` while there is none. The table in
`events` lists what each event does in each stage.

The parts: `decision` decides where a request goes and `dispatch` performs that; `forwarder` makes attempts, `attempts`
decides "next host or stop"; `filtering` runs filters; `body_flow` holds bytes that wait; `responder` sends a response that
does not simply stream through; `tunnel`, `transcoding` and `mirroring` wrap the upstream's sender.
"""

from __future__ import annotations

from contextlib import suppress

from mypy_extensions import i64, mypyc_attr

from pymosn.api.client_cert import forwarded_element
from pymosn.api.exchange import Reply
from pymosn.api.grpc import is_message
from pymosn.api.http import HttpRequest
from pymosn.api.stream import ResponseSender
from pymosn.core.errors import describe
from pymosn.core.failure import (
    CLIENT_GONE,
    CLIENT_WRITE_TIMEOUT,
    DEADLINE_EXCEEDED,
    FILTER_ERROR,
    INTERNAL_ERROR,
    MISDIRECTED,
    OVERLOADED,
    STREAM_IDLE,
    UPSTREAM_TIMEOUT,
    Failure,
    as_envoy,
)
from pymosn.core.foreign import report
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import NoBodySource, RequestHead, ResponseHead, UnreadableHeaders
from pymosn.core.overload import SHED
from pymosn.core.timers import NEVER, RESOLUTION
from pymosn.core.uri import STRICT_PATHS
from pymosn.network.host_demands import HostDemands
from pymosn.proxy.accounting import count, log_failure, write_logs
from pymosn.proxy.bodies import RequestBody, ResponseBody
from pymosn.proxy.dispatch import DispatchOwner, act, on_transcoded, route_request
from pymosn.proxy.filtering import WAITING, Verdict, run_completion
from pymosn.proxy.forwarder import Forwarder
from pymosn.proxy.forwarding import change_response
from pymosn.proxy.local_replies import LocalReply
from pymosn.proxy.mirroring import Mirroring
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.owner import DONE, HOLDING, RESPONDING, TUNNELING
from pymosn.proxy.reply_stream import ReplyStream
from pymosn.proxy.responder import FILTER_FAILURES, Responder, failure_headers, last_trailers
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import REQUEST, RESPONSE, ROUTE, TRANSCODE, FilterHandle
from pymosn.proxy.transcoding import Transcoding
from pymosn.proxy.tunnel import Tunnel, not_a_tunnel
from pymosn.routing.actions import NO_TIMEOUT


@mypyc_attr(free_list_len=1)
class ExchangeDriver(DispatchOwner):
    """Drives one request through filters, routing, attempts and the response."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender, protocol: str) -> None:
        super().__init__(runtime, options, sender)
        # Before the other attributes, so that they share a machine word with the base class's flags.
        self._drops_request = False
        self._is_tunnel = False
        self._forwarder: Forwarder | None = None
        self._responder: Responder | None = None

        exchange = self.exchange
        exchange.protocol = protocol
        exchange.started = runtime.clock.now
        exchange.stream_number = sender.stream_number()
        options.stats.request_total.value += 1
        options.stats.request_active.value += 1
        options.filters.in_use += 1

    # ---- the request

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        exchange = self.exchange
        exchange.request = head
        self.request_ended = end
        if len(data) > 0:
            exchange.bytes_received = len(data)
            if data is not head.held_body():
                self.held_request().hold(data, end)
        if end:
            exchange.request_received = exchange.started
        try:
            options = self.options
            forwarding = options.forwarding
            tls = exchange.connection.tls
            if forwarding.trusts_peer:
                exchange.forwarded_ip = head.adopt_forwarded(forwarding)
                head.adopt_certificate(forwarding.client_cert, forwarded_element(tls, forwarding.cert_pairs))
            elif tls is not None:
                head.adopt_certificate(forwarding.client_cert, forwarded_element(tls, forwarding.cert_pairs))
            if isinstance(head, HttpRequest):
                if forwarding.changes_host:
                    head.simplify_host(forwarding, exchange.connection.destination()[1])
                self.changes_response = len(forwarding.server) > 0
            tracer = self.runtime.tracer
            if tracer is not None:
                exchange.trace = tracer.begin(exchange, options.listener_name)
            if self.runtime.overload.level >= SHED:
                self.fail(OVERLOADED, "")
                return
            if options.demands is not None and not self._is_directed(options.demands, head):
                self.fail(MISDIRECTED, head.host)
                return
            if head.has_deadline:
                self._set_deadline(head)
                self.set_alarm(NEVER)
            filters = options.filters
            if filters.all:
                exchange.as_received = head.received_headers()
            if filters.may_read:
                head.body_source = RequestBody(self)
            elif filters.sees_requests and options.paths is not STRICT_PATHS:
                head.body_source = NoBodySource(options.paths)
            if not filters.on_request or self.passes(filters.on_request, REQUEST):
                route_request(self)
        except BaseException as error:
            self.break_down(error)

    def _set_deadline(self, head: RequestHead) -> None:
        self.deadline = self.exchange.started + head.timeout

    def _is_directed(self, demands: HostDemands, head: RequestHead) -> bool:
        """Whether the connection meets what is demanded of clients of the request's host; RPC requests have none."""
        connection = self.exchange.connection
        return (
            demands.are_met(connection, head.raw_host) if isinstance(head, HttpRequest) else demands.are_met_by(connection)
        )

    def on_refused(self, head: RequestHead, failure: Failure) -> None:
        self.exchange.request = head
        self.request_ended = True
        self.fail(failure, "")

    def on_reset(self, failure: Failure) -> None:
        self.fail(failure, "")

    def on_data(self, data: bytes, end: bool) -> None:
        if self.stage == DONE or self._drops_request:
            return
        if self._is_tunnel and self.wrapper is not None:
            self.wrapper.send_data(data, end)
            return
        self.exchange.bytes_received += len(data)
        if end:
            self._end_request()
        forwarder = self._forwarder
        upstream = None if forwarder is None else forwarder.upstream
        if forwarder is None or upstream is None:
            self.held_request().add(data, end)
        else:
            forwarder.send_data(upstream, data, end)

    def on_trailers(self, trailers: Headers) -> None:
        if self.stage == DONE or self._drops_request:
            return
        self._end_request()
        self.exchange.request.trailers = trailers
        forwarder = self._forwarder
        upstream = None if forwarder is None else forwarder.upstream
        if forwarder is None or upstream is None:
            self.held_request().add_trailers(trailers)
        else:
            forwarder.send_trailers(upstream, trailers)

    def _end_request(self) -> None:
        self.request_ended = True
        self.exchange.request_received = self.runtime.clock.now

    def replace_request_body(self, body: bytes) -> None:
        self.held_request().set_body(body, True)
        self._drops_request = not self.request_ended
        self.request_ended = True

    def on_writable(self, writable: bool) -> None:
        self.client_is_full = not writable
        upstream = None if self._forwarder is None else self._forwarder.upstream
        responder = self._responder
        if upstream is not None:
            if writable:
                upstream.resume()
            else:
                upstream.pause()
                if self._forwarder is not None:
                    self._forwarder.on_client_slow()
        elif responder is not None and responder.stream is not None:
            responder.stream.on_writable(writable)

    def is_request_sent(self) -> bool:
        return self._forwarder is not None and self._forwarder.is_sent

    # ---- filters

    def on_passed(self, phase: i64) -> None:
        if phase == REQUEST:
            route_request(self)
        elif phase == ROUTE:
            act(self)
        elif phase == TRANSCODE:
            on_transcoded(self)
        elif phase == RESPONSE:
            self._send_filtered()
        elif self._forwarder is not None:
            self._forwarder.start_pending()

    def apply(self, verdict: Verdict) -> None:
        if verdict is WAITING or self.stage == DONE:
            return
        if verdict.handle is not None:
            self.exchange.replied_by = verdict.handle.name
        if verdict.failure is not None:
            self.fail(verdict.failure, verdict.detail)
        elif verdict.reply is not None and verdict.handle is not None:
            self._reply_from_filter(verdict.reply, verdict.handle)

    # ---- timeouts

    def arm_timeout(self) -> None:
        forwarder = self._forwarder
        if forwarder is None or self.stage >= RESPONDING or not self.request_ended:
            self.set_alarm(self.idle_timeout)
        else:
            timeout = forwarder.plan.timeout
            self.set_alarm(timeout if timeout < NO_TIMEOUT else self.idle_timeout)

    def on_alarm(self) -> None:
        if self.stage == TUNNELING:
            tunnel = self.wrapper
            assert isinstance(tunnel, Tunnel)
            tunnel.on_idle()
            return
        if self.deadline <= self.runtime.clock.now + RESOLUTION:
            if self._forwarder is not None:
                self._forwarder.on_timeout(False)
            self.fail(DEADLINE_EXCEEDED, self.exchange.upstream_address)
            return
        if self._forwarder is not None and self._forwarder.release_head():
            return
        is_host_late = self.request_ended and self.stage < RESPONDING
        if self._forwarder is not None:
            self._forwarder.on_timeout(is_host_late)
        self.fail(UPSTREAM_TIMEOUT if is_host_late else STREAM_IDLE, self.exchange.upstream_address)

    # ---- the upstream

    def start_forwarding(self, forwarder: Forwarder, mirroring: Mirroring | None) -> None:
        self._forwarder = forwarder
        request = self.exchange.request
        if request.has_deadline and self.deadline == NEVER:
            self._set_deadline(request)  # a filter has made a call of the request
        if mirroring is not None and mirroring.replaces_request:
            forwarder.send_copies(mirroring)
        else:
            self.arm_timeout()
            forwarder.start()

    def on_copies_sent(self, failure: Failure | None) -> None:
        if failure is None:
            self.reply(200, headers_from(None), b"")
        else:
            self.fail(failure, "mirror broadcast")

    def on_informational(self, head: ResponseHead) -> None:
        if self.stage < RESPONDING:
            self.sender.send_informational(head)

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        exchange = self.exchange
        wrapper = self.wrapper
        if isinstance(wrapper, Transcoding):
            made = wrapper.response(exchange, head)
            if isinstance(made, Verdict):
                self.apply(made)
                return
            head = exchange.request.local_reply(made.status, made.headers.copy(), made.body)
            data = self._reply_body(head, made.body)
        exchange.response = head
        exchange.response_received = self.runtime.clock.now
        if end:
            exchange.response_completed = exchange.response_received
        if self.changes_response:
            try:
                change_response(exchange, head.headers, self.options.forwarding)
            except UnreadableHeaders as error:
                self.fail_unreadable(error, "route")
                return
        if len(head.raw_tunnel) > 0 and self._forwarder is not None and not end:
            self._is_tunnel = True
            self.wrapper = Tunnel(self, self._forwarder)
        self._respond(head, data, end, None)

    def _respond(self, head: ResponseHead, data: bytes, end: bool, stream: ReplyStream | None) -> None:
        """Sends a response, through the response filters if there are any."""
        filters = self.options.filters
        is_plain = filters.is_passive or not (filters.sees_responses or self._has_other_body(head))
        if is_plain and stream is None and head.status >= 200 and not self._is_tunnel:
            head.add_date(self.runtime.dates)
            self.send_head(head, data, end, head.trailers if end else None)
            return
        responder = self._hold(head, data, end, stream)
        if filters.may_read:
            head.body_source = ResponseBody(responder, self, self._is_tunnel)
        if not filters.on_response or self.exchange.request.is_one_way or self.passes(filters.on_response, RESPONSE):
            self._send_filtered()

    def _has_other_body(self, head: ResponseHead) -> bool:
        """Whether only one of the two has a body, the upstream's response or the client's: a filter changed the method."""
        return self.sender.takes_body(head) != self.exchange.request.has_response_body(head)

    def _hold(self, head: ResponseHead, data: bytes, end: bool, stream: ReplyStream | None) -> Responder:
        self.stage = HOLDING
        if self._responder is not None:
            self._responder.cancel()
        responder = Responder(self, head, None if self._forwarder is None else self._forwarder.upstream)
        responder.flow.hold(data, end)
        if end and head.trailers is not None:  # of a local reply
            responder.flow.add_trailers(head.trailers)
        responder.stream = stream
        self._responder = responder
        return responder

    def _send_filtered(self) -> None:
        """Sends the response after the response filters."""
        responder = self._responder
        tunnel = self.wrapper
        assert responder is not None
        head = responder.check_head()
        if head is None:
            return
        if self._is_tunnel and isinstance(tunnel, Tunnel):
            tunnel.open(head, responder.flow)
        elif head.status < 200:
            self.fail(FILTER_ERROR, not_a_tunnel(head))
        else:
            responder.send(head)

    def on_response_data(self, data: bytes, end: bool) -> None:
        tunnel = self.wrapper
        if end:
            self.exchange.response_completed = self.runtime.clock.now
        if self.stage == TUNNELING and isinstance(tunnel, Tunnel):
            tunnel.deliver(data, end)
        elif self._responder is not None:
            self._responder.on_data(data, end)
        else:
            self.send_chunk(data, end)

    def on_response_trailers(self, trailers: Headers) -> None:
        exchange = self.exchange
        response = exchange.response
        exchange.response_completed = self.runtime.clock.now
        if response is not None:
            response.trailers = trailers
        if exchange.request.has_call_status:
            exchange.received_status = exchange.request.call_status(trailers)
        if self._responder is not None:
            self._responder.on_trailers(trailers)
        else:
            self.sender.send_trailers(trailers)
            self.finish()

    # ---- local replies

    def _reply_from_filter(self, reply: Reply, handle: FilterHandle) -> None:
        was_holding = self.stage == HOLDING
        self.cancel_attempt()
        request = self.exchange.request
        if reply.stream is None:
            # A filter that rejects a request records the reason as a failure, for which calls may have a status.
            failure = self.exchange.failure
            if failure is not None and failure.status != reply.status:
                failure = None
            self._reply_whole(reply.status, reply.headers.copy(), reply.body, failure, not was_holding)
            return
        stream: ReplyStream | None = None
        head = request.streamed_reply(reply.status, reply.headers.copy())
        if self.sender.takes_body(head) and head.content_length != 0:
            stream = ReplyStream(reply.stream, handle, self.runtime.clock)
        self._reply_local(head, reply.body, stream, not was_holding)

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self._reply_whole(status, headers, body, None, True)

    def _reply_whole(self, status: int, headers: Headers, body: bytes, failure: Failure | None, is_filtered: bool) -> None:
        """Sends a local reply with the listener's changes. `failure`: what it reports; `is_filtered`: see `_reply_local`."""
        replies = self.options.local_replies
        if replies is not None and isinstance(self.exchange.request, HttpRequest) and not is_message(headers):
            made = LocalReply(status, headers, body)
            replies.apply(made, self.exchange, self.runtime.clock.now)
            if made.status != status:
                failure = None
            status, headers, body = made.status, made.headers, made.body
        self._reply_local(self._local_head(status, headers, body, failure), body, None, is_filtered)

    def _local_head(self, status: int, headers: Headers, body: bytes, failure: Failure | None = None) -> ResponseHead:
        if self.changes_response:
            self.exchange.response = ResponseHead(status, headers)  # for `%response_code%`
            # A value may contain a header of a request that cannot be read: the reply is sent without it.
            with suppress(UnreadableHeaders):
                change_response(self.exchange, headers, self.options.forwarding)
        request = self.exchange.request
        return (
            request.local_reply(status, headers, body) if failure is None else request.failure_reply(failure, headers, body)
        )

    def _reply_body(self, head: ResponseHead, body: bytes) -> bytes:
        return self.exchange.request.reply_body(head, body) if self.sender.takes_body(head) else b""

    def _reply_local(self, head: ResponseHead, body: bytes, stream: ReplyStream | None, is_filtered: bool) -> None:
        """Sends a local reply, and cancels the attempt if there is one.

        `is_filtered`: run the response filters on it.
        """
        self.cancel_attempt()
        self._is_tunnel = False
        self.exchange.response = head
        self.exchange.is_local = True
        data = self._reply_body(head, body)
        if is_filtered:
            self._respond(head, data, stream is None, stream)
        else:
            self._hold(head, data, stream is None, stream)
            self._send_filtered()

    # ---- the end

    def fail(self, failure: Failure, detail: str) -> None:
        if self.stage == DONE:
            return
        exchange = self.exchange
        had_failed = exchange.failure is not None
        exchange.failure = failure
        exchange.failure_detail = detail
        head_sent = self.stage >= RESPONDING
        told = as_envoy(failure) if self.options.envoy_statuses else failure
        trailers = last_trailers(exchange, told) if self.stage == RESPONDING else None
        self.cancel_attempt()
        self.cancel_filter()
        if self._responder is not None:
            self._responder.cancel()
        log_failure(self.runtime.log, exchange, told, detail, self.runtime.codec_lines)
        if trailers is not None:
            self.sender.send_trailers(trailers)
            self.finish()
            return
        if head_sent or failure is CLIENT_GONE or failure is CLIENT_WRITE_TIMEOUT:
            if not head_sent:
                exchange.response = None
            self.options.stats.request_reset.value += 1
            self.sender.reset(failure)
            self.finish()
            return
        headers = failure_headers(failure, self.options.reason_header)
        try:
            body = self._failure_body(told)
            self._reply_whole(told.status, headers, body, told, not had_failed and failure not in FILTER_FAILURES)
        except BaseException as error:  # of the heads of an installed protocol
            report("a local reply cannot be sent", error)
            if not self.is_over():
                self.sender.reset(failure)
                self.finish()

    def _failure_body(self, failure: Failure) -> bytes:
        request = self.exchange.request
        if self.options.empty_failures and isinstance(request, HttpRequest) and not request.has_call_status:
            return b""
        return request.failure_body(failure)

    def break_down(self, error: BaseException) -> None:
        report("an exchange failed", error)
        self.fail(INTERNAL_ERROR, describe(error))

    def cancel_attempt(self) -> None:
        if self._forwarder is not None:
            self._forwarder.cancel()

    def drain_attempt(self) -> None:
        if self._forwarder is not None:
            self._forwarder.drain()

    def finish(self) -> None:
        if self.stage == DONE:
            return
        was_tunnel = self.stage == TUNNELING
        self.stage = DONE
        runtime = self.runtime
        runtime.wheel.clear(self)
        self.cancel_attempt()
        if self._responder is not None:
            self._responder.cancel()
        if self.wrapper is not None:
            self.wrapper.abandon()
        exchange = self.exchange
        # Read again: a local reply would take no time otherwise, since it is sent by the event that the request came with.
        exchange.finished = runtime.clock.tick()
        status = count(exchange, self.options.stats, was_tunnel, runtime.routes)
        if self.options.access_logs:
            write_logs(exchange, self.options.access_logs)
        if (
            exchange.failure is not None
            or status >= 500
            or exchange.finished - exchange.started > runtime.stories.threshold
            or (exchange.request.has_call_status and exchange.received_status != 0)
        ):
            runtime.stories.consider(exchange, self.options, was_tunnel)
        filters = self.options.filters
        if filters.on_complete:
            run_completion(self, filters.on_complete)
        if exchange.trace is not None:
            exchange.trace.end(exchange)
        filters.in_use -= 1
        # Each of these refers to the driver: without this only the garbage collector would free them.
        self.wrapper = None
        self._forwarder = None
        self._responder = None
        if filters.may_read:
            exchange.request.body_source = None
            if exchange.response is not None:
                exchange.response.body_source = None
        self.sender.release()
