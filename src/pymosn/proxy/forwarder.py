"""Sends a request to a host of its cluster, and again to another one where a retry is possible.

A `Forwarder` is the `AttemptOwner`: it has one attempt at a time, which `host_attempts` makes. Once a response begins, it
only forwards: the response to its owner, and the rest of the request to the upstream.
"""

from __future__ import annotations

from mypy_extensions import i64, mypyc_attr

from pymosn.api.stream import RequestSender
from pymosn.core.failure import (
    BAD_RESPONSE,
    DEADLINE_EXCEEDED,
    FILTER_ERROR,
    RESET_AFTER_RESPONSE,
    RESET_BEFORE_RESPONSE,
    UPSTREAM_TIMEOUT,
    Failure,
)
from pymosn.core.headers import Headers
from pymosn.core.message import CONNECT, UNKNOWN_LENGTH, ResponseHead, UnreadableHeaders
from pymosn.core.timers import NEVER, RESOLUTION
from pymosn.proxy.attempts import REPLACE, RETRY, UNPROCESSED, after_failure, after_response
from pymosn.proxy.filtering import Verdict, body_handlers, filter_chunk, filter_start
from pymosn.proxy.forwarding import change_request
from pymosn.proxy.host_attempts import HostAttempts
from pymosn.proxy.owner import AWAITING, ExchangeOwner
from pymosn.proxy.stream_filters import any_changes_length
from pymosn.routing.actions import ForwardPlan
from pymosn.routing.rewrites import rewrite_host
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import ClusterHost


