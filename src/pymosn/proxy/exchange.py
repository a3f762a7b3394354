"""One request and all that is done for it: filters, route, host, attempts, reply.

The life of an exchange reads from top to bottom: the request comes (`on_request`), is routed, goes to an attempt
(`on_attempt_sender`) and perhaps to another one, and a reply comes back (`on_attempt_response`). How the reply is sent,
and how an exchange ends, is in `replying`.
"""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.stream import RequestSender, ResponseSender
from pymosn.api.upstream import PLAIN, Selection
from pymosn.core.failure import (
    BAD_REWRITE,
    CLUSTER_UNKNOWN,
    INTERNAL_ERROR,
    NO_ROUTE,
    NO_ROUTER,
    NO_VIRTUAL_HOST,
    RESET_BEFORE_RESPONSE,
    STREAM_IDLE,
    UPSTREAM_TIMEOUT,
    Failure,
)
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.proxy.attempt import Attempt
from pymosn.proxy.forwarding import add_forwarding_fields, change_request
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.replying import ReplyingExchange
from pymosn.proxy.retry import (
    IDEMPOTENT,
    UNASKED_TRIES,
    is_retriable,
    is_retriable_status,
    pause_before,
    retries_left,
)
from pymosn.proxy.runtime import Runtime
from pymosn.routing.actions import DirectResponse, Forward, Redirect, RetryPolicy, Target, asked_timeouts
from pymosn.routing.hashing import NO_HASH, hash_value
from pymosn.routing.rewrites import RequestChanges, rewrite_host
from pymosn.upstream.cluster import Cluster, ClusterHost


