"""TLS contexts of xDS -> `TlsContext`."""

import base64
from typing import Any

import pytest
from envoy.config.core.v3 import config_source_pb2
from tests.kit import certificates as made
from tests.kit.xds_messages import view_of

from pymosn.config.schema.tls import NameMatch, SecretSource, TlsContext
from pymosn.control.xds.convert.sources import as_json
from pymosn.control.xds.convert.tls import downstream_tls, upstream_tls
from pymosn.control.xds.convert.view import Report, View

TLS = "envoy.extensions.transport_sockets.tls.v3"
CA = made.ca().certificate.decode()
CHAIN, KEY = made.server().certificate.decode(), made.server().key.decode()
PAIR = {"certificate_chain": {"inline_string": CHAIN}, "private_key": {"inline_string": KEY}}
SDS = {
    "api_config_source": {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
    },
    "initial_fetch_timeout": "0s",
    "resource_api_version": "V3",
}
TRUSTED = {"trusted_ca": {"inline_string": CA}}
#: As Istio configures mutual TLS of a workload.
MESH = {
    "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
    "alpn_protocols": ["istio-peer-exchange", "istio", "h2"],
    "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": SDS}],
    "combined_validation_context": {
        "default_validation_context": {"match_subject_alt_names": [{"prefix": "spiffe://cluster.local/"}]},
        "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": SDS},
    },
}


def upstream(common: dict[str, Any], **keys: Any) -> tuple[TlsContext, Report]:
    view, report = view_of(f"{TLS}.UpstreamTlsContext", {"common_tls_context": common, **keys})
    return upstream_tls(view), report


def downstream(common: dict[str, Any], **keys: Any) -> tuple[list[TlsContext], Report]:
    view, report = view_of(f"{TLS}.DownstreamTlsContext", {"common_tls_context": common, **keys})
    return downstream_tls(view), report


def test_mutual_tls_of_a_mesh() -> None:
    context, report = upstream(MESH, sni="outbound_.80_._.echo.default.svc.cluster.local")
    assert not report.faults
    assert context.status
    assert not context.insecure_skip
    assert not context.verify_server_name
    assert context.server_name == "outbound_.80_._.echo.default.svc.cluster.local"
    assert (context.min_version, context.max_version, context.alpn) == ("TLSv1_2", "TLSv1_3", "istio,h2")
    assert context.subject_alt_names == [NameMatch(prefix="spiffe://cluster.local/")]
    source = context.sds_source
    assert source is not None
    assert source.CertificateConfig == SecretSource(name="default", sdsConfig=SDS)
    assert source.ValidationConfig == SecretSource(name="ROOTCA", sdsConfig=SDS)


def test_a_server_of_a_mesh() -> None:
    suites = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-GCM-SHA256"]
    common = {**MESH, "tls_params": {"cipher_suites": suites}, "alpn_protocols": ["istio-peer-exchange", "h2", "http/1.1"]}
    [context], report = downstream(common, require_client_certificate=True)
    assert not report.faults
    assert context.verify_client
    assert context.require_client_cert
    assert not context.alpn_required
    assert context.cipher_suites == "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
    assert context.alpn == "h2,http/1.1"
    assert [warning.path for warning in report.warnings] == ["common_tls_context.tls_params.cipher_suites"]


def test_several_certificates_are_several_contexts() -> None:
    other = {"certificate_chain": {"filename": "/c.pem"}, "private_key": {"filename": "/k.pem"}}
    contexts, report = downstream({"tls_certificates": [PAIR, other], "validation_context": TRUSTED})
    assert not report.faults
    assert [(context.cert_chain, context.private_key) for context in contexts] == [(CHAIN, KEY), ("/c.pem", "/k.pem")]
    assert all(context.verify_client and not context.require_client_cert for context in contexts)


def test_inline_bytes_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDS_TEST_KEY", KEY)
    pair = {
        "certificate_chain": {"inline_bytes": base64.b64encode(CHAIN.encode()).decode()},
        "private_key": {"environment_variable": "XDS_TEST_KEY"},
    }
    [context], report = downstream({"tls_certificates": [pair]})
    assert not report.faults
    assert (context.cert_chain, context.private_key) == (CHAIN, KEY)


def test_a_host_without_a_ca_is_not_verified_which_is_said() -> None:
    context, report = upstream({})
    assert context.insecure_skip
    assert not report.faults
    assert "not verified" in report.warnings[0].message


def test_a_ca_without_names_accepts_what_it_has_issued() -> None:
    context, report = upstream({"validation_context": TRUSTED})
    assert not report.faults
    assert not context.insecure_skip
    assert not context.verify_server_name
    assert "lists no names" in report.warnings[0].message
    context, report = upstream({"validation_context": TRUSTED}, sni="a.test", auto_sni_san_validation=True)
    assert not report.faults
    assert not report.warnings
    assert context.verify_server_name


