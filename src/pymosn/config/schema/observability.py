"""Metrics and tracing."""

from typing import Annotated

import msgspec

from pymosn.core.secrets import Secret
from pymosn.filters.settings import AnyMap, Block, Duration, Percent, Port, ignored, own, works

#: A share of all.
Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]


class PrometheusSink(Block, kw_only=True):
    """MOSN's text of all metrics, on a port of its own; docs/metrics.md."""

    port: Annotated[Port, works("on 0.0.0.0; follows reloads and hot upgrades")] = 0
    endpoint: str = "/metrics"
    disable_collect_process: Annotated[bool, works("without `process_*`, the sums over all processes")] = False
    disable_collect_go: Annotated[bool, ignored("there is no Go: `go_*` does not exist")] = False
    percentiles: Annotated[list[Percent], works("estimated from the buckets of all values")] = []
    export_url: Annotated[str, works("an error, as in MOSN: nothing is pushed")] = ""


class MetricsSink(Block, kw_only=True):
    """A destination of metrics."""

    type: str = ""
    config: AnyMap = {}


class StatsMatcher(Block, kw_only=True):
    """Metrics that are not reported: by the sink, `/api/v1/stats` and, but for keys, which are MOSN's, `/metrics`."""

    reject_all: bool = False
    exclusion_labels: Annotated[list[str], works("names of labels, as they are in MOSN")] = []
    exclusion_keys: Annotated[list[str], works("keys without the type, such as `request_total`")] = []


class HistogramSample(Block, kw_only=True):
    """The reservoir of a histogram, without effect: histograms count all values, in buckets of doubling width."""

    type: Annotated[str, ignored("all values are counted")] = "UNIFORM"
    size: Annotated[int, ignored("all values are counted")] = 100
    exp_decay_alpha: Annotated[float, ignored("all values are counted")] = 0.5


class Ewma(Block, kw_only=True):
    """Moving averages: either `alpha`, or `target` after `duration`. Without effect."""

    alpha: Annotated[float, ignored("LB_PEAK_EWMA has a fixed decay")] = 0.0
    target: Annotated[float, ignored("LB_PEAK_EWMA has a fixed decay")] = 0.0
    duration: Annotated[Duration, ignored("LB_PEAK_EWMA has a fixed decay")] = 0.0


class Metrics(Block, kw_only=True):
    """What is reported of the traffic, and where; docs/metrics.md."""

    sinks: Annotated[list[MetricsSink], works("of the type `prometheus`")] = []
    stats_matcher: StatsMatcher = msgspec.field(default_factory=StatsMatcher)
    shm_zone: Annotated[str, ignored("counters survive hot upgrades in any case")] = ""
    shm_size: Annotated[str, ignored("counters survive hot upgrades in any case")] = ""
    flush_mosn: Annotated[bool, works("the sink also has the type `meta`")] = False
    lazy_flush: Annotated[bool, works("the sink has only what was ever used")] = False
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


def sink_settings(sink: MetricsSink) -> PrometheusSink:
    """The settings of a sink of the type `prometheus`, which have been checked."""
    return msgspec.convert(sink.config, PrometheusSink)


def sinks_to_serve(metrics: Metrics | None) -> list[PrometheusSink]:
    """The sinks that run: as in MOSN, those before the first one that cannot be built."""
    found: list[PrometheusSink] = []
    for sink in [] if metrics is None else metrics.sinks:
        if sink.type != "prometheus":
            break
        settings = sink_settings(sink)
        settings.endpoint = settings.endpoint or "/metrics"
        if not settings.port or settings.export_url or not settings.endpoint.startswith("/"):
            break
        found.append(settings)
    return found


METRICS_SINKS: dict[str, type[Block]] = {"prometheus": PrometheusSink}

TRACE_DRIVERS: dict[str, type[Block]] = {
    "SOFATracer": SofaTracer,
    "Zipkin": Zipkin,
    "jaeger": Jaeger,
    "SkyWalking": SkyWalking,
    "otel": OpenTelemetry,
    "PluginDriver": PluginDriver,
}
