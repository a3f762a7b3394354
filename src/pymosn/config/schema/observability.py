"""Metrics (planned: read and checked, without effect yet) and tracing."""

from typing import Annotated

import msgspec

from pymosn.core.secrets import Secret
from pymosn.filters.settings import AnyMap, Block, Duration, Percent, Port, ignored, own, works

#: A share of all.
Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]


class PrometheusSink(Block, kw_only=True):
    port: Port = 0
    endpoint: str = "/metrics"
    disable_collect_process: bool = False
    disable_collect_go: bool = False
    percentiles: list[Percent] = []
    export_url: str = ""


class MetricsSink(Block, kw_only=True):
    """A destination of metrics."""

    type: str = ""
    config: AnyMap = {}


class StatsMatcher(Block, kw_only=True):
    """Metrics that are not recorded."""

    reject_all: bool = False
    exclusion_labels: list[str] = []
    exclusion_keys: list[str] = []


class HistogramSample(Block, kw_only=True):
    """The reservoir of a histogram."""

    type: str = "UNIFORM"
    size: int = 100
    exp_decay_alpha: float = 0.5


class Ewma(Block, kw_only=True):
    """Moving averages: either `alpha`, or `target` after `duration`."""

    alpha: float = 0.0
    target: float = 0.0
    duration: Duration = 0.0


class Metrics(Block, kw_only=True):
    sinks: list[MetricsSink] = []
    stats_matcher: StatsMatcher = msgspec.field(default_factory=StatsMatcher)
    shm_zone: str = ""
    shm_size: str = ""
    flush_mosn: bool = False
    lazy_flush: bool = False
    sample: HistogramSample = msgspec.field(default_factory=HistogramSample)
    ewma: Ewma = msgspec.field(default_factory=Ewma)
    flush_interval: Annotated[Duration, ignored("MOSN does not use it either")] = 0.0


class SofaTracer(Block, kw_only=True):
    log_path: Annotated[str, works("a folder; the default is `logs/tracelog/mosn` in the home directory")] = ""


class ZipkinHttp(Block, kw_only=True):
    """Zipkin's HTTP reporter; times in seconds."""

    timeout: Annotated[int, works("the default is 5")] = 0
    batch_size: Annotated[int, works("spans of a batch; the default is 100")] = 0
    batch_interval: Annotated[int, works("the default is 1")] = 0


class ZipkinKafka(Block, kw_only=True):
    topic: Annotated[str, ignored("Kafka is not written to: use `reporter: http`")] = ""


class Zipkin(Block, kw_only=True):
    service_name: str = "mosn"
    reporter: Annotated[str, works("http")] = ""
    sample_rate: float = 0.0
    addresses: Annotated[list[str], works("URLs, tried in turn; MOSN accepts one")] = []
    http: Annotated[ZipkinHttp | None, works("required; without it MOSN panics")] = None
    kafka: Annotated[ZipkinKafka | None, ignored("Kafka is not written to: use `reporter: http`")] = None


class Jaeger(Block, kw_only=True):
    service_name: Annotated[str, works("the default is APP_ID with `_sidecar`, or `default_sidecar`")] = ""
    agent_host: Annotated[str, works("the default is TRACE of the environment, or 0.0.0.0:6831, this machine")] = ""


class SkyWalkingTls(Block, kw_only=True):
    cert_file: Annotated[str, works("PEM with the certificates of the authorities")] = ""
    server_name_override: str = ""


class SkyWalking(Block, kw_only=True):
    reporter: Annotated[str, works("log (to the process log), gRPC")] = "log"
    backend_service: str = ""
    service_name: str = "mosn"
    max_send_queue_size: Annotated[int, works("the default is 30,000")] = 0
    authentication: Secret[str] = ""
    tls: SkyWalkingTls | None = None


class OpenTelemetry(Block, kw_only=True):
    service_name: Annotated[str, works("the default is COMP_NAME with `_sidecar`, or `default_sidecar`")] = ""
    report_method: Annotated[str, works("console, http, grpc; console without `endpoint`")] = ""
    endpoint: Annotated[str, works("host:port without TLS, or a URL")] = ""
    config_map: Annotated[AnyMap, works("attributes of the resource")] = {}


class PluginDriver(Block, kw_only=True):
    """`config` of the driver `PluginDriver`, a Go shared object."""

    sopath: str = ""
    factory_method: str = "TracerBuilder"
    builder: AnyMap = {}


class SamplingRule(Block, kw_only=True):
    """The rate of some requests: those that meet all conditions that are given."""

    path: Annotated[str, own("prefix of the path")] = ""
    method: Annotated[str, own("of an HTTP or RPC request")] = ""
    service: Annotated[str, own("of a gRPC or RPC request")] = ""
    listener: Annotated[str, own("its name")] = ""
    route: Annotated[str, own("its label, or its name as in `%route_name%`")] = ""
    header: Annotated[str, own("a header that must be there")] = ""
    header_value: Annotated[str, own("the value that it must have; empty for any")] = ""
    rate: Annotated[Rate, own("share of the traces that are recorded, from 0 to 1")] = 1.0


class TraceSampling(Block, kw_only=True):
    """Which traces are recorded: the first of `header`, `parent`, `rules` and `rate` that decides."""

    rate: Annotated[Rate | None, own("share from 0 to 1; default: `sample_rate` of Zipkin, else 1")] = None
    parent: Annotated[bool, own("the decision in a received context counts")] = True
    header: Annotated[
        str, own("a request with this header is recorded; whoever may send it decides about the cost of tracing")
    ] = ""
    rules: Annotated[list[SamplingRule], own("the first one that matches has the rate")] = []


class Tracing(Block, kw_only=True):
    """`tracing`; the schema of `config` depends on the driver."""

    enable: bool = False
    driver: str = ""
    config: AnyMap = {}
    propagation: Annotated[
        list[str],
        own(
            "formats of contexts: w3c, b3, b3multi, jaeger, sw8, sofa. The first that is found is read, all are written; "
            "default: that of the driver"
        ),
    ] = []
    sampling: Annotated[TraceSampling, own("which traces are recorded")] = msgspec.field(default_factory=TraceSampling)
    tracer: Annotated[str, ignored("MOSN does not use it any more")] = ""


METRICS_SINKS: dict[str, type[Block]] = {"prometheus": PrometheusSink}

TRACE_DRIVERS: dict[str, type[Block]] = {
    "SOFATracer": SofaTracer,
    "Zipkin": Zipkin,
    "jaeger": Jaeger,
    "SkyWalking": SkyWalking,
    "otel": OpenTelemetry,
    "PluginDriver": PluginDriver,
}
