"""Filters in Python and mirrors on requests of HTTP/2, on the real program, with upstreams of either version."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway import Gateway
from h2_peers import H2Client, H2Server, Message, Serving
from origins import Origin
from process_fixtures import Start
from pymosn_process import READY, eventually

pytestmark = pytest.mark.once

FILTERS = """
import asyncio

from pymosn.api import Exchange, Reply, StreamFilter


class Heads(StreamFilter):
    def on_request(self, exchange):
        if exchange.request.path == "/denied":
            return Reply(403, "denied")
        exchange.request.headers.set("x-method", exchange.request.method)
        return None

    def on_response(self, exchange):
        exchange.response.headers.set("x-answered", exchange.protocol)


class Bodies(StreamFilter):
    def on_request_body(self, exchange, data, last):
        return data.upper() + (b"!" if last else b"")

    def on_response_body(self, exchange, data, last):
        return data + (b"?" if last else b"")


class Waits(StreamFilter):
    def __init__(self, config):
        super().__init__(config)
        self.opened = asyncio.Event()

    async def on_request(self, exchange):
        if exchange.request.path == "/waits":
            await self.opened.wait()
        elif exchange.request.path == "/opens":
            self.opened.set()
        elif exchange.request.path == "/reads":
            body = await exchange.request.read(1 << 20)
            exchange.request.set_body(body[::-1])

    async def on_response(self, exchange):
        await asyncio.sleep(0)
        if exchange.request.path == "/reads":
            body = await exchange.response.read(1 << 20)
            exchange.response.set_body(b"<" + body + b">")
