# ruff: noqa: N815 - attribute names are MOSN's keys
"""TLS contexts of listeners and clusters (key reference section 9)."""

from typing import Annotated, Any, Final, Literal

import msgspec

from pymosn.core.secrets import Secret
from pymosn.filters.settings import Block, ignored, own, works
from pymosn.network.tls.sans import CONTAINS, EXACT, PREFIX, REGEX, SUFFIX, NamePattern

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


class NameMatch(Block, kw_only=True):
    """One entry of `subject_alt_names`; exactly one of `exact`, `prefix`, `suffix`, `contains` and `regex` is given."""

    type: Annotated[Literal["", "uri", "dns", "ip", "email"], own("kind of name; empty: any")] = ""
    exact: Annotated[str, own("a DNS name also matches the wildcards of the certificate")] = ""
    prefix: str = ""
    suffix: str = ""
    contains: str = ""
    regex: Annotated[str, own("RE2; matches the whole name")] = ""
    ignore_case: bool = False

    def pattern(self) -> NamePattern:
        """As the data path compares it."""
        how, value = next(iter(self.given()), (EXACT, ""))
        return NamePattern(self.type, how, value, self.ignore_case)

    def given(self) -> list[tuple[str, str]]:
        """The patterns that are given, each with how it is compared."""
        found = [(how, str(getattr(self, how))) for how in (EXACT, PREFIX, SUFFIX, CONTAINS, REGEX)]
        return [(how, value) for how, value in found if value]


def fingerprint(text: str) -> str:
    """A SHA-256 in hexadecimal as `PeerRules` compares it: in lower case, without colons. Raises ValueError."""
    found = text.replace(":", "").lower()
    if len(found) != 64 or not set(found) <= set("0123456789abcdef"):
        raise ValueError("not a SHA-256: expected 64 hexadecimal digits, with or without colons")
    return found


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
    subject_alt_names: Annotated[
        list[NameMatch],
        own("the peer's certificate must have a name that one of them matches; of a cluster, instead of the host's name"),
    ] = []
    certificate_hashes: Annotated[
        list[str], own("SHA-256 of certificates in hexadecimal; the peer's must be one of them, and valid")
    ] = []
    verify_server_name: Annotated[
        bool, own("of a cluster: the certificate must have the host's name; false: any that `ca_cert` has issued")
    ] = True
    alpn_required: Annotated[
        bool, own("of a listener: refuse clients that offer only other protocols than `alpn`; false: serve them without")
    ] = True
    key_log: Annotated[
        str, own("path of a file for the secrets of each session (Wireshark's key log); only for debugging")
    ] = ""
    sds_source: Annotated[
        SecretSources | None,
        works("the control plane's secrets; until they are received, clients and hosts are refused, see docs/tls.md"),
    ] = None
