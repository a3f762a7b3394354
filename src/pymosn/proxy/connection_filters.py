"""The connection filters of a chain: their attributes, which are read once, and reports of their errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final

from mypy_extensions import i64

from pymosn.api.connection_filter import ConnectionFilter, SharedState
from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.network import Connection, FilterChainFactory
from pymosn.core.counters import Counter, DownstreamStats, Metrics
from pymosn.core.errors import type_name
from pymosn.core.failure import CLOSED_BY_PEER, CLOSED_LOCALLY, Failure
from pymosn.core.plain import plain_text
from pymosn.core.stamps import Stamps
from pymosn.proxy.filter_code import FilterClassError, FilterCode, check_names, check_signature, timeout_of, yields

#: The methods, with the arguments of their calls.
_METHODS: Final[dict[str, tuple[str, ...]]] = {
    "on_connection": ("connection",),
    "on_data": ("data",),
    "on_write": ("data",),
    "on_eof": (),
    "on_write_eof": (),
    "on_writable": ("writable",),
    "on_idle": (),
    "on_drain": (),
    "on_close": ("failure",),
}


class ConnectionFilterHandle(FilterCode):
    """A configured connection filter in one worker: its class, its shared state, its counters."""

    def __init__(self, name: str, kind: type[ConnectionFilter], shared: SharedState, metrics: Metrics) -> None:
        """Raises FilterClassError for invalid attributes or methods of the class, and whatever they raise themselves."""
        super().__init__(name, plain_text(vars(kind)["__module__"]), metrics)
        self.kind = kind
        #: The object with `start` and `stop`.
        self.filter = shared
        self.timeout: float = timeout_of(getattr(kind, "timeout"))  # noqa: B009 - of a subclass, of any type
        _check_methods(kind)
        _check_reopen(shared)
        #: The methods that it overrides: only these are called.
        self.sees_connection: bool = _overrides(kind, "on_connection")
        self.sees_data: bool = _overrides(kind, "on_data")
        self.sees_writes: bool = _overrides(kind, "on_write")
        self.sees_write_eof: bool = _overrides(kind, "on_write_eof")
        #: Open connections with an object of it: in the counters, together with filters of the same name; and its own.
        self.connections: Counter = self.group.gauge("connections")
        self.in_use: i64 = 0
        #: Called when its last connection has ended; None for nothing.
        self.on_unused: Callable[[], None] | None = None

    def count_connection(self, difference: i64) -> None:
        """Counts one more connection, or one less."""
        self.connections.value += difference
        self.in_use += difference
        if self.in_use == 0 and self.on_unused is not None:
            self.on_unused()


def _overrides(kind: type[ConnectionFilter], method: str) -> bool:
    return getattr(kind, method) is not getattr(ConnectionFilter, method)


def _check_methods(kind: type[ConnectionFilter]) -> None:
    """Raises FilterClassError for methods with an invalid signature, and for names close to those of methods."""
    for method, arguments in _METHODS.items():
        called = getattr(kind, method)
        if not _overrides(kind, method):
            continue
        if yields(called):
            raise FilterClassError(f"{method} must not yield")
        if method != "on_connection" and inspect.iscoroutinefunction(called):
            raise FilterClassError(f"{method} must be a plain method, not async")
        check_signature(method, called, arguments, before=("self",))
    check_names(kind, ConnectionFilter, _METHODS, "method")


def _check_reopen(shared: SharedState) -> None:
    if inspect.iscoroutinefunction(getattr(shared, "on_reopen")):  # noqa: B009 - of a subclass
        raise FilterClassError(f"on_reopen of {type_name(shared)} must be a plain method, not async")


class ConnectionFilters:
    """The connection filters of one chain."""

    def __init__(self, handles: list[ConnectionFilterHandle]) -> None:
        self.all = handles
        writers = [i for i, handle in enumerate(handles) if handle.sees_writes]
        #: The index of the first one that sees what is written for the client.
        self.first_writer: i64 = writers[0] if writers else len(handles)


class FilteredChain:
    """A filter chain that begins with connection filters."""

    def __init__(
        self,
        filters: ConnectionFilters,
        inner: FilterChainFactory | None,
        stats: DownstreamStats,
        access_logs: list[AccessLog],
        idle_timeout: float,
    ) -> None:
        """`inner`: makes the filters after them. None if there are none: then the rest applies to the connections.

        `access_logs`: get one line per connection. `idle_timeout`: seconds without a byte in either direction, 0 for none.
        """
        self.filters = filters
        self.inner = inner
        self.stats = stats
        self.access_logs = access_logs
        self.idle_timeout = idle_timeout
        #: The worker's, for its access logs.
        self.stamps: Stamps | None = None

    def refuse(self, connection: Connection, failure: Failure) -> None:
        """Counts and logs a connection that ends before all filters know it."""
        self.stats.connection_refused.value += 1
        self.stats.count_reason(failure.reason)
        if self.inner is not None:
            self.inner.on_refused(connection, failure)
        else:
            self._log(self._session(connection), connection, failure)

    def begin(self, connection: Connection) -> Exchange:
        """Counts a connection without other filters. For the access log it is one exchange."""
        self.stats.tcp_total.value += 1
        self.stats.tcp_active.value += 1
        return self._session(connection)

    def end(self, session: Exchange, connection: Connection, failure: Failure) -> None:
        """The connection has ended."""
        self.stats.tcp_active.value -= 1
        is_regular = failure is CLOSED_LOCALLY or failure is CLOSED_BY_PEER
        if not is_regular:
            self.stats.count_reason(failure.reason)
        self._log(session, connection, None if is_regular else failure)

    def _log(self, session: Exchange, connection: Connection, failure: Failure | None) -> None:
        session.failure = failure
        session.finished = connection.now() if self.stamps is None else self.stamps.now()
        session.bytes_received = connection.bytes_read
        session.bytes_sent = connection.bytes_written
        for access_log in self.access_logs:
            access_log.log(session)

    def _session(self, connection: Connection) -> Exchange:
        session = Exchange(connection)
        session.stamps = self.stamps
        session.protocol = "tcp"
        session.started = connection.now()
        return session
