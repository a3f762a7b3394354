"""Network filters: the entries of `filter_chains[0].filters`, distinguished by their `type`, the `tag` of the class."""

from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from pymosn.config.schema.http_chain import AccessLog, StreamFilter
from pymosn.config.schema.local_replies import LocalReplies
from pymosn.config.schema.router import RouterConfiguration
from pymosn.filters.istio.settings import StatsSettings
from pymosn.filters.settings import (
    AnyMap,
    Block,
    Duration,
    FrameSize,
    Percent,
    Positive,
    Unsigned,
    ignored,
    own,
    planned,
    works,
)

#: MOSN's protocol names, implemented or not.
PROTOCOLS: Final = ("Http1", "Http2", "bolt", "boltv2", "dubbo", "dubbo-thrift", "tars", "Auto", "X")


HostPart = Literal["own_port", "any_port", "trailing_dot"]
HeaderText = Annotated[str, msgspec.Meta(pattern=r"^[\x20-\x7e]*$")]
ClientCertDetail = Literal["subject", "uri", "dns", "cert"]


class Http1Settings(Block, kw_only=True):
    """`proxy.extend_config.Http1`: limits and behaviour of HTTP/1.1 on a listener. Sizes are bytes."""

    max_header_size: Annotated[Positive, works("whole request head; beyond it 431")] = 8192
    max_request_body_size: Annotated[Unsigned, works("0 means no limit; beyond it 413")] = 0
    max_header_count: Annotated[Positive, own("header fields of one request; beyond it 431")] = 100
    header_timeout: Annotated[Duration, own("time for a request head to arrive; then 408")] = 60.0
    body_timeout: Annotated[Duration, own("longest pause in a request body")] = 60.0
    body_min_rate: Annotated[
        Unsigned, own("bytes per second of a request body, on average over `body_timeout`; then 408")
    ] = 100
    half_close_timeout: Annotated[
        Duration, own("time for a response to begin after the client has closed its side; 0: no limit. See docs/limits.md")
    ] = 1.0
    max_requests_per_connection: Annotated[Unsigned, own("0 means no limit; the last response has `connection: close`")] = 0
    max_connection_age: Annotated[
        Duration, own("then the next response has `connection: close`, and an idle connection is closed; 0: no limit")
    ] = 0.0
    stream_idle_timeout: Annotated[Duration, own("longest time without progress of an exchange; 0: no limit")] = 300.0
    upgrades: Annotated[list[str], own("allowed protocols of upgrades; other upgrade headers are ignored")] = msgspec.field(
        default_factory=lambda: ["websocket"]
    )
    connect: Annotated[
        str, own("CONNECT: `off` is 405, `terminate` a TCP tunnel to the cluster's host, `forward` forwards it to a proxy")
    ] = "off"
    tunnel_idle_timeout: Annotated[Duration, own("idle timeout of an upgraded connection or a CONNECT")] = 600.0
    x_forwarded: Annotated[bool, own("append X-Forwarded-For and set X-Forwarded-Proto")] = True
    x_forwarded_proto: Annotated[bool, own("add X-Forwarded-Proto to requests without it, even without `x_forwarded`")] = (
        False
    )
    x_request_id: Annotated[bool, own("add X-Request-Id if the request has none")] = True
    replace_request_id: Annotated[bool, own("replace X-Request-Id of clients")] = False
    server_header: Annotated[HeaderText, own("Server of responses, instead of the host's; empty: forwarded unchanged")] = ""
    server_if_absent: Annotated[bool, own("only of responses without it")] = False
    simplify_host: Annotated[
        list[HostPart], own("removed from Host before routing: a port, if it is the listener's; any port; a dot at the end")
    ] = []
    reason_header: Annotated[bool, own("add the failure's reason word to local replies as x-pymosn-reason")] = False
    envoy_statuses: Annotated[bool, own("503, as Envoy, instead of 502 if no host has answered; xDS sets it")] = False
    profile: Annotated[
        Literal["strict", "compatible"], own("compatible accepts the deviations in docs/http1.md, each with its risk")
    ] = "strict"
    trust_forwarded: Annotated[
        bool,
        own("trust X-Forwarded-*, X-Real-IP, Forwarded, x-mosn-* and x-envoy-* of every client, whatever `trusted_hops` is"),
    ] = False
    trusted_hops: Annotated[
        Unsigned,
        own("trusted proxies before this one: position of the client in X-Forwarded-For from the right; 0: use the socket"),
    ] = 0
    forward_client_cert: Annotated[
        Literal["", "sanitize", "sanitize_set", "append_forward", "forward_only", "always_forward_only"],
        own("X-Forwarded-Client-Cert, see docs/http1.md; empty: sanitize_set, and trusted proxies' is kept and appended to"),
    ] = ""
    client_cert_details: Annotated[
        list[ClientCertDetail], own("its parts besides By and Hash; `cert`: the whole certificate")
    ] = msgspec.field(default_factory=lambda: ["subject", "uri", "dns"])
    merge_slashes: Annotated[bool, own("merge consecutive slashes in a path")] = True
    encoded_slashes: Annotated[
        Literal["keep", "decode", "refuse"], own("handling of %2F and %5C in a path; decode makes them slashes")
    ] = "keep"
    underscores_in_headers: Annotated[
        Literal["pass", "drop", "refuse"],
        own("names with an underscore; variants of the proxy's own headers are dropped even with pass"),
    ] = "pass"