def test_names_of_all_kinds() -> None:
    typed = [
        {"san_type": "URI", "matcher": {"exact": "spiffe://a/b"}},
        {"san_type": "DNS", "matcher": {"suffix": ".test", "ignore_case": True}},
        {"san_type": "IP_ADDRESS", "matcher": {"exact": "10.0.0.1"}},
        {"san_type": "EMAIL", "matcher": {"safe_regex": {"regex": ".*@a"}}},
    ]
    context, report = upstream({"validation_context": {**TRUSTED, "match_typed_subject_alt_names": typed}})
    assert not report.faults
    assert context.subject_alt_names == [
        NameMatch(type="uri", exact="spiffe://a/b"),
        NameMatch(type="dns", suffix=".test", ignore_case=True),
        NameMatch(type="ip", exact="10.0.0.1"),
        NameMatch(type="email", regex=".*@a"),
    ]


def test_a_spiffe_validator_of_one_domain() -> None:
    validator = {
        "name": "spiffe",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            "trust_domains": [{"name": "example.org", "trust_bundle": {"inline_string": CA}}],
        },
    }
    context, report = upstream({"validation_context": {"custom_validator_config": validator}})
    assert not report.faults
    assert context.ca_cert == CA
    assert context.subject_alt_names == [NameMatch(type="uri", prefix="spiffe://example.org/")]
    names = [{"san_type": "URI", "matcher": {"suffix": "/echo"}}]
    both = {"custom_validator_config": validator, "match_typed_subject_alt_names": names}
    assert "trust domain" in upstream({"validation_context": both})[1].text()


COMMON_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"custom_handshaker": {"name": "x"}}, "custom_handshaker"),
    ({"tls_params": {"cipher_suites": ["NO-SUCH"]}}, "tls_params.cipher_suites"),
    ({"tls_params": {"cipher_suites": ["AES128-GCM-SHA256"]}}, "tls_params.cipher_suites"),
    ({"tls_params": {"ecdh_curves": ["P-224"]}}, "tls_params.ecdh_curves"),
    ({"tls_params": {"compliance_policies": ["FIPS_202205"]}}, "tls_params.compliance_policies"),
    ({"validation_context": {**TRUSTED, "verify_certificate_spki": [43 * "A" + "="]}}, "verify_certificate_spki"),
    ({"validation_context": {**TRUSTED, "verify_certificate_hash": ["abc"]}}, "verify_certificate_hash"),
    ({"validation_context": {**TRUSTED, "allow_expired_certificate": True}}, "allow_expired_certificate"),
    ({"validation_context": {**TRUSTED, "trust_chain_verification": "ACCEPT_UNTRUSTED"}}, "trust_chain_verification"),
    ({"validation_context": {"trusted_ca": {"inline_string": "x"}}}, "trusted_ca.inline_string"),
    ({"validation_context": {"trusted_ca": {"environment_variable": "NO_SUCH_XDS"}}}, "trusted_ca.environment_variable"),
    (
        {"validation_context": {**TRUSTED, "match_subject_alt_names": [{"safe_regex": {"regex": "("}}]}},
        "match_subject_alt_names[0].safe_regex.regex",
    ),
    (
        {"validation_context": {**TRUSTED, "match_typed_subject_alt_names": [{"san_type": "OTHER_NAME", "oid": "1.2"}]}},
        "match_typed_subject_alt_names[0]",
    ),
    ({"validation_context": {"match_subject_alt_names": [{"exact": "a"}]}}, ""),
    ({"combined_validation_context": {}}, "combined_validation_context.validation_context_sds_secret_config"),
    ({"tls_certificates": [{"certificate_chain": {"filename": "/c.pem"}}]}, "tls_certificates[0].private_key"),
    ({"tls_certificate_sds_secret_configs": [{"name": "a", "sds_config": {}}]}, "tls_certificate_sds_secret_configs[0]"),
]


@pytest.mark.parametrize(("common", "path"), COMMON_FAULTS)
def test_what_is_rejected(common: dict[str, Any], path: str) -> None:
    _, report = upstream(common)
    assert report.faults
    assert any(path in fault.path for fault in report.faults), report.text()


@pytest.mark.parametrize("what", ["type", "duration"])
def test_a_source_of_secrets_that_json_cannot_express(what: str) -> None:
    source = config_source_pb2.ConfigSource()
    service = source.api_config_source.grpc_services.add()
    service.google_grpc.target_uri = "unix:./x"
    source.api_config_source.api_type = config_source_pb2.ApiConfigSource.GRPC
    if what == "type":
        source.api_config_source.config_validators.add().typed_config.type_url = "no.such/type"
    else:
        source.api_config_source.refresh_delay.seconds = 1 << 62
    report = Report()
    assert as_json(View(source, "sds_config", report)) == {}
    assert report.text().startswith("sds_config: cannot be written as JSON: ")


@pytest.mark.parametrize(
    ("common", "keys", "path"),
    [
        ({}, {}, "tls_certificates"),
        ({"tls_certificates": [PAIR]}, {"require_client_certificate": True}, "require_client_certificate"),
        ({"tls_certificates": [PAIR]}, {"require_sni": True}, "require_sni"),
        ({"tls_certificates": [PAIR]}, {"ocsp_staple_policy": "MUST_STAPLE"}, "ocsp_staple_policy"),
        ({**MESH, "tls_certificates": [PAIR]}, {}, "common_tls_context"),
    ],
)
def test_what_is_rejected_of_a_listener(common: dict[str, Any], keys: dict[str, Any], path: str) -> None:
    _, report = downstream(common, **keys)
    assert any(path in fault.path for fault in report.faults), report.text()