"""


def python(folder: Path, *classes: str) -> list[dict[str, Any]]:
    """Entries for filters of the file above."""
    (folder / "filters.py").write_text(FILTERS)
    return [{"type": "python", "config": {"path": str(folder / "filters.py"), "class": name}} for name in classes]


@pytest.fixture(params=["Http1", "Http2"], ids=["to_http1", "to_http2"])
def origin(request: pytest.FixtureRequest) -> Iterator[Origin]:
    made = Origin(request.param)
    yield made
    made.close()


@pytest.fixture
def copies(origin: Origin) -> Iterator[Origin]:
    """Gets the copies, in the same version."""
    made = Origin(origin.protocol)
    yield made
    made.close()


def gateway_to(port: int, protocol: str, folder: Path) -> Gateway:
    made = Gateway(port, folder)
    made.proxy["downstream_protocol"] = "Http2"
    made.cluster["upstream_protocol"] = protocol
    return made


def test_filters_of_heads_and_bodies(start: Start, origin: Origin, tmp_path: Path) -> None:
    gateway = gateway_to(origin.port, origin.protocol, tmp_path)
    gateway.listener["stream_filters"] = python(tmp_path, "Heads", "Bodies")
    start(gateway.config).wait_for(READY)
    with H2Client(gateway.client_port) as client:
        body = b"x" * 200_000
        posts = [client.start("POST", f"/post{number}", body=body) for number in range(3)]
        denied = client.request("POST", "/denied", body=b"abc")
        got = client.request(path="/get")
        for number, stream in enumerate(posts):
            done = client.wait(stream)
            assert (done.status, done.is_complete) == (200, True)
            assert done.body == b"/post%d " % number + body.upper() + b"!?"
            assert (done.value("x-answered"), done.value("x-origin")) == ("Http2", origin.protocol)
    assert (denied.status, denied.body, denied.is_complete) == (403, b"denied?", True)
    assert (got.status, got.body) == (200, b"/get ?")
    methods = {request.value(":path"): request.value("x-method") for request in origin.requests}
    assert methods == {"/get": "GET", "/post0": "POST", "/post1": "POST", "/post2": "POST"}


def test_a_filter_that_waits_delays_only_its_own_stream(start: Start, origin: Origin, tmp_path: Path) -> None:
    gateway = gateway_to(origin.port, origin.protocol, tmp_path)
    gateway.listener["stream_filters"] = python(tmp_path, "Waits")
    start(gateway.config).wait_for(READY)
    with H2Client(gateway.client_port) as client:
        waits = client.start("POST", "/waits", body=b"w" * 300_000)
        cancelled = client.start(path="/waits")
        client.reset(cancelled)
        reads = client.request("POST", "/reads", body=b"abc")
        assert (reads.body, reads.value("content-length")) == (b"</reads cba>", "12")
        assert "/waits" not in [request.value(":path") for request in origin.requests]
        assert client.request(path="/opens").body == b"/opens "
        done = client.wait(waits)
        assert (done.status, done.body) == (200, b"/waits " + b"w" * 300_000)
    first, *others = [request.value(":path") for request in origin.requests]
    assert (first, sorted(others)) == ("/reads", ["/opens", "/waits"])  # these two may be on connections of their own
    assert gateway.logs_in_any_order("- 200 /opens", "- 200 /reads", "- 200 /waits", "client_gone 0 /waits")


def test_mirrors_get_what_the_upstream_gets(start: Start, origin: Origin, copies: Origin, tmp_path: Path) -> None:
    gateway = gateway_to(origin.port, origin.protocol, tmp_path)
    mirror = {**gateway.cluster, "name": "mirror", "hosts": [{"address": copies.address}]}
    gateway.config["cluster_manager"]["clusters"].append(mirror)
    (route,) = gateway.server["routers"][1]["virtual_hosts"][0]["routers"]
    route["request_mirror_policies"] = {"cluster": "mirror", "percent": 100}
    gateway.listener["stream_filters"] = [{"type": "mirror", "config": {"amplification": 1}}]
    start(gateway.config).wait_for(READY)
    bodies = {f"/{number}": bytes([65 + number]) * (number * 50_000) for number in range(4)}
    with H2Client(gateway.client_port) as client:
        streams = {path: client.start("POST", path, [("x-a", "1")], body) for path, body in bodies.items()}
        for path, stream in streams.items():
            assert client.wait(stream).body == path.encode() + b" " + bodies[path]
    assert eventually(lambda: len(copies.requests) == len(bodies))
    assert {request.value(":path"): request.body for request in copies.requests} == bodies
    assert sorted(map(said, copies.requests)) == sorted(map(said, origin.requests))
    assert eventually(lambda: gateway.stats("upstream", "cluster.mirror")["mirrored"] == len(bodies))
    copied = gateway.stats("upstream", "cluster.mirror")
    assert copied["mirror_failed"] == copied["mirror_dropped"] == 0


def said(request: Message) -> list[tuple[str, str]]:
    """The fields of a request, in an order of their own."""
    return sorted(request.fields)


def test_a_call_whose_host_is_lost_ends_with_its_status_where_filters_handle_the_body(start: Start, tmp_path: Path) -> None:
    def breaks(end: Serving, stream: int, message: Message) -> None:
        end.conn.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        end.send(stream, b"\0\0\0\0\2hi", end=False)
        end.sock.shutdown(socket.SHUT_RDWR)

    server = H2Server(breaks)
    gateway = gateway_to(server.port, "Http2", tmp_path)
    gateway.listener["stream_filters"] = python(tmp_path, "Bodies")
    start(gateway.config).wait_for(READY)
    with H2Client(gateway.client_port) as client:
        fields = [("content-type", "application/grpc"), ("te", "trailers")]
        done = client.request("POST", "/pkg.Echo/Say", fields, body=b"\0\0\0\0\0")
        assert (done.status, done.body, done.is_complete) == (200, b"\0\0\0\0\2hi", True)
        assert done.trailers == [("grpc-status", "14"), ("grpc-message", "502 Bad Gateway: reset_after_response")]
    server.close()
    assert gateway.logs("reset_after_response 200 /pkg.Echo/Say")
