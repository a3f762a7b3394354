"""Each exporter against a collector of the test's own, which decodes what it is sent."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.kit import Lines
from tests.kit.thrift_reading import agent_batch
from tests.kit.traces import STARTED, TRACE_ID, Collector, client_span, server_span, trace

from pymosn.api.tracing import TraceRecord
from pymosn.config.schema.observability import Jaeger, SofaTracer, Zipkin, ZipkinHttp
from pymosn.control.tracing.exporter import ExportError, Facts
from pymosn.control.tracing.jaeger import PACKET, JaegerExporter, agent_of, service_of
from pymosn.control.tracing.sofa import SofaExporter
from pymosn.control.tracing.zipkin import ZipkinExporter

FULL = trace()


def zipkin(*addresses: str, **http: int) -> ZipkinExporter:
    urls = [f"http://{address}/api/v2/spans" for address in addresses]
    return ZipkinExporter(Zipkin(service_name="MOSN", reporter="http", addresses=urls, http=ZipkinHttp(**http)))


def closed_port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


# ---- Zipkin


def test_zipkin() -> None:
    async def play() -> list[tuple[str, bytes]]:
        async with Collector() as collector:
            assert await zipkin(collector.address).send([FULL, FULL]) == 0
            return collector.requests

    [(head, body)] = asyncio.run(play())
    assert head.startswith("POST /api/v2/spans HTTP/1.1\r\n")
    assert "content-type: application/json" in head
    spans = json.loads(body)
    assert len(spans) == 8
    server, first, second, inner = spans[:4]
    assert server["traceId"] == TRACE_ID
    assert (server["id"], server["parentId"]) == ("b7ad6b7169203331", "00f067aa0ba902b7")
    assert (server["kind"], server["name"]) == ("SERVER", "/up/x")
    assert (server["timestamp"], server["duration"]) == (round(STARTED * 1e6), 12_500)
    assert server["localEndpoint"] == {"serviceName": "MOSN", "ipv4": "127.0.0.1", "port": 80}
    assert server["remoteEndpoint"] == {"ipv4": "127.0.0.2", "port": 4711}
    # The tags of MOSN's driver.
    tags = server["tags"]
    assert (tags["request_size"], tags["response_size"], tags["result_status"]) == ("3", "5", "200")
    assert tags["upstream_host_address"] == "127.0.0.3:8080"
    assert tags["downstream_host_address"] == "127.0.0.2:4711"
    assert tags["http.request.method"] == "GET"
    assert "error" not in tags
    assert (first["kind"], first["tags"]["error"]) == ("CLIENT", "connect_refused")
    assert first["parentId"] == server["id"]
    assert "error" not in second["tags"]
    assert "kind" not in inner
    assert inner["tags"] == {"hit": "true"}


def test_zipkin_settings() -> None:
    default = zipkin("127.0.0.1:1")
    assert (default.batch_spans, default.interval, default.timeout) == (100, 1.0, 5.0)
    own = zipkin("127.0.0.1:1", timeout=3, batch_size=1, batch_interval=2)
    assert (own.batch_spans, own.interval, own.timeout) == (1, 2.0, 3.0)
    with pytest.raises(ValueError, match="expected http://HOST"):
        ZipkinExporter(Zipkin(reporter="http", addresses=["localhost:9411"], http=ZipkinHttp()))


def test_zipkin_settings_that_are_no_amounts_are_the_defaults() -> None:
    own = zipkin("127.0.0.1:1", timeout=-1, batch_size=-1, batch_interval=-1)
    assert (own.timeout, own.batch_spans, own.interval) == (5.0, 100, 1.0)
    assert zipkin("127.0.0.1:1", batch_size=1_000_000).batch_spans == own.queue_spans // 2


def test_zipkin_addresses_are_tried_in_turn() -> None:
    async def play() -> int:
        async with Collector(Collector.refuse(503)) as bad, Collector() as good:
            exporter = zipkin(closed_port(), bad.address, good.address)
            await exporter.send([FULL])
            await exporter.send([FULL])
            # The second batch begins with the address that has accepted the first one.
            assert len(bad.requests) == 1
            return len(good.requests)

    assert asyncio.run(play()) == 2


@pytest.mark.parametrize(
    ("answer", "text", "may_retry"),
    [
        (Collector.refuse(400), "refused spans with status 400", False),
        (Collector.refuse(503), "status 503", True),
        (Collector.refuse(429), "status 429", True),
    ],
)
def test_zipkin_refuses(answer: Any, text: str, may_retry: bool) -> None:
    async def play() -> None:
        async with Collector(answer) as collector:
            await zipkin(collector.address).send([FULL])

    with pytest.raises(ExportError, match=text) as error:
        asyncio.run(play())
    assert error.value.may_retry is may_retry


def test_zipkin_is_dead_or_hangs_or_speaks_something_else() -> None:
    async def garbage(writer: asyncio.StreamWriter) -> None:
        writer.write(b"what?\r\n\r\n")

    async def close(writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def play() -> list[str]:
        texts = []
        async with Collector(Collector.hang) as hanging, Collector(garbage) as other, Collector(close) as closing:
            for address in (closed_port(), hanging.address, other.address, closing.address):
                exporter = zipkin(address)
                exporter._each = 0.2
                with pytest.raises(ExportError) as error:
                    await exporter.send([FULL])
                assert error.value.may_retry
                texts.append(str(error.value))
        return texts

    dead, hanging, other, closing = asyncio.run(play())
    assert "refused" in dead
    assert "no answer within 0.2 s" in hanging
    assert "does not speak HTTP/1" in other
    assert "closed the connection" in closing


# ---- Jaeger


class Agent:
    """A UDP socket in place of the agent."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.settimeout(5)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def packet(self) -> bytes:
        return self._socket.recv(65_536)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()


