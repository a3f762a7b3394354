"""Metrics, in MOSN's formats and in Prometheus' format."""

from __future__ import annotations

import asyncio
import json

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pymosn.control.handlers import ONE_PARAMETER, Call, first_value, get
from pymosn.control.plane import ControlPlane
from pymosn.core.counters import GroupData
from pymosn.observe.stats import stats_glob, stats_json
from pymosn.observe.totals import sum_of, with_global


def routes(plane: ControlPlane) -> list[Call]:
    """`/api/v1/stats`, `/api/v1/stats_glob` and `/metrics`."""
    return [
        get(plane, "/api/v1/stats", _stats),
        get(plane, "/api/v1/stats_glob", _stats_glob),
        get(plane, "/metrics", _metrics, is_public=True),
    ]


async def _stats(plane: ControlPlane, request: Request) -> Response:
    """All metrics, or with `?key=<type>.<label>.<value>` one group. As in MOSN, any other parameter is an unknown group."""
    if len(request.query_params) > 1:
        return PlainTextResponse(ONE_PARAMETER, 400)
    key = first_value(request, "key") if request.query_params else None
    # In a thread, as everything that formats all metrics: with many hosts it takes seconds.
    text = await asyncio.to_thread(_json, await plane.stats(), key)
    if text is None:
        return PlainTextResponse(f"no metrics key: {key}")
    return Response(text, media_type="application/json")


def _json(groups: list[GroupData], key: str | None) -> str | None:
    stats = None if key == "" else stats_json(_with_totals(groups), key or "")
    return None if stats is None else json.dumps(stats, indent="\t")


async def _stats_glob(plane: ControlPlane, request: Request) -> Response:
    groups = await plane.stats()
    return PlainTextResponse(await asyncio.to_thread(lambda: stats_glob(_with_totals(groups))))


async def _metrics(plane: ControlPlane, request: Request) -> Response:
    # Imported only when metrics are scraped.
    from pymosn.observe.prometheus import exposition

    groups = await plane.stats()
    accept = request.headers.get("accept", "")
    text, content_type = await asyncio.to_thread(lambda: exposition(_with_totals(groups), accept))
    return Response(text, headers={"content-type": content_type})


def _with_totals(groups: list[GroupData]) -> list[GroupData]:
    return with_global(sum_of([groups]))
