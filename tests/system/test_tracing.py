"""Traces on the real program: a request through two hops, until its spans reach a collector; and a reload."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from generations import Generations
from process_fixtures import Start
from pymosn_process import READY, TwoHops, eventually


class Collector:
    """What Zipkin's collector accepts."""

    def __init__(self) -> None:
        spans: list[dict[str, Any]] = []
        self.spans = spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                spans.extend(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api/v2/spans"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_a_trace_of_two_hops_reaches_the_collector(
    start: Start, two_hops: TwoHops, collector: Collector, tmp_path: Path
) -> None:
    reporter = {"reporter": "http", "sample_rate": 1, "addresses": [collector.url], "http": {"batch_interval": 1}}
    tracing = {"enable": True, "driver": "Zipkin", "config": {"service_name": "hops", **reporter}}
    two_hops.config["tracing"] = tracing
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    assert two_hops.get("/a?token=secret")[0] == 200
    assert eventually(lambda: len(collector.spans) >= 4)
    spans = {span["id"]: span for span in collector.spans}
    assert len(collector.spans) == len(spans) == 4
    assert len({span["traceId"] for span in spans.values()}) == 1
    [last] = [
        span
        for span in spans.values()
        if span["kind"] == "CLIENT" and span["remoteEndpoint"]["port"] not in (two_hops.server_port, two_hops.client_port)
    ]
    chain = [last]
    while "parentId" in chain[-1]:
        chain.append(spans[chain[-1]["parentId"]])
    assert [span["kind"] for span in chain] == ["CLIENT", "SERVER", "CLIENT", "SERVER"]
    assert "secret" not in json.dumps(collector.spans)

    def counters() -> dict[str, int]:
        found = json.loads(two_hops.admin("/api/v1/stats"))["tracing"]["side.worker"]
        return {key: int(value) for key, value in found.items()}

    assert eventually(lambda: counters().get("traces_sent_total") == 2)
    assert counters()["traces_dropped_total"] == 0

    two_hops.config["tracing"] = {**tracing, "enable": False}
    (tmp_path / "conf" / "mosn.json").write_text(json.dumps(two_hops.config))
    proxy.send(signal.SIGHUP)
    proxy.wait_for("change from SIGHUP: version 2 is active")
    assert two_hops.get()[0] == 200
    two_hops.config["tracing"] = {**tracing, "propagation": ["w3c"]}
    (tmp_path / "conf" / "mosn.json").write_text(json.dumps(two_hops.config))
    proxy.send(signal.SIGHUP)
    proxy.wait_for("change from SIGHUP: version 3 is active")
    assert two_hops.get()[0] == 200
    assert eventually(lambda: len(collector.spans) >= 8)
    assert len(collector.spans) == 8, "those of the request while tracing was off do not exist"
    assert counters()["traces_recorded_total"] == 4
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0


def test_a_crash_and_an_upgrade_lose_no_trace_that_was_sent(
    start: Start, two_hops: TwoHops, collector: Collector, tmp_path: Path
) -> None:
    reporter = {"reporter": "http", "addresses": [collector.url], "http": {"batch_size": 8, "batch_interval": 600}}
    two_hops.config["tracing"] = {"enable": True, "driver": "Zipkin", "config": reporter, "sampling": {"rate": 1}}
    proxy = start(two_hops.config, "--workers", "1")
    generations = Generations(proxy, tmp_path / "conf" / "mosn.json", two_hops.admin_port)
    try:

        def sends(requests: int, spans: int) -> None:
            """Sends requests, of which each has two server spans and two client spans."""
            for _ in range(requests):
                assert two_hops.get()[0] == 200
            assert eventually(lambda: len(collector.spans) == spans), len(collector.spans)

        sends(2, 8)
        [worker] = proxy.worker_pids()
        os.kill(worker, signal.SIGKILL)
        proxy.wait_for(r"worker 1 \(pid \d+\) is ready")
        sends(2, 16)
        # These spans are less than a batch: the old generation exports them at its end.
        sends(1, 16)
        assert generations.upgrade().returncode == 0
        assert eventually(lambda: len(collector.spans) == 20)
        sends(2, 28)
        assert len({span["id"] for span in collector.spans}) == 28
        assert len({span["traceId"] for span in collector.spans}) == 7
    finally:
        generations.end()
