# ruff: noqa: N815 - attribute names are MOSN's keys
"""`config` of the filters that MOSN ships, by name. Those that are not built yet are refused."""

from typing import Annotated, Any, ClassVar

import msgspec

from pymosn.config.schema.block import AnyMap, Block, Duration, Percent, Unsigned, ignored, own, works
from pymosn.config.schema.extensions import WasmVm
from pymosn.config.schema.router import HeaderMatch


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

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None
    upstream_cluster: str = ""
    headers: list[HeaderMatch] = []


class PayloadLimit(Block, kw_only=True):
    """`payload_limit`; MOSN's own spelling of the key ends in a space."""

    max_entity_size: int = 0
    http_status: int = 0


class Gzip(Block, kw_only=True):
    """`gzip`."""

    gzip_level: Unsigned = 0
    content_length: Unsigned = 0
    content_types: list[str] = []


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

    default_action: str = "allow"
    header: str = ""
    ips: list[IpRule] = []


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


class FlowControl(Block, kw_only=True):
    """`flowControlFilter`; the rules are Sentinel's."""

    app_name: str = "unknown"
    log_path: str = "/tmp/sentinel"
    global_switch: bool = False
    monitor: bool = False
    limit_key_type: str = "PATH"
    action: FlowAction | None = None
    rules: list[AnyMap] = []
    dynamic_data_resources: list[AnyMap] = []
    callback_name: str = ""


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


class Transcoder(Block, kw_only=True):
    """`transcoder`."""

    type: str = ""
    trans: AnyMap = {}
    rules: list[AnyMap] = []


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
    "jwt_authn": OpenConfig,
    "rbac": OpenConfig,
    "mixer": OpenConfig,
    "istio.stats": OpenConfig,
}

LISTENER_FILTERS: dict[str, type[Block]] = {"original_dst": OriginalDst}

# Names in MOSN's own samples that stand for no filter in MOSN.
NO_OP_STREAM_FILTERS = frozenset({"healthcheck"})
BUILT_STREAM_FILTERS = frozenset({"python", "mirror", "dubbo_stream"})
