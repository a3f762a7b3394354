"""The sections of xDS in a configuration, and the cache."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.core.v3.base_pb2 import Node
from tests.kit import Lines

from pymosn.config.schema import MosnConfig, Server
from pymosn.control.xds.bootstrap import NO_EXTRA, Bootstrap, read_bootstrap
from pymosn.control.xds.cache import Cache, cache_path
from pymosn.control.xds.convert.kinds import Item
from pymosn.control.xds.node import NodeFlags
from pymosn.control.xds.types import CLUSTER, LISTENER, SECRET, Resource
from pymosn.control.xds.warming import Entry
from pymosn.server.run_options import ConfigSource

END = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15010}}}}
PIPE = {"endpoint": {"address": {"pipe": {"path": "./etc/istio/proxy/XDS"}}}}


def cluster(*ends: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "xds", "loadAssignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": ends}]}, **more}


def ads(**more: Any) -> dict[str, Any]:
    return {"api_type": "GRPC", "grpcServices": [{"envoy_grpc": {"cluster_name": "xds"}}], **more}


def read(static: dict[str, Any], dynamic: dict[str, Any], node: Any = None) -> tuple[Bootstrap | None, list[str]]:
    found, faults = read_bootstrap(
        MosnConfig(servers=[Server()], dynamic_resources=dynamic, static_resources=static, node=node)
    )
    return found, [f"{fault.severity} {fault.path}" for fault in faults]


def test_addresses_and_the_node() -> None:
    node = {"id": "n", "cluster": "c", "metadata": {"A": 1}, "locality": {"region": "r"}, "unknown": True}
    delta = ads(api_type="DELTA_GRPC", set_node_on_first_message_only=True, refresh_delay={"seconds": 10})
    found, faults = read({"clusters": [cluster(END, PIPE)]}, {"adsConfig": delta}, node)
    assert faults == []
    assert found is not None
    assert found.ads is not None
    assert [end.address for end in found.ads.addresses] == ["127.0.0.1:15010", f"unix:{os.getcwd()}/etc/istio/proxy/XDS"]
    assert found.ads.is_delta
    assert not found.ads.addresses[0].has_tls
    sent = Node.FromString(found.node)
    assert (sent.id, sent.locality.region, sent.user_agent_name) == ("n", "r", "pymosn")
    assert [name for name, _ in found.clusters] == ["xds"]


_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, (30.0, 10.0)),
        ({"http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "2.5s"}}}, (5.0, 2.5)),
        (
            {
                "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 20}},
                "typed_extension_protocol_options": {
                    _OPTIONS: {
                        "@type": f"type.googleapis.com/{_OPTIONS}",
                        "explicit_http_config": {
                            "http2_protocol_options": {"connection_keepalive": {"interval": "60s", "timeout": "3s"}}
                        },
                    }
                },
            },
            (60.0, 3.0),
        ),
        ({"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 7}}}, (7.0, 10.0)),
        ({"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}}}, (30.0, 10.0)),
    ],
)
def test_row_10_the_times_of_pings_to_a_control_plane(more: dict[str, Any], expected: tuple[float, float]) -> None:
    found, faults = read({"clusters": [cluster(END, **more)]}, {"ads_config": ads()})
    assert faults == []
    assert found is not None
    assert found.ads is not None
    [address] = found.ads.addresses
    assert (address.keepalive, address.keepalive_timeout) == expected


STATIC = {"clusters": [cluster(END)]}
FAULTS: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    (STATIC, {}, ["error dynamic_resources.ads_config"]),
    (STATIC, {"ads_config": ads(api_type="REST")}, ["error dynamic_resources.ads_config.api_type"]),
    (STATIC, {"ads_config": {"api_type": "GRPC"}}, ["error dynamic_resources.ads_config.grpc_services"]),
    (STATIC, {"ads_config": ads(), "wrong": 1}, ["error dynamic_resources"]),
    ({"clusters": [cluster(END, wrong=1)]}, {"ads_config": ads()}, ["error static_resources"]),
    (
        {"clusters": []},
        {"ads_config": ads()},
        ["error dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name"],
    ),
    ({"clusters": [cluster()]}, {"ads_config": ads()}, ["error dynamic_resources.ads_config.grpc_services"]),
    (
        STATIC,
        {"ads_config": ads(), "cds_config": {"api_config_source": {"api_type": "GRPC"}}},
        ["warning dynamic_resources.cds_config"],
    ),
]


@pytest.mark.parametrize(("static", "dynamic", "faults"), FAULTS)
def test_faults_have_their_paths(static: dict[str, Any], dynamic: dict[str, Any], faults: list[str]) -> None:
    found, found_faults = read(static, dynamic)
    assert found_faults == faults
    assert (found is None) == any(fault.startswith("error") for fault in faults)


def test_without_xds_nothing_is_read() -> None:
    assert read_bootstrap(MosnConfig(servers=[Server()])) == (None, [])


def test_without_the_extra_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymosn.control.xds.bootstrap.find_spec", lambda name: None)
    config = MosnConfig(servers=[Server()], dynamic_resources={"ads_config": ads()}, static_resources=STATIC)
    found, faults = read_bootstrap(config)
    assert found is None
    assert [fault.message for fault in faults] == [NO_EXTRA]


BODY = ClusterMessage(name="a").SerializeToString()


def stored(path: Path, log: Lines) -> Cache:
    cache = Cache(str(path), log)
    store = {
        CLUSTER: {"a": Entry(Item("a", None), "7", BODY, 0.0)},
        SECRET: {"key": Entry(Item("key", None), "7", b"private", 0.0)},
    }
    cache.write(cache.content(store))
    return cache


def test_the_cache_has_the_resources_but_no_secrets(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "resources.msgpack"
    cache = stored(path, Lines())
    assert {kind: found for kind, found in cache.load().items() if found} == {CLUSTER: [Resource("a", "7", BODY)]}
    assert b"private" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_damaged_or_unwritable_cache_is_logged_and_ignored(tmp_path: Path) -> None:
    log = Lines()
    path = tmp_path / "cache" / "resources.msgpack"
    cache = stored(path, log)
    path.write_bytes(path.read_bytes()[:-3])
    assert cache.load() == {}
    assert "cannot be used" in log.lines[-1]
    (tmp_path / "file").write_text("")
    blocked = stored(tmp_path / "file" / "resources.msgpack", log)
    assert "cannot be written" in log.lines[-1]
    assert blocked.fault


def test_a_device_in_its_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "null"
    os.mkfifo(path)
    log = Lines()
    cache = Cache(str(path), log)
    cache.write(cache.content({}))
    assert stat.S_ISFIFO(path.lstat().st_mode)
    assert "not a regular file but a FIFO" in cache.fault


def test_the_cache_can_be_switched_off() -> None:
    assert cache_path(MosnConfig(xds_cache="off"), "/base") == ""
    assert cache_path(MosnConfig(), "/base") == "/base/logs/xds_cache/resources.msgpack"
    assert cache_path(MosnConfig(xds_cache="/x"), "/base") == "/x/resources.msgpack"


def test_a_static_cluster_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    bad = {**cluster(END), "connect_timeout": "-1s"}
    config = {
        "servers": [{"default_log_path": "stdout"}],
        "static_resources": {"clusters": [bad]},
        "dynamic_resources": {"ads_config": ads()},
    }
    path = tmp_path / "c.json"
    path.write_text(json.dumps(config))
    loaded = ConfigSource(str(path)).load_here()
    assert loaded.config is None
    assert [fault.path for fault in loaded.errors] == ["static_resources.clusters[0]"]
    assert "connect_timeout" in loaded.errors[0].message


def test_flags_make_the_node(tmp_path: Path) -> None:
    config = {
        "servers": [{"default_log_path": "stdout"}],
        "node": {"id": "from-the-file", "metadata": {"A": "1"}},
        "static_resources": {"clusters": [{**cluster(END), "connect_timeout": "1s"}]},
        "dynamic_resources": {"ads_config": ads()},
    }
    path = tmp_path / "c.json"
    path.write_text(json.dumps(config))
    flags = NodeFlags(service_node="sidecar~1.2.3.4~p.n~d", service_cluster="s", service_meta=("B:2",))
    loaded = ConfigSource(str(path), node=flags).load_here()
    assert loaded.config is not None, loaded.faults
    found, _ = read_bootstrap(loaded.config)
    assert found is not None
    node = Node.FromString(found.node)
    assert (node.id, node.cluster, node.metadata["A"], node.metadata["B"]) == ("sidecar~1.2.3.4~p.n~d", "s", "1", "2")
    assert node.user_agent_build_version.version.major_number >= 0
    assert len(node.client_features) == len(set(node.client_features)) == 2
    wrong = ConfigSource(str(path), node=NodeFlags(service_type="pilot")).load_here()
    assert "--service-type" in wrong.errors[0].message


@pytest.mark.parametrize(
    ("context", "path"),
    [
        ({"tls_certificate_sds_secret_configs": [{"name": "x"}]}, "tls_certificate_sds_secret_configs"),
        ({"validation_context_sds_secret_config": {"name": "x"}}, "validation_context_sds_secret_config"),
        (
            {"validation_context": {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "a"}}]}},
            "validation_context.match_typed_subject_alt_names",
        ),
        ({"tls_certificates": [{"private_key": {"environment_variable": "NOT_SET_AT_ALL"}}]}, "private_key"),
    ],
)
def test_tls_to_a_control_plane_that_cannot_be_as_configured_is_an_error(context: dict[str, Any], path: str) -> None:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    socket = {"name": "tls", "typed_config": {"@type": kind, "common_tls_context": context}}
    found, faults = read({"clusters": [cluster(END, transport_socket=socket)]}, {"ads_config": ads()})
    assert found is None
    assert faults == [f"error static_resources.clusters[0].{path}"]


def test_tls_that_a_control_plane_could_not_have_is_fine_for_other_static_clusters() -> None:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    context = {"tls_certificate_sds_secret_configs": [{"name": "x"}]}
    socket = {"name": "tls", "typed_config": {"@type": kind, "common_tls_context": context}}
    other = {**cluster(END, transport_socket=socket), "name": "other"}
    found, faults = read({"clusters": [cluster(END), other]}, {"ads_config": ads()})
    assert faults == []
    assert found is not None
    assert found.servers["other"] == ()  # never without the TLS that it is meant to have


@pytest.mark.parametrize(
    ("dynamic", "wildcards", "faults"),
    [
        ({"adsConfig": ads()}, {CLUSTER: "ads", LISTENER: "ads"}, []),
        (
            {"cds_config": {"path_config_source": {"path": "/c.yaml"}}, "lds_config": {"path": "/l.pb"}},
            {CLUSTER: "file:/c.yaml", LISTENER: "file:/l.pb"},
            [],
        ),
        (
            {"adsConfig": ads(), "cds_config": {"path": "/c.yaml"}, "lds_config": {"ads": {}}},
            {CLUSTER: "file:/c.yaml", LISTENER: "ads"},
            [],
        ),
        ({"cds_config": {"path": "/c.yaml"}}, {CLUSTER: "file:/c.yaml"}, []),
        ({"adsConfig": ads(), "cds_config": {"path": "/c"}}, {CLUSTER: "file:/c", LISTENER: "ads"}, []),
        ({"cds_config": {"path": "/c"}, "lds_config": {"ads": {}}}, None, ["error dynamic_resources.ads_config"]),
        ({"lds_config": {"ads": {}}}, None, ["error dynamic_resources.ads_config"]),
        ({}, None, ["error dynamic_resources.ads_config"]),
    ],
)
def test_files_instead_of_a_control_plane(
    dynamic: dict[str, Any], wildcards: dict[str, str] | None, faults: list[str]
) -> None:
    found, seen = read({"clusters": [cluster(END)]}, dynamic)
    assert seen == faults
    assert (None if found is None else dict(found.wildcards)) == wildcards
    assert found is None or (found.ads is None) == ("adsConfig" not in dynamic)
