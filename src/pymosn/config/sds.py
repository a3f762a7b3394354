"""Secrets of SDS in TLS contexts: which ones a context needs, and how they are filled in.

A context without one of its secrets must not be used: it would accept or make connections that are not as secure as
configured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from pymosn.config.schema.tls import NameMatch, SecretSource, TlsContext

#: The source of what comes over ADS.
ADS: Final = "ads"
#: The beginning of a source that is a file with resources; its path follows.
FILE: Final = "file:"
#: Where MOSN looks for the secrets of an `envoy_grpc` service, whatever its cluster.
_ISTIO_SOCKET: Final = "unix:./etc/istio/proxy/SDS"


class SecretKey(NamedTuple):
    """One secret. `source`: `ads`, `unix:<path>`, an address, `cluster:<name>`, or `file:<path>`."""

    source: str
    name: str


class SecretTexts(NamedTuple):
    """The texts of a secret, each PEM or a path: a certificate with its key, or CAs with revocation lists.

    `names`, `hashes`: as `subject_alt_names` and `certificate_hashes` of a context, which the CAs are for.
    """

    cert_chain: str = ""
    private_key: str = ""
    ca_cert: str = ""
    crl: str = ""
    names: tuple[NameMatch, ...] = ()
    hashes: tuple[str, ...] = ()


Secrets = Mapping[SecretKey, SecretTexts]


class SourceError(ValueError):
    """An `sdsConfig` names no source that can be used."""


def source_of(config: Any, *, in_file: bool = False) -> str:
    """The source in an `sdsConfig`, which is Envoy's ConfigSource as JSON. SourceError.

    `in_file`: of a static `tls_context`, in which MOSN takes an `envoy_grpc` service for Istio's socket.
    """
    config = _folded(config)
    if not isinstance(config, dict):
        raise SourceError("expected an object: ads, apiConfigSource or pathConfigSource")
    if "ads" in config or "self" in config:
        return ADS
    of_file = config.get("pathconfigsource")
    path = of_file.get("path") if isinstance(of_file, dict) else config.get("path")
    if isinstance(path, str) and path:
        return f"{FILE}{path}"
    api = config.get("apiconfigsource")
    services = api.get("grpcservices") if isinstance(api, dict) else None
    if not isinstance(services, list) or len(services) != 1 or not isinstance(services[0], dict):
        raise SourceError("needs ads, pathConfigSource, or apiConfigSource with exactly one of grpcServices")
    google, envoy = services[0].get("googlegrpc"), services[0].get("envoygrpc")
    if isinstance(google, dict) and isinstance(google.get("targeturi"), str) and google["targeturi"]:
        target: str = google["targeturi"]
        return f"unix:{target}" if target.startswith(("/", "./")) else target
    if isinstance(envoy, dict) and isinstance(envoy.get("clustername"), str) and envoy["clustername"]:
        return _ISTIO_SOCKET if in_file else f"cluster:{envoy['clustername']}"
    raise SourceError("needs googleGrpc with targetUri, or envoyGrpc with clusterName")


def keys_of(context: TlsContext | None, *, in_file: bool = False) -> Iterator[SecretKey]:
    """The secrets that a context needs. SourceError."""
    sources = None if context is None or not context.status else context.sds_source
    if sources is None:
        return
    for secret in (sources.CertificateConfig, sources.ValidationConfig):
        if secret is not None:
            yield _key(secret, in_file)


def filled(context: TlsContext, secrets: Secrets, *, in_file: bool = False) -> TlsContext:
    """A context with its secrets; without them, if one is missing: then no connection is made or accepted. SourceError."""
    sources = context.sds_source
    if sources is None or not context.status:
        return context
    changes: dict[str, Any] = {"sds_source": None}
    if sources.CertificateConfig is not None:
        pair = secrets.get(_key(sources.CertificateConfig, in_file))
        if pair is None or not pair.cert_chain:
            return context
        changes |= {"cert_chain": pair.cert_chain, "private_key": pair.private_key}
    if sources.ValidationConfig is not None:
        trusted = secrets.get(_key(sources.ValidationConfig, in_file))
        if trusted is None or not trusted.ca_cert:
            return context
        changes |= {
            "ca_cert": trusted.ca_cert,
            "crl": trusted.crl or context.crl,
            "subject_alt_names": [*context.subject_alt_names, *trusted.names],
            "certificate_hashes": [*context.certificate_hashes, *trusted.hashes],
        }
    return replace(context, **changes)


def _key(secret: SecretSource, in_file: bool) -> SecretKey:
    return SecretKey(source_of(secret.sdsConfig, in_file=in_file), secret.name)


def _folded(value: Any) -> Any:
    """JSON with keys in one spelling: `apiConfigSource` and `api_config_source` are the same."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, dict):
        return {str(key).replace("_", "").lower(): _folded(item) for key, item in value.items()}
    return [_folded(item) for item in value] if isinstance(value, list) else value
