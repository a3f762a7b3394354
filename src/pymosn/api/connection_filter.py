"""The interface of connection filters: network filters in Python, before `proxy` or `tcp_proxy`, or as the server itself.

Bytes of the client pass the filters of a chain in order, each by `on_data`; bytes for the client pass them in reverse, each
by `on_write`. TLS is terminated before the first filter. An object of a filter's class serves one connection; what these
objects share in a worker is one `SharedState`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from pymosn.api.network import CONTINUE, Connection
from pymosn.api.stream_filter import NO_CONTEXT, FilterContext
from pymosn.core.failure import ACCESS_DENIED, CLOSED_LOCALLY, IDLE_TIMEOUT, Failure


@mypyc_attr(allow_interpreted_subclasses=True)
class FilteredConnection(Connection):
    """The client's connection as one filter of its chain sees it. After a close every call is harmless.

    Each filter has its own: what it writes passes the `on_write` of the filters before it, and pauses and the idle timeout
    are its own.
    """

    def pass_on(self, data: bytes) -> None:
        """Passes bytes to the next filter, such as those that `on_data` has held."""
        raise NotImplementedError

    def pass_on_eof(self) -> None:
        """Passes on the end of the client's bytes, which `on_eof` has held."""
        raise NotImplementedError

    def close(self, failure: Failure = CLOSED_LOCALLY) -> None:
        """Closes once everything written is sent."""
        raise NotImplementedError

    def abort(self, failure: Failure = ACCESS_DENIED) -> None:
        """Resets the connection at once. If later filters do not know it yet, it counts as refused with this reason."""
        raise NotImplementedError


#: The value of `ConnectionFilter.connection` before `on_connection`: shared, without effect.
NO_FILTERED_CONNECTION: Final = FilteredConnection()


@mypyc_attr(allow_interpreted_subclasses=True)
class SharedState:
    """What the objects of a connection filter share: one per worker and place in the configuration."""

    def __init__(self, config: Any) -> None:
        """`config`: an instance of the filter's `Config`, else a dict."""
        self.config: Any = config
        self.context: FilterContext = NO_CONTEXT

    async def start(self) -> None:
        """Called before the filter goes live in this worker. Raise to reject the configuration."""

    async def stop(self) -> None:
        """Called when the filter is no longer active and no connection uses it."""

    def on_reopen(self) -> None:
        """Called when log files must be opened again; as `StreamFilter.on_reopen`."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionFilter:
    """Base of connection filters. One object per connection; all methods but `on_connection` are plain ones.

    An exception, or a value that a method must not return, resets the connection with the reason `filter_error`. A
    ContextVar that a method sets is visible in later calls of the filters of the same connection, and nowhere else.
    """

    #: A msgspec.Struct or pydantic model for `config`, as for stream filters; without it `config` is a dict.
    Config: ClassVar[Any] = None
    #: The class of `shared`.
    Shared: ClassVar[type[SharedState]] = SharedState
    #: Seconds that an `async` `on_connection` may take; then the connection is reset. 0 means no limit.
    timeout: ClassVar[float] = 10.0

    def __init__(self, shared: Any) -> None:
        self.shared: Any = shared
        self.connection: FilteredConnection = NO_FILTERED_CONNECTION

    @property
    def config(self) -> Any:
        """The filter's configuration."""
        return self.shared.config

    @property
    def context(self) -> FilterContext:
        """Log, metrics, clusters and tasks of this worker."""
        context: FilterContext = self.shared.context
        return context

    def on_connection(self, connection: FilteredConnection) -> Awaitable[None] | None:
        """The connection is open, after its TLS handshake. `close` or `abort` it to refuse it.

        May be `async def`: meanwhile nothing is read, and later filters do not know the connection yet.
        """
        return None

    def on_data(self, data: bytes) -> bool | bytes:
        """Bytes of the client. CONTINUE passes them on, STOP does not (see `pass_on`), bytes are passed on instead."""
        return CONTINUE

    def on_write(self, data: bytes) -> bytes:
        """Bytes for the client, of later filters. Returns what is sent instead; empty to hold them (see `write`)."""
        return data

    def on_eof(self) -> bool | None:
        """The client will send no more; it may still read. STOP holds this back until `pass_on_eof`.

        After the last filter it closes the connection, if neither `proxy` nor `tcp_proxy` follows.
        """
        return None

    def on_write_eof(self) -> None:
        """Later filters will write no more, and the connection may close now: the last chance to write held bytes."""

    def on_writable(self, writable: bool) -> None:
        """False: the client reads too slowly, stop writing for now. True: go on."""

    def on_idle(self) -> None:
        """The timeout of `connection.set_idle` expired. Closes the connection unless it is overridden."""
        self.connection.close(IDLE_TIMEOUT)

    def on_drain(self) -> None:
        """The worker is about to stop: finish, and close as soon as nothing is in flight."""

    def on_close(self, failure: Failure) -> None:
        """The connection is closed; `failure` is the reason. Called once and last, if `on_connection` was called."""
