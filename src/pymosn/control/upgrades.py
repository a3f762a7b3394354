"""`/api/v1/upgrade`: GET shows the generations of the process, POST makes another process take over.

The response to POST is a line of JSON for each step, the last one with `done`. The words of `command` are a program to
execute, so only the unix socket accepts them; the port executes nothing but the program of this process.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pymosn.control.bodies import BodyError, read_object
from pymosn.control.guard import read_body
from pymosn.control.handlers import Call, change, json_response
from pymosn.control.plane import ControlPlane, UpgradeOptions
from pymosn.control.process_calls import other_process


class Body(UpgradeOptions):
    """The body of a call. `config`: the configuration file of the process that is meant."""

    config: str = ""


def routes(plane: ControlPlane, is_unix: bool) -> list[Call]:
    """`is_unix`: whether the clients come through the unix socket."""
    call = change(plane, "/api/v1/upgrade", partial(_upgrade, is_unix))
    return [call._replace(read=partial(_show, plane))]


async def _show(plane: ControlPlane, request: Request) -> Response:
    return json_response(plane.generations())


async def _upgrade(is_unix: bool, plane: ControlPlane, request: Request) -> Response:
    body = await read_body(request)
    try:
        asked = read_object(body, Body) if body.strip() else Body()
    except BodyError as error:
        return json_response({"error": str(error)}, 400)
    wrong = other_process(plane, asked.config)
    if wrong is not None:
        return wrong
    if asked.command and not is_unix:
        return json_response({"error": "`command` is a program to execute: only the unix socket accepts it"}, 403)
    return StreamingResponse(_lines(plane, f"admin {request.scope['path']}", asked), media_type="application/x-ndjson")


async def _lines(plane: ControlPlane, source: str, asked: UpgradeOptions) -> AsyncIterator[bytes]:
    async for item in plane.upgrade(source, asked):
        yield json.dumps(item).encode() + b"\n"
