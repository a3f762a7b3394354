"""Client certificates on the real program: headers, variables, routes and `rbac`, also with hostile names in them."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import re
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from process_fixtures import Start
from pymosn_process import READY, Pymosn, free_ports
from recorder import Recorder
from tests.kit.certificates import Issued, ca, client, issue, other_ca, server, spiffe
from tls_peers import client_context, config_of, context_for, listener_of, opened

pytestmark = pytest.mark.once

SPIFFE = "spiffe://test.example/ns/default/sa/client"
NAMES = ("subject", "issuer", "serial", "dns_san", "uri_san", "spiffe_id", "verified", "fingerprint_256", "cert_v_end")
FORMAT = ",".join(
    [
        *(f'"{name}":"%downstream_peer_{name}%"' for name in NAMES),
        '"sni":"%requested_server_name%","version":"%downstream_tls_version%","cipher":"%downstream_tls_cipher%"',
        '"resumed":"%downstream_tls_resumed%","ja3":"%tls_ja3_fingerprint%","ja4":"%tls_ja4_fingerprint%"',
        '"scheme":"%x-mosn-scheme%","alpn":"%downstream_alpn_offered%"',
    ]
)
FORGED = f"Hash=00;URI={SPIFFE}"


def odd(subject: str = "", names: tuple[str, ...] = (), uris: tuple[str, ...] = (), unit: str = "") -> Issued:
    """A client's certificate from the trusted CA, with names that no CA should sign."""
    private = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, subject or "odd", _validate=False)]
    if unit:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit, _validate=False))
    valid = client().x509
    builder = x509.CertificateBuilder(
        issuer_name=ca().x509.subject,
        subject_name=x509.Name(parts),
        public_key=private.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=valid.not_valid_before_utc.replace(tzinfo=None),
        not_valid_after=valid.not_valid_after_utc.replace(tzinfo=None),
    )
    others: list[x509.GeneralName] = [x509.DNSName._init_without_validation(name) for name in names]
    others += [x509.UniformResourceIdentifier._init_without_validation(uri) for uri in uris]
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    made = builder.sign(ca().private, hashes.SHA256())
    encoding = serialization.Encoding.PEM
    key = private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(made.public_bytes(encoding), key, made, private)


HOSTILE = {
    "line breaks": odd("a\r\nx-evil: 1\r\n\r\n", ("a\r\nx-evil: 1",), ("urn:a\r\nx-evil: 1",)),
    "quotes": odd('a",Hash=00;URI="b', ('a";Hash=00', 'a"'), ('urn:a";Hash=00',)),
    "separators": odd(f"a,b;c=d,URI={SPIFFE}", (f"a;URI={SPIFFE},b",), (f"urn:a;URI={SPIFFE},b",)),
    "backslashes": odd("a\\", ("a\\",), ('urn:a\\"',)),
    "NUL": odd("a\0b", ("test.example\0.evil.example",), (SPIFFE + "\0",)),
    "4 KiB": odd("odd", ("d" * 4096,), ("urn:" + "u" * 4096, SPIFFE), "o" * 4096),
    "not ASCII": odd("J\u00f6rg \U0001f600\u2028", ("b.example",), (SPIFFE,)),
    "percent": odd("%0d%0a%00", ("%0d%0a",), ("urn:%0d%0a",)),
}


class Upstream:
    """Keeps the heads of the requests that it gets."""

    def __init__(self) -> None:
        self._recorder = Recorder(["c"])
        self.port = self._recorder.ports["c"]
        self.close = self._recorder.close

    def take(self) -> list[http.client.HTTPMessage]:
        """The fields of each request since the last call."""
        heads = [head.partition(b"\r\n")[2] for _, head in self._recorder.take()]
        return [http.client.parse_headers(io.BytesIO(fields)) for fields in heads]


@pytest.fixture
def upstream_log() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.close()


class Site:
    """One listener that verifies client certificates, and an upstream that keeps what it gets."""

    def __init__(self, start: Start, upstream: Upstream, http1: dict[str, Any] | None = None, **tls: Any) -> None:
        (self.port,) = free_ports(1)
        settings = {"downstream_protocol": "Http1", "router_config_name": "r", "extend_config": {"Http1": http1 or {}}}
        context = context_for(server(), demands=ca()) | {"require_client_cert": False} | tls
        chain = {"tls_context": context, "filters": [{"type": "proxy", "config": settings}]}
        values = {"x-mosn-path": "/named", "downstream_peer_spiffe_id": SPIFFE}
        named = {"variables": [{"name": name, "value": value, "model": "and"} for name, value in values.items()]}
        added = [{"header": {"key": "X-Subject", "value": "%downstream_peer_subject%"}, "append": False}]
        table = {
            "router_config_name": "r",
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routers": [
                        {
                            "match": named,
                            "direct_response": {"status": 200, "body": "known"},
                        },
                        {"match": {"prefix": "/old"}, "redirect": {"path_redirect": "/new", "response_code": 302}},
                        {"match": {"prefix": "/"}, "route": {"cluster_name": "c", "request_headers_to_add": added}},
                    ],
                }
            ],
        }
        log = [{"log_path": "stdout", "log_format": f"LOG {{{FORMAT}}}"}]
        listener = listener_of("l", self.port, [chain], access_logs=log)
        self.proxy: Pymosn = start(config_of([listener], [table], {"c": f"127.0.0.1:{upstream.port}"}))
        self.proxy.wait_for(READY)
        self._lines = 0

    def get(
        self, certificate: Issued | None, path: str = "/", headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, dict[str, str]]:
        """The response, and the line of the access log."""
        with opened(self.port, context=client_context(certificate=certificate)) as sock:
            fields = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: server.test\r\nConnection: close\r\n{fields}\r\n".encode())
            response = http.client.HTTPResponse(sock)
            response.begin()
            response.read()
        self._lines += 1
        return response, json.loads(self._line())

    def _line(self) -> str:
        pattern = r"LOG (\{.*\})"
        found: list[str] = []
        while len(found) < self._lines:
            self.proxy.wait_for(pattern)
            found = [match[1] for line in self.proxy.lines if (match := re.search(pattern, line))]
        return found[self._lines - 1]


