# ruff: noqa: N815 - attribute names are MOSN's keys
"""`config` of the filters that MOSN ships, by name. Those that are not built yet are refused."""

from typing import Annotated, Any, ClassVar, Final

import msgspec

from pymosn.config.schema.block import (
    AnyMap,
    Block,
    Duration,
    Percent,
    Unsigned,
    ignored,
    own,
    planned_checked,
    works,
)
from pymosn.config.schema.envoy_filters import JwtAuthn, Rbac
from pymosn.config.schema.extensions import WasmVm
from pymosn.config.schema.router import HeaderMatch

_OLD_SENTINEL = "of an older Sentinel; MOSN does not read it either"


class PythonFilter(Block, kw_only=True):
    """`python`: a class derived from `pymosn.api.StreamFilter`. It receives this whole object."""

    open_keys: ClassVar[bool] = True
    path: Annotated[str, own("Python file; relative to the configuration file")] = ""
    class_: Annotated[str, own("name of the class in that file")] = msgspec.field(default="", name="class")


class FaultDelay(Block, kw_only=True):
    """A delay for some of the requests."""

    percentage: Percent = 0
    fixed_delay: Duration = 0.0


class FaultAbort(Block, kw_only=True):
    """An error for some of the requests."""

    percentage: Percent = 0
    status: int = 0


class Fault(Block, kw_only=True):
    """`fault`."""

    delay: Annotated[FaultDelay | None, works("before `abort`")] = None
    abort: FaultAbort | None = None
    upstream_cluster: Annotated[str, works("only requests that go to this cluster")] = ""
    headers: Annotated[list[HeaderMatch], works("only requests that meet all of them")] = []


class PayloadLimit(Block, kw_only=True):
    """`payload_limit`; MOSN's own spelling of the key ends in a space."""

    max_entity_size: Annotated[int, works("bytes; with or without MOSN's trailing space in the key; 0 is no limit")] = 0
    http_status: Annotated[int, works("0: 413")] = 0


class Gzip(Block, kw_only=True):
    """`gzip`."""

    gzip_level: Annotated[Unsigned, works("1 to 9; 0: 6")] = 0
    content_length: Annotated[
        Unsigned, works("bytes from which on a body is compressed; one of unknown length always is")
    ] = 0
    content_types: Annotated[list[str], works("without parameters, any; empty: text/html")] = []
    encodings: Annotated[
        list[str], own("of gzip, br and zstd, the preferred one first; default: zstd, br (pymosn[compress]), gzip")
    ] = []


class Mirror(Block, kw_only=True):
    """`mirror`: how a listener's requests are mirrored, where their route says that they are."""

    amplification: Annotated[Unsigned, works("copies for each mirror; 0 is none")] = 1
    broadcast: Annotated[
        bool, works("a copy to every healthy host of the mirror's cluster and an empty 200 in place of the reply")
    ] = False


class MetadataPair(Block, kw_only=True):
    """A label to set."""

    key: str = ""
    value: str = ""


class HeaderToMetadataRule(Block, kw_only=True):
    """A label from a header."""

    header: str = ""
    on_header_present: MetadataPair | None = None
    on_header_missing: MetadataPair | None = None
    remove: bool = False


class HeaderToMetadata(Block, kw_only=True):
    """`header_to_metadata`."""

    request_rules: list[HeaderToMetadataRule] = []


class IpRule(Block, kw_only=True):
    """A list of addresses and what becomes of them."""

    action: str = ""
    addrs: list[str] = []


class IpAccess(Block, kw_only=True):
    """`ip_access`."""

    default_action: Annotated[str, works("allow or deny; anything else is refused")] = "allow"
    header: Annotated[str, works("a header with the client's address; of a list the last one counts")] = ""
    ips: Annotated[list[IpRule], works("the first list with the address decides")] = []


class Dsl(Block, kw_only=True):
    """`dsl`."""

    before_router_by_dsl: str = ""
    after_router_by_dsl: str = ""
    after_balancer_by_dsl: str = ""
    send_filter_by_dsl: str = ""
    log_filter_by_dsl: str = ""
    debug: Annotated[Any, ignored("MOSN does not use it either")] = None


class FlowAction(Block, kw_only=True):
    """The reply to a limited request."""

    status: int = 509
    body: str = "current request is limited"


