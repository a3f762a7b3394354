"""Metrics and tracing (planned: read and checked, without effect yet)."""

from typing import Annotated

import msgspec

from pymosn.core.secrets import Secret
from pymosn.filters.settings import AnyMap, Block, Duration, Percent, Port, ignored, own


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
    per_route: Annotated[bool, own("results and durations of each route in `/metrics` of the admin API")] = False
    per_host: Annotated[bool, own("the metrics of each host in `/metrics` of the admin API")] = True
    exemplars: Annotated[bool, own("durations of requests in OpenMetrics have the ids of their traces")] = False
    max_series: Annotated[
        int,
        msgspec.Meta(ge=1, le=100_000),
        own("hosts, routes, filters and services with metrics of their own; others are `other`"),
    ] = 1000
    flush_interval: Annotated[Duration, ignored("MOSN does not use it either")] = 0.0


class SofaTracer(Block, kw_only=True):
    log_path: str = ""


class ZipkinHttp(Block, kw_only=True):
    """Zipkin's HTTP reporter; times in seconds."""

    timeout: int = 0
    batch_size: int = 0
    batch_interval: int = 0


class ZipkinKafka(Block, kw_only=True):
    topic: str = ""


class Zipkin(Block, kw_only=True):
    service_name: str = "mosn"
    reporter: str = ""
    sample_rate: float = 0.0
    addresses: list[str] = []
    http: ZipkinHttp | None = None
    kafka: ZipkinKafka | None = None


class Jaeger(Block, kw_only=True):
    service_name: str = ""
    agent_host: str = "0.0.0.0:6831"


class SkyWalkingTls(Block, kw_only=True):
    cert_file: str = ""
    server_name_override: str = ""


class SkyWalking(Block, kw_only=True):
    reporter: str = ""
    backend_service: str = ""
    service_name: str = ""
    max_send_queue_size: int = 0
    authentication: Secret[str] = ""
    tls: SkyWalkingTls | None = None


class OpenTelemetry(Block, kw_only=True):
    service_name: str = ""
    report_method: str = ""
    endpoint: str = ""
    config_map: AnyMap = {}


class PluginDriver(Block, kw_only=True):
    """`config` of the driver `PluginDriver`, a Go shared object."""

    sopath: str = ""
    factory_method: str = "TracerBuilder"
    builder: AnyMap = {}


class Tracing(Block, kw_only=True):
    """`tracing`; the schema of `config` depends on the driver."""

    enable: bool = False
    driver: str = ""
    config: AnyMap = {}
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
