"""What is reported about the drivers of traces."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pymosn.config.check import trace_drivers
from pymosn.config.load import load_text

ZIPKIN: dict[str, Any] = {
    "reporter": "http",
    "sample_rate": 1,
    "addresses": ["http://localhost:9411/api/v2/spans"],
    "http": {},
}


def faults(
    driver: str, config: dict[str, Any], *, strict: bool = False, kind: str = "ingress"
) -> list[tuple[str, str, str]]:
    """Severity, path and message of everything that is reported about `tracing`, and about listeners because of it."""
    listener = {
        "name": "one",
        "type": kind,
        "address": "127.0.0.1:1",
        "bind_port": True,
        "filter_chains": [{"filters": [{"type": "tcp_proxy", "config": {"cluster": "c"}}]}],
    }
    cluster = {"name": "c", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": "127.0.0.1:2"}]}
    whole = {
        "servers": [{"listeners": [listener]}],
        "cluster_manager": {"clusters": [cluster]},
        "tracing": {"enable": True, "driver": driver, "config": config},
    }
    loaded = load_text(json.dumps(whole), "mosn.json", strict=strict)
    found = [(one.severity, one.path, one.message) for one in loaded.faults]
    return [one for one in found if "tracing" in one[1] or "SOFATracer" in one[2]]


@pytest.mark.parametrize(
    ("driver", "config"),
    [
        ("SOFATracer", {}),
        ("SOFATracer", {"log_path": "/tmp/digests"}),
        ("Zipkin", ZIPKIN),
        ("Zipkin", ZIPKIN | {"addresses": ["http://a:1/x", "https://b/y"]}),
        ("jaeger", {}),
        ("jaeger", {"agent_host": "agent:6831"}),
        ("SkyWalking", {}),
        ("SkyWalking", {"reporter": "log"}),
        ("SkyWalking", {"reporter": "gRPC", "backend_service": "127.0.0.1:11800", "authentication": "x"}),
        ("otel", {}),
        ("otel", {"report_method": "grpc", "endpoint": "a:4317", "config_map": {"a": "b"}}),
    ],
)
def test_valid(driver: str, config: dict[str, Any]) -> None:
    assert faults(driver, config) == []
    assert faults(driver, config, strict=True) == []


@pytest.mark.parametrize(
    ("driver", "config", "path", "message"),
    [
        ("None", {}, "tracing.driver", "expected one of SOFATracer, Zipkin, jaeger, SkyWalking, otel: no traces"),
        ("Zipkin", ZIPKIN | {"reporter": "udp"}, "tracing.config.reporter", "expected http"),
        ("Zipkin", ZIPKIN | {"addresses": []}, "tracing.config", "needs `addresses`"),
        ("Zipkin", ZIPKIN | {"sample_rate": 1.5}, "tracing.config.sample_rate", "must be between 0 and 1"),
        ("Zipkin", ZIPKIN | {"addresses": ["localhost:9411"]}, "tracing.config.addresses[0]", "expected http://"),
        ("Zipkin", ZIPKIN | {"addresses": ["http://a:b@c/x"]}, "tracing.config.addresses[0]", "expected http://"),
        ("jaeger", {"agent_host": "agent"}, "tracing.config.agent_host", "missing port"),
        ("SkyWalking", {"reporter": "grpc"}, "tracing.config.reporter", "expected log or gRPC"),
        ("SkyWalking", {"reporter": "gRPC"}, "tracing.config", "needs `backend_service`"),
        ("otel", {"report_method": "udp", "endpoint": "a:1"}, "tracing.config.report_method", "expected one of console"),
        ("otel", {"report_method": "http"}, "tracing.config.report_method", "http needs `endpoint`"),
        ("otel", {"config_map": {"a": 1}}, "tracing.config.config_map.a", "expected a string"),
    ],
)
def test_mistakes_with_which_mosn_starts(driver: str, config: dict[str, Any], path: str, message: str) -> None:
    for strict, severity in ((False, "warning"), (True, "error")):
        [found] = faults(driver, config, strict=strict)
        assert found[:2] == (severity, path)
        assert message in found[2]


def test_what_would_make_mosn_panic_is_an_error() -> None:
    [found] = faults("Zipkin", {key: value for key, value in ZIPKIN.items() if key != "http"})
    assert found[:2] == ("error", "tracing.config")
    assert "needs the object `http`" in found[2]


@pytest.mark.parametrize(
    ("driver", "config", "message"),
    [
        ("PluginDriver", {"sopath": "x.so"}, "use another driver, such as `otel`"),
        (
            "Zipkin",
            ZIPKIN | {"reporter": "kafka", "kafka": {"topic": "zipkin"}},
            "Kafka is not written to: use `reporter: http`",
        ),
    ],
)
def test_what_mosn_has_and_pymosn_has_not(driver: str, config: dict[str, Any], message: str) -> None:
    for strict, wanted in ((False, "warning"), (True, "error")):
        found = faults(driver, config, strict=strict)
        assert any(severity == wanted and message in text for severity, _, text in found)


def test_listeners_that_sofatracer_does_not_record() -> None:
    [found] = faults("SOFATracer", {}, kind="")
    assert found[:2] == ("warning", "servers[0].listeners[0]")
    assert "there are no digests of this one" in found[2]


def test_missing_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_drivers, "find_spec", lambda name: None)
    [found] = faults("otel", {})
    assert found == ("error", "tracing.driver", "otel needs OpenTelemetry's SDK and exporters: pip install 'pymosn[otel]'")
    [found] = faults("SkyWalking", {"reporter": "gRPC", "backend_service": "a:1"})
    assert "pip install 'pymosn[skywalking]'" in found[2]


def test_overwritten_modules_of_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """xds-protos installs old modules over those of opentelemetry-proto."""
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.common.v1", SimpleNamespace(common_pb2=SimpleNamespace()))
    [found] = faults("otel", {"report_method": "grpc", "endpoint": "127.0.0.1:4317"})
    assert found[:2] == ("error", "tracing.driver")
    assert "pip install --force-reinstall --no-deps opentelemetry-proto" in found[2]
    assert faults("otel", {"report_method": "console"}) == []
