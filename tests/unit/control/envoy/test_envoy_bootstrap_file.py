"""A bootstrap of Envoy becomes a configuration of ours."""

from typing import Any

import pytest

from pymosn.control.envoy.bootstrap_file import Flags, converted, merged

ADS = {"ads_config": {"api_type": "DELTA_GRPC"}}


def config_of(bootstrap: dict[str, Any], **flags: Any) -> dict[str, Any]:
    config, faults = converted({"dynamic_resources": ADS, **bootstrap}, Flags(**flags))
    assert [fault.text() for fault in faults if fault.severity == "error"] == []
    return config


def faults_of(bootstrap: Any, **flags: Any) -> list[tuple[str, str, str]]:
    return [(fault.severity, fault.path, fault.message) for fault in converted(bootstrap, Flags(**flags))[1]]


def test_the_sections_of_xds_are_taken_as_they_are() -> None:
    static = {"clusters": [{"name": "xds-grpc"}], "listeners": [{"name": "a", "x": 1}]}
    config = config_of({"node": {"id": "n"}, "static_resources": static})
    assert config["static_resources"] == static
    assert config["dynamic_resources"] == ADS
    assert config["node"] == {"id": "n"}
    assert config["servers"] == [{"default_log_path": "stderr", "default_log_level": "INFO"}]
    assert config["admin"] == {"allow_drain_without_token": True}


def test_flags_change_the_configuration() -> None:
    flags = {"node_id": "i", "cluster": "c", "zone": "z", "workers": 3, "drain_time": 45.0}
    config = config_of({"node": {"id": "n", "locality": {"region": "r"}}}, **flags, log_path="/l", log_level="warning")
    assert config["node"] == {"id": "i", "cluster": "c", "locality": {"region": "r", "zone": "z"}}
    server = {"default_log_path": "/l", "default_log_level": "WARN", "processor": 3, "graceful_timeout": "45s"}
    assert config["servers"] == [server]
    assert config_of({}, workers=0)["servers"][0]["processor"] == 1


def test_the_address_of_the_admin_api() -> None:
    socket = {"address": "127.0.0.1", "port_value": 15000, "protocol": "TCP"}
    admin = config_of({"admin": {"address": {"socket_address": socket}}})["admin"]
    assert admin["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}
    camel = {"admin": {"address": {"socketAddress": {"address": "::1", "portValue": 1}}}}
    assert config_of(camel)["admin"]["address"] == {"socket_address": {"address": "::1", "port_value": 1}}
    assert config_of({"admin": {"address": {"pipe": {"path": "/a.sock"}}}})["admin"]["socket"] == "/a.sock"


@pytest.mark.parametrize(
    ("bootstrap", "flags", "fault"),
    [
        ({"dynamic_resources": ADS, "layered_runtime": {}}, {}, ("warning", "layered_runtime", "has no effect")),
        ({"dynamic_resources": ADS, "statsConfig": {}}, {}, ("warning", "stats_config", "has no effect")),
        ({"dynamic_resources": ADS, "tracing": {}}, {}, ("warning", "tracing", "has no effect")),
        ({"dynamic_resources": ADS, "admin": {"profile_path": "a"}}, {}, ("warning", "admin.profile_path", "has no effect")),
        ({"dynamic_resources": ADS, "header_prefix": "x-a"}, {}, ("error", "header_prefix", "not supported")),
        ({"dynamic_resources": ADS, "hds_config": {}}, {}, ("error", "hds_config", "not supported")),
        ({"dynamic_resources": ADS, "surprise": {}}, {"allow_unknown": True}, ("warning", "surprise", "not supported")),
        ({"static_resources": {}}, {}, ("error", "dynamic_resources", "missing")),
        ([], {}, ("error", "", "a bootstrap is an object")),
    ],
)
def test_faults(bootstrap: Any, flags: dict[str, Any], fault: tuple[str, str, str]) -> None:
    ((severity, path, message),) = faults_of(bootstrap, **flags)
    assert (severity, path) == fault[:2]
    assert message.startswith(fault[2])


def test_unknown_static_fields_are_left_out_where_they_are() -> None:
    http = {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors", "newer": 1}
    static = {
        "clusters": [{"name": "a", "connectTimeout": "1s", "newer": {}, "metadata": {"filter_metadata": {"a": {"b": 1}}}}],
        "listeners": [{"name": "l", "filter_chains": [{"filters": [{"name": "f", "typed_config": http}], "b": 2}]}],
    }
    config, faults = converted({"dynamic_resources": ADS, "static_resources": static}, Flags(allow_unknown=True))
    assert [(fault.severity, fault.path) for fault in faults] == [
        ("warning", "static_resources.clusters[0].newer"),
        ("warning", "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.newer"),
        ("warning", "static_resources.listeners[0].filter_chains[0].b"),
    ]
    (cluster,) = config["static_resources"]["clusters"]
    assert cluster == {"name": "a", "connectTimeout": "1s", "metadata": {"filter_metadata": {"a": {"b": 1}}}}
    (chain,) = config["static_resources"]["listeners"][0]["filter_chains"]
    assert chain == {"filters": [{"name": "f", "typed_config": {"@type": http["@type"]}}]}


@pytest.mark.parametrize(
    ("base", "overlay", "result"),
    [
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 3}, "e": 4}, {"a": 1, "b": {"c": 3, "d": 2}, "e": 4}),
        ({"clusters": [1]}, {"clusters": [2]}, {"clusters": [1, 2]}),
        ({"static_resources": {"x": 1}}, {"staticResources": {"y": 2}}, {"static_resources": {"x": 1, "y": 2}}),
        ({"t": {"@type": "a", "x": 1}}, {"t": {"@type": "b", "y": 2}}, {"t": {"@type": "b", "y": 2}}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
    ],
)
def test_an_overlay_is_merged_like_messages(base: Any, overlay: Any, result: Any) -> None:
    assert merged(base, overlay) == result
