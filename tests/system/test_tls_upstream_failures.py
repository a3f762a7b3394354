"""Failed handshakes with hosts: the same reason for the client, in the access log and in the counters; the real program."""

import contextlib
import http.client
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, free_ports
from tests.kit import certificates as made
from tls_peers import listener_of, proxy_filter

pytestmark = pytest.mark.once

Serve = Callable[[socket.socket], None]


def handshake(certificate: Callable[[], made.Issued], demands: bool = False, newest: ssl.TLSVersion | None = None) -> Serve:
    """A host that makes the handshake and then closes. `demands`: a client certificate."""

    def serve(accepted: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate().load_into(context)
        if demands:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=made.ca().certificate.decode())
        if newest is not None:
            context.maximum_version = newest
        with context.wrap_socket(accepted, server_side=True) as secured:
            secured.recv(1000)

    return serve


def plain(accepted: socket.socket) -> None:
    accepted.recv(1000)
    accepted.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


def closing(accepted: socket.socket) -> None:
    accepted.recv(1000)


def stalling(accepted: socket.socket) -> None:
    while accepted.recv(1000):
        pass


def alert(number: int) -> Serve:
    """A host that answers with a fatal alert (RFC 8446 section 6)."""

    def serve(accepted: socket.socket) -> None:
        accepted.recv(1000)
        accepted.sendall(bytes((21, 3, 3, 0, 2, 2, number)))

    return serve


def of_other_ca() -> made.Issued:
    return made.issue("server.test", made.other_ca(), names=("127.0.0.1",))


TRUSTING = {"status": True, "ca_cert": made.ca().certificate.decode()}
REVOKED = {"crl": made.revoke(made.ca(), made.server()).decode()}
SPIFFE = {"type": "sni_verify", "extend_verify": {"match_subject_alt_names": made.SPIFFE_ID}}

#: Reason word, host, and what else is in the cluster's context.
TABLE: list[tuple[str, Serve, dict[str, Any]]] = [
    ("tls_certificate_expired", handshake(made.expired), {}),
    ("tls_certificate_not_yet_valid", handshake(made.not_yet_valid), {}),
    ("tls_unknown_ca", handshake(of_other_ca), {}),
    ("tls_self_signed", handshake(made.self_signed), {}),
    ("tls_name_mismatch", handshake(made.wrong_name), {}),
    ("tls_name_mismatch", handshake(made.server), SPIFFE),
    ("tls_certificate_revoked", handshake(made.server), REVOKED),
    ("tls_version", handshake(made.server, newest=ssl.TLSVersion.TLSv1_2), {"min_version": "TLSv1_3"}),
    ("tls_version", alert(70), {}),
    ("tls_alert", alert(40), {}),
    # With TLS 1.3 it comes after the handshake, with the response.
    ("tls_alert", handshake(made.server, demands=True), {"max_version": "TLSv1_2"}),
    ("tls_not_spoken", plain, {}),
    ("tls_closed_in_handshake", closing, {}),
    ("tls_handshake_timeout", stalling, {}),
]


@contextlib.contextmanager
def hosts() -> Iterator[list[str]]:
    """The address of a host for each row."""
    with contextlib.ExitStack() as stack:
        addresses = []
        for _, serve, _ in TABLE:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.callback(listening.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=accept, args=(listening, serve), daemon=True).start()
            addresses.append(f"127.0.0.1:{listening.getsockname()[1]}")
        yield addresses


def accept(listening: socket.socket, serve: Serve) -> None:
    while True:
        try:
            accepted, _ = listening.accept()
        except OSError:
            return  # the test is over
        with accepted, contextlib.suppress(OSError):
            accepted.settimeout(PATIENCE)
            serve(accepted)


class Site:
    """One cluster for each row, for paths with its number."""

    def __init__(self, start: Start, folder: Path, addresses: list[str]) -> None:
        self.port, self.admin = free_ports(2)
        self.access_log = folder / "access.log"
        clusters = [
            {
                "name": f"c{number}",
                "connect_timeout": "0.5s" if serve is stalling else "20s",
                "hosts": [{"address": address}],
                "tls_context": TRUSTING | keys,
            }
            for number, ((_, serve, keys), address) in enumerate(zip(TABLE, addresses, strict=True))
        ]
        routes = [{"match": {"path": f"/{number}"}, "route": {"cluster_name": f"c{number}"}} for number in range(len(TABLE))]
        table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": routes}]}
        log = {"log_path": str(self.access_log), "log_format": "%request_path% %response_code% %reason%"}
        listener = listener_of("l", self.port, [{"filters": [proxy_filter("r")]}], access_logs=[log])
        server = {"default_log_path": "stdout", "processor": 1, "listeners": [listener], "routers": [table]}
        config = {
            "servers": [server],
            "cluster_manager": {"clusters": clusters},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}},
        }
        self.proxy: Pymosn = start(config)
        self.proxy.wait_for(READY)

    def get(self, path: str, port: int = 0) -> tuple[int, str, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE)
        client.request("GET", path)
        response = client.getresponse()
        body = response.read()
        client.close()
        return response.status, response.headers.get("x-pymosn-reason", ""), body


def test_the_reason_is_the_same_everywhere(start: Start, tmp_path: Path) -> None:
    with hosts() as addresses:
        site = Site(start, tmp_path, addresses)
        for number, (reason, _, _) in enumerate(TABLE):
            status, word, _ = site.get(f"/{number}")
            assert (number, status, word.split()[0]) == (number, 502, reason)
        metrics = site.get("/metrics", site.admin)[2].decode()
        for reason, count in Counter(reason for reason, _, _ in TABLE).items():
            assert f'pymosn_request_failures_total{{listener="l",reason="{reason}"}} {count}.0' in metrics
        for number in range(len(TABLE)):
            assert f'pymosn_upstream_tls_handshakes_total{{cluster="c{number}",result="failed"}} 1.0' in metrics
        start.end()
    lines = [line.split()[:3] for line in site.access_log.read_text().splitlines()]
    assert lines == [[f"/{number}", "502", reason] for number, (reason, _, _) in enumerate(TABLE)]
