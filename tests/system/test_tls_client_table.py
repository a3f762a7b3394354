"""Certificates of clients on the real program: demand x certificate x version, with first data and resumed.

Each refused client gets an alert that says why, and the access log the reason word.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, eventually, free_ports
from tests.kit import certificates as made
from tls_peers import client_context, config_of, context_for, exchange, listener_of, opened, proxy_filter, table_of

pytestmark = pytest.mark.once

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@cache
def revoked() -> made.Issued:
    return made.issue("revoked", made.ca())


@cache
def intermediate() -> made.Issued:
    return made.issue("Intermediate", made.ca(), is_ca=True)


def chained(leaf: made.Issued, *others: made.Issued) -> made.Issued:
    """A certificate that is presented together with others."""
    return leaf._replace(certificate=b"".join(issued.certificate for issued in (leaf, *others)))


def by_intermediate() -> made.Issued:
    return made.issue("below", intermediate())


def for_servers() -> made.Issued:
    return made.issue("server", made.ca(), extensions=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),))


def of_a_leaf() -> made.Issued:
    return chained(made.issue("of a leaf", made.client()), made.client())


def of_another_with_its_name() -> made.Issued:
    return made.issue("client", made.issue("Test CA", None, is_ca=True))


def named_like_the_ca() -> made.Issued:
    return made.issue("Test CA", None, is_ca=True)


def outside_of_its_names() -> made.Issued:
    allowed = x509.NameConstraints([x509.DNSName("inner.test")], None)
    narrow = made.issue("Narrow", made.ca(), is_ca=True, extensions=(allowed,))
    return chained(made.issue("client", narrow, names=("outer.test",)), narrow)


class Kind(NamedTuple):
    """A certificate, the reason word where it is verified, and the alert; empty for one that is valid."""

    make: Callable[[], made.Issued | None]
    reason: str = ""
    alert: str = ""


CLIENTS = {
    "good": Kind(made.client),
    "expired": Kind(made.expired, "client_certificate_expired", "CERTIFICATE_EXPIRED"),
    "other CA": Kind(made.other_client, "client_certificate_unknown_ca", "UNKNOWN_CA"),
    "revoked": Kind(revoked, "client_certificate_revoked", "CERTIFICATE_REVOKED"),
}
MORE = {
    "not yet valid": Kind(made.not_yet_valid, "client_certificate_invalid", "BAD_CERTIFICATE"),
    "for servers": Kind(for_servers, "client_certificate_invalid", "UNSUPPORTED_CERTIFICATE"),
    "of a leaf": Kind(of_a_leaf, "client_certificate_invalid", "UNKNOWN_CA"),
    "of another CA with the name": Kind(of_another_with_its_name, "client_certificate_unknown_ca", "UNKNOWN_CA"),
    "named like the CA": Kind(named_like_the_ca, "client_certificate_unknown_ca", "UNKNOWN_CA"),
    "self-signed": Kind(made.self_signed, "client_certificate_unknown_ca", "UNKNOWN_CA"),
    "intermediate": Kind(lambda: chained(by_intermediate(), intermediate())),
    "intermediate missing": Kind(by_intermediate, "client_certificate_unknown_ca", "UNKNOWN_CA"),
    "outside of its names": Kind(outside_of_its_names, "client_certificate_invalid", "ALERT_"),
    "unreadable": Kind(lambda: made.unreadable(made.ca()), "client_certificate_invalid"),
}


def none_required(version: str) -> tuple[str, str]:
    return "no_client_certificate", "CERTIFICATE_REQUIRED" if version == "1.3" else "HANDSHAKE_FAILURE"


def lists(signer: made.Issued, ends: timedelta = timedelta(days=30), *gone: made.Issued) -> bytes:
    """A revocation list that ends at another time."""
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(signer.x509.subject)
    builder = builder.last_update(now - timedelta(days=40)).next_update(now + ends)
    for issued in gone:
        entry = x509.RevokedCertificateBuilder().serial_number(issued.x509.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now - timedelta(hours=1)).build())
    return builder.sign(signer.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Listeners:
    """One process with a listener for each demand; `strict.test` leads to a context that requires a certificate."""

    def __init__(self, start: Start) -> None:
        crl = made.revoke(made.ca(), revoked()).decode()
        strict = context_for(made.issue("strict", made.ca(), names=("strict.test",)), demands=made.ca(), crl=crl)
        self.ports: dict[Any, int] = {}
        listeners: list[dict[str, Any]] = []
        contexts: dict[Any, dict[str, Any]] = {
            (verifies, requires): {"crl": crl, "verify_client": verifies, "require_client_cert": requires}
            for verifies, requires in product((False, True), (False, True))
        }
        contexts["no list"] = {}
        contexts["old list"] = {"crl": lists(made.ca(), timedelta(days=-1)).decode()}
        contexts["another's list"] = {"crl": lists(made.other_ca()).decode()}
        both = lists(made.ca(), timedelta(days=30), intermediate()) + lists(intermediate())
        contexts["lists of both"] = {"crl": both.decode()}
        contexts["lists of root"] = {"crl": lists(made.ca()).decode()}
        for (demand, settings), port in zip(contexts.items(), free_ports(len(contexts)), strict=True):
            self.ports[demand] = port
            own = context_for(made.server(), demands=made.ca()) | settings
            chain = {"tls_context_set": [own, strict], "filters": [proxy_filter("r")]}
            log = {"log_path": "stdout", "log_format": f"LOG {port} [%reason%] [%downstream_peer_verified%]"}
            listeners.append(listener_of(f"l{port}", port, [chain], access_logs=[log]))
        self.proxy: Pymosn = start(config_of(listeners, [table_of("r", "served")]))
        self.proxy.wait_for(READY)

    def logged(self, port: int) -> list[str]:
        pattern = re.compile(rf"LOG {port} (.*)")
        return [found[1] for line in self.proxy.lines if (found := pattern.search(line))]

    def ask(
        self, demand: object, context: ssl.SSLContext, name: str = "server.test", session: ssl.SSLSession | None = None
    ) -> tuple[str, str, ssl.SSLSession | None, bool]:
        """A GET with the first data: `served` or the alert, the log's line, the new session, whether one was resumed."""
        port = self.ports[demand]
        before = len(self.logged(port))
        found: ssl.SSLSession | None = None
        is_resumed = False
        try:
            with opened(port, name, context=context, session=session) as secured:
                status, body = exchange(secured, name)
                assert (status, body) == (200, b"served")
                found, is_resumed = secured.session, bool(secured.session_reused)
                result = "served"
        except ssl.SSLError as error:
            result = error.reason or str(error)
        except (http.client.BadStatusLine, ConnectionError):
            result = "closed"
        assert eventually(lambda: len(self.logged(port)) > before), (demand, result)
        return result, self.logged(port)[-1], found, is_resumed


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    start = Start(tmp_path_factory.mktemp("table"))
    try:
        yield Listeners(start)
    finally:
        start.end()


