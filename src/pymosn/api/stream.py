"""LAYER 3: frames <-> streams. One request and its response, independent of the protocol.

A *sender* accepts outgoing data; a *receiver* is called with incoming data. The server half of a connection passes each new
request to a `RequestReceiver` and gives it a `ResponseSender`; the client half does the reverse.
"""

from __future__ import annotations

from collections.abc import Mapping

from mypy_extensions import i64, mypyc_attr

from pymosn.api.alpn import AlpnOffers
from pymosn.api.network import Connection, Dialer, NetworkFilter, Peer
from pymosn.api.protocol import ProtocolSpec
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.core.overload import OverloadState
from pymosn.core.timers import Alarm, TimerWheel


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamReceiver(Alarm):
    """Receives one direction of a stream; these methods do nothing by default. None is called after `end` or a reset.

    A response with a `raw_tunnel` opens both directions again: `on_data` then delivers what comes through the tunnel, and
    `end` means that this side sends no more while it may still read. An `Alarm`, so that a deadline needs no extra object.
    """

    def on_data(self, data: bytes, end: bool) -> None:
        """The next bytes of the body; `end` when they are the last."""

    def on_trailers(self, trailers: Headers) -> None:
        """The trailers; they end the message."""

    def on_reset(self, failure: Failure) -> None:
        """The stream was reset."""

    def on_writable(self, writable: bool) -> None:
        """Back-pressure for the other direction: False asks to stop sending for now, True allows it again."""


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestReceiver(StreamReceiver):
    """Receives a request: the proxy's exchange."""

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        """The head, with the part of the body that arrived together with it."""

    def on_refused(self, head: RequestHead, failure: Failure) -> None:
        """The request is malformed or not allowed. `head` holds what was understood; the connection will be closed."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseReceiver(StreamReceiver):
    """Receives a response: the proxy's attempt."""

    def on_sender(self, sender: RequestSender) -> None:
        """The pool has a stream: send the request to it."""

    def on_no_sender(self, failure: Failure) -> None:
        """The pool has no stream: overflow, or the dial failed."""

    def client_connection(self) -> Connection | None:
        """The connection of the client for which the request is made; None for a request of the proxy itself."""
        return None

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx response; the final one follows."""

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """The final head, with the part of the body that arrived together with it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamSender:
    """Accepts one direction of a stream; never raises. Anything sent after an `end` or a reset is dropped.

    In a tunnel, `send_data` sends bytes unchanged, and `end` closes this direction only.
    """

    def send_data(self, data: bytes, end: bool) -> None:
        """Sends the next bytes of the body."""
        raise NotImplementedError

    def send_trailers(self, trailers: Headers) -> None:
        """Sends the trailers, which end the message; a protocol without trailers sends only the end."""
        self.send_data(b"", True)

    def pause(self) -> None:
        """Stops reading the other direction of this stream, if the protocol can do that per stream. Counted."""

    def resume(self) -> None:
        """Reverts one pause."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseSender(StreamSender):
    """Sends the response to one request."""

    def connection(self) -> Connection:
        """The downstream connection."""
        raise NotImplementedError

    def stream_number(self) -> i64:
        """The number that the protocol gives the request, not unique among connections; -1 without one."""
        return -1

    def send_informational(self, head: ResponseHead) -> None:
        """Sends a 1xx response, if the protocol and the client support them."""

    def takes_body(self, head: ResponseHead) -> bool:
        """Whether a response with `head` to the client's request has a body, even an empty one.

        Filters may have changed the request: `RequestHead.has_response_body` is about the one that the upstream gets.
        """
        return True

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """Sends the final head and the first bytes of the body."""
        raise NotImplementedError

    def end_connection(self) -> None:
        """Asks that the connection ends after this response, if the protocol can express that. Before `send_response`."""

    def reset(self, failure: Failure) -> None:
        """Aborts the response so that the client can detect the truncation."""
        raise NotImplementedError

    def release(self) -> None:
        """The exchange is over: the sender drops its receiver, and the next request may begin."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestSender(StreamSender):
    """Sends one request."""

    def connection(self) -> Connection:
        """The upstream connection."""
        raise NotImplementedError

    def protocol(self) -> str:
        """The name of the protocol that is really spoken; empty if the pool was asked for it by name and has no other."""
        return ""

    def is_reused(self) -> bool:
        """Whether the connection was used before and nothing has arrived for this request: the host may have closed it."""
        raise NotImplementedError

    def may_be_refused(self) -> bool:
        """Whether the host may say that it has not processed the request, so that any request may be sent again."""
        return False

    def outlives_reset(self) -> bool:
        """After a reset: whether only this request was reset, and its connection continues."""
        return False

    def instead(self) -> str:
        """After a failure: the protocol in which the host demands this request; empty if it is no matter of the protocol."""
        return ""

    def fault(self) -> str:
        """After the failure BAD_RESPONSE: the rule of the protocol that the host has broken, in words; else empty."""
        return ""

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        """Sends the head and the first bytes of the body."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Cancels the request; the response is no longer needed."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ServerStreams(NetworkFilter):
    """The server half of one downstream connection: makes streams of its bytes."""


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamHandler:
    """Handles the requests of a downstream connection: the proxy."""

    def new_stream(self, sender: ResponseSender) -> RequestReceiver:
        """A request begins; its response goes to `sender`."""
        raise NotImplementedError

    def on_unexpected_message(self, failure: Failure) -> None:
        """An unexpected message was received and discarded."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionPool:
    """The connections of one worker to one host for one protocol."""

    #: What they offer by ALPN in TLS, for `PoolTarget.peer_for`; empty for what the cluster and the protocol offer.
    offer: tuple[str, ...] = ()

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        """Requests a stream: calls `on_sender` or `on_no_sender`, at once or later.

        `fresh`: on a new connection; pools of shared connections ignore it.
        """
        raise NotImplementedError

    def withdraw(self, receiver: ResponseReceiver) -> None:
        """`receiver` no longer needs its stream; does nothing when it is not waiting."""
        raise NotImplementedError

    def adopt(self, connection: Connection, data: bytes) -> None:
        """Takes over an open connection, for which the caller has a permit of `PoolTarget.try_connection`.

        `data`: what has arrived on it.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Closes idle connections now, and the others as soon as they are idle."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True, acyclic=True)
class PoolTarget:
    """The pool's view of its host: connection settings, and callbacks for accounting.

    Hosts are not traversed by the garbage collector, which would block a worker that has tens of thousands of them.
    """

    def __init__(self, peer: Peer, connect_timeout: float, idle_timeout: float, max_connections: i64) -> None:
        """Times in seconds; 0 for `idle_timeout` means no timeout, for `max_connections` that it is not configured."""
        self.peer = peer
        self.address = peer.address
        self.connect_timeout = connect_timeout
        self.idle_timeout = idle_timeout
        self.max_connections: i64 = max_connections
        #: Requests after which a connection is closed, and the high-water mark of its send buffer; with 0 the pool decides.
        self.max_requests_per_connection: i64 = 0
        self.buffer_limit: i64 = 0
        #: The version of the PROXY protocol, `v1` or `v2`, by which the host learns the client of each connection; empty
        #: without it. Then no connection may carry requests of different clients.
        self.proxy_protocol: str = ""
        #: Heartbeat interval and response timeout of a shared connection, in seconds; and the number of unanswered
        #: heartbeats in a row after which it is closed, 0 for any number.
        self.heartbeat_interval: float = 15.0
        self.heartbeat_timeout: float = 1.0
        self.heartbeat_failures: i64 = 6
        #: The interval of probes by a protocol whose peers do not expect any (HTTP/2); 0 for none.
        self.ping_interval: float = 0.0
        #: Seconds after which a connection gets no further request, give or take a tenth; 0 for no limit.
        self.max_connection_age: float = 0.0
        #: Bytes that the host may send ahead, on one stream and on a connection, by a protocol with such windows; with 0 the
        #: pool decides.
        self.stream_window: i64 = 0
        self.connection_window: i64 = 0
        #: Whether harmless faults of responses are not tolerated (HTTP/1).
        self.is_strict: bool = True
        #: Bytes of a frame of a multiplexed RPC protocol that the host may send; 0 for the default.
        self.max_frame_size: i64 = 0

    def peer_for(self, alpn: str, needs_alpn: bool, offer: tuple[str, ...] = ()) -> Peer:
        """How to dial for a protocol with this ALPN identifier.

        `needs_alpn`: in TLS the protocol is not spoken without ALPN, and its pool knows what to do if the host selects
        another one. Else only this protocol is offered, or none. `offer`: that of the pool; if not empty, exactly these
        names are offered.
        """
        return self.peer

    def pool(self, protocol: str, offers: AlpnOffers | None = None) -> ConnectionPool:
        """The pool for that protocol, or for the one that is spoken instead. Raises KeyError for an unknown protocol.

        `offers`: those of the listener's proxy, if it has any; connections with different offers are in different pools.
        """
        raise NotImplementedError

    def speak_instead(self, refused: str, spoken: str) -> None:
        """The host has been found not to speak the protocol `refused`: its requests use `spoken` from now on."""

    def try_connection(self) -> bool:
        """Takes one of the cluster's permits for connections; False when none is left."""
        raise NotImplementedError

    def is_full(self) -> bool:
        """Whether the cluster has as many connections as it may have."""
        raise NotImplementedError

    def on_connection(self) -> None:
        """A connection was opened."""
        raise NotImplementedError

    def on_connection_end(self, opened: bool) -> None:
        """Returns a permit of `try_connection`. `opened`: whether the connection ever was open."""
        raise NotImplementedError

    def note_close(self, is_remote: bool, has_request: bool) -> None:
        """A connection that was open ends. `is_remote`: the host did it; `has_request`: before a response was complete."""

    def note_farewell(self) -> None:
        """The host has announced the end of a connection: by `Connection: close`, or a GOAWAY."""

    def on_unexpected_message(self) -> None:
        """A message that answers no pending request was received and discarded."""


class ListenerFacts:
    """What a listener and its worker contribute to the options of every protocol."""

    def __init__(self, *, idle_timeout: float, overload: OverloadState) -> None:
        """`idle_timeout`: of the listener's connections, in seconds; 0 means none. `overload`: the worker's."""
        self.idle_timeout = idle_timeout
        self.overload = overload


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamProtocol:
    """One protocol's part in layer 3. A new protocol is one of these, registered by name."""

    def __init__(self, spec: ProtocolSpec) -> None:
        self.spec = spec

    def options(self, settings: Mapping[str, object], facts: ListenerFacts) -> object:
        """The options for `server`, of `extend_config.<protocol>` and the listener. Raises ValueError naming the key."""
        raise NotImplementedError

    def server(self, handler: StreamHandler, options: object) -> ServerStreams:
        """The server half for one downstream connection; `options` is a result of the method `options`."""
        raise NotImplementedError

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        """A pool of connections to one host."""
        raise NotImplementedError
