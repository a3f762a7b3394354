"""Certificates like those of MOSN's samples are recognised, and no others."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.kit import certificates as made

from pymosn.assembly.tls_material import TlsMaterial
from pymosn.config.load import load_text
from pymosn.control.certificates import find_faults
from pymosn.control.sample_certificates import MISTAKEN, is_mistaken


def like_the_samples(
    *, names_its_signer: bool = False, other_subject: bool = False, same_key: bool = False
) -> tuple[x509.Certificate, x509.Certificate]:
    """A leaf, and the CA that has signed it: both with the same subject, and without key ids."""
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme Co")])
    other = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Other")])
    signing, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    key = signing if same_key else key
    start, end = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=9)
    authority = x509.CertificateBuilder(name, name, signing.public_key(), 1, start, end)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    leaf = x509.CertificateBuilder(name, other if other_subject else name, key.public_key(), 2, start, end)
    leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    if names_its_signer:
        extension = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
        leaf = leaf.add_extension(extension, critical=False)
    return leaf.sign(signing, hashes.SHA256()), authority.sign(signing, hashes.SHA256())


def test_what_is_recognised() -> None:
    leaf, authority = like_the_samples()
    assert is_mistaken(leaf, [])
    assert is_mistaken(leaf, [authority])
    assert not is_mistaken(authority, [authority])
    assert not is_mistaken(like_the_samples(names_its_signer=True)[0], [])
    assert not is_mistaken(like_the_samples(other_subject=True)[0], [])
    for issued in (made.ca(), made.server(), made.self_signed(), made.client()):
        assert not is_mistaken(issued.x509, [made.ca().x509])


def test_with_the_key_of_the_ca_too() -> None:
    """As in MOSN's samples: without the CA it cannot be told from a certificate that is meant to be self-signed."""
    leaf, authority = like_the_samples(same_key=True)
    assert is_mistaken(leaf, [authority])
    assert not is_mistaken(leaf, [])
    assert not is_mistaken(leaf, [leaf])


@pytest.mark.parametrize("changes", [{}, {"other_subject": True}, {"same_key": True}])
def test_openssl_agrees(changes: dict[str, bool], tmp_path: Path) -> None:
    leaf, authority = like_the_samples(**changes)
    for name, certificate in (("leaf", leaf), ("ca", authority)):
        (tmp_path / f"{name}.pem").write_bytes(certificate.public_bytes(forms.Encoding.PEM))
    command = ["openssl", "verify", "-CAfile", "ca.pem", "leaf.pem"]
    verified = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (verified.returncode != 0) == is_mistaken(leaf, [authority])
    assert ("self-signed certificate" in verified.stdout + verified.stderr) == is_mistaken(leaf, [authority])


def test_the_warning_of_a_context() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme Co")])
    key, start = made.server().private, datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 2, start, start + timedelta(days=9))
    leaf = builder.sign(made.ca().private, hashes.SHA256()).public_bytes(forms.Encoding.PEM)
    text = """{"servers": [{"listeners": [{"address": "127.0.0.1:1", "filter_chains": [{"tls_context": {"status": true,
        "cert_chain": "c", "private_key": "k"}, "filters": []}]}]}], "cluster_manager": {}}"""
    config = load_text(text, "f").config
    assert config is not None
    faults = find_faults(config, TlsMaterial({"c": leaf, "k": made.server().key}), datetime.now(UTC).timestamp())
    (fault,) = faults
    assert (fault.severity, fault.message) == ("warning", f"c: {MISTAKEN}")
    assert fault.path == "servers[0].listeners[0].filter_chains[0].tls_context.cert_chain"
