"""One attempt to send a request to one host."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i16, i64, mypyc_attr

from pymosn.api.network import Connection
from pymosn.api.stream import RequestSender
from pymosn.core.failure import UPSTREAM_TIMEOUT, Failure
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.core.timers import TimerWheel
from pymosn.proxy.upstream_request import BROKEN, NO_VERDICT, UpstreamRequest
from pymosn.upstream.cluster_host import ClusterHost
from pymosn.upstream.limits import Limit

#: Bytes and seconds of a response that is not needed any more, but read so that its connection can be reused.
DRAIN_SIZE: Final[i64] = 64 * 1024
DRAIN_TIME: Final = 1.0


@mypyc_attr(allow_interpreted_subclasses=True)
class AttemptOwner:
    """Receives the events of an attempt. `end`, trailers or a failure ends it; for `end` of a tunnel see `finish_tunnel`."""

    def client_connection(self) -> Connection | None:
        """The client's connection; None if the attempt has no client any more."""
        return None

    def on_attempt_sender(self, sender: RequestSender) -> None:
        """A stream is ready: send the request to `sender`."""
        raise NotImplementedError

    def on_attempt_failed(self, host: ClusterHost, failure: Failure) -> None:
        """The attempt is over without a complete response."""
        raise NotImplementedError

    def on_attempt_informational(self, head: ResponseHead) -> None:
        """A 1xx response arrived."""
        raise NotImplementedError

    def on_attempt_response(self, host: ClusterHost, head: ResponseHead, data: bytes, end: bool) -> None:
        """The response's head arrived."""
        raise NotImplementedError

    def on_attempt_data(self, data: bytes, end: bool) -> None:
        """A chunk of the response's body arrived."""
        raise NotImplementedError

    def on_attempt_trailers(self, trailers: Headers) -> None:
        """The response's trailers arrived."""
        raise NotImplementedError

    def call_outcome(self, fields: Headers) -> i64:
        """The HTTP status that the status of a call in headers or trailers corresponds to; 0 without one."""
        return 0

    def is_past_deadline(self) -> bool:
        """Whether the client's deadline has passed, so that the host, which knows it, may have given up."""
        return False

    def on_attempt_broken(self, error: BaseException) -> None:
        """The owner raised when it was told of the stream or of the response."""
        raise NotImplementedError

    def on_attempt_writable(self, writable: bool) -> None:
        """False: the upstream's send buffer is full; True: it has drained."""
        raise NotImplementedError


