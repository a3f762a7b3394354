"""A table: option x `openssl s_client` command x what it must show, against the real program."""

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, free_ports
from tests.kit import certificates as made
from tls_peers import config_of, context_for, listener_of, proxy_filter, table_of

pytestmark = pytest.mark.once

GET = b"GET / HTTP/1.1\r\nHost: server.test\r\nConnection: close\r\n\r\n"


def pem(issued: made.Issued) -> str:
    return issued.certificate.decode()


@functools.cache
def revoked() -> made.Issued:
    return made.issue("revoked", made.ca())


def mutual(**changes: Any) -> dict[str, Any]:
    crl = made.revoke(made.ca(), revoked())
    return context_for(made.server(), demands=made.ca(), crl=crl.decode()) | changes


SNI = [context_for(made.wrong_name()), context_for(made.server())]

OLD = "-cipher ALL:@SECLEVEL=0"
EXPIRED = "-cert expired.pem -key expired.key"
CHACHA = "ECDHE-ECDSA-WITH-CHACHA20-POLY1305"

#: Options of the contexts -> options of s_client -> what its output has, "!" before what it must not have.
TABLE: list[tuple[str, dict[str, Any] | list[dict[str, Any]], str, list[str]]] = [
    (
        "default",
        {},
        "",
        ["Protocol  : TLSv1.3", "TLS_AES_256_GCM_SHA384", "Verification: OK", "200 OK", "X25519"],
    ),
    (
        "default",
        {},
        "-tls1_2",
        ["Protocol  : TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", "Renegotiation IS s", "200 OK"],
    ),
    ("default", {}, f"-tls1_1 {OLD}", ["alert protocol version", "!200 OK"]),
    ("default", {}, "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", ["handshake failure", "!200 OK"]),
    ("default", {}, "-comp", ["Compression: NONE", "200 OK"]),
    ("default", {}, "-alpn h2", ["No ALPN negotiated", "200 OK"]),
    ("default", {}, "-early_data GET", ["Early data was not sent", "200 OK"]),
    ("min_version", {"min_version": "TLSv1_3"}, "-tls1_2", ["alert protocol version", "!200 OK"]),
    ("min_version", {"min_version": "TLSv1_0"}, f"-tls1 {OLD}", ["Protocol  : TLSv1\n", "200 OK"]),
    ("max_version", {"max_version": "TLSv1_2"}, "", ["Protocol  : TLSv1.2", "200 OK"]),
    (
        "cipher_suites",
        {"cipher_suites": CHACHA},
        "-tls1_2",
        ["ECDHE-ECDSA-CHACHA20-POLY1305", "200 OK"],
    ),
    ("cipher_suites", {"cipher_suites": "AES128-GCM-SHA256"}, "", ["Cipher    : TLS_AES_128_GCM_SHA256", "200 OK"]),
    ("cipher_suites", {"cipher_suites": "ECDHE-ECDSA-AES256-CBC-SHA"}, "-tls1_2", ["ECDHE-ECDSA-AES256-SHA", "200 OK"]),
    ("ecdh_curves", {"ecdh_curves": "p384"}, "", ["ECDH, secp384r1", "200 OK"]),
    ("ecdh_curves", {"ecdh_curves": "p384"}, "-groups X25519", ["handshake failure", "!200 OK"]),
    ("alpn", {"alpn": "http/1.1"}, "-alpn h2,http/1.1", ["ALPN protocol: http/1.1", "200 OK"]),
    ("alpn", {"alpn": "h2,http/1.1"}, "-alpn h2", ["no application protocol", "!200 OK"]),
    ("alpn", {"alpn": "http/1.1"}, "", ["No ALPN negotiated", "200 OK"]),
    ("mutual", mutual(), "-cert good.pem -key good.key", ["CN = Test CA", "200 OK"]),
    ("mutual", mutual(), "", ["!200 OK"]),
    ("mutual", mutual(), "-tls1_2", ["handshake failure", "!200 OK"]),
    ("mutual", mutual(), "-cert stranger.pem -key stranger.key", ["!200 OK"]),
    ("mutual", mutual(), EXPIRED, ["certificate expired", "!200 OK"]),
    ("crl", mutual(), "-cert revoked.pem -key revoked.key", ["certificate revoked", "!200 OK"]),
    ("verify_client", mutual(require_client_cert=False), "", ["200 OK"]),
    (
        "verify_client",
        mutual(require_client_cert=False),
        EXPIRED,
        ["certificate expired", "!200 OK"],
    ),
    ("require_client_cert", mutual(verify_client=False), "-cert stranger.pem -key stranger.key", ["200 OK"]),
    ("require_client_cert", mutual(verify_client=False), "", ["200 OK"]),
    ("tls_context_set", SNI, "-servername server.test", ["subject=CN = server.test", "200 OK"]),
    ("tls_context_set", SNI, "-servername a.wild.test", ["subject=CN = server.test", "200 OK"]),
    ("tls_context_set", SNI, "-servername unknown.test", ["subject=CN = elsewhere.test"]),
    ("tls_context_set", SNI, "-noservername", ["subject=CN = elsewhere.test"]),
]


class Listeners:
    """One process with a listener for each context of the table, because starting one takes seconds."""

    def __init__(self, start: Start) -> None:
        self.contexts: list[list[dict[str, Any]]] = []
        for _, options, _, _ in TABLE:
            found = self.context_of(options)
            if found not in self.contexts:
                self.contexts.append(found)
        self.ports = free_ports(len(self.contexts))
        listeners = [
            listener_of(f"l{port}", port, [{"tls_context_set": contexts, "filters": [proxy_filter("r")]}])
            for port, contexts in zip(self.ports, self.contexts, strict=True)
        ]
        self.proxy = start(config_of(listeners, [table_of("r", "served")]))
        self.proxy.wait_for(READY)

    @staticmethod
    def context_of(options: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
        return options if isinstance(options, list) else [context_for(made.server()) | options]

    def port_of(self, options: dict[str, Any] | list[dict[str, Any]]) -> int:
        return self.ports[self.contexts.index(self.context_of(options))]


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    start = Start(tmp_path_factory.mktemp("openssl"))
    try:
        yield Listeners(start)
    finally:
        start.end()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "ca.pem").write_bytes(made.ca().certificate)
    (folder / "GET").write_bytes(GET)
    clients = {"good": made.client(), "expired": made.expired(), "revoked": revoked()}
    clients["stranger"] = made.issue("stranger", made.other_ca())
    for name, issued in clients.items():
        issued.files(folder, name)
    return folder


@pytest.mark.parametrize(("name", "options", "arguments", "expected"), TABLE, ids=range(len(TABLE)))
def test_one_option(name: str, options: Any, arguments: str, expected: list[str], listeners: Listeners, files: Path) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{listeners.port_of(options)}", "-CAfile", "ca.pem", "-ign_eof"]
    if "servername" not in arguments:
        command += ["-servername", "server.test"]
    command += arguments.split()
    ran = subprocess.run(command, cwd=files, input=GET, capture_output=True, timeout=60, check=False)
    output = (ran.stdout + ran.stderr).decode(errors="replace")
    for text in expected:
        assert (text.removeprefix("!") in output) != text.startswith("!"), (name, text, output)
