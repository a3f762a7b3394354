"""TLS contexts: handshakes over memory BIOs, mutual TLS and session tickets."""

import contextlib
import ctypes
import os
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from tests.kit import certificates as made

from pymosn.core.failure import CLIENT_CERTIFICATE_EXPIRED, CLIENT_CERTIFICATE_INVALID, NO_CLIENT_CERTIFICATE
from pymosn.network.tls import base, contexts, openssl, tickets
from pymosn.network.tls.contexts import ServerContext, ServerContexts, server_context
from pymosn.network.tls.facts import certificate_of
from pymosn.network.tls.material import TlsFault
from pymosn.network.tls.sans import NamePattern
from pymosn.network.tls.settings import ClientSettings, ServerSettings, TlsSettings
from pymosn.network.tls.tickets import LIFETIME, TicketSecrets
from pymosn.network.tls.upstream import client_context as client_tls
from pymosn.protocol.tls.hello import read_hello

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
NOW = made.server().x509.not_valid_before_utc.timestamp() + 2 * 86400
SECRET = b"s" * 32


def settings(issued: made.Issued | None = None, **changes: Any) -> ServerSettings:
    """Settings of a listener; `changes` of either kind."""
    issued = issued or made.server()
    outer = {key: changes.pop(key) for key in list(changes) if key in ServerSettings._fields}
    return ServerSettings(TlsSettings(certificate=issued.certificate, key=issued.key, **changes), **outer)


def client_context(version: str = "1.3", certificate: made.Issued | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=made.ca().certificate.decode())
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if certificate is not None:
        certificate.load_into(context)
    return context


