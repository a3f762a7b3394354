"""Configuration changes through the admin API (key reference section 15), each checked like a configuration file.

The response is JSON: `applied`, the active `version`, a `message`, and all `faults`. Its status is 200 if the change was
applied in every worker, 400 if nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import MosnConfig
from pymosn.config.update import Update
from pymosn.control.bodies import BodyError, read_object
from pymosn.control.guard import read_body
from pymosn.control.handlers import Call, change, change_response, get, json_response
from pymosn.control.plane import Candidate, ControlPlane

#: Maximum size of a configuration block in bytes.
MAX_BLOCK: Final = 16 * 1024 * 1024


class Nothing(msgspec.Struct):
    """The body of a call that takes none."""


Result = tuple[MosnConfig | None, list[Diagnostic]]
Action = Callable[[Update, MosnConfig], Result]


def routes(plane: ControlPlane, stream_filters: Collection[str]) -> list[Call]:
    """The paths that change the configuration, and the one that reports the last change."""
    actions = {
        "/api/v1/update_config": Update.config,
        "/api/v1/update_route": Update.route,
        "/api/v1/update_hosts": Update.hosts,
        "/api/v1/remove_config": Update.removal,
        "/debug/update_config": Update.config,
        "/debug/update_route": Update.mosn_route,
    }
    return [
        get(plane, "/api/v1/last_change", _last_change),
        change(plane, "/api/v1/reload_filters", _reload_filters),
        *(change(plane, path, partial(_change, action, stream_filters)) for path, action in actions.items()),
    ]


async def _last_change(plane: ControlPlane, request: Request) -> Response:
    return change_response(plane.last_change(), 200)


async def _reload_filters(plane: ControlPlane, request: Request) -> Response:
    try:
        body = await read_body(request)
        if body.strip():
            read_object(body, Nothing)
    except BodyError as error:
        return json_response({"error": str(error)}, 400)
    return change_response(await plane.reload_filters(f"admin {request.scope['path']}"))


async def _change(action: Action, stream_filters: Collection[str], plane: ControlPlane, request: Request) -> Response:
    body = await read_body(request, MAX_BLOCK)
    text = body.decode("utf-8", "replace")

    def edit(active: MosnConfig) -> Candidate:
        return Candidate(*action(Update(text, stream_filters), active))

    return change_response(await plane.apply(f"admin {request.scope['path']}", edit))