#: A key of HTTP/2 that `extend_config.Http1` has too.
_AS_HTTP1: Final = own("as in Http1, whose value is the default")
Window = Annotated[int, msgspec.Meta(ge=1, le=0x7FFFFFFF)]
ConnectionWindow = Annotated[int, msgspec.Meta(ge=65535, le=0x7FFFFFFF)]
Http2FrameSize = Annotated[int, msgspec.Meta(ge=16384, le=0xFFFFFF)]
TableSize = Annotated[int, msgspec.Meta(ge=0, le=0x100000)]
Streams = Annotated[int, msgspec.Meta(ge=1, le=0x7FFFFFFF)]


class Http2Settings(Block, kw_only=True):
    """`proxy.extend_config.Http2`: limits and behaviour of HTTP/2 on a listener. Sizes are bytes.

    Keys that HTTP/1 has too are None unless set: the rules for HTTP/1 clients then hold for these clients as well.
    """

    http2_use_stream: Annotated[bool, works("bodies always stream, in both directions, as with true")] = False
    max_concurrent_streams: Annotated[Streams, own("requests of one connection at a time; MOSN: 25000")] = 100
    initial_stream_window_size: Annotated[
        Window, own("bytes of a request that a client may send before they are taken; MOSN: 1 GiB")
    ] = 65536
    initial_connection_window_size: Annotated[
        ConnectionWindow, own("the same for all requests of a connection together; MOSN: 1 GiB")
    ] = 1024 * 1024
    max_frame_size: Annotated[Http2FrameSize, own("largest frame that clients may send; MOSN: 1 MiB")] = 16384
    header_table_size: Annotated[TableSize, own("HPACK table of received heads, for each connection")] = 4096
    keepalive_interval: Annotated[Duration, own("silence of a client after which it gets a PING; 0: none")] = 0.0
    keepalive_timeout: Annotated[Duration, own("further silence after which it is closed")] = 20.0
    max_connection_age: Annotated[
        Duration, own("then, up to a tenth later, GOAWAY: the client reconnects, perhaps to another worker; 0: no limit")
    ] = 0.0
    max_connection_age_grace: Annotated[
        Duration, own("time for its requests in flight after that; then they are reset; 0: no limit")
    ] = 0.0
    max_header_size: Annotated[Positive | None, _AS_HTTP1] = None
    max_request_body_size: Annotated[Unsigned | None, _AS_HTTP1] = None
    max_header_count: Annotated[Positive | None, _AS_HTTP1] = None
    header_timeout: Annotated[Duration | None, _AS_HTTP1] = None
    body_timeout: Annotated[Duration | None, _AS_HTTP1] = None
    body_min_rate: Annotated[Unsigned | None, _AS_HTTP1] = None
    half_close_timeout: Annotated[Duration | None, _AS_HTTP1] = None
    max_requests_per_connection: Annotated[Unsigned | None, _AS_HTTP1] = None
    stream_idle_timeout: Annotated[Duration | None, _AS_HTTP1] = None
    upgrades: Annotated[list[str] | None, _AS_HTTP1] = None
    connect: Annotated[str | None, _AS_HTTP1] = None
    tunnel_idle_timeout: Annotated[Duration | None, _AS_HTTP1] = None
    x_forwarded: Annotated[bool | None, _AS_HTTP1] = None
    x_forwarded_proto: Annotated[bool | None, _AS_HTTP1] = None
    x_request_id: Annotated[bool | None, _AS_HTTP1] = None
    replace_request_id: Annotated[bool | None, _AS_HTTP1] = None
    server_header: Annotated[HeaderText | None, _AS_HTTP1] = None
    server_if_absent: Annotated[bool | None, _AS_HTTP1] = None
    simplify_host: Annotated[list[HostPart] | None, _AS_HTTP1] = None
    reason_header: Annotated[bool | None, _AS_HTTP1] = None
    envoy_statuses: Annotated[bool | None, _AS_HTTP1] = None
    profile: Annotated[Literal["strict", "compatible"] | None, _AS_HTTP1] = None
    trust_forwarded: Annotated[bool | None, _AS_HTTP1] = None
    trusted_hops: Annotated[Unsigned | None, _AS_HTTP1] = None
    forward_client_cert: Annotated[
        Literal["", "sanitize", "sanitize_set", "append_forward", "forward_only", "always_forward_only"] | None, _AS_HTTP1
    ] = None
    client_cert_details: Annotated[list[ClientCertDetail] | None, _AS_HTTP1] = None
    merge_slashes: Annotated[bool | None, _AS_HTTP1] = None
    encoded_slashes: Annotated[Literal["keep", "decode", "refuse"] | None, _AS_HTTP1] = None
    underscores_in_headers: Annotated[Literal["pass", "drop", "refuse"] | None, _AS_HTTP1] = None


