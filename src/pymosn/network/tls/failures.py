"""What the errors of OpenSSL mean: rows of the table of failures, and short texts for logs.

The texts are made of OpenSSL's own words only, never of what a certificate contains.
"""

from __future__ import annotations

import ssl
from typing import Final

from pymosn.core.failure import (
    CLIENT_CERTIFICATE_EXPIRED,
    CLIENT_CERTIFICATE_INVALID,
    CLIENT_CERTIFICATE_REVOKED,
    CLIENT_CERTIFICATE_UNKNOWN_CA,
    NO_CLIENT_CERTIFICATE,
    NO_COMMON_ALPN,
    NO_COMMON_CIPHER,
    NO_COMMON_TLS_VERSION,
    NOT_TLS,
    TLS_ALERT,
    TLS_HANDSHAKE_FAILED,
    UPSTREAM_BAD_CERTIFICATE,
    UPSTREAM_CERTIFICATE_EXPIRED,
    UPSTREAM_CERTIFICATE_NOT_YET_VALID,
    UPSTREAM_CERTIFICATE_REVOKED,
    UPSTREAM_NAME_MISMATCH,
    UPSTREAM_NOT_TLS,
    UPSTREAM_SELF_SIGNED,
    UPSTREAM_TLS_ALERT,
    UPSTREAM_TLS_FAILED,
    UPSTREAM_TLS_VERSION,
    UPSTREAM_UNKNOWN_CA,
    Failure,
)
from pymosn.network.tls.alerts import alert_without_name
from pymosn.network.tls.material import reason_of

# X509_V_ERR_*: the numbers that OpenSSL's verification ends with.
_UNKNOWN_CA: Final = frozenset((2, 19, 20, 21, 27))
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_SELF_SIGNED: Final = 18
_REVOKED: Final = 23
_NAMES: Final = frozenset((62, 63, 64))

_ALERT: Final = "_ALERT_"

_CLIENT_REASONS: Final[dict[str, Failure]] = {
    "HTTP_REQUEST": NOT_TLS,
    "HTTPS_PROXY_REQUEST": NOT_TLS,
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "UNSUPPORTED_PROTOCOL": NO_COMMON_TLS_VERSION,
    "UNKNOWN_PROTOCOL": NO_COMMON_TLS_VERSION,
    "VERSION_TOO_LOW": NO_COMMON_TLS_VERSION,
    "INAPPROPRIATE_FALLBACK": NO_COMMON_TLS_VERSION,
    "NO_SHARED_CIPHER": NO_COMMON_CIPHER,
    "NO_SUITABLE_KEY_SHARE": NO_COMMON_CIPHER,
    "NO_SUITABLE_GROUPS": NO_COMMON_CIPHER,
    "NO_SHARED_GROUPS": NO_COMMON_CIPHER,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": NO_COMMON_CIPHER,
    "NO_SHARED_SIGNATURE_ALGORITHMS": NO_COMMON_CIPHER,
    "NO_APPLICATION_PROTOCOL": NO_COMMON_ALPN,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": NO_CLIENT_CERTIFICATE,
    "NO_CERTIFICATE_RETURNED": NO_CLIENT_CERTIFICATE,
}

_UPSTREAM_REASONS: Final[dict[str, Failure]] = {
    "HTTP_REQUEST": UPSTREAM_NOT_TLS,
    "WRONG_VERSION_NUMBER": UPSTREAM_NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": UPSTREAM_NOT_TLS,
    "UNSUPPORTED_PROTOCOL": UPSTREAM_TLS_VERSION,
    "UNKNOWN_PROTOCOL": UPSTREAM_TLS_VERSION,
    "WRONG_SSL_VERSION": UPSTREAM_TLS_VERSION,
    "VERSION_TOO_LOW": UPSTREAM_TLS_VERSION,
}


def client_failure(error: ssl.SSLError, data: bytes) -> tuple[Failure, str]:
    """Why a handshake with a client has failed: a row of the table, and details for the log. `data`: what was read last."""
    code = _verify_code(error)
    if code > 0:
        return _client_certificate(code), _verify_text(error)
    reason = reason_of(error)
    alert = alert_name(reason) if is_alert(error) else "" if reason else alert_without_name(data)
    if alert:
        return TLS_ALERT, f"alert from the client: {alert}"
    return _CLIENT_REASONS.get(reason, TLS_HANDSHAKE_FAILED), readable(error)


def _client_certificate(code: int) -> Failure:
    if code in _UNKNOWN_CA or code == _SELF_SIGNED:
        return CLIENT_CERTIFICATE_UNKNOWN_CA
    if code == _EXPIRED:
        return CLIENT_CERTIFICATE_EXPIRED
    return CLIENT_CERTIFICATE_REVOKED if code == _REVOKED else CLIENT_CERTIFICATE_INVALID


def upstream_failure(error: ssl.SSLError, data: bytes) -> tuple[Failure, str]:
    """Why a handshake with a host has failed: a row of the table, and details for the log. `data`: what was read last."""
    code = _verify_code(error)
    if code > 0:
        return _host_certificate(code), _verify_text(error)
    reason = reason_of(error)
    if reason == "TLSV1_ALERT_PROTOCOL_VERSION":
        return UPSTREAM_TLS_VERSION, "alert from the host: protocol version"
    alert = alert_name(reason) if is_alert(error) else "" if reason else alert_without_name(data)
    if alert:
        return UPSTREAM_TLS_ALERT, f"alert from the host: {alert}"
    return _UPSTREAM_REASONS.get(reason, UPSTREAM_TLS_FAILED), readable(error)


def _host_certificate(code: int) -> Failure:
    if code in _UNKNOWN_CA:
        return UPSTREAM_UNKNOWN_CA
    if code in _NAMES:
        return UPSTREAM_NAME_MISMATCH
    return _HOST_CODES.get(code, UPSTREAM_BAD_CERTIFICATE)


_HOST_CODES: Final[dict[int, Failure]] = {
    _NOT_YET_VALID: UPSTREAM_CERTIFICATE_NOT_YET_VALID,
    _EXPIRED: UPSTREAM_CERTIFICATE_EXPIRED,
    _SELF_SIGNED: UPSTREAM_SELF_SIGNED,
    _REVOKED: UPSTREAM_CERTIFICATE_REVOKED,
}


def _verify_code(error: ssl.SSLError) -> int:
    """OpenSSL's number for what is wrong with a certificate; 0 if the error is of another kind."""
    return int(error.verify_code) if isinstance(error, ssl.SSLCertVerificationError) else 0


def _verify_text(error: ssl.SSLError) -> str:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return ""
    # For a wrong name it quotes the name that was asked for.
    text = str(error.verify_message)
    return "the certificate is for other names" if _verify_code(error) in _NAMES else text


def is_alert(error: ssl.SSLError) -> bool:
    """Whether the peer has sent an alert."""
    return _ALERT in (reason_of(error))


def alert_name(reason: str) -> str:
    """The name of a received alert: `unknown ca` for `TLSV1_ALERT_UNKNOWN_CA`."""
    return reason.partition(_ALERT)[2].replace("_", " ").lower()


def readable(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words: `no shared cipher`; for errors without one, the name of their class."""
    reason = reason_of(error)
    return reason.replace("_", " ").lower() if reason else type(error).__name__
