"""`local_rate_limit`: buckets by key, their number, their share."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from shipped_kit import of_route, problems, shipped

from pymosn.filters.stream.local_rate_limit import Buckets
from pymosn.testing import Request, World


def rate(**config: Any) -> Any:
    return of_route("local_rate_limit", {"requests": 2, **config})["local_rate_limit"]


def statuses(sent: list[Request], workers: int = 1, route: dict[str, object] | None = None, **config: Any) -> list[int]:
    async def talk() -> list[int]:
        filters = shipped("local_rate_limit", {"requests": 2, "per": "10s", **config})
        world = World(filters, workers=workers, route_config=route)
        return [(await world.send(request)).status for request in sent]

    return asyncio.run(talk())


def test_requests_beyond_the_burst() -> None:
    async def talk() -> None:
        world = World(shipped("local_rate_limit", {"requests": 2, "per": "10s", "body": "slow down"}))
        assert [(await world.send(Request())).status for _ in range(2)] == [200, 200]
        result = await world.send(Request())
        assert (result.status, result.text, result.reason) == (429, "slow down", "rate_limited")
        assert result.headers["retry-after"] == "5"
        await world.advance(4.9)  # and 0.05 more
        assert (await world.send(Request())).status == 429
        await world.advance(0.1)
        assert (await world.send(Request())).status == 200
        await world.advance(1000)
        assert [(await world.send(Request())).status for _ in range(3)] == [200, 200, 429]
        assert world.counter("LocalRateLimitFilter", "limited") == 3

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [200, 200, 429, 429, 429]),
        ({"key": "path"}, [200, 200, 200, 429, 200]),
        ({"key": "header", "header": "X-Key"}, [200, 200, 429, 200, 200]),
        ({"key": "client"}, [200, 200, 429, 429, 429]),
        ({"burst": 4}, [200, 200, 200, 200, 429]),
    ],
    ids=str,
)
def test_keys(config: dict[str, Any], expected: list[int]) -> None:
    requests = [
        Request("GET", "/a", {"x-key": "1"}),
        Request("GET", "/a?b", {"x-key": "1"}),
        Request("GET", "/b", {"x-key": "1"}),
        Request("GET", "/a", {"x-key": "2"}),
        Request("GET", "/b", {}),
    ]
    assert statuses(requests, **config) == expected


def test_the_number_of_keys_is_bounded() -> None:
    buckets = Buckets(rate(max_keys=3, per="1h"), 1, 0)
    assert [buckets.wait_for("a", 0.0) > 0 for _ in range(3)] == [False, False, True]
    for key in ("b", "c", "d"):
        buckets.wait_for("a", 0.0)
        assert buckets.wait_for(key, 0.0) == 0.0
    assert len(buckets) == 3
    # `a` was used all the time and is not forgotten; `b` is.
    assert buckets.wait_for("a", 0.0) > 0
    assert buckets.wait_for("b", 0.0) == 0.0


@pytest.mark.parametrize("key", [{"key": "header", "header": "x-key"}, {"key": "path"}], ids=str)
def test_long_keys_take_no_more_room(key: dict[str, Any]) -> None:
    """Otherwise the values of many requests would fill the memory."""
    made = shipped("local_rate_limit", {"requests": 1, "per": "1h", **key})

    async def talk() -> list[int]:
        world = World(made)
        texts = ["k" * 6_000, "k" * 6_000, "k" * 5_999, "k" * 6_001]
        by_path = key["key"] == "path"
        requests = [Request("GET", f"/{text}") if by_path else Request(headers={"x-key": text}) for text in texts]
        return [(await world.send(request)).status for request in requests]

    assert asyncio.run(talk()) == [200, 429, 200, 200]
    (buckets,) = made._buckets.values()  # type: ignore[attr-defined]
    assert max(map(len, buckets._buckets)) == 64


def test_each_worker_has_its_part() -> None:
    assert statuses([Request()] * 4, workers=2, requests=5) == [200, 200, 200, 429]
    shares = [Buckets(rate(requests=5, per="1h"), 2, worker) for worker in (0, 1)]
    passed = [sum(bucket.wait_for("", 0.0) == 0.0 for _ in range(9)) for bucket in shares]
    assert passed == [3, 2]


def test_routes_have_their_own() -> None:
    own = of_route("local_rate_limit", {"requests": 1, "per": "1h", "status": 503})
    assert statuses([Request()] * 2, route=own) == [200, 503]


def test_faults() -> None:
    found = problems("local_rate_limit", {"per": "0s", "key": "header", "header": "", "max_keys": 0, "status": 200})
    assert [fault.partition(":")[0] for fault in found] == [".requests", ".per", ".max_keys", ".header", ".status"]
    assert problems("local_rate_limit", {"requests": 1, "header": "x"})[0].startswith(".header")
