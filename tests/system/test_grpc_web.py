"""`grpc_web` and `grpc_json_transcoder` on the real program: clients of HTTP/1 and HTTP/2, and a server of grpcio."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from process_fixtures import Start
from pymosn_process import READY, Pymosn, free_ports
from tests.unit.filters.grpc_shop import classes, descriptor_set

from pymosn.api.grpc import framed
from pymosn.filters.stream.grpc_messages import MessageReader
from pymosn.filters.stream.grpc_web import TextDecoder

pytestmark = pytest.mark.once

KINDS = classes()
PATIENCE = 20.0


class Shop:
    """A server of grpcio with some methods of `shop.Shop`."""

    def __init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8))
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        methods = {
            "GetBook": unary(self._get, KINDS["GetBook"].FromString, _encode),
            "CreateBook": unary(lambda request, _: request.book, KINDS["PutBook"].FromString, _encode),
            "WatchBooks": stream(self._watch, KINDS["ListBooks"].FromString, _encode),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", methods),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait(PATIENCE)

    def _get(self, request: Any, context: Any) -> Any:
        if request.name == "lost":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such böok")
        return KINDS["Book"](name=request.name, pages=7)

    def _watch(self, request: Any, context: Any) -> Iterator[Any]:
        for number in range(100):
            yield KINDS["Book"](title="x" * 1000, pages=number)
        if request.all:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


def _encode(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return content


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def port(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A proxy for all tests."""
    folder = tmp_path_factory.mktemp("web")
    (port,) = free_ports(1)
    path = folder / "conf" / "mosn.json"
    path.parent.mkdir()
    (path.parent / "shop.pb").write_bytes(descriptor_set().SerializeToString())
    path.write_text(json.dumps(config(port, shop.port)))
    proxy = Pymosn(["-c", str(path)], folder, {})
    try:
        proxy.wait_for(READY)
        yield port
    finally:
        proxy.end()


