"""Real collectors of traces: OpenTelemetry's, Zipkin, SkyWalking, and Jaeger's receiver in the first one.

Each sees one trace over two hops whole, with a retry and an RPC leg (`tests/system/trace_world.py`).

Jaeger has no agent any more, to which its clients sent Thrift over UDP: the OpenTelemetry collector has a receiver for that,
made from Jaeger's code.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import end, eventually, free_ports
from tests.system.trace_peers import zipkin_span
from tests.system.trace_world import Seen, TraceWorld, by_trace, is_whole

from interop.programs import program

pytestmark = pytest.mark.once

#: Seconds that a collector in Java needs to start, and SkyWalking to make a trace visible.
SLOW = 60.0
VISIBLE = 30.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TraceWorld]:
    start = Start(tmp_path)
    made = TraceWorld(tmp_path, start)
    yield made
    made.close()
    start.end()


def seen_whole(world: TraceWorld, spans: Callable[[], list[Seen]], seconds: float = VISIBLE) -> None:
    """Sends requests until one of them has been retried; all traces come, and each is whole."""
    before = len(spans())
    sent = 0
    while not any(len(trace) == 5 for trace in by_trace(spans()[before:])):
        assert sent < 8, "no request has been retried"
        world.send()
        sent += 2

        def all_there(number: int = sent) -> bool:
            traces = by_trace(spans()[before:])
            return len(traces) == number and all(map(is_whole, traces))

        assert eventually(all_there, seconds), by_trace(spans()[before:])


def json_of(url: str, body: Any = None) -> Any:
    """The answer of a collector's API; None if there is none yet."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)
    return None


