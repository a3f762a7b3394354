"""Checks `metrics`."""

from typing import Final

import msgspec

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema.observability import Metrics, MetricsSink, sink_settings

_REST: Final = "MOSN logs an error, and starts neither this sink nor those after it"
_KNOWN: Final = ("prometheus",)


def check_metrics(metrics: Metrics, report: Diagnostics) -> None:
    """Adds the errors and warnings of the metrics."""
    ports: dict[int, int] = {}
    for i, sink in enumerate(metrics.sinks):
        where = f"metrics.sinks[{i}]"
        if _check_sink(sink, where, report):
            port = sink_settings(sink).port
            if port in ports:
                report.error(f"{where}.config.port", f"the port of sinks[{ports[port]}] too", port)
            ports.setdefault(port, i)
    if metrics.sample.type.upper() not in ("", "UNIFORM", "EXP_DECAY"):
        report.odd("metrics.sample.type", "unknown; MOSN uses UNIFORM", metrics.sample.type, ("UNIFORM", "EXP_DECAY"))


def _check_sink(sink: MetricsSink, where: str, report: Diagnostics) -> bool:
    """Whether the sink can be served."""
    if sink.type not in _KNOWN:
        report.odd(f"{where}.type", f"unknown: {_REST}", sink.type, _KNOWN)
        return False
    try:
        settings = sink_settings(sink)
    except msgspec.ValidationError:  # reported by the reader
        return False
    if settings.export_url:
        report.error(f"{where}.config.export_url", "metrics cannot be pushed, as in MOSN: let Prometheus scrape the port")
        return False
    if not settings.port:
        report.odd(f"{where}.config.port", f"missing: {_REST}")
        return False
    if settings.endpoint and not settings.endpoint.startswith("/"):
        report.odd(f"{where}.config.endpoint", f"must begin with /: {_REST}", settings.endpoint)
        return False
    return True
