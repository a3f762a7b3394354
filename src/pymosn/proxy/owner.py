"""The exchange as its parts see it: what forwarder, responder, tunnel and the others may use of the driver."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i16

from pymosn.api.stream import ResponseSender
from pymosn.core.errors import reason
from pymosn.core.failure import UNREADABLE_HEADERS, Failure, failure_of
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead, UnreadableHeaders
from pymosn.core.overload import NORMAL
from pymosn.core.timers import NEVER
from pymosn.proxy.body_flow import BodyFlow
from pymosn.proxy.filtering import FilterOwner
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.sender_wrapper import SenderWrapper
from pymosn.routing.actions import Target

# Stages of an exchange. It only moves forward, except that a retry returns to ATTEMPTING.
#: Filters see the request, and it is routed.
FILTERING: Final[i16] = 0
#: Filters see the host, and a stream is acquired.
ATTEMPTING: Final[i16] = 1
#: The request's head has been sent; the response's head is awaited.
AWAITING: Final[i16] = 2
#: Filters see the response's head.
HOLDING: Final[i16] = 3
#: The response's head has been sent.
RESPONDING: Final[i16] = 4
#: The response has opened a tunnel.
TUNNELING: Final[i16] = 5
DONE: Final[i16] = 6


class ExchangeOwner(FilterOwner):
    """State that several parts share, and the events that they report."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, sender: ResponseSender) -> None:
        super().__init__(runtime, sender.connection())
        self.options = options
        self.sender: ResponseSender = sender
        #: Wraps the upstream's sender: mirroring, transcoding or a tunnel.
        self.wrapper: SenderWrapper | None = None
        #: The held part of the request's body, if any.
        self.request_flow: BodyFlow | None = None
        #: The target of a route that forwards.
        self.target: Target | None = None
        #: When the time that the request itself allows is over.
        self.deadline: float = NEVER
        #: Longest time without progress: the listener's, or the route's.
        self.idle_timeout: float = options.stream_idle_timeout
        self.stage: i16 = FILTERING
        self.request_ended = False
        self.client_is_full = False
        #: Whether the route changes the response's head.
        self.changes_response = False

    def is_over(self) -> bool:
        return self.stage == DONE

    # ---- what the driver implements

    def is_request_sent(self) -> bool:
        """Whether the request's head has been sent to an upstream."""
        raise NotImplementedError

    def fail(self, failure: Failure, detail: str) -> None:
        """Ends the exchange with a failure: by a local reply, or by a reset once the response has begun."""
        raise NotImplementedError

    def fail_unreadable(self, error: UnreadableHeaders, reader: str) -> None:
        """Ends the exchange because `reader`, such as the route, needs headers that cannot be read."""
        self.fail(failure_of(error) or UNREADABLE_HEADERS, f"{reader}: {reason(error)}")

    def finish(self) -> None:
        """Ends the exchange: its response is complete, or was reset."""
        raise NotImplementedError

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Sends a local reply; filters see it like any response."""
        raise NotImplementedError

    def cancel_attempt(self) -> None:
        """Cancels the attempt: nothing further is needed from the upstream."""
        raise NotImplementedError

    def drain_attempt(self) -> None:
        """Nothing further is needed from the upstream, but the rest of its response is read if it is short."""
        raise NotImplementedError

    def arm_timeout(self) -> None:
        """Arms the timeout for the next event: more of the request, the response's head, or more of its body."""
        raise NotImplementedError

    def replace_request_body(self, body: bytes) -> None:
        """Replaces the request's body; the rest of the original is dropped when it arrives."""
        raise NotImplementedError

    def on_copies_sent(self, failure: Failure | None) -> None:
        """The copies that replace the request were sent; `failure`: no copy had a host."""
        raise NotImplementedError

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx response arrived."""
        raise NotImplementedError

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """The response's head arrived, and the request is not retried."""
        raise NotImplementedError

    def on_response_data(self, data: bytes, end: bool) -> None:
        """A chunk of the response's body arrived."""
        raise NotImplementedError

    def on_response_trailers(self, trailers: Headers) -> None:
        """The response's trailers arrived; they end it."""
        raise NotImplementedError

    # ---- what every part uses

    def set_alarm(self, seconds: float) -> None:
        """Sets the alarm of the exchange: in `seconds`, or at its deadline if that is earlier."""
        deadline = self.deadline
        if deadline < NEVER:
            seconds = min(seconds, max(deadline - self.runtime.clock.now, 0.0))
        self.runtime.wheel.set(self, seconds)

    def held_request(self) -> BodyFlow:
        """The flow that holds the request's body; created when it is first needed."""
        flow = self.request_flow
        if flow is None:
            flow = BodyFlow(self.sender)
            flow.hold(self.exchange.request.held_body(), self.request_ended)
            self.request_flow = flow
        return flow

    def send_head(self, head: ResponseHead, data: bytes, end: bool, trailers: Headers | None) -> None:
        """Sends the response's head with the first bytes of its body; `end`: nothing but `trailers` follows."""
        self.stage = RESPONDING
        self.exchange.bytes_sent += len(data)
        if self.runtime.overload.level != NORMAL:
            self.sender.end_connection()
        self.sender.send_response(head, data, end and trailers is None)
        if trailers is not None:
            self.sender.send_trailers(trailers)
        if end:
            self.finish()
        else:
            self.set_alarm(self.idle_timeout)

    def send_chunk(self, data: bytes, end: bool) -> None:
        """Sends the next chunk of the response's body."""
        self.exchange.bytes_sent += len(data)
        self.sender.send_data(data, end)
        if end:
            self.finish()
        else:
            self.set_alarm(self.idle_timeout)
