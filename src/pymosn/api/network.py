"""LAYER 1: sockets <-> bytes. What a connection offers, and what a network filter may implement."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.counters import Counter
from pymosn.core.failure import Failure
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.timers import Alarm

#: Answers of `NetworkFilter.on_data`: give the same bytes to the next filter, or do not.
CONTINUE: Final = True
STOP: Final = False

#: Seconds that an idle connection stays open when its worker drains, for a request that is already on its way.
DRAIN_GRACE: Final = 1.0


def join_address(ip: str, port: i64) -> str:
    """`ip:port`, with an IPv6 address in brackets; `unix` for an end of a unix socket, which has neither."""
    if not ip:
        return "unix"
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(Alarm):
    """One open connection, downstream or upstream.

    All calls are synchronous and none raises: after a close, writes are dropped and `is_closed` says so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.id: i64 = 0
        #: Empty, with port 0, on a unix socket.
        self.remote_ip: str = ""
        self.remote_port: i64 = 0
        self.local_ip: str = ""
        self.local_port: i64 = 0
        #: Where a redirected client wanted to go, `ip:port`; only on listeners with `use_original_dst`.
        self.original_destination: str = ""
        self.is_closed: bool = False
        #: Bytes since the connection was opened, and how many of them have been added to somebody's counters.
        self.bytes_read: i64 = 0
        self.bytes_written: i64 = 0
        self._counted_read: i64 = 0
        self._counted_written: i64 = 0

    def count_into(self, read: Counter, written: Counter) -> None:
        """Adds the bytes that no counter has yet."""
        read.value += self.bytes_read - self._counted_read
        written.value += self.bytes_written - self._counted_written
        self._counted_read = self.bytes_read
        self._counted_written = self.bytes_written

    def write(self, data: bytes) -> None:
        """Sends `data`, buffering what the socket does not take."""
        raise NotImplementedError

    def write_parts(self, parts: list[bytes]) -> None:
        """Sends `parts` one after the other, in one system call where that fits."""
        raise NotImplementedError

    def now(self) -> float:
        """The time of the present event, as `Clock.now`."""
        raise NotImplementedError

    def batch_writer(self) -> FrameWriter:
        """Where to write what is to be sent before the event loop goes on, together with what others write there.

        For connections that many write to; these write nothing in another way. To be asked for anew for each frame.
        """
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Stops reading. Counted: two pauses need two resumes."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Takes back one pause."""
        raise NotImplementedError

    def yield_reading(self) -> None:
        """Reads nothing more before the event loop has seen to other connections: for a peer that sent much at once."""
        raise NotImplementedError

    def set_buffer_limit(self, limit: i64) -> None:
        """Above `limit` unsent bytes the connection says that it is not writable."""
        raise NotImplementedError

    def set_idle(self, seconds: float) -> None:
        """Calls the filters' `on_idle` after that time unless set anew; 0 is never."""
        raise NotImplementedError

    def write_eof(self) -> None:
        """Sends what is buffered and a FIN; the peer may go on sending. Nothing may be written afterwards."""
        raise NotImplementedError

    def close(self, failure: Failure) -> None:
        """Closes after what is buffered has been sent."""
        raise NotImplementedError

    def close_lingering(self, failure: Failure) -> None:
        """Closes after a reply while the peer may still be sending.

        Sends what is buffered and a FIN, then reads and forgets for a short bounded time, so that a reset does not destroy
        the reply on its way (RFC 9112 section 9.6).
        """
        raise NotImplementedError

    def abort(self, failure: Failure) -> None:
        """Closes at once with a reset, dropping what is buffered."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class NetworkFilter:
    """Sees the bytes of one connection. One object per connection; calls come in the order of the chain."""

    def on_connection(self, connection: Connection) -> None:
        """The connection is open."""

    def on_data(self, data: bytes) -> bool:
        """Bytes were read. CONTINUE hands them to the next filter, STOP keeps them here."""
        return CONTINUE

    def on_eof(self) -> None:
        """The peer will send no more; it may still read."""

    def on_writable(self, writable: bool) -> None:
        """False: what is buffered for the peer passed the high-water mark, send no more for now. True: it drained."""

    def on_idle(self) -> None:
        """The time of `Connection.set_idle` passed."""

    def on_drain(self) -> None:
        """The worker is about to stop: end the connection at the next good moment."""

    def on_close(self, failure: Failure) -> None:
        """The connection is gone; `failure` says why."""


@mypyc_attr(allow_interpreted_subclasses=True)
class NetworkFilterFactory:
    """Makes the network filter that takes a connection over from another one, such as `tcp_proxy` from `proxy`.

    The new filter hears `on_connection`, then all bytes that came before as one `on_data`, and everything from then on.
    """

    def create(self) -> NetworkFilter:
        """A filter for one connection."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class FilterChainFactory:
    """Makes the network filters of each accepted connection."""

    def create(self) -> list[NetworkFilter]:
        """The filters of one new connection, in order."""
        raise NotImplementedError

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        """A connection was refused and its filters never heard of it: the place to log that."""


@mypyc_attr(allow_interpreted_subclasses=True)
class DialReceiver:
    """Who asked for an outgoing connection."""

    def on_dialed(self, connection: Connection) -> None:
        """The connection is open."""
        raise NotImplementedError

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        """It could not be opened; `detail` is the system's own word."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Dialer:
    """Opens outgoing connections."""

    def dial(self, address: str, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver) -> None:
        """Connects to `address` ("ip:port", "[v6]:port", "name:port", "unix:/path") within `timeout` seconds.

        `network_filter` becomes the one filter of the connection. Exactly one method of `receiver` is called, later.
        """
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ListenerFilter:
    """Looks at a connection before its filter chain is chosen (original destination, TLS inspection)."""

    def on_accept(self, connection: Connection) -> bool:
        """CONTINUE to go on, STOP when the filter took the connection over."""
        return CONTINUE
