"""The driver `otel`: what the SDK sends to collectors of the test's own, decoded by OpenTelemetry's messages."""

from __future__ import annotations

import asyncio
import json
from concurrent import futures
from typing import Any

import grpc
import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk.trace.export import SpanExportResult
from tests.kit import Lines
from tests.kit.traces import STARTED, TRACE_ID, Collector, server_span, trace

from pymosn.config.schema.observability import OpenTelemetry
from pymosn.control.tracing.exporter import ExportError
from pymosn.control.tracing.otel import OtelExporter, service_of


def exporter_to(method: str, endpoint: str, **more: Any) -> OtelExporter:
    return OtelExporter(OpenTelemetry(report_method=method, endpoint=endpoint, **more), Lines(), {"COMP_NAME": "shop"})


def spans_of(content: bytes) -> tuple[dict[str, str], list[Any]]:
    """The resource and the spans of a request of OTLP."""
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(content)
    [resource_spans] = request.resource_spans
    [scope_spans] = resource_spans.scope_spans
    assert scope_spans.scope.name == "pymosn"
    return {each.key: each.value.string_value for each in resource_spans.resource.attributes}, list(scope_spans.spans)


def is_whole(resource: dict[str, str], spans: list[Any]) -> None:
    assert resource["service.name"] == "shop_sidecar"
    assert resource["zone"] == "a"
    server, first, second, inner = spans
    assert (server.trace_id.hex(), server.span_id.hex(), server.parent_span_id.hex()) == (
        TRACE_ID,
        "b7ad6b7169203331",
        "00f067aa0ba902b7",
    )
    assert (server.kind, first.kind, inner.kind) == (2, 3, 1)
    assert server.end_time_unix_nano - server.start_time_unix_nano == 12_500_000
    assert server.start_time_unix_nano == round(STARTED * 1e9)
    found = {each.key: each.value for each in server.attributes}
    assert found["http.response.status_code"].int_value == 200
    assert found["url.path"].string_value == "/up/x"
    # MOSN's names.
    assert (found["http.method"].string_value, found["http.url"].string_value) == ("GET", "/up/x?a=1")
    assert (first.status.code, first.status.message) == (2, "connect_refused")
    assert second.status.code == 0
    assert first.parent_span_id == server.span_id


def test_by_http() -> None:
    async def play() -> list[tuple[str, bytes]]:
        async with Collector() as collector:
            exporter = exporter_to("http", collector.address, config_map={"zone": "a"})
            await exporter.send([trace()])
            await exporter.close()
            return collector.requests

    [(head, body)] = asyncio.run(play())
    assert head.startswith("POST /v1/traces HTTP/1.1\r\n")
    is_whole(*spans_of(body))


def test_a_url_is_used_as_it_is() -> None:
    async def play() -> str:
        async with Collector() as collector:
            exporter = exporter_to("http", f"http://{collector.address}/own/path")
            await exporter.send([trace()])
            await exporter.close()
            return collector.requests[0][0]

    assert asyncio.run(play()).startswith("POST /own/path ")


class GrpcCollector:
    """OTLP's service of gRPC."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.code = grpc.StatusCode.OK
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(self._export)
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": handler})])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _export(self, request: bytes, context: Any) -> bytes:
        if self.code is not grpc.StatusCode.OK:
            context.abort(self.code, "no")
        self.requests.append(request)
        return b""

    def close(self) -> None:
        self._server.stop(None)


def test_by_grpc() -> None:
    collector = GrpcCollector()

    async def play() -> None:
        exporter = exporter_to("grpc", collector.address, config_map={"zone": "a"})
        await exporter.send([trace()])
        collector.code = grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(ExportError, match="PERMISSION_DENIED"):
            await exporter.send([trace()])
        await exporter.close()

    try:
        asyncio.run(play())
    finally:
        collector.close()
    is_whole(*spans_of(collector.requests[0]))


def test_a_collector_that_refuses() -> None:
    async def play() -> None:
        async with Collector(Collector.refuse(400)) as collector:
            exporter = exporter_to("http", collector.address)
            await exporter.send([trace()])

    with pytest.raises(ExportError, match="400"):
        asyncio.run(play())


def test_an_exporter_that_does_not_come_back_is_not_called_again() -> None:
    async def play() -> list[str]:
        exporter = exporter_to("console", "")
        exporter.timeout = 0.1
        inner = Hanging()
        exporter._exporter = inner  # type: ignore[assignment]
        texts = []
        for _ in range(2):
            with pytest.raises(ExportError) as error:
                await exporter.send([trace()])
            texts.append(str(error.value))
        inner.gate.set_result(None)
        async with asyncio.timeout(5):
            while exporter._is_busy:
                await asyncio.sleep(0.001)
        await exporter.send([trace()])
        assert inner.calls == 2
        return texts

    assert asyncio.run(play()) == ["no answer within 0.1 s", "the collector has not answered the last batch yet"]


class Hanging:
    """An exporter of the SDK that blocks until `gate` is set."""

    def __init__(self) -> None:
        self.gate: futures.Future[None] = futures.Future()
        self.calls = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.calls += 1
        self.gate.result(10)
        return SpanExportResult.SUCCESS


def test_to_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    async def play() -> None:
        exporter = exporter_to("console", "")
        await exporter.send([trace()])
        await exporter.close()

    asyncio.run(play())
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 4
    found = json.loads(lines[0])
    assert found["context"]["trace_id"] == f"0x{TRACE_ID}"
    assert found["resource"]["attributes"]["service.name"] == "shop_sidecar"


def test_the_name_of_the_service() -> None:
    assert service_of(OpenTelemetry(service_name="s"), {"COMP_NAME": "shop"}) == "s"
    assert service_of(OpenTelemetry(), {"COMP_NAME": "shop"}) == "shop_sidecar"
    assert service_of(OpenTelemetry(), {}) == "default_sidecar"


def test_a_trace_state_is_kept() -> None:
    async def play() -> bytes:
        async with Collector() as collector:
            exporter = exporter_to("http", collector.address)
            await exporter.send([replace(trace(server_span()), state=text) for text in ("a=1,b=2", "?")])
            await exporter.close()
            return collector.requests[0][1]

    _, (one, other) = spans_of(asyncio.run(play()))
    assert (one.trace_state, other.trace_state) == ("a=1,b=2", "")
