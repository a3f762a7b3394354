"""Metrics, in MOSN's formats and in Prometheus' format."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pymosn.control.handlers import Call, get
from pymosn.control.plane import ControlPlane
from pymosn.core.counters import GroupData
from pymosn.observe.stats import stats_glob, stats_json
from pymosn.observe.totals import Totals, with_global


def routes(plane: ControlPlane) -> list[Call]:
    """`/api/v1/stats`, `/api/v1/stats_glob` and `/metrics`."""
    return [
        get(plane, "/api/v1/stats", _stats),
        get(plane, "/api/v1/stats_glob", _stats_glob),
        get(plane, "/metrics", _metrics, is_public=True),
    ]


async def _stats(plane: ControlPlane, request: Request) -> Response:
    key = request.query_params.get("key", "")
    stats = stats_json(await _groups(plane), key)
    if stats is None:
        return PlainTextResponse(f"no metrics key: {key}")
    return Response(json.dumps(stats, indent="\t"), media_type="application/json")


async def _stats_glob(plane: ControlPlane, request: Request) -> Response:
    return PlainTextResponse(stats_glob(await _groups(plane)))


async def _metrics(plane: ControlPlane, request: Request) -> Response:
    # Imported only when metrics are scraped.
    from pymosn.observe.prometheus import exposition

    text, content_type = exposition(await _groups(plane), request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})


async def _groups(plane: ControlPlane) -> list[GroupData]:
    totals = Totals()
    totals.add(await plane.stats())
    return with_global(totals.groups())