def config(port: int, target: int) -> dict[str, Any]:
    route = {"match": {"prefix": "/shop.Shop/"}, "route": {"cluster_name": "shop"}}
    router = {"router_config_name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"], "routers": [route]}]}
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1,Http2", "router_config_name": "r"}}
    listener = {
        "name": "web",
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "filter_chains": [{"filters": [proxy]}],
        "stream_filters": [
            {"type": "cors", "config": {"allow_origins": ["https://a.example"], "expose_headers": ["grpc-status"]}},
            {"type": "grpc_web", "config": {}},
            {"type": "grpc_json_transcoder", "config": {"proto_descriptor": "shop.pb", "services": ["shop.Shop"]}},
        ],
    }
    cluster = {"name": "shop", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": f"127.0.0.1:{target}"}]}
    return {
        "servers": [{"default_log_path": "stdout", "routers": [router], "listeners": [listener]}],
        "cluster_manager": {"clusters": [cluster]},
    }


def ask(port: int, method: str, path: str, body: bytes = b"", **fields: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    connection.request(method, path, body or None, headers)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, reply.headers, content


def trailers_of(body: bytes) -> tuple[list[bytes], str]:
    """The messages of a gRPC-Web body, and its trailers."""
    at = 0
    while body[at] & 0x80 == 0:
        at += 5 + int.from_bytes(body[at + 1 : at + 5], "big")
    return MessageReader(1 << 20).feed(body[:at]), body[at + 5 :].decode()


def test_json_and_errors(port: int) -> None:
    status, headers, body = ask(port, "GET", "/v1/books/x%20y")
    assert (status, headers["content-type"], json.loads(body)) == (200, "application/json", {"name": "x y", "pages": 7})
    status, _, body = ask(port, "GET", "/v1/books/lost")
    assert (status, json.loads(body)) == (404, {"code": 5, "message": "no such böok"})
    book = json.dumps({"title": "t", "bigNumber": "5"}).encode()
    status, _, body = ask(port, "POST", "/v1/shelves/1/books", book, content_type="application/json")
    assert (status, json.loads(body)) == (200, {"title": "t", "bigNumber": "5"})
    status, _, body = ask(port, "DELETE", "/v1/books/1")
    assert (status, json.loads(body)["code"]) == (501, 12)  # the server has no such method
    assert ask(port, "GET", "/v1/books/1?nothing=1")[0] == 400


def test_a_stream_as_json(port: int) -> None:
    status, _, body = ask(port, "GET", "/v1/watch")
    assert (status, [book.get("pages", 0) for book in json.loads(body)]) == (200, list(range(100)))
    assert json.loads(ask(port, "GET", "/v1/watch?all=true")[2])[-1] == {"error": {"code": 14, "message": "gone"}}


@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text"])
def test_calls_of_grpc_web(port: int, kind: str) -> None:
    is_text = "text" in kind
    call = framed(_encode(KINDS["GetBook"](name="a")))
    sent = base64.b64encode(call) if is_text else call
    origin = "https://a.example"
    status, headers, body = ask(port, "POST", "/shop.Shop/GetBook", sent, content_type=kind, origin=origin)
    assert (status, headers["access-control-expose-headers"]) == (200, "grpc-status")
    (message,), trailers = trailers_of(TextDecoder().feed(body, True) if is_text else body)
    assert KINDS["Book"].FromString(message).name == "a"
    assert "grpc-status: 0\r\n" in trailers

    call = framed(_encode(KINDS["GetBook"](name="lost")))
    sent = base64.b64encode(call) if is_text else call
    status, headers, body = ask(port, "POST", "/shop.Shop/GetBook", sent, content_type=kind)
    assert (status, headers["grpc-status"], body) == (200, "5", b"")

    call = framed(_encode(KINDS["ListBooks"](all=True)))
    sent = base64.b64encode(call) if is_text else call
    status, headers, body = ask(port, "POST", "/shop.Shop/WatchBooks", sent, content_type=kind)
    messages, trailers = trailers_of(TextDecoder().feed(body, True) if is_text else body)
    assert len(messages) == 100
    assert "grpc-status: 14\r\n" in trailers


def test_a_client_of_grpc_on_the_same_port(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/shop.Shop/GetBook", _encode, KINDS["Book"].FromString)
        assert call(KINDS["GetBook"](name="a"), timeout=PATIENCE).pages == 7
        stream = channel.unary_stream("/shop.Shop/WatchBooks", _encode, KINDS["Book"].FromString)
        assert len(list(stream(KINDS["ListBooks"](), timeout=PATIENCE))) == 100


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_a_client_of_http2(port: int, tmp_path: Path) -> None:
    call = tmp_path / "call"
    call.write_bytes(framed(_encode(KINDS["GetBook"](name="a"))))
    curl = ["curl", "-sS", "--http2-prior-knowledge", "-m", str(PATIENCE)]
    base = f"http://127.0.0.1:{port}"
    made = subprocess.run([*curl, f"{base}/v1/books/a"], capture_output=True, check=True)
    assert json.loads(made.stdout) == {"name": "a", "pages": 7}
    fields = ["-H", "content-type: application/grpc-web", "--data-binary", f"@{call}"]
    made = subprocess.run([*curl, *fields, f"{base}/shop.Shop/GetBook"], capture_output=True, check=True)
    (message,), trailers = trailers_of(made.stdout)
    assert (KINDS["Book"].FromString(message).pages, "grpc-status: 0" in trailers) == (7, True)


def test_failures_of_the_upstream(start: Start) -> None:
    port, target = free_ports(2)
    made = config(port, target)
    made["servers"][0]["listeners"][0]["stream_filters"][2]["config"] = {
        "proto_descriptor_bin": base64.b64encode(descriptor_set().SerializeToString()).decode(),
        "services": ["shop.Shop"],
    }
    proxy = start(made)
    proxy.wait_for(READY)
    status, _, body = ask(port, "GET", "/v1/books/1")
    assert (status, json.loads(body)) == (502, {"code": 14, "message": "Bad Gateway"})
    kind = "application/grpc-web"
    status, headers, body = ask(port, "POST", "/shop.Shop/GetBook", framed(b""), content_type=kind)
    assert (status, headers["grpc-status"], headers["content-type"]) == (200, "14", "application/grpc-web+proto")
