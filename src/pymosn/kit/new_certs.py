"""Certificates for trying out TLS: a CA, and a server and a client certificate that it has signed."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

#: Names that a server certificate always has.
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
#: The files: certificates that anyone may read, keys that only the owner may.
CERTIFICATES: Final = ("ca.pem", "server.pem", "client.pem")
KEYS: Final = ("ca.key", "server.key", "client.key")

_KEY_MODE: Final = 0o600
_CERTIFICATE_MODE: Final = 0o644


class CertsError(Exception):
    """The certificates cannot be made; the text has the reason."""


class _Signer(NamedTuple):
    """A CA."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey


def write_certificates(folder: Path, names: Iterable[str], uri: str, days: int, *, force: bool) -> None:
    """Makes all files in `folder`. `names`: of the server, besides LOCAL_NAMES. `uri`: of the client, empty for none.

    Raises CertsError, also for files that exist unless `force`.
    """
    existing = [name for name in (*CERTIFICATES, *KEYS) if os.path.lexists(folder / name)]
    if existing and not force:
        raise CertsError(f"{folder / existing[0]} exists; --force overwrites it")
    folder.mkdir(parents=True, exist_ok=True)
    authority = _issue("pymosn test CA", None, days)
    server_names = list(dict.fromkeys((*LOCAL_NAMES, *names)))
    server = _issue("pymosn test server", authority, days, names=server_names)
    client = _issue("pymosn test client", authority, days, uris=[uri] if uri else [], is_client=True)
    for name, made in zip(("ca", "server", "client"), (authority, server, client), strict=True):
        _write(folder, name, made)


def _issue(
    subject: str,
    signer: _Signer | None,
    days: int,
    *,
    names: Iterable[str] = (),
    uris: Iterable[str] = (),
    is_client: bool = False,
) -> _Signer:
    """A certificate with a new key. `signer`: None for a CA. The key ids are what MOSN's samples lack."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.UTC)
    is_ca = signer is None
    issuer, signing = (name, key) if signer is None else (signer.certificate.subject, signer.key)
    builder = (
        x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .add_extension(_usage(is_ca), critical=True)
    )
    if not is_ca:
        # A server's is also one of a client: in MOSN's samples both hops have the same certificate.
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *([] if is_client else [ExtendedKeyUsageOID.SERVER_AUTH])]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    try:
        others = [*map(_general_name, names), *map(x509.UniformResourceIdentifier, uris)]
    except ValueError as error:
        raise CertsError(f"not a name for a certificate: {error}") from None
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return _Signer(builder.sign(signing, hashes.SHA256()), key)


def _usage(is_ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(folder: Path, name: str, made: _Signer) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_file(folder / f"{name}.key", key, _KEY_MODE)
    _write_file(folder / f"{name}.pem", made.certificate.public_bytes(Encoding.PEM), _CERTIFICATE_MODE)


def _write_file(path: Path, content: bytes, mode: int) -> None:
    """Writes a file that never has another mode; replaces an old one, and does not follow a symbolic link."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def as_configuration(folder: Path) -> str:
    """What to put into the configuration."""
    at = folder.absolute()
    return f"""\
A listener, in its filter chain; the last three keys demand a certificate of clients:
  "tls_context": {{"status": true, "cert_chain": "{at}/server.pem", "private_key": "{at}/server.key",
                  "ca_cert": "{at}/ca.pem", "verify_client": true, "require_client_cert": true}}
A cluster whose hosts have such a certificate:
  "tls_context": {{"status": true, "ca_cert": "{at}/ca.pem", "server_name": "localhost",
                  "cert_chain": "{at}/client.pem", "private_key": "{at}/client.key"}}
A client:
  curl --cacert {at}/ca.pem --cert {at}/client.pem --key {at}/client.key https://localhost:PORT/
"""
