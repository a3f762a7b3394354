"""Changes through the admin API (key reference section 15: MOSN's update shape), each checked like a file.

The answer is JSON: `applied`, the `version` in force, a `message`, and all `faults`. 200 when every worker has changed, 400
when nothing has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import MosnConfig
from pymosn.config.update import Update
from pymosn.control.guard import read_body
from pymosn.control.plane import Candidate, ChangeResult, ControlPlane

#: Bytes of a configuration block.
MAX_BLOCK: Final = 16 * 1024 * 1024

Result = tuple[MosnConfig | None, list[Diagnostic]]
Action = Callable[[Update, MosnConfig], Result]


class Updates:
    """The paths that change the configuration, and the one that tells of the last change."""

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
        """Makes the Python filters anew whose files have changed."""
        return _outcome(await self._plane.reload_filters(f"admin {request.url.path}"))

    async def last_change(self, request: Request) -> Response:
        """What became of the last change, from wherever."""
        return _answer(self._plane.last_change(), 200)

    async def _change(self, request: Request, action: Action) -> Response:
        body = await read_body(request, MAX_BLOCK)
        text = body.decode("utf-8", "replace")

        def edit(before: MosnConfig) -> Candidate:
            return Candidate(*action(Update(text, self._stream_filters), before))

        return _outcome(await self._plane.apply(f"admin {request.url.path}", edit))


def _outcome(outcome: ChangeResult) -> Response:
    return _answer(outcome, 200 if outcome.applied else 400)


def _answer(outcome: ChangeResult, status: int) -> Response:
    value = {
        "applied": outcome.applied,
        "version": outcome.version,
        "attempt": outcome.attempt,
        "source": outcome.source,
        "message": outcome.message,
        "faults": [fault.as_dict() for fault in outcome.faults],
    }
    return Response(json.dumps(value, indent=1), status, media_type="application/json")
