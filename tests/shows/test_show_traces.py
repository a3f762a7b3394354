"""Show: one trace over two hops, with a retry and an RPC leg, seen whole by the collector of each driver, in each format."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process_fixtures import Start
from pymosn_process import eventually
from trace_peers import HttpRecorder, JaegerAgent, SkyWalkingBackend
from trace_world import Seen, TraceWorld, by_trace, is_whole


@pytest.fixture
def world(tmp_path: Path, start: Start) -> Iterator[TraceWorld]:
    made = TraceWorld(tmp_path, start)
    yield made
    made.close()


def is_seen_whole(world: TraceWorld, spans: Callable[[], list[Seen]]) -> None:
    """Sends requests until one of them has been retried. All traces come, and each is whole."""
    before = len(spans())
    sent = 0
    while not any(len(trace) == 5 for trace in by_trace(spans()[before:])):
        assert sent < 8, "no request has been retried"
        world.send()
        sent += 2
        assert eventually(lambda number=sent: all_whole(spans()[before:], number)), by_trace(spans()[before:])


def all_whole(spans: list[Seen], number: int) -> bool:
    """Whether there are as many traces, and each of them is whole."""
    traces = by_trace(spans)
    return len(traces) == number and all(map(is_whole, traces))


def test_one_trace_is_seen_whole_in_each_format(world: TraceWorld, tmp_path: Path) -> None:
    zipkin, otlp, agent, backend = HttpRecorder(), HttpRecorder(), JaegerAgent(), SkyWalkingBackend()
    try:
        http = {"batch_size": 1, "batch_interval": 1}
        settings = {"reporter": "http", "addresses": [f"http://{zipkin.address}/api/v2/spans"], "http": http}
        world.trace_by("Zipkin", settings)
        is_seen_whole(world, zipkin.zipkin)
        world.trace_by("Zipkin", settings, ["b3multi"])
        is_seen_whole(world, zipkin.zipkin)
        assert world.calls[-1]["x-b3-traceid"]
        world.trace_by("jaeger", {"agent_host": agent.address})
        is_seen_whole(world, agent.spans)
        assert world.calls[-1]["uber-trace-id"]
        world.trace_by("otel", {"report_method": "http", "endpoint": otlp.address})
        is_seen_whole(world, otlp.otlp)
        assert world.calls[-1]["traceparent"]
        world.trace_by("SkyWalking", {"reporter": "gRPC", "backend_service": backend.address})
        is_seen_whole(world, backend.spans)
        assert world.calls[-1]["sw8"]
        assert eventually(lambda: len(backend.instances) == 1)
        world.trace_by("SOFATracer", {"log_path": str(tmp_path / "digests")})
        world.send()
        is_numbered(world, tmp_path / "digests")
        seen = {
            "Zipkin": zipkin.zipkin(),
            "jaeger": agent.spans(),
            "otel": otlp.otlp(),
            "SkyWalking": backend.spans(),
        }
        for driver, spans in seen.items():
            counts = world.counts(driver)
            assert counts.pop("spans_exported_total") == len(spans)
            assert not any(counts.values()), counts
    finally:
        for peer in (zipkin, otlp, agent, backend):
            peer.close()


def test_what_waits_is_exported_at_the_end(world: TraceWorld) -> None:
    zipkin = HttpRecorder()
    try:
        http = {"batch_size": 1000, "batch_interval": 600}
        world.trace_by("Zipkin", {"reporter": "http", "addresses": [f"http://{zipkin.address}/x"], "http": http})
        world.send(4)
        assert not zipkin.bodies
        world.proxy.send(signal.SIGTERM)
        assert world.proxy.exit_code() == 0
        traces = by_trace(zipkin.zipkin())
        assert len(traces) == 4
        assert all(map(is_whole, traces))
    finally:
        zipkin.close()


def is_numbered(world: TraceWorld, folder: Path) -> None:
    """The lines of both hops have the ids of one trace, and RpcIds that show who has called whom."""

    def lines(name: str) -> list[dict[str, str]]:
        path = folder / f"rpc-{name}-digest.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    assert eventually(lambda: (len(lines("server")), len(lines("client"))) == (2, 2))
    first = {line["traceId"]: line["spanId"] for line in lines("server")}
    second = {line["traceId"]: line["spanId"] for line in lines("client")}
    assert first.keys() == second.keys()
    assert set(first.values()) == {"0"}
    # The second hop is below the attempt that succeeded: the first one, or the second.
    assert set(second.values()) <= {"0.1", "0.2"}
    called = {str(call["rpc_trace_context.sofaTraceId"]): call["rpc_trace_context.sofaRpcId"] for call in world.calls[-2:]}
    assert called == {trace: f"{rpc_id}.1" for trace, rpc_id in second.items()}
