"""HTTP/2 programs as clients of pymosn: h2spec, curl, nghttp, h2load and grpcurl. The upstreams are simple."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.interop_service import SERVICE, InteropServer
from tests.system.pymosn_process import eventually
from tests.system.thread_server import HttpServer

from interop.programs import Http2Hops, hops_to, program, run

#: All of h2spec, with generic tests and HPACK.
ALL = 146
ANSWER = "hello from upstream, {path}\n"

pytestmark = pytest.mark.timeout(300)


class Answers(http.server.BaseHTTPRequestHandler):
    """The upstream. It reads a body of any kind, also one that is broken off."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            if "chunked" in self.headers.get("transfer-encoding", ""):
                while size := int(self.rfile.readline(), 16):
                    self.rfile.read(size + 2)
                while self.rfile.readline().strip():
                    pass
            self.rfile.read(int(self.headers.get("content-length", "0")))
            body = ANSWER.format(path=self.path).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def hops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http2Hops]:
    """HTTP/2 to an upstream that speaks HTTP/1.1."""
    upstream = HttpServer(Answers)
    with hops_to(tmp_path_factory.mktemp("hops"), [upstream.address], upstream="Http1") as made:
        yield made
    upstream.close()


@pytest.fixture(scope="module")
def auto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http2Hops]:
    """The same with listeners that detect the protocol."""
    upstream = HttpServer(Answers)
    with hops_to(tmp_path_factory.mktemp("auto"), [upstream.address], protocol="Auto", upstream="Http1") as made:
        yield made
    upstream.close()


@pytest.fixture(scope="module")
def grpc_hops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http2Hops]:
    """HTTP/2 to a gRPC server."""
    server = InteropServer()
    with hops_to(tmp_path_factory.mktemp("grpc"), [server.address]) as made:
        yield made
    server.close()


@pytest.mark.parametrize("side", ["cleartext", "TLS", "one of several protocols", "two hops"])
def test_h2spec(hops: Http2Hops, auto: Http2Hops, side: str) -> None:
    ports = {"cleartext": hops.one, "TLS": hops.tls, "one of several protocols": auto.one, "two hops": hops.two}
    tls = ["-t", "-k"] if side == "TLS" else []
    ran = run([program("h2spec"), "-h", "127.0.0.1", "-p", str(ports[side]), "-o", "2", *tls], 250)
    assert f"{ALL} tests, {ALL} passed, 0 skipped, 0 failed" in ran.stdout, ran.stdout[-6000:]


def test_curl_with_prior_knowledge(hops: Http2Hops) -> None:
    curl = program("curl")
    for port in (hops.one, hops.two):
        ran = run(
            [curl, "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", f"http://127.0.0.1:{port}/a"]
        )
        assert ran.stdout == ANSWER.format(path="/a") + "2 200"


def test_curl_over_tls(hops: Http2Hops) -> None:
    where = ["--cacert", str(hops.files.ca), "--resolve", f"server.test:{hops.tls}:127.0.0.1"]
    for version, wanted in (("--http2", "2"), ("--http1.1", "1.1")):
        command = [program("curl"), "-sS", version, *where, "-w", "%{http_version} %{http_code}"]
        ran = run([*command, f"https://server.test:{hops.tls}/b"])
        assert ran.stdout == ANSWER.format(path="/b") + f"{wanted} 200"


def test_curls_upgrade_is_answered_in_http_1(auto: Http2Hops) -> None:
    """`Upgrade: h2c` is neither accepted nor refused (RFC 9113, 3.1)."""
    command = [program("curl"), "-sS", "-v", "--http2", "-w", "%{http_version} %{http_code}"]
    ran = run([*command, f"http://127.0.0.1:{auto.one}/c"])
    assert "Upgrade: h2c" in ran.stdout
    assert ran.stdout.endswith("1.1 200"), ran.stdout


def test_curl_uploads(hops: Http2Hops, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(3_000_000))
    command = [program("curl"), "-sS", "--http2-prior-knowledge", "-w", "%{http_code} %{size_upload}"]
    ran = run([*command, "--data-binary", f"@{body}", f"http://127.0.0.1:{hops.one}/upload"])
    assert ran.stdout == ANSWER.format(path="/upload") + "200 3000000"


def test_nghttp(hops: Http2Hops, tmp_path: Path) -> None:
    """Several streams, padding, a body, trailers of the request, and priorities, which are ignored."""
    body = tmp_path / "body"
    body.write_bytes(bytes(300_000))
    address = f"http://127.0.0.1:{hops.one}"
    nghttp = program("nghttp")
    for options in (["-m", "5"], ["--padding", "200"], ["-w", "14", "-W", "14"], ["-d", str(body), "--trailer", "x-end: 1"]):
        ran = run([nghttp, "-nv", *options, f"{address}/d"])
        assert ":status: 200" in ran.stdout, ran.stdout
        assert "RST_STREAM" not in ran.stdout, ran.stdout


@pytest.mark.parametrize("side", ["one", "two", "tls"])
def test_h2load(hops: Http2Hops, side: str) -> None:
    scheme = "https" if side == "tls" else "http"
    command = [program("h2load"), "-n", "20000", "-c", "8", "-m", "16"]
    ran = run([*command, f"{scheme}://127.0.0.1:{getattr(hops, side)}/e"])
    assert "20000 succeeded, 0 failed, 0 errored, 0 timeout" in ran.stdout, ran.stdout


def test_h2load_while_others_reset_streams(hops: Http2Hops) -> None:
    """Connections that end with requests in flight do not disturb others."""
    h2load = program("h2load")
    address = f"http://127.0.0.1:{hops.one}/f"
    cut = threading.Thread(target=run, args=([h2load, "-D", "2", "-c", "20", "-m", "30", address],))
    cut.start()
    ran = run([h2load, "-n", "10000", "-c", "4", "-m", "8", address])
    cut.join()
    assert "10000 succeeded, 0 failed" in ran.stdout, ran.stdout


@pytest.mark.parametrize("hop", ["one", "two"])
def test_grpcurl_with_reflection(grpc_hops: Http2Hops, hop: str) -> None:
    grpcurl, address = program("grpcurl"), f"127.0.0.1:{getattr(grpc_hops, hop)}"
    assert SERVICE in run([grpcurl, "-plaintext", address, "list"]).stdout.split()
    described = run([grpcurl, "-plaintext", address, "describe", f"{SERVICE}.UnaryCall"]).stdout
    assert "rpc UnaryCall ( .grpc.testing.SimpleRequest ) returns ( .grpc.testing.SimpleResponse );" in described
    asked = json.dumps({"response_size": 1000, "fill_server_id": True})
    ran = run([grpcurl, "-plaintext", "-d", asked, address, f"{SERVICE}/UnaryCall"])
    answer = json.loads(ran.stdout)
    assert base64.b64decode(answer["payload"]["body"]) == bytes(1000)
    assert answer["server_id"] == "one"
    sizes = [10, 2000, 30]
    asked = json.dumps({"response_parameters": [{"size": size} for size in sizes]})
    ran = run([grpcurl, "-plaintext", "-d", asked, address, f"{SERVICE}/StreamingOutputCall"])
    assert [len(base64.b64decode(body)) for body in re.findall(r'"body": "(.*)"', ran.stdout)] == sizes


def test_nothing_is_left_open(hops: Http2Hops) -> None:
    """No request of the tests above is active after them."""
    assert eventually(lambda: hops.active() == 0)
