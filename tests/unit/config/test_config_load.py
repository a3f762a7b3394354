"""Loading: every fault at once, each with its position."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.passes import one_of

from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.load import Loaded, load_file, load_text
from pymosn.config.schema import ProxyFilter

FIVE_FAULTS = """{
  "servers": [{
    "listeners": [
      {"name": "a", "address": "127.0.0.1:99999", "bind_port": true, "filter_chains": [{
        "filters": [{"type": "proxy", "config": {
          "downstream_protocol": "Http1", "router_config_name": "rooter"}}]}],
       "stream_filters": [{"type": "ip_acces"}]}
    ],
    "routers": [{"router_config_name": "router", "virtual_hosts": [{"domains": ["*"], "routers": [
      {"match": {"prefix": "/"}, "route": {"cluster_name": "backend", "timeout": 5}}]}]}]
  }],
  "cluster_manager": {"clusters": [
    {"name": "backend", "hosts": "127.0.0.1:80"}
  ]}
}"""


def shown(loaded: Loaded) -> list[tuple[str, int, int, str]]:
    return [(fault.severity, fault.line, fault.column, fault.path) for fault in loaded.faults]


def test_five_different_faults_are_all_reported_with_their_positions() -> None:
    loaded = load_text(FIVE_FAULTS, "conf.json")
    config = "servers[0].listeners[0].filter_chains[0].filters[0].config"
    assert loaded.config is None
    assert shown(loaded) == [
        ("error", 4, 32, "servers[0].listeners[0].address"),
        ("warning", 6, 65, f"{config}.router_config_name"),
        ("error", 7, 36, "servers[0].listeners[0].stream_filters[0].type"),
        ("error", 10, 82, "servers[0].routers[0].virtual_hosts[0].routers[0].route.timeout"),
        ("error", 13, 34, "cluster_manager.clusters[0].hosts"),
    ]
    assert loaded.faults[2].suggestion == "ip_access"


def test_the_text_of_a_fault_has_the_form_that_editors_read() -> None:
    fault = load_text(FIVE_FAULTS, "conf.json").faults[1]
    assert fault.text() == (
        "conf.json:6:65: warning: servers[0].listeners[0].filter_chains[0].filters[0].config.router_config_name: "
        'unknown router table: requests are answered 404, as in MOSN (value "rooter"); did you mean "router"?'
    )
    assert json.loads(json.dumps(fault.as_dict()))["line"] == 6


def test_yaml_gives_the_same_configuration_and_the_same_faults() -> None:
    for text in (DEFAULT_CONFIG, FIVE_FAULTS):
        as_json = load_text(text, "f")
        as_yaml = load_text(yaml.safe_dump(json.loads(text)), "f", yaml=True)
        assert as_json.config == as_yaml.config
        assert sorted((f.path, f.message, f.value) for f in as_json.faults) == sorted(
            (f.path, f.message, f.value) for f in as_yaml.faults
        )


def test_the_built_in_example_has_no_faults() -> None:
    loaded = load_text(DEFAULT_CONFIG, DEFAULT_NAME, strict=True)
    assert loaded.faults == []
    assert loaded.config is not None
    assert loaded.config.admin is not None
    assert loaded.config.admin.endpoint() == ("127.0.0.1", 34901)
    assert [listener.address for listener in loaded.config.servers[0].listeners] == ["127.0.0.1:2045", "127.0.0.1:2046"]


def test_keys_match_in_any_case_and_unknown_ones_get_a_guess() -> None:
    text = '{"Servers": [{"graceful_timeout": "1m", "LISTENERS": [], "proccesor": 2}]}'
    loaded = load_text(text, "f")
    assert loaded.config is not None
    assert loaded.config.servers[0].graceful_timeout == 60.0
    assert shown(loaded) == [("warning", 1, 58, "servers[0].proccesor")]
    assert loaded.faults[0].suggestion == "processor"
    assert load_text(text, "f", strict=True).config is None


def test_of_one_key_in_two_spellings_the_last_one_holds() -> None:
    text = '{"servers": [{"processor": 1, "Processor": 2}]}'
    loaded = load_text(text, "f")
    assert shown(loaded) == [("warning", 1, 14, "servers[0].processor")]
    assert loaded.config is not None
    assert loaded.config.servers[0].processor == 2
    assert shown(load_text(text, "f", strict=True)) == [("error", 1, 14, "servers[0].processor")]


@pytest.mark.parametrize(
    "text",
    [
        '{"servers": [{}], "cluster_manager": {"tls_context": {"verify_client": true, "verify_client": false}}}',
        '{"servers": [{}], "admin": {"token_file": "a", "token_file": "b"}}',
        '{"servers": [{"listeners": [{"stream_filters": [{"type": "ip_access", "type": "gzip"}]}]}]}',
        '{"servers": [{"routers": [{"virtual_hosts": [{"routers": [{"per_filter_config": {"a": 1, "a": 2}}]}]}]}]}',
        '{"servers": [{"listeners": [], "Listeners": []}]}',
    ],
)
def test_a_key_given_twice_that_could_grant_access_or_is_not_one_value(text: str) -> None:
    """Go merges objects and arrays."""
    assert any("duplicate" in fault.message for fault in load_text(text, "f").errors)


def test_a_repeated_key_is_an_error() -> None:
    loaded = load_text('{"servers": [{}],\n "servers": [{}]}', "f")
    assert [(fault.line, fault.column) for fault in loaded.errors] == [(2, 2)]


@pytest.mark.parametrize(
    ("server", "path", "words"),
    [
        ({"default_log_path": 5}, "default_log_path", "expected a string, got a number"),
        ({"listeners": {}}, "listeners", "expected an array, got an object"),
        ({"use_netpoll_mode": "yes"}, "use_netpoll_mode", "expected true or false"),
        ({"processor": True}, "processor", "expected a number or a string"),
        ({"graceful_timeout": "soon"}, "graceful_timeout", "not a duration"),
        ({"worker_hang_limit": "-1s"}, "worker_hang_limit", "must not be negative"),
        ({"graceful_timeout": []}, "graceful_timeout", "a duration such as"),
        ({"listeners": [{"max_connections": -1}]}, "listeners[0].max_connections", "must be 0 or more"),
        ({"listeners": [{"default_read_buffer_size": 1.5}]}, "listeners[0].default_read_buffer_size", "a whole number"),
    ],
)
def test_wrong_types_report_the_expected_one(server: dict[str, Any], path: str, words: str) -> None:
    loaded = load_text(json.dumps({"servers": [server]}), "f")
    assert any(fault.path == f"servers[0].{path}" and words in fault.message for fault in loaded.errors)


def test_null_is_the_same_as_no_key() -> None:
    loaded = load_text('{"admin": null, "servers": [{"graceful_timeout": null, "listeners": null}]}', "f")
    assert loaded.faults == []
    assert loaded.config is not None
    assert loaded.config.servers[0].graceful_timeout == 30.0


def test_null_is_not_one_of_several_words() -> None:
    chain = {"filters": [{"type": "proxy", "config": {"extend_config": {"Http1": {"simplify_host": [None, "any_port"]}}}}]}
    loaded = load_text(json.dumps({"servers": [{"listeners": [{"filter_chains": [chain]}]}]}), "f")
    path = "servers[0].listeners[0].filter_chains[0].filters[0].config.extend_config.Http1.simplify_host[0]"
    assert [fault.message for fault in loaded.errors if fault.path == path] == [
        "must be one of any_port, own_port, trailing_dot"
    ]


def test_keys_without_effect_warn_once_and_only_when_they_ask_for_something() -> None:
    text = json.dumps(
        {
            "servers": [{"listeners": [], "use_netpoll_mode": False}],
            "metrics": {"shm_zone": "z", "flush_interval": "1s"},
            "tracing": {},
        }
    )
    assert [(fault.severity, fault.path) for fault in load_text(text, "f").faults] == [
        ("warning", "metrics.shm_zone"),
        ("warning", "metrics.flush_interval"),
    ]


def test_extend_config_may_be_flat_for_one_protocol() -> None:
    flat = DEFAULT_CONFIG.replace('"client_router"}}]', '"client_router", "extend_config": {"max_header_size": 99}}}]')
    keyed = DEFAULT_CONFIG.replace(
        '"client_router"}}]', '"client_router", "extend_config": {"http1": {"max_header_size": 99}}}}]'
    )
    for text in (flat, keyed):
        loaded = load_text(text, "f")
        assert loaded.faults == []
        assert loaded.config is not None
        proxy = loaded.config.servers[0].listeners[0].filter_chains[0].filters[0]
        assert isinstance(proxy, ProxyFilter)
        assert proxy.config.extend_config.Http1.max_header_size == 99


@pytest.mark.parametrize("value", ["strickt", "", 1, ["strict"]])
def test_a_key_of_few_words_takes_no_other(value: Any) -> None:
    wish = json.dumps({"profile": value})
    loaded = load_text(DEFAULT_CONFIG.replace('"client_router"}}]', f'"client_router", "extend_config": {wish}}}}}]'), "f")
    assert [fault.severity for fault in loaded.faults] == ["error"]
    assert "must be one of" in loaded.faults[0].message
    assert loaded.faults[0].path.endswith("extend_config.Http1.profile")
    assert (loaded.faults[0].suggestion == "strict") is (value == "strickt")


def test_a_connection_manager_is_a_router_table() -> None:
    text = DEFAULT_CONFIG.replace('"routers": [\n', '"routers": [],\n"unused": [\n', 1)
    table = {"router_config_name": "client_router", "virtual_hosts": [{"domains": ["*"]}]}
    for name in ("client_router", "server_router"):
        manager = json.dumps({"type": "connection_manager", "config": {**table, "router_config_name": name}})
        text = text.replace(f'"router_config_name": "{name}"}}}}]', f'"router_config_name": "{name}"}}}}, {manager}]')
    loaded = load_text(text, "f")
    assert loaded.config is not None, [fault.text() for fault in loaded.faults]
    assert sorted(loaded.config.servers[0].router_tables()) == ["client_router", "server_router"]


def test_directories_of_clusters_and_virtual_hosts(tmp_path: Path) -> None:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "hosts").mkdir()
    (tmp_path / "clusters" / "one.json").write_text('{"name": "one", "hosts": [{"address": "127.0.0.1:80"}]}')
    (tmp_path / "clusters" / "empty.json").write_text("")
    (tmp_path / "clusters" / "readme.txt").write_text("no JSON")
    (tmp_path / "hosts" / "v.json").write_text(
        '{"name": "v", "domains": ["*"],\n "routers": [{"route": {"cluster_name": "two"}}]}'
    )
    file = tmp_path / "conf.json"
    server = {"routers": [{"router_config_name": "r", "router_configs": "hosts"}]}
    file.write_text(json.dumps({"servers": [server], "cluster_manager": {"clusters_configs": "clusters"}}))
    loaded = load_file(str(file), strict=True)
    assert [(Path(fault.file).name, fault.line, fault.path.rpartition(".")[2]) for fault in loaded.errors] == [
        ("v.json", 2, "cluster_name")
    ]
    (tmp_path / "clusters" / "two.json").write_text('{"name": "two"}')
    loaded = load_file(str(file))
    assert loaded.config is not None
    assert [cluster.name for cluster in loaded.config.cluster_manager.clusters] == ["one", "two"]
    assert loaded.base_dir == str(tmp_path.parent)


def test_a_directory_in_addition_to_an_inline_list_is_an_error(tmp_path: Path) -> None:
    manager = {"clusters_configs": str(tmp_path), "clusters": [{"name": "a"}]}
    loaded = load_text(json.dumps({"servers": [{}], "cluster_manager": manager}), "f")
    assert [fault.path for fault in loaded.errors] == ["cluster_manager.clusters_configs"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in load_file(str(tmp_path / "none.json")).faults[0].text()
    assert "cannot be read" in load_file(str(tmp_path)).faults[0].text()
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"pid":\n "\xe9"}')
    assert [(fault.line, fault.column, fault.message) for fault in load_file(str(latin)).faults] == [
        (2, 3, "not UTF-8 text")
    ]


def test_a_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    file = tmp_path / "bom.json"
    file.write_bytes(b"\xef\xbb\xbf" + DEFAULT_CONFIG.encode())
    assert load_file(str(file)).faults == []


def test_secrets_do_not_appear_in_faults() -> None:
    text = '{"servers": [{}], "cluster_manager": {"tls_context": {"private_key": 12345}}}'
    assert "12345" not in load_text(text, "f").faults[0].text()


_WORDS = """
servers listeners address filter_chains filters type config routers match route cluster_manager clusters hosts name
tls_context stream_filters extend_config timeout virtual_hosts domains regex headers downstream_protocol processor
router_config_name weighted_clusters cluster metadata admin access_logs log_format redirect extends
"""
_KEYS = st.sampled_from(_WORDS.split())
_VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["proxy", "python", "Http1", "*", "a:b:c", "[::1]:80", "5s", "%", "(", "unix:/x", "-1s", "auto"])
    | st.text(max_size=8)
)
_TREES = st.recursive(
    _VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=25
)


@given(_TREES, st.booleans())
@settings(max_examples=300 // one_of(3), suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_document_makes_loading_raise(tree: Any, as_yaml: bool) -> None:
    text = yaml.dump(tree) if as_yaml else json.dumps(tree)
    loaded = load_text(text, "f", yaml=as_yaml)
    assert (loaded.config is None) == bool(loaded.errors)


@given(st.text(max_size=200), st.booleans())
@settings(max_examples=300 // one_of(3), deadline=None)
def test_no_text_makes_loading_raise(text: str, as_yaml: bool) -> None:
    assert load_text(text, "f", yaml=as_yaml).config is None


@given(st.integers(min_value=0, max_value=len(DEFAULT_CONFIG) - 1), st.sampled_from(list('{}[],:"\\ x0-\n*&!%@`|>#')))
@settings(max_examples=200 // one_of(3), deadline=None)
def test_no_damaged_file_makes_loading_raise(at: int, char: str) -> None:
    text = DEFAULT_CONFIG[:at] + char + DEFAULT_CONFIG[at + 1 :]
    for as_yaml in (False, True):
        assert all(fault.line > 0 for fault in load_text(text, "f", yaml=as_yaml).errors)
