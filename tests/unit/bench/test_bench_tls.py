"""The TLS cases: the certificate, the load of handshakes, and what the peers are given."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.cases import FULL, RESUMED, SMALL_BODY, case_named
from bench.certificate import SUITE, Certificate, client_context, make_certificate
from bench.handshakes import Handshakes
from bench.peers import Peer, Plan, make_peer
from bench.peers.envoy import configuration as envoy_configuration
from bench.peers.pymosn import configuration as pymosn_configuration
from bench.peers.relay import Relay
from bench.verify import fetch
from bench.void import Unavailable, Void


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@contextlib.contextmanager
def server(certificate: Certificate, *, tickets: int = 2, body: bytes = SMALL_BODY) -> Iterator[int]:
    """The port of a TLS server that answers one request on each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    context.num_tickets = tickets
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def load(certificate: Certificate, port: int, kind: str) -> dict[str, object]:
    return Handshakes(port, b"GET /small HTTP/1.1\r\n\r\n", client_context(certificate.chain)).run(0.1, 2, kind)


@pytest.mark.parametrize("kind", [FULL, RESUMED])
def test_each_handshake_is_counted_with_its_bytes(certificate: Certificate, kind: str) -> None:
    with server(certificate) as port:
        result = load(certificate, port, kind)
    requests, size = result["requests"], result["bytes"]
    assert isinstance(requests, int)
    assert requests >= 2
    assert size == requests * (len(SMALL_BODY) + len(f"HTTP/1.1 200 OK\r\nContent-Length: {len(SMALL_BODY)}\r\n\r\n"))


def test_a_host_that_does_not_resume_voids(certificate: Certificate) -> None:
    with server(certificate, tickets=0) as port, pytest.raises(Void, match=r"resumed.*False"):
        load(certificate, port, RESUMED)


def test_a_wrong_body_voids(certificate: Certificate) -> None:
    with server(certificate, body=b"other") as port, pytest.raises(Void, match="the body is b'other'"):
        load(certificate, port, FULL)


def test_a_server_without_tls_voids_a_probe(certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(Void, match="TLS handshake"):
            fetch(listener.getsockname()[1], "/small", {}, certificate)
        thread.join(10)


def test_the_settings_of_the_load_generators_are_what_openssl_reads(certificate: Certificate) -> None:
    code = "import ssl; print(*(suite['name'] for suite in ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).get_ciphers()))"
    environment = {**os.environ, "OPENSSL_CONF": str(certificate.client_settings)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if name.startswith("TLS_")] == [SUITE]


def plan(certificate: Certificate, folder: Path) -> Plan:
    return Plan(20001, 20002, 0, folder, certificate=certificate)


def test_all_are_given_the_same_certificate(certificate: Certificate, tmp_path: Path) -> None:
    given = plan(certificate, tmp_path)
    (listener,) = pymosn_configuration(given, 20003)["servers"][0]["listeners"]
    context = listener["filter_chains"][0]["tls_context"]
    assert context == {"status": True, "cert_chain": str(certificate.chain), "private_key": str(certificate.key)}
    (theirs,) = envoy_configuration(given, [])["static_resources"]["listeners"]
    text = json.dumps(theirs["filter_chains"][0]["transport_socket"])
    assert all(part in text for part in (str(certificate.chain), str(certificate.key), "TLSv1_3"))


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_nginx_and_haproxy_terminate_tls(certificate: Certificate, tmp_path: Path, name: str) -> None:
    try:
        peer: Peer = make_peer(name, sys.executable, None)
    except Unavailable as missing:
        pytest.skip(str(missing))
    peer.command(plan(certificate, tmp_path))
    (written,) = tmp_path.iterdir()
    assert str(certificate.chain.parent) in written.read_text()
    assert "TLSv1.3" in written.read_text()


def test_the_relay_and_mosn_have_no_tls_cases() -> None:
    assert not Relay().takes(case_named("tls_small"))
    with pytest.raises(Unavailable, match="--mosn"):
        make_peer("mosn", sys.executable, None)
