# ruff: noqa: N815 - attribute names are MOSN's keys
"""TLS contexts of listeners and clusters: planned; a context with `status: true` is rejected."""

from typing import Annotated, Any

from pymosn.core.secrets import Secret
from pymosn.filters.settings import AnyMap, Block, ignored


class SecretSource(Block, kw_only=True):
    """One secret from SDS."""

    name: str = ""
    sdsConfig: Any = None


class SecretSources(Block, kw_only=True):
    """The sources of certificate and trusted CA if they are not in files."""

    CertificateConfig: SecretSource | None = None
    ValidationConfig: SecretSource | None = None


class TlsContext(Block, kw_only=True):
    """`tls_context`: TLS of a listener or a cluster."""

    status: bool = False
    type: str = ""
    server_name: str = ""
    ca_cert: str = ""
    cert_chain: str = ""
    private_key: Secret[str] = ""
    verify_client: bool = False
    require_client_cert: bool = False
    insecure_skip: bool = False
    cipher_suites: str = ""
    ecdh_curves: str = ""
    min_version: str = ""
    max_version: str = ""
    alpn: str = ""
    ticket: Annotated[str, ignored("MOSN does not use it either")] = ""
    fall_back: bool = False
    extend_verify: AnyMap = {}
    callbacks: list[str] = []
    sds_source: SecretSources | None = None
