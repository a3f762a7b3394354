"""One try at one host."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.stream import RequestSender
from pymosn.core.clock import Clock
from pymosn.core.failure import OVERFLOW, UPSTREAM_TIMEOUT, Failure
from pymosn.core.headers import Headers
from pymosn.core.message import CONNECT_HERE, ResponseHead
from pymosn.core.timers import TimerWheel
from pymosn.proxy.filtering import FilteredExchange
from pymosn.proxy.upstream_request import BROKEN, NO_VERDICT, UpstreamRequest
from pymosn.upstream.cluster import ClusterHost
from pymosn.upstream.limits import Limits


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

    def on_copies_sent(self, failure: Failure | None) -> None:
        """The copies that take the place of the request have all of it; or nobody was there to get one."""
        raise NotImplementedError


class Attempt(UpstreamRequest):
    """Takes a stream from the host's pool and passes on what comes back, until it ends, fails or is cancelled."""

    def __init__(self, exchange: AttemptOwner, host: ClusterHost, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__(host, clock, wheel)
        self._exchange: AttemptOwner | None = exchange
        self._timeout = 0.0
        self._waits_for = ""
        self._retries: Limits | None = None

    def start(self, protocol: str, fresh: bool, timeout: float) -> None:
        """Asks the pool for a stream. `fresh`: on a new connection; `timeout`: seconds until the reply's head, 0 is none."""
        if timeout > 0.0:
            self.limit_time(timeout)
        exchange = self._exchange
        if exchange is not None and exchange.request.raw_tunnel == CONNECT_HERE:
            fresh = True  # it is to carry no HTTP at all
        self._take_stream(protocol, fresh)

    def start_again(self, protocol: str, timeout: float, retries: Limits, pause: float) -> None:
        """The same for a retry, which was taken from `retries`, after `pause` seconds."""
        self._retries = retries
        if pause > 0.0:
            self._timeout = timeout
            self._waits_for = protocol
            self._wheel.set(self, pause)
        else:
            self.start(protocol, False, timeout)

    def limit_time(self, timeout: float) -> None:
        """The reply's head must come within `timeout` seconds from now."""
        self._timeout = timeout
        self._wheel.set(self, timeout)

    def on_alarm(self) -> None:
        protocol = self._waits_for
        if protocol:
            self._waits_for = ""
            self._started = self._clock.now  # the pause says nothing about the host
            self.start(protocol, False, self._timeout)
            return
        exchange = self._exchange
        if exchange is not None:
            self.on_timeout(True)
            self.cancel()
            exchange.on_attempt_failed(self, UPSTREAM_TIMEOUT)

    def cancel(self) -> None:
        """The exchange does not want it any more."""
        self._leave(self._status if self._status == BROKEN else NO_VERDICT)

    def is_retry(self) -> bool:
        """Whether it is counted among the retries of its cluster."""
        return self._retries is not None

    def discard(self, passes_on: bool) -> None:
        """The exchange does not want the reply that came, which counts for the host all the same.

        `passes_on`: the next try gets its place among the retries.
        """
        if passes_on:
            self._retries = None
        self._leave(self._status)

    def _leave(self, status: i64) -> None:
        if self._exchange is not None:
            self._end(status)
            self._leave_stream()

    def on_timeout(self, is_host_late: bool) -> None:
        """The time is over, because the host does not answer or for other reasons; `cancel` follows."""
        if is_host_late:
            self._status = BROKEN
        self._count_timeout()

    def _end(self, status: i64) -> None:
        self._exchange = None
        if self._timeout > 0.0 or self._waits_for:
            self._wheel.clear(self)
        if self._retries is not None:
            self._retries.end_retry()
            self._retries = None
        self._count_end(status)

    def finish_tunnel(self) -> None:
        """Both sides of the tunnel have ended."""
        self._end(self._status)
        sender = self.sender
        if sender is not None:
            self.sender = None
            sender.cancel()

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
            elif head.raw_tunnel:
                self._tunnel_after = self._clock.now - self._started
            exchange.on_attempt_response(head, data, end)

    def on_data(self, data: bytes, end: bool) -> None:
        exchange = self._exchange
        if exchange is not None:
            if end and self._tunnel_after < 0.0:
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
            self._end(self._count_reset(failure))
            exchange.on_attempt_failed(self, failure)

    def on_writable(self, writable: bool) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.on_attempt_writable(writable)