class BoltSettings(Block, kw_only=True):
    """`proxy.extend_config.bolt` and `boltv2`."""

    enable_bolt_goaway: Annotated[bool, works("send a goaway frame to each client when the worker drains")] = False
    max_frame_size: Annotated[FrameSize, own("bytes of one request; a larger one fails with `frame_too_large`")] = (
        16 * 1024 * 1024
    )
    half_close_timeout: Annotated[Duration, own("time for responses after the client has closed its side; 0: no limit")] = (
        1.0
    )


class FrameSettings(Block, kw_only=True):
    """`proxy.extend_config.dubbo`, `dubbo-thrift` and `tars`."""

    max_frame_size: Annotated[FrameSize, own("bytes of one request; a larger one fails with `frame_too_large`")] = (
        16 * 1024 * 1024
    )
    half_close_timeout: Annotated[Duration, own("time for responses after the client has closed its side; 0: no limit")] = (
        1.0
    )


class ProtocolSettings(Block, kw_only=True):
    """Settings by protocol name. For a single protocol MOSN also accepts them flat; the reader converts these."""

    Http1: Http1Settings = msgspec.field(default_factory=Http1Settings)
    Http2: Http2Settings = msgspec.field(default_factory=Http2Settings)
    bolt: BoltSettings = msgspec.field(default_factory=BoltSettings)
    boltv2: BoltSettings = msgspec.field(default_factory=BoltSettings)
    dubbo: FrameSettings = msgspec.field(default_factory=FrameSettings)
    dubbo_thrift: FrameSettings = msgspec.field(default_factory=FrameSettings, name="dubbo-thrift")
    tars: FrameSettings = msgspec.field(default_factory=FrameSettings)
    sub_protocol: Annotated[str, works("one name or a comma-separated list; used if downstream_protocol is X")] = ""
    http2_use_stream: Annotated[bool, works("in old files also without the name Http2: bodies always stream")] = False
    installed: Annotated[dict[str, AnyMap], own("settings of protocols from installed packages, by their name")] = {}

    def of(self, protocol: str) -> dict[str, object]:
        """The settings of one protocol, complete."""
        if protocol == "Http2":
            own_values = {key: value for key, value in msgspec.structs.asdict(self.Http2).items() if value is not None}
            return {**msgspec.structs.asdict(self.Http1), **own_values}
        block: Block | None = {
            "Http1": self.Http1,
            "bolt": self.bolt,
            "boltv2": self.boltv2,
            "dubbo": self.dubbo,
            "dubbo-thrift": self.dubbo_thrift,
            "tars": self.tars,
        }.get(protocol)
        if isinstance(block, BoltSettings):
            return {
                "max_frame_size": block.max_frame_size,
                "half_close_timeout": block.half_close_timeout,
                "enable_goaway": block.enable_bolt_goaway,
            }
        return dict(self.installed.get(protocol, {})) if block is None else msgspec.structs.asdict(block)


