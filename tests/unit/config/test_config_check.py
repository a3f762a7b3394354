"""What is checked across keys."""

import json
from typing import Any

import pytest

from pymosn.assembly.clusters import original_plan
from pymosn.config.default import DEFAULT_CONFIG
from pymosn.config.load import load_text
from pymosn.config.schema import Server

SERVER = "servers[0]"
LISTENER = f"{SERVER}.listeners[0]"
PROXY = f"{LISTENER}.filter_chains[0].filters[0].config"
HOST = f"{SERVER}.routers[0].virtual_hosts[0]"
ROUTE = f"{HOST}.routers[0]"
CLUSTER = "cluster_manager.clusters[0]"

MIRROR = json.loads(DEFAULT_CONFIG)["cluster_manager"]["clusters"][0]["name"]

ERROR, WARNING, NOTHING = "error", "warning", None


def rewrite(substitution: str) -> dict[str, Any]:
    """A `regex_rewrite`."""
    return {"pattern": {"regex": "^/([^/]*)"}, "substitution": substitution}


def retrying(on: Any, **more: Any) -> dict[str, Any]:
    """A route action with a retry policy."""
    return {"cluster_name": "serverCluster", "retry_policy": {"retry_on": on, **more}}


def with_change(path: str, value: Any) -> dict[str, Any]:
    """The built-in example with one value set; the path is written as in a fault."""
    config: Any = json.loads(DEFAULT_CONFIG)
    steps = path.replace("[", ".[").split(".")
    at = config
    for step in steps[:-1]:
        if step.startswith("["):
            at = at[int(step[1:-1])]
        else:
            at = at.setdefault(step, {})
    last = steps[-1]
    if last.startswith("["):
        at[int(last[1:-1]) :] = [value]
    else:
        at[last] = value
    return dict(config)


