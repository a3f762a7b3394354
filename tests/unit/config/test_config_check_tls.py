"""Checks of TLS contexts: what is an error, what a warning, and at which key."""

import json
from typing import Any

import pytest

from pymosn.config.load import load_text

CERTIFICATE = {"cert_chain": "/c.pem", "private_key": "/k.pem"}


def faults_of(
    listener: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, spoken: str = "Http1", **more: Any
) -> list[tuple[str, str]]:
    """The severity and the key of each fault that is about TLS; `spoken`: downstream; `more`: of `cluster_manager`."""
    chain: dict[str, Any] = {
        "filters": [{"type": "proxy", "config": {"router_config_name": "r", "downstream_protocol": spoken}}]
    }
    if listener is not None:
        chain["tls_context"] = {"status": True, **listener}
    upstream: dict[str, Any] = {"name": "c", "hosts": [{"address": "h.test:1"}]}
    if cluster is not None:
        upstream |= {"tls_context": {"status": True, **cluster}}
    upstream |= more.pop("upstream", {})
    config = {
        "servers": [
            {
                "listeners": [{"address": "127.0.0.1:1", "bind_port": True, "filter_chains": [chain]}],
                "routers": [{"router_config_name": "r", "virtual_hosts": []}],
            }
        ],
        "cluster_manager": {"clusters": [upstream], **more},
    }
    loaded = load_text(json.dumps(config), "c.json")
    keys = ("tls", "clusters[0].hosts")
    return [(f.severity, f.path.rpartition(".")[2]) for f in loaded.faults if any(key in f.path for key in keys)]


VERIFIED = {**CERTIFICATE, "verify_client": True, "ca_cert": "/ca.pem"}

LISTENERS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (CERTIFICATE, []),
    ({}, [("error", "cert_chain")]),
    ({"cert_chain": "/c.pem"}, [("error", "private_key")]),
    ({"private_key": "/k.pem"}, [("error", "cert_chain")]),
    ({"fall_back": True}, [("warning", "fall_back")]),
    ({**CERTIFICATE, "fall_back": True, "verify_client": True, "ca_cert": "/ca.pem"}, [("error", "fall_back")]),
    (
        {**CERTIFICATE, "fall_back": True, "require_client_cert": True},
        [("error", "fall_back"), ("warning", "require_client_cert")],
    ),
    ({**CERTIFICATE, "verify_client": True}, [("error", "verify_client")]),
    ({**CERTIFICATE, "verify_client": True, "require_client_cert": True, "ca_cert": "/ca.pem", "crl": "/crl.pem"}, []),
    ({**CERTIFICATE, "require_client_cert": True}, [("warning", "require_client_cert")]),
    ({**CERTIFICATE, "crl": "/crl.pem"}, [("warning", "crl")]),
    ({**CERTIFICATE, "insecure_skip": True}, [("warning", "insecure_skip")]),
    ({"sds_source": {}}, [("error", "cert_chain"), ("error", "sds_source")]),
    ({"sds_source": {"CertificateConfig": {"name": "a", "sdsConfig": {"ads": {}}}}}, []),
    (
        {
            "sds_source": {
                "CertificateConfig": {"name": "a", "sdsConfig": {"ads": {}}},
                "ValidationConfig": {"name": "b", "sdsConfig": {"ads": {}}},
            },
            "verify_client": True,
        },
        [],
    ),
    ({"sds_source": {"ValidationConfig": {"name": "b", "sdsConfig": {"ads": {}}}}}, [("error", "cert_chain")]),
    ({**VERIFIED, "subject_alt_names": [{"type": "uri", "prefix": "spiffe://a/"}, {"regex": "a.*"}]}, []),
    ({**VERIFIED, "subject_alt_names": [{"regex": "("}]}, [("error", "regex")]),
    ({**VERIFIED, "subject_alt_names": [{}]}, [("error", "subject_alt_names[0]")]),
    ({**VERIFIED, "subject_alt_names": [{"exact": "a", "prefix": "a"}]}, [("error", "subject_alt_names[0]")]),
    ({**CERTIFICATE, "subject_alt_names": [{"exact": "a"}]}, [("error", "subject_alt_names")]),
    ({**VERIFIED, "certificate_hashes": [64 * "a", 32 * "AB:"]}, []),
    ({**VERIFIED, "certificate_hashes": ["abc"]}, [("error", "certificate_hashes[0]")]),
    ({**CERTIFICATE, "certificate_hashes": [64 * "a"]}, [("error", "certificate_hashes")]),
    ({**CERTIFICATE, "verify_server_name": False}, [("warning", "verify_server_name")]),
    ({**CERTIFICATE, "alpn": "http/1.1", "alpn_required": False}, []),
    ({**CERTIFICATE, "type": "other"}, [("warning", "type")]),
    ({**CERTIFICATE, "type": "sni_verify", "extend_verify": {"match_subject_alt_names": "x://y"}}, [("warning", "type")]),
    ({**CERTIFICATE, "extend_verify": {"match_subject_alt_names": ["x://y"]}}, [("warning", "extend_verify")]),
    ({**CERTIFICATE, "key_log": "/log"}, [("warning", "key_log")]),
    ({**CERTIFICATE, "private_key": "MIG" + 40 * "ab+/"}, [("error", "private_key")]),
    ({**CERTIFICATE, "private_key": "x\nMIG"}, [("error", "private_key")]),
    ({**CERTIFICATE, "min_version": "tls_auto", "max_version": "TLSV1_3"}, []),
    ({**CERTIFICATE, "min_version": "TLSv1.2"}, [("error", "min_version")]),
    ({**CERTIFICATE, "min_version": "TLSv1_0"}, [("warning", "min_version")]),
    ({**CERTIFICATE, "max_version": "TLSv1_1"}, [("error", "max_version")]),
    ({**CERTIFICATE, "min_version": "TLSv1_1", "max_version": "TLSv1_1"}, [("warning", "min_version")]),
    ({**CERTIFICATE, "cipher_suites": "ECDHE-RSA-WITH-CHACHA20-POLY1305:AES128-GCM-SHA256"}, []),
    ({**CERTIFICATE, "cipher_suites": "RSA-AES128-CBC-SHA"}, [("warning", "cipher_suites")]),
    ({**CERTIFICATE, "cipher_suites": "ECDHE-RSA-AES256-GCM-SHA38"}, [("error", "cipher_suites")]),
    ({**CERTIFICATE, "ecdh_curves": "X25519, P256"}, []),
    ({**CERTIFICATE, "ecdh_curves": "p224"}, [("error", "ecdh_curves")]),
    ({**CERTIFICATE, "alpn": "http/1.1,sofa"}, []),
    ({**CERTIFICATE, "alpn": "h2,http/1.1"}, [("warning", "alpn")]),
    ({**CERTIFICATE, "alpn": "http/1.0"}, [("warning", "alpn")]),
    ({"status": False, "sds_source": {}}, []),
]


