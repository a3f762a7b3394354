"""MOSN's TLS samples with new certificates: both hops of pymosn. With MOSN=BINARY also each hop of MOSN itself."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bolt_peers import BoltClient, BoltServer
from h2_peers import H2Client
from mosn_samples import Page, Sample
from plain_sockets import accepts
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, eventually, get
from tests.kit import bolt_frames as bolt
from tests.kit import certificates as made
from thread_server import HttpServer
from tls_peers import answer, opened, plain_answer

pytestmark = pytest.mark.once

MOSN = os.environ.get("MOSN", "")
#: The programs of client hop and server hop. MOSN on both sides shows that these tests ask for what MOSN does.
PAIRS = ["pymosn-pymosn", "pymosn-mosn", "mosn-pymosn", "mosn-mosn"]


@contextlib.contextmanager
def mosn(config: dict[str, Any], port: int, folder: Path) -> Iterator[None]:
    """MOSN with a configuration, once its listener accepts."""
    folder.mkdir()
    (folder / "mosn.json").write_text(json.dumps(config))
    with (folder / "output").open("w") as output:
        process = subprocess.Popen([MOSN, "start", "-c", "mosn.json"], cwd=folder, stdout=output, stderr=output)
    try:
        assert eventually(lambda: accepts(port)), (folder / "output").read_text()
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=PAIRS)
def run(request: pytest.FixtureRequest, tmp_path: Path, start: Start) -> Iterator[Callable[[Sample], None]]:
    """Starts both hops of a sample."""
    if "mosn" in request.param.split("-") and not MOSN:
        pytest.skip("MOSN is not set to the program of MOSN")

    with contextlib.ExitStack() as stack:

        def both(sample: Sample) -> None:
            begun = []
            hops = zip(request.param.split("-"), (sample.client_config, sample.server_config), (True, False), strict=True)
            for program, config, is_client in hops:
                if program == "pymosn":
                    begun.append(start(config))
                else:
                    port = sample.client_port if is_client else sample.server_port
                    stack.enter_context(mosn(config, port, tmp_path / f"mosn-{is_client}"))
            for proxy in begun:
                proxy.wait_for(READY)

        yield both


@pytest.fixture
def page() -> Iterator[HttpServer]:
    server = HttpServer(Page)
    yield server
    server.close()


def context_of(sample: Sample, *, with_certificate: bool, own: made.Issued | None = None) -> ssl.SSLContext:
    """A client that trusts the CA of the hops. `own`: another certificate than theirs."""
    context = ssl.create_default_context(cafile=str(sample.ca))
    if own is not None:
        own.load_into(context)
    elif with_certificate:
        context.load_cert_chain(str(sample.ca.with_name("server.pem")), str(sample.ca.with_name("server.key")))
    return context


def direct(sample: Sample, context: ssl.SSLContext) -> int:
    """The status of a request to the server hop, past the client hop; 0 if it is refused."""
    return answer(sample.server_port, "127.0.0.1", "127.0.0.1", context=context)[0]


def post(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\nConnection: close\r\n\r\n" + b"x" * 9000)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def served(sample: Sample) -> None:
    """What http and auto have in common."""
    assert get(sample.client_port, "/a?b=c") == (200, "GET /a?b=c 0 success")
    assert post(sample.client_port).endswith(b"POST /form 9000 success")
    assert direct(sample, context_of(sample, with_certificate=True)) == 200
    assert plain_answer(sample.server_port)[0] in (0, 400)


def refused(sample: Sample) -> None:
    """A certificate of another CA gets no response from any server hop."""
    assert direct(sample, context_of(sample, with_certificate=True, own=made.other_client())) == 0


def test_http(run: Callable[[Sample], None], tmp_path: Path, page: HttpServer) -> None:
    sample = Sample("http", tmp_path / "certs", page.port)
    run(sample)
    served(sample)
    refused(sample)
    assert direct(sample, context_of(sample, with_certificate=False)) == 0


def test_auto(run: Callable[[Sample], None], tmp_path: Path, page: HttpServer, request: pytest.FixtureRequest) -> None:
    sample = Sample("auto", tmp_path / "certs", page.port)
    run(sample)
    served(sample)
    if not request.node.callspec.params["run"].endswith("-mosn"):  # which sends HTTP/2 to the HTTP/1 server
        with H2Client(sample.client_port) as client:
            for path in ("/a?b=c", "/"):
                assert client.request(path=path).body == f"GET {path} 0 success".encode()
            form = client.request("POST", "/form", [("content-length", "9000")], body=b"x" * 9000)
            assert form.body == b"POST /form 9000 success"
            assert client.request(path="/nowhere").status == 404
    refused(sample)
    without = context_of(sample, with_certificate=False)
    assert direct(sample, without) == 200  # verified, but not required
    without.set_ecdh_curve("secp384r1")
    assert direct(sample, without) == 0  # only P256


def test_sofarpc(run: Callable[[Sample], None], tmp_path: Path) -> None:
    server = BoltServer()
    sample = Sample("sofarpc", tmp_path / "certs", server.port)
    run(sample)
    client = BoltClient(sample.client_port)
    try:
        assert client.call_many(300, 20) == {0: 300}
        client.send(bolt.heartbeat(7))
        acknowledged = client.receive()
        assert (acknowledged.command, acknowledged.request_id) == (0, 7)
    finally:
        client.close()
        server.close()
    refused(sample)
    for with_certificate in (True, False):
        context = context_of(sample, with_certificate=with_certificate)
        try:
            with opened(sample.server_port, "127.0.0.1", context=context) as sock:
                sock.sendall(bolt.heartbeat(8))
                assert bool(sock.recv(100)) == with_certificate
        except (ssl.SSLError, ConnectionError):
            assert not with_certificate


def test_flowcontrol(run: Callable[[Sample], None], tmp_path: Path, page: HttpServer) -> None:
    sample = Sample("flowcontrol", tmp_path / "certs", page.port)
    run(sample)
    assert get(sample.client_port, "/test") == (200, "GET /test 0 success")
    with ThreadPoolExecutor(8) as pool:  # more at once than workers, each of which may count for itself
        answers = set(pool.map(lambda _: get(sample.client_port, "/test"), range(8)))
    assert (500, "blocked") in answers
    assert answers <= {(200, "GET /test 0 success"), (500, "blocked")}
    assert get(sample.client_port, "/nowhere")[0] == 404
    refused(sample)
    assert direct(sample, context_of(sample, with_certificate=False)) == 0
    assert direct(sample, context_of(sample, with_certificate=True)) == 200
