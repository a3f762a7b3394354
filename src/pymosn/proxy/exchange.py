"""One request and all that is done for it: filters, route, host, attempts, reply.

The life of an exchange reads from top to bottom: the request comes (`on_request`), is routed, goes to an attempt
(`on_attempt_sender`) and perhaps to another one, and a reply comes back (`on_attempt_response`). How the request's body
gets to the upstream is in `requesting`; how the reply is sent, and how an exchange ends, in `replying`.
"""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.proxy import Choices
from pymosn.api.stream import RequestSender, ResponseSender
from pymosn.api.upstream import PLAIN, Host, Selection
from pymosn.core.failure import (
    BAD_REWRITE,
    CLUSTER_UNKNOWN,
    INTERNAL_ERROR,
    NO_HOSTS,
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
from pymosn.proxy.bodies import RequestBody
from pymosn.proxy.choosing import NextTry, chosen_route, chosen_target
from pymosn.proxy.filter_chain import HOST, REQUEST, ROUTE
from pymosn.proxy.forwarding import add_forwarding_fields, change_request
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.requesting import RequestingExchange
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
from pymosn.upstream.limits import Limits


class ProxyExchange(RequestingExchange):
    """See the module's text."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(runtime, options, sender)
        self._cluster: Cluster | None = None
        self._selection: Selection = PLAIN
        self._try_timeout = 0.0
        self._retry_policy: RetryPolicy | None = None
        self._changes: RequestChanges | None = None
        self._target: Target | None = None
        self._uses_host_name = False
        self._is_prepared = False

    # ---- the request comes

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        self.request = head
        if data:
            self.bytes_received = len(data)
            self._held.append(data)
        self._request_ended = end
        if end:
            self.request_received = self.started
        filters = self._options.filters
        if filters.may_read:
            head.body_source = RequestBody(self)
        if filters.on_request:
            self.run_filters(filters.on_request, REQUEST, 0)
        else:
            self._route()

    def on_filtered(self, phase: i64) -> None:
        if self._is_over:
            return
        if phase == REQUEST:
            self._route()
        elif phase == ROUTE:
            self._act()
        elif phase == HOST:
            self._go()
        else:
            self._send_head()

    def on_refused(self, head: RequestHead, failure: Failure) -> None:
        self.request = head
        self._request_ended = True
        self.fail(failure, "")

    def on_reset(self, failure: Failure) -> None:
        self.fail(failure, "")

    # ---- where it goes

    def _route(self) -> None:
        table = self._options.slot.table
        if table is None:
            self.fail(NO_ROUTER, self._options.slot.name)
            return
        host = table.find_host(self.request.raw_host)
        if host is None:
            self.fail(NO_VIRTUAL_HOST, self.request.host)
            return
        route = host.find(self) if self.choices is None else chosen_route(self, self.choices, host)
        if route is None:
            self.fail(NO_ROUTE, host.name)
            return
        self.route = route
        self._changes_reply = route.response_changes is not None
        action = route.action
        if isinstance(action, Forward):
            self._target = action.choose(self)
            if self._target is not None:
                self.cluster_name = self._target.cluster
        filters = self._options.filters.on_route
        if filters:
            self.run_filters(filters, ROUTE, 0)
        else:
            self._act()

    def _act(self) -> None:
        """Does what the route says."""
        route = self.route
        assert route is not None
        action = route.action
        if isinstance(action, Forward):
            self._forward(action)
        elif isinstance(action, Redirect):
            headers = Headers()
            headers.set("location", action.location(self.request))
            self._reply(action.status, headers, b"")
        elif isinstance(action, DirectResponse):
            self._reply(action.status, Headers(), action.body)
        else:
            self.fail(INTERNAL_ERROR, f"route {route.name} has no action")

    def _forward(self, action: Forward) -> None:
        target = self._target if self.choices is None else chosen_target(self.choices, self._target)
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
        if self.request.has_timeout or self._options.filters.sees_requests:
            self._timeout, self._try_timeout = asked_timeouts(action, self)
        if self.choices is not None:
            self._choose_times(self.choices)
        self._await_reply()
        self._try(cluster, False, None, 0.0)

    def _choose_times(self, choices: Choices) -> None:
        """What filters chose about times and retries."""
        if choices.timeout is not None:
            self._timeout = choices.timeout
        if choices.try_timeout is not None:
            self._try_timeout = choices.try_timeout
        if choices.retries is not None:
            self._retry_policy = RetryPolicy(choices.retries > 0, choices.retries, self._try_timeout)

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

    def _try(self, cluster: Cluster, fresh: bool, retries: Limits | None, pause: float) -> None:
        """An attempt at the host that the balancer chooses. `retries`: where a retry was taken from."""
        host: Host | None
        if self.choices is None or self.choices.host is None:
            host = cluster.balancer.choose(self._selection)
        else:
            host = cluster.find(self.choices.host)
        if host is None:
            if retries is not None:
                retries.end_retry()
            self.fail(cluster.why_nobody(self._selection), cluster.name)
            return
        assert isinstance(host, ClusterHost)
        self.attempts += 1
        self.upstream_address = host.address
        self.upstream_hostname = host.hostname
        filters = self._options.filters.on_host
        if filters:
            self._next = NextTry(cluster, host, fresh, retries, pause)
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
        if retries is None:
            attempt.start(self.protocol, fresh, self._time_for_try())
        else:
            attempt.start_again(self.protocol, fresh, self._time_for_try(), retries, pause)

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
            if self._options.filters.sees_requests:
                self._prepare_body()
            if (self._changes is not None or self.own_variables is not None) and not change_request(self, self._changes):
                self.fail(BAD_REWRITE, self.request.path)
                return
        if self._uses_host_name and self.upstream_hostname:
            rewrite_host(self, self.upstream_hostname.encode())
        self.send_request(sender)

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
            and self.request.new_body is None
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
        self._try(cluster, fresh, cluster.limits, pause)

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