class ProxyExchange(ReplyingExchange):
    """See the module's text."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(runtime, options, sender)
        self._cluster: Cluster | None = None
        self._selection: Selection = PLAIN
        self._timeout = 0.0
        self._try_timeout = 0.0
        self._retry_policy: RetryPolicy | None = None
        self._changes: RequestChanges | None = None
        self._uses_host_name = False
        # The request, as far as it waits for an upstream.
        self._held: list[bytes] = []
        self._request_ended = False
        self._trailers: Headers | None = None
        self._is_sent = False
        self._is_prepared = False
        self._holds_client = False
        self._client_is_full = False

    # ---- the request comes

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        self.request = head
        if data:
            self.bytes_received = len(data)
            self._held.append(data)
        self._request_ended = end
        if end:
            self.request_received = self.started
        filters = self._options.filters.on_request
        if filters:
            self.run_filters(filters, False, 0)
        else:
            self._route()

    def on_request_filtered(self) -> None:
        if not self._is_over:
            self._route()

    def on_data(self, data: bytes, end: bool) -> None:
        if self._is_over:
            return
        self.bytes_received += len(data)
        if end:
            self._request_ended = True
            self.request_received = self._runtime.clock.now
        upstream = self._upstream
        if upstream is None or not self._is_sent:
            self._held.append(data)
            self._hold_client()
            return
        upstream.send_data(data, end)
        self._await_reply()

    def on_trailers(self, trailers: Headers) -> None:
        if self._is_over:
            return
        self._request_ended = True
        self.request_received = self._runtime.clock.now
        upstream = self._upstream
        if upstream is None or not self._is_sent:
            self._trailers = trailers
        else:
            upstream.send_trailers(trailers)
            self._await_reply()

    def on_refused(self, head: RequestHead, failure: Failure) -> None:
        self.request = head
        self._request_ended = True
        self.fail(failure, "")

    def on_reset(self, failure: Failure) -> None:
        self.fail(failure, "")

    def on_writable(self, writable: bool) -> None:
        self._client_is_full = not writable
        upstream = self._upstream
        if upstream is not None:
            if writable:
                upstream.resume()
            else:
                upstream.pause()

    # ---- where it goes

    def _route(self) -> None:
        head = self.request
        table = self._options.slot.table
        if table is None:
            self.fail(NO_ROUTER, self._options.slot.name)
            return
        host = table.find_host(head.raw_host)
        if host is None:
            self.fail(NO_VIRTUAL_HOST, head.host)
            return
        route = host.find(self)
        if route is None:
            self.fail(NO_ROUTE, host.name)
            return
        self.route = route
        self._changes_reply = route.response_changes is not None
        action = route.action
        if isinstance(action, Forward):
            self._forward(action)
        elif isinstance(action, Redirect):
            headers = Headers()
            headers.set("location", action.location(head))
            self._reply(action.status, headers, b"")
        elif isinstance(action, DirectResponse):
            self._reply(action.status, Headers(), action.body)
        else:
            self.fail(INTERNAL_ERROR, f"route {route.name} has no action")

    def _forward(self, action: Forward) -> None:
        target = action.choose(self)
        if target is None:
            self.fail(CLUSTER_UNKNOWN, f"{action.text()}, but there is none")
            return
        name = target.cluster
        self.cluster_name = name
        cluster = self._runtime.clusters.get(name)
        if cluster is None:
            self.fail(CLUSTER_UNKNOWN, name)
            return
        self._cluster = cluster
        self._timeout = action.timeout
        if not action.is_plain or target.subset is not None or cluster.balancer.uses_hash:
            self._prepare_for(action, target, cluster)
        if self.request.has_timeout or self.own_variables is not None or self._options.filters.on_request:
            self._timeout, self._try_timeout = asked_timeouts(action, self)
        self._await_reply()
        self._try(cluster, False)

    def _prepare_for(self, action: Forward, target: Target, cluster: Cluster) -> None:
        """Notes what the route wants done to this request."""
        self._changes = action.changes
        self._uses_host_name = action.uses_host_name
        policy = action.retry_policy
        if policy is not None:
            self._retry_policy = policy
            self._try_timeout = policy.per_try_timeout
        if target.subset is not None:
            self.own_selection().subset = target.subset
        if action.hash_policies or cluster.balancer.uses_hash:
            value: i64 = hash_value(action.hash_policies, self)
            if value != NO_HASH:
                self.own_selection().set_hash(value)
            if self.set_cookie:
                self._changes_reply = True

    def _await_reply(self) -> None:
        """Sets the time for what comes next: the reply's head, or more of the request."""
        if self._head_sent or not self._request_ended:
            self._runtime.wheel.set(self, self._options.stream_idle_timeout)
        else:
            self._runtime.wheel.set(self, self._timeout)

    def _try(self, cluster: Cluster, fresh: bool) -> None:
        attempt = self._new_attempt(cluster)
        if attempt is not None:
            attempt.start(self.protocol, fresh, self._time_for_try())

    def _new_attempt(self, cluster: Cluster) -> Attempt | None:
        """An attempt at the host that the balancer chooses; None when there is nobody, and the exchange has failed."""
        host = cluster.balancer.choose(self._selection)
        if host is None:
            self.fail(cluster.why_nobody(self._selection), cluster.name)
            return None
        assert isinstance(host, ClusterHost)
        self.attempts += 1
        self.upstream_address = host.address
        self.upstream_hostname = host.hostname
        attempt = Attempt(self, host, self._runtime.clock, self._runtime.wheel)
        self._attempt = attempt
        return attempt

    def _time_for_try(self) -> float:
        """Seconds for one attempt; 0 for no time of its own: the whole time is shorter, or the request is not here yet."""
        if 0.0 < self._try_timeout < self._timeout and self._request_ended:
            return self._try_timeout
        return 0.0

    def own_selection(self) -> Selection:
        """What this request asks of the balancer, to be added to."""
        if self._selection is PLAIN:
            self._selection = Selection()
        return self._selection

    # ---- the attempt

    def on_attempt_sender(self, attempt: Attempt, sender: RequestSender) -> None:
        self._upstream = sender
        self.upstream_connection_id = sender.connection().id
        if not self._is_prepared:
            self._is_prepared = True
            add_forwarding_fields(self, self._options, self._runtime.request_ids)
            if (self._changes is not None or self.own_variables is not None) and not change_request(self, self._changes):
                self.fail(BAD_REWRITE, self.request.path)
                return
        if self._uses_host_name and self.upstream_hostname:
            rewrite_host(self, self.upstream_hostname.encode())
        if self._client_is_full:
            sender.pause()
        self._is_sent = True
        held = self._held
        if not held:
            data = b""
        elif len(held) == 1:
            data = held[0]
        else:
            data = b"".join(held)
        if data:
            self._held = []
        # Before the request is sent: that may fill the upstream, which holds the client anew.
        self._release_client()
        sender.send_request(self.request, data, self._request_ended and self._trailers is None)
        if self._trailers is not None:
            sender.send_trailers(self._trailers)

    def on_attempt_failed(self, attempt: Attempt, failure: Failure) -> None:
        was_reused = self._upstream is not None and self._upstream.is_reused()
        self._attempt = None
        self._upstream = None
        cluster = self._cluster
        if cluster is None or self.response is not None:
            self.fail(failure, attempt.host.address)
        elif failure is RESET_BEFORE_RESPONSE and was_reused and self._can_repeat() and self.attempts < UNASKED_TRIES:
            self._retry(cluster, None, True, failure)
        elif is_retriable(self._retry_policy, failure) and self._may_retry(cluster):
            self._retry(cluster, attempt.host, False, failure)
        else:
            self.fail(failure, attempt.host.address)

    def _may_retry(self, cluster: Cluster) -> bool:
        """Whether number and state of the request allow one more try."""
        policy = self._retry_policy
        return retries_left(policy, self.attempts, len(cluster.hosts)) and (not self._is_sent or self._can_repeat())

    def _can_repeat(self) -> bool:
        """Whether what was sent of the request can be sent once more, and may be."""
        return (
            self._request_ended
            and self.bytes_received == 0
            and self._trailers is None
            and self.request.raw_method in IDEMPOTENT
        )

    def _retry(self, cluster: Cluster, tried: ClusterHost | None, fresh: bool, failure: Failure) -> None:
        """Tries again, if possible not at `tried`; `failure` is the answer when the cluster has had enough of retries."""
        if not cluster.limits.try_retry():
            cluster.stats.request_retry_overflow.value += 1
            self.fail(failure, cluster.name)
            return
        cluster.stats.request_retry.value += 1
        self._is_sent = False
        pause = 0.0 if tried is None else pause_before(failure, self.attempts, len(cluster.hosts))
        if tried is not None:
            self.own_selection().add_tried(tried)
        attempt = self._new_attempt(cluster)
        if attempt is None:
            cluster.limits.end_retry()
        else:
            attempt.start_again(self.protocol, fresh, self._time_for_try(), cluster.limits, pause)

    def _retries_reply(self, head: ResponseHead) -> bool:
        """Tries again in place of a reply that the policy does not want, where that is possible."""
        attempt = self._attempt
        cluster = self._cluster
        if cluster is None or attempt is None or not is_retriable_status(self._retry_policy, head.status):
            return False
        if not self._may_retry(cluster) or not cluster.limits.try_retry():
            return False
        cluster.limits.end_retry()  # `_retry` takes it again
        self._cancel_attempt()
        self._retry(cluster, attempt.host, False, RESET_BEFORE_RESPONSE)
        return True

    def on_attempt_informational(self, head: ResponseHead) -> None:
        if not self._is_over and not self._head_sent:
            self._sender.send_informational(head)

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

    # ---- the reply, and the time for it

    def on_attempt_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        if self._retry_policy is None or not self._retries_reply(head):
            self.take_reply(head, data, end)

    def on_alarm(self) -> None:
        attempt = self._attempt
        if attempt is not None:
            attempt.on_timeout(self._request_ended and not self._head_sent)
        if self._head_sent or not self._request_ended:
            self.fail(STREAM_IDLE, self.upstream_address)
        else:
            self.fail(UPSTREAM_TIMEOUT, self.upstream_address)
