"""Collectors of traces for tests with the real program: what each was sent, as `Seen`."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from tests.kit.skywalking_messages import decoded
from tests.kit.thrift_reading import agent_batch
from trace_world import Seen


class HttpRecorder:
    """Accepts every POST, and keeps its body."""

    def __init__(self) -> None:
        bodies: list[bytes] = []
        self.bodies = bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *values: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def zipkin(self) -> list[Seen]:
        """All spans, if they are Zipkin's."""
        return [zipkin_span(span) for body in self.bodies for span in json.loads(body)]

    def otlp(self) -> list[Seen]:
        """All spans, if they are OpenTelemetry's."""
        requests = [trace_service_pb2.ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        kinds = {1: "internal", 2: "server", 3: "client"}
        return [
            Seen(
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                kinds[span.kind],
                span.status.code == 2,
                next((each.value.string_value for each in span.attributes if each.key == "network.peer.address"), ""),
            )
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def zipkin_span(span: dict[str, Any]) -> Seen:
    """A span of Zipkin's, as it is sent, and as its own API shows it."""
    peer = span.get("remoteEndpoint", {}).get("ipv4", "")
    kind = span.get("kind", "INTERNAL").lower()
    return Seen(span["traceId"], span["id"], span.get("parentId", ""), kind, "error" in span.get("tags", {}), peer)


class JaegerAgent:
    """Receives packets of Jaeger's clients."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.packets: list[bytes] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(65_536)
            except OSError:
                return
            if not data:
                return
            self.packets.append(data)

    def close(self) -> None:
        # A thread that waits for a datagram is not woken by `close`.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self._socket.getsockname())
        self._socket.close()

    def spans(self) -> list[Seen]:
        """All spans."""
        found = []
        for packet in self.packets:
            for span in agent_batch(packet)[2]:
                tags = span["tags"]
                parent = "" if int(span["parent"], 16) == 0 else span["parent"]
                has_failed = tags.get("error", False)
                found.append(
                    Seen(
                        span["trace"],
                        span["id"],
                        parent,
                        tags["span.kind"],
                        has_failed,
                        tags.get("network.peer.address", ""),
                    )
                )
        return found


class SkyWalkingBackend:
    """SkyWalking's services of gRPC."""

    def __init__(self) -> None:
        self.segments: list[dict[str, Any]] = []
        self.instances: list[dict[str, Any]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace = {"collect": grpc.stream_unary_rpc_method_handler(self._collect)}
        management = {
            "reportInstanceProperties": grpc.unary_unary_rpc_method_handler(self._properties),
            "keepAlive": grpc.unary_unary_rpc_method_handler(lambda request, context: b""),
        }
        for name, methods in (("TraceSegmentReportService", trace), ("ManagementService", management)):
            handler = grpc.method_handlers_generic_handler(f"skywalking.v3.{name}", methods)
            self._server.add_generic_rpc_handlers([handler])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _collect(self, requests: Iterator[bytes], context: Any) -> bytes:
        self.segments.extend(decoded("Segment", request) for request in requests)
        return b""

    def _properties(self, request: bytes, context: Any) -> bytes:
        self.instances.append(decoded("Properties", request))
        return b""

    def close(self) -> None:
        self._server.stop(None)

    def spans(self) -> list[Seen]:
        """All spans: the id of one is its segment's and its number; the parent of an entry span is that of its reference."""
        return [seen for segment in self.segments for seen in segment_spans(segment)]


def segment_spans(segment: dict[str, Any]) -> list[Seen]:
    """The spans of a segment of SkyWalking's."""
    kinds = {0: "server", 1: "client", 2: "internal"}
    found = []
    for span in segment["spans"]:
        parent = f"{segment['traceSegmentId']}/{span['parentSpanId']}" if span["parentSpanId"] >= 0 else ""
        for one in span["refs"]:
            parent = f"{one['parentTraceSegmentId']}/{one['parentSpanId']}"
        span_id = f"{segment['traceSegmentId']}/{span['spanId']}"
        found.append(
            Seen(segment["traceId"], span_id, parent, kinds[span["spanType"]], span["isError"], span["peer"].split(":")[0])
        )
    return found
