"""`flowControlFilter`: Sentinel's rules; windows, throttling, warm-up, resources."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from shipped_kit import problems, shipped

from pymosn.filters.stream.flow_rules import WarmUp, Window
from pymosn.testing import Request, World

TEST = Request("GET", "/test")


def config(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"global_switch": True, "rules": list(rules), **more}


async def passed(world: World, count: int, request: Request = TEST) -> int:
    return [(await world.send(request)).status for _ in range(count)].count(200)


def test_a_threshold_per_second() -> None:
    async def talk() -> None:
        old_keys = {"limitApp": "", "grade": 1, "strategy": 0}
        action = {"status": 500, "body": "blocked"}
        world = World(shipped("flowControlFilter", config({"resource": "/test", "threshold": 3, **old_keys}, action=action)))
        world.clock.now = 1000.0
        assert await passed(world, 2) == 2
        await world.advance(0.5)
        assert await passed(world, 2) == 1
        result = await world.send(TEST)
        assert (result.status, result.text, result.reason) == (500, "blocked", "rate_limited")
        # The window slides: the first two leave it, the third not yet.
        await world.advance(0.6)
        assert await passed(world, 3) == 2
        await world.advance(2)
        assert await passed(world, 4) == 3
        assert await passed(world, 5, Request("GET", "/test/other")) == 5
        assert world.counter("FlowControlFilter", "limited") == 4

    asyncio.run(talk())


def test_the_answer_without_an_action() -> None:
    async def talk() -> None:
        result = await World(shipped("flowControlFilter", config({"resource": "/test", "threshold": 0}))).send(TEST)
        assert (result.status, result.text) == (509, "current request is limited")
        call = Request("POST", "/s.S/M", {"content-type": "application/grpc"})
        world = World(shipped("flowControlFilter", config({"resource": "/s.S/M", "threshold": 0})), client_protocol="Http2")
        assert (await world.send(call)).headers["grpc-status"] == "8"  # RESOURCE_EXHAUSTED, not UNKNOWN

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("kind", "resource", "limited"),
    [
        ("PATH", "/a b", True),
        ("PATH", "/a b?x=1", False),
        ("ARG", "x=1", True),
        ("ARG", "/a b", False),
        ("URI", "/a b?x=1", True),
        ("URI", "/a b", False),
    ],
)
def test_resources(kind: str, resource: str, limited: bool) -> None:
    settings = config({"resource": resource, "threshold": 0}, limit_key_type=kind)
    world = World(shipped("flowControlFilter", settings))
    assert asyncio.run(passed(world, 1, Request("GET", "/a%20b?x=1"))) == (not limited)


@pytest.mark.parametrize("more", [{"global_switch": False}, {"monitor": True}], ids=str)
def test_switched_off_or_counting_only(more: dict[str, Any]) -> None:
    world = World(shipped("flowControlFilter", config({"resource": "/test", "threshold": 1}, **more)))
    assert asyncio.run(passed(world, 3)) == 3
    assert world.counter("FlowControlFilter", "limited") == (2 if "monitor" in more else 0)


def test_each_worker_has_its_part() -> None:
    world = World(shipped("flowControlFilter", config({"resource": "/test", "threshold": 5})), workers=2)
    assert asyncio.run(passed(world, 5)) == 3


def test_throttling_spreads_requests_and_lets_none_wait_too_long() -> None:
    rule = {"resource": "/test", "threshold": 100, "controlBehavior": 1, "maxQueueingTimeMs": 35}

    async def talk() -> None:
        world = World(shipped("flowControlFilter", config(rule)))
        started = time.monotonic()
        # All at the same moment: at once, after 10, 20 and 30 ms; the others would wait longer.
        results = await asyncio.gather(*(world.send(TEST) for _ in range(6)))
        assert [result.status for result in results] == [200, 200, 200, 200, 509, 509]
        assert time.monotonic() - started >= 0.03
        assert world.counter("FlowControlFilter", "queued") == 3

    asyncio.run(talk())


def test_the_requests_of_another_resource_may_count() -> None:
    rule = {"resource": "/read", "relationStrategy": 1, "refResource": "/write", "threshold": 2}

    async def talk() -> None:
        world = World(shipped("flowControlFilter", config(rule)))
        assert await passed(world, 9, Request("GET", "/read")) == 9
        assert await passed(world, 2, Request("GET", "/write")) == 2
        assert await passed(world, 3, Request("GET", "/read")) == 0
        assert await passed(world, 3, Request("GET", "/write")) == 3

    asyncio.run(talk())


def test_all_rules_of_a_resource_count() -> None:
    rules = ({"resource": "/test", "threshold": 5}, {"resource": "/test", "threshold": 2, "statIntervalInMs": 10000})

    async def talk() -> None:
        world = World(shipped("flowControlFilter", config(*rules)))
        assert await passed(world, 9) == 2
        await world.advance(2)
        assert await passed(world, 9) == 0
        await world.advance(9)
        assert await passed(world, 9) == 2

    asyncio.run(talk())


def test_a_window_forgets_tenth_by_tenth() -> None:
    window = Window(1.0)
    for tenth in range(10):
        window.add(50.0 + tenth / 10 + 0.01)
    assert window.total(50.95) == 10
    assert [window.total(50.95 + tenth / 10) for tenth in range(1, 4)] == [9, 8, 7]
    assert window.total(52.5) == 0
    window.add(52.5)
    assert window.total(52.0) == 1  # a clock that goes back does not bring anything back


def test_warm_up_rises_from_a_third_to_all_of_the_threshold() -> None:
    """Sentinel's figures: 90 a second within 10 seconds, from a cold start at 90 / 3."""
    warm_up = WarmUp(90.0, 10, 3)
    rates = []
    passed_last = 0.0
    for second in range(30):
        allowed = warm_up.allowed(passed_last, 100.0 + second)
        rates.append(allowed)
        passed_last = float(int(allowed))
    assert rates[0] == pytest.approx(30, abs=0.5)
    assert rates == sorted(rates)
    assert 8 <= rates.index(90.0) <= 14
    # Idle for long: cold again.
    for second in range(30, 60):
        allowed = warm_up.allowed(0.0, 100.0 + second)
    assert allowed == pytest.approx(30, abs=0.5)


def test_warm_up_in_a_rule() -> None:
    rule = {"resource": "/test", "threshold": 30, "tokenCalculateStrategy": 1, "warmUpPeriodSec": 10}
    assert asyncio.run(passed(World(shipped("flowControlFilter", config(rule))), 40)) == 10


def test_faults() -> None:
    bad = {
        "resource": "",
        "threshold": -1,
        "tokenCalculateStrategy": 2,
        "controlBehavior": 7,
        "relationStrategy": 1,
    }
    cold = {"resource": "a", "tokenCalculateStrategy": 1, "warmUpColdFactor": 1}
    more = {"callback_name": "mine", "dynamic_data_resources": [{}], "action": {"status": 1}}
    found = problems("flowControlFilter", config(bad, cold, **more))
    assert [fault.partition(":")[0] for fault in found] == [
        ".callback_name",
        ".dynamic_data_resources",
        ".action.status",
        ".rules[0].resource",
        ".rules[0].threshold",
        ".rules[0].tokenCalculateStrategy",
        ".rules[0].controlBehavior",
        ".rules[0].refResource",
        ".rules[1].warmUpPeriodSec",
        ".rules[1].warmUpColdFactor",
    ]
