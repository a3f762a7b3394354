"""The configurations that the peers are given."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from bench.cases import HTTP1, HTTP2, STREAM_CASES, Case, case_named
from bench.peers import Peer, Plan
from bench.peers.envoy import OPTIONS, Envoy, lua_filters
from bench.peers.envoy import configuration as envoy_configuration
from bench.peers.ext_proc import EnvoyExtProc
from bench.peers.haproxy import Haproxy
from bench.peers.nginx import Nginx
from bench.peers.pymosn import FILTER_FILE, Pymosn
from bench.peers.pymosn import configuration as pymosn_configuration
from bench.peers.relay import Relay
from bench.processes import on_core

PLAN = Plan(port=20001, upstream_port=20002, filters=3, directory=Path("unused"))


def test_pymosn_is_given_one_listener_with_the_filters_in_order() -> None:
    document = pymosn_configuration(PLAN, admin_port=20003)
    (server,) = document["servers"]
    (listener,) = server["listeners"]
    assert listener["address"] == "127.0.0.1:20001"
    assert [filter["config"]["number"] for filter in listener["stream_filters"]] == [1, 2, 3]
    assert {filter["config"]["path"] for filter in listener["stream_filters"]} == {str(FILTER_FILE)}
    assert FILTER_FILE.is_file()
    assert server["processor"] == 1


def test_envoys_lua_filters_come_before_its_router() -> None:
    document = envoy_configuration(PLAN, lua_filters(PLAN))
    (listener,) = document["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    names = [filter["name"] for filter in manager["http_filters"]]
    assert names == ["header-filter-1", "header-filter-2", "header-filter-3", "router"]
    source = manager["http_filters"][1]["typed_config"]["default_source_code"]["inline_string"]
    assert '"x-bench-2"' in source
    assert '"x-served-2"' in source


def test_many_hosts_and_routes_are_the_same_for_all() -> None:
    plan = Plan(port=20001, upstream_port=20002, filters=0, directory=Path("unused"), hosts=3)
    (table,) = pymosn_configuration(plan, admin_port=20003)["servers"][0]["routers"]
    domains = [host["domains"] for host in table["virtual_hosts"]]
    assert domains == [["h0.bench"], ["h1.bench"], ["h2.bench"]]
    assert [host["domains"] for host in envoy_hosts(plan)] == domains
    case = Case("h", "", hosts=3)
    assert case.fields["Host"] == "h2.bench"

    plan = Plan(port=20001, upstream_port=20002, filters=0, directory=Path("unused"), routes=5)
    (table,) = pymosn_configuration(plan, admin_port=20003)["servers"][0]["routers"]
    (ours,) = table["virtual_hosts"]
    (theirs,) = envoy_hosts(plan)
    assert [route["match"] for route in ours["routers"]] == [
        {"prefix": "/p0/"},
        {"path": "/e1"},
        {"prefix": "/", "headers": [{"name": "x-route", "value": "2"}]},
        {"prefix": "/p3/"},
        {"prefix": "/"},
    ]
    assert [sorted(route["match"]) for route in theirs["routes"]] == [sorted(route["match"]) for route in ours["routers"]]


def envoy_hosts(plan: Plan) -> list[dict[str, Any]]:
    (listener,) = envoy_configuration(plan, [])["static_resources"]["listeners"]
    hosts: list[dict[str, Any]] = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    return hosts


def test_a_child_started_meanwhile_would_be_on_that_core_alone() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    with on_core(core):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_a_server_in_python_is_asked_about_heads_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("envoy_program", "pip_install"):
        monkeypatch.setattr(f"bench.peers.{'envoy' if name == 'envoy_program' else 'ext_proc'}.{name}", lambda *_: "envoy")
    peer = EnvoyExtProc()
    peer._ports[PLAN.port] = 20004
    resources = peer.configuration(PLAN)["static_resources"]
    filters = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    numbers = [each["typed_config"]["grpc_service"]["initial_metadata"][0]["value"] for each in filters[:-1]]
    assert numbers == ["1", "2", "3"]
    assert {tuple(each["typed_config"]["processing_mode"].values()) for each in filters[:-1]} == {("SEND", "SEND")}
    endpoint = resources["clusters"][1]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"]["port_value"] == 20004


def test_cases_of_each_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.envoy.envoy_program", lambda: "envoy")
    monkeypatch.setattr("bench.peers.ext_proc.pip_install", lambda _: None)
    for name in ("haproxy", "nginx"):
        monkeypatch.setattr(f"bench.peers.{name}.debian_tool", lambda name: name)
    cases = [case_named(name) for name in ("small", "filter3", "async1", "h2_h1", "h2_h2")] + list(STREAM_CASES)

    def taken(peer: Peer) -> list[str]:
        return [case.name for case in cases if peer.takes(case)]

    assert taken(Envoy()) == ["small", "filter3", "h2_h1", "h2_h2", "sse", "sse-header", "grpc_stream"]
    assert taken(Nginx()) == ["small", "filter3", "h2_h1"]
    assert taken(Haproxy()) == ["small", "filter3", "h2_h1", "h2_h2", "sse", "sse-header", "grpc_stream"]
    assert taken(EnvoyExtProc()) == ["filter3", "sse-header"]
    assert taken(Relay()) == ["small"]
    assert taken(Pymosn(sys.executable)) == [case.name for case in cases]


def test_versions_of_http(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.peers.haproxy.debian_tool", lambda name: name)
    for front, back in ((HTTP1, HTTP1), (HTTP2, HTTP1), (HTTP2, HTTP2)):
        plan = Plan(port=20001, upstream_port=20002, filters=0, directory=tmp_path, front=front, back=back)
        (server,) = pymosn_configuration(plan, admin_port=20003)["servers"]
        (chain,) = server["listeners"][0]["filter_chains"]
        assert chain["filters"][0]["config"]["downstream_protocol"] == front
        (route,) = server["routers"][0]["virtual_hosts"][0]["routers"]
        assert route["route"].get("upstream_protocol", front) == back
        resources = envoy_configuration(plan, [])["static_resources"]
        manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        assert manager["codec_type"] == front.upper()
        assert (OPTIONS in str(resources["clusters"])) == (back == HTTP2)
        Haproxy().command(plan)
        text = (tmp_path / "haproxy.cfg").read_text()
        assert text.count("proto h2") == (front, back).count(HTTP2)