def fingerprint(certificate: Issued) -> str:
    return hashlib.sha256(certificate.x509.public_bytes(serialization.Encoding.DER)).hexdigest()


def test_a_certificate_is_known_everywhere(start: Start, upstream_log: Upstream) -> None:
    site = Site(start, upstream_log)
    _, line = site.get(spiffe(), headers={"X-Forwarded-Client-Cert": FORGED, "X-Forwarded-Proto": "http"})
    (sent,) = upstream_log.take()
    element = f'Hash={fingerprint(spiffe())};Subject="{line["subject"]}";URI={SPIFFE};DNS=localhost'
    assert sent.get_all("x-forwarded-client-cert") == [element]
    assert sent.get_all("x-forwarded-proto") == ["https"]
    assert sent.get_all("x-subject") == [line["subject"]]
    assert (line["spiffe_id"], line["verified"], line["fingerprint_256"]) == (SPIFFE, "true", fingerprint(spiffe()))
    assert line["issuer"] == "CN=Test CA"
    assert int(line["serial"], 16) == spiffe().x509.serial_number
    assert line["cert_v_end"] == f"{spiffe().x509.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert (line["sni"], line["version"], line["scheme"]) == ("server.test", "TLSv1.3", "https")
    assert re.fullmatch(r"[0-9a-f]{32}", line["ja3"])
    assert re.fullmatch(r"t13d\d{4}\w\w_[0-9a-f]{12}_[0-9a-f]{12}", line["ja4"])
    response, _ = site.get(spiffe(), "/old")
    assert response.headers["location"] == "https://server.test/new"
    assert site.get(spiffe(), "/named")[0].status == 200


def test_without_a_certificate_nothing_is_forwarded(start: Start, upstream_log: Upstream) -> None:
    site = Site(start, upstream_log)
    for name in ("X-Forwarded-Client-Cert", "x_forwarded_client_cert", "X-Forwarded_Client-Cert"):
        _, line = site.get(None, headers={name: FORGED})
        (sent,) = upstream_log.take()
        assert not [key for key in sent if "client" in key.lower()], sent.items()
        assert {line[name] for name in NAMES} == {"-"}
    # The route for the named client is not taken: the upstream gets the request.
    site.get(None, "/named")
    assert len(upstream_log.take()) == 1


def test_a_certificate_that_is_not_verified_names_nobody(start: Start, upstream_log: Upstream) -> None:
    site = Site(start, upstream_log, verify_client=False, require_client_cert=True)
    liar = issue("liar", other_ca(), uris=(SPIFFE,))
    response, line = site.get(liar, "/named", headers={"X-Forwarded-Client-Cert": FORGED})
    assert response.status == 200, (response.status, line)
    (sent,) = upstream_log.take()
    assert sent.get_all("x-forwarded-client-cert") is None
    assert (line["verified"], line["fingerprint_256"]) == ("false", fingerprint(liar))
    assert {line[name] for name in ("subject", "issuer", "serial", "dns_san", "uri_san", "spiffe_id")} == {"-"}


def test_trusted_proxies_are_appended_to(start: Start, upstream_log: Upstream) -> None:
    site = Site(start, upstream_log, {"trust_forwarded": True})
    site.get(client(), headers={"X-Forwarded-Client-Cert": FORGED})
    (sent,) = upstream_log.take()
    (value,) = sent.get_all("x-forwarded-client-cert") or []
    assert value.startswith(f"{FORGED},Hash={fingerprint(client())};Subject=")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names(start: Start, upstream_log: Upstream, kind: str) -> None:
    certificate = HOSTILE[kind]
    site = Site(start, upstream_log)
    try:
        _, line = site.get(certificate)
    except (ssl.SSLError, ConnectionError):
        # OpenSSL may refuse such a certificate; then nothing is forwarded.
        assert upstream_log.take() == []
        return
    (sent,) = upstream_log.take()
    assert not [key for key in sent if key.lower() == "x-evil"]
    (value,) = sent.get_all("x-forwarded-client-cert") or []
    assert value.isprintable()
    assert value.isascii()
    assert value.startswith(f"Hash={fingerprint(certificate)};")
    assert value.count("Hash=") == value.count("Hash=00") + 1
    outside = re.sub('"[^"]*"', "", value)
    assert "Hash=00" not in outside
    assert len(re.findall(f"URI={SPIFFE}(?=[;,]|$)", outside)) == (1 if kind in ("4 KiB", "not ASCII") else 0)
    assert len(value) <= 4096
    for name in NAMES:
        assert line[name].isascii()
        assert line[name].isprintable()
        assert len(line[name]) <= 2048
    assert line["fingerprint_256"] == fingerprint(certificate)
    if kind != "4 KiB":
        assert (sent.get_all("x-subject") or []) == [line["subject"]]
    assert (line["spiffe_id"] == SPIFFE) is (kind in ("4 KiB", "not ASCII"))
