"""LAYER 3: frames <-> streams. One request and its reply, whatever the protocol underneath.

A *sender* is the half one writes to, a *receiver* the half that hears. The server half of a connection hands each new
request to a `RequestReceiver` and gives it a `ResponseSender`; the client half does the reverse.
"""

from __future__ import annotations

from collections.abc import Mapping

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import Connection, Dialer, NetworkFilter
from pymosn.api.protocol import ProtocolSpec
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.core.timers import Alarm, TimerWheel


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamReceiver(Alarm):
    """Hears one direction of a stream. Nothing is called after an `end` or a reset.

    A reply with a `raw_tunnel` opens both directions anew: `on_data` brings what comes through the tunnel, and `end` says
    that this side sends no more while it may still read.

    It is an alarm because whoever waits for a message has a deadline for it.
    """

    def on_data(self, data: bytes, end: bool) -> None:
        """The next bytes of the body; `end` when they are the last."""
        raise NotImplementedError

    def on_trailers(self, trailers: Headers) -> None:
        """The trailers; they end the message."""
        raise NotImplementedError

    def on_reset(self, failure: Failure) -> None:
        """The stream broke off."""
        raise NotImplementedError

    def on_writable(self, writable: bool) -> None:
        """Back-pressure for the other direction: False asks to send no more for now, True allows it again."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestReceiver(StreamReceiver):
    """Hears a request: the proxy's exchange."""

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        """The head, with as much of the body as came with it."""
        raise NotImplementedError

    def on_refused(self, head: RequestHead, failure: Failure) -> None:
        """What came is no acceptable request. `head` holds as much as was understood; the connection will be closed."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseReceiver(StreamReceiver):
    """Hears a reply: the proxy's attempt."""

    def on_sender(self, sender: RequestSender) -> None:
        """The pool has a stream: send the request to it."""
        raise NotImplementedError

    def on_no_sender(self, failure: Failure) -> None:
        """The pool has none: overflow, or the dial failed."""
        raise NotImplementedError

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx reply; the final one follows."""
        raise NotImplementedError

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """The final head, with as much of the body as came with it."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamSender:
    """Takes one direction of a stream; never raises. What is sent after an `end` or a reset is dropped.

    In a tunnel, `send_data` sends bytes as they are, and `end` closes this direction only.
    """

    def send_data(self, data: bytes, end: bool) -> None:
        """Sends the next bytes of the body."""
        raise NotImplementedError

    def send_trailers(self, trailers: Headers) -> None:
        """Sends the trailers, which end the message."""
        raise NotImplementedError

    def pause(self) -> None:
        """Stops reading what the other direction of this stream brings. Counted."""
        raise NotImplementedError

    def resume(self) -> None:
        """Takes back one pause."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseSender(StreamSender):
    """Where the reply to one request goes."""

    def connection(self) -> Connection:
        """The downstream connection."""
        raise NotImplementedError

    def send_informational(self, head: ResponseHead) -> None:
        """Sends a 1xx reply, where the protocol and the client know them."""
        raise NotImplementedError

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """Sends the final head and the first bytes of the body."""
        raise NotImplementedError

    def end_connection(self) -> None:
        """Asks that the connection ends after this reply, where the protocol can say so. Before `send_response`."""

    def reset(self, failure: Failure) -> None:
        """Breaks the reply off so that the client can see that it is not whole."""
        raise NotImplementedError

    def release(self) -> None:
        """The exchange is over: the reply has ended or was reset. The sender forgets it and goes on to the next."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestSender(StreamSender):
    """Where one request goes."""

    def connection(self) -> Connection:
        """The upstream connection."""
        raise NotImplementedError

    def is_reused(self) -> bool:
        """Whether the connection served a request before and nothing came for this one: it may have been closed under us."""
        raise NotImplementedError

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        """Sends the head and the first bytes of the body."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody waits for the reply any more."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ServerStreams(NetworkFilter):
    """The server half of one downstream connection: makes streams of its bytes."""


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamHandler:
    """Who wants to hear of new requests on a downstream connection: the proxy."""

    def new_stream(self, sender: ResponseSender) -> RequestReceiver:
        """A request begins; its reply goes to `sender`."""
        raise NotImplementedError

    def on_unexpected_message(self, failure: Failure) -> None:
        """Something came that belongs to no request, and was dropped."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionPool:
    """The connections of one worker to one host for one protocol."""

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        """Asks for a stream; `fresh`: on a connection that has served nobody yet.

        `on_sender` or `on_no_sender` of `receiver` is called, at once or later.
        """
        raise NotImplementedError

    def withdraw(self, receiver: ResponseReceiver) -> None:
        """`receiver` does not want its stream any more; does nothing when it is not waiting."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes what is idle and, as it becomes free, what is in use."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class PoolTarget:
    """What a pool needs to know of the host it connects to, and whom it tells."""

    def __init__(self, address: str, connect_timeout: float, idle_timeout: float, max_connections: i64) -> None:
        """Times in seconds; an `idle_timeout` or `max_connections` of 0 is no limit."""
        self.address = address
        self.connect_timeout = connect_timeout
        self.idle_timeout = idle_timeout
        self.max_connections: i64 = max_connections
        #: Requests after which a connection is closed, and bytes that it may hold unsent; 0 is the pool's own choice.
        self.max_requests_per_connection: i64 = 0
        self.buffer_limit: i64 = 0
        #: Seconds of silence after which a multiplexed connection is asked whether it lives, and for any byte in return;
        #: and how many such questions in a row may stay without one before it is closed, 0 for any number.
        self.heartbeat_interval: float = 15.0
        self.heartbeat_timeout: float = 1.0
        self.heartbeat_failures: i64 = 6

    def try_connection(self) -> bool:
        """Takes one of the connections that the cluster allows; False when there is none left."""
        raise NotImplementedError

    def on_connection(self) -> None:
        """A connection was opened."""
        raise NotImplementedError

    def on_connection_end(self, opened: bool) -> None:
        """One that `try_connection` gave is gone. `opened`: whether it ever was open."""
        raise NotImplementedError

    def on_unexpected_message(self) -> None:
        """A message came that answers no request that still waits, and was dropped."""


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamProtocol:
    """One protocol's part in layer 3. A new protocol is one of these, registered by name."""

    def __init__(self, spec: ProtocolSpec) -> None:
        self.spec = spec

    def options(self, settings: Mapping[str, object], idle_timeout: float) -> object:
        """What `server` takes, of `extend_config.<protocol>` and the listener's idle time in seconds (0 is never).

        Raises ValueError for settings that cannot be; the text names the key.
        """
        raise NotImplementedError

    def server(self, listener: StreamHandler, options: object) -> ServerStreams:
        """The server half for one downstream connection; `options` is what `options` (for HTTP/1: `config`) made."""
        raise NotImplementedError

    def pool(self, upstream: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        """A pool of connections to one host."""
        raise NotImplementedError
