"""Operations on HTTP/2 as on HTTP/1, on the real program: reload, drain and access logs with streams in flight."""

from __future__ import annotations

import copy
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from h2_peers import H2Client, H2Server, Message, Serving
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, eventually

pytestmark = pytest.mark.once


class Gated:
    """An upstream of HTTP/2: `/slow` is answered when the gate opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.arrived = threading.Event()
        self.server = H2Server(self.answer)

    def answer(self, end: Serving, stream: int, message: Message) -> None:
        path = message.value(":path")
        if path == "/slow":
            self.arrived.set()
            assert self.gate.wait(PATIENCE)
        end.respond(stream, path.encode() + message.body, trailers=[("x-end", "1")])


@pytest.fixture
def gated() -> Iterator[Gated]:
    gated = Gated()
    yield gated
    gated.gate.set()
    gated.server.close()
    assert gated.server.faults == [], "the proxy has violated RFC 9113"


def hops_of(gated: Gated, tmp_path: Path) -> TwoHops:
    """Two hops that speak HTTP/2, with an access log on the first."""
    hops = TwoHops(gated.server.port)
    for listener in hops.server["listeners"]:
        listener["filter_chains"][0]["filters"][0]["config"]["downstream_protocol"] = "Http2"
    for cluster in hops.config["cluster_manager"]["clusters"]:
        cluster["upstream_protocol"] = "Http2"
    log = {"log_path": str(tmp_path / "access.log"), "log_format": "%protocol% %response_code% %request_path% %reason%"}
    hops.server["listeners"][0]["access_logs"] = [log]
    return hops


def reload(proxy: Pymosn, hops: TwoHops, tmp_path: Path, config: dict[str, Any]) -> None:
    def attempts() -> int:
        return int(json.loads(hops.admin("/api/v1/last_change"))["attempt"])

    before = attempts()
    (tmp_path / "conf" / "mosn.json").write_text(json.dumps(config))
    proxy.send(signal.SIGHUP)
    assert eventually(lambda: attempts() > before)


def test_a_reload_with_streams_in_flight(start: Start, gated: Gated, tmp_path: Path) -> None:
    hops = hops_of(gated, tmp_path)
    proxy = start(hops.config)
    proxy.wait_for(READY)
    with H2Client(hops.client_port) as client:
        slow = client.start("POST", "/slow", body=b"x" * 60_000)
        assert gated.arrived.wait(PATIENCE)
        changed = copy.deepcopy(hops.config)
        new = {"match": {"prefix": "/new"}, "direct_response": {"status": 203, "body": "new"}}
        changed["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"].insert(0, new)
        reload(proxy, hops, tmp_path, changed)
        other = client.request(path="/new")
        assert (other.status, other.body) == (203, b"new"), "the same connection has the new routes"
        gated.gate.set()
        done = client.wait(slow)
        assert (done.status, done.body, done.trailers) == (200, b"/slow" + b"x" * 60_000, [("x-end", "1")])
    log = tmp_path / "access.log"
    assert eventually(lambda: log.read_text().count("\n") == 2)
    assert sorted(log.read_text().splitlines()) == ["Http2 200 /slow -", "Http2 203 /new -"]


def test_a_drain_with_streams_in_flight(start: Start, gated: Gated, tmp_path: Path) -> None:
    hops = hops_of(gated, tmp_path)
    proxy = start(hops.config)
    proxy.wait_for(READY)
    with H2Client(hops.client_port) as client, H2Client(hops.client_port) as idle:
        assert idle.request().status == 200
        slow = client.start("POST", "/slow", body=b"y")
        assert gated.arrived.wait(PATIENCE)
        proxy.send(signal.SIGTERM)
        assert idle.read_to_end() == 0, "GOAWAY without an error"
        gated.gate.set()
        done = client.wait(slow)
        assert (done.status, done.body, done.is_complete) == (200, b"/slowy", True)
        assert client.read_to_end() == 0
    assert proxy.exit_code() == 0
