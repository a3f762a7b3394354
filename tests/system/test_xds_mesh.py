"""Two sidecars and their apps in network namespaces, driven as by istiod and its agent: mutual TLS, PERMISSIVE, STRICT."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from istio_shapes import (
    common_clusters,
    endpoints,
    identity,
    outbound,
    outbound_listener,
    outbound_tcp_listener,
    rbac,
    service,
    table,
    virtual_inbound,
    virtual_outbound,
)
from mesh import ADDRESSES, ECHO, HTTP, LEGACY, SERVICES, SLEEP, TCP, Mesh, Sidecar, serving
from plain_sockets import read_exactly
from pymosn_process import PATIENCE, eventually
from tests.kit.certificates import Issued
from tests.kit.xds_server import LISTENER

pytestmark = pytest.mark.once

#: New certificates for both sidecars, each as soon as the app has seen the one before.
ROTATIONS = 6


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with serving(tmp_path, begin) as made:
        yield made


def begin(sidecar: Sidecar) -> None:
    """Starts a sidecar with everything that the mesh has."""
    sidecar.start(
        *common_clusters(HTTP),
        outbound(ECHO, HTTP, uses=10),
        outbound(LEGACY, HTTP),
        endpoints(ECHO, HTTP, ADDRESSES[ECHO], has_sidecar=True),
        endpoints(LEGACY, HTTP, ADDRESSES[LEGACY], has_sidecar=False),
        virtual_outbound(),
        virtual_inbound(HTTP),
        outbound_listener(HTTP),
        table(HTTP, ECHO, LEGACY),
    )


def fingerprint(issued: Issued) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.certificate.decode())).hexdigest()


def test_sidecars_speak_mutual_tls_and_the_app_sees_who_called(mesh: Mesh) -> None:
    answer = mesh.get(SLEEP, SERVICES, service(ECHO), "/who")
    assert answer.status == 200
    assert answer.seen["peer"] == "127.0.0.6"
    certificate = answer.header("x-forwarded-client-cert")
    assert f"By={identity(ECHO)}" in certificate
    assert f"URI={identity(SLEEP)}" in certificate
    assert f"Hash={fingerprint(mesh.sleep.certificate)}" in certificate
    # Hosts without a sidecar get plain text, also through the same listener.
    plain = mesh.get(SLEEP, SERVICES, LEGACY)
    assert (plain.status, plain.seen["peer"]) == (200, ADDRESSES[SLEEP])
    assert plain.header("x-forwarded-client-cert") == ""
    assert plain.header("x-envoy-attempt-count") == "1"
    # Hosts that no route knows are reached at the address that the app dialed.
    other = mesh.get(SLEEP, ADDRESSES[LEGACY], "elsewhere.example")
    assert (other.status, other.seen["peer"]) == (200, ADDRESSES[SLEEP])


def test_permissive_serves_plain_text_too_and_strict_refuses_it(mesh: Mesh) -> None:
    outside = mesh.get(LEGACY, ADDRESSES[ECHO], ECHO, x_forwarded_client_cert="By=x;URI=spiffe://cluster.local/ns/x/sa/root")
    assert (outside.status, outside.header("x-forwarded-client-cert")) == (200, "")
    with (
        contextlib.closing(mesh.client(SLEEP, SERVICES)) as open_client,
        mesh.connect(LEGACY, ADDRESSES[ECHO], HTTP) as plain,
    ):
        assert open_client.get(ECHO).status == 200
        plain.sendall(b"GET / HTTP/1.1\r\nhost: echo\r\n\r\n")
        assert plain.recv(65536).startswith(b"HTTP/1.1 200")
        mesh.echo.xds.set(virtual_inbound(HTTP, is_strict=True))
        assert eventually(lambda: mesh.get(LEGACY, ADDRESSES[ECHO], ECHO).status == 0)
        # Nothing that came by mutual TLS has failed, old connections included.
        assert open_client.get(ECHO).status == 200
        assert mesh.get(SLEEP, SERVICES, ECHO).status == 200
        # A plain connection that was open ends, although it is used no more.
        while plain.recv(65536):
            pass
    mesh.echo.xds.set(virtual_inbound(HTTP))
    assert eventually(lambda: mesh.get(LEGACY, ADDRESSES[ECHO], ECHO).status == 200)
    assert not mesh.echo.xds.nacks(LISTENER)


def serve_tcp(mesh: Mesh) -> None:
    """The app `echo` also has a server of TCP, which sends the client's address and the first bytes."""
    listener = mesh.listen(ECHO, TCP)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, peer = listener.accept()
                with sock:
                    sock.sendall(peer[0].encode() + b":" + sock.recv(100))

    threading.Thread(target=serve, daemon=True).start()


