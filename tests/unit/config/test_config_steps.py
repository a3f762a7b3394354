"""Building in steps: other work continues in between, and a half-built configuration is never visible."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from pymosn.assembly.packed_config import PackedConfig
from pymosn.assembly.packer import pack
from pymosn.assembly.steps import Steps, run_in_slices, run_whole
from pymosn.assembly.worker import WorkerRuntime
from pymosn.config.schema import MosnConfig
from pymosn.observe.logs import LogSet
from pymosn.routing.table import RouteTable

LIMIT = {"max_entity_size": 10}


def counting(to: int) -> Steps[int]:
    for _ in range(to):
        yield
    return to


def test_the_loop_goes_round_between_slices() -> None:
    async def scenario() -> tuple[int, int]:
        rounds = 0

        def go_round() -> None:
            nonlocal rounds
            rounds += 1
            loop.call_soon(go_round)

        loop = asyncio.get_running_loop()
        loop.call_soon(go_round)
        assert await run_in_slices(counting(50), 0.0) == 50
        between = rounds
        assert await run_in_slices(counting(50), 60.0) == 50
        return between, rounds - between

    between, in_one_slice = asyncio.run(scenario())
    assert between >= 25  # the clock may not move during a step
    assert in_one_slice == 0
    assert run_whole(counting(3)) == 3


def parcel(**hosts_of: int) -> PackedConfig:
    """Router tables by name, with so many virtual hosts of one route each."""
    routers: list[dict[str, Any]] = [
        {
            "router_config_name": name,
            "virtual_hosts": [
                {"name": f"h{number}", "domains": [f"h{number}"], "routers": [{"match": {}, "route": {"cluster_name": "c"}}]}
                for number in range(count)
            ],
        }
        for name, count in hosts_of.items()
    ]
    return pack(msgspec.convert({"servers": [{"routers": routers}]}, MosnConfig))


def test_a_table_is_active_only_when_it_is_complete(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    runtime = WorkerRuntime(1, 0, loop, LogSet(str(tmp_path / "log")))

    def in_force(name: str) -> RouteTable:
        table = runtime._slots[name].table
        assert table is not None
        return table

    runtime.activate(run_whole(runtime.prepare(parcel(a=3, b=1), "", "")))
    first, other = in_force("a"), in_force("b")
    steps = runtime.prepare(parcel(a=500, b=1), "", "")
    for _ in range(250):
        next(steps)
        assert in_force("a") is first
    made = run_whole(steps)
    assert in_force("a") is first
    runtime.activate(made)
    assert [len(in_force("a").virtual_hosts), in_force("b") is other] == [500, True], (
        "what has not changed is not built anew"
    )
    loop.close()


def test_a_long_list_of_routes_has_stops_too() -> None:
    table = {"router_config_name": "r", "virtual_hosts": [{"domains": ["*"], "routers": [{"redirect": {}}] * 1000}]}
    config = msgspec.convert({"servers": [{"routers": [table]}]}, MosnConfig)
    loop = asyncio.new_event_loop()
    steps = WorkerRuntime(1, 0, loop, LogSet("stdout")).prepare(pack(config), "", "")
    stops = 0
    try:
        while True:
            next(steps)
            stops += 1
    except StopIteration:
        pass
    assert stops >= 10
    loop.close()


def chained(chains: int, edited: int = -1, listeners: int = 1) -> PackedConfig:
    """Listeners with so many chains, each with a filter; one chain of the first listener has another timeout."""

    def chain(number: int) -> dict[str, Any]:
        config: dict[str, Any] = {"router_config_name": "r", "stream_filters": [{"type": "payload_limit", "config": LIMIT}]}
        if number == edited > 0:
            config["connection_idle_timeout"] = 7.0
        return {
            "name": f"n{number}",
            "match": {"destination_port": number + 1},
            "filters": [{"type": "proxy", "config": config}],
        }

    made = [
        {
            "name": f"l{number}",
            "address": f"127.0.0.1:{number + 1}",
            "bind_port": False,
            "filter_chains": [chain(i) for i in range(chains)] if number == 0 else [chain(0)],
        }
        for number in range(listeners)
    ]
    return pack(msgspec.convert({"servers": [{"listeners": made}]}, MosnConfig))


def test_a_listener_of_many_chains_is_built_chain_by_chain(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    runtime = WorkerRuntime(1, 0, loop, LogSet(str(tmp_path / "log")))
    stops, made = 0, None
    steps = runtime.prepare(chained(30), "", "")
    try:
        while True:
            next(steps)
            stops += 1
    except StopIteration as done:
        made = done.value
    assert stops >= 4 * 30
    assert len(made.new_filters) == 30
    loop.close()


def test_what_has_not_changed_is_not_built_again(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    runtime = WorkerRuntime(1, 0, loop, LogSet(str(tmp_path / "log")))
    runtime.activate(run_whole(runtime.prepare(chained(3, listeners=4), "", "")))
    before = list(runtime.active.listeners)
    made = run_whole(runtime.prepare(chained(3, 1, listeners=4), "", ""))
    assert [built in before for built in made.listeners] == [False, True, True, True]
    assert made.new_filters == [], "their settings are the same"
    assert made.filters.keys() == runtime.active.filters.keys()
    runtime.activate(made)
    assert runtime.retired.all_filters == []
    runtime.activate(run_whole(runtime.prepare(chained(3, 1, listeners=2), "", "")))
    assert len(runtime.retired.all_filters) == 2, "of the listeners that are gone"
    loop.close()
