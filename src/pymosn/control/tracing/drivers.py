"""The trace drivers, by MOSN's names. Their libraries are imported only when one is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pymosn.assembly.tracing import instance_name, service_name
from pymosn.config.schema.observability import Jaeger, OpenTelemetry, SkyWalking, SofaTracer, Tracing, Zipkin
from pymosn.config.typed import typed
from pymosn.control.tracing.exporter import Exporter, Facts
from pymosn.core.log import Log

Make = Callable[[], Exporter]
MakeExporter = Callable[[Tracing, Facts, Log], Make | None]


def make_exporter(tracing: Tracing, facts: Facts, log: Log) -> Make | None:
    """What makes the exporter of a driver, in a thread; None if the driver is none, or not one of pymosn."""
    maker = _MAKERS.get(tracing.driver)
    return None if maker is None else lambda: maker(tracing, facts, log)


def _sofa(tracing: Tracing, facts: Facts, log: Log) -> Exporter:
    from pymosn.control.tracing.sofa import SofaExporter

    return SofaExporter(typed(tracing.config, SofaTracer), facts, log)


def _zipkin(tracing: Tracing, facts: Facts, log: Log) -> Exporter:
    from pymosn.control.tracing.zipkin import ZipkinExporter

    settings = typed(tracing.config, Zipkin)
    if settings.reporter != "http" or settings.http is None or not settings.addresses:
        raise ValueError("it needs `reporter: http`, `http` and `addresses`")
    return ZipkinExporter(settings)


def _jaeger(tracing: Tracing, facts: Facts, log: Log) -> Exporter:
    from pymosn.control.tracing.jaeger import JaegerExporter

    return JaegerExporter(typed(tracing.config, Jaeger))


def _skywalking(tracing: Tracing, facts: Facts, log: Log) -> Exporter:
    from pymosn.control.tracing.skywalking import Instance, LogExporter

    settings = typed(tracing.config, SkyWalking)
    instance = Instance(service_name(tracing), instance_name())
    if settings.reporter == "gRPC":
        if not settings.backend_service:
            raise ValueError("it needs `backend_service`")
        from pymosn.control.tracing.skywalking_grpc import GrpcExporter

        return GrpcExporter(settings, instance)
    if settings.reporter == "log":
        return LogExporter(instance, log)
    raise ValueError(f"its reporters are log and gRPC, got {settings.reporter!r}")


def _otel(tracing: Tracing, facts: Facts, log: Log) -> Exporter:
    from pymosn.control.tracing.otel import OtelExporter

    return OtelExporter(typed(tracing.config, OpenTelemetry), log)


_MAKERS: Final[dict[str, Callable[[Tracing, Facts, Log], Exporter]]] = {
    "SOFATracer": _sofa,
    "Zipkin": _zipkin,
    "jaeger": _jaeger,
    "SkyWalking": _skywalking,
    "otel": _otel,
}
