"""One try at one host."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.stream import RequestSender, ResponseReceiver
from pymosn.core.clock import Clock
from pymosn.core.failure import CONNECT_FAILED, OVERFLOW, RESET_BEFORE_RESPONSE, UPSTREAM_TIMEOUT, Failure
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.core.timers import TimerWheel
from pymosn.proxy.filtering import FilteredExchange
from pymosn.upstream.cluster import ClusterHost
from pymosn.upstream.limits import Limits

#: What an attempt says of its host in place of a status: nothing, or that it broke.
NO_VERDICT: Final[i64] = 0
BROKEN: Final[i64] = -1


class AttemptOwner(FilteredExchange):
    """Hears what becomes of an attempt: the exchange."""

    def on_attempt_sender(self, attempt: Attempt, sender: RequestSender) -> None:
        """There is a stream: send the request."""
        raise NotImplementedError

    def on_attempt_failed(self, attempt: Attempt, failure: Failure) -> None:
        """The attempt is over without a complete reply."""
        raise NotImplementedError

    def on_attempt_informational(self, head: ResponseHead) -> None:
        """A 1xx reply came."""
        raise NotImplementedError

    def on_attempt_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """The reply's head came."""
        raise NotImplementedError

    def on_attempt_data(self, data: bytes, end: bool) -> None:
        """A piece of the reply's body came."""
        raise NotImplementedError

    def on_attempt_trailers(self, trailers: Headers) -> None:
        """The reply's trailers came."""
        raise NotImplementedError

    def on_attempt_writable(self, writable: bool) -> None:
        """The upstream can take no more for now, or can again."""
        raise NotImplementedError


class Attempt(ResponseReceiver):
    """Takes a stream from the host's pool and passes on what comes back, until it ends, fails or is cancelled.

    Each attempt is counted exactly once as begun and once as ended, for its host and for its cluster.
    """

    def __init__(self, exchange: AttemptOwner, host: ClusterHost, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__()
        self.host = host
        self.sender: RequestSender | None = None
        self._exchange: AttemptOwner | None = exchange
        self._clock = clock
        self._wheel = wheel
        self._timeout = 0.0
        self._protocol = ""
        self._is_fresh = False
        self._waits = False
        self._retries: Limits | None = None
        self._started = clock.now
        self._status: i64 = NO_VERDICT
        self._is_admitted = False
        host.stats.request_total.value += 1
        host.stats.request_active.value += 1
        host.cluster_stats.request_total.value += 1
        host.cluster_stats.request_active.value += 1

    def start(self, protocol: str, fresh: bool, timeout: float) -> None:
        """Asks the pool for a stream. `fresh`: on a new connection; `timeout`: seconds until the reply's head, 0 is none."""
        self._protocol = protocol
        self._is_fresh = fresh
        self._timeout = timeout
        self._begin()

    def start_again(self, protocol: str, fresh: bool, timeout: float, retries: Limits, pause: float) -> None:
        """The same for a retry, which was taken from `retries`, after `pause` seconds."""
        self._retries = retries
        if pause > 0.0:
            self._protocol = protocol
            self._is_fresh = fresh
            self._timeout = timeout
            self._waits = True
            self._wheel.set(self, pause)
        else:
            self.start(protocol, fresh, timeout)

    def on_alarm(self) -> None:
        if self._waits:
            self._waits = False
            self._begin()
            return
        exchange = self._exchange
        if exchange is not None:
            self.on_timeout(True)
            self.cancel()
            exchange.on_attempt_failed(self, UPSTREAM_TIMEOUT)

    def _begin(self) -> None:
        if self._timeout > 0.0:
            self._wheel.set(self, self._timeout)
        self._is_admitted = self.host.try_request()
        if not self._is_admitted:
            self.on_no_sender(OVERFLOW)
            return
        try:
            pool = self.host.pool(self._protocol)
        except KeyError:
            self.on_no_sender(CONNECT_FAILED)
            return
        pool.acquire(self, self._is_fresh)

    def cancel(self) -> None:
        """The exchange does not want it any more."""
        if self._exchange is None:
            return
        self._end(self._status if self._status == BROKEN else NO_VERDICT)
        self.host.stats.request_local_reset.value += 1
        self.host.cluster_stats.request_local_reset.value += 1
        sender = self.sender
        if sender is None:
            if self._protocol:
                self.host.pool(self._protocol).withdraw(self)
        else:
            self.sender = None
            sender.cancel()

    def on_timeout(self, is_host_late: bool) -> None:
        """The time is over, because the host does not answer or for other reasons; `cancel` follows."""
        if is_host_late:
            self._status = BROKEN
        self.host.stats.request_timeout.value += 1
        self.host.cluster_stats.request_timeout.value += 1

    def _end(self, status: i64) -> None:
        self._exchange = None
        if self._timeout > 0.0 or self._waits:
            self._wheel.clear(self)
        if self._retries is not None:
            self._retries.end_retry()
            self._retries = None
        seconds = self._clock.now - self._started
        if self._is_admitted:
            self._is_admitted = False
            self.host.end_request()
            if status != NO_VERDICT:
                self.host.judge(seconds, status)
        stats = self.host.stats
        stats.request_active.value -= 1
        stats.request_duration.record(seconds)
        cluster = self.host.cluster_stats
        if self.sender is not None:
            read = stats.bytes_read.value
            written = stats.bytes_written.value
            self.sender.connection().count_into(stats.bytes_read, stats.bytes_written)
            cluster.bytes_read.value += stats.bytes_read.value - read
            cluster.bytes_written.value += stats.bytes_written.value - written
        cluster.request_active.value -= 1
        cluster.request_duration.record(seconds)
        if 0 < status < 500:
            stats.response_success.value += 1
            cluster.response_success.value += 1
        else:
            stats.response_failed.value += 1
            cluster.response_failed.value += 1

    # ---- from the pool and the stream

    def on_sender(self, sender: RequestSender) -> None:
        self.sender = sender
        exchange = self._exchange
        if exchange is None:
            sender.cancel()
        else:
            exchange.on_attempt_sender(self, sender)

    def on_no_sender(self, failure: Failure) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._end(NO_VERDICT if failure is OVERFLOW else BROKEN)
            exchange.on_attempt_failed(self, failure)

    def on_informational(self, head: ResponseHead) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.on_attempt_informational(head)

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._status = head.status
            if self._timeout > 0.0:
                self._wheel.clear(self)
            if end:
                self._end(self._status)
            exchange.on_attempt_response(head, data, end)

    def on_data(self, data: bytes, end: bool) -> None:
        exchange = self._exchange
        if exchange is not None:
            if end:
                self._end(self._status)
            exchange.on_attempt_data(data, end)

    def on_trailers(self, trailers: Headers) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._end(self._status)
            exchange.on_attempt_trailers(trailers)

    def on_reset(self, failure: Failure) -> None:
        exchange = self._exchange
        if exchange is not None:
            self.host.stats.request_remote_reset.value += 1
            self.host.cluster_stats.request_remote_reset.value += 1
            # A host may close a connection that it kept for us; that is no fault of its.
            is_stale = failure is RESET_BEFORE_RESPONSE and self.sender is not None and self.sender.is_reused()
            self._end(NO_VERDICT if is_stale else BROKEN)
            exchange.on_attempt_failed(self, failure)

    def on_writable(self, writable: bool) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.on_attempt_writable(writable)
