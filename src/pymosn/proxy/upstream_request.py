"""A request to one host: the limits it counts against, the stream it uses, and the counters of host and cluster.

The end of every request is reported to its host here, in `UpstreamRequest._count_end`, and `_verdict` decides whether a
failure counts against the host. Outlier ejection and the balancers judge hosts for all clients, so what one client
caused or may have caused is no verdict: its own time limits, its slow sending and reading, its tunnels, its leaving.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i16, i64

from pymosn.api.alpn import AlpnOffers
from pymosn.api.stream import ConnectionPool, RequestSender, ResponseReceiver
from pymosn.api.upstream import FaultRule
from pymosn.core.failure import CONNECT_FAILED, OVERFLOW, RESET_BEFORE_RESPONSE, Failure
from pymosn.core.foreign import report
from pymosn.core.message import ResponseHead
from pymosn.core.timers import TimerWheel
from pymosn.upstream.cluster_host import ClusterHost

#: Outcomes of a request other than a status: one that does not concern the host, and a failure of the host.
NO_VERDICT: Final[i64] = 0
NO_STATUS: Final[i16] = 0
BROKEN: Final[i64] = -1

GATEWAY_TIMEOUT: Final[i64] = 504
NOT_IMPLEMENTED: Final[i64] = 501


class UpstreamRequest(ResponseReceiver):
    """Base of requests to a host. Each is counted once when it starts and once when it ends, for host and cluster."""

    def __init__(self, host: ClusterHost, wheel: TimerWheel) -> None:
        super().__init__()
        self.host = host
        self.sender: RequestSender | None = None
        self._wheel = wheel
        self._pool: ConnectionPool | None = None
        #: What the client's listener offers to hosts by ALPN; None for what their clusters offer.
        self.offers: AlpnOffers | None = None
        self._started = wheel.clock.now
        # When the host got the last part of the request so far; its latency counts from then on, until the response's head.
        self._sent_at = self._started
        self._latency = -1.0
        #: Seconds until the response that opened a tunnel, whose lifetime is not part of the request's duration; -1 without.
        self._tunnel_after = -1.0
        self._is_admitted = False
        #: Whether the host has the whole request, as far as it has a part of it: False while the client is sending.
        self.is_whole = True
        #: Whether the client has not read a response as fast as the host sent it.
        self.was_client_slow = False
        #: Whether the client demanded an earlier answer than the operator's timeouts do.
        self.is_hurried = False
        #: Whether no response is expected, so that a successful end says nothing about the host.
        self.is_one_way = False
        #: Whether the response ends with the status of a call, which counts instead of its own.
        self.is_call = False
        #: The rule of the client's listener by which its requests judge hosts; None without one.
        self.fault_rule: FaultRule | None = None
        #: Whether the host found fault with the request.
        self._was_rejected = False
        # The HTTP status of the failure that was the host's.
        self._failed_with: i16 = NO_STATUS
        # A status that fits shares a word with the flags.
        self._status: i16 = NO_STATUS
        host.stats.request_total.value += 1
        host.stats.request_active.value += 1
        host.cluster_stats.request_total.value += 1
        host.cluster_stats.request_active.value += 1

    def _take_stream(self, protocol: str, fresh: bool) -> None:
        """Asks the host's pool for a stream, unless the cluster is at its request limit. `fresh`: on a new connection."""
        self._is_admitted = self.host.try_request()
        if not self._is_admitted:
            self.on_no_sender(OVERFLOW)
            return
        try:
            pool = self.host.pool(protocol, self.offers)
        except KeyError:
            self.on_no_sender(CONNECT_FAILED)
            return
        except BaseException as error:  # of an installed protocol
            report(f"no pool for protocol {protocol!r}", error)
            self.on_no_sender(CONNECT_FAILED)
            return
        self._pool = pool
        pool.acquire(self, fresh)

    def _leave_stream(self) -> None:
        """Gives up the stream, or the wait for one."""
        self.host.stats.request_local_reset.value += 1
        self.host.cluster_stats.request_local_reset.value += 1
        sender = self.sender
        if sender is not None:
            self.sender = None
            sender.cancel()
        elif self._pool is not None:
            self._pool.withdraw(self)

    def note_sent(self, is_whole: bool) -> None:
        """A further part of the request was sent; `is_whole`: it was the last one."""
        self.is_whole = is_whole
        self._sent_at = self._wheel.clock.now

    def _note_head(self, head: ResponseHead) -> None:
        """The response's head has arrived. Before the end of the request its time depends on the client."""
        self._status = i16(head.status)
        self._was_rejected = head.rejects_request
        if self.is_whole:
            self._latency = self._wheel.clock.now - self._sent_at

    def _note_call(self, status: i64) -> None:
        """The outcome of a call, as an HTTP status; 0 if the response has none. A method that is unknown was asked for."""
        if status > 0:
            self._status = i16(status)
            if status == NOT_IMPLEMENTED:
                self._was_rejected = True

    def _verdict(self, failure: Failure) -> i64:
        """The outcome for the host when `failure` ends the request: BROKEN, or NO_VERDICT if the client may have caused it.

        A host may give up on a client that sends or reads slowly, and may close an idle connection at any time. How a
        tunnel ends is a matter between the client and the host.
        """
        if not failure.by_host or not self.is_whole or self.was_client_slow or self._tunnel_after >= 0.0:
            return NO_VERDICT
        self._failed_with = i16(failure.status)
        is_stale = failure is RESET_BEFORE_RESPONSE and self.sender is not None and self.sender.is_reused()
        return NO_VERDICT if is_stale else BROKEN

    def _count_timeout(self) -> None:
        self.host.stats.request_timeout.value += 1
        self.host.cluster_stats.request_timeout.value += 1

    def _count_reset(self, failure: Failure) -> i64:
        """Counts a reset of the stream, or the loss of its connection, and returns the outcome for the host."""
        sender = self.sender
        if sender is not None and sender.outlives_reset():
            self.host.stats.request_remote_reset.value += 1
            self.host.cluster_stats.request_remote_reset.value += 1
        else:
            self.host.stats.request_failure_eject.value += 1
            self.host.cluster_stats.request_failure_eject.value += 1
        return self._verdict(failure)

    def _count_end(self, status: i64) -> None:
        """Releases the limits and reports `status`, NO_VERDICT or BROKEN to the host."""
        seconds = self._wheel.clock.now - self._started if self._tunnel_after < 0.0 else self._tunnel_after
        if self._is_admitted:
            self._is_admitted = False
            self.host.end_request()
            if status != NO_VERDICT and self._says_something(status):
                waited = self._latency if status > 0 or self._latency >= 0.0 else self._wheel.clock.now - self._sent_at
                self.host.record_outcome(waited, status)
                if self.fault_rule is not None:
                    self.host.record_fault(self.fault_rule, status if status > 0 else i64(self._failed_with))
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

    def _says_something(self, status: i64) -> bool:
        """Whether the outcome `status` is one of the host, rather than of the client's demands."""
        if status < 0:
            return True
        # RPC servers and further proxies know the client's timeout.
        return not (self._was_rejected or self.is_one_way or (status == GATEWAY_TIMEOUT and self.is_hurried))

    def count_bytes(self) -> None:
        """Adds the bytes sent and received on the connection to the counters of host and cluster."""
        if self.sender is not None:
            self.host.count_bytes(self.sender.connection())
