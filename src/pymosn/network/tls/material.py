"""Loads certificates, keys, CAs and revocation lists into a context from memory: nothing is written to disk.

OpenSSL reads them from files in memory (memfd), by their path in /proc.
"""

from __future__ import annotations

import _ssl
import os
import re
import ssl
from collections.abc import Callable
from typing import Any, Final

_CERTIFICATE: Final = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----.*?-----END [A-Z0-9 ]*-----", re.S)
_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )?PRIVATE KEY-----")
_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
#: The beginning of PKCS#12 in DER: a sequence, with version 3 as its first element.
_PKCS12: Final = re.compile(rb"0(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x80)\x02\x01\x03", re.S)
_ENCRYPTED: Final = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: *4, *ENCRYPTED", re.M)

#: The `ssl` module's parser of certificates in files, which it has no public name for.
_DECODE_NAME: Final = "_test_decode_cert"
_DECODE: Final[Callable[[str], dict[str, Any]]] = getattr(_ssl, _DECODE_NAME)

_REASON: Final = "reason"
#: Kinds of blocks that a fault names.
MAX_LABELS: Final = 3

#: MOSN's keys, which faults name.
CERTIFICATE: Final = "cert_chain"
KEY: Final = "private_key"
CA: Final = "ca_cert"
CRL: Final = "crl"

#: OpenSSL's reasons for what it finds too weak.
_WEAK: Final = {
    "EE_KEY_TOO_SMALL": "the key of the certificate is too short: OpenSSL requires RSA of 2048 bits, or ECDSA",
    "CA_KEY_TOO_SMALL": "the key of a CA certificate is too short: OpenSSL requires RSA of 2048 bits, or ECDSA",
    "CA_MD_TOO_WEAK": "the signature of the certificate is too weak: OpenSSL requires SHA-256 or better",
}


class TlsFault(ValueError):
    """A TLS context cannot be built. `key`: MOSN's key that is at fault; `text`: what is wrong with it."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}")
        self.key = key
        self.text = text


class MemoryFile:
    """A file in memory, with a path, for as long as the `with` block runs."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._descriptor = -1

    def __enter__(self) -> str:
        self._descriptor = os.memfd_create("pymosn-tls", os.MFD_CLOEXEC)
        rest = self._content
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *details: object) -> None:
        os.close(self._descriptor)


