"""The options of one `tcp_proxy`."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.exchange import AccessLog
from pymosn.api.network import Connection
from pymosn.core.counters import DownstreamStats
from pymosn.routing.by_address import AddressRoute, destination_of


class TcpOptions:
    """The options of one listener's `tcp_proxy`. Immutable, shared by its connections."""

    def __init__(
        self,
        *,
        listener_name: str,
        cluster: str,
        routes: list[AddressRoute],
        stats: DownstreamStats,
        access_logs: list[AccessLog],
        idle_timeout: float,
        connect_attempts: i64,
    ) -> None:
        """`cluster`: for all connections; if it is empty, the first matching one of `routes` decides.

        `idle_timeout`: seconds without a byte from either side; 0 means none. `connect_attempts`: 0 means one per host and
        at most three, as in MOSN.
        """
        self.listener_name = listener_name
        self.cluster = cluster
        self.routes = routes
        self.stats = stats
        self.access_logs = access_logs
        self.idle_timeout = idle_timeout
        self.connect_attempts: i64 = connect_attempts

    def cluster_for(self, connection: Connection) -> str:
        """The cluster for a connection; empty if no route matches."""
        if self.cluster:
            return self.cluster
        source = (connection.remote_ip, int(connection.remote_port))
        target = destination_of(connection.original_destination, connection.local_ip, int(connection.local_port))
        for route in self.routes:
            if route.matches(source, target):
                return route.cluster
        return ""
