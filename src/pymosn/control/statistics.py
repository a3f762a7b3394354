"""Metrics, in MOSN's formats and in Prometheus' format."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pymosn.config.schema.observability import Metrics
from pymosn.control.handlers import ONE_PARAMETER, Call, first_value, get
from pymosn.control.plane import ControlPlane
from pymosn.core.counters import GroupData
from pymosn.observe.mosn_text import recorded
from pymosn.observe.stats import stats_glob, stats_json
from pymosn.observe.totals import sum_of, with_global

if TYPE_CHECKING:
    from pymosn.observe.prometheus import Series, Settings


def routes(plane: ControlPlane) -> list[Call]:
    """`/api/v1/stats`, `/api/v1/stats_glob` and `/metrics`."""
    scrapes = Scrapes()
    return [
        get(plane, "/api/v1/stats", _stats),
        get(plane, "/api/v1/stats_glob", _stats_glob),
        get(plane, "/metrics", scrapes.metrics, is_public=True),
    ]


async def _stats(plane: ControlPlane, request: Request) -> Response:
    """All metrics, or with `?key=<type>.<label>.<value>` one group. As in MOSN, any other parameter is an unknown group."""
    if len(request.query_params) > 1:
        return PlainTextResponse(ONE_PARAMETER, 400)
    key = first_value(request, "key") if request.query_params else None
    # In a thread, as everything that formats all metrics: with many hosts it takes seconds.
    text = await asyncio.to_thread(_json, plane, await plane.stats(), key)
    if text is None:
        return PlainTextResponse(f"no metrics key: {key}")
    return Response(text, media_type="application/json")


def _json(plane: ControlPlane, groups: list[GroupData], key: str | None) -> str | None:
    stats = None if key == "" else stats_json(_with_totals(plane, groups), key or "")
    return None if stats is None else json.dumps(stats, indent="\t")


async def _stats_glob(plane: ControlPlane, request: Request) -> Response:
    groups = await plane.stats()
    return PlainTextResponse(await asyncio.to_thread(lambda: stats_glob(_with_totals(plane, groups))))


class Scrapes:
    """The scrapes of Prometheus: which hosts, routes and so on have samples of their own depends on earlier ones."""

    def __init__(self) -> None:
        self._series: Series | None = None

    async def metrics(self, plane: ControlPlane, request: Request) -> Response:
        """All families, as text, or as OpenMetrics if the client accepts that."""
        accept = request.headers.get("accept", "")
        found = await self.exposition(plane, accept)
        return Response(found[0], headers={"content-type": found[1]})

    async def exposition(self, plane: ControlPlane, accept: str) -> tuple[bytes, str]:
        """The body and its content type."""
        # Imported only when metrics are scraped.
        from pymosn.observe.prometheus import Series, exposition

        if self._series is None:
            self._series = Series()
        groups, facts, settings = await plane.stats(), await plane.metric_facts(), _settings(plane)
        series = self._series
        return await asyncio.to_thread(lambda: exposition(sum_of([groups]), accept, facts, series, settings))


def _settings(plane: ControlPlane) -> Settings:
    from pymosn.observe.prometheus import Settings

    found = plane.current().metrics or Metrics()
    matcher = found.stats_matcher
    return Settings(found.per_host, found.max_series, matcher.reject_all, matcher.exclusion_labels)


def _with_totals(plane: ControlPlane, groups: list[GroupData]) -> list[GroupData]:
    matcher = (plane.current().metrics or Metrics()).stats_matcher
    return recorded(with_global(sum_of([groups])), matcher)
