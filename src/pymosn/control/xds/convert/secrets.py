"""Secrets (SDS) -> PEM texts, and what a certificate of a peer must be. `config/sds.py` fills them into TLS contexts."""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from pymosn.config.schema.tls import NameMatch, fingerprint
from pymosn.config.tls_contexts import PEM_MARK
from pymosn.control.xds.convert.view import View
from pymosn.core.regex import PatternError, compiled

_ONLY_RSA = "pkcs12 is not supported; expected certificate_chain and private_key in PEM"


class Certificate(NamedTuple):
    """A certificate with its chain, and its key: each a path or PEM text."""

    chain: str
    key: str


class Validation(NamedTuple):
    """What the certificate of a peer must be. `ca`, `crl`: a path or PEM text, empty for none.

    `names`, `hashes`: as `subject_alt_names` and `certificate_hashes` of a TLS context. `uses_system_cas`: instead of `ca`.
    """

    ca: str = ""
    crl: str = ""
    names: tuple[NameMatch, ...] = ()
    hashes: tuple[str, ...] = ()
    uses_system_cas: bool = False


class ConvertedSecret(NamedTuple):
    """One secret; of an unsupported kind with neither of the two."""

    name: str
    certificate: Certificate | None = None
    validation: Validation | None = None


def convert_secret(view: View) -> ConvertedSecret:
    """A `Secret`."""
    with view:
        name = view.value("name")
        kind = view.which("type")
        if kind == "tls_certificate":
            return ConvertedSecret(name, certificate=read_certificate(_inner(view, kind)))
        if kind == "validation_context":
            return ConvertedSecret(name, validation=read_validation(_inner(view, kind)))
        if kind:
            view.refuse(kind, "not supported; expected tls_certificate or validation_context")
        else:
            view.fault("", "expected tls_certificate or validation_context")
        return ConvertedSecret(name)


def read_certificate(view: View) -> Certificate:
    """A `TlsCertificate`."""
    with view:
        view.refuse("pkcs12", _ONLY_RSA)
        view.refuse("password", "not supported; the key must not be encrypted")
        view.refuse("private_key_provider", "not supported; expected private_key")
        chain = read_pem(view, "certificate_chain")
        key = read_pem(view, "private_key")
        if not view.has("pkcs12"):
            for name, text in (("certificate_chain", chain), ("private_key", key)):
                if not text and not view.has(name):
                    view.fault(name, "missing")
        return Certificate(chain, key)


def read_validation(view: View) -> Validation:
    """A `CertificateValidationContext`."""
    with view:
        _refuse_loose(view)
        view.value("only_verify_leaf_cert_crl")  # the lists of all CAs of the chain are required, which is stricter
        uses_system = view.has("system_root_certs")
        if uses_system:
            view.value("system_root_certs")
        ca = read_pem(view, "trusted_ca")
        names = [_name(item, "") for item in view.items("match_subject_alt_names")]
        names += [_typed_name(item) for item in view.items("match_typed_subject_alt_names")]
        hashes: list[str] = []
        for text in view.values("verify_certificate_hash"):
            try:
                hashes.append(fingerprint(text))
            except ValueError as error:
                view.fault("verify_certificate_hash", str(error))
        crl = read_pem(view, "crl")
        spiffe = _spiffe(view)
        if spiffe is not None:
            if ca:
                view.fault("custom_validator_config", "cannot be combined with trusted_ca")
            ca = spiffe.ca
            names = _within(view, spiffe.names, names)
        return Validation(ca, crl, tuple(name for name in names if name is not None), tuple(hashes), uses_system)


def _refuse_loose(view: View) -> None:
    """Rejects what would verify more, or less, than the data path does."""
    view.refuse("verify_certificate_spki", "not supported; verify_certificate_hash is")
    view.refuse("ca_certificate_provider_instance", "not supported; expected trusted_ca")
    view.refuse("require_signed_certificate_timestamp", "not supported")
    view.refuse("max_verify_depth", "not supported")
    view.refuse("allow_expired_certificate", "not supported: expired certificates are never accepted")
    if view.enum("trust_chain_verification") != "VERIFY_TRUST_CHAIN":
        view.fault("trust_chain_verification", "ACCEPT_UNTRUSTED is not supported")


