"""What TLS tells about a connection: facts for routes, filters, variables and logs."""

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
    ) -> None:
        """`is_verified`: a configured CA has signed it. `subject`, `issuer`: as in RFC 4514. `serial`: hexadecimal.

        `fingerprint`: SHA-256 of `der`, in lower-case hexadecimal. `not_after`: seconds since 1970.
        """
        self.is_verified = is_verified
        self.subject = subject
        self.issuer = issuer
        self.serial = serial
        self.fingerprint = fingerprint
        self.dns_names = dns_names
        self.uris = uris
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
        #: Fingerprints of the ClientHello; empty on upstream connections.
        self.ja3: str = ""
        self.ja4: str = ""
        #: Whether the handshake resumed an earlier session.
        self.is_resumed: bool = False
        #: Identifies what the listener demands of client certificates; equal if two contexts demand the same.
        self.client_demand: bytes = b""
        #: The peer's certificate; None if it has sent none.
        self.certificate: ClientCertificate | None = None
