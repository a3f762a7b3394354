"""Secrets of SDS in TLS contexts."""

from typing import Any

import pytest

from pymosn.config.schema.tls import NameMatch, SecretSource, SecretSources, TlsContext
from pymosn.config.sds import ADS, SecretKey, SecretTexts, SourceError, filled, keys_of, source_of

PAIR, TRUSTED = SecretKey(ADS, "default"), SecretKey(ADS, "ROOTCA")
OWN, MORE = NameMatch(prefix="spiffe://a/"), NameMatch(type="dns", exact="b")
CONTEXT = TlsContext(
    status=True,
    crl="own lists",
    subject_alt_names=[OWN],
    certificate_hashes=["aa"],
    sds_source=SecretSources(
        CertificateConfig=SecretSource(name="default", sdsConfig={"ads": {}}),
        ValidationConfig=SecretSource(name="ROOTCA", sdsConfig={"ads": {}}),
    ),
)
SECRETS = {
    PAIR: SecretTexts(cert_chain="chain", private_key="key"),
    TRUSTED: SecretTexts(ca_cert="ca", names=(MORE,), hashes=("bb",)),
}


def test_secrets_complete_a_context() -> None:
    context = filled(CONTEXT, SECRETS)
    assert (context.cert_chain, context.private_key, context.ca_cert) == ("chain", "key", "ca")
    assert context.sds_source is None
    assert context.crl == "own lists"
    assert context.subject_alt_names == [OWN, MORE], "joined, as Envoy does"
    assert context.certificate_hashes == ["aa", "bb"]


@pytest.mark.parametrize("known", [(), (PAIR,), (TRUSTED,)])
def test_a_context_that_lacks_one_of_them_stays_as_it_is(known: tuple[SecretKey, ...]) -> None:
    assert filled(CONTEXT, {key: SECRETS[key] for key in known}) is CONTEXT


def test_the_secrets_that_a_context_needs() -> None:
    assert list(keys_of(CONTEXT)) == [PAIR, TRUSTED]
    assert list(keys_of(TlsContext(sds_source=CONTEXT.sds_source))) == [], "it is switched off"
    assert list(keys_of(None)) == []


@pytest.mark.parametrize(
    ("config", "source"),
    [
        ({"ads": {}}, "ads"),
        ({"apiConfigSource": {"grpcServices": [{"googleGrpc": {"targetUri": "/run/sds"}}]}}, "unix:/run/sds"),
        ({"api_config_source": {"grpc_services": [{"google_grpc": {"target_uri": "sds:15012"}}]}}, "sds:15012"),
        ({"api_config_source": {"grpc_services": [{"envoy_grpc": {"cluster_name": "a"}}]}}, "cluster:a"),
        ('{"ads": {}}', "ads"),
    ],
)
def test_sources(config: Any, source: str) -> None:
    assert source_of(config) == source


@pytest.mark.parametrize("config", [None, "", [], {}, {"apiConfigSource": {}}, {"apiConfigSource": {"grpcServices": [{}]}}])
def test_what_names_no_source(config: Any) -> None:
    with pytest.raises(SourceError):
        source_of(config)
