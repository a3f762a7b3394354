"""HTTPS programs with TLS libraries of their own, as clients and as upstreams of pymosn: Go, Node, curl, Python."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.kit import certificates as made
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import READY, eventually, free_ports, get
from tests.system.tls_peers import config_of, listener_of, proxy_filter, table_of

from interop.tls import Config, Files

FOLDER = Path(__file__).parent
#: What the proxy answers to all of them.
BODY = "served over TLS"


class Listeners:
    """One process: a listener that demands no certificate, and one that does, for `localhost`."""

    def __init__(self, files: Files, folder: Path) -> None:
        self.files = files
        self.plain, self.mutual = free_ports(2)
        contexts = {self.plain: files.context(alpn="http/1.1"), self.mutual: files.context(demands=True)}
        listeners = [
            listener_of(f"l{port}", port, [{"tls_context": context, "filters": [proxy_filter("r")]}])
            for port, context in contexts.items()
        ]
        self.start = Start(folder)
        self.start(config_of(listeners, [table_of("r", BODY)])).wait_for(READY)


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    folder = tmp_path_factory.mktemp("listeners")
    running = Listeners(Files(folder / "files"), folder)
    yield running
    running.start.end()


@pytest.fixture
def stranger(tmp_path: Path) -> Files:
    """The certificate of another CA."""
    return Files(tmp_path / "stranger", made.other_client())


def needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Go programs, built."""
    needs("go")
    folder = tmp_path_factory.mktemp("go")
    for name in ("client", "server"):
        command = ["go", "build", "-o", str(folder / name), f"{name}.go"]
        built = subprocess.run(command, cwd=FOLDER / "go", capture_output=True, text=True, timeout=300, check=False)
        assert built.returncode == 0, built.stderr
    return folder


