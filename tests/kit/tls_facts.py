"""Facts of TLS connections and client certificates, for tests without handshakes."""

from __future__ import annotations

from collections.abc import Sequence

from pymosn.api.tls import ClientCertificate, Fingerprints, TlsInfo

FINGERPRINT = "ab" * 32
#: 2030-01-02T03:04:05Z
NOT_AFTER = 1893553445.0


class Known(Fingerprints):
    """The fingerprints of a ClientHello that was not sent."""

    def ja3(self) -> str:
        return "3a" * 16

    def ja4(self) -> str:
        return "t13d1516h2_8daaf6152771_b0da82dd1658"


def certificate(
    subject: str = "CN=client,O=Example",
    *,
    uris: Sequence[str] = (),
    dns_names: Sequence[str] = (),
    is_verified: bool = True,
    issuer: str = "CN=ca",
    fingerprint: str = FINGERPRINT,
) -> ClientCertificate:
    """A client's certificate."""
    return ClientCertificate(
        is_verified=is_verified,
        subject=subject,
        issuer=issuer,
        serial="1f",
        fingerprint=fingerprint,
        dns_names=tuple(dns_names),
        uris=tuple(uris),
        not_after=NOT_AFTER,
        der=b"",
    )


def tls_info(
    found: ClientCertificate | None = None, *, own_uris: Sequence[str] = (), server_name: str = "a.example"
) -> TlsInfo:
    """The facts of a handshake."""
    tls = TlsInfo()
    tls.version = "TLSv1.3"
    tls.cipher = "TLS_AES_128_GCM_SHA256"
    tls.server_name = server_name
    tls.offered_protocols = ("h2", "http/1.1")
    tls.fingerprints = Known()
    tls.certificate = found
    tls.own_uris = tuple(own_uris)
    return tls