@pytest.mark.parametrize(("context", "expected"), LISTENERS)
def test_a_context_of_a_listener(context: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults_of(context) == expected


CLUSTERS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, []),
    ({"insecure_skip": True}, [("warning", "insecure_skip")]),
    ({"fall_back": True}, [("warning", "fall_back")]),
    ({"crl": "/crl.pem"}, [("error", "crl")]),
    ({"type": "sni_verify", "extend_verify": {"match_subject_alt_names": "x://y"}}, []),
    ({"type": "sni_verify"}, [("warning", "type")]),
    ({"cert_chain": "/c.pem"}, [("error", "private_key")]),
    (
        {
            "sds_source": {
                "CertificateConfig": {"name": "a", "sdsConfig": {"ads": {}}},
                "ValidationConfig": {"name": "b", "sdsConfig": {"ads": {}}},
            }
        },
        [],
    ),
    ({"subject_alt_names": [{"type": "dns", "suffix": ".test"}]}, []),
    (
        {"subject_alt_names": [{"exact": "a"}], "insecure_skip": True},
        [("error", "subject_alt_names"), ("warning", "insecure_skip")],
    ),
    ({"verify_server_name": False}, [("error", "verify_server_name")]),
    ({"verify_server_name": False, "ca_cert": "/ca.pem"}, []),
    ({"verify_server_name": False, "sds_source": {"ValidationConfig": {"name": "b", "sdsConfig": {"ads": {}}}}}, []),
    ({"alpn_required": False}, [("warning", "alpn_required")]),
]


@pytest.mark.parametrize(("context", "expected"), CLUSTERS)
def test_a_context_of_a_cluster(context: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults_of(cluster=context) == expected
    shared = {"upstream": {"cluster_manager_tls": True}, "tls_context": {"status": True, **context}}
    assert faults_of(**shared) == expected


def test_the_context_of_the_cluster_manager() -> None:
    assert faults_of(upstream={"cluster_manager_tls": True}) == [("error", "cluster_manager_tls")]
    both = faults_of(cluster={}, upstream={"cluster_manager_tls": True}, tls_context={"status": True})
    assert both == [("warning", "tls_context")]


def test_a_unix_host_without_a_name_to_verify() -> None:
    hosts = [{"address": "unix:/tmp/x"}]
    assert faults_of(cluster={}, upstream={"hosts": hosts}) == [("error", "address")]
    unnamed = {"verify_server_name": False, "ca_cert": "/ca.pem"}
    for changes in ({"server_name": "x"}, {"insecure_skip": True}, unnamed, {"subject_alt_names": [{"exact": "a"}]}):
        assert ("error", "address") not in faults_of(cluster=changes, upstream={"hosts": hosts})
    for host in ({"hostname": "x"}, {"tls_disable": True}):
        assert faults_of(cluster={}, upstream={"hosts": [{**hosts[0], **host}]}) == []


@pytest.mark.parametrize(
    ("spoken", "alpn", "warnings"),
    [
        ("Http1", "http/1.1", 0),
        ("Http1", "h2,http/1.1", 1),
        ("Http1", "h2,sofa", 1),
        ("bolt", "http/1.1", 1),
        ("Auto", "sofa,http/1.1", 0),
        ("Http1", "istio,istio-http/1.1", 0),
        ("Http1", "istio-h2", 1),
    ],
)
def test_what_the_proxy_does_not_speak_is_not_negotiated(spoken: str, alpn: str, warnings: int) -> None:
    assert faults_of({**CERTIFICATE, "alpn": alpn}, spoken=spoken) == warnings * [("warning", "alpn")]
