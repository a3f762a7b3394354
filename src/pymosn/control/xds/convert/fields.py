"""Fields of Envoy's messages that may be ignored, each with the reason. All others must be read, or reject their resource.

docs/xds-fields.md is generated from this table and from what the converters read.
"""

from collections.abc import Mapping
from typing import Final


def _in(package: str, fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of the messages of one package, by their full names."""
    return {f"{package}.{name}": why for name, why in fields.items()}


#: Full name of the field -> why ignoring it is harmless.
HARMLESS: Final[Mapping[str, str]] = {
    "envoy.config.cluster.v3.Cluster.alt_stat_name": "names Envoy's statistics",
    **_in(
        "envoy.config.core.v3",
        {
            "ApiConfigSource.rate_limit_settings": "requests are paced by the client's own rules",
            "ApiConfigSource.refresh_delay": "of REST only",
            "ApiConfigSource.request_timeout": "of REST only",
            "DataSource.watched_directory": "changed files are always noticed",
            "GrpcService.GoogleGrpc.stat_prefix": "names Envoy's statistics",
        },
    ),
    **_in(
        "envoy.extensions.transport_sockets.tls.v3",
        {
            "CertificateValidationContext.watched_directory": "changed files are always noticed",
            "CommonTlsContext.key_log": "a debugging aid; `key_log` of a file's context is one",
            "DownstreamTlsContext.disable_stateful_session_resumption": "sessions are resumed by tickets only",
            "DownstreamTlsContext.disable_stateless_session_resumption": "resumption demands the same of clients",
            "DownstreamTlsContext.full_scan_certs_on_sni_mismatch": "the first certificate is used if none has the name",
            "DownstreamTlsContext.prefer_client_ciphers": "the server's order of suites decides; all of them are good",
            "DownstreamTlsContext.session_ticket_keys": "tickets have keys of their own, for all workers",
            "DownstreamTlsContext.session_ticket_keys_sds_secret_config": "tickets have keys of their own, for all workers",
            "DownstreamTlsContext.session_timeout": "sessions can be resumed for an hour",
            "TlsCertificate.ocsp_staple": "responses are not stapled; clients ask the CA themselves",
            "TlsCertificate.signed_certificate_timestamp": "not sent; most certificates contain theirs",
            "TlsCertificate.watched_directory": "changed files are always noticed",
            "UpstreamTlsContext.allow_renegotiation": "TLS connections are never renegotiated",
            "UpstreamTlsContext.enforce_rsa_key_usage": "OpenSSL checks the usage of keys by its own rules",
            "UpstreamTlsContext.max_session_keys": "one session of each host is kept for resumption",
        },
    ),
}