def severity_at(path: str, value: Any) -> str | None:
    loaded = load_text(json.dumps(with_change(path, value)), "f")
    found = [fault.severity for fault in loaded.faults if fault.path.startswith(path)]
    others = [fault.text() for fault in loaded.faults if not fault.path.startswith(path)]
    assert others == []
    return found[0] if found else None


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("servers", [], ERROR),
        ("servers[1]", {}, ERROR),
        ("admin", {}, WARNING),
        ("user", "root", NOTHING),
        ("user", "0", NOTHING),
        ("user", "no such user", ERROR),
        ("user", "4000000000", ERROR),
        ("user", "4294967295", ERROR),
        ("group", "root", ERROR),
        ("umask", "0027", NOTHING),
        ("umask", "27", NOTHING),
        ("umask", "0888", ERROR),
        ("umask", "1777", ERROR),
        ("umask", "-1", ERROR),
        ("node", {"id": "x"}, NOTHING),
        (f"{SERVER}.default_log_level", "debug", WARNING),
        (f"{SERVER}.default_log_level", "DEBUG", NOTHING),
        (f"{SERVER}.default_log_path", "syslog+udp://h:1", NOTHING),
        (f"{SERVER}.global_log_roller", "size=100 keep=3 compress=on", NOTHING),
        (f"{SERVER}.global_log_roller", "time=25", WARNING),
        (f"{SERVER}.global_log_roller", "weekly", ERROR),
        (f"{SERVER}.processor", "auto", NOTHING),
        (f"{SERVER}.processor", "4", NOTHING),
        (f"{SERVER}.processor", "atuo", WARNING),
        (f"{SERVER}.processor", 100000, ERROR),
        (f"{SERVER}.overload.stop_accept", 0.9, NOTHING),
        (f"{SERVER}.overload.stop_accept", 0.85, ERROR),
        (f"{SERVER}.overload.shed", 0.7, ERROR),
        (f"{SERVER}.overload.stop_keep_alive", -0.1, ERROR),
        (f"{SERVER}.overload.stop_accept", 1.5, ERROR),
        (f"{SERVER}.overload.memory_limit", -1, NOTHING),
        (f"{SERVER}.overload.memory_limit", -2, ERROR),
        (f"{SERVER}.limits.max_connections", -1, ERROR),
        (f"{LISTENER}.max_connections", 10, NOTHING),
        (f"{LISTENER}.address", "", ERROR),
        (f"{LISTENER}.address", "127.0.0.1", ERROR),
        (f"{LISTENER}.address", "example.com:80", ERROR),
        (f"{LISTENER}.address", "::1:80", ERROR),
        (f"{LISTENER}.address", "[::1]:80", NOTHING),
        (f"{LISTENER}.address", "0.0.0.0:0", NOTHING),
        (f"{LISTENER}.address", ":80", NOTHING),
        (f"{LISTENER}.network", "TCP", NOTHING),
        (f"{LISTENER}.network", "unx", ERROR),
        (f"{LISTENER}.network", "tpc", ERROR),
        (f"{LISTENER}.bind_port", False, WARNING),
        (f"{LISTENER}.mode", "0660", ERROR),
        (f"{LISTENER}.user", "root", ERROR),
        (f"{LISTENER}.group", "root", ERROR),
        (f"{LISTENER}.inspector", True, WARNING),
        (f"{LISTENER}.use_original_dst", "redirect", NOTHING),
        (f"{LISTENER}.use_original_dst", "tproxy", NOTHING),
        (f"{LISTENER}.use_original_dst", "redir", WARNING),
        (f"{LISTENER}.access_logs", [{"log_format": "%start_time% %response_code%"}], NOTHING),
        (f"{LISTENER}.access_logs", [{"log_format": r"100\% %request_header_X-Y%"}], NOTHING),
        (f"{LISTENER}.access_logs", [{"log_format": "%start_time"}], ERROR),
        (f"{LISTENER}.access_logs", [{"log_format": "%%"}], ERROR),
        (f"{LISTENER}.access_logs", [{"log_format": "%start_tme%"}], WARNING),
        (f"{LISTENER}.access_logs", [{"log_path": "syslog"}], NOTHING),
        (f"{LISTENER}.access_logs", [{"log_format": "%reason% %attempts% %upstream_address%"}], NOTHING),
        (f"{LISTENER}.filter_chains", [], ERROR),
        (f"{LISTENER}.filter_chains", [{}], WARNING),
        (f"{LISTENER}.filter_chains[1]", {}, ERROR),
        (f"{LISTENER}.filter_chains[0].tls_context", {"status": False}, NOTHING),
        (f"{LISTENER}.filter_chains[0].tls_context", {"status": True}, ERROR),
        (f"{LISTENER}.filter_chains[0].tls_context_set", [{"status": True}], ERROR),
        (f"{LISTENER}.filter_chains[0].filters", [{"type": "tcp_proxy"}], WARNING),
        (f"{LISTENER}.filter_chains[0].filters", [{"type": "proxi"}], ERROR),
        (f"{LISTENER}.filter_chains[0].filters", [{}], ERROR),
        (f"{LISTENER}.stream_filters", [{"type": "healthcheck"}], WARNING),
        (f"{LISTENER}.stream_filters", [{"type": "dsl"}], ERROR),
        (f"{LISTENER}.stream_filters", [{"type": "gzpi"}], ERROR),
        (f"{LISTENER}.stream_filters", [{"type": ""}], ERROR),
        (f"{LISTENER}.stream_filters", [{"type": "python", "config": {"path": "f.py", "class": "A", "x": 1}}], NOTHING),
        (f"{LISTENER}.stream_filters", [{"type": "python", "config": {"path": "f.py"}}], ERROR),
        (f"{LISTENER}.stream_filters", [{"type": "python", "config": {"path": "f.py", "class": "a b"}}], ERROR),
        (f"{LISTENER}.stream_filters", [{"type": "x", "go_plugin_config": {"so_path": "x.so"}}], ERROR),
        (f"{LISTENER}.listener_filters", [{"type": "original_dst"}], WARNING),
        (f"{LISTENER}.listener_filters", [{"type": "orginal_dst"}], ERROR),
        (f"{PROXY}.downstream_protocol", "", ERROR),
        (f"{PROXY}.downstream_protocol", "Auto", NOTHING),
        (f"{PROXY}.downstream_protocol", "bolt", NOTHING),
        (f"{PROXY}.downstream_protocol", "Auto, Http1, boltv2", NOTHING),
        (f"{PROXY}.downstream_protocol", "Http2,Http1", NOTHING),
        (f"{PROXY}.downstream_protocol", "Http2, Http1", NOTHING),
        (f"{PROXY}.downstream_protocol", "bold, Http1", ERROR),
        (f"{PROXY}.downstream_protocol", "X", ERROR),
        (f"{PROXY}.fallback_for_unknown_protocol", True, WARNING),
        (f"{PROXY}.downstream_protocol", "Http2", NOTHING),
        (f"{PROXY}.downstream_protocol", "http1", ERROR),
        (f"{PROXY}.router_config_name", "none", WARNING),
        (f"{PROXY}.router_config_name", "", WARNING),
        (f"{PROXY}.upstream_protocol", "Http1", WARNING),
        (f"{PROXY}.extend_config", {"max_header_size": 0}, ERROR),
        (f"{PROXY}.extend_config", {"Http1": {"header_timeout": "10s", "x_request_id": False}}, NOTHING),
        (f"{PROXY}.extend_config", {"Http2": {"http2_use_stream": True}}, WARNING),
        (f"{PROXY}.extend_config", {"Http2": {"http2_use_stream": False, "max_concurrent_streams": 100}}, NOTHING),
        (f"{PROXY}.extend_config", {"Http2": {"max_frame_size": 1}}, ERROR),
        (f"{PROXY}.extend_config", {"Http2": {"initial_connection_window_size": 1000}}, ERROR),
        (f"{PROXY}.extend_config", {"upgrades": ["websocket", "SPDY/3.1"], "connect": "terminate"}, NOTHING),
        (f"{PROXY}.extend_config", {"upgrades": [], "connect": "forward", "tunnel_idle_timeout": "1h"}, NOTHING),
        (f"{PROXY}.extend_config", {"upgrades": ["h2c"]}, ERROR),
        (f"{PROXY}.extend_config", {"upgrades": ["HTTP/2.0"]}, ERROR),
        (f"{PROXY}.extend_config", {"upgrades": ["web socket"]}, ERROR),
        (f"{PROXY}.extend_config", {"upgrades": ["foo/"]}, ERROR),
        (f"{PROXY}.extend_config", {"connect": "on"}, ERROR),
        (f"{HOST}.domains", [], WARNING),
        (f"{HOST}.domains", ["a.com", "a.com:80", "*.a.com", "*a.com:*", "*"], NOTHING),
        (f"{HOST}.domains", ["A.com", "a.COM"], ERROR),
        (f"{HOST}.domains", ["*", "*:*"], ERROR),
        (f"{HOST}.domains", ["a.*"], ERROR),
        (f"{HOST}.domains", ["a.com:http"], ERROR),
        (f"{HOST}.domains", [""], ERROR),
        (f"{ROUTE}.request_mirror_policies", {"cluster": MIRROR, "percent": 10}, NOTHING),
        (f"{ROUTE}.request_mirror_policies", [{"cluster": MIRROR, "percent": 1}, {"cluster": MIRROR}], NOTHING),
        (f"{ROUTE}.request_mirror_policies", {"cluster": "nowhere", "percent": 10}, WARNING),
        (f"{ROUTE}.request_mirror_policies", [{"cluster": MIRROR}, {"cluster": "nowhere"}], WARNING),
        (f"{ROUTE}.request_mirror_policies", {"percent": 10}, WARNING),
        (f"{ROUTE}.request_mirror_policies", {}, NOTHING),
        (f"{ROUTE}.request_mirror_policies", {"cluster": MIRROR, "percent": 101}, WARNING),
        (f"{ROUTE}.request_mirror_policies", "all", ERROR),
        (
            f"{ROUTE}.route",
            {"cluster_name": "serverCluster", "upstream_protocol": "bolt", "auto_host_rewrite": True},
            WARNING,
        ),
        (
            f"{ROUTE}.route",
            {"cluster_name": "serverCluster", "upstream_protocol": "Http1", "auto_host_rewrite": True},
            NOTHING,
        ),
        (f"{LISTENER}.stream_filters", [{"type": "mirror", "config": {"amplification": 3, "broadcast": True}}], NOTHING),
        (f"{LISTENER}.stream_filters", [{"type": "mirror", "config": {"amplification": "3"}}], ERROR),
        (f"{ROUTE}.match", {"regex": "^/a+$"}, NOTHING),
        (f"{ROUTE}.match", {"regex": "("}, ERROR),
        (f"{ROUTE}.match", {"regex": "[[:alpha:]]"}, None),
        (f"{ROUTE}.match", {"regex": "(?=a)"}, ERROR),
        (f"{ROUTE}.match", {"regex": "(a)\\1"}, ERROR),
        (f"{ROUTE}.match", {"prefix": "/", "path": "/x"}, WARNING),
        (f"{ROUTE}.match", {"headers": [{"name": "x", "value": "[", "regex": True}]}, ERROR),
        (f"{ROUTE}.match", {"headers": [{"value": "x"}]}, WARNING),
        (f"{ROUTE}.match", {"variables": [{"name": "x-mosn-path", "value": "y"}]}, None),
        (f"{ROUTE}.match", {"variables": [{"name": "x-mosn-path", "model": "xor"}]}, ERROR),
        (f"{ROUTE}.match", {"variables": [{"name": ""}]}, ERROR),
        (f"{ROUTE}.match", {"dsl_expressions": [{"expression": "a +"}]}, ERROR),
        (ROUTE, {"redirect": {"path_redirect": "/"}, "route": {"cluster_name": "serverCluster"}}, WARNING),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "retry_policy": {"retry_on": True}}, NOTHING),
        (f"{ROUTE}.route", retrying("unavailable"), NOTHING),
        (f"{ROUTE}.route", retrying("5xx, Unavailable,refused-stream"), NOTHING),
        (f"{ROUTE}.route", retrying(["internal", "reset"]), NOTHING),
        (f"{ROUTE}.route", retrying(["internal", "not-found"]), ERROR),
        (f"{ROUTE}.route", retrying("ok"), ERROR),
        (f"{ROUTE}.route", retrying(3), ERROR),
        (f"{ROUTE}.route", retrying([True]), ERROR),
        (f"{ROUTE}.route", retrying("retriable-status-codes"), WARNING),
        (f"{ROUTE}.route", retrying("retriable-status-codes", status_codes=[502]), NOTHING),
        (f"{ROUTE}.route", {"cluster_name": "severCluster"}, WARNING),
        (f"{ROUTE}.route", {}, WARNING),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "prefix_rewrite": "/a/.well-known/b..c"}, NOTHING),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "prefix_rewrite": "/a/../b"}, ERROR),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "prefix_rewrite": "../b"}, ERROR),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "prefix_rewrite": "/a/%2e%2e/"}, ERROR),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "prefix_rewrite": "/a/."}, ERROR),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "regex_rewrite": rewrite("/$1/..")}, ERROR),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "regex_rewrite": rewrite("/..;$1/")}, ERROR),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "regex_rewrite": rewrite("/.$1./")}, NOTHING),
        (f"{ROUTE}.route", {"cluster_variable": "request_header_x"}, None),
        (f"{ROUTE}.route", {"cluster_header": "x"}, None),
        (f"{ROUTE}.route", {"cluster_name": "c", "hash_policy": [{}]}, WARNING),
        (f"{ROUTE}.route", {"cluster_name": "serverCluster", "upstream_protocol": "Http2"}, NOTHING),
        (f"{ROUTE}.route", {"weighted_clusters": [{"cluster": {"name": "serverCluster", "weight": 1}}]}, NOTHING),
        (f"{ROUTE}.route", {"weighted_clusters": [{"cluster": {"name": "serverCluster"}}]}, ERROR),
        (f"{ROUTE}.route", {"weighted_clusters": [{"cluster": {"name": "x", "weight": 1}}]}, WARNING),
        (f"{ROUTE}.match.headers", [{"value": "x"}], WARNING),
        (f"{ROUTE}.match.headers", [{"present_match": True}], ERROR),
        (f"{ROUTE}.match.query_parameters", [{"value": "x"}], ERROR),
        (f"{CLUSTER}.type", "SIMPEL", WARNING),
        (f"{CLUSTER}.type", "ORIGINL_DST", WARNING),
        (f"{CLUSTER}.type", "strict_dns", WARNING),
        (f"{CLUSTER}.lb_type", "LB_ROUNDROBIN", NOTHING),
        (f"{CLUSTER}.lb_type", "LB_MAGLEV", NOTHING),
        (f"{CLUSTER}.lb_type", "LB_RING_HASH", NOTHING),
        (f"{CLUSTER}.lb_type", "RANDOM", WARNING),
        (f"{CLUSTER}.tls_context", {"status": True}, NOTHING),
        (f"{CLUSTER}.cluster_manager_tls", True, ERROR),
        (f"{CLUSTER}.hosts", [{"address": "some-host.local:80"}, {"address": "[::1]:80"}], NOTHING),
        (f"{CLUSTER}.hosts", [], WARNING),
        (f"{CLUSTER}.hosts", [{"address": "1.2.3:80"}], WARNING),
        (f"{CLUSTER}.hosts", [{"address": "host:0"}], WARNING),
        (f"{CLUSTER}.hosts", [{"address": "unix:/tmp/x"}], NOTHING),
        (f"{CLUSTER}.hosts", [{"address": "unix:"}], ERROR),
        (f"{CLUSTER}.hosts", [{"address": "unix:@abstract"}], ERROR),
        (f"{CLUSTER}.hosts", [{"address": "unix:/" + "x" * 107}], ERROR),
        (f"{CLUSTER}.health_check", {"protocol": "SofaRpc"}, NOTHING),
        (f"{CLUSTER}.health_check", {"protocol": "htpp"}, WARNING),
        (f"{CLUSTER}.health_check", {"protocol": "Http1"}, WARNING),
        (f"{CLUSTER}.health_check", {"protocol": "http", "check_config": {"http_check_config": {}}}, NOTHING),
        (f"{CLUSTER}.dns_lookup_family", "V6", WARNING),
        (f"{CLUSTER}.respect_dns_ttl", True, WARNING),
        (f"{CLUSTER}.hosts", [{"address": "h:1"}, {"address": "h:1"}], WARNING),
        (f"{CLUSTER}.hosts", [{"address": "h:1", "weight": 3}], NOTHING),
        (f"{CLUSTER}.hosts", [{"address": "h:1", "weight": 129}], WARNING),
        (f"{CLUSTER}.lb_subset_config", {"fall_back_policy": 2, "subset_selectors": [["v"]]}, NOTHING),
        (f"{CLUSTER}.lb_subset_config", {"fall_back_policy": 3}, WARNING),
        (f"{CLUSTER}.slow_start", {"mode": "duration", "slow_start_duration": "10s"}, NOTHING),
        (f"{CLUSTER}.slow_start", {"mode": "durations"}, WARNING),
        (f"{CLUSTER}.outlier_detection", {"max_ejection_percent": 100, "interval": "5s"}, NOTHING),
        (f"{CLUSTER}.outlier_detection", {}, WARNING),
        (f"{CLUSTER}.panic_threshold", 50, NOTHING),
        (f"{CLUSTER}.panic_threshold", 101, ERROR),
        (f"{CLUSTER}.circuit_breakers", [{"max_connections": 1}], NOTHING),
        (f"{CLUSTER}.circuit_breakers", [{"max_connections": 1}, {}], WARNING),
        ("pid", "/run/a\0b", ERROR),
        (f"{SERVER}.default_log_path", "/var/log/a\0b", ERROR),
        (f"{LISTENER}.access_logs[0].log_path", "/var/log/a\0b", ERROR),
        (f"{CLUSTER}.dns_resolver_file", "/etc/a\0b", ERROR),
        (f"{CLUSTER}.health_check.event_log_path", "/var/log/a\0b", ERROR),
    ],
)
def test_one_change(path: str, value: Any, expected: str | None) -> None:
    assert severity_at(path, value) == expected