def send_to_agent(address: str, *traces: TraceRecord) -> int:
    async def play() -> int:
        exporter = JaegerExporter(Jaeger(service_name="svc", agent_host=address), {})
        try:
            return await exporter.send(traces)
        finally:
            await exporter.close()

    # As the supervisor does it.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(play())


def test_jaeger() -> None:
    with Agent() as agent:
        assert send_to_agent(agent.address, FULL) == 0
        name, process, spans = agent_batch(agent.packet())
    assert name == "emitBatch"
    assert process["service"] == "svc"
    server, first, second, inner = spans
    assert (server["trace"], server["id"], server["parent"]) == (TRACE_ID, "b7ad6b7169203331", "00f067aa0ba902b7")
    assert server["references"] == [(0, TRACE_ID, "00f067aa0ba902b7")]
    assert (server["operation"], server["flags"]) == ("/up/x", 1)
    assert (server["started"], server["duration"]) == (round(STARTED * 1e6), 12_500)
    tags = server["tags"]
    # The tags of MOSN's driver.
    assert (tags["http.method"], tags["http.url"], tags["http.status_code"]) == ("GET", "/up/x?a=1", 200)
    assert (tags["request_size"], tags["response_size"]) == (3, 5)
    assert tags["upstream_host_address"] == "127.0.0.3:8080"
    assert tags["downstream_host_address"] == "127.0.0.2:4711"
    assert tags["span.kind"] == "server"
    assert "error" not in tags
    assert first["tags"]["error"] is True
    assert first["tags"]["error.message"] == "connect_refused"
    assert second["tags"]["span.kind"] == "client"
    assert inner["tags"] == {"hit": True}


def test_jaeger_values_of_all_types() -> None:
    with Agent() as agent:
        send_to_agent(agent.address, trace(server_span(a=-5, b=1.5, c=False, d="é\n", e=1 << 70)))
        [span] = agent_batch(agent.packet())[2]
    assert [span["tags"][key] for key in "abcde"] == [-5, 1.5, False, "é\n", str(1 << 70)]


