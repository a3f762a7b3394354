"""MOSN's features other than configuration keys, and their state in this version: tables of docs/compatibility.md.

Each row is a name, its state and a note.
"""

from typing import Final

from pymosn.config.schema.stream_filters import PLANNED
from pymosn.filters.settings import State
from pymosn.filters.spec import Difference

Row = tuple[str, State, str]

_W: Final = State.WORKS
_P: Final = State.PLANNED
_I: Final = State.IGNORED

_REFUSED: Final = "a file that uses it is refused"

NETWORK_FILTERS: Final[tuple[Row, ...]] = (
    ("proxy", _W, "HTTP/1.1 and RPC"),
    ("connection_manager", _W, "read as a router table, as in MOSN"),
    ("tcp_proxy", _W, "also after proxy, for unknown protocols"),
    ("udp_proxy", _P, _REFUSED),
    ("grpc", _P, _REFUSED),
    ("tunnel", _P, _REFUSED),
    ("fault_inject", _P, f"not part of MOSN's own program; {_REFUSED}"),
)

#: Those that are not shipped; the rows of the others are in their own files (`filters/stream`).
OTHER_STREAM_FILTERS: Final[tuple[Row, ...]] = (
    ("healthcheck", _I, "no such filter in MOSN either, but its samples name it"),
    *((name, _P, _REFUSED) for name in PLANNED),
)

LISTENER_FILTERS: Final[tuple[Row, ...]] = (("original_dst", _W, "acts with use_original_dst only"),)

PROTOCOLS: Final[tuple[Row, ...]] = (
    ("Http1", _W, "HTTP/1.0 and HTTP/1.1, streaming both ways"),
    ("Auto", _W, "tries Http1, bolt, boltv2, dubbo, dubbo-thrift, tars, in this order; in MOSN the order is random"),
    ("Http2", _P, _REFUSED),
    ("bolt", _W, "both versions on one connection; recognised by more than its first byte; frames are bounded"),
    ("boltv2", _W, "as bolt; the CRC is checked and recomputed"),
    ("dubbo", _W, "any serialization; attachments on any listener, decoded on demand"),
    ("dubbo-thrift", _W, "with or without the path that later versions of Dubbo write"),
    ("tars", _W, "versions 1 to 3; failures get a response, unlike in MOSN"),
    ("X", _W, "the old name for the protocols in extend_config.sub_protocol"),
)

BALANCERS: Final[tuple[Row, ...]] = (
    ("LB_RANDOM", _W, "an unhealthy host's share goes to all others; in MOSN to the next in the list"),
    ("LB_ROUNDROBIN", _W, "the default"),
    ("LB_WEIGHTED_ROUNDROBIN", _W, "earliest deadline first; exact over each cycle while all hosts are healthy"),
    ("LB_LEAST_REQUEST", _W, "respects health; MOSN does not with equal weights"),
    ("LB_LEAST_CONNECTION", _W, "as LB_LEAST_REQUEST, with connections"),
    (
        "LB_MAGLEV",
        _W,
        "respects weights, unlike MOSN; an unhealthy host's requests are spread over all others; "
        "without a hash policy it hashes the client's IP address",
    ),
    ("LB_RING_HASH", _W, "pymosn's own: consistent hashing on a ring; 160 points per unit of weight, up to 32768 in all"),
    ("LB_REQUEST_ROUNDROBIN", _W, ""),
    ("LB_PEAK_EWMA", _W, "a slower response counts immediately, a faster one gradually"),
    ("LB_ORIGINAL_DST", _W, "used by ORIGINAL_DST clusters; makes clusters of other types such clusters"),
)

CLUSTER_TYPES: Final[tuple[Row, ...]] = (
    *((name, _W, "") for name in ("SIMPLE", "STATIC", "DYNAMIC", "EDS")),
    ("STRICT_DNS", _W, "resolved once per process; the last valid answer stays"),
    (
        "ORIGINAL_DST",
        _W,
        "a host for each destination, at most 1024 in each worker, removed after 60 s without a request; never this "
        "proxy's own listeners",
    ),
)