class FlowRule(Block, kw_only=True):
    """Sentinel's flow rule. Keys of older versions of it are taken without effect, as in MOSN."""

    id: Annotated[Any, ignored("a name for people")] = None
    resource: Annotated[str, works("what `limit_key_type` says of a request, exactly")] = ""
    tokenCalculateStrategy: Annotated[int, works("0 direct, 1 warm-up; 2 (memory) is refused")] = 0
    controlBehavior: Annotated[int, works("0 reject, 1 throttling")] = 0
    threshold: Annotated[float, works("requests in `statIntervalInMs`; each worker has its part")] = 0.0
    statIntervalInMs: Annotated[Unsigned, works("0: 1000")] = 0
    relationStrategy: Annotated[int, works("0 the resource itself, 1 what passes for `refResource` counts")] = 0
    refResource: str = ""
    maxQueueingTimeMs: Annotated[Unsigned, works("the longest wait with throttling")] = 0
    warmUpPeriodSec: Unsigned = 0
    warmUpColdFactor: Annotated[Unsigned, works("0: 3")] = 0
    lowMemUsageThreshold: Annotated[Any, ignored("of tokenCalculateStrategy 2, which is refused")] = None
    highMemUsageThreshold: Annotated[Any, ignored("of tokenCalculateStrategy 2, which is refused")] = None
    memLowWaterMarkBytes: Annotated[Any, ignored("of tokenCalculateStrategy 2, which is refused")] = None
    memHighWaterMarkBytes: Annotated[Any, ignored("of tokenCalculateStrategy 2, which is refused")] = None
    limitApp: Annotated[Any, ignored(_OLD_SENTINEL)] = None
    grade: Annotated[Any, ignored(_OLD_SENTINEL)] = None
    strategy: Annotated[Any, ignored(_OLD_SENTINEL)] = None


class FlowControl(Block, kw_only=True):
    """`flowControlFilter`; the rules are Sentinel's."""

    app_name: Annotated[str, ignored("Sentinel's own logs are not written; counts are in the metrics")] = "unknown"
    log_path: Annotated[str, ignored("Sentinel's own logs are not written; counts are in the metrics")] = "/tmp/sentinel"
    global_switch: Annotated[bool, works("false: the rules do nothing")] = False
    monitor: Annotated[bool, works("count what would be limited, and let it pass")] = False
    limit_key_type: Annotated[str, works("PATH, ARG (the query) or URI (both)")] = "PATH"
    action: FlowAction | None = None
    rules: list[FlowRule] = []
    dynamic_data_resources: Annotated[list[AnyMap], planned_checked("rules from Nacos: refused")] = []
    callback_name: Annotated[str, planned_checked("callbacks are compiled into MOSN: refused")] = ""


class Cors(Block, kw_only=True):
    """`cors`: which pages of other origins may use what is behind the proxy."""

    allow_origins: Annotated[list[str], own("`https://app.example`, exactly; `*` is every origin")] = []
    allow_origin_regexes: Annotated[list[str], own("RE2, for the whole origin")] = []
    allow_methods: Annotated[list[str], own("")] = msgspec.field(default_factory=lambda: ["GET", "HEAD", "POST"])
    allow_headers: Annotated[list[str], own("request headers beyond those that are always allowed")] = []
    expose_headers: Annotated[list[str], own("reply headers that pages may read")] = []
    max_age: Annotated[Duration, own("how long a browser remembers the answer to a preflight request")] = 600.0
    allow_credentials: Annotated[bool, own("cookies and the like; not with the origin `*`")] = False


class ExtAuthz(Block, kw_only=True):
    """`ext_authz`: a service says by HTTP whether a request may pass."""

    cluster: Annotated[str, own("the cluster of the service")] = ""
    path: Annotated[str, own("what it is asked with GET; empty: the request's own path and query")] = ""
    timeout: Annotated[Duration, own("")] = 2.0
    failure_mode_allow: Annotated[bool, own("let requests pass when the service does not answer or answers 5xx")] = False
    status_on_error: Annotated[int, own("otherwise the client's status then")] = 403
    request_headers: Annotated[list[str], own("of the request, for the service")] = msgspec.field(
        default_factory=lambda: ["authorization", "cookie"]
    )
    headers_to_upstream: Annotated[list[str], own("of a 2xx answer, for the upstream; the client's own are removed")] = []
    headers_to_client: Annotated[list[str], own("of another answer, for the client")] = msgspec.field(
        default_factory=lambda: ["content-type", "location", "set-cookie", "www-authenticate"]
    )


class ExtAuthzOfRoute(Block, kw_only=True):
    """`per_filter_config.ext_authz`."""

    disabled: Annotated[bool, own("requests of this route pass unasked")] = False


class LocalRateLimit(Block, kw_only=True):
    """`local_rate_limit`: a token bucket for all requests, or for each client, path or value of a header."""

    requests: Annotated[int, own("how many in `per`; each worker has its part")] = 0
    per: Annotated[Duration, own("")] = 1.0
    burst: Annotated[Unsigned, own("how many at once; 0: `requests`")] = 0
    key: Annotated[str, own("all, client (the socket's address), path or header")] = "all"
    header: Annotated[str, own("with key `header`: which; requests without it share a bucket")] = ""
    max_keys: Annotated[int, own("buckets in a worker; the one used longest ago is forgotten")] = 10000
    status: Annotated[int, own("")] = 429
    body: Annotated[str, own("")] = ""