def output_of(command: list[str]) -> list[str]:
    """The lines of a program; it must end by itself."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return (ran.stdout or ran.stderr).splitlines()


def own(files: Files) -> list[str]:
    return [str(files.folder / "own.pem"), str(files.folder / "own.key")]


def go_client(go: Path, listeners: Listeners, mode: str, port: int, files: Files | None = None) -> list[str]:
    command = [str(go / "client"), f"https://localhost:{port}/", str(listeners.files.ca), mode]
    return output_of([*command, *(own(files) if files else [])])


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_go(version: str, go: Path, listeners: Listeners, stranger: Files) -> None:
    resumed = [f"GOT 200 HTTP/1.1 TLS {version} {is_resumed} {BODY}" for is_resumed in ("false", "true")]
    assert go_client(go, listeners, version, listeners.plain) == resumed
    assert go_client(go, listeners, version, listeners.mutual, listeners.files) == resumed
    for files in (None, stranger):
        refused = go_client(go, listeners, version, listeners.mutual, files)
        assert [line.split()[0] for line in refused] == ["FAILED", "FAILED"]
        if files or version == "1.3":
            assert "unknown certificate authority" in refused[0] or "certificate required" in refused[0]


def test_go_that_prefers_h2_gets_http_1_1(go: Path, listeners: Listeners) -> None:
    lines = go_client(go, listeners, "h2", listeners.plain)
    assert lines == [f"GOT 200 HTTP/1.1 TLS 1.3 {is_resumed} {BODY}" for is_resumed in ("false", "true")]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_node(version: str, listeners: Listeners, stranger: Files) -> None:
    needs("node")

    def run(port: int, files: Files | None = None) -> list[str]:
        program = ["node", str(FOLDER / "node" / "client.js"), f"https://localhost:{port}/", str(listeners.files.ca)]
        return output_of([*program, f"TLSv{version}", *(own(files) if files else [])])

    resumed = [f"GOT 200 TLSv{version} {is_resumed} {BODY}" for is_resumed in ("false", "true")]
    assert run(listeners.plain) == resumed
    assert run(listeners.mutual, listeners.files) == resumed
    for files in (None, stranger):
        refused = run(listeners.mutual, files)
        assert [line.split()[0] for line in refused] == ["FAILED", "FAILED"]
        assert ("ALERT" if version == "1.3" else "EPROTO") in refused[0]


#: Options of curl -> its exit code, and what it prints: status, protocol and how often it connected.
CURL: list[tuple[str, str, int, str]] = [
    ("plain", "", 0, "200 1.1 1"),
    ("plain", "--tls-max 1.2", 0, "200 1.1 1"),
    ("plain", "--tls-max 1.1 --ciphers ALL:@SECLEVEL=0", 35, ""),
    ("plain", "--tlsv1.3", 0, "200 1.1 1"),
    ("plain", "--http2", 0, "200 1.1 1"),
    ("plain", "--http2-prior-knowledge", 0, "200 1.1 1"),
    ("plain", "--no-alpn", 0, "200 1.1 1"),
    ("plain", "--resolve server.test:PORT:127.0.0.1 https://server.test:PORT/", 0, "200 1.1 1"),
    ("plain", "--resolve other.test:PORT:127.0.0.1 https://other.test:PORT/", 60, ""),
    ("plain", "https://localhost:PORT/?again", 0, "200 1.1 1\n200 1.1 0"),
    ("mutual", "", 56, ""),
    ("mutual", "--tls-max 1.2", 35, ""),
    ("mutual", "--cert own.pem --key own.key", 0, "200 1.1 1"),
    ("mutual", "--cert own.pem --key own.key --tls-max 1.2", 0, "200 1.1 1"),
    ("mutual", "--cert stranger.pem --key stranger.key", 56, ""),
    ("mutual", "--cert stranger.pem --key stranger.key --tls-max 1.2", 35, ""),
]


@pytest.mark.parametrize(("name", "options", "code", "printed"), CURL, ids=range(len(CURL)))
def test_curl(name: str, options: str, code: int, printed: str, listeners: Listeners, stranger: Files) -> None:
    needs("curl")
    made.other_client().files(listeners.files.folder, "stranger")
    port = listeners.plain if name == "plain" else listeners.mutual
    words = options.replace("PORT", str(port)).split()
    targets = [word for word in words if word.startswith("https://")]
    if "--resolve" not in words:
        targets.insert(0, f"https://localhost:{port}/")
    quiet = ["-sS", "--noproxy", "*", "--cacert", "ca.pem", "-w", r"%{http_code} %{http_version} %{num_connects}\n"]
    command = ["curl", *quiet, *(word for word in words if word not in targets)]
    for target in targets:
        command += ["-o", "/dev/null", target]
    ran = subprocess.run(command, cwd=listeners.files.folder, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == code, ran.stderr
    if not code:
        assert ran.stdout.strip() == printed


def test_urllib_of_python(listeners: Listeners) -> None:
    context = ssl.create_default_context(cafile=str(listeners.files.ca))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    assert opener.open(f"https://localhost:{listeners.plain}/", timeout=40).read().decode() == BODY
    # TLS 1.3: the alert comes after the client's end of the handshake.
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        opener.open(f"https://localhost:{listeners.mutual}/", timeout=40)


@contextlib.contextmanager
def upstream(command: list[str]) -> Iterator[None]:
    """A server, once it has said READY."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "READY\n"
        yield
    finally:
        process.kill()
        process.wait()


def go_server(request: pytest.FixtureRequest) -> list[str]:
    return [str(request.getfixturevalue("go") / "server")]


def node_server(_: pytest.FixtureRequest) -> list[str]:
    needs("node")
    return ["node", str(FOLDER / "node" / "server.js")]


SERVERS: dict[str, tuple[Callable[[pytest.FixtureRequest], list[str]], str]] = {
    "go": (go_server, "HTTP/1.1 TLS 1.3 {} server.test"),
    "node": (node_server, "HTTP/1.1 TLSv1.3 {} server.test"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_upstreams(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    command, text = SERVERS[name]
    program = command(request)
    files = Files(tmp_path / "files")
    port, without, target = free_ports(3)
    contexts: list[Config] = [files.context(), {"status": True, "ca_cert": str(files.ca)}]
    clusters = {"with": f"127.0.0.1:{target}", "without": f"127.0.0.1:{target}"}
    config = config_of(
        [
            listener_of(cluster, at, [{"filters": [proxy_filter(cluster)]}])
            for cluster, at in zip(clusters, (port, without), strict=True)
        ],
        [table_of(cluster, cluster=cluster) for cluster in clusters],
        clusters,
    )
    for cluster, context in zip(config["cluster_manager"]["clusters"], contexts, strict=True):
        cluster["tls_context"] = context | {"server_name": "server.test"}
    start = Start(tmp_path)
    with upstream([*program, str(target), str(files.ca), *own(files)]):
        try:
            start(config).wait_for(READY)
            assert get(port, "/close") == (200, text.format("false"))
            # A new connection, whose session is resumed.
            assert eventually(lambda: get(port, "/close") == (200, text.format("true")))
            assert get(without, "/")[0] == 502
        finally:
            start.end()
