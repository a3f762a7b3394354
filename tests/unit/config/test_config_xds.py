"""The keys of xDS in a file: modes, what is missing, and names that xDS may add."""

import json
from typing import Any

import pytest

from pymosn.config.load import Loaded, load_text

XDS: dict[str, Any] = {"dynamic_resources": {"ads_config": {}}, "static_resources": {"clusters": []}}
PROXY = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "from_xds"}}
LISTENER = {"name": "l", "address": "127.0.0.1:1", "bind_port": True, "filter_chains": [{"filters": [PROXY]}]}
TABLE = {
    "router_config_name": "r",
    "virtual_hosts": [{"domains": ["*"], "routers": [{"match": {"prefix": "/"}, "route": {"cluster_name": "from_xds"}}]}],
}


def load(**config: Any) -> Loaded:
    return load_text(json.dumps(config), "mosn.json")


@pytest.mark.parametrize(("there", "missing"), [tuple(XDS), tuple(XDS)[::-1]])
def test_one_section_without_the_other_is_an_error_that_names_the_missing_one(there: str, missing: str) -> None:
    loaded = load(servers=[{}], **{there: {}})
    assert [fault.path for fault in loaded.errors] == [missing]
    assert there in loaded.errors[0].message


def test_without_servers_one_is_made_up_and_the_clusters_of_the_file_are_ignored() -> None:
    loaded = load(**XDS, cluster_manager={"clusters": [{"name": "c"}]})
    assert loaded.config is not None
    assert [server.default_log_path for server in loaded.config.servers] == ["stdout"]
    assert loaded.config.cluster_manager.clusters == []
    assert [fault.path for fault in loaded.warnings] == ["cluster_manager.clusters"]


def test_in_mixed_mode_names_may_come_from_xds() -> None:
    server = {"listeners": [LISTENER], "routers": [TABLE]}
    assert load(**XDS, servers=[server]).errors == []
    assert [fault.message.partition(":")[0] for fault in load(servers=[server]).warnings] == [
        "unknown router table",
        "unknown cluster",
    ]


def test_the_runtime_layers_of_envoy_are_ignored() -> None:
    loaded = load(**XDS, servers=[{}], layered_runtime={"layers": [{"name": "x", "rtds_layer": {}}]})
    assert [(fault.severity, fault.path) for fault in loaded.faults] == [("warning", "layered_runtime")]


SDS = {"ads": {}}
SOURCES: list[tuple[dict[str, Any], list[str]]] = [
    ({"CertificateConfig": {"name": "default", "sdsConfig": SDS}}, []),
    ({"CertificateConfig": {"sdsConfig": SDS}}, ["CertificateConfig.name"]),
    ({"CertificateConfig": {"name": "default"}}, ["CertificateConfig.sdsConfig"]),
    ({"CertificateConfig": {"name": "default", "sdsConfig": {"apiConfigSource": {}}}}, ["CertificateConfig.sdsConfig"]),
    ({"CertificateConfig": {"name": "a", "sdsConfig": SDS}, "ValidationConfig": {"name": "b", "sdsConfig": SDS}}, []),
]


@pytest.mark.parametrize(("source", "faults"), SOURCES)
def test_secrets_of_a_static_context(source: dict[str, Any], faults: list[str]) -> None:
    context = {"status": True, "callbacks": ["f"], "sds_source": source, "verify_client": "ValidationConfig" in source}
    chain = {"tls_context": context, "filters": [{"type": "tcp_proxy", "config": {"cluster": "c"}}]}
    listener = {"name": "l", "address": "127.0.0.1:1", "bind_port": True, "filter_chains": [chain]}
    loaded = load(servers=[{"listeners": [listener]}], cluster_manager={"clusters": [{"name": "c"}]})
    path = "servers[0].listeners[0].filter_chains[0].tls_context.sds_source"
    assert [fault.path for fault in loaded.errors] == [f"{path}.{key}" for key in faults]


def test_plain_text_is_no_fall_back_for_a_missing_secret() -> None:
    context = {"status": True, "fall_back": True, "sds_source": {"CertificateConfig": {"name": "a", "sdsConfig": SDS}}}
    chain = {"tls_context": context, "filters": [{"type": "tcp_proxy", "config": {"cluster": "c"}}]}
    listener = {"name": "l", "address": "127.0.0.1:1", "bind_port": True, "filter_chains": [chain]}
    loaded = load(servers=[{"listeners": [listener]}], cluster_manager={"clusters": [{"name": "c"}]})
    assert [fault.path.rpartition(".")[2] for fault in loaded.errors] == ["sds_source"]
