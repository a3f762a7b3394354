"""X-Forwarded-Client-Cert: facts for the next hop about the client's certificate, in Envoy's format.

One element for each hop, separated by commas; its pairs `key=value` are separated by semicolons: `By`, `Hash`, `Cert`,
`Subject`, `URI`, `DNS`. Only verified certificates are forwarded. Text from them is encoded (`core.certificate_text`).
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import Final
from urllib.parse import quote

from mypy_extensions import i64

from pymosn.api.tls import ClientCertificate, TlsInfo
from pymosn.core.certificate_text import safe_dn, safe_name, safe_uri
from pymosn.core.forwarding import CERT_HAS_DNS, CERT_HAS_PEM, CERT_HAS_SUBJECT, CERT_HAS_URI

#: Bytes of one element. Pairs beyond that are left out: a name that was cut could be another one's.
MOST: Final[i64] = 4096


def forwarded_element(tls: TlsInfo | None, wanted: i64) -> bytes:
    """The element about the certificate of a connection; empty without a verified one.

    `wanted`: its pairs besides `By` and `Hash`, a sum of CERT_HAS_*; the same for all requests of the connection.
    """
    if tls is None:
        return b""
    found = tls.forwarded
    if found is None:
        certificate = tls.certificate
        is_known = certificate is not None and certificate.is_verified
        found = _element(tls, certificate, wanted) if certificate is not None and is_known else b""
        tls.forwarded = found
    return found


def _pem(der: bytes) -> str:
    """A certificate as PEM text (RFC 7468)."""
    text = b2a_base64(der, newline=False).decode("ascii")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def _element(tls: TlsInfo, certificate: ClientCertificate, wanted: i64) -> bytes:
    pairs = [f"By={safe_uri(uri)}" for uri in tls.own_uris]
    pairs.append(f"Hash={certificate.fingerprint}")
    if wanted & CERT_HAS_PEM:
        pairs.append(f'Cert="{quote(_pem(certificate.der), safe="")}"')
    if wanted & CERT_HAS_SUBJECT:
        pairs.append(f'Subject="{safe_dn(certificate.subject)}"')
    if wanted & CERT_HAS_URI:
        pairs += [f"URI={safe_uri(uri)}" for uri in certificate.uris]
    if wanted & CERT_HAS_DNS:
        pairs += [f"DNS={safe_name(name)}" for name in certificate.dns_names]
    kept: list[str] = []
    left: i64 = MOST
    for pair in pairs:
        if len(pair) < left:
            kept.append(pair)
            left -= len(pair) + 1
    return ";".join(kept).encode("ascii")