class Meeting:
    """One handshake. `error`: the server's; `data`: the plaintext that it has read; `resumed`, `certificate`: its facts."""

    def __init__(
        self,
        server: ServerContext,
        client: ssl.SSLContext,
        *,
        session: ssl.SSLSession | None = None,
        name: str = "server.test",
        contexts: ServerContexts | None = None,
    ) -> None:
        """`contexts`: the server's context is chosen from these, by the ClientHello."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
        self.error = ""
        self.data = b""
        ends = self._steps(self.client, b"first data")
        next(ends)
        if contexts is not None:
            hello = to_server.read()
            found = read_hello(hello)
            assert found is not None
            server = contexts.choose(found)
            to_server.write(hello)
        self.context = server
        self.engine = server.ssl_context.wrap_bio(to_server, to_client, server_side=True)
        try:
            for _ in range(6):
                self._server_step()
                next(ends, None)
            self._server_step()
        except ssl.SSLError as error:
            self.error = error.reason or "?"
            return
        self.resumed = bool(self.engine.session_reused)
        self.certificate = certificate_of(self.engine, is_verified=server.settings.verifies)
        self.fault = server.fault_of(self.certificate, NOW)

    def _server_step(self) -> None:
        try:
            self.engine.do_handshake()
            self.data += self.engine.read(1000)
        except ssl.SSLWantReadError:
            pass

    @staticmethod
    def _steps(client: ssl.SSLObject, data: bytes) -> Iterator[None]:
        """The client sends its data as soon as it thinks that the handshake is complete."""
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                yield
        client.write(data)
        for _ in range(3):
            try:
                client.read(1000)
            except (ssl.SSLWantReadError, ssl.SSLError):
                yield


@cache
def revoked_client() -> made.Issued:
    return made.issue("revoked", made.ca())


@cache
def crl() -> bytes:
    return made.revoke(made.ca(), revoked_client())


@cache
def stranger() -> made.Issued:
    return made.issue("stranger", made.other_ca())


CLIENTS = {
    "none": lambda: None,
    "good": made.client,
    "expired": made.expired,
    "other CA": stranger,
    "revoked": revoked_client,
}
ANY_OF_CLIENTS = [
    (verifies, requires, client, version)
    for verifies, requires, client, version in product((False, True), (False, True), CLIENTS, VERSIONS)
]


def demanding(verifies: bool, requires: bool, **changes: Any) -> ServerSettings:
    return settings(verifies=verifies, requires=requires, ca=made.ca().certificate, crl=crl(), **changes)


def is_served(verifies: bool, requires: bool, client: str) -> bool:
    if not verifies:
        return True
    return client == "good" or (client == "none" and not requires)


@pytest.mark.parametrize(("verifies", "requires", "client", "version"), ANY_OF_CLIENTS)
def test_the_table_of_client_certificates(verifies: bool, requires: bool, client: str, version: str) -> None:
    """verify_client x require_client_cert x client x version: no plaintext of a client that is refused is read."""
    secrets = TicketSecrets()
    secrets.set(SECRET)
    server = server_context(demanding(verifies, requires), secrets)
    certificate = CLIENTS[client]()
    other = client_context(version, certificate)
    meeting = Meeting(server, other)
    if not is_served(verifies, requires, client):
        assert meeting.error in ("CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE")
        assert meeting.data == b""
        return
    assert (meeting.error, meeting.data, meeting.fault) == ("", b"first data", None)
    is_asked = (verifies or requires) and client != "none"
    assert (meeting.certificate is not None) == is_asked
    if meeting.certificate is not None:
        assert certificate is not None
        assert meeting.certificate.is_verified == verifies
        assert meeting.certificate.subject == certificate.x509.subject.rfc4514_string()
    again = Meeting(server, other, session=meeting.client.session)
    assert (again.error, again.data, again.fault, again.resumed) == ("", b"first data", None, True)
    assert (again.certificate is not None) == is_asked
    # A new demand with the same names, as after a change, and another context that is chosen by SNI.
    strict = server_context(demanding(True, True, server_name="strict.test"), secrets)
    moved = Meeting(strict, other, session=meeting.client.session)
    assert moved.error or (client == "good" and moved.data == b"first data")
    assert bool(moved.error) == (client != "good")
    if not moved.error and not (verifies and requires):
        assert not moved.resumed


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_does_not_lead_past_another_context(version: str) -> None:
    """A client without a certificate resumes the session of an open context, with the name of a strict one."""
    secrets = TicketSecrets()
    secrets.set(SECRET)
    lax = server_context(settings(made.wrong_name()), secrets)
    strict = server_context(demanding(True, True), secrets)
    both = ServerContexts([lax, strict])
    client = client_context(version)
    client.check_hostname = False
    first = Meeting(lax, client, name="elsewhere.test", contexts=both)
    assert (first.error, first.context) == ("", lax)
    second = Meeting(lax, client, session=first.client.session, name="server.test", contexts=both)
    assert second.context is strict
    assert second.error == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert second.data == b""


CHANGES: list[tuple[str, dict[str, Any], bool]] = [
    ("the same settings in another worker", {}, True),
    ("a renewed certificate", {"issued": "renewed"}, True),
    ("another CA", {"ca": "both"}, False),
    ("another revocation list", {"crl": "empty"}, False),
    ("a certificate that is required", {"requires": True}, False),
    ("demanded URIs", {"uris": (made.SPIFFE_ID,)}, False),
    ("another name", {"server_name": "more.test"}, False),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("what", "changes", "is_resumed"), CHANGES)
def test_where_a_ticket_is_valid(what: str, changes: dict[str, Any], is_resumed: bool, version: str) -> None:
    values = {
        "both": made.ca().certificate + made.other_ca().certificate,
        "empty": made.revoke(made.ca()),
        "renewed": made.issue("server.test", made.ca(), names=("localhost", "server.test", "*.wild.test")),
    }
    changed = {key: values.get(value, value) if isinstance(value, str) else value for key, value in changes.items()}
    start: dict[str, Any] = {"verifies": True, "ca": made.ca().certificate, "crl": crl()}
    workers = TicketSecrets(), TicketSecrets()
    for worker in workers:
        worker.set(SECRET)
    client = client_context(version, made.spiffe())
    first = Meeting(server_context(settings(**start), workers[0]), client)
    assert first.error == ""
    after = {**start, **changed}
    second = Meeting(
        server_context(settings(after.pop("issued", None), **after), workers[1]), client, session=first.client.session
    )
    assert (second.error, second.resumed) == ("", is_resumed), what


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_secret_ends_the_tickets_of_before_in_place(version: str) -> None:
    secrets = TicketSecrets()
    secrets.set(SECRET)
    server, client = server_context(settings(), secrets), client_context(version)
    session = Meeting(server, client).client.session
    assert Meeting(server, client, session=session).resumed
    secrets.set(b"t" * 32)
    renewed = Meeting(server, client, session=session)
    assert (renewed.error, renewed.resumed) == ("", False)
    assert Meeting(server, client, session=renewed.client.session).resumed


def test_what_is_checked_after_a_resumed_handshake() -> None:
    server = server_context(demanding(True, True, uris=(made.SPIFFE_ID.upper(),)))
    meeting = Meeting(server, client_context("1.3", made.spiffe()))
    assert meeting.fault is None
    assert meeting.certificate is not None
    assert server.fault_of(meeting.certificate, meeting.certificate.not_after + 1.0) is CLIENT_CERTIFICATE_EXPIRED
    assert server.fault_of(None, NOW) is NO_CLIENT_CERTIFICATE
    assert Meeting(server, client_context("1.3", made.client())).fault is CLIENT_CERTIFICATE_INVALID
    assert server_context(demanding(True, False)).fault_of(None, NOW) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_cannot_be_read_names_nobody(version: str) -> None:
    unverified = server_context(settings(requires=True))
    meeting = Meeting(unverified, client_context(version, made.unreadable(None)))
    assert meeting.certificate is not None
    assert meeting.data == b"first data"
    assert (meeting.certificate.is_verified, meeting.certificate.subject, meeting.fault) == (False, "", None)
    # Of a CA that is trusted all the same.
    verified = server_context(settings(verifies=True, requires=True, ca=made.ca().certificate))
    meeting = Meeting(verified, client_context(version, made.unreadable(made.ca())))
    assert meeting.certificate is not None
    assert (meeting.certificate.is_verified, meeting.fault) == (False, CLIENT_CERTIFICATE_INVALID)


def test_only_its_owner_can_read_a_new_key_log(tmp_path: Path) -> None:
    log = tmp_path / "keys"
    before = os.umask(0)
    try:
        server = server_context(settings(key_log=str(log)))
    finally:
        os.umask(before)
    assert Meeting(server, client_context()).data == b"first data"
    assert log.stat().st_mode & 0o777 == 0o600
    assert "CLIENT_TRAFFIC_SECRET_0" in log.read_text()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(TlsFault, match="not a regular file"):
            server_context(settings(key_log=str(tmp_path / "pipe")))
    finally:
        os.close(reader)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sessions_of_hosts_take_no_memory_once_they_are_dropped(version: str) -> None:
    """Reading `session` of a connection leaks up to six kilobytes each time in Python 3.11 (python/cpython issue 116810)."""
    library, client = openssl.openssl(), client_context(version)
    assert library is not None
    engine: Any = Meeting(server_context(settings(), TicketSecrets()), client).client._sslobj  # type: ignore[attr-defined]
    with contextlib.suppress(ssl.SSLWantReadError):
        engine.read(1)  # the tickets of TLS 1.3
    assert library.session_of(engine) is not None
    before = allocated()
    for _ in range(1000):
        session = library.session_of(engine)
        assert session is not None
        later = client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="server.test")
        session.offer(later._sslobj)  # type: ignore[attr-defined]
    assert allocated() - before < 100_000


def allocated() -> int:
    """Bytes that glibc has given out (mallinfo2(3), the field `uordblks`)."""

    class Information(ctypes.Structure):
        _fields_ = [("words", ctypes.c_size_t * 10)]

    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        pytest.skip("needs glibc")
    function.restype = Information
    return int(function().words[7])


def test_a_session_ends_after_its_lifetime() -> None:
    secrets = TicketSecrets()
    meeting = Meeting(server_context(settings(), secrets), client_context())
    session = meeting.client.session
    assert session is not None
    assert session.ticket_lifetime_hint == LIFETIME


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shift", [LIFETIME + 5.0, -5.0, 86400 * 300.0])
def test_a_verified_session_cannot_be_renewed_for_ever(shift: float, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = TicketSecrets()
    secrets.set(SECRET)
    server = server_context(demanding(True, True), secrets)
    context = client_context(version, made.client())
    start = time.time()
    meeting = Meeting(server, context)
    for later in (0.5 * LIFETIME, LIFETIME - 5.0):  # each of them is given new tickets
        monkeypatch.setattr(time, "time", lambda at=start + later: at)
        meeting = Meeting(server, context, session=meeting.client.session)
        assert (meeting.resumed, meeting.data, meeting.fault) == (True, b"first data", None)
    monkeypatch.setattr(time, "time", lambda: start + shift)
    meeting = Meeting(server, context, session=meeting.client.session)
    assert (meeting.error, meeting.resumed, meeting.data) == ("", False, b"first data")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_ends_with_the_certificate_and_a_newer_one_is_asked_for(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = TicketSecrets()
    secrets.set(SECRET)
    server = server_context(demanding(True, True), secrets)
    context = client_context(version, made.issue("short", made.ca(), ends=timedelta(minutes=10)))
    first = Meeting(server, context)
    assert Meeting(server, context, session=first.client.session).resumed
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start + 601.0)
    made.client().load_into(context)
    again = Meeting(server, context, session=first.client.session)
    assert (again.error, again.resumed, again.data) == ("", False, b"first data")
    assert again.certificate is not None
    assert again.certificate.subject == "CN=client"


@pytest.mark.parametrize("version", VERSIONS)
def test_without_the_functions_of_openssl_what_is_unsafe_is_off(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, contexts, tickets):
        monkeypatch.setattr(module, "openssl", lambda: None)
    with pytest.raises(ValueError, match="ecdh_curves"):
        server_context(settings(groups="P-256"))
    server = server_context(settings(), TicketSecrets())
    meeting = Meeting(server, client_context(version))
    session = meeting.client.session
    assert session is None or not session.has_ticket
    unverified = Meeting(server_context(settings(requires=True)), client_context(version, stranger()))
    assert (unverified.error, unverified.certificate) == ("", None)


def test_the_functions_of_openssl_are_found() -> None:
    assert openssl.openssl() is not None


def test_options_do_not_depend_on_python() -> None:
    context = server_context(settings()).ssl_context
    for option in (ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_COMPRESSION, ssl.OP_CIPHER_SERVER_PREFERENCE):
        assert context.options & option
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert all(cipher["aead"] for cipher in context.get_ciphers())
    assert context.get_ca_certs() == []


def test_an_old_version_only_if_configured() -> None:
    client = client_context("1.2")
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1
    assert Meeting(server_context(settings()), client).error == "UNSUPPORTED_PROTOCOL"
    meeting = Meeting(server_context(settings(min_version="TLSv1.0")), client)
    assert (meeting.error, meeting.engine.version()) == ("", "TLSv1")


def test_groups_and_suites() -> None:
    server = server_context(settings(groups="P-384", suites="TLS_AES_128_GCM_SHA256"))
    client = client_context()
    meeting = Meeting(server, client)
    cipher = meeting.engine.cipher()
    assert cipher is not None
    assert cipher[0] == "TLS_AES_128_GCM_SHA256"
    client.set_ecdh_curve("prime256v1")
    assert Meeting(server, client).error == "NO_SUITABLE_KEY_SHARE"


def encrypted() -> bytes:
    from cryptography.hazmat.primitives import serialization as forms

    private = made.server().private
    return private.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.BestAvailableEncryption(b"x"))


def small_rsa() -> made.Issued:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(65537, 1024)
    like = made.server().x509
    builder = x509.CertificateBuilder().subject_name(like.subject).issuer_name(like.issuer).serial_number(7)
    builder = builder.not_valid_before(like.not_valid_before_utc).not_valid_after(like.not_valid_after_utc)
    issued = builder.public_key(private.public_key()).sign(made.ca().private, hashes.SHA256())
    key = private.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    return made.Issued(issued.public_bytes(forms.Encoding.PEM), key, issued, made.ca().private)


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"certificate": b""}, "cert_chain: is missing"),
    ({"key": b""}, "private_key: is missing"),
    ({"certificate": b"x"}, "cert_chain: contains no certificate"),
    (
        {"certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        "cert_chain: certificate 1 of 1",
    ),
    ({"key": b"x"}, "private_key: contains no private key"),
    ({"key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "private_key: is not a valid private key"),
    ({"key": made.client().key}, "private_key: does not belong to the certificate"),
    ({"key": encrypted()}, "private_key: is encrypted"),
    (
        {"certificate": small_rsa().certificate, "key": small_rsa().key},
        "cert_chain: the key of the certificate is",
    ),
    ({"ca": b""}, "ca_cert: is missing"),
    ({"ca": made.server().key}, "ca_cert: contains no certificate"),
    ({"ca": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "ca_cert: is not a list of certificates"),
    ({"crl": made.ca().certificate}, "crl: contains a certificate"),
    ({"crl": b"x" + made.revoke(made.ca()) + made.other_ca().certificate}, "crl: contains a certificate"),
    ({"crl": b"x"}, "crl: contains no valid revocation list"),
    ({"min_version": "TLSv1.3", "max_version": "TLSv1.2"}, "min_version: TLSv1.3 is above max_version"),
    ({"ciphers": "DES-CBC3-SHA"}, "cipher_suites: "),
    ({"groups": "P-1"}, "ecdh_curves: "),
    ({"suites": "TLS_NO"}, "cipher_suites: "),
    ({"key_log": "/nonexistent/x"}, "key_log: cannot be opened: No such file"),
]


@pytest.mark.parametrize(("change", "expected"), FAULTS)
def test_what_cannot_be_built_is_named(change: dict[str, Any], expected: str) -> None:
    good = demanding(True, True)
    with pytest.raises(ValueError, match="^" + expected):
        server_context(good._replace(tls=good.tls._replace(**change)))


def test_names_of_clients_are_demanded() -> None:
    id_prefix = made.SPIFFE_ID.rpartition("/")[0] + "/"
    demands = {"ca": made.ca().certificate, "verifies": True, "requires": True}
    for prefix, expected in ((id_prefix, None), ("spiffe://elsewhere/", CLIENT_CERTIFICATE_INVALID)):
        server = server_context(settings(names=(NamePattern("uri", "prefix", prefix),), **demands))
        assert Meeting(server, client_context(certificate=made.spiffe())).fault is expected
    pinned = made.spiffe().x509.fingerprint(hashes.SHA256()).hex()
    for pin, expected in ((pinned, None), (64 * "0", CLIENT_CERTIFICATE_INVALID)):
        server = server_context(settings(hashes=(pin,), **demands))
        assert Meeting(server, client_context(certificate=made.spiffe())).fault is expected


def test_a_ticket_does_not_lead_past_other_names() -> None:
    demands = {"ca": made.ca().certificate, "verifies": True, "requires": True}
    plain = server_context(settings(**demands))
    named = server_context(settings(names=(NamePattern("uri", "prefix", "spiffe://"),), **demands))
    pinned = server_context(settings(hashes=(64 * "0",), **demands))
    assert len({plain.demand, named.demand, pinned.demand}) == 3


def test_a_context_that_waits_for_its_secret_has_no_certificate() -> None:
    waiting = server_context(settings(is_waiting=True))
    assert Meeting(waiting, client_context()).error
    assert client_tls(ClientSettings(TlsSettings(), is_waiting=True, is_verified=False)).verify_mode is ssl.CERT_REQUIRED
