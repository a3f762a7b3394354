"""The options of one listener's `proxy` network filter."""

from __future__ import annotations

from pymosn.api.exchange import AccessLog
from pymosn.api.stream import StreamProtocol
from pymosn.core.counters import DownstreamStats
from pymosn.core.message import ForwardingOptions
from pymosn.proxy.stream_filters import StreamFilters
from pymosn.routing.table import TableSlot


class ProxyOptions:
    """The options of a listener. Immutable once made, shared by all its connections."""

    def __init__(
        self,
        *,
        listener_name: str,
        protocols: list[StreamProtocol],
        protocol_options: dict[str, object],
        slot: TableSlot,
        filters: StreamFilters,
        stats: DownstreamStats,
        access_logs: list[AccessLog],
        x_forwarded: bool,
        x_request_id: bool,
        reason_header: bool,
        stream_idle_timeout: float,
        tunnel_idle_timeout: float,
        idle_timeout: float,
        detection_timeout: float,
        trusts_peer: bool,
        trusted_hops: int,
    ) -> None:
        """`protocols`: in the order in which they are tried; `protocol_options`: by protocol name.

        `idle_timeout`: seconds until the first byte of a connection; `detection_timeout`: from then on until the protocol is
        known; 0 disables them. Both matter only with several protocols.

        `stream_idle_timeout`: seconds without a byte in either direction after which an exchange whose response has begun is
        aborted; `tunnel_idle_timeout`: the same for a tunnel. `trusts_peer`: whether a client's x-mosn-* fields are
        forwarded. `trusted_hops`: the number of trusted proxies before this one.
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
        self.tunnel_idle_timeout = tunnel_idle_timeout
        self.idle_timeout = idle_timeout
        self.detection_timeout = detection_timeout
        self.trusts_peer = trusts_peer
        self.trusted_hops = trusted_hops
        self.forwarding = ForwardingOptions(x_forwarded, x_request_id, trusts_peer, trusted_hops)

    def for_protocol(self, name: str) -> ProxyOptions:
        """The options for exchanges of one protocol: without the filters that opt out of it."""
        filters = self.filters.for_protocol(name)
        if filters is self.filters:
            return self
        options = self.copy()
        options.filters = filters
        return options

    def copy(self) -> ProxyOptions:
        """A copy, to be changed before it is used."""
        return ProxyOptions(
            listener_name=self.listener_name,
            protocols=self.protocols,
            protocol_options=self.protocol_options,
            slot=self.slot,
            filters=self.filters,
            stats=self.stats,
            access_logs=self.access_logs,
            x_forwarded=self.x_forwarded,
            x_request_id=self.x_request_id,
            reason_header=self.reason_header,
            stream_idle_timeout=self.stream_idle_timeout,
            tunnel_idle_timeout=self.tunnel_idle_timeout,
            idle_timeout=self.idle_timeout,
            detection_timeout=self.detection_timeout,
            trusts_peer=self.trusts_peer,
            trusted_hops=self.trusted_hops,
        )
