"""Checks TLS contexts of listeners and clusters. Whether certificates and keys are valid is checked where they are read."""

from collections.abc import Callable
from typing import Final, TypeVar

from pymosn.api.alpn import plain_name
from pymosn.config.alpn import AlpnOffer, alpn_offer
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Cluster, ClusterManager, Listener, TlsContext
from pymosn.config.schema.network_filters import UpstreamAlpn
from pymosn.config.schema.tls import SNI_VERIFY, SecretSources, fingerprint
from pymosn.config.sds import SourceError, source_of
from pymosn.config.tls_contexts import PEM_KEYS, cluster_tls, is_bare
from pymosn.core.addresses import UNIX
from pymosn.core.regex import compiled
from pymosn.network.tls.base import is_old
from pymosn.network.tls.names import (
    LONGEST_ALPN,
    MAX_VERSION,
    MIN_VERSION,
    ORDER,
    PROTOCOLS,
    UNSUPPORTED,
    UnknownName,
    alpn_names,
    alpn_of,
    ciphers_of,
    groups_of,
    version_of,
    weak_ciphers,
)

R = TypeVar("R")

#: What is offered by ALPN to hosts whose `upstream_protocol` is configured, if `alpn` does not list it.
_ALPN_OF: Final = {"Http1": "http/1.1", "Http2": "h2"}
#: Values of `type`.
TYPES: Final = ("", SNI_VERIFY)


def check_listener_tls(listener: Listener, path: str, report: Diagnostics) -> None:
    """Check the contexts of all filter chains."""
    for i, chain in enumerate(listener.filter_chains):
        inner = f"{path}.filter_chains[{i}]"
        if chain.tls_context is not None and chain.tls_context_set:
            report.error(f"{inner}.tls_context_set", "tls_context and tls_context_set are mutually exclusive")
        for key, context in chain.keyed_contexts():
            if context.status:
                _check_server(context, f"{inner}.{key}", report)
                _check_served(context, alpn_offer(chain), f"{inner}.{key}", report)


def check_cluster_tls(cluster: Cluster, manager: ClusterManager, path: str, report: Diagnostics) -> None:
    """Check the context of a cluster, and whether the names of its hosts can be verified."""
    own, shared = cluster.tls_context, manager.tls_context
    if own is not None and own.status:
        if cluster.cluster_manager_tls:
            report.warning(
                f"{path}.tls_context", "has no effect: cluster_manager_tls uses that of cluster_manager, as in MOSN"
            )
        _check_client(own, f"{path}.tls_context", report)
    if cluster.cluster_manager_tls and (shared is None or not shared.status):
        report.error(f"{path}.cluster_manager_tls", "cluster_manager has no tls_context with status: true", True)
    for i, match in enumerate(cluster.tls_matches):
        if match.tls_context is not None and match.tls_context.status:
            _check_client(match.tls_context, f"{path}.tls_matches[{i}].tls_context", report)
    context = cluster_tls(cluster, manager)
    if context is None:
        return
    offered = _ALPN_OF.get(cluster.upstream_protocol)
    listed = alpn_of(context.alpn)
    if offered and listed and offered not in listed:
        message = f"has no effect with upstream_protocol {cluster.upstream_protocol}: {offered} is offered to the hosts"
        report.warning(f"{path}.tls_context.alpn", message, context.alpn)
    if context.insecure_skip or context.server_name or not context.verify_server_name or context.subject_alt_names:
        return
    for i, host in enumerate(cluster.hosts):
        if host.address.startswith(UNIX) and not host.hostname and not host.tls_disable:
            message = (
                "a host on a unix socket needs a hostname, or its tls_context a server_name: which name is to be verified?"
            )
            report.error(f"{path}.hosts[{i}].address", message, host.address)


def check_upstream_alpn(offers: UpstreamAlpn, path: str, report: Diagnostics) -> None:
    """Check what a proxy offers to hosts: that the names are valid, and that no host could expect another protocol."""
    for key, names in (("Http1", offers.Http1), ("Http2", offers.Http2)):
        for i, name in enumerate(names):
            place = f"{path}.{key}[{i}]"
            if not name.isascii() or not name.isprintable() or not 0 < len(name) <= LONGEST_ALPN:
                report.error(place, f"expected the name of a protocol, of 1 to {LONGEST_ALPN} ASCII characters", name)
            elif name in UNSUPPORTED:
                report.error(place, "is not supported: nothing is exchanged before the first request", name)
            elif key == "Http1" and plain_name(name) == "h2":
                report.error(place, "a host that selects it expects HTTP/2", name)


