"""`cluster_manager`: clusters and their hosts."""

from typing import Annotated, Literal

from pymosn.config.schema import absent
from pymosn.config.schema.connections import TcpKeepalive
from pymosn.config.schema.router import Metadata
from pymosn.config.schema.tls import TlsContext
from pymosn.filters.settings import (
    Block,
    Duration,
    DurationOrDefault,
    FrameSize,
    Percent,
    Port,
    Unsigned,
    UnsignedOrDefault,
    ignored,
    negative,
    own,
    planned,
    works,
)

_SHARED = (
    "Each worker has a fixed share of the limit, at least 1. Together they never exceed the limit when it is at least the "
    "number of workers; one worker may reject while another has capacity"
)
_DNS = "STRICT_DNS only; needs the extra `dns`"
_ORIGINAL = "for ORIGINAL_DST clusters"


class Host(Block, kw_only=True):
    """One upstream host. `address` is `ip:port`, `name:port` or `unix:/path`; the first of equal addresses wins."""

    address: str = ""
    hostname: str = ""
    weight: Annotated[Unsigned, works("limited to 1 to 128; ignored by random and the unweighted round robins")] = 1
    hash_weight: Annotated[Unsigned, own("the weight for `hash_function` of `lbconfig`, up to 4294967295; 0: `weight`")] = 0
    metadata: Annotated[Metadata | None, works("owner `mosn.lb`; for subsets, and its `hash_key` for `hash_function`")] = (
        None
    )
    tls_disable: Annotated[bool, works("plain connections to this host although the cluster has TLS")] = False
    priority: Annotated[
        Unsigned, own("0 to 127; hosts of a higher number are used when those of lower ones are unhealthy")
    ] = 0
    locality: Annotated[str, own("such as `region/zone/sub_zone`; for `localities` of the cluster")] = ""
    health: Annotated[
        Literal["", "healthy", "unhealthy", "draining", "degraded"],
        own("what the control plane knows; degraded ones are used when too few others are healthy"),
    ] = ""
    tls_labels: Annotated[dict[str, str], own("labels that select the TLS of this host among `tls_matches`")] = {}
    skip_health_check: Annotated[bool, own("not checked by the cluster's `health_check`")] = False
    workload: Annotated[
        str, own("`name;namespace;service;revision;cluster`, for the labels of Istio's metrics; from the control plane")
    ] = ""


class CircuitBreaker(Block, kw_only=True):
    """Limits of a cluster; 0 means none. Requests above a limit get 503 with the reason `overflow` immediately."""

    priority: Annotated[
        Literal["DEFAULT", "HIGH"], own("of routes; only DEFAULT has an effect: all requests are counted together")
    ] = "DEFAULT"
    max_connections: Annotated[Unsigned, works(_SHARED)] = 0
    max_pending_requests: Annotated[Unsigned, works(f"requests that wait for a new connection. {_SHARED}")] = 0
    max_requests: Annotated[Unsigned, works(f"from the first attempt to the end of the response. {_SHARED}")] = 0
    max_retries: Annotated[Unsigned, works(f"requests on a second or later attempt. {_SHARED}")] = 0


class StatusRange(Block, kw_only=True):
    """A range of status codes that count as healthy."""

    Start: int = 0
    End: int = 0


class HttpProbe(Block, kw_only=True):
    """An HTTP health probe."""

    port: Port = 0
    timeout: Annotated[Duration, negative("only the `timeout` of the check, as in MOSN", 30.0)] = 30.0
    path: str = ""
    method: str = "GET"
    scheme: Annotated[
        str, works("https: by TLS in any case; else by TLS if the host's connections have it and `port` is not given")
    ] = "http"
    domain: str = ""
    codes: list[StatusRange] = []
    headers: Annotated[dict[str, str], own("further headers of the request")] = {}


class GrpcProbe(Block, kw_only=True):
    """A health check by `grpc.health.v1.Health/Check`."""

    service_name: Annotated[str, own("the service that must be SERVING; empty: the server as a whole")] = ""
    authority: Annotated[str, own("empty: the host's address")] = ""


class TcpProbe(Block, kw_only=True):
    """What a health check sends over a connection, and what it must receive. Bytes are in hexadecimal."""

    send: Annotated[str, own("empty: nothing")] = ""
    receive: Annotated[list[str], own("must be received in this order; other bytes may be between them")] = []


class ProbeConfig(Block, kw_only=True):
    """The protocol-specific part of a health check."""

    http_check_config: HttpProbe | None = None
    tcp_check_config: Annotated[TcpProbe | None, own("for `protocol` tcp")] = None
    grpc_check_config: Annotated[GrpcProbe | None, own("for `protocol` grpc")] = None


