"""Limits met by clients of HTTP/2 on the real program, with upstreams of either version. `docs/limits.md` has them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway import Gateway
from h2.exceptions import TooManyStreamsError
from h2.settings import SettingCodes
from h2_peers import H2Client
from origins import Origin
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, eventually
from tests.kit import h2_frames

from pymosn.protocol.http2 import frames

pytestmark = pytest.mark.once


@pytest.fixture(params=["Http1", "Http2"], ids=["to_http1", "to_http2"])
def origin(request: pytest.FixtureRequest) -> Iterator[Origin]:
    made = Origin(request.param)
    yield made
    made.close()


@pytest.fixture
def gateway(origin: Origin, tmp_path: Path) -> Gateway:
    made = Gateway(origin.port, tmp_path)
    made.proxy["downstream_protocol"] = "Http2"
    made.cluster["upstream_protocol"] = origin.protocol
    return made


def serve(start: Start, gateway: Gateway, **settings: Any) -> H2Client:
    """Starts the proxy with `settings` of HTTP/2, and a client."""
    gateway.proxy["extend_config"] = settings
    start(gateway.config).wait_for(READY)
    return H2Client(gateway.client_port)


def test_streams_beyond_the_maximum_are_refused(start: Start, gateway: Gateway, origin: Origin) -> None:
    with serve(start, gateway, max_concurrent_streams=3) as client:
        # The client does not know the maximum yet, because it has read nothing.
        held = [client.start(path="/slow") for _ in range(3)]
        excess = [client.start(path="/excess") for _ in range(2)]
        assert [client.wait(stream).code for stream in excess] == [frames.REFUSED_STREAM] * 2
        assert client.end.conn.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 3
        with pytest.raises(TooManyStreamsError):
            client.start()
        origin.gate.set()
        assert [client.wait(stream).body for stream in held] == [b"/slow "] * 3
        assert client.request(path="/later").body == b"/later "
    assert "/excess" not in [request.value(":path") for request in origin.requests]
    lines = ["- 200 /later", *["- 200 /slow"] * 3, *["too_many_streams 503 /excess"] * 2]
    assert gateway.logs_in_any_order(*lines)
    assert eventually(lambda: gateway.stats("downstream", "listener.clientListener").get("reason_too_many_streams") == 2)


def test_heads_beyond_the_limit_are_answered(start: Start, gateway: Gateway, origin: Origin) -> None:
    with serve(start, gateway, max_header_size=1000, max_header_count=10) as client:
        other = client.start("POST", "/other", body=b"half", ends=False)
        assert client.request(path="/size", fields=[("x", "y" * 1000)]).status == 431
        assert client.request(path="/count", fields=[(f"x{number}", "") for number in range(20)]).status == 431
        assert client.request(path="/" + "x" * 1000).status == 414
        assert client.request(path="/below", fields=[("x", "y" * 700)]).status == 200
        client.send(other, b" and half", end=True)
        assert client.wait(other).body == b"/other half and half", "the connection goes on"
    assert sorted(request.value(":path") for request in origin.requests) == ["/below", "/other"]
    assert eventually(lambda: gateway.stats("downstream", "listener.clientListener").get("reason_headers_too_large") == 2)


@pytest.mark.parametrize("has_length", [True, False], ids=["with_length", "without_length"])
def test_bodies_beyond_the_limit_are_answered(start: Start, gateway: Gateway, origin: Origin, has_length: bool) -> None:
    with serve(start, gateway, max_request_body_size=100_000) as client:
        other = client.start("POST", "/other", body=b"half", ends=False)
        fields = [("content-length", "150000")] if has_length else []
        large = client.start("POST", "/large", fields, b"x" * 150_000)
        assert client.wait(large).status == 413
        fields = [("content-length", "100000")] if has_length else []
        assert client.request("POST", "/most", fields, body=b"y" * 100_000).body == b"/most " + b"y" * 100_000
        client.send(other, b" and half", end=True)
        assert client.wait(other).body == b"/other half and half", "the connection goes on"
    assert sorted(request.value(":path") for request in origin.requests) == ["/most", "/other"]
    assert gateway.logs_in_any_order("- 200 /most", "- 200 /other", "body_too_large 413 /large")


def test_requests_of_a_cluster_are_limited(start: Start, gateway: Gateway, origin: Origin) -> None:
    gateway.cluster["circuit_breakers"] = [{"max_requests": 2}]
    with serve(start, gateway) as client:
        held = [client.start(path="/slow") for _ in range(2)]
        assert origin.arrived.wait(PATIENCE)
        assert client.request(path="/excess").status == 503
        origin.gate.set()
        assert [client.wait(stream).body for stream in held] == [b"/slow "] * 2
        assert client.request(path="/later").body == b"/later "
    assert gateway.logs_in_any_order("- 200 /later", "- 200 /slow", "- 200 /slow", "overflow 503 /excess")


def test_requests_of_a_connection_are_limited_on_both_sides(start: Start, gateway: Gateway, origin: Origin) -> None:
    gateway.cluster["max_request_per_conn"] = 2
    with serve(start, gateway, max_requests_per_connection=4) as client:
        for number in range(4):
            assert client.request(path=f"/{number}").body == f"/{number} ".encode()
        assert client.read_to_end() == frames.NO_ERROR
    assert origin.opened() == 2
    assert gateway.logs("- 200 /0", "- 200 /1", "- 200 /2", "- 200 /3")


def test_each_kind_of_slowness_has_its_limit(start: Start, gateway: Gateway, origin: Origin) -> None:
    gateway.listener["connection_idle_timeout"] = "2s"
    slow = serve(start, gateway, header_timeout="1s", body_timeout="1s")
    with slow, H2Client(gateway.client_port) as half, H2Client(gateway.client_port) as idle:
        # A head whose last frame never comes, and a body that stops. The client's settings are done with by then, because
        # no other frame may come within a head.
        assert half.request(path="/whole").status == 200
        half.end.sock.sendall(h2_frames.frame(frames.HEADERS, 0, 3, b"\x82"))
        silent = slow.start("POST", "/silent", body=b"1234", ends=False)
        assert idle.request(path="/idle").status == 200
        assert slow.wait(silent).status == 408
        assert half.read_to_end() == frames.ENHANCE_YOUR_CALM
        assert idle.read_to_end() == slow.read_to_end() == frames.NO_ERROR
    assert [request.value(":path") for request in origin.requests] == ["/whole", "/idle"]
    lines = ("- 200 /idle", "- 200 /whole", "request_timeout 408 /silent", "request_timeout 408 -")
    assert gateway.logs_in_any_order(*lines)