def test_the_path_of_a_filter_without_a_file_that_can_exist() -> None:
    entry = {"type": "python", "config": {"path": "a\0.py", "class": "A"}}
    path = f"{LISTENER}.stream_filters[0].config.path"
    faults = load_text(json.dumps(with_change(f"{LISTENER}.stream_filters", [entry])), "f").faults
    assert path in [fault.path for fault in faults if fault.severity == ERROR]


def test_listeners_must_differ_in_name_and_address() -> None:
    second = f"{SERVER}.listeners[1]"
    assert severity_at(f"{second}.name", "clientListener") == ERROR
    assert severity_at(f"{second}.address", "127.0.0.1:2045") == ERROR


def test_of_equal_names_the_later_cluster_or_table_counts_with_a_warning() -> None:
    config = json.loads(DEFAULT_CONFIG)
    config["cluster_manager"]["clusters"].append(config["cluster_manager"]["clusters"][0])
    config["servers"][0]["routers"].append(config["servers"][0]["routers"][0])
    loaded = load_text(json.dumps(config), "f")
    assert loaded.config is not None
    assert [fault.path for fault in loaded.warnings] == [
        "servers[0].routers[2].router_config_name",
        "cluster_manager.clusters[2].name",
    ]


def test_filters_of_installed_packages_are_known() -> None:
    text = json.dumps(with_change(f"{LISTENER}.stream_filters", [{"type": "tenant", "config": {"a": 1}}]))
    assert load_text(text, "f").config is None
    assert load_text(text, "f", stream_filters={"tenant"}).faults == []


