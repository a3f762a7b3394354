"""What a change by a control plane costs the supervisor does not depend on the size of the configuration."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest

pytest.importorskip("grpc", reason="needs the extra `xds`")

from bench.xds_apply import Rig
from bench.xds_resources import cluster, endpoints, listener, table
from google.protobuf.message import Message

from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.load import load_text
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from pymosn.server import messages

SIZES = (30, 300)
#: Calls of Python functions that may be more with ten times the clusters: timers, for example, which are a heap.
MORE_CALLS = 60


class Cost:
    """Calls of Python functions, and bytes that a worker was sent."""

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0

    def count(self, frame: FrameType, event: str, argument: object) -> None:
        self.calls += event == "call"


async def inline(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """Instead of a thread, in which no calls would be counted."""
    return function(*arguments, **named)


async def costs_with(clusters: int) -> dict[str, Cost]:
    """The costs of one change of each kind."""
    config = load_text(DEFAULT_CONFIG, DEFAULT_NAME).config
    assert config is not None
    config.servers[0].listeners = []  # their ports are fixed
    rig = Rig(config)
    rig.fleet.start()
    for worker in rig.workers:
        rig.fleet.on_report(worker, messages.Built())
        rig.fleet.on_report(worker, messages.Ready(0, {}))

    async def push(kind: str, resources: Sequence[Message]) -> None:
        await rig.until(lambda: kind in rig.plane.asked)
        nonce, response = rig.plane.response(kind, resources)
        rig.plane.push(response)
        await rig.until(lambda: nonce in rig.plane.answers)
        assert not rig.plane.answers[nonce]

    async def cost_of(kind: str, resource: Message, done: Callable[[], int]) -> Cost:
        _, response = rig.plane.response(kind, [resource])
        before, sent, cost = done(), rig.workers[0].bytes, Cost()
        rig.plane.push(response)
        sys.setprofile(cost.count)
        try:
            while done() == before:
                await asyncio.sleep(0)
        finally:
            sys.setprofile(None)
        cost.bytes = rig.workers[0].bytes - sent
        return cost

    async with rig.services:
        rig.state.start()
        rig.client.start()
        await push(CLUSTER, [cluster(i) for i in range(clusters)])
        await push(ENDPOINTS, [endpoints(i, 3) for i in range(clusters)])
        await push(LISTENER, [listener(0)])
        await push(ROUTES, [table(0, 10)])
        await rig.until(lambda: len(rig.changes.layer.tables) == 1 and len(rig.changes.layer.clusters) == clusters)
        attempts = lambda: rig.changes.last.attempt  # noqa: E731
        # The first change makes indexes.
        await cost_of(ENDPOINTS, endpoints(4, 3, 1), lambda: rig.workers[0].hosts)
        found = {
            "endpoint": await cost_of(ENDPOINTS, endpoints(3, 3, 1), lambda: rig.workers[0].hosts),
            "cluster": await cost_of(CLUSTER, cluster(5, 2.0), attempts),
            "table": await cost_of(ROUTES, table(0, 10, "x/"), attempts),
        }
        assert rig.state.rejected == 0
        await rig.client.stop()
        await rig.state.stop()
    return found


@pytest.mark.once
def test_a_change_costs_what_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "to_thread", inline)
    small, large = [asyncio.run(costs_with(size)) for size in SIZES]
    for what, cost in large.items():
        assert abs(cost.bytes - small[what].bytes) < 100, what
        assert cost.calls - small[what].calls < MORE_CALLS, (what, small[what].calls, cost.calls)
