"""A request at one host: the limits that it counts in, the stream that it takes, and the counters of host and cluster."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.stream import RequestSender, ResponseReceiver
from pymosn.core.clock import Clock
from pymosn.core.failure import CONNECT_FAILED, OVERFLOW, RESET_BEFORE_RESPONSE, Failure
from pymosn.core.timers import TimerWheel
from pymosn.upstream.cluster import ClusterHost

#: What a request says of its host in place of a status: nothing, or that it broke.
NO_VERDICT: Final[i64] = 0
BROKEN: Final[i64] = -1


class UpstreamRequest(ResponseReceiver):
    """Base of whoever sends a request to a host. It is counted once as begun and once as ended, for host and cluster."""

    def __init__(self, host: ClusterHost, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__()
        self.host = host
        self.sender: RequestSender | None = None
        self._clock = clock
        self._wheel = wheel
        self._protocol = ""
        self._started = clock.now
        self._status: i64 = NO_VERDICT
        #: Seconds until the reply that opened a tunnel: that is what says something of the host, not how long it was open.
        self._tunnel_after = -1.0
        self._is_admitted = False
        host.stats.request_total.value += 1
        host.stats.request_active.value += 1
        host.cluster_stats.request_total.value += 1
        host.cluster_stats.request_active.value += 1

    def _take_stream(self, protocol: str, fresh: bool) -> None:
        """Asks the host's pool for a stream, if the cluster may have one more request. `fresh`: on a new connection."""
        self._protocol = protocol
        self._is_admitted = self.host.try_request()
        if not self._is_admitted:
            self.on_no_sender(OVERFLOW)
            return
        try:
            pool = self.host.pool(protocol)
        except KeyError:
            self.on_no_sender(CONNECT_FAILED)
            return
        pool.acquire(self, fresh)

    def _leave_stream(self) -> None:
        """Nobody waits for the reply, or for the stream, any more."""
        self.host.stats.request_local_reset.value += 1
        self.host.cluster_stats.request_local_reset.value += 1
        sender = self.sender
        if sender is not None:
            self.sender = None
            sender.cancel()
        elif self._protocol:
            self.host.pool(self._protocol).withdraw(self)

    def _count_timeout(self) -> None:
        self.host.stats.request_timeout.value += 1
        self.host.cluster_stats.request_timeout.value += 1

    def _count_reset(self, failure: Failure) -> i64:
        """The stream broke off; what that says of the host."""
        self.host.stats.request_remote_reset.value += 1
        self.host.cluster_stats.request_remote_reset.value += 1
        # A host may close a connection that it kept for us; that is no fault of its.
        is_stale = failure is RESET_BEFORE_RESPONSE and self.sender is not None and self.sender.is_reused()
        return NO_VERDICT if is_stale else BROKEN

    def _count_end(self, status: i64) -> None:
        """It is over: gives back what it had, and tells the host what `status` came, or NO_VERDICT or BROKEN."""
        seconds = self._clock.now - self._started if self._tunnel_after < 0.0 else self._tunnel_after
        if self._is_admitted:
            self._is_admitted = False
            self.host.end_request()
            if status != NO_VERDICT:
                self.host.record_outcome(seconds, status)
        stats = self.host.stats
        stats.request_active.value -= 1
        stats.request_duration.record(seconds)
        cluster = self.host.cluster_stats
        self.count_bytes()
        cluster.request_active.value -= 1
        cluster.request_duration.record(seconds)
        if 0 < status < 500:
            stats.response_success.value += 1
            cluster.response_success.value += 1
        else:
            stats.response_failed.value += 1
            cluster.response_failed.value += 1

    def count_bytes(self) -> None:
        """Adds what went over the connection to the counters of host and cluster."""
        if self.sender is not None:
            self.host.count_bytes(self.sender.connection())
