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