class HealthCheck(Block, kw_only=True):
    """Active health checking; on when any key is set. 0 means the default, as in MOSN. `service_name` names the counters."""

    service_name: str = ""
    protocol: Annotated[
        str,
        works(
            "Http1, http or Http2 with an `http_check_config`; grpc†: grpc.health.v1; "
            "others only connect, unknown names with a warning"
        ),
    ] = ""
    timeout: Annotated[DurationOrDefault, negative("MOSN finds every host unhealthy; 1 second here", 1.0)] = 1.0
    interval: Annotated[DurationOrDefault, negative("MOSN checks without any pause; 15 seconds here", 15.0)] = 15.0
    interval_jitter: Annotated[DurationOrDefault, negative("none, as in MOSN")] = 0.005
    initial_delay_seconds: Annotated[DurationOrDefault, negative("1 second, as in MOSN", 1.0)] = 1.0
    healthy_threshold: UnsignedOrDefault = 1
    unhealthy_threshold: UnsignedOrDefault = 1
    check_config: ProbeConfig | None = None
    event_log_path: str = ""
    common_callbacks: Annotated[list[str], ignored("names of functions compiled into MOSN")] = []


class Subscription(Block, kw_only=True):
    """A service of a registry."""

    subscriber: str = ""
    service_name: str = ""


class ClusterSpec(Block, kw_only=True):
    """The registry entries with the hosts."""

    subscribe: list[Subscription] = []


class SubsetConfig(Block, kw_only=True):
    """Subset load balancing by host metadata."""

    fall_back_policy: Annotated[Unsigned, works("0 none (502), 1 any host, 2 `default_subset`; larger values mean 0")] = 0
    default_subset: dict[str, str] = {}
    subset_selectors: list[list[str]] = []
    falls_back_without_criteria: Annotated[
        bool, own("a request without criteria gets the hosts of `fall_back_policy`, as in Envoy; else any host, as in MOSN")
    ] = False


class AllowedDestination(Block, kw_only=True):
    """Addresses and ports that clients may choose."""

    network: Annotated[str, own("an IP address, or a network such as `10.0.0.0/8`")] = ""
    ports: Annotated[str, own("`80,8000-8099`; empty: all")] = ""


class OriginalDstConfig(Block, kw_only=True):
    """How an ORIGINAL_DST cluster finds the destination."""

    use_header: Annotated[
        bool, works("a value without a port means port 80; without the header the connection's destination is used")
    ] = False
    header_name: str = "host"
    replace_local: Annotated[bool, works("127.0.0.1 with the original port")] = False
    allowed_destinations: Annotated[
        list[AllowedDestination],
        own(
            "if given, all others are refused (403 `destination_denied`); without it, those of `use_header` must not be "
            "loopback, link-local (cloud metadata), unspecified, multicast or reserved. To open some of these, list a "
            "network of theirs: `0.0.0.0/0` does not include them. This process's own addresses are always refused (`loop`)"
        ),
    ] = []


class Keepalive(Block, kw_only=True):
    """Protocol heartbeats on multiplexed upstream connections.

    RPC protocols have them without this block, too. HTTP/2 has not, because gRPC servers reject unasked PINGs; with it a
    connection on which nothing arrives for `interval` is asked by a PING, and left after `timeout` without a response.
    """

    interval: Annotated[
        Duration, works("silence before a heartbeat; 0 means MOSN's 15 seconds"), negative("15 seconds, as in MOSN")
    ] = 0.0
    timeout: Annotated[Duration, works("time limit for a response of any kind"), negative("1 second, as in MOSN", 1.0)] = 1.0
    failures: Annotated[
        Unsigned,
        own("consecutive heartbeats without a response that close the connection; 0 disables this. For HTTP/2 one suffices"),
    ] = 6


class ClusterHttp2(Block, kw_only=True):
    """HTTP/2 to the hosts of a cluster."""

    initial_stream_window_size: Annotated[
        Unsigned, own("bytes that a host may send on one stream before the client has taken some")
    ] = 256 * 1024
    initial_connection_window_size: Annotated[Unsigned, own("the same for all streams together")] = 1024 * 1024


