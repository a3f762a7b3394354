"""`metrics`: the sinks that are served, and what MOSN does with those that cannot be."""

import json
from typing import Any

import pytest

from pymosn.config.default import DEFAULT_CONFIG
from pymosn.config.load import Loaded, load_text
from pymosn.config.schema.observability import sinks_to_serve

GOOD = {"type": "prometheus", "config": {"port": 34903}}


def load(metrics: dict[str, Any], strict: bool = False) -> Loaded:
    return load_text(json.dumps({**json.loads(DEFAULT_CONFIG), "metrics": metrics}), "f", strict=strict)


def faults(metrics: dict[str, Any], strict: bool = False) -> list[tuple[str, str]]:
    return [(fault.severity, fault.path) for fault in load(metrics, strict).faults]


def test_a_sink_has_mosns_defaults() -> None:
    loaded = load({"sinks": [GOOD, {"type": "prometheus", "config": {"port": 1, "endpoint": "/x", "percentiles": [99]}}]})
    assert loaded.faults == []
    assert loaded.config is not None
    first, second = sinks_to_serve(loaded.config.metrics)
    assert (first.port, first.endpoint, first.percentiles) == (34903, "/metrics", [])
    assert (second.port, second.endpoint, second.percentiles) == (1, "/x", [99])
    assert sinks_to_serve(None) == []


@pytest.mark.parametrize(
    ("sink", "path"),
    [
        ({"type": "statsd"}, "type"),
        ({"type": "prometheus"}, "config.port"),
        ({"type": "prometheus", "config": {"port": 2, "endpoint": "metrics"}}, "config.endpoint"),
    ],
)
def test_a_sink_that_mosn_does_not_build_ends_the_list(sink: dict[str, Any], path: str) -> None:
    metrics = {"sinks": [GOOD, sink, {"type": "prometheus", "config": {"port": 3}}]}
    assert faults(metrics) == [("warning", f"metrics.sinks[1].{path}")]
    assert faults(metrics, strict=True) == [("error", f"metrics.sinks[1].{path}")]
    config = load(metrics).config
    assert config is not None
    assert [settings.port for settings in sinks_to_serve(config.metrics)] == [34903]


@pytest.mark.parametrize(
    ("metrics", "path"),
    [
        ({"sinks": [{"type": "prometheus", "config": {"port": 2, "export_url": "http://h"}}]}, "sinks[0].config.export_url"),
        ({"sinks": [{"type": "prometheus", "config": {"port": 65536}}]}, "sinks[0].config.port"),
        ({"sinks": [{"type": "prometheus", "config": {"port": 2, "percentiles": [101]}}]}, "sinks[0].config.percentiles[0]"),
        ({"sinks": [GOOD, GOOD]}, "sinks[1].config.port"),
        ({"max_series": 0}, "max_series"),
    ],
)
def test_errors(metrics: dict[str, Any], path: str) -> None:
    assert ("error", f"metrics.{path}") in faults(metrics)


def test_what_has_no_effect_is_reported() -> None:
    warned = faults({"shm_zone": "z", "shm_size": "10MB", "ewma": {"alpha": 0.5}, "sample": {"type": "odd"}})
    paths = ["metrics.ewma.alpha", "metrics.sample.type", "metrics.shm_size", "metrics.shm_zone"]
    assert sorted({(severity, path) for severity, path in warned}) == [("warning", path) for path in paths]