def context_of(version: str, certificate: made.Issued | None) -> ssl.SSLContext:
    context = client_context(certificate=certificate)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", ["none", *CLIENTS])
@pytest.mark.parametrize("requires", [False, True])
@pytest.mark.parametrize("verifies", [False, True])
def test_the_table(verifies: bool, requires: bool, client: str, version: str, listeners: Listeners) -> None:
    kind = CLIENTS.get(client)
    certificate = None if kind is None else kind.make()
    reason, alert = none_required(version) if kind is None else (kind.reason, kind.alert)
    is_refused = verifies and bool(reason) and (requires or kind is not None)
    context = context_of(version, certificate)
    result, line, session, _ = listeners.ask((verifies, requires), context)
    if is_refused:
        assert alert in result
        assert line.startswith(f"[{reason}]")
    else:
        shown = "-" if kind is None or not (verifies or requires) else str(verifies).lower()
        assert (result, line) == ("served", f"[-] [{shown}]")
        result, again, _, is_resumed = listeners.ask((verifies, requires), context, session=session)
        assert (result, again, is_resumed) == ("served", line, True)
    # To a context that requires a certificate, with the session of this one.
    result, line, _, is_resumed = listeners.ask((verifies, requires), context, "strict.test", session)
    if client == "good":
        assert (result, line, is_resumed) == ("served", "[-] [true]", False)
    else:
        assert alert in result
        assert line.startswith(f"[{reason}]")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", MORE)
def test_other_certificates(client: str, version: str, listeners: Listeners) -> None:
    kind = MORE[client]
    context = context_of(version, kind.make())
    result, line, session, _ = listeners.ask("no list", context)
    if not kind.reason:
        assert (result, line) == ("served", "[-] [true]")
        assert listeners.ask("no list", context, session=session)[3]
        return
    assert result != "served"
    assert kind.alert in result
    assert line.startswith(f"[{kind.reason}]")


@pytest.mark.parametrize(
    ("demand", "client", "expected"),
    [
        ("no list", revoked, ""),
        ("old list", made.client, "client_certificate_invalid"),
        ("another's list", made.client, "client_certificate_invalid"),
        ("lists of both", made.client, ""),
        ("lists of both", lambda: chained(by_intermediate(), intermediate()), "client_certificate_revoked"),
        ("lists of root", made.client, ""),
        ("lists of root", lambda: chained(by_intermediate(), intermediate()), "client_certificate_invalid"),
    ],
)
def test_revocation_lists(demand: str, client: Any, expected: str, listeners: Listeners) -> None:
    for version in VERSIONS:
        result, line, _, _ = listeners.ask(demand, context_of(version, client()))
        assert (result == "served") == (not expected)
        assert line.startswith(f"[{expected or '-'}]"), (version, result)


def test_a_client_cannot_be_asked_later(listeners: Listeners) -> None:
    """Neither post-handshake authentication nor renegotiation changes what was demanded in the handshake."""
    context = context_of("1.3", made.client())
    context.post_handshake_auth = True
    assert listeners.ask((True, True), context)[:2] == ("served", "[-] [true]")
    assert listeners.ask((False, False), context)[:2] == ("served", "[-] [-]")
    with socket.create_connection(("127.0.0.1", listeners.ports[(False, True)]), PATIENCE) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: server.test\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")