def test_a_route_needs_an_action_and_redirects_a_known_code() -> None:
    assert severity_at(ROUTE, {"match": {"prefix": "/"}}) == WARNING
    assert severity_at(ROUTE, {"redirect": {"response_code": 300}}) == ERROR
    assert severity_at(ROUTE, {"redirect": {"scheme_redirect": "ht tp"}}) == ERROR
    assert severity_at(ROUTE, {"direct_response": {"status": 99}}) == ERROR
    assert severity_at(ROUTE, {"direct_response": {"status": 200, "body": "ok"}}) is None


@pytest.mark.parametrize("match", [{"value": "(", "regex": True}, {"value": "x", "invert_match": True}], ids=str)
def test_a_condition_without_a_name_must_be_valid_all_the_same(match: dict[str, Any]) -> None:
    faults = load_text(json.dumps(with_change(f"{ROUTE}.match.headers", [match])), "f").faults
    assert [fault.path for fault in faults if fault.severity == ERROR]


@pytest.mark.parametrize(
    "keys",
    [
        {"type": "SIMPLE"},
        {"type": "STRICT_DNS"},
        {"type": "EDS"},
        {"type": "ORIGINAL_DST", "hosts": []},
        {"lb_type": "LB_ORIGINAL_DST", "original_dst_lb_config": {"use_header": True}},
    ],
    ids=str,
)
def test_with_a_negative_connect_timeout_no_cluster_has_hosts_nor_finds_any(keys: dict[str, Any]) -> None:
    config = json.loads(DEFAULT_CONFIG)
    config["cluster_manager"]["clusters"][0] |= {"connect_timeout": "-1s", **keys}
    loaded = load_text(json.dumps(config), "f").config
    assert loaded is not None
    cluster = loaded.cluster_manager.clusters[0]
    assert (cluster.hosts, cluster.type, original_plan(cluster)) == ([], "SIMPLE", None)


