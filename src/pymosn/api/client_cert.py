"""X-Forwarded-Client-Cert: facts for the next hop about the client's certificate, in Envoy's format.

One element for each hop, separated by commas; its pairs `key=value` are separated by semicolons: `By`, `Hash`, `Subject`,
`URI`, `DNS`. Only verified certificates are forwarded. Text from them is encoded (`core.certificate_text`).
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.tls import ClientCertificate, TlsInfo
from pymosn.core.certificate_text import safe_dn, safe_name, safe_uri

#: Bytes of one element. Pairs beyond that are left out: a name that was cut could be another one's.
MOST: Final[i64] = 4096


def forwarded_element(tls: TlsInfo | None) -> bytes:
    """The element about the certificate of a connection; empty without a verified one."""
    if tls is None:
        return b""
    found = tls.forwarded
    if found is None:
        certificate = tls.certificate
        is_known = certificate is not None and certificate.is_verified
        found = _element(tls, certificate) if certificate is not None and is_known else b""
        tls.forwarded = found
    return found


def _element(tls: TlsInfo, certificate: ClientCertificate) -> bytes:
    pairs = [f"By={safe_uri(uri)}" for uri in tls.own_uris]
    pairs.append(f"Hash={certificate.fingerprint}")
    pairs.append(f'Subject="{safe_dn(certificate.subject)}"')
    pairs += [f"URI={safe_uri(uri)}" for uri in certificate.uris]
    pairs += [f"DNS={safe_name(name)}" for name in certificate.dns_names]
    kept: list[str] = []
    left: i64 = MOST
    for pair in pairs:
        if len(pair) < left:
            kept.append(pair)
            left -= len(pair) + 1
    return ";".join(kept).encode("ascii")
