"""Configuration changes through the admin API (key reference section 15), each checked like a configuration file.

The response is JSON: `applied`, the active `version`, a `message`, and all `faults`. Its status is 200 if the change was
applied in every worker, 400 if nothing changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import MosnConfig
from pymosn.config.update import Update
from pymosn.control.guard import read_body
from pymosn.control.handlers import get, post
from pymosn.control.plane import Candidate, ChangeResult, ControlPlane

#: Maximum size of a configuration block in bytes.
MAX_BLOCK: Final = 16 * 1024 * 1024

Result = tuple[MosnConfig | None, list[Diagnostic]]
Action = Callable[[Update, MosnConfig], Result]


def routes(plane: ControlPlane, stream_filters: Collection[str]) -> list[Route]:
    """The paths that change the configuration, and the one that reports the last change."""
    updates = _Updates(plane, stream_filters)
    posts = {
        "/api/v1/update_config": updates.config,
        "/api/v1/update_route": updates.route,
        "/api/v1/update_hosts": updates.hosts,
        "/api/v1/remove_config": updates.removal,
        "/api/v1/reload_filters": updates.filters,
        "/debug/update_config": updates.config,
        "/debug/update_route": updates.route,
    }
    return [get("/api/v1/last_change", updates.last_change), *(post(path, handler) for path, handler in posts.items())]


class _Updates:
    def __init__(self, plane: ControlPlane, stream_filters: Collection[str]) -> None:
        self._plane = plane
        self._stream_filters = stream_filters

    async def config(self, request: Request) -> Response:
        """Adds or replaces a listener, a router, a cluster or an extension."""
        return await self._change(request, Update.config)

    async def removal(self, request: Request) -> Response:
        """Removes one of them."""
        return await self._change(request, Update.removal)

    async def hosts(self, request: Request) -> Response:
        """Changes the hosts of a cluster."""
        return await self._change(request, Update.hosts)

    async def route(self, request: Request) -> Response:
        """Adds or removes routes."""
        return await self._change(request, Update.route)

    async def filters(self, request: Request) -> Response:
        """Reloads the Python filters whose files have changed."""
        return _result(await self._plane.reload_filters(f"admin {request.url.path}"))

    async def last_change(self, request: Request) -> Response:
        """The result of the last change, whatever its source."""
        return _json(self._plane.last_change(), 200)

    async def _change(self, request: Request, action: Action) -> Response:
        body = await read_body(request, MAX_BLOCK)
        text = body.decode("utf-8", "replace")

        def edit(active: MosnConfig) -> Candidate:
            return Candidate(*action(Update(text, self._stream_filters), active))

        return _result(await self._plane.apply(f"admin {request.url.path}", edit))


def _result(result: ChangeResult) -> Response:
    return _json(result, 200 if result.applied else 400)


def _json(result: ChangeResult, status: int) -> Response:
    value = {
        "applied": result.applied,
        "version": result.version,
        "attempt": result.attempt,
        "source": result.source,
        "message": result.message,
        "faults": [fault.as_dict() for fault in result.faults],
    }
    return Response(json.dumps(value, indent=1), status, media_type="application/json")