def _within(view: View, domain: tuple[NameMatch, ...], names: list[NameMatch | None]) -> list[NameMatch | None]:
    """The names of a trust domain: those given, which must be of the domain, or without any, all of the domain."""
    prefix = domain[0].prefix if domain else ""
    for name in names:
        if name is not None and not (name.exact or name.prefix).startswith(prefix):
            view.fault("match_typed_subject_alt_names", f"expected exact names or prefixes in the trust domain, {prefix}")
    return names or list(domain)


def _spiffe(view: View) -> Validation | None:
    """Envoy's validator of SPIFFE ids. Of several trust domains, each has a CA of its own, which one context cannot have."""
    inner = view.inner("custom_validator_config")
    if inner is None:
        return None
    with inner:
        inner.value("name")
        config = inner.typed("typed_config")
        if config is None:
            return None
        with config:
            if not config.type_name.endswith(".SPIFFECertValidatorConfig"):
                config.fault("", f"{config.type_name} is not supported; expected a SPIFFECertValidatorConfig")
                return None
            config.refuse("trust_bundles", "not supported; expected trust_domains")
            domains = config.items("trust_domains")
            if len(domains) != 1:
                config.fault("trust_domains", f"expected exactly one trust domain, got {len(domains)}")
                return None
            with domains[0] as domain:
                name = domain.value("name")
                ca = read_pem(domain, "trust_bundle")
            return Validation(ca, names=(NameMatch(type="uri", prefix=f"spiffe://{name}/"),))


def _typed_name(view: View) -> NameMatch | None:
    with view:
        kind = view.enum("san_type")
        known = {"DNS": "dns", "URI": "uri", "IP_ADDRESS": "ip", "EMAIL": "email"}
        view.refuse("oid", "names of other kinds are not supported")
        inner = view.inner("matcher")
        if kind not in known or inner is None:
            view.fault(
                "san_type" if inner is not None else "matcher", f"{kind} is not supported; expected {', '.join(known)}"
            )
            return None
        return _name(inner, known[kind])


def _name(view: View, kind: str) -> NameMatch | None:
    """A StringMatcher for names of a kind, empty for any."""
    with view:
        how = view.which("match_pattern")
        ignores_case = view.value("ignore_case")
        if how == "safe_regex":
            inner = _inner(view, how)
            with inner:
                pattern = inner.value("regex")
                try:
                    compiled(pattern)
                except PatternError as error:
                    inner.fault("regex", str(error))
            return _match(kind, "regex", pattern, ignores_case)
        if how not in ("exact", "prefix", "suffix", "contains"):
            view.fault(how, "not supported; expected exact, prefix, suffix, contains or safe_regex")
            return None
        value = view.value(how)
        if not value:
            view.fault(how, "must not be empty")
        return _match(kind, how, value, ignores_case)


def _match(kind: str, how: str, value: str, ignores_case: bool) -> NameMatch:
    return msgspec.convert({"type": kind, how: value, "ignore_case": ignores_case}, NameMatch)


def read_pem(view: View, name: str) -> str:
    """A DataSource as a path or PEM text; empty if it is not set, or invalid."""
    source = view.inner(name)
    if source is None:
        return ""
    with source:
        kind = source.which("specifier")
        if kind == "filename":
            return str(source.value(kind))
        if kind == "environment_variable":
            variable = source.value(kind)
            text = os.environ.get(variable, "")
            if PEM_MARK not in text:
                source.fault(kind, f"the environment variable {variable} has no PEM text")
            return text
        if kind not in ("inline_bytes", "inline_string"):
            source.fault("", "expected filename, inline_bytes, inline_string or environment_variable")
            return ""
        value = source.value(kind)
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        if PEM_MARK not in text:
            source.fault(kind, "not PEM text")
        return text


def _inner(view: View, name: str) -> View:
    inner = view.inner(name)
    assert inner is not None  # it is the field of the oneof that is set
    return inner
