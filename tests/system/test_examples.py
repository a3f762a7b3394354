"""The examples for HTTP/2 and gRPC on the real program, with other ports."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from h2_peers import H2Client
from process_fixtures import Start
from pymosn_process import READY, Upstream, free_ports, get, with_ports

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def modules_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an example adds to `sys.path` is removed after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def config_of(folder: str, **ports: int) -> dict[str, Any]:
    """The configuration of an example. `ports`: `p2045=` is the one in place of 2045."""
    text = (EXAMPLES / folder / "config.json").read_text()
    found: dict[str, Any] = json.loads(with_ports(text, {int(name[1:]): port for name, port in ports.items()}))
    return found


def test_grpc(start: Start) -> None:
    demo = runpy.run_path(str(EXAMPLES / "grpc" / "demo.py"))
    port, service, admin = free_ports(3)
    server = demo["serve"](service)
    proxy = start(config_of("grpc", p2045=port, p50051=service, p34901=admin))
    proxy.wait_for(READY)
    assert list(demo["calls"](port)) == [
        "Hello: Hello, Ada",
        "Count: ['1', '2', '3']",
        "Join:  a b",
        "Shout: ['A', 'B']",
        "/demo.Greeter/Hello: INVALID_ARGUMENT, who are you?",
        "/demo.Nobody/Hello: UNIMPLEMENTED, 404 Not Found: no_route",
    ]
    metrics = get(admin, "/metrics")[1]
    for outcome in ("success", "failure"):
        labels = f'method="Hello",outcome="{outcome}",service="demo.Greeter"'
        assert f"pymosn_grpc_method_calls_total{{{labels}}} 1.0" in metrics
    server.stop(None)


def test_http2(start: Start, upstream: Upstream) -> None:
    port, admin = free_ports(2)
    proxy = start(config_of("http2", p2045=port, p8080=upstream.port, p34901=admin))
    proxy.wait_for(READY)
    assert get(port, "/")[0] == 200
    client = H2Client(port)
    assert client.request().status == 200
    client.end.sock.close()
    proxy.wait_for("Http1 to Http1, 200")
    proxy.wait_for("Http2 to Http1, 200")


def test_grpc_web(start: Start, tmp_path: Path) -> None:
    port, service = free_ports(2)
    server = runpy.run_path(str(EXAMPLES / "grpc_web" / "service.py"))["serve"](service)
    config = config_of("grpc_web", p2045=port, p50051=service)
    (tmp_path / "conf").mkdir()
    shutil.copy(EXAMPLES / "grpc_web" / "shop.pb", tmp_path / "conf")
    start(config).wait_for(READY)
    book = {"name": "shelves/1/books/2", "title": "Persuasion", "pages": "249"}
    status, text = get(port, "/v1/shelves/1/books/2")
    assert (status, json.loads(text)) == (200, book)
    status, text = get(port, "/v1/shelves/1/books:watch?minPages=200")
    assert [book["title"] for book in json.loads(text)] == ["Emma", "Persuasion"]
    status, text = get(port, "/v1/shelves/1/books/nine")
    assert (status, json.loads(text)["code"]) == (404, 5)
    server.stop(None)
