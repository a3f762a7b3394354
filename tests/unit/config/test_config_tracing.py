"""`tracing`: what is reported about formats and sampling, and what the tracer of a worker is made from."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.config.test_config_absent import file

from pymosn.assembly.tracing import make_tracer, sampling_of
from pymosn.config.load import load_text
from pymosn.config.schema.observability import Tracing
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics
from pymosn.core.stamps import Stamps
from pymosn.observe.tracing.buffer import TraceBuffer

JAEGER = {"enable": True, "driver": "jaeger"}


def faults(**tracing: Any) -> list[tuple[str, str, str, str | None]]:
    loaded = load_text(file(tracing={**JAEGER, **tracing}), "mosn.json")
    return [(one.severity, one.path, one.message, one.suggestion) for one in loaded.faults]


def test_a_good_configuration() -> None:
    rules = [
        {"path": "/health", "rate": 0},
        {"method": "POST", "listener": "l", "rate": 0.5},
        {"service": "a.B", "route": "shop", "header": "x-a", "header_value": "1"},
    ]
    sampling = {"rate": 0.1, "parent": False, "header": "x-trace", "rules": rules}
    assert faults(propagation=["w3c", "b3", "b3multi", "jaeger", "sw8", "sofa"], sampling=sampling) == []


@pytest.mark.parametrize(
    ("tracing", "path", "words", "suggestion"),
    [
        ({"propagation": ["b3mulit"]}, "tracing.propagation[0]", "must be one of w3c, b3, b3multi", "b3multi"),
        ({"propagation": ["b3", "b3"]}, "tracing.propagation[1]", "is listed before", None),
        ({"sampling": {"rate": 1.5}}, "tracing.sampling.rate", "must be 1.0 or less", None),
        ({"sampling": {"rate": "1"}}, "tracing.sampling.rate", "expected a number", None),
        ({"sampling": {"header": "a b"}}, "tracing.sampling.header", "not a header name", None),
        ({"sampling": {"rules": [{"rate": 1}]}}, "tracing.sampling.rules[0]", "needs path, method", None),
        ({"sampling": {"rules": [{"path": "a"}]}}, "tracing.sampling.rules[0].path", "must begin with a slash", None),
        (
            {"sampling": {"rules": [{"path": "/", "rate": -1}]}},
            "tracing.sampling.rules[0].rate",
            "must be 0.0 or more",
            None,
        ),
        ({"sampling": {"rules": [{"listener": "ll"}]}}, "tracing.sampling.rules[0].listener", "no such listener", "l"),
        ({"sampling": {"rules": [{"header": "("}]}}, "tracing.sampling.rules[0].header", "not a header name", None),
        (
            {"sampling": {"rules": [{"path": "/", "header_value": "a"}]}},
            "tracing.sampling.rules[0].header_value",
            "needs `header`",
            None,
        ),
    ],
)
def test_errors_name_the_key(tracing: dict[str, Any], path: str, words: str, suggestion: str | None) -> None:
    [(severity, found, message, hint)] = faults(**tracing)
    assert (severity, found) == ("error", path)
    assert words in message
    assert hint == suggestion


def test_an_unknown_key_is_a_warning_with_a_suggestion() -> None:
    [(severity, path, _, hint)] = faults(sampling={"rat": 0.5})
    assert (severity, path, hint) == ("warning", "tracing.sampling.rat", "rate")


def tracing_of(**values: Any) -> Tracing:
    return msgspec.convert({**JAEGER, **values}, Tracing)


def test_the_rate_of_drivers() -> None:
    assert sampling_of(tracing_of()).rate == 1.0
    assert sampling_of(tracing_of(driver="Zipkin")).rate == 0.0
    assert sampling_of(tracing_of(driver="Zipkin", config={"sample_rate": 0.25})).rate == 0.25
    assert sampling_of(tracing_of(driver="Zipkin", config={"sample_rate": 0.25}, sampling={"rate": 0.5})).rate == 0.5


def test_zipkins_rate_is_zero_as_in_mosn() -> None:
    config = {"reporter": "http", "addresses": ["http://127.0.0.1:9411/api/v2/spans"], "http": {}}
    [(severity, path, message, _)] = faults(driver="Zipkin", config=config)
    assert (severity, path) == ("warning", "tracing.config")
    assert "is 0 unless it is set" in message


@pytest.mark.parametrize(
    ("driver", "names"),
    [
        ("SOFATracer", ["sofa"]),
        ("Zipkin", ["b3", "b3multi"]),
        ("jaeger", ["jaeger"]),
        ("SkyWalking", ["sw8"]),
        ("otel", ["w3c"]),
    ],
)
def test_each_driver_has_its_format(driver: str, names: list[str]) -> None:
    buffer, stamps = TraceBuffer(Metrics()), Stamps(Clock())
    made = make_tracer(tracing_of(driver=driver), buffer, stamps)
    assert made is not None
    assert [one.name for one in made.formats] == names
    chosen = make_tracer(tracing_of(driver=driver, propagation=["w3c", "sofa"]), buffer, stamps)
    assert chosen is not None
    assert [one.name for one in chosen.formats] == ["w3c", "sofa"]


@pytest.mark.parametrize(
    "tracing",
    [
        *(None, {"enable": False}, {"driver": "PluginDriver"}, {"driver": "other"}),
        {"driver": "Zipkin", "config": {"sample_rate": 1.5}},
    ],
)
def test_off(tracing: dict[str, Any] | None) -> None:
    metrics = Metrics()
    made = make_tracer(None if tracing is None else tracing_of(**tracing), TraceBuffer(metrics), Stamps(Clock()))
    assert made is None
    assert len(metrics) == 0