COMMANDS: Final[tuple[Row, ...]] = (
    ("start", _W, "in the foreground; `--workers N` and `--strict` are pymosn's own"),
    ("start --config, -c", _W, "without it the built-in two-hop example"),
    ("check", _W, "pymosn's own: all errors of a file; `--json`, `--strict`"),
    ("explain", _W, "pymosn's own: where a request goes and why; `-H`, `--listener`, `--json`"),
    ("version", _W, "MOSN: --version"),
    ("stop", _P, "send SIGTERM to the process in the pid file"),
    ("reload", _W, "sends SIGHUP to the running process and reports the result; does nothing in MOSN"),
    ("--log-level, -l", _W, "a ceiling for the process log"),
    ("--drain-time-s", _P, "use graceful_timeout"),
    (
        "--service-cluster -s, --service-node -n, --service-type -p, --service-meta -sm, --service-lables -sl",
        _P,
        "xDS; accepted with a warning",
    ),
    ("--cluster-domain, --pod-namespace -pns, --pod-name -pn, --pod-ip -pi", _P, "xDS; accepted with a warning"),
    ("--feature-gates, -f", _P, "MOSN's gates are for features that are not implemented yet"),
    ("Envoy's flags that MOSN accepts without effect", _I, "accepted with a warning"),
)

SIGNALS: Final[tuple[Row, ...]] = (
    ("SIGTERM", _W, "drains within graceful_timeout; a second one stops now"),
    ("SIGINT, SIGQUIT", _W, "stops now"),
    ("SIGUSR1", _W, "reopens the log files"),
    ("SIGHUP", _W, "reads the configuration file again; MOSN starts a new process: smooth upgrade is planned"),
)

ADMIN_PATHS: Final[tuple[Row, ...]] = (
    ("/", _W, "lists the paths"),
    ("/api/v1/version", _W, ""),
    ("/api/v1/config_dump", _W, "secrets are redacted"),
    ("/api/v1/stats", _W, "sums over the workers"),
    ("/api/v1/stats_glob", _W, ""),
    ("/api/v1/states", _W, ""),
    ("/api/v1/get_loglevel", _W, ""),
    ("/api/v1/update_loglevel", _W, "POST"),
    ("/api/v1/enable_log", _W, "POST"),
    ("/api/v1/disable_log", _W, "POST; also under the old spelling /api/v1/disbale_log"),
    ("/api/v1/features", _W, ""),
    ("/api/v1/env", _W, "only names starting with MOSN_ or PYMOSN_; MOSN reveals any environment variable"),
    ("/api/v1/plugin", _P, "sub-process plugins; answers 501"),
    ("/metrics, /api/v1/workers", _W, "pymosn's own"),
    ("/stats, /server_info", _P, "xDS"),
    ("/api/v1/update_config, /api/v1/update_route", _W, "POST; also as /debug/..., which only debug builds of MOSN have"),
    ("/api/v1/update_hosts, /api/v1/remove_config", _W, "POST; pymosn's own"),
    ("/api/v1/clusters, /api/v1/routes, /api/v1/explain, /api/v1/last_change", _W, "pymosn's own; see docs/operations.md"),
    ("/debug/disable_tls", _P, "debug builds of MOSN only"),
)