def says(mesh: Mesh, pod: str, address: str) -> bytes:
    """What the TCP server answers to `hello`; empty if the connection ends."""
    with contextlib.suppress(ConnectionError), mesh.connect(pod, address, TCP) as sock:
        sock.sendall(b"hello\r\n")
        return sock.recv(100)
    return b""


def test_access_by_the_identity_of_the_caller(mesh: Mesh) -> None:
    serve_tcp(mesh)
    mesh.sleep.xds.set(
        outbound(ECHO, TCP),
        endpoints(ECHO, TCP, ADDRESSES[ECHO], has_sidecar=True),
        outbound_tcp_listener(ECHO, SERVICES, TCP),
    )
    assert eventually(lambda: says(mesh, SLEEP, SERVICES) == b"127.0.0.6:hello\r\n")
    public = {"url_path": {"path": {"prefix": "/public"}}}
    allowed = rbac((SLEEP, public), ("other", {"any": True}))
    allowed_tcp = rbac((SLEEP, {"destination_port": TCP}), for_bytes=True)
    mesh.echo.xds.set(virtual_inbound(HTTP, filters=[allowed], network_filters=[allowed_tcp]))
    assert eventually(lambda: mesh.get(SLEEP, SERVICES, ECHO, "/private").status == 403)
    assert mesh.get(SLEEP, SERVICES, ECHO, "/public/1").status == 200
    # Without a certificate there is no identity, whatever is said.
    said = "URI=spiffe://cluster.local/ns/default/sa/sleep"
    assert mesh.get(LEGACY, ADDRESSES[ECHO], ECHO, "/public", x_forwarded_client_cert=said).status == 403
    assert says(mesh, SLEEP, SERVICES) == b"127.0.0.6:hello\r\n"
    assert says(mesh, LEGACY, ADDRESSES[ECHO]) == b""
    nobody = rbac(("other", {"any": True}), for_bytes=True)
    mesh.echo.xds.set(virtual_inbound(HTTP, filters=[rbac(("other", {"any": True}))], network_filters=[nobody]))
    assert eventually(lambda: mesh.get(SLEEP, SERVICES, ECHO, "/public").status == 403)
    assert says(mesh, SLEEP, SERVICES) == b""
    assert not mesh.echo.xds.nacks(LISTENER)


def test_other_ports_are_passed_through_and_the_own_ports_of_the_sidecar_are_not(mesh: Mesh) -> None:
    serve_tcp(mesh)
    # From an app by PassthroughCluster, in plain text, and then by InboundPassthroughCluster from 127.0.0.6.
    for pod in (SLEEP, LEGACY):
        with mesh.connect(pod, ADDRESSES[ECHO], TCP) as sock:
            sock.sendall(b"hello\r\n")
            assert read_exactly(sock, 16) == b"127.0.0.6:hello\r"
    # The sidecar's own ports are black holes, no loops.
    for pod, address, port in ((LEGACY, ADDRESSES[ECHO], 15006), (SLEEP, "127.0.0.1", 15001), (SLEEP, "127.0.0.1", 15006)):
        assert mesh.get(pod, address, ECHO, port=port).status == 0


def test_certificates_rotate_under_load_without_a_failed_request(mesh: Mesh) -> None:
    failures: list[str] = []
    seen: set[str] = set()
    is_over = threading.Event()

    def call(is_new: bool) -> None:
        client = mesh.client(SLEEP, SERVICES)
        while not is_over.is_set():
            try:
                if is_new:
                    client.close()
                    client = mesh.client(SLEEP, SERVICES)
                answer = client.get(ECHO)
                if answer.status != 200:
                    failures.append(str(answer))
                seen.add(answer.header("x-forwarded-client-cert"))
            except Exception as error:
                failures.append(repr(error))
                client = mesh.client(SLEEP, SERVICES)
        client.close()

    threads = [threading.Thread(target=call, args=(is_new,)) for is_new in (True, False, False)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROTATIONS):
            mesh.echo.rotate()
            expected = fingerprint(mesh.sleep.rotate())
            assert eventually(lambda: any(f"Hash={expected}" in text for text in list(seen)), PATIENCE)  # noqa: B023
    finally:
        is_over.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert failures == []
    assert len(seen) >= ROTATIONS
