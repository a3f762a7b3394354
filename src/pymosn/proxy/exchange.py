"""One request and all that is done for it: filters, route, host, attempts, reply.

The life of an exchange reads from top to bottom, and on in other files: here the request comes (`on_request`) and is routed;
in `attempting` it goes to a host, and perhaps to another one, until a reply comes. How the request's body gets to the
upstream is in `requesting`; how the reply is sent, and how an exchange ends, in `replying`; what follows a
reply that opens a tunnel in `tunnelling`.
"""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.exchange import RouteOverrides
from pymosn.core.failure import (
    CLUSTER_UNKNOWN,
    FILTER_ERROR,
    INTERNAL_ERROR,
    NO_HOSTS,
    NO_ROUTE,
    NO_ROUTER,
    NO_VIRTUAL_HOST,
    OVERLOADED,
    Failure,
)
from pymosn.core.headers import headers_from
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.core.overload import SHED
from pymosn.proxy.attempting import AttemptingExchange
from pymosn.proxy.bodies import RequestBody
from pymosn.proxy.mirroring import draw_mirrors
from pymosn.proxy.overrides import override_route, override_target
from pymosn.proxy.stream_filters import HOST, REQUEST, ROUTE
from pymosn.proxy.transcoding import TRANSCODE
from pymosn.routing.actions import DirectResponse, Forward, Redirect, RetryPolicy, Target, asked_timeouts
from pymosn.routing.hashing import NO_HASH, hash_value
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.original_dst import destination


class ProxyExchange(AttemptingExchange):
    """See the module's text."""

    # ---- the request comes

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        self.request = head
        if data:
            self.bytes_received = len(data)
            self._held = [data]
        self._request_ended = end
        if end:
            self.request_received = self.started
        if self._options.trusted_hops > 0:
            self.forwarded_ip = head.forwarded_ip(self._options.trusted_hops)
        if self._runtime.overload.level >= SHED:
            self.fail(OVERLOADED, "")
            return
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
        elif phase == TRANSCODE:
            self._act()
        else:
            self._send_filtered()

    def on_refused(self, head: RequestHead, failure: Failure) -> None:
        self.request = head
        self._request_ended = True
        self.fail(failure, "")

    def on_reset(self, failure: Failure) -> None:
        self.fail(failure, "")

    def _send_filtered(self) -> None:
        """Every filter of the reply's head let it pass, as it is now."""
        head = self.response
        if head is None:
            self.fail(FILTER_ERROR, "a filter took the reply away")
            return
        if head.status != i64(self._shown_status) and not head.accept_status():
            self.fail(FILTER_ERROR, f"a filter made it {head.status}, which is no status")
            return
        self._send_head()

    # ---- where it goes

    def _route(self) -> None:
        table = self._options.slot.table
        if table is None:
            self.fail(NO_ROUTER, self._options.slot.name)
            return
        host = table.find_virtual_host(self.request.raw_host)
        if host is None:
            self.fail(NO_VIRTUAL_HOST, self.request.host)
            return
        route = host.find(self) if self.choices is None else override_route(self, self.choices, host)
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
            headers = headers_from(None)
            headers.set("location", action.location(self.request))
            self._reply(action.status, headers, b"")
        elif isinstance(action, DirectResponse):
            self._reply(action.status, headers_from(None), action.body)
        else:
            self.fail(INTERNAL_ERROR, f"route {route.name} has no action")

    def _forward(self, action: Forward) -> None:
        target = self._target if self.choices is None else override_target(self.choices, self._target)
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
        wanted = action.upstream_protocol
        if wanted and self._transcoded is None and wanted not in (self.protocol, "Auto"):
            self.transcode(wanted)
            return
        self._timeout = action.timeout
        if not action.is_plain or target.subset is not None or cluster.balancer.uses_hash:
            self._prepare_for(action, target, cluster)
        if cluster.original is not None:
            self.own_selection().destination = destination(cluster.original, self)
        if self.request.has_timeout or self._options.filters.sees_requests:
            self._timeout, self._try_timeout = asked_timeouts(action, self)
        if self.choices is not None:
            self._choose_times(self.choices)
        policy = self._retry_policy
        if policy is not None:
            self._keeps_body = policy.retry_on and self._may_repeat()
        if self._mirroring is not None and self._mirroring.replaces_request:
            self._send_copies_only()
            return
        self._await_reply()
        host = self._choose_host(cluster)
        if host is None and self.choices is not None and self.choices.host is not None:
            self.fail(NO_HOSTS, self.choices.host)
        elif host is None:
            self.fail(cluster.no_host_failure(self._selection), cluster.name)
        else:
            self._try(cluster, host, False, None, 0.0)

    def _choose_times(self, choices: RouteOverrides) -> None:
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
        if action.mirrors and self._transcoded is None and not self.request.raw_tunnel:
            self._mirroring = draw_mirrors(action, self, self._runtime)
        if target.subset is not None:
            self.own_selection().subset = target.subset
        if action.hash_policies or cluster.balancer.uses_hash:
            value: i64 = hash_value(action.hash_policies, self)
            if value != NO_HASH:
                self.own_selection().set_hash(value)
            if self.set_cookie:
                self._changes_reply = True

    def _send_copies_only(self) -> None:
        """Copies take the place of the request, which is answered when it has come whole: see `on_copies_sent`."""
        mirroring = self._mirroring
        assert mirroring is not None
        self._upstream = mirroring
        if not self._prepare_request():
            return
        if self.request.expects_continue and not self._request_ended:
            self._sender.send_informational(ResponseHead(100))
        self.send_request(mirroring)
        if not self._is_over:
            self._await_reply()

    def on_copies_sent(self, failure: Failure | None) -> None:
        self._forget_upstream()
        if failure is None:
            self._reply(200, headers_from(None), b"")
        else:
            self.fail(failure, "copies only")
