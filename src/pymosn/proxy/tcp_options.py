"""What one `tcp_proxy` was configured to do."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.exchange import AccessLog
from pymosn.api.network import Connection
from pymosn.core.counters import DownstreamStats
from pymosn.routing.by_address import AddressRoute, destination_of


class TcpOptions:
    """Of one listener; shared by its connections, immutable."""

    def __init__(
        self,
        listener_name: str,
        cluster: str,
        routes: list[AddressRoute],
        stats: DownstreamStats,
        access_logs: list[AccessLog],
        idle_timeout: float = 90.0,
        connect_attempts: i64 = 0,
    ) -> None:
        """`cluster`: for all connections, or empty: then `routes` decide, the first that matches.

        `idle_timeout`: seconds without a byte from either side; 0 is never. `connect_attempts`: 0 is one for each host and
        three at most, as in MOSN.
        """
        self.listener_name = listener_name
        self.cluster = cluster
        self.routes = routes
        self.stats = stats
        self.access_logs = access_logs
        self.idle_timeout = idle_timeout
        self.connect_attempts: i64 = connect_attempts

    def cluster_for(self, connection: Connection) -> str:
        """The cluster that takes a connection; empty when no route does."""
        if self.cluster:
            return self.cluster
        source = (connection.remote_ip, int(connection.remote_port))
        target = destination_of(connection.original_destination, connection.local_ip, int(connection.local_port))
        for route in self.routes:
            if route.matches(source, target):
                return route.cluster
        return ""
