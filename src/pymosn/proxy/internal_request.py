"""Requests of the proxy itself, outside of exchanges: subrequests of filters and mirrored requests."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.stream import RequestSender
from pymosn.core.failure import UPSTREAM_TIMEOUT, Failure
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.upstream_request import UpstreamRequest
from pymosn.upstream.cluster_host import ClusterHost


class InternalRequest(UpstreamRequest):
    """One request to one host, which ends once: with a complete response or a failure. Its alarm is its timeout."""

    def __init__(self, host: ClusterHost, runtime: Runtime) -> None:
        super().__init__(host, runtime.wheel)
        self._is_over = False

    # ---- for subclasses

    def send(self, sender: RequestSender) -> None:
        """Sends the request on its stream."""
        raise NotImplementedError

    def on_head(self, head: ResponseHead) -> None:
        """The head of the response was received."""

    def on_piece(self, data: bytes) -> None:
        """A piece of the response's body; this call may end the request."""

    def on_whole(self) -> None:
        """The response is complete; the request has ended."""

    def on_failed(self, failure: Failure) -> None:
        """The request has ended without a complete response."""
        raise NotImplementedError

    # ---- ending

    def _end(self, status: i64) -> None:
        """Called exactly once."""
        self._is_over = True
        self._wheel.clear(self)
        self._count_end(status)

    def _fail(self, failure: Failure, verdict: i64) -> None:
        if not self._is_over:
            self._end(verdict)
            self.on_failed(failure)

    def _complete(self) -> None:
        if not self._is_over:
            self._end(i64(self._status))
            self.on_whole()

    # ---- from the wheel, the pool and the stream

    def on_alarm(self) -> None:
        self._count_timeout()
        self._fail(UPSTREAM_TIMEOUT, self._verdict(UPSTREAM_TIMEOUT))
        self._leave_stream()

    def on_sender(self, sender: RequestSender) -> None:
        if self._is_over:
            sender.cancel()
            return
        self.sender = sender
        self.send(sender)

    def on_no_sender(self, failure: Failure) -> None:
        self._fail(failure, self._verdict(failure))

    def on_informational(self, head: ResponseHead) -> None:
        pass

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        self._note_head(head)
        self.on_head(head)
        self.on_data(data, end)

    def on_data(self, data: bytes, end: bool) -> None:
        if data and not self._is_over:
            self.on_piece(data)
        if end:
            self._complete()

    def on_trailers(self, trailers: Headers) -> None:
        self._complete()

    def on_reset(self, failure: Failure) -> None:
        if not self._is_over:
            self._fail(failure, self._count_reset(failure))

    def on_writable(self, writable: bool) -> None:
        pass