def test_a_faulty_entry_does_not_shift_the_positions_of_the_next() -> None:
    config = json.loads(DEFAULT_CONFIG)
    config["servers"][0]["listeners"].insert(0, 5)
    config["servers"][0]["listeners"][2]["address"] = "nowhere"
    paths = [fault.path for fault in load_text(json.dumps(config), "f").faults]
    assert paths == ["servers[0].listeners[0]", "servers[0].listeners[2].address"]


@pytest.mark.parametrize(
    ("processor", "workers"), [(0, 8), (3, 3), (2.7, 2), ("auto", 8), ("4", 4), ("many", 8), (-1, 8), ("1_0", 8), (" 3 ", 8)]
)
def test_processor_is_the_number_of_workers(processor: int | float | str, workers: int) -> None:
    assert Server(processor=processor).workers(8) == workers


def faults_of(*changes: tuple[str, Any]) -> list[tuple[str, str]]:
    """Severity and path of every fault of the built-in example with several values set."""
    config: Any = json.loads(DEFAULT_CONFIG)
    for path, value in changes:
        at = config
        *steps, last = path.replace("[", ".[").split(".")
        for step in steps:
            at = at[int(step[1:-1])] if step.startswith("[") else at[step]
        at[last] = value
    return [(fault.severity, fault.path) for fault in load_text(json.dumps(config), "f").faults]