#: Deliberate differences in routing and retries: the subject, what MOSN does, what pymosn does.
DIFFERENCES: Final[tuple[Difference, ...]] = (
    (
        "`Host: name:port` where only `name` is a domain",
        "falls to `*`",
        "`name` serves it, unless another domain has the port",
    ),
    ("request without a host", "404, unless `*` is the only domain", "goes to `*`"),
    (
        "one faulty entry in a router table",
        "the whole table is dropped: 404 for all",
        "the file is refused, with the location",
    ),
    ("`regex` is searched in", "the decoded path", "the normalized path, percent-encoded, as it is forwarded"),
    ("invalid regex, unknown `model`", "dropped, or a panic per request", "the file is refused"),
    ("variable without a value", "an ERROR line per request", "does not match, silently"),
    (
        "routes by variables, expressions or headers alone",
        "no rewrites and no request header changes",
        "both, as on any route (`prefix_rewrite` needs a prefix or a path)",
    ),
    ("query parameters", "only through variables", "also `query_parameters`"),
    (
        "`weighted_clusters`",
        "biased, weight 0 can win, drawn again for log and subset",
        "unbiased, never weight 0, drawn once",
    ),
    ("`weighted_clusters` whose weights are all 0", "a panic per request", "the file is refused"),
    ("`cluster_header`", "never used", "has the cluster, if no other key does"),
    (
        "`hash_policy`",
        "the first entry; source IP is 0; no cookie is made",
        "all entries, in order; the socket's IP; a cookie",
    ),
    ("hash values", "SipHash", "another hash: clients are remapped once when MOSN is replaced"),
    ("`regex_rewrite`", "not with one character; `\\1` stays as it is", "any pattern; `\\1` is a group too"),
    ("`auto_host_rewrite`", "STRICT_DNS, not with weighted clusters", "any cluster whose hosts have a `hostname`"),
    ("`%variable%` in header values", "only alone in the value", "anywhere in it"),
    ("redirect and direct_response", "echo all request headers", "have no headers of the request"),
    (
        "`timeout`",
        "of the whole exchange",
        "until the response's head; then `stream_idle_timeout` applies, so that long responses are possible",
    ),
    (
        "`retry_on: false`",
        "connect failures are still retried",
        "disables retries; only a stale idle connection is replaced",
    ),
    ("no `retry_policy`", "connect failures are retried", "the same, each host once, three at most"),
    ("`num_retries`", "3 at least", "exactly that many; 0 is 3"),
    ("pause before a retry", "10 ms", "none before the first, then growing to 250 ms with full jitter"),
    ("host of a retry", "any", "an untried one; the last one only if no other is healthy"),
    ("POST and PATCH after they were sent", "sent again", "only with `retry_non_idempotent`"),
    (
        "body of a retried request",
        "always buffered completely",
        "kept up to 64 KiB, for RPC completely; larger ones are not retried",
    ),
    (
        "stale connection",
        "502, or a retry with `retry_on`",
        "replaced for repeatable requests; does not count as an attempt or against the budget",
    ),
    ("`max_retries`", "never trips", "a budget of concurrent retries; when it is exhausted, the last response is sent"),
    ("retryable response, but no host is left", "502", "the response is sent"),
    (
        "`request_mirror_policies`",
        "one; only with the filter `mirror`; not with `upstream_protocol`",
        "one or several; with or without the filter",
    ),
    (
        "copies of a request",
        "of the request before header changes; its body is buffered completely",
        "of the request to the upstream, with its rewrites and `Host` (Envoy adds `-shadow`); the body streams",
    ),
    ("mirror that does not keep up", "holds the body without limit", "dropped when 256 KiB are pending, and counted"),
    ("broadcast without a healthy host", "200", "502 with the reason word"),
    ("`tcp_proxy`: one side ends", "both are closed, even if the other still sends", "the end is forwarded after the data"),
    (
        "`tcp_proxy`: no host to connect to",
        "the connection is closed",
        "it is reset, with a line in the log and a reason word",
    ),
    ("`tcp_proxy`: access log, idle time", "none", "one line at the end; `idle_timeout`, or else `connection_idle_timeout`"),
    (
        "connection in no known protocol, no fallback",
        "closed, or kept open while it is undecided",
        "reset: `protocol_unknown`, `detection_timeout`",
    ),
)

