"""The configurations that the peers are given."""

import os
from pathlib import Path

from bench.peers import Plan
from bench.peers.envoy import configuration as envoy_configuration
from bench.peers.pymosn import FILTER_FILE
from bench.peers.pymosn import configuration as pymosn_configuration
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
    document = envoy_configuration(PLAN)
    (listener,) = document["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    names = [filter["name"] for filter in manager["http_filters"]]
    assert names == ["header-filter-1", "header-filter-2", "header-filter-3", "router"]
    source = manager["http_filters"][1]["typed_config"]["default_source_code"]["inline_string"]
    assert '"x-bench-2"' in source
    assert '"x-served-2"' in source


def test_a_child_started_meanwhile_would_be_on_that_core_alone() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    with on_core(core):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before