UNIX_LISTENER = ((f"{LISTENER}.network", "unix"), (f"{LISTENER}.address", "/tmp/x.sock"))
DNS = (f"{CLUSTER}.type", "STRICT_DNS")
ORIGINAL = ((f"{CLUSTER}.type", "ORIGINAL_DST"), (f"{CLUSTER}.lb_type", "LB_ORIGINAL_DST"))
HEADER = (f"{CLUSTER}.original_dst_lb_config", {"use_header": True})
ALLOWED = f"{CLUSTER}.original_dst_lb_config.allowed_destinations[0]"


def allowed(**entry: str) -> tuple[str, dict[str, object]]:
    """A list of one allowed destination."""
    return HEADER[0], {"use_header": True, "allowed_destinations": [entry]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (UNIX_LISTENER, []),
        ([(f"{LISTENER}.network", "Unix"), (f"{LISTENER}.address", "x" * 108)], [(ERROR, f"{LISTENER}.address")]),
        ([*UNIX_LISTENER, (f"{LISTENER}.use_original_dst", "redirect")], [(ERROR, f"{LISTENER}.use_original_dst")]),
        (
            [*UNIX_LISTENER, (f"{SERVER}.listeners[1].network", "unix"), (f"{SERVER}.listeners[1].address", "/tmp/x.sock")],
            [(ERROR, f"{SERVER}.listeners[1].address")],
        ),
        # A listener without a socket needs one that hands over to it.
        ([(f"{SERVER}.listeners[1].bind_port", False)], [(WARNING, f"{SERVER}.listeners[1].bind_port")]),
        ([(f"{SERVER}.listeners[1].bind_port", False), (f"{LISTENER}.use_original_dst", "redirect")], []),
        ([(f"{LISTENER}.listener_filters", [{"type": "original_dst"}]), (f"{LISTENER}.use_original_dst", "tproxy")], []),
        (
            [
                (f"{LISTENER}.listener_filters", [{"type": "original_dst", "config": {"type": "tprxy"}}]),
                (f"{LISTENER}.use_original_dst", "tproxy"),
            ],
            [(ERROR, f"{LISTENER}.listener_filters[0].config.type")],
        ),
        # Where do requests go to?
        (
            [*ORIGINAL, (f"{CLUSTER}.hosts", [])],
            [(WARNING, f"{CLUSTER}.type")],
        ),
        ([(f"{CLUSTER}.lb_type", "LB_ORIGINAL_DST"), (f"{CLUSTER}.hosts", []), HEADER], []),
        ([ORIGINAL[0], (f"{CLUSTER}.hosts", []), HEADER], [(WARNING, f"{CLUSTER}.lb_type")]),  # it has LB_RANDOM
        ([*ORIGINAL, HEADER], [(WARNING, f"{CLUSTER}.hosts")]),
        ([*ORIGINAL, (f"{CLUSTER}.hosts", []), allowed(network="10.0.0.0/8", ports="80,8000-8099")], []),
        ([*ORIGINAL, (f"{CLUSTER}.hosts", []), allowed(network="::1")], []),
        ([*ORIGINAL, (f"{CLUSTER}.hosts", []), allowed(network="10.0.0.1/8")], [(ERROR, f"{ALLOWED}.network")]),
        ([*ORIGINAL, (f"{CLUSTER}.hosts", []), allowed(network="name.test")], [(ERROR, f"{ALLOWED}.network")]),
        ([*ORIGINAL, (f"{CLUSTER}.hosts", []), allowed(ports="80")], [(ERROR, f"{ALLOWED}.network")]),
        ([*ORIGINAL, (f"{CLUSTER}.hosts", []), allowed(network="::1", ports="90-80")], [(ERROR, f"{ALLOWED}.ports")]),
        (
            [
                *ORIGINAL,
                (f"{CLUSTER}.hosts", []),
                HEADER,
                (f"{CLUSTER}.health_check", {"timeout": "9s"}),
            ],
            [(WARNING, f"{CLUSTER}.health_check")],
        ),
        (
            [
                *ORIGINAL,
                (f"{CLUSTER}.hosts", []),
                (f"{CLUSTER}.original_dst_lb_config", {"use_header": True, "header_name": "a b"}),
            ],
            [(ERROR, f"{CLUSTER}.original_dst_lb_config.header_name")],
        ),
        # DNS servers.
        ([DNS, (f"{CLUSTER}.respect_dns_ttl", True)], []),
        ([DNS, (f"{CLUSTER}.dns_resolvers", {"servers": ["192.0.2.1", "::1"], "port": "5353", "search": ["a.test"]})], []),
        (
            [DNS, (f"{CLUSTER}.dns_resolvers", {"servers": ["dns.test"], "port": "dns"})],
            [(ERROR, f"{CLUSTER}.dns_resolvers.port"), (ERROR, f"{CLUSTER}.dns_resolvers.servers[0]")],
        ),
        ([DNS, (f"{CLUSTER}.dns_resolver_port", "99999")], [(ERROR, f"{CLUSTER}.dns_resolver_port")]),
    ],
)
def test_several_changes(changes: list[tuple[str, Any]], expected: list[tuple[str, str]]) -> None:
    assert sorted(faults_of(*changes)) == sorted(expected)