def load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Loads a certificate with its chain, and its private key. Raises TlsFault."""
    blocks = certificates_of(certificate)
    if not blocks:
        raise TlsFault(CERTIFICATE, _without("certificate", "CERTIFICATE", certificate))
    if _ENCRYPTED.search(key) is not None:
        raise TlsFault(KEY, "is encrypted; a key with a passphrase cannot be used (openssl pkey -in FILE decrypts it)")
    if _KEY.search(key) is None:
        raise TlsFault(KEY, _without("private key", "PRIVATE KEY", key))
    for position, block in enumerate(blocks):
        if not decode(block):
            raise TlsFault(CERTIFICATE, f"certificate {position + 1} of {len(blocks)} is damaged, or has no line ends")
    with MemoryFile(certificate) as certificate_path, MemoryFile(key) as key_path:
        try:
            context.load_cert_chain(certificate_path, key_path, _no_passphrase)
        except ssl.SSLError as error:
            raise _load_fault(error, blocks, key) from None


def _no_passphrase() -> str:
    """Without it OpenSSL would ask on the terminal."""
    return ""


def _load_fault(error: ssl.SSLError, blocks: list[bytes], key: bytes) -> TlsFault:
    reason = reason_of(error)
    if "MISMATCH" in reason or reason == "NO_CERTIFICATE_ASSIGNED":  # the latter: a key of another algorithm
        owner = next((i for i in range(1, len(blocks)) if _is_pair(blocks[i], key)), 0)
        if owner:
            return TlsFault(CERTIFICATE, f"the certificate of {KEY} must be the first, but is {owner + 1} of {len(blocks)}")
        return TlsFault(KEY, f"does not belong to the certificate of {CERTIFICATE}")
    weak = _WEAK.get(reason)
    if weak is not None:
        return TlsFault(CERTIFICATE, weak)
    return TlsFault(KEY, f"is not a valid private key ({_words(error)})")


def _is_pair(certificate: bytes, key: bytes) -> bool:
    with MemoryFile(certificate) as certificate_path, MemoryFile(key) as key_path:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_path, key_path, _no_passphrase)
        except ssl.SSLError:
            return False
    return True


def _without(what: str, label: str, content: bytes) -> str:
    """That `content` does not contain a block of PEM, what it is instead, and how to convert it."""
    text = f"contains no {what} (-----BEGIN {label}-----)"
    if _PKCS12.match(content) is not None:
        return f"{text} but is PKCS#12, not PEM: convert it with openssl pkcs12 -nodes -in FILE"
    if content[:1] == b"0":
        command = {"PRIVATE KEY": "pkey", "X509 CRL": "crl"}.get(label, "x509")
        return f"{text} but may be DER, not PEM: convert it with openssl {command} -inform DER -in FILE"
    begun = dict.fromkeys([name.decode() for name in _BEGIN.findall(content)])
    if label in begun:
        return f"is incomplete: -----END {label}----- is missing"
    others = ", ".join(list(begun)[:MAX_LABELS])
    return f"{text} but: {others}" if others else text


def load_ca(context: ssl.SSLContext, ca: bytes) -> None:
    """Loads trusted certificates. Raises TlsFault."""
    if not certificates_of(ca):
        raise TlsFault(CA, _without("certificate", "CERTIFICATE", ca))
    with MemoryFile(ca) as path:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise TlsFault(CA, f"is not a list of certificates ({_words(error)})") from None
    if context.cert_store_stats()["x509"] == 0:
        raise TlsFault(CA, "contains no valid certificate")


def load_crl(context: ssl.SSLContext, crl: bytes) -> None:
    """Loads revocation lists, and rejects certificates that they list or that no list is for. Raises TlsFault."""
    if certificates_of(crl):  # OpenSSL would trust it
        raise TlsFault(CRL, f"contains a certificate; those that are trusted belong to {CA}")
    with MemoryFile(crl) as path:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise TlsFault(CRL, f"{_without('valid revocation list', 'X509 CRL', crl)} ({_words(error)})") from None
    if context.cert_store_stats()["crl"] == 0:
        raise TlsFault(CRL, _without("revocation list", "X509 CRL", crl))
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def certificates_of(pem: bytes) -> list[bytes]:
    """The certificates in PEM text, each as PEM."""
    return [found.group(0) + b"\n" for found in _CERTIFICATE.finditer(pem)]


def decode(certificate: bytes) -> dict[str, Any]:
    """The first certificate in PEM text, in the form of `SSLSocket.getpeercert`; empty if it is invalid."""
    with MemoryFile(certificate) as path:
        try:
            return dict(_DECODE(path))
        except (ssl.SSLError, ValueError):
            return {}


def names_of(certificate: bytes) -> tuple[str, ...]:
    """The names of the first certificate in PEM text in lower case: common name and DNS names, as MOSN matches them."""
    found = decode(certificate)
    names = [value for entry in found.get("subject", ()) for key, value in entry if key == "commonName"]
    names += [value for key, value in found.get("subjectAltName", ()) if key == "DNS"]
    return tuple(dict.fromkeys([name.lower() for name in names if name]))


def uris_in(certificate: bytes) -> tuple[str, ...]:
    """The URIs among the names of the first certificate in PEM text, such as its SPIFFE id."""
    return tuple([value for key, value in decode(certificate).get("subjectAltName", ()) if key == "URI"])


def _words(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words."""
    return (reason_of(error) or "invalid PEM text").replace("_", " ").lower()


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's reason; empty for one that it has no name for, which compiled code would not accept as a text."""
    found: object = getattr(error, _REASON)
    return found if isinstance(found, str) else ""