class FaultTolerance(Block, kw_only=True):
    """`fault_tolerance`: ejection of hosts by their error rate; times in milliseconds."""

    enabled: bool = False
    exceptionTypes: list[int] = msgspec.field(default_factory=lambda: [502, 503, 504])
    timeWindow: int = 10000
    leastWindowCount: int = 10
    exceptionRateMultiple: float = 5.0
    maxIpCount: Unsigned = 1
    maxIpRatio: Annotated[float, ignored("MOSN does not use it either")] = 0.0
    recoverTime: int = 900000
    taskSize: int = 20


_COMPILED_IN: Final = "refused: the transcoders that it names are compiled into MOSN"


class Transcoder(Block, kw_only=True):
    """`transcoder`: a class derived from `pymosn.api.Transcoder`. It receives this whole object."""

    open_keys: ClassVar[bool] = True
    path: Annotated[str, own("Python file; relative to the configuration file")] = ""
    class_: Annotated[str, own("name of the class in that file")] = msgspec.field(default="", name="class")
    type: Annotated[str, planned_checked(_COMPILED_IN)] = ""
    trans: Annotated[AnyMap, planned_checked(_COMPILED_IN)] = {}
    rules: Annotated[list[AnyMap], planned_checked(_COMPILED_IN)] = []


class DubboStream(Block, kw_only=True):
    """`dubbo_stream`: virtual hosts by service, subsets by an attachment."""

    subset: Annotated[str, works("a header or attachment whose value the host's metadata must have")] = ""


class Seata(Block, kw_only=True):
    """`seata`."""

    addressing: str = ""
    serverAddressing: str = ""
    commitRetryCount: int = 0
    rollbackRetryCount: int = 0
    clientParameters: AnyMap = {}
    transactionInfos: list[AnyMap] = []
    tccResources: list[AnyMap] = []


class ProxyWasm(Block, kw_only=True):
    """`proxywasm`; all other keys go to the plugin."""

    open_keys: ClassVar[bool] = True
    from_wasm_plugin: str = ""
    vm_config: WasmVm | None = None
    instance_num: Unsigned = 0
    root_context_id: Annotated[int, works("default 1")] = 1


class OpenConfig(Block, kw_only=True):
    """A configuration in another system's schema (Envoy's, Istio's), or none at all."""

    open_keys: ClassVar[bool] = True


class OriginalDst(Block, kw_only=True):
    """`original_dst`, a listener filter."""

    type: str = "redirect"
    fallback_to_local: bool = False


STREAM_FILTERS: dict[str, type[Block]] = {
    "python": PythonFilter,
    "fault": Fault,
    "payload_limit": PayloadLimit,
    "gzip": Gzip,
    "mirror": Mirror,
    "header_to_metadata": HeaderToMetadata,
    "ip_access": IpAccess,
    "dsl": Dsl,
    "flowControlFilter": FlowControl,
    "fault_tolerance": FaultTolerance,
    "transcoder": Transcoder,
    "dubbo_stream": DubboStream,
    "grpc_metric": OpenConfig,
    "seata": Seata,
    "proxywasm": ProxyWasm,
    "jwt_authn": JwtAuthn,
    "rbac": Rbac,
    "cors": Cors,
    "ext_authz": ExtAuthz,
    "local_rate_limit": LocalRateLimit,
    "mixer": OpenConfig,
    "istio.stats": OpenConfig,
}

#: `per_filter_config` of the filters that have one: of routes and of virtual hosts.
ROUTE_SETTINGS: dict[str, type[Block]] = {
    "fault": Fault,
    "payload_limit": PayloadLimit,
    "ext_authz": ExtAuthzOfRoute,
    "local_rate_limit": LocalRateLimit,
}

LISTENER_FILTERS: dict[str, type[Block]] = {"original_dst": OriginalDst}

# Names in MOSN's own samples that stand for no filter in MOSN.
NO_OP_STREAM_FILTERS = frozenset({"healthcheck"})
BUILT_STREAM_FILTERS = frozenset(
    (
        *("python", "mirror", "fault", "payload_limit", "gzip", "header_to_metadata", "ip_access", "flowControlFilter"),
        *("jwt_authn", "rbac", "cors", "ext_authz", "local_rate_limit", "dubbo_stream", "transcoder"),
    )
)
# Those whose `config` names a class in a Python file.
FILE_STREAM_FILTERS = frozenset({"python", "transcoder"})
