"""Istio's own filters: `stats.PluginConfig`, of requests and of connections, and `peer_metadata`.

Telemetry decides nothing about a request. So what is not supported of it is left out, with a warning that names the metric.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pymosn.config.schema import Listener, StreamFilter
from pymosn.config.schema.network_filters import NetworkFilter, ProxyFilter, TcpProxyFilter
from pymosn.control.xds.convert.filter_json import check_settings
from pymosn.control.xds.convert.view import View
from pymosn.filters.istio.dimensions import value_of
from pymosn.filters.istio.settings import DESTINATION, METRICS, SOURCE, UNBUILT_METRICS, WAYPOINT, Metric, StatsSettings

#: Full names of the types.
STATS: Final = "stats.PluginConfig"
PEER_METADATA: Final = "io.istio.http.peer_metadata.Config"
#: The types of our filters.
_STATS: Final = "istio.stats"
_PEERS: Final = "peer_metadata"
#: `reporter` of those whose reporter depends on the direction of the listener.
_BY_DIRECTION: Final = ""
_SERVER_GATEWAY: Final = "SERVER_GATEWAY"


def read_stats(view: View) -> StatsSettings:
    """A PluginConfig. Its reporter is empty until `set_reporters`, unless it names one."""
    with view:
        made = StatsSettings(reporter=_BY_DIRECTION)
        reporter = view.enum("reporter")
        if reporter == _SERVER_GATEWAY:
            made.reporter = WAYPOINT
        elif reporter != "UNSPECIFIED":
            view.warn("reporter", f"unknown value {reporter}; the direction of the listener decides")
        made.disable_host_header_fallback = bool(view.value("disable_host_header_fallback"))
        period = view.seconds("tcp_reporting_duration")
        if period is not None:
            made.tcp_reporting_duration = period
        made.metrics = [metric for item in view.items("metrics") if (metric := _metric(item)) is not None]
        for item in view.items("definitions"):
            with item:
                name = item.value("name")
                for field in ("value", "type"):
                    item.value(field)
                item.warn("", f"the metric istio_{name} is not reported: metrics of one's own are not supported")
        if view.seconds("rotation_interval"):
            view.warn("rotation_interval", "sets of labels that are no longer used are not forgotten")
        view.seconds("graceful_deletion_interval")
    return made


def _metric(view: View) -> Metric | None:
    with view:
        name = str(view.value("name"))
        metric = Metric(name=name, tags_to_remove=view.values("tags_to_remove"), drop=bool(view.value("drop")))
        shown = f"istio_{name}" if name else "all metrics"
        view.value("match")  # Istio does not use it either
        for key, expression in sorted(view.table("dimensions").items()):
            if value_of(expression, {}) is None:
                what = f"{shown}: the label {key} is not changed, because the expression {expression!r} is not supported"
                view.warn(f"dimensions[{key}]", what)
            else:
                metric.dimensions[key] = expression
        if name in UNBUILT_METRICS:
            view.warn("name", f"{shown} is not reported: messages of gRPC are not counted")
        elif name and name not in METRICS:
            view.warn("name", f"{shown} is not one of Istio's metrics")
            return None
    return metric


def http_stats(view: View) -> StreamFilter:
    """A PluginConfig among the filters of requests."""
    config: dict[str, Any] = msgspec.to_builtins(read_stats(view))
    config.pop("tcp_reporting_duration", None)  # in Istio also of messages of gRPC, which are not counted
    if config.get("reporter") == _BY_DIRECTION:
        del config["reporter"]
    return StreamFilter(type=_STATS, config=check_settings(view, _STATS, config))


def set_reporters(listener: Listener) -> None:
    """Sets the reporters that depend on the direction of a listener: its own workload serves, or asks."""
    reporter = _reporter_of(listener)
    for chain in listener.filter_chains:
        for item in chain.filters:
            if isinstance(item, TcpProxyFilter):
                for stats in item.config.istio_stats:
                    stats.reporter = stats.reporter or reporter
            elif isinstance(item, ProxyFilter):
                filters = item.config.stream_filters
                item.config.stream_filters = filters and [with_reporter(entry, listener) for entry in filters]


def with_reporter(entry: StreamFilter, listener: Listener) -> StreamFilter:
    """A filter of a listener: if it reports, with the reporter that depends on the direction."""
    if entry.type != _STATS or "reporter" in entry.config:
        return entry
    return msgspec.structs.replace(entry, config={"reporter": _reporter_of(listener), **entry.config})


def _reporter_of(listener: Listener) -> str:
    return DESTINATION if listener.type == "ingress" else SOURCE


def add_stats(filters: list[NetworkFilter], found: list[tuple[View, StatsSettings]]) -> None:
    """Adds the metrics of connections to the tcp_proxy of their chain."""
    proxy = next((item for item in filters if isinstance(item, TcpProxyFilter)), None)
    for view, stats in found:
        if proxy is None:
            view.warn("", f"{STATS} is left out: only connections of tcp_proxy are counted")
        else:
            proxy.config.istio_stats.append(stats)


# ---- peers


def peer_metadata(view: View) -> StreamFilter | None:
    """How the workloads of peers are known; without methods that are supported None."""
    with view:
        config: dict[str, Any] = {}
        for name in ("downstream_discovery", "upstream_discovery"):
            if _discovers(view, name):
                config[name] = True
        for name in ("downstream_propagation", "upstream_propagation"):
            for item in view.items(name):
                with item:
                    headers = item.inner("istio_headers")
                    if headers is not None:
                        config[name] = True
                        with headers:
                            if headers.value("skip_external_clusters"):
                                config["skip_external_clusters"] = True
        labels = view.values("additional_labels")
        if labels:
            config["additional_labels"] = labels
        if view.value("shared_with_upstream"):
            view.warn("shared_with_upstream", "the metadata are not shared with internal listeners")
    return StreamFilter(type=_PEERS, config=check_settings(view, _PEERS, config)) if config else None


def _discovers(view: View, name: str) -> bool:
    """Whether peers are known by headers. The service of workloads is Istio's own type of xDS, which is not supported."""
    found = False
    for item in view.items(name):
        with item:
            headers = item.inner("istio_headers")
            if headers is not None:
                found = True
                with headers:
                    headers.value("skip_external_clusters")
            for method in ("workload_discovery", "baggage"):
                inner = item.inner(method)
                if inner is not None:
                    inner.close()
                    item.warn(method, "not supported: peers are only known by the headers that they send")
    return found
