"""Java over TLS: Dubbo and SOFARPC, with TLS of their own and between the hops; HTTPS clients and server of the JDK."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kit import certificates as made
from tests.system.pymosn_process import get

from interop.hops import Config, Hops
from interop.peers import Peer, provider_ports, steps_of
from interop.tls import Files
from interop.worlds import WORLDS, World

pytestmark = [pytest.mark.usefixtures("java"), pytest.mark.timeout(600)]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "good").for_java()


@pytest.fixture
def stranger(tmp_path: Path) -> Files:
    """The certificate of another CA."""
    return Files(tmp_path / "stranger", made.other_client()).for_java()


def secure(hops: Hops, files: Files, *, ends: bool) -> None:
    """TLS with certificates on both sides between the hops; `ends`: also to consumers and providers."""
    listeners = hops.config["servers"][0]["listeners"]
    clusters: list[Config] = hops.config["cluster_manager"]["clusters"]
    for listener in listeners if ends else listeners[1:]:
        listener["filter_chains"][0]["tls_context"] = files.context(demands=True)
    for cluster in clusters if ends else clusters[:1]:
        cluster["tls_context"] = files.context(server_name="server.test")


@pytest.mark.parametrize("name", ["dubbo 2.7", "dubbo 3", "sofarpc"])
@pytest.mark.parametrize("where", ["between the hops", "everywhere"])
def test_every_kind_of_call(name: str, where: str, tmp_path: Path, files: Files) -> None:
    world = WORLDS[name]
    ends = where == "everywhere"
    tls = files if ends else None
    [port] = provider_ports(1)
    with world.provider(port, tls) as provider, Hops(world.protocol, [port]) as hops:
        secure(hops, files, ends=ends)
        hops.start(tmp_path)
        with world.consumer(hops.port, "steps", tls=tls) as consumer:
            assert steps_of(consumer.finish()), provider.lines
        with world.consumer(hops.port, "load", "5000", "32", tls=tls) as consumer:
            assert consumer.expect("RESULT ", 300).split()[1:4] == ["5000", "0", "0"]
            consumer.finish()


def once(world: World, hops: Hops, tls: Files | None) -> str:
    """The result of one call."""
    with world.consumer(hops.port, "once", "0", tls=tls) as consumer:
        [result] = [line for line in consumer.finish() if line.startswith(("REPLY ", "FAILED "))]
        return result


@pytest.mark.parametrize("name", ["dubbo 2.7", "dubbo 3", "sofarpc"])
def test_consumers_without_a_valid_certificate_are_refused(name: str, tmp_path: Path, files: Files, stranger: Files) -> None:
    world = WORLDS[name]
    [port] = provider_ports(1)
    with world.provider(port, files), Hops(world.protocol, [port]) as hops:
        secure(hops, files, ends=True)
        hops.start(tmp_path)
        assert once(world, hops, files) == "REPLY once"
        assert once(world, hops, None).startswith("FAILED ")
        assert once(world, hops, stranger).startswith("FAILED ")
        assert hops.process is not None
        hops.process.wait_for("no_client_certificate")  # Java offers none of a CA that was not named


#: The clients of Java: HttpsURLConnection, HttpClient (which offers h2) and SSLSocket.
WAYS = ["connection", "connection", "client", "socket-1.2", "socket-1.2", "socket-1.3"]


def requested(hops: Hops, files: Files, *more: str) -> list[str]:
    """Requests through the first listener, in all ways: a line for each."""
    url = f"https://localhost:{hops.port}/java"
    with Peer("api", "https.Client", url, str(hops.port), str(files.store), *more) as client:
        client.expect("DONE")
        return [line for line in client.finish() if line.startswith(("GOT ", "FAILED "))]


def test_https_of_java(tmp_path: Path, files: Files, stranger: Files) -> None:
    [port] = provider_ports(1)
    with Peer("api", "https.Server", str(port), str(files.store)) as server, Hops("Http1", [port]) as hops:
        server.expect("READY")
        for table in hops.config["servers"][0]["routers"]:
            table["virtual_hosts"][0]["routers"][0]["match"] = {"prefix": "/"}
        secure(hops, files, ends=True)
        hops.start(tmp_path)
        assert requested(hops, files, "own") == [f"GOT {way} 200 /java 0 TLSv1.3" for way in WAYS]
        for lines in (requested(hops, files), requested(hops, stranger, "own")):
            assert [line.split()[:2] for line in lines] == [["FAILED", way] for way in WAYS]


def test_the_server_of_java_demands_a_certificate_of_the_proxy(tmp_path: Path, files: Files) -> None:
    [port] = provider_ports(1)
    with Peer("api", "https.Server", str(port), str(files.store)) as server, Hops("Http1", [port]) as hops:
        server.expect("READY")
        for table in hops.config["servers"][0]["routers"]:
            table["virtual_hosts"][0]["routers"][0]["match"] = {"prefix": "/"}
        cluster = hops.config["cluster_manager"]["clusters"][1]
        cluster["tls_context"] = {"status": True, "ca_cert": str(files.ca), "server_name": "localhost"}
        hops.start(tmp_path)
        assert get(hops.port, "/")[0] == 502