@mypyc_attr(free_list_len=1)
class Forwarder(HostAttempts):
    """Forwards one request to its upstream."""

    def __init__(self, owner: ExchangeOwner, cluster: Cluster, plan: ForwardPlan, protocol: str) -> None:
        super().__init__(owner, cluster, plan, protocol)
        # The flags come first, so that they share a word with those of the base class.
        self._is_prepared = bool(owner.exchange.transcoded_to)  # an RPC call is sent unchanged
        # Whether filters see the chunks of the body.
        self._has_handlers = False
        self._is_tunnel = False
        # Whether an attempt ended because of the client's own timeout, so that the others get what is left of the time.
        self._was_cut_short = False
        # The head of a response that may still be retried: its trailers may follow at once.
        self._held: ResponseHead | None = None

    # ---- the request

    def _prepare(self) -> bool:
        """Applies the route's changes, but the path's, and forwarding headers. Returns False if the exchange failed."""
        self._is_prepared = True
        owner = self.owner
        options = owner.options
        exchange = owner.exchange
        was_filtered = bool(options.filters.sees_requests)
        exchange.request.add_forwarding_fields(
            options.forwarding,
            exchange.connection.remote_ip,
            exchange.upstream_address,
            was_filtered,
            owner.runtime.request_ids,
        )
        if options.filters.sees_requests and not self._prepare_body():
            return False
        changes = self.plan.changes
        if changes is None and exchange.own_variables is None:
            return True
        try:
            if changes is not None and options.filters.all and exchange.as_received is None:
                exchange.as_received = exchange.request.headers.copy()
            failure = change_request(exchange, changes)
        except UnreadableHeaders as error:
            owner.fail_unreadable(error, "route")
            return False
        if failure is not None:
            owner.fail(failure, exchange.request.path)
            return False
        return True

    def _prepare_body(self) -> bool:
        """Applies what filters did to the body. Returns False if the exchange failed."""
        owner = self.owner
        head = owner.exchange.request
        handlers = body_handlers(owner.exchange, owner.options.filters.request_body)
        if head.new_body is not None:
            if head.raw_method == CONNECT:
                owner.fail(FILTER_ERROR, "a filter set a body for a CONNECT request")
                return False
            head.replace_body(head.new_body)
            owner.replace_request_body(head.new_body)
        elif handlers and head.content_length == 0:
            return True
        if handlers:
            self._has_handlers = True
            self._keeps_body = False
            if any_changes_length(handlers):
                head.set_length(UNKNOWN_LENGTH)
        return True

    def on_attempt_sender(self, sender: RequestSender) -> None:
        owner = self.owner
        exchange = owner.exchange
        connection = sender.connection()
        exchange.upstream_connection_id = connection.id
        exchange.upstream_tls = connection.tls
        exchange.spoken_upstream = sender.protocol() or self._protocol
        is_first = not self._is_prepared
        self.upstream = sender
        if is_first and not self._prepare():
            return
        if not is_first and owner.deadline < NEVER:
            exchange.request.limit_time(owner.deadline - owner.runtime.clock.now)
        wrapper = owner.wrapper
        if wrapper is not None and (is_first or wrapper.wraps_retries):
            sender = wrapper.wrap(sender)
            self.upstream = sender
        plan = self.plan
        changes = plan.changes
        if plan.uses_host_name and exchange.upstream_hostname and not exchange.transcoded_to:
            host = exchange.upstream_hostname.encode()
            if changes is None:
                rewrite_host(exchange, host)
            else:
                changes.rewrite_host(exchange, host)
        if changes is not None and not exchange.transcoded_to:
            changes.count_attempt(exchange)
        request = exchange.request
        if exchange.trace is not None:
            exchange.trace.on_attempt(exchange, request.headers if wrapper is None else wrapper.sent_headers(request))
        if request.content_length != 0 and not self._keeps_body and not self._has_handlers and not exchange.transcoded_to:
            # The host may refuse it, or be closing this kept-alive connection: keeps the body, to send the request again.
            policy = plan.retry_policy
            non_idempotent = policy is not None and policy.non_idempotent
            self._keeps_body = sender.may_be_refused() or (sender.is_reused() and request.may_replay(non_idempotent))
        self.send(sender)

    def send_copies(self, mirroring: RequestSender) -> None:
        """Sends only the mirrored copies, not the request itself."""
        owner = self.owner
        if not self._prepare():
            return
        trace = owner.exchange.trace
        if trace is not None:
            trace.on_attempt(owner.exchange, owner.exchange.request.headers)
        if owner.exchange.request.expects_continue and not owner.request_ended:
            owner.sender.send_informational(ResponseHead(100))
        self.send(mirroring)
        if not owner.is_over():
            owner.arm_timeout()

    def send(self, upstream: RequestSender) -> None:
        """Sends the head and the held part of the body to `upstream`."""
        owner = self.owner
        exchange = owner.exchange
        self.upstream = upstream
        if owner.client_is_full:
            upstream.pause()
            self.on_client_slow()
        if not owner.request_ended and self._attempt is not None:
            self._attempt.is_whole = False
        self.is_sent = True
        owner.stage = AWAITING
        flow = owner.request_flow
        trailers: Headers | None = None
        if flow is None:
            data = exchange.request.held_body()
        else:
            data = flow.body()
            trailers = flow.trailers
        if self._has_handlers:
            handlers = owner.options.filters.request_body
            filtered = filter_start(owner, handlers, data, owner.request_ended, trailers is not None)
            if isinstance(filtered, Verdict):
                owner.apply(filtered)
                return
            data = filtered
            if owner.request_ended and trailers is None:
                exchange.request.set_length(len(data))
        if flow is not None:
            if not self._keeps_body or exchange.bytes_received > exchange.request.kept_body_limit():
                self._keeps_body = self._keeps_body and not data
                flow.clear()
            flow.release()  # first: sending may fill the upstream, which pauses the client again
            if owner.request_ended and not self._keeps_body:
                owner.request_flow = None
        upstream.send_request(exchange.request, data, owner.request_ended and trailers is None)
        if trailers is not None:
            upstream.send_trailers(trailers)
        if owner.request_ended:
            self._note_sent()

    def send_data(self, upstream: RequestSender, data: bytes, end: bool) -> None:
        """Sends the next chunk of the request's body."""
        owner = self.owner
        if self._has_handlers:
            filtered = filter_chunk(owner, owner.options.filters.request_body, data, end)
            if isinstance(filtered, Verdict):
                owner.apply(filtered)
                return
            data = filtered
        elif self._keeps_body:
            flow = owner.held_request()
            if owner.exchange.bytes_received > owner.exchange.request.kept_body_limit():
                self._keeps_body = False
                flow.clear()
            else:
                flow.hold(data, end)
        if self._attempt is not None:
            self._attempt.note_sent(end)
        upstream.send_data(data, end)
        if end:
            self._note_sent()
        self._rearm()

    def send_trailers(self, upstream: RequestSender, trailers: Headers) -> None:
        """Sends the trailers, which end the request."""
        owner = self.owner
        if self._has_handlers:
            rest = filter_chunk(owner, owner.options.filters.request_body, b"", True)
            if isinstance(rest, Verdict):
                owner.apply(rest)
                return
            if rest:
                upstream.send_data(rest, False)
        owner.held_request().trailers = trailers  # for another attempt
        if self._attempt is not None:
            self._attempt.note_sent(True)
        upstream.send_trailers(trailers)
        self._note_sent()
        self._rearm()

    def _note_sent(self) -> None:
        """The whole request has been sent, for the first time or again."""
        exchange = self.owner.exchange
        if exchange.request_sent == 0.0:
            exchange.request_sent = self.owner.runtime.clock.tick()

    def _rearm(self) -> None:
        """Restarts the timeouts after a part of the request was sent."""
        owner = self.owner
        if owner.is_over():
            return
        owner.arm_timeout()
        attempt = self._attempt
        if attempt is not None and owner.exchange.response is None and self._try_timeout() > 0.0:
            attempt.limit_time(self._try_timeout())

    # ---- next host or stop

    def on_attempt_failed(self, host: ClusterHost, failure: Failure) -> None:
        upstream = self.upstream
        was_reused = upstream is not None and upstream.is_reused()
        other = "" if upstream is None else upstream.instead()
        rule = "" if upstream is None or failure is not BAD_RESPONSE else upstream.fault()
        if other:
            self._protocol = other
        if failure is UPSTREAM_TIMEOUT and self.plan.has_clients_try:
            self._was_cut_short = True
        if self._held is not None:
            self._held = None
            if failure is RESET_AFTER_RESPONSE:
                failure = RESET_BEFORE_RESPONSE  # the client has nothing of it
        self.forget()
        if self.is_past_deadline():
            self.owner.fail(DEADLINE_EXCEEDED, host.address)  # the host's clock was a moment earlier than ours
            return
        step: i64 = 0
        exchange = self.owner.exchange
        if exchange.response is None:
            is_stale = was_reused and self._can_repeat()
            is_unused = failure in UNPROCESSED and self._holds_body()
            call_status = exchange.request.failure_call_status(failure)
            step = after_failure(self.plan.retry_policy, failure, call_status, is_stale, is_unused, i64(self._replaced))
        if step == REPLACE:
            self._replace(failure)
        elif step != RETRY or not self._retry(host, failure):
            self.owner.fail(failure, f"{host.address}: {rule}" if rule else host.address)

    # ---- the response

    def on_attempt_informational(self, head: ResponseHead) -> None:
        self.owner.on_informational(head)

    def on_attempt_response(self, host: ClusterHost, head: ResponseHead, data: bytes, end: bool) -> None:
        policy = self.plan.retry_policy
        retries = after_response(policy, head.status) == RETRY
        request = self.owner.exchange.request
        if policy is not None and policy.judges_calls and request.has_call_status and not retries:
            call_status = request.call_status(head.headers)
            if call_status < 0 and head.status != 200:
                call_status = request.call_outcome(head, None)  # a response that is not gRPC's
            if call_status < 0 and not end and len(data) == 0 and self._can_repeat():
                self._held = head
                return
            retries = policy.conditions.has_call_status(call_status)
        if retries and self._retry(host, RESET_BEFORE_RESPONSE, int(head.status)):
            return
        self._pass_on(head, data, end)

    def release_head(self) -> bool:
        """Passes on a head whose response takes its time; False if none is held."""
        head = self._held
        if head is None:
            return False
        self._held = None
        self._pass_on(head, b"", False)
        return True

    def _pass_on(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """Passes on the response; the request will not be sent again."""
        if self._keeps_body:
            self._keeps_body = False
            owner = self.owner
            flow = owner.request_flow
            if flow is not None:
                flow.clear()
                if owner.request_ended:
                    flow.release()
                    owner.request_flow = None
        if end:
            self.forget()
        self._is_tunnel = len(head.raw_tunnel) > 0
        self.owner.on_response(head, data, end)

    def on_attempt_data(self, data: bytes, end: bool) -> None:
        head = self._held
        if head is not None:
            self._held = None
            self._pass_on(head, data, end)
            return
        if end and not self._is_tunnel:
            self.forget()
        self.owner.on_response_data(data, end)

    def on_attempt_trailers(self, trailers: Headers) -> None:
        head = self._held
        if head is not None:
            self._held = None
            policy = self.plan.retry_policy
            attempt = self._attempt
            call_status = self.owner.exchange.request.call_status(trailers)
            retries = policy is not None and policy.conditions.has_call_status(call_status)
            if retries and attempt is not None and self._retry(attempt.host, RESET_BEFORE_RESPONSE, int(head.status)):
                return
            self._pass_on(head, b"", False)
            if self.owner.is_over():
                return
        self.forget()
        self.owner.on_response_trailers(trailers)

    def call_outcome(self, fields: Headers) -> i64:
        return self.owner.exchange.request.host_outcome(fields)

    def is_past_deadline(self) -> bool:
        return self.owner.deadline <= self.owner.runtime.clock.now + RESOLUTION

    def on_attempt_broken(self, error: BaseException) -> None:
        self.owner.break_down(error)

    def on_attempt_writable(self, writable: bool) -> None:
        if writable:
            flow = self.owner.request_flow
            if flow is not None:
                flow.release()
        elif not self.owner.is_over():
            self.owner.held_request().pause()

    # ---- the end

    def on_timeout(self, is_host_late: bool) -> None:
        """The exchange timed out; `cancel` follows."""
        if self._attempt is not None:
            self._attempt.on_timeout(is_host_late and not self.plan.has_clients_total and not self._was_cut_short)

    def on_client_slow(self) -> None:
        """The client does not read as fast as the upstream sends."""
        if self._attempt is not None:
            self._attempt.was_client_slow = True

    def cancel(self) -> None:
        """Nothing further is needed from the upstream."""
        attempt = self._attempt
        self._held = None
        self.forget()
        if attempt is not None:
            attempt.cancel()
        elif self._pending is not None:
            self._pending.give_back()
            self._pending = None

    def drain(self) -> None:
        """Nothing further is needed, but the rest of a short response is read, so that its connection can be reused."""
        attempt = self._attempt
        if attempt is None or not attempt.is_whole:
            self.cancel()
        else:
            self.forget()
            attempt.drain()

    def count_bytes(self) -> None:
        """Adds the bytes of a tunnel to the counters of host and cluster."""
        if self._attempt is not None:
            self._attempt.count_bytes()

    def finish_tunnel(self) -> None:
        """Both directions of the tunnel have ended."""
        attempt = self._attempt
        self.forget()
        if attempt is not None:
            attempt.finish_tunnel()
