# ruff: noqa: N815 - attribute names are MOSN's keys
"""TLS contexts of listeners and clusters (key reference section 9)."""

from typing import Annotated, Any, Final

import msgspec

from pymosn.core.secrets import Secret
from pymosn.filters.settings import Block, ignored, own, planned_checked, works

#: The `type` whose `extend_verify` has an effect; MOSN uses the default for unknown ones.
SNI_VERIFY: Final = "sni_verify"


class SecretSource(Block, kw_only=True):
    """One secret from SDS."""

    name: str = ""
    sdsConfig: Any = None


class SecretSources(Block, kw_only=True):
    """The sources of certificate and trusted CA if they are not in files."""

    CertificateConfig: SecretSource | None = None
    ValidationConfig: SecretSource | None = None


class SniVerify(Block, kw_only=True):
    """`extend_verify` of the type `sni_verify`."""

    match_subject_alt_names: Annotated[
        str | list[str], works("URIs, such as SPIFFE ids; the peer's certificate must have one")
    ] = ""


class TlsContext(Block, kw_only=True):
    """`tls_context`: TLS of a listener or a cluster."""

    status: Annotated[bool, works("false: no TLS")] = False
    type: Annotated[str, works("empty or sni_verify")] = ""
    server_name: Annotated[
        str, works("of a cluster: the name that is sent and verified, default the host's name; of a listener: one more name")
    ] = ""
    ca_cert: Annotated[str, works("path or PEM text; of a cluster, default: the system's CAs")] = ""
    cert_chain: Annotated[str, works("path or PEM text")] = ""
    private_key: Annotated[Secret[str], works("path or PEM text")] = ""
    verify_client: Annotated[bool, works("certificates of clients must be valid; required with `require_client_cert`")] = (
        False
    )
    require_client_cert: Annotated[bool, works("alone: requested, not verified, as in MOSN")] = False
    insecure_skip: Annotated[bool, works("hosts are not verified; a warning at the start")] = False
    crl: Annotated[str, own("path or PEM text of certificate revocation lists for `ca_cert`")] = ""
    cipher_suites: Annotated[str, works("MOSN's and OpenSSL's names; default: ECDHE with AES-GCM or ChaCha20")] = ""
    ecdh_curves: Annotated[str, works("x25519, p256, p384, p521")] = ""
    min_version: Annotated[str, works("default TLSv1_2; MOSN's is TLSv1_0")] = ""
    max_version: Annotated[str, works("default TLSv1_3")] = ""
    alpn: Annotated[
        str,
        works(
            "h2, http/1.1 and sofa, of which a listener negotiates what its proxy speaks; others get a warning, as MOSN "
            "ignores them. A listener that speaks Http2 has a default: docs/tls.md"
        ),
    ] = ""
    ticket: Annotated[str, ignored("MOSN does not use it either")] = ""
    fall_back: Annotated[
        bool, works("plain text if the certificate is unusable (listener) or the handshake fails (cluster)")
    ] = False
    extend_verify: Annotated[SniVerify, works("the argument of `type`")] = msgspec.field(default_factory=SniVerify)
    callbacks: Annotated[list[str], ignored("names of functions compiled into MOSN")] = []
    key_log: Annotated[
        str, own("path of a file for the secrets of each session (Wireshark's key log); only for debugging")
    ] = ""
    sds_source: Annotated[SecretSources | None, planned_checked("rejected until SDS is implemented")] = None