def test_dns_servers_without_the_library_are_an_error_with_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymosn.config.check.clusters.find_spec", lambda name: None)
    config = with_change(f"{CLUSTER}.type", "STRICT_DNS")
    config["cluster_manager"]["clusters"][0]["respect_dns_ttl"] = True
    (fault,) = load_text(json.dumps(config, indent=1), "f").faults
    assert (fault.severity, fault.path) == ("error", f"{CLUSTER}.respect_dns_ttl")
    assert "pymosn[dns]" in fault.message
    assert "respect_dns_ttl" in json.dumps(config, indent=1).splitlines()[fault.line - 1]


def test_transcoded_requests_are_not_mirrored() -> None:
    config = with_change(f"{ROUTE}.request_mirror_policies", {"cluster": MIRROR, "percent": 10})
    table = config["servers"][0]["routers"][0]
    table["virtual_hosts"][0]["routers"][0]["route"]["upstream_protocol"] = "dubbo"
    faults = load_text(json.dumps(config), "f").faults
    [fault] = [fault for fault in faults if fault.path == f"{ROUTE}.request_mirror_policies"]
    assert fault.severity == WARNING
    assert "transcoded to dubbo" in fault.message


@pytest.mark.parametrize(
    ("keys", "bad"),
    [
        ({"mode": "0660", "user": "root", "group": "root"}, None),
        ({"group": "0"}, None),
        ({"mode": "660x"}, "mode"),
        ({"mode": "04755"}, "mode"),
        ({"user": "no such user"}, "user"),
        ({"user": "root", "group": "no such group"}, "group"),
        ({"group": "no such group"}, "group"),
    ],
)
def test_who_may_use_a_unix_socket(keys: dict[str, str], bad: str | None) -> None:
    config = with_change(f"{LISTENER}.network", "unix")
    config["servers"][0]["listeners"][0] |= {"address": "/tmp/a.sock", **keys}
    loaded = load_text(json.dumps(config), "f")
    assert [fault.path for fault in loaded.errors] == ([] if bad is None else [f"{LISTENER}.{bad}"])


def test_a_group_must_exist_too() -> None:
    loaded = load_text(json.dumps(with_change("user", "root") | {"group": "no such group"}), "f")
    assert [(fault.path, fault.message) for fault in loaded.errors] == [("group", "unknown group")]


def test_the_grpc_server_of_mosn_is_refused_with_a_word_on_what_to_use() -> None:
    config = with_change(f"{LISTENER}.filter_chains[0].filters[0]", {"type": "grpc", "config": {"server_name": "hello"}})
    faults = load_text(json.dumps(config), "f").errors
    [fault] = [fault for fault in faults if fault.path == f"{LISTENER}.filter_chains[0].filters[0].type"]
    assert "forward to it with a `proxy` filter" in fault.message
