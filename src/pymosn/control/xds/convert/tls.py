"""TLS contexts of listeners and clusters -> `TlsContext`.

Envoy verifies only what is configured: without a CA nothing, and the name of a host only if names are listed. The converted
contexts say the same in our keys, with a warning where a host is not verified. Secrets of a control plane (SDS) stay
references (`sds_source`), which `config/sds.py` resolves.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pymosn.config.schema.tls import SecretSource, SecretSources, TlsContext
from pymosn.control.xds.convert.secrets import Certificate, Validation, read_certificate, read_validation
from pymosn.control.xds.convert.sources import as_json, read_source
from pymosn.control.xds.convert.view import View
from pymosn.network.tls.names import CIPHER_NAMES, GROUPS, UNSUPPORTED

#: Envoy's suites with RSA key exchange, which are not offered; MOSN gives these names to suites of TLS 1.3.
_NOT_OFFERED: Final = frozenset(("AES128-GCM-SHA256", "AES256-GCM-SHA384", "NULL-SHA256"))
_PROVIDERS: Final = "certificate providers are not supported; expected certificates, or SDS"


class _Common:
    """What both kinds of contexts share. `certificates`: without those of SDS."""

    def __init__(self) -> None:
        self.context = TlsContext(status=True)
        self.certificates: list[Certificate] = []
        self.validation: Validation | None = None


def upstream_tls(view: View) -> TlsContext:
    """An `UpstreamTlsContext`, of a cluster."""
    with view:
        common = _common(view.inner("common_tls_context"))
        context = common.context
        context.server_name = view.value("sni")
        if len(common.certificates) > 1:
            view.fault("common_tls_context.tls_certificates", "a cluster has at most one certificate")
        if common.certificates:
            context.cert_chain, context.private_key = common.certificates[0]
        checks_name = view.value("auto_sni_san_validation")
        view.value("auto_host_sni")  # hosts get their own names unless `sni` is set
        _verify_hosts(view, common, checks_name)
    return context


def _verify_hosts(view: View, common: _Common, checks_name: bool) -> None:
    context = common.context
    validation = common.validation or Validation()
    is_from_sds = context.sds_source is not None and context.sds_source.ValidationConfig is not None
    if validation.uses_system_cas:
        pass  # as without `ca_cert`
    elif not validation.ca and not is_from_sds:
        if validation.names or validation.hashes or checks_name:
            view.fault("common_tls_context", "names and fingerprints cannot be verified without trusted_ca")
        context.insecure_skip = True
        view.warn("common_tls_context", "has no trusted_ca: the certificates of hosts are not verified")
        return
    context.verify_server_name = bool(checks_name)
    if not checks_name and not validation.names and not validation.hashes:
        if validation.uses_system_cas:
            view.fault("common_tls_context", "system_root_certs without names accepts certificates of anyone; list names")
        view.warn("common_tls_context", "lists no names: any certificate that the CA has issued is accepted")


def downstream_tls(view: View) -> list[TlsContext]:
    """A `DownstreamTlsContext`, of a filter chain: one context for each certificate, at least one."""
    with view:
        common = _common(view.inner("common_tls_context"))
        context = common.context
        context.alpn_required = False
        requires = bool(view.wrapped("require_client_certificate"))
        if view.wrapped("require_sni"):
            view.fault("require_sni", "not supported; use server_names of the filter chain")
        if view.enum("ocsp_staple_policy") == "MUST_STAPLE":
            view.fault("ocsp_staple_policy", "MUST_STAPLE is not supported: responses are not stapled")
        _verify_clients(view, common, requires)
        if context.sds_source is not None and context.sds_source.CertificateConfig is not None:
            if common.certificates:
                view.fault(
                    "common_tls_context", "tls_certificates and tls_certificate_sds_secret_configs exclude each other"
                )
            return [context]
        if not common.certificates:
            view.fault("common_tls_context.tls_certificates", "missing: a listener with TLS needs a certificate")
            return [context]
        if len(common.certificates) > 1:
            message = "of several with the client's name the first is used, whatever kinds of keys the client supports"
            view.warn("common_tls_context.tls_certificates", message)
    return [msgspec.structs.replace(context, cert_chain=pair.chain, private_key=pair.key) for pair in common.certificates]


def _verify_clients(view: View, common: _Common, requires: bool) -> None:
    context = common.context
    validation = common.validation
    if validation is not None and validation.uses_system_cas:
        view.fault(
            "common_tls_context", "system_root_certs is not supported for clients: a public CA proves no identity here"
        )
    is_from_sds = context.sds_source is not None and context.sds_source.ValidationConfig is not None
    if is_from_sds or (validation is not None and validation.ca):
        context.verify_client = True
        context.require_client_cert = requires
    elif requires or (validation is not None and (validation.names or validation.hashes)):
        view.fault("require_client_certificate", "needs a trusted_ca, by which clients' certificates are verified")


def _common(view: View | None) -> _Common:
    common = _Common()
    if view is None:
        return common
    with view:
        for name in _provider_fields():
            view.refuse(name, _PROVIDERS)
        view.refuse("custom_handshaker", "not supported")
        view.refuse("custom_tls_certificate_selector", "not supported")
        context = common.context
        params = view.inner("tls_params")
        if params is not None:
            _read_params(params, context)
        names = [name for name in view.values("alpn_protocols") if name.lower() not in UNSUPPORTED]
        context.alpn = ",".join(names)
        common.certificates = [read_certificate(item) for item in view.items("tls_certificates")]
        sources = SecretSources()
        secrets = view.items("tls_certificate_sds_secret_configs")
        if len(secrets) > 1:
            view.fault("tls_certificate_sds_secret_configs", "only one secret is supported")
        if secrets:
            sources.CertificateConfig = _secret(secrets[0])
        _read_validation(view, common, sources)
        if sources.CertificateConfig is not None or sources.ValidationConfig is not None:
            context.sds_source = sources
        if common.validation is not None:
            validation = common.validation
            context.ca_cert, context.crl = validation.ca, validation.crl
            context.subject_alt_names, context.certificate_hashes = list(validation.names), list(validation.hashes)
    return common


def _provider_fields() -> tuple[str, ...]:
    suffixes = ("certificate_provider", "certificate_provider_instance")
    return (
        "tls_certificate_provider_instance",
        *(f"tls_certificate_{suffix}" for suffix in suffixes),
        *(f"validation_context_{suffix}" for suffix in suffixes),
    )


def _read_validation(view: View, common: _Common, sources: SecretSources) -> None:
    plain, secret = view.inner("validation_context"), view.inner("validation_context_sds_secret_config")
    both = view.inner("combined_validation_context")
    if plain is not None:
        common.validation = read_validation(plain)
    elif secret is not None:
        sources.ValidationConfig = _secret(secret)
    elif both is not None:
        with both:
            for suffix in ("certificate_provider", "certificate_provider_instance"):
                both.refuse(f"validation_context_{suffix}", _PROVIDERS)
            default, secret = both.inner("default_validation_context"), both.inner("validation_context_sds_secret_config")
            if default is not None:
                common.validation = read_validation(default)
            if secret is None:
                both.fault("validation_context_sds_secret_config", "missing")
            else:
                sources.ValidationConfig = _secret(secret)


def _secret(view: View) -> SecretSource:
    """An SdsSecretConfig. Without a source it is one of the secrets of `static_resources`."""
    with view:
        name = view.value("name")
        if not name:
            view.fault("name", "missing")
        config = view.inner("sds_config")
        if config is None:
            return SecretSource(name=name)
        source = read_source(config)
        return SecretSource(name=name, sdsConfig=as_json(config) if source is not None else None)


def _read_params(view: View, context: TlsContext) -> None:
    with view:
        for name in ("signature_algorithms", "compliance_policies"):
            view.refuse(name, "not supported")
        context.min_version = _version(view.enum("tls_minimum_protocol_version"))
        context.max_version = _version(view.enum("tls_maximum_protocol_version"))
        context.cipher_suites = ":".join(_ciphers(view))
        context.ecdh_curves = ",".join(_curves(view))


def _version(name: str) -> str:
    """An enumeration's value: MOSN has the same names."""
    return "" if name == "TLS_AUTO" else name


def _ciphers(view: View) -> list[str]:
    """The suites that are offered, in order. `[A|B]`, equally preferred ones, become two."""
    names = [name for text in view.values("cipher_suites") for name in text.strip("[]").split("|")]
    known = [name for name in names if name in CIPHER_NAMES and name not in _NOT_OFFERED]
    left_out = [name for name in names if name not in known]
    for name in left_out:
        if name not in _NOT_OFFERED:
            view.fault("cipher_suites", f"unknown cipher suite {name!r}")
    if left_out and not known:
        view.fault("cipher_suites", f"none of {', '.join(left_out)} is supported")
    elif left_out:
        view.warn("cipher_suites", f"{', '.join(left_out)} are not offered: they have no forward secrecy")
    return known


def _curves(view: View) -> list[str]:
    names = view.values("ecdh_curves")
    found = [(name, name.replace("-", "").lower()) for name in names]
    known = [curve for _, curve in found if curve in GROUPS]
    left_out = [name for name, curve in found if curve not in GROUPS]
    if left_out and not known:
        view.fault("ecdh_curves", f"none of {', '.join(left_out)} is supported")
    elif left_out:
        view.warn("ecdh_curves", f"{', '.join(left_out)} are not supported; the others are offered")
    return known
