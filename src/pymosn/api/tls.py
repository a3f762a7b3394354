"""What is known of the TLS of a connection: facts for routes, filters, variables and logs."""

from __future__ import annotations

from mypy_extensions import mypyc_attr


class ClientCertificate:
    """The certificate that a peer has presented. Immutable.

    Text from certificates is the peer's choice unless `is_verified`; whatever writes it to a header or a log escapes it.
    """

    def __init__(
        self,
        *,
        is_verified: bool,
        subject: str,
        issuer: str,
        serial: str,
        fingerprint: str,
        dns_names: tuple[str, ...],
        uris: tuple[str, ...],
        not_after: float,
        der: bytes,
        ips: tuple[str, ...] = (),
        emails: tuple[str, ...] = (),
    ) -> None:
        """`is_verified`: a configured CA has signed it. `subject`, `issuer`: as in RFC 4514. `serial`: hexadecimal.

        `fingerprint`: SHA-256 of `der`, in lower-case hexadecimal. `not_after`: seconds since 1970. `dns_names`, `uris`,
        `ips`, `emails`: its subject alternative names.
        """
        self.is_verified = is_verified
        self.subject = subject
        self.issuer = issuer
        self.serial = serial
        self.fingerprint = fingerprint
        self.dns_names = dns_names
        self.uris = uris
        self.ips = ips
        self.emails = emails
        self.not_after = not_after
        self.der = der

    @property
    def spiffe_id(self) -> str:
        """The SPIFFE id: the first URI that begins with `spiffe://`; empty if there is none."""
        for uri in self.uris:
            if uri.startswith("spiffe://"):
                return uri
        return ""


@mypyc_attr(allow_interpreted_subclasses=True)
class Fingerprints:
    """Computes the fingerprints of a ClientHello."""

    def ja3(self) -> str:
        """The JA3 fingerprint: an MD5 in hexadecimal."""
        raise NotImplementedError

    def ja4(self) -> str:
        """The JA4 fingerprint, such as `t13d1516h2_8daaf6152771_e5627efa2ab1`."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class TlsInfo:
    """TLS of one connection after its handshake; of one that is forwarded encrypted: the facts of the ClientHello."""

    def __init__(self) -> None:
        #: `TLSv1.3`; empty if the connection is not decrypted here.
        self.version: str = ""
        #: OpenSSL's name of the cipher suite.
        self.cipher: str = ""
        #: The server name that the client has sent (SNI), in lower case; empty without one.
        self.server_name: str = ""
        #: The protocols that the client offered by ALPN.
        self.offered_protocols: tuple[str, ...] = ()
        #: Computes `ja3` and `ja4` when they are asked for; None on upstream connections.
        self.fingerprints: Fingerprints | None = None
        #: Whether the handshake resumed an earlier session.
        self.is_resumed: bool = False
        #: Identifies what the listener demands of client certificates; equal if two contexts demand the same.
        self.client_demand: bytes = b""
        #: The peer's certificate; None if it has sent none, or, of a host, if only its issuer was to be verified.
        self.certificate: ClientCertificate | None = None
        #: URIs in the certificate that was presented to the peer.
        self.own_uris: tuple[str, ...] = ()
        #: The header lines about a verified certificate, made for the connection's first request; see `api.client_cert`.
        self.forwarded: bytes | None = None

    @property
    def ja3(self) -> str:
        """The JA3 fingerprint of the ClientHello; empty on upstream connections."""
        return "" if self.fingerprints is None else self.fingerprints.ja3()

    @property
    def ja4(self) -> str:
        """The JA4 fingerprint of the ClientHello; empty on upstream connections."""
        return "" if self.fingerprints is None else self.fingerprints.ja4()