class Drain(AttemptOwner):
    """Reads the rest of a response that is not needed, up to a limit."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._left: i64 = DRAIN_SIZE

    def on_attempt_failed(self, host: ClusterHost, failure: Failure) -> None:
        pass

    def on_attempt_data(self, data: bytes, end: bool) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._attempt.cancel()

    def on_attempt_trailers(self, trailers: Headers) -> None:
        pass

    def on_attempt_writable(self, writable: bool) -> None:
        pass


class PendingAttempt:
    """An attempt that waits while filters of the host phase run."""

    def __init__(self, host: ClusterHost, fresh: bool, retries: Limit | None, pause: float) -> None:
        """The arguments of the attempt; `retries`: the limit that a retry counts against."""
        self.host = host
        self.fresh = fresh
        self.retries = retries
        self.pause = pause

    def give_back(self) -> None:
        """Returns the retry permit: the attempt will not be made."""
        if self.retries is not None:
            self.retries.release()
            self.retries = None


@mypyc_attr(free_list_len=1)
class Attempt(UpstreamRequest):
    """Acquires a stream from the host's pool and reports to its owner, until it ends, fails or is cancelled."""

    def __init__(self, owner: AttemptOwner, host: ClusterHost, wheel: TimerWheel) -> None:
        super().__init__(host, wheel)
        #: Whether the attempt always needs a new connection.
        self.needs_fresh = False
        #: Whether the per-try timeout is the client's, and shorter than the operator's.
        self.has_clients_limit = False
        self._owner: AttemptOwner | None = owner
        self._timeout = 0.0
        self._waits_for = ""
        self._retries: Limit | None = None

    def start(self, protocol: str, fresh: bool, timeout: float) -> None:
        """Acquires a stream. `fresh`: on a new connection; `timeout`: seconds until the response's head, 0 for none."""
        if timeout > 0.0:
            self.limit_time(timeout)
        self._take_stream(protocol, fresh or self.needs_fresh)

    def start_again(self, protocol: str, timeout: float, retries: Limit, pause: float) -> None:
        """Like `start`, for a retry after `pause` seconds; `retries`: the limit it counts against."""
        self._retries = retries
        if pause > 0.0:
            self._timeout = timeout
            self._waits_for = protocol
            self._wheel.set(self, pause)
        else:
            self.start(protocol, False, timeout)

    def limit_time(self, timeout: float) -> None:
        """Sets the per-try timeout: the response's head must arrive within `timeout` seconds."""
        self._timeout = timeout
        self._wheel.set(self, timeout)

    def on_alarm(self) -> None:
        protocol = self._waits_for
        if protocol:
            self._waits_for = ""
            self._started = self._sent_at = self._wheel.clock.now  # the pause is not the host's latency
            self.start(protocol, False, self._timeout)
            return
        owner = self._owner
        if isinstance(owner, Drain):
            self.cancel()
        elif owner is not None:
            self.on_timeout(not self.has_clients_limit)
            self.cancel()
            owner.on_attempt_failed(self.host, UPSTREAM_TIMEOUT)

    def cancel(self) -> None:
        """The attempt is no longer needed."""
        self._leave(BROKEN if self._status == BROKEN else NO_VERDICT)

    def drain(self) -> None:
        """The rest of the response is not needed: reads it, within limits, and returns the connection to its pool."""
        self._owner = Drain(self)
        self.limit_time(DRAIN_TIME)

    def is_retry(self) -> bool:
        """Whether it counts against the retry limit of its cluster."""
        return self._retries is not None

    def discard(self, passes_on: bool) -> None:
        """Drops an attempt whose response leads to a retry; its status is still recorded as the host's outcome.

        `passes_on`: the next attempt inherits its retry permit.
        """
        if passes_on:
            self._retries = None
        self._leave(i64(self._status))

    def _leave(self, status: i64) -> None:
        if self._owner is not None:
            self._end(status)
            self._leave_stream()

    def on_timeout(self, is_host_late: bool) -> None:
        """Counts a timeout; `cancel` follows. `is_host_late`: it counts against a host that has not answered."""
        if is_host_late and self._status == NO_VERDICT and not self._waits_for:
            self._status = i16(self._verdict(UPSTREAM_TIMEOUT))
        self._count_timeout()

    def _end(self, status: i64) -> None:
        self._owner = None
        if self._timeout > 0.0 or self._waits_for:
            self._wheel.clear(self)
        if self._retries is not None:
            self._retries.release()
            self._retries = None
        self._count_end(status)

    def finish_tunnel(self) -> None:
        """Ends an attempt whose tunnel has ended in both directions."""
        self._end(i64(self._status))
        sender = self.sender
        if sender is not None:
            self.sender = None
            sender.cancel()

    # ---- from the pool and the stream

    def client_connection(self) -> Connection | None:
        owner = self._owner
        return None if owner is None else owner.client_connection()

    def on_sender(self, sender: RequestSender) -> None:
        self.sender = sender
        owner = self._owner
        if owner is None:
            sender.cancel()
            return
        try:
            owner.on_attempt_sender(sender)
        except BaseException as error:
            owner.on_attempt_broken(error)

    def on_no_sender(self, failure: Failure) -> None:
        owner = self._owner
        if owner is not None:
            self._end(self._verdict(failure))
            owner.on_attempt_failed(self.host, failure)

    def on_informational(self, head: ResponseHead) -> None:
        owner = self._owner
        if owner is not None:
            owner.on_attempt_informational(head)

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        owner = self._owner
        if owner is not None:
            self._note_head(head)
            if self._timeout > 0.0:
                self._wheel.clear(self)
            if end:
                if self.is_call:
                    self._note_call(owner.call_outcome(head.headers))
                self._end(i64(self._status))
            elif head.raw_tunnel:
                self._tunnel_after = self._wheel.clock.now - self._started
            try:
                owner.on_attempt_response(self.host, head, data, end)
            except BaseException as error:
                owner.on_attempt_broken(error)

    def on_data(self, data: bytes, end: bool) -> None:
        owner = self._owner
        if owner is not None:
            if end and self._tunnel_after < 0.0:
                self._end(i64(self._status))
            owner.on_attempt_data(data, end)

    def on_trailers(self, trailers: Headers) -> None:
        owner = self._owner
        if owner is not None:
            if self.is_call:
                self._note_call(owner.call_outcome(trailers))
            self._end(i64(self._status))
            owner.on_attempt_trailers(trailers)

    def on_reset(self, failure: Failure) -> None:
        owner = self._owner
        if owner is not None:
            outcome = self._count_reset(failure)
            self._end(NO_VERDICT if owner.is_past_deadline() else outcome)
            owner.on_attempt_failed(self.host, failure)

    def on_writable(self, writable: bool) -> None:
        owner = self._owner
        if owner is not None:
            owner.on_attempt_writable(writable)
