"""`fault`: who is meant, delay and then abort, settings of the route."""

from __future__ import annotations

import time
from typing import Any

import pytest
from shipped_kit import of_route, shipped

from pymosn.testing import Request, World, run, send

ABORT = {"abort": {"percentage": 100, "status": 418}}


def test_abort() -> None:
    result = run(shipped("fault", ABORT), Request())
    assert (result.status, result.reason, result.upstream) == (418, "fault_injected", [])


@pytest.mark.parametrize(
    ("config", "aborted"),
    [
        ({"upstream_cluster": "service"}, True),
        ({"upstream_cluster": "other"}, False),
        ({"headers": [{"name": "X-User", "value": "a"}]}, True),
        ({"headers": [{"name": "X-User", "value": "b"}]}, False),
        ({"headers": [{"name": "x-user", "value": "^[ab]$", "regex": True}, {"name": "method", "value": "GET"}]}, True),
        ({"headers": [{"name": "x-user", "value": "a"}, {"name": "method", "value": "PUT"}]}, False),
    ],
)
def test_affected_requests(config: dict[str, Any], aborted: bool) -> None:
    result = run(shipped("fault", {**ABORT, **config}), Request("GET", "/", {"x-user": "a"}))
    assert (result.status == 418) is aborted


def test_percentages_are_percentages() -> None:
    filters = shipped("fault", {"abort": {"percentage": 30, "status": 418}})

    async def count() -> int:
        world = World(filters)
        statuses = [(await world.send(Request())).status for _ in range(400)]
        assert statuses.count(418) == world.counter("FaultFilter", "aborted")
        return statuses.count(418)

    import asyncio

    # 120 expected, 9 of deviation: 6 of them either way.
    assert 66 <= asyncio.run(count()) <= 174


def test_zero_is_never() -> None:
    config = {"abort": {"percentage": 0, "status": 0}, "delay": {"percentage": 0, "fixed_delay": "1h"}}
    assert run(shipped("fault", config), Request()).status == 200


@pytest.mark.parametrize(("status", "seen"), [(418, []), (0, ["GET"])])
def test_delay_before_abort(status: int, seen: list[str]) -> None:
    config: dict[str, Any] = {"delay": {"percentage": 100, "fixed_delay": "30ms"}}
    if status:
        config["abort"] = {"percentage": 100, "status": status}
    started = time.monotonic()
    result = run(shipped("fault", config), Request())
    assert time.monotonic() - started >= 0.03
    assert [request.method for request in result.upstream] == seen
    assert result.status == (status or 200)


def test_settings_of_the_route_count_instead() -> None:
    own = of_route("fault", {"abort": {"percentage": 100, "status": 503}})
    assert run(shipped("fault", {}), Request(), route_config=own).status == 503
    assert run(shipped("fault", ABORT), Request(), route_config=of_route("fault", {})).status == 200


def test_a_client_that_leaves_ends_the_delay() -> None:
    import asyncio

    async def leave() -> float:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await send(shipped("fault", {"delay": {"percentage": 100, "fixed_delay": "1h"}}), Request())
        return time.monotonic() - started

    assert asyncio.run(leave()) < 5
