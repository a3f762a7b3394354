"""Certificates for tests: EC P-256, made once per process."""

from __future__ import annotations

import functools
import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: The SPIFFE id of `spiffe()`.
SPIFFE_ID = "spiffe://test.example/ns/default/sa/client"


class Issued(NamedTuple):
    """A certificate with its key, and for a CA the means to sign others."""

    certificate: bytes
    key: bytes
    x509: x509.Certificate
    private: ec.EllipticCurvePrivateKey

    def files(self, folder: Path, name: str) -> tuple[str, str]:
        """Writes `name.pem` and `name.key` to a folder; returns their paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.certificate)
        key.write_bytes(self.key)
        key.chmod(0o600)
        return str(certificate), str(key)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Makes this the certificate of an ssl context."""
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(*self.files(Path(folder), "own"))


def issue(
    subject: str,
    signer: Issued | None,
    *,
    names: tuple[str, ...] = (),
    uris: tuple[str, ...] = (),
    is_ca: bool = False,
    starts: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=365),
    extensions: tuple[x509.ExtensionType, ...] = (),
) -> Issued:
    """Makes a certificate. `names`: host names and IP addresses. `signer`: None for a self-signed one.

    `starts`, `ends`: relative to now. `extensions`: further ones, critical unless they are unknown to `cryptography`.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    issuer, signing = (name, private) if signer is None else (signer.x509.subject, signer.private)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    others: list[x509.GeneralName] = [_general(name) for name in names]
    others += [x509.UniformResourceIdentifier(uri) for uri in uris]
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=not isinstance(extension, x509.UnrecognizedExtension))
    made = builder.sign(signing, hashes.SHA256())
    key = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(made.public_bytes(serialization.Encoding.PEM), key, made, private)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def revoke(signer: Issued, *revoked: Issued) -> bytes:
    """A certificate revocation list of `signer`, in PEM."""
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(signer.x509.subject)
    builder = builder.last_update(now - timedelta(days=1)).next_update(now + timedelta(days=30))
    for issued in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(issued.x509.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now - timedelta(hours=1)).build())
    return builder.sign(signer.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@functools.cache
def ca() -> Issued:
    """The CA that tests trust."""
    return issue("Test CA", None, is_ca=True, ends=timedelta(days=3650))


@functools.cache
def other_ca() -> Issued:
    """A CA that nobody trusts."""
    return issue("Other CA", None, is_ca=True, ends=timedelta(days=3650))


@functools.cache
def server() -> Issued:
    """For `localhost`, `server.test`, `*.wild.test`, 127.0.0.1 and ::1."""
    return issue("server.test", ca(), names=("localhost", "server.test", "*.wild.test", "127.0.0.1", "::1"))


@functools.cache
def wrong_name() -> Issued:
    """For another name than any that tests ask for."""
    return issue("elsewhere.test", ca(), names=("elsewhere.test",))


@functools.cache
def self_signed() -> Issued:
    """Of a server, signed by itself."""
    return issue("server.test", None, names=("localhost", "server.test", "127.0.0.1"))


@functools.cache
def expired() -> Issued:
    """Of server or client; no longer valid since yesterday."""
    names = ("localhost", "server.test", "127.0.0.1")
    return issue("expired", ca(), names=names, starts=timedelta(days=-30), ends=timedelta(days=-1))


@functools.cache
def not_yet_valid() -> Issued:
    """Of server or client; valid from tomorrow on."""
    return issue("not yet", ca(), names=("localhost", "server.test", "127.0.0.1"), starts=timedelta(days=1))


@functools.cache
def client() -> Issued:
    """Of a client."""
    return issue("client", ca(), names=("client.test",))


@functools.cache
def other_client() -> Issued:
    """Of a client, from the CA that nobody trusts."""
    return issue("client", other_ca(), names=("client.test",))


@functools.cache
def spiffe() -> Issued:
    """Of a client or server, with a SPIFFE id."""
    return issue("workload", ca(), names=("localhost", "127.0.0.1"), uris=(SPIFFE_ID,))


@functools.cache
def unreadable(signer: Issued | None) -> Issued:
    """Of a client, with a DNS name that is not ASCII, nor UTF-8. `signer`: None for a self-signed one."""
    names = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x05\x82\x03\xff\xfe\xfd")
    return issue("unreadable", signer, extensions=(names,))


def server_context(own: Issued | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A server's ssl context, by default with the certificate of `server()`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (own or server()).load_into(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_context(own: Issued | None = None, alpn: tuple[str, ...] = (), trusted: Issued | None = None) -> ssl.SSLContext:
    """A client's ssl context, which verifies by `trusted`, by default `ca()`; `own`: its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=(trusted or ca()).certificate.decode())
    if own is not None:
        own.load_into(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
