"""What MOSN has and pymosn has not: each is rejected or warned about with a sentence that names what to use instead."""

from typing import Any

import msgspec
import pytest

from pymosn.assembly.filters import check_filters
from pymosn.config.load import load_text
from pymosn.config.schema import absent
from pymosn.config.schema.extensions import EXTENDS
from pymosn.config.schema.network_filters import PLANNED as PLANNED_NETWORK_FILTERS


def file(listener: dict[str, Any] | None = None, **top: Any) -> str:
    """A configuration with one listener, which needs nothing of what `top` adds."""
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}
    made = {"name": "l", "address": "127.0.0.1:1", "bind_port": True, "filter_chains": [{"filters": [proxy]}]}
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    table = {"router_config_name": "r", "virtual_hosts": [{"name": "h", "domains": ["*"], "routers": [route]}]}
    server = {"listeners": [made | (listener or {})], "routers": [table]}
    return msgspec.json.encode({"servers": [server], **top}).decode()


def found(text: str) -> list[tuple[str, str, str]]:
    """Severity, path and message of what is reported."""
    loaded = load_text(text, "mosn.json")
    faults = list(loaded.faults)
    if loaded.config is not None:
        faults += check_filters(loaded.config.servers[0].listeners, ".")
    return [(one.severity, one.path, one.message) for one in faults]


def filtered(name: str, **more: Any) -> dict[str, Any]:
    return {"stream_filters": [{"type": name, **more}]}


def first(name: str) -> dict[str, Any]:
    return {"filter_chains": [{"filters": [{"type": name}]}]}


NACOS = {"resource_type": "nacos", "config": {"Group": "SENTINEL_GROUP", "ServerConfigs": [{"IpAddr": "127.0.0.1"}]}}
CLUSTER = {"name": "c", "hosts": [{"address": "127.0.0.1:1"}], "spec": {"subscribe": [{"service_name": "a.Service"}]}}
CODEC = {"enable": True, "path": "codec.so", "loader_func_name": "LoadCodec"}

#: What a file has, the severity and the path of the report, and words of the alternative.
CASES: dict[str, tuple[str, str, str, str]] = {
    "proxywasm": (file(filtered("proxywasm", config={"vm_config": {"path": "a.wasm"}})), "error", "type", "python"),
    "dsl": (file(filtered("dsl", config={"before_router_by_dsl": "true"})), "error", "type", "match.dsl_expressions"),
    "seata": (file(filtered("seata", config={"addressing": "a"})), "error", "type", "python"),
    "mixer": (file(filtered("mixer")), "error", "type", "istio.stats"),
    "go_plugin_config": (
        file(filtered("mine", go_plugin_config={"so_path": "a.so"})),
        *("error", "go_plugin_config", "python"),
    ),
    "nacos": (
        file(filtered("flowControlFilter", config={"dynamic_data_resources": [NACOS]})),
        *("error", "config.dynamic_data_resources", "`rules`"),
    ),
    "tunnel": (file(first("tunnel")), "error", "filter_chains[0].filters[0].type", "tcp_proxy"),
    "fault_inject": (file(first("fault_inject")), "error", "filter_chains[0].filters[0].type", "`fault`"),
    "grpc": (file(first("grpc")), "error", "filter_chains[0].filters[0].type", "Http2"),
    "tunnel_agent": (file(extends=[{"type": "tunnel_agent", "config": {}}]), "warning", "extends[0].type", "verify_client"),
    "dubbo_registry": (
        file(extends=[{"type": "dubbo_registry", "config": {"enable": True}}]),
        "warning",
        "extends[0].type",
        "xDS",
    ),
    "holmes": (file(extends=[{"type": "holmes", "config": {"Enable": True}}]), "warning", "extends[0].type", "py-spy"),
    "transcoder_plugin": (file(extends=[{"type": "transcoder_plugin"}]), "warning", "extends[0].type", "`transcoder`"),
    "PluginDriver": (
        file(tracing={"enable": True, "driver": "PluginDriver", "config": {"sopath": "tracer.so"}}),
        *("warning", "tracing.driver", "another driver"),
    ),
    "codec in Go": (
        file(third_part_codec={"codecs": [CODEC | {"type": "go-plugin"}]}),
        *("warning", "third_part_codec.codecs[0]", "docs/protocols.md"),
    ),
    "codec in wasm": (
        file(third_part_codec={"codecs": [CODEC | {"type": "wasm"}]}),
        *("warning", "third_part_codec.codecs[0]", "docs/protocols.md"),
    ),
    "wasm_global_plugins": (file(wasm_global_plugins=[{"plugin_name": "a"}]), "warning", "wasm_global_plugins", "python"),
    "plugin": (file(plugin={"log_base": "/tmp/"}), "warning", "plugin", "python"),
    "subscribe": (file(cluster_manager={"clusters": [CLUSTER]}), "warning", "clusters[0].spec", "xDS"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_report_names_what_to_use_instead(name: str) -> None:
    text, severity, path, words = CASES[name]
    reported = found(text)
    assert [one for one in reported if one[0] == severity and one[1].endswith(path) and words in one[2]], reported
    assert severity == "error" or not [one for one in reported if one[0] == "error"]


def test_every_name_has_a_case() -> None:
    names = {*absent.STREAM_FILTERS, *absent.NETWORK_FILTERS, *absent.EXTENSIONS, *absent.TRACE_DRIVERS}
    assert names <= CASES.keys()
    assert absent.EXTENSIONS.keys() == EXTENDS.keys() - {"python"}
    assert absent.NETWORK_FILTERS.keys() == {filter.__struct_config__.tag for filter in PLANNED_NETWORK_FILTERS}


def test_what_is_switched_off_is_not_reported() -> None:
    text = file(
        tracing={"enable": False, "driver": "PluginDriver"},
        third_part_codec={"codecs": [CODEC | {"enable": False, "type": "wasm"}]},
    )
    assert not [one for one in found(text) if "WebAssembly" in one[2] or "shared object" in one[2]]


def test_an_unknown_extension_is_reported() -> None:
    [(severity, path, message)] = found(file(extends=[{"type": "holmess"}]))
    assert (severity, path) == ("warning", "extends[0].type")
    assert message == "compiled into MOSN; has no effect here"


def test_a_known_extension_is_not_suggested_for_itself() -> None:
    faults = load_text(file(extends=[{"type": "tunnel_agent"}]), "f").faults
    assert [fault.suggestion for fault in faults if fault.path == "extends[0].type"] == [None]
