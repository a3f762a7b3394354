"""The listener of a test: its settings, and the options of its exchanges."""

from collections.abc import Mapping
from typing import Any, Final

from pymosn.api.exchange import AccessLog
from pymosn.api.routing import Route
from pymosn.api.stream import ListenerFacts
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.overload import OverloadState
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.table import RouteTable, TableSlot, VirtualHost
from pymosn.stream.http.options import forwarding_options, path_policy, read_http_options
from pymosn.stream.http2.options import read_http2_options
from pymosn.testing.answers import SERVICE

#: The settings of a listener that has none of its own: `extend_config.Http1`, with times in seconds.
HTTP1: Final[dict[str, object]] = {
    "max_header_size": 8192,
    "max_request_body_size": 0,
    "max_header_count": 100,
    "header_timeout": 60.0,
    "body_timeout": 60.0,
    "body_min_rate": 100,
    "half_close_timeout": 1.0,
    "max_requests_per_connection": 0,
    "max_connection_age": 0.0,
    "stream_idle_timeout": 300.0,
    "upgrades": [],
    "connect": "off",
    "tunnel_idle_timeout": 600.0,
    "x_forwarded": True,
    "x_forwarded_proto": False,
    "x_request_id": True,
    "replace_request_id": False,
    "server_header": "",
    "server_if_absent": False,
    "simplify_host": [],
    "reason_header": False,
    "envoy_statuses": False,
    "profile": "strict",
    "trust_forwarded": False,
    "trusted_hops": 0,
    "forward_client_cert": "",
    "client_cert_details": ["subject", "uri", "dns"],
    "merge_slashes": True,
    "encoded_slashes": "keep",
    "underscores_in_headers": "pass",
}

#: What `extend_config.Http2` adds to them.
_HTTP2: Final[dict[str, object]] = {
    "max_concurrent_streams": 100,
    "initial_stream_window_size": 64 * 1024,
    "initial_connection_window_size": 1024 * 1024,
    "max_frame_size": 16384,
    "header_table_size": 4096,
    "keepalive_interval": 0.0,
    "keepalive_timeout": 20.0,
    "max_connection_age": 0.0,
    "max_connection_age_grace": 0.0,
}

_IDLE_TIMEOUT: Final = 90.0


class Listener:
    """A listener with one route, to the cluster SERVICE."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings`: of `extend_config.Http1`, complete. Raises ValueError naming the key."""
        facts = ListenerFacts(idle_timeout=_IDLE_TIMEOUT, overload=OverloadState())
        self.http1 = read_http_options(settings, facts)
        self.http2 = read_http2_options({**_HTTP2, **settings}, facts)
        self._forwarding = forwarding_options(settings)
        self._settings = settings

    def options(
        self,
        handles: list[FilterHandle],
        route_config: Mapping[str, object] | None,
        metrics: Metrics,
        ends: AccessLog,
        protocol: str,
    ) -> ProxyOptions:
        """The options of its exchanges. `ends`: is notified of each one's end. `protocol`: of the clients."""
        settings = self._settings
        route = Route("test", AnyRequest(), Forward(SERVICE, 60.0), None, dict(route_config) if route_config else None)
        slot = TableSlot("test")
        slot.table = RouteTable("test")
        slot.table.add(VirtualHost("test", ["*"], [route]))
        options = ProxyOptions(
            listener_name="test",
            protocols=[],
            protocol_options={},
            slot=slot,
            filters=StreamFilters(handles),
            stats=DownstreamStats(metrics.group("downstream", ("listener", "test"))),
            access_logs=[ends],
            forwarding=self._forwarding,
            reason_header=settings["reason_header"],
            stream_idle_timeout=settings["stream_idle_timeout"],
            tunnel_idle_timeout=settings["tunnel_idle_timeout"],
            idle_timeout=_IDLE_TIMEOUT,
            detection_timeout=15.0,
            paths=path_policy(settings),
            envoy_statuses=settings["envoy_statuses"],
        )
        return options.for_protocol(protocol)
