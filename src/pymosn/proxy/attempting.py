"""The middle of an exchange: its attempts at hosts, one after the other, until one of them brings the reply."""

from __future__ import annotations

from mypy_extensions import i32, i64

from pymosn.api.stream import RequestSender, ResponseSender
from pymosn.api.upstream import NO_CONSTRAINTS, Host, Selection
from pymosn.core.failure import BAD_REWRITE, NO_HOSTS, RESET_BEFORE_RESPONSE, STREAM_IDLE, UPSTREAM_TIMEOUT, Failure
from pymosn.core.message import ResponseHead
from pymosn.proxy.attempt import Attempt
from pymosn.proxy.forwarding import change_request
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.overrides import PendingAttempt
from pymosn.proxy.retry import (
    UNASKED_TRIES,
    is_disabled,
    is_retriable,
    is_retriable_status,
    pause_before,
    retries_left,
)
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import HOST
from pymosn.proxy.transcoding import TranscodingExchange
from pymosn.routing.actions import RetryPolicy, Target
from pymosn.routing.rewrites import RequestChanges, rewrite_host
from pymosn.upstream.cluster import Cluster, ClusterHost
from pymosn.upstream.limits import Limits


class AttemptingExchange(TranscodingExchange):
    """The part of an exchange that deals with hosts: which one, what is sent to it, and whether another one is tried."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(runtime, options, sender)
        self._cluster: Cluster | None = None
        self._selection: Selection = NO_CONSTRAINTS
        self._retry_policy: RetryPolicy | None = None
        self._changes: RequestChanges | None = None
        self._target: Target | None = None
        self._uses_host_name = False
        self._is_prepared = False
        # How many attempts only took the place of one on a connection that its host had closed.
        self._replaced: i32 = 0

    # ---- host and time

    def _choose_host(self, cluster: Cluster) -> ClusterHost | None:
        """The host that a filter or the balancer chooses; None when there is nobody."""
        host: Host | None
        if self.choices is None or self.choices.host is None:
            host = cluster.balancer.choose(self._selection)
        else:
            host = cluster.find(self.choices.host)
        assert host is None or isinstance(host, ClusterHost)
        return host

    def _try(self, cluster: Cluster, host: ClusterHost, fresh: bool, retries: Limits | None, pause: float) -> None:
        """An attempt at `host`. `retries`: where a retry was taken from."""
        self.attempts += 1
        self.upstream_address = host.address
        self.upstream_hostname = host.hostname
        filters = self._options.filters.on_host
        if filters:
            self._next = PendingAttempt(cluster, host, fresh, retries, pause)
            self.run_filters(filters, HOST, 0)
        else:
            self._start(host, fresh, retries, pause)

    def _go(self) -> None:
        """The filters have let the host pass, or have chosen another one."""
        tried = self._next
        assert tried is not None
        self._next = None
        host = tried.host
        if self.choices is not None and self.choices.host is not None and self.choices.host != host.address:
            chosen = tried.cluster.find(self.choices.host)
            if chosen is None:
                tried.give_back()
                self.fail(NO_HOSTS, self.choices.host)
                return
            host = chosen
            self.upstream_address = host.address
            self.upstream_hostname = host.hostname
        self._start(host, tried.fresh, tried.retries, tried.pause)

    def _start(self, host: ClusterHost, fresh: bool, retries: Limits | None, pause: float) -> None:
        attempt = Attempt(self, host, self._runtime.clock, self._runtime.wheel)
        self._attempt = attempt
        protocol = self.protocol if self._transcoded is None else self.upstream_protocol()
        if retries is None:
            attempt.start(protocol, fresh, self._time_for_try())
        else:
            attempt.start_again(protocol, self._time_for_try(), retries, pause)

    def own_selection(self) -> Selection:
        """What this request asks of the balancer, to be added to."""
        if self._selection is NO_CONSTRAINTS:
            self._selection = Selection()
        return self._selection

    # ---- the request goes out

    def _prepare_request(self) -> bool:
        """Makes the request what the upstream is to see; False when that cannot be, and the exchange has failed."""
        self._is_prepared = True
        options = self._options
        self.request.add_forwarding_fields(
            options.forwarding,
            self.connection.remote_ip,
            self.upstream_address,
            bool(options.filters.on_request),
            self._runtime.request_ids,
        )
        if self._options.filters.sees_requests:
            self._prepare_body()
            if self._upstream is None:
                return False  # it could not be
        if (self._changes is not None or self.own_variables is not None) and not change_request(self, self._changes):
            self.fail(BAD_REWRITE, self.request.path)
            return False
        return True

    def on_attempt_sender(self, attempt: Attempt, sender: RequestSender) -> None:
        self._upstream = sender
        self.upstream_connection_id = sender.connection().id
        if self._transcoded is not None:
            self.send_call(self._transcoded, sender)
            return
        if not self._is_prepared:
            if not self._prepare_request():
                return
            if self._mirroring is not None:
                # Only the first host's stream: what is sent again is not copied again.
                sender = self._mirroring.beside(sender)
                self._upstream = sender
        if self._uses_host_name and self.upstream_hostname:
            rewrite_host(self, self.upstream_hostname.encode())
        if self.request.content_length != 0 and not self._keeps_body and not self._filters_request:
            # The host may just be closing a connection that was kept: then the request is sent once more.
            self._keeps_body = sender.is_reused() and self._may_replay()
        self.send_request(sender)

    # ---- what becomes of it

    def on_attempt_failed(self, attempt: Attempt, failure: Failure) -> None:
        was_reused = self._upstream is not None and self._upstream.is_reused()
        self._attempt = None
        self._upstream = None
        cluster = self._cluster
        if cluster is None or self.response is not None:
            self.fail(failure, attempt.host.address)
        elif failure is RESET_BEFORE_RESPONSE and was_reused and self._can_repeat() and i64(self._replaced) < UNASKED_TRIES:
            self._replace(cluster, failure)
        elif not is_retriable(self._retry_policy, failure) or not self._retry(cluster, attempt.host, failure):
            self.fail(failure, attempt.host.address)

    def _may_repeat(self) -> bool:
        """Whether a host may get this request although another may have acted upon it already."""
        policy = self._retry_policy
        return self.request.may_repeat(policy is not None, policy is not None and policy.non_idempotent)

    def _may_replay(self) -> bool:
        policy = self._retry_policy
        return self.request.may_replay(policy is not None and policy.non_idempotent)

    def _can_repeat(self) -> bool:
        """Whether what was sent of the request can be sent once more, and may be."""
        has_body = self.bytes_received > 0 or self.request.new_body is not None
        return self._request_ended and (not has_body or self._keeps_body) and self._may_repeat()

    def _replace(self, cluster: Cluster, failure: Failure) -> None:
        """Tries again on a new connection: a host had closed one that was kept, which is nobody's fault."""
        host = self._choose_host(cluster)
        if host is None:
            self.fail(failure, cluster.name)
            return
        cluster.stats.request_retry.value += 1
        self._replaced += 1
        self._is_sent = False
        self._try(cluster, host, True, None, 0.0)

    def _retry(self, cluster: Cluster, tried: ClusterHost, failure: Failure) -> bool:
        """Tries again, if possible not at `tried`; False when number, state of the request, cluster or hosts forbid it."""
        tries = self.attempts - i64(self._replaced)
        if not retries_left(self._retry_policy, tries, cluster.choices()) or is_disabled(self) or self.request.is_one_way:
            return False
        if self._is_sent and not self._can_repeat():
            return False
        before = self._attempt
        has_place = before is not None and before.is_retry()
        if not has_place and not cluster.limits.try_retry():
            cluster.stats.request_retry_overflow.value += 1
            return False
        self.own_selection().add_tried(tried)
        host = self._choose_host(cluster)
        if host is None:
            if not has_place:
                cluster.limits.end_retry()
            return False
        if before is not None:
            self._attempt = None
            self._upstream = None
            before.discard(has_place)
        cluster.stats.request_retry.value += 1
        self._is_sent = False
        pause = pause_before(failure, tries, cluster.choices())
        self._try(cluster, host, False, cluster.limits, pause)
        return True

    def _retries_reply(self, head: ResponseHead) -> bool:
        """Tries again in place of a reply that the policy does not want, where that is possible."""
        attempt = self._attempt
        cluster = self._cluster
        if cluster is None or attempt is None or not is_retriable_status(self._retry_policy, head.status):
            return False
        return self._retry(cluster, attempt.host, RESET_BEFORE_RESPONSE)

    def on_attempt_informational(self, head: ResponseHead) -> None:
        if not self._is_over and not self._head_sent:
            self._sender.send_informational(head)

    # ---- the reply, and the time for it

    def on_attempt_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        if self._retry_policy is not None and self._retries_reply(head):
            return
        if self._keeps_body:
            self._keeps_body = False
            self._held = None
        if self._transcoded is not None:
            self.take_rpc_reply(self._transcoded, head)
            return
        self.take_reply(head, data, end)

    def on_alarm(self) -> None:
        if self._tunnel is not None and self._tunnel.is_open:
            self.on_tunnel_idle()
            return
        attempt = self._attempt
        if attempt is not None:
            attempt.on_timeout(self._request_ended and not self._head_sent)
        if self._head_sent or not self._request_ended:
            self.fail(STREAM_IDLE, self.upstream_address)
        else:
            self.fail(UPSTREAM_TIMEOUT, self.upstream_address)
