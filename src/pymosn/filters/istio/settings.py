"""The settings of Istio's metrics, of HTTP (`istio.stats`) and of TCP (`istio_stats` of `tcp_proxy`)."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pymosn.filters.settings import Block, Duration, Positive, ignored, own, works
from pymosn.filters.stream.problems import Problems

#: Who reports: the client's sidecar, the server's, or a gateway for several servers.
SOURCE: Final = "source"
DESTINATION: Final = "destination"
WAYPOINT: Final = "waypoint"
REPORTERS: Final = (SOURCE, DESTINATION, WAYPOINT)

#: The metrics, without their prefix `istio_`.
HTTP_METRICS: Final = ("requests_total", "request_duration_milliseconds", "request_bytes", "response_bytes")
TCP_METRICS: Final = (
    *("tcp_connections_opened_total", "tcp_connections_closed_total", "tcp_sent_bytes_total", "tcp_received_bytes_total"),
)
#: Those of Istio that are not counted here: messages of gRPC.
UNBUILT_METRICS: Final = ("request_messages_total", "response_messages_total")
METRICS: Final = (*HTTP_METRICS, *TCP_METRICS, *UNBUILT_METRICS)


class Metric(Block, kw_only=True):
    """Changes to the labels of one metric, or of all without `name`."""

    name: Annotated[str, works("such as `requests_total`, without `istio_`; empty: all metrics")] = ""
    dimensions: Annotated[dict[str, str], works("label -> attribute, such as `request.host`, or a text in quotes")] = {}
    tags_to_remove: Annotated[list[str], works("labels that it does not have")] = []
    drop: Annotated[bool, own("the metric is not reported")] = False
    match: Annotated[str, ignored("MOSN does not use it either")] = ""


class StatsSettings(Block, kw_only=True):
    """Istio's metrics."""

    reporter: Annotated[
        str, own("`source` for requests of the own workload, `destination` for those to it, `waypoint` for a gateway")
    ] = SOURCE
    disable_host_header_fallback: Annotated[
        bool, works("a service that is unknown is not named after the Host header of the request")
    ] = False
    metrics: list[Metric] = []
    tcp_reporting_duration: Annotated[
        Duration, own("tcp_proxy: seconds between reports of the bytes of a connection; 0: when it is closed")
    ] = 5.0
    max_label_sets: Annotated[
        Positive, own("sets of labels in a worker, of all such filters; what has further ones is counted together")
    ] = 2000


class HttpSettings(StatsSettings, kw_only=True):
    """`istio.stats`: Istio's metrics of requests."""

    definitions: Annotated[list[Any], own("metrics of one's own; not supported")] = []
    debug: Annotated[bool, ignored("of MOSN's plugin")] = False
    max_peer_cache_size: Annotated[int, ignored("of MOSN's plugin")] = 0
    stat_prefix: Annotated[str, ignored("the prefix is `istio`")] = ""
    field_separator: Annotated[str, ignored("of MOSN's plugin")] = ""
    value_separator: Annotated[str, ignored("of MOSN's plugin")] = ""


def check_settings(settings: StatsSettings, problems: Problems) -> None:
    """Reports what is wrong with settings."""
    problems.one_of(".reporter", settings.reporter, REPORTERS)
    problems.require(settings.tcp_reporting_duration >= 0.0, ".tcp_reporting_duration", "must not be negative")
    if isinstance(settings, HttpSettings):
        problems.require(not settings.definitions, ".definitions", "metrics of one's own are not supported")
    for i, metric in enumerate(settings.metrics):
        if metric.name:
            problems.one_of(f".metrics[{i}].name", metric.name, METRICS)
