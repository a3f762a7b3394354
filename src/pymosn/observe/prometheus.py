"""Prometheus metrics: counters, gauges, and durations as histograms in seconds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pymosn.core.counters import BUCKET_BOUNDS, GroupData, HistogramData

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_:]")


def exposition(groups: Iterable[GroupData], accept: str) -> tuple[bytes, str]:
    """The body of a scrape's response and its content type; `accept`: the request's `Accept` (OpenMetrics on request)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(groups))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class MetricsCollector(Collector):
    """Metric groups as Prometheus families `<type>_<key>` with MOSN's labels."""

    def __init__(self, groups: Iterable[GroupData]) -> None:
        self._groups = list(groups)

    def collect(self) -> Iterator[Metric]:
        """All metric families."""
        families: dict[str, Metric] = {}
        for group in self._groups:
            labels = dict(group["labels"])
            kind = group["type"]
            for key, value in group["counters"].items():
                family = _family(families, f"{kind}_{key.removesuffix('_total')}", "counter")
                family.add_sample(f"{family.name}_total", labels, value)
            for key, value in group["gauges"].items():
                family = _family(families, f"{kind}_{key}", "gauge")
                family.add_sample(family.name, labels, value)
            for key, histogram in group["histograms"].items():
                _add_histogram(_family(families, f"{kind}_{key}_seconds", "histogram"), labels, histogram)
        yield from families.values()


def _family(families: dict[str, Metric], name: str, kind: str) -> Metric:
    clean = _NOT_IN_NAMES.sub("_", name)
    family = families.get(clean)
    if family is None:
        family = families[clean] = Metric(clean, clean.replace("_", " "), kind)
    return family


def _add_histogram(family: Metric, labels: dict[str, str], histogram: HistogramData) -> None:
    counted = 0
    bounds = [*(f"{bound:g}" for bound in BUCKET_BOUNDS), "+Inf"]
    for bound, inside in zip(bounds, histogram["buckets"], strict=True):
        counted += inside
        family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, counted)
    family.add_sample(f"{family.name}_count", labels, counted)
    family.add_sample(f"{family.name}_sum", labels, histogram["sum"])
