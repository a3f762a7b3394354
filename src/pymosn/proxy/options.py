"""The options of one listener's `proxy` network filter."""

from __future__ import annotations

from pymosn.api.alpn import AlpnOffers
from pymosn.api.exchange import AccessLog
from pymosn.api.stream import StreamProtocol
from pymosn.core.counters import DownstreamStats
from pymosn.core.forwarding import ForwardingOptions
from pymosn.core.uri import STRICT_PATHS, PathPolicy
from pymosn.network.host_demands import HostDemands
from pymosn.proxy.local_replies import LocalReplies
from pymosn.proxy.stream_filters import StreamFilters
from pymosn.routing.table import TableSlot


class HttpRules:
    """What the exchanges of one HTTP version have of their own. Immutable. The attributes are those of ProxyOptions."""

    def __init__(
        self,
        *,
        forwarding: ForwardingOptions,
        reason_header: bool,
        stream_idle_timeout: float,
        tunnel_idle_timeout: float,
        paths: PathPolicy,
        envoy_statuses: bool = False,
    ) -> None:
        self.forwarding = forwarding
        self.reason_header = reason_header
        self.envoy_statuses = envoy_statuses
        self.stream_idle_timeout = stream_idle_timeout
        self.tunnel_idle_timeout = tunnel_idle_timeout
        self.paths = paths


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
        forwarding: ForwardingOptions,
        reason_header: bool,
        stream_idle_timeout: float,
        tunnel_idle_timeout: float,
        idle_timeout: float,
        detection_timeout: float,
        paths: PathPolicy = STRICT_PATHS,
        demands: HostDemands | None = None,
        rules: dict[str, HttpRules] | None = None,
        local_replies: LocalReplies | None = None,
        empty_failures: bool = False,
        envoy_statuses: bool = False,
        offers: AlpnOffers | None = None,
        longest_exchange: float = 0.0,
    ) -> None:
        """`protocols`: in the order in which they are detected; `protocol_options`: by protocol name.

        `idle_timeout`: seconds until the first byte of a connection; `detection_timeout`: from then on until the protocol is
        known; 0 disables them. Both matter only with several protocols.

        `stream_idle_timeout`: aborts an exchange after this many seconds without a byte in either direction, while its
        request is incomplete or after its response has begun; `tunnel_idle_timeout`: the same for a tunnel.

        `paths`: the policy for the paths of requests, also for those that routes and filters make.

        `demands`: what is demanded of the clients of each host; None if it is the same for all.

        `rules`: by protocol name, those that replace the ones given here.

        `local_replies`: changes to local replies; None for none. `empty_failures`: those of failures have no body, which is
        then also what `local_replies` gets.

        `envoy_statuses`: failures have Envoy's status, see `as_envoy` in `core/failure.py`.

        `longest_exchange`: limit of an exchange with a host in seconds, unless the route has one; 0: none.

        `offers`: by the protocol that is spoken to a host, what is offered to it by ALPN instead of what its cluster offers.
        """
        self.listener_name = listener_name
        self.protocols = protocols
        self.protocol_options = protocol_options
        self.slot = slot
        self.filters = filters
        self.stats = stats
        self.access_logs = access_logs
        self.forwarding = forwarding
        self.reason_header = reason_header
        self.stream_idle_timeout = stream_idle_timeout
        self.tunnel_idle_timeout = tunnel_idle_timeout
        self.idle_timeout = idle_timeout
        self.detection_timeout = detection_timeout
        self.paths = paths
        self.demands = demands
        self.rules: dict[str, HttpRules] = {} if rules is None else rules
        self.local_replies = local_replies
        self.empty_failures = empty_failures
        self.envoy_statuses = envoy_statuses
        self.offers = offers
        self.longest_exchange = longest_exchange

    def for_protocol(self, name: str) -> ProxyOptions:
        """The options for exchanges of one protocol: with its own rules, and without the filters that opt out of it."""
        filters = self.filters.for_protocol(name)
        rules = self.rules.get(name)
        if filters is self.filters and rules is None:
            return self
        options = self.copy()
        options.filters = filters
        if rules is not None:
            options.forwarding = rules.forwarding
            options.reason_header = rules.reason_header
            options.envoy_statuses = rules.envoy_statuses
            options.stream_idle_timeout = rules.stream_idle_timeout
            options.tunnel_idle_timeout = rules.tunnel_idle_timeout
            options.paths = rules.paths
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
            forwarding=self.forwarding,
            reason_header=self.reason_header,
            stream_idle_timeout=self.stream_idle_timeout,
            tunnel_idle_timeout=self.tunnel_idle_timeout,
            idle_timeout=self.idle_timeout,
            detection_timeout=self.detection_timeout,
            paths=self.paths,
            demands=self.demands,
            rules=self.rules,
            local_replies=self.local_replies,
            empty_failures=self.empty_failures,
            envoy_statuses=self.envoy_statuses,
            offers=self.offers,
            longest_exchange=self.longest_exchange,
        )
