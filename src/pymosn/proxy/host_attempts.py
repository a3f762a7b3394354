"""The attempts at hosts that one request makes: the choice of the host, the next one, and the limits of both."""

from __future__ import annotations

from mypy_extensions import i16, i64

from pymosn.api.network import Connection
from pymosn.api.record import EarlierAttempt
from pymosn.api.stream import RequestSender
from pymosn.api.upstream import Host
from pymosn.core.failure import DROP_OVERLOAD, NO_HOSTS, UPSTREAM_TIMEOUT, Failure
from pymosn.core.message import CONNECT_HERE
from pymosn.proxy.attempt import Attempt, AttemptOwner, PendingAttempt
from pymosn.proxy.attempts import has_retries_left, pause_before
from pymosn.proxy.decision import own_plan
from pymosn.proxy.owner import ATTEMPTING, ExchangeOwner
from pymosn.proxy.stream_filters import HOST
from pymosn.routing.actions import ForwardPlan
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import ClusterHost
from pymosn.upstream.limits import Limit


class HostAttempts(AttemptOwner):
    """The attempts of one request, one at a time; `Forwarder` decides what their events mean."""

    def __init__(self, owner: ExchangeOwner, cluster: Cluster, plan: ForwardPlan, protocol: str) -> None:
        """`protocol`: the one to speak to the upstream, as `WayOut.protocol` has chosen it."""
        self.owner = owner
        self._protocol = protocol
        #: The sender for the request, possibly wrapped; None while no attempt has a stream.
        self.upstream: RequestSender | None = None
        self._cluster = cluster
        self.plan = plan
        self._attempt: Attempt | None = None
        self._pending: PendingAttempt | None = None
        self._replaced: i16 = 0
        self.is_sent = False
        # Whether the body is retained for another attempt.
        self._keeps_body = False
        policy = plan.retry_policy
        if policy is not None:
            self._keeps_body = policy.retry_on and policy.may_repeat(owner.exchange.request)

    # ---- host and attempt

    def start(self) -> None:
        """Sends the request to the first host."""
        owner = self.owner
        if self._cluster.drops:
            category = self._cluster.dropped_category()
            if category:
                owner.fail(DROP_OVERLOAD, category)
                return
        host = self._choose_host()
        if host is not None:
            self._try(host, False, None, 0.0)
            return
        overrides = owner.exchange.overrides
        if overrides is not None and overrides.host is not None:
            owner.fail(NO_HOSTS, overrides.host)
        else:
            owner.fail(self._cluster.no_host_failure(self.plan.selection), self._cluster.name)

    def _choose_host(self) -> ClusterHost | None:
        """The host that a filter or the balancer chooses, if any."""
        overrides = self.owner.exchange.overrides
        host: Host | None
        if overrides is None or overrides.host is None:
            host = self._cluster.balancer.choose(self.plan.selection)
        else:
            host = self._cluster.find(overrides.host)
        assert host is None or isinstance(host, ClusterHost)
        return host

    def _try(self, host: ClusterHost, fresh: bool, retries: Limit | None, pause: float) -> None:
        """Makes an attempt at `host`. `retries`: the limit that a retry counts against."""
        owner = self.owner
        exchange = owner.exchange
        exchange.attempts += 1
        exchange.attempt_started = owner.runtime.clock.now
        exchange.upstream_address = host.address
        exchange.upstream_hostname = host.hostname
        self.is_sent = False
        owner.stage = ATTEMPTING
        filters = owner.options.filters.on_host
        if not filters:
            self._start(host, fresh, retries, pause)
            return
        self._pending = PendingAttempt(host, fresh, retries, pause)
        if owner.passes(filters, HOST):
            self.start_pending()

    def start_pending(self) -> None:
        """Starts the pending attempt, at another host if a filter has chosen one."""
        pending = self._pending
        assert pending is not None
        self._pending = None
        host = pending.host
        exchange = self.owner.exchange
        overrides = exchange.overrides
        if overrides is not None and overrides.host is not None and overrides.host != host.address:
            chosen = self._cluster.find(overrides.host)
            if chosen is None:
                pending.give_back()
                self.owner.fail(NO_HOSTS, overrides.host)
                return
            host = chosen
            exchange.upstream_address = host.address
            exchange.upstream_hostname = host.hostname
        self._start(host, pending.fresh, pending.retries, pending.pause)

    def _start(self, host: ClusterHost, fresh: bool, retries: Limit | None, pause: float) -> None:
        runtime = self.owner.runtime
        attempt = Attempt(self, host, runtime.wheel)
        attempt.offers = self.owner.options.offers
        attempt.fault_rule = self.owner.options.filters.fault_rule
        if self.owner.exchange.request.raw_tunnel == CONNECT_HERE:
            attempt.needs_fresh = True  # this connection will carry no HTTP
        self._attempt = attempt
        plan = self.plan
        attempt.is_one_way = self.owner.exchange.request.is_one_way
        attempt.is_call = self.owner.exchange.request.has_call_status
        attempt.is_hurried = plan.has_clients_total or plan.has_clients_try
        attempt.has_clients_limit = plan.has_clients_try
        protocol = self._protocol
        if retries is None:
            attempt.start(protocol, fresh, self._try_timeout())
        else:
            attempt.start_again(protocol, self._try_timeout(), retries, pause)

    def client_connection(self) -> Connection | None:
        return self.owner.exchange.connection

    def _try_timeout(self) -> float:
        """Seconds for one attempt; 0.0 when the total timeout is not longer, or the request has not ended."""
        plan = self.plan
        return plan.try_timeout if 0.0 < plan.try_timeout < plan.timeout and self.owner.request_ended else 0.0

    # ---- next host or stop

    def _holds_body(self) -> bool:
        """Whether all that has been received of the body, if it has one, can be sent again."""
        return self._keeps_body or (self.owner.exchange.bytes_received == 0 and self.owner.exchange.request.new_body is None)

    def _can_repeat(self) -> bool:
        """Whether the request may be sent again, is complete, and its body is still held."""
        if not self.owner.request_ended or not self._holds_body():
            return False
        request = self.owner.exchange.request
        policy = self.plan.retry_policy
        return request.may_repeat(False, False) if policy is None else policy.may_repeat(request)

    def _replace(self, failure: Failure) -> None:
        """Repeats a request of which the host has processed nothing, on a fresh connection where that matters."""
        host = self._choose_host()
        if host is None:
            self.owner.fail(failure, self._cluster.name)
            return
        self._cluster.stats.request_retry.value += 1
        self._replaced += 1
        self._note_attempt(failure, 0)
        self._try(host, True, None, 0.0)

    def _note_attempt(self, failure: Failure, status: int) -> None:
        """Records the attempt that another one follows. `status`: of its response; 0 if there was only the failure."""
        exchange = self.owner.exchange
        if exchange.earlier_attempts is None:
            exchange.earlier_attempts = []
        exchange.earlier_attempts.append(
            EarlierAttempt(
                exchange.upstream_address,
                exchange.attempt_started,
                self.owner.runtime.clock.now,
                status,
                None if status else failure,
            )
        )

    def _retry(self, host: ClusterHost, failure: Failure, status: int = 0) -> bool:
        """Retries, at another host if possible; False if limits, the request's state or a lack of hosts prevent it.

        `status`: of the response that leads to the retry; 0 without one.
        """
        cluster = self._cluster
        attempts: i64 = i64(self.owner.exchange.attempts) - i64(self._replaced)
        if not has_retries_left(self.owner.exchange, self.plan.retry_policy, attempts, cluster.choices()):
            return False
        if self.is_sent and not self._can_repeat() and not (failure.may_retry and self._holds_body()):
            return False
        before = self._attempt
        has_permit = before is not None and before.is_retry()
        # Retries that the client's own timeout causes must not use up the permits of the others.
        needs_permit = not (failure is UPSTREAM_TIMEOUT and self.plan.has_clients_try)
        retries: Limit | None = cluster.limits.retries if has_permit or needs_permit else None
        if retries is not None and not has_permit and not retries.try_acquire():
            cluster.stats.request_retry_overflow.value += 1
            return False
        self.plan = own_plan(self.plan)
        self.plan.selection.add_tried(host)
        chosen = self._choose_host()
        if chosen is None:
            if retries is not None and not has_permit:
                retries.release()
            return False
        if before is not None:
            self.forget()
            before.discard(has_permit)
        cluster.stats.request_retry.value += 1
        self._note_attempt(failure, status)
        self._try(chosen, False, retries, pause_before(self.plan.retry_policy, failure, attempts, cluster.choices()))
        return True

    def forget(self) -> None:
        """The attempt is complete; its connection may already serve another exchange."""
        self._attempt = None
        self.upstream = None