def protocols_with(key: str) -> list[str]:
    """The protocols whose settings have this key, which is in lower case."""
    fields = msgspec.structs.fields(ProtocolSettings)
    blocks = [(field.encode_name, field.type) for field in fields if isinstance(field.type, type)]
    return [
        name
        for name, block in blocks
        if issubclass(block, Block) and key in [inner.encode_name.lower() for inner in msgspec.structs.fields(block)]
    ]


class UpstreamAlpn(Block, kw_only=True):
    """`proxy.upstream_alpn`: what is offered by ALPN to hosts with TLS, by the protocol that is spoken to them."""

    Http1: Annotated[list[str], own("in order of preference; empty: what the cluster offers")] = []
    Http2: Annotated[list[str], own("the same for HTTP/2")] = []


class ProxyConfig(Block, kw_only=True):
    """The layer-7 proxy."""

    name: str = ""
    downstream_protocol: Annotated[str, works("one name, a comma-separated list (tried in order), or Auto")] = ""
    upstream_protocol: Annotated[str, ignored("MOSN does not use it either")] = ""
    router_config_name: str = ""
    router_handler_name: Annotated[str, planned("the default handler is used")] = ""
    fallback_for_unknown_protocol: Annotated[
        bool, works("the next tcp_proxy gets connections in unknown protocols, or undecided after 15 s")
    ] = False
    validate_clusters: Annotated[Any, ignored("pymosn always checks references")] = None
    concurrency_num: Annotated[int, ignored("tuning of Go's worker pools")] = 0
    detection_timeout: Annotated[
        Duration, own("from the first byte until the protocol is known; then fallback or reset")
    ] = 15.0
    extend_config: ProtocolSettings = msgspec.field(default_factory=ProtocolSettings)
    stream_filters: Annotated[
        list[StreamFilter] | None, own("instead of the listener's; `[]`: none; see the table of stream filters")
    ] = None
    access_logs: Annotated[list[AccessLog] | None, own("instead of the listener's; `[]`: none")] = None
    connection_idle_timeout: Annotated[Duration | None, own("instead of the listener's; 0: never")] = None
    max_stream_duration: Annotated[
        Duration, own("limit of an exchange with a host, from the request's arrival, unless the route has one; 0: none")
    ] = 0.0
    local_reply_body: Annotated[
        Literal["", "none"], own("`none`: failures are answered without a body, as in MOSN; not those of gRPC and RPC calls")
    ] = ""
    local_replies: Annotated[LocalReplies | None, own("status, headers and body of local replies; docs/operations.md")] = (
        None
    )
    upstream_alpn: Annotated[
        UpstreamAlpn | None,
        own(
            "offered by ALPN to hosts with TLS instead of the `alpn` of their clusters, as Istio's filter `istio.alpn` does"
        ),
    ] = None

    def protocols(self) -> list[str]:
        """The names in `downstream_protocol`, or for X in `sub_protocol`; `Auto` with others is ignored, as in MOSN."""
        text = self.downstream_protocol
        if text.strip() == "X":
            text = self.extend_config.sub_protocol
        names = list(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
        return names if names == ["Auto"] else [name for name in names if name != "Auto"]


class CidrRange(Block, kw_only=True):
    """An address range of a stream route."""

    address: str = ""
    length: Unsigned = 0


class WeightedStreamCluster(Block, kw_only=True):
    """One of several clusters of a layer-4 proxy."""

    name: str = ""
    weight: Positive = 1


class StreamRoute(Block, kw_only=True):
    """A route of `tcp_proxy` and `udp_proxy` by addresses and ports."""

    cluster: str = ""
    sourceaddrs: Annotated[list[CidrRange], works("the client's address is in one of them; empty never matches")] = []
    destinationaddrs: Annotated[
        list[CidrRange], works("the address that the client connected to, before any redirect; empty never matches")
    ] = []
    sourceport: Annotated[str, works("`80,100-200`; empty never matches")] = ""
    destinationport: Annotated[str, works("`80,100-200`; empty never matches")] = ""
    server_names: Annotated[
        list[str],
        own(
            "tcp_proxy: names that the client sends (SNI), `*.example.com` for subdomains; then the other keys may be empty"
        ),
    ] = []
    weighted_clusters: Annotated[
        list[WeightedStreamCluster], own("instead of `cluster`: chosen by weight per connection")
    ] = []


class StreamProxyConfig(Block, kw_only=True):
    """The layer-4 proxies."""

    cluster: Annotated[str, works("takes precedence over routes")] = ""
    weighted_clusters: Annotated[
        list[WeightedStreamCluster], own("instead of `cluster`: chosen by weight per connection")
    ] = []
    routes: Annotated[list[StreamRoute], works("the first match wins; without one the connection is reset")] = []
    idle_timeout: Annotated[int, works("nanoseconds, also for TCP; 0 is the listener's connection_idle_timeout")] = 0
    stat_prefix: Annotated[str, ignored("MOSN does not use it either")] = ""
    connect_timeout: Annotated[Duration, own("tcp_proxy: for all attempts together; 0: only the cluster's, for each")] = 0.0
    access_logs: Annotated[list[AccessLog] | None, own("tcp_proxy: instead of the listener's; `[]`: none")] = None
    istio_stats: Annotated[list[StatsSettings], own("tcp_proxy: Istio's metrics of connections; docs/xds-istio.md")] = []
    max_connection_duration: Annotated[Duration, own("tcp_proxy: then a connection is closed; 0: no limit")] = 0.0
    max_sessions: Annotated[
        Unsigned, own("udp_proxy: sessions of all clients together; further ones are dropped; 0: 65536")
    ] = 0
    max_sessions_per_client: Annotated[Unsigned, own("udp_proxy: sessions of one IP address; 0: 1024")] = 0
    max_reply_ratio: Annotated[
        Unsigned, own("udp_proxy: bytes that a session may send to its client for each byte from it; 0: no limit")
    ] = 0
    max_connect_attempts: Annotated[
        Unsigned, works("maximum number of hosts to try; 0 is all, up to 3, as MOSN always does")
    ] = 0

    def cluster_names(self) -> set[str]:
        """The clusters that it may choose, and perhaps an empty name."""
        targets: list[StreamProxyConfig | StreamRoute] = [self, *self.routes]
        names = {entry.name for target in targets for entry in target.weighted_clusters}
        return names | {target.cluster for target in targets}


class GrpcServerConfig(Block, kw_only=True):
    """A gRPC server inside the process."""

    server_name: str = ""
    grpc_config: Any = None
    graceful_stop_timeout: Duration = 30.0


class FaultInjectConfig(Block, kw_only=True):
    """Delays of a connection's data (not part of MOSN's shipped program)."""

    delay_percent: Percent = 0
    delay_duration: Duration = 0.0


class TunnelConfig(Block, kw_only=True):
    """The server side of reverse tunnels; it has no keys."""


class ProxyFilter(Block, kw_only=True, tag_field="type", tag="proxy"):
    config: ProxyConfig = msgspec.field(default_factory=ProxyConfig)


class ConnectionManagerFilter(Block, kw_only=True, tag_field="type", tag="connection_manager"):
    """`{"type": "connection_manager"}`: not a filter but an old form of a router table."""

    config: RouterConfiguration = msgspec.field(default_factory=RouterConfiguration)


class TcpProxyFilter(Block, kw_only=True, tag_field="type", tag="tcp_proxy"):
    config: StreamProxyConfig = msgspec.field(default_factory=StreamProxyConfig)


class PythonConfig(Block, kw_only=True):
    """A connection filter in Python: a class in a file, or one of an installed package."""

    path: Annotated[str, own("Python file; relative to the configuration file")] = ""
    class_: Annotated[str, own("class in it, derived from `pymosn.api.ConnectionFilter`")] = msgspec.field(
        default="", name="class"
    )
    name: Annotated[str, own("instead of both: a filter that an installed package offers")] = ""
    config: Annotated[AnyMap, own("settings of the filter itself")] = {}

    def known_name(self) -> str:
        """Its name in counters and logs."""
        return self.name or self.class_


class PythonFilter(Block, kw_only=True, tag_field="type", tag="python"):
    config: PythonConfig = msgspec.field(default_factory=PythonConfig)


class UdpProxyFilter(Block, kw_only=True, tag_field="type", tag="udp_proxy"):
    config: StreamProxyConfig = msgspec.field(default_factory=StreamProxyConfig)


class GrpcFilter(Block, kw_only=True, tag_field="type", tag="grpc"):
    config: GrpcServerConfig = msgspec.field(default_factory=GrpcServerConfig)


class TunnelFilter(Block, kw_only=True, tag_field="type", tag="tunnel"):
    config: TunnelConfig = msgspec.field(default_factory=TunnelConfig)


class FaultInjectFilter(Block, kw_only=True, tag_field="type", tag="fault_inject"):
    config: FaultInjectConfig = msgspec.field(default_factory=FaultInjectConfig)


NetworkFilter = (
    ProxyFilter
    | ConnectionManagerFilter
    | TcpProxyFilter
    | PythonFilter
    | UdpProxyFilter
    | GrpcFilter
    | TunnelFilter
    | FaultInjectFilter
)
#: Filters that are not implemented yet; a file that uses one is rejected.
PLANNED: Final = (TunnelFilter, FaultInjectFilter)
#: Filters that will not be implemented; a file that uses one is rejected.
REJECTED: Final = (GrpcFilter,)


class ActingFilters(NamedTuple):
    """The filters that handle a listener's connections; `tcp` is the fallback for unknown protocols if there are both."""

    proxy: ProxyConfig | None
    tcp: StreamProxyConfig | None


def may_follow(before: list[ProxyFilter | TcpProxyFilter], filter: ProxyFilter | TcpProxyFilter) -> bool:
    """Whether `filter` has an effect after those: only the first tcp_proxy after a proxy with fallback does."""
    return (
        len(before) == 1
        and isinstance(before[0], ProxyFilter)
        and before[0].config.fallback_for_unknown_protocol
        and isinstance(filter, TcpProxyFilter)
    )
