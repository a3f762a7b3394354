"""What contexts of listeners and of clusters have in common. Every option is set here, so that all Pythons behave alike."""

from __future__ import annotations

import os
import ssl
import stat
import warnings
from typing import Final

from pymosn.network.tls.material import TlsFault, load_certificate
from pymosn.network.tls.names import DEFAULT_CIPHERS, DEFAULT_GROUPS, MIN_VERSION, OLD_CIPHERS, ORDER
from pymosn.network.tls.openssl import openssl
from pymosn.network.tls.settings import TlsSettings

_VERSIONS: Final = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_ON: Final = (
    ssl.OP_NO_COMPRESSION
    | ssl.OP_NO_RENEGOTIATION
    | ssl.OP_CIPHER_SERVER_PREFERENCE
    | ssl.OP_SINGLE_DH_USE
    | ssl.OP_SINGLE_ECDH_USE
)
#: SSL_OP_LEGACY_SERVER_CONNECT, SSL_OP_ENABLE_KTLS and SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION, which not all Pythons
#: name, and a FIN without close_notify as the end.
_OFF: Final = 0x4 | 0x8 | 0x40000 | int(ssl.OP_IGNORE_UNEXPECTED_EOF)


def new_context(settings: TlsSettings, is_server: bool) -> ssl.SSLContext:
    """A context with its versions, suites, groups, protocols, certificate and key. Raises TlsFault."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.options = ssl.Options((int(context.options) | int(_ON)) & ~_OFF)
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    _set_versions(context, settings)
    _set_ciphers(context, settings)
    _set_groups(context, settings)
    if settings.alpn:
        context.set_alpn_protocols(list(settings.alpn))
    if settings.certificate or settings.key:
        load_certificate(context, settings.certificate, settings.key)
    if settings.key_log:
        _log_keys(context, settings.key_log)
    return context


def _log_keys(context: ssl.SSLContext, path: str) -> None:
    """Writes the secrets of sessions to a file, which only its owner can read if it is a new one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        if is_file:
            context.keylog_filename = path
    except OSError as error:
        raise TlsFault("key_log", f"cannot be opened: {error.strerror}") from None
    if not is_file:
        raise TlsFault("key_log", "is not a regular file")


def is_old(version: str) -> bool:
    """Whether a version is deprecated (RFC 8996): before TLS 1.2."""
    return ORDER.index(version) < ORDER.index(MIN_VERSION)


def _set_versions(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if ORDER.index(settings.min_version) > ORDER.index(settings.max_version):
        raise TlsFault("min_version", f"{settings.min_version} is above max_version, {settings.max_version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[settings.min_version]
        context.maximum_version = _VERSIONS[settings.max_version]


def _set_ciphers(context: ssl.SSLContext, settings: TlsSettings) -> None:
    old = is_old(settings.min_version)
    ciphers = settings.ciphers or ":".join((*DEFAULT_CIPHERS, *OLD_CIPHERS) if old else DEFAULT_CIPHERS)
    wanted = ciphers.split(":")
    try:
        # OpenSSL 3 counts the signatures of TLS 1.0 and 1.1, SHA-1 and MD5, among security level 0.
        context.set_ciphers(f"{ciphers}:@SECLEVEL={0 if old else 2}")
    except ssl.SSLError:
        raise TlsFault("cipher_suites", f"this OpenSSL has none of {ciphers}") from None
    known = [str(cipher["name"]) for cipher in context.get_ciphers()]
    missing = [name for name in wanted if name not in known]
    if missing and settings.ciphers:
        raise TlsFault("cipher_suites", f"{missing[0]} is not available in this build of OpenSSL, {ssl.OPENSSL_VERSION}")
    library = openssl()
    if settings.suites and (library is None or not library.set_suites(context, settings.suites)):
        raise TlsFault("cipher_suites", f"the suites of TLS 1.3 cannot be set to {settings.suites} with this Python")


def _set_groups(context: ssl.SSLContext, settings: TlsSettings) -> None:
    library = openssl()
    if library is None and not settings.groups:
        return
    if library is None or not library.set_groups(context, settings.groups or DEFAULT_GROUPS):
        raise TlsFault("ecdh_curves", f"cannot be set to {settings.groups or DEFAULT_GROUPS} with this Python")
