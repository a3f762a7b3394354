"""The options of one `tcp_proxy`."""

from __future__ import annotations

import random
from collections.abc import Callable

from mypy_extensions import i64, mypyc_attr

from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.network import Connection
from pymosn.core.counters import DownstreamStats
from pymosn.routing.by_address import AddressRoute, StreamTarget, destination_of


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpObserver:
    """Observes the connections of a `tcp_proxy`, to count them. Its methods must not raise."""

    def on_connected(self, exchange: Exchange) -> None:
        """A host is connected."""
        raise NotImplementedError

    def on_ended(self, exchange: Exchange) -> None:
        """The connection has ended, or was refused; a host may never have been connected."""
        raise NotImplementedError


class TcpOptions:
    """The options of one listener's `tcp_proxy`. Immutable, shared by its connections."""

    def __init__(
        self,
        *,
        listener_name: str,
        target: StreamTarget,
        routes: list[AddressRoute],
        stats: DownstreamStats,
        access_logs: list[AccessLog],
        idle_timeout: float,
        connect_attempts: i64,
        connect_timeout: float = 0.0,
        max_duration: float = 0.0,
        draw: Callable[[], float] = random.random,
        observers: list[TcpObserver] | None = None,
    ) -> None:
        """`target`: of all connections; if it has no cluster, the first matching one of `routes` decides.

        `idle_timeout`: seconds without a byte from either side; 0 means none. `connect_attempts`: 0 means one per host and
        at most three, as in MOSN. `connect_timeout`: seconds for all attempts together; `max_duration`: seconds of a whole
        connection; 0 means no limit. `draw`: a random number from 0 to below 1, for weights.
        """
        self.listener_name = listener_name
        self.target = target
        self.routes = routes
        self.stats = stats
        self.access_logs = access_logs
        self.observers: list[TcpObserver] = [] if observers is None else observers
        self.idle_timeout = idle_timeout
        self.connect_attempts: i64 = connect_attempts
        self.connect_timeout = connect_timeout
        self.max_duration = max_duration
        self._draw = draw

    def note_connected(self, exchange: Exchange) -> None:
        """A host is connected."""
        for observer in self.observers:
            observer.on_connected(exchange)

    def note_end(self, exchange: Exchange) -> None:
        """The connection has ended, or was refused: writes the access logs, and calls the observers."""
        for access_log in self.access_logs:
            access_log.log(exchange)
        for observer in self.observers:
            observer.on_ended(exchange)

    def cluster_for(self, connection: Connection) -> str:
        """The cluster for a connection; empty if no route matches."""
        target = self.target
        if not target.clusters:
            route = self.route_for(connection)
            if route is None:
                return ""
            target = route.target
        return target.choose(self._draw() if len(target.clusters) > 1 else 0.0)

    def route_for(self, connection: Connection) -> AddressRoute | None:
        """The first route that matches a connection."""
        source = (connection.remote_ip, int(connection.remote_port))
        target = destination_of(connection.original_destination, connection.local_ip, int(connection.local_port))
        tls = connection.tls
        name = "" if tls is None else tls.server_name
        for route in self.routes:
            if route.matches(source, target, name):
                return route
        return None