class BalancerConfig(Block, kw_only=True):
    """Parameters of the load-aware balancers."""

    choice_count: Unsigned = 2
    active_request_bias: float = 1.0
    client_error_bias: float = 0.0
    server_error_bias: float = 0.0
    minimum_ring_size: Annotated[
        Unsigned, own("points of LB_RING_HASH, at least; 0: 160 per unit of weight, at most 32768 in all")
    ] = 0
    maximum_ring_size: Annotated[Unsigned, own("points of LB_RING_HASH, at most; 0: no limit with `minimum_ring_size`")] = 0
    table_size: Annotated[Unsigned, own("slots of LB_MAGLEV, a prime number; 0: 65537, or 655373 for many hosts")] = 0
    hash_function: Annotated[
        Literal["", "XX_HASH", "MURMUR_HASH_2"],
        own(
            "LB_RING_HASH and LB_MAGLEV (always with XX_HASH) select the hosts that Envoy selects, if the routes have the "
            "key, too; without `hash_policy` at random. Set for clusters of control planes"
        ),
    ] = ""
    hashes_hostnames: Annotated[bool, own("with `hash_function`: a host's `hostname` is hashed, not its address")] = False


class SlowStart(Block, kw_only=True):
    """Gradually increasing weight for hosts that just became healthy."""

    mode: Annotated[str, works("`duration`; any other value disables it")] = ""
    slow_start_duration: Annotated[Duration, negative("no slow start, as in MOSN")] = 0.0
    aggression: float = 1.0
    min_weight_percent: float = 0.1


class SuccessRate(Block, kw_only=True):
    """Ejects hosts whose share of successful requests is far below the average of the hosts."""

    minimum_hosts: Annotated[Unsigned, own("hosts with enough requests that there must be")] = 5
    request_volume: Annotated[Unsigned, own("requests of a host in an interval, at least")] = 100
    stdev_factor: Annotated[
        Unsigned, own("thousandths of the standard deviation by which a host must be below the average to be ejected")
    ] = 1900


class FailurePercentage(Block, kw_only=True):
    """Ejects hosts of whose requests too many fail."""

    threshold: Annotated[Percent, own("percentage of failed requests")] = 85
    minimum_hosts: Annotated[Unsigned, own("hosts with enough requests that there must be")] = 5
    request_volume: Annotated[Unsigned, own("requests of a host in an interval, at least")] = 50


class Enforcing(Block, kw_only=True):
    """Percentage of the cases in which a rule ejects the host that it has found."""

    consecutive_errors: Annotated[Percent, own("the chance of that rule")] = 100
    consecutive_gateway_failures: Annotated[Percent, own("the chance of that rule")] = 100
    consecutive_local_origin_failures: Annotated[Percent, own("the chance of that rule")] = 100
    success_rate: Annotated[Percent, own("the chance of that rule")] = 100
    local_origin_success_rate: Annotated[Percent, own("of that rule for requests without a response")] = 0
    failure_percentage: Annotated[Percent, own("the chance of that rule")] = 100
    local_origin_failure_percentage: Annotated[Percent, own("of that rule for requests without a response")] = 0


class OutlierDetection(Block, kw_only=True):
    """Passive health checks: hosts with failing requests are ejected for a while, by each worker independently."""

    consecutive_errors: Annotated[
        Unsigned,
        own(
            "consecutive responses of 500 or more, connect failures, resets and timeouts, unless the client caused them; "
            "0 disables this"
        ),
    ] = 5
    error_rate: Annotated[Percent, own("percentage of the requests of one `interval`; 0 disables this")] = 0
    minimum_requests: Annotated[Unsigned, own("minimum requests in an `interval` for `error_rate`")] = 20
    interval: Annotated[Duration, own("window of `error_rate`; each window without ejection shortens the next one")] = 10.0
    base_ejection_time: Annotated[Duration, own("multiplied by the number of recent ejections of the host")] = 30.0
    max_ejection_percent: Annotated[Percent, own("maximum percentage of the cluster's hosts ejected at a time")] = 10
    always_eject_one: Annotated[bool, own("one host may be ejected whatever `max_ejection_percent` is")] = False
    max_ejection_time: Annotated[Duration, own("maximum length of an ejection; 0: unlimited")] = 0.0
    max_ejection_time_jitter: Annotated[Duration, own("random time added to each ejection, at most")] = 0.0
    consecutive_gateway_failures: Annotated[
        Unsigned, own("consecutive 502, 503 and 504, and requests without a response; 0 disables this")
    ] = 0
    splits_local_origin: Annotated[
        bool, own("requests without a response count only for the rules of local origin, and not as errors of the host")
    ] = False
    consecutive_local_origin_failures: Annotated[
        Unsigned, own("with `splits_local_origin`: consecutive requests without a response; 0 disables this")
    ] = 0
    success_rate: Annotated[SuccessRate | None, own("compares the hosts after each `interval`")] = None
    failure_percentage: Annotated[FailurePercentage | None, own("checks each host after each `interval`")] = None
    enforcing: Annotated[Enforcing | None, own("the chance that a rule ejects a host; default: always")] = None


