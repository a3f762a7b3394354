"""What the `proxy` network filter of one listener was configured to do, as run-time objects."""

from __future__ import annotations

from pymosn.api.exchange import AccessLog
from pymosn.api.stream import StreamProtocol
from pymosn.core.counters import DownstreamStats
from pymosn.core.message import ForwardingOptions
from pymosn.proxy.stream_filters import StreamFilters
from pymosn.routing.table import TableSlot


class ProxyOptions:
    """Shared by all connections of a listener; immutable."""

    def __init__(
        self,
        listener_name: str,
        protocols: list[StreamProtocol],
        protocol_options: dict[str, object],
        slot: TableSlot,
        filters: StreamFilters,
        stats: DownstreamStats,
        access_logs: list[AccessLog],
        x_forwarded: bool = True,
        x_request_id: bool = True,
        reason_header: bool = False,
        stream_idle_timeout: float = 300.0,
        idle_timeout: float = 90.0,
        detection_timeout: float = 15.0,
        trusts_peer: bool = False,
        tunnel_idle_timeout: float = 600.0,
        trusted_hops: int = 0,
    ) -> None:
        """`protocols`: in the order in which they are tried; `protocol_options`: by protocol name.

        `idle_timeout`: seconds for the first byte of a connection; `detection_timeout`: from then on until the protocol is
        known; 0 is never. Both only matter with several protocols.

        `stream_idle_timeout`: seconds without a byte either way after which an exchange whose reply has begun is given up.
        `trusts_peer`: whether a client's x-mosn-* fields are passed on.
        `tunnel_idle_timeout`: the same for a tunnel. `trusted_hops`: proxies before us that are believed.
        """
        self.listener_name = listener_name
        self.protocols = protocols
        self.protocol_options = protocol_options
        self.slot = slot
        self.filters = filters
        self.stats = stats
        self.access_logs = access_logs
        self.x_forwarded = x_forwarded
        self.x_request_id = x_request_id
        self.reason_header = reason_header
        self.stream_idle_timeout = stream_idle_timeout
        self.idle_timeout = idle_timeout
        self.detection_timeout = detection_timeout
        self.trusts_peer = trusts_peer
        self.tunnel_idle_timeout = tunnel_idle_timeout
        self.trusted_hops = trusted_hops
        self.forwarding = ForwardingOptions(x_forwarded, x_request_id, trusts_peer, trusted_hops)

    def for_protocol(self, name: str) -> ProxyOptions:
        """The same for the exchanges of one protocol: without the filters that do not want to see them."""
        filters = self.filters.for_protocol(name)
        if filters is self.filters:
            return self
        return ProxyOptions(
            self.listener_name,
            self.protocols,
            self.protocol_options,
            self.slot,
            filters,
            self.stats,
            self.access_logs,
            self.x_forwarded,
            self.x_request_id,
            self.reason_header,
            self.stream_idle_timeout,
            self.idle_timeout,
            self.detection_timeout,
            self.trusts_peer,
            self.tunnel_idle_timeout,
            self.trusted_hops,
        )
