"""Metrics, in MOSN's formats and in Prometheus' format."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pymosn.control.handlers import get
from pymosn.control.plane import ControlPlane
from pymosn.core.counters import GroupData
from pymosn.observe.stats import stats_glob, stats_json
from pymosn.observe.totals import Totals, with_global


def routes(plane: ControlPlane) -> list[Route]:
    """`/api/v1/stats`, `/api/v1/stats_glob` and `/metrics`."""
    statistics = _Statistics(plane)
    return [
        get("/api/v1/stats", statistics.stats),
        get("/api/v1/stats_glob", statistics.stats_glob),
        get("/metrics", statistics.metrics),
    ]


class _Statistics:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def stats(self, request: Request) -> Response:
        key = request.query_params.get("key", "")
        stats = stats_json(await self._groups(), key)
        if stats is None:
            return PlainTextResponse(f"no metrics key: {key}")
        return Response(json.dumps(stats, indent="\t"), media_type="application/json")

    async def stats_glob(self, request: Request) -> Response:
        return PlainTextResponse(stats_glob(await self._groups()))

    async def metrics(self, request: Request) -> Response:
        # Imported only when metrics are scraped.
        from pymosn.observe.prometheus import exposition

        text, content_type = exposition(await self._groups(), request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    async def _groups(self) -> list[GroupData]:
        totals = Totals()
        totals.add(await self._plane.stats())
        return with_global(totals.groups())