@contextlib.contextmanager
def running(command: list[str], output: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Runs a collector, with its output in a file."""
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})})
    try:
        yield
    finally:
        end(process)


class OpenTelemetryCollector:
    """The collector with its receivers, and its exporter that prints everything."""

    def __init__(self, folder: Path) -> None:
        self.grpc, self.http, self.jaeger, self.zipkin = (f"127.0.0.1:{port}" for port in free_ports(4))
        self.output = folder / "otelcol.log"
        self.path = folder / "otelcol.yaml"
        receivers = {
            "otlp": {"protocols": {"grpc": {"endpoint": self.grpc}, "http": {"endpoint": self.http}}},
            "jaeger": {"protocols": {"thrift_compact": {"endpoint": self.jaeger}}},
            "zipkin": {"endpoint": self.zipkin},
        }
        pipeline = {"receivers": list(receivers), "exporters": ["debug"]}
        service = {"pipelines": {"traces": pipeline}, "telemetry": {"metrics": {"level": "none"}}}
        config = {"receivers": receivers, "exporters": {"debug": {"verbosity": "detailed"}}, "service": service}
        self.path.write_text(yaml.safe_dump(config))

    def spans(self) -> list[Seen]:
        """All spans that it has printed."""
        found = []
        for text in re.split(r"\nSpan #\d+\n", self.output.read_text())[1:]:
            facts = {key.strip(): value for key, value in re.findall(r"^ {4}([A-Z][\w ]+?) *: ?(.*)$", text, re.MULTILINE)}
            peer = re.search(r"network\.peer\.address: Str\((.*?)\)", text)
            found.append(
                Seen(
                    facts["Trace ID"],
                    facts["ID"],
                    facts["Parent ID"],
                    facts["Kind"].lower(),
                    facts["Status code"] == "Error",
                    peer[1] if peer else "",
                )
            )
        return found


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[OpenTelemetryCollector]:
    made = OpenTelemetryCollector(tmp_path)
    with running([program("otelcol"), "--config", str(made.path)], made.output):
        assert eventually(lambda: "Everything is ready" in made.output.read_text(), SLOW), made.output.read_text()
        yield made


def test_the_opentelemetry_collector(world: TraceWorld, collector: OpenTelemetryCollector) -> None:
    world.trace_by("otel", {"report_method": "grpc", "endpoint": collector.grpc, "config_map": {"zone": "a"}})
    seen_whole(world, collector.spans)
    world.trace_by("otel", {"report_method": "http", "endpoint": collector.http, "service_name": "shop"})
    seen_whole(world, collector.spans)
    text = collector.output.read_text()
    assert "service.name: Str(default_sidecar)" in text
    assert "zone: Str(a)" in text
    assert "service.name: Str(shop)" in text
    assert re.search(r"http\.response\.status_code: Int\(200\)", text)


def test_jaegers_receiver(world: TraceWorld, collector: OpenTelemetryCollector) -> None:
    world.trace_by("jaeger", {"agent_host": collector.jaeger, "service_name": "shop"})
    seen_whole(world, collector.spans)
    assert "service.name: Str(shop)" in collector.output.read_text()


def test_zipkins_receiver(world: TraceWorld, collector: OpenTelemetryCollector) -> None:
    addresses = [f"http://{collector.zipkin}/api/v2/spans"]
    world.trace_by("Zipkin", {"reporter": "http", "addresses": addresses, "http": {"batch_interval": 1}})
    seen_whole(world, collector.spans)


def test_zipkin(world: TraceWorld, tmp_path: Path) -> None:
    jar = program("zipkin.jar")
    [port] = free_ports(1)
    base = f"http://127.0.0.1:{port}"
    command = [program("java"), "-Xmx256m", "-jar", jar]
    with running(command, tmp_path / "zipkin.log", {"QUERY_PORT": str(port)}):
        assert eventually(lambda: json_of(f"{base}/health") is not None, SLOW)
        addresses = [f"{base}/api/v2/spans"]
        config = {"service_name": "MOSN", "reporter": "http", "addresses": addresses, "http": {"batch_interval": 1}}

        def spans() -> list[Seen]:
            traces = json_of(f"{base}/api/v2/traces?serviceName=mosn&limit=100") or []
            return [zipkin_span(span) for trace in traces for span in trace]

        for formats in ([], ["b3multi"]):
            world.trace_by("Zipkin", config, formats)
            seen_whole_in_any_order(world, spans)


def seen_whole_in_any_order(world: TraceWorld, spans: Callable[[], list[Seen]]) -> None:
    """Like `seen_whole`, for a collector that shows the newest traces first."""
    old = {span.trace for span in spans()}
    seen_whole(world, lambda: [span for span in spans() if span.trace not in old])


def test_skywalking(world: TraceWorld, tmp_path: Path) -> None:
    grpc_port, rest_port = free_ports(2)
    url = f"http://127.0.0.1:{rest_port}/graphql"
    with running([program("skywalking-oap"), str(grpc_port), str(rest_port)], tmp_path / "oap.log"):
        assert eventually(lambda: json_of(url, {"query": "{ version }"}) is not None, SLOW)
        config = {"reporter": "gRPC", "backend_service": f"127.0.0.1:{grpc_port}", "service_name": "shop"}
        world.trace_by("SkyWalking", config)
        seen_whole(world, lambda: [span for call in world.calls for span in skywalking_trace(url, trace_of(call))], SLOW)

        def services() -> set[str]:
            found = json_of(url, {"query": '{ listServices(layer: "GENERAL") { name } }'})
            return {service["name"] for service in found["data"]["listServices"]}

        assert eventually(lambda: "shop" in services(), SLOW), services()


def trace_of(call: dict[str, str | None]) -> str:
    """The id of the trace in a call's context."""
    return base64.b64decode(str(call["sw8"]).split("-")[1]).decode()


def skywalking_trace(url: str, trace: str) -> list[Seen]:
    """The spans of a trace, as SkyWalking shows them."""
    fields = "segmentId spanId parentSpanId refs { parentSegmentId parentSpanId } type peer isError component"
    query = "query($id: ID!) { queryTrace(traceId: $id) { spans { FIELDS } } }".replace("FIELDS", fields)
    answer = json_of(url, {"query": query, "variables": {"id": trace}})
    found = []
    for span in ((answer or {}).get("data") or {"queryTrace": {"spans": []}})["queryTrace"]["spans"]:
        parent = f"{span['segmentId']}/{span['parentSpanId']}" if span["parentSpanId"] >= 0 else ""
        for one in span["refs"]:
            parent = f"{one['parentSegmentId']}/{one['parentSpanId']}"
        assert span["component"] == "MOSN"
        kind = {"Entry": "server", "Exit": "client"}[span["type"]]
        peer = (span["peer"] or "").split(":")[0]
        found.append(Seen(trace, f"{span['segmentId']}/{span['spanId']}", parent, kind, span["isError"], peer))
    return found