#: The same of stream filters in general; those of a single one are in its own file (docs/shipped-filters.md).
FILTER_DIFFERENCES: Final[tuple[Difference, ...]] = (
    ("invalid settings of a filter", "the filter is left out, traffic flows without it", "the file is refused"),
    (
        "variables and log of a request denied by a filter",
        "response flags",
        "the flags, and a reason word (`rate_limited`, ...)",
    ),
    ("`jwt_authn`, `rbac`: unsupported keys", "left out with a warning", "the file is refused"),
)

EXAMPLES: Final[tuple[Row, ...]] = (
    ("configs/mosn_config.json", _W, "`Auto` serves HTTP/1.1"),
    ("configs/mosn_config_dev.json", _P, "loads, but its clients speak HTTP/2"),
    ("configs/mosn_config_broadcast.json", _W, "its `metrics` block has no effect yet"),
    ("configs/mosn_config_mirror.json", _P, "its Http1 listener works; the others speak dubbo and HTTP/2"),
    ("configs/mosn_rpc_config.json, mosn_rpc_config_bolt.json", _P, "load without an error; not run"),
    ("configs/mosn_config_wasm.json, mosn_rpc_config_wasm.json", _P, "wasm"),
    ("configs/istio152/*", _P, "xDS"),
    ("configs/mosn_so.json", _I, "MOSN-on-Envoy"),
    ("http-sample/client_config.json, server_config.json", _W, "our own copies of its shape: examples/http"),
    ("http-sample/tls_*", _P, "TLS"),
    ("protocol-auto-sample/client_config.json, server_config.json", _W, "all protocols but HTTP/2"),
    ("protocol-auto-sample/tls_*", _P, "TLS"),
    ("sofarpc-with-xprotocol-sample/client_config.json, server_config.json", _W, "run with Bolt peers"),
    ("sofarpc-with-xprotocol-sample/tls_*", _P, "TLS"),
    ("tcpproxy-sample/config.json", _W, "our own equivalent: examples/tcp/config.json"),
    ("udpproxy-sample/config.json", _P, "udp_proxy"),
    ("uds-sample/*", _W, "examples/uds is the same with `proxy`"),
    ("proxy-fallback-example/config.json", _W, "our own equivalent: examples/tcp/fallback.json"),
    ("dsl-sample/config.json", _P, "dsl"),
    (
        "flowcontrol-sample/config.json, client_config.json, server_config.json",
        _W,
        "our own equivalent: examples/filters/mosn/flowcontrol.json",
    ),
    ("flowcontrol-sample/tls_*, datasource-nacos/*", _P, "TLS; rules from Nacos"),
    ("filter/ipaccess/config.json", _W, "our own equivalent: examples/filters/mosn/ipaccess.json"),
    ("filter/jwtauthn/config.json", _W, "our own equivalent: examples/filters/mosn/jwtauthn.json"),
    ("filter/transcoder/*", _P, "its transcoder is compiled into MOSN; examples/transcoder is one in Python"),
    ("filter/dubbo/*", _P, "xDS, dubbo"),
    ("dubbo/client_config.json, server_config.json", _W, "our own copies of its shape: examples/dubbo"),
    ("slow-start-sample/config.json", _P, "loads; weights, slow start and health checks have no effect yet"),
    ("tproxy/*", _W, "HTTP/1.1 only"),
    ("trace/*", _P, "loads; no traces are recorded"),
    ("tunnel-sample/*", _P, "tunnel"),
    ("seata/*", _P, "seata"),
    ("wasm/*", _P, "proxywasm"),
    ("xprotocol_with_goplugin_example/*", _I, "Go shared objects cannot be loaded into Python"),
    ("xds-server-sample/config.json", _P, "xDS"),
    ("envoy-go-extension/*", _I, "MOSN-on-Envoy"),
    ("mosn-extensions/*, plugin/*", _I, "filters compiled into MOSN; write them in Python"),
)