class TlsMatch(Block, kw_only=True):
    """TLS of the hosts that have some labels."""

    name: Annotated[str, own("for messages")] = ""
    labels: Annotated[dict[str, str], own("all of these must be among the `tls_labels` of a host; none: every host")] = {}
    tls_context: Annotated[TlsContext | None, own("instead of the cluster's; none: no TLS")] = None


class LocalityWeight(Block, kw_only=True):
    """The share of a locality among those of the same priority."""

    locality: Annotated[str, own("the `locality` of hosts")] = ""
    priority: Annotated[Unsigned, own("the `priority` of these hosts")] = 0
    weight: Annotated[Unsigned, own("0: its hosts get no requests while another locality of the priority has a weight")] = 0


class DropOverload(Block, kw_only=True):
    """A share of the requests that is refused to protect the hosts: 503 with the reason `drop_overload`."""

    category: Annotated[str, own("for messages")] = ""
    per_million: Annotated[Unsigned, own("requests of a million")] = 0


class DnsResolvers(Block, kw_only=True):
    """A cluster's own DNS resolvers."""

    servers: Annotated[list[str], works("IP addresses")] = []
    search: Annotated[list[str], works("domains appended to names with fewer than `ndots` dots")] = []
    port: str = "53"
    ndots: Annotated[Unsigned, works("0 is 1, as in resolv.conf")] = 0
    timeout: Annotated[Unsigned, works("seconds per attempt; 0 is 5")] = 0
    attempts: Annotated[Unsigned, works("rounds over all servers; 0 is 2. A lookup ends after 20 s, as in MOSN")] = 0


class IstioFacts(Block, kw_only=True):
    """Facts about a cluster from Istio's control plane, for the filters `istio.stats` and `peer_metadata`."""

    service: Annotated[str, own("the full name of the service that it is")] = ""
    name: Annotated[str, own("the name of the service in the label `destination_service_name`")] = ""
    namespace: Annotated[str, own("the namespace of the service")] = ""
    external: Annotated[bool, own("outside the mesh")] = False
    disable_mx: Annotated[bool, own("requests to it get no headers with metadata of peers")] = False


