"""TLS to the hosts of clusters: verification, client certificates, `tls_disable`, and changes under load."""

import contextlib
import http.client
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from process_fixtures import Start
from pymosn_process import READY, free_ports
from tests.kit import certificates as made
from tls_peers import listener_of, proxy_filter

pytestmark = pytest.mark.once


class Reply(http.server.BaseHTTPRequestHandler):
    """Answers with the name of its server and the common name of the client's certificate."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        connection = self.connection
        peer = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
        names = [value for entry in (peer or {}).get("subject", ()) for key, value in entry if key == "commonName"]
        body = json.dumps([isinstance(connection, ssl.SSLSocket), *names]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Host(http.server.ThreadingHTTPServer):
    """An HTTPS server on a free port; a plain one without a certificate."""

    daemon_threads = True

    def __init__(self, certificate: made.Issued | None, demands: made.Issued | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.load_into(self._context)
            if demands is not None:
                self._context.verify_mode = ssl.CERT_REQUIRED
                self._context.load_verify_locations(cadata=demands.certificate.decode())

    def get_request(self) -> tuple[socket.socket, Any]:
        accepted, address = super().get_request()
        accepted.settimeout(30)
        if self._context is not None:
            accepted = self._context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        return accepted, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # handshakes that the test wants to fail


@contextlib.contextmanager
def served(certificate: made.Issued | None, demands: made.Issued | None = None) -> Iterator[str]:
    """The address of a host."""
    with Host(certificate, demands) as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{host.server_address[1]}"
        host.shutdown()
        thread.join(30)


def trusting(**changes: Any) -> dict[str, Any]:
    return {"status": True, "ca_cert": made.ca().certificate.decode(), **changes}


def pair(issued: made.Issued) -> dict[str, str]:
    return {"cert_chain": issued.certificate.decode(), "private_key": issued.key.decode()}


def for_clients() -> made.Issued:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return made.issue("server.test", made.ca(), names=("127.0.0.1",), extensions=(usage,))


def of_a_leaf() -> made.Issued:
    leaf = made.issue("leaf", made.ca())
    below = made.issue("server.test", leaf, names=("127.0.0.1",))
    return below._replace(certificate=below.certificate + leaf.certificate)


def other_address() -> made.Issued:
    return made.issue("127.0.0.1", made.ca(), names=("127.0.0.2", "localhost"))


def only_common_name() -> made.Issued:
    return made.issue("server.test", made.ca())


def wildcards() -> made.Issued:
    return made.issue("w", made.ca(), names=("*.test", "*.wild.test", "a*.part.test", "*.*.twice.test"))


SPIFFE = {"type": "sni_verify", "extend_verify": {"match_subject_alt_names": made.SPIFFE_ID}}
SERVED = 200, b"[true]"

#: The host's certificate, the CA that it demands, the cluster's context, keys of the host; the answer.
TABLE: list[tuple[Any, Any, dict[str, Any] | None, dict[str, Any], tuple[int, bytes]]] = [
    (made.server, None, trusting(), {}, SERVED),
    (made.server, None, trusting(server_name="server.test"), {}, SERVED),
    (made.server, None, trusting(), {"hostname": "a.wild.test"}, SERVED),
    (made.server, None, trusting(server_name="other.test"), {}, (502, b"tls_name_mismatch")),
    (made.wrong_name, None, trusting(), {}, (502, b"tls_name_mismatch")),
    (made.wrong_name, None, trusting(server_name="elsewhere.test"), {}, SERVED),
    (made.server, None, {"status": True}, {}, (502, b"tls_unknown_ca")),
    (made.self_signed, None, trusting(), {}, (502, b"tls_self_signed")),
    (made.expired, None, trusting(), {}, (502, b"tls_certificate_expired")),
    (made.expired, None, trusting(insecure_skip=True), {}, SERVED),
    (made.server, None, trusting(crl=made.revoke(made.ca(), made.server()).decode()), {}, (502, b"tls_certificate_revoked")),
    (made.not_yet_valid, None, trusting(), {}, (502, b"tls_certificate_not_yet_valid")),
    (for_clients, None, trusting(), {}, (502, b"tls_")),
    (of_a_leaf, None, trusting(), {}, (502, b"tls_")),
    (other_address, None, trusting(), {}, (502, b"tls_name_mismatch")),
    (only_common_name, None, trusting(server_name="server.test"), {}, (502, b"tls_name_mismatch")),
    (made.server, None, trusting(server_name="SERVER.test"), {}, SERVED),
    (made.server, None, trusting(), {"hostname": "a.WILD.test:443"}, SERVED),
    (wildcards, None, trusting(), {"hostname": "a.wild.test"}, SERVED),
    (wildcards, None, trusting(), {"hostname": "a.b.wild.test"}, (502, b"tls_name_mismatch")),
    (wildcards, None, trusting(), {"hostname": "wild.other"}, (502, b"tls_name_mismatch")),
    (wildcards, None, trusting(), {"hostname": "a.b.twice.test"}, (502, b"tls_name_mismatch")),
    (made.other_client, None, trusting(crl=made.revoke(made.ca()).decode()), {}, (502, b"tls_unknown_ca")),
    (made.server, None, trusting(crl=made.revoke(made.other_ca()).decode()), {}, (502, b"tls_")),
    # A failed verification falls back too, if that is configured: whoever is on the way could break the handshake as well.
    (made.self_signed, None, trusting(**SPIFFE), {}, (502, b"tls_self_signed")),
    (made.server, made.ca, trusting(**pair(made.client())), {}, (200, b'[true, "client"]')),
    (made.server, made.ca, trusting(), {}, (502, b"tls_")),
    (made.spiffe, None, trusting(**SPIFFE), {}, SERVED),
    (made.server, None, trusting(**SPIFFE), {}, (502, b"tls_name_mismatch")),
    (made.server, None, None, {}, SERVED),
    (None, None, trusting(), {"tls_disable": True}, (200, b"[false]")),
    (None, None, trusting(), {}, (502, b"tls_not_spoken")),
    (None, None, trusting(fall_back=True), {}, (200, b"[false]")),
]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a proxy with one cluster for each row of the table, for paths with its number."""
    (port,) = free_ports(1)
    start = Start(tmp_path_factory.mktemp("upstream"))
    clusters: list[dict[str, Any]] = []
    with contextlib.ExitStack() as hosts:
        for number, (certificate, demands, context, keys, _) in enumerate(TABLE):
            address = hosts.enter_context(served(certificate and certificate(), demands and demands()))
            tls = {"cluster_manager_tls": True} if context is None else {"tls_context": context}
            clusters.append({"name": f"c{number}", "hosts": [{"address": address, **keys}], **tls})
        routes = [{"match": {"path": f"/{number}"}, "route": {"cluster_name": f"c{number}"}} for number in range(len(TABLE))]
        table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": routes}]}
        listener = listener_of("l", port, [{"filters": [proxy_filter("r")]}])
        server = {"default_log_path": "stdout", "processor": 1, "listeners": [listener], "routers": [table]}
        config = {"servers": [server], "cluster_manager": {"clusters": clusters, "tls_context": trusting()}}
        try:
            start(config).wait_for(READY)
            yield port
        finally:
            start.end()


@pytest.mark.parametrize("number", range(len(TABLE)))
def test_one_context(number: int, port: int) -> None:
    """None as the context: that of the cluster manager."""
    status, expected = TABLE[number][4]
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", f"/{number}")
    response = client.getresponse()
    body = response.read()
    reason = response.headers.get("x-pymosn-reason", "")
    client.close()
    assert response.status == status, (reason, body)
    if status == 200:
        assert body == expected
    else:
        assert reason.startswith(expected.decode())