def check_manager_tls(manager: ClusterManager, report: Diagnostics) -> None:
    """Check the context that clusters with `cluster_manager_tls` share."""
    if manager.tls_context is not None and manager.tls_context.status:
        _check_client(manager.tls_context, "cluster_manager.tls_context", report)


def _check_server(context: TlsContext, path: str, report: Diagnostics) -> None:
    _check_common(context, path, report)
    has_pair = context.cert_chain or context.private_key or _has_source(context, "CertificateConfig")
    if not has_pair and not context.fall_back:
        report.error(f"{path}.cert_chain", "missing: a listener with TLS needs cert_chain and private_key")
    if context.fall_back:
        _check_fall_back(context, path, report)
    if context.verify_client and not context.ca_cert and not _has_source(context, "ValidationConfig"):
        message = "needs ca_cert, the CA of the clients' certificates; MOSN would accept those of any public CA"
        report.error(f"{path}.verify_client", message)
    elif context.require_client_cert and not context.verify_client:
        message = "without verify_client, certificates are requested but not verified, and not required, as in MOSN"
        report.warning(f"{path}.require_client_cert", message)
    if context.crl and not context.verify_client:
        report.warning(f"{path}.crl", "has no effect without verify_client")
    if context.type == SNI_VERIFY and not context.verify_client:
        report.warning(f"{path}.type", "has no effect without verify_client", context.type)
    for key in ("subject_alt_names", "certificate_hashes"):
        if getattr(context, key) and not context.verify_client:
            report.error(f"{path}.{key}", "needs verify_client: certificates that are not verified prove nothing")
    if not context.verify_server_name:
        report.warning(f"{path}.verify_server_name", "has no effect on a listener; it is for clusters")
    if context.insecure_skip:
        report.warning(f"{path}.insecure_skip", "has no effect on a listener; it is for clusters")


def _check_served(context: TlsContext, offer: AlpnOffer, path: str, report: Diagnostics) -> None:
    """Check that the chain serves what it is to negotiate."""
    for name in alpn_names(context.alpn):
        if name in PROTOCOLS and not offer.serves(name):
            message = f"{name!r} is not negotiated: the proxy of this chain does not speak it"
            report.warning(f"{path}.alpn", message, context.alpn)


def _check_fall_back(context: TlsContext, path: str, report: Diagnostics) -> None:
    demand = "verify_client" if context.verify_client else "require_client_cert" if context.require_client_cert else ""
    if demand:
        report.error(f"{path}.fall_back", f"cannot be combined with {demand}: plain text would have no certificate")
        return
    report.warning(f"{path}.fall_back", "the listener serves plain text if its certificate is missing or unusable")


def _check_client(context: TlsContext, path: str, report: Diagnostics) -> None:
    _check_common(context, path, report)
    if context.insecure_skip:
        report.warning(f"{path}.insecure_skip", "hosts are not verified: anyone on the way can read and change everything")
    if context.fall_back:
        report.warning(f"{path}.fall_back", "hosts whose handshake fails are sent everything in plain text")
    if context.insecure_skip:
        for key in ("subject_alt_names", "certificate_hashes"):
            if getattr(context, key):
                report.error(f"{path}.{key}", "cannot be combined with insecure_skip")
    has_ca = bool(context.ca_cert) or _has_source(context, "ValidationConfig")
    if not (context.verify_server_name or context.insecure_skip or has_ca or context.subject_alt_names):
        message = "needs ca_cert: any public CA issues certificates to anyone, for other names"
        report.error(f"{path}.verify_server_name", message)
    if not context.alpn_required:
        report.warning(f"{path}.alpn_required", "has no effect on a cluster; it is for listeners")
    if context.crl and not has_ca:
        report.error(f"{path}.crl", "needs ca_cert, the CA that has issued the list")