class Cluster(Block, kw_only=True):
    """A named group of hosts that serve the same thing."""

    name: str = ""
    type: Annotated[str, works("SIMPLE, STATIC, DYNAMIC, EDS, STRICT_DNS, LOGICAL_DNS†, ORIGINAL_DST")] = ""
    sub_type: Annotated[str, ignored("MOSN does not use it either")] = ""
    lb_type: Annotated[str, works("see the table of load balancers")] = "LB_ROUNDROBIN"
    upstream_protocol: Annotated[
        str,
        own(
            "`Http1` or `Http2` for clients of either, or the protocol of a transcoder; a route's takes precedence. "
            "Default, and `Auto`: with TLS and `alpn` what the handshake selects, else the protocol of the client"
        ),
    ] = ""
    upstream_profile: Annotated[
        Literal["strict", "compatible"], own("compatible tolerates faults of HTTP/1 responses that docs/http1.md lists")
    ] = "strict"
    max_connection_age: Annotated[
        Duration,
        own("no further requests on a connection that is older, give or take 10 %, and it closes; 0 means no limit"),
    ] = 0.0
    http2: Annotated[ClusterHttp2 | None, own("windows of HTTP/2")] = None
    max_frame_size: Annotated[
        FrameSize, own("bytes of a response of an RPC protocol; a call with a larger one fails with `frame_too_large`")
    ] = 16 * 1024 * 1024
    tcp_keepalive: Annotated[TcpKeepalive | None, own("probes on silent connections; default: none")] = None
    max_request_per_conn: Annotated[Unsigned, works("enforced when given; MOSN does not enforce its default of 1024")] = 0
    conn_buffer_limit_bytes: Annotated[
        Unsigned, works("unsent bytes above which reading from the client pauses; default 256 KiB. MOSN does not enforce it")
    ] = 0
    mark: Annotated[Unsigned, works("SO_MARK on upstream sockets; needs CAP_NET_ADMIN")] = 0
    proxy_protocol: Annotated[
        Literal["", "v1", "v2"], own("send the client's address to the hosts by the PROXY protocol")
    ] = ""
    circuit_breakers: Annotated[list[CircuitBreaker], works("the first entry of priority DEFAULT counts, as in MOSN")] = []
    health_check: Annotated[HealthCheck | None, works("see docs/operations.md for when it runs")] = None
    spec: Annotated[ClusterSpec | None, planned(absent.REGISTRY)] = None
    lb_subset_config: Annotated[SubsetConfig | None, works("subsets of any load balancer")] = None
    original_dst_lb_config: Annotated[OriginalDstConfig | None, works(_ORIGINAL)] = None
    cluster_manager_tls: Annotated[bool, works("use the `tls_context` of `cluster_manager`")] = False
    tls_context: Annotated[TlsContext | None, works("see the table of TLS contexts")] = None
    keep_alpn: Annotated[bool, own("`alpn` of its TLS is offered, whatever `upstream_alpn` of a proxy lists")] = False
    tls_matches: Annotated[
        list[TlsMatch], own("other TLS than `tls_context` for some hosts: the first match by `tls_labels` counts")
    ] = []
    hosts: list[Host] = []
    bind_address: Annotated[str, own("the local IP address of connections to the hosts")] = ""
    connect_timeout: Annotated[
        DurationOrDefault,
        works("for all addresses of a name together, and a TLS handshake; 0 is the default"),
        negative(
            "no connection is ever established, as in MOSN: requests are answered 502, until the hosts are changed",
            -1.0,
        ),
    ] = 10.0
    connect_attempt_delay: Annotated[
        Duration,
        own("the next address of a name is tried after this time without an answer (RFC 8305); 10 ms to 2 s"),
    ] = 0.25
    idle_timeout: Annotated[Duration, works("exact, not MOSN's 15 s steps; 0 means none"), negative("none, as in MOSN")] = (
        0.0
    )
    keepalive: Annotated[Keepalive | None, works("multiplexed protocols: RPC with heartbeats, HTTP/2")] = None
    lbconfig: Annotated[BalancerConfig | None, works("load-aware balancers")] = None
    slow_start: Annotated[
        SlowStart | None,
        works("weighted round robin, least request and connection, peak EWMA; for hosts added at run time or healthy again"),
    ] = None
    outlier_detection: Annotated[OutlierDetection | None, own("passive ejection of hosts")] = None
    panic_threshold: Annotated[
        Percent, own("if a smaller percentage of the hosts is healthy, health is ignored; 0 means never, as in MOSN")
    ] = 0
    fail_in_panic: Annotated[bool, own("below `panic_threshold` requests are refused instead of being sent to any host")] = (
        False
    )
    overprovisioning_factor: Annotated[
        Unsigned,
        own(
            "percentage; with 140 a priority or locality gets its whole share of requests until less than 71.4 % is healthy"
        ),
    ] = 140
    localities: Annotated[
        list[LocalityWeight], own("requests are distributed among localities by weight and health; empty: hosts only")
    ] = []
    istio: Annotated[IstioFacts | None, own("the service that it is, for the labels of Istio's metrics")] = None
    drop_overload: Annotated[list[DropOverload], own("refused shares of the requests, one after the other")] = []
    dns_refresh_rate: Annotated[
        DurationOrDefault, works("STRICT_DNS only"), negative("MOSN asks without any pause; 5 seconds here", 5.0)
    ] = 5.0
    respect_dns_ttl: Annotated[bool, works(f"the time to live plus one second, instead of `dns_refresh_rate`. {_DNS}")] = (
        False
    )
    dns_lookup_family: Annotated[str, works("STRICT_DNS only; V4_ONLY or V6_ONLY")] = "V4_ONLY"
    dns_resolvers: Annotated[DnsResolvers | None, works(f"{_DNS}. Without `servers`: those of `dns_resolver_file`")] = None
    dns_resolver_file: Annotated[str, works(f"default /etc/resolv.conf. {_DNS}")] = ""
    dns_resolver_port: Annotated[str, works("of the servers of `dns_resolver_file`")] = "53"
    cluster_pool_enable: Annotated[bool, ignored("pools always belong to one cluster")] = False

    def server_keys(self) -> list[str]:
        """The keys that select DNS servers instead of the system's resolver."""
        keys = ("respect_dns_ttl", "dns_resolvers", "dns_resolver_file", "dns_resolver_port")
        return [key for key in keys if getattr(self, key) not in (False, None, "", "53")]


class ClusterManager(Block, kw_only=True):
    clusters: list[Cluster] = []
    clusters_configs: Annotated[str, works("directory of one cluster per JSON file, read at load")] = ""
    tls_context: Annotated[TlsContext | None, works("of clusters with `cluster_manager_tls`")] = None
    cluster_pool_enable: Annotated[bool, ignored("pools always belong to one cluster")] = False
