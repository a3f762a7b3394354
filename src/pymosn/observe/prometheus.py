"""Prometheus metrics: counters, gauges, and histograms: durations in seconds, distributions in the unit of their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pymosn.core.counters import GroupData
from pymosn.core.histograms import BUCKET_BOUNDS, HistogramData

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
        """All metric families, one after the other: the samples of all together may need hundreds of megabytes."""
        # By name, the kind and the keys of groups; the value is a set in the order of first appearance.
        families: dict[str, dict[tuple[str, str, str], None]] = {}
        for group in self._groups:
            type_name = group["type"]
            for key in group["counters"]:
                _add_key(families, f"{type_name}_{key.removesuffix('_total')}", "counter", type_name, key)
            for key in group["gauges"]:
                _add_key(families, f"{type_name}_{key}", "gauge", type_name, key)
            for key, histogram in group["histograms"].items():
                unit = "" if histogram["bounds"] else "_seconds"
                _add_key(families, f"{type_name}_{key}{unit}", "histogram", type_name, key)
        for name, keys in families.items():
            yield self._family(name, list(keys))

    def _family(self, name: str, keys: list[tuple[str, str, str]]) -> Metric:
        family = Metric(name, name.replace("_", " "), keys[0][0])
        for group in self._groups:
            for kind, type_name, key in keys:
                if type_name == group["type"]:
                    _add_sample(family, kind, group, key)
        return family


def _add_key(families: dict[str, dict[tuple[str, str, str], None]], name: str, kind: str, type_name: str, key: str) -> None:
    families.setdefault(_NOT_IN_NAMES.sub("_", name), {})[kind, type_name, key] = None


def _add_sample(family: Metric, kind: str, group: GroupData, key: str) -> None:
    labels = dict(group["labels"])
    if kind == "counter" and key in group["counters"]:
        family.add_sample(f"{family.name}_total", labels, group["counters"][key])
    elif kind == "gauge" and key in group["gauges"]:
        family.add_sample(family.name, labels, group["gauges"][key])
    elif kind == "histogram" and key in group["histograms"]:
        _add_histogram(family, labels, group["histograms"][key])


def _add_histogram(family: Metric, labels: dict[str, str], histogram: HistogramData) -> None:
    counted = 0
    own = [f"{bound:.12g}" for bound in histogram["bounds"]]
    bounds = [*(own or [f"{bound:g}" for bound in BUCKET_BOUNDS]), "+Inf"]
    for bound, inside in zip(bounds, histogram["buckets"], strict=True):
        counted += inside
        family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, counted)
    family.add_sample(f"{family.name}_count", labels, counted)
    family.add_sample(f"{family.name}_sum", labels, histogram["sum"])