def _check_common(context: TlsContext, path: str, report: Diagnostics) -> None:
    if context.sds_source is not None:
        _check_sds(context, context.sds_source, f"{path}.sds_source", report)
    _check_names(context, path, report)
    if context.type not in TYPES:
        report.warning(f"{path}.type", "unknown; using the default, as MOSN does", context.type, TYPES)
    elif context.type and not context.extend_verify.match_subject_alt_names:
        message = "has no effect without extend_verify.match_subject_alt_names, as in MOSN"
        report.warning(f"{path}.type", message, context.type)
    elif not context.type and context.extend_verify.match_subject_alt_names:
        report.warning(f"{path}.extend_verify", "has no effect without the type sni_verify, as in MOSN")
    for key, other in (("cert_chain", "private_key"), ("private_key", "cert_chain")):
        if getattr(context, key) and not getattr(context, other):
            report.error(f"{path}.{other}", f"missing: {key} needs it")
    for key in PEM_KEYS:
        if is_bare(getattr(context, key)):
            report.error(f"{path}.{key}", "neither a path nor PEM text, which begins with a line -----BEGIN ...-----")
    if context.key_log:
        message = "whoever can read this file can decrypt all connections; only for debugging"
        report.warning(f"{path}.key_log", message, context.key_log)
    _check_versions(context, path, report)
    ciphers = _named(report, f"{path}.cipher_suites", lambda: ciphers_of(context.cipher_suites))
    weak = weak_ciphers(ciphers.ciphers) if ciphers is not None else []
    if weak:
        message = f"{', '.join(weak)}: weak, without forward secrecy or authenticated encryption"
        report.warning(f"{path}.cipher_suites", message)
    _named(report, f"{path}.ecdh_curves", lambda: groups_of(context.ecdh_curves))
    for name in alpn_names(context.alpn):
        if name not in PROTOCOLS:
            report.warning(f"{path}.alpn", f"{name!r} is unknown; not negotiated, as in MOSN", context.alpn, PROTOCOLS)


def _has_source(context: TlsContext, key: str) -> bool:
    """Whether a secret comes from the control plane."""
    return context.sds_source is not None and getattr(context.sds_source, key) is not None


def _check_names(context: TlsContext, path: str, report: Diagnostics) -> None:
    for i, name in enumerate(context.subject_alt_names):
        if len(name.given()) != 1:
            message = "expected exactly one of exact, prefix, suffix, contains and regex"
            report.error(f"{path}.subject_alt_names[{i}]", message)
        elif name.regex:
            report.attempt(f"{path}.subject_alt_names[{i}].regex", compiled, name.regex, value=name.regex)
    for i, text in enumerate(context.certificate_hashes):
        report.attempt(f"{path}.certificate_hashes[{i}]", fingerprint, text, value=text)


def _check_sds(context: TlsContext, sources: SecretSources, path: str, report: Diagnostics) -> None:
    if sources.CertificateConfig is None and sources.ValidationConfig is None:
        report.error(path, "names no secret: expected CertificateConfig, ValidationConfig or both")
    if context.fall_back:
        report.error(path, "cannot be combined with fall_back: plain text would be sent while a secret is missing")
    for key, secret, other in (
        ("CertificateConfig", sources.CertificateConfig, "cert_chain"),
        ("ValidationConfig", sources.ValidationConfig, "ca_cert"),
    ):
        if secret is None:
            continue
        if not secret.name:
            report.error(f"{path}.{key}.name", "missing: the name of the secret")
        try:
            source_of(secret.sdsConfig, in_file=True)
        except SourceError as error:
            report.error(f"{path}.{key}.sdsConfig", str(error))
        if getattr(context, other):
            report.warning(f"{path.rpartition('.')[0]}.{other}", f"has no effect: {key} of sds_source has it")


def _check_versions(context: TlsContext, path: str, report: Diagnostics) -> None:
    least = _named(report, f"{path}.min_version", lambda: version_of(context.min_version, MIN_VERSION))
    most = _named(report, f"{path}.max_version", lambda: version_of(context.max_version, MAX_VERSION))
    if least is None or most is None:
        return
    if ORDER.index(least) > ORDER.index(most):
        report.error(f"{path}.max_version", f"must not be below min_version, {least}", context.max_version)
    elif is_old(least):
        report.warning(f"{path}.min_version", "TLS 1.0 and 1.1 are insecure (RFC 8996)", context.min_version)


def _named(report: Diagnostics, path: str, read: Callable[[], R]) -> R | None:
    try:
        return read()
    except UnknownName as error:
        report.error(path, str(error), error.name, error.known)
        return None
