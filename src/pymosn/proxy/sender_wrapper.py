"""A wrapper around the upstream's sender: mirroring, transcoding and tunnels change what is sent, unseen by the exchange."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from pymosn.api.network import Connection
from pymosn.api.stream import RequestSender
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead


@mypyc_attr(allow_interpreted_subclasses=True)
class SenderWrapper(RequestSender):
    """Forwards all calls to the wrapped sender; subclasses override what they change."""

    def __init__(self) -> None:
        #: The upstream's sender; None if the wrapper replaces it.
        self.wrapped: RequestSender | None = None
        #: Whether the senders of further attempts are wrapped, too.
        self.wraps_retries = False

    def wrap(self, sender: RequestSender) -> RequestSender:
        """The sender to use instead of `sender`."""
        self.wrapped = sender
        return self

    def sent_headers(self, request: RequestHead) -> Headers:
        """The headers that the upstream gets for `request`, which may still be changed."""
        return request.headers

    def abandon(self) -> None:
        """The exchange has ended."""

    def connection(self) -> Connection:
        assert self.wrapped is not None
        return self.wrapped.connection()

    def protocol(self) -> str:
        return "" if self.wrapped is None else self.wrapped.protocol()

    def is_reused(self) -> bool:
        return self.wrapped is not None and self.wrapped.is_reused()

    def may_be_refused(self) -> bool:
        return self.wrapped is not None and self.wrapped.may_be_refused()

    def instead(self) -> str:
        return "" if self.wrapped is None else self.wrapped.instead()

    def fault(self) -> str:
        return "" if self.wrapped is None else self.wrapped.fault()

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        if self.wrapped is not None:
            self.wrapped.send_request(head, data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        if self.wrapped is not None:
            self.wrapped.send_data(data, end)

    def send_trailers(self, trailers: Headers) -> None:
        if self.wrapped is not None:
            self.wrapped.send_trailers(trailers)

    def pause(self) -> None:
        if self.wrapped is not None:
            self.wrapped.pause()

    def resume(self) -> None:
        if self.wrapped is not None:
            self.wrapped.resume()

    def cancel(self) -> None:
        if self.wrapped is not None:
            self.wrapped.cancel()
