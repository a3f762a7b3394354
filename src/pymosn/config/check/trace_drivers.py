"""Checks of the drivers of traces. As in MOSN, one that cannot be made does not prevent the start: nothing is recorded.

That holds for what is not built here, too: a file with which MOSN starts is not refused, except by `--strict`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import MosnConfig, absent
from pymosn.config.schema.observability import TRACE_DRIVERS, Jaeger, OpenTelemetry, SkyWalking, Zipkin
from pymosn.config.typed import typed
from pymosn.core.addresses import split_address

_PATH: Final = "tracing.config"
_OVERWRITTEN: Final = (
    "OTLP needs opentelemetry-proto, whose files another package (xds-protos) has overwritten: "
    "pip install --force-reinstall --no-deps opentelemetry-proto"
)
_OFF: Final = "no traces are recorded"
_AS_MOSN: Final = f"{_OFF}, as in MOSN"


def check_trace_driver(config: MosnConfig, report: Diagnostics) -> None:
    """Reports what keeps the configured driver from recording traces."""
    tracing = config.tracing
    if tracing is None or not tracing.enable:
        return
    if tracing.driver in absent.TRACE_DRIVERS:
        report.odd("tracing.driver", absent.TRACE_DRIVERS[tracing.driver], tracing.driver)
    elif tracing.driver not in TRACE_DRIVERS:
        known = [driver for driver in TRACE_DRIVERS if driver not in absent.TRACE_DRIVERS]
        report.odd("tracing.driver", f"expected one of {', '.join(known)}: {_AS_MOSN}", tracing.driver, known)
    elif tracing.driver in _CHECKS and not report.has_bad_within(_PATH):
        _CHECKS[tracing.driver](tracing.config, report)
    if tracing.driver == "SOFATracer":
        _check_types(config, report)


def _check_types(config: MosnConfig, report: Diagnostics) -> None:
    for i, listener in enumerate(config.servers[0].listeners if config.servers else ()):
        if listener.type.lower() not in ("ingress", "egress"):
            text = "SOFATracer records only listeners of the types ingress and egress, as in MOSN"
            report.warning(f"servers[0].listeners[{i}]", f"{text}: there are no digests of this one")


def _zipkin(config: dict[str, Any], report: Diagnostics) -> None:
    settings = typed(config, Zipkin)
    if settings.reporter == "kafka":
        report.odd(
            f"{_PATH}.reporter",
            f"Kafka is not written to: use `reporter: http`, to Zipkin or to a collector that writes to Kafka; {_OFF}",
            settings.reporter,
        )
        return
    if settings.reporter != "http":
        report.odd(f"{_PATH}.reporter", f"expected http: {_AS_MOSN}", settings.reporter)
        return
    if settings.http is None:
        report.error(_PATH, "the reporter http needs the object `http`, such as {}; without it MOSN panics")
    if not settings.addresses:
        report.odd(f"{_PATH}", f"the reporter http needs `addresses`: {_AS_MOSN}")
    for i, address in enumerate(settings.addresses):
        _check_url(f"{_PATH}.addresses[{i}]", address, report)


def _check_url(path: str, url: str, report: Diagnostics) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        valid = False
    if not valid:
        report.odd(path, f"expected http://HOST:PORT/PATH or https://HOST:PORT/PATH: {_AS_MOSN}", url)


def _jaeger(config: dict[str, Any], report: Diagnostics) -> None:
    settings = typed(config, Jaeger)
    try:
        split_address(settings.agent_host or "127.0.0.1:6831")
    except ValueError as error:
        report.odd(f"{_PATH}.agent_host", f"{error}: {_AS_MOSN}", settings.agent_host)


def _skywalking(config: dict[str, Any], report: Diagnostics) -> None:
    settings = typed(config, SkyWalking)
    if settings.reporter not in ("log", "gRPC"):
        report.odd(f"{_PATH}.reporter", f"expected log or gRPC: {_AS_MOSN}", settings.reporter, ("log", "gRPC"))
    elif settings.reporter == "gRPC" and not settings.backend_service:
        report.odd(_PATH, f"the reporter gRPC needs `backend_service`: {_AS_MOSN}")
    elif settings.reporter == "gRPC" and find_spec("grpc") is None:
        report.error(f"{_PATH}.reporter", "gRPC needs grpcio: pip install 'pymosn[skywalking]'")


def _otel(config: dict[str, Any], report: Diagnostics) -> None:
    settings = typed(config, OpenTelemetry)
    if not _has_otel():
        report.error("tracing.driver", "otel needs OpenTelemetry's SDK and exporters: pip install 'pymosn[otel]'")
    elif settings.report_method in ("http", "grpc") and _is_overwritten():
        report.error("tracing.driver", _OVERWRITTEN)
    if settings.report_method not in ("", "console", "http", "grpc"):
        words = ("console", "http", "grpc")
        message = f"expected one of {', '.join(words)}; traces are written to the standard output, as in MOSN"
        report.odd(f"{_PATH}.report_method", message, settings.report_method, words)
    elif settings.report_method in ("http", "grpc") and not settings.endpoint:
        text = f"{settings.report_method} needs `endpoint`; traces are written to the standard output, as in MOSN"
        report.odd(f"{_PATH}.report_method", text)
    for key, value in settings.config_map.items():
        if not isinstance(value, str):
            report.odd(
                f"{_PATH}.config_map.{key}", "expected a string; MOSN records no traces, here the entry is left out", value
            )


def _is_overwritten() -> bool:
    """Whether modules of opentelemetry-proto are those of xds-protos, which are old and have the same names."""
    try:
        from opentelemetry.proto.common.v1 import common_pb2
    except ImportError:
        return True
    return not hasattr(common_pb2, "InstrumentationScope")


def _has_otel() -> bool:
    if find_spec("opentelemetry") is None:
        return False
    try:
        names = ("sdk.trace", "exporter.otlp.proto.http", "exporter.otlp.proto.grpc")
        return all(find_spec(f"opentelemetry.{name}") is not None for name in names)
    except ModuleNotFoundError:
        return False


_CHECKS: Final[dict[str, Callable[[dict[str, Any], Diagnostics], None]]] = {
    "Zipkin": _zipkin,
    "jaeger": _jaeger,
    "SkyWalking": _skywalking,
    "otel": _otel,
}