def test_jaeger_packets_are_small_enough() -> None:
    with Agent() as agent:
        large = trace(server_span(text="x" * 20_000), client_span(1, text="y" * 20_000))
        huge = trace(server_span(text="z" * PACKET))
        assert send_to_agent(agent.address, *[large] * 4, huge) == 1
        packets = [agent.packet() for _ in range(3)]
    assert all(len(packet) <= PACKET for packet in packets)
    assert sum(len(agent_batch(packet)[2]) for packet in packets) == 8


def test_jaeger_without_agent() -> None:
    async def play() -> None:
        exporter = JaegerExporter(Jaeger(agent_host=closed_port()), {})
        for _ in range(3):
            await exporter.send([FULL])
            await asyncio.sleep(0)

    with pytest.raises(ExportError, match="cannot be reached"):
        asyncio.run(play())


def test_jaeger_settings() -> None:
    environment = {"TRACE": "10.1.2.3:99", "APP_ID": "shop"}
    assert agent_of(Jaeger(agent_host="h:1"), environment) == ("h", 1)
    assert agent_of(Jaeger(), environment) == ("10.1.2.3", 99)
    assert agent_of(Jaeger(), {}) == ("127.0.0.1", 6831)
    assert service_of(Jaeger(service_name="s"), environment) == "s"
    assert service_of(Jaeger(), environment) == "shop_sidecar"
    assert service_of(Jaeger(), {}) == "default_sidecar"


# ---- SOFATracer


def digests(folder: Path, *traces: TraceRecord) -> tuple[list[str], list[str]]:
    """The lines of both files after the traces."""

    async def play() -> None:
        facts = Facts()
        facts.listener_types = {"in": "ingress", "out": "egress", "none": ""}
        log = Lines()
        exporter = SofaExporter(SofaTracer(log_path=str(folder)), facts, log)
        for each in traces:
            await exporter.send([each])
        await exporter.close()
        assert not log.lines

    asyncio.run(play())
    server, client = folder / "rpc-server-digest.log", folder / "rpc-client-digest.log"
    return server.read_text().splitlines(), client.read_text().splitlines()


def test_sofa_writes_by_the_type_of_the_listener(tmp_path: Path) -> None:
    server = trace(server_span())
    client = trace(server_span(pymosn__listener="out"), client_span())
    none = trace(server_span(pymosn__listener="none"))
    [one], [other] = digests(tmp_path / "new", server, client, none)
    assert json.loads(one)["span.kind"] == "server"
    assert json.loads(other)["remote.ip"] == "127.0.0.3:8080"
    assert json.loads(other)["local.client.ip"] == "127.0.0.2"
    assert json.loads(other)["local.client.port"] == "4711"


def test_sofa_values_cannot_forge_lines(tmp_path: Path) -> None:
    known = {"sofa.baggage": 'a","traceId":"x\n{', "sofa.trace_id": "t", "sofa.rpc_id": "0.1"}
    [line], _ = digests(tmp_path, trace(server_span(), reference=known))
    found = json.loads(line)
    assert (found["baggage"], found["traceId"], found["spanId"]) == (known["sofa.baggage"], "t", "0.1")


def test_sofa_files_are_reopened(tmp_path: Path) -> None:
    async def play() -> None:
        facts = Facts()
        facts.listener_types = {"in": "ingress"}
        exporter = SofaExporter(SofaTracer(log_path=str(tmp_path)), facts, Lines())
        await exporter.send([trace(server_span())])
        os.rename(tmp_path / "rpc-server-digest.log", tmp_path / "old.log")
        exporter.reopen()
        await exporter.send([trace(server_span())])
        await exporter.close()

    asyncio.run(play())
    for name in ("old.log", "rpc-server-digest.log"):
        assert len((tmp_path / name).read_text().splitlines()) == 1


def test_sofa_files_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        SofaExporter(SofaTracer(log_path=str(tmp_path / "file" / "x")), Facts(), Lines())
