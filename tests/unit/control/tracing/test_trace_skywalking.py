"""SkyWalking's segments: against a gRPC server of the test's own, decoded by Protocol Buffers' own library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio
from tests.kit import Lines
from tests.kit.skywalking_messages import decoded
from tests.kit.traces import STARTED, TRACE_ID, client_span, server_span, trace

from pymosn.config.schema.observability import SkyWalking
from pymosn.control.tracing.exporter import ExportError
from pymosn.control.tracing.skywalking import Instance, LogExporter, encode_segment, segment
from pymosn.control.tracing.skywalking_grpc import GrpcExporter

INSTANCE = Instance("MOSN", "one@host")
RECEIVED = {
    "sw8.trace_id": "received.1",
    "sw8.parent_segment": "parent.1",
    "sw8.parent_span": "3",
    "sw8.parent_service": "front",
    "sw8.parent_instance": "front@1",
    "sw8.parent_endpoint": "/front",
    "sw8.address": "127.0.0.1:80",
}


class Backend:
    """SkyWalking's services; each call is recorded, with its metadata."""

    def __init__(self, code: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        self.code = code
        self.hangs = False
        self.segments: list[dict[str, Any]] = []
        self.properties: list[dict[str, Any]] = []
        self.pings: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self._server = aio.server()
        self.address = ""

    async def __aenter__(self) -> Backend:
        trace = {"collect": grpc.stream_unary_rpc_method_handler(self._collect)}
        management = {
            "reportInstanceProperties": grpc.unary_unary_rpc_method_handler(self._properties),
            "keepAlive": grpc.unary_unary_rpc_method_handler(self._ping),
        }
        for name, methods in (("TraceSegmentReportService", trace), ("ManagementService", management)):
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(f"skywalking.v3.{name}", methods)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.stop(None)

    async def _note(self, context: Any) -> None:
        self.tokens.add(dict(context.invocation_metadata()).get("authentication", ""))
        if self.hangs:
            await asyncio.Event().wait()
        if self.code is not grpc.StatusCode.OK:
            await context.abort(self.code, "not now")

    async def _collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        await self._note(context)
        async for request in requests:
            self.segments.append(decoded("Segment", request))
        return b""

    async def _properties(self, request: bytes, context: Any) -> bytes:
        await self._note(context)
        self.properties.append(decoded("Properties", request))
        return b""

    async def _ping(self, request: bytes, context: Any) -> bytes:
        await self._note(context)
        self.pings.append(decoded("Ping", request))
        return b""


def exporter_to(address: str, **more: Any) -> GrpcExporter:
    return GrpcExporter(SkyWalking(reporter="gRPC", backend_service=address, service_name="MOSN", **more), INSTANCE)


def test_a_segment() -> None:
    found = decoded("Segment", encode_segment(segment(trace(reference=RECEIVED), INSTANCE)))
    assert (found["traceId"], found["service"], found["serviceInstance"]) == ("received.1", "MOSN", "one@host")
    entry, first, second, inner = found["spans"]
    assert (entry["spanId"], entry["parentSpanId"], entry["spanType"], entry["spanLayer"]) == (0, -1, 0, 3)
    assert (entry["startTime"], entry["endTime"]) == (str(int(STARTED * 1000)), str(int(STARTED * 1000 + 12.5)))
    assert entry["operationName"] == "/up/x?a=1"
    assert entry["componentId"] == 5003
    assert not entry["isError"]
    assert entry["refs"] == [
        {
            "refType": 0,
            "traceId": "received.1",
            "parentTraceSegmentId": "parent.1",
            "parentSpanId": 3,
            "parentService": "front",
            "parentServiceInstance": "front@1",
            "parentEndpoint": "/front",
            "networkAddressUsedAtPeer": "127.0.0.1:80",
        }
    ]
    tags = {tag["key"]: tag["value"] for tag in entry["tags"]}
    # The tags of MOSN's driver.
    assert (tags["http.method"], tags["url"], tags["status_code"]) == ("GET", "here.example/up/x?a=1", "200")
    assert (first["spanId"], first["parentSpanId"], first["spanType"]) == (1, 0, 1)
    assert (first["peer"], first["isError"], first["refs"]) == ("127.0.0.3:8080", True, [])
    assert {pair["key"]: pair["value"] for pair in first["logs"][0]["data"]}["error.kind"] == "connect_refused"
    assert (second["spanId"], second["isError"], second["operationName"]) == (2, False, "/up/x?a=1")
    assert (inner["spanType"], inner["spanLayer"], inner["operationName"]) == (2, 0, "look-up")


def test_a_segment_without_received_context() -> None:
    found = segment(trace(server_span(http__response__status_code=404), client_span()), INSTANCE)
    assert found["traceId"] == TRACE_ID
    assert found["traceSegmentId"] == f"{TRACE_ID}.b7ad6b7169203331"
    assert found["spans"][0]["refs"] == []
    # As in MOSN, errors begin with the status 400.
    assert found["spans"][0]["isError"] is True


def test_requests_of_filters_have_the_numbers_that_their_hosts_were_told() -> None:
    made = segment(trace(server_span(), client_span(1), client_span(2, pymosn__call_number=1001)), INSTANCE)
    assert [span["spanId"] for span in made["spans"]] == [0, 1, 1001]


def test_by_log() -> None:
    log = Lines()
    asyncio.run(LogExporter(INSTANCE, log).send([trace()]))
    [line] = log.lines
    head, _, content = line.partition(": ")
    assert head == f"SkyWalking segment {TRACE_ID}.b7ad6b7169203331"
    assert len(json.loads(content)["spans"]) == 4


def test_by_grpc() -> None:
    async def play() -> Backend:
        async with Backend() as backend:
            exporter = exporter_to(backend.address, authentication="token")
            assert await exporter.send([trace(), trace(server_span())]) == 0
            async with asyncio.timeout(5):
                while not backend.pings:
                    await asyncio.sleep(0.001)
            await exporter.close()
        return backend

    backend = asyncio.run(play())
    assert [len(each["spans"]) for each in backend.segments] == [4, 1]
    assert backend.tokens == {"token"}
    [properties] = backend.properties
    assert (properties["service"], properties["serviceInstance"]) == ("MOSN", "one@host")
    assert {"language", "Process No.", "hostname", "OS Name"} <= {pair["key"] for pair in properties["properties"]}
    assert backend.pings == [{"service": "MOSN", "serviceInstance": "one@host"}]


@pytest.mark.parametrize(
    ("code", "may_retry"),
    [(grpc.StatusCode.UNAVAILABLE, True), (grpc.StatusCode.INTERNAL, True), (grpc.StatusCode.UNAUTHENTICATED, False)],
)
def test_a_backend_that_refuses(code: grpc.StatusCode, may_retry: bool) -> None:
    async def play() -> None:
        async with Backend(code) as backend:
            exporter = exporter_to(backend.address)
            try:
                await exporter.send([trace()])
            finally:
                await exporter.close()

    with pytest.raises(ExportError, match=f"{code.name}: not now") as error:
        asyncio.run(play())
    assert error.value.may_retry is may_retry


def test_a_backend_that_is_dead_or_hangs_and_comes_back() -> None:
    async def play() -> list[str]:
        texts = []
        async with Backend() as backend:
            backend.hangs = True
            exporter = exporter_to(backend.address)
            exporter.timeout = 0.2
            for address in (None, "127.0.0.1:1"):
                one = exporter if address is None else exporter_to(address)
                with pytest.raises(ExportError) as error:
                    await one.send([trace()])
                texts.append(str(error.value))
                if one is not exporter:
                    await one.close()
            backend.hangs = False
            await exporter.send([trace()])
            await exporter.close()
            assert len(backend.segments) == 1
        return texts

    hanging, dead = asyncio.run(play())
    assert hanging.startswith("DEADLINE_EXCEEDED")
    assert dead.startswith("UNAVAILABLE")


def test_a_segment_that_is_too_large_is_left_out() -> None:
    async def play() -> int:
        async with Backend() as backend:
            exporter = exporter_to(backend.address)
            lost = await exporter.send([trace(server_span(text="x" * 4_000_000)), trace(server_span())])
            await exporter.close()
            assert len(backend.segments) == 1
            return lost

    assert asyncio.run(play()) == 1


def test_a_certificate_that_cannot_be_read() -> None:
    from pymosn.config.schema.observability import SkyWalkingTls

    with pytest.raises(OSError, match="/nowhere"):
        exporter_to("127.0.0.1:1", tls=SkyWalkingTls(cert_file="/nowhere"))
